//! A stand-in for the corporate proxy: demands NTLM, forwards, tunnels, and remembers every
//! request.

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::acceptor::Acceptor;
use super::connection::Connection;
use super::gate::Rules;
use super::hops::{Hop, Hops, Leg};
use super::http::DEADLINE;
use super::listener::{Listener, lock};
use super::quirks::{Plan, Quirk};
use super::wire::Wire;

/// How long a connection may lie idle; tests end far earlier, and dropping the parent ends it at
/// once.
const IDLE: Duration = Duration::from_secs(60);

/// A parent being described; `start` sets it up.
pub struct Builder {
    rules: Option<Rules>,
    plan: Plan,
    origin: Option<SocketAddr>,
    patience: (Duration, Duration),
    watch: Option<Watch>,
}

type Watch = Box<dyn Fn(&Hop) + Send + Sync>;

impl Builder {
    /// Every host name means this address.
    pub fn origin(self, addr: SocketAddr) -> Self {
        Self { origin: Some(addr), ..self }
    }

    /// Changes how it challenges and what it accepts, e.g. `|acceptor| acceptor.lenient()`.
    pub fn acceptor(mut self, change: impl FnOnce(Acceptor) -> Acceptor) -> Self {
        self.rules = self.rules.map(|rules| Rules { acceptor: change(rules.acceptor), ..rules });
        self
    }

    pub fn quirk(mut self, quirk: Quirk) -> Self {
        let mut open = Rules::new(Acceptor::new(&[]));
        self.plan.add(quirk, self.rules.as_mut().unwrap_or(&mut open));
        self
    }

    /// The lines of a bare 407; short for [`Quirk::Offer`].
    pub fn offer(self, lines: &[&str]) -> Self {
        self.quirk(Quirk::Offer(lines.iter().map(|line| (*line).into()).collect()))
    }

    /// Called with each hop as it is answered.
    pub fn watch(self, watch: impl Fn(&Hop) + Send + Sync + 'static) -> Self {
        Self { watch: Some(Box::new(watch)), ..self }
    }

    /// Real peers need longer than the tests' deadlines: within a message, and between two.
    pub fn patience(self, within: Duration, between: Duration) -> Self {
        Self { patience: (within, between), ..self }
    }

    pub fn start(self) -> Parent {
        self.start_at("127.0.0.1:0").expect("a loopback port")
    }

    pub fn start_at(self, at: &str) -> io::Result<Parent> {
        self.serve(TcpListener::bind(at)?)
    }

    /// With a socket that listens already.
    pub fn serve(self, socket: TcpListener) -> io::Result<Parent> {
        let shared = Arc::new(Shared {
            rules: self.rules,
            plan: self.plan,
            origin: self.origin,
            patience: self.patience,
            watch: self.watch,
            hops: Hops::default(),
            phases: Mutex::default(),
            moved: Condvar::new(),
        });
        let inside = Arc::clone(&shared);
        let listener = Listener::serve(socket, move |number, stream, live| {
            inside.enter(number, &stream);
            if let Ok(wire) = Wire::new(stream) {
                Connection::new(&inside, number, wire, live).serve();
            }
            inside.leave(number);
        })?;
        Ok(Parent { listener, shared })
    }
}

pub struct Parent {
    listener: Listener,
    shared: Arc<Shared>,
}

impl Parent {
    /// Accounts as (domain, user, password).
    pub fn ntlm(accounts: &[(&str, &str, &str)]) -> Builder {
        Self::with(Some(Rules::new(Acceptor::new(accounts))))
    }

    /// Asks nobody for anything.
    pub fn open() -> Builder {
        Self::with(None)
    }

    fn with(rules: Option<Rules>) -> Builder {
        let patience = (DEADLINE, IDLE);
        Builder { rules, plan: Plan::default(), origin: None, patience, watch: None }
    }

    pub fn addr(&self) -> SocketAddr {
        self.listener.addr()
    }

    /// Everything so far.
    pub fn hops(&self) -> Vec<Hop> {
        self.shared.hops.all()
    }

    /// Waits until the hops satisfy the test; panics at the deadline, saying what there was.
    pub fn wait_until(&self, enough: impl Fn(&[Hop]) -> bool) -> Vec<Hop> {
        self.shared.hops.wait_until(enough)
    }

    /// Accepted AUTHENTICATE messages.
    pub fn handshakes(&self) -> usize {
        self.hops().iter().filter(|hop| hop.logon().is_some()).count()
    }

    /// Refused AUTHENTICATE messages: what a domain controller counts before it locks an account.
    pub fn refusals(&self) -> usize {
        self.hops().iter().filter(|hop| matches!(hop.leg, Leg::Authenticate(Err(_)))).count()
    }

    /// What arrived and was not HTTP to the letter.
    pub fn faults(&self) -> Vec<String> {
        self.shared.hops.faults()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.listener.connections()
    }

    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        lock(&self.shared.phases).len()
    }

    /// Closes every connection that waits for a request, and waits for those about to; says how
    /// many. Tunnels stay.
    pub fn close_idle(&self) -> usize {
        self.shared.close_idle()
    }

    /// Dies: the port refuses, every connection is cut. What was recorded remains.
    pub fn stop(&mut self) {
        self.listener.stop();
    }
}

/// Where a connection is, as far as closing it from outside goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Idle,
    Reading,
    Answering,
    Tunnel,
}

/// What the connections of a parent have in common.
pub struct Shared {
    pub rules: Option<Rules>,
    pub plan: Plan,
    pub origin: Option<SocketAddr>,
    pub patience: (Duration, Duration),
    pub watch: Option<Watch>,
    pub hops: Hops,
    phases: Mutex<BTreeMap<usize, (Phase, TcpStream)>>,
    moved: Condvar,
}

impl Shared {
    fn enter(&self, number: usize, stream: &TcpStream) {
        if let Ok(copy) = stream.try_clone() {
            lock(&self.phases).insert(number, (Phase::Idle, copy));
        }
    }

    fn leave(&self, number: usize) {
        lock(&self.phases).remove(&number);
        self.moved.notify_all();
    }

    pub fn phase(&self, number: usize, phase: Phase) {
        if let Some(entry) = lock(&self.phases).get_mut(&number) {
            entry.0 = phase;
        }
        self.moved.notify_all();
    }

    fn close_idle(&self) -> usize {
        // Who has read a whole answer may ask before the thread that wrote it is back at waiting.
        let settle = |phases: &mut BTreeMap<usize, (Phase, TcpStream)>| {
            phases.values().any(|(phase, _)| *phase == Phase::Answering)
        };
        let waited = self.moved.wait_timeout_while(lock(&self.phases), DEADLINE, settle);
        let (phases, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let idle = phases.iter().filter(|(_, (phase, _))| *phase == Phase::Idle);
        let doomed: Vec<usize> = idle.map(|(number, _)| *number).collect();
        for number in &doomed {
            _ = phases[number].1.shutdown(Shutdown::Both);
        }
        let gone = |phases: &mut BTreeMap<usize, _>| {
            doomed.iter().any(|number| phases.contains_key(number))
        };
        drop(self.moved.wait_timeout_while(phases, DEADLINE, gone));
        doomed.len()
    }
}
