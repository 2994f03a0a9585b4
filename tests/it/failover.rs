//! Several parents, of which some are dead or dying.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

use crate::proxy::{ALICE, LOGIN, NOBODY, Proxy, url};
use crate::refusals::dead_port;
use crate::support::doors::Door;
use crate::support::http::response;
use crate::support::spnego_gate::TokenDoor;
use crate::support::{DEADLINE, Origin, Parent, Seen, Then, fnv, pattern};

/// The wrong password of an account that exists.
const WRONG: &str = "USER: CORP\\alice\nPASSWORD: wrong\n";

/// A port that says nothing to whoever knocks, as behind a firewall or on a network that is gone:
/// its queue is full, and nobody takes anything out.
pub struct SilentPort {
    _socket: OwnedFd,
    _queue: Vec<TcpStream>,
    pub addr: SocketAddr,
}

impl SilentPort {
    pub fn new() -> Self {
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&fd, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a loopback port");
        let addr = getsockname(&fd).expect("its name").try_into().expect("an address");
        listen(&fd, 0).expect("it listens");
        let knock = || TcpStream::connect_timeout(&addr, Duration::from_millis(200));
        let queue = std::iter::from_fn(|| knock().ok()).collect();
        Self { _socket: fd, _queue: queue, addr }
    }

    /// How many are knocking.
    pub fn knocking(&self) -> usize {
        let port = format!(":{:04X} 02", self.addr.port());
        let sockets = fs::read_to_string("/proc/net/tcp").expect("the kernel's list");
        sockets.lines().filter(|line| line.contains(&port)).count()
    }
}

/// A port that refuses, until somebody listens there.
pub struct Port(OwnedFd, pub SocketAddr);

impl Port {
    pub fn closed() -> Self {
        let (fd, addr) = dead_port();
        Self(fd, addr)
    }

    pub fn open(self) -> TcpListener {
        listen(&self.0, 64).expect("it listens");
        self.0.into()
    }
}

/// The type of the NTLM message in a request; 0 when there is none.
fn message(seen: &Seen) -> u8 {
    let token = seen.fields().get("Proxy-Authorization").and_then(|v| v.strip_prefix("NTLM "));
    let bytes = token.and_then(|token| BASE64.decode(token).ok());
    bytes.and_then(|bytes| bytes.get(8).copied()).unwrap_or(0)
}

/// A parent that closes without a word when this message comes, once it has let so many pass.
fn dying(on: u8, after: usize) -> Origin {
    let door = TokenDoor::new("NTLM", ALICE).open();
    Origin::with(move |seen, wire| {
        let (accepted, refused) = door.verdicts();
        if message(seen) == on && accepted + refused >= after {
            return Then::Close;
        }
        let answer = match door.judge(seen, seen.fields().get("Proxy-Authorization")) {
            Ok(_) => response(200, &[], b"first\n"),
            Err(lines) => response(407, &[("Proxy-Authenticate", &lines[0])], b"who?"),
        };
        if wire.write(&answer).is_ok() { Then::Next } else { Then::Close }
    })
}

/// The first parent, and an open second one that every name leads to `origin` from.
fn second(origin: &Origin) -> Parent {
    Parent::open().origin(origin.addr()).start()
}

fn both(first: SocketAddr, second: SocketAddr, cfg: &str) -> Proxy {
    Proxy::start(&format!("PARENT_PROXY: {first} {second}\n{cfg}"))
}

#[test]
fn a_dead_parent_is_left_to_itself_and_nobody_waits_for_it() {
    let (silent, origin) = (SilentPort::new(), Origin::start());
    let other = second(&origin);
    let proxy = both(silent.addr, other.addr(), &format!("PARENT_PROXY_TIMEOUT: 2\n{NOBODY}"));
    let started = Instant::now();
    assert_eq!(proxy.get(&url("/hello")).status(), 200);
    assert!(started.elapsed() >= Duration::from_secs(2), "it was tried");
    // Longer than it rests: trying it again is nobody's business but its own.
    let started = Instant::now();
    let mut longest = Duration::ZERO;
    while started.elapsed() < Duration::from_secs(5) {
        let began = Instant::now();
        assert_eq!(proxy.client().request("POST", &url("/hello"), &[], b"x").status(), 200);
        longest = longest.max(began.elapsed());
        assert!(silent.knocking() <= 1);
    }
    assert!(longest < Duration::from_secs(2), "{longest:?}");
}

