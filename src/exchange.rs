//! One request, one next hop: take a connection or dial one, authenticate it, send the request and
//! return the head of the final response. The only place where a [`Handshake`] meets a [`Conn`].

use std::cell::Cell;
use std::time::Duration;

use crate::asking;
use crate::audience::Audience;
use crate::auth::{self, Handshake, Refusal, Side, Verdict};
use crate::config::Reach;
use crate::conn::Conn;
use crate::dial::{ORIGIN_CONNECT_TIMEOUT, dial};
use crate::dump;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::guard::Attempt;
use crate::http::challenge::Challenge;
use crate::http::head::{FieldLines, RequestHead, ResponseHead};
use crate::leg::Leg;
use crate::outgoing::{NextHop, Outgoing};
use crate::patience::{self, Doubt};
use crate::pool::{FRESH, Key, Line};
use crate::request_body::RequestBody;
use crate::response::{self, Answer};
use crate::spare;
use crate::sys;

/// How many interim responses may come before the final one: a 102 every 20 s for half an hour.
const MAX_INTERIM: u8 = 100;

/// What stays the same through every leg of one exchange.
pub struct Exchange<'a> {
    gateway: &'a Gateway,
    hop: NextHop<'a>,
    side: Side,
    head: &'a RequestHead,
    key: Key<'a>,
    /// The next hop was reached: by a fresh connection, or it answered.
    reached: Cell<bool>,
    /// How many connections ended without an answer.
    ended: Cell<u8>,
    /// What that leaves possible.
    retry: Cell<Retry>,
    /// When the last login went out, as [`Standings`](crate::standings::Standings) count.
    epoch: Cell<u64>,
}

/// Whether a request may be sent again whose connection ended before a byte of the response came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It may have been processed, or the credentials been refused.
    Never,
    /// Credentials went out that worked before: once.
    Once,
    /// Nothing is lost.
    Freely,
}

impl<'a> Exchange<'a> {
    /// An exchange that has not begun.
    pub fn new(gateway: &'a Gateway, hop: NextHop<'a>, request: &Outgoing<'a>) -> Self {
        let name = match hop {
            NextHop::Parent(parent) => &parent.name,
            NextHop::Origin(name) => name,
        };
        Self {
            gateway,
            hop,
            side: name.side(),
            head: request.head,
            key: Key {
                hop: name,
                credentials: request.account,
                private: request.private,
                // Parents are for everybody.
                reach: if name.is_parent { Reach::Everywhere } else { request.reach },
            },
            reached: Cell::new(false),
            ended: Cell::new(0),
            retry: Cell::new(Retry::Never),
            epoch: Cell::new(0),
        }
    }

    /// Whether the next hop was reached.
    pub fn was_reached(&self) -> bool {
        self.reached.get()
    }

    /// After a failure: whether the request may be sent again, and whether to another parent: two
    /// connections to this one ended, or it is silent.
    pub fn retry(&self) -> (Retry, bool) {
        (self.retry.get(), self.ended.get() >= 2)
    }

    /// Sends the request and reads the head of its final response. After a failure, on a fresh
    /// connection.
    ///
    /// # Errors
    /// [`Failure`], when none came.
    pub fn run(&self, body: &mut RequestBody<'_>) -> Result<Box<Answer>, Failure> {
        self.retry.set(Retry::Never);
        // A connection in the pool need not be logged in, or no longer be.
        if self.ended.get() == 0
            && (body.is_repeatable() || !asking::is_guarded(self.gateway, self.key, self.head))
            && let Some((line, rested)) = self.gateway.pool.take(self.key, self.rest(body))
            && let Some(answer) = self.on_pooled(line, rested, body)?
        {
            return Ok(answer);
        }
        self.on_fresh(body)
    }

    /// How long a connection may have been idle that serves this request. A firewall that forgot it
    /// swallows what is sent, and only what is short and may be sent again is given up in time: for
    /// anything else a handshake is cheap. But who logged in by itself would have to do so again.
    fn rest(&self, body: &RequestBody<'_>) -> Duration {
        let again = self.head.is_idempotent() && body.framing().is_empty();
        if again || self.key.private.is_some() { self.key.longest_rest() } else { FRESH }
    }

