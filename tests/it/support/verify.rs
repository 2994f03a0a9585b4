//! Judges an AUTHENTICATE message: what must hold between it, the challenge it answers and the
//! account's password.

use std::fmt;

use super::acceptor::{Acceptor, Account, Challenge};
use super::crypto::{desl, hmac_md5, lmowf_v1, ntlm2_session, ntowf_v1, ntowf_v2, rc4, upper};
use super::message::{self as m, Authenticate, av_pairs};

/// Which responses a client answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Ntlmv2,
    /// NTLMv1 under extended session security (NTLM2SR).
    Ntlm2Session,
    /// NTLMv1, both responses.
    Ntlm,
    NtOnly,
    LmOnly,
}

/// Who has logged on, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logon {
    pub domain: String,
    pub user: String,
    pub workstation: String,
    pub dialect: Dialect,
    /// A MIC was there and is right.
    pub mic: bool,
    pub flags: u32,
}

/// Why a message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    Malformed(String),
    UnknownUser {
        domain: String,
        user: String,
    },
    WrongPassword {
        user: String,
    },
    /// The responses are right but something the challenge asked for was not done.
    NotAsAsked(String),
    NoMic,
    BadMic,
    NotAllowed(Dialect),
    /// AUTHENTICATE on a connection that was given no challenge.
    NoChallenge,
    /// NEGOTIATE or AUTHENTICATE on a connection whose AUTHENTICATE was refused.
    Burnt,
    /// The connection would be closed after the answer, so no handshake can begin.
    Closing,
    /// The parent refuses everybody.
    Refused,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ntlmv2 => "NTLMv2",
            Self::Ntlm2Session => "NTLM2 session",
            Self::Ntlm => "NTLMv1",
            Self::NtOnly => "NTLMv1 without LM",
            Self::LmOnly => "LM",
        })
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "malformed {what}"),
            Self::UnknownUser { domain, user } => write!(f, "no account {domain}\\{user}"),
            Self::WrongPassword { user } => write!(f, "wrong password for {user}"),
            Self::NotAsAsked(what) => write!(f, "{what}"),
            Self::NoMic => write!(f, "no MIC although the challenge carried a timestamp"),
            Self::BadMic => write!(f, "the MIC does not match the three messages"),
            Self::NotAllowed(dialect) => write!(f, "{dialect} is not allowed here"),
            Self::NoChallenge => write!(f, "AUTHENTICATE without a challenge on this connection"),
            Self::Burnt => write!(f, "this connection was already refused"),
            Self::Closing => write!(f, "the request asks for the connection to be closed"),
            Self::Refused => write!(f, "nobody is let in"),
        }
    }
}

impl Acceptor {
    /// Holds an AUTHENTICATE message against the challenge given and the accounts known.
    pub fn verify(&self, challenge: &Challenge, message: &[u8]) -> Result<Logon, Why> {
        let sent = Authenticate::read(message, challenge.flags, self.lenient)?;
        let account = self.account(&sent)?;
        let (dialect, mic) = if sent.nt.len() > 24 {
            (Dialect::Ntlmv2, self.verify_v2(challenge, &sent, account, message)?)
        } else {
            (verify_v1(challenge, &sent, account)?, false)
        };
        if self.only.is_some_and(|only| only != dialect) {
            return Err(Why::NotAllowed(dialect));
        }
        let Authenticate { domain, user, workstation, flags, .. } = sent;
        Ok(Logon { domain, user, workstation, dialect, mic, flags })
    }

    /// By user and domain in any case; a domain controller also takes an empty domain, and
    /// `user@realm` with one.
    fn account(&self, sent: &Authenticate) -> Result<&Account, Why> {
        let same = |a: &str, b: &str| upper(a) == upper(b);
        let short = sent.user.split_once('@').map_or(sent.user.as_str(), |(user, _)| user);
        let is = |account: &&Account| {
            same(&account.user, &sent.user)
                && (same(&account.domain, &sent.domain) || sent.domain.is_empty())
                || same(&account.user, short) && sent.domain.is_empty()
        };
        let unknown = || Why::UnknownUser { domain: sent.domain.clone(), user: sent.user.clone() };
        self.accounts.iter().find(is).ok_or_else(unknown)
    }

    /// Says whether there was a (right) MIC.
    fn verify_v2(
        &self,
        challenge: &Challenge,
        sent: &Authenticate,
        account: &Account,
        message: &[u8],
    ) -> Result<bool, Why> {
        let key = ntowf_v2(&account.password, &sent.user, &sent.domain);
        let (proof, blob) = sent.nt.split_at(16);
        if hmac_md5(&key, &[&challenge.server_challenge, blob]) != proof {
            return Err(Why::WrongPassword { user: sent.user.clone() });
        }
        let flagged = self.check_blob(challenge, blob)?;
        self.check_lm_v2(challenge, sent, &key)?;
        match (flagged, sent.mic) {
            (true, Some(mic)) => {
                let base = hmac_md5(&key, &[proof]);
                let exchanged = sent.flags & m::KEY_EXCH != 0 && sent.session_key.len() == 16;
                let exported = if exchanged { rc4(&base, &sent.session_key) } else { base.into() };
                let (before, after) = (&message[..72], &message[88..]);
                let parts =
                    [&challenge.negotiate[..], &challenge.bytes[..], before, &[0; 16][..], after];
                if hmac_md5(&exported, &parts) == mic { Ok(true) } else { Err(Why::BadMic) }
            }
            (true, None) => Err(Why::Malformed(
                "AUTHENTICATE: MsvAvFlags promises a MIC, the header has none".into(),
            )),
            (false, _) if challenge.timestamp.is_some() && !self.lenient => Err(Why::NoMic),
            (false, _) => Ok(false),
        }
    }

