//! Clients that leave while they are waited for, and those that only seem to.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_linger;

use crate::doors::{greeted, to_name};
use crate::proxy::{ALICE, LOGIN, NOBODY, Network, Proxy, url};
use crate::support::doors::Door;
use crate::support::http::{response, response_head};
use crate::support::spnego_gate::{Said, TokenDoor};
use crate::support::{Client, DEADLINE, Origin, Parent, Seen, Then, Wire};

/// Longer than it takes to be looked for.
const SLOW: Duration = Duration::from_millis(2500);

/// Ends a connection as a program does that is killed with bytes unread.
fn vanish(client: Client) {
    set_socket_linger(client.wire.stream(), Some(Duration::ZERO)).expect("a socket");
    drop(client);
}

fn wait(stream: &TcpStream, flags: PollFlags, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).expect("a time");
    poll(&mut [PollFd::new(stream, flags)], Some(&limit)) == Ok(1)
}

/// A parent that lets who is logged in have `answer`.
fn parent<F>(door: TokenDoor, answer: F) -> (Origin, Proxy)
where
    F: Fn(&Seen, &mut Wire) -> Then + Send + Sync + 'static,
{
    let door = door.open();
    let parent = Origin::with(move |seen, wire| {
        match door.judge(seen, seen.fields().get("Proxy-Authorization")) {
            Ok(_) => answer(seen, wire),
            Err(lines) => {
                let fields: Vec<_> =
                    lines.iter().map(|line| ("Proxy-Authenticate", line.as_str())).collect();
                wire.write(&response(407, &fields, b"")).map_or(Then::Close, |()| Then::Next)
            }
        }
    });
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{LOGIN}", parent.addr()));
    (parent, proxy)
}

/// Nothing, the beginning of a body by length, one that goes through a pipe, one in chunks, and one
/// until the end.
fn begin(seen: &Seen, wire: &mut Wire) {
    let begun = match seen.path() {
        "/head" => Vec::new(),
        "/length" => [response_head(200, &[("Content-Length", "10")]), b"hello".to_vec()].concat(),
        "/long" => {
            [response_head(200, &[("Content-Length", "1000000")]), b"hello".to_vec()].concat()
        }
        "/chunked" => {
            let head = response_head(200, &[("Transfer-Encoding", "chunked")]);
            [head, b"5\r\nhello\r\n".to_vec()].concat()
        }
        _ => [response_head(200, &[("Connection", "close")]), b"hello".to_vec()].concat(),
    };
    wire.write(&begun).expect("the proxy reads");
}

#[test]
fn a_client_that_is_gone_is_not_waited_for() {
    let (gone, leaving) = channel();
    let (_parent, proxy) = parent(TokenDoor::new("NTLM", ALICE), move |seen, wire| {
        if seen.path() == "/hello" {
            return wire.write(&response(200, &[], b"")).map_or(Then::Close, |()| Then::Next);
        }
        begin(seen, wire);
        gone.send(None).expect("the test waits");
        gone.send(Some(wait(wire.stream(), PollFlags::RDHUP, DEADLINE))).expect("the test waits");
        Then::Close
    });
    let tell = |leaving: &Receiver<_>| leaving.recv_timeout(DEADLINE).expect("the parent tells");
    // From now on the account is known to be right. The first comes on that connection, the others
    // on new ones.
    assert_eq!(proxy.get(&url("/hello")).status(), 200);
    for path in ["/head", "/head", "/length", "/long", "/chunked", "/until-the-end"] {
        let mut client = proxy.client();
        client.start("GET", &url(path), &[], b"");
        assert_eq!(tell(&leaving), None);
        if path != "/head" {
            assert_eq!(client.read_head().status, 200);
        }
        vanish(client);
        assert_eq!(tell(&leaving), Some(true), "{path}");
    }
}

