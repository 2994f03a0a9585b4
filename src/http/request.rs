//! Whether a request has one meaning for everybody on its way, and whom it is for.

use std::fmt::Display;

use super::framing::BodyFraming;
use super::head::{RequestHead, Version};
use super::names::{self, Names};
use super::reply::Reply;
use super::target::{Authority, RequestTarget};

/// Fields that say one thing: of two lines, the next hop may believe the other one.
const SINGLE: Names = Names::of(&[
    names::HOST,
    names::AUTHORIZATION,
    names::PROXY_AUTHORIZATION,
    names::MAX_FORWARDS,
]);

const ALLOW: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT";

/// What a client is told whose request breaks the rules.
pub fn unreadable(status: u16, why: &dyn Display) -> Reply {
    Reply::new(status, format!("The request cannot be read: {why}."))
}

/// Where the request is aimed and how its body ends.
///
/// # Errors
/// What its client is told. Nothing behind such a head can be trusted to be a next request.
pub fn check(head: &RequestHead) -> Result<(RequestTarget, BodyFraming), Reply> {
    let framing =
        BodyFraming::of_request(head).map_err(|error| unreadable(error.status(), &error))?;
    let bodyless = matches!(&*head.method, "CONNECT" | "TRACE");
    let target = RequestTarget::parse(&head.method, &head.target);
    let host = head.fields.first(names::HOST);
    // Mostly it says the same as the target.
    let is_target = |value| {
        let host = target.as_ref().ok().and_then(RequestTarget::host_field);
        host.is_some_and(|host| host.as_bytes() == value)
    };
    let is_number = |value: &[u8]| !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let why = if bodyless && !framing.is_empty() {
        "a CONNECT or TRACE request has no body"
    } else if head.fields.repeats(SINGLE) {
        "it has two lines of a field that says one thing, like Host"
    } else if host.is_none() && head.version == Version::Http11 {
        "it has no Host"
    } else if host
        .is_some_and(|value| !value.is_empty() && !is_target(value) && !Authority::is_valid(value))
    {
        "its Host is none"
    } else if head.fields.first(names::MAX_FORWARDS).is_some_and(|value| !is_number(value)) {
        "its Max-Forwards is no number"
    } else {
        return target.map(|it| (it, framing)).map_err(|error| unreadable(400, &error));
    };
    Err(unreadable(400, &why))
}

/// How many more may forward it, where its method asks for that to be counted (RFC 9110
/// section 7.6.2); a number beyond all sense is a large one.
pub fn max_forwards(head: &RequestHead) -> Option<u64> {
    let counts = matches!(&*head.method, "OPTIONS" | "TRACE");
    let value = head.fields.first(names::MAX_FORWARDS).filter(|_| counts)?;
    Some(std::str::from_utf8(value).ok()?.parse().unwrap_or(u64::MAX))
}

/// Whether what comes back is the request itself, with all that it carried (RFC 9110 section 9.3.8).
/// In any case: some take a method so.
pub fn is_echoed(head: &RequestHead) -> bool {
    head.method.eq_ignore_ascii_case("TRACE")
}

/// What the client is told of such a request that would carry a login.
pub fn no_trace() -> Reply {
    let text = "A TRACE brings back all that it carried. Where this one goes, that might be a login, \
                so it is not passed on.";
    Reply::new(405, text).field("Allow", ALLOW)
}

/// Whom a checked request is for.
///
/// # Errors
/// The answer, where it is for this program.
pub fn recipient<'t>(
    head: &RequestHead,
    target: &'t RequestTarget,
) -> Result<&'t Authority, Reply> {
    let ends_here = max_forwards(head) == Some(0);
    match target.authority() {
        Some(authority) if !ends_here => Ok(authority),
        None if !ends_here && *target != RequestTarget::Asterisk => Err(Reply::new(
            400,
            "This is ntlmaps, a proxy. Set it as the HTTP proxy of your program (http_proxy and \
             https_proxy in the environment); it serves no pages itself.",
        )),
        _ => {
            // What comes back, a page's script could read.
            let status = if is_echoed(head) { 405 } else { 200 };
            Err(Reply::new(status, "This is ntlmaps, a proxy, where your request ended.")
                .field("Allow", ALLOW))
        }
    }
}
