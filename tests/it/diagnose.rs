//! `--diagnose`, as a process: what it finds at parents of every kind, what it costs the account,
//! what it advises, and its exit code.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use ntlmaps::config::{Args, Config};
use ntlmaps::sys;

use crate::proxy::{ALICE, LOGIN, url};
use crate::support::{Builder, Dialect, Hop, Leg, Origin, Parent, Quirk};

const WRONG: &str = "USER: CORP\\alice\nPASSWORD: Wr0ng-Secret\n";

/// A file of a test's own, gone with it.
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

/// What a run said: on success or not, its report and its conclusion.
struct Said {
    code: Option<i32>,
    report: String,
}

/// Runs the program with these lines as its configuration. Whatever comes out, no secret does.
fn diagnose(cfg: &str, words: &[&str]) -> Said {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("diagnose-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let file = File(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name));
    fs::write(&file.0, cfg).expect("a file of our own");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ntlmaps"));
    command.env_clear().stdin(Stdio::null()).arg("-c").arg(&file.0).arg("--diagnose").args(words);
    let output = command.output().expect("the program starts");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = format!("{report}{}", String::from_utf8_lossy(&output.stderr));
    for secret in ["Secret-123", "Wr0ng-Secret", "TlRMTVNTUA", "Basic Q", "Basic Y"] {
        assert!(!all.contains(secret), "{secret} in\n{all}");
    }
    assert!(report.lines().all(|line| line.chars().count() <= 80), "{report}");
    Said { code: output.status.code(), report }
}

impl Said {
    /// Wrapped lines made whole, as a reader takes them.
    fn has(&self, text: &str) -> bool {
        self.report.split_whitespace().collect::<Vec<_>>().join(" ").contains(text)
    }

    #[track_caller]
    fn tells(&self, texts: &[&str]) {
        for text in texts {
            assert!(self.has(text), "{text:?} is missing in\n{}", self.report);
        }
    }

    /// What is to be written into the configuration.
    fn advice(&self) -> Vec<&str> {
        let end = self.report.rsplit("What to write into the configuration:\n").next();
        end.unwrap_or_default().lines().map(str::trim).filter(|line| !line.is_empty()).collect()
    }
}

/// A parent in front of an origin that every name leads to, diagnosed; `%` in the words of the
/// configuration stands for it.
fn at(parent: Builder, cfg: &str, words: &[&str]) -> (Said, Parent) {
    let origin = Origin::start();
    let parent = parent.origin(origin.addr()).start();
    let said = diagnose(&format!("PARENT_PROXY: {}\n{cfg}", parent.addr()), words);
    assert_eq!(parent.faults(), Vec::<String>::new());
    (said, parent)
}

fn is_authenticate(hop: &&Hop) -> bool {
    matches!(hop.leg, Leg::Authenticate(_))
}

#[test]
fn a_login_that_works_is_told_step_by_step() {
    let (said, parent) = at(Parent::ntlm(ALICE), LOGIN, &[&url("/hello")]);
    let address = parent.addr().to_string();
    assert_eq!(said.code, Some(0), "{}", said.report);
    said.tells(&[
        "Diagnosis with the URL http://example.test/hello account",
        "account CORP\\alice, NTLM_DIALECT NTLMv2",
        &format!("Parent proxy {address} address 127.0.0.1 connected in"),
        "answer 407",
        "offers NTLM",
        "connection stays open after the 407",
        "NTLMSSP_NEGOTIATE_UNICODE NTLMSSP_REQUEST_TARGET NTLMSSP_NEGOTIATE_NTLM",
        "NTLMSSP_NEGOTIATE_EXTENDED_SESSIONSECURITY NTLMSSP_NEGOTIATE_TARGET_INFO",
        "target info MsvAvNbDomainName CORP MsvAvNbComputerName PROXY",
        "MsvAvDnsComputerName proxy.corp.example.test MsvAvTimestamp 20",
        "clock the server's is",
        "login NTLMv2 by NTLM as CORP\\alice: accepted, in",
        "result the request went through: 200 OK",
    ]);
    assert!(!said.has("means"), "{}", said.report);
    assert_eq!((parent.handshakes(), parent.refusals(), parent.connections()), (1, 0, 1));
    // What it advises can be written as it is.
    let advice = said.advice();
    assert!(advice.contains(&"NTLM_DIALECT: NTLMv2"), "{advice:?}");
    let loaded = Config::load("advice", advice.join("\n").as_bytes(), &Args::default());
    let loaded = loaded.unwrap_or_else(|notices| panic!("{notices:#?}"));
    assert!(loaded.warnings.is_empty(), "{:#?}", loaded.warnings);
    assert_eq!(loaded.config.parents[0].to_string(), address);
}

#[test]
fn a_wrong_password_is_one_bad_logon() {
    let (said, parent) = at(Parent::ntlm(ALICE), WRONG, &[]);
    assert_eq!(said.code, Some(1), "{}", said.report);
    said.tells(&[
        "the URL http://example.com/ (none was given)",
        "as CORP\\alice: REFUSED",
        "Each refusal is one bad logon.",
        "Look at USER, NT_DOMAIN, PASSWORD",
        "No request went through.",
    ]);
    assert!(said.advice().iter().any(|line| line.starts_with("PASSWORD: <")));
    assert_eq!(parent.hops().iter().filter(is_authenticate).count(), 1);
}

#[test]
fn credentials_that_one_parent_refused_are_not_sent_to_another() {
    let parents = [(); 3].map(|()| Parent::ntlm(ALICE).start());
    let list: Vec<String> = parents.iter().map(|parent| parent.addr().to_string()).collect();
    for words in [&[][..], &["--all-dialects"]] {
        let before: usize = parents.iter().map(Parent::refusals).sum();
        let said = diagnose(&format!("PARENT_PROXY: {}\n{WRONG}", list.join(" ")), words);
        assert_eq!(said.code, Some(1), "{}", said.report);
        let not_tried = format!("not tried: the parent proxy {} did not accept", list[0]);
        said.tells(&[&not_tried]);
        assert_eq!(said.report.matches("MsvAvTimestamp").count(), 3, "{}", said.report);
        let after: usize = parents.iter().map(Parent::refusals).sum();
        assert_eq!(after - before, if words.is_empty() { 1 } else { 5 });
        assert_eq!(parents[1].refusals() + parents[2].refusals(), 0);
    }
}

#[test]
fn all_dialects_are_tried_in_order_until_one_works() {
    let accepts = |dialect| Parent::ntlm(ALICE).acceptor(|acceptor| acceptor.only(dialect));
    for (dialect, name, refused) in [
        (Dialect::Ntlmv2, "NTLMv2", 0),
        (Dialect::Ntlm2Session, "NTLM2SR", 1),
        (Dialect::Ntlm, "NTLM", 2),
        (Dialect::NtOnly, "NT", 3),
        (Dialect::LmOnly, "LM", 4),
    ] {
        let (said, parent) = at(accepts(dialect), LOGIN, &["--all-dialects", &url("/hello")]);
        assert_eq!(said.code, Some(0), "{name}: {}", said.report);
        assert_eq!((parent.refusals(), parent.handshakes()), (refused, 1), "{name}");
        let warning = said.report.find("each refusal counts as a bad logon");
        assert!(warning < said.report.find("Parent proxy"), "{}", said.report);
        let wanted = format!("NTLM_DIALECT: {name}");
        assert!(said.advice().contains(&wanted.as_str()), "{}", said.report);
        // A refused connection is burnt.
        let hops = parent.hops();
        let connections: Vec<usize> =
            hops.iter().filter(is_authenticate).map(|hop| hop.connection).collect();
        assert!(connections.is_sorted_by(|a, b| a < b), "{connections:?}");
    }
    let (said, parent) = at(accepts(Dialect::Ntlm), LOGIN, &[]);
    assert_eq!((said.code, parent.refusals()), (Some(1), 1), "{}", said.report);
}

#[test]
fn dialects_without_their_hash_are_told_and_not_tried() {
    // Of "Secret-123": NT only.
    let out = {
        let keys = ntlmaps::ntlm::crypto::ntowfv1("Wr0ng-Secret");
        keys.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let cfg = format!("USER: CORP\\alice\nNT_HASHED_PW: {out}\n");
    let (said, parent) = at(Parent::ntlm(ALICE), &cfg, &["--all-dialects"]);
    assert_eq!((said.code, parent.refusals()), (Some(1), 3), "{}", said.report);
    said.tells(&["NT by NTLM as CORP\\alice: REFUSED", "LM needs a hash", "one bad logon"]);
    assert!(!said.report.contains(&out));
}

#[test]
fn a_parent_that_needs_the_password_of_which_there_is_a_hash_is_told() {
    let cfg = format!("USER: CORP\\alice\nNT_HASHED_PW: {}\n", "00".repeat(16));
    let digest = Parent::ntlm(ALICE).offer(&["Digest realm=\"r\", nonce=\"n\", qop=\"auth\""]);
    let (said, _) = at(digest, &cfg, &[]);
    assert_eq!(said.code, Some(1), "{}", said.report);
    said.tells(&["need the password itself", "Look at PASSWORD"]);
}

#[test]
fn parents_that_close_behind_their_407_are_seen_through() {
    for (quirk, told) in [
        (Quirk::CloseAfterBare, "closes after the 407, and says so"),
        (Quirk::DropAfterBare, "closes after the 407 without saying so"),
        (Quirk::RefusalChunked, "stays open after the 407"),
        (Quirk::RefusalHttp10, "stays open after the 407"),
    ] {
        let (said, parent) = at(Parent::ntlm(ALICE).quirk(quirk), LOGIN, &[&url("/hello")]);
        assert_eq!((said.code, parent.refusals()), (Some(0), 0), "{}", said.report);
        said.tells(&[told, "accepted"]);
    }
}

#[test]
fn a_broken_challenge_costs_nothing() {
    for (quirk, told) in [
        (Quirk::ChallengeBytes(b"NTLMSSP\0\x02\0\0\0short".to_vec()), "it is too short"),
        (Quirk::ChallengeBytes(b"NTLMSSP\0\x03\0\0\0".to_vec()), "a message of type 3, not 2"),
        (Quirk::ChallengeToken("!!!".into()), "its NTLM challenge is not base64"),
    ] {
        let (said, parent) = at(Parent::ntlm(ALICE).quirk(quirk), LOGIN, &[]);
        assert_eq!(said.code, Some(1), "{}", said.report);
        said.tells(&[told, "Ask those who run the parent"]);
        assert_eq!(parent.hops().iter().filter(is_authenticate).count(), 0);
    }
}

#[test]
fn basic_is_answered_where_auth_names_it_and_nowhere_else() {
    let offers = || Parent::ntlm(ALICE).offer(&["Basic realm=\"corp\""]);
    let (said, parent) = at(offers(), LOGIN, &[&url("/hello")]);
    assert_eq!(said.code, Some(1), "{}", said.report);
    said.tells(&["offers Basic realm=\"corp\"", "it offers only Basic", "AUTH does not allow"]);
    assert!(said.advice().contains(&"AUTH: NTLM Negotiate Digest Basic"), "{}", said.report);
    assert_eq!(parent.hops().len(), 1);
    let cfg = format!("{LOGIN}AUTH: NTLM Basic\n");
    let (said, parent) = at(offers(), &cfg, &[&url("/hello")]);
    assert_eq!((said.code, parent.hops().len()), (Some(0), 2), "{}", said.report);
    said.tells(&["login Basic as alice: accepted"]);
    assert!(said.advice().contains(&"AUTH: NTLM Basic"), "{}", said.report);
    let (said, parent) = at(offers(), &format!("{WRONG}AUTH: Basic\n"), &["--all-dialects"]);
    assert_eq!((said.code, parent.hops().len()), (Some(1), 2), "{}", said.report);
}

#[test]
fn negotiate_is_diagnosed_like_ntlm() {
    // MsvAvDnsTreeName: ESC [2J, which would clear a screen.
    let tree = b"\x1b\0[\x002\0J\0";
    let parent = Parent::ntlm(ALICE).offer(&["Negotiate", "Kerberos"]);
    let parent = parent.acceptor(|acceptor| acceptor.pair(5, tree));
    let (said, parent) = at(parent, LOGIN, &[&url("/hello")]);
    assert_eq!((said.code, parent.handshakes()), (Some(0), 1), "{}", said.report);
    said.tells(&["offers Negotiate Kerberos", "NTLMv2 by Negotiate", "MsvAvDnsTreeName ?[2J"]);
}

#[test]
fn a_clock_that_is_off_is_told() {
    let hour = 3600 * 10_000_000;
    for (server, told) in [
        (sys::file_time() - hour, "s behind this machine's"),
        (sys::file_time() + hour, "s ahead of this machine's"),
    ] {
        let parent = Parent::ntlm(ALICE)
            .acceptor(|acceptor| acceptor.without_timestamp().pair(7, &server.to_le_bytes()));
        let (said, _parent) = at(parent, LOGIN, &[&url("/hello")]);
        assert_eq!(said.code, Some(0), "{}", said.report);
        said.tells(&[told, "Set the clock that is wrong."]);
        assert!(said.has("the server's is 36") || said.has("the server's is 359"));
    }
    let parent = Parent::ntlm(ALICE).acceptor(|acceptor| acceptor.without_timestamp());
    said_without_clock(&at(parent, LOGIN, &[&url("/hello")]).0);
    let parent = Parent::ntlm(ALICE).acceptor(|acceptor| acceptor.minimal());
    let (said, _parent) = at(parent, LOGIN, &[&url("/hello")]);
    said_without_clock(&said);
    said.tells(&["target info none"]);
}

fn said_without_clock(said: &Said) {
    assert_eq!(said.code, Some(0), "{}", said.report);
    said.tells(&["clock the challenge carries no time"]);
}

#[test]
fn a_parent_that_is_down_does_not_hide_the_next_one() {
    let mut down = Parent::ntlm(ALICE).start();
    down.stop();
    let said = diagnose(&format!("PARENT_PROXY: {}\n{LOGIN}", down.addr()), &[]);
    assert_eq!(said.code, Some(1), "{}", said.report);
    said.tells(&["Connection refused", "Look at PARENT_PROXY and PARENT_PROXY_PORT"]);
    assert!(said.advice()[1].starts_with("PARENT_PROXY: <"), "{}", said.report);

    let origin = Origin::start();
    let up = Parent::ntlm(ALICE).origin(origin.addr()).start();
    let cfg = format!("PARENT_PROXY: {} {}\n{LOGIN}", down.addr(), up.addr());
    let said = diagnose(&cfg, &[&url("/hello")]);
    assert_eq!((said.code, up.handshakes()), (Some(0), 1), "{}", said.report);
    let advised = format!("PARENT_PROXY: {}", up.addr());
    assert!(said.advice().contains(&advised.as_str()), "{}", said.report);
}

#[test]
fn a_parent_that_says_nothing_is_not_waited_for_for_ever() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("its number");
    let said = diagnose(&format!("PARENT_PROXY: {address}\nPARENT_PROXY_TIMEOUT: 1\n{LOGIN}"), &[]);
    assert_eq!(said.code, Some(1), "{}", said.report);
    said.tells(&["gave no answer for 2 s", "perhaps another port"]);
}

#[test]
fn without_an_account_it_goes_as_far_as_the_challenge() {
    for cfg in ["", "NTLM_TO_BASIC: 0\n"] {
        let (said, parent) = at(Parent::ntlm(ALICE), cfg, &[&url("/hello")]);
        assert_eq!(said.code, Some(1), "{}", said.report);
        said.tells(&["MsvAvTimestamp", "not tried: there is no account", "--username"]);
        assert_eq!(parent.hops().iter().filter(is_authenticate).count(), 0);
    }
    let words = ["--username", "CORP\\alice", "--password", "Secret-123", &url("/hello")];
    let (said, parent) = at(Parent::ntlm(ALICE), "", &words);
    assert_eq!((said.code, parent.handshakes()), (Some(0), 1), "{}", said.report);
}

#[test]
fn a_parent_that_asks_for_nothing_is_told_so() {
    let (said, parent) = at(Parent::open(), "", &[&url("/hello")]);
    assert_eq!((said.code, parent.hops().len()), (Some(0), 1), "{}", said.report);
    assert!(said.advice().contains(&"NTLM_TO_BASIC: 0"), "{}", said.report);
}

#[test]
fn https_is_a_tunnel_that_is_not_used() {
    let (said, parent) = at(Parent::ntlm(ALICE), LOGIN, &["https://example.test/x?y"]);
    assert_eq!(said.code, Some(0), "{}", said.report);
    said.tells(&["the URL https://example.test/x?y", "the tunnel went through: 200"]);
    let targets: Vec<String> =
        parent.hops().iter().map(|hop| format!("{} {}", hop.method(), hop.target())).collect();
    assert_eq!(targets, ["CONNECT example.test:443"; 3]);
    let denies = Parent::ntlm(ALICE).quirk(Quirk::ConnectAnswer(403, "no".into()));
    let (said, parent) = at(denies, LOGIN, &["https://example.test/"]);
    assert_eq!((said.code, parent.handshakes()), (Some(1), 1), "{}", said.report);
    said.tells(&["accepted", "the tunnel was not served: 403", "Another URL may fare better"]);
}

#[test]
fn without_a_parent_the_url_is_fetched_directly() {
    let origin = Origin::start();
    let said = diagnose("", &[&origin.url("/hello")]);
    assert_eq!((said.code, origin.seen().len()), (Some(0), 1), "{}", said.report);
    said.tells(&["everything goes direct", "Directly to 127.0.0.1", "went through: 200"]);
    assert!(said.advice().contains(&"PARENT_PROXY:"), "{}", said.report);
    let said = diagnose("", &[&format!("https://{}/", origin.addr())]);
    assert_eq!(said.code, Some(0), "{}", said.report);
}

#[test]
fn a_host_that_bypasses_the_parents_is_pointed_out() {
    let cfg = format!("{LOGIN}HOSTS_TO_BYPASS_PARENT_PROXY: example.test\n");
    let (said, parent) = at(Parent::ntlm(ALICE), &cfg, &[&url("/hello")]);
    assert_eq!((said.code, parent.handshakes()), (Some(0), 1), "{}", said.report);
    said.tells(&["HOSTS_TO_BYPASS_PARENT_PROXY names this host"]);
}
