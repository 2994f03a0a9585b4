//! `--diagnose`: one request and one login at each parent, told step by step.
//!
//! Costs an account one bad logon at most, however many parents there are: credentials that one
//! refused are not sent to another. Only `--all-dialects` may cost more, and says so before. The
//! dance is [`Handshake`]'s, here it is only watched; the words are `report`'s and `findings`'.

mod findings;
mod report;

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use findings::{Finding, Login, Outcome, Problem};
use report::{Report, milliseconds, status_line};

use crate::auth::credentials::{Credentials, Secret};
use crate::auth::{Carrier, Handshake, Refusal, Reply, Scheme, Side, Verdict};
use crate::config::{Args, Config, Reach};
use crate::conn::Conn;
use crate::dial::{DialError, ORIGIN_CONNECT_TIMEOUT, dial};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::hop::HopName;
use crate::http::challenge::Challenge;
use crate::http::forwarding;
use crate::http::framing::BodyFraming;
use crate::http::head::{FieldLines, RequestHead, ResponseHead, Version};
use crate::http::names::FieldName;
use crate::http::target::{Authority, RequestTarget};
use crate::ntlm::{self, Dialect};
use crate::response;
use crate::sys::{self, Wait};

/// What is asked for when no URL is given.
const EXAMPLE: &str = "http://example.com/";
/// How long the answer to the last word may take: the parent asks the domain, then the origin.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How soon a peer that closes behind its 407 has done so.
const CLOSING_TIME: Duration = Duration::from_millis(100);
/// More legs than any login has.
const MAX_LEGS: usize = 12;

/// Diagnoses `config`, with the URL and the dialects that `args` ask for, and gives the report
/// to `out`, line by line. Whether a request went through.
pub fn run(config: Config, args: &Args, out: &mut dyn FnMut(&str)) -> bool {
    let example = || RequestTarget::parse("GET", EXAMPLE).ok();
    let Some(url) = &args.url.clone().or_else(example) else { return false };
    // What is asked here is no client's request.
    let gateway = Gateway::new(Config { url_log: None, ..config }, Vec::new());
    let config = &gateway.config;
    // Stands in for the account that is not there, as far as the challenge; it is never sent.
    let nobody = Credentials::from_password(String::new(), String::new(), &Secret::new(""));
    let every = Dialect::NAMES.map(|(_, dialect)| dialect);
    let mut run = Run {
        gateway: &gateway,
        report: Report::new(out),
        target: match url {
            RequestTarget::Absolute(url) if url.has_scheme("https") => {
                RequestTarget::Authority(url.authority().clone())
            }
            other => other.clone(),
        },
        account: gateway.account.as_deref(),
        nobody: &nobody,
        dialects: if args.all_dialects { every.to_vec() } else { vec![config.dialect] },
        refused_by: None,
        spent: false,
    };
    run.report.introduce(url, config, args);
    let Some(authority) = url.authority() else { return false };
    let mut findings = Vec::new();
    if config.parents.is_empty() {
        findings.push(run.look_at(HopName { authority: authority.clone(), is_parent: false }));
    }
    for parent in &config.parents {
        findings.push(run.look_at(HopName { authority: parent.clone(), is_parent: true }));
    }
    findings::conclude(&mut run.report, &findings, config, gateway.account.as_deref())
}

/// A run and what it has learnt.
struct Run<'a> {
    gateway: &'a Gateway,
    report: Report<'a>,
    target: RequestTarget,
    account: Option<&'a Credentials>,
    nobody: &'a Credentials,
    /// Those still to be tried at the next hop, in this order.
    dialects: Vec<Dialect>,
    /// Who did not accept the credentials; nobody else gets them then.
    refused_by: Option<HopName>,
    /// They were sent to the next hop in hand, and not accepted.
    spent: bool,
}

/// A next hop that takes connections.
struct Hop {
    name: HopName,
    side: Side,
    head: RequestHead,
    /// The address that answered.
    address: Authority,
    timeout: Duration,
}

/// How a conversation ended.
enum End {
    /// With an answer; what logged in.
    Answered(ResponseHead, Option<Scheme>),
    /// Without; how NTLM messages travelled, if AUTHENTICATE was sent.
    Refused(Refusal, Option<Carrier>),
    /// Before the credentials were sent.
    Withheld(Problem),
}

