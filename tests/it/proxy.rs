//! The proxy under test, in this process, and the little network most tests want around it.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use ntlmaps::config::{Args, Config};
use ntlmaps::server::{Reloader, Server, Stopper};

use crate::support::gate::base64;
use crate::support::{Builder, Client, Hop, Leg, Origin, Parent, Response};

/// The one account of most parents, as (domain, user, password).
pub const ALICE: &[(&str, &str, &str)] = &[("CORP", "alice", "Secret-123")];
/// The lines of a configuration that log her in.
pub const LOGIN: &str = "USER: CORP\\alice\nPASSWORD: Secret-123\n";
/// Nobody logs in, and no client is asked to.
pub const NOBODY: &str = "NTLM_TO_BASIC: 0\n";

/// A proxy on a port of its own; it stops listening when dropped.
pub struct Proxy {
    addr: SocketAddr,
    doors: Vec<SocketAddr>,
    stopper: Stopper,
    reloader: Reloader,
    listening: Option<JoinHandle<()>>,
}

impl Proxy {
    /// `cfg` is what a user would write; where to listen is added.
    pub fn start(cfg: &str) -> Self {
        let server = Server::bind(config(cfg)).unwrap_or_else(|error| panic!("{error}"));
        let (doors, stopper) = (server.addresses(), server.stopper());
        Self {
            addr: doors[0],
            doors,
            stopper,
            reloader: server.reloader(),
            listening: Some(thread::spawn(move || server.run().expect("threads"))),
        }
    }

    /// As a signal would; dropping it does so too.
    pub fn stop(&self) {
        self.stopper.stop();
    }

    /// What `kill -HUP` does when that is what the user has written now.
    pub fn reload(&self, cfg: &str) {
        self.reloader.reload(config(cfg)).unwrap_or_else(|error| panic!("{error}"));
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A client of another door: SOCKS5 where there is one, then `TUNNELS` in their order.
    pub fn client_of(&self, door: usize) -> Client {
        Client::connect(self.addr_of(door))
    }

    /// Where that door is.
    pub fn addr_of(&self, door: usize) -> SocketAddr {
        self.doors[1 + door]
    }

    pub fn client(&self) -> Client {
        Client::connect(self.addr())
    }

    /// A client of its own for one GET.
    pub fn get(&self, url: &str) -> Response {
        self.client().get(url)
    }
}

fn config(cfg: &str) -> Config {
    let text = format!("LISTEN_ADDRESS: 127.0.0.1\nLISTEN_PORT: 0\n{cfg}");
    let loaded = Config::load("test.cfg", text.as_bytes(), &Args::default());
    loaded.unwrap_or_else(|notices| panic!("{notices:#?}")).config
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopper.stop();
        let ended = self.listening.take().is_none_or(|listening| listening.join().is_ok());
        assert!(ended || thread::panicking(), "the listener's thread panicked");
    }
}

/// A proxy, its parent and an origin that every host name leads to. When dropped it asserts that
/// nothing but proper HTTP arrived anywhere.
pub struct Network {
    pub proxy: Proxy,
    pub parent: Parent,
    pub origin: Origin,
}

impl Network {
    /// A strict NTLM parent, and alice logged in.
    pub fn ntlm() -> Self {
        Self::new(Parent::ntlm(ALICE), LOGIN)
    }

    /// A parent that asks for nothing, and nobody to log in.
    pub fn open() -> Self {
        Self::new(Parent::open(), NOBODY)
    }

    pub fn new(parent: Builder, cfg: &str) -> Self {
        Self::to(Origin::start(), parent, cfg)
    }

    pub fn to(origin: Origin, parent: Builder, cfg: &str) -> Self {
        let parent = parent.origin(origin.addr()).start();
        let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{cfg}", parent.addr()));
        Self { proxy, parent, origin }
    }

    pub fn client(&self) -> Client {
        self.proxy.client()
    }

    pub fn get(&self, path: &str) -> Response {
        self.proxy.get(&url(path))
    }

    /// What the parent saw, leg by leg: `bare GET`, `negotiate POST`, `authenticate POST`, ...
    pub fn legs(&self) -> Vec<String> {
        self.parent.hops().iter().map(leg).collect()
    }

    /// The last request the parent saw.
    pub fn last_hop(&self) -> Hop {
        self.parent.hops().pop().expect("a request at the parent")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert_eq!(self.parent.faults(), Vec::<String>::new());
            assert_eq!(self.origin.faults(), Vec::<String>::new());
        }
    }
}

/// A URL of the origin behind a parent that sends every name there.
pub fn url(path: &str) -> String {
    format!("http://example.test{path}")
}

fn leg(hop: &Hop) -> String {
    let kind = match &hop.leg {
        Leg::Open => "open",
        Leg::Bare => "bare",
        Leg::Negotiate(Ok(_)) => "negotiate",
        Leg::Negotiate(Err(_)) => "bad negotiate",
        Leg::Authenticate(Ok(_)) => "authenticate",
        Leg::Authenticate(Err(_)) => "bad authenticate",
        Leg::Authenticated => "authenticated",
        Leg::Basic { .. } => "basic",
        Leg::Other(_) => "other",
    };
    format!("{kind} {}", hop.method())
}

/// The field lines of a head as they stood on the wire.
pub fn lines(raw: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(raw);
    text.trim_end_matches("\r\n").split("\r\n").skip(1).map(str::to_owned).collect()
}

/// The value of Proxy-Authorization for `user:password`.
pub fn basic(pair: &str) -> String {
    format!("Basic {}", base64(pair.as_bytes()))
}
