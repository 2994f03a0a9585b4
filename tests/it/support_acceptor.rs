//! The test support, tested: an acceptor that let everything pass would make every other test
//! worthless.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::string_slice,
    reason = "test code"
)]

use std::process::{Command, Output};

use crate::support::crypto::{
    desl, hmac_md5, lmowf_v1, ntlm2_session, ntowf_v1, ntowf_v2, rc4, utf16le,
};
use crate::support::hops::words;
use crate::support::http::chunk;
use crate::support::message::{Authenticate, Negotiate};
use crate::support::replay::{log_on, ntlm, windows_parent};
use crate::support::vectors::*;
use crate::support::{
    Acceptor, Challenge, Client, Dialect, Leg, Logon, Origin, Parent, Why, fnv, pattern,
};

const ALICE: &[(&str, &str, &str)] = &[("CORP", "alice", "Secret-123")];

fn key(text: &str) -> [u8; 16] {
    hex(text).try_into().expect("32 digits")
}

fn block(text: &str) -> [u8; 8] {
    hex(text).try_into().expect("16 digits")
}

#[test]
fn one_way_functions_match_the_published_values() {
    assert_eq!(lmowf_v1("Password"), key("e52cac67419a9a224a3b108f3fa6cb6d"));
    assert_eq!(lmowf_v1("SecREt01"), key("ff3750bcc2b22412c2265b23734e0dac"));
    assert_eq!(ntowf_v1("Password"), key("a4f49c406510bdcab6824ee7c30fd852"));
    assert_eq!(ntowf_v1("SecREt01"), key("cd06ca7c7e10c99b1d33b7485a2ed808"));
    assert_eq!(ntowf_v1("hello-you-fool"), key("39af87a6750a7a00baa0d34f049ec1d0"));
    assert_eq!(ntowf_v1("Pass\u{1d11e}"), key("0d72dddeddbae5ff244820e072413b90"));
    assert_eq!(ntowf_v2("Password", "User", "Domain"), key("0c868a403bfd7a93a3001ef22ef02e3f"));
    assert_eq!(ntowf_v2("SecREt01", "user", "DOMAIN"), key("04b8e0ba74289cc540826bab1dee63ae"));
    assert_eq!(ntowf_v2("password", "username", "win7"), key("efc2c09f06113d7108d0d229fa4de698"));
    let administrator = ntowf_v2("", "Administrator", "AWAKECODING");
    assert_eq!(administrator, key("a0842948a6b9aca76cf554db5ec31776"));
}

#[test]
fn responses_match_the_published_values() {
    let server = block("0123456789abcdef");
    let lm = desl(&lmowf_v1("SecREt01"), &server);
    assert_eq!(lm[..], hex("c337cd5cbd44fc9782a667af6d427c6de67c20c2d3e77c56"));
    let nt = desl(&ntowf_v1("SecREt01"), &server);
    assert_eq!(nt[..], hex("25a98c1c31e81847466b29b2df4680f39958fb8c213a9cc6"));
    let davenport = ntlm2_session(&ntowf_v1("SecREt01"), &server, &hex("ffffff0011223344"));
    assert_eq!(davenport[..], hex("10d550832d12b2ccb79d5ad1f4eed3df82aca4c3681dd455"));
    let ms_nlmp = ntlm2_session(&ntowf_v1("Password"), &server, &[0xaa; 8]);
    assert_eq!(ms_nlmp[..], hex("7537f803ae367128ca458204bde7caf81e97ed2683267232"));
    let other = desl(&key("c4ea95cb148df11bf9d7c3611ad6d722"), &block("514246973ea892c1"));
    assert_eq!(other[..], hex("497e9072282f5d33529e7359177d42ac9e106600630d3a6d"));
    let long_key =
        hmac_md5(&[0xaa; 80], &[b"Test Using Larger Than Block-Size Key", b" - Hash Key First"]);
    assert_eq!(long_key, key("6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"));
    let stream = rc4(&hex("2785f595293f3e2813439d73a223810d"), &hex("0a003602317a759a"));
    assert_eq!(stream, hex("e37f97f2544f4d7e"));
}

