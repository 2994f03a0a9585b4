//! Which parent is tried when.
//!
//! - A parent that could not be reached is *down*: requests go to the others first. Its rest over,
//!   it is tried again in the background, when a request comes that it might have served.
//! - Where all are down, the requests try by themselves, one at a time at each parent; or they go
//!   direct (`DIRECT_CONNECT_IF_POSSIBLE`), and the background is where the way back is found.
//! - One that accepts connections and says nothing is *silent*: whether it is so still, only a request
//!   can find out. After each rest one does, and the others come after it was answered.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::auth::Carrier;
use crate::config::Reach;
use crate::dial::{DialError, dial};
use crate::hop::HopName;
use crate::http::target::Authority;

/// With `DIRECT_CONNECT_IF_POSSIBLE`, how long all parents together may take to accept a connection:
/// long enough for a SYN that is lost, which is sent again after a second, and no longer than one
/// waits for a page. Off the network, names are mostly unknown and ports refused at once.
const DIRECT_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// And how long a parent rests there: the way back is to be found within seconds.
const DIRECT_REST: Duration = Duration::from_secs(3);
/// A parent that is there accepts within milliseconds: so long a request waits for what comes of a
/// trial in the background. And where all are down, so much time lies between two trials of one.
const MOMENT: Duration = Duration::from_millis(100);
/// Where all parents are down, a trial that takes longer than this lets the next one begin.
const TRIAL_PATIENCE: Duration = Duration::from_secs(1);
/// The rest of a parent that stays silent doubles, up to this.
const MAX_REST: Duration = Duration::from_secs(240);
/// So many times the time to connect a request may take to find out that a parent is silent.
const TRIAL_LENGTH: u32 = 3;

/// The configured parents and what is known of them.
pub struct Parents {
    list: Vec<Parent>,
    timeout: Duration,
    /// `DIRECT_CONNECT_IF_POSSIBLE`
    direct: bool,
    state: Mutex<State>,
    changed: Condvar,
    /// Not all can be reached, or some failed lately. Where nothing is amiss, nobody looks closer.
    amiss: AtomicBool,
}

/// Parents in the order in which they are to be tried.
pub struct Order<'a> {
    list: &'a [Parent],
    /// Of each; 0, where there is none.
    ranks: Vec<u8>,
    rank: u8,
    at: usize,
}

impl<'a> Iterator for Order<'a> {
    type Item = &'a Parent;

    fn next(&mut self) -> Option<&'a Parent> {
        while self.rank <= Health::LAST_RANK {
            let (rank, parent) = (self.ranks.get(self.at).copied(), self.list.get(self.at));
            self.at = self.at.saturating_add(1);
            match parent {
                Some(parent) if rank.unwrap_or(0) == self.rank => return Some(parent),
                Some(_) => {}
                None => (self.rank, self.at) = (self.rank.saturating_add(1), 0),
            }
        }
        None
    }
}

/// One parent.
pub struct Parent {
    /// Its name and port.
    pub name: HopName,
    /// Its place in the list.
    index: usize,
    /// It demanded a login before.
    challenges: AtomicBool,
    /// How NTLM messages travelled to it, so that a handshake may begin without asking.
    carrier: Mutex<Option<Carrier>>,
    /// It answered before, whatever it said.
    heard: AtomicBool,
}

/// Which parents can be reached.
struct State {
    healths: Vec<Health>,
    /// Some are being tried in the background.
    probing: bool,
}

/// Whether a parent can be reached.
#[derive(Clone, Default)]
struct Health {
    /// It is down, and why.
    error: Option<DialError>,
    /// When it failed.
    failed: Option<Instant>,
    /// When it was connected to.
    reached: Option<Instant>,
    /// It is down and a request has been trying it since then.
    trial: Option<Instant>,
    /// It is silent.
    silence: Option<Silence>,
}

/// A parent that accepts connections, and no more.
#[derive(Clone)]
struct Silence {
    /// How long it rests, and since when; or since when a request has been trying it.
    rest: Duration,
    since: Instant,
    tried: bool,
}

