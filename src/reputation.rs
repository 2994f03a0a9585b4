//! What is known of credentials in one place: whether they go out now, wait, or rest. Knows no lock
//! and no waiting.

use std::sync::Arc;
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
pub const PROVEN_PATIENCE: Duration = Duration::from_millis(500);
/// How long a login that was accepted speaks for the next ones; and one that was not refused for so
/// long: the next ones may take as long, and should not wait for each other all the time.
pub const TRUST: Duration = Duration::from_millis(250);
const TRUST_OF_SLOW: Duration = Duration::from_secs(1);
/// How long credentials rest that may well be right, after each time in a row that they did not work:
/// they did before, or somebody hung up on them.
const EARLY_RESTS: [Duration; 3] =
    [Duration::ZERO, Duration::from_secs(10), Duration::from_secs(60)];
/// How many connections in a row may end on credentials that worked before it counts: a parent that
/// is restarted does that to all who are about to log in, and now and then to their second try.
const PARDONED: u32 = 4;
/// How many times a rest doubles at most.
const MAX_DOUBLINGS: u32 = 4;

/// What is known of credentials that were tried.
pub struct Reputation {
    /// Whose it is.
    pub subject: Subject,
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

/// Whose and where.
#[derive(Clone, PartialEq)]
pub struct Subject {
    /// What an intranet server thinks of an account is no reason to keep it from the parent.
    pub side: Side,
    /// Where they worked; else all places where they did not.
    pub proven: Option<Authority>,
    /// What is sent.
    pub credentials: Arc<Credentials>,
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

impl Reputation {
    /// Nothing yet.
    pub fn new(subject: Subject) -> Self {
        let (refusals, hang_ups, rest, trial, trusted) = (0, 0, None, None, None);
        Self { subject, refusals, hang_ups, rest, trial, trusted }
    }

    /// What an attempt may do now.
    ///
    /// # Errors
    /// [`Resting`], when it may not be made.
    pub fn admit(&mut self, now: Instant) -> Result<Admission, Resting> {
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
    pub fn refuse(&mut self, alone: bool, retry: Duration, by: &Authority) -> Duration {
        // Those that went out together are refused together: the domain counts them all, but they
        // need not rest the longer for it.
        if alone || self.refusals < 2 {
            self.refusals = self.refusals.saturating_add(1);
        }
        let before = self.refusals.saturating_sub(1);
        let rest = if self.subject.proven.is_some() {
            early_rest(before, retry)
        } else {
            retry.saturating_mul(2_u32.saturating_pow(before.min(MAX_DOUBLINGS)))
        };
        self.rest_for(rest, by, false);
        rest
    }

    /// Takes note of a connection that ended without an answer after so long. A refusal comes at
    /// once: who worked before and waited for longer was not refused.
    pub fn hang_up(&mut self, alone: bool, after: Duration, retry: Duration, by: &Authority) {
        if self.subject.proven.is_some() && after > PROVEN_PATIENCE {
            return;
        }
        if alone || self.hang_ups == 0 {
            self.hang_ups = self.hang_ups.saturating_add(1);
        }
        let patience = if self.subject.proven.is_some() { PARDONED } else { 0 };
        let before = self.hang_ups.saturating_sub(1).saturating_sub(patience);
        self.rest_for(early_rest(before, retry), by, true);
    }

    /// As if it had rested.
    #[cfg(test)]
    pub fn wake(&mut self) {
        self.rest = None;
    }

    /// As if time had passed since it was accepted.
    #[cfg(test)]
    pub fn pause(&mut self) {
        self.trusted = None;
    }

    fn rest_for(&mut self, rest: Duration, by: &Authority, hung_up: bool) {
        let since = Instant::now();
        let Some(until) = since.checked_add(rest) else { return };
        if self.rest.as_ref().is_none_or(|before| before.until <= until) {
            self.rest = Some(Rest { since, by: by.clone(), hung_up, until });
        }
    }

    /// Takes note that they worked, sent at `since`.
    pub fn accept(&mut self, since: Instant) {
        // An answer that was long in coming says nothing about what was refused meanwhile.
        if self.rest.as_ref().is_none_or(|rest| rest.since < since) {
            (self.refusals, self.hang_ups) = (0, 0);
            self.rest = None;
            self.trusted = self.trusted.max(Instant::now().checked_add(TRUST));
        }
    }

    /// A try that began at `since` is over; another one may have taken over from one that took too
    /// long.
    pub fn end_trial(&mut self, since: Instant) {
        if self.trial == Some(since) {
            self.trial = None;
        }
    }
}

fn early_rest(before: u32, retry: Duration) -> Duration {
    let before = usize::try_from(before).unwrap_or(usize::MAX);
    EARLY_RESTS.into_iter().nth(before).unwrap_or(retry).min(retry)
}

/// What an attempt may do.
pub enum Admission {
    /// Be made.
    Go {
        /// While others wait for what comes of it.
        alone: bool,
    },
    /// Ask again after that, or when another one is decided.
    Wait(Duration),
}
