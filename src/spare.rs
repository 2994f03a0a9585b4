//! Buffers that a thread keeps for its next message: it will need as many again, and the allocator
//! does not keep blocks of that size at hand. Knows nothing of what was in them.

use std::cell::Cell;

/// What a buffer has room for at first: all but a few messages, and it costs thousands of clients
/// little.
pub const SIZE: usize = 4 * 1024;
/// The largest buffer that is kept.
pub const MAX_SIZE: usize = 16 * 1024;

thread_local! {
    /// One to read into, and one to write from.
    static SPARE: [Cell<Vec<u8>>; 2] = const { [const { Cell::new(Vec::new()) }; 2] };
}

/// An empty buffer.
pub fn take() -> Vec<u8> {
    let kept = SPARE.with(|[last, other]| {
        let buffer = last.take();
        if buffer.capacity() > 0 { buffer } else { other.take() }
    });
    if kept.capacity() > 0 { kept } else { Vec::with_capacity(SIZE) }
}

/// Keeps a buffer, in place of the one that was given before the last one.
pub fn give(mut buffer: Vec<u8>) {
    if !(SIZE..=MAX_SIZE).contains(&buffer.capacity()) {
        return;
    }
    buffer.clear();
    SPARE.with(|[last, other]| {
        let before = last.replace(buffer);
        if before.capacity() > 0 {
            other.set(before);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_kept_as_are_used_and_no_larger_ones() {
        for size in [SIZE, SIZE * 2, MAX_SIZE * 2, SIZE - 1, SIZE * 3, SIZE * 4] {
            give(vec![b'x'; size]);
        }
        let kept = [0; 4].map(|_| take());
        assert!(kept.iter().all(Vec::is_empty));
        assert_eq!(kept.map(|buffer| buffer.capacity()), [4, 3, 1, 1].map(|times| SIZE * times));
    }
}
