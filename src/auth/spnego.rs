//! SPNEGO (RFC 4178), just enough of it to carry NTLM in the scheme `Negotiate` (RFC 4559): our
//! messages wrapped, the server's unwrapped. Servers answer bare messages bare and wrapped ones
//! wrapped; Samba and MIT's refuse a conversation that changes over.
//!
//! Must not know what an NTLM message says beyond its signature, nor HTTP or base64. Offers one
//! mechanism, so there is nothing to negotiate and no mechListMIC to make unless the server insists
//! (RFC 4178 section 5: optional when the first choice of the initiator was taken).

use std::fmt;

/// What every NTLM message begins with (MS-NLMP 2.2.1).
const SIGNATURE: &[u8] = b"NTLMSSP\0";

/// 1.3.6.1.5.5.2, SPNEGO (RFC 4178 section 3.2).
const SPNEGO: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x02];

/// 1.3.6.1.4.1.311.2.2.10, NTLMSSP (MS-SPNG 1.9).
const NTLMSSP: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0a];

/// Identifier octets (X.690 section 8.1.2) of what occurs here.
mod tag {
    pub(super) const OCTET_STRING: u8 = 0x04;
    pub(super) const OID: u8 = 0x06;
    pub(super) const ENUMERATED: u8 = 0x0a;
    pub(super) const SEQUENCE: u8 = 0x30;
    /// InitialContextToken (RFC 2743 section 3.1).
    pub(super) const APPLICATION_0: u8 = 0x60;
    /// `NegTokenInit` as a whole; in it `mechTypes`, in a `NegTokenResp` `negState`.
    pub(super) const CONTEXT_0: u8 = 0xa0;
    /// `NegTokenResp` as a whole; in it `supportedMech`.
    pub(super) const CONTEXT_1: u8 = 0xa1;
    /// `mechToken` of a `NegTokenInit`, `responseToken` of a `NegTokenResp`.
    pub(super) const CONTEXT_2: u8 = 0xa2;
    /// `mechListMIC`.
    pub(super) const CONTEXT_3: u8 = 0xa3;
}

/// `negState` of a server that wants no more of us, and of one that insists on a mechListMIC (RFC
/// 4178 section 4.2.2).
const REJECT: &[u8] = &[2];
const REQUEST_MIC: &[u8] = &[3];

/// The signature of any text in a session for which signing was not negotiated
/// (NTLMSSP_MESSAGE_SIGNATURE, MS-NLMP 2.2.2.9): a version and nothing more.
const DUMMY_SIGNATURE: &[u8] = &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// How an NTLM message lay in a token, and how the next one should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapping {
    /// The token is the message.
    Bare,
    /// The token is SPNEGO's (RFC 4178 section 4.2).
    Spnego,
}

/// Why there is no NTLM message in a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpnegoError {
    /// It is neither an NTLM message nor well-formed DER of a negotiation token.
    Malformed,
    /// The server rejected the negotiation (RFC 4178 section 4.2.2, `reject`).
    Rejected,
    /// The server chose a mechanism that was not offered.
    OtherMechanism,
    /// A negotiation token that carries no message, as the last one of a conversation may.
    NoMessage,
    /// It carries something else, such as Kerberos.
    NotNtlm,
}

impl fmt::Display for SpnegoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "its Negotiate token cannot be read",
            Self::Rejected => "it rejects NTLM in Negotiate",
            Self::OtherMechanism => "its Negotiate wants something other than NTLM",
            Self::NoMessage => "its Negotiate token carries no NTLM message",
            Self::NotNtlm => "its Negotiate token carries something other than NTLM",
        })
    }
}

