//! The grammar of cntlm.conf: bytes to entries, by the rules of cntlm 0.92.3 and 0.94, and every
//! line that says something else to it than to the person who wrote it. Knows which keys there
//! are, not what they mean; repeats no value.

use zeroize::Zeroizing;

use crate::config::notice::{Origin, Report, quoted};

/// One line that cntlm takes for an option.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) line: usize,
    /// As cntlm's manual spells it, whatever the case in the file.
    pub(super) key: &'static str,
    pub(super) value: Zeroizing<String>,
}

impl Entry {
    pub(super) fn origin(&self) -> Origin {
        Origin::Line(self.line)
    }
}

/// The options of a file, in its order.
#[derive(Clone, Default)]
pub(super) struct Entries {
    pub(super) read: Vec<Entry>,
    /// The last line, where no newline ends it: cntlm does not look at that one.
    pub(super) last: Option<Entry>,
}

impl Entries {
    /// Every entry of a key that may be repeated.
    pub(super) fn all<'a>(&'a self, key: &'static str) -> impl Iterator<Item = &'a Entry> {
        self.read.iter().filter(move |entry| entry.key == key)
    }

    /// The entry that holds for a key: the first.
    pub(super) fn first(&self, key: &'static str) -> Option<&Entry> {
        self.read.iter().find(|entry| entry.key == key)
    }

    /// True for a switch that is on; nothing but "yes" turns one on.
    pub(super) fn is_on(&self, key: &'static str) -> bool {
        self.first(key).is_some_and(|entry| entry.value.eq_ignore_ascii_case("yes"))
    }
}

/// Keys of which the first holds.
const SINGLE: [&str; 15] = [
    "Username",
    "Domain",
    "Password",
    "PassNTLMv2",
    "PassNT",
    "PassLM",
    "Auth",
    "Flags",
    "Workstation",
    "Gateway",
    "NTLMToBasic",
    "ISAScannerSize",
    "Pac",
    "PacFile",
    "SSPI",
];

/// Keys that may be repeated. `SOCKS5User` is the documented name of what is read as
/// `SOCKS5Users`.
const REPEATED: [&str; 11] = [
    "Proxy",
    "NoProxy",
    "Listen",
    "Allow",
    "Deny",
    "Tunnel",
    "Header",
    "SOCKS5Proxy",
    "SOCKS5Users",
    "SOCKS5User",
    "ISAScannerAgent",
];

/// What `fgets` with cntlm's buffer of 4096 bytes gives at most.
const LONGEST: usize = 4095;

/// Reads a whole file.
pub(super) fn read(bytes: &[u8], report: &mut Report<'_>) -> Entries {
    let mut entries = Entries::default();
    let (mut rest, mut line, mut continued) = (bytes, 1, false);
    let mut sections = 0;
    while !rest.is_empty() {
        let window = rest.get(..LONGEST).unwrap_or(rest);
        let end = window.iter().position(|byte| *byte == b'\n');
        let (piece, after) = rest.split_at(end.map_or(window.len(), |at| at + 1));
        rest = after;
        if end.is_none() && piece.len() == LONGEST {
            let message = format!(
                "the line is longer than {LONGEST} bytes; cntlm takes what follows for a line of \
                 its own"
            );
            report.warning(Origin::Line(line), "", message);
        }
        let text = decode(piece, line, report);
        match option(&text, line, continued, report) {
            Read::Nothing => {}
            Read::Section => {
                sections += 1;
                if sections == 1 {
                    let message = "sections mean nothing to cntlm: every key counts for all";
                    report.note(Origin::Line(line), "", message);
                }
            }
            Read::Option(entry) if end.is_none() && piece.len() < LONGEST => {
                entries.last = Some(entry);
            }
            Read::Option(entry) => entries.read.push(entry),
        }
        continued = end.is_none();
        line += usize::from(end.is_some());
    }
    warn_of_repeated(&entries, report);
    entries
}

/// The line as text up to a NUL, where cntlm stops; what is no UTF-8 is taken for Latin-1.
fn decode(piece: &[u8], line: usize, report: &mut Report<'_>) -> Zeroizing<String> {
    let piece = match piece.iter().position(|byte| *byte == 0) {
        Some(at) => {
            report.warning(Origin::Line(line), "", "cntlm reads nothing after the NUL byte");
            piece.split_at(at).0
        }
        None => piece,
    };
    Zeroizing::new(match std::str::from_utf8(piece) {
        Ok(text) => text.to_owned(),
        Err(_) => piece.iter().copied().map(char::from).collect(),
    })
}

