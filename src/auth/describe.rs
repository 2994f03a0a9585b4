//! Challenges and credentials in words, for people. Of what nobody here knows, nothing is shown.

use base64::Engine;

use super::spnego::{self, Wrapping};
use super::{BASE64, Scheme};
use crate::http::challenge::Challenge;
use crate::http::fields::FieldLines;
use crate::http::names::FieldName;
use crate::ntlm;
use crate::ntlm::describe::Date;

/// Parameters of Digest and Basic, and whether they may be shown.
const PARAMS: [(&str, bool); 13] = [
    ("username", true),
    ("realm", true),
    ("algorithm", true),
    ("qop", true),
    ("stale", true),
    ("charset", true),
    ("userhash", true),
    ("nc", true),
    ("nonce", false),
    ("cnonce", false),
    ("opaque", false),
    ("uri", false),
    ("response", false),
];

/// A line for each thing that the field lines called `name` say; `date` writes a FILETIME.
pub fn field(fields: &FieldLines, name: FieldName<'_>, date: Date<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for challenge in Challenge::list(fields, name) {
        let known = Scheme::NAMES.iter().find(|(known, _)| challenge.is(known));
        // What should be a scheme may be a token that somebody forgot to call by one.
        lines
            .push([name.as_str(), ": ", known.map_or("another scheme", |(name, _)| name)].concat());
        if let Some(token) = &challenge.token68 {
            let bytes = BASE64.decode(token).unwrap_or_default();
            match spnego::unwrap(&bytes) {
                Ok((wrapping, message)) => {
                    if wrapping == Wrapping::Spnego {
                        lines.push(format!("SPNEGO token: {} bytes", bytes.len()));
                    }
                    lines.extend(ntlm::describe::describe(message, date));
                }
                Err(_) => lines.push(format!("{} characters, hidden", token.len())),
            }
        }
        for (name, value) in challenge.params {
            match PARAMS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)) {
                Some((name, true)) => lines.push([name, ": ", &value].concat()),
                Some((name, false)) => lines.push([name, ": hidden"].concat()),
                None => lines.push("another parameter: hidden".to_owned()),
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(value: &str) -> String {
        let mut fields = FieldLines::default();
        fields.push(FieldName::new("A"), value.as_bytes());
        field(&fields, FieldName::new("A"), &|time| time.to_string()).join("|")
    }

    #[test]
    fn what_is_not_known_to_be_harmless_is_hidden() {
        for (value, expected) in [
            ("NTLM", "A: NTLM"),
            ("Basic s3cret=", "A: Basic|7 characters, hidden"),
            ("NTLM s3cret", "A: NTLM|6 characters, hidden"),
            ("s3cret", "A: another scheme"),
            ("Token s3cret", "A: another scheme|6 characters, hidden"),
            (
                "Digest username=\"u\", Realm=\"r\", nonce=\"s3cret\", response=s3cret, s3cret=1",
                "A: Digest|username: u|realm: r|nonce: hidden|response: hidden|\
                 another parameter: hidden",
            ),
            ("Negotiate, Basic realm=\"r\"", "A: Negotiate|A: Basic|realm: r"),
            ("NTLM TlRMTVNTUAABAAAA", "A: NTLM|NEGOTIATE_MESSAGE: 12 bytes|"),
            ("Negotiate oQ8wDaILBAlOVExNU1NQAAE=", "A: Negotiate|SPNEGO token: 17 bytes|"),
        ] {
            let told = lines(value);
            let whole = !expected.ends_with('|');
            assert!(told.starts_with(expected) && (!whole || told == expected), "{told}");
        }
    }
}
