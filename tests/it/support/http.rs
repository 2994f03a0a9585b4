//! HTTP/1 messages read to the letter of RFC 9110 and 9112: what a test peer would excuse, no test
//! would find.

use std::fmt;
use std::io;
use std::time::Duration;

/// How long any read, write or wait of a test may take.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// The field lines of a message, in order, in their own case.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, value)| (name, value))).finish()
    }
}

impl Fields {
    /// The first of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = |(found, _): &&(String, String)| found.eq_ignore_ascii_case(name);
        self.0.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether the list of all lines of this name has the member.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        let mut items = self.all(name).into_iter().flat_map(|value| value.split(','));
        items.any(|item| item.trim().eq_ignore_ascii_case(token))
    }

    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    pub method: String,
    pub target: String,
    pub version: String,
    pub fields: Fields,
    /// Every byte, the empty line included.
    pub raw: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    pub version: String,
    pub status: u16,
    pub reason: String,
    pub fields: Fields,
    pub raw: Vec<u8>,
}

impl RequestHead {
    pub fn parse(raw: &[u8]) -> io::Result<Self> {
        let (line, fields) = start_line_and_fields(raw)?;
        let parts: Vec<&str> = line.split(' ').collect();
        let [method, target, version] = parts[..] else {
            return malformed(format!("request line {line:?}"));
        };
        let visible = !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_token(method) || !visible || !is_version(version) {
            return malformed(format!("request line {line:?}"));
        }
        let hosts = fields.all("Host").len();
        if hosts > 1 || hosts == 0 && version == "HTTP/1.1" {
            return malformed(format!("{hosts} Host fields"));
        }
        let head = Self {
            method: method.into(),
            target: target.into(),
            version: version.into(),
            fields,
            raw: raw.into(),
        };
        head.framing().map(|_| head)
    }

    pub fn framing(&self) -> io::Result<Framing> {
        Ok(framing(&self.fields, &self.version)?.unwrap_or(Framing::None))
    }

    /// Whether the sender wants the connection to go on; proxies of the time also heed
    /// Proxy-Connection.
    pub fn persists(&self) -> bool {
        persists(&self.fields, &self.version)
    }

    pub fn expects_continue(&self) -> bool {
        self.version == "HTTP/1.1" && self.fields.lists("Expect", "100-continue")
    }
}

impl ResponseHead {
    pub fn parse(raw: &[u8]) -> io::Result<Self> {
        let (line, fields) = start_line_and_fields(raw)?;
        let mut parts = line.splitn(3, ' ');
        let (Some(version), Some(code), Some(reason)) = (parts.next(), parts.next(), parts.next())
        else {
            return malformed(format!("status line {line:?}"));
        };
        let digits = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
        let status = code.parse().ok().filter(|status| digits && (100..600).contains(status));
        let (true, Some(status)) = (is_version(version), status) else {
            return malformed(format!("status line {line:?}"));
        };
        Ok(Self { version: version.into(), status, reason: reason.into(), fields, raw: raw.into() })
    }

    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// The rules in the order of RFC 9112 section 6.3.
    pub fn framing(&self, method: &str) -> io::Result<Framing> {
        let tunnel = method == "CONNECT" && (200..300).contains(&self.status);
        if method == "HEAD" || tunnel || self.status < 200 || matches!(self.status, 204 | 304) {
            return Ok(Framing::None);
        }
        Ok(framing(&self.fields, &self.version)?.unwrap_or(Framing::UntilClose))
    }

    pub fn persists(&self) -> bool {
        persists(&self.fields, &self.version)
    }
}

fn persists(fields: &Fields, version: &str) -> bool {
    let says = |token| fields.lists("Connection", token) || fields.lists("Proxy-Connection", token);
    !says("close") && (version == "HTTP/1.1" || says("keep-alive"))
}

