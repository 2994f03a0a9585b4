//! Idle authenticated connections. Who may use one: the same next hop *and* the same whole
//! credentials, secret included; with names alone, anybody who knows a name would ride on it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::credentials::Credentials;
use crate::config::Reach;
use crate::conn::Conn;
use crate::hop::HopName;
use crate::http::target::Authority;
use crate::sys;

/// How many shelves there are. Where there are more processors, some share one.
const SHELVES: usize = 8;
/// How many connections wait for their next request, on each shelf.
const MAX_IDLE: usize = 256;
/// And how long at most. Squid closes its side after two minutes.
const MAX_IDLE_TIME: Duration = Duration::from_secs(100);
/// How soon one that waits is looked at without a next request.
const SOON: Duration = Duration::from_secs(10);
/// A connection that was idle for longer may lead nowhere any more.
pub const FRESH: Duration = Duration::from_secs(5);

/// What two requests must agree on to use the same connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// Who is at the other end.
    pub hop: &'a HopName,
    /// As whom the connection was authenticated, if at all.
    pub credentials: Option<&'a Arc<Credentials>>,
    /// For whom alone it is.
    pub private: Option<&'a Private>,
    /// Where its clients may be led.
    pub reach: Reach,
}

/// The same, kept with a connection.
#[derive(Debug)]
pub struct OwnedKey {
    /// Who is at the other end.
    pub hop: HopName,
    credentials: Option<Arc<Credentials>>,
    private: Option<Private>,
    reach: Reach,
}

impl Key<'_> {
    /// How long a connection may be idle and still be of use to anybody. What lies between may have
    /// forgotten it by then, and swallow a request: with a parent that shows in time, and a client's
    /// own login is worth the risk.
    pub fn longest_rest(self) -> Duration {
        if self.hop.is_parent || self.private.is_some() { MAX_IDLE_TIME } else { FRESH }
    }

    /// To be kept.
    pub fn to_owned(self) -> OwnedKey {
        OwnedKey {
            hop: self.hop.clone(),
            credentials: self.credentials.cloned(),
            private: self.private.cloned(),
            reach: self.reach,
        }
    }
}

impl OwnedKey {
    /// To be compared.
    pub fn as_key(&self) -> Key<'_> {
        let Self { hop, credentials, private, reach } = self;
        Key { hop, credentials: credentials.as_ref(), private: private.as_ref(), reach: *reach }
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
    since: Instant,
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

/// The pool: a shelf for each processor. A request gets what its own processor used last: the kernel's
/// part of the connection is in that one's cache, and so is whoever is at the other end, where that
/// is on the same machine. What another processor used has to be fetched from its cache.
#[derive(Default)]
pub struct Pool([Shelf; SHELVES]);

impl Pool {
    /// A connection of that key that is still open and silent, and was not idle for longer than
    /// `rest`; and for how long it was.
    pub fn take(&self, key: Key<'_>, rest: Duration) -> Option<(Box<Line>, Duration)> {
        self.take_near(sys::processor(), key, rest)
    }

    /// The same for a request that is served by that processor: from its shelf, or another one, as
    /// long as it is fresh.
    fn take_near(
        &self,
        processor: usize,
        key: Key<'_>,
        rest: Duration,
    ) -> Option<(Box<Line>, Duration)> {
        // What is fresh elsewhere is better than what is old here.
        [rest.min(FRESH), rest]
            .iter()
            .find_map(|rest| self.shelves(processor).find_map(|shelf| shelf.take(key, *rest)))
    }

    /// All shelves, that processor's first.
    fn shelves(&self, processor: usize) -> impl Iterator<Item = &Shelf> {
        let (far, near) = self.0.split_at(processor % SHELVES);
        near.iter().chain(far)
    }

    /// Leaves a connection for the next request of its key.
    pub fn put(&self, line: Box<Line>) {
        self.put_near(sys::processor(), line);
    }

    fn put_near(&self, processor: usize, line: Box<Line>) {
        if let Some(shelf) = self.shelves(processor).next() {
            shelf.put(line);
        }
    }

    /// Whether no connection waits.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|shelf| shelf.lock().is_empty())
    }

    /// Closes them all; whether there were any.
    pub fn clear(&self) -> bool {
        let idle = self.0.each_ref().map(|shelf| std::mem::take(&mut *shelf.lock()));
        !idle.iter().all(VecDeque::is_empty)
    }

    /// Closes those that were idle for too long or are no longer quiet. When to do so again.
    pub fn sweep(&self) -> Option<Instant> {
        self.0.iter().filter_map(Shelf::sweep).min()
    }
}

