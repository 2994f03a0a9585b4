//! Where clients can connect, and which door is behind: opened and closed as the configuration
//! says. Knows no client.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{Config, Tunnel};
use crate::http::target::Authority;
use crate::sys;

/// What a client finds behind a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// A proxy.
    Http,
    /// The same, for clients of SOCKS5.
    Socks,
    /// A way to one place.
    Tunnel(Authority),
}

/// A listener that could not be had.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    /// What the port comes from.
    key: &'static str,
    reason: io::Error,
}

impl std::error::Error for BindError {}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, key, reason } = self;
        write!(f, "cannot listen at {} on port {}: {reason}", address.ip(), address.port())?;
        match reason.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "; another program (or another ntlmaps) has it: stop that one or choose another \
                 {key}"
            ),
            io::ErrorKind::PermissionDenied => {
                write!(f, "; ports below 1024 are for root: choose another {key}")
            }
            io::ErrorKind::AddrNotAvailable => {
                f.write_str("; this machine has no such address: see LISTEN_ADDRESS")
            }
            _ => Ok(()),
        }
    }
}

/// A socket that listens.
pub struct Listener {
    socket: TcpListener,
    /// The address as the configuration has it: its port may be 0.
    asked: SocketAddr,
    door: Mutex<Door>,
    closed: AtomicBool,
    started: AtomicBool,
}

impl Listener {
    /// The next client; `None` once it is closed.
    pub fn accept(&self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        let accepted = self.socket.accept();
        (accepted.is_ok() || !self.closed.load(Ordering::SeqCst)).then_some(accepted)
    }

    /// Accepts no more; whoever waits in [`Listener::accept`] is told. Those who are in the queue
    /// are connected, as far as they know: the kernel would reset them, so `last` gets them.
    pub fn close(&self, mut last: impl FnMut(TcpStream, SocketAddr)) {
        /// While they come as fast as they go, it has to end nevertheless.
        const LONGEST_QUEUE: usize = 4096;
        self.closed.store(true, Ordering::SeqCst);
        if self.socket.set_nonblocking(true).is_ok() {
            let queue = std::iter::from_fn(|| self.socket.accept().ok()).take(LONGEST_QUEUE);
            queue.for_each(|(stream, peer)| last(stream, peer));
        }
        sys::stop_listening(&self.socket);
    }

    /// Whether this is the first to ask: a listener is served by one thread.
    pub fn start(&self) -> bool {
        !self.started.swap(true, Ordering::SeqCst)
    }

    /// What is behind it now.
    pub fn door(&self) -> Door {
        self.door.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_door(&self, door: Door) {
        *self.door.lock().unwrap_or_else(PoisonError::into_inner) = door;
    }

    /// Whether it is what the configuration asks for. Where the kernel chooses the port, only the
    /// door tells one from another.
    fn suits(&self, asked: SocketAddr, door: &Door) -> bool {
        self.asked == asked && (asked.port() != 0 || self.door() == *door)
    }
}

/// As the first lines on standard output say.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.socket.local_addr().map_err(|_| fmt::Error)?;
        write!(f, "Now listening at {} on port {}", address.ip(), address.port())?;
        match self.door() {
            Door::Http => Ok(()),
            Door::Socks => f.write_str(" for SOCKS5"),
            Door::Tunnel(to) => write!(f, " for a tunnel to {to}"),
        }
    }
}

/// Every listener of a configuration; HTTP comes first.
#[derive(Clone, Default)]
pub struct Listeners(Vec<Arc<Listener>>);

impl Listeners {
    /// Opens what `config` asks for; those of `before` that it asks for too stay as they are. Where
    /// nobody named addresses, those that this machine does not have (IPv6, often) are left out.
    ///
    /// # Errors
    /// The first [`BindError`] that matters; nothing has changed then.
    pub fn open(config: &Config, before: &Self) -> Result<Self, BindError> {
        let mut opened = Vec::new();
        let mut doors = vec![(None, config.listen_port, Door::Http)];
        doors.extend(config.socks_port.map(|port| (None, port, Door::Socks)));
        doors.extend(
            config
                .tunnels
                .iter()
                .map(|Tunnel { address, port, to }| (*address, *port, Door::Tunnel(to.clone()))),
        );
        for (address, port, door) in doors {
            open_door(config, before, address, port, &door, &mut opened)?;
        }
        for (listener, door) in &opened {
            listener.set_door(door.clone());
            if let Err(error) = sys::set_backlog(&listener.socket, config.backlog) {
                log::warn!("MAX_CONNECTION_BACKLOG: {error}");
            }
        }
        Ok(Self(opened.into_iter().map(|(listener, _)| listener).collect()))
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Listener>> {
        self.0.iter()
    }

    /// Whether this very listener is among them.
    pub fn contains(&self, listener: &Arc<Listener>) -> bool {
        self.0.iter().any(|own| Arc::ptr_eq(own, listener))
    }

    /// Where clients can connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().filter_map(|listener| listener.socket.local_addr().ok()).collect()
    }
}

/// Opens a door at one address, or at all of `LISTEN_ADDRESS`.
fn open_door(
    config: &Config,
    before: &Listeners,
    address: Option<IpAddr>,
    port: u16,
    door: &Door,
    opened: &mut Vec<(Arc<Listener>, Door)>,
) -> Result<(), BindError> {
    let first = opened.len();
    let addresses = match &address {
        Some(address) => std::slice::from_ref(address),
        None => config.listen_addresses.as_slice(),
    };
    let mut missing = None;
    // Where the kernel chooses the port, it chooses one for all addresses.
    let mut chosen = port;
    for ip in addresses {
        let asked = SocketAddr::new(*ip, port);
        let fits = |known: &&Arc<Listener>| known.suits(asked, door);
        let listener = match before.iter().find(fits) {
            Some(known) => Ok(Arc::clone(known)),
            None => sys::listen(SocketAddr::new(*ip, chosen), config.backlog).map(|socket| {
                Arc::new(Listener {
                    socket,
                    asked,
                    door: Mutex::new(door.clone()),
                    closed: AtomicBool::default(),
                    started: AtomicBool::default(),
                })
            }),
        };
        match listener {
            Ok(listener) => {
                chosen = listener.socket.local_addr().map_or(chosen, |address| address.port());
                opened.push((listener, door.clone()));
            }
            Err(reason) => {
                let key = match door {
                    Door::Http => "LISTEN_PORT",
                    Door::Socks => "SOCKS5_PORT",
                    Door::Tunnel(_) => "port in TUNNELS",
                };
                let taken = reason.kind() == io::ErrorKind::AddrInUse;
                let error = BindError { address: SocketAddr::new(*ip, chosen), key, reason };
                if taken || !config.listen_addresses_are_default {
                    return Err(error);
                }
                missing = Some(error);
            }
        }
    }
    missing.filter(|_| opened.len() == first).map_or(Ok(()), Err)
}
