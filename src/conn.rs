//! A connection: a socket, the bytes read ahead of it, and deadlines. Whoever takes the socket
//! takes the bytes along, so none is lost when a connection turns into a tunnel.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::http::head::{HeadError, MAX_HEAD, find_end};
use crate::sys;

/// How much is read at once.
const READ_SIZE: usize = 16 * 1024;

/// A socket and what was read from it too early.
pub struct Conn {
    stream: Arc<TcpStream>,
    /// Bytes of the peer; those before `start` are consumed.
    buffer: Vec<u8>,
    start: usize,
    /// The read timeout the socket has now.
    timeout: Option<Duration>,
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
    /// More bytes than a head may have.
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
        Ok(Self { stream: Arc::new(stream), buffer: Vec::new(), start: 0, timeout: None })
    }

    /// The socket, to wait for it or to shut it down.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The same, for somebody who may have to shut it down from another thread.
    pub fn shared_stream(&self) -> Arc<TcpStream> {
        Arc::clone(&self.stream)
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

    /// The socket and the bytes read ahead of it.
    pub fn into_parts(mut self) -> (Arc<TcpStream>, Vec<u8>) {
        self.buffer.drain(..self.start.min(self.buffer.len()));
        (self.stream, self.buffer)
    }

    /// Gives the buffer back to the system while nobody has anything to say.
    pub fn release_buffer(&mut self) {
        if self.buffered().is_empty() {
            self.buffer = Vec::new();
            self.start = 0;
        }
    }

    /// Whether an idle connection is as it should be: open and silent.
    pub fn is_quiet(&self) -> bool {
        self.buffered().is_empty() && sys::is_quiet(&self.stream)
    }

    /// Reads once, behind what is buffered; 0 at the end. Waits no longer than `timeout`, or
    /// without limit.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the time ran out; others when the connection broke.
    pub fn fill(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        if self.timeout != timeout {
            // A timeout of zero would mean none.
            self.stream.set_read_timeout(timeout.map(|t| t.max(Duration::from_millis(1))))?;
            self.timeout = timeout;
        }
        if self.start > 0 {
            self.buffer.drain(..self.start.min(self.buffer.len()));
            self.start = 0;
        }
        let filled = self.buffer.len();
        self.buffer.resize(filled.saturating_add(READ_SIZE), 0);
        let read = loop {
            match (&*self.stream).read(self.buffer.get_mut(filled..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(filled.saturating_add(*read.as_ref().unwrap_or(&0)));
        read
    }

    /// Reads until a head is complete and returns its bytes. A few blank lines before it are skipped
    /// (RFC 9112 section 2.2). The first byte may take as long as `first`, the whole no longer
    /// than `whole` from then on.
    ///
    /// # Errors
    /// [`ReadError`] says what came instead.
    pub fn read_head(&mut self, first: Duration, whole: Duration) -> Result<Vec<u8>, ReadError> {
        const MAX_BLANK: usize = 4;
        let mut seen = 0;
        let mut deadline = None;
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
                let head = ahead.get(..end).unwrap_or_default().to_vec();
                self.consume(end);
                return Ok(head);
            }
            seen = ahead.len();
            if seen > MAX_HEAD {
                return Err(ReadError::Head(HeadError::too_large(ahead)));
            }
            let began = seen > 0;
            let timeout = if began {
                let until = *deadline.get_or_insert_with(|| Instant::now().checked_add(whole));
                let left = until.map_or(whole, |at| at.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    return Err(ReadError::TimedOut { began });
                }
                left
            } else {
                first
            };
            match self.fill(Some(timeout)) {
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
