//! The program as a process: words, files and environment in; lines and exit codes out.

use std::io::Write;
use std::process::{Output, Stdio};

use crate::logs::dumped;
use crate::process::{Place, Serving, texts};
use crate::proxy::{ALICE, basic, url};
use crate::support::gate::base64;
use crate::support::{Client, Origin, Parent};

fn run(words: &[&str]) -> Output {
    Place::new().run(words)
}

#[test]
fn it_says_where_it_listens_and_serves_there() {
    let origin = Origin::start();
    let place = Place::with("my.cfg", "LISTEN_PORT: 0\nLISTEN_ADDRESS: 127.0.0.1 127.0.0.2\n");
    let mut serving = Serving::start(place.command(&["-c", "my.cfg"]));
    let addresses = [serving.address(), serving.address()];
    assert_eq!(addresses[0].port(), addresses[1].port());
    assert_eq!(addresses.map(|addr| addr.ip().to_string()), ["127.0.0.1", "127.0.0.2"]);
    for address in addresses {
        assert_eq!(Client::connect(address).get(&origin.url("/hello")).status(), 200);
    }
}

#[test]
fn without_words_it_takes_the_file_of_its_directory() {
    for file in ["ntlmaps.cfg", "server.cfg", ".ntlmaps.conf"] {
        let place = Place::with(file, "LISTEN_PORT: 0\nLISTEN_ADDRESS: 127.0.0.3\n");
        let mut serving = Serving::start(place.command(&[]));
        assert_eq!(serving.address().ip().to_string(), "127.0.0.3", "{file}");
    }
    let place = Place::with("some.cfg", "LISTEN_PORT: 0\nLISTEN_ADDRESS: 127.0.0.4\n");
    let mut command = place.command(&[]);
    command.env("NTLMAPS_CONF", "some.cfg");
    assert_eq!(Serving::start(command).address().ip().to_string(), "127.0.0.4");
}

#[test]
fn words_overrule_the_file() {
    let origin = Origin::start();
    let parent = Parent::ntlm(ALICE).origin(origin.addr()).start();
    let cfg =
        format!("LISTEN_ADDRESS: 127.0.0.1\nLISTEN_PORT: 1\nPARENT_PROXY: {}\n", parent.addr());
    let place = Place::with("ntlmaps.cfg", &cfg);
    let words =
        ["--port", "0", "--username", "alice", "--domain", "CORP", "--password", "Secret-123"];
    let mut serving = Serving::start(place.command(&words));
    Client::connect(serving.address()).request("CONNECT", "a.test:1", &[], b"");
    assert_eq!(parent.handshakes(), 1, "{:?}", parent.hops());
    assert!(!serving.end().contains("Secret"));
}

#[test]
fn a_password_may_come_from_the_environment() {
    let origin = Origin::start();
    let parent = Parent::ntlm(ALICE).origin(origin.addr()).start();
    let cfg = format!("LISTEN_PORT: 0\nPARENT_PROXY: {}\nUSER: CORP\\alice\n", parent.addr());
    let place = Place::with("ntlmaps.cfg", &cfg);
    let mut command = place.command(&[]);
    command.env("NTLMAPS_PASSWORD", "Secret-123");
    let mut serving = Serving::start(command);
    assert_eq!(Client::connect(serving.address()).get(&url("/hello")).status(), 200);
}

#[test]
fn a_missing_password_without_a_terminal_is_an_error_that_says_what_to_do() {
    let place = Place::with("ntlmaps.cfg", "LISTEN_PORT: 0\nPARENT_PROXY: p\nUSER: CORP\\alice\n");
    let (code, out, err) = texts(&place.run(&[]));
    assert_eq!((code, out.as_str()), (1, ""));
    for word in ["alice", "PASSWORD", "NTLMAPS_PASSWORD", "terminal"] {
        assert!(err.contains(word), "{err}");
    }
}

