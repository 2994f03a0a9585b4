//! Logins that hold for a request, not for a connection, left to later requests: those send them
//! without being asked.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::auth::Standing;
use crate::pool::{Key, OwnedKey};
use crate::reputation::TRUST;

/// How many are remembered.
const MAX_STANDINGS: usize = 1024;

/// All of them, by next hop and account. One is out while a request uses it: a nonce counts its
/// requests, and Squid refuses one that counts backwards.
#[derive(Default)]
pub struct Standings {
    /// With the time they were accepted; the last one last.
    all: Mutex<VecDeque<(OwnedKey, Standing, Instant)>>,
    /// There were some. With NTLM there are none, and nobody waits for anybody to find that out.
    any: AtomicBool,
    /// How often some were forgotten.
    forgotten: AtomicU64,
}

impl Standings {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(OwnedKey, Standing, Instant)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one out, the last one accepted; and whether that is so short a time ago that it may go
    /// out without asking the guard.
    pub fn take(&self, key: Key<'_>) -> Option<(Standing, bool)> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut all = self.lock();
        let at = all.iter().rposition(|(own, ..)| own.as_key() == key)?;
        all.remove(at).map(|(_, standing, accepted)| (standing, accepted.elapsed() < TRUST))
    }

    /// What [`Self::put`] has to be told about a login that goes out now.
    pub fn epoch(&self) -> u64 {
        self.forgotten.load(Ordering::SeqCst)
    }

    /// Leaves one that was accepted for the next request, unless some were forgotten since it went
    /// out: what was accepted before a refusal was perhaps accepted for the last time.
    pub fn put(&self, key: OwnedKey, standing: Standing, epoch: u64) {
        let mut all = self.lock();
        if epoch != self.epoch() {
            return;
        }
        if all.len() >= MAX_STANDINGS {
            all.pop_front();
        }
        all.push_back((key, standing, Instant::now()));
        self.any.store(true, Ordering::Release);
    }

    /// Forgets those of an account there: it was refused.
    pub fn forget(&self, key: Key<'_>) {
        let mut all = self.lock();
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        all.retain(|(own, ..)| Key { private: key.private, ..own.as_key() } != key);
    }
}
