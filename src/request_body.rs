//! The body of a request on its way from the client to the next hop: streamed, with its beginning
//! kept for as long as it may have to be sent a second time.

use std::io;
use std::mem;
use std::time::{Duration, Instant};

use crate::audience::{Audience, LOOK};
use crate::conn::Conn;
use crate::dump;
use crate::failure::Failure;
use crate::http::body::BodyScanner;
use crate::http::forwarding;
use crate::http::framing::BodyFraming;
use crate::http::head::{ResponseHead, Version};
use crate::spare;
use crate::sys::{self, Pipe, Wait};

/// How much of a body is kept, in bytes, and in pieces of what size: the allocator keeps for each
/// core several times the largest block that it ever gave.
const MAX_KEPT: u64 = 1024 * 1024;
const KEPT_PIECE: usize = 64 * 1024;

/// How long a client that asked for a 100 waits for the next hop's; then it gets ours.
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// See [`RequestBody::is_long`].
const LONG: u64 = 32 * 1024;

/// A body nobody wants is read away up to this many bytes, and for so long.
const MAX_DISCARD: u64 = 64 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// A body, and the client it comes from.
pub struct RequestBody<'c> {
    /// `None` where a request originates here (and has no body).
    client: Option<&'c mut Conn>,
    version: Version,
    framing: BodyFraming,
    scanner: BodyScanner,
    /// The client waits for a 100 before it sends.
    awaits: bool,
    /// Bytes taken from the client, and written to it.
    taken: u64,
    written: u64,
    /// The beginning, when it may have to be repeated.
    kept: Vec<Vec<u8>>,
    keeping: bool,
    /// Bytes taken from the client were not kept: there is no second time.
    lost: bool,
    /// So many pieces of `kept` were sent again.
    repeated: usize,
    /// Bytes on their way to the next hop, of which `sent` are gone.
    pending: Vec<u8>,
    sent: usize,
    /// Bytes behind those, of a long body that is not kept.
    pipe: Option<Pipe>,
}

impl<'c> RequestBody<'c> {
    /// The body behind a head just read from `client`, which speaks `version`.
    /// `expects`: it asked for a 100 before it sends (RFC 9110 section 10.1.1).
    pub fn new(
        client: &'c mut Conn,
        version: Version,
        framing: BodyFraming,
        expects: bool,
    ) -> Self {
        let scanner = BodyScanner::strict(framing);
        let awaits = expects && version == Version::Http11;
        Self { client: Some(client), version, framing, scanner, awaits, ..Self::none() }
    }

    /// No body, of a request that originates here.
    pub fn none() -> Self {
        Self {
            client: None,
            version: Version::Http11,
            framing: BodyFraming::None,
            scanner: BodyScanner::new(BodyFraming::None),
            awaits: false,
            taken: 0,
            written: 0,
            kept: Vec::new(),
            keeping: false,
            lost: false,
            repeated: 0,
            pending: Vec::new(),
            sent: 0,
            pipe: None,
        }
    }

