//! How a message body is delimited (RFC 9112 section 6).

use std::fmt;

use super::head::{FieldLines, RequestHead, ResponseHead, Version};
use super::names;

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
    /// A request in a transfer coding beside chunked.
    Coding,
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
            Self::Coding => "chunked is the only transfer coding known here",
            Self::Both => "it has both Content-Length and Transfer-Encoding",
            Self::Chunk => "its chunked body is malformed",
            Self::Truncated => "it ends before its body is complete",
        })
    }
}

impl FramingError {
    /// The status that tells a client so (RFC 9112 sections 6.1 and 6.3).
    pub fn status(self) -> u16 {
        if self == Self::Coding { 501 } else { 400 }
    }
}

impl BodyFraming {
    /// The framing of a request (RFC 9112 section 6.3, items 3 to 6).
    ///
    /// # Errors
    /// Whatever two recipients could read in two ways.
    pub fn of_request(head: &RequestHead) -> Result<Self, FramingError> {
        let length = content_length(&head.fields)?;
        if !head.fields.contains(names::TRANSFER_ENCODING) {
            return Ok(length.map_or(Self::None, Self::Length));
        }
        if head.fields.contains(names::CONTENT_LENGTH) {
            return Err(FramingError::Both);
        }
        if head.version == Version::Http10 || !is_chunked(&head.fields) {
            return Err(FramingError::TransferEncoding);
        }
        let mut lines = head.fields.all(names::TRANSFER_ENCODING);
        let alone = lines.next().is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"));
        if alone && lines.next().is_none() { Ok(Self::Chunked) } else { Err(FramingError::Coding) }
    }

    /// The framing of the response to a request with `method` (RFC 9112 section 6.3).
    ///
    /// # Errors
    /// A Content-Length that is no single number; a Transfer-Encoding in which some would see
    /// chunked and some would not.
    pub fn of_response(method: &str, head: &ResponseHead) -> Result<Self, FramingError> {
        let tunnel = method == "CONNECT" && matches!(head.status, 200..=299);
        if tunnel || matches!(head.status, 100..=199 | 204) {
            return Ok(Self::None);
        }
        let mut codings = head.fields.all(names::TRANSFER_ENCODING);
        let framing = match (codings.next().map(<[u8]>::to_ascii_lowercase), codings.next()) {
            (None, _) => content_length(&head.fields)?.map_or(Self::UntilClose, Self::Length),
            (Some(coding), None) if coding == b"chunked" => Self::Chunked,
            // Nobody asked for another coding, but without chunks there is only one reading.
            (Some(coding), None)
                if !coding.is_empty() && !coding.windows(7).any(|word| word == b"chunked") =>
            {
                Self::UntilClose
            }
            _ => return Err(FramingError::TransferEncoding),
        };
        let bodyless = method == "HEAD" || head.status == 304;
        Ok(if bodyless { Self::None } else { framing })
    }

    /// Whether nothing follows the head.
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// The longest body or chunk: some keep lengths in signed numbers, and see another end of a longer.
pub(super) const MAX_LENGTH: u64 = u64::MAX >> 1;

/// The one value of all Content-Length lines; repeated equal values count as one
/// (RFC 9110 section 8.6).
///
/// # Errors
/// [`FramingError::ContentLength`].
pub fn content_length(fields: &FieldLines) -> Result<Option<u64>, FramingError> {
    let mut found = None;
    for line in fields.all(names::CONTENT_LENGTH) {
        for value in line.split(|byte| *byte == b',') {
            let length = number(value.trim_ascii()).filter(|length| *length <= MAX_LENGTH);
            if length.is_none() || found.is_some() && found != length {
                return Err(FramingError::ContentLength);
            }
            found = length;
        }
    }
    Ok(found)
}

/// 1*DIGIT, without a sign.
fn number(digits: &[u8]) -> Option<u64> {
    let add = |number: u64, digit: &u8| match digit.wrapping_sub(b'0') {
        digit @ 0..=9 => number.checked_mul(10)?.checked_add(digit.into()),
        _ => None,
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

/// Whether chunked is the last transfer coding and applied once.
fn is_chunked(fields: &FieldLines) -> bool {
    let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    fields.members(names::TRANSFER_ENCODING).last().is_some_and(chunked)
        && fields.members(names::TRANSFER_ENCODING).filter(|coding| chunked(coding)).count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_of_requests() {
        use FramingError as E;
        for (fields, expected) in [
            ("", Ok(BodyFraming::None)),
            ("Content-Length: 5\r\n", Ok(BodyFraming::Length(5))),
            ("Content-Length: 5\r\ncontent-length: 5\r\n", Ok(BodyFraming::Length(5))),
            ("Content-Length: 5, 5\r\n", Ok(BodyFraming::Length(5))),
            ("Transfer-Encoding: Chunked\r\n", Ok(BodyFraming::Chunked)),
            ("Content-Length: 9223372036854775807\r\n", Ok(BodyFraming::Length(MAX_LENGTH))),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(E::ContentLength)),
            ("Content-Length: 5, 6\r\n", Err(E::ContentLength)),
            ("Content-Length: 5,\r\n", Err(E::ContentLength)),
            ("Content-Length: +5\r\n", Err(E::ContentLength)),
            ("Content-Length: 0x5\r\n", Err(E::ContentLength)),
            ("Content-Length:\r\n", Err(E::ContentLength)),
            ("Content-Length: 9223372036854775808\r\n", Err(E::ContentLength)),
            ("Content-Length: 18446744073709551616\r\n", Err(E::ContentLength)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(E::Coding)),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Err(E::Coding)),
            ("Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n", Err(E::Coding)),
            ("Transfer-Encoding: , chunked\r\n", Err(E::Coding)),
            ("Transfer-Encoding: \"chunked\"\r\n", Err(E::TransferEncoding)),
            ("Transfer-Encoding: chunked;q=1\r\n", Err(E::TransferEncoding)),
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
