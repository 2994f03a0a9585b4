//! Upgrade over plain HTTP, as WebSocket does it: a 101 that was asked for opens a tunnel.

use std::sync::mpsc;

use crate::proxy::{ALICE, LOGIN, NOBODY, Proxy, url};
use crate::support::gate::{Gate, Rules, Verdict};
use crate::support::http::response;
use crate::support::{Acceptor, Client, DEADLINE, Origin, RequestHead, Wire};

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                         Upgrade: WebSocket\r\nContent-Length: 5\r\nX-Accept: 1\r\n\r\n";

/// An upgrade, or what looks like one, is answered with `answer`, and then every byte comes back;
/// anything else gets a page. `rules`:
/// not before a login. What was asked is told.
fn switching(answer: &'static str, rules: Option<Rules>) -> (Origin, mpsc::Receiver<RequestHead>) {
    let (tell, told) = mpsc::channel();
    let peer = Origin::raw(move |_, mut wire| {
        let mut gate = rules.as_ref().map(Gate::new);
        while let Ok(Some(head)) = wire.read_request() {
            _ = tell.send(head.clone());
            let sent = match gate.as_mut().map(|gate| gate.judge(&head)) {
                Some(Verdict::Refuse(_, lines)) => {
                    let www = rules.as_ref().is_some_and(|rules| rules.www);
                    let (status, name) =
                        if www { (401, "WWW-Authenticate") } else { (407, "Proxy-Authenticate") };
                    let fields: Vec<_> = lines.iter().map(|line| (name, line.as_str())).collect();
                    wire.write(&response(status, &fields, b"who are you?"))
                }
                _ if ["Upgrade", "X-Key"].iter().any(|name| head.fields.has(name)) => {
                    return echo(&mut wire, answer);
                }
                _ => wire.write(&response(200, &[], b"a page")),
            };
            if sent.is_err() {
                return;
            }
        }
    });
    (peer, told)
}

fn echo(wire: &mut Wire, answer: &str) {
    if wire.write(answer.as_bytes()).is_err() {
        return;
    }
    loop {
        let bytes = wire.take_ahead();
        if wire.write(&bytes).is_err() || !matches!(wire.fill(), Ok(1..)) {
            return;
        }
    }
}

const WEBSOCKET: &[(&str, &str)] =
    &[("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket"), ("X-Key", "k")];

fn ask(client: &mut Client, target: &str, fields: &[(&str, &str)], early: &[u8]) {
    let head = client.head("GET", target, fields, b"");
    client.send([&head, early].concat());
}

/// What can be in the place of a next hop, and what is there before the last leg.
fn ways() -> Vec<(Option<Rules>, &'static str)> {
    let ntlm = || Rules::new(Acceptor::new(ALICE));
    vec![
        (None, NOBODY),
        (None, LOGIN),
        (Some(ntlm()), LOGIN),
        (None, ""),
        (Some(Rules { www: true, ..ntlm() }), "WWW_AUTH_HOSTS: 127.0.0.1\n"),
    ]
}

