//! The head of a message: start line and field lines (RFC 9112 sections 2 to 5).
//!
//! Order, case and duplicates of field lines are their sender's business: they are kept, and what
//! is written out again is well-formed whatever liberties the sender took with line ends.

use std::borrow::Cow;
use std::fmt;
use std::mem::MaybeUninit;

pub use super::fields::FieldLines;

use super::ends::line_feed;
use super::target::Authority;

/// Longest head that is read, in bytes, the most field lines in it, and the longest method.
pub const MAX_HEAD: usize = 64 * 1024;
const MAX_FIELDS: usize = 256;
/// As many as all but a few requests have: room for more costs more than reading them.
const USUAL_FIELDS: usize = 16;
const MAX_METHOD: usize = 64;
/// Methods and reason phrases that most messages have: nothing has to be kept of them.
const USUAL_METHODS: [&str; 5] = ["GET", "CONNECT", "POST", "HEAD", "OPTIONS"];
const USUAL_REASONS: [&str; 4] = ["OK", "Not Modified", "Found", "Not Found"];

/// HTTP-version (RFC 9112 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

impl Version {
    fn of(minor: Option<u8>) -> Self {
        if minor == Some(0) { Self::Http10 } else { Self::Http11 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        })
    }
}

/// Why bytes are no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// The start line is none of HTTP/1.x.
    StartLine,
    /// It is one of another major version.
    Version,
    /// A method longer than any that is known.
    Method,
    /// A line of a request ends in a bare LF.
    LineEnd,
    /// A field line breaks the grammar.
    Field,
    /// More than [`MAX_HEAD`] bytes, or too many field lines.
    TooLarge,
    /// More than [`MAX_HEAD`] bytes in the start line alone.
    LineTooLong,
}

impl HeadError {
    /// What a head of more than [`MAX_HEAD`] bytes that begins like this is too large in.
    pub fn too_large(bytes: &[u8]) -> Self {
        if bytes.iter().take(MAX_HEAD).any(|b| *b == b'\n') {
            Self::TooLarge
        } else {
            Self::LineTooLong
        }
    }

    /// The status that says so (RFC 9112 section 3, RFC 6585 section 5).
    pub fn status(self) -> u16 {
        match self {
            Self::StartLine | Self::LineEnd | Self::Field => 400,
            Self::LineTooLong => 414,
            Self::TooLarge => 431,
            Self::Method => 501,
            Self::Version => 505,
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartLine => "the first line is malformed",
            Self::Version => "it is not HTTP/1.1",
            Self::Method => "its method is too long",
            Self::LineEnd => "a line does not end in CR and LF",
            Self::Field => "a field line is malformed",
            Self::TooLarge => "the header section is too large",
            Self::LineTooLong => "the first line is too long",
        })
    }
}

impl From<httparse::Error> for HeadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::HeaderName | httparse::Error::HeaderValue => Self::Field,
            httparse::Error::TooManyHeaders => Self::TooLarge,
            _ => Self::StartLine,
        }
    }
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Method, as written: methods are case-sensitive.
    pub method: Cow<'static, str>,
    /// The request-target, as written.
    pub target: String,
    /// HTTP-version.
    pub version: Version,
    /// The header section.
    pub fields: FieldLines,
}

impl RequestHead {
    /// Reads a head that [`find_end`](super::ends::find_end) delimited, to the letter.
    ///
    /// # Errors
    /// [`HeadError`] says which part breaks the grammar.
    pub fn parse(head: &[u8]) -> Result<Self, HeadError> {
        let end = line_feed(head).ok_or(HeadError::StartLine)?;
        let (line, section) = head.split_at_checked(end).ok_or(HeadError::StartLine)?;
        let section = section.get(1..).unwrap_or_default();
        // A bare LF ends a line for some and not for others.
        let line = line.strip_suffix(b"\r").ok_or(HeadError::LineEnd)?;
        let (method, target, version) = request_line(line)?;
        let fields = match section_of::<USUAL_FIELDS>(section) {
            Err(HeadError::TooLarge) => section_of::<MAX_FIELDS>(section)?,
            fields => fields?,
        };
        let ends = section == b"\r\n" || section.ends_with(b"\r\n\r\n");
        if !ends || !fields.end_in_crlf() {
            return Err(HeadError::LineEnd);
        }
        let method = kept(method, &USUAL_METHODS);
        Ok(Self { method, target: target.to_owned(), version, fields })
    }

    /// A CONNECT that originates here; its Host is still to be set.
    pub fn connect(authority: &Authority) -> Self {
        Self {
            method: "CONNECT".into(),
            target: authority.to_string(),
            version: Version::Http11,
            fields: FieldLines::default(),
        }
    }

    /// Appends the head to `out`, always as HTTP/1.1: the version is this hop's own, and NTLM
    /// needs its persistent connections.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for part in [&*self.method, " ", &self.target, " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        self.fields.encode(out);
    }

    /// Whether it asks for nothing but an answer (RFC 9110 section 9.2.1).
    pub fn is_safe(&self) -> bool {
        matches!(&*self.method, "GET" | "HEAD")
    }

    /// Whether asking twice is the same as asking once (RFC 9110 section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        matches!(
            &*self.method,
            "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE" | "CONNECT" | "PROPFIND"
        )
    }
}

