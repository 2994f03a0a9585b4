//! What loading a configuration has to say: errors, warnings and notes, each with the place it is
//! about. Decides nothing; whoever reports never hands in the text of a secret.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; nothing needs to be done.
    Note,
    /// Loaded, but perhaps not as meant.
    Warning,
    /// Not loaded.
    Error,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of the file, counted from 1.
    Line(usize),
    /// An option of the command line.
    CommandLine,
}

/// One thing to say about the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How bad it is.
    pub severity: Severity,
    /// The file's name as the caller gave it.
    pub file: String,
    /// The place it is about.
    pub origin: Origin,
    /// The key it is about; empty when it is about a whole line.
    pub key: String,
    /// What is the matter, and what to write instead; without a full stop.
    pub message: String,
}

impl fmt::Display for Notice {
    /// `ntlmaps.cfg:12: KEY: message`, without the severity: that is the logger's to show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", place(&self.file, self.origin))?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Names a place as messages do: `ntlmaps.cfg:12`, `command line`, or the file alone.
fn place(file: &str, origin: Origin) -> String {
    match origin {
        Origin::Default => file.to_owned(),
        Origin::Line(line) => format!("{file}:{line}"),
        Origin::CommandLine => "command line".to_owned(),
    }
}

/// The notices of one load, in the order of the file, the command line last.
pub(super) struct Report<'a> {
    file: &'a str,
    notices: Vec<Notice>,
}

impl<'a> Report<'a> {
    /// An empty report on the file of that name.
    pub(super) fn new(file: &'a str) -> Self {
        Self { file, notices: Vec::new() }
    }

    pub(super) fn note(&mut self, origin: Origin, key: &str, message: impl Into<String>) {
        self.add(Severity::Note, origin, key, message.into());
    }

    pub(super) fn warning(&mut self, origin: Origin, key: &str, message: impl Into<String>) {
        self.add(Severity::Warning, origin, key, message.into());
    }

    pub(super) fn error(&mut self, origin: Origin, key: &str, message: impl Into<String>) {
        self.add(Severity::Error, origin, key, message.into());
    }

    fn add(&mut self, severity: Severity, origin: Origin, key: &str, message: String) {
        let (file, key) = (self.file.to_owned(), printable(key));
        let place = self.notices.partition_point(|earlier| earlier.origin <= origin);
        self.notices.insert(place, Notice { severity, file, origin, key, message });
    }

    /// True once any of these keys has an error: what depends on them need not be judged.
    pub(super) fn failed(&self, keys: &[&str]) -> bool {
        self.notices.iter().any(|n| n.severity == Severity::Error && keys.contains(&n.key.as_str()))
    }

    /// Everything said, and whether an error is among it.
    pub(super) fn finish(self) -> (Vec<Notice>, bool) {
        let fatal = self.notices.iter().any(|notice| notice.severity == Severity::Error);
        (self.notices, fatal)
    }
}

/// `text` in quotes for a message: cut after 60 characters, control characters made harmless.
/// Not for secrets.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let dots = if text.chars().count() > LONGEST { "..." } else { "" };
    format!("\"{}{dots}\"", printable(&text.chars().take(LONGEST).collect::<String>()))
}

/// `text` with every control character replaced by `?`, so that it cannot forge a line in a log.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_names_its_place_its_key_and_the_matter() {
        let mut report = Report::new("a.cfg");
        report.error(Origin::CommandLine, "USER", "is odd");
        report.warning(Origin::Line(12), "PARENT_PROXY_PORT", "\"80a\" is no port");
        report.note(Origin::Line(3), "", "is odd");
        report.warning(Origin::Default, "", "is odd");
        assert!(report.failed(&["NT_DOMAIN", "USER"]));
        assert!(!report.failed(&["PARENT_PROXY_PORT"]), "a warning is no failure");
        let (notices, fatal) = report.finish();
        assert!(fatal);
        let shown: Vec<String> = notices.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "a.cfg: is odd",
                "a.cfg:3: is odd",
                "a.cfg:12: PARENT_PROXY_PORT: \"80a\" is no port",
                "command line: USER: is odd",
            ]
        );
    }

    #[test]
    fn quoted_text_is_short_and_on_one_line() {
        assert_eq!(quoted("a\r\nb"), "\"a??b\"");
        assert_eq!(quoted(&"ä".repeat(61)), format!("\"{}...\"", "ä".repeat(60)));
    }
}
