//! A response on its way to the client, body and all, streamed as it comes.

use std::io;

use crate::audience::LEFT;
use crate::dump;
use crate::failure::Failure;
use crate::http::body::BodyScanner;
use crate::http::forwarding;
use crate::http::framing::BodyFraming;
use crate::http::head::Version;
use crate::pool::Pool;
use crate::request_body::RequestBody;
use crate::response::{Answer, Upstream};
use crate::spare;
use crate::sys::Pipe;

/// What is left of a body when a pipe is worth its making.
const LONG: u64 = 64 * 1024;

/// What became of a response.
pub enum Relayed {
    /// The client has all of it. `persists`: and may send another request.
    Whole {
        /// Its connection stays open.
        persists: bool,
    },
    /// One side broke off: the client must not take what it has for the whole.
    Cut {
        /// Only a reset tells it so: this body ends where the connection does.
        reset: bool,
    },
    /// Nothing was sent, for what came cannot be passed on.
    Unfit(Failure),
}

/// Passes a response on. `body` is what is left of the request, and knows the client, which speaks
/// `version` and, if `persists`, would stay. The connection the response came on is left to the
/// pool before the last bytes go to the client: its next request must find it there.
#[expect(clippy::boxed_local, reason = "it stays where it is")]
pub fn response(
    body: &mut RequestBody<'_>,
    mut answer: Box<Answer>,
    version: Version,
    persists: bool,
    pool: &Pool,
) -> Relayed {
    let Answer { head, framing, upstream } = &mut *answer;
    let framing = *framing;
    // A success may begin before the request ends (an echo does); anything else ends the request.
    let goes_on = head.status < 300;
    let persists = persists && body.is_taken();
    let plan = forwarding::prepare_response(head, framing, version, persists);
    let cut = Relayed::Cut { reset: plan.decode || framing == BodyFraming::UntilClose };
    let mut scanner = BodyScanner::new(framing);
    let mut out = spare::take();
    head.encode(&mut out);
    dump::message("to", None, &out);
    log::debug!("response {} {}", head.status, words(framing));
    let mut begun = false;
    let mut seen = 0_usize;
    // Holds the last bytes of a long body.
    let mut pipe = None;
    loop {
        let ahead = upstream.line.conn.buffered();
        let scanned =
            if plan.decode { scanner.decode(ahead, &mut out) } else { scanner.scan(ahead) };
        if let Ok(count) = &scanned {
            dump::body(Some(upstream.line.conn.stream()), seen, ahead.get(..*count));
            seen = seen.saturating_add(*count);
        }
        match scanned {
            Ok(count) if plan.decode => upstream.line.conn.consume(count),
            Ok(count) => {
                let part = ahead.get(..count).unwrap_or_default();
                // What comes first goes with the head, and the last waits for the pool.
                if !begun || scanner.is_done() {
                    out.extend_from_slice(part);
                } else if body.write_to_client(part).is_err() {
                    return cut;
                }
                upstream.line.conn.consume(count);
            }
            Err(error) => {
                let hop = upstream.hop();
                log::warn!(
                    target: "ntlmaps::often::cut",
                    "the {hop} sent a response that is cut: {error}"
                );
                let failure = || Relayed::Unfit(Failure::bad_response(upstream.hop(), &error));
                return if begun { cut } else { failure() };
            }
        }
        if scanner.is_done() {
            break;
        }
        if !out.is_empty() && body.write_to_client(&out).is_err() {
            return cut;
        }
        out.clear();
        begun = true;
        if goes_on && !body.is_sent() && body.resume(&mut upstream.line.conn).is_err() {
            return cut;
        }
        if scanner.left() > LONG
            && body.is_sent()
            && let Ok(mut last) = Pipe::new()
        {
            if !splice(upstream, body, &mut scanner, &mut last) {
                return cut;
            }
            pipe = Some(last);
            break;
        }
        match upstream.line.conn.fill_for(body.audience(), None) {
            Ok(1..) => {}
            Ok(_) if scanner.at_close().is_ok() => break,
            read => {
                tell_of_break(upstream, &read);
                return cut;
            }
        }
    }
    answer.upstream.release(pool);
    let written = match &mut pipe {
        Some(pipe) => body.empty_to_client(pipe),
        None => body.write_to_client(&out),
    };
    spare::give(out);
    match written {
        Ok(()) => Relayed::Whole { persists: plan.persists },
        Err(_) => cut,
    }
}

/// Passes on what is left of a body whose length is known, without looking at it; what comes last
/// stays in the pipe. `false` when one side broke off.
fn splice(
    upstream: &mut Upstream,
    body: &mut RequestBody<'_>,
    scanner: &mut BodyScanner,
    pipe: &mut Pipe,
) -> bool {
    loop {
        match upstream.line.conn.fill_pipe(pipe, scanner.left(), body.audience()) {
            Ok(count @ 1..) => scanner.pass(u64::try_from(count).unwrap_or(u64::MAX)),
            read => {
                tell_of_break(upstream, &read);
                return false;
            }
        }
        if scanner.is_done() {
            return true;
        }
        if body.empty_to_client(pipe).is_err() {
            return false;
        }
    }
}

fn words(framing: BodyFraming) -> &'static str {
    match framing {
        BodyFraming::None => "without a body",
        BodyFraming::Length(_) => "with a body by Content-Length",
        BodyFraming::Chunked => "with a body in chunks",
        BodyFraming::UntilClose => "with a body until the connection ends",
    }
}

fn tell_of_break(upstream: &Upstream, read: &io::Result<usize>) {
    if read.as_ref().is_err_and(|error| error.kind() == LEFT) {
        return log::debug!("the client went away in the middle of a response");
    }
    log::warn!(
        target: "ntlmaps::often::break",
        "the {} broke off in the middle of a response",
        upstream.hop()
    );
}