    /// The request on a connection that served others before. `None` when a fresh one may do
    /// better: nothing came back and the request may be repeated (RFC 9110 section 9.2.2), or the
    /// login is forgotten.
    fn on_pooled(
        &self,
        mut line: Box<Line>,
        rested: Duration,
        body: &mut RequestBody<'_>,
    ) -> Result<Option<Box<Answer>>, Failure> {
        self.tell_of(&line.conn, "a connection of the pool");
        let mut handshake = Handshake::new(self.side, self.head, None);
        let taken = self.gateway.standings.take(self.key);
        if taken.is_some() && !body.is_repeatable() {
            // A nonce may turn out to be stale; this body could not be sent again then.
            return Ok(None);
        }
        let attempt = match taken {
            Some((_, trusted)) if !trusted => self.gateway.admit(self.key)?,
            _ => None,
        };
        let field = taken.map(|(standing, _)| handshake.resume(standing));
        let leg = Leg { field, ..Leg::PLAIN };
        body.keep();
        // The network may be another one by now, and the parent have seen no end of it. Not with a
        // body, which a parent may take its time to read.
        let doubtful = rested > FRESH && self.key.hop.is_parent && body.framing().is_empty();
        if doubtful {
            sys::set_patience(line.conn.stream(), Some(self.gateway.parents.connect_timeout()));
        }
        let response = self.leg(&mut line.conn, &leg, body, false);
        if doubtful {
            sys::set_patience(line.conn.stream(), None);
        }
        let response = match response {
            Err(Failure::Closed(..)) if self.head.is_idempotent() && body.rewind().is_ok() => {
                log::debug!("the {} had closed it", self.key.hop);
                self.ended.set(1);
                return Ok(None);
            }
            other => other.map_err(|error| self.ended(error, Retry::Freely, &leg, body))?,
        };
        self.reached.set(true);
        // Without an account there is nothing better to try: the demand is the answer.
        if response.status == self.side.status() && self.key.credentials.is_some() {
            if handshake.is_refused_by(&response) {
                let rest = self.gateway.refused(self.key, attempt);
                return Err(Failure::Refused(self.key.hop.clone(), Refusal::Credentials, rest));
            }
            log::debug!("the {} asks for a login again", self.key.hop);
            if body.rewind().is_ok() {
                return Ok(None);
            }
            asking::note_guarded(self.gateway, self.key, self.head);
            return Err(Failure::NotRepeatable(self.key.hop.clone()));
        }
        if let Some(attempt) = attempt.filter(|_| response.status < 500) {
            attempt.accepted();
        }
        self.leave_standing(handshake, &response);
        Answer::new(line, response, self.head, body, true).map(Some)
    }

