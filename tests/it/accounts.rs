//! Where secrets come from, and whose account a request goes under.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::proxy::{ALICE, Network, basic, url};
use crate::support::crypto::{lmowf_v1, ntowf_v1, ntowf_v2, utf16le};
use crate::support::gate::base64;
use crate::support::{Client, Dialect, Leg, Origin, Parent};

const PATIENCE: Duration = Duration::from_secs(30);
const PASSWORD: &str = "Secret-123";

fn hex(hash: [u8; 16]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As the original kept them: the hash and the five zeros that DES wants.
fn of_the_original(hash: [u8; 16]) -> String {
    let text = base64(&[&hash[..], &[0; 5]].concat());
    assert_eq!(text.len(), 28);
    text
}

#[test]
fn hashes_alone_are_enough_for_their_dialects() {
    let (lm, nt) = (lmowf_v1(PASSWORD), ntowf_v1(PASSWORD));
    let v2 = format!("NTLMV2_HASHED_PW: {}\n", hex(ntowf_v2(PASSWORD, "alice", "CORP")));
    for spelt in [hex, |hash| hex(hash).to_uppercase(), of_the_original] {
        let lm = format!("LM_HASHED_PW: {}\n", spelt(lm));
        let nt = format!("NT_HASHED_PW: {}\n", spelt(nt));
        let both = format!("{lm}{nt}");
        for (name, dialect, hashes) in [
            ("NTLMv2", Dialect::Ntlmv2, &nt),
            ("NTLMv2", Dialect::Ntlmv2, &v2),
            ("NTLMv2", Dialect::Ntlmv2, &both),
            ("NTLM2SR", Dialect::Ntlm2Session, &nt),
            ("NTLM", Dialect::Ntlm, &both),
            ("NT", Dialect::NtOnly, &nt),
            ("LM", Dialect::LmOnly, &lm),
        ] {
            let cfg = format!("USER: alice\nNT_DOMAIN: CORP\nNTLM_DIALECT: {name}\n{hashes}");
            let parent = Parent::ntlm(ALICE).acceptor(|acceptor| acceptor.only(dialect));
            let network = Network::new(parent, &cfg);
            assert_eq!(network.get("/hello").status(), 200, "{cfg}{:?}", network.parent.hops());
        }
    }
}

#[test]
fn hashes_of_a_password_outside_ascii_log_in_too() {
    let (user, password) = ("jürgen", "pä$$ wörd:\"€\u{1d11e}");
    let nt = format!("NT_HASHED_PW: {}", hex(ntowf_v1(password)));
    let v2 = format!("NTLMV2_HASHED_PW: {}", hex(ntowf_v2(password, user, "CORP")));
    for hash in [nt, v2] {
        let network = Network::new(
            Parent::ntlm(&[("CORP", user, password)]),
            &format!("USER: CORP\\{user}\n{hash}\n"),
        );
        assert_eq!(network.get("/hello").status(), 200, "{hash}");
    }
}

#[test]
fn where_hashes_are_not_enough_the_page_says_so() {
    let login = format!("USER: CORP\\alice\nNT_HASHED_PW: {}\n", hex(ntowf_v1(PASSWORD)));
    let digest = "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"";
    let needs = "need the password itself";
    for (offers, auth, words) in [
        (&[digest][..], "", [needs, "Set USER and PASSWORD"]),
        (&[digest, "Basic realm=\"r\""], "", [needs, "Set USER and PASSWORD"]),
        (&["Basic realm=\"r\""], "AUTH: Basic\n", [needs, "Set USER and PASSWORD"]),
        (&["Basic realm=\"r\""], "", ["offers only Basic", "AUTH"]),
    ] {
        let parent = Parent::ntlm(ALICE).offer(offers);
        let network = Network::new(parent, &format!("{login}{auth}"));
        let page = network.get("/hello");
        assert_eq!((page.status(), network.legs()), (407, vec!["bare GET".to_owned()]));
        for word in words {
            assert!(page.text().contains(word), "{offers:?} {auth}: {}", page.text());
        }
    }
    let both = Network::new(Parent::ntlm(ALICE).offer(&[digest, "NTLM"]), &login);
    assert_eq!(both.get("/hello").status(), 200);
}

/// A directory with a configuration, and the program in it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str, cfg: &str) -> Self {
        let name = format!("accounts-{}-{name}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a directory");
        fs::write(path.join("ntlmaps.cfg"), cfg).expect("a file");
        Self(path)
    }

    fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ntlmaps"));
        command.current_dir(&self.0).env_clear().env("HOME", &self.0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Runs it to its end, which must come by itself: exit code and what it said.
fn ended(mut command: Command) -> (Option<i32>, String) {
    let mut running = Running(command.spawn().expect("the program starts"));
    let mut pipes: [Box<dyn Read + Send>; 2] = [
        Box::new(running.0.stdout.take().expect("a pipe")),
        Box::new(running.0.stderr.take().expect("a pipe")),
    ];
    let (tell, told) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let read = pipes.iter_mut().all(|pipe| pipe.read_to_string(&mut text).is_ok());
        _ = tell.send((read, text));
    });
    let outcome = told.recv_timeout(PATIENCE);
    if outcome.is_err() {
        _ = running.0.kill();
    }
    reader.join().expect("no panic");
    let (read, text) = outcome.expect("it ends and does not wait for anybody");
    assert!(read, "{text}");
    (running.0.wait().expect("it ended").code(), text)
}

