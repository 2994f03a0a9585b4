//! The lockout guard: which credentials were refused, and which are being tried. Three refusals
//! lock a Windows account; here nobody's are sent twice without a reason.
//!
//! - Credentials that never worked are tried by one connection at a time; the others wait for its
//!   outcome. Refused, they rest for `REJECTED_RETRY`, and twice as long each time they are refused
//!   again: a domain that counts for half an hour then never counts to three.
//! - Credentials that worked a moment ago go out freely. After a pause one connection goes first and
//!   the others wait for its outcome, though not for long: a password may have changed meanwhile.
//!   Refused, they are tried once more at once, alone, as a domain controller that is away looks the
//!   same; then they rest like the others.
//! - A parent that hangs up on a login has perhaps asked its domain: that rests for seconds at first.
//! - They worked where they worked: another server may ask another domain. All where they did not
//!   yet are one, as they may ask the same.
//!
//! Knows no socket and no HTTP.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::Side;
use crate::auth::credentials::Credentials;
use crate::http::target::Authority;

/// A refusal comes at once, an answer of the origin may take long: a try that was not refused for
/// so long lets the next one go. One, not all: what makes tries slow may make refusals slow, and
/// all the clients of a wrong password together would lock the account.
const TRIAL_PATIENCE: Duration = Duration::from_secs(5);
/// The same for credentials that worked, which the next ones do not wait for one by one then: nearly
/// always they still do, and it is the origin that takes its time.
const PROVEN_PATIENCE: Duration = Duration::from_millis(500);
/// How long a login that was accepted speaks for the next ones; and one that was not refused for so
/// long: the next ones may take as long, and should not wait for each other all the time.
pub const TRUST: Duration = Duration::from_millis(250);
const TRUST_OF_SLOW: Duration = Duration::from_secs(1);
/// How long credentials rest on which somebody hung up, after each time in a row.
const REST_OF_UNANSWERED: [Duration; 3] =
    [Duration::ZERO, Duration::from_secs(10), Duration::from_secs(60)];
/// How many times a rest doubles at most.
const MAX_DOUBLINGS: u32 = 4;
/// How many credentials are remembered.
const MAX_ENTRIES: usize = 4096;

/// What is known of all credentials that were tried.
pub struct Guard {
    /// `None`: no guard.
    retry: Option<Duration>,
    /// Least recently tried first.
    entries: Mutex<Vec<Entry>>,
    decided: Condvar,
}

struct Entry {
    subject: Subject,
    /// Refusals since they worked last, and connections that ended in their place.
    refusals: u32,
    hang_ups: u32,
    /// The last refusal, and until when they rest.
    rest: Option<Rest>,
    /// Since when one connection tries them alone.
    trial: Option<Instant>,
    /// Until when they go out freely if they are proven.
    trusted: Option<Instant>,
}

struct Rest {
    since: Instant,
    by: Authority,
    hung_up: bool,
    until: Instant,
}

/// Of what an entry tells.
#[derive(Clone, PartialEq)]
struct Subject {
    /// What an intranet server thinks of an account is no reason to keep it from the parent.
    side: Side,
    /// Where they worked; else all places where they did not.
    proven: Option<Authority>,
    credentials: Arc<Credentials>,
}

/// Credentials are resting: they are not to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resting {
    /// Who refused them.
    pub by: Authority,
    /// How long ago they were refused.
    pub refused: Duration,
    /// How long they still rest.
    pub left: Duration,
    /// They had worked there, and were not refused: the connection ended without an answer.
    pub hung_up: bool,
}

/// The permission to send credentials once. Dropped without an outcome, it says nothing about them.
pub struct Attempt<'a> {
    guard: &'a Guard,
    subject: Subject,
    /// Where they are sent.
    place: Authority,
    /// When they were let go.
    since: Instant,
    /// They are tried alone.
    alone: bool,
}

impl Guard {
    /// Refused credentials rest for `retry`; `None`: everything is always sent.
    pub fn new(retry: Option<Duration>) -> Self {
        Self { retry, entries: Mutex::default(), decided: Condvar::new() }
    }

