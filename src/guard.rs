//! The lockout guard: which credentials were refused, and which are being tried. Three refusals
//! lock a Windows account; here nobody's are sent twice without a reason.
//!
//! - Credentials that never worked are tried by one connection at a time; the others wait for its
//!   outcome. Refused, they rest for `REJECTED_RETRY`, and twice as long each time they are refused
//!   again: a domain that counts for half an hour then never counts to three.
//! - Credentials that worked a moment ago go out freely. After a pause one connection goes first and
//!   the others wait for its outcome, though not for long: a password may have changed meanwhile.
//!   Refused, they are tried once more at once, alone, and again after seconds: a domain controller
//!   that is away looks the same, and domains that remember old passwords do not count them.
//! - A parent that hangs up on a login has perhaps asked its domain: that rests for seconds, too, or
//!   where they worked, if it goes on: a parent that is restarted does the same.
//! - They worked where they worked: another server may ask another domain. All where they did not
//!   yet are one, as they may ask the same.
//!
//! Knows no socket and no HTTP.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::Side;
use crate::auth::credentials::Credentials;
use crate::http::target::Authority;
use crate::reputation::{Admission, Reputation, Resting, Subject};

/// How many credentials are remembered.
const MAX_ENTRIES: usize = 4096;

/// What is known of all credentials that were tried.
pub struct Guard {
    /// `None`: no guard.
    retry: Option<Duration>,
    /// Least recently tried first.
    entries: Mutex<Vec<Reputation>>,
    decided: Condvar,
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

    /// Credentials that were sent without asking, as they had been accepted a moment ago.
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
        entries: &[Reputation],
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

    fn lock(&self) -> MutexGuard<'_, Vec<Reputation>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the entry of these credentials and moves it to the end.
    fn update<R>(
        entries: &mut Vec<Reputation>,
        subject: &Subject,
        change: impl FnOnce(&mut Reputation) -> R,
    ) -> R {
        let mut entry = Self::take(entries, subject);
        let result = change(&mut entry);
        entries.push(entry);
        result
    }

    /// The entry of these credentials, to be put back.
    fn take(entries: &mut Vec<Reputation>, subject: &Subject) -> Reputation {
        if let Some(at) = entries.iter().position(|entry| entry.subject == *subject) {
            return entries.remove(at);
        }
        if entries.len() >= MAX_ENTRIES {
            entries.remove(0);
        }
        Reputation::new(subject.clone())
    }
}

impl Attempt<'_> {
    /// Whether others wait for what becomes of it, even if that takes long.
    pub fn is_awaited(&self) -> bool {
        self.alone && self.subject.proven.is_none()
    }

    /// They were accepted.
    pub fn accepted(self) {
        let subject = Subject { proven: Some(self.place.clone()), ..self.subject.clone() };
        let mut entries = self.guard.lock();
        Guard::update(&mut entries, &subject, |entry| entry.accept(self.since));
    }

    /// They were refused. How long they rest now.
    pub fn refused(self) -> Duration {
        let Some(retry) = self.guard.retry else { return Duration::ZERO };
        Guard::update(&mut self.guard.lock(), &self.subject, |entry| {
            entry.refuse(self.alone, retry, &self.place)
        })
    }

    /// They went out and nothing came back: a parent may hang up on a wrong password. Whether they
    /// may well be right.
    pub fn unanswered(self) -> bool {
        if let Some(retry) = self.guard.retry {
            Guard::update(&mut self.guard.lock(), &self.subject, |entry| {
                entry.hang_up(self.alone, self.since.elapsed(), retry, &self.place);
            });
        }
        self.subject.proven.is_some()
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.alone {
            return;
        }
        let mut entries = self.guard.lock();
        Guard::update(&mut entries, &self.subject, |entry| entry.end_trial(self.since));
        drop(entries);
        self.guard.decided.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::auth::credentials::Secret;
    use crate::reputation::PROVEN_PATIENCE;

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
        guard.lock().iter_mut().for_each(Reputation::wake);
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
        for rest in [0, 10, 60, 900] {
            assert_eq!(ask(&guard, &account).unwrap().refused(), Duration::from_secs(rest));
            assert_eq!(ask(&guard, &account).is_err(), rest > 0);
            wake(&guard);
        }
        ask(&guard, &account).unwrap().accepted();
        assert_eq!(ask(&guard, &account).unwrap().refused(), Duration::ZERO);
    }

    #[test]
    fn what_is_refused_together_is_counted_and_rests_no_longer_for_it() {
        let (guard, account) = proven();
        let together: Vec<_> = (0..5).map(|_| ask(&guard, &account).unwrap()).collect();
        let rests: Vec<_> = together.into_iter().map(Attempt::refused).collect();
        assert_eq!(rests, [0, 10, 10, 10, 10].map(Duration::from_secs));
        assert!(ask(&guard, &account).is_err(), "two were counted");
    }

    #[test]
    fn what_was_sent_before_a_refusal_and_accepted_after_it_changes_nothing() {
        let (guard, account) = proven();
        let before = [ask(&guard, &account).unwrap(), ask(&guard, &account).unwrap()];
        assert_eq!(ask(&guard, &account).unwrap().refused(), Duration::ZERO);
        before.into_iter().for_each(Attempt::accepted);
        assert_eq!(ask(&guard, &account).unwrap().refused(), Duration::from_secs(10));
    }

    #[test]
    fn proven_credentials_go_one_first_after_a_pause_and_not_for_long() {
        let (guard, account) = proven();
        let pause = || guard.lock().iter_mut().for_each(Reputation::pause);
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
        for _ in 0..4 {
            assert!(ask(&guard, &account).unwrap().unanswered());
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
