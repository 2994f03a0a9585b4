//! CHALLENGE messages, published, cut and broken: each is answered within the rules or refused with
//! a reason.

use ntlmaps::ntlm::message::{ChallengeMessage, DecodeError, NegotiateFlags};
use ntlmaps::ntlm::target_info::AvId;
use ntlmaps::ntlm::{Client, Dialect, Error, Keys};

use crate::support::Acceptor;
use crate::support::message::Reader;
use crate::support::vectors::*;
use crate::vectors::{Account, block, ms_moment};

const CHALLENGES: [&str; 8] = [
    MS_V1_CHALLENGE,
    MS_V2_CHALLENGE,
    DAVENPORT_CHALLENGE,
    CURL_CHALLENGE,
    CURL_2032_CHALLENGE,
    MIC_CHALLENGE,
    UPN_CHALLENGE,
    WIN7_CHALLENGE,
];

#[test]
fn every_published_challenge_is_read() {
    for (challenge, flags, server, pairs) in [
        (MS_V1_CHALLENGE, 0xe202_8233, "0123456789abcdef", vec![]),
        (MS_V2_CHALLENGE, 0xe28a_8233, "0123456789abcdef", vec![2, 1]),
        (DAVENPORT_CHALLENGE, 0x0081_0201, "0123456789abcdef", vec![2, 1, 4, 3]),
        // A target info whose flag is not set counts all the same.
        (CURL_CHALLENGE, 0x0001_8286, "739d406150e0c8d7", vec![2, 1, 4, 3]),
        (CURL_2032_CHALLENGE, 0x0001_8086, "aba53534059a2422", vec![]),
        (MIC_CHALLENGE, 0xe28a_8233, "0123456789abcdef", vec![2, 1, 7]),
        (UPN_CHALLENGE, 0xe289_8235, "e4101014cf8a90be", vec![2, 1, 4, 3, 5, 7]),
        (WIN7_CHALLENGE, 0xa289_8205, "a2c5e8ca3084aa72", vec![2, 1, 4, 3, 5, 7]),
        // The shortest of all: it ends behind the server challenge.
        (DAVENPORT_CHALLENGE_MINIMAL, 0x0000_0202, "0123456789abcdef", vec![]),
    ] {
        let bytes = hex(challenge);
        let message = ChallengeMessage::decode(&bytes).unwrap();
        assert_eq!(
            (message.flags, message.server_challenge),
            (NegotiateFlags(flags), block(server))
        );
        let ids: Vec<u16> = message.target_info.pairs().map(|pair| pair.id.0).collect();
        assert_eq!(ids, pairs, "{challenge}");
    }
    let bytes = hex(WIN7_CHALLENGE);
    let message = ChallengeMessage::decode(&bytes).unwrap();
    let name = "WS2008R2".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    assert_eq!(message.target_info.find(AvId::NB_DOMAIN_NAME), Some(&name[..]));
    let time = u64::from_le_bytes(block("7be73fc30bdecd01"));
    assert_eq!(message.target_info.timestamp(), Some(time));
}

const DIALECTS: [Dialect; 5] =
    [Dialect::Ntlmv2, Dialect::Ntlm2Session, Dialect::NtlmAndLm, Dialect::Nt, Dialect::Lm];

/// Whatever comes, there is an answer whose fields all lie inside it, or an error.
fn answer_or_error(challenge: &[u8]) -> Result<(), Error> {
    let mut account = Account::new("Domain", "User", "Password");
    let mut result = Ok(());
    for dialect in DIALECTS {
        account.dialect = dialect;
        let negotiate = account.client().negotiate();
        match account.client().authenticate(&negotiate, challenge, ms_moment()) {
            Ok(message) => {
                let mut reader = Reader::new("AUTHENTICATE", &message, 3, 88).unwrap();
                for at in [12, 20, 28, 36, 44, 52] {
                    reader.field(at, "a field").unwrap_or_else(|why| panic!("{dialect:?}: {why}"));
                    let begin = u32::from_le_bytes(message[at + 4..at + 8].try_into().unwrap());
                    assert!(begin as usize <= message.len(), "an empty field counts as well");
                }
                reader.check_layout(88).unwrap_or_else(|why| panic!("{dialect:?}: {why}"));
            }
            Err(error) => result = Err(error),
        }
    }
    result
}