#[test]
fn a_client_that_is_gone_with_its_upload_unread_is_not_waited_for() {
    let (gone, leaving) = channel();
    let origin = Origin::raw(move |_, wire| {
        // It reads nothing.
        gone.send(wait(wire.stream(), PollFlags::RDHUP, DEADLINE)).expect("the test waits");
    });
    let proxy = Proxy::start(NOBODY);
    let mut client = proxy.client();
    let head = client.head("POST", &origin.url("/"), &[("Content-Length", "100000000")], b"");
    client.send(head);
    let mut out = client.wire.stream();
    out.set_nonblocking(true).expect("a socket");
    // Until nothing moves any more.
    while wait(out, PollFlags::OUT, Duration::from_millis(500)) {
        let error = out.write_all(&[0; 100_000]).map_err(|error| error.kind());
        assert!(matches!(error, Ok(()) | Err(ErrorKind::WouldBlock)), "{error:?}");
    }
    vanish(client);
    assert_eq!(leaving.recv_timeout(DEADLINE), Ok(true));
}

/// Clients that give up early must not lock an account: what its password is worth is waited for.
#[test]
fn a_refusal_is_heard_though_its_client_is_gone() {
    let door = TokenDoor::new("NTLM", ALICE).open();
    let (counted, (told, telling)) = (door.clone(), channel());
    let parent = Origin::with(move |seen, wire| {
        let verdict = counted.judge(seen, seen.fields().get("Proxy-Authorization"));
        let lines = verdict.expect_err("a wrong password");
        if matches!(counted.words().last(), Some(Said::Authenticate(..))) {
            told.send(()).expect("the test waits");
            // The domain controller takes its time.
            wait(wire.stream(), PollFlags::RDHUP, SLOW);
        }
        let fields: Vec<_> =
            lines.iter().map(|line| ("Proxy-Authenticate", line.as_str())).collect();
        wire.write(&response(407, &fields, b"")).map_or(Then::Close, |()| Then::Next)
    });
    let cfg = format!("PARENT_PROXY: {}\nUSER: CORP\\alice\nPASSWORD: not-hers\n", parent.addr());
    let proxy = Proxy::start(&cfg);
    let mut client = proxy.client();
    client.start("GET", &url("/"), &[], b"");
    telling.recv_timeout(DEADLINE).expect("the parent hears of it");
    vanish(client);
    let page = proxy.get(&url("/"));
    assert!(page.status() == 407 && page.text().contains("not sent again"), "{}", page.text());
    assert_eq!(door.verdicts(), (0, 1));
}

#[test]
fn a_socks_client_that_is_gone_is_not_waited_for() {
    let (gone, leaving) = channel();
    let parent = Origin::with(move |seen, wire| {
        assert_eq!(seen.method(), "CONNECT");
        gone.send(wire.fill().unwrap_or(0)).expect("the test waits");
        Then::Close
    });
    let cfg = format!("PARENT_PROXY: {}\nSOCKS5_PORT: 0\n{NOBODY}", parent.addr());
    let proxy = Proxy::start(&cfg);
    let mut client = greeted(&proxy);
    client.send(to_name("a.test", 80));
    parent.wait_until(|seen| seen.len() == 1);
    vanish(client);
    assert_eq!(leaving.recv_timeout(DEADLINE), Ok(0));
}

/// A script that pipes its request into a connection and then only listens.
#[test]
fn a_client_that_has_said_its_last_gets_its_response_however_slow() {
    let (_hold, never) = channel::<()>();
    let never = Mutex::new(never);
    let origin = Origin::with(move |seen, wire| {
        let pause = || {
            let waited = never.lock().expect("one at a time").recv_timeout(SLOW);
            waited.expect_err("nobody calls");
        };
        let body = [b'x'; 10];
        let whole = match seen.path() {
            "/long" => response(200, &[], &[b'x'; 200_000]),
            _ => response(200, &[], &body),
        };
        let (begun, rest) = whole.split_at(whole.len() - 5);
        pause();
        wire.write(begun).expect("the proxy reads");
        pause();
        wire.write(rest).expect("the proxy reads");
        Then::Next
    });
    let network = Network::to(origin, Parent::ntlm(ALICE), LOGIN);
    for (path, length) in [("/short", 10), ("/long", 200_000)] {
        let mut client = network.client();
        client.start("GET", &url(path), &[], b"");
        client.finish();
        assert_eq!(client.read_response().body.length, length);
        assert!(client.is_closed());
    }
}
