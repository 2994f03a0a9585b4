//! Why a request got no final response, and what its client is told instead. The only place that
//! turns trouble into words for a client.

use std::fmt;
use std::time::Duration;

use crate::auth::Refusal;
use crate::http::framing::FramingError;
use crate::http::reply::Reply;
use crate::http::target::Authority;
use crate::parents::DialError;

/// The realm of every Basic challenge of ours: one, so that a browser asks once.
const BASIC_CHALLENGE: &str = "Basic realm=\"ntlmaps\", charset=\"UTF-8\"";

/// The next hop, as it is spoken of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopName {
    /// Where it is.
    pub authority: Authority,
    /// Whether it is a parent, else an origin.
    pub is_parent: bool,
}

impl fmt::Display for HopName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.is_parent { "parent proxy" } else { "server" };
        write!(f, "{role} {}", self.authority)
    }
}

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
    /// The parent demands a login that did not succeed.
    Refused(HopName, Refusal),
    /// The body was used up before the parent demanded a login.
    NotRepeatable(HopName),
    /// The system denied something that it always grants.
    System(String),
}

impl Failure {
    /// What the client is told; `None` when there is nobody to tell. `own_account`: the client
    /// brought the credentials itself, by Basic, and may be asked for better ones.
    pub fn reply(&self, own_account: bool) -> Option<Reply> {
        let status = match self {
            Self::ClientGone => return None,
            Self::BadBody(_) => 400,
            Self::Unreachable { errors, .. } if errors.iter().any(DialError::timed_out) => 504,
            Self::Unreachable { .. } | Self::Closed(..) | Self::BadResponse(..) => 502,
            Self::Silent(..) => 504,
            Self::Refused(_, refusal) => match refusal {
                Refusal::NoChallenge | Refusal::NotBase64 | Refusal::Ntlm(_) => 502,
                _ => 407,
            },
            Self::NotRepeatable(_) | Self::System(_) => 503,
        };
        let reply = Reply::new(status, self.to_string());
        match self {
            Self::Refused(_, Refusal::Credentials) if own_account => Some(challenging(reply)),
            _ => Some(reply),
        }
    }
}

/// Asks a client for its account.
pub fn ask_for_account() -> Reply {
    challenging(Reply::new(
        407,
        "This proxy needs your account for the parent proxy. Give it as the proxy user name (user, \
         DOMAIN\\user or user@domain) and proxy password; or put USER and PASSWORD into \
         ntlmaps.cfg.",
    ))
}

fn challenging(reply: Reply) -> Reply {
    reply.field("Proxy-Authenticate", BASIC_CHALLENGE)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientGone => f.write_str("the client went away"),
            Self::BadBody(error) => write!(f, "The request cannot be read: {error}."),
            Self::Unreachable { is_parent, errors } => {
                let role = if *is_parent { "Parent proxy" } else { "Server" };
                for error in errors {
                    writeln!(f, "{role}: {error}.")?;
                }
                f.write_str(if *is_parent {
                    "Check PARENT_PROXY and PARENT_PROXY_PORT in ntlmaps.cfg, and the network."
                } else {
                    "Check the name in the URL. (PARENT_PROXY is blank or bypassed for this host.)"
                })
            }
            Self::Closed(hop, reason) => {
                write!(f, "The {hop} closed the connection without an answer{reason}.")
            }
            Self::Silent(hop, waited) => {
                write!(
                    f,
                    "The {hop} accepted the connection and gave no answer for {} s.",
                    waited.as_secs()
                )
            }
            Self::BadResponse(hop, what) => {
                write!(f, "The {hop} sent a response that cannot be passed on: {what}.")
            }
            Self::Refused(hop, refusal) => {
                write!(f, "The {hop} refused: {refusal}.{}", advice(refusal))
            }
            Self::NotRepeatable(hop) => write!(
                f,
                "The {hop} demanded a login after part of the request's body was used up. Send the \
                 request again: now the login comes first."
            ),
            Self::System(what) => write!(f, "This machine refused: {what}."),
        }
    }
}

/// Which lines to look at.
fn advice(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Credentials => {
            " Check USER, PASSWORD and NT_DOMAIN in ntlmaps.cfg; a wrong password sent repeatedly \
             locks the account. If they are right, NTLM_DIALECT or NT_HOSTNAME may be what the \
             domain does not accept."
        }
        Refusal::Schemes(_) => " ntlmaps answers NTLM; see AUTH in ntlmaps.cfg.",
        Refusal::NoAccount => " Set USER and PASSWORD in ntlmaps.cfg.",
        Refusal::NoChallenge | Refusal::NotBase64 | Refusal::Ntlm(_) => "",
    }
}
