//! An origin server that answers by path and remembers every request, byte for byte.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};

use super::gate::{Gate, Rules, Verdict};
use super::http::{Body, Framing};
use super::http::{DEADLINE, Fields, RequestHead, chunk, pattern_from, response, response_head};
use super::listener::{Listener, lock};
use super::wire::{KEEP, Wire};

const PIECE: usize = 64 * 1024;

/// A request as the origin saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which connection it came on, from 1.
    pub connection: usize,
    pub head: RequestHead,
    pub body: Body,
}

impl Seen {
    pub fn method(&self) -> &str {
        &self.head.method
    }

    pub fn fields(&self) -> &Fields {
        &self.head.fields
    }

    /// The target without scheme, authority and query.
    pub fn path(&self) -> &str {
        let target = &self.head.target;
        let from = target
            .find("://")
            .and_then(|at| Some(at + 3 + target[at + 3..].find('/')?))
            .unwrap_or(0);
        target[from..].split('?').next().unwrap_or_default()
    }
}

/// What becomes of the connection after a scripted answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Next,
    Close,
}

pub struct Origin {
    listener: Listener,
    record: Arc<Record>,
}

#[derive(Default)]
struct Record {
    seen: Mutex<Vec<Seen>>,
    faults: Mutex<Vec<String>>,
    changed: Condvar,
}

impl Origin {
    /// `/hello`, `/bytes/N`, `/chunked/N`, `/untilclose/N`, `/status/CODE`, `/echo`, `/hash`,
    /// `/headers`, `/continue` (100 unasked), `/hints` (103 first), `/trailers`; anything else is
    /// 404.
    pub fn start() -> Self {
        Self::with(|seen, wire| answer(seen, wire).unwrap_or(Then::Close))
    }

    /// Answers by hand. Body and `Expect` have been dealt with when the closure is called; it may
    /// assert.
    pub fn with<F>(answer: F) -> Self
    where
        F: Fn(&Seen, &mut Wire) -> Then + Send + Sync + 'static,
    {
        Self::launch(None, answer)
    }

    /// Like `start`, behind NTLM by 401.
    pub fn guarded(rules: Rules) -> Self {
        Self::launch(Some(rules), |seen, wire| answer(seen, wire).unwrap_or(Then::Close))
    }

    /// The bare connection and its number: nothing is read, nothing recorded.
    pub fn raw<F>(serve: F) -> Self
    where
        F: Fn(usize, Wire) + Send + Sync + 'static,
    {
        let start = Listener::start("127.0.0.1:0", move |number, stream, _| {
            if let Ok(wire) = Wire::new(stream) {
                serve(number, wire);
            }
        });
        Self { listener: start.expect("a loopback port"), record: Arc::default() }
    }

    /// Sends back every byte, and the end of the stream: what stands behind a tunnel.
    pub fn tcp_echo() -> Self {
        Self::raw(|_, mut wire| {
            while matches!(wire.fill(), Ok(count) if count > 0) {
                let bytes = wire.take_ahead();
                if wire.write(&bytes).is_err() {
                    return;
                }
            }
            _ = wire.finish();
        })
    }

    fn launch<F>(rules: Option<Rules>, answer: F) -> Self
    where
        F: Fn(&Seen, &mut Wire) -> Then + Send + Sync + 'static,
    {
        let record = Arc::<Record>::default();
        let shared = Arc::clone(&record);
        let start = Listener::start("127.0.0.1:0", move |number, stream, _| {
            if let Ok(wire) = Wire::new(stream) {
                _ = serve(number, wire, &shared, rules.as_ref(), &answer);
            }
        });
        Self { listener: start.expect("a loopback port"), record }
    }

    pub fn addr(&self) -> SocketAddr {
        self.listener.addr()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr())
    }

    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.record.seen).clone()
    }

    /// What arrived and was not HTTP to the letter.
    pub fn faults(&self) -> Vec<String> {
        lock(&self.record.faults).clone()
    }

    pub fn connections(&self) -> usize {
        self.listener.connections()
    }

    /// Waits until what was seen satisfies the test; panics at the deadline.
    pub fn wait_until(&self, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let seen = lock(&self.record.seen);
        let waited = self.record.changed.wait_timeout_while(seen, DEADLINE, |seen| !enough(seen));
        let (seen, timeout) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        assert!(!timeout.timed_out(), "the origin waited in vain; it saw {seen:#?}");
        seen.clone()
    }

    /// Closes the listener and every connection at once.
    pub fn stop(&mut self) {
        self.listener.stop();
    }
}