#[test]
fn a_101_becomes_a_tunnel_with_the_bytes_of_both_sides_that_came_early() {
    for (rules, cfg) in ways() {
        let handshake = rules.is_some();
        let direct = cfg.is_empty() || cfg.starts_with("WWW");
        let eager: &'static str = format!("{SWITCHING}welcome").leak();
        let (peer, told) = switching(eager, rules);
        let (cfg, target) = if direct {
            (format!("{cfg}{}", if handshake { LOGIN } else { NOBODY }), peer.url("/chat"))
        } else {
            (format!("PARENT_PROXY: {}\n{cfg}", peer.addr()), url("/chat"))
        };
        let proxy = Proxy::start(&cfg);
        let mut client = proxy.client();
        ask(&mut client, &target, WEBSOCKET, b"early");
        let head = client.read_head();
        let expected = "HTTP/1.1 101 Switching Protocols\r\nX-Accept: 1\r\nConnection: Upgrade\r\n\
                        Upgrade: WebSocket\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&head.raw), expected, "{cfg}");
        assert_eq!(client.read_exact(12), b"welcomeearly", "{cfg}");
        client.send([0x81, 0, 0xff]);
        assert_eq!(client.read_exact(3), [0x81, 0, 0xff], "{cfg}");

        // The handshake goes first; whatever cannot be the last word asks for nothing.
        let asked: Vec<RequestHead> = told.try_iter().collect();
        assert_eq!(asked.len(), if handshake { 3 } else { 1 }, "{asked:?}");
        let last = &asked[asked.len() - 1].fields;
        let fields = ["Connection", "Upgrade", "X-Key"].map(|name| last.get(name));
        assert_eq!(fields, [Some("Upgrade"), Some("websocket"), Some("k")], "{cfg}");
        if handshake {
            assert!(!asked[1].fields.has("Upgrade") && !asked[1].fields.has("Connection"));
        }

        // Not while the tunnel is open and not afterwards is its connection used for anything else.
        let connections = peer.connections();
        let page = |client: &mut Client| client.get(&target.replace("/chat", "/")).text();
        assert_eq!(page(&mut proxy.client()), "a page");
        client.finish();
        assert_eq!(client.read_to_end(), b"");
        assert_eq!(page(&mut proxy.client()), "a page");
        assert_eq!(peer.connections(), connections + 1);
    }
}

#[test]
fn an_upgrade_that_is_declined_is_an_ordinary_response() {
    let (peer, _told) = switching("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", None);
    for cfg in [format!("PARENT_PROXY: {}\n{NOBODY}", peer.addr()), NOBODY.to_owned()] {
        let proxy = Proxy::start(&cfg);
        let mut client = proxy.client();
        ask(&mut client, &peer.url("/"), WEBSOCKET, b"");
        assert_eq!(client.read_response().text(), "no");
        assert_eq!(client.get(&peer.url("/")).text(), "a page", "the client's connection goes on");
    }
    assert_eq!(peer.connections(), 4, "a connection that was asked to switch serves nothing else");
}

#[test]
fn a_101_to_something_else_is_a_502() {
    let other = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
    let none = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n";
    let two = "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket, x\r\n\r\n";
    for answer in [other, none, two] {
        let (peer, _told) = switching(answer, None);
        let proxy = Proxy::start(NOBODY);
        let mut client = proxy.client();
        ask(&mut client, &peer.url("/"), WEBSOCKET, b"");
        let page = client.read_response();
        assert_eq!(page.status(), 502, "{answer}");
        assert!(page.text().contains("switches protocols"), "{}", page.text());
    }
}

#[test]
fn what_is_not_passed_on_as_an_upgrade_is_none() {
    let (peer, told) = switching(SWITCHING, None);
    let proxy = Proxy::start(NOBODY);
    for request in [
        "GET /1 HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket",
        "GET /2 HTTP/1.1\r\nUpgrade: websocket",
        "GET /3 HTTP/1.1\r\nConnection: Upgrade",
        "GET /4 HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x",
    ] {
        let request = request.replace(" /", &format!(" {}", peer.url("/")));
        let mut client = proxy.client();
        client.send(format!("{request}\r\nHost: x\r\n\r\n"));
        assert_eq!(client.read_response().text(), "a page", "{request}");
        let asked = told.recv_timeout(DEADLINE).expect("a request");
        assert!(!asked.fields.has("Upgrade") && !asked.fields.has("Connection"), "{asked:?}");
    }
}

/// The rest of the body would be taken for the other protocol.
#[test]
fn a_101_in_the_middle_of_a_body_is_a_502() {
    let (peer, _told) = switching(SWITCHING, None);
    let proxy = Proxy::start(NOBODY);
    let mut client = proxy.client();
    let fields = [WEBSOCKET, &[("Content-Length", "100000")]].concat();
    ask(&mut client, &peer.url("/"), &fields, b"half");
    let page = client.read_response();
    assert_eq!(page.status(), 502, "{}", page.text());
    assert!(page.fields().lists("Connection", "close"), "{page:?}");
}