    /// The request on a connection of its own, with whatever handshake that takes.
    fn on_fresh(&self, body: &mut RequestBody<'_>) -> Result<Box<Answer>, Failure> {
        let login = self.key.credentials.map(|account| self.gateway.login(account));
        let mut handshake = Handshake::new(self.side, self.head, login.transpose()?);
        // `None`: the next leg dials.
        let (mut conn, mut hung_up) = (None, false);
        let mut attempt: Option<Attempt<'_>> = None;
        let (mut leg, mut restarted) =
            asking::first_leg(self.gateway, self.hop, self.key, self.head, &mut handshake, body);
        loop {
            let reused = conn.is_some();
            let mut line = match conn.take() {
                Some(line) => line,
                None => self.dial()?,
            };
            if leg.last && attempt.is_none() {
                attempt = self.gateway.admit(self.key)?;
            }
            // Whether these credentials are right must be known before they go out again.
            let matters = attempt.as_ref().is_some_and(Attempt::is_awaited);
            let response = match self.leg(&mut line, &leg, body, matters) {
                // It had closed behind its 407 and not said so.
                Err(Failure::Closed(..)) if reused && !leg.with_body => continue,
                // Neither Digest nor Basic mind on which connection they travel.
                Err(Failure::Closed(..))
                    if reused
                        && handshake.carrier().is_none()
                        && self.head.is_idempotent()
                        && body.rewind().is_ok() =>
                {
                    continue;
                }
                // Because it is an OPTIONS, or it was restarted just now.
                Err(Failure::Closed(..)) if leg.asks && !hung_up && self.works(None) => {
                    hung_up = true;
                    handshake.restart();
                    leg = Leg { field: None, ..leg };
                    continue;
                }
                // An origin that does not care for OPTIONS: the request itself fares better.
                Err(error) if leg.asks && self.is_mute(&error, hung_up) => {
                    asking::note_mute(self.gateway, self.key, self.head);
                    restarted = true;
                    handshake.restart();
                    leg = Leg::PLAIN;
                    continue;
                }
                Err(error) => {
                    let retry = match attempt.map(Attempt::unanswered) {
                        None => Retry::Freely,
                        Some(true) => Retry::Once,
                        Some(false) => Retry::Never,
                    };
                    return Err(self.ended(error, retry, &leg, body));
                }
                Ok(response) => response,
            };
            // An error of the parent's says nothing about the credentials.
            let decided = response.status < 500 && response.status != self.side.status();
            if let Some(attempt) = attempt.take_if(|_| decided) {
                attempt.accepted();
            }
            // Whether the connection stands at the beginning of a next request. Not behind a body:
            // Squid stops reading one that it refused, and looks as if it went on.
            let complete = !leg.with_body || body.framing().is_empty();
            let verdict = match handshake.on_response(&response) {
                // That was about an OPTIONS: the request may fare better.
                Verdict::Refused(_) if leg.asks => Verdict::Relay,
                verdict => verdict,
            };
            match verdict {
                Verdict::Relay if leg.with_body || body.framing().is_empty() => {
                    let settled = handshake.is_settled();
                    self.leave_standing(handshake, &response);
                    let open = !matches!(self.hop, NextHop::Parent(p) if p.challenges());
                    let line = Line::new(self.key, line);
                    return Answer::new(line, response, self.head, body, open || settled);
                }
                // A place that needs no login: the bodyless leg was taken for the request. Once: who
                // then demands one of the whole request has to answer NEGOTIATE.
                Verdict::Relay if !restarted => {
                    restarted = true;
                    handshake.restart();
                    conn = self.keep(line, &response, response::persists(&response)).ok();
                    leg = Leg::PLAIN;
                }
                Verdict::Relay => {
                    let (name, refusal) = (self.key.hop.clone(), Refusal::NoChallenge);
                    return Err(Failure::Refused(name, refusal, Duration::ZERO));
                }
                Verdict::Answer(reply) => {
                    // A parent that announces a close with its challenge may not mean it (old ISA
                    // does); behind a bare 407 it costs little to believe it.
                    let bound = handshake.carrier().is_some();
                    let stays =
                        complete && !reply.fresh && (bound || response::persists(&response));
                    let kept = self.keep(line, &response, stays);
                    if let (true, NextHop::Parent(parent)) = (reply.last, self.hop) {
                        parent.note_carrier(handshake.carrier());
                    }
                    if let (true, Err(ended)) = (bound, &kept) {
                        let reason = " to the NTLM handshake".to_owned();
                        let closed = Failure::Closed(self.key.hop.clone(), reason);
                        let retry = if *ended { Retry::Freely } else { Retry::Never };
                        return Err(self.ended(closed, retry, &leg, body));
                    }
                    conn = kept.ok();
                    if leg.with_body {
                        if restarted {
                            asking::note_guarded(self.gateway, self.key, self.head);
                        }
                        let lost = |_| Failure::NotRepeatable(self.key.hop.clone());
                        body.rewind().map_err(lost)?;
                    }
                    let auth::Reply { value, last, .. } = reply;
                    leg =
                        Leg { field: Some(value), with_body: last, asks: leg.asks && !last, last };
                }
                Verdict::Refused(refusal) => {
                    let refused = attempt.take_if(|_| refusal == Refusal::Credentials);
                    let told = refused.is_some();
                    let rest = refused
                        .map_or(Duration::ZERO, |sent| self.gateway.refused(self.key, Some(sent)));
                    let failure = Failure::Refused(self.key.hop.clone(), refusal, rest);
                    return match self.side {
                        Side::Proxy => Err(failure),
                        // Perhaps the client can do better, on the same connection even.
                        Side::Origin => {
                            if told {
                                failure.log(&self.head.method);
                            }
                            let nobody = self.key.credentials.is_none();
                            Answer::new(
                                Line::new(self.key, line),
                                response,
                                self.head,
                                body,
                                nobody,
                            )
                        }
                    };
                }
            }
        }
    }

    /// Takes note of whether the request may be sent again after `error` ended a leg. `retry`: what
    /// the credentials that were sent allow.
    fn ended(
        &self,
        error: Failure,
        retry: Retry,
        leg: &Leg,
        body: &mut RequestBody<'_>,
    ) -> Failure {
        let ended = match &error {
            Failure::Closed(..) => 1,
            // It does not work, or the origin takes too long.
            Failure::Silent(..) if self.ended.get() >= 2 => 0,
            _ => return error,
        };
        self.ended.set(self.ended.get().saturating_add(ended));
        // A client's own login is to that connection.
        let harmless = (leg.asks || self.head.is_idempotent()) && self.key.private.is_none();
        if harmless && body.rewind().is_ok() {
            self.retry.set(retry);
        }
        error
    }

    /// Whether it is for the OPTIONS alone that this came of it. `hung_up`: so it did before, on a
    /// parent that works.
    fn is_mute(&self, error: &Failure, hung_up: bool) -> bool {
        match error {
            Failure::Closed(..) => hung_up,
            Failure::Silent(..) | Failure::BadResponse(..) => self.ended.get() < 2,
            _ => false,
        }
    }

