//! A parent that demands NTLM and answers everything itself, saying in each body for whom and for
//! which URL it is. It dies and comes back at the same address.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::gate::{Gate, Rules, Verdict};
use crate::support::http::{chunk, response, response_head};
use crate::support::listener::lock;
use crate::support::{Acceptor, Framing, Leg, Listener, RequestHead, Wire};

pub const USERS: [&str; 4] = ["ann", "bob", "eve", "joe"];
pub const PASSWORD: &str = "Secret-123";
/// Longer than any other limit here: connections that rest are the proxy's business.
const PATIENCE: Duration = Duration::from_secs(300);
/// What is written at once.
const PIECE: usize = 40_007;

/// The content that this user gets for this URL: who and what, then bytes that are theirs alone.
pub fn content(user: &str, url: &str, length: usize) -> Vec<u8> {
    let mut out = format!("{user} {url}\n").into_bytes();
    let mut state = out.iter().fold(length as u64 | 1, |state, byte| {
        (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // A block of noise over and over, its number in between: what is lost or swapped shows.
    let noise: Vec<u8> = (0..499)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    let end = out.len() + length;
    for number in 0_u64.. {
        if out.len() >= end {
            break;
        }
        out.extend(number.to_le_bytes());
        out.extend(&noise);
    }
    out.truncate(end);
    out
}

/// When it was away: from before it dies until after it is back.
#[derive(Default)]
pub struct Outages(Mutex<Vec<(Instant, Option<Instant>)>>);

impl Outages {
    /// Whether something between `begin` and now may have been hit.
    pub fn touch(&self, begin: Instant) -> bool {
        lock(&self.0).iter().rev().any(|(_, end)| end.is_none_or(|end| end >= begin))
    }

    pub fn count(&self) -> usize {
        lock(&self.0).len()
    }
}

#[derive(Default)]
pub struct Counts {
    pub logins: AtomicUsize,
    pub refusals: AtomicUsize,
}

pub struct Parent {
    listener: Listener,
    rules: Arc<Rules>,
    pub outages: Arc<Outages>,
    pub counts: Arc<Counts>,
}

impl Parent {
    pub fn start() -> io::Result<Self> {
        let accounts = USERS.map(|user| ("CORP", user, PASSWORD));
        let rules = Arc::new(Rules::new(Acceptor::new(&accounts)));
        let counts = Arc::new(Counts::default());
        let listener = listen("127.0.0.1:0", &rules, &counts)?;
        Ok(Self { listener, rules, outages: Arc::default(), counts })
    }

    pub fn addr(&self) -> SocketAddr {
        self.listener.addr()
    }

    /// Cuts every connection, refuses new ones for a while, and is back.
    pub fn restart(&mut self, away: Duration) -> io::Result<()> {
        lock(&self.outages.0).push((Instant::now(), None));
        let at = self.addr().to_string();
        self.listener.stop();
        thread::park_timeout(away);
        self.listener = listen(&at, &self.rules, &self.counts)?;
        if let Some(last) = lock(&self.outages.0).last_mut() {
            last.1 = Some(Instant::now());
        }
        Ok(())
    }
}

fn listen(at: &str, rules: &Arc<Rules>, counts: &Arc<Counts>) -> io::Result<Listener> {
    let (rules, counts) = (Arc::clone(rules), Arc::clone(counts));
    Listener::start(at, move |_, stream, _| {
        // A connection that breaks is judged by the client's side.
        drop(Wire::new(stream).and_then(|wire| serve(wire, &rules, &counts)));
    })
}

fn serve(mut wire: Wire, rules: &Rules, counts: &Counts) -> io::Result<()> {
    wire.deadline(PATIENCE)?;
    let mut gate = Gate::new(rules);
    let mut user = String::new();
    while let Some(head) = wire.read_request()? {
        match gate.judge(&head) {
            Verdict::Refuse(leg, lines) => {
                if let Leg::Authenticate(Err(why)) = leg {
                    eprintln!("soak: the parent refused a login: {why:?}");
                    counts.refusals.fetch_add(1, Ordering::SeqCst);
                }
                wire.read_body(head.framing()?, 0)?;
                let lines: Vec<_> =
                    lines.iter().map(|line| ("Proxy-Authenticate", line.as_str())).collect();
                wire.write(&response(407, &lines, b""))?;
                continue;
            }
            Verdict::Pass(Leg::Authenticate(Ok(logon))) => {
                counts.logins.fetch_add(1, Ordering::SeqCst);
                user = logon.user;
            }
            Verdict::Pass(_) => {}
        }
        if head.method == "CONNECT" {
            wire.write(&response_head(200, &[]))?;
            wire.write(format!("{user} {}\n", head.target).as_bytes())?;
            return echo(wire);
        }
        if !answer(&mut wire, &head, &user)? {
            return wire.finish();
        }
    }
    Ok(())
}

fn echo(mut wire: Wire) -> io::Result<()> {
    loop {
        let bytes = wire.take_ahead();
        wire.write(&bytes)?;
        if wire.fill()? == 0 {
            return wire.finish();
        }
    }
}

/// `/KIND/LENGTH/...`; whether the connection goes on.
fn answer(wire: &mut Wire, head: &RequestHead, user: &str) -> io::Result<bool> {
    let mut path = head.target.splitn(6, '/').skip(3);
    let (kind, length) = (path.next().unwrap_or_default(), path.next().unwrap_or_default());
    let mut out = content(user, &head.target, length.parse().unwrap_or(0));
    out.extend(wire.read_body(head.framing()?, usize::MAX)?.bytes);
    let length = out.len().to_string();
    let (framing, field) = match kind {
        "chunked" => (Framing::Chunked, ("Transfer-Encoding", "chunked")),
        "until-close" => (Framing::UntilClose, ("Connection", "close")),
        _ => (Framing::Length(0), ("Content-Length", length.as_str())),
    };
    wire.write(&response_head(200, &[field]))?;
    if head.method == "HEAD" {
        return Ok(framing != Framing::UntilClose);
    }
    for piece in out.chunks(PIECE) {
        match framing {
            Framing::Chunked => wire.write(&chunk(piece))?,
            _ => wire.write(piece)?,
        }
    }
    if framing == Framing::Chunked {
        wire.write(b"0\r\n\r\n")?;
    }
    Ok(framing != Framing::UntilClose)
}
