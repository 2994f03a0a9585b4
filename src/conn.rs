//! A connection: a socket, the bytes read ahead of it, and deadlines. Whoever takes the socket
//! takes the bytes along, so none is lost when a connection turns into a tunnel.

use std::io::{self, Write};
use std::mem;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::audience::{Audience, LEFT, LOOK};
use crate::dump;
use crate::http::ends::find_end;
use crate::http::head::{HeadError, MAX_HEAD};
use crate::spare;
use crate::sys::{self, Pipe, Wait};

/// How much is read at once at most, where it never suffices.
const MAX_READ_SIZE: usize = 128 * 1024;

/// A socket and what was read from it too early.
pub struct Conn {
    stream: Arc<TcpStream>,
    /// Bytes of the peer; those before `start` are consumed.
    buffer: Vec<u8>,
    start: usize,
    /// How much is read at once.
    room: usize,
    /// The read timeout the socket has now.
    timeout: Option<Duration>,
    /// The peer answered before it was asked: what comes next may answer anything.
    spoiled: bool,
    /// It was found quiet, and nothing was sent since.
    probed: bool,
}

/// Why no head came.
#[derive(Debug)]
pub enum ReadError {
    /// The peer closed; `began` tells whether it had sent part of a head.
    Closed {
        /// Bytes of a head had arrived.
        began: bool,
    },
    /// The time ran out; `began` as above.
    TimedOut {
        /// Bytes of a head had arrived.
        began: bool,
    },
    /// It is none, or too long.
    Head(HeadError),
    /// The connection broke.
    Broken(io::Error),
}

