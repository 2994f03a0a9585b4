//! The small print of the chunked coding (RFC 9112 section 7.1): chunk extensions, and the names of
//! trailer fields, byte by byte and without keeping any.

use super::head::is_tchar;

/// Where in the chunk extensions behind a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Behind the size in a response: blanks, as old servers pad it.
    Padding,
    /// Anywhere further on there.
    Any,
    /// At the start of a name, to the letter from here on.
    NameStart,
    /// In a name.
    Name,
    /// At the start of a value.
    ValueStart,
    /// In a value that is a token.
    Value,
    /// In one that is a quoted string.
    Quoted,
    /// Behind a backslash in there.
    Escaped,
    /// Behind the end of that, or behind the size in a request.
    Closed,
}

impl Extension {
    /// One byte further; `None` where that breaks the grammar.
    pub fn next(self, byte: u8) -> Option<Self> {
        let is_text = matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        Some(match (self, byte) {
            (Self::Padding, b' ' | b'\t') => Self::Padding,
            (Self::Padding, b';') => Self::Any,
            (Self::Any, _) if is_text => Self::Any,
            (Self::Name | Self::Value | Self::Closed, b';') => Self::NameStart,
            (Self::Name, b'=') => Self::ValueStart,
            (Self::ValueStart, b'"') => Self::Quoted,
            (Self::NameStart | Self::Name, _) if is_tchar(byte) => Self::Name,
            (Self::ValueStart | Self::Value, _) if is_tchar(byte) => Self::Value,
            (Self::Quoted, b'"') => Self::Closed,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, _) if is_text => Self::Quoted,
            _ => return None,
        })
    }

    /// Whether the line may end here.
    pub fn may_end(self) -> bool {
        matches!(self, Self::Padding | Self::Any | Self::Name | Self::Value | Self::Closed)
    }
}

/// Fields that would make another message of one that was judged by its head: whoever merges a
/// trailer section into the header section finds them there (RFC 9110 section 6.5.1).
const NOT_IN_TRAILERS: [&str; 6] = [
    "content-length",
    "transfer-encoding",
    "host",
    "connection",
    "authorization",
    "proxy-authorization",
];

/// A field name as it goes by: the FNV-1a hash of its lower-cased bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrailerName(u64);

impl TrailerName {
    /// The empty one.
    pub const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    /// One byte more.
    #[must_use]
    pub fn with(self, byte: u8) -> Self {
        let mixed = self.0 ^ u64::from(byte.to_ascii_lowercase());
        Self(mixed.wrapping_mul(0x100_0000_01b3))
    }

    /// Whether such a field may stand behind a body.
    pub fn is_allowed(self) -> bool {
        NOT_IN_TRAILERS.iter().all(|name| name.bytes().fold(Self::EMPTY, Self::with) != self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_of_requests_are_taken_to_the_letter() {
        for (line, in_responses, in_requests) in [
            ("", true, true),
            (";a", true, true),
            (";a;b=c;d=\"e f\\\"\t\u{e9}\";g=h", true, true),
            (" ", true, false),
            ("\t;a", true, false),
            ("; a", true, false),
            (";a =b", true, false),
            (";", true, false),
            (";;a", true, false),
            (";=b", true, false),
            (";a=", true, false),
            (";a=\"", true, false),
            (";a=\"b\"c", true, false),
            (";a=\"\\\"", true, false),
            (" 5", false, false),
            (";a=\"\u{7f}\"", false, false),
            (";a=\"\r\"", false, false),
            (";a=\"\n\"", false, false),
        ] {
            let reads = |start: Extension| {
                line.bytes().try_fold(start, Extension::next).is_some_and(Extension::may_end)
            };
            let got = [Extension::Padding, Extension::Closed].map(reads);
            assert_eq!(got, [in_responses, in_requests], "{line:?}");
        }
    }

    #[test]
    fn what_frames_routes_or_authenticates_is_no_trailer() {
        for (name, allowed) in [
            ("Content-Length", false),
            ("TRANSFER-encoding", false),
            ("Proxy-Authorization", false),
            ("Content-Lengths", true),
            ("X-Checksum", true),
        ] {
            let read = name.bytes().fold(TrailerName::EMPTY, TrailerName::with);
            assert_eq!(read.is_allowed(), allowed, "{name}");
        }
    }
}
