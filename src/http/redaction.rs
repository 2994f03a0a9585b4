//! Heads without their secrets, to be looked at. Rather too much is hidden than too little: whoever
//! wants to see a login has `AUTH_DEBUG`.

/// What takes the place of each byte that is hidden.
const HIDDEN: u8 = b'*';

/// Fields whose value is hidden have one of these in their name.
const SECRET: [&[u8]; 6] = [b"auth", b"cookie", b"token", b"key", b"secret", b"passw"];

/// What may be seen of credentials and challenges: these schemes, before a blank.
const SCHEMES: [&[u8]; 6] = [b"NTLM", b"Negotiate", b"Kerberos", b"Digest", b"Basic", b"Bearer"];

/// A head as it came or goes, of the same length: credentials, cookies, and of URLs userinfo and
/// query are hidden, in lines that break the grammar too. Whatever anybody may take for the end of
/// a line is one.
pub fn redact(head: &[u8]) -> Vec<u8> {
    let mut shown = head.to_vec();
    let mut start = true;
    for line in shown.split_mut(|byte| b"\r\n".contains(byte)).filter(|line| !line.is_empty()) {
        if std::mem::take(&mut start) {
            hide_in_first(line);
            continue;
        }
        // What continues a line may continue a secret one.
        let continues = line.first().is_some_and(is_blank);
        let colon = line.iter().position(|byte| *byte == b':').filter(|_| !continues);
        let (name, value) = line.split_at_mut(colon.unwrap_or(0));
        if colon.is_none() || is_secret(name) {
            hide_value(value);
        } else {
            hide_in_urls(value);
        }
    }
    shown
}

/// Hides the secrets of a first line: userinfo and query of a target; and in what is neither a
/// request line nor a status line, all behind the first word that may be a secret.
fn hide_in_first(line: &mut [u8]) {
    let word = line.iter().position(is_blank).unwrap_or(0);
    let version = line.iter().rposition(is_blank).unwrap_or(0);
    let ends = line.get(version..).is_some_and(|word| word.starts_with(b" HTTP/"));
    let named = if ends { line.get(..word) } else { Some(&*line) };
    let secret = named.is_some_and(is_secret) && !line.starts_with(b"HTTP/");
    if secret || line.first().is_some_and(is_blank) {
        let behind = line.iter().position(|byte| *byte == b':' || is_blank(byte)).unwrap_or(0);
        hide_value(line.get_mut(behind..).unwrap_or_default());
    } else {
        let rest = line.get_mut(word..if ends { version } else { line.len() }).unwrap_or_default();
        let target = rest.iter().position(|byte| !is_blank(byte)).unwrap_or(0);
        hide_in_url(rest.get_mut(target..));
    }
}

fn is_blank(byte: &u8) -> bool {
    b" \t".contains(byte)
}

/// Whether the value of a field of this name is hidden.
pub fn is_secret(name: &[u8]) -> bool {
    SECRET.iter().any(|word| name.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word)))
}

/// Hides all but a scheme. `value` begins with the colon, where there is one.
fn hide_value(value: &mut [u8]) {
    let leads = |byte: &u8| *byte == b':' || is_blank(byte);
    let begins = value.iter().position(|byte| !leads(byte)).unwrap_or(value.len());
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
    let scheme = url.windows(3).position(|part| part == b"://");
    // Not behind something else, which may be userinfo itself.
    let is_scheme = |b: &u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
    let begin = scheme.filter(|at| url.iter().take(*at).all(is_scheme)).map_or(0, |at| at + 3);
    let host = url.iter().rposition(|byte| *byte == b'@').unwrap_or(0);
    // An @ in the path of a relative reference is none of userinfo.
    if scheme.is_some() || !url.starts_with(b"/") || url.starts_with(b"//") {
        hide(url.get_mut(begin..host));
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
            ("A: b\r\n c", "A: b\r\n *"),
            ("A: b\r\n X-Auth: c", "A: b\r\n *********"),
            ("A: b\r\n\tBasic abc", "A: b\r\n\tBasic ***"),
            ("A: b\rCookie: a=b\rHost: a", "A: b\rCookie: ***\rHost: a"),
            ("A: b\r c\n\r d\nCookie: a", "A: b\r *\n\r *\nCookie: *"),
            ("Referer: http://u:p@h/a?b=c#d", "Referer: http://***@h/a?*****"),
            ("Location: /a?b=c", "Location: /a?***"),
            ("Location: //u:p@h/a@b", "Location: *********@b"),
            ("Location: /a?//u@h", "Location: /a?*****"),
            ("A: (http://u:p@h)", "A: ***********@h)"),
            ("A: u:p@h/http://u:p@h http://h/a", "A: ****************@h http://h/a"),
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
            (" http://u:p@h", " http://***@h"),
            ("//u:p@h/", "*****@h/"),
            ("http:/u:p@h/", "*********@h/"),
            ("u:p@h/a://b", "***@h/a://b"),
            ("u:p@h/a://b@c", "***********@c"),
        ] {
            let shown = redact(format!("GET {target} HTTP/1.1\r\n").as_bytes());
            assert_eq!(String::from_utf8_lossy(&shown), format!("GET {expected} HTTP/1.1\r\n"));
        }
        for (line, expected) in [
            ("Proxy-Authorization: Basic abc=", "Proxy-Authorization: Basic ****"),
            ("Cookie:a b", "Cookie:***"),
            ("Cookie abc HTTP/1.1", "Cookie ************"),
            ("Proxy Authorization abc", "Proxy *****************"),
            ("Authorization", "*************"),
            (" abc", " ***"),
            ("GET\thttp://u:p@h/ HTTP/1.1", "GET\thttp://***@h/ HTTP/1.1"),
            ("GET http://u:p@h/?a\tHTTP/1.1", "GET http://***@h/?**********"),
            ("GET http://u:p@h", "GET http://***@h"),
            ("u:p@h", "***@h"),
            ("GET\rCookie: a", "GET\rCookie: *"),
            ("GET http://h/author HTTP/1.1", "GET http://h/author HTTP/1.1"),
            (
                "HTTP/1.1 407 Proxy Authentication Required",
                "HTTP/1.1 407 Proxy Authentication Required",
            ),
        ] {
            assert_eq!(String::from_utf8_lossy(&redact(line.as_bytes())), expected);
        }
    }
}
