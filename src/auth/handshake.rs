//! The order of messages: which scheme is chosen, and what answers what.

use base64::Engine;

use super::credentials::Secret;
use super::digest::{self, DigestChallenge, DigestError};
use super::spnego::{self, SpnegoError, Wrapping};
use super::standing::{DigestStanding, Standing, digest_challenges};
use super::{BASE64, Carrier, Refusal, Reply, Scheme, Side, Verdict, basic};
use crate::http::challenge::Challenge;
use crate::http::head::{RequestHead, ResponseHead};
use crate::ntlm::{Client, Moment};

/// How often a nonce may be called stale in a row.
const MAX_STALE: u8 = 2;

/// What a login is made of.
pub struct Login<'a> {
    /// For NTLM, alone or in Negotiate.
    pub client: Client<'a>,
    /// For Basic the domain is part of the user's name.
    pub is_qualified: bool,
    /// For Digest and Basic; unknown where only hashes are configured.
    pub password: Option<Secret>,
    /// The schemes that may be answered.
    pub schemes: &'a [Scheme],
    /// Goes into the answer to a challenge: a handshake gives one.
    pub moment: Moment,
}

/// The authentication of one request on one connection.
pub struct Handshake<'a> {
    side: Side,
    request: &'a RequestHead,
    login: Option<Login<'a>>,
    state: State,
    /// Carriers that led nowhere.
    tried: Vec<Carrier>,
}

enum State {
    /// Nothing was said yet.
    Fresh,
    /// NEGOTIATE went out; its bytes.
    Negotiated(Carrier, Vec<u8>),
    /// AUTHENTICATE went out.
    Authenticated(Carrier),
    /// Credentials went out that hold for a request, not for the connection.
    Answered { standing: Standing, stale: u8 },
    /// Credentials went out without being asked, as an earlier request had them accepted.
    Resumed(Standing),
}

impl<'a> Handshake<'a> {
    /// For a request on a new connection; `None` when there is no account.
    pub fn new(side: Side, request: &'a RequestHead, login: Option<Login<'a>>) -> Self {
        Self { side, request, login, state: State::Fresh, tried: Vec::new() }
    }

    /// Begins without being asked, for a hop that is known to challenge: the field value to send.
    pub fn open(&mut self, carrier: Carrier) -> Option<String> {
        let message = self.login.as_ref()?.client.negotiate();
        let value = match carrier {
            Carrier::Negotiate(Wrapping::Spnego) => {
                field_value(carrier, &spnego::wrap_negotiate(&message))
            }
            _ => field_value(carrier, &message),
        };
        self.state = State::Negotiated(carrier, message);
        Some(value)
    }

    /// Forgets what was said: the next request stands for itself.
    pub fn restart(&mut self) {
        self.state = State::Fresh;
    }

    /// Begins with what an earlier request had accepted: the field value to send.
    pub fn resume(&mut self, mut standing: Standing) -> String {
        let value = standing.answer(self.request);
        self.state = State::Resumed(standing);
        value
    }

    /// Whether the last word was said.
    pub fn is_settled(&self) -> bool {
        !matches!(self.state, State::Fresh | State::Negotiated(..))
    }

    /// How the NTLM messages travelled, once the last word was said.
    pub fn carrier(&self) -> Option<Carrier> {
        match self.state {
            State::Authenticated(carrier) => Some(carrier),
            _ => None,
        }
    }

    /// What later requests may send without being asked.
    pub fn into_standing(self) -> Option<Standing> {
        match self.state {
            State::Answered { standing, .. } | State::Resumed(standing) => Some(standing),
            _ => None,
        }
    }

    /// Whether a response says that the credentials are wrong which went out without being asked.
    pub fn is_refused_by(&self, head: &ResponseHead) -> bool {
        let offered = Challenge::list(&head.fields, self.side.challenge_field());
        matches!(&self.state, State::Resumed(standing) if standing.is_refused_by(&offered))
    }

