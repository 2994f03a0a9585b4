//! How a request begins to log in. An OPTIONS may go before one with a body: mostly it meets with the
//! same demand for a login, and does no harm where there is none. And what was learnt where it does not.

use crate::auth::Handshake;
use crate::gateway::Gateway;
use crate::http::head::RequestHead;
use crate::http::target::Authority;
use crate::leg::Leg;
use crate::ntlm::crypto;
use crate::outgoing::NextHop;
use crate::pool::Key;
use crate::request_body::RequestBody;

/// How a request with a body begins to log in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// With an OPTIONS in its place.
    Asking,
    /// As it is, whole: an OPTIONS is known to say nothing.
    Whole,
    /// By itself, without the body: it is known to be asked for a login, or has none.
    Bodyless,
}

/// How a request begins. The request itself goes first where nothing is known; a body too long to be
/// sent twice waits until the next hop was asked. And whether it goes whole since nothing else helps.
pub fn first_leg(
    gateway: &Gateway,
    hop: NextHop<'_>,
    key: Key<'_>,
    request: &RequestHead,
    handshake: &mut Handshake<'_>,
    body: &mut RequestBody<'_>,
) -> (Leg, bool) {
    if key.credentials.is_some() || key.hop.is_parent && request.is_idempotent() {
        body.keep();
    }
    if key.credentials.is_none() {
        return (Leg::PLAIN, false);
    }
    let begin = begin(gateway, key, request, body);
    let (asks, whole) = (begin == Begin::Asking, begin == Begin::Whole);
    if !whole
        && let NextHop::Parent(parent) = hop
        && let Some(field) = parent.carrier().and_then(|carrier| handshake.open(carrier))
    {
        return (Leg { field: Some(field), with_body: false, asks, last: false }, whole);
    }
    if whole || body.is_repeatable() {
        let taken = gateway.standings.take(key);
        let field = taken.map(|(standing, _)| handshake.resume(standing));
        return (Leg { last: field.is_some(), field, ..Leg::PLAIN }, whole);
    }
    (Leg { with_body: false, asks, ..Leg::PLAIN }, whole)
}

fn begin(gateway: &Gateway, key: Key<'_>, request: &RequestHead, body: &RequestBody<'_>) -> Begin {
    let harmless = body.framing().is_empty() || request.is_safe();
    if harmless || key.credentials.is_none() || is_guarded(gateway, key, request) {
        Begin::Bodyless
    } else if gateway.mute.contains(&origin(key, request)) {
        Begin::Whole
    } else {
        Begin::Asking
    }
}

/// Whether `request` met with a demand for a login too late.
pub fn is_guarded(gateway: &Gateway, key: Key<'_>, request: &RequestHead) -> bool {
    gateway.guarded.contains(&itself(key, request))
}

/// It did.
pub fn note_guarded(gateway: &Gateway, key: Key<'_>, request: &RequestHead) {
    gateway.guarded.note(itself(key, request));
}

/// An OPTIONS in its place said nothing.
pub fn note_mute(gateway: &Gateway, key: Key<'_>, request: &RequestHead) {
    gateway.mute.note(origin(key, request));
}

fn itself(key: Key<'_>, request: &RequestHead) -> (Authority, crypto::Key) {
    let request = [request.method.as_bytes(), b" ", request.target.as_bytes()];
    (key.hop.authority.clone(), crypto::md5(&request))
}

/// The origin that it is for, behind a parent.
fn origin(key: Key<'_>, request: &RequestHead) -> (Authority, crypto::Key) {
    let name = request.target.split('/').nth(2).filter(|_| key.hop.is_parent);
    (key.hop.authority.clone(), crypto::md5(&[name.unwrap_or_default().as_bytes()]))
}
