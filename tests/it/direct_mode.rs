//! `DIRECT_CONNECT_IF_POSSIBLE`: off the corporate network, and back on it.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::failover::{Port, SilentPort};
use crate::process::{Place, Serving};
use crate::proxy::{ALICE, LOGIN, NOBODY, Proxy, basic, lines, url};
use crate::refusals::dead_port;
use crate::support::gate::Rules;
use crate::support::http::response;
use crate::support::{Acceptor, Client, DEADLINE, Origin, Parent, Then, Wire};

const DIRECT: &str = "DIRECT_CONNECT_IF_POSSIBLE: 1\n";

fn away(cfg: &str) -> (std::os::fd::OwnedFd, Proxy) {
    let (held, addr) = dead_port();
    (held, Proxy::start(&format!("PARENT_PROXY: {addr} proxy.invalid\n{DIRECT}{cfg}")))
}

fn echoes(mut client: Client) {
    client.send("ping");
    assert_eq!(client.read_exact(4), b"ping");
}

fn socks(mut client: Client, to: SocketAddr) -> Client {
    let SocketAddr::V4(to) = to else { panic!("the tests listen on IPv4") };
    client.send([5, 1, 0]);
    client.send([&[5, 1, 0, 1][..], &to.ip().octets(), &to.port().to_be_bytes()].concat());
    assert_eq!(client.read_exact(2), [5, 0]);
    assert_eq!(client.read_exact(10)[..2], [5, 0]);
    client
}

#[test]
fn without_a_parent_in_reach_every_door_leads_direct() {
    let (origin, far) = (Origin::start(), Origin::tcp_echo());
    let path = std::env::temp_dir().join(format!("ntlmaps-direct-{}", std::process::id()));
    for first in 0..4 {
        let cfg =
            format!("SOCKS5_PORT: 0\nTUNNELS: 0:{}\nURL_LOG: {}\n", far.addr(), path.display());
        let (_held, proxy) = away(&format!("{cfg}{LOGIN}"));
        for door in [first, 0, 1, 2, 3] {
            match door {
                0 => {
                    let text = proxy.client().request("POST", &origin.url("/echo"), &[], b"body");
                    assert_eq!(text.text(), "body");
                }
                1 => {
                    let mut client = proxy.client();
                    client.tunnel(&far.addr().to_string());
                    echoes(client);
                }
                2 => echoes(socks(proxy.client_of(0), far.addr())),
                _ => echoes(proxy.client_of(1)),
            }
        }
        let log = fs::read_to_string(&path).expect("the log");
        assert!(
            log.lines().any(|line| line.contains("/echo ") && line.ends_with(" direct")),
            "{log}"
        );
        assert!(!log.contains("parent"), "{log}");
        fs::remove_file(&path).expect("the log is ours");
    }
    for seen in origin.seen() {
        let expected = [format!("Host: {}", origin.addr()), "Content-Length: 4".into()];
        assert_eq!(lines(&seen.head.raw), expected);
        assert_eq!(seen.head.target, "/echo");
    }
    assert!(origin.seen().len() > 4);
}