    /// The blob's form, its time, and every pair of the challenge in it; says whether MsvAvFlags
    /// promises a MIC.
    fn check_blob(&self, challenge: &Challenge, blob: &[u8]) -> Result<bool, Why> {
        let bad = |what: &str| Err(Why::Malformed(format!("NTLMv2 blob: {what}")));
        let Some((head, rest)) = blob.split_at_checked(28) else {
            return bad("shorter than 28 bytes");
        };
        if head[..8] != [1, 1, 0, 0, 0, 0, 0, 0] || head[24..] != [0; 4] {
            return bad("version or reserved bytes");
        }
        if let Some(time) = challenge.timestamp.filter(|_| !self.lenient)
            && head[8..16] != time.to_le_bytes()
        {
            return Err(Why::NotAsAsked("the time in the blob is not the server's".into()));
        }
        if challenge.target_info.is_empty() {
            let zeros = rest.iter().all(|byte| *byte == 0) && rest.len() <= 8;
            return if zeros { Ok(false) } else { bad("target info out of nowhere") };
        }
        let Some((pairs, tail)) = av_pairs(rest) else { return bad("AV pairs do not end") };
        // Four by the book, eight from Windows itself.
        if !self.lenient && tail != [0; 4] && tail != [0; 8] {
            return bad("four zero bytes must follow the AV pairs");
        }
        let Some((asked, _)) = av_pairs(&challenge.target_info) else {
            return bad("the challenge's own pairs");
        };
        let mut from = 0;
        for pair in asked.iter().filter(|(id, _)| *id != m::AV_FLAGS) {
            let start = if self.lenient { 0 } else { from };
            match pairs[start..].iter().position(|found| found == pair) {
                Some(at) => from = start + at + 1,
                None => {
                    return Err(Why::NotAsAsked(format!(
                        "AV pair {:#06x} is lost, changed or moved",
                        pair.0
                    )));
                }
            }
        }
        let flags = |(id, value): &(u16, &[u8])| match (*id, *value) {
            (m::AV_FLAGS, &[low, _, _, _]) => Some(low & 2 != 0),
            _ => None,
        };
        Ok(pairs.iter().find_map(flags).unwrap_or(false))
    }

    fn check_lm_v2(
        &self,
        challenge: &Challenge,
        sent: &Authenticate,
        key: &[u8],
    ) -> Result<(), Why> {
        let zero = sent.lm == [0; 24];
        if challenge.timestamp.is_some() && !self.lenient {
            let what =
                "the LM response must be 24 zero bytes when the challenge carries a timestamp";
            return if zero { Ok(()) } else { Err(Why::NotAsAsked(what.into())) };
        }
        let absent = self.lenient && (zero || sent.lm.is_empty());
        let right = sent.lm.len() == 24
            && hmac_md5(key, &[&challenge.server_challenge, &sent.lm[16..]]) == sent.lm[..16];
        if right || absent {
            Ok(())
        } else {
            Err(Why::NotAsAsked("the LMv2 response is wrong".into()))
        }
    }
}

fn verify_v1(
    challenge: &Challenge,
    sent: &Authenticate,
    account: &Account,
) -> Result<Dialect, Why> {
    let wrong = || Why::WrongPassword { user: sent.user.clone() };
    let nt_hash = ntowf_v1(&account.password);
    let server = &challenge.server_challenge;
    if sent.flags & m::EXTENDED_SESSION_SECURITY != 0 {
        let form = sent.nt.len() == 24 && sent.lm.len() == 24 && sent.lm[8..] == [0; 16];
        let right = form && ntlm2_session(&nt_hash, server, &sent.lm[..8]) == sent.nt[..];
        return if right { Ok(Dialect::Ntlm2Session) } else { Err(wrong()) };
    }
    let lm = desl(&lmowf_v1(&account.password), server);
    let absent = |response: &[u8]| response.is_empty() || response == [0; 24];
    if absent(&sent.nt) {
        return if sent.lm == lm { Ok(Dialect::LmOnly) } else { Err(wrong()) };
    }
    if sent.nt != desl(&nt_hash, server) {
        return Err(wrong());
    }
    match &sent.lm {
        response if *response == lm => Ok(Dialect::Ntlm),
        response if absent(response) || *response == sent.nt => Ok(Dialect::NtOnly),
        _ => Err(wrong()),
    }
}
