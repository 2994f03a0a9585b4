//! The three messages on the wire (MS-NLMP 2.2.1). Only what a client needs: NEGOTIATE and
//! AUTHENTICATE are encoded, CHALLENGE is decoded.

use std::fmt;
use std::ops::{BitAnd, BitOr};

use super::crypto::{Key, hmac_md5};
use super::target_info::TargetInfo;

pub(super) const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";

/// VERSION (MS-NLMP 2.2.2.10): 10.0 build 19041, NTLM revision 15. Nobody decides by it, but
/// gss-ntlmssp refuses a message that claims a version and does not carry one.
const VERSION: [u8; 8] = [10, 0, 0x61, 0x4a, 0, 0, 0, 15];

/// NegotiateFlags (MS-NLMP 2.2.2.5).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NegotiateFlags(pub u32);

impl NegotiateFlags {
    /// Strings are UTF-16LE.
    pub const UNICODE: Self = Self(0x0000_0001);
    /// Strings are in the OEM character set.
    pub const OEM: Self = Self(0x0000_0002);
    /// The server is to name itself.
    pub const REQUEST_TARGET: Self = Self(0x0000_0004);
    /// NTLM at all.
    pub const NTLM: Self = Self(0x0000_0200);
    /// Servers expect it even where nothing is signed.
    pub const ALWAYS_SIGN: Self = Self(0x0000_8000);
    /// NTLMv1 with a client challenge; set by every NTLMv2 client too.
    pub const EXTENDED_SESSIONSECURITY: Self = Self(0x0008_0000);
    /// The CHALLENGE carries TargetInfo.
    pub const TARGET_INFO: Self = Self(0x0080_0000);
    /// The VERSION field is filled in.
    pub const VERSION: Self = Self(0x0200_0000);
    /// 128-bit keys.
    pub const NEGOTIATE_128: Self = Self(0x2000_0000);
    /// 56-bit keys.
    pub const NEGOTIATE_56: Self = Self(0x8000_0000);

    /// The specification's name of every bit, lowest first. Reserved bits have its r1 to r10 for
    /// names, and the one it describes but does not name its letter.
    pub const NAMES: [&'static str; 32] = [
        "NTLMSSP_NEGOTIATE_UNICODE",
        "NTLM_NEGOTIATE_OEM",
        "NTLMSSP_REQUEST_TARGET",
        "r10",
        "NTLMSSP_NEGOTIATE_SIGN",
        "NTLMSSP_NEGOTIATE_SEAL",
        "NTLMSSP_NEGOTIATE_DATAGRAM",
        "NTLMSSP_NEGOTIATE_LM_KEY",
        "r9",
        "NTLMSSP_NEGOTIATE_NTLM",
        "r8",
        "J",
        "NTLMSSP_NEGOTIATE_OEM_DOMAIN_SUPPLIED",
        "NTLMSSP_NEGOTIATE_OEM_WORKSTATION_SUPPLIED",
        "r7",
        "NTLMSSP_NEGOTIATE_ALWAYS_SIGN",
        "NTLMSSP_TARGET_TYPE_DOMAIN",
        "NTLMSSP_TARGET_TYPE_SERVER",
        "r6",
        "NTLMSSP_NEGOTIATE_EXTENDED_SESSIONSECURITY",
        "NTLMSSP_NEGOTIATE_IDENTIFY",
        "r5",
        "NTLMSSP_REQUEST_NON_NT_SESSION_KEY",
        "NTLMSSP_NEGOTIATE_TARGET_INFO",
        "r4",
        "NTLMSSP_NEGOTIATE_VERSION",
        "r3",
        "r2",
        "r1",
        "NTLMSSP_NEGOTIATE_128",
        "NTLMSSP_NEGOTIATE_KEY_EXCH",
        "NTLMSSP_NEGOTIATE_56",
    ];

    /// The names of the bits that are set, lowest first.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let bits = (0..u32::BITS).zip(Self::NAMES);
        bits.filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| name)
    }

    /// Whether every bit of `other` is set.
    pub fn contains(self, other: Self) -> bool {
        self & other == other
    }

    /// These flags without those of `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for NegotiateFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for NegotiateFlags {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Debug for NegotiateFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// NEGOTIATE_MESSAGE (MS-NLMP 2.2.1.1), without names: the server learns them later.
pub struct NegotiateMessage {
    /// What this side can do.
    pub flags: NegotiateFlags,
}

impl NegotiateMessage {
    /// The message: 40 bytes, empty name fields, VERSION.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Payload::after(40);
        let mut message = header(1);
        message.extend_from_slice(&self.flags.0.to_le_bytes());
        for _ in ["DomainName", "Workstation"] {
            message.extend_from_slice(&payload.empty_field());
        }
        message.extend_from_slice(&VERSION);
        message
    }
}

