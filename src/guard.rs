//! The lockout guard: which credentials were refused, and which are being tried. Three refusals
//! lock a Windows account; here nobody's are sent twice without a reason.
//!
//! - Credentials that never worked are tried by one connection at a time; the others wait for its
//!   outcome. Refused, they rest for `REJECTED_RETRY`, and twice as long each time they are refused
//!   again: a domain that counts for half an hour then never counts to three.
//! - Credentials that worked go out freely. When they are refused, one more try follows at once,
//!   others soon after: a domain controller that is away looks the same, and a domain does not
//!   count a password that was right until lately.
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
/// How long credentials rest that worked before, after each refusal in a row.
const REST_OF_PROVEN: [Duration; 3] =
    [Duration::ZERO, Duration::from_secs(10), Duration::from_secs(60)];
/// How many times the rest of others doubles at most.
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
    /// Refusals since they worked last.
    refusals: u32,
    /// When the last refusal was and whose, and until when they rest.
    rest: Option<(Instant, Authority, Instant)>,
    /// Since when one connection tries them alone.
    trial: Option<Instant>,
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
}

/// The permission to send credentials once. Dropped without an outcome, it says nothing about them.
pub struct Attempt<'a> {
    guard: &'a Guard,
    subject: Subject,
    /// Where they are sent.
    place: Authority,
    /// They are tried alone, since then.
    trial: Option<Instant>,
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
        let mut subject = Subject { side, proven: None, credentials: Arc::clone(credentials) };
        let mut entries = self.lock();
        loop {
            // Whoever was waited for may have been let in there.
            subject.proven = Some(place.clone());
            if !entries.iter().any(|entry| entry.subject == subject) {
                subject.proven = None;
            }
            let admission = match self.retry {
                None => Admission::Go(None),
                Some(_) => Self::update(&mut entries, &subject, |e| e.admit(Instant::now()))?,
            };
            match admission {
                Admission::Go(trial) => {
                    return Ok(Attempt { guard: self, subject, place: place.clone(), trial });
                }
                Admission::Wait(patience) => {
                    let waited = self.decided.wait_timeout(entries, patience);
                    entries = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
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
        let mut entry = match entries.iter().position(|entry| entry.subject == *subject) {
            Some(at) => entries.remove(at),
            None => Entry { subject: subject.clone(), refusals: 0, rest: None, trial: None },
        };
        let result = change(&mut entry);
        if entries.len() >= MAX_ENTRIES {
            entries.remove(0);
        }
        entries.push(entry);
        result
    }
}

impl Entry {
    /// What an attempt may do now.
    fn admit(&mut self, now: Instant) -> Result<Admission, Resting> {
        if let Some((refused, by, until)) = &self.rest
            && *until > now
        {
            let refused = now.saturating_duration_since(*refused);
            let left = until.saturating_duration_since(now);
            return Err(Resting { by: by.clone(), refused, left });
        }
        if self.subject.proven.is_some() && self.refusals == 0 {
            return Ok(Admission::Go(None));
        }
        let trying = self.trial.map(|since| now.saturating_duration_since(since));
        match trying.map_or(Duration::ZERO, |spent| TRIAL_PATIENCE.saturating_sub(spent)) {
            Duration::ZERO => {
                self.trial = Some(now);
                Ok(Admission::Go(Some(now)))
            }
            patience => Ok(Admission::Wait(patience)),
        }
    }

    /// Takes note of a refusal. How long they rest now.
    fn refuse(&mut self, trial: bool, retry: Duration, by: &Authority) -> Duration {
        // Those that went out together while they were proven are refused together: once.
        if trial || self.refusals == 0 {
            self.refusals = self.refusals.saturating_add(1);
        }
        let rest = if self.subject.proven.is_some() {
            early_rest(self.refusals, retry)
        } else {
            let before = self.refusals.saturating_sub(1).min(MAX_DOUBLINGS);
            retry.saturating_mul(2_u32.saturating_pow(before))
        };
        self.rest_for(rest, by);
        rest
    }

    fn rest_for(&mut self, rest: Duration, by: &Authority) {
        let now = Instant::now();
        self.rest = now.checked_add(rest).map(|until| (now, by.clone(), until));
    }
}

/// How long credentials rest that may well be right, after so many refusals in a row.
fn early_rest(refusals: u32, retry: Duration) -> Duration {
    let before = usize::try_from(refusals.saturating_sub(1)).unwrap_or(usize::MAX);
    REST_OF_PROVEN.into_iter().nth(before).unwrap_or(retry).min(retry)
}

enum Admission {
    /// Alone, since then, if so.
    Go(Option<Instant>),
    Wait(Duration),
}

impl Attempt<'_> {
    /// Whether others wait for what becomes of it.
    pub fn is_alone(&self) -> bool {
        self.trial.is_some()
    }

    /// They were accepted.
    pub fn accepted(self) {
        let subject = Subject { proven: Some(self.place.clone()), ..self.subject.clone() };
        Guard::update(&mut self.guard.lock(), &subject, |entry| {
            entry.refusals = 0;
            entry.rest = None;
        });
    }

    /// They were refused. How long they rest now.
    pub fn refused(self) -> Duration {
        let Some(retry) = self.guard.retry else { return Duration::ZERO };
        Guard::update(&mut self.guard.lock(), &self.subject, |entry| {
            entry.refuse(self.trial.is_some(), retry, &self.place)
        })
    }

    /// They went out and nothing came back. A parent may hang up on a wrong password: those that
    /// never worked rest like those that did, for a little while. Whether they may well be right.
    pub fn unanswered(self) -> bool {
        if self.subject.proven.is_some() {
            return true;
        }
        if let Some(retry) = self.guard.retry {
            Guard::update(&mut self.guard.lock(), &self.subject, |entry| {
                entry.refusals = entry.refusals.saturating_add(1);
                entry.rest_for(early_rest(entry.refusals, retry), &self.place);
            });
        }
        false
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.trial.is_none() {
            return;
        }
        Guard::update(&mut self.guard.lock(), &self.subject, |entry| {
            // Another one may have taken over from a try that took too long.
            if entry.trial == self.trial {
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
        let guard = Guard::new(Some(RETRY));
        let account = account("right");
        ask(&guard, &account).unwrap().accepted();
        let together = [ask(&guard, &account).unwrap(), ask(&guard, &account).unwrap()];
        for attempt in together {
            assert_eq!(attempt.refused(), Duration::ZERO);
        }
        assert_eq!(ask(&guard, &account).unwrap().refused(), Duration::from_secs(10));
        assert!(ask(&guard, &account).is_err());
        wake(&guard);
        ask(&guard, &account).unwrap().accepted();
        assert_eq!(ask(&guard, &account).unwrap().refused(), Duration::ZERO);
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
    fn an_attempt_without_an_outcome_says_nothing() {
        let guard = Guard::new(Some(RETRY));
        let account = account("any");
        drop(ask(&guard, &account).unwrap());
        assert!(ask(&guard, &account).is_ok());
    }

    #[test]
    fn no_guard_holds_nothing_back() {
        let guard = Guard::new(None);
        let account = account("any");
        assert_eq!(ask(&guard, &account).unwrap().refused(), Duration::ZERO);
        assert!(ask(&guard, &account).is_ok());
    }
}