/// What one processor left: most recently used last. In a cache line of its own, which others look
/// at only for want of what they have.
#[derive(Default)]
#[repr(align(64))]
struct Shelf(Mutex<VecDeque<Box<Line>>>);

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Box<Line>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, key: Key<'_>, rest: Duration) -> Option<(Box<Line>, Duration)> {
        let now = Instant::now();
        loop {
            let mut idle = {
                let mut all = self.lock();
                let at = all.iter().rposition(|idle| idle.key.as_key() == key)?;
                // Those before it are older still.
                all.get(at).filter(|idle| idle.rested(now) <= rest)?;
                all.remove(at)?
            };
            // Outside the lock: a system call, and perhaps a close.
            if idle.conn.is_quiet() {
                let rested = idle.rested(now);
                return Some((idle, rested));
            }
        }
    }

    /// When to do so again: each is looked at once more soon after its last request, when most are
    /// closed by the other side, and at its end.
    fn sweep(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut all = self.lock();
        let (mut dropped, mut at) = (Vec::new(), 0_usize);
        while let Some(idle) = all.get(at) {
            if idle.rested(now) < idle.key.as_key().longest_rest()
                && sys::is_quiet(idle.conn.stream())
            {
                at = at.saturating_add(1);
            } else {
                dropped.extend(all.remove(at));
            }
        }
        let due = |idle: &Line| {
            let rest = if idle.rested(now) < SOON { SOON } else { MAX_IDLE_TIME };
            idle.since.checked_add(rest)
        };
        let next = all.iter().filter_map(|idle| due(idle)).min();
        drop(all);
        drop(dropped);
        next
    }

    fn put(&self, mut line: Box<Line>) {
        line.conn.release_buffer();
        let now = Instant::now();
        line.since = now;
        let mut dropped = Vec::new();
        let mut idle = self.lock();
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
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::auth::credentials::Secret;

    fn credentials(user: &str, password: &str) -> Arc<Credentials> {
        let secret = Secret::new(password);
        Arc::new(Credentials::from_password("D".into(), user.into(), &secret))
    }

    /// A pool, a key, what is at its other end, and how to make connections of that key.
    fn with<R>(test: impl FnOnce(&Pool, Key<'_>, &dyn Fn() -> TcpStream) -> R) -> R {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pool = Pool::default();
        let authority = Authority::parse("parent:8080", None).unwrap();
        let hop = HopName { authority, is_parent: true };
        let ann = credentials("ann", "a");
        let reach = Reach::Everywhere;
        let key = Key { hop: &hop, credentials: Some(&ann), private: None, reach };
        test(&pool, key, &|| {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            pool.put_near(0, Line::new(key, Conn::new(stream).unwrap()));
            listener.accept().unwrap().0
        })
    }

    /// The first has been idle for so long by now.
    fn age(pool: &Pool, by: Duration) {
        let since = &mut pool.0[0].lock()[0].since;
        *since = since.checked_sub(by).unwrap();
    }

    #[test]
    fn only_the_same_credentials_get_a_connection_and_only_an_open_one() {
        with(|pool, key, fill| {
            let peer = fill();
            let origin = HopName { is_parent: false, ..key.hop.clone() };
            let [changed, bob] = [("ann", "b"), ("bob", "a")].map(|(u, p)| credentials(u, p));
            let private = Private { session: 1, origin: key.hop.authority.clone() };
            for other in [
                Key { credentials: Some(&changed), ..key },
                Key { credentials: Some(&bob), ..key },
                Key { credentials: None, ..key },
                Key { hop: &origin, ..key },
                Key { private: Some(&private), ..key },
                Key { reach: Reach::Outside, ..key },
            ] {
                assert!(pool.take(other, MAX_IDLE_TIME).is_none());
            }
            let same = credentials("ann", "a");
            let (line, _) =
                pool.take(Key { credentials: Some(&same), ..key }, MAX_IDLE_TIME).unwrap();
            assert!(pool.take(key, MAX_IDLE_TIME).is_none());
            pool.put_near(0, line);
            drop(peer);
            assert!(pool.take(key, MAX_IDLE_TIME).is_none());
        });
    }

    #[test]
    fn a_processor_gets_what_it_left_itself_unless_that_is_old() {
        with(|pool, key, fill| {
            let _peers = [fill(), fill()];
            let lines = [0, 0].map(|_| pool.take(key, FRESH).unwrap().0);
            let [here, there] = lines.each_ref().map(|line| line.conn.port());
            for (processor, line) in lines.into_iter().enumerate() {
                pool.put_near(processor, line);
            }
            let expect = |processor, expected: u16| {
                let (line, _) = pool.take_near(processor, key, MAX_IDLE_TIME).unwrap();
                assert_eq!(line.conn.port(), expected, "processor {processor}");
                line
            };
            for (processor, own) in [(0, here), (1, there), (SHELVES, here)] {
                pool.put_near(processor, expect(processor, own));
            }
            age(pool, FRESH);
            let _fresh = expect(0, there);
            expect(1, here);
        });
    }

    #[test]
    fn a_connection_serves_whom_it_is_young_enough_for() {
        with(|pool, key, fill| {
            let _peer = fill();
            age(pool, MAX_IDLE_TIME / 2);
            assert!(pool.take(key, FRESH).is_none());
            pool.put_near(0, pool.take(key, MAX_IDLE_TIME).unwrap().0);
            age(pool, MAX_IDLE_TIME);
            assert!(pool.take(key, MAX_IDLE_TIME).is_none());
        });
    }

    #[test]
    fn a_sweep_leaves_what_is_young_and_open() {
        with(|pool, key, fill| {
            let [mut old, closed, _open] = [fill(), fill(), fill()];
            age(pool, MAX_IDLE_TIME);
            drop(closed);
            let due = pool.sweep().unwrap();
            assert!(due <= Instant::now() + SOON);
            assert_eq!(pool.0[0].lock().len(), 1);
            old.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            assert_eq!(old.read(&mut [0]).unwrap(), 0);
            drop(pool.take(key, MAX_IDLE_TIME).unwrap());
            assert!(pool.sweep().is_none());
        });
    }

    #[test]
    fn a_sweep_leaves_what_serves_somebody_still() {
        with(|pool, parent, fill| {
            let private = Private { session: 1, origin: parent.hop.authority.clone() };
            let hop = HopName { is_parent: false, ..parent.hop.clone() };
            let origin = Key { hop: &hop, ..parent };
            let own = Key { private: Some(&private), ..origin };
            for (key, stays) in [(parent, true), (own, true), (origin, false)] {
                let _peer = fill();
                let (mut line, _) = pool.take(parent, FRESH).unwrap();
                line.key = key.to_owned();
                pool.put_near(0, line);
                age(pool, FRESH);
                pool.sweep();
                assert_eq!(pool.clear(), stays, "{key:?}");
            }
        });
    }
}
