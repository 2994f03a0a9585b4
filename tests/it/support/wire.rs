//! A socket with the bytes read ahead of what was asked for, and a deadline on everything.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::http::{Body, DEADLINE, Fields, Framing, RequestHead, ResponseHead, malformed};

/// Longer than a challenge of 64 KiB in base64, several times over.
const LONGEST_HEAD: usize = 1 << 20;
/// What of a body is kept unless the reader says otherwise.
pub const KEEP: usize = 1 << 20;

pub struct Wire {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Wire {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        let wire = Self { stream, ahead: Vec::new() };
        wire.deadline(DEADLINE)?;
        wire.stream.set_nodelay(true)?;
        Ok(wire)
    }

    pub fn deadline(&self, limit: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(limit))?;
        self.stream.set_write_timeout(Some(limit))
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Half-close: no more from this side, the other may go on.
    pub fn finish(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Bytes that came after the last message read.
    pub fn take_ahead(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ahead)
    }

    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Reads more into the buffer; 0 is the end of the stream.
    pub fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        let count = loop {
            match self.stream.read(&mut piece) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(io::Error::new(
                        ErrorKind::TimedOut,
                        "the deadline passed while reading",
                    ));
                }
                other => break other?,
            }
        };
        self.ahead.extend_from_slice(&piece[..count]);
        Ok(count)
    }

    /// Takes a whole head off the stream; `None` is a stream that ended before its first byte.
    fn head(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            let end = self.ahead[searched..].windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(at) = end {
                let rest = self.ahead.split_off(searched + at + 4);
                return Ok(Some(std::mem::replace(&mut self.ahead, rest)));
            }
            searched = self.ahead.len().saturating_sub(3);
            if self.ahead.len() > LONGEST_HEAD {
                return malformed("a head without end");
            }
            if self.fill()? == 0 {
                let begun = !self.ahead.is_empty();
                return if begun { Err(cut_off("in a head")) } else { Ok(None) };
            }
        }
    }

    pub fn read_request(&mut self) -> io::Result<Option<RequestHead>> {
        self.head()?.map(|raw| RequestHead::parse(&raw)).transpose()
    }

    pub fn read_response(&mut self) -> io::Result<ResponseHead> {
        match self.head()? {
            Some(raw) => ResponseHead::parse(&raw),
            None => Err(cut_off("before a response")),
        }
    }

    /// Reads a body and keeps its beginning.
    pub fn read_body(&mut self, framing: Framing, keep: usize) -> io::Result<Body> {
        let mut body = Body::default();
        self.copy_body(framing, keep, &mut body, |_| Ok(()))?;
        Ok(body)
    }

    /// Hands over the body's bytes, decoded, as they come. `body` says how far it got even where
    /// this fails.
    pub fn copy_body(
        &mut self,
        framing: Framing,
        keep: usize,
        body: &mut Body,
        mut to: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match framing {
            Framing::None => {}
            Framing::Length(length) => self.pieces(length, keep, body, &mut to)?,
            Framing::Chunked => {
                loop {
                    let size = chunk_size(&self.line()?)?;
                    if size == 0 {
                        break;
                    }
                    self.pieces(size, keep, body, &mut to)?;
                    if !self.line()?.is_empty() {
                        return malformed("a chunk longer than its size");
                    }
                }
                body.trailers = self.trailers()?;
            }
            Framing::UntilClose => loop {
                let piece = self.take_ahead();
                body.add(&piece, keep);
                to(&piece)?;
                if self.fill()? == 0 {
                    break;
                }
            },
        }
        body.complete = true;
        Ok(())
    }

    fn pieces(
        &mut self,
        mut left: u64,
        keep: usize,
        body: &mut Body,
        to: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while left > 0 {
            if self.ahead.is_empty() && self.fill()? == 0 {
                return Err(cut_off("in a body"));
            }
            let count = self.ahead.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let rest = self.ahead.split_off(count);
            let piece = std::mem::replace(&mut self.ahead, rest);
            left -= count as u64;
            body.add(&piece, keep);
            to(&piece)?;
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.ahead.iter().position(|byte| *byte == b'\n') {
                let rest = self.ahead.split_off(at + 1);
                let line = std::mem::replace(&mut self.ahead, rest);
                return match line.strip_suffix(b"\r\n") {
                    Some(line) if line.is_ascii() => Ok(String::from_utf8_lossy(line).into_owned()),
                    _ => malformed(format!(
                        "line {:?} in a chunked body",
                        String::from_utf8_lossy(&line)
                    )),
                };
            }
            if self.ahead.len() > LONGEST_HEAD {
                return malformed("a line without end in a chunked body");
            }
            if self.fill()? == 0 {
                return Err(cut_off("in a chunked body"));
            }
        }
    }

    fn trailers(&mut self) -> io::Result<Fields> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Fields(fields));
            }
            match line.split_once(':') {
                Some((name, value)) if super::http::is_token(name) => {
                    fields.push((name.to_owned(), value.trim().to_owned()));
                }
                _ => return malformed(format!("trailer {line:?}")),
            }
        }
    }

    /// Exactly this many bytes, as of a tunnel.
    pub fn read_exact(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < count {
            if self.fill()? == 0 {
                return Err(cut_off(&format!("after {} of {count} bytes", self.ahead.len())));
            }
        }
        let rest = self.ahead.split_off(count);
        Ok(std::mem::replace(&mut self.ahead, rest))
    }

    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(self.take_ahead())
    }

    /// Says nothing more, and lets the peer finish: closing over unread bytes would reset the
    /// connection and could destroy the answer on its way.
    pub fn linger(&mut self) {
        if self.finish().is_ok() {
            while matches!(self.fill(), Ok(count) if count > 0) {
                self.ahead.clear();
            }
        }
    }
}

/// The stream ended where a message had not.
fn cut_off(place: &str) -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, format!("the connection ended {place}"))
}

fn chunk_size(line: &str) -> io::Result<u64> {
    let size = line.split(';').next().unwrap_or_default();
    let hex = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
    match u64::from_str_radix(size, 16) {
        Ok(size) if hex => Ok(size),
        _ => malformed(format!("chunk size {line:?}")),
    }
}