#[test]
fn a_parent_that_comes_back_is_used_again_and_no_request_is_lost() {
    let (port, origin) = (Port::closed(), Origin::start());
    let other = second(&origin);
    let proxy = both(port.1, other.addr(), &format!("PARENT_PROXY_TIMEOUT: 1\n{NOBODY}"));
    for _ in 0..3 {
        assert_eq!(proxy.get(&url("/hello")).status(), 200);
    }
    assert_eq!(other.hops().len(), 3);
    let first = Parent::open().origin(origin.addr()).serve(port.open()).expect("it serves");
    let until = Instant::now() + DEADLINE;
    while first.hops().is_empty() {
        assert!(Instant::now() < until, "it was not tried again");
        assert_eq!(proxy.get(&url("/hello")).status(), 200);
        thread::yield_now();
    }
}

#[test]
fn a_parent_that_is_not_there_at_the_start_is_used_when_it_is() {
    let (port, origin) = (Port::closed(), Origin::start());
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{LOGIN}", port.1));
    for _ in 0..3 {
        let page = proxy.get(&url("/hello"));
        assert_eq!(page.status(), 502);
        assert!(page.text().contains("refused"), "{}", page.text());
    }
    let parent = Parent::ntlm(ALICE).origin(origin.addr()).serve(port.open()).expect("it serves");
    assert_eq!(proxy.get(&url("/hello")).status(), 200, "at once");
    assert_eq!(parent.handshakes(), 1);
}

/// Ten times a second is soon enough to find it back.
#[test]
fn whoever_asks_all_the_time_does_not_have_a_dead_parent_tried_all_the_time() {
    let (_held, addr) = dead_port();
    let proxy = Proxy::start(&format!("PARENT_PROXY: {addr}\n{NOBODY}"));
    let started = Instant::now();
    for _ in 0..6 {
        assert_eq!(proxy.get(&url("/")).status(), 502);
    }
    assert!(started.elapsed() >= Duration::from_millis(500), "{:?}", started.elapsed());
}

#[test]
fn a_parent_whose_name_nobody_knows_is_told_so() {
    let proxy = Proxy::start(&format!("PARENT_PROXY: proxy.invalid:8080\n{NOBODY}"));
    for _ in 0..2 {
        let page = proxy.get(&url("/"));
        assert_eq!(page.status(), 502);
        assert!(page.text().contains("proxy.invalid:8080 cannot be resolved"), "{}", page.text());
    }
}

#[test]
fn what_may_be_repeated_survives_a_parent_that_dies_over_it() {
    let long = pattern(2 << 20);
    for (method, body, survives) in [
        ("GET", &b""[..], true),
        ("PUT", b"short", true),
        ("DELETE", b"", true),
        ("PUT", &long, false),
        ("POST", b"", false),
        ("POST", b"short", false),
    ] {
        let (origin, first) = (Origin::start(), dying(0, 0));
        let other = second(&origin);
        let proxy = both(first.addr(), other.addr(), NOBODY);
        let response = proxy.client().request(method, &url("/hash"), &[], body);
        let what = format!("{method} {}: {}", body.len(), response.text());
        if survives {
            assert_eq!(response.text(), format!("{} {:016x}", body.len(), fnv(body)), "{what}");
            assert_eq!(first.connections(), 2, "{what}");
        } else {
            assert_eq!(response.status(), 502, "{what}");
            assert_eq!((first.connections(), other.connections()), (1, 0), "{what}");
        }
    }
}

#[test]
fn tunnels_survive_a_parent_that_dies_over_them() {
    let (origin, first) = (Origin::tcp_echo(), dying(0, 0));
    let other = second(&origin);
    let cfg = format!("TUNNELS: 0:git.test:22\n{NOBODY}");
    let proxy = both(first.addr(), other.addr(), &cfg);
    let mut connect = proxy.client();
    connect.tunnel("a.test:443");
    for mut client in [connect, proxy.client_of(0)] {
        client.send("ping");
        assert_eq!(client.read_exact(4), b"ping");
    }
    assert_eq!(first.connections(), 2, "whoever died twice comes last for a while");
}

