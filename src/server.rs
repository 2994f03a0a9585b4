//! A thread for each listener, and one for each client. Knows who may come in; knows nothing of what
//! they say.

use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clients::{Clients, Permit, Seat};
use crate::config::{Config, Reach};
use crate::conn::Conn;
use crate::current::Current;
use crate::door;
use crate::gateway::Gateway;
use crate::listeners::{BindError, Door, Listener, Listeners};
use crate::logging;
use crate::session::{Session, Silent};
use crate::sys;
use crate::threads::{self, Work};
use crate::waiting::{Guest, WaitingRoom};

/// How long a client may be silent between requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Bound listeners; nobody is served yet, but connections already queue.
pub struct Server(Arc<Shared>);

/// What all threads see.
struct Shared {
    current: Current,
    clients: Arc<Clients>,
    waiting: WaitingRoom,
    listeners: Mutex<Listeners>,
}

impl Server {
    /// Binds every address of the configuration.
    ///
    /// # Errors
    /// [`BindError`], or what the system has nothing left of.
    pub fn bind(mut config: Config) -> Result<Self, Box<dyn Error>> {
        resolve_friends(&mut config);
        let listeners = Listeners::open(&config, &Listeners::default(), &|_| {})?;
        let clients = Clients::new(room(&config));
        let current = Current::new(Gateway::new(config, listeners.addresses()));
        let listeners = Mutex::new(listeners);
        let waiting = WaitingRoom::new()?;
        Ok(Self(Arc::new(Shared { current, clients, waiting, listeners })))
    }

    /// Where clients can connect; HTTP comes first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.listeners().addresses()
    }

    /// The same in words, a line for each address.
    pub fn announcement(&self) -> String {
        self.0.listeners().iter().map(|listener| format!("{listener}\n")).collect()
    }

    /// What ends [`Server::run`] from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.0))
    }

    /// What changes the configuration from another thread.
    pub fn reloader(&self) -> Reloader {
        Reloader(Arc::clone(&self.0))
    }

    /// Serves until a [`Stopper`] says otherwise; clients that are busy go on then.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn run(&self) -> io::Result<()> {
        self.0.start()?;
        let shared = Arc::clone(&self.0);
        threads::try_start(Box::new(move || {
            shared.waiting.attend(|| shared.gateway().pool.sweep());
        }))
        .map_err(|(error, _)| error)?;
        self.0.clients.wait_until_stopping();
        Ok(())
    }

    /// Waits for the last clients, but no longer than that; whether they are gone.
    pub fn drain(&self, limit: Duration) -> bool {
        self.0.clients.wait_until_gone(limit)
    }
}

/// Ends a server.
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// No new clients and no new requests; what has begun goes on.
    pub fn stop(&self) {
        let mut listeners = self.0.listeners();
        for listener in std::mem::take(&mut *listeners).iter() {
            self.0.close(listener);
        }
        self.0.clients.stop();
    }
}

/// Changes the configuration of a running server.
pub struct Reloader(Arc<Shared>);

impl Reloader {
    /// What holds now.
    pub fn gateway(&self) -> Arc<Gateway> {
        self.0.gateway()
    }

    /// Where clients can connect now; HTTP comes first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.listeners().addresses()
    }

    /// From the next request on, this holds; running requests and tunnels go on as they began. The
    /// pool is dropped and the guard starts afresh. Listeners that are still asked for go on
    /// accepting.
    ///
    /// # Errors
    /// When a listener cannot be had; nothing has changed then.
    pub fn reload(&self, mut config: Config) -> Result<(), BindError> {
        resolve_friends(&mut config);
        let mut listeners = self.0.listeners();
        if self.0.clients.is_stopping() {
            return Ok(());
        }
        let opened = match Listeners::open(&config, &listeners, &|gone| self.0.close(gone)) {
            Ok(opened) => opened,
            Err(error) => {
                listeners.reopen(self.gateway().config.backlog);
                drop(listeners);
                self.start();
                return Err(error);
            }
        };
        self.0.clients.set_limit(room(&config));
        self.0.current.set(Gateway::new(config, opened.addresses()));
        let before = std::mem::replace(&mut *listeners, opened);
        for gone in before.iter().filter(|listener| !listeners.contains(listener)) {
            self.0.close(gone);
        }
        for new in listeners.iter().filter(|listener| !before.contains(listener)) {
            log::info!("{new}");
        }
        drop(listeners);
        self.start();
        Ok(())
    }

    fn start(&self) {
        if let Err(error) = self.0.start() {
            log::error!("a new listener is not served: {error}");
        }
    }
}

