//! Logins that hold for a request, not for a connection: what the next request sends without being
//! asked.

use super::Side;
use super::credentials::Secret;
use super::digest::{self, DigestChallenge};
use crate::http::challenge::Challenge;
use crate::http::head::{RequestHead, ResponseHead};
use crate::ntlm::crypto::Key;

/// Credentials that hold for a request, not for a connection: what the next one may send without
/// being asked.
#[derive(Clone)]
pub enum Standing {
    /// The field value.
    Basic(Secret),
    /// A nonce and how often it was used.
    Digest(Box<DigestStanding>),
}

/// A Digest login between two requests.
#[derive(Clone)]
pub struct DigestStanding {
    pub(super) challenge: DigestChallenge,
    pub(super) user: String,
    pub(super) ha1: Key,
    pub(super) cnonce: [u8; 8],
    pub(super) count: u32,
}

impl Standing {
    /// The field value for one request; each is counted.
    pub fn answer(&mut self, request: &RequestHead) -> String {
        match self {
            Self::Basic(value) => value.expose().to_owned(),
            Self::Digest(standing) => {
                let DigestStanding { challenge, user, ha1, cnonce, count } = &mut **standing;
                *count = count.saturating_add(1);
                let (method, target) = (&request.method, &request.target);
                digest::answer(challenge, user, ha1, method, target, *count, *cnonce)
            }
        }
    }

    /// Whether these challenges are what a wrong password meets with. Neither a nonce that is stale
    /// says anything about it, nor a server that wants another scheme by now.
    pub(super) fn is_refused_by(&self, offered: &[Challenge]) -> bool {
        match self {
            Self::Basic(_) => offered.iter().any(|challenge| challenge.is("Basic")),
            Self::Digest(_) => {
                digest_challenges(offered).next().is_some()
                    && !digest_challenges(offered).any(|challenge| challenge.stale)
            }
        }
    }

    /// Takes the nonce for the next request out of a response (RFC 7616 section 3.5).
    pub fn renew(&mut self, side: Side, head: &ResponseHead) {
        let Self::Digest(standing) = self else { return };
        let next = head.fields.first(side.info_field()).and_then(digest::next_nonce);
        if let Some(nonce) = next.filter(|nonce| *nonce != standing.challenge.nonce) {
            standing.challenge.nonce = nonce;
            standing.count = 0;
        }
    }
}

impl Drop for DigestStanding {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.ha1);
    }
}

/// The Digest challenges among others.
pub(super) fn digest_challenges(offered: &[Challenge]) -> impl Iterator<Item = DigestChallenge> {
    let digests = offered.iter().filter(|challenge| challenge.is("Digest"));
    digests.filter_map(|challenge| DigestChallenge::of(challenge).ok())
}