/// The first token: a `NegTokenInit` (RFC 4178 section 4.2.1) in the frame of RFC 2743 section
/// 3.1, offering NTLMSSP and nothing else, with the NEGOTIATE message as its `mechToken`.
pub fn wrap_negotiate(ntlm: &[u8]) -> Vec<u8> {
    let mech_types = field(tag::CONTEXT_0, tag::SEQUENCE, &der(tag::OID, &[NTLMSSP]));
    let mech_token = field(tag::CONTEXT_2, tag::OCTET_STRING, ntlm);
    let init = der(tag::SEQUENCE, &[&mech_types, &mech_token]);
    der(tag::APPLICATION_0, &[&der(tag::OID, &[SPNEGO]), &der(tag::CONTEXT_0, &[&init])])
}

/// Every later token: a `NegTokenResp` (RFC 4178 section 4.2.2) with the AUTHENTICATE message as
/// its `responseToken` and no other field; `negState` is the server's to set.
pub fn wrap_authenticate(ntlm: &[u8]) -> Vec<u8> {
    response(ntlm, &[])
}

/// The AUTHENTICATE message wrapped as the token was that brought the CHALLENGE; with the
/// mechListMIC the server asked for there (RFC 4178 section 4.2.2, `request-mic`).
pub fn wrap_like(challenge_token: &[u8], ntlm: &[u8]) -> Vec<u8> {
    match read(challenge_token) {
        Ok((Wrapping::Spnego, _, true)) => {
            response(ntlm, &field(tag::CONTEXT_3, tag::OCTET_STRING, DUMMY_SIGNATURE))
        }
        Ok((Wrapping::Spnego, _, false)) => wrap_authenticate(ntlm),
        _ => ntlm.to_vec(),
    }
}

fn response(ntlm: &[u8], mic: &[u8]) -> Vec<u8> {
    let token = field(tag::CONTEXT_2, tag::OCTET_STRING, ntlm);
    field(tag::CONTEXT_1, tag::SEQUENCE, &[&token, mic].concat())
}

/// The NTLM message in a token: the token itself, the `responseToken` of a `NegTokenResp` or the
/// `mechToken` of a `NegTokenInit` (RFC 4178 section 4.2).
///
/// # Errors
/// [`SpnegoError`] for every other byte string.
pub fn unwrap(token: &[u8]) -> Result<(Wrapping, &[u8]), SpnegoError> {
    read(token).map(|(wrapping, message, _)| (wrapping, message))
}

/// What `unwrap` says, and whether the server asks for a mechListMIC.
fn read(token: &[u8]) -> Result<(Wrapping, &[u8], bool), SpnegoError> {
    if token.starts_with(SIGNATURE) {
        return Ok((Wrapping::Bare, token, false));
    }
    let (mut choice, mut body) = only(token)?;
    if choice == tag::APPLICATION_0 {
        (choice, body) = match element(body)? {
            (tag::OID, SPNEGO, inner) => only(inner)?,
            _ => return Err(SpnegoError::NotNtlm),
        };
    }
    let of_server = match choice {
        tag::CONTEXT_0 => false,
        tag::CONTEXT_1 => true,
        _ => return Err(SpnegoError::Malformed),
    };
    let mut fields = one(body, tag::SEQUENCE)?;
    let (mut message, mut wants_mic) = (None, false);
    while !fields.is_empty() {
        let (field, content, rest) = element(fields)?;
        match field {
            tag::CONTEXT_0 if of_server => match one(content, tag::ENUMERATED)? {
                REJECT => return Err(SpnegoError::Rejected),
                state => wants_mic = state == REQUEST_MIC,
            },
            tag::CONTEXT_1 if of_server && one(content, tag::OID)? != NTLMSSP => {
                return Err(SpnegoError::OtherMechanism);
            }
            tag::CONTEXT_2 if message.is_none() => {
                message = Some(one(content, tag::OCTET_STRING)?);
            }
            tag::CONTEXT_2 => return Err(SpnegoError::Malformed),
            _ => {}
        }
        fields = rest;
    }
    match message {
        None | Some([]) => Err(SpnegoError::NoMessage),
        Some(message) if message.starts_with(SIGNATURE) => {
            Ok((Wrapping::Spnego, message, wants_mic))
        }
        Some(_) => Err(SpnegoError::NotNtlm),
    }
}