#[test]
fn a_password_in_the_environment_logs_in() {
    let password = "pä$$ wörd:\"€ # =";
    let origin = Origin::start();
    let parent = Parent::ntlm(&[("CORP", "alice", password)]).origin(origin.addr()).start();
    let cfg = format!("PARENT_PROXY: {}\nUSER: CORP\\alice\n", parent.addr());
    let cfg = format!("LISTEN_ADDRESS: 127.0.0.1\nLISTEN_PORT: 0\n{cfg}");
    let place = Place::new("environment", &cfg);
    let mut program = place.program();
    program.env("NTLMAPS_PASSWORD", password);
    program.stderr(Stdio::null());
    let mut running = Running(program.spawn().expect("the program starts"));
    let mut line = String::new();
    let mut out = BufReader::new(running.0.stdout.take().expect("a pipe"));
    out.read_line(&mut line).expect("a line");
    let port = line.trim().rsplit(' ').next().and_then(|port| port.parse::<u16>().ok());
    let port = port.unwrap_or_else(|| panic!("{line:?}"));
    let mut client = Client::connect(([127, 0, 0, 1], port).into());
    assert_eq!(client.get(&url("/hello")).status(), 200, "{:?}", parent.hops());
}

#[test]
fn no_password_and_nobody_to_ask_is_an_error_and_no_hang() {
    let place = Place::new("nobody", "LISTEN_PORT: 0\nUSER: CORP\\alice\n");
    for stdin in [Stdio::null(), Stdio::piped()] {
        let mut program = place.program();
        program.stdin(stdin);
        let (code, said) = ended(program);
        assert_eq!(code, Some(1), "{said}");
        for word in ["no password", "alice", "terminal", "PASSWORD", "NTLMAPS_PASSWORD"] {
            assert!(said.contains(word), "{word} is not in: {said}");
        }
        assert!(!said.contains("Now listening"), "{said}");
    }
    let mut program = place.program();
    program.env("NTLMAPS_PASSWORD", "");
    let (code, said) = ended(program);
    assert!(code == Some(1) && said.contains("password"), "{said}");
}

/// Five accounts; what the clients believe of the last two is wrong.
const FIVE: &[(&str, &str, &str)] = &[
    ("CORP", "ann", "pw-of-ann-1"),
    ("CORP", "bob", "pw:of:bob:2"),
    ("OTHER", "cleo", "pw-of-cleo-Ä€"),
    ("CORP", "dan", "pw-of-dan-4"),
    ("CORP", "eve", "pw-of-eve-5"),
];
const BROUGHT: [(&str, bool); 5] = [
    ("ann:pw-of-ann-1", true),
    ("CORP\\bob:pw:of:bob:2", true),
    ("OTHER\\cleo:pw-of-cleo-Ä€", true),
    ("dan:not-dan's", false),
    ("eve:not-eve's", false),
];

fn name_of(pair: &str) -> &str {
    let name = pair.split(':').next().unwrap_or_default();
    name.rsplit('\\').next().unwrap_or_default()
}