impl Shared {
    fn gateway(&self) -> Arc<Gateway> {
        self.current.gateway()
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those who came in time are served still, where there is room. Waits for nothing: a second
    /// signal must be heard.
    fn close(self: &Arc<Self>, listener: &Listener) {
        listener.close(|stream, peer| {
            let at_once = || self.clients.permit_at_once();
            let make_room = || self.waiting.give_way().then(at_once).flatten();
            let Some(permit) = at_once().or_else(make_room) else { return };
            let told = |error| log::warn!("{peer} cannot be served: {error}");
            match admit(stream, peer, listener.door(), self, permit) {
                Ok(Some(work)) => threads::try_start(work).unwrap_or_else(|(error, _)| told(error)),
                Ok(None) => {}
                Err(error) => told(error),
            }
        });
    }

    /// A thread for every listener that has none.
    fn start(self: &Arc<Self>) -> io::Result<()> {
        for listener in self.listeners().iter().filter(|listener| listener.start()) {
            let (listener, shared) = (Arc::clone(listener), Arc::clone(self));
            threads::try_start(Box::new(move || accept(&listener, &shared)))
                .map_err(|(error, _)| error)?;
        }
        Ok(())
    }
}

/// How many clients there is room for. More would take the descriptors from one another.
fn room(config: &Config) -> usize {
    let most = clients_for(sys::raise_descriptor_limit());
    if config.max_clients > most {
        log::warn!("MAX_CLIENTS: the limit on open files has room for {most}");
    }
    match config.max_clients {
        0 => most,
        asked => asked.min(most),
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

/// A client takes two descriptors; pipes make do with what is left.
fn clients_for(descriptors: Option<u64>) -> usize {
    let left = descriptors.map_or(u64::MAX, |limit| limit.saturating_sub(sys::LAST_DESCRIPTORS));
    usize::try_from(left / 2).unwrap_or(usize::MAX).max(1)
}

fn accept(listener: &Listener, shared: &Arc<Shared>) {
    let give_way = || shared.waiting.give_way();
    loop {
        // Before accepting: whoever cannot be served waits in the kernel's queue. Nobody gives way
        // to nobody.
        if shared.clients.is_full() && !listener.wait() {
            return;
        }
        shared.clients.wait_for_room(&give_way);
        let Some(accepted) = listener.accept() else { return };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                threads::rest(&error);
                continue;
            }
        };
        // Another listener may have been quicker.
        let Some(permit) = shared.clients.permit(&give_way) else { return };
        match admit(stream, peer, listener.door(), shared, permit) {
            Ok(Some(work)) => threads::start(work),
            Ok(None) => {}
            Err(error) => {
                log::warn!(target: "ntlmaps::often::serve", "{peer} cannot be served: {error}");
            }
        }
    }
}

/// Lets a client in, or tells it that it may not come; what is to be done for it then.
fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    door: Door,
    shared: &Arc<Shared>,
    permit: Permit,
) -> io::Result<Option<Work>> {
    // A machine talks to itself from whatever address it is talked to at.
    let canonical = |address: SocketAddr| address.ip().to_canonical();
    let here = canonical(peer).is_loopback()
        || stream.local_addr().is_ok_and(|own| canonical(own) == canonical(peer));
    let reach = if here { Reach::Everywhere } else { Reach::Outside };
    let gateway = shared.gateway();
    if let Some(reply) = gateway.refuse(peer, reach) {
        let Door::Http = door else { return Ok(None) };
        return sys::send_now(&stream, &reply.encode(None, false)).map(|_| None);
    }
    let (client, permitted_by) = (Conn::new(stream)?, gateway.number);
    let shared = Arc::clone(shared);
    Ok(Some(Box::new(move || {
        logging::serve(peer, || {
            let seat = permit.seat(client.shared_stream());
            let tunnel = match door {
                Door::Http => {
                    let session = Session::new(client, peer, reach, permitted_by);
                    let session = Silent::Session(session);
                    return attend(peer, session, seat, shared);
                }
                Door::Socks => door::socks(client, peer, reach, &shared.gateway()),
                Door::Tunnel(to) => door::through_tunnel(client, peer, &shared.gateway(), &to),
            };
            if let Some(tunnel) = tunnel {
                attend(peer, Silent::Tunnel(tunnel), seat, shared);
            }
        });
    })))
}

/// Does what there is to do for a client until it falls silent, and leaves it in the waiting room.
fn attend(peer: SocketAddr, client: Silent, seat: Seat, shared: Arc<Shared>) {
    let silent = match client {
        Silent::Session(session) => session.run(&seat, &shared.current),
        Silent::Tunnel(tunnel) => tunnel.run().map(Silent::Tunnel),
    };
    let Some(silent) = silent else {
        return shared.waiting.note_departure(|| !shared.gateway().pool.is_empty());
    };
    let (streams, until) = match &silent {
        Silent::Session(session) => (session.streams(), Instant::now().checked_add(IDLE_TIMEOUT)),
        Silent::Tunnel(tunnel) => (tunnel.streams(), None),
    };
    let here = Arc::clone(&shared);
    let resume = Box::new(move || logging::serve(peer, || attend(peer, silent, seat, shared)));
    here.waiting.admit(Guest { streams, until, resume });
    if here.clients.is_wanted() {
        here.waiting.give_way();
    }
}
