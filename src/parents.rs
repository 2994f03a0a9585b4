//! From a name to a connected socket: dialing, and which parent is tried when.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::Carrier;
use crate::http::target::Authority;

/// How long an origin may take to accept a connection.
pub const ORIGIN_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no connection.
#[derive(Debug)]
pub struct DialError {
    /// Who was to be reached.
    pub authority: Authority,
    /// Whether the name could not be resolved; else it could not be connected to.
    pub unresolved: bool,
    /// The system's reason.
    pub reason: io::Error,
}

impl DialError {
    /// Whether it was a matter of time.
    pub fn timed_out(&self) -> bool {
        matches!(self.reason.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.unresolved {
            write!(f, "the name of {} cannot be resolved: {}", self.authority, self.reason)
        } else {
            write!(f, "{} cannot be reached: {}", self.authority, self.reason)
        }
    }
}

/// Connects to the first address of `authority` that answers, all of them within `timeout`.
///
/// # Errors
/// [`DialError`], with the reason of the last address.
pub fn dial(authority: &Authority, timeout: Duration) -> Result<TcpStream, DialError> {
    let fail = |unresolved, reason| DialError { authority: authority.clone(), unresolved, reason };
    let addresses = (authority.host.as_str(), authority.port)
        .to_socket_addrs()
        .map_err(|error| fail(true, error))?;
    let started = Instant::now();
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    let mut untried = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        // A silent address leaves those behind it their share of the time.
        let left = timeout.saturating_sub(started.elapsed());
        let share = left.checked_div(untried).unwrap_or(left).max(Duration::from_millis(1));
        untried = untried.saturating_sub(1);
        match TcpStream::connect_timeout(&address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(fail(false, last))
}

/// Whether a connection leads to one of `listening`, by whatever name it was dialed.
pub fn is_own(stream: &TcpStream, listening: &[SocketAddr]) -> bool {
    let Ok(peer) = stream.peer_addr() else { return false };
    let ip = peer.ip().to_canonical();
    // Who listens at every address is reached at each that this machine talks to itself by.
    let here = ip.is_loopback() || stream.local_addr().is_ok_and(|own| own.ip() == peer.ip());
    listening.iter().any(|own| {
        own.port() == peer.port() && (own.ip() == ip || here && own.ip().is_unspecified())
    })
}

/// The configured parents and what is known of them.
pub struct Parents {
    list: Vec<Parent>,
    timeout: Duration,
}

/// One parent.
pub struct Parent {
    /// Its name and port.
    pub authority: Authority,
    /// It demanded a login before.
    challenges: AtomicBool,
    /// How NTLM messages travelled to it, so that a handshake may begin without asking.
    carrier: Mutex<Option<Carrier>>,
    /// It answered before, whatever it said.
    heard: AtomicBool,
    /// It could not be reached and is left alone until then.
    rests_until: Mutex<Option<Instant>>,
}

impl Parents {
    /// Parents in the order in which they are to be tried; `timeout` is how long one may take to
    /// accept a connection, and how long it rests after it failed.
    pub fn new(list: &[Authority], timeout: Duration) -> Self {
        let parent = |authority: &Authority| Parent {
            authority: authority.clone(),
            challenges: AtomicBool::new(false),
            carrier: Mutex::new(None),
            heard: AtomicBool::new(false),
            rests_until: Mutex::new(None),
        };
        Self { list: list.iter().map(parent).collect(), timeout }
    }

    /// How long a parent may take to accept a connection.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// All parents: those that do not rest first, each group in its configured order.
    pub fn order(&self) -> impl Iterator<Item = &Parent> {
        let now = Instant::now();
        let (resting, awake): (Vec<_>, Vec<_>) = self.list.iter().partition(|p| p.rests(now));
        awake.into_iter().chain(resting)
    }

    /// Connects to a parent; it rests when that fails, and rests no more when it succeeds.
    ///
    /// # Errors
    /// As [`dial`].
    pub fn dial(&self, parent: &Parent) -> Result<TcpStream, DialError> {
        let dialed = dial(&parent.authority, self.timeout);
        let now = Instant::now();
        let rested = parent.rests(now);
        let until = if dialed.is_err() { now.checked_add(self.timeout) } else { None };
        *parent.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        match &dialed {
            Err(error) if !rested && self.list.len() > 1 => {
                log::warn!("parent {error}; it rests for {} s", self.timeout.as_secs());
            }
            Ok(_) if rested => log::info!("parent {} is back", parent.authority),
            _ => {}
        }
        dialed
    }
}

impl Parent {
    fn rests(&self, now: Instant) -> bool {
        let until = *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| until > now)
    }

    /// Whether it demanded a login before.
    pub fn challenges(&self) -> bool {
        self.challenges.load(Ordering::Relaxed)
    }

    /// How NTLM messages travel to it, once one went.
    pub fn carrier(&self) -> Option<Carrier> {
        *self.carrier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// NTLM messages travel to it like this; or not at all, it wants something else.
    pub fn note_carrier(&self, carrier: Option<Carrier>) {
        *self.carrier.lock().unwrap_or_else(PoisonError::into_inner) = carrier;
    }

    /// Whether it ever answered.
    pub fn was_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// It answered; `challenged` when with a demand to log in.
    pub fn note_answer(&self, challenged: bool) {
        if !self.was_heard() {
            self.heard.store(true, Ordering::Relaxed);
        }
        if challenged && !self.challenges() {
            self.challenges.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn our_own_door_is_known_at_every_address() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let own = [listener.local_addr().unwrap()];
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let alone = [other.local_addr().unwrap()];
        for ip in ["127.0.0.1", "127.0.0.2"] {
            let stream = TcpStream::connect((ip, own[0].port())).unwrap();
            assert!(is_own(&stream, &own) && !is_own(&stream, &alone), "{ip}");
        }
        // The same port at another address may be anybody's.
        let elsewhere = TcpListener::bind(("127.0.0.3", alone[0].port())).unwrap();
        let stream = TcpStream::connect(elsewhere.local_addr().unwrap()).unwrap();
        assert!(!is_own(&stream, &alone) && is_own(&stream, &[elsewhere.local_addr().unwrap()]));
    }

    #[test]
    fn a_parent_that_failed_is_tried_last() {
        let list = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]
            .map(|text| Authority::parse(text, None).unwrap());
        let parents = Parents::new(&list, Duration::from_secs(60));
        let order = || parents.order().map(|p| p.authority.port).collect::<Vec<_>>();
        assert_eq!(order(), [1, 2, 3]);
        let error = parents.dial(parents.order().next().unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("127.0.0.1:1 cannot be reached: "), "{error}");
        assert_eq!(order(), [2, 3, 1]);
    }
}