impl Conn {
    /// Takes over a connected socket.
    ///
    /// # Errors
    /// When the socket is broken already.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        sys::set_keepalive(&stream)?;
        sys::spare_pacing(&stream);
        let stream = Arc::new(stream);
        Ok(Self {
            stream,
            buffer: Vec::new(),
            start: 0,
            room: spare::SIZE,
            timeout: None,
            spoiled: false,
            probed: false,
        })
    }

    /// The socket, to wait for it or to shut it down.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The same, for somebody who may have to shut it down from another thread.
    pub fn shared_stream(&self) -> Arc<TcpStream> {
        Arc::clone(&self.stream)
    }

    /// This end's port, by which the other side's log knows it; 0 when it is broken.
    pub fn port(&self) -> u16 {
        self.stream.local_addr().map_or(0, |own| own.port())
    }

    /// The bytes read ahead.
    pub fn buffered(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Drops that many of the bytes read ahead.
    pub fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count);
        if self.start >= self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
    }

    /// Moves that many of the bytes read ahead behind what is in `to`: all of them without a copy,
    /// where nothing is.
    pub fn move_to(&mut self, to: &mut Vec<u8>, count: usize) {
        if to.is_empty() && count > 0 && count == self.buffer.len() {
            mem::swap(&mut self.buffer, to);
        } else {
            to.extend_from_slice(self.buffered().get(..count).unwrap_or_default());
            self.consume(count);
        }
    }

    /// The socket and the bytes read ahead of it.
    pub fn into_parts(mut self) -> (Arc<TcpStream>, Vec<u8>) {
        self.buffer.drain(..self.start.min(self.buffer.len()));
        (self.stream, self.buffer)
    }

    /// Gives the buffer back while nobody has anything to say: to this thread, as long as it lasts.
    pub fn release_buffer(&mut self) {
        if self.buffered().is_empty() {
            spare::give(mem::take(&mut self.buffer));
            self.start = 0;
            // What carried much once is not held ready for as much again.
            self.room = self.room.min(spare::MAX_SIZE);
        }
    }

    /// Whether an idle connection is as it should be: open and silent.
    pub fn is_quiet(&mut self) -> bool {
        self.probed = !self.spoiled && self.buffered().is_empty() && sys::is_quiet(&self.stream);
        self.probed
    }

    /// Whether the peer has ended it, and left nothing behind.
    pub fn has_ended(&self) -> bool {
        self.buffered().is_empty() && sys::has_ended(&self.stream)
    }

    /// A request is about to go out. A connection that is not quiet now never is again.
    pub fn note_request(&mut self) {
        self.spoiled = !self.probed && !self.is_quiet();
        self.probed = false;
    }

    fn set_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if self.timeout != timeout {
            // A timeout of zero would mean none.
            self.stream.set_read_timeout(timeout.map(|t| t.max(Duration::from_millis(1))))?;
            self.timeout = timeout;
        }
        Ok(())
    }

    /// Reads once, behind what is buffered; 0 at the end. Waits no longer than `timeout`, or
    /// without limit.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the time ran out; others when the connection broke.
    pub fn fill(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        self.set_timeout(timeout)?;
        if self.start > 0 {
            self.buffer.drain(..self.start.min(self.buffer.len()));
            self.start = 0;
        }
        if self.buffer.capacity() == 0 {
            self.buffer = spare::take();
        }
        self.buffer.reserve(self.room);
        let read = sys::receive(&self.stream, &mut self.buffer)?;
        if self.buffer.len() == self.buffer.capacity() {
            // It did not suffice: the next time it is more.
            self.room = self.room.saturating_mul(4).min(MAX_READ_SIZE);
        }
        Ok(read)
    }

    /// The same within `limit` from `started` on, however often bytes come.
    ///
    /// # Errors
    /// As [`Conn::fill`].
    pub fn fill_within(&mut self, started: Instant, limit: Duration) -> io::Result<usize> {
        match limit.saturating_sub(started.elapsed()) {
            Duration::ZERO => Err(io::ErrorKind::WouldBlock.into()),
            left => self.fill(Some(left)),
        }
    }

    /// As [`Conn::fill`], on behalf of somebody who may leave meanwhile.
    ///
    /// # Errors
    /// As [`Conn::fill`]; [`LEFT`] when nobody waits any more.
    pub fn fill_for(
        &mut self,
        audience: Option<Audience<'_>>,
        limit: Option<Duration>,
    ) -> io::Result<usize> {
        let Some(mut audience) = audience else { return self.fill(limit) };
        let (mut began, mut waited) = (None, Duration::ZERO);
        loop {
            let left = limit.map_or(LOOK, |limit| limit.saturating_sub(waited).min(LOOK));
            match self.fill(Some(left)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            // What comes at once costs no look at the clock.
            let now = Instant::now();
            let began = *began.get_or_insert_with(|| now.checked_sub(left).unwrap_or(now));
            waited = now.saturating_duration_since(began);
            if limit.is_some_and(|limit| waited >= limit) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            if audience.has_left(now) {
                return Err(LEFT.into());
            }
        }
    }

    /// Moves what comes into an empty pipe, at least a byte and no more than `most`; 0 at the end.
    /// Nothing may be buffered. `audience`: on behalf of whom.
    ///
    /// # Errors
    /// When the connection broke; [`LEFT`] when nobody waits any more.
    pub fn fill_pipe(
        &mut self,
        pipe: &mut Pipe,
        most: u64,
        mut audience: Option<Audience<'_>>,
    ) -> io::Result<usize> {
        // A splice waits as a read does.
        let patience = audience.map(|_| LOOK);
        self.set_timeout(patience)?;
        loop {
            if let Some(count) = pipe.fill_up_to(&self.stream, most)? {
                return Ok(count);
            }
            let came = sys::poll(&mut [Wait::readable(&self.stream)], patience)?;
            if !came && audience.as_mut().is_some_and(|audience| audience.has_left(Instant::now()))
            {
                return Err(LEFT.into());
            }
        }
    }

    /// Reads until a head is complete, and returns what `parse` makes of it. A few blank lines before
    /// it are skipped (RFC 9112 section 2.2). The first byte may take as long as `first`, the whole
    /// no longer than `whole` from then on. `audience`: on behalf of whom.
    ///
    /// # Errors
    /// [`ReadError`] says what came instead.
    pub fn read_head<T>(
        &mut self,
        audience: Option<Audience<'_>>,
        first: Duration,
        whole: Duration,
        parse: fn(&[u8]) -> Result<T, HeadError>,
    ) -> Result<T, ReadError> {
        let end = self.wait_for_head(audience, first, whole)?;
        let head = self.buffered().get(..end).unwrap_or_default();
        dump::message("from", Some(&self.stream), head);
        let parsed = parse(head).map_err(ReadError::Head);
        self.consume(end);
        // Mostly nothing stands behind it: what is written next is written there.
        self.release_buffer();
        parsed
    }

    /// How many bytes the head has that comes first among the buffered ones.
    fn wait_for_head(
        &mut self,
        audience: Option<Audience<'_>>,
        first: Duration,
        whole: Duration,
    ) -> Result<usize, ReadError> {
        const MAX_BLANK: usize = 4;
        let mut seen = 0;
        let mut started = None;
        let mut skipped = 0..MAX_BLANK;
        loop {
            while self.buffered().starts_with(b"\r\n") && skipped.next().is_some() {
                self.consume(2);
                seen = 0;
            }
            let ahead = self.buffered();
            if let Some(end) = find_end(ahead, seen) {
                if end > MAX_HEAD {
                    return Err(ReadError::Head(HeadError::too_large(ahead)));
                }
                return Ok(end);
            }
            seen = ahead.len();
            if seen > MAX_HEAD {
                return Err(ReadError::Head(HeadError::too_large(ahead)));
            }
            let began = seen > 0;
            let read = if began {
                self.fill_within(*started.get_or_insert_with(Instant::now), whole)
            } else {
                self.fill_for(audience, Some(first))
            };
            match read {
                Ok(0) => return Err(ReadError::Closed { began }),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(ReadError::TimedOut { began });
                }
                Err(error) => return Err(ReadError::Broken(error)),
            }
        }
    }

    /// Writes everything, however long the peer takes.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self.stream).write_all(bytes)
    }

    /// Ends a connection whose peer may still be sending: says that nothing more comes, then reads
    /// on for a while, since closing at once would make the kernel reset the connection and take
    /// the response away from a peer that has not read it yet (RFC 9112 section 9.6).
    pub fn close_gently(mut self) {
        const PATIENCE: Duration = Duration::from_secs(30);
        const SILENCE: Duration = Duration::from_secs(2);
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let Some(until) = Instant::now().checked_add(PATIENCE) else { return };
        loop {
            self.buffer.clear();
            self.start = 0;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !matches!(self.fill(Some(left.min(SILENCE))), Ok(1..)) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustix::net::sockopt::tcp_congestion;

    use super::*;
    use crate::http::head::RequestHead;
    use crate::sys::{Wait, poll};

    const SOON: Duration = Duration::from_millis(20);
    const LATE: Duration = Duration::from_secs(15);

    fn pair() -> (Conn, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Conn::new(stream).unwrap(), listener.accept().unwrap().0)
    }

    #[test]
    fn nothing_paces_a_connection_within_one_machine() {
        let (conn, peer) = pair();
        let by_default = tcp_congestion(&peer).unwrap();
        assert_eq!(tcp_congestion(conn.stream()).unwrap(), "reno", "not {by_default}");
    }

    #[test]
    fn a_head_that_begins_and_does_not_end_is_not_waited_for() {
        for (sent, began) in [(&b"GET / HT"[..], true), (b"", false)] {
            let (mut conn, mut peer) = pair();
            peer.write_all(sent).unwrap();
            let (first, whole) = if began { (LATE, SOON) } else { (SOON, LATE) };
            match conn.read_head(None, first, whole, RequestHead::parse) {
                Err(ReadError::TimedOut { began: found }) => assert_eq!(found, began),
                other => panic!("{sent:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn bytes_that_drip_do_not_stretch_the_time() {
        let (mut conn, mut peer) = pair();
        let started = Instant::now();
        while started.elapsed() < SOON {
            peer.write_all(b"x").unwrap();
            drop(conn.fill_within(started, SOON));
        }
        peer.write_all(b"x").unwrap();
        let error = conn.fill_within(started, SOON).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn who_brought_much_is_not_expected_to_bring_as_much_again() {
        let (mut conn, mut peer) = pair();
        peer.write_all(&[0; 64 * 1024]).unwrap();
        while conn.buffered().len() < 64 * 1024 {
            assert_ne!(conn.fill(Some(LATE)).unwrap(), 0);
        }
        assert!(conn.room > spare::MAX_SIZE);
        conn.consume(64 * 1024);
        conn.release_buffer();
        peer.write_all(b"a").unwrap();
        assert_eq!(conn.fill(Some(LATE)).unwrap(), 1);
        assert!(conn.buffer.capacity() <= spare::MAX_SIZE, "{}", conn.buffer.capacity());
    }

    #[test]
    fn who_answers_before_it_is_asked_is_not_asked_again() {
        let (mut conn, mut peer) = pair();
        conn.note_request();
        peer.write_all(b"early").unwrap();
        assert!(poll(&mut [Wait::readable(conn.stream())], Some(LATE)).unwrap());
        conn.note_request();
        assert_eq!(conn.fill(Some(LATE)).unwrap(), 5);
        conn.consume(5);
        assert!(!conn.is_quiet());
    }
}
