//! Threads, one for each piece of work. One that is done waits a moment for the next piece: a page
//! with its pictures comes over many short connections, and making a thread costs more than
//! answering a request. Knows nothing of what the work is.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::sys;

/// How long a thread waits for more work, and how many do at most.
const MOMENT: Duration = Duration::from_millis(100);
const MAX_WAITING: usize = 16;
/// A thread's stack: name resolution of the C library is what needs the most.
const STACK_SIZE: usize = 256 * 1024;
/// How long everything rests when the system has nothing to give.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Of a limited memory, what is left to the threads that there are, besides as much again as a stack
/// for each: an allocation that fails ends them all.
const RESERVED_MEMORY: usize = 4 * 1024 * 1024;

/// What a thread does.
pub type Work = Box<dyn FnOnce() + Send>;

/// Threads that are done, and what comes next.
struct Crew {
    state: Mutex<State>,
    /// There is work.
    came: Condvar,
}

struct State {
    waiting: usize,
    /// No more than threads that wait for it.
    work: VecDeque<Work>,
}

static CREW: Crew =
    Crew { state: Mutex::new(State { waiting: 0, work: VecDeque::new() }), came: Condvar::new() };

impl Crew {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives `work` to a thread that waits; back, if there is none.
    fn hand_over(&self, work: Work) -> Result<(), Work> {
        let mut state = self.lock();
        if state.waiting <= state.work.len() {
            return Err(work);
        }
        state.work.push_back(work);
        drop(state);
        self.came.notify_one();
        Ok(())
    }

    /// What this thread does next, if it is needed.
    fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        if state.waiting >= MAX_WAITING {
            return None;
        }
        state.waiting = state.waiting.saturating_add(1);
        let nothing = |state: &mut State| state.work.is_empty();
        let waited = self.came.wait_timeout_while(state, MOMENT, nothing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting = state.waiting.saturating_sub(1);
        state.work.pop_front()
    }
}

/// The system has nothing to give: whoever wants something rests for a moment.
pub fn rest(error: &io::Error) {
    log::warn!(target: "ntlmaps::often::exhausted", "clients have to wait: {error}");
    thread::sleep(EXHAUSTED_PAUSE);
}

/// Does `work` in a thread of its own, as soon as the system has one.
pub fn start(mut work: Work) {
    while let Err((error, again)) = try_start(work) {
        rest(&error);
        work = again;
    }
}

/// A thread at work.
struct Busy;

static BUSY: AtomicUsize = AtomicUsize::new(0);

impl Busy {
    fn new() -> Self {
        BUSY.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Does `work` in a thread of its own.
///
/// # Errors
/// When there is no thread to be had; the work is given back.
pub fn try_start(work: Work) -> Result<(), (io::Error, Work)> {
    let Err(work) = CREW.hand_over(work) else { return Ok(()) };
    let busy = BUSY.load(Ordering::Relaxed);
    let reserve = RESERVED_MEMORY.saturating_add(busy.saturating_mul(STACK_SIZE));
    if sys::memory_left().is_some_and(|left| left < reserve) {
        return Err((io::ErrorKind::OutOfMemory.into(), work));
    }
    let slot = Arc::new(Mutex::new(Some(work)));
    let taken = Arc::clone(&slot);
    let run = move || {
        let mut next = take(&taken);
        while let Some(work) = next {
            let busy = Busy::new();
            work();
            drop(busy);
            next = CREW.next();
        }
    };
    match thread::Builder::new().stack_size(STACK_SIZE).spawn(run) {
        Ok(_) => Ok(()),
        Err(error) => take(&slot).map_or(Ok(()), |work| Err((error, work))),
    }
}

fn take(slot: &Mutex<Option<Work>>) -> Option<Work> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread::ThreadId;
    use std::time::Instant;

    use super::*;

    fn who_works() -> ThreadId {
        let (sender, receiver) = mpsc::channel();
        start(Box::new(move || sender.send(thread::current().id()).unwrap()));
        receiver.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    #[test]
    fn a_thread_that_is_done_takes_what_comes_next() {
        let until = Instant::now() + Duration::from_secs(10);
        let mut last = who_works();
        loop {
            let next = who_works();
            if next == last {
                break;
            }
            assert!(Instant::now() < until, "always another thread");
            last = next;
        }
    }
}