#[test]
fn every_published_challenge_is_answered_within_the_message() {
    for challenge in CHALLENGES.iter().chain([&DAVENPORT_CHALLENGE_MINIMAL]) {
        assert_eq!(answer_or_error(&hex(challenge)), Ok(()), "{challenge}");
    }
}

#[test]
fn a_challenge_cut_anywhere_is_an_error_or_a_shorter_challenge() {
    for challenge in CHALLENGES {
        let whole = hex(challenge);
        for cut in 0..whole.len() {
            let result = answer_or_error(&whole[..cut]);
            match cut {
                ..32 => assert!(result.is_err(), "cut at {cut}"),
                // The target info field is not complete, hence not there; or it is empty.
                32..48 => assert_eq!(result, Ok(()), "cut at {cut}"),
                _ => {
                    let length = usize::from(u16::from_le_bytes([whole[40], whole[41]]));
                    let begin = u32::from_le_bytes(whole[44..48].try_into().unwrap()) as usize;
                    let reached = length == 0 || cut >= begin + length;
                    assert_eq!(result.is_ok(), reached, "cut at {cut}: {result:?}");
                }
            }
        }
    }
}

#[test]
fn broken_challenges_are_errors_that_say_what_is_wrong() {
    let change = |at: usize, bytes: &[u8]| {
        let mut challenge = hex(WIN7_CHALLENGE);
        challenge[at..at + bytes.len()].copy_from_slice(bytes);
        challenge
    };
    let error = |error| Err(Error::Challenge(error));
    for (what, challenge, expected) in [
        ("nothing", vec![], error(DecodeError::Signature)),
        ("another signature", change(0, b"NTLMSSQ"), error(DecodeError::Signature)),
        ("an AUTHENTICATE", change(8, &[3]), error(DecodeError::MessageType(3))),
        ("a NEGOTIATE", hex(WIN7_NEGOTIATE), error(DecodeError::MessageType(1))),
        ("an offset outside", change(44, &[0, 2]), error(DecodeError::TargetInfo)),
        ("an offset far outside", change(44, &[0xff; 4]), error(DecodeError::TargetInfo)),
        ("a length outside", change(40, &[0xff; 4]), error(DecodeError::TargetInfo)),
        ("a pair outside the list", change(74, &[0xff, 0xff]), error(DecodeError::TargetInfo)),
    ] {
        assert_eq!(answer_or_error(&challenge), expected, "{what}");
    }
    // Nobody needs the target name: where it points is not looked at.
    assert_eq!(answer_or_error(&change(12, &[0xff; 8])), Ok(()));
}

#[test]
fn every_single_changed_byte_of_a_challenge_is_survived() {
    let whole = hex(WIN7_CHALLENGE);
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut challenge = whole.clone();
            challenge[at] = value;
            let result = answer_or_error(&challenge);
            assert!(at >= 12 || result.is_err() || challenge == whole, "byte {at} = {value:#x}");
        }
    }
}

#[test]
fn target_info_too_large_to_be_given_back_is_an_error() {
    let filled = |size: usize| {
        let (acceptor, negotiate) =
            (Acceptor::new(&[]), Account::new("", "u", "").client().negotiate());
        acceptor.target_info_size(size).challenge(&negotiate).unwrap().bytes
    };
    for size in [1000, 30_000, 65_000] {
        assert_eq!(answer_or_error(&filled(size)), Ok(()), "{size}");
    }
    // The field of the NTLMv2 response has 16 bits for its length.
    assert_eq!(answer_or_error(&filled(65_535)), Err(Error::TooLong));
}

#[test]
fn a_hash_that_is_not_there_is_an_error_not_an_empty_response() {
    let keys = Keys { ntlmv2: Some([1; 16]), ..Keys::default() };
    let challenge = hex(WIN7_CHALLENGE);
    for dialect in DIALECTS {
        let client = Client { dialect, domain: "D", user: "u", workstation: "W", keys: &keys };
        let result = client.authenticate(&client.negotiate(), &challenge, ms_moment());
        match dialect {
            Dialect::Ntlmv2 => assert!(result.is_ok()),
            other => assert_eq!(result, Err(Error::MissingKey(other))),
        }
    }
}