    /// Takes note of a response.
    pub fn on_response(&mut self, head: &ResponseHead) -> Verdict {
        if head.status != self.side.status() {
            return Verdict::Relay;
        }
        let offered = Challenge::list(&head.fields, self.side.challenge_field());
        if self.login.is_none() {
            return Verdict::Refused(Refusal::NoAccount);
        }
        match std::mem::replace(&mut self.state, State::Fresh) {
            State::Resumed(standing) if standing.is_refused_by(&offered) => {
                Verdict::Refused(Refusal::Credentials)
            }
            State::Fresh | State::Resumed(_) => self.choose(&offered, false),
            State::Negotiated(carrier, negotiate) => {
                // Some offer the scheme once more before the challenge.
                let mut of_scheme = offered.iter().filter(|c| c.is(carrier.scheme())).peekable();
                let is_offered = of_scheme.peek().is_some();
                match of_scheme.find_map(|challenge| challenge.token68.as_deref()) {
                    Some(challenge) => self.authenticate(carrier, &negotiate, challenge),
                    None => {
                        self.tried.push(carrier);
                        match self.choose(&offered, true) {
                            Verdict::Refused(_) if is_offered => {
                                Verdict::Refused(Refusal::NoChallenge)
                            }
                            verdict => verdict,
                        }
                    }
                }
            }
            State::Answered { standing: Standing::Digest(_), stale } if stale < MAX_STALE => {
                let fresh = digest_challenges(&offered).find(|challenge| challenge.stale);
                match fresh.and_then(|challenge| self.answer_digest(challenge, stale)) {
                    Some(reply) => Verdict::Answer(reply),
                    None => Verdict::Refused(Refusal::Credentials),
                }
            }
            State::Authenticated(_) | State::Answered { .. } => {
                Verdict::Refused(Refusal::Credentials)
            }
        }
    }

    /// Answers by the strongest scheme that is offered, allowed and possible.
    fn choose(&mut self, offered: &[Challenge], fresh: bool) -> Verdict {
        let mut refusal = Refusal::Schemes(offered.iter().map(named).collect());
        let has = |name: &str| offered.iter().any(|challenge| challenge.is(name));
        for (name, scheme) in Scheme::NAMES {
            let by_password = matches!(scheme, Scheme::Digest | Scheme::Basic);
            // Digest and Basic are for the parent: an origin that wants them means its own accounts.
            if self.side == Side::Origin && by_password || !has(name) {
                continue;
            }
            let Some(login) = self.login.as_ref().filter(|l| l.schemes.contains(&scheme)) else {
                continue;
            };
            if by_password && login.password.is_none() {
                refusal = Refusal::NoPassword;
                continue;
            }
            let reply = match scheme {
                Scheme::Ntlm => self.begin(&[Carrier::Ntlm]),
                // Nearly everybody takes bare messages; who does not is asked again, wrapped.
                Scheme::Negotiate => self.begin(&[
                    Carrier::Negotiate(Wrapping::Bare),
                    Carrier::Negotiate(Wrapping::Spnego),
                ]),
                Scheme::Digest => match digest_challenges(offered).next() {
                    Some(challenge) => self.answer_digest(challenge, 0),
                    None => {
                        let broken = offered.iter().find_map(broken_digest);
                        refusal = broken.map_or(refusal, Refusal::Digest);
                        None
                    }
                },
                Scheme::Basic => self.answer_basic(),
            };
            if let Some(reply) = reply {
                return Verdict::Answer(Reply { fresh, ..reply });
            }
        }
        Verdict::Refused(refusal)
    }

    /// NEGOTIATE by the first carrier that was not tried.
    fn begin(&mut self, carriers: &[Carrier]) -> Option<Reply> {
        let carrier = carriers.iter().find(|carrier| !self.tried.contains(carrier))?;
        Some(Reply { value: self.open(*carrier)?, last: false, fresh: false })
    }

