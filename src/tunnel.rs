//! Bytes after a tunnel is open: both directions, one thread, until both have ended or fallen silent.
//!
//! A direction that ends is passed on as an end (half-close) and leaves the other one running. A
//! break is passed on as a break: an orderly end would look like the end of what was being sent.
//! Nothing is cut for being idle; a peer that vanished is found out by TCP keepalive. An idle
//! tunnel holds its two sockets and nothing else: no pipe, no buffer, no thread.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use crate::conn::Conn;
use crate::sys::{self, Pipe, Wait};
use crate::urllog::Record;
use crate::waiting::LINGER;

/// What is read at once as long as there is no pipe.
const READ_SIZE: usize = 16 * 1024;
/// What is read at once of what may be a line of a shell.
const FIRST_READ_SIZE: usize = 2 * 1024;
/// How often one direction may move bytes before the other one is looked at.
const TURNS: u8 = 16;

/// An open tunnel.
pub struct Tunnel {
    client: Arc<TcpStream>,
    server: Arc<TcpStream>,
    there: Direction,
    back: Direction,
    record: Option<Record>,
}

impl Tunnel {
    /// Takes over both ends; `record` is written when it is over.
    pub fn new(client: Conn, server: Conn, record: Option<Record>) -> Self {
        let (client, from_client) = client.into_parts();
        let (server, from_server) = server.into_parts();
        let there = Direction::new(from_client);
        let back = Direction::new(from_server);
        Self { client, server, there, back, record }
    }

    /// Copies both ways until both directions have ended, or one breaks. Before that only when
    /// neither side has anything to say: the tunnel is given back then, to be run again once one
    /// of its [`Tunnel::streams`] can be read.
    pub fn run(mut self) -> Option<Self> {
        match self.copy() {
            Ok(true) => {}
            Ok(false) => return Some(self),
            Err(error) => {
                log::debug!("the tunnel broke: {error}");
                self.pass_break_on();
            }
        }
        let (there, back) = (self.there.total, self.back.total);
        log::debug!("tunnel closed: {there} bytes there, {back} back");
        if let Some(record) = &mut self.record {
            record.outcome.bytes = there.saturating_add(back);
        }
        None
    }

    /// One side broke: the other one gets what came before, and sees that it is not all.
    fn pass_break_on(&mut self) {
        let Self { client, server, there, back, .. } = self;
        // Behind the error, a socket seems to have come to its end.
        drop(back.carry(server, client, true));
        drop(there.carry(client, server, true));
        sys::reset(client);
        sys::reset(server);
    }

    /// Where something may still come from.
    pub fn streams(&self) -> Vec<Arc<TcpStream>> {
        let ends = [(&self.there, &self.client), (&self.back, &self.server)];
        let open = ends.into_iter().filter(|(direction, _)| !direction.ended);
        open.map(|(_, stream)| Arc::clone(stream)).collect()
    }

    /// Whether it came to its end; if not, nothing moves.
    fn copy(&mut self) -> io::Result<bool> {
        let Self { client, server, there, back, .. } = self;
        client.set_nonblocking(true)?;
        server.set_nonblocking(true)?;
        let (mut client_ready, mut server_ready) = (false, false);
        loop {
            there.advance(client, server, client_ready)?;
            back.advance(server, client, server_ready)?;
            if there.ended && back.ended {
                return Ok(true);
            }
            let mut waits = [
                Wait {
                    read: there.wants_input(),
                    write: back.is_loaded(),
                    ..Wait::readable(client)
                },
                Wait {
                    read: back.wants_input(),
                    write: there.is_loaded(),
                    ..Wait::readable(server)
                },
            ];
            if !sys::poll(&mut waits, Some(LINGER))? {
                there.rest();
                back.rest();
                if !there.is_loaded() && !back.is_loaded() {
                    return Ok(false);
                }
            }
            let [at_client, at_server] = waits;
            (client_ready, server_ready) = (at_client.ready, at_server.ready);
        }
    }
}

/// One direction of a tunnel.
struct Direction {
    /// Bytes read, before the tunnel was one or since; they go first.
    ahead: Vec<u8>,
    read_size: usize,
    sent: usize,
    /// Exists while many bytes move.
    pipe: Option<Pipe>,
    /// The source has ended and its end was passed on.
    ended: bool,
    total: u64,
}

