//! `[CLIENT_HEADER]`: field lines that every request gets, and which may not be given there.

use super::notice::Report;
use super::options::{COMMENT_HINT, seems_commented};
use super::settings::Field;
pub use crate::http::forwarding::FieldReplacement;
use crate::http::head::is_tchar;

/// Fields that are this program's own business, and why.
const REFUSED: [(&str, &[&str]); 4] = [
    ("names where the request goes", &["Host"]),
    ("says where a message ends", &["Content-Length", "Transfer-Encoding", "Trailer"]),
    (
        "belongs to one connection",
        &["Connection", "Keep-Alive", "Proxy-Connection", "TE", "Upgrade", "HTTP2-Settings"],
    ),
    (
        "carries credentials",
        &[
            "Authorization",
            "Proxy-Authorization",
            "Authentication-Info",
            "Proxy-Authentication-Info",
            "WWW-Authenticate",
            "Proxy-Authenticate",
        ],
    ),
];

/// What the lines ask for, one replacement for each name. Control characters never come this far.
pub(super) fn replacements(lines: &[Field], report: &mut Report<'_>) -> Vec<FieldReplacement> {
    let mut replacements: Vec<FieldReplacement> = Vec::new();
    for Field { name, value, origin } in lines {
        if !name.bytes().all(is_tchar) {
            report.error(*origin, name, "is no field name; letters, digits and - make one");
            continue;
        }
        let is_name = |refused: &&str| refused.eq_ignore_ascii_case(name);
        if let Some((why, _)) = REFUSED.iter().find(|(_, names)| names.iter().any(is_name)) {
            report.error(*origin, name, format!("{why} and cannot be set here"));
            continue;
        }
        if seems_commented(value) {
            report.warning(*origin, name, COMMENT_HINT);
        }
        let value = (!value.is_empty()).then(|| value.to_string());
        let new = FieldReplacement { name: name.clone(), value };
        let same = |old: &&mut FieldReplacement| old.name.eq_ignore_ascii_case(name);
        if let Some(old) = replacements.iter_mut().find(same) {
            report.warning(*origin, name, "is there twice; the last one holds");
            *old = new;
        } else {
            replacements.push(new);
        }
    }
    replacements
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Args, Config};

    /// The replacements as text, or else the notices.
    fn replacements(section: &str) -> (Vec<String>, Vec<String>) {
        let file = format!("[CLIENT_HEADER]\n{section}");
        let (fields, notices) = match Config::load("f", file.as_bytes(), &Args::default()) {
            Ok(loaded) => (loaded.config.client_header, loaded.warnings),
            Err(notices) => (Vec::new(), notices),
        };
        let show = |field: FieldReplacement| match field.value {
            Some(value) => format!("{}={value}", field.name),
            None => format!("-{}", field.name),
        };
        let notices = notices.iter().map(ToString::to_string).collect();
        (fields.into_iter().map(show).collect(), notices)
    }

    #[test]
    fn fields_are_replaced_added_and_removed() {
        for (section, expected) in [
            ("User-Agent: a/1 (b; c:d)", "User-Agent=a/1 (b; c:d)"),
            ("X-A: 1\nx-b:\nCookie: c=d", "X-A=1|-x-b|Cookie=c=d"),
            ("X: \u{e9}", "X=\u{e9}"),
            ("# X: y", ""),
        ] {
            let (fields, notices) = replacements(section);
            assert_eq!(fields.join("|"), expected);
            assert!(notices.is_empty(), "{notices:?}");
        }
    }

    #[test]
    fn what_is_not_as_it_looks_is_warned_of() {
        let twice = "f:3: x-a: is there twice; the last one holds".to_owned();
        assert_eq!(replacements("X-A: 1\nx-a: 2"), (vec!["x-a=2".to_owned()], vec![twice]));
        let comment = format!("f:2: X: {COMMENT_HINT}");
        assert_eq!(replacements("X: 1 # one"), (vec!["X=1 # one".to_owned()], vec![comment]));
    }

    #[test]
    fn fields_that_are_not_the_users_are_refused() {
        for name in [
            "Host",
            "Content-Length",
            "Transfer-Encoding",
            "Trailer",
            "Connection",
            "Keep-Alive",
            "Proxy-Connection",
            "TE",
            "Upgrade",
            "HTTP2-Settings",
            "Authorization",
            "Proxy-Authorization",
            "Authentication-Info",
            "Proxy-Authentication-Info",
            "WWW-Authenticate",
            "Proxy-Authenticate",
        ] {
            for line in [format!("{}: x", name.to_lowercase()), format!("{name}:")] {
                let (_, notices) = replacements(&line);
                assert_eq!(notices.len(), 1, "{line}");
                assert!(notices.concat().ends_with("and cannot be set here"), "{notices:?}");
            }
        }
        for (line, expected) in [
            ("Us(er): x", "f:2: Us(er): is no field name; letters, digits and - make one"),
            ("X\u{e9}: x", "f:2: X\u{e9}: is no field name; letters, digits and - make one"),
            ("X: a\rY: b", "f:2: the line holds the control character U+000D"),
            ("X: a\0", "f:2: the line holds the control character U+0000"),
            (
                "Password: s3cret",
                "f:2: PASSWORD: would be sent as a header field; write it under [NTLM_AUTH]",
            ),
        ] {
            assert_eq!(replacements(line).1, [expected], "{line:?}");
        }
    }
}
