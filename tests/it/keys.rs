//! Keys and options that have no file of their own here: that the program does what they say.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::process::{Place, Serving, texts};
use crate::proxy::{ALICE, LOGIN, NOBODY, Proxy, url};
use crate::support::{Client, Origin, Parent};

const HERE: &str = "[GENERAL]\nLISTEN_ADDRESS: 127.0.0.1\nLISTEN_PORT: 0\n";

/// How many connections wait, until one more is not taken any more.
fn queue(addr: SocketAddr) -> Vec<TcpStream> {
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue has no end");
    }
    waiting
}

#[test]
fn max_connection_backlog_is_how_many_wait_and_a_reload_changes_it() {
    let cfg = |backlog| format!("{NOBODY}MAX_CLIENTS: 1\nMAX_CONNECTION_BACKLOG: {backlog}\n");
    let proxy = Proxy::start(&cfg(2));
    let mut first = proxy.client();
    assert_eq!(first.get("/").status(), 400);
    // Who is idle would give way.
    first.send("GET / ");
    // The system lets one more wait than it is told.
    let waiting = queue(proxy.addr());
    assert_eq!(waiting.len(), 3);
    proxy.reload(&cfg(5));
    assert_eq!(queue(proxy.addr()).len(), 3, "of five, two are there");
    drop(waiting);
    first.send("HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(first.read_response().status(), 400);
}

#[test]
fn parent_proxy_port_is_for_parents_without_one() {
    let origin = Origin::start();
    let parent = Parent::ntlm(ALICE).origin(origin.addr()).start();
    let port = parent.addr().port();
    let cfg = format!("PARENT_PROXY: 127.0.0.1\nPARENT_PROXY_PORT: {port}\n{LOGIN}");
    assert_eq!(Proxy::start(&cfg).get(&url("/hello")).status(), 200);
    assert_eq!(parent.handshakes(), 1);
}

/// What the log has after one request.
fn log_with(cfg: &str, words: &[&str]) -> String {
    let place = Place::with("ntlmaps.cfg", &format!("{HERE}{cfg}"));
    let mut serving = Serving::start(place.command(words));
    assert_eq!(Client::connect(serving.address()).get("/").status(), 400);
    serving.end()
}

#[test]
fn scr_debug_and_v_tell_about_requests() {
    for (cfg, words, tells) in [
        ("", &[][..], false),
        ("[DEBUG]\nSCR_DEBUG: 0\n", &[], false),
        ("[DEBUG]\nSCR_DEBUG: 1\n", &[], true),
        ("", &["-v"], true),
    ] {
        let said = log_with(cfg, words);
        assert_eq!(said.contains(" DEBUG "), tells, "{cfg}{words:?}: {said}");
        assert_eq!(said.contains("GET /"), tells, "{cfg}{words:?}: {said}");
    }
}

#[test]
fn an_l_on_the_command_line_is_a_tunnel_and_takes_the_place_of_tunnels() {
    let far = [(); 2].map(|()| Origin::tcp_echo());
    let [one, other] = &far.each_ref().map(|far| format!("0:{}", far.addr()));
    let place = Place::with("ntlmaps.cfg", &format!("{HERE}TUNNELS: 0:127.0.0.1:1\n"));
    let words = ["-L", one, "-L", &format!("127.0.0.2:{other}")];
    let mut serving = Serving::start(place.command(&words));
    serving.address();
    for (ip, far) in ["127.0.0.1", "127.0.0.2"].iter().zip(&far) {
        let address = serving.address();
        assert_eq!(address.ip().to_string(), *ip);
        let mut client = Client::connect(address);
        client.send("ping");
        assert_eq!(client.read_exact(4), b"ping");
        assert_eq!(far.connections(), 1);
    }
    let said = serving.end();
    assert_eq!(said.matches(" for a tunnel to ").count(), 2, "{said}");
}

#[test]
fn the_first_of_the_usual_places_is_taken() {
    let place = Place::new();
    fs::create_dir(place.path("home")).expect("a directory of ours");
    let files = ["named.cfg", "environment.cfg", "ntlmaps.cfg", "server.cfg", "home/.ntlmaps.conf"];
    for file in files {
        fs::write(place.path(file), "[GENERAL]\nLISTEN_PORT: 81\n").expect("a file of ours");
    }
    for (nth, file) in files.iter().enumerate() {
        let mut command = place.command(&["--check"]);
        command.env("HOME", place.path("home"));
        if nth < 2 {
            command.env("NTLMAPS_CONF", "environment.cfg");
        }
        if nth < 1 {
            command.args(["--config", "named.cfg"]);
        }
        let (code, out, err) = texts(&command.output().expect("the program starts"));
        assert_eq!(code, 0, "{err}");
        let line = out.lines().find(|line| line.ends_with(" LISTEN_PORT: 81")).expect("81");
        let from = line.split(":2 ").next().expect("a file");
        assert!(if file.contains('/') { from.ends_with(file) } else { from == *file }, "{line}");
        fs::remove_file(place.path(file)).expect("it is ours");
    }
    let mut command = place.command(&["--check"]);
    command.env("NTLMAPS_CONF", "");
    let (code, out, _) = texts(&command.output().expect("the program starts"));
    assert_eq!(code, 0, "none is fine");
    assert!(!out.contains(":2 "), "{out}");
    command.env("NTLMAPS_CONF", "gone.cfg");
    let (code, _, err) = texts(&command.output().expect("the program starts"));
    assert!(code == 1 && err.contains("gone.cfg"), "one that is named has to be there: {err}");
}

#[test]
fn check_tells_where_each_value_comes_from_and_what_to_think_of() {
    let cfg = "[GENERAL]\nPARENT_PROXY: p\nSOCKS5_USERS: a:s3cret\nALLOW_EXTERNAL_CLIENTS: 1\n\
               [NTLM_AUTH]\nUSER: CORP\\alice\nLM_PART: 1\nNT_PART: 1\nNTLM_FLAGS: 06820000\n";
    let place = Place::with("my.cfg", cfg);
    let words = ["-c", "my.cfg", "--check", "-p", "81", "--domain", "D", "-L", "1:a:2"];
    let mut command = place.command(&words);
    let (code, out, err) = texts(&command.output().expect("the program starts"));
    assert_eq!(code, 0, "{err}");
    assert!(out.lines().any(|line| line == "default       PASSWORD:"), "{out}");
    assert!(err.contains("note: the password of alice will be asked for"), "{err}");
    command.env("NTLMAPS_PASSWORD", "s3cret");
    let (code, out, err) = texts(&command.output().expect("the program starts"));
    assert_eq!(code, 0, "{err}");
    for line in [
        "command line  LISTEN_PORT: 81",
        "default       LISTEN_ADDRESS: 0.0.0.0 ::",
        "my.cfg:2      PARENT_PROXY: p",
        "my.cfg:3      SOCKS5_USERS: ***",
        "command line  TUNNELS: 1:a:2",
        "command line  NT_DOMAIN: D",
        "my.cfg:6      USER: CORP\\alice",
        "environment   PASSWORD: ***",
    ] {
        assert!(out.lines().any(|l| l == line), "{line}\n{out}");
    }
    for part in [
        "warning: my.cfg:4: ALLOW_EXTERNAL_CLIENTS: everybody who can reach this machine",
        "warning: my.cfg:7: LM_PART: has no effect, nor has NT_PART or NTLM_FLAGS",
        "warning: my.cfg: holds a secret",
    ] {
        assert!(err.contains(part), "{part}\n{err}");
    }
    assert!(!out.contains("s3cret") && !err.contains("s3cret") && !err.contains("asked"), "{err}");
}
