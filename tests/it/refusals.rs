//! When it cannot be done: the client is told why, at once, and never gets an empty reply.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};

use crate::proxy::{ALICE, LOGIN, NOBODY, Network, Proxy, url};
use crate::support::{Client, Origin, Parent, Response, Wire, pattern};

/// A port that refuses, and stays ours: bound, and nobody listens.
pub fn dead_port() -> (OwnedFd, SocketAddr) {
    let (inet, stream) = (AddressFamily::INET, SocketType::STREAM);
    let fd = socket_with(inet, stream, SocketFlags::CLOEXEC, None).expect("a socket");
    bind(&fd, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a loopback port");
    let addr = getsockname(&fd).expect("its name").try_into().expect("an address");
    (fd, addr)
}

/// Every page of ours: text, with a length, that begins with what it is.
fn is_page(page: &Response, status: u16) {
    assert_eq!(page.status(), status, "{page:?} {}", page.text());
    assert!(page.text().starts_with(&format!("ntlmaps: {status} ")), "{}", page.text());
    let kind = page.fields().get("Content-Type");
    assert!(kind.is_some_and(|kind| kind.starts_with("text/plain")), "{page:?}");
    assert!(page.fields().has("Content-Length"), "{page:?}");
    assert!(page.text().len() > 40 && page.text().ends_with('\n'), "{}", page.text());
}

#[test]
fn a_parent_that_is_not_there_is_named() {
    let (_held, addr) = dead_port();
    for cfg in [LOGIN, NOBODY] {
        let proxy = Proxy::start(&format!("PARENT_PROXY: {addr}\n{cfg}"));
        let mut client = proxy.client();
        for (method, target, body) in [
            ("GET", url("/"), ""),
            ("POST", url("/"), "body"),
            ("CONNECT", "a.test:443".into(), ""),
        ] {
            let page = client.request(method, &target, &[], body.as_bytes());
            is_page(&page, 502);
            for word in [&*addr.to_string(), "refused", "PARENT_PROXY"] {
                assert!(page.text().contains(word), "{}", page.text());
            }
        }
        client.start("HEAD", &url("/"), &[], b"");
        let page = client.read_response();
        assert_eq!((page.status(), page.bytes()), (502, &b""[..]));
    }
}

#[test]
fn the_second_parent_takes_over() {
    let (_held, dead) = dead_port();
    let origin = Origin::start();
    let parent = Parent::ntlm(ALICE).origin(origin.addr()).start();
    let proxy = Proxy::start(&format!("PARENT_PROXY: {dead} {}\n{LOGIN}", parent.addr()));
    for body in [&b"small"[..], &pattern(3 << 20)] {
        let response = proxy.client().request("POST", &url("/hash"), &[], body);
        assert!(response.text().starts_with(&body.len().to_string()), "{}", response.text());
    }
    assert_eq!((parent.handshakes(), origin.seen().len()), (1, 2));
}

#[test]
fn when_all_parents_are_away_all_are_named() {
    let ((_one, first), (_other, second)) = (dead_port(), dead_port());
    let proxy = Proxy::start(&format!("PARENT_PROXY: {first} {second}\n{LOGIN}"));
    let page = proxy.get(&url("/"));
    is_page(&page, 502);
    assert!(page.text().contains(&first.to_string()), "{}", page.text());
    assert!(page.text().contains(&second.to_string()), "{}", page.text());
}

#[test]
fn a_server_that_cannot_be_reached_or_found_is_named() {
    let (_held, dead) = dead_port();
    let proxy = Proxy::start("");
    // Too long for a name: nobody's resolver needs time to know that there is none.
    let unknown = format!("{}.test", "x".repeat(70));
    for host in [dead.to_string(), unknown] {
        let mut client = proxy.client();
        let page = client.get(&format!("http://{host}/"));
        is_page(&page, 502);
        assert!(page.text().contains(&host), "{}", page.text());
        let connect = if host.contains(':') { host } else { format!("{host}:443") };
        is_page(&client.request("CONNECT", &connect, &[], b""), 502);
    }
}

#[test]
fn a_parent_that_says_nothing_is_a_504_in_a_few_seconds() {
    let parent = Origin::raw(|_, mut wire| _ = wire.read_to_end());
    let cfg = format!("PARENT_PROXY: {}\nPARENT_PROXY_TIMEOUT: 1\n{LOGIN}", parent.addr());
    let page = Proxy::start(&cfg).get(&url("/"));
    is_page(&page, 504);
    assert!(page.text().contains(&parent.addr().to_string()), "{}", page.text());
    assert!(page.text().contains("2 s"), "{}", page.text());
}

/// What a parent may answer that cannot be passed on.
const NO_RESPONSES: [(&str, &str); 8] = [
    ("nothing", ""),
    ("half a head", "HTTP/1.1 200 OK\r\nContent-Le"),
    ("another protocol", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ("a page without a head", "<html><body>Welcome</body></html>\r\n\r\n"),
    ("an unasked upgrade", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
    ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    ("no length", "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nabcd"),
    ("no chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
];

#[test]
fn what_is_no_response_is_a_502_that_names_its_sender() {
    for (what, answer) in NO_RESPONSES {
        let peer = Origin::raw(move |_, mut wire| {
            if let Ok(Some(_)) = wire.read_request() {
                _ = wire.write(answer.as_bytes());
                wire.linger();
            }
        });
        let parent = format!("PARENT_PROXY: {}\n", peer.addr());
        for (cfg, target) in [
            (format!("{parent}{LOGIN}"), url("/")),
            (format!("{parent}{NOBODY}"), url("/")),
            (String::new(), peer.url("/")),
        ] {
            let page = Proxy::start(&cfg).get(&target);
            is_page(&page, 502);
            assert!(page.text().contains(&peer.addr().to_string()), "{what}: {}", page.text());
        }
    }
}

#[test]
fn a_large_body_for_a_parent_that_is_not_there_is_answered_and_closed() {
    let (_held, addr) = dead_port();
    let proxy = Proxy::start(&format!("PARENT_PROXY: {addr}\n{LOGIN}"));
    for fields in [[("Content-Length", "90000000")], [("Transfer-Encoding", "chunked")]] {
        let mut client = proxy.client();
        let head = client.head("PUT", &url("/"), &fields, b"");
        client.send([&head[..], b"fffff\r\n", &pattern(500_000)].concat());
        let page = client.read_response();
        is_page(&page, 502);
        assert!(page.fields().lists("Connection", "close"), "{page:?}");
    }
}

fn told(proxy: &Proxy, wire: impl AsRef<[u8]>) -> (Client, Response) {
    let mut client = proxy.client();
    client.send(wire);
    let page = client.read_response();
    (client, page)
}

#[test]
fn requests_that_cannot_be_understood_are_a_400() {
    let proxy = Proxy::start("");
    for request in [
        "complete nonsense\r\n\r\n",
        "GET\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\r\n\r\n", // the beginning of TLS
        "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nBad Name: x\r\n\r\n",
        "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX: a\0b\r\n\r\n",
        "GET nowhere HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET http:///path HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET http://a.test:port/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: -1\r\n\r\n",
    ] {
        let (mut client, page) = told(&proxy, request);
        is_page(&page, 400);
        assert!(page.fields().lists("Connection", "close"), "{request:?}");
        assert!(client.is_closed(), "{request:?}: who knows where the next request begins");
    }
}

#[test]
fn who_takes_the_proxy_for_a_web_server_is_told_what_it_is() {
    let proxy = Proxy::start("");
    for request in ["GET / HTTP/1.1", "POST /form HTTP/1.1"] {
        let (_, page) = told(&proxy, format!("{request}\r\nHost: {}\r\n\r\n", proxy.addr()));
        is_page(&page, 400);
        assert!(page.text().contains("http_proxy"), "{}", page.text());
    }
}

const CHUNKED: &str =
    "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn a_chunk_that_is_none_is_a_400_and_the_request_is_not_completed() {
    let network = Network::open();
    for body in ["nonsense\r\n", "5\r\nhello!!\r\n0\r\n\r\n", "-1\r\n", "fffffffffffffffffffff\r\n"]
    {
        let (mut client, page) = told(&network.proxy, format!("{CHUNKED}{body}"));
        is_page(&page, 400);
        assert!(client.is_closed());
    }
    assert!(network.origin.seen().iter().all(|seen| !seen.body.complete));
}

#[test]
fn a_head_that_is_too_large_is_a_431() {
    let proxy = Proxy::start("");
    let long = format!("GET http://a.test/ HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    let many = format!("GET http://a.test/ HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(1000));
    for request in [long, many] {
        let (mut client, page) = told(&proxy, request);
        is_page(&page, 431);
        assert!(client.is_closed());
    }
}

#[test]
fn a_long_but_bearable_head_passes() {
    let network = Network::ntlm();
    let cookie = "c".repeat(40_000);
    let mut client = network.client();
    assert_eq!(client.request("GET", &url("/hello"), &[("Cookie", &cookie)], b"").status(), 200);
    assert_eq!(network.origin.seen()[0].fields().get("Cookie"), Some(&*cookie));
}

/// An origin that promises more than it gives.
fn cut_short(answer: impl Fn(&mut Wire) + Send + Sync + 'static) -> Origin {
    Origin::raw(move |_, mut wire| {
        if let Ok(Some(_)) = wire.read_request() {
            answer(&mut wire);
            wire.linger();
        }
    })
}

/// The head comes, and the connection ends before the body does.
fn ends_in_a_body(mut client: Client, target: &str, what: &str) {
    client.start("GET", target, &[], b"");
    let error = client.try_read_response().expect_err(what);
    assert!(error.to_string().starts_with("the connection ended in a"), "{what}: {error}");
    assert!(!error.to_string().contains("head"), "{what}: {error}");
}

#[test]
fn a_response_that_is_cut_looks_cut() {
    for (what, answer) in [
        ("length", "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nonly this"),
        ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n"),
        ("a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nonly this"),
        ("the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"),
    ] {
        let origin = cut_short(move |wire| _ = wire.write(answer.as_bytes()));
        for cfg in [String::new(), format!("PARENT_PROXY: {}\n{NOBODY}", origin.addr())] {
            let proxy = Proxy::start(&cfg);
            ends_in_a_body(proxy.client(), &origin.url("/"), what);
        }
    }
}

#[test]
fn a_chunk_that_is_none_behind_good_ones_looks_cut() {
    let origin = cut_short(|wire| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        _ = wire.write(format!("{head}100000\r\n").as_bytes());
        _ = wire.write(&pattern(0x10_0000));
        _ = wire.write(b"\r\nnonsense\r\n0\r\n\r\n");
    });
    let proxy = Proxy::start("");
    ends_in_a_body(proxy.client(), &origin.url("/"), "nonsense");
}

/// The end of the stream is how such a body ends; only a reset tells that it is not whole.
#[test]
fn a_body_until_close_that_is_cut_does_not_look_whole() {
    for (version, head) in [
        ("1.1", "HTTP/1.1 200 OK\r\n\r\nonly this"),
        ("1.0", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n"),
    ] {
        let origin = Origin::raw(move |_, mut wire| {
            if let Ok(Some(_)) = wire.read_request() {
                _ = wire.write(head.as_bytes());
                // Until the client has it; then the connection breaks.
                _ = set_socket_linger(wire.stream(), Some(Duration::ZERO));
            }
        });
        let proxy = Proxy::start("");
        let mut client = proxy.client();
        client.send(format!("GET {} HTTP/{version}\r\nHost: x\r\n\r\n", origin.url("/")));
        let result = client.try_read_response();
        assert!(result.is_err(), "{version}: {result:?}");
    }
}
