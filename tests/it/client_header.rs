//! `[CLIENT_HEADER]`: what every request has, or has no more, by whatever door it came.

use crate::doors::{echo, echoes, greeted, to_name};
use crate::process::{Place, texts};
use crate::proxy::{LOGIN, NOBODY, Network, Proxy, lines};
use crate::support::Origin;

const LINES: &str = "[CLIENT_HEADER]\nUser-Agent: Mozilla/4.0 (x; y)\nX-New: 1\nX-Gone:\n";

/// Fields of a client: one to be replaced, which is there twice, and one to be taken away.
const SENT: &str =
    "A: 1\r\nuser-agent: curl\r\nX-Gone: 2\r\nB: 3\r\nUser-Agent: x\r\nx-gone: 4\r\n";
const WANTED: [&str; 4] = ["A: 1", "user-agent: Mozilla/4.0 (x; y)", "B: 3", "X-New: 1"];

/// The lines of a head in their order, without those that differ from leg to leg.
fn kept(raw: &[u8]) -> Vec<String> {
    let own = ["Host:", "Via:", "Proxy-Authorization:", "Content-Length:", "Transfer-Encoding:"];
    let mut lines = lines(raw);
    lines.retain(|line| !own.iter().any(|name| line.starts_with(name)));
    lines
}

#[test]
fn each_leg_of_each_request_has_them_where_they_stood() {
    let network = Network::ntlm();
    network.proxy.reload(&format!("PARENT_PROXY: {}\n{LOGIN}{LINES}", network.parent.addr()));
    for (request, body) in [
        ("CONNECT example.test:80", ""),
        ("GET http://example.test/hello", "\r\n"),
        ("POST http://example.test/echo", "Content-Length: 4\r\n\r\nbody"),
        (
            "PUT http://example.test/echo",
            "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        ),
    ] {
        let before = network.parent.hops().len();
        let mut client = network.client();
        let body = if body.is_empty() { "\r\n" } else { body };
        client.send(format!("{request} HTTP/1.1\r\nHost: example.test\r\n{SENT}{body}"));
        let method = request.split(' ').next().unwrap();
        assert_eq!(client.read_response_to(method).status(), 200, "{request}");
        let hops = &network.parent.hops()[before..];
        assert!(hops.len() >= if method == "CONNECT" { 3 } else { 1 }, "{hops:?}");
        for hop in hops {
            assert_eq!(kept(&hop.head.raw), WANTED, "{hop}");
        }
        if method == "CONNECT" {
            // What is in a tunnel is nobody's business.
            client.send("GET /hello HTTP/1.1\r\nHost: example.test\r\nX-Gone: 1\r\n\r\n");
            assert_eq!(client.read_response().status(), 200);
            let seen = network.origin.seen().pop().expect("a request");
            assert_eq!(lines(&seen.head.raw), ["Host: example.test", "X-Gone: 1"]);
        }
    }
}

#[test]
fn requests_to_an_origin_have_them_too() {
    let origin = Origin::start();
    let proxy = Proxy::start(&format!("{NOBODY}{LINES}"));
    let mut client = proxy.client();
    client.send(format!("GET {} HTTP/1.1\r\nHost: a\r\n{SENT}\r\n", origin.url("/hello")));
    assert_eq!(client.read_response().status(), 200);
    assert_eq!(kept(&origin.seen()[0].head.raw), WANTED);
}

#[test]
fn so_has_the_connect_of_every_other_door() {
    let network = echo("SOCKS5_PORT: 0\nTUNNELS: 0:b.test:22");
    let cfg = format!("SOCKS5_PORT: 0\nTUNNELS: 0:b.test:22\n{LOGIN}{LINES}");
    network.proxy.reload(&format!("PARENT_PROXY: {}\n{cfg}", network.parent.addr()));
    let mut client = greeted(&network.proxy);
    client.send(to_name("a.test", 80));
    client.read_exact(10);
    echoes(&mut client);
    echoes(&mut network.proxy.client_of(1));
    let hops = network.parent.hops();
    for target in ["a.test:80", "b.test:22"] {
        assert!(hops.iter().any(|hop| hop.target() == target), "{hops:?}");
    }
    for hop in hops {
        assert_eq!(kept(&hop.head.raw), ["User-Agent: Mozilla/4.0 (x; y)", "X-New: 1"], "{hop}");
    }
}

#[test]
fn what_is_not_the_users_to_set_keeps_the_program_from_starting() {
    for (line, why) in [
        ("Host: a", "Host: names where the request goes"),
        ("content-length: 5", "says where a message ends"),
        ("Connection:", "belongs to one connection"),
        ("Proxy-Authorization: Basic eDp5", "carries credentials"),
        ("X: a\rTransfer-Encoding: chunked", "U+000D"),
        ("X: a\0", "U+0000"),
        ("X(Y): a", "X(Y): is no field name"),
    ] {
        let place = Place::with("ntlmaps.cfg", &format!("[CLIENT_HEADER]\n{line}\n"));
        let (code, out, err) = texts(&place.run(&[]));
        assert_eq!((code, &*out), (1, ""), "{line:?}");
        assert!(err.starts_with("ntlmaps: error: ntlmaps.cfg:2: ") && err.contains(why), "{err}");
        assert!(!err.contains("eDp5"), "{err}");
    }
}
