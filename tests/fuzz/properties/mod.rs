//! What holds for every input, whoever sends it: a function for each fuzz target, which panics when
//! its property is broken. `cargo fuzz` looks for such an input; `tests/it/fuzz_replay.rs` repeats
//! those in `corpus`.

mod auth;
mod config;
mod http;
mod ntlm;
mod socks;

pub use self::auth::{auth, challenge_list};
pub use self::config::{cntlm, config};
pub use self::http::{body_framing, request_head, request_target, response_head};
pub use self::ntlm::ntlm_challenge;
pub use self::socks::socks;

/// Panics where the input breaks it.
pub type Property = fn(&[u8]);

/// Every property under the name of its target and its corpus.
pub const ALL: [(&str, Property); 10] = [
    ("request_head", request_head),
    ("response_head", response_head),
    ("request_target", request_target),
    ("body_framing", body_framing),
    ("challenge_list", challenge_list),
    ("auth", auth),
    ("ntlm_challenge", ntlm_challenge),
    ("socks", socks),
    ("config", config),
    ("cntlm", cntlm),
];

/// A token (RFC 9110 section 5.6.2).
fn is_token(text: &[u8]) -> bool {
    let tchar = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !text.is_empty() && text.iter().all(tchar)
}

/// No byte that could end a line or a string.
fn is_one_line(value: &[u8]) -> bool {
    !value.iter().any(|byte| b"\r\n\0".contains(byte))
}

/// Places to cut a text: all of a short one, some of a long one.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (0..=length).step_by(length / 128 + 1)
}
