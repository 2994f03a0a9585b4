//! Bytes after a tunnel is open: both directions, one thread, until both have ended.
//!
//! A direction that ends is passed on as an end (half-close) and leaves the other one running.
//! Nothing is cut for being idle; a peer that vanished is found out by TCP keepalive. An idle
//! tunnel holds its two sockets and nothing else.

use std::fmt;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::conn::Conn;
use crate::sys::{self, Pipe, Wait};

/// What is read at once as long as there is no pipe.
const READ_SIZE: usize = 16 * 1024;
/// How long a direction that fell silent keeps its pipe.
const PIPE_REST: Duration = Duration::from_secs(1);
/// How often one direction may move bytes before the other one is looked at.
const TURNS: u8 = 16;

/// What went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Bytes from the first connection to the second.
    pub there: u64,
    /// Bytes back.
    pub back: u64,
}

impl fmt::Display for Relayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tunnel closed: {} bytes there, {} back", self.there, self.back)
    }
}

/// Copies both ways until both directions have ended, or one breaks.
pub fn relay(client: Conn, server: Conn) -> Relayed {
    let (client, from_client) = client.into_parts();
    let (server, from_server) = server.into_parts();
    let mut there = Direction::new(from_client);
    let mut back = Direction::new(from_server);
    if let Err(error) = run(&client, &server, &mut there, &mut back) {
        log::debug!("a tunnel broke: {error}");
    }
    Relayed { there: there.total, back: back.total }
}

fn run(
    client: &TcpStream,
    server: &TcpStream,
    there: &mut Direction,
    back: &mut Direction,
) -> io::Result<()> {
    client.set_nonblocking(true)?;
    server.set_nonblocking(true)?;
    let (mut client_ready, mut server_ready) = (false, false);
    loop {
        there.advance(client, server, client_ready)?;
        back.advance(server, client, server_ready)?;
        if there.ended && back.ended {
            return Ok(());
        }
        let mut waits = [
            Wait { read: there.wants_input(), write: back.is_loaded(), ..Wait::readable(client) },
            Wait { read: back.wants_input(), write: there.is_loaded(), ..Wait::readable(server) },
        ];
        let holds_pipe = there.pipe.is_some() || back.pipe.is_some();
        if !sys::poll(&mut waits, holds_pipe.then_some(PIPE_REST))? {
            there.rest();
            back.rest();
        }
        let [at_client, at_server] = waits;
        (client_ready, server_ready) = (at_client.ready, at_server.ready);
    }
}

/// One direction of a tunnel.
struct Direction {
    /// Bytes read, before the tunnel was one or since; they go first.
    ahead: Vec<u8>,
    sent: usize,
    /// Exists while many bytes move.
    pipe: Option<Pipe>,
    /// The source has ended and its end was passed on.
    ended: bool,
    total: u64,
}

impl Direction {
    fn new(ahead: Vec<u8>) -> Self {
        Self { ahead, sent: 0, pipe: None, ended: false, total: 0 }
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
        }
    }

    /// Moves what can be moved without waiting. `ready`: there may be something to read.
    fn advance(&mut self, from: &TcpStream, to: &TcpStream, ready: bool) -> io::Result<()> {
        for _ in 0..TURNS {
            if self.is_loaded() {
                if !self.send(to)? {
                    return Ok(());
                }
                continue;
            }
            if self.ended || !ready {
                return Ok(());
            }
            let moved = match &mut self.pipe {
                Some(pipe) => pipe.fill(from)?,
                None => self.read(from)?,
            };
            match moved {
                Some(0) => {
                    self.ended = true;
                    self.pipe = None;
                    // The other side may be gone already; reading from it will tell.
                    if let Err(error) = to.shutdown(Shutdown::Write) {
                        log::trace!("an end could not be passed on: {error}");
                    }
                    return Ok(());
                }
                Some(_) => {}
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Reads what has arrived, and makes a pipe where that was much. Where there are no descriptors
    /// for one, bytes are copied.
    fn read(&mut self, from: &TcpStream) -> io::Result<Option<usize>> {
        self.ahead.reserve_exact(READ_SIZE);
        let read = sys::receive(from, &mut self.ahead);
        match read {
            Ok(1..) => {
                if self.ahead.len() == self.ahead.capacity() {
                    self.pipe = Pipe::new().ok();
                }
            }
            _ => self.ahead = Vec::new(),
        }
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            read => read.map(Some),
        }
    }

    /// Sends some of what is loaded; `false` when nothing more fits.
    fn send(&mut self, to: &TcpStream) -> io::Result<bool> {
        if let Some(rest @ [_, ..]) = self.ahead.get(self.sent..) {
            let Some(count) = sys::send_now(to, rest)? else { return Ok(false) };
            self.sent = self.sent.saturating_add(count);
            self.total = self.total.saturating_add(u64::try_from(count).unwrap_or(0));
            if self.sent == self.ahead.len() {
                self.ahead = Vec::new();
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
