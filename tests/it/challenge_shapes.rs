//! Challenges of any shape, end to end: what cannot be answered is a 502 that says so and one line
//! in the log, and no shape at all is answered twice.

use std::sync::{Arc, Mutex, Once};

use crate::proxy::{ALICE, LOGIN, Network, Proxy, url};
use crate::support::doors::{Wall, parent};
use crate::support::listener::lock;
use crate::support::vectors::{WIN7_CHALLENGE, WIN7_NEGOTIATE, hex};
use crate::support::{Parent, Quirk, Response};

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps what this process warns of: lines of all tests, told apart by the URLs they name.
struct Keeper;

impl log::Log for Keeper {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        lock(&LOG).push(record.args().to_string());
    }

    fn flush(&self) {}
}

fn keep_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Keeper).expect("the only logger");
        log::set_max_level(log::LevelFilter::Warn);
    });
}

/// How many lines name that URL.
fn lines_of(url: &str) -> usize {
    lock(&LOG).iter().filter(|line| line.contains(&format!("{url}:"))).count()
}

fn is_clear(page: &Response, parent: &str, what: &str) {
    assert_eq!(page.status(), 502, "{what}: {}", page.text());
    assert!(page.text().contains(parent), "{what}: {}", page.text());
    let reason = ["challenge", "response that cannot be passed on"];
    assert!(reason.iter().any(|words| page.text().contains(words)), "{what}: {}", page.text());
}

/// The bytes of a CHALLENGE, others at `at`.
fn changed(at: usize, bytes: &[u8]) -> Quirk {
    let mut challenge = hex(WIN7_CHALLENGE);
    challenge[at..at + bytes.len()].copy_from_slice(bytes);
    Quirk::ChallengeBytes(challenge)
}

fn of_length(length: usize) -> Quirk {
    let mut challenge = hex(WIN7_CHALLENGE);
    challenge.resize(length, 0);
    Quirk::ChallengeBytes(challenge)
}

/// With a target info of so many bytes, in pairs that nobody knows.
fn with_target_info(length: usize, ends: bool) -> Quirk {
    let mut list = Vec::new();
    while list.len() + 1004 <= length {
        list.extend([&[0xff, 0x7f, 0xe8, 0x03][..], &[7; 1000]].concat());
    }
    list.extend(if ends { &[0; 4][..] } else { &[] });
    let mut challenge = hex(WIN7_CHALLENGE)[..48].to_vec();
    let size = u16::try_from(list.len()).expect("16 bits").to_le_bytes();
    challenge[40..48].copy_from_slice(&[size[0], size[1], size[0], size[1], 48, 0, 0, 0]);
    Quirk::ChallengeBytes([challenge, list].concat())
}

#[test]
fn an_ntlm_challenge_that_cannot_be_answered_is_a_502_and_one_line() {
    keep_log();
    let token = |token: &str| Quirk::ChallengeToken(token.into());
    let shapes = [
        ("empty", token("")),
        ("no base64", token("!!!")),
        ("no base64 either", token("TlRMTVNTUAAC=AAA")),
        ("padding alone", token("=")),
        ("the signature alone", of_length(8)),
        ("the type and no more", of_length(12)),
        ("one byte too short", of_length(31)),
        ("the header alone", of_length(48)),
        ("another signature", changed(0, b"NTLMSSQ")),
        ("a type 1", Quirk::ChallengeBytes(hex(WIN7_NEGOTIATE))),
        ("a type 3", changed(8, &[3])),
        ("a type from nowhere", changed(8, &[0xff; 4])),
        ("an offset behind the end", changed(44, &[0, 2])),
        ("the largest offset", changed(44, &[0xff; 4])),
        ("an offset and a length that wrap", changed(40, &[0xff; 8])),
        ("a length behind the end", changed(40, &[0xff; 4])),
        ("a pair behind the end of the list", changed(74, &[0xff, 0xff])),
        ("64 KiB of target info", with_target_info(0xffff, true)),
    ];
    for (number, (what, quirk)) in shapes.into_iter().enumerate() {
        let path = format!("/ntlm-{number}");
        let network = Network::new(Parent::ntlm(ALICE).quirk(quirk), LOGIN);
        let addr = network.parent.addr();
        is_clear(&network.get(&path), &addr.to_string(), what);
        assert_eq!((network.parent.handshakes(), network.parent.refusals()), (0, 0), "{what}");
        assert_eq!(network.legs().last().map(String::as_str), Some("negotiate GET"), "{what}");
        assert_eq!(lines_of(&path), 1, "{what}");
    }
}

#[test]
fn an_odd_ntlm_challenge_that_can_be_answered_is_answered_once() {
    for (what, quirk) in [
        ("20 KB behind the message", of_length(20_000)),
        ("a target name outside", changed(12, &[0xff; 8])),
        ("40 KB of target info", with_target_info(40_000, true)),
        ("a list without its end", with_target_info(3000, false)),
    ] {
        let network = Network::new(Parent::ntlm(ALICE).quirk(quirk), LOGIN);
        let status = network.get("/hello").status();
        let sent = network.parent.handshakes() + network.parent.refusals();
        assert_eq!(sent, 1, "{what}: {status}");
    }
}

#[test]
fn a_digest_challenge_that_cannot_be_read_is_a_502_and_one_line() {
    keep_log();
    let long = format!("Digest realm=\"r\", nonce=\"{}\", qop=\"auth\"", "n".repeat(66_000));
    let shapes = [
        "Digest",
        "Digest realm=\"r\"",
        "Digest nonce=\"n\"",
        "Digest AAAA====",
        "Digest ,,,=,\"",
        "Digest realm=\"r\", nonce=",
        "Digest realm=\"\", nonce=\"\"",
        "Digest realm=\"r, nonce=n, qop=auth",
        "Digest realm=\"r\", nonce=\"n\u{fffd}\\",
        "Digest realm=\"r\" nonce=\"n\"",
        &long,
    ];
    for (number, line) in shapes.into_iter().enumerate() {
        let path = format!("/digest-{number}");
        let parent = parent(&Arc::new(Wall(vec![line.to_owned()])));
        let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{LOGIN}", parent.addr()));
        is_clear(&proxy.get(&url(&path)), &parent.addr().to_string(), line);
        let seen = parent.seen();
        assert!(seen.iter().all(|seen| !seen.fields().has("Proxy-Authorization")), "{line}");
        assert_eq!(lines_of(&path), 1, "{line}");
    }
}

#[test]
fn an_odd_digest_challenge_is_answered_once() {
    let many = format!("Digest realm=\"r\", nonce=\"n\"{}", ", x=\"y\"".repeat(5000));
    for line in [
        "Digest realm=\"a\\\"b\\\\\", nonce=\"n\", qop=\"auth",
        "Digest realm=r, nonce=n, nonce=m, realm=s",
        &many,
    ] {
        let parent = parent(&Arc::new(Wall(vec![line.to_owned()])));
        let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{LOGIN}", parent.addr()));
        let status = proxy.get(&url("/")).status();
        let seen = parent.seen();
        let sent = seen.iter().filter(|seen| seen.fields().has("Proxy-Authorization")).count();
        assert_eq!((status, sent), (407, 1), "{line}");
    }
}
