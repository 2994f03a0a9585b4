//! Idle authenticated connections. Who may use one: the same next hop *and* the same whole
//! credentials, secret included; with names alone, anybody who knows a name would ride on it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::credentials::Credentials;
use crate::conn::Conn;
use crate::failure::HopName;
use crate::http::target::Authority;

/// How many connections wait for their next request, and how long at most. Squid closes its side
/// after two minutes.
const MAX_IDLE: usize = 256;
const MAX_IDLE_TIME: Duration = Duration::from_secs(100);

/// What two requests must agree on to use the same connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Who is at the other end.
    pub hop: HopName,
    /// As whom the connection was authenticated, if at all.
    pub credentials: Option<Arc<Credentials>>,
    /// For whom alone it is.
    pub private: Option<Private>,
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

/// A connection that waits for its next request.
pub struct Idle {
    /// What it is.
    pub key: Key,
    /// Itself.
    pub conn: Conn,
    /// When its last request was over.
    pub since: Instant,
}

/// The pool: most recently used last.
#[derive(Default)]
pub struct Pool(Mutex<VecDeque<Idle>>);

impl Pool {
    /// The most recently used connection of that key that is still open and silent.
    pub fn take(&self, key: &Key) -> Option<Idle> {
        loop {
            let mut idle = {
                let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let at = all.iter().rposition(|idle| idle.key == *key)?;
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

    /// Leaves a connection for the next request of that key.
    pub fn put(&self, key: Key, mut conn: Conn) {
        conn.release_buffer();
        let now = Instant::now();
        let mut dropped = Vec::new();
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(oldest) = idle.front() {
            let old = now.saturating_duration_since(oldest.since) > MAX_IDLE_TIME;
            if !old && idle.len() < MAX_IDLE {
                break;
            }
            dropped.extend(idle.pop_front());
        }
        idle.push_back(Idle { key, conn, since: now });
        drop(idle);
        drop(dropped);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::auth::credentials::Secret;

    fn key(user: &str, password: &str, is_parent: bool) -> Key {
        let credentials =
            Credentials::from_password("D".into(), user.into(), &Secret::new(password));
        Key {
            hop: HopName { authority: Authority::parse("parent:8080", None).unwrap(), is_parent },
            credentials: Some(Arc::new(credentials)),
            private: None,
        }
    }

    #[test]
    fn only_the_same_credentials_get_a_connection_and_only_an_open_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let pool = Pool::default();
        let ann = key("ann", "a", true);
        pool.put(ann.clone(), Conn::new(stream).unwrap());
        let private = Some(Private { session: 1, origin: ann.hop.authority.clone() });
        let private = Key { private, ..ann.clone() };
        for other in [key("ann", "b", true), key("bob", "a", true), key("ann", "a", false), private]
        {
            assert!(pool.take(&other).is_none());
        }
        let Idle { conn, .. } = pool.take(&ann).unwrap();
        assert!(pool.take(&ann).is_none());
        pool.put(ann.clone(), conn);
        drop(peer);
        assert!(pool.take(&ann).is_none());
    }
}
