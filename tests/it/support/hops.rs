//! What a parent remembers: every request on every connection, what it was, and how it was
//! answered.

use std::fmt;
use std::io;
use std::sync::{Condvar, Mutex, PoisonError};

use super::acceptor::{Dialect, Logon, Why};
use super::http::{Body, DEADLINE, Fields, RequestHead};
use super::listener::lock;
use super::message::Negotiate;

/// What a request was to the parent's authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leg {
    /// Nobody is asked for anything here.
    Open,
    /// No credentials, on a connection that needs them.
    Bare,
    Negotiate(Result<Negotiate, Why>),
    Authenticate(Result<Logon, Why>),
    /// On an authenticated connection.
    Authenticated,
    Basic {
        user: String,
        ok: bool,
    },
    /// Credentials that make no sense here: the field's value.
    Other(String),
}

/// One request at the parent.
#[derive(Clone, Debug)]
pub struct Hop {
    /// From 1, in the order of acceptance.
    pub connection: usize,
    pub head: RequestHead,
    pub body: Body,
    pub leg: Leg,
    /// `None` until it is answered, for ever where the parent only closes.
    pub status: Option<u16>,
}

impl Hop {
    pub fn method(&self) -> &str {
        &self.head.method
    }

    pub fn target(&self) -> &str {
        &self.head.target
    }

    pub fn fields(&self) -> &Fields {
        &self.head.fields
    }

    /// Of an accepted AUTHENTICATE.
    pub fn logon(&self) -> Option<&Logon> {
        match &self.leg {
            Leg::Authenticate(Ok(logon)) => Some(logon),
            _ => None,
        }
    }
}

/// The leg in the words of somebody who watches the parent.
impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection, leg, head, .. } = self;
        let RequestHead { method, target, .. } = head;
        let status = self.status.map_or("no answer".into(), |status| status.to_string());
        write!(f, "#{connection} ")?;
        match leg {
            Leg::Open => write!(f, "{method} {target} -> {status}"),
            Leg::Bare => write!(f, "{method} {target} -> {status}, asks for credentials"),
            Leg::Negotiate(Ok(Negotiate { flags, length, .. })) => {
                write!(f, "NEGOTIATE: {length} bytes, flags {flags:#010x} -> {status}, CHALLENGE")
            }
            Leg::Negotiate(Err(why)) => write!(f, "NEGOTIATE -> {status}, no challenge: {why}"),
            Leg::Authenticate(Ok(logon)) => {
                let Logon { domain, user, workstation, dialect, mic, .. } = logon;
                let workstation = if workstation.is_empty() { "nowhere" } else { workstation };
                let mic = match (dialect, mic) {
                    (Dialect::Ntlmv2, true) => ", MIC good",
                    (Dialect::Ntlmv2, false) => ", no MIC",
                    _ => "",
                };
                write!(
                    f,
                    "AUTHENTICATE: {domain}\\{user} from {workstation}, {dialect}{mic} -> welcome; "
                )?;
                write!(f, "{method} {target} -> {status}")
            }
            Leg::Authenticate(Err(why)) => write!(f, "AUTHENTICATE -> {status}, refused: {why}"),
            Leg::Authenticated => {
                write!(f, "{method} {target} on the authenticated connection -> {status}")
            }
            Leg::Basic { user, ok: true } => {
                write!(f, "{method} {target}, Basic: {user} -> {status}")
            }
            Leg::Basic { user, ok: false } => write!(f, "Basic: {user} -> {status}, refused"),
            Leg::Other(value) => write!(f, "credentials of no use here ({value}) -> {status}"),
        }
    }
}

/// The list, shared by the parent's connections.
#[derive(Default)]
pub struct Hops {
    list: Mutex<Vec<Hop>>,
    faults: Mutex<Vec<String>>,
    changed: Condvar,
}

impl Hops {
    pub fn begin(&self, connection: usize, head: RequestHead, leg: Leg) -> usize {
        let mut list = lock(&self.list);
        list.push(Hop { connection, head, body: Body::default(), leg, status: None });
        self.changed.notify_all();
        list.len() - 1
    }

    pub fn body(&self, hop: usize, body: Body) {
        lock(&self.list)[hop].body = body;
        self.changed.notify_all();
    }

    /// To be called before the client can see the answer, so that whoever has seen it finds it
    /// here.
    pub fn answered(&self, hop: usize, status: u16) -> Hop {
        let mut list = lock(&self.list);
        list[hop].status = Some(status);
        self.changed.notify_all();
        list[hop].clone()
    }

    pub fn fault(&self, connection: usize, error: &io::Error) {
        lock(&self.faults).push(format!("connection {connection}: {error}"));
    }

    pub fn faults(&self) -> Vec<String> {
        lock(&self.faults).clone()
    }

    pub fn all(&self) -> Vec<Hop> {
        lock(&self.list).clone()
    }

    pub fn wait_until(&self, enough: impl Fn(&[Hop]) -> bool) -> Vec<Hop> {
        let waited =
            self.changed.wait_timeout_while(lock(&self.list), DEADLINE, |list| !enough(list));
        let (list, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "the parent waited in vain; it saw:\n{}", words(&list));
        list.clone()
    }
}

/// One line a hop, for messages of failed tests.
pub fn words(hops: &[Hop]) -> String {
    hops.iter().map(|hop| format!("{hop}\n")).collect()
}