fn framing(fields: &Fields, version: &str) -> io::Result<Option<Framing>> {
    let (lengths, codings) = (fields.all("Content-Length"), fields.all("Transfer-Encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(None),
        ([length], [])
            if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            length.parse().map(|length| Some(Framing::Length(length))).or_else(malformed)
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") && version == "HTTP/1.1" => {
            Ok(Some(Framing::Chunked))
        }
        _ => malformed(format!(
            "framing: Content-Length {lengths:?}, Transfer-Encoding {codings:?}, {version}"
        )),
    }
}

fn start_line_and_fields(raw: &[u8]) -> io::Result<(String, Fields)> {
    let Some(lines) = raw.strip_suffix(b"\r\n\r\n") else {
        return malformed("no empty line at the end");
    };
    if let Some(byte) = lines.iter().enumerate().find_map(|(i, byte)| forbidden(lines, i, *byte)) {
        return malformed(format!("byte {byte:#04x} in {:?}", String::from_utf8_lossy(lines)));
    }
    let text = String::from_utf8_lossy(lines);
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    let mut fields = Vec::new();
    for line in lines {
        match line.split_once(':') {
            Some((name, value)) if is_token(name) => {
                fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
            }
            _ => return malformed(format!("field line {line:?}")),
        }
    }
    Ok((start, Fields(fields)))
}

/// A control byte, except tab and the two of a line end where they stand together.
fn forbidden(text: &[u8], at: usize, byte: u8) -> Option<u8> {
    let fine = match byte {
        b'\r' => text.get(at + 1) == Some(&b'\n'),
        b'\n' => at > 0 && text[at - 1] == b'\r',
        b'\t' => true,
        other => !other.is_ascii_control(),
    };
    (!fine).then_some(byte)
}

fn is_version(text: &str) -> bool {
    text == "HTTP/1.1" || text == "HTTP/1.0"
}

pub fn is_token(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fine)
}

/// An error that is the peer's fault, not the network's.
pub fn malformed<T>(what: impl fmt::Display) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("malformed: {what}")))
}

/// A body as it was read: always counted and hashed, kept only up to what the reader asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Body {
    pub length: u64,
    pub hash: u64,
    /// The beginning of the body; all of it if `bytes.len() == length`.
    pub bytes: Vec<u8>,
    pub trailers: Fields,
    /// Its end was seen, by the framing it announced.
    pub complete: bool,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.complete { "" } else { ", cut off" };
        write!(f, "Body({} bytes, hash {:016x}{end})", self.length, self.hash)
    }
}

impl Default for Body {
    fn default() -> Self {
        Self {
            length: 0,
            hash: FNV_START,
            bytes: Vec::new(),
            trailers: Fields::default(),
            complete: false,
        }
    }
}

impl Body {
    pub fn add(&mut self, piece: &[u8], keep: usize) {
        self.length += piece.len() as u64;
        self.hash = fnv_more(self.hash, piece);
        let room = keep.saturating_sub(self.bytes.len()).min(piece.len());
        self.bytes.extend_from_slice(&piece[..room]);
    }

    /// The text, for bodies small enough to have been kept.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A whole response with a Content-Length, for peers that have it all at hand.
pub fn response(status: u16, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut out = response_head(status, fields);
    out.truncate(out.len() - 2);
    out.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
    out.extend(body);
    out
}

pub fn response_head(status: u16, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    fields.iter().for_each(|(name, value)| out.extend([name, ": ", value, "\r\n"]));
    out += "\r\n";
    out.into()
}

pub fn chunk(piece: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
}

pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        103 => "Early Hints",
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        407 => "Proxy Authentication Required",
        413 => "Content Too Large",
        502 => "Bad Gateway",
        _ => "As Asked",
    }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv_more(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// 64-bit FNV-1a: enough to tell a damaged body from a whole one.
pub fn fnv(bytes: &[u8]) -> u64 {
    fnv_more(FNV_START, bytes)
}

/// Bytes that differ with their position over any likely buffer size, the same in every run.
pub fn pattern(length: usize) -> Vec<u8> {
    pattern_from(0, length)
}

pub fn pattern_from(start: usize, length: usize) -> Vec<u8> {
    (start..start + length).map(|i| (i ^ (i / 251) ^ (i / 65_521)) as u8).collect()
}
