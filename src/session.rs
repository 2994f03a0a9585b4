//! One client connection: requests in, responses out, until one side has had enough.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::Side;
use crate::clients::Seat;
use crate::config::Reach;
use crate::conn::{Conn, ReadError};
use crate::current::Current;
use crate::dispatch;
use crate::dump;
use crate::failure::{Failure, ask_for_account};
use crate::gateway::Gateway;
use crate::http::challenge::Challenge;
use crate::http::forwarding;
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::names;
use crate::http::reply::Reply;
use crate::http::request;
use crate::http::target;
use crate::outgoing::Outgoing;
use crate::own_page;
use crate::plan::{Hop, OriginLogin, OwnAccount, Plan, direct, plan, stranger};
use crate::pool::Private;
use crate::relay::{self, Relayed};
use crate::request_body::RequestBody;
use crate::response::Answer;
use crate::sys;
use crate::tunnel::Tunnel;
use crate::urllog::{self, Record, Way};
use crate::waiting::LINGER;

/// How long a head may take once begun.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A client and what is known of it.
pub struct Session {
    client: Conn,
    peer: SocketAddr,
    /// Where it may be led without a parent.
    reach: Reach,
    /// The number of the gateway that let it in, and under which it has its account.
    permitted_by: u64,
    /// The account it brought last.
    account: Option<OwnAccount>,
    /// The origin it logged in to by itself.
    private: Option<Private>,
}

/// A client that has nothing to say for now: what to do when it does.
pub enum Silent {
    /// It may send another request.
    Session(Session),
    /// It is a tunnel.
    Tunnel(Tunnel),
}

/// What becomes of the client's connection after a request.
enum Next {
    /// It may send another one.
    Request,
    /// It is over, though the client may still be sending.
    Close,
    /// It sends none for now.
    Silence,
    /// It is a tunnel to there; what is logged of it when it is over.
    Tunnel(Conn, Option<Record>),
    /// It is broken, or must look so: the client has to see that a response is not complete.
    Cut {
        /// An orderly end would look like the end of the body.
        reset: bool,
    },
}

impl Next {
    fn words(&self) -> &'static str {
        match self {
            Self::Request => "stays open",
            Self::Close => "is closed",
            Self::Tunnel(..) => "is a tunnel now",
            Self::Silence => "is silent",
            Self::Cut { reset: false } => "is cut",
            Self::Cut { reset: true } => "is reset",
        }
    }
}

/// Nobody is there to be misled.
const CUT: Next = Next::Cut { reset: false };

impl Session {
    /// A client that was let in by the gateway of this number.
    pub fn new(client: Conn, peer: SocketAddr, reach: Reach, permitted_by: u64) -> Self {
        Self { client, peer, reach, permitted_by, account: None, private: None }
    }

    /// Serves until the client leaves, or no more requests are wanted: then nobody is given back.
    /// Each request is served by the gateway that is the current one then.
    pub fn run(mut self, seat: &Seat, current: &Current) -> Option<Silent> {
        let mut gateway = current.gateway();
        // Whoever just came, or was heard, is about to ask: that is answered, whatever ends meanwhile.
        loop {
            match self.turn(seat, current, &mut gateway) {
                Next::Request if seat.rest() => {}
                Next::Request => break,
                Next::Silence => {
                    if !seat.rest() {
                        break;
                    }
                    self.client.release_buffer();
                    return Some(Silent::Session(self));
                }
                Next::Close => {
                    self.client.close_gently();
                    break;
                }
                Next::Tunnel(server, record) => {
                    drop(gateway);
                    let tunnel = Tunnel::new(self.client, server, record);
                    return tunnel.run().map(Silent::Tunnel);
                }
                Next::Cut { reset } => {
                    if reset {
                        sys::reset(self.client.stream());
                    }
                    break;
                }
            }
        }
        None
    }

    /// Where the next request comes from.
    pub fn streams(&self) -> Vec<Arc<TcpStream>> {
        vec![self.client.shared_stream()]
    }

    /// Waits for a request and serves it.
    fn turn(&mut self, seat: &Seat, current: &Current, gateway: &mut Arc<Gateway>) -> Next {
        let head = self.client.read_head(None, LINGER, HEAD_TIMEOUT, RequestHead::parse);
        current.renew(gateway);
        let head = match head {
            Ok(head) => head,
            Err(error) => return self.no_request(&error, gateway),
        };
        seat.work();
        let mut record = Record::begin(gateway.url_log.as_ref(), self.peer, &head);
        let began = log::log_enabled!(log::Level::Debug).then(Instant::now);
        let next = self.serve(gateway, head, &mut record.outcome);
        if let Some(began) = began {
            let (millis, kept) = (began.elapsed().as_millis(), next.words());
            log::debug!("done: {}, {millis} ms; the client's connection {kept}", record.outcome);
        }
        match next {
            Next::Tunnel(server, _) => Next::Tunnel(server, Some(record)),
            next => next,
        }
    }

