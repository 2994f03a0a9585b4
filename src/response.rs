//! Responses of a next hop as they come in: the head, the connection that the body is still on, and
//! the rest of one that nobody wants.

use std::time::{Duration, Instant};

use crate::audience::{Audience, LEFT};
use crate::conn::{Conn, ReadError};
use crate::dump;
use crate::failure::Failure;
use crate::hop::HopName;
use crate::http::body::BodyScanner;
use crate::http::forwarding;
use crate::http::framing::BodyFraming;
use crate::http::head::{FieldLines, RequestHead, ResponseHead, Version};
use crate::http::names;
use crate::pool::{Line, Pool};
use crate::request_body::RequestBody;

/// How long a head may take from its first byte to its last.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Up to so many bytes of a response that nobody wants are read to keep its connection, and for so
/// long.
const MAX_DRAIN: usize = 256 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The head of a final response; its body is still to be read from `upstream`.
pub struct Answer {
    /// The head as it came.
    pub head: ResponseHead,
    /// How its body ends.
    pub framing: BodyFraming,
    /// Where its body comes from.
    pub upstream: Upstream,
}

impl Answer {
    /// What came on `line`: the `head` of the final response to `request` with this `body`.
    /// `authenticated`: whether the connection is what its key in the pool says.
    ///
    /// # Errors
    /// When nobody can tell where its body ends.
    pub fn new(
        line: Box<Line>,
        head: ResponseHead,
        request: &RequestHead,
        body: &RequestBody<'_>,
        authenticated: bool,
    ) -> Result<Box<Self>, Failure> {
        let framing = BodyFraming::of_response(&request.method, &head)
            .map_err(|error| Failure::bad_response(&line.key.hop, &error))?;
        let anonymous = (!authenticated).then_some("it may not be logged in");
        let spoiled = anonymous.or_else(|| spoils(&head, framing, request, body));
        Ok(Box::new(Self { head, framing, upstream: Upstream { line, spoiled } }))
    }
}

/// A connection with a response body on it.
pub struct Upstream {
    /// The connection.
    pub line: Box<Line>,
    /// Why it may not serve another request when the body is complete, if so.
    spoiled: Option<&'static str>,
}

impl Upstream {
    /// Who is at the other end.
    pub fn hop(&self) -> &HopName {
        &self.line.key.hop
    }

    /// The body is complete: leaves the connection for the next request, if it is fit for one.
    /// Bytes behind the end of a response are nobody's: such a connection is not.
    pub fn release(self, pool: &Pool) {
        let more = !self.line.conn.buffered().is_empty();
        match self.spoiled.or(more.then_some("more came than was asked for")) {
            Some(why) => log::debug!("the connection to the {} is closed: {why}", self.hop()),
            None => {
                log::debug!("the connection to the {} goes to the pool", self.hop());
                pool.put(self.line);
            }
        }
    }
}

/// Reads the head of a response, interim or final, which may take `patience` to begin, as long as
/// the `audience` stays, if there is one. `request`: what the fields said that it answers.
///
/// # Errors
/// [`Failure`], when none came that can be passed on.
pub fn read_head(
    conn: &mut Conn,
    hop: &HopName,
    audience: Option<Audience<'_>>,
    patience: Duration,
    request: &FieldLines,
) -> Result<ResponseHead, Failure> {
    let name = || hop.clone();
    let head = conn.read_head(audience, patience, HEAD_TIMEOUT, ResponseHead::parse);
    let head = head.map_err(|error| match error {
        ReadError::Closed { began: false } => Failure::Closed(name(), String::new()),
        ReadError::Broken(error) if error.kind() == LEFT => Failure::ClientGone,
        ReadError::Broken(error) => Failure::Closed(name(), format!(" ({error})")),
        ReadError::TimedOut { began: false } => Failure::Silent(name(), patience),
        ReadError::Closed { .. } | ReadError::TimedOut { .. } => {
            Failure::bad_response(hop, &"it ends in its head")
        }
        ReadError::Head(error) => Failure::bad_response(hop, &error),
    })?;
    if head.status == 101 && !forwarding::is_wanted_upgrade(&head, request) {
        return Err(Failure::bad_response(hop, &"it switches protocols unasked"));
    }
    Ok(head)
}

/// Whether whoever sent it keeps the connection open behind it.
pub fn persists(response: &ResponseHead) -> bool {
    forwarding::persists(response.version, &response.fields)
}

/// Why a connection may not serve another request, once the body of this response is complete.
/// `body`: of the request.
fn spoils(
    response: &ResponseHead,
    framing: BodyFraming,
    request: &RequestHead,
    body: &RequestBody<'_>,
) -> Option<&'static str> {
    let reasons = [
        (framing == BodyFraming::UntilClose, "its end is the end of the body"),
        (!persists(response), "it was announced to close"),
        // A next hop that answers early, or refuses a long body, may never read the rest of it.
        (!body.is_sent(), "the answer came before the end of the request"),
        (response.status >= 400 && body.is_long(), "a long body was refused"),
        // A server that was asked for another protocol may go on in it.
        (request.fields.contains(names::UPGRADE), "another protocol was asked for"),
        // Chunks and a length, or chunks from HTTP/1.0: whoever does not see the chunks sees
        // another end (RFC 9112 section 6.1).
        (
            framing == BodyFraming::Chunked
                && (response.version == Version::Http10
                    || response.fields.contains(names::CONTENT_LENGTH)),
            "its chunks have another end for who does not see them",
        ),
    ];
    reasons.into_iter().find(|(is, _)| *is).map(|(_, why)| why)
}

/// Reads the rest of the response to a request with `method`, to use its connection again. `false`
/// when that is not possible or not worth it.
pub fn drain(conn: &mut Conn, method: &str, response: &ResponseHead) -> bool {
    let Ok(framing) = BodyFraming::of_response(method, response) else { return false };
    if framing == BodyFraming::UntilClose {
        return false;
    }
    let mut scanner = BodyScanner::new(framing);
    let (started, mut drained) = (Instant::now(), 0_usize);
    loop {
        let Ok(count) = scanner.scan(conn.buffered()) else { return false };
        dump::body(Some(conn.stream()), drained, conn.buffered().get(..count));
        conn.consume(count);
        drained = drained.saturating_add(count);
        if scanner.is_done() {
            // Bytes behind it would pass for the answer to the next request.
            return conn.is_quiet();
        }
        if drained > MAX_DRAIN || !matches!(conn.fill_within(started, DRAIN_TIMEOUT), Ok(1..)) {
            return false;
        }
    }
}
