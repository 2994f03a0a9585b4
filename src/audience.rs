//! Whether the client is still there for which a next hop is waited for. Nothing tells of its own
//! accord: whoever waits looks round now and then. Knows nothing of what either says.

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::sys;

/// After how long a silence of the next hop, and how often from then on, somebody looks.
pub const LOOK: Duration = Duration::from_secs(1);

/// A client that has said its last may be gone, or only listen from then on: nothing tells these
/// apart until something is sent to it. Most are gone (Squid and nginx count them all so), but a
/// script that pipes its request into a connection gets its answer, if that is not slower than
/// what anybody waits for without a sign. The end of this program waits as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What reading for a client that is gone ends with. No socket fails to read with it.
pub const LEFT: io::ErrorKind = io::ErrorKind::ConnectionAborted;

/// A client that waits.
#[derive(Clone, Copy)]
pub struct Audience<'a> {
    client: &'a TcpStream,
    /// What comes is worth knowing, even if nobody reads it.
    matters: bool,
    /// Since when it may be gone.
    silent: Option<Instant>,
}

impl<'a> Audience<'a> {
    /// A client of which nothing is known.
    pub fn new(client: &'a TcpStream) -> Self {
        Self { client, matters: false, silent: None }
    }

    /// `matters`: what comes is waited for a while, even when the client is surely gone.
    pub fn caring(self, matters: bool) -> Self {
        Self { matters, ..self }
    }

    /// Looks whether nobody waits any more.
    #[cold]
    pub fn has_left(&mut self, now: Instant) -> bool {
        let (finished, gone) = sys::farewell(self.client);
        if !finished {
            return false;
        }
        let since = *self.silent.get_or_insert(now);
        gone && !self.matters || now.saturating_duration_since(since) >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, peer)
    }

    /// Loopback is quick, not immediate.
    fn looks(audience: &mut Audience<'_>, now: Instant) -> bool {
        let until = Instant::now() + Duration::from_secs(10);
        while !sys::farewell(audience.client).0 {
            assert!(Instant::now() < until, "nothing came");
        }
        audience.has_left(now)
    }

    #[test]
    fn who_has_said_its_last_is_waited_for_and_not_for_ever() {
        let (client, peer) = pair();
        let mut audience = Audience::new(&client);
        let now = Instant::now();
        assert!(!audience.has_left(now) && !audience.has_left(now + 2 * PATIENCE));
        peer.shutdown(Shutdown::Write).unwrap();
        assert!(!looks(&mut audience, now));
        assert!(!looks(&mut audience, now + PATIENCE / 2));
        assert!(looks(&mut audience, now + PATIENCE));
    }

    #[test]
    fn who_is_gone_is_waited_for_only_where_it_matters() {
        let (client, peer) = pair();
        sys::reset(&peer);
        drop(peer);
        let (mut audience, now) = (Audience::new(&client), Instant::now());
        assert!(looks(&mut audience, now));
        let mut caring = Audience::new(&client).caring(true);
        assert!(!looks(&mut caring, now));
        assert!(looks(&mut caring, now + PATIENCE));
    }
}
