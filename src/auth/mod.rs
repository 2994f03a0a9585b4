//! RFC 9110 section 11: what to answer to a 401 or 407. Knows `ntlm` and `http`; knows no socket,
//! and decides nothing about connections or repetitions.

pub mod basic;
pub mod credentials;
pub mod describe;
pub mod digest;
pub mod handshake;
pub mod spnego;
pub mod standing;

use std::fmt;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

pub use handshake::{Handshake, Login};
pub use standing::Standing;

use crate::http::names::{self, FieldName};
use crate::ntlm;

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

    /// The scheme of credentials, where it is one of these.
    pub fn of(field_value: &str) -> Option<Self> {
        let name = field_value.split(' ').next()?;
        let known = Self::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map(|(_, scheme)| *scheme)
    }
}

/// Who demands a login (RFC 9110 sections 11.6 and 11.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A proxy, by 407.
    Proxy,
    /// An origin server, by 401.
    Origin,
}

impl Side {
    /// The status code of the demand.
    pub fn status(self) -> u16 {
        match self {
            Self::Proxy => 407,
            Self::Origin => 401,
        }
    }

    /// The field that carries challenges.
    pub fn challenge_field(self) -> FieldName<'static> {
        match self {
            Self::Proxy => names::PROXY_AUTHENTICATE,
            Self::Origin => names::WWW_AUTHENTICATE,
        }
    }

    /// The field that carries credentials.
    pub fn credentials_field(self) -> FieldName<'static> {
        match self {
            Self::Proxy => names::PROXY_AUTHORIZATION,
            Self::Origin => names::AUTHORIZATION,
        }
    }

    /// The field that carries what is to be known for the next request.
    pub fn info_field(self) -> FieldName<'static> {
        match self {
            Self::Proxy => names::PROXY_AUTHENTICATION_INFO,
            Self::Origin => names::AUTHENTICATION_INFO,
        }
    }
}

/// How NTLM messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// In the scheme NTLM.
    Ntlm,
    /// In the scheme Negotiate, wrapped or bare.
    Negotiate(spnego::Wrapping),
}

impl Carrier {
    /// The name of the scheme.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Ntlm => "NTLM",
            Self::Negotiate(_) => "Negotiate",
        }
    }
}

/// What to do about a response.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not, or no longer, about authentication.
    Relay,
    /// Send the request again with this field value.
    Answer(Reply),
    /// There is nothing to answer.
    Refused(Refusal),
}

/// The answer to a challenge.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// The value of the credentials field.
    pub value: String,
    /// It is the last word: what comes back is final, so the body goes along. Otherwise it can only
    /// be a challenge.
    pub last: bool,
    /// The connection is spoiled for logging in: this belongs on a new one.
    pub fresh: bool,
}

/// Why a 401 or 407 stays one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The credentials were not accepted.
    Credentials,
    /// None of the offered schemes may be answered; their names.
    Schemes(Vec<String>),
    /// There are no credentials to answer with.
    NoAccount,
    /// Of the password only hashes are known.
    NoPassword,
    /// NEGOTIATE was not answered with a challenge.
    NoChallenge,
    /// The challenge is not base64.
    NotBase64,
    /// The challenge's Negotiate token is none.
    Spnego(spnego::SpnegoError),
    /// The challenge cannot be answered.
    Ntlm(ntlm::Error),
    /// The Digest challenge is none.
    Digest(digest::DigestError),
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
            Self::NoPassword => f.write_str(
                "it wants Digest or Basic, which need the password itself; hashes are not enough",
            ),
            Self::NoChallenge => f.write_str("it did not answer NTLM's NEGOTIATE with a challenge"),
            Self::NotBase64 => f.write_str("its NTLM challenge is not base64"),
            Self::Spnego(error) => error.fmt(f),
            Self::Ntlm(error) => error.fmt(f),
            Self::Digest(error) => error.fmt(f),
        }
    }
}
