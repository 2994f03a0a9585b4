//! Published NTLM values against the library. The messages stand in `support::vectors`, each with
//! its source; the numbers here come from the same places: MS-NLMP section 4.2, Eric Glass'
//! "Davenport" description, the tests of curl, gss-ntlmssp, sspi-rs, pyspnego and ntlm-auth.

use ntlmaps::auth::credentials::{Credentials, Secret};
use ntlmaps::ntlm::message::{ChallengeMessage, Responses};
use ntlmaps::ntlm::response::respond;
use ntlmaps::ntlm::{Client, Dialect, Moment, crypto};

use crate::support::crypto::{hmac_md5, ntowf_v2};
use crate::support::message::{Authenticate, av_pairs};
use crate::support::vectors::*;
use crate::support::{Acceptor, Challenge};

fn key(digits: &str) -> [u8; 16] {
    hex(digits).try_into().expect("32 digits")
}

pub fn block(digits: &str) -> [u8; 8] {
    hex(digits).try_into().expect("16 digits")
}

/// Somebody who answers challenges.
pub struct Account {
    credentials: Credentials,
    pub dialect: Dialect,
}

impl Account {
    pub fn new(domain: &str, user: &str, password: &str) -> Self {
        let credentials =
            Credentials::from_password(domain.into(), user.into(), &Secret::new(password));
        Self { credentials, dialect: Dialect::Ntlmv2 }
    }

    pub fn client(&self) -> Client<'_> {
        Client {
            dialect: self.dialect,
            domain: &self.credentials.domain,
            user: &self.credentials.user,
            workstation: "COMPUTER",
            keys: &self.credentials.keys,
        }
    }

    fn respond(&self, dialect: Dialect, challenge: &str, moment: Moment) -> Responses {
        let challenge = hex(challenge);
        let challenge = ChallengeMessage::decode(&challenge).expect("a published challenge");
        respond(dialect, &self.credentials.keys, &challenge, moment).expect("all keys are there")
    }
}

/// The clock and the client challenge of a published response; the clock as it stands there.
fn moment(file_time: &str, client_challenge: &str) -> Moment {
    Moment {
        file_time: u64::from_le_bytes(block(file_time)),
        client_challenge: block(client_challenge),
    }
}

/// MS-NLMP 4.2.1.
pub fn ms_moment() -> Moment {
    moment("0000000000000000", "aaaaaaaaaaaaaaaa")
}

/// A challenge with nothing but a server challenge and this target info.
fn challenge_of(server: &str, target_info: &str) -> String {
    let length = format!("{:02x}{:02x}", target_info.len() / 2 % 256, target_info.len() / 512);
    format!(
        "4e544c4d5353500002000000000000003000000001828a00{server}0000000000000000\
         {length}{length}30000000{target_info}"
    )
}

#[test]
fn lm_hashes_are_the_published_ones() {
    for (password, expected) in [
        ("Password", "e52cac67419a9a224a3b108f3fa6cb6d"), // MS-NLMP 4.2.2.1.1
        ("SecREt01", "ff3750bcc2b22412c2265b23734e0dac"), // Davenport
    ] {
        assert_eq!(crypto::lmowfv1(password), Some(key(expected)), "{password}");
    }
}

#[test]
fn nt_hashes_are_the_published_ones() {
    for (password, expected) in [
        ("Password", "a4f49c406510bdcab6824ee7c30fd852"), // MS-NLMP 4.2.2.1.2
        ("SecREt01", "cd06ca7c7e10c99b1d33b7485a2ed808"), // Davenport
        ("1", "69943c5e63b4d2c104dbbcc15138b72b"),        // curl tests/unit/unit1600.c
        ("hello-you-fool", "39af87a6750a7a00baa0d34f049ec1d0"), // the same
        ("P@ssw0rd", "e19ccf75ee54e06b06a5907af13cef42"), // gss-ntlmssp T_NTLMv2_CBT
        ("", "31d6cfe0d16ae931b73c59d7e0c089c0"),         // RFC 1320 A.5: MD4 of nothing
        // gss-ntlmssp test_NTOWF_UTF16: a clef needs two UTF-16 units.
        ("Pass\u{1d11e}", "0d72dddeddbae5ff244820e072413b90"),
    ] {
        assert_eq!(crypto::ntowfv1(password), key(expected), "{password}");
    }
}