    /// Whoever began a request is told why it ends here.
    fn no_request(&mut self, error: &ReadError, gateway: &Gateway) -> Next {
        let reply = match error {
            ReadError::TimedOut { began: false } => return Next::Silence,
            ReadError::TimedOut { began: true } => {
                Reply::new(408, "The request did not come to its end in time.")
            }
            ReadError::Head(error) => request::unreadable(error.status(), error),
            _ => return CUT,
        };
        let mut record = Record::unreadable(gateway.url_log.as_ref(), self.peer);
        respond(&mut self.client, &reply, None, false, &mut record.outcome)
    }

    /// One request, from its head to the end of its response.
    fn serve(
        &mut self,
        gateway: &Gateway,
        mut head: RequestHead,
        log: &mut urllog::Outcome,
    ) -> Next {
        if self.permitted_by != gateway.number {
            // The configuration is another one since: who may come, and what a user's domain is.
            self.permitted_by = gateway.number;
            self.account = None;
            if let Some(reply) = gateway.refuse(self.peer, self.reach) {
                return respond(&mut self.client, &reply, Some(&head), false, log);
            }
        }
        let Self { client, reach, account, private, .. } = self;
        let shown = || target::printable(&head.target);
        log::debug!("request {} {} {}", head.method, shown(), head.version);
        let (target, framing) = match request::check(&head) {
            Ok(checked) => checked,
            Err(reply) => return respond(client, &reply, Some(&head), false, log),
        };
        let persists = forwarding::persists(head.version, &head.fields);
        let plan = match own_page::reply(gateway, &head, client) {
            Some(reply) => Err(reply),
            None => plan(gateway, &head, &target, *reach, account, private),
        };
        let expects = head.fields.has_member(names::EXPECT, "100-continue");
        let mut body = RequestBody::new(client, head.version, framing, expects);
        let outcome =
            match plan {
                Err(reply) => Err(Some(reply)),
                Ok(plan) => forward(gateway, &mut head, &plan, &mut body, log).map_err(|trouble| {
                    match trouble {
                        Trouble::Failure(failure) => {
                            let target = plan.target.encode(false);
                            let target = target::printable(&target);
                            failure.log(&format_args!("{} {target}", head.method));
                            failure.reply(gateway.is_per_client())
                        }
                        Trouble::Reply(reply) => Some(reply),
                    }
                }),
            };
        match outcome {
            Ok(Outcome::Response(answer)) => {
                log.status = Some(answer.head.status);
                let relayed =
                    relay::response(&mut body, answer, head.version, persists, &gateway.pool);
                log.bytes = body.written();
                match relayed {
                    Relayed::Whole { persists: true } => Next::Request,
                    Relayed::Whole { persists: false } => Next::Close,
                    Relayed::Cut { reset } => Next::Cut { reset },
                    Relayed::Unfit(failure) => match failure.reply(false) {
                        Some(reply) => respond(client, &reply, Some(&head), false, log),
                        None => CUT,
                    },
                }
            }
            Ok(Outcome::Tunnel(response, server)) => {
                log.status = Some(response.status);
                let mut wire = Vec::new();
                response.encode(&mut wire);
                dump::message("to", None, &wire);
                match client.write_all(&wire) {
                    Ok(()) => Next::Tunnel(server, None),
                    Err(_) => CUT,
                }
            }
            Err(Some(reply)) => {
                // A client that asked before sending its body may send it or not.
                let persists = persists && (body.is_taken() || !expects && body.discard());
                respond(client, &reply, Some(&head), persists, log)
            }
            Err(None) => {
                log.refuse(&Failure::ClientGone);
                CUT
            }
        }
    }
}

/// What comes back.
enum Outcome {
    Response(Box<Answer>),
    /// A tunnel is open; the head that says so, and where it leads.
    Tunnel(ResponseHead, Conn),
}

