//! Listeners, each with the door behind it, and a thread for each client. Knows who may come in;
//! knows nothing of what they say.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use crate::clients::{Clients, Permit};
use crate::config::{Config, Tunnel};
use crate::conn::Conn;
use crate::door;
use crate::gateway::Gateway;
use crate::http::reply::Reply;
use crate::http::target::Authority;
use crate::session::Session;
use crate::sys;

/// A client's stack: name resolution of the C library is what needs the most.
const STACK_SIZE: usize = 256 * 1024;
/// Descriptors for everything but clients.
const RESERVED_DESCRIPTORS: u64 = 64;
/// How long accepting rests when the system has nothing to give.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// A listener that could not be had.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    /// What the port comes from.
    key: &'static str,
    reason: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, reason, .. } = self;
        write!(f, "cannot listen at {} on port {}: {reason}", address.ip(), address.port())?;
        match reason.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "; another program (or another ntlmaps) has it: stop that one or choose another \
                 {}",
                self.key
            ),
            io::ErrorKind::PermissionDenied => {
                write!(f, "; ports below 1024 are for root: choose another {}", self.key)
            }
            io::ErrorKind::AddrNotAvailable => {
                f.write_str("; this machine has no such address: see LISTEN_ADDRESS")
            }
            _ => Ok(()),
        }
    }
}

/// Bound listeners; nobody is served yet, but connections already queue.
pub struct Server {
    listeners: Vec<Listener>,
    shared: Arc<Shared>,
}

/// What a client finds behind a listener.
#[derive(Clone, Debug)]
enum Door {
    Http,
    Socks,
    Tunnel(Authority),
}

struct Listener {
    socket: TcpListener,
    door: Door,
}

/// Where clients can connect, and what is there: as the first lines on standard output say.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.socket.local_addr().map_err(|_| fmt::Error)?;
        write!(f, "Now listening at {} on port {}", address.ip(), address.port())?;
        match &self.door {
            Door::Http => Ok(()),
            Door::Socks => f.write_str(" for SOCKS5"),
            Door::Tunnel(to) => write!(f, " for a tunnel to {to}"),
        }
    }
}

/// What all threads see.
struct Shared {
    gateway: RwLock<Arc<Gateway>>,
    clients: Arc<Clients>,
}

impl Server {
    /// Binds every address of the configuration. Where nobody named addresses, those that this
    /// machine does not have (IPv6, often) are left out.
    ///
    /// # Errors
    /// The first [`BindError`] that matters.
    pub fn bind(mut config: Config) -> Result<Self, BindError> {
        resolve_friends(&mut config);
        let mut listeners = Vec::new();
        bind_at(&config, &None, config.listen_port, &Door::Http, &mut listeners)?;
        if let Some(port) = config.socks_port {
            bind_at(&config, &None, port, &Door::Socks, &mut listeners)?;
        }
        for Tunnel { address, port, to } in &config.tunnels {
            bind_at(&config, address, *port, &Door::Tunnel(to.clone()), &mut listeners)?;
        }
        let clients = Clients::new(match config.max_clients {
            0 => clients_for(sys::raise_descriptor_limit()),
            limit => limit,
        });
        let gateway = RwLock::new(Arc::new(Gateway::new(config)));
        let shared = Shared { gateway, clients };
        Ok(Self { listeners, shared: Arc::new(shared) })
    }

    /// Where clients can connect; HTTP comes first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.socket.local_addr().ok()).collect()
    }

    /// The same in words, a line for each address.
    pub fn announcement(&self) -> String {
        self.listeners.iter().map(|listener| format!("{listener}\n")).collect()
    }

    /// What ends [`Server::run`] from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper { addresses: self.addresses(), shared: Arc::clone(&self.shared) }
    }

    /// What changes the configuration from another thread.
    pub fn reloader(&self) -> Reloader {
        Reloader(Arc::clone(&self.shared))
    }

    /// Serves until a [`Stopper`] says otherwise, and stops listening then; clients that are busy
    /// go on.
    pub fn run(&mut self) {
        thread::scope(|scope| {
            for listener in &self.listeners {
                scope.spawn(|| accept(listener, &self.shared));
            }
        });
        self.listeners.clear();
    }

    /// Waits for the last clients, but no longer than that; whether they are gone.
    pub fn drain(&self, limit: Duration) -> bool {
        self.shared.clients.wait_until_gone(limit)
    }
}