fn serve(
    connection: usize,
    mut wire: Wire,
    record: &Record,
    rules: Option<&Rules>,
    answer: &impl Fn(&Seen, &mut Wire) -> Then,
) -> io::Result<()> {
    let mut gate = rules.map(Gate::new);
    let bad = |wire: &mut Wire, error: io::Error| {
        if error.kind() == ErrorKind::InvalidData {
            lock(&record.faults).push(format!("connection {connection}: {error}"));
            wire.write(&response(400, &[("Connection", "close")], error.to_string().as_bytes()))?;
            wire.linger();
        }
        Err(error)
    };
    loop {
        let head = match wire.read_request() {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(()),
            Err(error) => return bad(&mut wire, error),
        };
        let framing = head.framing()?;
        let expected = head.expects_continue() && framing != Framing::None;
        let mut seen = Seen { connection, head, body: Body::default() };
        if expected || seen.path() == "/continue" {
            wire.write(&response_head(100, &[]))?;
        }
        let read = wire.copy_body(framing, KEEP, &mut seen.body, |_| Ok(()));
        lock(&record.seen).push(seen.clone());
        record.changed.notify_all();
        if let Err(error) = read {
            return bad(&mut wire, error);
        }
        if let Some(Verdict::Refuse(_, lines)) = gate.as_mut().map(|gate| gate.judge(&seen.head)) {
            let fields: Vec<_> =
                lines.iter().map(|line| ("WWW-Authenticate", line.as_str())).collect();
            wire.write(&response(401, &fields, b"who are you?"))?;
            continue;
        }
        if answer(&seen, &mut wire) == Then::Close || !seen.head.persists() {
            return Ok(());
        }
    }
}

/// The script of [`Origin::start`].
pub fn answer(seen: &Seen, wire: &mut Wire) -> io::Result<Then> {
    let old = seen.head.version == "HTTP/1.0";
    let connection = match (seen.head.persists(), old) {
        (false, _) => Some(("Connection", "close")),
        (true, true) => Some(("Connection", "keep-alive")),
        (true, false) => None,
    };
    let bodyless = seen.method() == "HEAD";
    let mut whole = |status: u16, body: &[u8]| {
        let fields = [connection, Some(("Content-Type", "text/plain"))];
        let fields: Vec<_> = fields.into_iter().flatten().collect();
        if matches!(status, 204 | 304) || status < 200 {
            return wire.write(&response_head(status, &fields)).map(|()| Then::Next);
        }
        let mut bytes = response(status, &fields, body);
        bytes.truncate(bytes.len() - if bodyless { body.len() } else { 0 });
        wire.write(&bytes).map(|()| Then::Next)
    };
    let path: Vec<&str> = seen.path().trim_start_matches('/').split('/').collect();
    let number = |text: &str| text.parse::<usize>().unwrap_or(0);
    match path[..] {
        ["hello"] | ["continue"] => whole(200, b"hello, world\n"),
        ["echo"] if seen.body.bytes.len() as u64 == seen.body.length => {
            whole(200, &seen.body.bytes)
        }
        ["echo"] => whole(413, b"too large to be kept; ask for /hash\n"),
        ["hash"] => whole(200, format!("{} {:016x}", seen.body.length, seen.body.hash).as_bytes()),
        ["headers"] => whole(200, &seen.head.raw),
        ["status", code] => whole(code.parse().unwrap_or(500), b"as asked\n"),
        ["hints"] => {
            wire.write(&response_head(103, &[("Link", "</style.css>; rel=preload")]))?;
            wire.write(&response(200, &[], b"hello after hints\n"))?;
            Ok(Then::Next)
        }
        ["bytes", size] => {
            stream(wire, Framing::Length(number(size) as u64), number(size), bodyless)
        }
        ["chunked", size] if !old => stream(wire, Framing::Chunked, number(size), bodyless),
        ["trailers"] => {
            wire.write(&response_head(
                200,
                &[("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum")],
            ))?;
            wire.write(b"5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n")?;
            Ok(Then::Next)
        }
        ["untilclose" | "chunked", size] => {
            stream(wire, Framing::UntilClose, number(size), bodyless)
        }
        _ => whole(404, b"no such page\n"),
    }
}

fn stream(wire: &mut Wire, framing: Framing, size: usize, bodyless: bool) -> io::Result<Then> {
    let length = size.to_string();
    let field = match framing {
        Framing::Length(_) => ("Content-Length", length.as_str()),
        Framing::Chunked => ("Transfer-Encoding", "chunked"),
        _ => ("Connection", "close"),
    };
    wire.write(&response_head(200, &[field]))?;
    let then = if framing == Framing::UntilClose { Then::Close } else { Then::Next };
    if bodyless {
        return Ok(then);
    }
    // Chunks of an odd size, so that their edges meet nobody's buffer edges.
    let step = if framing == Framing::Chunked { 10_007 } else { PIECE };
    for start in (0..size).step_by(step) {
        let piece = pattern_from(start, step.min(size - start));
        if framing == Framing::Chunked {
            wire.write(&chunk(&piece))?;
        } else {
            wire.write(&piece)?;
        }
    }
    if framing == Framing::Chunked {
        wire.write(b"0\r\n\r\n")?;
    }
    Ok(then)
}