#[test]
fn a_parent_that_dies_amid_a_handshake_takes_no_request_with_it() {
    // Over the request itself, over NEGOTIATE; over AUTHENTICATE, of credentials that worked.
    for (on, after) in [(0, 0), (1, 0), (3, 1)] {
        let (origin, first) = (Origin::start(), dying(on, after));
        let other = Parent::ntlm(ALICE).origin(origin.addr()).start();
        let proxy = both(first.addr(), other.addr(), LOGIN);
        for _ in 0..after {
            // Held by a tunnel, no connection is there for the next one.
            let mut client = proxy.client();
            client.tunnel("a.test:443");
        }
        assert_eq!(proxy.get(&url("/hello")).text(), "hello, world\n", "over {on}");
        assert_eq!((other.handshakes(), other.refusals()), (1, 0));
        let authenticates = first.seen().iter().filter(|seen| message(seen) == 3).count();
        assert_eq!(authenticates, if on == 3 { 2 } else { 0 });
    }
}

/// Whoever hangs up on a wrong password has asked its domain controller all the same.
#[test]
fn a_wrong_password_costs_one_logon_however_it_is_refused() {
    let (origin, first) = (Origin::start(), dying(3, 0));
    let other = Parent::ntlm(ALICE).origin(origin.addr()).start();
    let proxy = both(first.addr(), other.addr(), WRONG);
    assert_eq!(proxy.get(&url("/hello")).status(), 502);
    let authenticates = first.seen().iter().filter(|seen| message(seen) == 3).count();
    assert_eq!((authenticates, other.connections()), (1, 0));
}

#[test]
fn a_parent_that_answers_is_alive_whatever_it_says() {
    for status in [403, 407, 500, 502, 503] {
        let first = Origin::with(move |_, wire| {
            let sent = wire.write(&response(status, &[], b"no"));
            if sent.is_ok() { Then::Next } else { Then::Close }
        });
        let origin = Origin::start();
        let other = second(&origin);
        let proxy = both(first.addr(), other.addr(), NOBODY);
        for _ in 0..2 {
            assert_ne!(proxy.get(&url("/hello")).status(), 200);
        }
        assert_eq!((first.seen().len(), other.connections()), (2, 0), "{status}");
    }
}

/// What has begun to be answered is not asked again.
#[test]
fn a_response_that_began_is_the_only_one() {
    for begun in ["HTTP/1.1 200 O", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let first = Origin::with(move |_, wire| {
            _ = wire.write(begun.as_bytes());
            Then::Close
        });
        let origin = Origin::start();
        let other = second(&origin);
        let proxy = both(first.addr(), other.addr(), NOBODY);
        assert_eq!(proxy.get(&url("/hello")).status(), 502);
        assert_eq!((first.connections(), other.connections()), (1, 0), "{begun}");
    }
}

#[test]
fn many_clients_of_dead_parents_are_answered_soon_and_make_no_storm() {
    const CLIENTS: usize = 50;
    let (silent, (_held, refusing)) = (SilentPort::new(), dead_port());
    let proxy = both(silent.addr, refusing, &format!("PARENT_PROXY_TIMEOUT: 4\n{NOBODY}"));
    assert_eq!(proxy.get(&url("/")).status(), 504);
    let started = Instant::now();
    let ask = || {
        assert_eq!(proxy.get(&url("/")).status(), 504);
        started.elapsed() < Duration::from_secs(3)
    };
    thread::scope(|scope| {
        let asking: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
        let mut most = 0;
        while !asking.iter().all(thread::ScopedJoinHandle::is_finished) {
            most = most.max(silent.knocking());
            thread::yield_now();
        }
        let soon = asking.into_iter().filter_map(|one| one.join().ok()).filter(|soon| *soon);
        assert!((1..=3).contains(&most), "{most} at once");
        let soon = soon.count();
        assert!(soon >= CLIENTS - 3, "only {soon} did not wait for those who try");
    });
}
