//! What an AUTHENTICATE message proves the secret with: one function, one `match` on the dialect.

use super::crypto::{Key, desl, hmac_md5, md5};
use super::message::{ChallengeMessage, NegotiateFlags, Responses};
use super::{Dialect, Keys, Moment};

/// The hash a dialect needs is not there (hashes in the configuration instead of a password).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingKey;

/// The flags a NEGOTIATE asks for in this dialect. No SIGN, SEAL or KEY_EXCH: HTTP has no use for
/// session keys.
pub fn negotiate_flags(dialect: Dialect) -> NegotiateFlags {
    let base = NegotiateFlags::UNICODE
        | NegotiateFlags::OEM
        | NegotiateFlags::REQUEST_TARGET
        | NegotiateFlags::NTLM
        | NegotiateFlags::ALWAYS_SIGN
        | NegotiateFlags::VERSION
        | NegotiateFlags::NEGOTIATE_128
        | NegotiateFlags::NEGOTIATE_56;
    match dialect {
        Dialect::Ntlmv2 | Dialect::Ntlm2Session => base | NegotiateFlags::EXTENDED_SESSIONSECURITY,
        Dialect::NtlmAndLm | Dialect::Nt | Dialect::Lm => base,
    }
}

/// Answers a challenge.
///
/// # Errors
/// [`MissingKey`] when the hash this dialect works with is unknown.
pub fn respond(
    dialect: Dialect,
    keys: &Keys,
    challenge: &ChallengeMessage<'_>,
    moment: Moment,
) -> Result<Responses, MissingKey> {
    let server = challenge.server_challenge;
    let client = moment.client_challenge;
    let lm = || keys.lm.as_ref().ok_or(MissingKey);
    let nt = || keys.nt.as_ref().ok_or(MissingKey);
    Ok(match dialect {
        Dialect::Ntlmv2 => {
            let key = keys.ntlmv2.as_ref().ok_or(MissingKey)?;
            ntlmv2(key, challenge, moment)
        }
        // MS-NLMP 3.3.1 with extended session security: the client challenge travels in the LM
        // field. A server that does not negotiate it would take that for a wrong password.
        Dialect::Ntlm2Session
            if !challenge.flags.contains(NegotiateFlags::EXTENDED_SESSIONSECURITY) =>
        {
            let nt = desl(nt()?, server).to_vec();
            Responses { lm: nt.clone(), nt, mic_key: None }
        }
        Dialect::Ntlm2Session => {
            let [a, b, c, d, e, f, g, h, ..] = md5(&[&server, &client]);
            Responses {
                lm: [client.as_slice(), &[0; 16]].concat(),
                nt: desl(nt()?, [a, b, c, d, e, f, g, h]).to_vec(),
                mic_key: None,
            }
        }
        Dialect::NtlmAndLm => Responses {
            lm: desl(lm()?, server).to_vec(),
            nt: desl(nt()?, server).to_vec(),
            mic_key: None,
        },
        Dialect::Nt => Responses { nt: desl(nt()?, server).to_vec(), ..Responses::default() },
        Dialect::Lm => Responses { lm: desl(lm()?, server).to_vec(), ..Responses::default() },
    })
}

/// MS-NLMP 3.3.2. A server that sends its clock gets it back, a MIC, and nothing in the LM field;
/// one that does not gets our clock and an LMv2 response.
fn ntlmv2(ntowfv2: &Key, challenge: &ChallengeMessage<'_>, moment: Moment) -> Responses {
    let server_time = challenge.target_info.timestamp();
    let pairs = challenge.target_info.answer(server_time.is_some());

    // NTLMv2_CLIENT_CHALLENGE (MS-NLMP 2.2.2.7), "temp" in 3.3.2.
    let mut temp = vec![1, 1, 0, 0, 0, 0, 0, 0];
    temp.extend_from_slice(&server_time.unwrap_or(moment.file_time).to_le_bytes());
    temp.extend_from_slice(&moment.client_challenge);
    temp.extend_from_slice(&[0; 4]);
    temp.extend_from_slice(&pairs);
    if !pairs.is_empty() {
        temp.extend_from_slice(&[0; 4]);
    }

    let server = challenge.server_challenge.as_slice();
    let proof = hmac_md5(ntowfv2, &[server, &temp]);
    let lm = match server_time {
        Some(_) => vec![0; 24],
        None => {
            let client = moment.client_challenge.as_slice();
            [hmac_md5(ntowfv2, &[server, client]).as_slice(), client].concat()
        }
    };
    Responses {
        lm,
        nt: [proof.as_slice(), &temp].concat(),
        // Without KEY_EXCH the exported session key is the session base key.
        mic_key: server_time.map(|_| hmac_md5(ntowfv2, &[&proof])),
    }
}