/// What one line is to cntlm.
enum Read {
    Nothing,
    Section,
    Option(Entry),
}

/// Blanks as C's `isspace` has them.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// Reads one line. One that is the rest of a longer one may be the second half of a secret.
fn option(text: &str, line: usize, continued: bool, report: &mut Report<'_>) -> Read {
    let origin = Origin::Line(line);
    let text = text.trim_start_matches(is_space);
    let marked = text.strip_prefix('\u{feff}').unwrap_or(text);
    if marked.is_empty() || marked.starts_with(['#', ';']) {
        return Read::Nothing;
    }
    let length = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    let (word, rest) = text.split_at(length);
    if rest.starts_with('[') {
        return Read::Section;
    }
    let mut known = SINGLE.into_iter().chain(REPEATED);
    let Some(key) = known.find(|key| key.eq_ignore_ascii_case(word)) else {
        let what = match word {
            "" => "the line begins with no key".to_owned(),
            _ if continued => "the rest of the line before is no option".to_owned(),
            word => format!("{} is no key of cntlm's", quoted(word)),
        };
        report.warning(origin, "", format!("{what}; cntlm ignores the line, and so is it here"));
        return Read::Nothing;
    };
    match value(rest.trim_start_matches(is_space), key, origin, report) {
        Some(value) => Read::Option(Entry { line, key, value: Zeroizing::new(value.to_owned()) }),
        None => Read::Nothing,
    }
}

/// What of the text behind a key is its value; `None` when cntlm drops the option.
fn value<'a>(text: &'a str, key: &str, origin: Origin, report: &mut Report<'_>) -> Option<&'a str> {
    if let Some(quoted) = text.strip_prefix('"') {
        let Some((value, after)) = quoted.split_once('"') else {
            let message = "the closing quote is missing; cntlm drops the option, and so is it here";
            report.warning(origin, key, message);
            return None;
        };
        let after = after.trim_matches(is_space);
        if !after.is_empty() && !after.starts_with('#') {
            let message = "what follows the closing quote is not part of the value, to cntlm too";
            report.warning(origin, key, message);
        }
        return Some(value);
    }
    if text.is_empty() || text.starts_with(['#', ';']) {
        let message = if text.is_empty() {
            "has no value; cntlm ignores the line, and so is it here (\"\" is a blank value)"
        } else {
            "the value begins with # or ; without quotes; cntlm drops the option, and so is it here"
        };
        report.warning(origin, key, message);
        return None;
    }
    let (value, comment) = match text.split_once('#') {
        Some((value, _)) => (value, true),
        None => (text, false),
    };
    if comment && !value.ends_with(is_space) {
        let message = "cntlm cuts a value without quotes at the #; what stood before it is taken \
                       over. If the # belongs to it, cntlm never had all of it";
        report.warning(origin, key, message);
    }
    let value = value.trim_end_matches(is_space);
    if value.starts_with(['=', ':']) {
        let message = "= and : are part of the value to cntlm; only blanks follow a key";
        report.warning(origin, key, message);
    }
    if value.split(is_space).skip(1).any(|word| word.starts_with(';')) {
        let message = "what follows ; is part of the value to cntlm: no comment begins there";
        report.warning(origin, key, message);
    }
    Some(value)
}

