//! Responses of a next hop as they come in: the head, and the rest of one that nobody wants.

use std::time::Duration;

use crate::conn::{Conn, ReadError};
use crate::failure::{Failure, HopName};
use crate::http::framing::{BodyFraming, BodyScanner};
use crate::http::head::ResponseHead;

/// How long a head may take from its first byte to its last.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Up to so many bytes of a response that nobody wants are read to keep its connection.
const MAX_DRAIN: usize = 256 * 1024;

/// Reads the head of a response, interim or final, which may take `patience` to begin.
///
/// # Errors
/// [`Failure`], when none came that can be passed on.
pub fn read_head(
    conn: &mut Conn,
    hop: &HopName,
    patience: Duration,
) -> Result<ResponseHead, Failure> {
    let name = || hop.clone();
    let head = conn.read_head(patience, HEAD_TIMEOUT).map_err(|error| match error {
        ReadError::Closed { began: false } => Failure::Closed(name(), String::new()),
        ReadError::Broken(error) => Failure::Closed(name(), format!(" ({error})")),
        ReadError::TimedOut { began: false } => Failure::Silent(name(), patience),
        ReadError::Closed { .. } | ReadError::TimedOut { .. } => {
            Failure::BadResponse(name(), "it ends in its head".to_owned())
        }
        ReadError::Head(error) => Failure::BadResponse(name(), error.to_string()),
    })?;
    match ResponseHead::parse(&head) {
        // We never ask for another protocol.
        Ok(head) if head.status == 101 => {
            Err(Failure::BadResponse(name(), "it switches protocols unasked".to_owned()))
        }
        Ok(head) => Ok(head),
        Err(error) => Err(Failure::BadResponse(name(), error.to_string())),
    }
}

/// Reads the rest of the response to a request with `method`, to use its connection again. `None`
/// when that is not possible or not worth it.
pub fn drain(mut conn: Conn, method: &str, response: &ResponseHead) -> Option<Conn> {
    let framing = BodyFraming::of_response(method, response).ok()?;
    if framing == BodyFraming::UntilClose {
        return None;
    }
    let mut scanner = BodyScanner::new(framing);
    let mut drained = 0_usize;
    loop {
        let count = scanner.scan(conn.buffered()).ok()?;
        conn.consume(count);
        drained = drained.saturating_add(count);
        if scanner.is_done() {
            return Some(conn);
        }
        if drained > MAX_DRAIN || !matches!(conn.fill(Some(HEAD_TIMEOUT)), Ok(1..)) {
            return None;
        }
    }
}
