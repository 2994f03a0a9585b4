//! Idle authenticated connections. Who may use one: the same next hop *and* the same whole
//! credentials, secret included; with names alone, anybody who knows a name would ride on it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::credentials::Credentials;
use crate::conn::Conn;
use crate::hop::HopName;
use crate::http::target::Authority;

/// How many connections wait for their next request.
const MAX_IDLE: usize = 256;
/// And how long at most. Squid closes its side after two minutes.
pub const MAX_IDLE_TIME: Duration = Duration::from_secs(100);

/// What two requests must agree on to use the same connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// Who is at the other end.
    pub hop: &'a HopName,
    /// As whom the connection was authenticated, if at all.
    pub credentials: Option<&'a Arc<Credentials>>,
    /// For whom alone it is.
    pub private: Option<&'a Private>,
}

/// The same, kept with a connection.
#[derive(Debug)]
pub struct OwnedKey {
    /// Who is at the other end.
    pub hop: HopName,
    credentials: Option<Arc<Credentials>>,
    private: Option<Private>,
}

impl Key<'_> {
    /// To be kept.
    pub fn to_owned(self) -> OwnedKey {
        OwnedKey {
            hop: self.hop.clone(),
            credentials: self.credentials.cloned(),
            private: self.private.cloned(),
        }
    }
}

impl OwnedKey {
    /// To be compared.
    pub fn as_key(&self) -> Key<'_> {
        let Self { hop, credentials, private } = self;
        Key { hop, credentials: credentials.as_ref(), private: private.as_ref() }
    }
}

/// A connection on which a client logged in to an origin by itself, by NTLM or Negotiate: from then
/// on it speaks for that client, so no other may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Private {
    /// The number of the client's connection.
    pub session: u64,
    /// Whom it logged in to.
    pub origin: Authority,
}

/// A connection to a next hop, and what it is in the pool. It stays in one place as long as it
/// lives: each request hands it on several times.
pub struct Line {
    /// What it is.
    pub key: OwnedKey,
    /// Itself.
    pub conn: Conn,
    /// When its last request was over.
    pub since: Instant,
}

impl Line {
    /// A connection that was just made.
    pub fn new(key: Key<'_>, conn: Conn) -> Box<Self> {
        Box::new(Self { key: key.to_owned(), conn, since: Instant::now() })
    }

    /// How long it was idle.
    fn rested(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

/// The pool: most recently used last.
#[derive(Default)]
pub struct Pool(Mutex<VecDeque<Box<Line>>>);

impl Pool {
    /// The most recently used connection of that key that is still open and silent, and was not idle
    /// for longer than `rest`.
    pub fn take(&self, key: Key<'_>, rest: Duration) -> Option<Box<Line>> {
        let now = Instant::now();
        loop {
            let mut idle = {
                let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let at = all.iter().rposition(|idle| idle.key.as_key() == key)?;
                // Those before it are older still.
                all.get(at).filter(|idle| idle.rested(now) <= rest)?;
                all.remove(at)?
            };
            // Outside the lock: a system call, and perhaps a close.
            if idle.conn.is_quiet() {
                return Some(idle);
            }
        }
    }

    /// Closes them all; whether there were any.
    pub fn clear(&self) -> bool {
        let idle = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        !idle.is_empty()
    }

    /// Leaves a connection for the next request of its key.
    pub fn put(&self, mut line: Box<Line>) {
        line.conn.release_buffer();
        let now = Instant::now();
        line.since = now;
        let mut dropped = Vec::new();
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(oldest) = idle.front() {
            if oldest.rested(now) <= MAX_IDLE_TIME && idle.len() < MAX_IDLE {
                break;
            }
            dropped.extend(idle.pop_front());
        }
        idle.push_back(line);
        drop(idle);
        drop(dropped);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::auth::credentials::Secret;

    fn credentials(user: &str, password: &str) -> Arc<Credentials> {
        let secret = Secret::new(password);
        Arc::new(Credentials::from_password("D".into(), user.into(), &secret))
    }

    #[test]
    fn only_the_same_credentials_get_a_connection_and_only_an_open_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let pool = Pool::default();
        let authority = Authority::parse("parent:8080", None).unwrap();
        let [parent, origin] =
            [true, false].map(|is_parent| HopName { authority: authority.clone(), is_parent });
        let [ann, changed, bob] = [("ann", "a"), ("ann", "b"), ("bob", "a")]
            .map(|(user, password)| credentials(user, password));
        let private = Private { session: 1, origin: authority };
        let key = Key { hop: &parent, credentials: Some(&ann), private: None };
        pool.put(Line::new(key, Conn::new(stream).unwrap()));
        for other in [
            Key { credentials: Some(&changed), ..key },
            Key { credentials: Some(&bob), ..key },
            Key { credentials: None, ..key },
            Key { hop: &origin, ..key },
            Key { private: Some(&private), ..key },
        ] {
            assert!(pool.take(other, MAX_IDLE_TIME).is_none());
        }
        let same = credentials("ann", "a");
        let same = Key { credentials: Some(&same), ..key };
        let line = pool.take(same, MAX_IDLE_TIME).unwrap();
        assert!(pool.take(key, MAX_IDLE_TIME).is_none());
        pool.put(line);
        let age = |by| {
            let mut idle = pool.0.lock().unwrap();
            idle[0].since = idle[0].since.checked_sub(by).unwrap();
        };
        age(MAX_IDLE_TIME / 2);
        assert!(pool.take(key, MAX_IDLE_TIME / 2).is_none());
        let line = pool.take(key, MAX_IDLE_TIME).unwrap();
        pool.put(line);
        age(MAX_IDLE_TIME);
        assert!(pool.take(key, MAX_IDLE_TIME).is_none());
        let line = pool.take(key, Duration::MAX).unwrap();
        pool.put(line);
        drop(peer);
        assert!(pool.take(key, MAX_IDLE_TIME).is_none());
    }
}
