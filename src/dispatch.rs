//! To whom a request is sent: to the parents in turn, or to the origin itself.

use crate::config::Reach;
use crate::conn::Conn;
use crate::dial::{ORIGIN_CONNECT_TIMEOUT, dial};
use crate::exchange::{Exchange, Retry};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::hop::HopName;
use crate::http::target::Authority;
use crate::outgoing::{NextHop, Outgoing};
use crate::request_body::RequestBody;
use crate::response::Answer;

/// Sends a request through the parents, the first that can be reached. One that dies takes no
/// request with it that may be repeated: it gets a fresh connection, and then the next parent.
/// `None`: the request is to go direct, since no parent can be reached.
///
/// # Errors
/// [`Failure`], when no final response came.
pub fn through_parents(
    gateway: &Gateway,
    request: &Outgoing<'_>,
    body: &mut RequestBody<'_>,
) -> Result<Option<Box<Answer>>, Failure> {
    let parents = &gateway.parents;
    if parents.are_away() {
        return Ok(None);
    }
    let (mut errors, mut lost, mut reached, mut risked) = (Vec::new(), None, false, false);
    for parent in parents.order(request.head.is_idempotent()) {
        let exchange = Exchange::new(gateway, NextHop::Parent(parent), request);
        loop {
            let failure = match exchange.run(body) {
                Err(Failure::Unreachable { errors: mut reasons, .. }) => {
                    errors.append(&mut reasons);
                    break;
                }
                // Nothing was sent: another one may take the login on which this one hangs up.
                Err(Failure::Resting(hop, resting)) if resting.hung_up => {
                    lost = Some(Failure::Resting(hop, resting));
                    break;
                }
                Err(failure) => failure,
                answered => return answered.map(Some),
            };
            let (retry, elsewhere) = exchange.retry();
            let elsewhere = elsewhere || retry == Retry::Once && parents.count() > 1;
            if elsewhere {
                parents.note_silence(parent);
            }
            if retry == Retry::Never || retry == Retry::Once && risked {
                return Err(failure);
            }
            risked |= retry == Retry::Once;
            log::debug!("{failure} It is sent again.");
            lost = Some(failure);
            if elsewhere {
                break;
            }
        }
        reached |= exchange.was_reached();
    }
    match lost {
        Some(failure) => Err(failure),
        // What a parent may have begun is not done a second time another way.
        None if parents.may_go_direct() && !reached => Ok(None),
        None => Err(Failure::Unreachable { is_parent: true, errors }),
    }
}

/// Sends a request to the origin itself.
///
/// # Errors
/// [`Failure`], when no final response came.
pub fn to_origin(
    gateway: &Gateway,
    origin: &Authority,
    request: &Outgoing<'_>,
    body: &mut RequestBody<'_>,
) -> Result<Box<Answer>, Failure> {
    let name = HopName { authority: origin.clone(), is_parent: false };
    Exchange::new(gateway, NextHop::Origin(&name), request).run(body)
}

/// Opens a connection to the origin itself, for a tunnel.
///
/// # Errors
/// [`Failure::Unreachable`], or [`Failure::Loop`].
pub fn connect(gateway: &Gateway, origin: &Authority, reach: Reach) -> Result<Conn, Failure> {
    let conn = gateway.connect(false, &|| dial(origin, ORIGIN_CONNECT_TIMEOUT, reach))?;
    log::debug!("a new connection to {origin}, from port {}", conn.port());
    Ok(conn)
}