impl Direction {
    fn new(ahead: Vec<u8>) -> Self {
        Self { ahead, read_size: FIRST_READ_SIZE, sent: 0, pipe: None, ended: false, total: 0 }
    }

    /// Whether bytes are waiting to go out.
    fn is_loaded(&self) -> bool {
        self.sent < self.ahead.len() || self.pipe.as_ref().is_some_and(|pipe| pipe.held > 0)
    }

    fn wants_input(&self) -> bool {
        !self.ended && !self.is_loaded()
    }

    /// Gives back what an idle direction does not need.
    fn rest(&mut self) {
        if !self.is_loaded() {
            self.pipe = None;
            self.ahead = Vec::new();
            self.read_size = FIRST_READ_SIZE;
        }
    }

    /// Moves what can be moved without waiting, and passes an end on. `ready`: there may be something
    /// to read.
    fn advance(&mut self, from: &TcpStream, to: &TcpStream, ready: bool) -> io::Result<()> {
        if self.carry(from, to, ready)? {
            self.ended = true;
            self.pipe = None;
            // The other side may be gone already; reading from it will tell.
            if let Err(error) = to.shutdown(Shutdown::Write) {
                log::trace!("an end could not be passed on: {error}");
            }
        }
        Ok(())
    }

    /// Moves what can be moved without waiting; whether the source came to its end.
    fn carry(&mut self, from: &TcpStream, to: &TcpStream, mut ready: bool) -> io::Result<bool> {
        for _ in 0..TURNS {
            if self.is_loaded() {
                if !self.send(to)? {
                    return Ok(false);
                }
                continue;
            }
            if self.ended || !ready {
                return Ok(false);
            }
            let moved = match &mut self.pipe {
                Some(pipe) => pipe.fill(from)?,
                None => self.read(from)?,
            };
            match moved {
                Some(0) => return Ok(true),
                // After little there is nothing more yet.
                Some(count) => ready = count >= READ_SIZE,
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Reads what has arrived: more at a time where there was more, and where that was much, a pipe is
    /// made. Where there are no descriptors for one, bytes are copied.
    fn read(&mut self, from: &TcpStream) -> io::Result<Option<usize>> {
        self.ahead.reserve_exact(self.read_size);
        match sys::receive(from, &mut self.ahead) {
            Ok(count) => {
                if count > 0 && self.ahead.len() == self.ahead.capacity() {
                    if self.read_size == READ_SIZE {
                        self.pipe = Pipe::new().ok();
                    }
                    self.read_size = READ_SIZE;
                }
                Ok(Some(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends some of what is loaded; `false` when nothing more fits.
    fn send(&mut self, to: &TcpStream) -> io::Result<bool> {
        if let Some(rest @ [_, ..]) = self.ahead.get(self.sent..) {
            let Some(count) = sys::send_now(to, rest)? else { return Ok(false) };
            self.sent = self.sent.saturating_add(count);
            self.total = self.total.saturating_add(u64::try_from(count).unwrap_or(0));
            if self.sent == self.ahead.len() {
                self.ahead.clear();
                self.sent = 0;
            }
            return Ok(true);
        }
        let Some(pipe) = &mut self.pipe else { return Ok(true) };
        let Some(count) = pipe.drain(to)? else { return Ok(false) };
        self.total = self.total.saturating_add(u64::try_from(count).unwrap_or(0));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    fn pair() -> (Conn, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let peer = listener.accept().unwrap().0;
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (Conn::new(stream).unwrap(), peer)
    }

    /// One that answers early and resets, as it did not read everything, is heard all the same.
    #[test]
    fn what_came_before_a_break_is_passed_on_and_the_break_too() {
        let ((client, mut at_client), (server, mut at_server)) = (pair(), pair());
        at_client.write_all(b"a request").unwrap();
        at_server.write_all(b"an answer").unwrap();
        sys::reset(&at_server);
        drop(at_server);
        for conn in [&client, &server] {
            let limit = Some(Duration::from_secs(10));
            assert!(sys::poll(&mut [Wait::readable(conn.stream())], limit).unwrap());
        }
        assert!(Tunnel::new(client, server, None).run().is_none());
        let mut heard = Vec::new();
        let error = at_client.read_to_end(&mut heard).unwrap_err();
        assert_eq!(
            (error.kind(), heard.as_slice()),
            (io::ErrorKind::ConnectionReset, &b"an answer"[..])
        );
    }
}