/// What an acceptor with this one account says to a published conversation.
fn judge(acceptor: &Acceptor, messages: [&str; 3]) -> Result<Logon, Why> {
    let [negotiate, challenge, authenticate] = messages.map(hex);
    let challenge = Challenge::given(&negotiate, &challenge).expect("a readable challenge");
    acceptor.verify(&challenge, &authenticate)
}

const MS_V1: [&str; 3] = ["", MS_V1_CHALLENGE, MS_V1_AUTHENTICATE];
const MS_V2: [&str; 3] = ["", MS_V2_CHALLENGE, MS_V2_AUTHENTICATE];
const DAVENPORT: [&str; 3] = ["", DAVENPORT_CHALLENGE, DAVENPORT_AUTHENTICATE];
const CURL: [&str; 3] = [CURL_NEGOTIATE, CURL_CHALLENGE, CURL_AUTHENTICATE];
const CURL_2032: [&str; 3] = ["", CURL_2032_CHALLENGE, CURL_2032_AUTHENTICATE];
const MIC: [&str; 3] = [MIC_NEGOTIATE, MIC_CHALLENGE, MIC_AUTHENTICATE];
const UPN: [&str; 3] = [UPN_NEGOTIATE, UPN_CHALLENGE, UPN_AUTHENTICATE];
const WIN7: [&str; 3] = [WIN7_NEGOTIATE, WIN7_CHALLENGE, WIN7_AUTHENTICATE];

#[test]
fn published_conversations_are_accepted() {
    let ms_nlmp = Acceptor::new(&[("Domain", "User", "Password")]);
    let cases = [
        (ms_nlmp.clone(), MS_V1, Dialect::Ntlm, false, "COMPUTER"),
        (ms_nlmp.clone(), MS_V2, Dialect::Ntlmv2, false, "COMPUTER"),
        (
            Acceptor::new(&[("DOMAIN", "user", "SecREt01")]),
            DAVENPORT,
            Dialect::Ntlm,
            false,
            "WORKSTATION",
        ),
        (Acceptor::new(&[("", "testuser", "testpass")]), CURL, Dialect::Ntlm, false, "WORKSTATION"),
        (
            Acceptor::new(&[("", "testuser", "testpass")]).lenient(),
            CURL_2032,
            Dialect::Ntlm,
            false,
            "WORKSTATION",
        ),
        (ms_nlmp, MIC, Dialect::Ntlmv2, true, "COMPUTER"),
        (
            Acceptor::new(&[("WS2008R2", "Administrator", "P@ssw0rd")]),
            WIN7,
            Dialect::Ntlmv2,
            true,
            "WIN7-2-PC",
        ),
    ];
    for (acceptor, messages, dialect, mic, workstation) in cases {
        let logon = judge(&acceptor, messages).unwrap_or_else(|why| panic!("{workstation}: {why}"));
        assert_eq!((logon.dialect, logon.mic, &logon.workstation[..]), (dialect, mic, workstation));
    }
}

#[test]
fn leniency_is_needed_without_mic_and_for_sorted_pairs() {
    let account = Acceptor::new(&[("DOMAIN", "vagrant-domain", "VagrantPass1")]);
    let logon = judge(&account.clone().lenient(), UPN).expect("no MIC, but right");
    assert_eq!((&logon.user[..], logon.mic), ("vagrant-domain@DOMAIN.LOCAL", false));
    assert!(judge(&account, UPN).is_err());
}

#[test]
fn a_wrong_password_is_a_wrong_password_in_every_dialect() {
    let wrong = |domain, user| Acceptor::new(&[(domain, user, "password")]).lenient();
    let cases = [
        (wrong("Domain", "User"), MS_V1),
        (wrong("Domain", "User"), MS_V2),
        (wrong("DOMAIN", "user"), DAVENPORT),
        (wrong("", "testuser"), CURL),
        (wrong("WS2008R2", "Administrator"), WIN7),
    ];
    for (acceptor, messages) in cases {
        let verdict = judge(&acceptor, messages);
        assert!(matches!(verdict, Err(Why::WrongPassword { .. })), "{verdict:?}");
    }
    let stranger = judge(&Acceptor::new(ALICE), MS_V2);
    assert!(matches!(stranger, Err(Why::UnknownUser { .. })), "{stranger:?}");
}

