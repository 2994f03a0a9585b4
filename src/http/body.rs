//! Where a message body ends (RFC 9112 sections 6 and 7). Bodies are forwarded as they came: the
//! scanner counts the bytes that belong to one and never keeps them.

use super::chunked::{Extension, TrailerName};
use super::framing::{BodyFraming, FramingError, MAX_LENGTH};
use super::head::is_tchar;

/// Follows a body through the buffers it arrives in, cut anywhere.
#[derive(Clone, Debug)]
pub struct BodyScanner {
    state: State,
    strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Done,
    /// So many bytes of a body by length.
    Length(u64),
    UntilClose,
    /// In the digits of a chunk size.
    Size {
        value: u64,
        digits: u8,
    },
    /// In what follows the digits; counts bytes against a limit.
    Extension {
        value: u64,
        length: u16,
        part: Extension,
    },
    /// Behind the CR of a size line.
    SizeEnd {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// At the start of a trailer line; counts all trailer bytes against a limit.
    TrailerStart {
        length: u16,
    },
    TrailerName {
        length: u16,
        name: TrailerName,
    },
    Trailer {
        length: u16,
    },
    /// Behind the CR of a trailer line.
    TrailerLf {
        length: u16,
    },
    /// Behind the CR of the last line.
    LastLf,
}

/// Limits for what nobody needs much of.
const MAX_EXTENSION: u16 = 4 * 1024;
const MAX_TRAILERS: u16 = 16 * 1024;

impl BodyScanner {
    /// Begins at the first byte behind the head of a response.
    pub fn new(framing: BodyFraming) -> Self {
        let state = match framing {
            BodyFraming::None | BodyFraming::Length(0) => State::Done,
            BodyFraming::Length(length) => State::Length(length),
            BodyFraming::UntilClose => State::UntilClose,
            BodyFraming::Chunked => State::Size { value: 0, digits: 0 },
        };
        Self { state, strict: false }
    }

    /// Begins at the first byte behind the head of a request, and takes its chunks to the letter.
    pub fn strict(framing: BodyFraming) -> Self {
        Self { strict: true, ..Self::new(framing) }
    }

    /// How many leading bytes of `input` belong to the body.
    ///
    /// # Errors
    /// [`FramingError::Chunk`].
    pub fn scan(&mut self, input: &[u8]) -> Result<usize, FramingError> {
        self.walk(input, |_| {})
    }

    /// The same, appending what is content, and not chunk framing, to `content`.
    ///
    /// # Errors
    /// [`FramingError::Chunk`].
    pub fn decode(&mut self, input: &[u8], content: &mut Vec<u8>) -> Result<usize, FramingError> {
        self.walk(input, |data| content.extend_from_slice(data))
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// How much is left of a body whose length is known; 0 of any other.
    pub fn left(&self) -> u64 {
        if let State::Length(left) = self.state { left } else { 0 }
    }

    /// So much of what was [`BodyScanner::left`] went by unseen.
    pub fn pass(&mut self, count: u64) {
        if let State::Length(left) = self.state {
            let left = left.saturating_sub(count);
            self.state = if left == 0 { State::Done } else { State::Length(left) };
        }
    }

    /// The peer closed. Was that the end?
    ///
    /// # Errors
    /// [`FramingError::Truncated`] when it was not.
    pub fn at_close(&mut self) -> Result<(), FramingError> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(FramingError::Truncated),
        }
    }

    fn walk(
        &mut self,
        input: &[u8],
        mut on_data: impl FnMut(&[u8]),
    ) -> Result<usize, FramingError> {
        let mut rest = input;
        while let Some((&byte, after)) = rest.split_first() {
            let run = match self.state {
                State::Done => break,
                State::UntilClose => u64::MAX,
                State::Length(left) | State::Data { left } => left,
                _ => 0,
            };
            if run == 0 {
                self.state = self.state.next(byte, self.strict).ok_or(FramingError::Chunk)?;
                rest = after;
                continue;
            }
            let (data, after) = rest
                .split_at_checked(usize::try_from(run).unwrap_or(usize::MAX))
                .unwrap_or((rest, &[]));
            on_data(data);
            rest = after;
            let left = run.saturating_sub(u64::try_from(data.len()).unwrap_or(u64::MAX));
            self.state = match (self.state, left) {
                (State::UntilClose, _) => State::UntilClose,
                (State::Length(_), 0) => State::Done,
                (State::Length(_), _) => State::Length(left),
                (_, 0) => State::DataCr,
                (_, _) => State::Data { left },
            };
        }
        Ok(input.len().saturating_sub(rest.len()))
    }
}

/// Counts a byte of the trailer section.
fn trailer(length: u16) -> Option<u16> {
    length.checked_add(1).filter(|l| *l <= MAX_TRAILERS)
}

