//! The header section: field lines as they came (RFC 9112 section 5).

use std::fmt;
use std::ops::Range;

/// An ordered list of field lines.
///
/// Facts: names compare without case, order among lines of one name matters, other order does not,
/// duplicates are legal. All text lies in one buffer, the lines are spans of it.
#[derive(Clone, Default)]
pub struct FieldLines {
    text: Vec<u8>,
    lines: Vec<Line>,
}

#[derive(Clone)]
struct Line {
    name: Range<usize>,
    value: Range<usize>,
}

impl FieldLines {
    /// Takes what httparse found; `head` is the text its slices point into.
    pub(super) fn of(head: &[u8], parsed: &[httparse::Header<'_>]) -> Self {
        let span = |part: &[u8]| {
            let start = part.as_ptr().addr().saturating_sub(head.as_ptr().addr());
            start..start.saturating_add(part.len())
        };
        // With room for what is added on the way.
        let mut text = Vec::with_capacity(head.len().saturating_add(256));
        text.extend_from_slice(head);
        let mut lines = Vec::with_capacity(parsed.len().saturating_add(4));
        for field in parsed {
            let line = Line { name: span(field.name.as_bytes()), value: span(field.value) };
            // A folded line of a response becomes one line (RFC 9112 section 5.2).
            if field.value.contains(&b'\n') {
                for byte in text.get_mut(line.value.clone()).into_iter().flatten() {
                    if matches!(byte, b'\r' | b'\n') {
                        *byte = b' ';
                    }
                }
            }
            lines.push(line);
        }
        Self { text, lines }
    }

    /// Whether every line begins behind a CR and a LF in the text it was read from. (Each begins
    /// behind a LF; only a bare one ends a line for some and not for others.)
    pub(super) fn end_in_crlf(&self) -> bool {
        self.lines.iter().all(|line| {
            let before = self.text.get(..line.name.start).unwrap_or_default();
            before.is_empty() || before.ends_with(b"\r\n")
        })
    }

    fn slice(&self, span: &Range<usize>) -> &[u8] {
        self.text.get(span.clone()).unwrap_or_default()
    }

    fn named(&self, line: &Line, name: &str) -> bool {
        line.name.len() == name.len()
            && self.slice(&line.name).eq_ignore_ascii_case(name.as_bytes())
    }

    fn store(&mut self, part: &[u8]) -> Range<usize> {
        let start = self.text.len();
        self.text.extend_from_slice(part);
        start..self.text.len()
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines.iter().map(|line| {
            // httparse admits only token characters into a name.
            (
                std::str::from_utf8(self.slice(&line.name)).unwrap_or_default(),
                self.slice(&line.value),
            )
        })
    }

    /// The values of every line of that name, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.lines
            .iter()
            .filter(move |line| self.named(line, name))
            .map(|line| self.slice(&line.value))
    }

    /// The value of the first line of that name.
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// Whether there is a line of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// The members of a comma-separated list field (RFC 9110 section 5.6.1), of all its lines.
    /// Not for fields whose members may be quoted strings.
    pub fn members(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.all(name)
            .flat_map(|value| value.split(|b| *b == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|member| !member.is_empty())
    }

    /// Whether a list field has that member, case aside.
    pub fn has_member(&self, name: &str, member: &str) -> bool {
        self.members(name).any(|m| m.eq_ignore_ascii_case(member.as_bytes()))
    }

    /// Appends a line.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let line = Line { name: self.store(name.as_bytes()), value: self.store(value) };
        self.lines.push(line);
    }

    /// Makes this the only line of that name: in the place of the first one, or at the end.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        let value = self.store(value);
        match self.lines.iter().position(|line| self.named(line, name)) {
            Some(first) => {
                let mut index = 0_usize;
                let Self { text, lines } = self;
                lines.retain_mut(|line| {
                    let at = index;
                    index = index.saturating_add(1);
                    if at == first {
                        line.value = value.clone();
                        return true;
                    }
                    let bytes = text.get(line.name.clone()).unwrap_or_default();
                    !bytes.eq_ignore_ascii_case(name.as_bytes())
                });
            }
            None => {
                let name = self.store(name.as_bytes());
                self.lines.push(Line { name, value });
            }
        }
    }

    /// Puts a line first; the caller knows that there is none of that name.
    pub fn push_front(&mut self, name: &str, value: &[u8]) {
        let line = Line { name: self.store(name.as_bytes()), value: self.store(value) };
        self.lines.insert(0, line);
    }

    /// Removes every line whose name the predicate picks.
    pub fn remove_where(&mut self, mut picks: impl FnMut(&[u8]) -> bool) {
        let Self { text, lines } = self;
        lines.retain(|line| !picks(text.get(line.name.clone()).unwrap_or_default()));
    }

    /// Removes every line of that name.
    pub fn remove(&mut self, name: &str) {
        self.remove_where(|n| n.eq_ignore_ascii_case(name.as_bytes()));
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.text.len().saturating_add(512));
        for Line { name, value } in &self.lines {
            let between = self.text.get(name.end..value.start).unwrap_or_default();
            if between == b": " {
                out.extend_from_slice(self.slice(&(name.start..value.end)));
            } else {
                out.extend_from_slice(self.slice(name));
                out.extend_from_slice(b": ");
                out.extend_from_slice(self.slice(value));
            }
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Shows names only: a value may be a secret.
impl fmt::Debug for FieldLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}
