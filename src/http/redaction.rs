//! Heads without their secrets, to be looked at. Rather too much is hidden than too little: whoever
//! wants to see a login has `AUTH_DEBUG`.

/// What takes the place of each byte that is hidden.
const HIDDEN: u8 = b'*';

/// Fields whose value is hidden have one of these in their name.
const SECRET: [&[u8]; 6] = [b"auth", b"cookie", b"token", b"key", b"secret", b"passw"];

/// What may be seen of credentials and challenges: these schemes, before a blank.
const SCHEMES: [&[u8]; 6] = [b"NTLM", b"Negotiate", b"Kerberos", b"Digest", b"Basic", b"Bearer"];

/// A head as it came or goes, of the same length: credentials, cookies, and of URLs userinfo and
/// query are hidden, in lines that break the grammar too.
pub fn redact(head: &[u8]) -> Vec<u8> {
    let mut shown = head.to_vec();
    let mut start = true;
    // The line before was hidden: so is what continues it.
    let mut hiding = true;
    for line in shown.split_mut(|byte| *byte == b'\n') {
        let end = line.len().saturating_sub(usize::from(line.ends_with(b"\r")));
        let Some(line) = line.get_mut(..end).filter(|line| !line.is_empty()) else { continue };
        if std::mem::take(&mut start) {
            let target = line.iter().position(|byte| *byte == b' ').map_or(0, |at| at + 1);
            let version = line.iter().rposition(|byte| *byte == b' ').unwrap_or(0);
            let ends = line.get(version..).is_some_and(|word| word.starts_with(b" HTTP/"));
            let end = if ends { version } else { line.len() };
            hide_in_url(line.get_mut(target..end));
            continue;
        }
        let continues = line.starts_with(b" ") || line.starts_with(b"\t");
        let colon = line.iter().position(|byte| *byte == b':').filter(|_| !continues);
        let (name, value) = line.split_at_mut(colon.unwrap_or(0));
        if !continues {
            hiding = colon.is_none() || SECRET.iter().any(|word| contains(name, word));
        }
        if hiding {
            hide_value(value);
        } else {
            hide_in_urls(value);
        }
    }
    shown
}

fn contains(name: &[u8], word: &[u8]) -> bool {
    name.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

/// Hides all but a scheme. `value` begins with the colon, where there is one.
fn hide_value(value: &mut [u8]) {
    let blank = |byte: &u8| matches!(byte, b':' | b' ' | b'\t');
    let begins = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let Some(value) = value.get_mut(begins..) else { return };
    let scheme = value.iter().position(|byte| *byte == b' ').unwrap_or(0);
    let known = |word: &[u8]| SCHEMES.iter().any(|scheme| scheme.eq_ignore_ascii_case(word));
    let kept = if value.get(..scheme).is_some_and(known) { scheme.saturating_add(1) } else { 0 };
    hide(value.get_mut(kept..));
}

/// Hides in whatever is a URL of some text, whole or relative.
fn hide_in_urls(text: &mut [u8]) {
    for word in text.split_mut(|byte| b" \t\"<>".contains(byte)) {
        hide_in_url(Some(word));
    }
}

/// Hides userinfo and query of a URL.
fn hide_in_url(url: Option<&mut [u8]>) {
    let Some(url) = url else { return };
    let query = url.iter().position(|byte| *byte == b'?').unwrap_or(url.len());
    let (url, query) = url.split_at_mut(query);
    hide(query.get_mut(1..));
    let scheme = url.windows(3).position(|part| part == b"://").map_or(0, |at| at + 3);
    let host = url.iter().rposition(|byte| *byte == b'@').unwrap_or(0);
    // An @ in the path of a relative reference is none of userinfo.
    if scheme > 0 || !url.starts_with(b"/") {
        hide(url.get_mut(scheme..host));
    }
}

fn hide(bytes: Option<&mut [u8]>) {
    bytes.unwrap_or_default().fill(HIDDEN);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hidden_and_the_rest_is_not() {
        for (line, expected) in [
            ("Host: a:1", "Host: a:1"),
            ("Proxy-Authorization: Basic abc=", "Proxy-Authorization: Basic ****"),
            ("AUTHORIZATION:NTLM\tabc", "AUTHORIZATION:********"),
            ("Authorization : abc def", "Authorization : *******"),
            ("authorization: abc", "authorization: ***"),
            ("Authorization abc", "*****************"),
            ("WWW-Authenticate: Negotiate abc", "WWW-Authenticate: Negotiate ***"),
            ("Cookie: a=b; c=d", "Cookie: ********"),
            ("Set-Cookie: a=b", "Set-Cookie: ***"),
            ("X-Api-Key: abc", "X-Api-Key: ***"),
            ("Cookie: a=b\r\n  c=d\r\nHost: a", "Cookie: ***\r\n  ***\r\nHost: a"),
            ("Cookie:\r\n\tc=d", "Cookie:\r\n\t***"),
            ("A: b\r\n c", "A: b\r\n c"),
            ("Referer: http://u:p@h/a?b=c#d", "Referer: http://***@h/a?*****"),
            ("Location: /a?b=c", "Location: /a?***"),
            ("Link: <http://u@h/?b>; rel=\"a\"", "Link: <http://*@h/?*>; rel=\"a\""),
            ("", ""),
        ] {
            let head = format!("GET / HTTP/1.1\r\n{line}\r\n\r\n");
            let expected = format!("GET / HTTP/1.1\r\n{expected}\r\n\r\n");
            assert_eq!(String::from_utf8_lossy(&redact(head.as_bytes())), expected);
        }
        for (target, expected) in [
            ("http://u:p@h:1/a?b=c", "http://***@h:1/a?***"),
            ("http://u:p/w@h/", "http://*****@h/"),
            ("u:p@h:443", "***@h:443"),
            ("/a@b?c", "/a@b?*"),
            ("h:443", "h:443"),
            ("http://u:p w@h/ x?y", "http://*****@h/ x?*"),
        ] {
            let shown = redact(format!("GET {target} HTTP/1.1\r\n").as_bytes());
            assert_eq!(String::from_utf8_lossy(&shown), format!("GET {expected} HTTP/1.1\r\n"));
        }
    }
}
