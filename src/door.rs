//! The doors beside the HTTP one: `TUNNELS` and SOCKS5. Both lead into the corridor that CONNECT
//! takes, `open`, and then [`Tunnel::run`]. A client that cannot be served gets no HTTP here:
//! SOCKS5 has its reply codes, a tunnel ends.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::credentials::Credentials;
use crate::config::{Reach, Route};
use crate::conn::Conn;
use crate::dial::DialError;
use crate::dispatch;
use crate::dump;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::hop::HopName;
use crate::http::forwarding;
use crate::http::framing::BodyFraming;
use crate::http::head::{RequestHead, Version};
use crate::http::target::{Authority, RequestTarget};
use crate::outgoing::Outgoing;
use crate::request_body::RequestBody;
use crate::socks::{Admission, Dialogue, Step, rep, reply};
use crate::tunnel::Tunnel;
use crate::urllog::{Record, Way};

/// How long a client may take to say where it wants to go.
const DIALOGUE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why no way is open.
enum Closed {
    Failure(Failure),
    /// The parent answered with this status.
    Status(HopName, u16),
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failure(failure) => failure.fmt(f),
            Self::Status(hop, status) => write!(f, "the {hop} answered {status}"),
        }
    }
}

impl Closed {
    fn log(&self, what: &dyn fmt::Display) {
        match self {
            Self::Failure(failure) => failure.log(what),
            Self::Status(..) => log::warn!(target: "ntlmaps::often::status", "{what}: {self}"),
        }
    }

    /// What SOCKS5 calls it.
    fn rep(&self) -> u8 {
        match self {
            Self::Failure(Failure::Unreachable { is_parent: false, errors }) => {
                match errors.last().map(|error| error.reason.kind()) {
                    _ if errors.iter().any(DialError::is_forbidden) => rep::NOT_ALLOWED,
                    Some(io::ErrorKind::ConnectionRefused) => rep::CONNECTION_REFUSED,
                    Some(io::ErrorKind::NetworkUnreachable) => rep::NETWORK_UNREACHABLE,
                    _ => rep::HOST_UNREACHABLE,
                }
            }
            Self::Failure(Failure::Refused(..) | Failure::Resting(..))
            | Self::Status(_, 403 | 407) => rep::NOT_ALLOWED,
            Self::Failure(Failure::Silent(..)) | Self::Status(_, 502..=504) => {
                rep::HOST_UNREACHABLE
            }
            _ => rep::GENERAL_FAILURE,
        }
    }
}

/// Serves a client of one of `TUNNELS`, which leads to `to`; as [`Tunnel::run`].
pub fn through_tunnel(
    client: Conn,
    peer: SocketAddr,
    gateway: &Gateway,
    to: &Authority,
) -> Option<Tunnel> {
    let (account, reach) = (gateway.account.as_ref(), Reach::Everywhere);
    enter(client, peer, gateway, (to, reach), account, |_, _| Vec::new())
}

/// Serves a SOCKS5 client; as [`Tunnel::run`].
pub fn socks(
    mut client: Conn,
    peer: SocketAddr,
    reach: Reach,
    gateway: &Gateway,
) -> Option<Tunnel> {
    let admission = match gateway.config.socks_users.as_slice() {
        [] if gateway.is_per_client() => Admission::Account,
        [] => Admission::Anybody,
        users => Admission::Users(users),
    };
    let mut dialogue = Dialogue::new(admission);
    let to = match destination(&mut client, &mut dialogue) {
        Ok(to) => to,
        Err(refused) => {
            let why = "no SOCKS5 request that can be served";
            log::debug!("{why}");
            if refused {
                let mut record = Record::unreadable(gateway.url_log.as_ref(), peer);
                record.outcome.refuse(&why);
            }
            client.close_gently();
            return None;
        }
    };
    let own = dialogue.account().map(|(name, password)| {
        Arc::new(Credentials::from_name(&name, &gateway.config.default_domain, &password))
    });
    let account = own.as_ref().or(gateway.account.as_ref());
    enter(client, peer, gateway, (&to, reach), account, reply)
}

