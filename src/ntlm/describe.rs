//! The three messages field by field, in the specification's names (MS-NLMP 2.2), for people.
//! Nothing that is made of a secret is shown, but how long it is.

use super::message::{NegotiateFlags, SIGNATURE, locate};
use super::target_info::{AvId, AvPair, TargetInfo};

/// A FILETIME as a date.
pub type Date<'a> = &'a dyn Fn(u64) -> String;

/// A line for each field of a message, whoever it comes from and whatever is wrong with it.
pub fn describe(bytes: &[u8], date: Date<'_>) -> Vec<String> {
    let mut message = Message { bytes, flags: NegotiateFlags(0), date, lines: Vec::new() };
    let kind = array(bytes, 8).map(u32::from_le_bytes).filter(|_| bytes.starts_with(SIGNATURE));
    match kind {
        Some(1) => {
            message.begin("NEGOTIATE_MESSAGE", 12);
            // Both sides have yet to agree on another character set.
            message.flags = message.flags.without(NegotiateFlags::UNICODE);
            message.texts(&[("DomainName", 16), ("Workstation", 24)]);
            message.version(32);
        }
        Some(2) => {
            message.begin("CHALLENGE_MESSAGE", 20);
            message.texts(&[("TargetName", 12)]);
            message.hidden("ServerChallenge", bytes.get(24..32));
            message.target_info(message.field(40));
            message.version(48);
        }
        Some(3) => {
            message.begin("AUTHENTICATE_MESSAGE", 60);
            message.texts(&[("DomainName", 28), ("UserName", 36), ("Workstation", 44)]);
            message.hidden("LmChallengeResponse", message.field(12));
            message.nt_response(message.field(20));
            message.hidden("EncryptedRandomSessionKey", message.field(52));
            message.version(64);
            let mic = bytes.get(72..88).filter(|mic| mic.iter().any(|byte| *byte > 0));
            message.hidden("MIC", Some(mic.unwrap_or_default()));
        }
        _ => message.line("no NTLM message", &length(bytes)),
    }
    message.lines
}

struct Message<'a> {
    bytes: &'a [u8],
    flags: NegotiateFlags,
    date: Date<'a>,
    lines: Vec<String>,
}

impl<'a> Message<'a> {
    fn line(&mut self, name: &str, value: &str) {
        self.lines.push([name, ": ", value].concat());
    }

    fn begin(&mut self, name: &str, flags: usize) {
        self.line(name, &length(self.bytes));
        self.flags = NegotiateFlags(array(self.bytes, flags).map_or(0, u32::from_le_bytes));
        self.line("NegotiateFlags", &format!("{:?}", self.flags));
        for name in self.flags.names() {
            self.lines.push(["  ", name].concat());
        }
    }

    /// What a Len, MaxLen, BufferOffset points to.
    fn field(&self, at: usize) -> Option<&'a [u8]> {
        locate(self.bytes, array(self.bytes, at)?)
    }

    fn texts(&mut self, fields: &[(&str, usize)]) {
        for (name, at) in fields {
            let text = match self.field(*at) {
                None => "beyond the message".to_owned(),
                Some(bytes) if self.flags.contains(NegotiateFlags::UNICODE) => utf16(bytes),
                Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            };
            self.line(name, &text);
        }
    }

    fn hidden(&mut self, name: &str, value: Option<&[u8]>) {
        match value {
            None => self.line(name, "beyond the message"),
            Some([]) => self.line(name, "none"),
            Some(value) => self.line(name, &(length(value) + ", hidden")),
        }
    }

    /// VERSION (MS-NLMP 2.2.2.10).
    fn version(&mut self, at: usize) {
        if !self.flags.contains(NegotiateFlags::VERSION) {
            return;
        }
        let Some([major, minor, low, high, _, _, _, revision]) = array(self.bytes, at) else {
            return self.line("Version", "beyond the message");
        };
        let build = u16::from_le_bytes([low, high]);
        let text = format!("{major}.{minor} build {build}, NTLMRevisionCurrent {revision}");
        self.line("Version", &text);
    }

    fn target_info(&mut self, bytes: Option<&[u8]>) {
        let Some(pairs) = bytes.and_then(TargetInfo::decode) else {
            return self.line("TargetInfo", "broken");
        };
        self.line("TargetInfo", &length(bytes.unwrap_or_default()));
        for pair in pairs.pairs() {
            let (name, value) = pair.words(self.date);
            self.line(&["  ", &name].concat(), &value);
        }
    }

    /// NTLM_RESPONSE or NTLMv2_RESPONSE (MS-NLMP 2.2.2.6 and 2.2.2.8).
    fn nt_response(&mut self, response: Option<&[u8]>) {
        let Some((proof, client)) = response.and_then(<[u8]>::split_first_chunk::<16>) else {
            return self.hidden("NtChallengeResponse", response);
        };
        let (Some([version, highest]), Some(pairs)) = (array(client, 0), client.get(28..)) else {
            return self.hidden("NtChallengeResponse", response);
        };
        self.line("NtChallengeResponse", &length(response.unwrap_or_default()));
        self.hidden("  NTProofStr", Some(proof));
        self.line("  RespType, HiRespType", &format!("{version}, {highest}"));
        let time = array(client, 8).map(u64::from_le_bytes).unwrap_or_default();
        self.line("  TimeStamp", &(self.date)(time));
        self.hidden("  ChallengeFromClient", client.get(16..24));
        self.target_info(Some(pairs));
    }
}

