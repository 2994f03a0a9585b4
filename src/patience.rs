//! How long an answer may take, and whether a parent that gives none works at all: it may be
//! waiting for the origin, or have stopped while the kernel still takes connections for it.

use std::time::Duration;

use crate::audience::Audience;
use crate::conn::Conn;
use crate::failure::Failure;
use crate::hop::HopName;
use crate::http::head::{FieldLines, ResponseHead};
use crate::response;
use crate::sys::{self, Wait};

/// How long the answer to a complete request may take. A parent gives up on its origin earlier.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// What to think of who does not answer soon.
pub struct Doubt<'a> {
    /// How soon.
    pub soon: Duration,
    /// Whether it works all the same.
    pub works: &'a dyn Fn(&Conn) -> bool,
    /// Whether there is something better then than to wait for the answer.
    pub asks: bool,
}

/// Reads the head of a response to a request with `fields`, as long as the `audience` stays. With a
/// `doubt`, who does not answer soon may be a parent that does not work; or one that passed the
/// request on to an origin that takes its time.
///
/// # Errors
/// [`Failure`], when none came that can be passed on.
pub fn read_head(
    conn: &mut Conn,
    hop: &HopName,
    fields: &FieldLines,
    audience: Option<Audience<'_>>,
    doubt: Option<Doubt<'_>>,
) -> Result<ResponseHead, Failure> {
    let mut patience = ANSWER_TIMEOUT;
    if let Some(doubt) = doubt {
        let soon = doubt.soon.min(ANSWER_TIMEOUT / 2);
        match response::read_head(conn, hop, audience, soon, fields) {
            Err(Failure::Silent(..)) => {}
            other => return other,
        }
        if !(doubt.works)(conn) {
            return Err(Failure::Silent(hop.clone(), soon.saturating_mul(2)));
        }
        if doubt.asks {
            patience = Duration::ZERO;
        }
    }
    response::read_head(conn, hop, audience, patience, fields)
}

/// Whether a parent works: asked on `other` for what concerns nobody but itself (RFC 9110 section
/// 9.3.7), it says anything; or something comes after all where it is `silent` yet, or the end.
pub fn works(parent: &HopName, silent: Option<&Conn>, mut other: Conn, patience: Duration) -> bool {
    let ping = format!(
        "OPTIONS * HTTP/1.1\r\nHost: {}\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n",
        parent.authority
    );
    if other.write_all(ping.as_bytes()).is_err() {
        return false;
    }
    let Some(silent) = silent else { return matches!(other.fill(Some(patience)), Ok(1..)) };
    let mut waits = [Wait::readable(silent.stream()), Wait::readable(other.stream())];
    if !matches!(sys::poll(&mut waits, Some(patience)), Ok(true)) {
        return false;
    }
    let [first, _] = waits;
    first.ready || matches!(other.fill(Some(patience)), Ok(1..))
}
