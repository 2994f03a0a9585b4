//! RFC 9110 section 11: what to answer to a 407. Knows `ntlm` and `http`; knows no socket, and
//! decides nothing about connections or repetitions.

pub mod basic;
pub mod credentials;

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::http::challenge::Challenge;
use crate::http::head::ResponseHead;
use crate::ntlm::{self, Client, Moment};

/// Base64 as it occurs in fields; some servers forget the padding.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An auth-scheme (RFC 9110 section 11.1) that may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Bare NTLM tokens.
    Ntlm,
    /// RFC 4559, with NTLM inside.
    Negotiate,
    /// RFC 7616.
    Digest,
    /// RFC 7617.
    Basic,
}

impl Scheme {
    /// Every scheme with its registered name.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("NTLM", Self::Ntlm),
        ("Negotiate", Self::Negotiate),
        ("Digest", Self::Digest),
        ("Basic", Self::Basic),
    ];
}

/// What to do about a response.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not, or no longer, about authentication.
    Relay,
    /// Send the request again with this field value. `last`: with its body, for what comes back
    /// then is final; otherwise without, since it can only be a challenge.
    Answer {
        /// The value of Proxy-Authorization.
        value: String,
        /// Whether this is the last word of the handshake.
        last: bool,
    },
    /// There is nothing to answer.
    Refused(Refusal),
}

/// Why a 407 stays one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The credentials were not accepted.
    Credentials,
    /// None of the offered schemes may be answered; their names.
    Schemes(Vec<String>),
    /// There are no credentials to answer with.
    NoAccount,
    /// NEGOTIATE was not answered with a challenge.
    NoChallenge,
    /// The challenge is not base64.
    NotBase64,
    /// The challenge cannot be answered.
    Ntlm(ntlm::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials => f.write_str("the credentials were not accepted"),
            Self::Schemes(names) if names.is_empty() => {
                f.write_str("it demands a login and offers no way to log in")
            }
            Self::Schemes(names) => write!(f, "it offers only {}", names.join(", ")),
            Self::NoAccount => f.write_str("it demands a login and no account is configured"),
            Self::NoChallenge => f.write_str("it did not answer NTLM's NEGOTIATE with a challenge"),
            Self::NotBase64 => f.write_str("its NTLM challenge is not base64"),
            Self::Ntlm(error) => error.fmt(f),
        }
    }
}

/// The authentication of one connection to a proxy.
pub struct Handshake<'a> {
    client: Option<(Client<'a>, Moment)>,
    state: State,
}

enum State {
    /// Nothing was said yet.
    Fresh,
    /// NEGOTIATE went out; its bytes.
    Negotiated(Vec<u8>),
    /// AUTHENTICATE went out.
    Authenticated,
}

impl<'a> Handshake<'a> {
    /// For a new connection. The moment goes into the answer to a challenge: a handshake gives one.
    /// `None` when there is no account.
    pub fn new(client: Option<(Client<'a>, Moment)>) -> Self {
        Self { client, state: State::Fresh }
    }

    /// Begins without being asked: for a hop that is known to challenge. The field value to send.
    pub fn open(&mut self) -> Option<String> {
        let negotiate = self.client.as_ref()?.0.negotiate();
        let value = token("NTLM", &negotiate);
        self.state = State::Negotiated(negotiate);
        Some(value)
    }

    /// Whether the connection may serve other requests of the same account.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, State::Authenticated)
    }

