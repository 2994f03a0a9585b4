//! WWW-Authenticate and Proxy-Authenticate: lists of challenges (RFC 9110 section 11.6.1), several
//! of them in one line or one in each.

use super::head::FieldLines;
use super::names::FieldName;

/// One challenge: a scheme and what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// auth-scheme, as written; schemes compare without case.
    pub scheme: String,
    /// token68, where the scheme is followed by one. Text that is neither token68 nor parameters
    /// stands here too, so that a broken token is not mistaken for none.
    pub token68: Option<String>,
    /// auth-params: names as written, values unquoted.
    pub params: Vec<(String, String)>,
}

impl Challenge {
    /// The challenges in every line of field `name`, in order. Never fails: what is no challenge
    /// becomes one of a scheme that nobody knows.
    pub fn list(fields: &FieldLines, name: FieldName<'_>) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for line in fields.all(name) {
            // A parameter belongs to a challenge of its own line.
            let first = found.len();
            for element in elements(&String::from_utf8_lossy(line)) {
                match (Element::parse(element), found.get_mut(first..).and_then(<[_]>::last_mut)) {
                    (Element::Param(name, value), Some(challenge)) => {
                        challenge.params.push((name, value));
                    }
                    (Element::Param(name, _), None) => {
                        found.push(Self { scheme: name, ..Self::default() });
                    }
                    (Element::Challenge(challenge), _) => found.push(challenge),
                }
            }
        }
        found
    }

    /// The names of their schemes.
    pub fn schemes(fields: &FieldLines, name: FieldName<'_>) -> String {
        let names = Self::list(fields, name).into_iter().map(|challenge| challenge.scheme);
        names.collect::<Vec<_>>().join(", ")
    }

    /// Whether this is a challenge of that scheme.
    pub fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// The first parameter of that name.
    pub fn param(&self, name: &str) -> Option<&str> {
        let found = self.params.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// What stands between two commas: `scheme`, `scheme token68`, `scheme name=value` or `name=value`.
enum Element {
    Challenge(Challenge),
    Param(String, String),
}

impl Element {
    fn parse(element: &str) -> Self {
        if let Some((name, value)) = param(element) {
            return Self::Param(name, value);
        }
        let (scheme, rest) = element.split_once([' ', '\t']).unwrap_or((element, ""));
        let mut challenge = Challenge { scheme: scheme.to_owned(), ..Challenge::default() };
        match rest.trim() {
            "" => {}
            rest => match param(rest).filter(|_| !is_token68(rest)) {
                Some(param) => challenge.params.push(param),
                None => challenge.token68 = Some(rest.to_owned()),
            },
        }
        Self::Challenge(challenge)
    }
}

/// `name = value`, where the name is a token and the value a token or a quoted string.
fn param(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let (name, value) = (name.trim_end(), value.trim_start());
    if name.is_empty() || name.contains([' ', '\t', '"']) {
        return None;
    }
    let value = match value.strip_prefix('"') {
        Some(quoted) => unquote(quoted),
        None => value.to_owned(),
    };
    Some((name.to_owned(), value))
}

/// The text of a quoted string behind its opening quote (RFC 9110 section 5.6.4).
fn unquote(quoted: &str) -> String {
    let mut text = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => text.extend(chars.next()),
            c => text.push(c),
        }
    }
    text
}

/// token68 (RFC 9110 section 11.2): one word, with `=` nowhere but at its end.
fn is_token68(text: &str) -> bool {
    let word = text.trim_end_matches('=');
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}

/// The trimmed, non-empty members of a comma-separated list; commas in quoted strings do not part.
fn elements(line: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    line.split(move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        c == ',' && !quoted
    })
    .map(str::trim)
    .filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;
    use crate::head::ResponseHead;

    /// Challenges in short: `scheme`, `scheme:token68`, `scheme{name=value name=value}`.
    fn shown(lines: &[&str]) -> String {
        let lines: String =
            lines.iter().map(|line| format!("Proxy-Authenticate: {line}\r\n")).collect();
        let head = format!("HTTP/1.1 407 X\r\n{lines}\r\n");
        let head = ResponseHead::parse(head.as_bytes()).unwrap();
        let show = |c: Challenge| {
            let params: Vec<_> = c.params.iter().map(|(n, v)| format!("{n}={v}")).collect();
            let params =
                if params.is_empty() { String::new() } else { format!("{{{}}}", params.join(" ")) };
            format!(
                "{}{}{params}",
                c.scheme,
                c.token68.map(|t| format!(":{t}")).unwrap_or_default()
            )
        };
        let all = Challenge::list(&head.fields, names::PROXY_AUTHENTICATE);
        all.into_iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn lists_are_read_however_they_are_laid_out() {
        for (lines, expected) in [
            (&["NTLM"][..], "NTLM"),
            (&["NTLM TlRMTVNTUAAC=="], "NTLM:TlRMTVNTUAAC=="),
            (&["NTLM TlRM", "Negotiate"], "NTLM:TlRM Negotiate"),
            (&["Negotiate, NTLM, Basic realm=\"a, b\""], "Negotiate NTLM Basic{realm=a, b}"),
            (&["Negotiate,NTLM , ,basic realm=x"], "Negotiate NTLM basic{realm=x}"),
            (
                &["Basic realm=\"a \\\"b\\\", NTLM\", charset=\"UTF-8\", NTLM"],
                "Basic{realm=a \"b\", NTLM charset=UTF-8} NTLM",
            ),
            (
                &["Digest realm = \"r\" , nonce=n, qop=\"auth,auth-int\""],
                "Digest{realm=r nonce=n qop=auth,auth-int}",
            ),
            (&["NTLM  TlRM=", "NTLM\tTlRM"], "NTLM:TlRM= NTLM:TlRM"),
            (&["NTLM not base64!"], "NTLM:not base64!"),
            (&["realm=x, NTLM"], "realm NTLM"),
            (&["Basic realm=x", "charset=y"], "Basic{realm=x} charset"),
            (&["", ",", "Basic realm=\"unterminated"], "Basic{realm=unterminated}"),
        ] {
            assert_eq!(shown(lines), expected, "{lines:?}");
        }
    }
}
