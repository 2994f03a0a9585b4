//! The only test binary: real sockets on loopback, real threads, port 0.

mod config;
mod support;
mod support_acceptor;