    /// Takes note of a response.
    pub fn on_response(&mut self, head: &ResponseHead) -> Verdict {
        if head.status != 407 {
            return Verdict::Relay;
        }
        let challenges = Challenge::list(&head.fields, "proxy-authenticate");
        let offered = challenges.iter().find(|challenge| challenge.is("NTLM"));
        let (client, moment) = match (&self.state, self.client) {
            (State::Authenticated, _) => {
                return Verdict::Refused(Refusal::Credentials);
            }
            (_, None) => return Verdict::Refused(Refusal::NoAccount),
            (_, Some(client)) => client,
        };
        let Some(offered) = offered else {
            let names = challenges.into_iter().map(|challenge| challenge.scheme).collect();
            return Verdict::Refused(Refusal::Schemes(names));
        };
        let State::Negotiated(negotiate) = &self.state else {
            return match self.open() {
                Some(value) => Verdict::Answer { value, last: false },
                None => Verdict::Refused(Refusal::NoAccount),
            };
        };
        let Some(challenge) = &offered.token68 else {
            return Verdict::Refused(Refusal::NoChallenge);
        };
        let Ok(challenge) = BASE64.decode(challenge) else {
            return Verdict::Refused(Refusal::NotBase64);
        };
        match client.authenticate(negotiate, &challenge, moment) {
            Ok(message) => {
                self.state = State::Authenticated;
                Verdict::Answer { value: token("NTLM", &message), last: true }
            }
            Err(error) => Verdict::Refused(Refusal::Ntlm(error)),
        }
    }
}

fn token(scheme: &str, message: &[u8]) -> String {
    format!("{scheme} {}", BASE64.encode(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntlm::{Dialect, Keys};

    const CHALLENGE: &str = "NTLM TlRMTVNTUAACAAAAAAAAAAAAAAACAgAAASNFZ4mrze8=";

    fn response(status: u16, lines: &[&str]) -> ResponseHead {
        let lines: String =
            lines.iter().map(|line| format!("Proxy-Authenticate: {line}\r\n")).collect();
        ResponseHead::parse(format!("HTTP/1.1 {status} X\r\n{lines}\r\n").as_bytes()).unwrap()
    }

    const MOMENT: Moment = Moment { file_time: 0, client_challenge: [0xaa; 8] };

    fn client(keys: &Keys) -> Option<(Client<'_>, Moment)> {
        let dialect = Dialect::Ntlmv2;
        Some((Client { dialect, domain: "D", user: "u", workstation: "W", keys }, MOMENT))
    }

    fn keys() -> Keys {
        Keys { ntlmv2: Some([1; 16]), ..Keys::default() }
    }

    #[test]
    fn a_handshake_from_the_first_407_to_the_answer() {
        let keys = keys();
        let mut handshake = Handshake::new(client(&keys));
        let bare = response(407, &["Negotiate", "Basic realm=\"a, b\", ntlm"]);
        let Verdict::Answer { value, last: false } = handshake.on_response(&bare) else {
            panic!("no NEGOTIATE");
        };
        assert!(value.starts_with("NTLM TlRMTVNTUAAB"));
        assert!(!handshake.is_settled());
        let challenged = response(407, &["Negotiate", CHALLENGE]);
        let Verdict::Answer { value, last: true } = handshake.on_response(&challenged) else {
            panic!("no AUTHENTICATE");
        };
        assert!(value.starts_with("NTLM TlRMTVNTUAAD"));
        assert!(handshake.is_settled());
        assert_eq!(handshake.on_response(&response(200, &[])), Verdict::Relay);
        let refused = Verdict::Refused(Refusal::Credentials);
        assert_eq!(handshake.on_response(&bare), refused);
    }

    #[test]
    fn what_cannot_be_answered_says_why() {
        let keys = keys();
        let refused = |lines: &[&str], opened: bool| {
            let mut handshake = Handshake::new(client(&keys));
            if opened {
                handshake.open().unwrap();
            }
            match handshake.on_response(&response(407, lines)) {
                Verdict::Refused(refusal) => refusal,
                other => panic!("{other:?}"),
            }
        };
        let names = vec!["Negotiate".to_owned(), "Basic".to_owned()];
        assert_eq!(refused(&["Negotiate, Basic realm=x"], false), Refusal::Schemes(names));
        assert_eq!(refused(&[], false), Refusal::Schemes(vec![]));
        assert_eq!(refused(&["NTLM"], true), Refusal::NoChallenge);
        assert_eq!(refused(&["NTLM !!!"], true), Refusal::NotBase64);
        assert!(matches!(refused(&["NTLM TlRM"], true), Refusal::Ntlm(_)));
        let mut nobody = Handshake::new(None);
        assert_eq!(
            nobody.on_response(&response(407, &["NTLM"])),
            Verdict::Refused(Refusal::NoAccount)
        );
    }
}
