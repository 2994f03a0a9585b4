//! Field names (RFC 9110 section 5.1). Those that mean something here have a number each: most of
//! what is looked for in a head is not there, and a bit tells so; what is there is found by its
//! number.

/// A field name: one that means something here, or any other. Compares without case.
#[derive(Clone, Copy, Debug)]
pub struct FieldName<'a> {
    text: &'a str,
    number: u8,
}

/// The number of all names that mean nothing here.
const OTHER: u8 = 0;

macro_rules! known {
    ($($name:ident $text:literal)*) => {
        const KNOWN: &[&str] = &[$($text),*];
        $(
            #[doc = $text]
            pub const $name: FieldName<'static> = FieldName::known($text);
        )*
    };
}

known! {
    AUTHENTICATION_INFO "Authentication-Info"
    AUTHORIZATION "Authorization"
    CACHE_CONTROL "Cache-Control"
    CONNECTION "Connection"
    CONTENT_LENGTH "Content-Length"
    CONTENT_TYPE "Content-Type"
    COOKIE "Cookie"
    EXPECT "Expect"
    HOST "Host"
    HTTP2_SETTINGS "HTTP2-Settings"
    KEEP_ALIVE "Keep-Alive"
    LOCATION "Location"
    MAX_FORWARDS "Max-Forwards"
    PROXY_AUTHENTICATE "Proxy-Authenticate"
    PROXY_AUTHENTICATION_INFO "Proxy-Authentication-Info"
    PROXY_AUTHORIZATION "Proxy-Authorization"
    PROXY_CONNECTION "Proxy-Connection"
    RANGE "Range"
    SET_COOKIE "Set-Cookie"
    TE "TE"
    TRAILER "Trailer"
    TRANSFER_ENCODING "Transfer-Encoding"
    UPGRADE "Upgrade"
    VIA "Via"
    WWW_AUTHENTICATE "WWW-Authenticate"
}

/// The place of a name in [`SLOTS`]. No two that mean something here share one.
const fn slot(name: &[u8]) -> u8 {
    let (Some(first), Some(last)) = (name.first(), name.last()) else { return 0 };
    let (first, last) = (first.to_ascii_lowercase(), last.to_ascii_lowercase());
    let [length, ..] = name.len().to_le_bytes();
    first.wrapping_mul(3).wrapping_add(last.wrapping_mul(5)).wrapping_add(length) % 128
}

/// The only number that a name of each slot may have.
#[expect(
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "the compiler computes it, and a mistake in it is an error"
)]
static SLOTS: [u8; 128] = {
    let mut slots = [OTHER; 128];
    let mut at = 0;
    while at < KNOWN.len() {
        let slot = slot(KNOWN[at].as_bytes()) as usize;
        assert!(slots[slot] == OTHER, "two names share a slot");
        at += 1;
        slots[slot] = at as u8;
    }
    assert!(at < 64, "a set of names has 64 bits");
    slots
};

impl<'a> FieldName<'a> {
    #[expect(
        clippy::indexing_slicing,
        clippy::as_conversions,
        reason = "the compiler computes it, and a mistake in it is an error"
    )]
    const fn known(text: &'static str) -> Self {
        Self { text, number: SLOTS[slot(text.as_bytes()) as usize] }
    }

    /// The name that is written like this, in whatever case.
    pub fn new(text: &'a str) -> Self {
        let slot = usize::from(slot(text.as_bytes()));
        let number = SLOTS.get(slot).copied().unwrap_or(OTHER);
        let known = number.checked_sub(1).and_then(|at| KNOWN.get(usize::from(at)));
        // Mostly it is written as it is here.
        let is_known =
            known.is_some_and(|known| *known == text || known.eq_ignore_ascii_case(text));
        Self { text, number: if is_known { number } else { OTHER } }
    }

    /// As it is written.
    pub fn as_str(self) -> &'a str {
        self.text
    }

    /// What a field line remembers of its name.
    pub(super) fn number(self) -> u8 {
        self.number
    }

    /// Whether it is the name of a line that remembers `number` and has the name `text`.
    pub(super) fn is(self, number: u8, text: &[u8]) -> bool {
        self.number == number
            && (number != OTHER || text.eq_ignore_ascii_case(self.text.as_bytes()))
    }
}

/// A set of names. Those that mean nothing here are in it all together, or not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names(u64);

impl Names {
    /// These names.
    pub const fn of(mut names: &[FieldName<'_>]) -> Self {
        let mut set = Self(0);
        while let [first, rest @ ..] = names {
            set.0 |= 1 << first.number;
            names = rest;
        }
        set
    }

    /// Adds the names of that number.
    pub(super) fn insert(&mut self, number: u8) {
        self.0 |= 1 << number;
    }

    /// Whether it has that name.
    pub(super) fn has(self, name: FieldName<'_>) -> bool {
        self.contains(name.number)
    }

    /// Whether it has the names of that number.
    pub(super) fn contains(self, number: u8) -> bool {
        self.0 >> number & 1 == 1
    }

    /// Whether there is a name in both.
    pub(super) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What is in this one alone.
    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case_and_no_others_are() {
        for (at, text) in KNOWN.iter().enumerate() {
            for text in [text.to_lowercase(), text.to_uppercase()] {
                assert_eq!(usize::from(FieldName::new(&text).number), at + 1, "{text}");
            }
            // In the same slot, by length and ends.
            let middle = text.len() - 1;
            let other =
                [&text.as_bytes()[..1], &vec![b'#'; middle][1..], &text.as_bytes()[middle..]];
            let other = String::from_utf8(other.concat()).unwrap();
            let number = if other == *text { at + 1 } else { 0 };
            assert_eq!(usize::from(FieldName::new(&other).number), number, "{other}");
        }
        assert_eq!(FieldName::new("").number, OTHER);
        assert_eq!(HOST.number, FieldName::new("host").number);
    }

    #[test]
    fn names_that_mean_nothing_here_differ_by_their_text() {
        let name = FieldName::new("X-One");
        assert!(name.is(OTHER, b"x-one") && !name.is(OTHER, b"x-two"));
        assert!(!HOST.is(OTHER, b"host") && HOST.is(HOST.number, b"HOST"));
    }
}
