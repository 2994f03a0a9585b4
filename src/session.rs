//! One client connection: requests in, responses out, until one side has had enough. The only
//! place that writes to a client of HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::basic;
use crate::auth::credentials::Credentials;
use crate::config::{Account, Route};
use crate::conn::{Conn, ReadError};
use crate::exchange::{self, Answer, Gateway};
use crate::failure::{Failure, ask_for_account};
use crate::http::forwarding;
use crate::http::framing::{BodyFraming, BodyScanner};
use crate::http::head::{HeadError, RequestHead, ResponseHead, Version};
use crate::http::reply::Reply;
use crate::http::target::{Authority, RequestTarget};
use crate::request_body::RequestBody;
use crate::tunnel;

/// How long a client may be silent between requests, and how long a head may take once begun.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A client and what is known of it.
pub struct Session {
    client: Conn,
    peer: SocketAddr,
    /// The account it brought last, and the field value that said so.
    account: Option<(Vec<u8>, Arc<Credentials>)>,
}

/// What becomes of the client's connection after a request.
enum Next {
    /// It may send another one.
    Request,
    /// It is over, though the client may still be sending.
    Close,
    /// It is a tunnel to there.
    Tunnel(Conn),
    /// It is broken, or must look so: the client has to see that a response is not complete.
    Cut,
}

impl Session {
    /// A client that was let in.
    pub fn new(client: Conn, peer: SocketAddr) -> Self {
        Self { client, peer, account: None }
    }

    /// Serves until the client leaves. `gateway` yields what holds at the time of each request.
    pub fn run(mut self, gateway: impl Fn() -> Arc<Gateway>) {
        loop {
            let head = match self.client.read_head(IDLE_TIMEOUT, HEAD_TIMEOUT) {
                Ok(head) => head,
                Err(error) => return self.end_of_requests(&error),
            };
            let next = match RequestHead::parse(&head) {
                Ok(head) => self.serve(&gateway(), head),
                Err(error) => respond(&mut self.client, &bad_head(error), None, false),
            };
            match next {
                Next::Request => self.client.release_buffer(),
                Next::Close => return self.client.close_gently(),
                Next::Tunnel(server) => {
                    let relayed = tunnel::relay(self.client, server);
                    log::debug!("{} {relayed}", self.peer);
                    return;
                }
                Next::Cut => return,
            }
        }
    }

    /// No request came. Whoever began one is told why it ends here.
    fn end_of_requests(mut self, error: &ReadError) {
        let reply = match error {
            ReadError::TimedOut { began: true } => {
                Reply::new(408, "The request did not come to its end in time.")
            }
            ReadError::Head(error) => bad_head(*error),
            _ => return,
        };
        if let Next::Close = respond(&mut self.client, &reply, None, false) {
            self.client.close_gently();
        }
    }

    /// One request, from its head to the end of its response.
    fn serve(&mut self, gateway: &Gateway, mut head: RequestHead) -> Next {
        let Self { client, peer, account } = self;
        log::debug!("{peer} {} {}", head.method, printable(&head.target));
        let framing = match BodyFraming::of_request(&head) {
            Ok(framing) if head.method == "CONNECT" && !framing.is_empty() => {
                let reply = Reply::new(400, "A CONNECT request has no body.");
                return respond(client, &reply, Some(&head), false);
            }
            Ok(framing) => framing,
            Err(error) => {
                let reply = Reply::new(400, format!("The request cannot be read: {error}."));
                return respond(client, &reply, Some(&head), false);
            }
        };
        let persists = forwarding::persists(head.version, &head.fields);
        let plan = plan(gateway, &head, account);
        let expects = head.fields.contains("expect");
        let mut body = RequestBody::new(client, head.version, framing);
        let outcome = match plan {
            Err(reply) => Err(Some(reply)),
            Ok(Plan { target, hop }) => {
                let to_origin = matches!(hop, Hop::Origin(_));
                let replacements = &gateway.config.client_header;
                forwarding::prepare_request(&mut head, &target, to_origin, framing, replacements);
                send(gateway, &head, &mut body, &hop).map_err(|failure| {
                    log_failure(&head.method, &target.encode(false, &head.method), &failure);
                    failure.reply(matches!(gateway.config.account, Account::PerClient))
                })
            }
        };
        match outcome {
            Ok(Outcome::Response(answer)) => {
                let persists = persists && body.is_taken();
                relay_response(client, *answer, head.version, persists, gateway)
            }
            Ok(Outcome::Tunnel(response, server)) => {
                let mut wire = Vec::new();
                response.encode(&mut wire);
                match client.write_all(&wire) {
                    Ok(()) => Next::Tunnel(server),
                    Err(_) => Next::Cut,
                }
            }
            Err(Some(reply)) => {
                // A client that asked before sending its body may send it or not.
                let persists = persists && (body.is_taken() || !expects && body.discard());
                respond(client, &reply, Some(&head), persists)
            }
            Err(None) => Next::Cut,
        }
    }
}

/// What is to be done with a request.
struct Plan {
    target: RequestTarget,
    hop: Hop,
}

/// Who gets it, and as whom.
enum Hop {
    Parent(Option<Arc<Credentials>>),
    Origin(Authority),
}