#[test]
fn no_byte_of_a_conversation_with_a_mic_can_be_changed() {
    let account = Acceptor::new(&[("WS2008R2", "Administrator", "P@ssw0rd")]);
    assert!(judge(&account, WIN7).is_ok());
    let messages = WIN7.map(hex);
    for (which, message) in messages.iter().enumerate() {
        for at in 0..message.len() {
            let mut changed = messages.clone();
            changed[which][at] ^= 0x01;
            let [negotiate, challenge, authenticate] = changed;
            let verdict = Challenge::given(&negotiate, &challenge)
                .and_then(|challenge| account.verify(&challenge, &authenticate));
            assert!(verdict.is_err(), "byte {at} of message {}", which + 1);
        }
    }
}

#[test]
fn a_truncated_message_is_malformed_never_more() {
    let account = Acceptor::new(&[("WS2008R2", "Administrator", "P@ssw0rd")]).lenient();
    let [negotiate, challenge, authenticate] = WIN7.map(hex);
    let given = Challenge::given(&negotiate, &challenge).expect("readable");
    for end in 0..authenticate.len() {
        let verdict = account.verify(&given, &authenticate[..end]);
        assert!(matches!(verdict, Err(Why::Malformed(_))), "{end} bytes: {verdict:?}");
    }
}

#[test]
fn negotiate_messages_are_held_to_the_letter_unless_leniently() {
    let read = |text: &str, lenient| Negotiate::read(&hex(text), lenient);
    assert!(read(WIN7_NEGOTIATE, false).is_ok());
    assert!(read(UPN_NEGOTIATE, false).is_ok());
    for short in [CURL_NEGOTIATE, DAVENPORT_NEGOTIATE] {
        assert!(read(short, true).is_ok());
        assert!(matches!(read(short, false), Err(Why::Malformed(_))));
    }
    for named in [DAVENPORT_NEGOTIATE_NAMES, DAVENPORT_NEGOTIATE_VERSION] {
        let negotiate = read(named, true).expect("readable");
        assert_eq!((&negotiate.domain[..], &negotiate.workstation[..]), ("DOMAIN", "WORKSTATION"));
    }
    let unversioned = WIN7_NEGOTIATE.replace("0601b01d0000000f", "0000000000000000");
    assert!(
        matches!(read(&unversioned, false), Err(Why::Malformed(_))),
        "claims a VERSION that is not there"
    );
    let reserved = WIN7_NEGOTIATE.replace("078208a2", "0f8208a2");
    assert!(matches!(read(&reserved, false), Err(Why::Malformed(_))), "a reserved flag");
}

#[test]
fn challenges_carry_what_they_were_asked_to() {
    let negotiate = hex(WIN7_NEGOTIATE);
    let make = |acceptor: Acceptor| acceptor.challenge(&negotiate).expect("a challenge");
    let plain = make(Acceptor::new(ALICE));
    assert!(plain.timestamp.is_some() && !plain.target_info.is_empty());
    assert!(make(Acceptor::new(ALICE).without_timestamp()).timestamp.is_none());
    assert!(make(Acceptor::new(ALICE).without_target_info()).target_info.is_empty());
    assert_eq!(make(Acceptor::new(ALICE).minimal()).bytes.len(), 32);
    assert_eq!(make(Acceptor::new(ALICE).target_info_size(65_535)).target_info.len(), 65_535);
    assert_eq!(make(Acceptor::new(ALICE).target_info_size(900)).target_info.len(), 900);
    let unknown = make(Acceptor::new(ALICE).unknown_pair()).target_info;
    assert!(unknown.windows(2).any(|id| id == [0xff, 0x7f]));
    let oem = make(Acceptor::new(ALICE).oem());
    assert!(oem.bytes.windows(4).any(|name| name == b"CORP") && oem.flags & 3 == 2);
    let fixed = make(Acceptor::new(ALICE).server_challenge(*b"challeng"));
    assert_eq!(fixed.server_challenge, *b"challeng");
    assert_ne!(make(Acceptor::new(ALICE)).server_challenge, plain.server_challenge);
    assert!(unknown.windows(8).any(|part| part == utf16le("CORP")));
}

