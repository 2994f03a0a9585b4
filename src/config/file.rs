//! The grammar of the configuration file: bytes to sections and `KEY: value` pairs with their
//! line numbers. Knows no key and prints no value: a line that cannot be read may hold a password.

use zeroize::Zeroizing;

use super::notice::{Origin, Report};

/// What one line of the file says.
pub(super) enum Item {
    /// `[NAME]`, without the brackets and blanks.
    Section(String),
    /// `KEY: value`, both without the blanks around them.
    Pair(String, Zeroizing<String>),
}

/// Reads the file's bytes: UTF-8 with or without a byte order mark, lines ended by LF or CR LF.
/// A line that is no UTF-8 is taken for Latin-1. Gives what each line says, and its number.
pub(super) fn read(bytes: &[u8], report: &mut Report<'_>) -> Vec<(usize, Item)> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        report.error(Origin::Default, "", "the file is in UTF-16; save it as UTF-8");
        return Vec::new();
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let lines = bytes.split(|byte| *byte == b'\n').zip(1..);
    lines
        .filter_map(|(line, number)| {
            let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii();
            let item = match line {
                [] | [b'#', ..] => return None,
                _ => read_line(&decode(line, number, report), number, report)?,
            };
            Some((number, item))
        })
        .collect()
}

/// The line as text; what is no UTF-8 is an old file in Latin-1, more likely than not.
fn decode(line: &[u8], number: usize, report: &mut Report<'_>) -> Zeroizing<String> {
    Zeroizing::new(match std::str::from_utf8(line) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let message = "the line is not in UTF-8 and is read as Latin-1; save the file as UTF-8";
            report.warning(Origin::Line(number), "", message);
            line.iter().copied().map(char::from).collect()
        }
    })
}

/// Reads one line that is neither blank nor a comment; `None` with an error when it makes no sense.
fn read_line(line: &str, number: usize, report: &mut Report<'_>) -> Option<Item> {
    let origin = Origin::Line(number);
    if let Some(control) = line.chars().find(|c| c.is_control() && *c != '\t') {
        let code = u32::from(control);
        report.error(origin, "", format!("the line holds the control character U+{code:04X}"));
        return None;
    }
    if let Some(section) = line.strip_prefix('[') {
        let Some((name, after)) = section.split_once(']') else {
            report.error(origin, "", "a section is written [NAME]; the ] is missing");
            return None;
        };
        if !after.trim().is_empty() {
            report.warning(origin, "", "what follows the ] of a section is not looked at");
        }
        return Some(Item::Section(name.trim().to_owned()));
    }
    // KEY=value is the habit of other programs; the value may well hold a colon.
    let before_colon = line.split_once(':').map_or(line, |(key, _)| key);
    if let Some((key, _)) = before_colon.split_once('=')
        && is_word(key.trim())
    {
        report.error(origin, key.trim(), "a colon is expected after the key, not =");
        return None;
    }
    let Some((key, value)) = line.split_once(':') else {
        let message = "the line holds no colon; write KEY: value, or # before a comment";
        report.error(origin, "", message);
        return None;
    };
    let (key, value) = (key.trim(), value.trim_matches([' ', '\t']));
    if key.is_empty() {
        report.error(origin, "", "there is no key before the colon");
        return None;
    }
    // What stands behind the blank may be a value, and not one to show.
    if let Some((first, _)) = key.split_once([' ', '\t']) {
        let first = if is_word(first) { first } else { "" };
        report.error(origin, first, "a colon is expected after the key, not a blank");
        return None;
    }
    Some(Item::Pair(key.to_owned(), Zeroizing::new(value.to_owned())))
}

/// True for what looks like a key, and so is fit to be shown.
pub(super) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The items as text, and the notices.
    fn read_all(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
        let mut report = Report::new("f");
        let items = read(bytes, &mut report)
            .into_iter()
            .map(|(line, item)| match item {
                Item::Section(name) => format!("{line} [{name}]"),
                Item::Pair(key, value) => format!("{line} {key}={}", value.as_str()),
            })
            .collect();
        (items, report.finish().0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn lines_are_read_as_they_are_written() {
        for (text, expected) in [
            ("KEY:value", "1 KEY=value"),
            ("\t key\t:\t value with blanks \t", "1 key=value with blanks"),
            ("KEY:", "1 KEY="),
            ("KEY: a:b::c", "1 KEY=a:b::c"),
            ("KEY: a=b", "1 KEY=a=b"),
            ("KEY: a#b # c", "1 KEY=a#b # c"),
            ("KEY: \u{a0}x\u{a0}", "1 KEY=\u{a0}x\u{a0}"),
            ("[ GENERAL ]", "1 [GENERAL]"),
            ("  [x]", "1 [x]"),
            ("\u{feff}KEY: ü", "1 KEY=ü"),
            ("\n# c\r\n  # c: d\n\r\nKEY: v\r\n", "5 KEY=v"),
            ("", ""),
            ("# nothing", ""),
        ] {
            let (items, notices) = read_all(text.as_bytes());
            assert_eq!(items.join("|"), expected, "{text:?}");
            assert!(notices.is_empty(), "{text:?}: {notices:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named_by_its_line_and_not_repeated() {
        for (text, expected) in [
            ("s3cret", "f:1: the line holds no colon; write KEY: value, or # before a comment"),
            ("\nPASSWORD=s3cret", "f:2: PASSWORD: a colon is expected after the key, not ="),
            ("KEY = http://s3:cret", "f:1: KEY: a colon is expected after the key, not ="),
            ("s3 cret=x", "f:1: the line holds no colon; write KEY: value, or # before a comment"),
            ("=s3cret", "f:1: the line holds no colon; write KEY: value, or # before a comment"),
            ("KEY s3cret:x", "f:1: KEY: a colon is expected after the key, not a blank"),
            ("s3$ cret\t:x", "f:1: a colon is expected after the key, not a blank"),
            (": s3cret", "f:1: there is no key before the colon"),
            ("[s3cret", "f:1: a section is written [NAME]; the ] is missing"),
            ("K: s3cret\0", "f:1: the line holds the control character U+0000"),
            ("K: s3\rcret", "f:1: the line holds the control character U+000D"),
            ("K: s3\u{9f}cret", "f:1: the line holds the control character U+009F"),
        ] {
            let (items, notices) = read_all(text.as_bytes());
            assert!(items.is_empty(), "{text:?}");
            assert_eq!(notices, [expected], "{text:?}");
        }
    }

    #[test]
    fn a_section_may_have_company() {
        let (items, notices) = read_all(b"[GENERAL] # main part");
        assert_eq!(items, ["1 [GENERAL]"]);
        assert_eq!(notices, ["f:1: what follows the ] of a section is not looked at"]);
    }

    #[test]
    fn old_encodings_are_read_where_that_is_safe() {
        let (items, notices) = read_all(b"# \xe9t\xe9\nA: \xe9\nB: \xc3\xa9\n");
        assert_eq!(items, ["2 A=é", "3 B=é"]);
        let latin1 = "f:2: the line is not in UTF-8 and is read as Latin-1; save the file as UTF-8";
        assert_eq!(notices, [latin1]);
        let (items, notices) = read_all(b"\xff\xfeA\0:\0");
        assert!(items.is_empty());
        assert_eq!(notices, ["f: the file is in UTF-16; save it as UTF-8"]);
    }
}
