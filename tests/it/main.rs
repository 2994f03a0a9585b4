//! The tests of the whole: the library on real loopback sockets, with a client on one side and a
//! parent and an origin that remember what they saw on the other.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "test code: what goes wrong here fails a test"
)]

mod process;
mod proxy;
mod support;
mod support_acceptor;

mod access;
mod accounts;
mod basic_translation;
mod bodies;
mod bodyless_legs;
mod bypass;
mod challenge_shapes;
mod challenges;
mod cli;
mod client_header;
mod config;
mod connect;
mod deadlines;
mod diagnose;
mod dialects;
mod digest_parent;
mod direct;
mod direct_mode;
mod docs;
mod doors;
mod early_answers;
mod exhaustion;
mod expectations;
mod failover;
mod forwarding;
mod fuzz_replay;
mod guard;
mod import_cntlm;
mod keys;
mod leaving;
mod lockout;
mod log_secrets;
mod logins;
mod logs;
mod loops;
mod origin_auth;
mod own_login;
mod pac;
mod parent_auth;
mod patience;
mod pooling;
mod refusals;
mod reloading;
mod schemes;
mod stopping;
mod strict_requests;
mod strict_responses;
mod terminal;
mod tidy;
mod upgrade;
mod url_log;
mod vectors;
mod waiting;