#[test]
fn fifty_clients_with_five_accounts_are_never_mixed_up() {
    let network = Network::new(Parent::ntlm(FIVE), "NT_DOMAIN: CORP\n");
    thread::scope(|scope| {
        for number in 0..50 {
            let network = &network;
            scope.spawn(move || {
                let mut client = network.client();
                client.wire.deadline(PATIENCE).expect("a socket");
                for round in 0..10 {
                    // Most change over and over on one connection, some are faithful.
                    let step = if number % 3 == 0 { 0 } else { round };
                    let (pair, right) = BROUGHT[(number + step) % 5];
                    let target = url(&format!("/status/200?{}", name_of(pair)));
                    let fields = [("Proxy-Authorization", &*basic(pair))];
                    let (method, body) =
                        if round % 4 == 3 { ("POST", "body") } else { ("GET", "") };
                    let page = client.request(method, &target, &fields, body.as_bytes());
                    assert_eq!(page.status(), if right { 200 } else { 407 }, "{}", page.text());
                }
            });
        }
    });
    let mut owners = BTreeMap::new();
    let mut served = 0;
    for hop in network.parent.hops() {
        if let Some(logon) = hop.logon() {
            let before = owners.insert(hop.connection, logon.user.clone());
            assert_eq!(before, None, "one connection, one account");
        }
        if hop.status == Some(200) {
            let asked = hop.target().rsplit('?').next().unwrap_or_default();
            assert_eq!(owners.get(&hop.connection).map(String::as_str), Some(asked), "{hop}");
            served += 1;
        }
    }
    assert_eq!(served, network.origin.seen().len());
    assert_eq!(network.parent.refusals(), 2, "one for each wrong password");
    let origin = network.origin.seen();
    assert!(
        origin.iter().all(|seen| !["dan", "eve"].iter().any(|n| seen.head.target.ends_with(n)))
    );
    let heads = network.parent.hops().into_iter().map(|hop| (hop.head, hop.body));
    for (head, body) in heads.chain(origin.into_iter().map(|seen| (seen.head, seen.body))) {
        carries_no_secret(&[&head.raw[..], &body.bytes].concat());
        for value in head.fields.all("Proxy-Authorization") {
            let token = value.strip_prefix("NTLM ").unwrap_or_else(|| panic!("{value}"));
            carries_no_secret(&BASE64.decode(token).expect("base64"));
        }
    }
}

/// Neither plain nor in UTF-16, nor in base64 wherever it may begin in it.
fn carries_no_secret(bytes: &[u8]) {
    let has = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    for (pair, _) in BROUGHT {
        let (_, password) = pair.split_once(':').expect("a pair");
        assert!(!has(password.as_bytes()) && !has(&utf16le(password)), "{password}");
        for secret in [pair, password] {
            for shift in 0..3 {
                let text = base64(&[&b"xx"[..shift], secret.as_bytes()].concat());
                let text = &text[(shift * 8).div_ceil(6)..text.trim_end_matches('=').len() - 1];
                assert!(!has(text.as_bytes()), "{secret} in base64");
            }
        }
    }
}

#[test]
fn one_realm_and_one_charset_whatever_goes_wrong() {
    let network = Network::new(Parent::ntlm(FIVE), "NT_DOMAIN: CORP\n");
    let mut client = network.client();
    let wrong = basic("ann:wrong");
    for (method, target, fields) in [
        ("GET", url("/hello"), vec![]),
        ("GET", "http://other.test:8080/x".into(), vec![]),
        ("POST", url("/echo"), vec![("Proxy-Authorization", "Basic ???")]),
        ("CONNECT", "third.test:443".into(), vec![]),
        ("CONNECT", "third.test:443".into(), vec![("Proxy-Authorization", &*wrong)]),
        ("GET", url("/hello"), vec![("Proxy-Authorization", &*wrong)]),
        ("HEAD", url("/hello"), vec![("Proxy-Authorization", &*wrong)]),
    ] {
        let page = client.request(method, &target, &fields, b"");
        assert_eq!(page.status(), 407, "{method} {target}");
        let challenges = page.fields().all("Proxy-Authenticate");
        assert_eq!(challenges, ["Basic realm=\"ntlmaps\", charset=\"UTF-8\""], "{method} {target}");
    }
    assert_eq!(network.parent.refusals(), 1);
    let right = [("Proxy-Authorization", &*basic("ann:pw-of-ann-1"))];
    assert_eq!(client.request("GET", &url("/hello"), &right, b"").status(), 200);
    let bare = network.parent.hops().into_iter().filter(|hop| hop.leg == Leg::Bare);
    assert_eq!(bare.count(), 1, "who brings nothing is not taken to the parent");
}
