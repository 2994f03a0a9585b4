//! Who is connected: how many may be, and which of them are waiting for nothing but their next
//! request, so that an end can come gently. Knows nothing of what they say.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// All clients, on every door.
pub struct Clients {
    seats: Mutex<Seats>,
    /// A client left, or no more are wanted.
    changed: Condvar,
    stopping: AtomicBool,
}

#[derive(Default)]
struct Seats {
    taken: usize,
    limit: usize,
    /// How many wait for room.
    wanted: usize,
    /// Those who came since the last sweep, and some who left.
    known: Vec<Weak<Client>>,
    sweep_at: usize,
}

impl Seats {
    fn is_full(&self) -> bool {
        self.taken >= self.limit
    }
}

/// What is known of one client.
struct Client {
    stream: Arc<TcpStream>,
    idle: AtomicBool,
}

impl Clients {
    /// Room for so many at a time.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            seats: Mutex::new(Seats { limit, ..Seats::default() }),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on there is room for so many; whoever is there stays.
    pub fn set_limit(&self, limit: usize) {
        self.lock().limit = limit;
        self.changed.notify_all();
    }

    /// Whether nobody can come before somebody leaves.
    pub fn is_full(&self) -> bool {
        self.lock().is_full()
    }

    /// Whether somebody cannot come before somebody leaves.
    pub fn is_wanted(&self) -> bool {
        let seats = self.lock();
        seats.wanted > 0 && seats.is_full()
    }

    fn room(&self, give_way: &dyn Fn() -> bool) -> MutexGuard<'_, Seats> {
        let full = |seats: &Seats| seats.is_full() && !self.is_stopping();
        let mut seats = self.lock();
        if !full(&seats) {
            return seats;
        }
        // First of all: whoever falls silent from now on sees it.
        seats.wanted = seats.wanted.saturating_add(1);
        while full(&seats) {
            drop(seats);
            let given = give_way();
            seats = self.lock();
            if !given && full(&seats) {
                seats = self.changed.wait(seats).unwrap_or_else(PoisonError::into_inner);
            }
        }
        seats.wanted = seats.wanted.saturating_sub(1);
        seats
    }

    /// Waits for room for one client; several may wait, and the first to come takes it. `give_way`
    /// makes somebody leave who can be spared, if there is one; as long as there is not, whoever
    /// falls silent has to ask [`Clients::is_wanted`].
    pub fn wait_for_room(&self, give_way: &dyn Fn() -> bool) {
        drop(self.room(give_way));
    }

    /// Waits for room for one client and takes it; `None` when no more are wanted, and it is full.
    pub fn permit(self: &Arc<Self>, give_way: &dyn Fn() -> bool) -> Option<Permit> {
        self.take(self.room(give_way))
    }

    /// Room for one client, if there is any.
    pub fn permit_at_once(self: &Arc<Self>) -> Option<Permit> {
        self.take(self.lock())
    }

    fn take(self: &Arc<Self>, mut seats: MutexGuard<'_, Seats>) -> Option<Permit> {
        if seats.is_full() {
            return None;
        }
        seats.taken = seats.taken.saturating_add(1);
        Some(Permit(Arc::clone(self)))
    }

    /// Whether no more clients and no more requests are wanted.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// From now on no more are wanted. Those who wait for their next request are told that there
    /// is none; everybody else goes on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let seats = self.lock();
        for client in seats.known.iter().filter_map(Weak::upgrade) {
            if client.idle.load(Ordering::SeqCst) {
                // Its thread reads an end. A request that comes at this moment is answered still.
                if let Err(error) = client.stream.shutdown(Shutdown::Read) {
                    log::trace!("an idle client was gone already: {error}");
                }
            }
        }
        self.changed.notify_all();
    }

    /// Waits until somebody calls [`Clients::stop`].
    pub fn wait_until_stopping(&self) {
        let waited = self.changed.wait_while(self.lock(), |_| !self.is_stopping());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until the last one left, but no longer than that; whether it did.
    pub fn wait_until_gone(&self, limit: Duration) -> bool {
        let some = |seats: &mut Seats| seats.taken > 0;
        let waited = self.changed.wait_timeout_while(self.lock(), limit, some);
        waited.unwrap_or_else(PoisonError::into_inner).0.taken == 0
    }
}

/// Room for one client; given back when dropped, also by a panic.
pub struct Permit(Arc<Clients>);

impl Permit {
    /// A client takes it.
    pub fn seat(self, stream: Arc<TcpStream>) -> Seat {
        let client = Arc::new(Client { stream, idle: AtomicBool::new(false) });
        let mut seats = self.0.lock();
        if seats.known.len() >= seats.sweep_at {
            seats.known.retain(|client| client.strong_count() > 0);
            seats.sweep_at = seats.known.len().saturating_mul(2).max(64);
        }
        seats.known.push(Arc::downgrade(&client));
        drop(seats);
        Seat { permit: self, client }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut seats = self.0.lock();
        let full = seats.is_full();
        seats.taken = seats.taken.saturating_sub(1);
        if full || self.0.is_stopping() {
            self.0.changed.notify_all();
        }
    }
}

/// A client that is being served. It counts as busy unless it says otherwise.
pub struct Seat {
    permit: Permit,
    client: Arc<Client>,
}

impl Seat {
    /// It has nothing to do but to wait for a request; `false` when it need not: none is wanted.
    pub fn rest(&self) -> bool {
        self.client.idle.store(true, Ordering::SeqCst);
        // After the store: whoever stops looks at the clients after saying so.
        !self.permit.0.is_stopping()
    }

    /// A request came.
    pub fn work(&self) {
        self.client.idle.store(false, Ordering::SeqCst);
    }
}
