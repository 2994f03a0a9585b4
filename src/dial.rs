//! From a name to a connected socket.
//!
//! A name is resolved for every connection, so that an address that moved is found.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Reach;
use crate::http::target::Authority;

/// How long an origin may take to accept a connection.
pub const ORIGIN_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For how long an address that failed is tried after the others of its name: to find out about a
/// silent one costs half the time of a connection. And how many are remembered.
const ADDRESS_REST: Duration = Duration::from_secs(300);
const MAX_FAILED: usize = 256;

/// What is said where all addresses are out of reach.
const FORBIDDEN: io::ErrorKind = io::ErrorKind::PermissionDenied;

/// Why there is no connection.
#[derive(Clone, Debug)]
pub struct DialError {
    /// Who was to be reached.
    pub authority: Authority,
    /// Whether the name could not be resolved; else it could not be connected to.
    pub unresolved: bool,
    /// The system's reason; none of its own where all addresses are out of reach.
    pub reason: Arc<io::Error>,
}

impl DialError {
    /// Whether it is out of this client's reach.
    pub fn is_forbidden(&self) -> bool {
        self.reason.kind() == FORBIDDEN && self.reason.raw_os_error().is_none()
    }

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

/// Connects to the first address of `authority` within `reach` that answers, all of them within
/// `timeout`.
///
/// # Errors
/// [`DialError`], with the reason of the last address.
pub fn dial(
    authority: &Authority,
    timeout: Duration,
    reach: Reach,
) -> Result<TcpStream, DialError> {
    let fail = |unresolved, reason: io::Error| DialError {
        authority: authority.clone(),
        unresolved,
        reason: Arc::new(reason),
    };
    let addresses = (authority.host.as_str(), authority.port)
        .to_socket_addrs()
        .map_err(|error| fail(true, error))?;
    // These very addresses are connected to: what the name means later leads nowhere else.
    let within: Vec<_> = addresses.filter(|address| reach.includes(address.ip())).collect();
    connect(&within, timeout).map_err(|error| fail(false, error))
}

/// Connects to the first of `addresses` that answers. Those before it that failed lately come last.
fn connect(addresses: &[SocketAddr], timeout: Duration) -> io::Result<TcpStream> {
    let several = addresses.len() > 1;
    let resting = addresses.iter().take_while(|address| several && rests(**address)).count();
    let (resting, fit) = addresses.split_at(resting);
    let started = Instant::now();
    let mut last = FORBIDDEN.into();
    let mut untried = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in fit.iter().chain(resting) {
        // A silent address leaves those behind it their share of the time.
        let left = timeout.saturating_sub(started.elapsed());
        let share = left.checked_div(untried).unwrap_or(left).max(Duration::from_millis(1));
        untried = untried.saturating_sub(1);
        let dialed = TcpStream::connect_timeout(address, share);
        if several {
            note(*address, dialed.is_err());
        }
        match dialed {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Of names with several addresses, those that failed, and when.
static FAILED: Mutex<Vec<(SocketAddr, Instant)>> = Mutex::new(Vec::new());

fn failed() -> MutexGuard<'static, Vec<(SocketAddr, Instant)>> {
    FAILED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether an address failed lately. After its rest one connection tries it in its turn, and the
/// others do when that one succeeded.
fn rests(address: SocketAddr) -> bool {
    let mut failed = failed();
    let Some((_, since)) = failed.iter_mut().find(|(own, _)| *own == address) else { return false };
    let rests = since.elapsed() < ADDRESS_REST;
    if !rests {
        *since = Instant::now();
    }
    rests
}

fn note(address: SocketAddr, has_failed: bool) {
    let mut failed = failed();
    if let Some(at) = failed.iter().position(|(own, _)| *own == address) {
        failed.swap_remove(at);
    }
    if has_failed {
        if failed.len() >= MAX_FAILED {
            failed.clear();
        }
        failed.push((address, Instant::now()));
    }
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

    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

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
    fn others_are_not_led_to_this_machine_by_any_name() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let to = |host: &str, reach| {
            let authority = Authority::parse(&format!("{host}:{port}"), None).unwrap();
            dial(&authority, Duration::from_secs(10), reach)
        };
        for host in ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "[::1]", "[::]"] {
            let error = to(host, Reach::Outside).unwrap_err();
            assert!(error.is_forbidden(), "{error}");
        }
        assert!(listener.accept().is_err(), "nobody came");
        assert!(to("127.0.0.1", Reach::Everywhere).is_ok());
    }

    #[test]
    fn an_address_that_failed_is_tried_last_until_one_found_it_well() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        // It refuses, until somebody listens there.
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&fd, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = SocketAddr::try_from(getsockname(&fd).unwrap()).unwrap();
        let list = [address, other.local_addr().unwrap()];
        let peer = || {
            let stream = connect(&list, Duration::from_secs(10)).unwrap();
            stream.peer_addr().unwrap()
        };
        assert_eq!(peer(), list[1]);
        listen(&fd, 8).unwrap();
        assert_eq!(peer(), list[1], "it rests");
        for (_, since) in failed().iter_mut().filter(|(own, _)| *own == address) {
            *since = since.checked_sub(ADDRESS_REST).unwrap();
        }
        assert!(!rests(address) && rests(address), "one tries it");
        note(address, false);
        assert_eq!(peer(), list[0]);
        // Last is not never.
        note(address, true);
        assert_eq!(
            connect(&[address, address], Duration::from_secs(10)).unwrap().peer_addr().unwrap(),
            address
        );
    }
}