#[test]
fn fields_may_neither_overlap_nor_reach_into_the_header() {
    let flags = 0xffff_ffff;
    let genuine = hex(WIN7_AUTHENTICATE);
    assert!(Authenticate::read(&genuine, flags, false).is_ok());
    // The offset of the domain: into the header, onto the user name, past the end, round the end of
    // 32 bits.
    let end = u32::try_from(genuine.len()).expect("a short message");
    for offset in [60, 0x68, end - 2, 0xffff_fff8] {
        let mut message = genuine.clone();
        message[32..36].copy_from_slice(&offset.to_le_bytes());
        let verdict = Authenticate::read(&message, flags, false);
        assert!(matches!(verdict, Err(Why::Malformed(_))), "{offset}: {verdict:?}");
    }
}

#[test]
fn a_parent_holds_its_client_to_the_connection() {
    let origin = Origin::start();
    let parent = windows_parent().origin(origin.addr()).start();
    let mut client = Client::connect(parent.addr());
    let url = "http://example.test/hello";
    assert_eq!(client.get(url).status(), 407);
    assert_eq!(log_on(&mut client, "GET", url), 200);
    assert_eq!(client.get(url).text(), "hello, world\n");
    let mut stranger = Client::connect(parent.addr());
    let replayed = [("Proxy-Authorization", &ntlm(WIN7_AUTHENTICATE)[..])];
    assert_eq!(stranger.request("GET", url, &replayed, b"").status(), 407);
    let negotiate = [("Proxy-Authorization", &ntlm(WIN7_NEGOTIATE)[..])];
    let burnt = stranger.request("GET", url, &negotiate, b"");
    assert_eq!(burnt.fields().get("Proxy-Authenticate"), Some("NTLM"));

    let hops = parent.hops();
    let logon = hops[2].logon().expect("welcome");
    assert!(logon.mic && logon.user == "Administrator", "{logon:?}");
    assert_eq!(hops[3].leg, Leg::Authenticated);
    assert_eq!(hops[4].leg, Leg::Authenticate(Err(Why::NoChallenge)));
    assert_eq!(hops[5].leg, Leg::Negotiate(Err(Why::Burnt)));
    assert_eq!((parent.handshakes(), parent.refusals(), parent.connections()), (1, 1, 2));
    assert!(origin.seen().iter().all(|seen| !seen.fields().has("Proxy-Authorization")));

    assert_eq!(parent.close_idle(), 2);
    assert!(client.is_closed() && stranger.is_closed());
}

#[test]
fn a_tunnel_keeps_early_bytes_and_half_closes() {
    let echo = Origin::tcp_echo();
    let parent = windows_parent().origin(echo.addr()).start();
    let mut client = Client::connect(parent.addr());
    assert_eq!(log_on(&mut client, "CONNECT", "example.test:443"), 200);
    client.send(pattern(300_000));
    client.finish();
    assert_eq!(fnv(&client.read_to_end()), fnv(&pattern(300_000)));

    let open = Parent::open().origin(echo.addr()).start();
    let mut client = Client::connect(open.addr());
    let mut bytes = client.head("CONNECT", "example.test:443", &[], b"");
    bytes.extend(b"early");
    client.send(bytes);
    assert_eq!(client.read_response().status(), 200);
    assert_eq!(client.read_exact(5), b"early");
}