impl State {
    fn are_all_down(&self) -> bool {
        !self.healths.is_empty() && self.healths.iter().all(|health| health.error.is_some())
    }
}

impl Silence {
    /// Whether the next request is the one that tries it, `timeout` being how long it may take to
    /// connect: once after each rest, and again when nothing came of that.
    fn is_to_be_tried(&mut self, timeout: Duration) -> bool {
        let pause = if self.tried { timeout.saturating_mul(TRIAL_LENGTH) } else { self.rest };
        let due = self.since.elapsed() >= pause;
        if due {
            (self.since, self.tried) = (Instant::now(), true);
        }
        due
    }
}

impl Health {
    const LAST_RANK: u8 = 3;

    /// How much of this time since it failed is left.
    fn left_of(&self, rest: Duration) -> Duration {
        self.failed.map_or(Duration::ZERO, |failed| rest.saturating_sub(failed.elapsed()))
    }

    /// The less, the sooner it is tried. What is down and was found out at once costs little.
    fn rank(&self) -> u8 {
        match &self.error {
            None => u8::from(self.silence.is_some()),
            Some(error) => 2_u8.saturating_add(u8::from(error.timed_out())),
        }
    }
}

impl Parents {
    /// Parents in the order in which they are to be tried; `timeout` is how long one may take to
    /// accept a connection, and how long it rests after it failed. `direct`: while no parent can
    /// be reached, requests go direct.
    pub fn new(list: &[Authority], timeout: Duration, direct: bool) -> Self {
        let parent = |(index, authority): (usize, &Authority)| Parent {
            name: HopName { authority: authority.clone(), is_parent: true },
            index,
            challenges: AtomicBool::new(false),
            carrier: Mutex::new(None),
            heard: AtomicBool::new(false),
        };
        let healths = vec![Health::default(); list.len()];
        Self {
            list: list.iter().enumerate().map(parent).collect(),
            timeout,
            direct,
            state: Mutex::new(State { healths, probing: false }),
            changed: Condvar::new(),
            amiss: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a parent may take to answer, before it is known to.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How long one may take to accept a connection.
    pub fn connect_timeout(&self) -> Duration {
        let count = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        match DIRECT_CONNECT_TIMEOUT.checked_div(count) {
            Some(share) if self.direct => self.timeout.min(share),
            _ => self.timeout,
        }
    }

    fn rest(&self) -> Duration {
        if self.direct { self.timeout.min(DIRECT_REST) } else { self.timeout }
    }

    /// Whether requests go direct where no parent can be reached.
    pub fn may_go_direct(&self) -> bool {
        self.direct
    }

    /// Whether they do, since none can. Looks for the way back.
    pub fn are_away(self: &Arc<Self>) -> bool {
        self.direct && self.look_again().are_all_down()
    }

    /// Whether one can be connected to; or could be a moment ago.
    pub fn can_be_reached(self: &Arc<Self>) -> bool {
        let lately = |health: &Health| health.reached.is_some_and(|at| at.elapsed() < DIRECT_REST);
        let known = self.lock().healths.iter().any(lately);
        known || self.order(false).any(|parent| self.dial(parent).is_ok())
    }

    /// All parents in the order to try them. `may_try`: a request that may be sent again, if one of
    /// them is silent.
    pub fn order(self: &Arc<Self>, may_try: bool) -> Order<'_> {
        let mut ranks = Vec::new();
        if self.amiss.load(Ordering::Relaxed) {
            let mut state = self.look_again();
            for (parent, health) in self.list.iter().zip(&mut state.healths) {
                // Whoever was heard since then is silent no more.
                health.silence.take_if(|_| parent.was_heard());
                // Behind one that works there is no need to try it.
                let tried = may_try
                    && !ranks.contains(&0)
                    && health.error.is_none()
                    && health.silence.as_mut().is_some_and(|s| s.is_to_be_tried(self.timeout));
                ranks.push(if tried { 0 } else { health.rank() });
            }
            self.note_amiss(&state);
        }
        Order { list: &self.list, ranks, rank: 0, at: 0 }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// Tries those that are down and have rested, in a thread of its own: whether one accepts
    /// connections again may take long to find out. Not where a request has to wait for it anyway.
    /// What is known then.
    fn look_again(self: &Arc<Self>) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let rest = self.rest();
        let due = |health: &Health| health.error.is_some() && health.left_of(rest).is_zero();
        if state.probing || !state.healths.iter().any(due) || !self.direct && state.are_all_down() {
            return state;
        }
        let parents = Arc::clone(self);
        let due: Vec<bool> = state.healths.iter().map(due).collect();
        let probe = move || {
            for (parent, _) in parents.list.iter().zip(due).filter(|(_, due)| *due) {
                parents.connect(parent).ok();
            }
            parents.lock().probing = false;
            parents.changed.notify_all();
        };
        match thread::Builder::new().spawn(probe) {
            Ok(_) => {
                state.probing = true;
                let waited = self.changed.wait_timeout_while(state, MOMENT, |s| s.probing);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            Err(error) => {
                log::warn!("parents cannot be tried again now: {error}");
                state
            }
        }
    }

    /// Connects to a parent; it is down when that fails, and no more when it succeeds. Of those who
    /// come for one that is down, one tries, and the others wait a while for what comes of it.
    ///
    /// # Errors
    /// As [`dial`].
    pub fn dial(&self, parent: &Parent) -> Result<TcpStream, DialError> {
        self.admit(parent)?;
        self.connect(parent)
    }

    fn admit(&self, parent: &Parent) -> Result<(), DialError> {
        let mut state = self.lock();
        let trial = |state: &State| state.healths.get(parent.index).and_then(|h| h.trial);
        let running = trial(&state);
        let spent = running.map_or(TRIAL_PATIENCE, |since| since.elapsed());
        let left = TRIAL_PATIENCE.saturating_sub(spent);
        if !left.is_zero() {
            let waited = self.changed.wait_timeout_while(state, left, |s| trial(s) == running);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let Some(health) = state.healths.get_mut(parent.index) else { return Ok(()) };
        match &health.error {
            // It came to an end, or another one took over.
            Some(error) if health.trial != running => Err(error.clone()),
            Some(_) => {
                health.trial = Some(Instant::now());
                let pause = health.left_of(MOMENT);
                drop(state);
                thread::sleep(pause);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn connect(&self, parent: &Parent) -> Result<TcpStream, DialError> {
        let dialed = dial(&parent.name.authority, self.connect_timeout(), Reach::Everywhere);
        self.note(parent, dialed.as_ref().err());
        dialed
    }

    /// A parent was connected to, or could not be.
    fn note(&self, parent: &Parent, error: Option<&DialError>) {
        let mut state = self.lock();
        let were_away = self.direct && state.are_all_down();
        let Some(health) = state.healths.get_mut(parent.index) else { return };
        let was_down = health.error.is_some();
        health.error = error.cloned();
        let now = Some(Instant::now());
        (health.failed, health.reached) = if error.is_some() { (now, None) } else { (None, now) };
        health.trial = None;
        let are_away = self.direct && state.are_all_down();
        self.note_amiss(&state);
        drop(state);
        self.changed.notify_all();
        match error {
            Some(error) if !was_down && self.list.len() > 1 => {
                log::warn!("parent {error}; it rests for {} s", self.rest().as_secs());
            }
            Some(error) if !was_down && !self.direct => log::warn!("parent {error}; it is away"),
            Some(error) => log::debug!("parent {error}"),
            None if was_down && !were_away => {
                log::info!("parent {} is back", parent.name.authority);
            }
            _ => {}
        }
        match error {
            Some(error) if are_away && !were_away => {
                log::info!("no parent can be reached ({error}): requests go direct until one can");
            }
            None if were_away => log::info!(
                "parent {} can be reached: requests go through the parents again",
                parent.name.authority
            ),
            _ => {}
        }
    }

    fn note_amiss(&self, state: &State) {
        let amiss = |health: &Health| health.error.is_some() || health.silence.is_some();
        self.amiss.store(state.healths.iter().any(amiss), Ordering::Relaxed);
    }

    /// A parent accepts connections and ends them without an answer, or gives none at all: the
    /// others come first until it was heard again.
    pub fn note_silence(&self, parent: &Parent) {
        parent.heard.store(false, Ordering::Relaxed);
        let (mut state, since) = (self.lock(), Instant::now());
        let Some(health) = state.healths.get_mut(parent.index) else { return };
        let rest = match &health.silence {
            None => self.rest(),
            // Of those that came to it together, the first has said so.
            Some(before) if !before.tried => return,
            Some(before) => before.rest.saturating_mul(2).min(MAX_REST.max(self.rest())),
        };
        health.silence = Some(Silence { rest, since, tried: false });
        self.note_amiss(&state);
    }
}

impl Parent {
    /// Whether it demanded a login before.
    pub fn challenges(&self) -> bool {
        self.challenges.load(Ordering::Relaxed)
    }

    /// How NTLM messages travel to it, once one went.
    pub fn carrier(&self) -> Option<Carrier> {
        *self.carrier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// NTLM messages travel to it like this; or not at all, it wants something else.
    pub fn note_carrier(&self, carrier: Option<Carrier>) {
        *self.carrier.lock().unwrap_or_else(PoisonError::into_inner) = carrier;
    }

    /// Whether it ever answered.
    pub fn was_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// It answered; `challenged` when with a demand to log in.
    pub fn note_answer(&self, challenged: bool) {
        if !self.was_heard() {
            self.heard.store(true, Ordering::Relaxed);
        }
        if challenged && !self.challenges() {
            self.challenges.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_that_failed_is_tried_last() {
        let list = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]
            .map(|text| Authority::parse(text, None).unwrap());
        let parents = Arc::new(Parents::new(&list, Duration::from_secs(60), false));
        let order = || parents.order(true).map(|p| p.name.authority.port).collect::<Vec<_>>();
        assert_eq!(order(), [1, 2, 3]);
        let error = parents.dial(parents.order(true).next().unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("127.0.0.1:1 cannot be reached: "), "{error}");
        assert_eq!(order(), [2, 3, 1]);
    }

    #[test]
    fn one_request_tries_a_silent_parent_after_each_rest_and_the_rests_grow() {
        let list = ["127.0.0.1:1", "127.0.0.1:2"].map(|text| Authority::parse(text, None).unwrap());
        let timeout = Duration::from_secs(60);
        let parents = Arc::new(Parents::new(&list, timeout, false));
        let first = |may_try| parents.order(may_try).next().unwrap().name.authority.port;
        let [one, _] = &parents.list[..] else { panic!("two parents") };
        let silence = || parents.lock().healths[0].silence.clone().unwrap();
        let passes = |time| {
            let mut state = parents.lock();
            let silence = state.healths[0].silence.as_mut().unwrap();
            silence.since = silence.since.checked_sub(time).unwrap();
        };
        for rest in [60, 120, 240, 240].map(Duration::from_secs) {
            // All that came to it together say so.
            parents.note_silence(one);
            parents.note_silence(one);
            parents.note(one, None);
            assert_eq!((first(true), silence().rest), (2, rest), "to connect is no answer");
            passes(rest);
            assert_eq!([first(false), first(true), first(true)], [2, 1, 2]);
        }
        // Whoever tried it has gone.
        passes(timeout * TRIAL_LENGTH);
        assert_eq!([first(true), first(true)], [1, 2]);
        one.note_answer(false);
        assert_eq!([first(true), first(true)], [1, 1]);
        assert!(!parents.amiss.load(Ordering::Relaxed));
    }
}