#[test]
fn words_that_make_no_sense_are_exit_code_2() {
    for words in
        [&["--nonsense"][..], &["-p", "seventy"], &["-c"], &["stray"], &["--check", "--hash"]]
    {
        let (code, out, err) = texts(&run(words));
        assert_eq!((code, out.as_str()), (2, ""), "{words:?}");
        assert!(err.starts_with("ntlmaps: ") && err.contains("--help"), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

#[test]
fn help_and_version_are_printed_and_that_is_all() {
    for word in ["-h", "--help"] {
        let (code, out, err) = texts(&run(&[word]));
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.starts_with("Usage: ntlmaps") && out.contains("--check"), "{out}");
    }
    for word in ["-V", "--version"] {
        let (code, out, err) = texts(&run(&[word]));
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(out, format!("ntlmaps {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_with_their_lines() {
    let file = "[GENERAL]\nLISTEN_PORT: 99999\nMAX_CLIENTS: few\nLISTEN_PROT: 1\n\
                [NTLM_AUTH]\nNTLM_DIALECT: NTLMv3\nNT_HASHED_PW: s3cret\nUSER: u\n";
    let place = Place::with("bad.cfg", file);
    for words in [&["-c", "bad.cfg"][..], &["-c", "bad.cfg", "--check"]] {
        let (code, out, err) = texts(&place.run(words));
        assert_eq!((code, out.as_str()), (1, ""), "{words:?}");
        for start in [
            "ntlmaps: error: bad.cfg:2: LISTEN_PORT",
            "ntlmaps: error: bad.cfg:3: MAX_CLIENTS",
            "ntlmaps: warning: bad.cfg:4: \"LISTEN_PROT\"",
            "ntlmaps: error: bad.cfg:6: NTLM_DIALECT",
            "ntlmaps: error: bad.cfg:7: NT_HASHED_PW",
        ] {
            assert!(err.lines().any(|line| line.starts_with(start)), "{start}\n{err}");
        }
        assert!(!err.contains("s3cret"), "{err}");
    }
}

#[test]
fn a_file_that_is_not_there_is_exit_code_1_with_its_name() {
    let (code, out, err) = texts(&run(&["-c", "nowhere.cfg"]));
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("nowhere.cfg"), "{err}");
}

#[test]
fn a_port_that_is_taken_is_exit_code_1_with_what_to_do() {
    let taken = Origin::start();
    let cfg = format!("LISTEN_ADDRESS: 127.0.0.1\nLISTEN_PORT: {}\n", taken.addr().port());
    let (code, out, err) = texts(&Place::with("ntlmaps.cfg", &cfg).run(&[]));
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains(&taken.addr().port().to_string()) && err.contains("LISTEN_PORT"), "{err}");
}

#[test]
fn check_prints_what_holds_and_no_secret() {
    let cfg = "PARENT_PROXY: proxy.test\nUSER: CORP\\alice\nPASSWORD: s3cret-word\n";
    let place = Place::with("ntlmaps.cfg", cfg);
    for words in [&["--check"][..], &["--check", "-v"], &["--check", "--port", "81"]] {
        let (code, out, err) = texts(&place.run(words));
        assert_eq!(code, 0, "{err}");
        for word in ["PARENT_PROXY", "proxy.test", "CORP\\alice", "***", "ntlmaps.cfg:1"] {
            assert!(out.contains(word), "{word}\n{out}");
        }
        assert!(!out.contains("s3cret") && !err.contains("s3cret"), "{out}{err}");
        assert_eq!(words.contains(&"81"), out.contains("command line"), "{out}");
    }
}

#[test]
fn hash_prints_lines_that_log_in() {
    let place = Place::with("ntlmaps.cfg", "NT_DOMAIN: Domain\nUSER: User\n");
    let mut child = place.command(&["--hash"]).stdin(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(b"Password\n").expect("it reads");
    let (code, out, err) = texts(&child.wait_with_output().expect("it ends"));
    assert_eq!(code, 0, "{err}");
    // MS-NLMP 4.2.2.1.2 and 4.2.4.1.1.
    assert!(out.to_lowercase().contains("nt_hashed_pw: a4f49c406510bdcab6824ee7c30fd852"), "{out}");
    assert!(
        out.to_lowercase().contains("ntlmv2_hashed_pw: 0c868a403bfd7a93a3001ef22ef02e3f"),
        "{out}"
    );
    assert!(!out.contains("Password\n") && !err.contains("Password\n"), "{out}{err}");

    let origin = Origin::start();
    let parent = Parent::ntlm(&[("Domain", "User", "Password")]).origin(origin.addr()).start();
    let lines: Vec<&str> = out.lines().filter(|line| line.starts_with("NT")).collect();
    for line in lines {
        let cfg = format!(
            "LISTEN_PORT: 0\nPARENT_PROXY: {}\nUSER: User\nNT_DOMAIN: Domain\n{line}\n",
            parent.addr()
        );
        let place = Place::with("ntlmaps.cfg", &cfg);
        let mut serving = Serving::start(place.command(&[]));
        let response = Client::connect(serving.address()).get(&url("/hello"));
        assert_eq!(response.status(), 200, "{line}: {}", response.text());
    }
}

/// At the loudest, after logins that worked and logins that did not, of both kinds.
#[test]
fn no_secret_is_ever_told() {
    let origin = Origin::start();
    let parent = Parent::ntlm(ALICE).origin(origin.addr()).start();
    let debug = "DEBUG: 1\nAUTH_DEBUG: 1\nBIN_DEBUG: 1\nSCR_DEBUG: 1\n";
    for (account, pair) in [
        ("USER: CORP\\alice\nPASSWORD: Secret-123\n", None),
        ("USER: CORP\\alice\nPASSWORD: Wr0ng-Secret\n", None),
        ("NT_DOMAIN: CORP\n", Some("alice:Secret-123")),
        ("NT_DOMAIN: CORP\n", Some("alice:Wr0ng-Secret")),
    ] {
        let cfg = format!("LISTEN_PORT: 0\nPARENT_PROXY: {}\n{account}{debug}", parent.addr());
        let place = Place::with("ntlmaps.cfg", &cfg);
        let mut command = place.command(&["-vv"]);
        command.env("RUST_LOG", "trace");
        let mut serving = Serving::start(command);
        let address = serving.address();
        let value = pair.map(basic);
        let target = "http://ann:URL-s3cret@example.test/hello";
        for (method, target) in [("GET", target), ("POST", target), ("CONNECT", "example.test:80")]
        {
            let fields: Vec<_> =
                value.iter().map(|value| ("Proxy-Authorization", value.as_str())).collect();
            let body: &[u8] = if method == "POST" { b"the body" } else { b"" };
            let response = Client::connect(address).request(method, target, &fields, body);
            let expected =
                if account.contains("Wr0ng") || pair.is_some_and(|pair| pair.contains("Wr0ng")) {
                    407
                } else {
                    200
                };
            assert_eq!(response.status(), expected, "{account}");
        }
        let said = serving.end();
        assert!(said.contains("example.test"), "it does say something: {said}");
        let said = said.clone() + &dumped(&said);
        assert!(
            said.contains("POST http://**************@example.test/hello HTTP/1.1\r\n"),
            "{said}"
        );
        for password in ["Secret-123", "Wr0ng-Secret"] {
            let encoded = base64(format!("alice:{password}").as_bytes());
            for secret in [password, &encoded, &base64(password.as_bytes())] {
                assert!(!said.contains(secret), "{secret} in\n{said}");
            }
        }
        for secret in ["TlRMTVNTUAAD", "TlRMTVNTUAAB", "TlRMTVNTUAAC", "URL-s3cret"] {
            assert!(!said.contains(secret), "{secret} in\n{said}");
        }
    }
}