/// Where a request goes and as whom; or what its client is told instead.
fn plan(
    gateway: &Gateway,
    head: &RequestHead,
    known: &mut Option<(Vec<u8>, Arc<Credentials>)>,
) -> Result<Plan, Reply> {
    let target = RequestTarget::parse(&head.method, &head.target)
        .map_err(|error| Reply::new(400, format!("The request names no target: {error}.")))?;
    let Some(authority) = target.authority().cloned() else {
        return Err(Reply::new(
            400,
            "This is ntlmaps, a proxy. Set it as the HTTP proxy of your program (http_proxy and \
             https_proxy in the environment); it serves no pages itself.",
        ));
    };
    let hop = match gateway.config.route(&authority) {
        Route::Parent => Hop::Parent(match gateway.config.account {
            Account::PerClient => {
                Some(own_account(gateway, head, known).ok_or_else(ask_for_account)?)
            }
            _ => gateway.account.clone(),
        }),
        Route::Direct => {
            if matches!(&target, RequestTarget::Absolute { scheme, .. } if scheme != "http") {
                return Err(Reply::new(
                    501,
                    "Without a parent proxy only http:// can be fetched this way; https goes \
                     through CONNECT, which programs use when https_proxy names this proxy.",
                ));
            }
            Hop::Origin(authority)
        }
    };
    Ok(Plan { target, hop })
}

/// The account a client brings by Basic. The hashes are computed once, not for every request.
fn own_account(
    gateway: &Gateway,
    head: &RequestHead,
    known: &mut Option<(Vec<u8>, Arc<Credentials>)>,
) -> Option<Arc<Credentials>> {
    let value = head.fields.first("proxy-authorization")?;
    if let Some((_, credentials)) = known.as_ref().filter(|(before, _)| before == value) {
        return Some(Arc::clone(credentials));
    }
    let (name, password) = basic::decode(value)?;
    let (domain, user) = Credentials::split_name(&name, &gateway.config.default_domain);
    let credentials = Arc::new(Credentials::from_password(domain, user, &password));
    *known = Some((value.to_vec(), Arc::clone(&credentials)));
    Some(credentials)
}

/// What comes back.
enum Outcome {
    Response(Box<Answer>),
    /// A tunnel is open; the head that says so, and where it leads.
    Tunnel(ResponseHead, Conn),
}

fn send(
    gateway: &Gateway,
    head: &RequestHead,
    body: &mut RequestBody<'_>,
    hop: &Hop,
) -> Result<Outcome, Failure> {
    let connect = head.method == "CONNECT";
    let answer = match hop {
        Hop::Origin(origin) if connect => {
            let server = exchange::connect(origin)?;
            return Ok(Outcome::Tunnel(ResponseHead::established(), server));
        }
        Hop::Origin(origin) => exchange::to_origin(gateway, origin, head, body)?,
        Hop::Parent(account) => exchange::through_parent(gateway, head, body, account.as_ref())?,
    };
    if connect && matches!(answer.head.status, 200..=299) {
        let mut response = answer.head;
        forwarding::prepare_tunnel(&mut response);
        return Ok(Outcome::Tunnel(response, answer.upstream.conn));
    }
    Ok(Outcome::Response(Box::new(answer)))
}

/// Passes a response on, body and all. The connection it came on is left to the pool before the
/// last bytes go to the client: its next request must find it there.
fn relay_response(
    client: &mut Conn,
    answer: Answer,
    version: Version,
    persists: bool,
    gateway: &Gateway,
) -> Next {
    let Answer { mut head, framing, mut upstream } = answer;
    let plan = forwarding::prepare_response(&mut head, framing, version, persists);
    let mut scanner = BodyScanner::new(framing);
    let mut out = Vec::with_capacity(1024);
    head.encode(&mut out);
    let mut begun = false;
    loop {
        let ahead = upstream.conn.buffered();
        let scanned = if plan.decode {
            scanner.decode(ahead, &mut out)
        } else {
            scanner.scan(ahead).inspect(|count| {
                out.extend_from_slice(ahead.get(..*count).unwrap_or_default());
            })
        };
        match scanned {
            Ok(count) => upstream.conn.consume(count),
            Err(error) => {
                log::warn!("the {} sent a response that is cut: {error}", upstream.hop);
                if begun {
                    return Next::Cut;
                }
                let failure = Failure::BadResponse(upstream.hop, error.to_string());
                return match failure.reply(false) {
                    Some(reply) => respond(client, &reply, None, false),
                    None => Next::Cut,
                };
            }
        }
        if scanner.is_done() {
            break;
        }
        if client.write_all(&out).is_err() {
            return Next::Cut;
        }
        out.clear();
        begun = true;
        if !matches!(upstream.conn.fill(None), Ok(1..)) {
            if let Err(error) = scanner.at_close() {
                log::warn!("the {} sent a response that is cut: {error}", upstream.hop);
                return Next::Cut;
            }
            break;
        }
    }
    upstream.release(&gateway.pool);
    match client.write_all(&out) {
        Ok(()) if plan.persists => Next::Request,
        Ok(()) => Next::Close,
        Err(_) => Next::Cut,
    }
}

fn respond(client: &mut Conn, reply: &Reply, head: Option<&RequestHead>, persists: bool) -> Next {
    log::debug!("answering {}: {}", reply.status(), reply.text());
    match client.write_all(&reply.encode(head, persists)) {
        Ok(()) if persists => Next::Request,
        Ok(()) => Next::Close,
        Err(_) => Next::Cut,
    }
}

fn bad_head(error: HeadError) -> Reply {
    let status = if error == HeadError::TooLarge { 431 } else { 400 };
    Reply::new(status, format!("The request cannot be read: {error}."))
}

fn log_failure(method: &str, target: &str, failure: &Failure) {
    let level = match failure {
        // A refusal was told when it came.
        Failure::ClientGone | Failure::BadBody(_) | Failure::Resting(..) => log::Level::Debug,
        _ => log::Level::Warn,
    };
    log::log!(level, "{method} {}: {failure}", printable(target));
}

/// A target as it may stand in a log: one line, and nothing of a query, where secrets travel.
fn printable(target: &str) -> String {
    let shown = target.split_once('?').map_or(target, |(path, _query)| path);
    shown.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