/// A header section of up to so many lines, and the blank line behind it.
#[inline(never)] // its room is large, and nobody else's
fn section_of<const LINES: usize>(section: &[u8]) -> Result<FieldLines, HeadError> {
    match httparse::parse_headers(section, &mut [httparse::EMPTY_HEADER; LINES])? {
        httparse::Status::Complete((length, parsed)) if length == section.len() => {
            Ok(FieldLines::of(section, parsed))
        }
        _ => Err(HeadError::Field),
    }
}

/// Method, request-target and version of a request line (RFC 9112 section 3).
fn request_line(line: &[u8]) -> Result<(&str, &str, Version), HeadError> {
    let (method, rest) = word(line, is_tchar)?;
    let (target, version) = word(rest, |byte| byte.is_ascii_graphic())?;
    let version = match version {
        b"HTTP/1.0" => Version::Http10,
        // A later minor version is used like the latest that is known (RFC 9110 section 2.5).
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Version::Http11,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(HeadError::Version);
        }
        _ => return Err(HeadError::StartLine),
    };
    if method.len() > MAX_METHOD { Err(HeadError::Method) } else { Ok((method, target, version)) }
}

fn kept(text: &str, usual: &[&'static str]) -> Cow<'static, str> {
    match usual.iter().find(|usual| **usual == text) {
        Some(usual) => Cow::Borrowed(usual),
        None => Cow::Owned(text.to_owned()),
    }
}

/// What stands before the first space, made of nothing but such bytes, and what stands behind it.
fn word(line: &[u8], belongs: impl Fn(u8) -> bool) -> Result<(&str, &[u8]), HeadError> {
    let end = line.iter().position(|byte| !belongs(*byte)).ok_or(HeadError::StartLine)?;
    match line.split_at_checked(end) {
        Some((word @ [_, ..], [b' ', rest @ ..])) => {
            Ok((std::str::from_utf8(word).map_err(|_| HeadError::StartLine)?, rest))
        }
        _ => Err(HeadError::StartLine),
    }
}

/// tchar of RFC 9110 section 5.6.2.
pub fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// HTTP-version.
    pub version: Version,
    /// Status code.
    pub status: u16,
    /// Reason phrase, possibly empty.
    pub reason: Cow<'static, str>,
    /// The header section.
    pub fields: FieldLines,
}

impl ResponseHead {
    /// Reads a head that [`find_end`](super::ends::find_end) delimited. More lenient than with
    /// requests, as RFC 9112 section 5 asks of proxies: folded lines and blanks before the colon are
    /// mended.
    ///
    /// # Errors
    /// [`HeadError`] says which part breaks the grammar.
    pub fn parse(head: &[u8]) -> Result<Self, HeadError> {
        match response_of::<USUAL_FIELDS>(head) {
            Err(HeadError::TooLarge) => response_of::<MAX_FIELDS>(head),
            parsed => parsed,
        }
    }

    /// The 200 to a CONNECT that opened a tunnel without any proxy's help.
    pub fn established() -> Self {
        Self {
            version: Version::Http11,
            status: 200,
            reason: "Connection established".into(),
            fields: FieldLines::default(),
        }
    }

    /// Appends the head to `out`, as HTTP/1.1.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let digit = |unit| u8::try_from(self.status / unit % 10).unwrap_or(0).saturating_add(b'0');
        let [hundreds, tens, ones] = [100, 10, 1].map(digit);
        let line =
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', hundreds, tens, ones, b' '];
        for part in [&line[..], self.reason.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
        self.fields.encode(out);
    }

    /// 1xx: the final response is still to come (RFC 9110 section 15.2). 101 is final: nothing
    /// but another protocol follows it.
    pub fn is_interim(&self) -> bool {
        matches!(self.status, 100..=199) && self.status != 101
    }
}

/// The head of a response of up to so many field lines.
#[inline(never)] // its room is large, and nobody else's
fn response_of<const LINES: usize>(head: &[u8]) -> Result<ResponseHead, HeadError> {
    let mut room = [const { MaybeUninit::uninit() }; LINES];
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .parse_response_with_uninit_headers(&mut parsed, head, &mut room)?;
    match status {
        httparse::Status::Complete(_) => {}
        httparse::Status::Partial => return Err(HeadError::StartLine),
    }
    let status = parsed.code.unwrap_or_default();
    // What a client makes of any other is anybody's guess (RFC 9110 section 15).
    if !matches!(status, 100..=599) {
        return Err(HeadError::StartLine);
    }
    let mut fields = FieldLines::of(head, parsed.headers);
    fields.unfold();
    Ok(ResponseHead {
        version: Version::of(parsed.version),
        status,
        reason: kept(parsed.reason.unwrap_or_default(), &USUAL_REASONS),
        fields,
    })
}

#[cfg(test)]
mod tests {
    use super::super::names::FieldName;
    use super::*;

    const HEAD: &[u8] =
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\nx-A: 1\r\nX-a:2 \r\nETag: \xe9\r\n\r\n";

    fn parsed() -> RequestHead {
        RequestHead::parse(HEAD).unwrap()
    }

    fn encoded(head: &RequestHead) -> String {
        let mut out = Vec::new();
        head.encode(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn order_case_and_duplicates_are_kept() {
        assert_eq!(
            encoded(&parsed()),
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nx-A: 1\r\nX-a: 2\r\nETag: \u{fffd}\r\n\r\n"
        );
    }

    #[test]
    fn set_keeps_the_first_place_and_is_the_only_one() {
        let mut head = parsed();
        head.fields.set(FieldName::new("X-A"), b"3");
        assert_eq!(head.fields.all(FieldName::new("x-a")).collect::<Vec<_>>(), [b"3"]);
        assert!(encoded(&head).contains("Host: a\r\nx-A: 3\r\nETag"));
        head.fields.remove(FieldName::new("x-a"));
        head.fields.set(FieldName::new("X-A"), b"4");
        assert!(encoded(&head).ends_with("\r\nX-A: 4\r\n\r\n"));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        use HeadError as E;
        let long = format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(MAX_METHOD + 1));
        for (wire, error) in [
            (&b"GET /\r\n\r\n"[..], E::StartLine),
            (b"\r\nGET / HTTP/1.1\r\n\r\n", E::StartLine),
            (b" GET / HTTP/1.1\r\n\r\n", E::StartLine),
            (b"GET  / HTTP/1.1\r\n\r\n", E::StartLine),
            (b"GET / HTTP/1.1 \r\n\r\n", E::StartLine),
            (b"GET\t/ HTTP/1.1\r\n\r\n", E::StartLine),
            (b"GET /\ta HTTP/1.1\r\n\r\n", E::StartLine),
            (b"GET /\x7f HTTP/1.1\r\n\r\n", E::StartLine),
            (b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", E::StartLine),
            (b"G(T / HTTP/1.1\r\n\r\n", E::StartLine),
            (b"GET / http/1.1\r\n\r\n", E::StartLine),
            (b"GET / HTTP/1.10\r\n\r\n", E::StartLine),
            (b"GET / HTTP/1.1\rHost: a\r\n\r\n", E::StartLine),
            (b"GET / HTTP/0.9\r\n\r\n", E::Version),
            (b"GET / HTTP/2.0\r\n\r\n", E::Version),
            (long.as_bytes(), E::Method),
            (b"\n", E::LineEnd),
            (b"GET / HTTP/1.1\n\n", E::LineEnd),
            (b"GET / HTTP/1.1\nA: b\r\n\r\n", E::LineEnd),
            (b"GET / HTTP/1.1\r\nA: b\n\r\n", E::LineEnd),
            (b"GET / HTTP/1.1\r\nA: b\r\n\n", E::LineEnd),
            (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", E::Field),
            (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", E::Field),
            (b"GET / HTTP/1.1\r\n A: b\r\n\r\n", E::Field),
            (b"GET / HTTP/1.1\r\n: b\r\n\r\n", E::Field),
            (b"GET / HTTP/1.1\r\nA\xe9: b\r\n\r\n", E::Field),
            (b"GET / HTTP/1.1\r\nA: \0\r\n\r\n", E::Field),
            (b"GET / HTTP/1.1\r\nA: \x7f\r\n\r\n", E::Field),
            (b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", E::Field),
            (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", E::Field),
            (b"GET / HTTP/1.1\r\nA: b\r\n", E::Field),
            (b"GET / HTTP/1.1\r\n\r\nmore", E::Field),
            (b"GET / HTTP/1.1\r\n\rm", E::StartLine),
        ] {
            let text = String::from_utf8_lossy(wire).into_owned();
            assert_eq!(RequestHead::parse(wire).unwrap_err(), error, "{text:?}");
        }
        let later = RequestHead::parse(b"GET / HTTP/1.2\r\n\r\n").unwrap();
        assert_eq!(later.version, Version::Http11);
    }

    #[test]
    fn so_many_field_lines_are_read_and_no_more() {
        for (count, read) in [(0, true), (16, true), (17, true), (256, true), (257, false)] {
            let lines = "X: y\r\n".repeat(count);
            let request = RequestHead::parse(format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes());
            let response =
                ResponseHead::parse(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_bytes());
            for fields in [request.map(|head| head.fields), response.map(|head| head.fields)] {
                let found = fields.map(|fields| fields.iter().count());
                assert_eq!(found, if read { Ok(count) } else { Err(HeadError::TooLarge) });
            }
        }
    }

    #[test]
    fn folded_and_spaced_lines_of_a_response_are_mended() {
        let head =
            ResponseHead::parse(b"HTTP/1.1 200\r\nA : b\r\n c\r\nServer: x\r\n\r\n").unwrap();
        let mut out = Vec::new();
        head.encode(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 \r\nA: b") && !text.contains("\r\n c"), "{text:?}");
    }

    #[test]
    fn debug_shows_no_values() {
        assert_eq!(format!("{:?}", parsed().fields), r#"["Host", "x-A", "X-a", "ETag"]"#);
    }
}
