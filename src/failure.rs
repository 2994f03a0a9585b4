//! Why a request got no final response, and what its client is told instead. The only place that
//! turns trouble into words for a client.

use std::fmt;
use std::time::Duration;

use crate::auth::{Refusal, Side};
use crate::dial::DialError;
use crate::hop::HopName;
use crate::http::framing::FramingError;
use crate::http::reply::Reply;
use crate::reputation::Resting;

/// The realm of every Basic challenge of ours: one, so that a browser asks once.
const BASIC_CHALLENGE: &str = "Basic realm=\"ntlmaps\", charset=\"UTF-8\"";

/// Where to look when an account is refused.
const CONFIGURED_ACCOUNT: &str = "USER, PASSWORD and NT_DOMAIN in ntlmaps.cfg";
const OWN_ACCOUNT: &str = "the proxy user name and password that your program sends";

/// What is said of a request that leads here again.
pub const LOOP: &str = "This request leads back to ntlmaps itself: the URL or PARENT_PROXY names it, \
                        or two proxies name each other as their parent.";

/// Why there is no final response.
#[derive(Debug)]
pub enum Failure {
    /// The client went away: there is nobody to tell.
    ClientGone,
    /// The client's body breaks off the grammar.
    BadBody(FramingError),
    /// None of these could be connected to.
    Unreachable {
        /// Whether they are parents.
        is_parent: bool,
        /// One for each that was tried.
        errors: Vec<DialError>,
    },
    /// The connection ended before a response began; the system's reason, or none.
    Closed(HopName, String),
    /// Nothing came for so long.
    Silent(HopName, Duration),
    /// What came is no response that can be passed on.
    BadResponse(HopName, String),
    /// The parent demands a login that did not succeed; the credentials rest for so long now.
    Refused(HopName, Refusal, Duration),
    /// A login is demanded, and the credentials rest since this one, perhaps another, refused them.
    Resting(HopName, Resting),
    /// The body was used up before the parent demanded a login.
    NotRepeatable(HopName),
    /// The next hop is this program itself.
    Loop,
    /// The system denied something that it always grants.
    System(String),
}

impl Failure {
    /// `hop` sent what cannot be passed on.
    pub fn bad_response(hop: &HopName, what: &dyn fmt::Display) -> Self {
        Self::BadResponse(hop.clone(), what.to_string())
    }

    /// Tells the log, once a second for each kind of trouble. `what`: what failed.
    pub fn log(&self, what: &dyn fmt::Display) {
        let kind = match self {
            // That a parent is away and an account resting was told when it came.
            Self::ClientGone
            | Self::BadBody(_)
            | Self::Resting(..)
            | Self::Unreachable { is_parent: true, .. } => {
                return log::debug!("{what}: {self}");
            }
            Self::Unreachable { .. } => "ntlmaps::often::unreachable",
            Self::Closed(..) => "ntlmaps::often::closed",
            Self::Silent(..) => "ntlmaps::often::silent",
            Self::BadResponse(..) => "ntlmaps::often::bad_response",
            Self::Refused(..) => "ntlmaps::often::refused",
            Self::NotRepeatable(_) => "ntlmaps::often::not_repeatable",
            Self::Loop => "ntlmaps::often::loop",
            Self::System(_) => "ntlmaps::often::system",
        };
        log::warn!(target: kind, "{what}: {self}");
    }

    /// What the client is told; `None` when there is nobody to tell. `own_account`: the client
    /// brought the credentials itself, by Basic, and may be asked for better ones.
    pub fn reply(&self, own_account: bool) -> Option<Reply> {
        let status = match self {
            Self::ClientGone => return None,
            Self::BadBody(_) => 400,
            Self::Unreachable { errors, .. } if errors.iter().any(DialError::is_forbidden) => 403,
            Self::Unreachable { errors, .. } if errors.iter().any(DialError::timed_out) => 504,
            Self::Unreachable { .. } | Self::Closed(..) | Self::BadResponse(..) => 502,
            Self::Silent(..) => 504,
            Self::Refused(_, refusal, _) => match refusal {
                Refusal::NoChallenge
                | Refusal::NotBase64
                | Refusal::Spnego(_)
                | Refusal::Digest(_)
                | Refusal::Ntlm(_) => 502,
                _ => 407,
            },
            Self::Resting(_, resting) if resting.hung_up => 502,
            Self::Resting(hop, _) if hop.is_parent || own_account => hop.side().status(),
            Self::Resting(..) => 403,
            Self::NotRepeatable(_) | Self::System(_) => 503,
            Self::Loop => 508,
        };
        let account = if own_account { OWN_ACCOUNT } else { CONFIGURED_ACCOUNT };
        let reply = Reply::new(status, Words { failure: self, account }.to_string());
        match self {
            Self::Refused(hop, Refusal::Credentials, _) | Self::Resting(hop, _)
                if own_account && status != 502 =>
            {
                Some(challenging(reply, hop.side()))
            }
            _ => Some(reply),
        }
    }
}