#[test]
fn bodies_pass_a_parent_unharmed_in_every_framing() {
    let origin = Origin::start();
    let parent = Parent::open().origin(origin.addr()).start();
    let mut client = Client::connect(parent.addr());
    let body = pattern(200_000);
    for path in ["bytes/200000", "chunked/200000"] {
        assert_eq!(client.get(&format!("http://example.test/{path}")).bytes(), body, "{path}");
    }
    assert_eq!(client.request("POST", "http://example.test/echo", &[], &body).bytes(), body);
    let chunked = [("Transfer-Encoding", "chunked"), ("Expect", "100-continue")];
    client.start("POST", "http://example.test/hash", &chunked, b"");
    assert_eq!(client.read_head().status, 100);
    client.send([chunk(&body[..70_000]), chunk(&body[70_000..]), b"0\r\n\r\n".to_vec()].concat());
    assert_eq!(client.read_response().text(), format!("200000 {:016x}", fnv(&body)));
    assert_eq!(client.request("HEAD", "http://example.test/bytes/9", &[], b"").body.length, 0);
    assert_eq!(client.get("http://example.test/hints").interim[0].status, 103);
    assert_eq!(client.get("http://example.test/trailers").body.trailers.get("X-Sum"), Some("5"));
    assert_eq!(client.get("http://example.test/untilclose/200000").bytes(), body);
    assert!(client.is_closed());
    assert_eq!((origin.faults(), parent.connections()), (vec![], 1));
}

/// `None`, and a word about it, where there is no curl that speaks NTLM.
fn curl(parent: &Parent, arguments: &[&str]) -> Option<Output> {
    let version = Command::new("curl").arg("--version").output();
    if !version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("NTLM")) {
        println!("not tried: no curl with NTLM here");
        return None;
    }
    let proxy = format!("http://{}", parent.addr());
    let own = ["-q", "-sS", "--max-time", "5", "--noproxy", "", "--proxy-ntlm", "-x", &proxy];
    let output = Command::new("curl").args(own).args(arguments).output();
    Some(output.expect("curl runs"))
}

const USER: [&str; 2] = ["-U", "CORP\\alice:Secret-123"];

#[test]
fn curl_logs_on() {
    let origin = Origin::start();
    let parent = Parent::ntlm(ALICE).acceptor(Acceptor::lenient).origin(origin.addr()).start();
    let Some(got) = curl(&parent, &[&USER[..], &["http://example.test/hello"]].concat()) else {
        return;
    };
    assert_eq!(String::from_utf8_lossy(&got.stdout), "hello, world\n", "{}", words(&parent.hops()));

    let body = String::from_utf8_lossy(&[b'x'; 100_000]).into_owned();
    let post = ["--data-raw", &body, "http://example.test/hash"];
    let Some(got) = curl(&parent, &[&USER[..], &post].concat()) else { return };
    let hash = format!("100000 {:016x}", fnv(body.as_bytes()));
    assert_eq!(String::from_utf8_lossy(&got.stdout), hash, "{got:?}");

    let tunnel = ["-p", "http://example.test/hello"];
    let Some(got) = curl(&parent, &[&USER[..], &tunnel].concat()) else { return };
    assert_eq!(String::from_utf8_lossy(&got.stdout), "hello, world\n", "{got:?}");

    let hops = parent.hops();
    let logons: Vec<&Logon> = hops.iter().filter_map(|hop| hop.logon()).collect();
    assert_eq!(logons.len(), 3, "{}", words(&hops));
    for logon in logons {
        assert_eq!(
            (&logon.domain[..], &logon.user[..], logon.dialect),
            ("CORP", "alice", Dialect::Ntlmv2)
        );
    }
}

#[test]
fn curl_is_refused_with_a_wrong_password_or_by_the_strict() {
    let origin = Origin::start();
    let lenient = Parent::ntlm(ALICE).acceptor(Acceptor::lenient).origin(origin.addr()).start();
    let wrong = ["-U", "CORP\\alice:Secret-124", "-w", "%{http_code}", "http://example.test/hello"];
    let Some(got) = curl(&lenient, &wrong) else { return };
    assert!(got.stdout.ends_with(b"407"), "{got:?}");
    assert_eq!((lenient.handshakes(), lenient.refusals()), (0, 1));
    let last = lenient.hops().pop().expect("hops");
    assert_eq!(last.leg, Leg::Authenticate(Err(Why::WrongPassword { user: "alice".into() })));

    let strict = Parent::ntlm(ALICE).origin(origin.addr()).start();
    let right = ["-w", "%{http_code}", "http://example.test/hello"];
    let Some(got) = curl(&strict, &[&USER[..], &right].concat()) else { return };
    assert!(got.stdout.ends_with(b"407"), "{got:?}");
    assert!(origin.seen().is_empty());
}