impl AvPair<'_> {
    /// Its name, and its value as the specification means it (MS-NLMP 2.2.2.1).
    pub fn words(self, date: Date<'_>) -> (String, String) {
        let Self { id, value } = self;
        let name = id.name().map_or_else(|| format!("AvId {:#06x}", id.0), str::to_owned);
        let broken = || "broken".to_owned();
        let value = match id {
            AvId(1..=5 | 9) => utf16(value),
            AvId::TIMESTAMP if value.len() == 8 => {
                array(value, 0).map(u64::from_le_bytes).map_or_else(broken, date)
            }
            AvId::FLAGS => array(value, 0)
                .map_or_else(broken, |flags| format!("{:#010x}", u32::from_le_bytes(flags))),
            _ => length(value),
        };
        (name, value)
    }
}

fn length(bytes: &[u8]) -> String {
    format!("{} bytes", bytes.len())
}

fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).filter_map(|unit| array(unit, 0)).map(u16::from_le_bytes);
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntlm::{Client, Dialect, Keys, Moment, crypto};

    const CHALLENGE: &[u8] = b"NTLMSSP\0\x02\0\0\0\x02\0\x02\0\x38\0\0\0\x05\x02\x88\x02\
        ChalleNg\0\0\0\0\0\0\0\0\x14\0\x14\0\x3a\0\0\0\x06\x01\xb1\x1d\0\0\0\x0f\
        D\0\x07\0\x08\0\x01\0\0\0\0\0\0\0\xff\x7f\0\0\0\0\0\0";

    fn date(time: u64) -> String {
        format!("time {time}")
    }

    fn messages() -> [Vec<u8>; 3] {
        let nt = crypto::ntowfv1("secret");
        let keys = Keys { nt: Some(nt), ntlmv2: Some(nt), ..Keys::default() };
        let client = Client {
            dialect: Dialect::Ntlmv2,
            domain: "D",
            user: "u",
            workstation: "W",
            keys: &keys,
        };
        let moment = Moment { file_time: 2, client_challenge: *b"clientCh" };
        let negotiate = client.negotiate();
        let last = client.authenticate(&negotiate, CHALLENGE, moment).unwrap();
        [negotiate, CHALLENGE.to_vec(), last]
    }

    #[test]
    fn every_field_has_a_line_and_what_is_made_of_the_secret_its_length() {
        let [_, challenge, last] = messages();
        let told = describe(&challenge, &date);
        for line in [
            "CHALLENGE_MESSAGE: 78 bytes",
            "NegotiateFlags: 0x02880205",
            "  NTLMSSP_NEGOTIATE_TARGET_INFO",
            "TargetName: D",
            "ServerChallenge: 8 bytes, hidden",
            "TargetInfo: 20 bytes",
            "  MsvAvTimestamp: time 1",
            "  AvId 0x7fff: 0 bytes",
            "Version: 6.1 build 7601, NTLMRevisionCurrent 15",
        ] {
            assert!(told.iter().any(|told| told == line), "{line}: {told:#?}");
        }
        let told = describe(&last, &date);
        for line in [
            "UserName: u",
            "LmChallengeResponse: 24 bytes, hidden",
            "  NTProofStr: 16 bytes, hidden",
            "  TimeStamp: time 1",
            "  ChallengeFromClient: 8 bytes, hidden",
            "  MsvAvFlags: 0x00000002",
            "EncryptedRandomSessionKey: none",
            "MIC: 16 bytes, hidden",
        ] {
            assert!(told.iter().any(|told| told == line), "{line}: {told:#?}");
        }
    }

    #[test]
    fn any_bytes_have_a_description() {
        for message in messages() {
            for cut in 0..message.len() {
                assert!(!describe(&message[..cut], &date).is_empty());
                let mut bent = message.clone();
                bent[cut] ^= 0xff;
                assert!(!describe(&bent, &date).is_empty());
            }
        }
    }
}