#[test]
fn the_first_request_waits_shortly_for_a_parent_that_is_silent_and_the_others_not_at_all() {
    let (silent, other, origin) = (SilentPort::new(), SilentPort::new(), Origin::start());
    let (a, b) = (silent.addr, other.addr);
    let proxy =
        Proxy::start(&format!("PARENT_PROXY: {a} {b}\nPARENT_PROXY_TIMEOUT: 60\n{DIRECT}{LOGIN}"));
    // Within the client's deadline, not in a minute or two.
    assert_eq!(proxy.get(&origin.url("/hello")).status(), 200);
    let started = Instant::now();
    for _ in 0..50 {
        assert_eq!(proxy.get(&origin.url("/hello")).status(), 200);
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn back_on_the_network_requests_go_through_the_parent_within_seconds() {
    let (port, origin) = (Port::closed(), Origin::start());
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{DIRECT}{LOGIN}", port.1));
    let mut client = proxy.client();
    assert_eq!(client.get(&origin.url("/hello")).status(), 200);
    let parent = Parent::ntlm(ALICE).origin(origin.addr()).serve(port.open()).expect("it serves");
    let until = Instant::now() + DEADLINE;
    while parent.handshakes() == 0 {
        assert!(Instant::now() < until, "no way back was found");
        assert_eq!(client.get(&origin.url("/hello")).status(), 200);
        thread::yield_now();
    }
    let direct = origin.seen().len();
    assert_eq!(client.get(&url("/hello")).status(), 200, "a name only the parent knows");
    assert_eq!(parent.faults(), Vec::<String>::new());
    // And away again.
    drop(parent);
    assert_eq!(client.get(&origin.url("/hello")).status(), 200);
    assert_eq!(origin.seen().len(), direct + 2);
}

#[test]
fn a_parent_that_was_reached_is_not_gone_around() {
    let origin = Origin::start();
    for status in [403, 407, 502, 503, 504, 0] {
        let parent = Origin::with(move |_, wire| {
            let sent = if status == 0 { Ok(()) } else { wire.write(&response(status, &[], b"no")) };
            if sent.is_ok() && status != 0 { Then::Next } else { Then::Close }
        });
        let (_held, dead) = dead_port();
        let cfg =
            format!("PARENT_PROXY: {dead} {}\nSOCKS5_PORT: 0\n{DIRECT}{NOBODY}", parent.addr());
        let proxy = Proxy::start(&cfg);
        for _ in 0..3 {
            assert_ne!(proxy.get(&origin.url("/hello")).status(), 200, "{status}");
        }
        let authority = origin.addr().to_string();
        assert_ne!(proxy.client().request("CONNECT", &authority, &[], b"").status(), 200);
        assert_eq!(origin.connections(), 0, "{status}");
    }
}

/// What a parent began is not done another way; the next request is free to go.
#[test]
fn a_parent_that_goes_away_amid_a_login_is_not_gone_around() {
    let (port, origin) = (Port::closed(), Origin::start());
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{DIRECT}AUTH: Basic\n{LOGIN}", port.1));
    let listener = port.open();
    let mut client = proxy.client();
    client.start("GET", &origin.url("/hello"), &[], b"");
    let (stream, _) = listener.accept().expect("the proxy comes");
    drop(listener);
    let mut wire = Wire::new(stream).expect("a socket");
    wire.read_request().expect("a request").expect("a request");
    let fields = [("Proxy-Authenticate", "Basic realm=\"x\""), ("Connection", "close")];
    wire.write(&response(407, &fields, b"who?")).expect("it is taken");
    drop(wire);
    assert_eq!(client.read_response().status(), 502);
    assert_eq!(origin.connections(), 0);
    assert_eq!(client.get(&origin.url("/hello")).status(), 200);
}

/// What network that is, and who answers to a name there, nobody knows.
#[test]
fn no_server_gets_a_login_for_being_reached_directly() {
    let guarded = || Origin::guarded(Rules::www(Acceptor::new(ALICE)));
    for cfg in [LOGIN, "NTLM_TO_BASIC: 1\nNT_DOMAIN: CORP\n"] {
        let origin = guarded();
        let (_held, proxy) = away(cfg);
        // A name without a dot: WWW_AUTH_HOSTS has it.
        let target = format!("http://localhost:{}/hello", origin.addr().port());
        let account = basic("CORP\\alice:Secret-123");
        for fields in [&[][..], &[("Proxy-Authorization", account.as_str())]] {
            let response = proxy.client().request("GET", &target, fields, b"");
            assert_eq!(response.status(), 401);
            assert_eq!(response.fields().get("WWW-Authenticate"), Some("NTLM"), "{cfg}");
        }
        assert_eq!(origin.seen().len(), 2, "{cfg}");
        for seen in origin.seen() {
            let fields = seen.fields();
            assert!(!fields.has("Authorization") && !fields.has("Proxy-Authorization"), "{cfg}");
        }
    }
    // One that bypasses the parent is another matter.
    let origin = guarded();
    let (_held, proxy) = away(&format!("HOSTS_TO_BYPASS_PARENT_PROXY: localhost\n{LOGIN}"));
    let target = format!("http://localhost:{}/hello", origin.addr().port());
    assert_eq!(proxy.get(&target).status(), 200);
}

#[test]
fn whoever_has_no_account_needs_none_where_there_is_no_parent() {
    let origin = Origin::start();
    let (_held, proxy) = away("NTLM_TO_BASIC: 1\n");
    assert_eq!(proxy.get(&origin.url("/hello")).status(), 200);
    let parent = Parent::ntlm(ALICE).origin(origin.addr()).start();
    let cfg = format!("PARENT_PROXY: {}\n{DIRECT}NTLM_TO_BASIC: 1\n", parent.addr());
    let proxy = Proxy::start(&cfg);
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(proxy.get(&origin.url("/hello")).status(), 407);
    }
    let moments = started.elapsed().as_secs() / 2;
    assert!(parent.connections() as u64 <= 1 + moments, "not one for each who has no account");
    drop(parent);
    while proxy.get(&origin.url("/hello")).status() == 407 {
        assert!(started.elapsed() < DEADLINE, "nobody sees that it has gone");
        thread::yield_now();
    }
}

#[test]
fn https_urls_need_a_parent_or_connect() {
    let (_held, proxy) = away(LOGIN);
    for _ in 0..2 {
        assert_eq!(proxy.get("https://example.test/").status(), 501);
    }
}

#[test]
fn without_the_key_nothing_goes_direct() {
    let origin = Origin::start();
    let (_held, addr) = dead_port();
    let proxy = Proxy::start(&format!("PARENT_PROXY: {addr}\n{NOBODY}"));
    assert_eq!(proxy.get(&origin.url("/hello")).status(), 502);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn the_log_says_which_way_requests_go_once_for_each_change() {
    let (port, origin) = (Port::closed(), Origin::start());
    let cfg = format!("LISTEN_PORT: 0\nPARENT_PROXY: {}\n{DIRECT}{NOBODY}", port.1);
    let place = Place::with("ntlmaps.cfg", &format!("[GENERAL]\n{cfg}"));
    let mut serving = Serving::start(place.command(&[]));
    let addr = serving.address();
    let get = || Client::connect(addr).get(&origin.url("/hello")).status();
    for _ in 0..5 {
        assert_eq!(get(), 200);
    }
    let parent = Parent::open().origin(origin.addr()).serve(port.open()).expect("it serves");
    let (at, until) = (parent.addr(), Instant::now() + DEADLINE);
    while parent.hops().is_empty() {
        assert!(Instant::now() < until, "no way back was found");
        assert_eq!(get(), 200);
        thread::yield_now();
    }
    let log = serving.end();
    let told: Vec<&str> = log.lines().filter(|line| line.contains(&at.to_string())).collect();
    assert_eq!(told.len(), 2, "{log}");
    assert!(told[0].contains("requests go direct until one can") && told[0].contains("INFO"));
    assert!(told[0].contains("refused"), "{log}");
    assert!(told[1].contains("requests go through the parents again"), "{log}");
}

/// Those who come together while the way back is looked for do not look each for themselves.
#[test]
fn many_at_once_look_for_the_way_back_once() {
    let (silent, origin) = (SilentPort::new(), Arc::new(Origin::start()));
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{DIRECT}{NOBODY}", silent.addr));
    assert_eq!(proxy.get(&origin.url("/hello")).status(), 200);
    let until = Instant::now() + Duration::from_secs(5);
    let mut most = 0;
    while Instant::now() < until {
        let mut clients: Vec<_> = (0..20).map(|_| proxy.client()).collect();
        for client in &mut clients {
            client.start("GET", &origin.url("/hello"), &[], b"");
        }
        most = most.max(silent.knocking());
        for mut client in clients {
            assert_eq!(client.read_response().status(), 200);
        }
    }
    assert_eq!(most, 1);
}
