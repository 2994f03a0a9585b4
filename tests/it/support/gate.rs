//! NTLM over HTTP as a server plays it: the state is bound to the connection, and a refusal burns
//! it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::acceptor::{Acceptor, Challenge, Why};
use super::hops::Leg;
use super::http::RequestHead;

/// Who is let in and how it is said; shared by all connections.
#[derive(Clone, Debug)]
pub struct Rules {
    pub acceptor: Acceptor,
    /// The challenge lines of a bare refusal, in order.
    pub offers: Vec<String>,
    /// Even the right password is refused.
    pub refuse_all: bool,
    /// Sent instead of a CHALLENGE message, as it is.
    pub token: Option<String>,
    /// An origin's 401 instead of a proxy's 407.
    pub www: bool,
}

impl Rules {
    pub fn new(acceptor: Acceptor) -> Self {
        Self { acceptor, offers: vec!["NTLM".into()], refuse_all: false, token: None, www: false }
    }

    pub fn www(acceptor: Acceptor) -> Self {
        Self { www: true, ..Self::new(acceptor) }
    }
}

/// Whether a request passes; if not, with which challenge lines it is refused.
#[derive(Debug)]
pub enum Verdict {
    Pass(Leg),
    Refuse(Leg, Vec<String>),
}

enum State {
    Fresh,
    Challenged(Box<Challenge>),
    Open,
    Burnt,
}

/// One connection's.
pub struct Gate<'a> {
    rules: &'a Rules,
    state: State,
}

impl<'a> Gate<'a> {
    pub fn new(rules: &'a Rules) -> Self {
        Self { rules, state: State::Fresh }
    }

    /// Forgets who it was, as a parent that restarts or times out does.
    pub fn forget(&mut self) -> Vec<String> {
        self.state = State::Fresh;
        self.rules.offers.clone()
    }

    pub fn judge(&mut self, head: &RequestHead) -> Verdict {
        // Squid's way: whatever an authenticated connection says about itself is not looked at.
        if matches!(self.state, State::Open) {
            return Verdict::Pass(Leg::Authenticated);
        }
        let name = if self.rules.www { "Authorization" } else { "Proxy-Authorization" };
        let Some(value) = head.fields.get(name) else { return self.refuse(Leg::Bare) };
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        if scheme.eq_ignore_ascii_case("Basic") {
            return self.basic(token);
        }
        if !scheme.eq_ignore_ascii_case("NTLM") && !scheme.eq_ignore_ascii_case("Negotiate") {
            return self.refuse(Leg::Other(value.into()));
        }
        let Ok(message) = BASE64.decode(token.trim()) else {
            return self.refuse(Leg::Other(value.into()));
        };
        match message.get(8) {
            Some(1) => self.negotiate(scheme, &message, head.persists()),
            Some(3) => self.authenticate(&message),
            _ => self.refuse(Leg::Other(value.into())),
        }
    }

    fn refuse(&self, leg: Leg) -> Verdict {
        Verdict::Refuse(leg, self.rules.offers.clone())
    }

    fn negotiate(&mut self, scheme: &str, message: &[u8], persists: bool) -> Verdict {
        if matches!(self.state, State::Burnt) {
            return self.refuse(Leg::Negotiate(Err(Why::Burnt)));
        }
        if !persists {
            // Squid answers this with no challenge at all.
            return Verdict::Refuse(Leg::Negotiate(Err(Why::Closing)), Vec::new());
        }
        let read = self.rules.acceptor.read_negotiate(message);
        let challenge = match self.rules.acceptor.challenge(message) {
            Ok(challenge) => challenge,
            Err(why) => return self.refuse(Leg::Negotiate(Err(why))),
        };
        let (challenge, token) = match &self.rules.token {
            None => (Some(challenge.clone()), base64(&challenge.bytes)),
            Some(token) => {
                let given = BASE64.decode(token).ok();
                (given.and_then(|bytes| Challenge::given(message, &bytes).ok()), token.clone())
            }
        };
        self.state =
            challenge.map_or(State::Fresh, |challenge| State::Challenged(Box::new(challenge)));
        // In the spelling it was offered in, should that be an odd one.
        let spelt = |offer: &String| offer.eq_ignore_ascii_case(scheme).then(|| offer.clone());
        let scheme = self.rules.offers.iter().find_map(spelt).unwrap_or_else(|| scheme.into());
        Verdict::Refuse(Leg::Negotiate(read), vec![format!("{scheme} {token}")])
    }

    fn authenticate(&mut self, message: &[u8]) -> Verdict {
        let result = match std::mem::replace(&mut self.state, State::Burnt) {
            State::Challenged(challenge) => self.rules.acceptor.verify(&challenge, message),
            State::Burnt => Err(Why::Burnt),
            State::Fresh | State::Open => Err(Why::NoChallenge),
        };
        let result = if self.rules.refuse_all { result.and(Err(Why::Refused)) } else { result };
        if result.is_ok() {
            self.state = State::Open;
            return Verdict::Pass(Leg::Authenticate(result));
        }
        self.refuse(Leg::Authenticate(result))
    }

    /// Good for this request alone, and only where it was offered.
    fn basic(&self, token: &str) -> Verdict {
        let decoded =
            BASE64.decode(token.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let offered =
            self.rules.offers.iter().any(|offer| offer.to_ascii_lowercase().contains("basic"));
        let (user, password) = match &decoded {
            Some(text) => text.split_once(':').unwrap_or((text, "")),
            None => ("", ""),
        };
        let ok = offered && !self.rules.refuse_all && self.rules.acceptor.knows(user, password);
        let leg = Leg::Basic { user: user.into(), ok };
        if ok { Verdict::Pass(leg) } else { self.refuse(leg) }
    }
}

pub fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}
