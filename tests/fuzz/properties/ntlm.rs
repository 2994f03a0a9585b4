//! The answer to a CHALLENGE message, whatever is in it.

use ntlmaps::ntlm::crypto::hmac_md5;
use ntlmaps::ntlm::describe::describe;
use ntlmaps::ntlm::message::{ChallengeMessage, NegotiateFlags};
use ntlmaps::ntlm::target_info::{AvId, TargetInfo};
use ntlmaps::ntlm::{Client, Dialect, Error, Keys, Moment};

const MOMENT: Moment = Moment { file_time: 0x0102_0304_0506_0708, client_challenge: [7; 8] };
const NTLMV2: [u8; 16] = [3; 16];

/// Where the payload of an AUTHENTICATE begins, and where its MIC stands.
const HEADER: usize = 88;
const MIC: std::ops::Range<usize> = 72..88;

fn number<const N: usize>(message: &[u8], at: usize) -> usize {
    let bytes: [u8; N] = message[at..at + N].try_into().expect("as many as were asked for");
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// The values of the six fields: LM and NT response, domain, user, workstation, session key. All lie
/// in the payload, and no two share a byte.
fn fields(message: &[u8]) -> [&[u8]; 6] {
    let mut taken = Vec::new();
    let values = [12, 20, 28, 36, 44, 52].map(|at| {
        let (length, offset) = (number::<2>(message, at), number::<4>(message, at + 4));
        assert_eq!(number::<2>(message, at + 2), length, "MaxLen at {at}");
        assert!(offset >= HEADER && offset + length <= message.len(), "the field at {at}");
        taken.push(offset..offset + length);
        &message[offset..offset + length]
    });
    taken.sort_by_key(|range| (range.start, range.end));
    assert!(taken.windows(2).all(|pair| pair[0].end <= pair[1].start), "{taken:?}");
    values
}

fn name(bytes: &[u8], flags: NegotiateFlags) -> String {
    if !flags.contains(NegotiateFlags::UNICODE) {
        return bytes.iter().copied().map(char::from).collect();
    }
    let units: Vec<u16> = bytes.chunks(2).map(|unit| number::<2>(unit, 0) as u16).collect();
    String::from_utf16(&units).expect("UTF-16")
}

/// The NTLMv2 response: a proof of all that follows it, with what the server sent in it.
fn check_ntlmv2(nt: &[u8], challenge: &ChallengeMessage<'_>) {
    let (proof, blob) = nt.split_at(16);
    assert_eq!(proof, hmac_md5(&NTLMV2, &[&challenge.server_challenge, blob]));
    let server_time = challenge.target_info.timestamp();
    let time = server_time.unwrap_or(MOMENT.file_time).to_le_bytes();
    let fixed = [&[1, 1, 0, 0, 0, 0, 0, 0][..], &time, &MOMENT.client_challenge, &[0; 4]].concat();
    let pairs = blob.strip_prefix(&fixed[..]).expect("NTLMv2_CLIENT_CHALLENGE");
    let sent = TargetInfo::decode(pairs).expect("pairs");
    let ours = |pair: &ntlmaps::ntlm::target_info::AvPair<'_>| pair.id == AvId::FLAGS;
    let others = |info: TargetInfo<'_>| {
        let pairs = info.pairs().filter(|pair| !ours(pair));
        pairs.map(|pair| (pair.id.0, pair.value.to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(others(sent), others(challenge.target_info));
    if server_time.is_some() {
        let flags = sent.pairs().filter(ours).filter(|pair| pair.value.len() == 4);
        let announced = flags.map(|pair| pair.value[0] & 2).next();
        assert_eq!(announced, Some(2), "the MIC is announced");
    }
}

/// Every dialect answers every challenge that can be read, with a message that reads back, and
/// nothing that was not in the offer.
pub fn ntlm_challenge(data: &[u8]) {
    // The log tells what it is, whatever it is.
    assert!(!describe(data, &|time| time.to_string()).is_empty());
    let keys = Keys { lm: Some([1; 16]), nt: Some([2; 16]), ntlmv2: Some(NTLMV2) };
    let decoded = ChallengeMessage::decode(data);
    for (spelled, dialect) in Dialect::NAMES {
        let (domain, user, workstation) = ("C\u{d6}RP", "j\u{e4}ne", "");
        let client = Client { dialect, domain, user, workstation, keys: &keys };
        let negotiate = client.negotiate();
        let answer = client.authenticate(&negotiate, data, MOMENT);
        let (challenge, message) = match (&decoded, answer) {
            (Err(error), answer) => {
                assert_eq!(answer, Err(Error::Challenge(*error)), "{spelled}");
                continue;
            }
            // The response repeats TargetInfo, in a field of 65535 bytes at most.
            (Ok(_), Err(Error::TooLong)) if data.len() > 65_000 => continue,
            (Ok(challenge), answer) => (challenge, answer.expect("an answer")),
        };
        assert!(message.starts_with(b"NTLMSSP\0\x03\0\0\0"), "{spelled}");
        let flags = NegotiateFlags(number::<4>(&message, 60) as u32);
        assert!(challenge.flags.contains(flags), "{spelled}: {flags:?} were not offered");
        let both = NegotiateFlags::UNICODE | NegotiateFlags::OEM;
        assert!(!flags.contains(both), "{spelled}: two character sets");

        let [lm, nt, its_domain, its_user, its_workstation, session_key] = fields(&message);
        let names = [its_domain, its_user, its_workstation].map(|bytes| name(bytes, flags));
        assert_eq!(names, [domain, user, workstation], "{spelled}");
        assert!(session_key.is_empty(), "{spelled}");
        let lengths = match dialect {
            Dialect::Ntlmv2 => (24, nt.len()),
            Dialect::Ntlm2Session | Dialect::NtlmAndLm => (24, 24),
            Dialect::Nt => (0, 24),
            Dialect::Lm => (24, 0),
        };
        assert_eq!((lm.len(), nt.len()), lengths, "{spelled}");

        let mut unsigned = message.clone();
        unsigned[MIC].fill(0);
        let mut mic = [0; 16];
        if dialect == Dialect::Ntlmv2 {
            check_ntlmv2(nt, challenge);
            if challenge.target_info.timestamp().is_some() {
                let key = hmac_md5(&NTLMV2, &[&nt[..16]]);
                mic = hmac_md5(&key, &[&negotiate, data, &unsigned]);
            }
        }
        assert_eq!(message[MIC], mic, "{spelled}");
    }
}