/// Leads the dialogue up to the request. When it ends before: whether that was our doing.
fn destination(client: &mut Conn, dialogue: &mut Dialogue<'_>) -> Result<Authority, bool> {
    let until = Instant::now().checked_add(DIALOGUE_TIMEOUT).ok_or(false)?;
    loop {
        match dialogue.next(client.buffered()) {
            Step::Wait => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() || !matches!(client.fill(Some(left)), Ok(1..)) {
                    return Err(false);
                }
            }
            Step::Answer(taken, answer) => {
                dump::dialogue(client.buffered().get(..taken), &answer);
                client.consume(taken);
                client.write_all(&answer).map_err(|_| false)?;
            }
            Step::Connect(taken, to) => {
                dump::dialogue(client.buffered().get(..taken), &[]);
                client.consume(taken);
                return Ok(to);
            }
            Step::Refuse(answer) => {
                drop(client.write_all(&answer));
                return Err(true);
            }
        }
    }
}

/// Opens the way, sends the `reply` to what came of it (and to this end's address, where the way
/// is direct), and copies. Without a parent it leads as far as is within reach.
fn enter(
    mut client: Conn,
    peer: SocketAddr,
    gateway: &Gateway,
    (to, reach): (&Authority, Reach),
    account: Option<&Arc<Credentials>>,
    reply: fn(u8, Option<SocketAddr>) -> Vec<u8>,
) -> Option<Tunnel> {
    log::debug!("tunnel to {to}: {}", gateway.config.reason(to));
    let target = RequestTarget::Authority(to.clone());
    let mut head = RequestHead::connect(to);
    gateway.mark(&mut head);
    let headers = &gateway.config.client_header;
    forwarding::prepare_request(&mut head, &target, false, BodyFraming::None, headers);
    let mut record = Record::begin(gateway.url_log.as_ref(), peer, &head);
    let request = Outgoing { head: &head, account, private: None, reach };
    match open(gateway, to, &request, &mut client) {
        Ok((server, hop)) => {
            let bound = server.stream().local_addr().ok().filter(|_| hop.is_none());
            record.outcome.status = Some(200);
            match hop {
                Some(hop) => record.outcome.went_to(&hop),
                None => record.outcome.way = Way::Direct,
            }
            if client.write_all(&reply(rep::SUCCEEDED, bound)).is_ok() {
                return Tunnel::new(client, server, Some(record)).run();
            }
        }
        Err(closed) => {
            closed.log(&format_args!("tunnel to {to}"));
            record.outcome.refuse(&closed);
            if client.write_all(&reply(closed.rep(), None)).is_ok() {
                client.close_gently();
            }
        }
    }
    None
}

/// Opens a way to `to`: through a parent, which is named then, or directly. `request` is a CONNECT,
/// for this client, who hears nothing of it.
fn open(
    gateway: &Gateway,
    to: &Authority,
    request: &Outgoing<'_>,
    client: &mut Conn,
) -> Result<(Conn, Option<HopName>), Closed> {
    // In the oldest version: no interim response is for a client that speaks no HTTP.
    let mut body = RequestBody::new(client, Version::Http10, BodyFraming::None, false);
    let answer = match gateway.config.route(to) {
        Route::Direct => Ok(None),
        Route::Parent => dispatch::through_parents(gateway, request, &mut body),
    };
    let Some(answer) = answer.map_err(Closed::Failure)? else {
        let server = dispatch::connect(gateway, to, request.reach).map_err(Closed::Failure)?;
        return Ok((server, None));
    };
    match answer.head.status {
        200..=299 => Ok((answer.upstream.line.conn, Some(answer.upstream.line.key.hop))),
        status => Err(Closed::Status(answer.upstream.line.key.hop, status)),
    }
}