/// Asks a client for its account: for the parent proxy, or for the origin itself.
pub fn ask_for_account(side: Side) -> Reply {
    let text = match side {
        Side::Proxy => {
            "This proxy needs your account for the parent proxy. Give it as the proxy user name \
             (user, DOMAIN\\user or user@domain) and proxy password; or put USER and PASSWORD into \
             ntlmaps.cfg."
        }
        Side::Origin => {
            "This server needs your account. Give it as user, DOMAIN\\user or user@domain, and \
             password."
        }
    };
    challenging(Reply::new(side.status(), text), side)
}

fn challenging(reply: Reply, side: Side) -> Reply {
    reply.field(side.challenge_field().as_str(), BASIC_CHALLENGE)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Words { failure: self, account: CONFIGURED_ACCOUNT }.fmt(f)
    }
}

/// A failure in words; `account` is where the account comes from.
struct Words<'a> {
    failure: &'a Failure,
    account: &'a str,
}

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failure {
            Failure::ClientGone => f.write_str("the client went away"),
            Failure::BadBody(error) => write!(f, "The request cannot be read: {error}."),
            Failure::Unreachable { is_parent, errors } => {
                let role = if *is_parent { "Parent proxy" } else { "Server" };
                for error in errors {
                    writeln!(f, "{role}: {error}.")?;
                }
                f.write_str(if *is_parent {
                    "Check PARENT_PROXY and PARENT_PROXY_PORT in ntlmaps.cfg, and the network."
                } else if errors.iter().any(DialError::is_forbidden) {
                    "Loopback and link-local addresses are for programs of this machine only."
                } else {
                    "Check the name in the URL. (PARENT_PROXY is blank, bypassed for this host, or out of \
                     reach.)"
                })
            }
            Failure::Closed(hop, reason) => {
                write!(f, "The {hop} closed the connection without an answer{reason}.")
            }
            Failure::Silent(hop, waited) => {
                write!(
                    f,
                    "The {hop} accepted the connection and gave no answer for {} s.",
                    waited.as_secs()
                )
            }
            Failure::BadResponse(hop, what) => {
                write!(f, "The {hop} sent a response that cannot be passed on: {what}.")
            }
            Failure::Refused(hop, refusal, rest) => {
                write!(f, "The {hop} refused: {refusal}.")?;
                match refusal {
                    Refusal::Credentials => write!(
                        f,
                        " Check {}. If they are right, NTLM_DIALECT or NT_HOSTNAME may be what the \
                         domain does not accept.",
                        self.account
                    )?,
                    Refusal::Schemes(_) => {
                        f.write_str(" See AUTH in ntlmaps.cfg for what may be answered.")?;
                    }
                    Refusal::NoAccount | Refusal::NoPassword => {
                        f.write_str(" Set USER and PASSWORD in ntlmaps.cfg.")?;
                    }
                    Refusal::NoChallenge
                    | Refusal::NotBase64
                    | Refusal::Spnego(_)
                    | Refusal::Digest(_)
                    | Refusal::Ntlm(_) => {}
                }
                match *rest {
                    Duration::ZERO => Ok(()),
                    rest => write!(
                        f,
                        " To keep the account from being locked, the same credentials are not sent \
                         again for {}.",
                        Span(rest)
                    ),
                }
            }
            Failure::Resting(hop, Resting { refused, left, hung_up, .. }) => write!(
                f,
                "The {hop} {} these credentials {} ago. To keep the account from being locked \
                 they are not sent again for {}, or until the configuration is reloaded (kill -HUP). \
                 Check {}.",
                if *hung_up { "hung up on" } else { "refused" },
                Span(*refused),
                Span(*left),
                self.account
            ),
            Failure::NotRepeatable(hop) => write!(
                f,
                "The {hop} demanded a login after part of the request's body was used up. Send the \
                 request again: now the login comes first."
            ),
            Failure::Loop => f.write_str(LOOP),
            Failure::System(what) => write!(f, "This machine refused: {what}."),
        }
    }
}

/// A time in words, rounded up: nobody who waits as told comes too early.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs().saturating_add(u64::from(self.0.subsec_nanos() > 0));
        match seconds {
            0..=120 => write!(f, "{seconds} s"),
            _ => write!(f, "{} min", seconds.div_ceil(60)),
        }
    }
}
