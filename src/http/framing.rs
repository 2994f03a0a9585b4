//! Where a message body ends (RFC 9112 sections 6 and 7). Bodies are forwarded as they came: the
//! scanner counts the bytes that belong to one and never keeps them.

use std::fmt;

use super::head::{FieldLines, RequestHead, ResponseHead, Version};

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
    /// Everything until the connection closes; responses only.
    UntilClose,
}

/// Why the end of a body cannot be told for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingError {
    /// Content-Length is no number, or several that differ.
    ContentLength,
    /// Transfer-Encoding does not end in chunked, is repeated, or comes with HTTP/1.0.
    TransferEncoding,
    /// A request with both Transfer-Encoding and Content-Length.
    Both,
    /// A chunk breaks the grammar, or its size or trailer section a limit.
    Chunk,
    /// The connection closed before the end.
    Truncated,
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ContentLength => "its Content-Length is no single number",
            Self::TransferEncoding => "its Transfer-Encoding does not end in a single chunked",
            Self::Both => "it has both Content-Length and Transfer-Encoding",
            Self::Chunk => "its chunked body is malformed",
            Self::Truncated => "it ends before its body is complete",
        })
    }
}

impl BodyFraming {
    /// The framing of a request (RFC 9112 section 6.3, items 3 to 6).
    ///
    /// # Errors
    /// Whatever two recipients could read in two ways.
    pub fn of_request(head: &RequestHead) -> Result<Self, FramingError> {
        let length = content_length(&head.fields)?;
        if !head.fields.contains("transfer-encoding") {
            return Ok(length.map_or(Self::None, Self::Length));
        }
        if head.fields.contains("content-length") {
            return Err(FramingError::Both);
        }
        if head.version == Version::Http10 || !is_chunked(&head.fields) {
            return Err(FramingError::TransferEncoding);
        }
        Ok(Self::Chunked)
    }

    /// The framing of the response to a request with `method` (RFC 9112 section 6.3).
    ///
    /// # Errors
    /// A Content-Length that is no single number.
    pub fn of_response(method: &str, head: &ResponseHead) -> Result<Self, FramingError> {
        let tunnel = method == "CONNECT" && matches!(head.status, 200..=299);
        if method == "HEAD" || tunnel || matches!(head.status, 100..=199 | 204 | 304) {
            return Ok(Self::None);
        }
        if head.fields.contains("transfer-encoding") {
            return Ok(if is_chunked(&head.fields) { Self::Chunked } else { Self::UntilClose });
        }
        Ok(content_length(&head.fields)?.map_or(Self::UntilClose, Self::Length))
    }

    /// Whether nothing follows the head.
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// The one value of all Content-Length lines; repeated equal values count as one
/// (RFC 9110 section 8.6).
fn content_length(fields: &FieldLines) -> Result<Option<u64>, FramingError> {
    let mut found = None;
    for value in fields.all("content-length").flat_map(|line| line.split(|b| *b == b',')) {
        let digits = value.trim_ascii();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(FramingError::ContentLength);
        }
        let text = std::str::from_utf8(digits).map_err(|_| FramingError::ContentLength)?;
        let length: u64 = text.parse().map_err(|_| FramingError::ContentLength)?;
        if found.is_some_and(|earlier| earlier != length) {
            return Err(FramingError::ContentLength);
        }
        found = Some(length);
    }
    Ok(found)
}

/// Whether chunked is the last transfer coding and applied once.
fn is_chunked(fields: &FieldLines) -> bool {
    let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    fields.members("transfer-encoding").last().is_some_and(chunked)
        && fields.members("transfer-encoding").filter(|coding| chunked(coding)).count() == 1
}

