//! MS-NLMP, the client's side. Knows no HTTP, no base64, no clock and no random source.
//!
//! NTLM authenticates a *connection*, in three messages (elsewhere called type 1, 2 and 3):
//!
//! ```text
//! client                                   server
//!   │ NEGOTIATE     what we can do            │
//!   │ ──────────────────────────────────────► │
//!   │ CHALLENGE     8 random bytes, names,    │
//!   │               usually its clock         │
//!   │ ◄────────────────────────────────────── │
//!   │ AUTHENTICATE  who we are, and a response│
//!   │               only the secret can make  │
//!   │ ──────────────────────────────────────► │
//! ```
//!
//! [`message`] encodes and decodes the three, [`response`] computes what AUTHENTICATE carries,
//! [`crypto`] holds the one-way functions, [`target_info`] the list of pairs a CHALLENGE brings.
//! Time and randomness are arguments ([`Moment`]), so published conversations pin every byte.

pub mod crypto;
pub mod describe;
pub mod message;
pub mod response;
pub mod target_info;

use std::fmt;

use zeroize::Zeroize;

use crypto::Key;
use message::{
    AuthenticateMessage, ChallengeMessage, DecodeError, NegotiateFlags, NegotiateMessage,
};

/// What of a handshake is not on the wire: the clock and the dice.
#[derive(Clone, Copy)]
pub struct Moment {
    /// FILETIME: 100-nanosecond units since 1601-01-01 UTC (MS-DTYP 2.3.3).
    pub file_time: u64,
    /// The client challenge (MS-NLMP 2.2.2.7, ChallengeFromClient).
    pub client_challenge: [u8; 8],
}

/// Which responses an AUTHENTICATE message carries, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// NTLMv2 (MS-NLMP 3.3.2).
    Ntlmv2,
    /// NTLMv1 with extended session security (MS-NLMP 3.3.1), "NTLM2 session response".
    Ntlm2Session,
    /// NTLMv1 in both fields: LM and NT response.
    NtlmAndLm,
    /// The NT response of NTLMv1 alone.
    Nt,
    /// The LM response alone.
    Lm,
}

impl Dialect {
    /// Every dialect with its name in the configuration, strongest first.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("NTLMv2", Self::Ntlmv2),
        ("NTLM2SR", Self::Ntlm2Session),
        ("NTLM", Self::NtlmAndLm),
        ("NT", Self::Nt),
        ("LM", Self::Lm),
    ];
}

/// What is known of the secret: hashes, each as good as the password to those who hold it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// LMOWFv1.
    pub lm: Option<Key>,
    /// NTOWFv1.
    pub nt: Option<Key>,
    /// NTOWFv2, bound to the user and domain it was computed for.
    pub ntlmv2: Option<Key>,
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.lm.zeroize();
        self.nt.zeroize();
        self.ntlmv2.zeroize();
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Who answers challenges, and how.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Which responses are sent.
    pub dialect: Dialect,
    /// DomainName, as it was when the NTOWFv2 was computed.
    pub domain: &'a str,
    /// UserName.
    pub user: &'a str,
    /// Workstation.
    pub workstation: &'a str,
    /// The secrets.
    pub keys: &'a Keys,
}

/// Why a challenge cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is no CHALLENGE message.
    Challenge(DecodeError),
    /// The dialect works with a hash that is not known.
    MissingKey(Dialect),
    /// A name, or the server's target info, is longer than a message can carry.
    TooLong,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Challenge(error) => write!(f, "the NTLM challenge cannot be read: {error}"),
            Self::MissingKey(dialect) => {
                let name = Dialect::NAMES.iter().find(|(_, d)| d == dialect).map_or("", |(n, _)| n);
                write!(f, "{name} needs a hash of the password that is not configured")
            }
            Self::TooLong => f.write_str("a name or the challenge's target info is too long"),
        }
    }
}

impl Client<'_> {
    /// The NEGOTIATE message. Keep its bytes for [`Client::authenticate`].
    pub fn negotiate(&self) -> Vec<u8> {
        NegotiateMessage { flags: response::negotiate_flags(self.dialect) }.encode()
    }

    /// The AUTHENTICATE message that answers `challenge`; `negotiate` is what was sent before.
    ///
    /// # Errors
    /// [`Error`], when there is no honest answer.
    pub fn authenticate(
        &self,
        negotiate: &[u8],
        challenge: &[u8],
        moment: Moment,
    ) -> Result<Vec<u8>, Error> {
        let decoded = ChallengeMessage::decode(challenge).map_err(Error::Challenge)?;
        let responses = response::respond(self.dialect, self.keys, &decoded, moment)
            .map_err(|_| Error::MissingKey(self.dialect))?;
        // TARGET_INFO is the server's to set; Windows repeats it.
        let ours = response::negotiate_flags(self.dialect) | NegotiateFlags::TARGET_INFO;
        let mut flags = ours & decoded.flags;
        if flags.contains(NegotiateFlags::UNICODE) {
            flags = flags.without(NegotiateFlags::OEM);
        }
        let mut message = AuthenticateMessage {
            flags,
            domain: self.domain,
            user: self.user,
            workstation: self.workstation,
            responses: &responses,
        }
        .encode()
        .map_err(|_| Error::TooLong)?;
        if let Some(key) = &responses.mic_key {
            AuthenticateMessage::sign(&mut message, negotiate, challenge, key);
        }
        Ok(message)
    }
}
