//! From a name to a connected socket.
//!
//! A name is resolved for every connection, so that an address that moved is found.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::http::target::Authority;

/// How long an origin may take to accept a connection.
pub const ORIGIN_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no connection.
#[derive(Clone, Debug)]
pub struct DialError {
    /// Who was to be reached.
    pub authority: Authority,
    /// Whether the name could not be resolved; else it could not be connected to.
    pub unresolved: bool,
    /// The system's reason.
    pub reason: Arc<io::Error>,
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
    let fail = |unresolved, reason: io::Error| DialError {
        authority: authority.clone(),
        unresolved,
        reason: Arc::new(reason),
    };
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
}