impl State {
    /// One byte of chunk framing (RFC 9112 section 7.1). `None` where it breaks the grammar; bare
    /// CR and bare LF do, since two recipients may take them for two things.
    fn next(self, byte: u8, strict: bool) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = u64::from(char::from(byte).to_digit(16)?);
                let value = value.checked_mul(16)?.checked_add(digit);
                let value = value.filter(|value| *value <= MAX_LENGTH)?;
                // Sixteen digits hold every size; more are leading zeros without end.
                Self::Size { value, digits: digits.checked_add(1).filter(|d| *d <= 16)? }
            }
            (Self::Size { digits: 0, .. }, _) => return None,
            (Self::Size { value, .. }, b'\r') => Self::SizeEnd { value },
            (Self::Extension { value, part, .. }, b'\r') if part.may_end() => {
                Self::SizeEnd { value }
            }
            (Self::Size { value, .. }, _) => {
                let part = if strict { Extension::Closed } else { Extension::Padding };
                Self::Extension { value, length: 0, part: part.next(byte)? }
            }
            (Self::Extension { value, length, part }, _) => {
                let length = length.checked_add(1).filter(|l| *l <= MAX_EXTENSION)?;
                Self::Extension { value, length, part: part.next(byte)? }
            }
            (Self::SizeEnd { value: 0 }, b'\n') => Self::TrailerStart { length: 0 },
            (Self::SizeEnd { value }, b'\n') => Self::Data { left: value },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { value: 0, digits: 0 },
            (Self::TrailerStart { .. }, b'\r') => Self::LastLf,
            (Self::Trailer { length }, b'\r') => Self::TrailerLf { length },
            (Self::TrailerName { length, name }, b':') if name.is_allowed() => {
                Self::Trailer { length }
            }
            (Self::TrailerStart { length }, _) if is_tchar(byte) => {
                let name = TrailerName::EMPTY.with(byte);
                Self::TrailerName { length: trailer(length)?, name }
            }
            (Self::TrailerName { length, name }, _) if is_tchar(byte) => {
                Self::TrailerName { length: trailer(length)?, name: name.with(byte) }
            }
            (Self::Trailer { length }, b'\t' | b' '..=b'~' | 0x80..) => {
                Self::Trailer { length: trailer(length)? }
            }
            (Self::TrailerLf { length }, b'\n') => Self::TrailerStart { length },
            (Self::LastLf, b'\n') => Self::Done,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &[u8] =
        b"5;a=b\r\nhello\r\n00a \r\n0123456789\r\n0\r\nTrailer: x\r\nSecond: y\r\n\r\n";

    #[track_caller]
    fn check(framing: BodyFraming, body: &[u8], content: &[u8]) {
        let wire = [body, b"GET / HTTP/1.1"].concat();
        for cut in 0..=wire.len() {
            let mut scanner = BodyScanner::new(framing);
            let mut decoded = Vec::new();
            let first = scanner.decode(&wire[..cut], &mut decoded).unwrap();
            assert_eq!(scanner.is_done(), cut >= body.len(), "cut at {cut}");
            let second = scanner.decode(&wire[first..], &mut decoded).unwrap();
            assert_eq!(first + second, body.len(), "cut at {cut}");
            assert!(scanner.is_done(), "cut at {cut}");
            assert_eq!(decoded, content, "cut at {cut}");
        }
    }

    #[test]
    fn the_end_is_found_from_every_cut() {
        check(BodyFraming::None, b"", b"");
        check(BodyFraming::Length(0), b"", b"");
        check(BodyFraming::Length(5), b"hello", b"hello");
        check(BodyFraming::Chunked, b"0\r\n\r\n", b"");
        check(BodyFraming::Chunked, CHUNKED, b"hello0123456789");
    }

    #[test]
    fn an_early_close_is_told_from_the_end_at_every_cut() {
        for cut in 0..=CHUNKED.len() {
            let mut scanner = BodyScanner::new(BodyFraming::Chunked);
            scanner.scan(&CHUNKED[..cut]).unwrap();
            assert_eq!(scanner.at_close().is_ok(), cut == CHUNKED.len(), "cut at {cut}");
        }
        let mut scanner = BodyScanner::new(BodyFraming::UntilClose);
        assert_eq!(scanner.scan(b"anything"), Ok(8));
        assert!(!scanner.is_done());
        assert_eq!(scanner.at_close(), Ok(()));
    }

    #[test]
    fn chunks_that_two_might_read_in_two_ways_are_refused() {
        for wire in [
            &b"\r\n"[..],
            b"5\nhello",
            b"5\rhello",
            b"0x5\r\nhello",
            b"+5\r\nhello",
            b"-1\r\n",
            b" 5\r\nhello",
            b"5\r\nhello0\r\n",
            b"5\r\nhello\n0\r\n",
            b"ffffffffffffffff0\r\n",
            b"00000000000000005\r\nhello",
            b"5;\0\r\nhello",
            b"0\r\n\n",
            b"0\r\nA: b\nC: d\r\n\r\n",
            b"0\r\nA: \0\r\n\r\n",
            b"0\r\nA: b\r\n folded\r\n\r\n",
            b"0\r\nA : b\r\n\r\n",
            b"0\r\nno colon\r\n\r\n",
            b"0\r\n: b\r\n\r\n",
            b"0\r\nA: b\r\nCONTENT-length: 5\r\n\r\n",
            b"0\r\nTransfer-Encoding:chunked\r\n\r\n",
            b"0\r\nProxy-Authorization: Basic x\r\n\r\n",
            b"8000000000000000\r\n",
            b"5 5\r\nhello",
            b"5\x0b\r\nhello",
            &[b"5;".as_slice(), &[b'x'; 5000]].concat(),
            &[b"0\r\nA: ".as_slice(), &[b'x'; 17_000]].concat(),
        ] {
            let mut scanner = BodyScanner::new(BodyFraming::Chunked);
            assert_eq!(scanner.scan(wire), Err(FramingError::Chunk), "{wire:?}");
        }
    }
}