/// Why bytes are no CHALLENGE_MESSAGE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It does not begin with `NTLMSSP\0`.
    Signature,
    /// It is another message than a CHALLENGE.
    MessageType(u32),
    /// It ends before the server challenge does.
    Truncated,
    /// TargetInfo lies outside the message, or a pair outside TargetInfo.
    TargetInfo,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signature => f.write_str("it does not begin with NTLMSSP"),
            Self::MessageType(kind) => write!(f, "it is a message of type {kind}, not 2"),
            Self::Truncated => f.write_str("it is too short"),
            Self::TargetInfo => f.write_str("its target info is broken"),
        }
    }
}

/// CHALLENGE_MESSAGE (MS-NLMP 2.2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChallengeMessage<'a> {
    /// What the server chose.
    pub flags: NegotiateFlags,
    /// ServerChallenge.
    pub server_challenge: [u8; 8],
    /// TargetInfo; empty where there is none.
    pub target_info: TargetInfo<'a>,
}

impl<'a> ChallengeMessage<'a> {
    /// Reads a message. One that ends right after the server challenge is legal; so is a
    /// TargetInfo whose flag is not set (McAfee Web Gateway, old Samba).
    ///
    /// # Errors
    /// [`DecodeError`] says what is wrong with it.
    pub fn decode(message: &'a [u8]) -> Result<Self, DecodeError> {
        let body = message.strip_prefix(SIGNATURE).ok_or(DecodeError::Signature)?;
        let (kind, body) = body.split_first_chunk().ok_or(DecodeError::Truncated)?;
        match u32::from_le_bytes(*kind) {
            2 => {}
            other => return Err(DecodeError::MessageType(other)),
        }
        let (_target_name, body) = body.split_first_chunk::<8>().ok_or(DecodeError::Truncated)?;
        let (flags, body) = body.split_first_chunk().ok_or(DecodeError::Truncated)?;
        let (server_challenge, body) = body.split_first_chunk().ok_or(DecodeError::Truncated)?;
        let target_info = match body.split_first_chunk::<16>() {
            Some(([_, _, _, _, _, _, _, _, field @ ..], _)) => {
                locate(message, *field).ok_or(DecodeError::TargetInfo)?
            }
            None => &[],
        };
        Ok(Self {
            flags: NegotiateFlags(u32::from_le_bytes(*flags)),
            server_challenge: *server_challenge,
            target_info: TargetInfo::decode(target_info).ok_or(DecodeError::TargetInfo)?,
        })
    }
}

/// The bytes a field (Len, MaxLen, BufferOffset) of `message` points to.
pub(super) fn locate(message: &[u8], field: [u8; 8]) -> Option<&[u8]> {
    let [l0, l1, _, _, o0, o1, o2, o3] = field;
    let length = usize::from(u16::from_le_bytes([l0, l1]));
    let offset = usize::try_from(u32::from_le_bytes([o0, o1, o2, o3])).ok()?;
    if length == 0 {
        return Some(&[]);
    }
    message.get(offset..offset.checked_add(length)?)
}

/// LmChallengeResponse and NtChallengeResponse of an AUTHENTICATE message.
#[derive(Default)]
pub struct Responses {
    /// LmChallengeResponse.
    pub lm: Vec<u8>,
    /// NtChallengeResponse.
    pub nt: Vec<u8>,
    /// The key a MIC is made with; `None` where no MIC belongs.
    pub mic_key: Option<Key>,
}

/// AUTHENTICATE_MESSAGE (MS-NLMP 2.2.1.3).
pub struct AuthenticateMessage<'a> {
    /// What both sides can do.
    pub flags: NegotiateFlags,
    /// DomainName.
    pub domain: &'a str,
    /// UserName.
    pub user: &'a str,
    /// Workstation.
    pub workstation: &'a str,
    /// What only the secret can make.
    pub responses: &'a Responses,
}