    /// AUTHENTICATE, in the wrapping the challenge came in.
    fn authenticate(&mut self, carrier: Carrier, negotiate: &[u8], challenge: &str) -> Verdict {
        let Some(login) = &self.login else { return Verdict::Refused(Refusal::NoAccount) };
        let token = match (BASE64.decode(challenge), carrier) {
            (Ok(token), _) => token,
            // Squid's "Negotiate *": its helper could not read what it got.
            (Err(_), Carrier::Negotiate(_)) => Vec::new(),
            (Err(_), Carrier::Ntlm) => return Verdict::Refused(Refusal::NotBase64),
        };
        let message = match carrier {
            Carrier::Ntlm => Ok(token.as_slice()),
            Carrier::Negotiate(_) => spnego::unwrap(&token).map(|(_, message)| message),
        };
        let challenge = match message {
            Ok(message) => message,
            Err(SpnegoError::NotNtlm | SpnegoError::OtherMechanism) => {
                return Verdict::Refused(Refusal::Spnego(SpnegoError::NotNtlm));
            }
            // The server has had enough of what it saw: perhaps it wants it wrapped.
            Err(error) => {
                self.tried.push(carrier);
                let spnego = [Carrier::Negotiate(Wrapping::Spnego)];
                return match self.begin(&spnego) {
                    Some(reply) => Verdict::Answer(Reply { fresh: true, ..reply }),
                    None => Verdict::Refused(Refusal::Spnego(error)),
                };
            }
        };
        match login.client.authenticate(negotiate, challenge, login.moment) {
            Ok(message) => {
                let answer = match carrier {
                    Carrier::Ntlm => message,
                    Carrier::Negotiate(_) => spnego::wrap_like(&token, &message),
                };
                self.state = State::Authenticated(carrier);
                let value = field_value(carrier, &answer);
                Verdict::Answer(Reply { value, last: true, fresh: false })
            }
            Err(error) => Verdict::Refused(Refusal::Ntlm(error)),
        }
    }

    fn answer_digest(&mut self, challenge: DigestChallenge, stale: u8) -> Option<Reply> {
        let login = self.login.as_ref()?;
        let password = login.password.as_ref()?;
        let mut standing = Standing::Digest(Box::new(DigestStanding {
            ha1: digest::ha1(login.client.user, &challenge.realm, password.expose()),
            user: login.client.user.to_owned(),
            cnonce: login.moment.client_challenge,
            challenge,
            count: 0,
        }));
        let value = standing.answer(self.request);
        self.state = State::Answered { standing, stale: stale.saturating_add(1) };
        Some(Reply { value, last: true, fresh: false })
    }

    fn answer_basic(&mut self) -> Option<Reply> {
        let login = self.login.as_ref()?;
        let Client { domain, user, .. } = login.client;
        let qualified = login.is_qualified.then(|| format!("{domain}\\{user}"));
        let user = qualified.as_deref().unwrap_or(user);
        let value = basic::encode(user, login.password.as_ref()?);
        let standing = Standing::Basic(Secret::new(value.clone()));
        self.state = State::Answered { standing, stale: 0 };
        Some(Reply { value, last: true, fresh: false })
    }
}

/// A scheme as it is told to people, with the reason where Digest is not the Digest that is spoken.
fn named(challenge: &Challenge) -> String {
    match DigestChallenge::of(challenge) {
        Err(error) if challenge.is("Digest") => format!("{} ({error})", challenge.scheme),
        _ => challenge.scheme.clone(),
    }
}

/// Why a Digest challenge is none, rather than one that is not spoken here.
fn broken_digest(challenge: &Challenge) -> Option<DigestError> {
    let error = DigestChallenge::of(challenge).err().filter(DigestError::is_malformed);
    error.filter(|_| challenge.is("Digest"))
}

