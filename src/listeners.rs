//! Where clients can connect, and which door is behind: opened and closed as the configuration
//! says. Knows no client.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{Config, Tunnel, is_one_place};
use crate::http::target::Authority;
use crate::sys::{self, Wait};

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
    address: SocketAddr,
    /// The address as the configuration has it: its port may be 0.
    asked: SocketAddr,
    door: Mutex<Door>,
    closed: AtomicBool,
    started: AtomicBool,
}

impl Listener {
    fn open(
        address: SocketAddr,
        asked: SocketAddr,
        door: Door,
        backlog: i32,
    ) -> io::Result<Arc<Self>> {
        let socket = sys::listen(address, backlog)?;
        Ok(Arc::new(Self {
            address: socket.local_addr()?,
            socket,
            asked,
            door: Mutex::new(door),
            closed: AtomicBool::default(),
            started: AtomicBool::default(),
        }))
    }

    /// The next client; `None` once it is closed.
    pub fn accept(&self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        let accepted = self.socket.accept();
        (accepted.is_ok() || !self.closed.load(Ordering::SeqCst)).then_some(accepted)
    }

    /// Waits until there is a next client; `false` once it is closed.
    pub fn wait(&self) -> bool {
        if let Err(error) = sys::poll(&mut [Wait::readable(&self.socket)], None) {
            log::debug!("{self}: {error}");
        }
        !self.closed.load(Ordering::SeqCst)
    }

    /// Accepts no more; whoever waits in [`Listener::accept`] is told. Those who are in the queue
    /// are connected, as far as they know: the kernel would reset them, so `last` gets them.
    pub fn close(&self, mut last: impl FnMut(TcpStream, SocketAddr)) {
        /// While they come as fast as they go, it has to end nevertheless.
        const LONGEST_QUEUE: usize = 4096;
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
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
        write!(f, "Now listening at {} on port {}", self.address.ip(), self.address.port())?;
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
    /// Those of `before` that would go anyway and are in the way are given to `close` first: nobody
    /// can have all addresses as long as one of them is taken.
    ///
    /// # Errors
    /// The first [`BindError`] that matters; what is new is given to `close` then, and nothing has
    /// changed after [`Listeners::reopen`].
    pub fn open(
        config: &Config,
        before: &Self,
        close: &dyn Fn(&Listener),
    ) -> Result<Self, BindError> {
        let mut doors = vec![(None, config.listen_port, Door::Http)];
        doors.extend(config.socks_port.map(|port| (None, port, Door::Socks)));
        doors.extend(
            config
                .tunnels
                .iter()
                .map(|Tunnel { address, port, to }| (*address, *port, Door::Tunnel(to.clone()))),
        );
        let stays = |listener: &Listener| {
            doors.iter().any(|(address, port, door)| {
                let mut all = addresses(config, address).iter();
                all.any(|ip| listener.suits(SocketAddr::new(*ip, *port), door))
            })
        };
        let free = |address: SocketAddr| {
            let goes = |known: &&Arc<Listener>| {
                known.address.port() == address.port()
                    && is_one_place(known.address.ip(), address.ip())
                    && !stays(known)
            };
            before.iter().filter(goes).for_each(|listener| close(listener));
        };
        let mut opened = Vec::new();
        for (address, port, door) in &doors {
            let result = open_door(config, before, &free, *address, *port, door, &mut opened);
            if let Err(error) = result {
                let opened = Self(opened.into_iter().map(|(listener, _)| listener).collect());
                opened.iter().filter(|new| !before.contains(new)).for_each(|new| close(new));
                return Err(error);
            }
        }
        for (listener, door) in &opened {
            listener.set_door(door.clone());
            if let Err(error) = sys::set_backlog(&listener.socket, config.backlog) {
                log::warn!("MAX_CONNECTION_BACKLOG: {error}");
            }
        }
        Ok(Self(opened.into_iter().map(|(listener, _)| listener).collect()))
    }

    /// Puts others in the place of those that are closed.
    pub fn reopen(&mut self, backlog: i32) {
        for listener in self.0.iter_mut().filter(|own| own.closed.load(Ordering::SeqCst)) {
            let Listener { address, asked, .. } = **listener;
            match Listener::open(address, asked, listener.door(), backlog) {
                Ok(again) => *listener = again,
                Err(error) => log::error!("nobody listens at {address} any more: {error}"),
            }
        }
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
        self.0.iter().map(|listener| listener.address).collect()
    }
}

/// Where a door is: at one address, or at all of `LISTEN_ADDRESS`.
fn addresses<'a>(config: &'a Config, address: &'a Option<IpAddr>) -> &'a [IpAddr] {
    address.as_ref().map_or(config.listen_addresses.as_slice(), std::slice::from_ref)
}

/// Opens a door. `free` closes what is in the way and may be closed.
fn open_door(
    config: &Config,
    before: &Listeners,
    free: &dyn Fn(SocketAddr),
    address: Option<IpAddr>,
    port: u16,
    door: &Door,
    opened: &mut Vec<(Arc<Listener>, Door)>,
) -> Result<(), BindError> {
    let first = opened.len();
    let mut missing = None;
    // Where the kernel chooses the port, it chooses one for all addresses.
    let mut chosen = port;
    for ip in addresses(config, &address) {
        let asked = SocketAddr::new(*ip, port);
        let fits = |known: &&Arc<Listener>| known.suits(asked, door);
        let listener = match before.iter().find(fits) {
            Some(known) => Ok(Arc::clone(known)),
            None => {
                let at = SocketAddr::new(*ip, chosen);
                free(at);
                Listener::open(at, asked, door.clone(), config.backlog)
            }
        };
        match listener {
            Ok(listener) => {
                chosen = listener.address.port();
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