/// Why a conversation broke off, and whether the credentials were sent.
struct Broken {
    failure: Failure,
    step: Step,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Asking,
    Negotiating,
    LoggingIn,
}

impl Run<'_> {
    /// Everything about one next hop.
    fn look_at(&mut self, name: HopName) -> Finding {
        self.report.hop(&name);
        let (outcome, login) = match self.connect(name.clone()) {
            Ok((hop, conn)) => self.converse(&hop, conn),
            Err(problem) => (Outcome::Trouble(problem), None),
        };
        if let Outcome::Trouble(problem) = outcome {
            self.report.fact("means", problem.meaning(name.is_parent));
        }
        if std::mem::take(&mut self.spent) {
            self.refused_by.get_or_insert_with(|| name.clone());
        }
        Finding { hop: name, login, outcome }
    }

    /// Tries every address of a name; the first that answers serves for the rest.
    fn connect(&mut self, name: HopName) -> Result<(Hop, Conn), Problem> {
        let Authority { host, port } = &name.authority;
        let addresses = match (host.as_str(), *port).to_socket_addrs() {
            Ok(addresses) => addresses.collect::<Vec<_>>(),
            Err(error) => {
                self.report.fact("address", &format!("cannot be resolved: {error}"));
                return Err(Problem::Unresolved);
            }
        };
        let config = &self.gateway.config;
        let timeout = if name.is_parent { config.parent_timeout } else { ORIGIN_CONNECT_TIMEOUT };
        let share = timeout / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut first = None;
        for address in addresses {
            let authority = Authority { host: address.ip().to_string(), port: *port };
            let started = Instant::now();
            let dialed = dial(&authority, share.max(Duration::from_millis(1)), Reach::Everywhere);
            let took = milliseconds(started.elapsed());
            let outcome = match dialed {
                Ok(stream) => {
                    first.get_or_insert((authority, stream));
                    format!("connected in {took}")
                }
                Err(DialError { reason, .. }) => format!("{reason}, after {took}"),
            };
            self.report.fact("address", &format!("{} {outcome}", address.ip()));
        }
        let (address, stream) = first.ok_or(Problem::Unreachable)?;
        let conn = prepared(stream, timeout).map_err(|_| Problem::Unreachable)?;
        let side = if name.is_parent { Side::Proxy } else { Side::Origin };
        let head = self.request(!name.is_parent);
        Ok((Hop { name, side, head, address, timeout }, conn))
    }

    /// The request, as this program would send it.
    fn request(&self, to_origin: bool) -> RequestHead {
        let connect = matches!(self.target, RequestTarget::Authority(_));
        let mut head = RequestHead {
            method: if connect { "CONNECT" } else { "GET" }.into(),
            target: String::new(),
            version: Version::Http11,
            fields: FieldLines::default(),
        };
        let agent = concat!("ntlmaps/", env!("CARGO_PKG_VERSION"));
        head.fields.push(FieldName::new("User-Agent"), agent.as_bytes());
        head.fields.push(FieldName::new("Accept"), b"*/*");
        let replacements = &self.gateway.config.client_header;
        let framing = BodyFraming::None;
        forwarding::prepare_request(&mut head, &self.target, to_origin, framing, replacements);
        head
    }

    /// What follows the connection: one conversation, or one for each dialect.
    fn converse(&mut self, hop: &Hop, conn: Conn) -> (Outcome, Option<Login>) {
        if hop.head.method == "CONNECT" && !hop.name.is_parent {
            self.report.fact("answer", "none is needed: the tunnel is this connection");
            return (Outcome::Through, None);
        }
        let allowed = &self.gateway.config.schemes;
        let mut conn = Some(conn);
        let mut carrier = None;
        let mut outcome = Outcome::Trouble(Problem::System);
        for dialect in self.dialects.clone() {
            outcome = match self.talk(hop, dialect, carrier, conn.take()) {
                Ok(End::Answered(response, scheme)) => {
                    let through = self.report.result(&hop.head.method, &response);
                    let outcome = if through { Outcome::Through } else { Outcome::NotServed };
                    let login = scheme.map(|scheme| Login { scheme, dialect });
                    if login.is_some() {
                        self.spent = false;
                        // A next parent is not to be tried with what did not work here.
                        self.dialects = vec![dialect];
                    }
                    return (outcome, login);
                }
                Ok(End::Withheld(problem)) => return (Outcome::Trouble(problem), None),
                Ok(End::Refused(refusal, travelled)) => {
                    if refusal == Refusal::Credentials {
                        self.spent = true;
                    } else {
                        self.report.fact("login", &format!("not possible: {refusal}"));
                    }
                    let another = matches!(refusal, Refusal::Ntlm(ntlm::Error::MissingKey(_)))
                        || refusal == Refusal::Credentials && travelled.is_some();
                    // What cannot be tried says nothing against what was tried before.
                    let told = self.spent && refusal != Refusal::Credentials;
                    let problem = Problem::of(&refusal, allowed);
                    let outcome = if told { outcome } else { Outcome::Trouble(problem) };
                    if !another {
                        return (outcome, None);
                    }
                    carrier = travelled.or(carrier);
                    outcome
                }
                Err(Broken { failure, step }) => {
                    self.report.fact("failed", &failure.to_string());
                    if step == Step::LoggingIn {
                        // Nobody knows whether this counted as a bad logon.
                        self.spent = true;
                    }
                    let problem = Problem::behind(&failure, step == Step::Asking);
                    return (Outcome::Trouble(problem), None);
                }
            };
        }
        (outcome, None)
    }

    /// A conversation, from its first request to its outcome.
    fn talk(
        &mut self,
        hop: &Hop,
        dialect: Dialect,
        opening: Option<Carrier>,
        mut conn: Option<Conn>,
    ) -> Result<End, Broken> {
        let mut step = Step::Asking;
        let broken = |step| move |failure| Broken { failure, step };
        let (gateway, account) = (self.gateway, self.account.unwrap_or(self.nobody));
        let mut login = gateway.login(account).map_err(broken(step))?;
        login.client.dialect = dialect;
        // The demand of a web server is the client's business, unless it is named.
        let answers = hop.side == Side::Proxy
            || self.account.is_some() && gateway.config.answers_origin(&hop.name.authority);
        let login = Some(login).filter(|_| answers);
        let mut handshake = Handshake::new(hop.side, &hop.head, login);
        // The first conversation tells all; those after it only how they ended.
        let telling = opening.is_none();
        let mut field = opening.and_then(|carrier| handshake.open(carrier));
        if field.is_some() {
            step = Step::Negotiating;
        }
        let mut reused = false;
        let mut carrier = None;
        for _ in 0..MAX_LEGS {
            let mut line = match conn.take() {
                Some(line) => line,
                None => {
                    reused = false;
                    hop.dial().map_err(broken(step))?
                }
            };
            let (response, took) = match hop.ask(&mut line, field.as_deref(), step) {
                Err(Failure::Closed(..)) if reused && step != Step::LoggingIn => {
                    self.report.fact("connection", "is closed all the same: a new one");
                    continue;
                }
                other => other.map_err(broken(step))?,
            };
            let used = field.as_deref().and_then(Scheme::of);
            let demanded = answers && response.status == hop.side.status();
            if telling {
                self.tell(hop, step, &response, demanded, used, took);
            }
            let stays = response::persists(&response);
            let mut line = Some(line);
            if demanded && step == Step::Asking {
                conn = line.take().filter(|_| stays).and_then(|line| hop.drain(line, &response));
                if telling {
                    conn.take_if(closes_soon);
                    self.report.persistence(stays, conn.is_some());
                }
            }
            match handshake.on_response(&response) {
                // A place that asks nobody: the empty leg was taken for the request.
                Verdict::Relay if step == Step::Negotiating => {
                    (field, step) = (None, Step::Asking);
                }
                Verdict::Relay => {
                    if step == Step::LoggingIn {
                        self.report.login(used, dialect, account, &response, took);
                    }
                    return Ok(End::Answered(response, used));
                }
                Verdict::Refused(_) if !answers => return Ok(End::Answered(response, None)),
                Verdict::Refused(refusal) => {
                    if refusal == Refusal::Credentials {
                        self.report.login(used, dialect, account, &response, took);
                    }
                    return Ok(End::Refused(refusal, carrier));
                }
                Verdict::Answer(Reply { value, last, fresh }) => {
                    // A close announced with a challenge may not be meant; without this connection
                    // the challenge is worth nothing.
                    let bound = last && !fresh && step == Step::Negotiating;
                    if let Some(line) = line.filter(|_| bound || stays && !fresh) {
                        conn = hop.drain(line, &response);
                    }
                    if bound && conn.is_none() {
                        let failure = Failure::Closed(hop.name.clone(), String::new());
                        return Err(Broken { failure, step });
                    }
                    reused = conn.is_some();
                    if last && let Some(problem) = self.withheld() {
                        return Ok(End::Withheld(problem));
                    }
                    step = if last { Step::LoggingIn } else { Step::Negotiating };
                    carrier = handshake.carrier();
                    field = Some(value);
                }
            }
        }
        let failure = Failure::bad_response(&hop.name, &"the login never ends");
        Err(Broken { failure, step })
    }

    /// What came back before the last word.
    fn tell(
        &mut self,
        hop: &Hop,
        step: Step,
        response: &ResponseHead,
        demanded: bool,
        used: Option<Scheme>,
        took: Duration,
    ) {
        let (status, took) = (status_line(response), milliseconds(took));
        let offered = Challenge::list(&response.fields, hop.side.challenge_field());
        match step {
            Step::Asking => {
                self.report.fact("answer", &format!("{status}, in {took}"));
                if demanded {
                    self.report.offers(&offered);
                }
            }
            Step::Negotiating => {
                self.report.fact("challenge", &format!("{status} to NEGOTIATE, in {took}"));
                self.report.challenge(&offered, used, sys::file_time());
            }
            Step::LoggingIn => {}
        }
    }

    /// Why the credentials must not be sent; told.
    fn withheld(&mut self) -> Option<Problem> {
        if self.account.is_none() {
            self.report.fact("login", "not tried: there is no account to try");
            return Some(Problem::NoAccount);
        }
        let refused = self.refused_by.as_ref()?;
        let text = format!("not tried: the {refused} did not accept the credentials");
        self.report.fact("login", &text);
        Some(Problem::Withheld)
    }
}

