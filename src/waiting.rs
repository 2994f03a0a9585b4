//! Where clients are that have nothing to say. A client has a thread as long as there is something to
//! do for it; after a moment of silence it comes here, where one thread waits for all of them, and
//! gets a thread again when it is heard. Thousands of silent ones cost a few hundred bytes each.
//! Knows nothing of what they say.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::sys::{Watch, is_quiet};
use crate::threads::{Work, rest, start};

/// How long a silent client keeps its thread: for longer than most networks take there and back, and
/// than a person between two keys. Of thousands that fall silent one after the other, only few have
/// theirs then, and what those leave behind in memory is little.
pub const LINGER: Duration = Duration::from_millis(250);

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
    /// The thread that attends does not look after anything by itself.
    asleep: AtomicBool,
}

#[derive(Default)]
struct Guests {
    /// Each at the place by which [`Watch`] knows it.
    places: Vec<Option<Guest>>,
    free: Vec<usize>,
    /// When each has waited too long who does not wait for ever, in this order.
    due: Vec<(Instant, usize)>,
    /// When the thread that attends looks after them by itself.
    alarm: Option<Instant>,
}

impl WaitingRoom {
    /// An empty one.
    ///
    /// # Errors
    /// When the system has no descriptor for it.
    pub fn new() -> io::Result<Self> {
        let (guests, asleep) = Default::default();
        Ok(Self { watch: Watch::new()?, guests, asleep })
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
        if let Some(until) = guest.until {
            let at = guests.due.partition_point(|before| before.0 <= until);
            guests.due.insert(at, (until, place));
            if guests.alarm.is_none_or(|alarm| until < alarm) {
                guests.alarm = Some(until);
                self.watch.wake();
            }
        }
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
        }
    }

    fn take(&self, guests: &mut Guests, place: usize) -> Option<Guest> {
        // Who was heard on two sockets is gone after the first.
        let guest = guests.places.get_mut(place)?.take()?;
        guest.streams.iter().for_each(|stream| self.watch.remove(stream));
        guests.free.push(place);
        if let Some(until) = guest.until {
            let first = guests.due.partition_point(|(due, _)| *due < until);
            let own = guests.due.iter().skip(first).position(|(_, due)| *due == place);
            own.map(|at| guests.due.remove(first.saturating_add(at)));
        }
        Some(guest)
    }

    /// Drops the one who has waited longest of those who do not wait for ever; whether there is
    /// one. Who is about to be heard does not count.
    pub fn give_way(&self) -> bool {
        let mut guests = self.lock();
        let silent = |place: &usize| {
            let guest = guests.places.get(*place).and_then(Option::as_ref);
            guest.is_some_and(|guest| guest.streams.iter().all(|stream| is_quiet(stream)))
        };
        let place = guests.due.iter().map(|(_, place)| *place).find(silent);
        let guest = place.and_then(|place| self.take(&mut guests, place));
        drop(guests);
        guest.is_some()
    }

    /// Somebody left for good; `leaves`: and something to be tidied up.
    pub fn note_departure(&self, leaves: impl FnOnce() -> bool) {
        if self.asleep.load(Ordering::SeqCst) && leaves() {
            self.watch.wake();
        }
    }

    /// Waits for everybody, for ever: the work of one thread, which also does `tidy`, and again at
    /// the time that comes of it. Where nobody and nothing is due, nothing wakes.
    pub fn attend(&self, tidy: impl Fn() -> Option<Instant>) {
        let mut untidy = None;
        loop {
            // Before looking: whoever leaves something from now on wakes this thread.
            self.asleep.store(true, Ordering::SeqCst);
            if untidy.is_none_or(|due| due <= Instant::now()) {
                untidy = tidy();
            }
            let alarm = {
                let mut guests = self.lock();
                let due = guests.due.first().map(|(until, _)| *until);
                guests.alarm = due.into_iter().chain(untidy).min();
                guests.alarm
            };
            self.asleep.store(alarm.is_none(), Ordering::SeqCst);
            let limit = alarm.map(|alarm| alarm.saturating_duration_since(Instant::now()));
            match self.watch.wait(limit) {
                Ok(heard) => {
                    for place in heard {
                        let guest = self.take(&mut self.lock(), place);
                        guest.into_iter().for_each(|guest| start(guest.resume));
                    }
                }
                Err(error) => rest(&error),
            }
            if alarm.is_some() {
                self.sweep(Instant::now());
            }
        }
    }

    fn sweep(&self, now: Instant) {
        let mut guests = self.lock();
        while let Some((_, place)) = guests.due.first().filter(|(until, _)| *until <= now).copied()
        {
            drop(self.take(&mut guests, place));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Somebody waits; the other end of that one's connection.
    fn wait_in(room: &WaitingRoom, until: Option<Instant>) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let peer = listener.accept().unwrap().0;
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        room.admit(Guest { streams: vec![stream], until, resume: Box::new(|| {}) });
        peer
    }

    fn is_gone(mut peer: &TcpStream) -> bool {
        peer.set_nonblocking(true).unwrap();
        let read = peer.read(&mut [0]);
        peer.set_nonblocking(false).unwrap();
        read.is_ok_and(|count| count == 0)
    }

    #[test]
    fn who_waits_too_long_is_dropped() {
        let room = WaitingRoom::new().unwrap();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let peers = [Some(later), None, Some(now)].map(|until| wait_in(&room, until));
        room.sweep(now);
        assert_eq!(peers.each_ref().map(is_gone), [false, false, true]);
    }

    /// Whoever comes first is waited for longest, in whatever order that is over.
    #[test]
    fn nobody_waits_much_longer_than_allowed() {
        let room = Arc::new(WaitingRoom::new().unwrap());
        let attending = Arc::clone(&room);
        start(Box::new(move || attending.attend(|| None)));
        let now = Instant::now();
        let mut peers = [None, Some(300), Some(1), Some(2)].map(|seconds: Option<u64>| {
            let until = seconds.map(|seconds| now + Duration::from_secs(seconds));
            wait_in(&room, until)
        });
        for (peer, seconds) in peers[2..].iter_mut().zip([1, 2]) {
            assert_eq!(peer.read(&mut [0]).unwrap(), 0);
            assert!(now.elapsed() >= Duration::from_secs(seconds));
        }
        assert!(!is_gone(&peers[0]) && !is_gone(&peers[1]));
    }

    #[test]
    fn who_has_waited_longest_gives_way_unless_heard() {
        let room = WaitingRoom::new().unwrap();
        let now = Instant::now();
        let peers = [None, Some(3), Some(1), Some(2)].map(|seconds: Option<u64>| {
            let until = seconds.map(|seconds| now + Duration::from_secs(seconds));
            wait_in(&room, until)
        });
        let gone = |room: &WaitingRoom| (room.give_way(), peers.each_ref().map(is_gone));
        assert_eq!(gone(&room), (true, [false, false, true, false]));
        (&peers[3]).write_all(b"x").unwrap();
        assert_eq!(gone(&room), (true, [false, true, true, false]));
        assert_eq!(gone(&room), (false, [false, true, true, false]));
    }
}
