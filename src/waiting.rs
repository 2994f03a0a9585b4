//! Where clients are that have nothing to say. A client has a thread as long as there is something to
//! do for it; after a second of silence it comes here, where one thread waits for all of them, and
//! gets a thread again when it is heard. Thousands of silent ones cost a few hundred bytes each.
//! Knows nothing of what they say.

use std::cell::Cell;
use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::sys::Watch;
use crate::threads::{Work, rest, start};

/// How long a silent client keeps its thread.
pub const LINGER: Duration = Duration::from_secs(1);
/// How often those are looked for who have waited too long.
const SWEEP: Duration = Duration::from_secs(60);
/// How often the attendant tidies up while there is something about, which is not for long.
const TIDY: Duration = Duration::from_secs(10);
/// Somebody who waits.
pub struct Guest {
    /// Where it may be heard.
    pub streams: Vec<Arc<TcpStream>>,
    /// When it has waited too long, and is dropped.
    pub until: Option<Instant>,
    /// What is done when it is heard.
    pub resume: Work,
}

/// See the module.
pub struct WaitingRoom {
    watch: Watch,
    guests: Mutex<Guests>,
    /// Somebody came, or left something behind.
    came: Condvar,
    /// Nobody attends until then.
    asleep: AtomicBool,
}

#[derive(Default)]
struct Guests {
    /// Each at the place by which [`Watch`] knows it.
    places: Vec<Option<Guest>>,
    free: Vec<usize>,
}

impl WaitingRoom {
    /// An empty one.
    ///
    /// # Errors
    /// When the system has no descriptor for it.
    pub fn new() -> io::Result<Self> {
        let (guests, came, asleep) = Default::default();
        Ok(Self { watch: Watch::new()?, guests, came, asleep })
    }

    fn lock(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on somebody waits here. Whatever came before counts as heard.
    pub fn admit(&self, guest: Guest) {
        let mut guests = self.lock();
        let place = guests.free.pop().unwrap_or_else(|| {
            guests.places.push(None);
            guests.places.len().saturating_sub(1)
        });
        let watched = guest.streams.iter().try_for_each(|stream| self.watch.add(stream, place));
        // Still locked: whoever is heard is there.
        if let Some(free) = guests.places.get_mut(place) {
            *free = Some(guest);
        }
        if let Err(error) = watched {
            log::warn!(
                target: "ntlmaps::often::keeps",
                "a silent client keeps its thread: {error}"
            );
            if let Some(guest) = self.take(&mut guests, place) {
                drop(guests);
                start(guest.resume);
            }
            return;
        }
        self.came.notify_one();
    }

    fn take(&self, guests: &mut Guests, place: usize) -> Option<Guest> {
        // Who was heard on two sockets is gone after the first.
        let guest = guests.places.get_mut(place)?.take()?;
        guest.streams.iter().for_each(|stream| self.watch.remove(stream));
        guests.free.push(place);
        Some(guest)
    }

    /// Somebody left for good; `leaves`: and something behind.
    pub fn note_departure(&self, leaves: impl FnOnce() -> bool) {
        if self.asleep.load(Ordering::SeqCst) && leaves() {
            // Whoever is about to sleep holds the lock until it does.
            drop(self.lock());
            self.came.notify_one();
        }
    }

    /// Waits for everybody, for ever: the work of one thread. `tidy` is done now and then, as long
    /// as it finds something: where there is nothing and nobody, nothing wakes.
    pub fn attend(&self, tidy: impl Fn() -> bool) {
        let mut swept = Instant::now();
        let untidy = Cell::new(false);
        loop {
            let nothing = |guests: &mut Guests| {
                if guests.free.len() < guests.places.len() {
                    return false;
                }
                // Before looking: whoever leaves something from now on wakes this thread.
                self.asleep.store(true, Ordering::SeqCst);
                untidy.set(tidy());
                !untidy.get()
            };
            drop(self.came.wait_while(self.lock(), nothing));
            let mut busy = self.asleep.swap(false, Ordering::SeqCst);
            let limit = if busy || untidy.get() { TIDY } else { SWEEP };
            match self.watch.wait(limit) {
                Ok(heard) => {
                    busy |= !heard.is_empty();
                    for place in heard {
                        let guest = self.take(&mut self.lock(), place);
                        guest.into_iter().for_each(|guest| start(guest.resume));
                    }
                }
                Err(error) => rest(&error),
            }
            if swept.elapsed() >= limit {
                swept = Instant::now();
                self.sweep(swept);
                untidy.set(tidy());
            }
            // Whoever comes or is heard may leave something.
            untidy.set(untidy.get() || busy);
        }
    }

    fn sweep(&self, now: Instant) {
        let mut guests = self.lock();
        let late = |guest: &Guest| guest.until.is_some_and(|until| until <= now);
        for place in 0..guests.places.len() {
            if guests.places.get(place).is_some_and(|guest| guest.as_ref().is_some_and(late)) {
                drop(self.take(&mut guests, place));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn who_waits_too_long_is_dropped() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let room = WaitingRoom::new().unwrap();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut peers = [Some(now), Some(later), None].map(|until| {
            let stream = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
            let peer = listener.accept().unwrap().0;
            room.admit(Guest { streams: vec![stream], until, resume: Box::new(|| {}) });
            peer
        });
        room.sweep(now);
        assert_eq!(peers[0].read(&mut [0]).unwrap(), 0);
        for peer in &mut peers[1..] {
            peer.set_nonblocking(true).unwrap();
            assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }
}