/// A name or a response does not fit the 16-bit length of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl AuthenticateMessage<'_> {
    /// Where the payload begins: the fixed fields, VERSION and MIC are always there.
    const HEADER: usize = 88;
    const MIC: std::ops::Range<usize> = 72..88;

    /// The message, its MIC still zero.
    ///
    /// # Errors
    /// [`TooLong`] when a field cannot hold its value.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let mut payload = Payload::after(Self::HEADER);
        // The fields stand in another order than their bytes: names first, as Windows lays them.
        let domain = payload.field(&self.text(self.domain))?;
        let user = payload.field(&self.text(self.user))?;
        let workstation = payload.field(&self.text(self.workstation))?;
        let lm = payload.field(&self.responses.lm)?;
        let nt = payload.field(&self.responses.nt)?;
        let session_key = payload.empty_field();

        let mut message = header(3);
        for field in [lm, nt, domain, user, workstation, session_key] {
            message.extend_from_slice(&field);
        }
        message.extend_from_slice(&self.flags.0.to_le_bytes());
        let claimed = self.flags.contains(NegotiateFlags::VERSION);
        message.extend_from_slice(&if claimed { VERSION } else { [0; 8] });
        message.extend_from_slice(&[0; 16]);
        message.extend_from_slice(&payload.bytes);
        Ok(message)
    }

    /// Puts the MIC into an encoded message: HMAC_MD5 over the three messages, byte for byte as
    /// they crossed the wire, this one with its MIC zero (MS-NLMP 3.1.5.1.2).
    pub fn sign(message: &mut [u8], negotiate: &[u8], challenge: &[u8], session_key: &Key) {
        let mic = hmac_md5(session_key, &[negotiate, challenge, message]);
        if let Some(slot) = message.get_mut(Self::MIC) {
            slot.copy_from_slice(&mic);
        }
    }

    /// A name in the negotiated character set.
    fn text(&self, text: &str) -> Vec<u8> {
        if self.flags.contains(NegotiateFlags::UNICODE) {
            text.encode_utf16().flat_map(u16::to_le_bytes).collect()
        } else {
            // Which OEM character set the server means is not on the wire; Latin-1 is the guess.
            text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
        }
    }
}

/// Signature and MessageType.
fn header(message_type: u32) -> Vec<u8> {
    let mut message = SIGNATURE.to_vec();
    message.extend_from_slice(&message_type.to_le_bytes());
    message
}

/// The variable part of a message under construction. It alone knows offsets, so that a field and
/// the bytes it points to cannot disagree.
struct Payload {
    begins: usize,
    bytes: Vec<u8>,
}

impl Payload {
    fn after(begins: usize) -> Self {
        Self { begins, bytes: Vec::new() }
    }

    /// Appends a value; returns its field: Len, MaxLen, BufferOffset.
    fn field(&mut self, value: &[u8]) -> Result<[u8; 8], TooLong> {
        let offset = self.begins.checked_add(self.bytes.len()).ok_or(TooLong)?;
        let [o0, o1, o2, o3] = u32::try_from(offset).map_err(|_| TooLong)?.to_le_bytes();
        let [l0, l1] = u16::try_from(value.len()).map_err(|_| TooLong)?.to_le_bytes();
        self.bytes.extend_from_slice(value);
        Ok([l0, l1, l0, l1, o0, o1, o2, o3])
    }

    /// A field of length zero; its offset points to the end, inside the message.
    fn empty_field(&mut self) -> [u8; 8] {
        self.field(&[]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_have_the_names_of_the_specification() {
        for (flags, name) in [
            (NegotiateFlags::UNICODE, "NTLMSSP_NEGOTIATE_UNICODE"),
            (NegotiateFlags::OEM, "NTLM_NEGOTIATE_OEM"),
            (NegotiateFlags::REQUEST_TARGET, "NTLMSSP_REQUEST_TARGET"),
            (NegotiateFlags::NTLM, "NTLMSSP_NEGOTIATE_NTLM"),
            (NegotiateFlags::ALWAYS_SIGN, "NTLMSSP_NEGOTIATE_ALWAYS_SIGN"),
            (
                NegotiateFlags::EXTENDED_SESSIONSECURITY,
                "NTLMSSP_NEGOTIATE_EXTENDED_SESSIONSECURITY",
            ),
            (NegotiateFlags::TARGET_INFO, "NTLMSSP_NEGOTIATE_TARGET_INFO"),
            (NegotiateFlags::VERSION, "NTLMSSP_NEGOTIATE_VERSION"),
            (NegotiateFlags::NEGOTIATE_128, "NTLMSSP_NEGOTIATE_128"),
            (NegotiateFlags::NEGOTIATE_56, "NTLMSSP_NEGOTIATE_56"),
            (NegotiateFlags(0x0000_0800), "J"),
            (NegotiateFlags(0x0040_0000), "NTLMSSP_REQUEST_NON_NT_SESSION_KEY"),
            (NegotiateFlags(0x4000_0000), "NTLMSSP_NEGOTIATE_KEY_EXCH"),
        ] {
            assert_eq!(flags.names().collect::<Vec<_>>(), [name], "{flags:?}");
        }
        assert_eq!(NegotiateFlags(u32::MAX).names().count(), 32);
    }
}