impl Hop {
    fn dial(&self) -> Result<Conn, Failure> {
        let is_parent = self.name.is_parent;
        let stream = dial(&self.address, self.timeout, Reach::Everywhere)
            .map_err(|error| Failure::Unreachable { is_parent, errors: vec![error] })?;
        prepared(stream, self.timeout).map_err(|error| Failure::System(error.to_string()))
    }

    /// The connection, when it can be used again.
    fn drain(&self, mut conn: Conn, response: &ResponseHead) -> Option<Conn> {
        response::drain(&mut conn, &self.head.method, response).then_some(conn)
    }

    /// Sends the request, with credentials or without, and reads the final answer.
    fn ask(
        &self,
        conn: &mut Conn,
        credentials: Option<&str>,
        step: Step,
    ) -> Result<(ResponseHead, Duration), Failure> {
        let mut head = self.head.clone();
        if let Some(value) = credentials {
            head.fields.set(self.side.credentials_field(), value.as_bytes());
        }
        let mut wire = Vec::new();
        head.encode(&mut wire);
        // A parent that demands a login says so at once.
        let patience = match step {
            Step::LoggingIn => ANSWER_TIMEOUT,
            Step::Asking | Step::Negotiating => self.timeout.saturating_mul(2),
        };
        let started = Instant::now();
        // Perhaps it answered before it closed: reading tells.
        drop(conn.write_all(&wire));
        loop {
            let response =
                response::read_head(conn, &self.name, None, patience, &self.head.fields)?;
            if !response.is_interim() {
                return Ok((response, started.elapsed()));
            }
            if started.elapsed() > patience {
                return Err(Failure::Silent(self.name.clone(), patience));
            }
        }
    }
}

/// A connection on which writing has its deadline, too.
fn prepared(stream: TcpStream, timeout: Duration) -> io::Result<Conn> {
    stream.set_write_timeout(Some(timeout.max(Duration::from_millis(1))))?;
    Conn::new(stream)
}

/// Whether the peer closes without having said so.
fn closes_soon(conn: &mut Conn) -> bool {
    let mut waits = [Wait::readable(conn.stream())];
    let ended = sys::poll(&mut waits, Some(CLOSING_TIME)).unwrap_or(true);
    ended || !conn.is_quiet()
}