/// Follows a body through the buffers it arrives in, cut anywhere.
#[derive(Clone, Debug)]
pub struct BodyScanner(State);

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
    /// Begins at the first byte behind the head.
    pub fn new(framing: BodyFraming) -> Self {
        Self(match framing {
            BodyFraming::None | BodyFraming::Length(0) => State::Done,
            BodyFraming::Length(length) => State::Length(length),
            BodyFraming::UntilClose => State::UntilClose,
            BodyFraming::Chunked => State::Size { value: 0, digits: 0 },
        })
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
        self.0 == State::Done
    }

    /// The peer closed. Was that the end?
    ///
    /// # Errors
    /// [`FramingError::Truncated`] when it was not.
    pub fn at_close(&mut self) -> Result<(), FramingError> {
        match self.0 {
            State::Done | State::UntilClose => {
                self.0 = State::Done;
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
            let run = match self.0 {
                State::Done => break,
                State::UntilClose => u64::MAX,
                State::Length(left) | State::Data { left } => left,
                _ => 0,
            };
            if run == 0 {
                self.0 = self.0.next(byte).ok_or(FramingError::Chunk)?;
                rest = after;
                continue;
            }
            let (data, after) = rest
                .split_at_checked(usize::try_from(run).unwrap_or(usize::MAX))
                .unwrap_or((rest, &[]));
            on_data(data);
            rest = after;
            let left = run.saturating_sub(u64::try_from(data.len()).unwrap_or(u64::MAX));
            self.0 = match (self.0, left) {
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

impl State {
    /// One byte of chunk framing (RFC 9112 section 7.1). `None` where it breaks the grammar; bare
    /// CR and bare LF do, since two recipients may take them for two things.
    fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = u64::from(char::from(byte).to_digit(16)?);
                let value = value.checked_mul(16)?.checked_add(digit)?;
                // Sixteen digits hold every size; more are leading zeros without end.
                Self::Size { value, digits: digits.checked_add(1).filter(|d| *d <= 16)? }
            }
            (Self::Size { digits: 0, .. }, _) => return None,
            (Self::Size { value, .. } | Self::Extension { value, .. }, b'\r') => {
                Self::SizeEnd { value }
            }
            // Old servers pad the size with blanks.
            (Self::Size { value, .. }, b';' | b' ' | b'\t') => Self::Extension { value, length: 0 },
            (Self::Extension { value, length }, b'\t' | b' '..=b'~' | 0x80..) => {
                let length = length.checked_add(1).filter(|l| *l <= MAX_EXTENSION)?;
                Self::Extension { value, length }
            }
            (Self::SizeEnd { value: 0 }, b'\n') => Self::TrailerStart { length: 0 },
            (Self::SizeEnd { value }, b'\n') => Self::Data { left: value },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { value: 0, digits: 0 },
            (Self::TrailerStart { .. }, b'\r') => Self::LastLf,
            (Self::Trailer { length }, b'\r') => Self::TrailerLf { length },
            (
                Self::TrailerStart { length } | Self::Trailer { length },
                b'\t' | b' '..=b'~' | 0x80..,
            ) => {
                let length = length.checked_add(1).filter(|l| *l <= MAX_TRAILERS)?;
                Self::Trailer { length }
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
            &[b"5;".as_slice(), &[b'x'; 5000]].concat(),
            &[b"0\r\nA: ".as_slice(), &[b'x'; 17_000]].concat(),
        ] {
            let mut scanner = BodyScanner::new(BodyFraming::Chunked);
            assert_eq!(scanner.scan(wire), Err(FramingError::Chunk), "{wire:?}");
        }
    }

    #[test]
    fn framing_of_requests() {
        use FramingError as E;
        for (fields, expected) in [
            ("", Ok(BodyFraming::None)),
            ("Content-Length: 5\r\n", Ok(BodyFraming::Length(5))),
            ("Content-Length: 5\r\ncontent-length: 5\r\n", Ok(BodyFraming::Length(5))),
            ("Content-Length: 5, 5\r\n", Ok(BodyFraming::Length(5))),
            ("Transfer-Encoding: Chunked\r\n", Ok(BodyFraming::Chunked)),
            ("Transfer-Encoding: gzip, chunked\r\n", Ok(BodyFraming::Chunked)),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(E::ContentLength)),
            ("Content-Length: 5, 6\r\n", Err(E::ContentLength)),
            ("Content-Length: 5,\r\n", Err(E::ContentLength)),
            ("Content-Length: +5\r\n", Err(E::ContentLength)),
            ("Content-Length: 0x5\r\n", Err(E::ContentLength)),
            ("Content-Length:\r\n", Err(E::ContentLength)),
            ("Content-Length: 18446744073709551616\r\n", Err(E::ContentLength)),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(E::Both)),
            ("Transfer-Encoding: identity\r\n", Err(E::TransferEncoding)),
            ("Transfer-Encoding: chunked, gzip\r\n", Err(E::TransferEncoding)),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(E::TransferEncoding)),
            ("Transfer-Encoding: xchunked\r\n", Err(E::TransferEncoding)),
            ("Transfer-Encoding:\r\n", Err(E::TransferEncoding)),
        ] {
            let head = format!("POST / HTTP/1.1\r\n{fields}\r\n");
            let head = RequestHead::parse(head.as_bytes()).unwrap();
            assert_eq!(BodyFraming::of_request(&head), expected, "{fields:?}");
        }
        let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        let old = RequestHead::parse(old).unwrap();
        assert_eq!(BodyFraming::of_request(&old), Err(E::TransferEncoding));
    }

    #[test]
    fn framing_of_responses() {
        for (method, status, fields, expected) in [
            ("GET", 200, "", Ok(BodyFraming::UntilClose)),
            ("GET", 200, "Content-Length: 0\r\n", Ok(BodyFraming::Length(0))),
            ("GET", 200, "Transfer-Encoding: chunked\r\n", Ok(BodyFraming::Chunked)),
            ("GET", 200, "Transfer-Encoding: gzip\r\n", Ok(BodyFraming::UntilClose)),
            ("GET", 204, "Content-Length: 5\r\n", Ok(BodyFraming::None)),
            ("GET", 304, "Content-Length: 5\r\n", Ok(BodyFraming::None)),
            ("HEAD", 407, "Content-Length: 5\r\n", Ok(BodyFraming::None)),
            ("CONNECT", 200, "Content-Length: 5\r\n", Ok(BodyFraming::None)),
            ("CONNECT", 299, "", Ok(BodyFraming::None)),
            ("CONNECT", 407, "Content-Length: 5\r\n", Ok(BodyFraming::Length(5))),
            ("GET", 200, "Content-Length: x\r\n", Err(FramingError::ContentLength)),
        ] {
            let head = format!("HTTP/1.1 {status} X\r\n{fields}\r\n");
            let head = ResponseHead::parse(head.as_bytes()).unwrap();
            let got = BodyFraming::of_response(method, &head);
            assert_eq!(got, expected, "{method} {status} {fields:?}");
        }
    }
}