/// Opens a door at one address, or at all of `LISTEN_ADDRESS`.
fn bind_at(
    config: &Config,
    address: &Option<IpAddr>,
    mut port: u16,
    door: &Door,
    listeners: &mut Vec<Listener>,
) -> Result<(), BindError> {
    let before = listeners.len();
    let addresses = match address {
        Some(address) => std::slice::from_ref(address),
        None => config.listen_addresses.as_slice(),
    };
    let key = match door {
        Door::Http => "LISTEN_PORT",
        Door::Socks => "SOCKS5_PORT",
        Door::Tunnel(_) => "port in TUNNELS",
    };
    let mut missing = None;
    for ip in addresses {
        let address = SocketAddr::new(*ip, port);
        match sys::listen(address, config.backlog) {
            Ok(socket) => {
                // Where the kernel chooses the port, it chooses one for all addresses.
                port = socket.local_addr().map_or(port, |address| address.port());
                listeners.push(Listener { socket, door: door.clone() });
            }
            Err(reason) => {
                let error = BindError { address, key, reason };
                let taken = error.reason.kind() == io::ErrorKind::AddrInUse;
                if taken || !config.listen_addresses_are_default {
                    return Err(error);
                }
                missing = Some(error);
            }
        }
    }
    missing.filter(|_| listeners.len() == before).map_or(Ok(()), Err)
}

/// Ends a server.
pub struct Stopper {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
}

impl Stopper {
    /// No new clients and no new requests; what has begun goes on.
    pub fn stop(&self) {
        self.shared.clients.stop();
        for address in &self.addresses {
            // accept() waits for a client; this is one.
            drop(TcpStream::connect_timeout(address, Duration::from_secs(1)));
        }
    }
}

/// Changes the configuration of a running server.
pub struct Reloader(Arc<Shared>);

impl Reloader {
    /// What holds now.
    pub fn gateway(&self) -> Arc<Gateway> {
        self.0.gateway()
    }

    /// From the next request on, this holds; running requests and tunnels go on as they began. The
    /// pool is dropped and the guard starts afresh. Where to listen does not change.
    pub fn reload(&self, mut config: Config) {
        let before = self.gateway();
        let listens = |config: &Config| (config.listen_port, config.listen_addresses.clone());
        if listens(&before.config) != listens(&config) {
            log::warn!("where to listen changes only when ntlmaps is started anew");
        }
        resolve_friends(&mut config);
        let gateway = Arc::new(Gateway::new(config));
        *self.0.gateway.write().unwrap_or_else(PoisonError::into_inner) = gateway;
    }
}

/// Names in FRIENDLY_IPS become addresses once, at start.
fn resolve_friends(config: &mut Config) {
    for name in std::mem::take(&mut config.clients.names) {
        match (name.as_str(), 0).to_socket_addrs() {
            Ok(addresses) => addresses.for_each(|address| config.clients.admit(address.ip())),
            Err(error) => log::warn!("FRIENDLY_IPS: {name} cannot be resolved: {error}"),
        }
    }
}

/// A client takes two descriptors, a tunnel under load six.
fn clients_for(descriptors: Option<u64>) -> usize {
    let left = descriptors.map_or(u64::MAX, |limit| limit.saturating_sub(RESERVED_DESCRIPTORS));
    usize::try_from(left / 2).unwrap_or(usize::MAX).max(1)
}

fn accept(listener: &Listener, shared: &Arc<Shared>) {
    loop {
        // Before accepting: whoever cannot be served waits in the kernel's queue.
        let Some(permit) = shared.clients.permit() else { return };
        let accepted = listener.socket.accept();
        if shared.clients.is_stopping() {
            return;
        }
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                log::warn!("no client can be accepted: {error}");
                thread::sleep(EXHAUSTED_PAUSE);
                continue;
            }
        };
        if let Err(error) = admit(stream, peer, &listener.door, shared, permit) {
            log::warn!("{peer} cannot be served: {error}");
        }
    }
}

/// Lets a client in, or tells it that it may not come.
fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    door: &Door,
    shared: &Arc<Shared>,
    permit: Permit,
) -> io::Result<()> {
    let permitted = {
        let gateway = shared.gateway();
        // A machine talks to itself from whatever address it is talked to at.
        gateway.config.clients.permits(peer.ip())
            || stream.local_addr().is_ok_and(|own| canonical(own) == canonical(peer))
    };
    if !permitted {
        log::warn!("{peer} is not in FRIENDLY_IPS and was refused");
        let Door::Http = door else { return Ok(()) };
        let reply = Reply::new(403, "This proxy does not serve your machine (FRIENDLY_IPS).");
        return sys::send_now(&stream, &reply.encode(None, false)).map(|_| ());
    }
    let client = Conn::new(stream)?;
    let (door, shared) = (door.clone(), Arc::clone(shared));
    thread::Builder::new().stack_size(STACK_SIZE).spawn(move || {
        let seat = permit.seat(client.shared_stream());
        match door {
            Door::Http => Session::new(client, peer).run(&seat, || shared.gateway()),
            Door::Socks => door::socks(client, peer, &shared.gateway()),
            Door::Tunnel(to) => door::through_tunnel(client, peer, &shared.gateway(), &to),
        }
    })?;
    Ok(())
}

fn canonical(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

impl Shared {
    fn gateway(&self) -> Arc<Gateway> {
        Arc::clone(&self.gateway.read().unwrap_or_else(PoisonError::into_inner))
    }
}
