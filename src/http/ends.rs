//! Where a head ends: found before it is read, and without keeping anything, however it arrives.

/// Where the head at the beginning of `bytes` ends: the count of its bytes, blank line included.
/// `seen` bytes were already searched in vain. What cannot even begin a head (TLS, SOCKS) ends at
/// once, to be refused.
pub fn find_end(bytes: &[u8], seen: usize) -> Option<usize> {
    if bytes.first().is_some_and(|b| b.is_ascii_control() && *b != b'\r') {
        return Some(1);
    }
    // The end may straddle what was seen: look again from three bytes before.
    let mut at = seen.saturating_sub(3);
    loop {
        at = at.checked_add(line_feed(bytes.get(at..)?)?)?.checked_add(1)?;
        match bytes.get(at..)? {
            [b'\n', ..] => return at.checked_add(1),
            // Whatever it is: no line begins with a CR but the last one.
            [b'\r', _, ..] => return at.checked_add(2),
            _ => {}
        }
    }
}

/// Where the first LF is. Looks at eight bytes at a time: every byte of every head passes here.
#[inline]
pub(super) fn line_feed(bytes: &[u8]) -> Option<usize> {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    const LINE_FEEDS: u64 = u64::from_le_bytes([b'\n'; 8]);
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let zero_where_found = u64::from_le_bytes(*word) ^ LINE_FEEDS;
        // Of a byte that is zero, the highest bit; and perhaps of bytes behind the first such.
        let found = zero_where_found.wrapping_sub(EACH) & !zero_where_found & (EACH << 7);
        if found != 0 {
            let byte = usize::try_from(found.trailing_zeros() / 8).ok()?;
            return at.checked_mul(8)?.checked_add(byte);
        }
    }
    let seen = bytes.len().checked_sub(rest.len())?;
    rest.iter().position(|b| *b == b'\n')?.checked_add(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_from_every_cut() {
        for (wire, expected) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], 27),
            (b"GET / HTTP/1.1\nHost: a\n\nrest", 24),
            (b"GET / HTTP/1.1\r\n\r\n\r\n", 18),
            (b"GET / HTTP/1.1\n\r\n", 17),
            (b"GET / HTTP/1.1\r\n\rA: b", 18),
            (b"\x16\x03\x01", 1),
            (b"\nGET", 1),
        ] {
            for cut in 0..=wire.len() {
                let early = find_end(&wire[..cut], 0);
                assert_eq!(early, (cut >= expected).then_some(expected), "cut at {cut}");
                if early.is_none() {
                    assert_eq!(find_end(wire, cut), Some(expected), "seen {cut}");
                }
            }
        }
    }

    #[test]
    fn a_line_feed_is_found_wherever_it_stands_and_nothing_else_is() {
        for byte in [b'\0', b'\x09', b'\x0b', b'a', b'\x80', b'\x8a', b'\xff'] {
            for length in 0..20 {
                let mut bytes = vec![byte; length];
                assert_eq!(line_feed(&bytes), None);
                for at in (0..length).rev() {
                    bytes[at] = b'\n';
                    assert_eq!(line_feed(&bytes), Some(at), "{byte} {length}");
                }
            }
        }
    }
}
