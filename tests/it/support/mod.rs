//! The other ends of every test: a client, a corporate parent, an origin server, and the server
//! side of NTLM.
//!
//! Nothing here uses the library under test: a mistake made on both sides of a conversation would
//! look like agreement. Every socket has a deadline ([`http::DEADLINE`]), every listener takes port
//! 0, every thread ends when its owner is dropped, and nothing sleeps: what has happened is asked
//! of the recorded [`Hop`]s and [`Seen`]s.

#![allow(
    dead_code,
    unused_imports,
    reason = "each user (the tests, the example) takes the part it needs"
)]
#![allow(
    unreachable_pub,
    reason = "`pub` marks what the tests may use; there is no library to export it from"
)]
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "a peer that panics fails its test, which is what it is for"
)]

pub mod acceptor;
pub mod client;
pub mod connection;
pub mod crypto;
pub mod digest_gate;
pub mod doors;
pub mod forward;
pub mod gate;
pub mod hops;
pub mod http;
pub mod listener;
pub mod message;
pub mod origin;
pub mod parent;
#[cfg(test)]
mod quirk_tests;
pub mod quirks;
pub mod replay;
pub mod spnego_gate;
pub mod vectors;
pub mod verify;
pub mod wire;

pub use acceptor::{Acceptor, Challenge};
pub use client::{Client, Response};
pub use hops::{Hop, Leg};
pub use http::{Body, DEADLINE, Fields, Framing, RequestHead, ResponseHead, fnv, pattern};
pub use listener::Listener;
pub use origin::{Origin, Seen, Then};
pub use parent::{Builder, Parent};
pub use quirks::Quirk;
pub use verify::{Dialect, Logon, Why};
pub use wire::Wire;
