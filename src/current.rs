//! Which gateway holds now: a reload puts another one in its place.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::gateway::Gateway;

/// The gateway of the next request.
pub struct Current {
    gateway: RwLock<Arc<Gateway>>,
    /// Its number.
    number: AtomicU64,
}

impl Current {
    /// The first one.
    pub fn new(gateway: Gateway) -> Self {
        let number = AtomicU64::new(gateway.number);
        Self { gateway: RwLock::new(Arc::new(gateway)), number }
    }

    /// The one that holds now.
    pub fn gateway(&self) -> Arc<Gateway> {
        Arc::clone(&self.gateway.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes `held` the one that holds now. Mostly it is, and all threads together find that out
    /// without a write to what they share, for which they would have to wait for each other.
    pub fn renew(&self, held: &mut Arc<Gateway>) {
        if held.number != self.number.load(Ordering::Acquire) {
            *held = self.gateway();
        }
    }

    /// From the next request on, this one holds.
    pub fn set(&self, gateway: Gateway) {
        let number = gateway.number;
        *self.gateway.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(gateway);
        self.number.store(number, Ordering::Release);
    }
}