fn warn_of_repeated(entries: &Entries, report: &mut Report<'_>) {
    for key in SINGLE {
        let mut found = entries.all(key);
        let Some(first) = found.next() else { continue };
        for other in found {
            let message = format!("is in line {} too, and the first holds", first.line);
            report.warning(other.origin(), key, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries as text, the one that cntlm does not read behind a `!`; and the notices.
    fn read_all(bytes: &[u8]) -> (String, Vec<String>) {
        let mut report = Report::new("f");
        let entries = read(bytes, &mut report);
        let show = |e: &Entry| format!("{} {}={}", e.line, e.key, e.value.as_str());
        let read = entries.read.iter().map(show);
        let last = entries.last.iter().map(|entry| format!("!{}", show(entry)));
        let entries: Vec<String> = read.chain(last).collect();
        (entries.join("|"), report.finish().0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn lines_say_what_they_say_to_cntlm() {
        for (file, expected, said) in [
            ("Username alice\n", "1 Username=alice", ""),
            ("\t username\t  Alice B \r\n", "1 Username=Alice B", ""),
            ("\n# c\n ; c\nDOMAIN D # c\n", "4 Domain=D", ""),
            ("Domain \"\"\n", "1 Domain=", ""),
            ("Password \"a #;b \" # c\n", "1 Password=a #;b ", ""),
            ("Password\"x\"\n", "1 Password=x", ""),
            ("\u{feff}# c\n", "", ""),
            ("Password p\u{e4}ss\n", "1 Password=p\u{e4}ss", ""),
            ("Password \"s3\" cret\n", "1 Password=s3", "what follows the closing quote"),
            ("Password \"s3cret\n", "", "the closing quote is missing"),
            ("Password #s3cret\n", "", "begins with # or ;"),
            ("Password ;s3cret\n", "", "begins with # or ;"),
            ("Password s3#cret\n", "1 Password=s3", "cuts a value without quotes at the #"),
            ("Password pa;s3 cret\n", "1 Password=pa;s3 cret", ""),
            ("Domain D ; s3cret\n", "1 Domain=D ; s3cret", "no comment begins there"),
            ("Password\n", "", "has no value"),
            ("Password=s3cret\n", "1 Password==s3cret", "only blanks follow a key"),
            ("Password: s3cret\n", "1 Password=: s3cret", "only blanks follow a key"),
            ("Pasword s3cret\n", "", "f:1: \"Pasword\" is no key of cntlm's"),
            ("-s3cret\n", "", "f:1: the line begins with no key"),
            ("\u{feff}Domain D\n", "", "the line begins with no key"),
            ("[a]\n[b]\nDomain D\n", "3 Domain=D", "f:1: sections mean nothing to cntlm"),
            ("Domain D\nDomain E\n", "1 Domain=D|2 Domain=E", "f:2: Domain: is in line 1 too"),
            ("Proxy a:1\nProxy b:2\n", "1 Proxy=a:1|2 Proxy=b:2", ""),
            ("Domain D\nPassword s3cret", "1 Domain=D|!2 Password=s3cret", ""),
            ("Domain D\n# end", "1 Domain=D", ""),
            ("Domain D\0s3cret\n", "1 Domain=D", "nothing after the NUL byte"),
            ("", "", ""),
        ] {
            let (entries, notices) = read_all(file.as_bytes());
            assert_eq!(entries, expected, "{file:?}");
            assert_eq!(notices.len(), usize::from(!said.is_empty()), "{file:?} {notices:?}");
            assert!(notices.concat().contains(said), "{file:?} {notices:?}");
            assert!(!notices.concat().contains("cret"), "{notices:?}");
        }
        assert_eq!(read_all(b"Username b\xf6b\n").0, "1 Username=b\u{f6}b", "Latin-1");
    }

    #[test]
    fn a_long_line_is_several() {
        let long = |length: usize| format!("Domain {}", "x".repeat(length - 7));
        let (entries, notices) = read_all(format!("{}\nDomain E\n", long(4094)).as_bytes());
        assert!(entries.ends_with("|2 Domain=E") && notices.len() == 1, "{notices:?}");
        let (entries, notices) = read_all(format!("{}Proxy s3cret\n", long(4095)).as_bytes());
        assert!(entries.ends_with("|1 Proxy=s3cret"), "{entries}");
        assert!(notices.concat().contains("longer than 4095 bytes"), "{notices:?}");
        let (_, notices) = read_all(format!("{}s3cret\n", long(4095)).as_bytes());
        assert!(notices.len() == 2 && !notices.concat().contains("s3cret"), "{notices:?}");
        let (entries, _) = read_all(long(4095).as_bytes());
        assert!(!entries.starts_with('!'), "a full buffer is read without a newline");
    }

    #[test]
    fn a_switch_is_on_with_yes_alone() {
        for (value, on) in [("yes", true), ("YES", true), ("on", false), ("1", false)] {
            let mut report = Report::new("f");
            let entries = read(format!("Gateway {value}\n").as_bytes(), &mut report);
            assert_eq!(entries.is_on("Gateway"), on, "{value}");
        }
    }
}