/// Why nothing does.
enum Trouble {
    Failure(Failure),
    Reply(Reply),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Makes a request ready for those who get it, and sends it.
fn forward(
    gateway: &Gateway,
    head: &mut RequestHead,
    plan: &Plan<'_>,
    body: &mut RequestBody<'_>,
    log: &mut urllog::Outcome,
) -> Result<Outcome, Trouble> {
    let Plan { target, private, hop, .. } = plan;
    let (framing, replacements) = (body.framing(), &gateway.config.client_header);
    let away;
    let login = match hop {
        Hop::Origin(login) => login,
        Hop::Parent(account) => {
            let original = gateway.parents.may_go_direct().then(|| head.clone());
            gateway.mark(head);
            forwarding::prepare_request(head, target, false, framing, replacements);
            let (account, private, reach) = (*account, *private, plan.reach);
            let request = Outgoing { head, account, private, reach };
            if let Some(answer) = dispatch::through_parents(gateway, &request, body)? {
                log.went_to(answer.upstream.hop());
                return Ok(outcome(head, answer));
            }
            if let Some(original) = original {
                *head = original;
            }
            away = direct(target, OriginLogin::Client).map_err(Trouble::Reply)?;
            &away
        }
    };
    forwarding::prepare_request(head, target, true, framing, replacements);
    log.way = Way::Direct;
    send_to_origin(gateway, plan, head, login, body)
}

/// What an answer means. A 101 passed only if the client asked for it.
fn outcome(head: &RequestHead, answer: Box<Answer>) -> Outcome {
    let opens = head.method == "CONNECT" && matches!(answer.head.status, 200..=299);
    if answer.head.status == 101 || opens {
        let mut response = answer.head;
        forwarding::prepare_bodyless(&mut response);
        return Outcome::Tunnel(response, answer.upstream.line.conn);
    }
    Outcome::Response(answer)
}

/// Sends a request to the origin itself, which may demand a login.
fn send_to_origin(
    gateway: &Gateway,
    plan: &Plan<'_>,
    head: &mut RequestHead,
    login: &OriginLogin<'_>,
    body: &mut RequestBody<'_>,
) -> Result<Outcome, Trouble> {
    let Plan { authority: origin, private, reach, .. } = *plan;
    let (account, withheld) = match login {
        OriginLogin::Client => (None, None),
        OriginLogin::Configured(account) => (Some(*account), None),
        OriginLogin::Translated(brought) => {
            head.fields.remove(names::AUTHORIZATION);
            (brought.map(|own| &own.credentials), brought.map(|own| own.value.as_slice()))
        }
    };
    if head.method == "CONNECT" {
        let server = dispatch::connect(gateway, origin, reach)?;
        return Ok(Outcome::Tunnel(ResponseHead::established(), server));
    }
    if withheld.is_some() {
        body.keep();
    }
    let request = Outgoing { head, account, private, reach };
    let answer = dispatch::to_origin(gateway, origin, &request, body)?;
    if answer.head.status != Side::Origin.status() || !matches!(login, OriginLogin::Translated(_)) {
        return Ok(outcome(head, answer));
    }
    let offered = Challenge::list(&answer.head.fields, Side::Origin.challenge_field());
    if offered.iter().any(|challenge| challenge.is("NTLM") || challenge.is("Negotiate")) {
        return Err(Trouble::Reply(ask_for_account(Side::Origin)));
    }
    let Some(value) = withheld else { return Ok(outcome(head, answer)) };
    // It asks for something that is between it and the client.
    gateway.strangers.note(stranger(origin, value));
    let name = || answer.upstream.hop().clone();
    body.rewind().map_err(|_| Failure::NotRepeatable(name()))?;
    head.fields.set(names::AUTHORIZATION, value);
    let request = Outgoing { head, account: None, private: None, reach };
    let answer = dispatch::to_origin(gateway, origin, &request, body)?;
    Ok(outcome(head, answer))
}

/// Answers by ourselves, and notes it.
fn respond(
    client: &mut Conn,
    reply: &Reply,
    head: Option<&RequestHead>,
    persists: bool,
    log: &mut urllog::Outcome,
) -> Next {
    log::debug!("answering {}: {}", reply.status(), reply.text());
    let wire = reply.encode(head, persists);
    log.status = Some(reply.status());
    log.bytes = u64::try_from(wire.len()).unwrap_or(u64::MAX);
    if reply.status() >= 400 {
        log.refuse(&reply.text());
    }
    dump::message("to", None, &wire);
    match client.write_all(&wire) {
        Ok(()) if persists => Next::Request,
        Ok(()) => Next::Close,
        Err(_) => CUT,
    }
}