#[test]
fn ntlmv2_hashes_are_the_published_ones() {
    for (domain, user, password, expected) in [
        ("Domain", "User", "Password", "0c868a403bfd7a93a3001ef22ef02e3f"), // MS-NLMP 4.2.4.1.1
        ("DOMAIN", "user", "SecREt01", "04b8e0ba74289cc540826bab1dee63ae"), // Davenport
        ("win7", "username", "password", "efc2c09f06113d7108d0d229fa4de698"), // sspi-rs
        ("AWAKECODING", "Administrator", "Password123!", "f74648aa78782e920f929aed7f1dd523"), // sspi-rs
        ("AWAKECODING", "Administrator", "", "a0842948a6b9aca76cf554db5ec31776"), // sspi-rs
    ] {
        let hash = crypto::ntowfv2(&crypto::ntowfv1(password), user, domain);
        assert_eq!(hash, key(expected), "{domain} {user} {password}");
    }
}

#[test]
fn desl_and_hmac_md5_are_the_published_ones() {
    for (under, challenge, expected) in [
        // Tests of Python's NTLM helpers.
        (
            "c4ea95cb148df11bf9d7c3611ad6d722",
            "514246973ea892c1",
            "497e9072282f5d33529e7359177d42ac9e106600630d3a6d",
        ),
        (
            "04b8e0ba74289cc540826bab1dee63ae",
            "ffffff0011223344",
            "c951c8b1ddf71b2f8ec0be33f21ad93b7cd5fb2cd6cf51c5",
        ),
    ] {
        assert_eq!(crypto::desl(&key(under), block(challenge))[..], hex(expected));
    }
    // RFC 2202 section 2, cases 1, 2 and 6.
    let more_than_a_block = [0xaa; 80];
    for (under, data, expected) in [
        (&[0x0b; 16][..], &[&b"Hi There"[..]][..], "9294727a3638bb1c13f48ef8158bfc9d"),
        (b"Jefe", &[b"what do ya want ", b"for nothing?"], "750c783e6ab0b503eaa86e310a5db738"),
        (
            &more_than_a_block,
            &[b"Test Using Larger Than Block-Size Key - Hash Key First"],
            "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd",
        ),
    ] {
        assert_eq!(crypto::hmac_md5(under, data), key(expected));
    }
}

#[test]
fn ntlmv1_responses_are_the_published_ones() {
    let ms = Account::new("Domain", "User", "Password");
    let davenport = Account::new("DOMAIN", "user", "SecREt01");
    let curl = Account::new("", "testuser", "testpass");
    for (account, challenge, lm, nt) in [
        (
            &ms, // MS-NLMP 4.2.2.2
            MS_V1_CHALLENGE,
            "98def7b87f88aa5dafe2df779688a172def11c7d5ccdef13",
            "67c43011f30298a2ad35ece64f16331c44bdbed927841f94",
        ),
        (
            &davenport,
            DAVENPORT_CHALLENGE,
            "c337cd5cbd44fc9782a667af6d427c6de67c20c2d3e77c56",
            "25a98c1c31e81847466b29b2df4680f39958fb8c213a9cc6",
        ),
        (
            &curl, // tests/data/test81
            CURL_CHALLENGE,
            "5a6443029109914c8638f4b70e3bc048ca1d11e5bf37f141",
            "a98572178cbaff2ffb17aaa6110ee55e35c5177b47d75e39",
        ),
        (
            &curl, // tests/data/test2032
            CURL_2032_CHALLENGE,
            "8fbf169f48111010ef83ac74d3db06983ba3c095c0b48ee0",
            "3b45c887191d430a564b5622ef76b36f3dd8e569776273aa",
        ),
    ] {
        let both = account.respond(Dialect::NtlmAndLm, challenge, ms_moment());
        assert_eq!((both.lm, both.nt), (hex(lm), hex(nt)));
        let nt_only = account.respond(Dialect::Nt, challenge, ms_moment());
        assert_eq!((nt_only.lm, nt_only.nt), (vec![], hex(nt)));
        let lm_only = account.respond(Dialect::Lm, challenge, ms_moment());
        assert_eq!((lm_only.lm, lm_only.nt), (hex(lm), vec![]));
    }
}