    /// Asks whether credentials may be sent to a place now; waits while others try the same.
    ///
    /// # Errors
    /// [`Resting`], when they were refused.
    pub fn attempt(
        &self,
        credentials: &Arc<Credentials>,
        side: Side,
        place: &Authority,
    ) -> Result<Attempt<'_>, Resting> {
        let mut entries = self.lock();
        loop {
            // Whoever was waited for may have been let in there.
            let subject = Self::subject(&entries, credentials, side, place);
            let since = Instant::now();
            let admission = match self.retry {
                None => Admission::Go { alone: false },
                Some(_) => Self::update(&mut entries, &subject, |entry| entry.admit(since))?,
            };
            match admission {
                Admission::Go { alone } => {
                    return Ok(Attempt {
                        guard: self,
                        subject,
                        place: place.clone(),
                        since,
                        alone,
                    });
                }
                Admission::Wait(patience) => {
                    let waited = self.decided.wait_timeout(entries, patience);
                    entries = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// Credentials that were sent without asking, as they had been accepted within [`TRUST`].
    pub fn trusted(
        &self,
        credentials: &Arc<Credentials>,
        side: Side,
        place: &Authority,
    ) -> Attempt<'_> {
        let subject = Self::subject(&self.lock(), credentials, side, place);
        let since = Instant::now();
        Attempt { guard: self, subject, place: place.clone(), since, alone: false }
    }

    /// Of what the entry tells that counts there.
    fn subject(
        entries: &[Entry],
        credentials: &Arc<Credentials>,
        side: Side,
        place: &Authority,
    ) -> Subject {
        let (proven, credentials) = (Some(place.clone()), Arc::clone(credentials));
        let mut subject = Subject { side, proven, credentials };
        if !entries.iter().any(|entry| entry.subject == subject) {
            subject.proven = None;
        }
        subject
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the entry of these credentials and moves it to the end.
    fn update<R>(
        entries: &mut Vec<Entry>,
        subject: &Subject,
        change: impl FnOnce(&mut Entry) -> R,
    ) -> R {
        let mut entry = Self::take(entries, subject);
        let result = change(&mut entry);
        entries.push(entry);
        result
    }

    /// The entry of these credentials, to be put back.
    fn take(entries: &mut Vec<Entry>, subject: &Subject) -> Entry {
        if let Some(at) = entries.iter().position(|entry| entry.subject == *subject) {
            return entries.remove(at);
        }
        if entries.len() >= MAX_ENTRIES {
            entries.remove(0);
        }
        let (refusals, hang_ups, rest, trial, trusted) = (0, 0, None, None, None);
        Entry { subject: subject.clone(), refusals, hang_ups, rest, trial, trusted }
    }
}

impl Entry {
    /// What an attempt may do now.
    fn admit(&mut self, now: Instant) -> Result<Admission, Resting> {
        if let Some(Rest { since, by, hung_up, until }) = &self.rest
            && *until > now
        {
            let refused = now.saturating_duration_since(*since);
            let left = until.saturating_duration_since(now);
            let hung_up = *hung_up && self.subject.proven.is_some();
            return Err(Resting { by: by.clone(), refused, left, hung_up });
        }
        let age = |since: Instant| now.saturating_duration_since(since);
        let likely = self.subject.proven.is_some() && self.refusals.max(self.hang_ups) == 0;
        if likely && self.trusted.is_some_and(|until| until > now) {
            return Ok(Admission::Go { alone: false });
        }
        let patience = if likely { PROVEN_PATIENCE } else { TRIAL_PATIENCE };
        match self.trial.map(|since| patience.saturating_sub(age(since))) {
            Some(left) if !left.is_zero() => return Ok(Admission::Wait(left)),
            Some(_) if likely => {
                self.trusted = now.checked_add(TRUST_OF_SLOW);
                self.trial = None;
            }
            _ => self.trial = Some(now),
        }
        Ok(Admission::Go { alone: self.trial.is_some() })
    }

    /// Takes note of a refusal. How long they rest now.
    fn refuse(&mut self, alone: bool, retry: Duration, by: &Authority) -> Duration {
        // Those that went out together are refused together: the domain counts them all, but they
        // need not rest the longer for it.
        if alone || self.refusals < 2 {
            self.refusals = self.refusals.saturating_add(1);
        }
        let before = self.refusals.saturating_sub(1);
        let rest = if self.subject.proven.is_some() && before == 0 {
            Duration::ZERO
        } else {
            retry.saturating_mul(2_u32.saturating_pow(before.min(MAX_DOUBLINGS)))
        };
        self.rest_for(rest, by, false);
        rest
    }

    /// Takes note of a connection that ended without an answer.
    fn hang_up(&mut self, alone: bool, retry: Duration, by: &Authority) {
        if alone || self.hang_ups == 0 {
            self.hang_ups = self.hang_ups.saturating_add(1);
        }
        let before = usize::try_from(self.hang_ups.saturating_sub(1)).unwrap_or(usize::MAX);
        let rest = REST_OF_UNANSWERED.into_iter().nth(before).unwrap_or(retry).min(retry);
        self.rest_for(rest, by, true);
    }

    fn rest_for(&mut self, rest: Duration, by: &Authority, hung_up: bool) {
        let since = Instant::now();
        let Some(until) = since.checked_add(rest) else { return };
        if self.rest.as_ref().is_none_or(|before| before.until <= until) {
            self.rest = Some(Rest { since, by: by.clone(), hung_up, until });
        }
    }
}

enum Admission {
    Go { alone: bool },
    Wait(Duration),
}

impl Attempt<'_> {
    /// Whether others wait for what becomes of it.
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// They were accepted.
    pub fn accepted(self) {
        let subject = Subject { proven: Some(self.place.clone()), ..self.subject.clone() };
        Guard::update(&mut self.guard.lock(), &subject, |entry| {
            // An answer that was long in coming says nothing about what was refused meanwhile.
            if entry.rest.as_ref().is_none_or(|rest| rest.since < self.since) {
                (entry.refusals, entry.hang_ups) = (0, 0);
                entry.rest = None;
                entry.trusted = entry.trusted.max(Instant::now().checked_add(TRUST));
            }
        });
    }

    /// They were refused. How long they rest now.
    pub fn refused(self) -> Duration {
        let Some(retry) = self.guard.retry else { return Duration::ZERO };
        Guard::update(&mut self.guard.lock(), &self.subject, |entry| {
            entry.refuse(self.alone, retry, &self.place)
        })
    }

    /// They went out and nothing came back. A parent may hang up on a wrong password; but a refusal
    /// comes at once, and who worked before and waited for longer was not refused. Whether they may
    /// well be right.
    pub fn unanswered(self) -> bool {
        let proven = self.subject.proven.is_some();
        if let Some(retry) = self.guard.retry
            && !(proven && self.since.elapsed() > PROVEN_PATIENCE)
        {
            Guard::update(&mut self.guard.lock(), &self.subject, |entry| {
                entry.hang_up(self.alone, retry, &self.place);
            });
        }
        proven
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.alone {
            return;
        }
        Guard::update(&mut self.guard.lock(), &self.subject, |entry| {
            // Another one may have taken over from a try that took too long.
            if entry.trial == Some(self.since) {
                entry.trial = None;
            }
        });
        self.guard.decided.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::auth::credentials::Secret;

    const RETRY: Duration = Duration::from_secs(900);

    fn account(password: &str) -> Arc<Credentials> {
        let secret = Secret::new(password);
        Arc::new(Credentials::from_password("D".into(), "ann".into(), &secret))
    }

    fn place(name: &str) -> Authority {
        Authority::parse(name, Some(80)).unwrap()
    }

    fn ask<'a>(guard: &'a Guard, account: &Arc<Credentials>) -> Result<Attempt<'a>, Resting> {
        guard.attempt(account, Side::Proxy, &place("parent"))
    }

    fn proven() -> (Guard, Arc<Credentials>) {
        let (guard, account) = (Guard::new(Some(RETRY)), account("right"));
        ask(&guard, &account).unwrap().accepted();
        (guard, account)
    }

    /// Whatever rests, rests no more.
    fn wake(guard: &Guard) {
        guard.lock().iter_mut().for_each(|entry| entry.rest = None);
    }

    #[test]
    fn refused_credentials_rest_longer_each_time_and_others_do_not() {
        let guard = Guard::new(Some(RETRY));
        let (wrong, right) = (account("wrong"), account("right"));
        assert_eq!(ask(&guard, &wrong).unwrap().refused(), RETRY);
        let resting = ask(&guard, &wrong).err().unwrap();
        assert!(resting.left <= RETRY && resting.left > RETRY / 2);
        ask(&guard, &right).unwrap().accepted();
        assert!(ask(&guard, &wrong).is_err());
        wake(&guard);
        assert_eq!(ask(&guard, &wrong).unwrap().refused(), RETRY * 2);
    }

    #[test]
    fn proven_credentials_are_not_held_back_by_an_odd_refusal() {
        let (guard, account) = proven();
        assert_eq!(ask(&guard, &account).unwrap().refused(), Duration::ZERO);
        assert_eq!(ask(&guard, &account).unwrap().refused(), RETRY * 2);
        assert!(ask(&guard, &account).is_err());
        wake(&guard);
        ask(&guard, &account).unwrap().accepted();
        assert_eq!(ask(&guard, &account).unwrap().refused(), Duration::ZERO);
    }

    #[test]
    fn what_is_refused_together_is_counted_and_rests_no_longer_for_it() {
        let (guard, account) = proven();
        let together: Vec<_> = (0..5).map(|_| ask(&guard, &account).unwrap()).collect();
        let rests: Vec<_> = together.into_iter().map(Attempt::refused).collect();
        assert_eq!(rests, [Duration::ZERO, RETRY * 2, RETRY * 2, RETRY * 2, RETRY * 2]);
        assert!(ask(&guard, &account).is_err(), "two were counted");
    }

    #[test]
    fn what_was_sent_before_a_refusal_and_accepted_after_it_changes_nothing() {
        let (guard, account) = proven();
        let before = [ask(&guard, &account).unwrap(), ask(&guard, &account).unwrap()];
        assert_eq!(ask(&guard, &account).unwrap().refused(), Duration::ZERO);
        before.into_iter().for_each(Attempt::accepted);
        assert_eq!(ask(&guard, &account).unwrap().refused(), RETRY * 2);
    }

    #[test]
    fn proven_credentials_go_one_first_after_a_pause_and_not_for_long() {
        let (guard, account) = proven();
        let pause = || guard.lock().iter_mut().for_each(|entry| entry.trusted = None);
        pause();
        let first = ask(&guard, &account).unwrap();
        assert!(first.alone);
        thread::scope(|scope| {
            let ask = || ask(&guard, &account).unwrap().since;
            let others = [scope.spawn(ask), scope.spawn(ask)];
            let accepted = Instant::now();
            first.accepted();
            others.into_iter().for_each(|other| assert!(other.join().unwrap() >= accepted));
        });
        pause();
        let slow = ask(&guard, &account).unwrap();
        let others = [ask(&guard, &account).unwrap(), ask(&guard, &account).unwrap()];
        assert!(slow.since.elapsed() >= PROVEN_PATIENCE);
        assert!(others.iter().all(|other| !other.alone), "together, as it was not refused");
        assert_eq!(slow.refused(), Duration::ZERO);
    }

    #[test]
    fn a_parent_that_hangs_up_on_proven_credentials_gets_them_at_growing_intervals() {
        let (guard, account) = proven();
        for together in [ask(&guard, &account).unwrap(), ask(&guard, &account).unwrap()] {
            assert!(together.unanswered());
        }
        for seconds in [10, 60, 900, 900] {
            assert!(ask(&guard, &account).unwrap().unanswered());
            let resting = ask(&guard, &account).err().unwrap();
            let wanted = Duration::from_secs(seconds);
            assert!(resting.hung_up && resting.left <= wanted && resting.left > wanted / 2);
            wake(&guard);
        }
        ask(&guard, &account).unwrap().accepted();
        assert!(ask(&guard, &account).unwrap().unanswered());
        assert!(ask(&guard, &account).is_ok());
    }

    #[test]
    fn many_at_once_try_once() {
        for works in [false, true] {
            let guard = Guard::new(Some(RETRY));
            let account = account("any");
            let tries = AtomicUsize::new(0);
            let first = ask(&guard, &account).unwrap();
            thread::scope(|scope| {
                for _ in 0..20 {
                    scope.spawn(|| match ask(&guard, &account) {
                        Ok(attempt) => {
                            tries.fetch_add(1, Ordering::SeqCst);
                            attempt.accepted();
                        }
                        Err(_) => assert!(!works),
                    });
                }
                if works {
                    first.accepted();
                } else {
                    first.refused();
                }
            });
            assert_eq!(tries.into_inner(), if works { 20 } else { 0 });
        }
    }

    #[test]
    fn credentials_are_proven_where_they_worked_and_nowhere_else() {
        let guard = Guard::new(Some(RETRY));
        let account = account("right");
        let at = |name| guard.attempt(&account, Side::Origin, &place(name));
        at("wiki").unwrap().accepted();
        assert_eq!(at("stranger").unwrap().refused(), RETRY);
        assert_eq!(at("wiki").unwrap().refused(), Duration::ZERO);
        at("wiki").unwrap().accepted();
        for name in ["stranger", "another"] {
            assert_eq!(at(name).err().unwrap().by, place("stranger"));
        }
        ask(&guard, &account).unwrap().accepted();
        wake(&guard);
        at("another").unwrap().accepted();
        assert_eq!(at("stranger").unwrap().refused(), RETRY * 2);
        assert!(at("another").is_ok());
    }

    #[test]
    fn an_attempt_without_an_outcome_says_nothing_and_no_guard_holds_nothing_back() {
        let account = account("any");
        let guard = Guard::new(Some(RETRY));
        drop(ask(&guard, &account).unwrap());
        assert!(ask(&guard, &account).is_ok());
        let guard = Guard::new(None);
        assert_eq!(ask(&guard, &account).unwrap().refused(), Duration::ZERO);
        assert!(ask(&guard, &account).is_ok());
    }
}