    /// The client, while it waits for what comes back.
    pub fn audience(&self) -> Option<Audience<'_>> {
        self.client.as_deref().map(|client| Audience::new(client.stream()))
    }

    /// How it ends.
    pub fn framing(&self) -> BodyFraming {
        self.framing
    }

    /// Whether all of it is known to fit what is kept.
    pub fn is_repeatable(&self) -> bool {
        match self.framing {
            BodyFraming::None => true,
            BodyFraming::Length(length) => length <= MAX_KEPT,
            BodyFraming::Chunked | BodyFraming::UntilClose => false,
        }
    }

    /// From now on the beginning is kept, for [`RequestBody::rewind`].
    pub fn keep(&mut self) {
        self.keeping = true;
    }

    /// Begins again at the first byte.
    ///
    /// # Errors
    /// When bytes are gone that were not kept.
    pub fn rewind(&mut self) -> Result<(), Lost> {
        if self.lost {
            return Err(Lost);
        }
        self.repeated = 0;
        Ok(())
    }

    /// Whether all of it is on its way to the next hop.
    pub fn is_sent(&self) -> bool {
        self.is_taken()
            && self.repeated == self.kept.len()
            && self.sent == self.pending.len()
            && self.pipe.as_ref().is_none_or(|pipe| pipe.held == 0)
    }

    /// Whether all of it is taken from the client, so that a next request can follow.
    pub fn is_taken(&self) -> bool {
        self.scanner.is_done()
    }

    /// Whether it is longer than what a next hop is sure to read when it refuses the request: Squid
    /// reads 60 KB.
    pub fn is_long(&self) -> bool {
        self.taken > LONG
    }

    /// Sends `head` and the body, until all is sent or the next hop has something to say: a
    /// response, an interim one, or its end. Reading from it tells which.
    ///
    /// # Errors
    /// What the client is to blame for.
    pub fn send(&mut self, to: &mut Conn, head: Vec<u8>) -> Result<(), Failure> {
        to.note_request();
        dump::message("to", Some(to.stream()), &head);
        self.pending = head;
        self.sent = 0;
        self.resume(to)
    }

    /// Goes on with [`RequestBody::send`] after an interim response.
    ///
    /// # Errors
    /// What the client is to blame for.
    pub fn resume(&mut self, to: &mut Conn) -> Result<(), Failure> {
        let result = self.advance(to);
        if self.pipe.is_some() {
            set_nonblocking(to, false)?;
        }
        if self.is_sent() {
            spare::give(mem::take(&mut self.pending));
            self.sent = 0;
        }
        result
    }

    fn advance(&mut self, to: &mut Conn) -> Result<(), Failure> {
        if self.pipe.is_some() {
            set_nonblocking(to, true)?;
        }
        loop {
            self.take()?;
            if !self.flush(to)? || self.is_sent() || !to.buffered().is_empty() {
                return Ok(());
            }
            let Some(client) = self.client.as_deref_mut() else { return Ok(()) };
            if client.buffered().is_empty() && self.repeated == self.kept.len() {
                let mut waits = [Wait::readable(to.stream()), Wait::readable(client.stream())];
                let patience = self.awaits.then_some(CONTINUE_TIMEOUT);
                let in_time =
                    sys::poll(&mut waits, patience).map_err(|e| Failure::System(e.to_string()))?;
                let [hop, _] = waits;
                if hop.ready {
                    return Ok(());
                }
                if !in_time {
                    // A next hop that does not know the expectation would wait for ever.
                    self.awaits = false;
                    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
                    client.write_all(go_on).map_err(|_| Failure::ClientGone)?;
                    continue;
                }
                let left = self.scanner.left();
                if self.pipe.is_none() && self.lost && left > LONG {
                    // Without one, the bytes are copied.
                    self.pipe = Pipe::new().ok();
                    set_nonblocking(to, self.pipe.is_some())?;
                }
                let filled = match &mut self.pipe {
                    Some(pipe) if left > 0 => client.fill_pipe(pipe, left, None).inspect(|count| {
                        let count = u64::try_from(*count).unwrap_or(u64::MAX);
                        self.scanner.pass(count);
                        self.taken = self.taken.saturating_add(count);
                    }),
                    _ => client.fill(None),
                };
                match filled {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Err(Failure::ClientGone),
                }
            }
        }
    }

    /// Moves what is there to `pending`: first what is repeated, then what the client sent.
    fn take(&mut self) -> Result<(), Failure> {
        if self.sent == self.pending.len() {
            self.pending.clear();
            self.sent = 0;
        }
        if let Some(piece) = self.kept.get(self.repeated) {
            self.pending.extend_from_slice(piece);
            self.repeated = self.repeated.saturating_add(1);
            return Ok(());
        }
        let Some(client) = self.client.as_deref_mut() else { return Ok(()) };
        let ahead = client.buffered();
        let count = self.scanner.scan(ahead).map_err(Failure::BadBody)?;
        let taken = ahead.get(..count).unwrap_or_default();
        dump::body(None, usize::try_from(self.taken).unwrap_or(usize::MAX), Some(taken));
        self.taken = self.taken.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        self.awaits &= count == 0;
        if count > 0 && !self.lost {
            if !self.keeping || self.taken > MAX_KEPT {
                self.lost = true;
                self.kept = Vec::new();
            } else if let Some(last) =
                self.kept.last_mut().filter(|last| last.len().saturating_add(count) <= KEPT_PIECE)
            {
                last.extend_from_slice(taken);
            } else {
                self.kept.push(taken.to_vec());
            }
        }
        self.repeated = self.kept.len();
        client.move_to(&mut self.pending, count);
        Ok(())
    }

    /// Sends what is pending, as long as the client is there. `false` when the next hop speaks before
    /// it has taken everything.
    fn flush(&mut self, to: &Conn) -> Result<bool, Failure> {
        let unseen = self.client.as_deref().map(|client| Audience::new(client.stream()));
        let (mut audience, patience) = (unseen, unseen.map(|_| LOOK));
        loop {
            let moved = match (self.pending.get(self.sent..), &mut self.pipe) {
                (Some(rest @ [_, ..]), _) => sys::send_now(to.stream(), rest)
                    .inspect(|count| self.sent = self.sent.saturating_add(count.unwrap_or(0))),
                (_, Some(pipe)) if pipe.held > 0 => pipe.drain(to.stream()),
                _ => return Ok(true),
            };
            match moved {
                Ok(Some(_)) => audience = unseen,
                Ok(None) => {
                    let mut waits = [Wait { read: true, ..Wait::writable(to.stream()) }];
                    let came = sys::poll(&mut waits, patience);
                    if came.is_err() || !sys::is_quiet(to.stream()) {
                        return Ok(false);
                    }
                    if let (Ok(false), Some(client)) = (came, &mut audience)
                        && client.has_left(Instant::now())
                    {
                        // Nobody will know what becomes of what it has not read yet.
                        sys::reset(to.stream());
                        return Err(Failure::ClientGone);
                    }
                }
                // Perhaps it answered before it closed.
                Err(_) => return Ok(false),
            }
        }
    }

    /// Writes to the client, however long it takes.
    ///
    /// # Errors
    /// When it is gone.
    pub fn write_to_client(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written = self.written.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.client.as_deref_mut().map_or(Ok(()), |client| client.write_all(bytes))
    }

    /// The same with what a pipe holds.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn empty_to_client(&mut self, pipe: &mut Pipe) -> io::Result<()> {
        self.written = self.written.saturating_add(u64::try_from(pipe.held).unwrap_or(u64::MAX));
        match &self.client {
            Some(client) => pipe.empty(client.stream()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// How many bytes that were.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Reads the rest of a short body that nobody wants, so that the client can send a next
    /// request. `false` when that is not worth it.
    pub fn discard(&mut self) -> bool {
        let Some(client) = self.client.as_deref_mut() else { return true };
        if !matches!(self.framing, BodyFraming::None | BodyFraming::Length(0..=MAX_DISCARD)) {
            return false;
        }
        let started = Instant::now();
        while !self.scanner.is_done() {
            let Ok(count) = self.scanner.scan(client.buffered()) else { return false };
            client.consume(count);
            if !self.scanner.is_done()
                && !matches!(client.fill_within(started, DISCARD_TIMEOUT), Ok(1..))
            {
                return false;
            }
        }
        true
    }

    /// Passes an interim response on to a client that knows what that is
    /// (RFC 9110 section 15.2).
    ///
    /// # Errors
    /// When the client is gone.
    pub fn relay_interim(&mut self, mut head: ResponseHead) -> Result<(), Failure> {
        let Some(client) = self.client.as_deref_mut() else { return Ok(()) };
        if self.version == Version::Http10 {
            return Ok(());
        }
        self.awaits &= head.status != 100;
        forwarding::prepare_bodyless(&mut head);
        let mut wire = Vec::new();
        head.encode(&mut wire);
        dump::message("to", None, &wire);
        client.write_all(&wire).map_err(|_| Failure::ClientGone)
    }
}

/// A splice into a socket waits for room, unless the socket is told not to.
fn set_nonblocking(to: &Conn, on: bool) -> Result<(), Failure> {
    to.stream().set_nonblocking(on).map_err(|error| Failure::System(error.to_string()))
}

/// The beginning of a body is gone.
#[derive(Debug)]
pub struct Lost;
