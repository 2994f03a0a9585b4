//! A corporate proxy to try ntlmaps against, on one's own desk.
//!
//! `cargo run --example parent [PORT]`
//!
//! It demands NTLM, knows one account, forwards to the real world, and says what each leg of the
//! handshake was.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "speaking to the terminal is its purpose"
)]

use std::env;
use std::io::ErrorKind;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

#[path = "../it/support/mod.rs"]
mod support;

use support::Parent;

fn main() -> ExitCode {
    let Ok(port) = env::args().nth(1).map_or(Ok(8080), |text| text.parse::<u16>()) else {
        eprintln!("usage: cargo run --example parent [PORT]");
        return ExitCode::from(2);
    };
    let parent = Parent::ntlm(&[("CORP", "alice", "Secret-123")])
        .acceptor(|acceptor| acceptor.lenient())
        .patience(Duration::from_secs(60), Duration::from_secs(600))
        .watch(|hop| println!("{hop}"))
        .start_at(&format!("127.0.0.1:{port}"));
    let parent = match parent {
        Ok(parent) => parent,
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            eprintln!("Port {port} is taken. Give another one: cargo run --example parent 8081");
            return ExitCode::FAILURE;
        }
        Err(error) => {
            eprintln!("Cannot listen on port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("A corporate proxy that demands NTLM. Three lines for ntlmaps.cfg:\n");
    println!("PARENT_PROXY: {}\nUSER: CORP\\alice\nPASSWORD: Secret-123\n", parent.addr());
    println!("What happens here, #connection by #connection (Ctrl-C ends it):");
    loop {
        thread::park();
    }
}
