//! `ntlmaps` stands between programs that cannot speak NTLM and a proxy, the *parent*, that demands
//! it. This page is the map of the house.
//!
//! # Picture
//!
//! ```text
//! client bytes
//!   │ session: Conn::read_head ──► RequestHead::parse                              (pure)
//!   │ NTLM_TO_BASIC? auth::basic::decode → Credentials, else 407 Basic             (pure)
//!   │ config.route(authority) ──► Parent | Direct                                  (pure)
//!   │ http::forwarding::prepare_request; BodyFraming::of_request                   (pure)
//!   ▼
//! dispatch: the parents in turn, or the origin
//!   ▼
//! exchange(next hop, head, body, credentials)
//!   │ pool.take(key) ── hit: send it
//!   │ or parents.dial ─ miss: Handshake::new
//!   │  ┌► write head (bodyless unless this is the last word); RequestBody streams the body and
//!   │  │  watches the parent for an early answer
//!   │  │  read head; 1xx: relay and read again
//!   │  │  Handshake::on_response ─► Relay → out | Answer → drain, go round | Refused → Failure
//!   │      (guard: credentials that were refused, or are being tried, are not sent)
//!   ▼
//! session: strip hop-by-hop; write head; copy body back, the scanner decides the end; the
//!          connection goes to the pool before the client gets its last byte
//! ```
//!
//! A CONNECT takes the same way; a 2xx turns both connections over to [`tunnel`].
//!
//! # Code map
//!
//! Directories are pure: they take bytes, text and a [`ntlm::Moment`], and return values. They name
//! no socket, file, environment, thread, clock or random source; a test keeps it so. Files directly
//! in `src/` touch the world. Arrows go one way: `config → auth → http, ntlm`.
//!
//! - [`ntlm`]: MS-NLMP, the client's side. *Never* knows HTTP or base64.
//! - [`http`]: RFC 9110 and 9112 on byte slices. *Never* decides policy. A package of its own: most
//!   of what a request costs besides system calls is here, so it alone is compiled for speed.
//! - [`auth`]: what to answer to a 401 or 407. *Never* knows a socket, or whether to try again.
//! - [`config`]: text to values; one table of every key. *Never* opens a file.
//! - [`calendar`]: seconds to dates. *Never* knows what time it is.
//! - [`sys`]: the only file that knows the operating system beyond std.
//! - [`conn`]: a socket, the bytes read ahead of it, deadlines.
//! - [`audience`]: whether a client still waits. *Never* knows what for.
//! - [`dial`], [`parents`], [`pool`]: where connections come from. *Never* know what is said on them.
//! - [`gateway`]: what all exchanges share, and what a reload replaces. *Never* sends anything.
//! - [`current`]: which gateway holds now. *Never* knows what is in it.
//! - [`guard`], [`reputation`]: which credentials may be sent where. *Never* know what they are for.
//! - [`standings`]: logins that hold for a request, left to the next. *Never* outlive a refusal.
//! - [`request_body`]: the body on its way up. *Never* holds more than its beginning.
//! - [`plan`]: who gets a request, and as whom. *Never* sends anything.
//! - [`outgoing`]: a request as it goes on. *Never* knows what has been said so far.
//! - [`dispatch`]: to the parents in turn, or to the origin. *Never* knows a handshake.
//! - [`exchange`]: one request, one next hop; the only place where a handshake meets a connection.
//!   *Never* speaks to the client but to pull its body and pass on interim responses.
//! - [`leg`]: one request of a handshake.
//! - [`asking`]: whether an OPTIONS goes before. *Never* sends it.
//! - [`patience`]: how long an answer may take. *Never* knows what it answers.
//! - [`response`]: responses of a next hop as they come in. *Never* knows why they were asked for.
//! - [`failure`]: trouble into words. *Never* names a secret.
//! - [`hop`]: who gets a request next, as it is spoken of.
//! - [`relay`]: a response to the client. *Never* changes what is in its body.
//! - [`session`]: one client connection. *Never* dials.
//! - [`own_page`]: what is fetched from this program itself. *Never* fetches anything.
//! - [`tunnel`]: bytes after a tunnel is open. *Never* knows HTTP.
//! - [`door`]: the doors beside HTTP, `TUNNELS` and SOCKS5, and the corridor behind them.
//! - [`socks`]: what is said with a SOCKS5 client. *Never* knows a socket.
//! - [`logging`]: which messages are told, and where. *Never* costs a request.
//! - [`dump`]: what crosses the wire, for the log. *Never* shows a credential.
//! - [`lines`]: a file that grows by lines.
//! - [`urllog`]: a line for each request when it is over. *Never* costs one.
//! - [`clients`]: how many there are, and who is idle. *Never* knows what they say.
//! - [`listeners`]: where clients can connect, and which door is behind. *Never* knows a client.
//! - [`server`]: a thread for each listener and each client. *Never* knows what clients say.
//! - [`spare`]: buffers between two messages. *Never* knows what was in them.
//! - [`threads`]: where work is done. *Never* knows what it is.
//! - [`waiting`]: clients without a thread, who have nothing to say. *Never* knows what they say.
//! - [`diagnose`]: the same dance, watched. *Never* costs a second bad logon, unless allowed to.
//!
//! # Threads
//!
//! One for each listener, one for each client that has something to say. A client's thread does
//! everything for it, with blocking calls; a tunnel needs no second one. After a moment of silence
//! it gives the thread back, and one thread waits for all the silent clients and tunnels
//! ([`waiting`]); who is heard again gets another one. A thread that is done serves the next client,
//! if there soon is one ([`threads`]). While a parent is down, a request may start a short one that tries
//! it ([`parents`]). A panic ends one client.
//!
//! # Which HTTP
//!
//! HTTP/1.0 and 1.1 from clients and next hops; onward always HTTP/1.1. Bodies by length, chunked,
//! and (responses) until close, streamed as they come. Interim responses reach HTTP/1.1 clients; a
//! 101 that was asked for becomes a tunnel. Not supported: HTTP/2 and an Upgrade to it, transfer
//! codings but chunked, TLS of our own.
//!
//! A request is taken to the letter. One that two recipients might read in two ways gets a 400,
//! unless another status is named here, and a closed connection:
//!
//! - Request line: up to four blank lines before it, up to 64 KiB (414). Any method of up to 64
//!   characters (501). HTTP/1.2 and later count as 1.1; other major versions are a 505.
//! - Target: a whole URL, of any scheme to a parent and `http` without one (501); `host:port` with
//!   CONNECT. ASCII without blanks; no percent-encoded host, no zone, no port 0. A fragment stays
//!   here, and userinfo of http and https; that of other schemes is for the parent. `OPTIONS *` is
//!   answered here; `/proxy.pac` is the PAC file, any other mere path gets a page that says what this is.
//! - Host: one, which may be missing in HTTP/1.0 only. What goes on follows the target.
//! - Fields: 64 KiB of head and 256 lines (431). Lines end in CR LF and are not folded; no blank
//!   before the colon, no control character; bytes beyond ASCII pass in values. One Authorization
//!   and one Proxy-Authorization.
//! - Content-Length: below 2^63; equal repetitions become one. Transfer-Encoding: `chunked` alone
//!   (501 where another coding precedes it), not with Content-Length or HTTP/1.0. No body with
//!   CONNECT and TRACE.
//! - Chunks: extensions (4 KiB each) and trailers (16 KiB) pass, but no trailer that frames, routes
//!   or authenticates.
//! - Max-Forwards: counted down in OPTIONS and TRACE, which are answered here at 0.
//! - TRACE: not to where a login would go along (405), since all that it carries comes back.
//! - Connection: what it names is removed, unless it is for everybody, like Cookie.
//! - Pipelining: one at a time, in order.
//!
//! A response that two recipients could read in two ways is a 502, or is cut off where it had
//! begun: lengths that differ, chunked in a Transfer-Encoding with anything else, control
//! characters in a head, a status outside 100..599, more than 64 KiB of head or 100 interim
//! responses. Two liberties have one reading and are taken, though their connection serves no other
//! request: chunks beside a Content-Length, which goes, and chunks from HTTP/1.0. Folded and
//! blank-padded field lines are mended. Neither is a connection used again that had more to say
//! than was asked.
//!
//! # Where to start
//!
//! [`session`], then [`exchange`], then [`auth`].

pub mod asking;
pub mod audience;
pub mod auth;
pub mod calendar;
pub mod clients;
pub mod config;
pub mod conn;
pub mod current;
pub mod diagnose;
pub mod dial;
pub mod dispatch;
pub mod door;
pub mod dump;
pub mod exchange;
pub mod failure;
pub mod gateway;
pub mod guard;
pub mod hop;
pub mod leg;
pub mod lines;
pub mod listeners;
pub mod logging;
pub mod ntlm;
pub mod outgoing;
pub mod own_page;
pub mod parents;
pub mod patience;
pub mod plan;
pub mod pool;
pub mod relay;
pub mod reputation;
pub mod request_body;
pub mod response;
pub mod server;
pub mod session;
pub mod socks;
pub mod spare;
pub mod standings;
pub mod sys;
pub mod threads;
pub mod tunnel;
pub mod urllog;
pub mod waiting;

pub use ntlmaps_http as http;
