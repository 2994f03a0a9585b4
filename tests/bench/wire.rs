//! HTTP for both ends of the measurement: as little of it as can be had, so that what is measured
//! is the proxy between them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::{RecvFlags, sockopt};

/// How long any end waits for the other one.
const DEADLINE: Duration = Duration::from_secs(120);
/// More than any head here has.
const MAX_HEAD: usize = 16 * 1024;
/// What is read or written at once where much is.
pub const BLOCK: usize = 256 * 1024;
/// The chunks of a chunked body: what a server gets from one read of a file.
pub const CHUNK: u64 = 16 * 1024;

/// A connection and what was read ahead of it.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

/// Something that is not as it should be, in words.
pub fn bad(text: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text.into())
}

impl Wire {
    /// Connects.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::new(TcpStream::connect(address)?)
    }

    /// Takes over a connection.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Self { stream, buffer: Vec::new(), filled: 0 })
    }

    /// Ends it by a reset. An orderly end keeps its port for a minute, and a few thousand of those
    /// make it slow to find one for the next connection, whoever is measured.
    pub fn reset(self) -> io::Result<()> {
        Ok(sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))?)
    }

    /// Writes it all.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads a head; `None` when the peer closed instead.
    pub fn read_head(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.buffer.resize(MAX_HEAD, 0);
        loop {
            let ahead = self.buffer.get(..self.filled).unwrap_or_default();
            if let Some(at) = ahead.windows(4).position(|end| end == b"\r\n\r\n") {
                let head = ahead.get(..at + 4).unwrap_or_default().to_vec();
                self.consume(at + 4);
                return Ok(Some(head));
            }
            match self.stream.read(self.buffer.get_mut(self.filled..).unwrap_or_default())? {
                0 if self.filled == 0 => return Ok(None),
                0 => return Err(bad("a head without an end")),
                count => self.filled += count,
            }
        }
    }

    fn consume(&mut self, count: usize) {
        self.buffer.copy_within(count..self.filled, 0);
        self.filled -= count;
    }

    /// Reads so many bytes and looks at none.
    pub fn skip(&mut self, mut left: u64) -> io::Result<()> {
        let ahead = self.filled.min(usize::try_from(left).unwrap_or(usize::MAX));
        self.consume(ahead);
        left -= u64::try_from(ahead).unwrap_or(0);
        // The kernel throws a long body away without copying it here.
        let long = left > MAX_HEAD as u64;
        let flags = if long { RecvFlags::TRUNC } else { RecvFlags::empty() };
        if left > 0 {
            self.buffer.resize(if long { BLOCK } else { MAX_HEAD }, 0);
        }
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let place = self.buffer.get_mut(..wanted).unwrap_or_default();
            match rustix::net::recv(&self.stream, place, flags)?.1 {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => left -= u64::try_from(count).unwrap_or(0),
            }
        }
        Ok(())
    }

    /// Reads a chunked body, which has no zero in its content.
    pub fn skip_chunked(&mut self) -> io::Result<()> {
        const END: &[u8] = b"\r\n0\r\n\r\n";
        self.buffer.resize(BLOCK, 0);
        loop {
            if self.buffer.get(..self.filled).unwrap_or_default().ends_with(END) {
                self.filled = 0;
                return Ok(());
            }
            self.consume(self.filled.saturating_sub(END.len()));
            match self.stream.read(self.buffer.get_mut(self.filled..).unwrap_or_default())? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => self.filled += count,
            }
        }
    }

    /// Reads the body that `head` announces.
    pub fn skip_body(&mut self, head: &[u8]) -> io::Result<()> {
        if value(head, "transfer-encoding").is_some() {
            return self.skip_chunked();
        }
        self.skip(number(value(head, "content-length").unwrap_or(b"0"))?)
    }

    /// Writes so many bytes of content.
    pub fn pour(&mut self, length: u64) -> io::Result<()> {
        self.repeat(&vec![b'x'; BLOCK], length)
    }

    /// The same as a chunked body.
    pub fn pour_chunked(&mut self, length: u64) -> io::Result<()> {
        let mut chunk = format!("{CHUNK:x}\r\n").into_bytes();
        chunk.extend(vec![b'x'; usize::try_from(CHUNK).unwrap_or(0)]);
        chunk.extend(b"\r\n");
        let wire = u64::try_from(chunk.len()).unwrap_or(0) * (length / CHUNK);
        self.repeat(&chunk.repeat(BLOCK / chunk.len()), wire)?;
        self.write(b"0\r\n\r\n")
    }

    fn repeat(&mut self, block: &[u8], mut left: u64) -> io::Result<()> {
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
            self.write(block.get(..count).unwrap_or_default())?;
            left -= u64::try_from(count).unwrap_or(0);
        }
        Ok(())
    }

    /// Reads exactly that many bytes.
    pub fn read_exact<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        let ahead = self.filled.min(N);
        let (first, rest) = bytes.split_at_mut(ahead);
        first.copy_from_slice(self.buffer.get(..ahead).unwrap_or_default());
        self.stream.read_exact(rest)?;
        self.consume(ahead);
        Ok(bytes)
    }

    /// Nothing more is read ahead for a while.
    pub fn rest(&mut self) {
        self.buffer.truncate(self.filled);
        self.buffer.shrink_to_fit();
    }
}

/// The value of a field, without the blanks around it.
pub fn value<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (own, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        own.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

/// A decimal number.
pub fn number(text: &[u8]) -> io::Result<u64> {
    let text = str::from_utf8(text).unwrap_or_default();
    text.parse().map_err(|_| bad(format!("{text:?} is no number")))
}

/// The status of a response.
pub fn status(head: &[u8]) -> u64 {
    head.get(9..12).and_then(|digits| number(digits).ok()).unwrap_or(0)
}