/// An element with one other in it, as explicit tags have it.
fn field(tag: u8, inner: u8, content: &[u8]) -> Vec<u8> {
    der(tag, &[&der(inner, &[content])])
}

/// One element with the concatenation of `parts` in it (X.690 section 10.1: definite lengths, in as
/// few octets as will do).
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut encoded = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short @ ..0x80) => encoded.push(short),
        _ => {
            let octets = content.len().to_be_bytes().into_iter();
            let octets: Vec<u8> = octets.skip_while(|octet| *octet == 0).collect();
            encoded.push(0x80 | u8::try_from(octets.len()).unwrap_or_default());
            encoded.extend(octets);
        }
    }
    encoded.extend(content);
    encoded
}

/// Tag and content of the element at the beginning of `bytes`, and what follows it. Lengths are
/// definite, of at most four octets (X.690 section 8.1.3); more octets than needed are let pass.
fn element(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), SpnegoError> {
    let read = || {
        let (tag, rest) = bytes.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x84 => {
                let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = octets.iter().try_fold(0_usize, |length, octet| {
                    length.checked_mul(0x100)?.checked_add(usize::from(*octet))
                });
                (length?, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        Some((*tag, content, rest))
    };
    read().ok_or(SpnegoError::Malformed)
}

/// Tag and content of the element that `bytes` is, with nothing behind it.
fn only(bytes: &[u8]) -> Result<(u8, &[u8]), SpnegoError> {
    match element(bytes)? {
        (tag, content, []) => Ok((tag, content)),
        _ => Err(SpnegoError::Malformed),
    }
}

/// The content of the element that `bytes` is, which must have that tag.
fn one(bytes: &[u8], tag: u8) -> Result<&[u8], SpnegoError> {
    match only(bytes)? {
        (found, content) if found == tag => Ok(content),
        _ => Err(SpnegoError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens here are what pyspnego 0.12.4 makes of the same fields.
    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
    }

    const INIT: &str =
        "602906062b0601050502a01f301da00e300c060a2b06010401823702020aa20b04094e544c4d5353500001";
    const RESP: &str = "a10f300da20b04094e544c4d5353500001";
    const FIRST_OF_SERVER: &str =
        "a1293027a0030a0101a10c060a2b06010401823702020aa20b04094e544c4d5353500002a30504036d6963";
    const ASKS_FOR_MIC: &str = "a1143012 a0030a0103 a20b04094e544c4d5353500002";
    const WITH_MIC: &str =
        "a1233021 a20b04094e544c4d5353500001 a312041001000000000000000000000000000000";

    #[test]
    fn ours_are_wrapped_as_others_do() {
        assert_eq!(wrap_negotiate(b"NTLMSSP\0\x01"), bytes(INIT));
        assert_eq!(wrap_authenticate(b"NTLMSSP\0\x01"), bytes(RESP));
        // Lengths of two octets and more: 308 bytes of message.
        let long = [SIGNATURE, &[b'x'; 300]].concat();
        let init = "6082015c 06062b0601050502 a0820150 3082014c \
                    a00e300c060a2b06010401823702020a a2820138 04820134";
        assert_eq!(wrap_negotiate(&long), [bytes(init), long.clone()].concat());
        let resp = bytes("a18201403082013ca282013804820134");
        assert_eq!(wrap_authenticate(&long), [&resp[..], &long].concat());
        for length in [0, 100, 120, 128, 200, 248, 256, 65_535, 65_536, 70_000] {
            let message = [SIGNATURE, &vec![b'x'; length]].concat();
            assert_eq!(unwrap(&message), Ok((Wrapping::Bare, &message[..])));
            for token in [wrap_negotiate(&message), wrap_authenticate(&message)] {
                assert_eq!(unwrap(&token), Ok((Wrapping::Spnego, &message[..])));
            }
        }
    }

    #[test]
    fn the_answer_is_wrapped_as_the_challenge_was() {
        let ours = &b"NTLMSSP\0\x01"[..];
        for (challenge, expected) in [
            (&b"NTLMSSP\0\x02"[..], ours),
            (&bytes(FIRST_OF_SERVER), &bytes(RESP)),
            (&bytes(ASKS_FOR_MIC), &bytes(WITH_MIC)),
        ] {
            assert_eq!(wrap_like(challenge, ours), expected);
        }
    }

    #[test]
    fn what_servers_send() {
        let message = &b"NTLMSSP\0\x02"[..];
        for (token, expected) in [
            (FIRST_OF_SERVER, Ok(())),
            ("a10f300d a20b04094e544c4d5353500002", Ok(())),
            // The frame of RFC 2743 around it; lengths with octets to spare; an unknown field.
            ("601906062b0601050502 a10f300d a20b04094e544c4d5353500002", Ok(())),
            ("a18400000014 30820010 a2810d 04820009 4e544c4d5353500002", Ok(())),
            ("a1133011 a20b04094e544c4d5353500002 a9020500", Ok(())),
            ("a1073005 a0030a0100", Err(SpnegoError::NoMessage)),
            ("a1023000", Err(SpnegoError::NoMessage)),
            ("a1073005 a0030a0102", Err(SpnegoError::Rejected)),
            ("a1143012 a0030a0101 a10b06092a864886f712010202", Err(SpnegoError::OtherMechanism)),
            ("a1093007 a2050403010203", Err(SpnegoError::NotNtlm)),
            // Kerberos in its own frame.
            ("600d06092a864886f7120102020100", Err(SpnegoError::NotNtlm)),
        ] {
            let expected = expected.map(|()| (Wrapping::Spnego, message));
            assert_eq!(unwrap(&bytes(token)), expected, "{token}");
        }
        for token in [
            "",
            // No SEQUENCE; an OID for a string; two tokens; something behind.
            "a10f310d a20b04094e544c4d5353500002",
            "a10f300d a20b06094e544c4d5353500002",
            "a11c301a a20b04094e544c4d5353500002 a20b04094e544c4d5353500002",
            "a10f300d a20b04094e544c4d5353500002 00",
            // Indefinite, too long for a length, longer than what is there.
            "a180300d a20b04094e544c4d5353500002 0000",
            "a185000000000f300d a20b04094e544c4d5353500002",
            "a184ffffffff3000",
        ] {
            assert_eq!(unwrap(&bytes(token)), Err(SpnegoError::Malformed), "{token}");
        }
    }

    #[test]
    fn a_token_cut_anywhere_is_an_error() {
        let long = [SIGNATURE, &[0; 300]].concat();
        let short = bytes(FIRST_OF_SERVER);
        for token in [short, bytes(INIT), wrap_negotiate(&long), wrap_authenticate(&long)] {
            for cut in 0..token.len() {
                assert_eq!(unwrap(&token[..cut]), Err(SpnegoError::Malformed), "{cut}");
            }
        }
    }

    #[test]
    fn a_token_with_any_byte_changed_never_yields_more_than_it_holds() {
        let token = bytes(FIRST_OF_SERVER);
        for at in 0..token.len() {
            for value in 0..=u8::MAX {
                let changed = [&token[..at], &[value], &token[at + 1..]].concat();
                if let Ok((_, message)) = unwrap(&changed) {
                    assert!(message.starts_with(SIGNATURE) && message.len() < token.len());
                }
            }
        }
    }

    #[test]
    fn nesting_costs_no_stack() {
        let nested = (0..2_000).fold(Vec::new(), |token, _| der(tag::SEQUENCE, &[&token]));
        assert_eq!(unwrap(&der(tag::CONTEXT_1, &[&nested])), Err(SpnegoError::NoMessage));
    }
}
