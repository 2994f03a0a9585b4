//! Without a parent, or around it: the proxy that a newcomer has in the first minute.

use crate::proxy::{ALICE, LOGIN, Network, Proxy, lines, url};
use crate::support::{Client, Origin, Parent, fnv, pattern};

#[test]
fn a_blank_configuration_serves_directly() {
    let (proxy, origin) = (Proxy::start(""), Origin::start());
    let mut client = proxy.client();
    let fields =
        [("X-a", "1"), ("Accept", "*/*"), ("x-A", "2"), ("Connection", "X-hop"), ("X-Hop", "3")];
    assert_eq!(client.request("GET", &origin.url("/hello?q=1&r"), &fields, b"").status(), 200);
    let head = origin.seen()[0].head.clone();
    assert_eq!((head.method.as_str(), head.target.as_str()), ("GET", "/hello?q=1&r"));
    let expected = [
        format!("Host: {}", origin.addr()),
        "X-a: 1".into(),
        "Accept: */*".into(),
        "x-A: 2".into(),
    ];
    assert_eq!(lines(&head.raw), expected);
}

#[test]
fn every_method_and_body_goes_directly_too() {
    let (proxy, origin) = (Proxy::start(""), Origin::start());
    let mut client = proxy.client();
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"] {
        let body = if matches!(method, "POST" | "PUT") { pattern(3 << 20) } else { Vec::new() };
        let response = client.request(method, &origin.url("/hash"), &[], &body);
        if method != "HEAD" {
            assert_eq!(response.text(), format!("{} {:016x}", body.len(), fnv(&body)), "{method}");
        }
    }
    for path in ["/bytes/3000000", "/chunked/3000000", "/untilclose/3000000"] {
        assert_eq!(proxy.get(&origin.url(path)).body.hash, fnv(&pattern(3_000_000)), "{path}");
    }
    assert_eq!(client.get(&origin.url("/hints")).interim.len(), 1);
    let fields = [("Transfer-Encoding", "chunked"), ("Expect", "100-continue")];
    let head = client.head("POST", &origin.url("/echo"), &fields, b"");
    client.send(head);
    assert_eq!(client.read_head().status, 100);
    client.send("4\r\nbody\r\n0\r\n\r\n");
    assert_eq!(client.read_response().text(), "body");
}

#[test]
fn options_without_a_path_asks_the_server_as_a_whole() {
    let (proxy, origin) = (Proxy::start(""), Origin::start());
    proxy.client().request("OPTIONS", &format!("http://{}", origin.addr()), &[], b"");
    proxy.client().request("GET", &format!("http://{}?q", origin.addr()), &[], b"");
    let targets: Vec<_> = origin.seen().into_iter().map(|seen| seen.head.target).collect();
    assert_eq!(targets, ["*", "/?q"]);
}

#[test]
fn a_connection_to_an_origin_serves_the_next_client() {
    let (proxy, one, other) = (Proxy::start(""), Origin::start(), Origin::start());
    for _ in 0..5 {
        assert_eq!(proxy.get(&one.url("/hello")).status(), 200);
        assert_eq!(proxy.get(&other.url("/hello")).status(), 200);
    }
    assert_eq!((one.connections(), other.connections()), (1, 1));
    assert_eq!((one.seen().len(), other.seen().len()), (5, 5));
}

#[test]
fn an_origin_that_speaks_http_1_0_is_understood() {
    let origin = Origin::raw(|_, mut wire| {
        if let Ok(Some(_)) = wire.read_request() {
            _ = wire.write(b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nto the end");
        }
    });
    let proxy = Proxy::start("");
    let mut client = proxy.client();
    let response = client.get(&origin.url("/"));
    assert_eq!(response.text(), "to the end");
    assert_eq!(response.head.raw, b"HTTP/1.1 200 OK\r\nServer: old\r\nConnection: close\r\n\r\n");
    assert!(client.is_closed());
}

#[test]
fn bypassed_hosts_are_gone_to_directly_and_all_others_through_the_parent() {
    let cfg = format!("{LOGIN}HOSTS_TO_BYPASS_PARENT_PROXY: 127.0.0.0/8 *.local.test\n");
    let network = Network::new(Parent::ntlm(ALICE), &cfg);
    let mut client = network.client();
    assert_eq!(client.get(&network.origin.url("/bytes/1")).body.length, 1);
    assert_eq!(network.parent.connections(), 0);
    assert_eq!(client.get(&url("/bytes/2")).body.length, 2);
    assert_eq!(network.parent.handshakes(), 1);
    client.tunnel(&network.origin.addr().to_string());
    assert_eq!(network.parent.connections(), 1, "a CONNECT goes around it as well");
}

#[test]
fn a_401_and_its_answer_pass_between_client_and_origin() {
    let origin = Origin::with(|seen, wire| {
        let answer = match seen.fields().get("Authorization") {
            Some("Basic bWU6bWU=") => crate::support::http::response(200, &[], b"welcome"),
            _ => {
                let ask = [("WWW-Authenticate", "Basic realm=\"o\"")];
                crate::support::http::response(401, &ask, b"who are you?")
            }
        };
        _ = wire.write(&answer);
        crate::support::Then::Next
    });
    let proxy = Proxy::start("");
    let mut client: Client = proxy.client();
    let asked = client.get(&origin.url("/"));
    assert_eq!(asked.fields().get("WWW-Authenticate"), Some("Basic realm=\"o\""));
    let fields = [("Authorization", "Basic bWU6bWU=")];
    assert_eq!(client.request("GET", &origin.url("/"), &fields, b"").text(), "welcome");
}

#[test]
fn nobody_answers_a_407_of_an_origin() {
    let origin = Origin::with(|_, wire| {
        let ask = [("Proxy-Authenticate", "NTLM"), ("Proxy-Authenticate", "Basic realm=\"evil\"")];
        _ = wire.write(&crate::support::http::response(407, &ask, b"tell me"));
        crate::support::Then::Next
    });
    let cfg =
        format!("PARENT_PROXY: 127.0.0.1:1\nHOSTS_TO_BYPASS_PARENT_PROXY: 127.0.0.1\n{LOGIN}");
    for proxy in [Proxy::start(""), Proxy::start(&cfg)] {
        let before = origin.seen().len();
        let response = proxy.get(&origin.url("/"));
        assert_eq!(response.status(), 407);
        assert!(!response.fields().has("Proxy-Authenticate"), "no client should answer it either");
        let seen = origin.seen();
        assert_eq!(seen.len(), before + 1);
        assert!(!seen[before].fields().has("Proxy-Authorization"));
    }
}

#[test]
fn https_urls_need_connect_where_there_is_no_parent() {
    let page = Proxy::start("").get("https://example.test/");
    assert_eq!(page.status(), 501);
    assert!(page.text().contains("CONNECT"), "{}", page.text());
}
