//! To whom a request is sent: to the parents in turn, or to the origin itself.

use crate::conn::Conn;
use crate::exchange::{Exchange, NextHop, Outgoing};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::http::target::Authority;
use crate::parents::{ORIGIN_CONNECT_TIMEOUT, dial};
use crate::request_body::RequestBody;
use crate::response::Answer;

/// Sends a request through the parents, the first that can be reached.
///
/// # Errors
/// [`Failure`], when no final response came.
pub fn through_parent(
    gateway: &Gateway,
    request: &Outgoing<'_>,
    body: &mut RequestBody<'_>,
) -> Result<Answer, Failure> {
    let mut errors = Vec::new();
    for parent in gateway.parents.order() {
        match Exchange::new(gateway, NextHop::Parent(parent), request).run(body) {
            Err(Failure::Unreachable { errors: mut reasons, .. }) => errors.append(&mut reasons),
            other => return other,
        }
    }
    Err(Failure::Unreachable { is_parent: true, errors })
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
) -> Result<Answer, Failure> {
    Exchange::new(gateway, NextHop::Origin(origin), request).run(body)
}

/// Opens a connection to the origin itself, for a tunnel.
///
/// # Errors
/// [`Failure::Unreachable`], or [`Failure::Loop`].
pub fn connect(gateway: &Gateway, origin: &Authority) -> Result<Conn, Failure> {
    gateway.adopt(dial(origin, ORIGIN_CONNECT_TIMEOUT), false)
}