fn field_value(carrier: Carrier, bytes: &[u8]) -> String {
    format!("{} {}", carrier.scheme(), BASE64.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntlm::{Dialect, Keys};

    const CHALLENGE: &str = "TlRMTVNTUAACAAAAAAAAAAAAAAACAgAAASNFZ4mrze8=";

    fn response(lines: &[&str]) -> ResponseHead {
        let lines: String =
            lines.iter().map(|line| format!("Proxy-Authenticate: {line}\r\n")).collect();
        ResponseHead::parse(format!("HTTP/1.1 407 X\r\n{lines}\r\n").as_bytes()).unwrap()
    }

    fn request() -> RequestHead {
        RequestHead::parse(b"GET http://a/ HTTP/1.1\r\n\r\n").unwrap()
    }

    const ALL: &[Scheme] = &[Scheme::Basic, Scheme::Digest, Scheme::Negotiate, Scheme::Ntlm];

    fn login<'a>(keys: &'a Keys, schemes: &'a [Scheme]) -> Option<Login<'a>> {
        let dialect = Dialect::Ntlmv2;
        Some(Login {
            client: Client { dialect, domain: "D", user: "u", workstation: "W", keys },
            is_qualified: false,
            password: Some(Secret::new("p")),
            schemes,
            moment: Moment { file_time: 0, client_challenge: [0xaa; 8] },
        })
    }

    fn keys() -> Keys {
        Keys { ntlmv2: Some([1; 16]), ..Keys::default() }
    }

    #[track_caller]
    fn answered(handshake: &mut Handshake<'_>, lines: &[&str]) -> Reply {
        match handshake.on_response(&response(lines)) {
            Verdict::Answer(reply) => reply,
            other => panic!("{lines:?}: {other:?}"),
        }
    }

    #[track_caller]
    fn refused(handshake: &mut Handshake<'_>, lines: &[&str]) -> Refusal {
        match handshake.on_response(&response(lines)) {
            Verdict::Refused(refusal) => refusal,
            other => panic!("{lines:?}: {other:?}"),
        }
    }

    #[test]
    fn from_the_first_407_to_the_answer() {
        let (keys, request) = (keys(), request());
        for (scheme, carrier) in
            [("NTLM", Carrier::Ntlm), ("Negotiate", Carrier::Negotiate(Wrapping::Bare))]
        {
            let mut handshake = Handshake::new(Side::Proxy, &request, login(&keys, ALL));
            let bare = format!("Basic realm=\"a, b\", {}", scheme.to_lowercase());
            let reply = answered(&mut handshake, &[&bare]);
            assert!(reply.value.starts_with(&format!("{scheme} TlRMTVNTUAAB")) && !reply.last);
            assert!(!handshake.is_settled());
            let challenge = format!("{scheme} {CHALLENGE}");
            let reply = answered(&mut handshake, &["Other", scheme, &challenge]);
            assert!(reply.value.starts_with(&format!("{scheme} TlRMTVNTUAAD")) && reply.last);
            assert_eq!(handshake.carrier(), Some(carrier));
            let done = ResponseHead::parse(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            assert_eq!(handshake.on_response(&done), Verdict::Relay);
            assert_eq!(refused(&mut handshake, &[scheme]), Refusal::Credentials);
        }
    }

    #[test]
    fn the_strongest_allowed_scheme_is_chosen_whatever_the_order() {
        let (keys, request) = (keys(), request());
        let lines = ["Basic realm=b", "Digest realm=d, nonce=n, NEGOTIATE", "ntlm"];
        for (allowed, begins) in [
            (ALL, "NTLM TlRM"),
            (&[Scheme::Negotiate, Scheme::Digest], "Negotiate TlRM"),
            (&[Scheme::Basic, Scheme::Digest], "Digest username=\"u\", realm=\"d\""),
            (&[Scheme::Basic], "Basic dTpw"),
        ] {
            let mut handshake = Handshake::new(Side::Proxy, &request, login(&keys, allowed));
            let reply = answered(&mut handshake, &lines);
            assert!(reply.value.starts_with(begins), "{}", reply.value);
            assert_eq!(reply.last, !reply.value.contains("TlRM"));
        }
    }

    #[test]
    fn a_server_that_wants_spnego_gets_it_on_a_new_connection() {
        let (keys, request) = (keys(), request());
        let mut handshake = Handshake::new(Side::Proxy, &request, login(&keys, ALL));
        assert!(!answered(&mut handshake, &["Negotiate"]).fresh);
        let reply = answered(&mut handshake, &["Negotiate"]);
        assert!(reply.fresh && !reply.last && reply.value.starts_with("Negotiate YE"));
        assert_eq!(refused(&mut handshake, &["Negotiate"]), Refusal::NoChallenge);
    }

    #[test]
    fn a_stale_nonce_is_no_refusal_but_not_for_ever() {
        let (keys, request) = (keys(), request());
        let mut handshake = Handshake::new(Side::Proxy, &request, login(&keys, ALL));
        answered(&mut handshake, &["Digest realm=d, nonce=one"]);
        let stale = "Digest realm=d, nonce=two, stale=TRUE";
        assert!(answered(&mut handshake, &[stale]).value.contains("nonce=\"two\""));
        assert_eq!(refused(&mut handshake, &[stale]), Refusal::Credentials);
        let mut handshake = Handshake::new(Side::Proxy, &request, login(&keys, ALL));
        answered(&mut handshake, &["Digest realm=d, nonce=one"]);
        let again = ["Digest realm=d, nonce=two"];
        assert_eq!(refused(&mut handshake, &again), Refusal::Credentials);
    }

    #[test]
    fn a_standing_counts_and_takes_the_next_nonce() {
        let (keys, request) = (keys(), request());
        let mut handshake = Handshake::new(Side::Proxy, &request, login(&keys, ALL));
        let first = answered(&mut handshake, &["Digest realm=d, nonce=one, qop=auth"]);
        assert!(first.value.contains("nc=00000001"));
        let standing = handshake.into_standing().unwrap();
        let mut handshake = Handshake::new(Side::Proxy, &request, login(&keys, ALL));
        assert!(handshake.resume(standing).contains("nc=00000002"));
        let mut standing = handshake.into_standing().unwrap();
        let next = b"HTTP/1.1 200 OK\r\nProxy-Authentication-Info: nextnonce=\"two\"\r\n\r\n";
        standing.renew(Side::Proxy, &ResponseHead::parse(next).unwrap());
        let value = standing.answer(&request);
        assert!(value.contains("nc=00000001") && value.contains("nonce=\"two\""), "{value}");
    }

    #[test]
    fn what_cannot_be_answered_says_why() {
        let (keys, request) = (keys(), request());
        let ntlm = &[Scheme::Ntlm];
        let mut fresh = Handshake::new(Side::Proxy, &request, login(&keys, ntlm));
        let names = vec!["Kerberos".to_owned(), "Basic".to_owned()];
        assert_eq!(refused(&mut fresh, &["Kerberos, Basic realm=x"]), Refusal::Schemes(names));
        assert_eq!(refused(&mut fresh, &[]), Refusal::Schemes(vec![]));
        for (line, expected) in [("NTLM", Refusal::NoChallenge), ("NTLM !!!", Refusal::NotBase64)] {
            let mut opened = Handshake::new(Side::Proxy, &request, login(&keys, ntlm));
            opened.open(Carrier::Ntlm).unwrap();
            assert_eq!(refused(&mut opened, &[line]), expected);
        }
        let mut opened = Handshake::new(Side::Proxy, &request, login(&keys, ntlm));
        opened.open(Carrier::Ntlm).unwrap();
        assert!(matches!(refused(&mut opened, &["NTLM TlRM"]), Refusal::Ntlm(_)));
        let mut nobody = Handshake::new(Side::Proxy, &request, None);
        assert_eq!(refused(&mut nobody, &["NTLM"]), Refusal::NoAccount);
    }
}