    /// Leaves a login that holds for a request to the next one.
    fn leave_standing(&self, handshake: Handshake<'_>, response: &ResponseHead) {
        if let Some(mut standing) = handshake.into_standing() {
            standing.renew(self.side, response);
            self.gateway.standings.put(self.key.to_owned(), standing, self.epoch.get());
        }
    }

    /// Sends one leg and reads the head of its final response. `matters`: for a while even when the
    /// client is gone.
    fn leg(
        &self,
        conn: &mut Conn,
        leg: &Leg,
        body: &mut RequestBody<'_>,
        matters: bool,
    ) -> Result<ResponseHead, Failure> {
        let mut wire = spare::take();
        leg.tell(self.head);
        if leg.field.is_some() {
            self.epoch.set(self.gateway.standings.epoch());
        }
        leg.encode(self.head, body.framing(), self.side, &mut wire);
        // A leg without the body is a request whose body is empty, and for no other protocol.
        let (mut nothing, no_fields);
        let (body, fields) = if leg.with_body {
            (body, &self.head.fields)
        } else {
            (nothing, no_fields) = (RequestBody::none(), FieldLines::default());
            (&mut nothing, &no_fields)
        };
        body.send(conn, wire)?;
        let mut interim = 0_u8;
        loop {
            let audience = body.audience().map(|client| client.caring(matters));
            let response = match self.read_head(conn, leg, fields, audience) {
                Err(Failure::Closed(..)) if interim > 0 => {
                    let what = "it ends behind an interim one";
                    return Err(Failure::bad_response(self.key.hop, &what));
                }
                other => other?,
            };
            if !response.is_interim() {
                if let NextHop::Parent(parent) = self.hop {
                    parent.note_answer(response.status == 407);
                }
                log::debug!("the {} answers {}", self.key.hop, response.status);
                if response.status == self.side.status() {
                    let challenges = self.side.challenge_field();
                    log::debug!("it offers {}", Challenge::schemes(&response.fields, challenges));
                    dump::login("<", &response.fields, challenges);
                }
                return Ok(response);
            }
            interim = interim.saturating_add(1);
            if interim > MAX_INTERIM {
                let what = "it sends interim responses without end";
                return Err(Failure::bad_response(self.key.hop, &what));
            }
            body.relay_interim(response)?;
            body.resume(conn)?;
        }
    }

    /// Reads the head of a response: from a parent that demands a login it comes at once.
    fn read_head(
        &self,
        conn: &mut Conn,
        leg: &Leg,
        fields: &FieldLines,
        audience: Option<Audience<'_>>,
    ) -> Result<ResponseHead, Failure> {
        let doubtful = match self.hop {
            NextHop::Parent(parent) => !leg.with_body || !parent.was_heard(),
            NextHop::Origin(_) => leg.asks,
        };
        let works = |silent: &Conn| {
            let works = self.works(Some(silent));
            self.ended.set(if works { self.ended.get() } else { 2 });
            works
        };
        let soon = self.gateway.parents.timeout();
        let doubt = Doubt { soon, works: &works, asks: leg.asks };
        patience::read_head(conn, self.key.hop, fields, audience, doubtful.then_some(doubt))
    }

    /// Whether a parent works that said nothing, on `silent` or before it closed.
    fn works(&self, silent: Option<&Conn>) -> bool {
        let NextHop::Parent(parent) = self.hop else { return true };
        log::debug!("the {} says nothing: it is asked whether it works", parent.name);
        let soon = self.gateway.parents.timeout();
        let works = self.dial().is_ok_and(|on| patience::works(&parent.name, silent, on, soon));
        if works {
            parent.note_answer(false);
        }
        works
    }

    /// The connection, fit for a next request; or, when it is not, whether it has just ended.
    fn keep(&self, mut conn: Conn, response: &ResponseHead, stays: bool) -> Result<Conn, bool> {
        let fit = stays && response::drain(&mut conn, &self.head.method, response);
        if fit { Ok(conn) } else { Err(conn.has_ended()) }
    }

    fn dial(&self) -> Result<Conn, Failure> {
        let conn = self.gateway.connect(self.key.hop.is_parent, &|| {
            let dialed = match self.hop {
                NextHop::Parent(parent) => self.gateway.parents.dial(parent),
                NextHop::Origin(origin) => {
                    dial(&origin.authority, ORIGIN_CONNECT_TIMEOUT, self.key.reach)
                }
            };
            self.reached.set(dialed.is_ok() || self.reached.get());
            dialed
        })?;
        self.tell_of(&conn, "a new connection");
        Ok(conn)
    }

    fn tell_of(&self, conn: &Conn, what: &str) {
        let user = self.key.credentials.as_ref().map_or("nobody", |account| &account.user);
        log::debug!("{what} to the {}, from port {}, for {user}", self.key.hop, conn.port());
    }
}