#[test]
fn ntlm2_session_responses_are_the_published_ones() {
    for (account, challenge, client, nt) in [
        (
            Account::new("Domain", "User", "Password"), // MS-NLMP 4.2.3.2
            MS_V1_CHALLENGE,
            "aaaaaaaaaaaaaaaa",
            "7537f803ae367128ca458204bde7caf81e97ed2683267232",
        ),
        (
            Account::new("DOMAIN", "user", "SecREt01"), // Davenport
            DAVENPORT_CHALLENGE,
            "ffffff0011223344",
            "10d550832d12b2ccb79d5ad1f4eed3df82aca4c3681dd455",
        ),
    ] {
        let now = moment("0000000000000000", client);
        // The published message is shared with NTLMv1, and does not negotiate session security.
        let mut challenge = challenge.to_owned();
        challenge.replace_range(44..46, "8a");
        let responses = account.respond(Dialect::Ntlm2Session, &challenge, now);
        assert_eq!(responses.nt, hex(nt));
        assert_eq!(responses.lm, hex(&format!("{client}{}", "0".repeat(32))));
    }
}

#[test]
fn ntlmv2_responses_are_the_published_ones() {
    let empty = challenge_of("a4f1baa67cdc1a12", "");
    for (account, challenge, now, lm, nt) in [
        (
            Account::new("Domain", "User", "Password"), // MS-NLMP 4.2.4.2
            MS_V2_CHALLENGE,
            ms_moment(),
            "86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa",
            "68cd0ab851e51c96aabc927bebef6a1c01010000000000000000000000000000aaaaaaaaaaaaaaaa\
             0000000002000c0044006f006d00610069006e0001000c0053006500720076006500720000000000\
             00000000",
        ),
        (
            Account::new("DOMAIN", "user", "SecREt01"), // Davenport
            DAVENPORT_CHALLENGE,
            moment("0090d336b734c301", "ffffff0011223344"),
            "d6e6152ea25d03b7c6ba6629c2d6aaf0ffffff0011223344",
            "cbabbca713eb795d04c97abc01ee498301010000000000000090d336b734c301ffffff0011223344\
             0000000002000c0044004f004d00410049004e0001000c0053004500520056004500520004001400\
             64006f006d00610069006e002e0063006f006d00030022007300650072007600650072002e006400\
             6f006d00610069006e002e0063006f006d000000000000000000",
        ),
        (
            Account::new("Domain", "User", "Password"), // sspi-rs: no target info, no tail
            &empty,
            moment("3357bdb1078bcf01", "20c02b3dc061a773"),
            "5ec3c52ee75a23457372d82b43eac42620c02b3dc061a773",
            "a838989edcbecf8db75c148526a02af901010000000000003357bdb1078bcf0120c02b3dc061a773\
             00000000",
        ),
    ] {
        let responses = account.respond(Dialect::Ntlmv2, challenge, now);
        assert_eq!((responses.lm, responses.nt), (hex(lm), hex(nt)));
        assert_eq!(responses.mic_key, None, "no timestamp, no MIC");
    }
}

