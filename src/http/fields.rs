//! The header section: field lines as they came (RFC 9112 section 5).

use std::fmt;
use std::ops::Range;

use super::names::{FieldName, Names};

/// An ordered list of field lines.
///
/// Facts: names compare without case, order among lines of one name matters, other order does not,
/// duplicates are legal. All text lies in one buffer, the lines are spans of it.
#[derive(Clone, Default)]
pub struct FieldLines {
    text: Vec<u8>,
    lines: Vec<Line>,
    /// The names that are there, or were.
    names: Names,
    /// Those that came more than once.
    repeated: Names,
}

#[derive(Clone)]
struct Line {
    /// The number of its name.
    number: u8,
    name: Range<usize>,
    value: Range<usize>,
}

impl Line {
    /// Whether it has that name; `text` is what it is a span of.
    fn is(&self, name: FieldName<'_>, text: &[u8]) -> bool {
        name.is(self.number, text.get(self.name.clone()).unwrap_or_default())
    }
}

impl FieldLines {
    /// Takes what httparse found; `head` is the text its slices point into.
    pub(super) fn of(head: &[u8], parsed: &[httparse::Header<'_>]) -> Self {
        let span = |part: &[u8]| {
            let start = part.as_ptr().addr().saturating_sub(head.as_ptr().addr());
            start..start.saturating_add(part.len())
        };
        // Without the blank line, and with room for what is added on the way.
        let mut text = Vec::with_capacity(head.len().saturating_add(256));
        text.extend_from_slice(head.strip_suffix(b"\r\n").unwrap_or(head));
        let mut lines = Vec::with_capacity(parsed.len().saturating_add(4));
        let [mut names, mut repeated] = [Names::default(); 2];
        for field in parsed {
            let number = FieldName::new(field.name).number();
            if names.contains(number) {
                repeated.insert(number);
            }
            names.insert(number);
            let (name, value) = (span(field.name.as_bytes()), span(field.value));
            lines.push(Line { number, name, value });
        }
        Self { text, lines, names, repeated }
    }

    /// Makes one line of each that was folded (RFC 9112 section 5.2).
    pub(super) fn unfold(&mut self) {
        for line in &self.lines {
            let value = self.text.get_mut(line.value.clone()).unwrap_or_default();
            if value.contains(&b'\n') {
                for byte in value.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')) {
                    *byte = b' ';
                }
            }
        }
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

    /// The lines among which one of that name would be.
    fn candidates(&self, name: FieldName<'_>) -> &[Line] {
        if self.names.has(name) { &self.lines } else { &[] }
    }

    #[inline(never)] // for the size of its callers
    fn store(&mut self, part: &[u8]) -> Range<usize> {
        let start = self.text.len();
        self.text.extend_from_slice(part);
        start..self.text.len()
    }

    fn new_line(&mut self, name: FieldName<'_>, value: &[u8]) -> Line {
        let number = name.number();
        self.names.insert(number);
        let name = self.store(name.as_str().as_bytes());
        self.store(b": ");
        let value = self.store(value);
        self.store(b"\r\n");
        Line { number, name, value }
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
    pub fn all(&self, name: FieldName<'_>) -> impl Iterator<Item = &[u8]> {
        self.candidates(name)
            .iter()
            .filter(move |line| line.is(name, &self.text))
            .map(|line| self.slice(&line.value))
    }

    /// The value of the first line of that name.
    #[inline]
    pub fn first(&self, name: FieldName<'_>) -> Option<&[u8]> {
        // Most of what is looked for is not there.
        if self.names.has(name) { self.find(name) } else { None }
    }

    fn find(&self, name: FieldName<'_>) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// Whether there is a line of that name.
    #[inline]
    pub fn contains(&self, name: FieldName<'_>) -> bool {
        self.first(name).is_some()
    }

    /// Whether several lines came with one of these names.
    pub fn repeats(&self, names: Names) -> bool {
        self.repeated.meets(names)
    }

    /// The members of a comma-separated list field (RFC 9110 section 5.6.1), of all its lines.
    /// Not for fields whose members may be quoted strings.
    pub fn members(&self, name: FieldName<'_>) -> impl Iterator<Item = &[u8]> {
        self.all(name)
            .flat_map(|value| value.split(|b| *b == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|member| !member.is_empty())
    }

    /// Whether a list field has that member, case aside.
    #[inline]
    pub fn has_member(&self, name: FieldName<'_>, member: &str) -> bool {
        self.names.has(name) && self.find_member(name, member)
    }

    fn find_member(&self, name: FieldName<'_>, member: &str) -> bool {
        let is_it = |part: &[u8]| part.trim_ascii().eq_ignore_ascii_case(member.as_bytes());
        self.all(name).any(|value| value.split(|byte| *byte == b',').any(is_it))
    }

    /// Appends a line.
    pub fn push(&mut self, name: FieldName<'_>, value: &[u8]) {
        let line = self.new_line(name, value);
        self.lines.push(line);
    }

    /// Makes this the only line of that name: in the place of the first one, or at the end.
    pub fn set(&mut self, name: FieldName<'_>, value: &[u8]) {
        if self.all(name).eq([value]) {
            return;
        }
        let Some(first) = self.candidates(name).iter().position(|line| line.is(name, &self.text))
        else {
            return self.push(name, value);
        };
        let value = self.store(value);
        let mut index = 0_usize;
        let Self { text, lines, .. } = self;
        lines.retain_mut(|line| {
            let at = index;
            index = index.saturating_add(1);
            if at == first {
                line.value = value.clone();
                return true;
            }
            !line.is(name, text)
        });
    }

    /// Puts a line first; the caller knows that there is none of that name.
    pub fn push_front(&mut self, name: FieldName<'_>, value: &[u8]) {
        let line = self.new_line(name, value);
        self.lines.insert(0, line);
    }

    /// Removes every line whose name the predicate picks.
    pub fn remove_where(&mut self, mut picks: impl FnMut(FieldName<'_>) -> bool) {
        let Self { text, lines, .. } = self;
        lines.retain(|line| {
            let name = text.get(line.name.clone()).unwrap_or_default();
            // httparse admits only token characters into a name.
            !picks(FieldName::new(std::str::from_utf8(name).unwrap_or_default()))
        });
    }

    /// Removes every line that has one of these names.
    pub fn remove_all(&mut self, names: Names) {
        if self.names.meets(names) {
            self.lines.retain(|line| !names.contains(line.number));
            self.names = self.names.without(names);
        }
    }

    /// Removes every line of that name.
    #[inline(never)] // for the size of its callers, who seldom have one to remove
    pub fn remove(&mut self, name: FieldName<'_>) {
        let Self { text, lines, names, .. } = self;
        if names.has(name) {
            lines.retain(|line| !line.is(name, text));
        }
    }

    /// A line with its end, where it stands in the text as it is to be written.
    fn written(&self, line: &Line) -> Option<Range<usize>> {
        let end = line.value.end.checked_add(2)?;
        let is_written = self.slice(&(line.name.end..line.value.start)) == b": "
            && self.slice(&(line.value.end..end)) == b"\r\n";
        is_written.then_some(line.name.start..end)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.text.len().saturating_add(512));
        // Lines that follow each other are copied together.
        let mut run = 0..0;
        for line in &self.lines {
            let written = self.written(line);
            if let Some(next) = written.clone().filter(|next| next.start == run.end) {
                run.end = next.end;
                continue;
            }
            out.extend_from_slice(self.slice(&run));
            run = written.unwrap_or_else(|| {
                for part in [self.slice(&line.name), b": ", self.slice(&line.value), b"\r\n"] {
                    out.extend_from_slice(part);
                }
                0..0
            });
        }
        out.extend_from_slice(self.slice(&run));
        out.extend_from_slice(b"\r\n");
    }
}

/// Shows names only: a value may be a secret.
impl fmt::Debug for FieldLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}
