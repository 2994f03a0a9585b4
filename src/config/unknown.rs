//! What is said of sections and keys that are in no table: what became of those of older versions,
//! and which one may be meant instead.

use super::file::is_word;
use super::notice::{Origin, Report, Severity, printable, quoted};
use super::options::{OPTIONS, Section};

/// Keys of older versions and of forks: section (blank: any), key, how bad it is that it has no
/// effect, what to do.
const HISTORIC: [(&str, &str, Severity, &str); 9] = [
    (
        "",
        "COMPLEX_PASSWORD_INPUT",
        Severity::Note,
        "is not needed any more; every password can be typed",
    ),
    ("", "FULL_NTLM", Severity::Warning, "has no effect; NTLM_DIALECT decides now"),
    ("", "NTLM_MODE", Severity::Note, "has no effect any more"),
    ("", "NOTIFY_HOST", Severity::Warning, "has no effect; nothing is confirmed on its own here"),
    ("", "NOTIFY_KEY", Severity::Note, "has no effect"),
    ("", "ACCEPTED_KEY", Severity::Note, "has no effect"),
    ("NTLM", "DOMAIN", Severity::Warning, "has no effect; write NT_DOMAIN under [NTLM_AUTH]"),
    (
        "DIRECT",
        "DOMAIN",
        Severity::Warning,
        "has no effect; write HOSTS_TO_BYPASS_PARENT_PROXY: .domain under [GENERAL]",
    ),
    (
        "DIRECT",
        "HOSTS",
        Severity::Warning,
        "has no effect; write HOSTS_TO_BYPASS_PARENT_PROXY under [GENERAL]",
    ),
];

/// Warns of a section that is in no table.
pub(super) fn warn_of_section(name: &str, origin: Origin, report: &mut Report<'_>) {
    let historic = |(section, ..): &(&str, &str, Severity, &str)| {
        !section.is_empty() && section.eq_ignore_ascii_case(name)
    };
    if Section::named(name).is_none() && !HISTORIC.iter().any(historic) {
        let known = Section::NAMES.iter().map(|(name, _)| *name);
        let nearest = nearest(name, known).map(|near| format!("; did you mean [{near}]?"));
        let message = format!("[{}] is no section{}", printable(name), nearest.unwrap_or_default());
        report.warning(origin, "", message);
    }
}

/// Warns of a key that is in no table; `section` is blank before the first one.
pub(super) fn warn_of_key(section: &str, name: &str, origin: Origin, report: &mut Report<'_>) {
    let historic = HISTORIC.iter().find(|(its_section, key, ..)| {
        key.eq_ignore_ascii_case(name)
            && (its_section.is_empty() || its_section.eq_ignore_ascii_case(section))
    });
    match historic {
        Some((_, key, Severity::Note, what)) => report.note(origin, key, *what),
        Some((_, key, _, what)) => report.warning(origin, key, *what),
        None => {
            let nearest = nearest(name, OPTIONS.iter().map(|key| key.name));
            let nearest = nearest.map(|near| format!("; did you mean {near}?"));
            let name = if is_word(name) { &quoted(name) } else { "this" };
            let message = format!("{name} is no key{}", nearest.unwrap_or_default());
            report.warning(origin, "", message);
        }
    }
}

/// The name that takes the fewest changes to get to; `None` when that is another word altogether.
fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_uppercase().replace('-', "_");
    let length = word.chars().count();
    // Twice as long is another word altogether, and a very long one would take its time.
    let names = names.filter(|name| length <= 2 * name.len());
    let (name, changes) =
        names.map(|name| (name, distance(&word, name))).min_by_key(|(_, n)| *n)?;
    (changes <= name.len().max(length) / 2).then_some(name)
}

/// How many characters have to be inserted, removed or replaced (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (1..=to.chars().count()).collect();
    for (a, done) in from.chars().zip(0..) {
        let (mut left, mut diagonal) = (done + 1, done);
        for (b, slot) in to.chars().zip(&mut row) {
            left = (diagonal + usize::from(a != b)).min(*slot + 1).min(left + 1);
            diagonal = std::mem::replace(slot, left);
        }
    }
    row.last().copied().unwrap_or(from.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_may_well_go_is_only_noted() {
        let mut report = Report::new("f");
        warn_of_key("NTLM_AUTH", "complex_password_input", Origin::Line(1), &mut report);
        let (notices, _) = report.finish();
        assert_eq!(notices.iter().map(|n| n.severity).collect::<Vec<_>>(), [Severity::Note]);
    }

    #[test]
    fn another_word_altogether_is_not_meant() {
        let names = || ["DEBUG", "GENERAL"].into_iter();
        for (word, expected) in [
            ("general_", Some("GENERAL")),
            ("DE-BUGS", Some("DEBUG")),
            ("DXXXX", None),
            ("\u{c4}\u{d6}\u{dc}\u{c4}\u{d6}", None),
            (&"x".repeat(1_000_000), None),
            ("", None),
        ] {
            assert_eq!(nearest(word, names()), expected, "{:.20}", word);
        }
    }

    #[test]
    fn distances() {
        for (from, to, changes) in
            [("", "", 0), ("", "AB", 2), ("AB", "", 2), ("KITTEN", "SITTING", 3), ("AB", "BA", 2)]
        {
            assert_eq!(distance(from, to), changes, "{from} {to}");
        }
    }
}