/// In the published answers stand pairs that only others send (channel bindings, target name); the
/// rest of a blob, and the proof over it, can be compared.
#[test]
fn proofs_of_real_windows_conversations_can_be_recomputed() {
    for (password, challenge, authenticate) in [
        ("Password", MS_V2_CHALLENGE, MS_V2_AUTHENTICATE),
        ("Password", MIC_CHALLENGE, MIC_AUTHENTICATE),
        ("VagrantPass1", UPN_CHALLENGE, UPN_AUTHENTICATE),
        ("P@ssw0rd", WIN7_CHALLENGE, WIN7_AUTHENTICATE),
    ] {
        let (challenge, authenticate) = (hex(challenge), hex(authenticate));
        let challenge = ChallengeMessage::decode(&challenge).unwrap();
        let sent = Authenticate::read(&authenticate, u32::MAX, true).unwrap();
        let (proof, blob) = sent.nt.split_at(16);
        let hash = crypto::ntowfv2(&crypto::ntowfv1(password), &sent.user, &sent.domain);
        assert_eq!(crypto::hmac_md5(&hash, &[&challenge.server_challenge, blob]), proof);

        let time = u64::from_le_bytes(blob[8..16].try_into().unwrap());
        let now = Moment { file_time: time, client_challenge: blob[16..24].try_into().unwrap() };
        let account = Account::new(&sent.domain, &sent.user, password);
        let keys = &account.credentials.keys;
        let ours = respond(Dialect::Ntlmv2, keys, &challenge, now).unwrap();
        assert_eq!(ours.nt[16..44], blob[..28], "up to the pairs a blob is fixed");
        assert_eq!(challenge.target_info.timestamp().unwrap_or(time), time);
        let (theirs, _) = av_pairs(&blob[28..]).unwrap();
        for pair in challenge.target_info.pairs() {
            assert!(theirs.contains(&(pair.id.0, pair.value)), "{pair:?}");
        }
    }
}

/// Our own answers to the published challenges, held against MS-NLMP by the acceptor's parser and
/// by arithmetic that shares no code with the library.
#[test]
fn our_answer_to_a_challenge_with_a_timestamp_carries_the_right_mic() {
    for (password, domain, user, challenge) in [
        ("Password", "Domain", "User", MIC_CHALLENGE),
        ("VagrantPass1", "", "vagrant-domain@DOMAIN.LOCAL", UPN_CHALLENGE),
        ("P@ssw0rd", "WS2008R2", "Administrator", WIN7_CHALLENGE),
    ] {
        let challenge = hex(challenge);
        let account = Account::new(domain, user, password);
        let negotiate = account.client().negotiate();
        let message = account.client().authenticate(&negotiate, &challenge, ms_moment()).unwrap();
        let given = Challenge::given(&negotiate, &challenge).unwrap();
        let sent = Authenticate::read(&message, given.flags, false).unwrap();
        assert_eq!((sent.domain.as_str(), sent.user.as_str()), (domain, user));
        assert_eq!((sent.workstation.as_str(), &sent.lm[..]), ("COMPUTER", &[0; 24][..]));

        let (proof, blob) = sent.nt.split_at(16);
        assert_eq!(blob[8..16], given.timestamp.unwrap().to_le_bytes(), "the server's clock");
        let under = ntowf_v2(password, user, domain);
        assert_eq!(hmac_md5(&under, &[&given.server_challenge, blob]), proof);
        let (pairs, _) = av_pairs(&blob[28..]).unwrap();
        assert!(pairs.contains(&(6, &[2, 0, 0, 0][..])), "MsvAvFlags 2: {pairs:?}");

        let session_key = hmac_md5(&under, &[proof]);
        let mut unsigned = message.clone();
        unsigned[72..88].fill(0);
        let mic = hmac_md5(&session_key, &[&negotiate, &challenge, &unsigned]);
        assert_eq!(message[72..88], mic);
        assert!(Acceptor::new(&[(domain, user, password)]).verify(&given, &message).is_ok());
    }
}
