//! Plain HTTP on its way through: which request arrives, which response comes back, and what
//! becomes of the client's connection.

use crate::proxy::{ALICE, LOGIN, NOBODY, Network, Proxy, lines, url};
use crate::support::http::response_head;
use crate::support::{Client, Origin, Parent, Then};

#[test]
fn every_method_reaches_the_origin() {
    let network = Network::ntlm();
    let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "X-OWN"];
    let mut client = network.client();
    for method in methods {
        let body: &[u8] = if matches!(method, "POST" | "PUT") { b"some body" } else { b"" };
        let response = client.request(method, &url("/echo"), &[], body);
        assert_eq!((response.status(), response.bytes()), (200, body), "{method}");
    }
    let seen: Vec<_> = network
        .origin
        .seen()
        .iter()
        .map(|seen| (seen.method().to_owned(), seen.body.length))
        .collect();
    let expected = methods
        .map(|method| (method.to_owned(), if matches!(method, "POST" | "PUT") { 9 } else { 0 }));
    assert_eq!(seen, expected);
    assert_eq!(network.parent.handshakes(), 1);
}

#[test]
fn responses_without_a_body_leave_the_connection_usable() {
    let network = Network::ntlm();
    let mut client = network.client();
    for (method, path, status) in [
        ("HEAD", "/bytes/5000", 200),
        ("GET", "/status/204", 204),
        ("GET", "/status/304", 304),
        ("HEAD", "/chunked/100", 200),
        ("GET", "/status/404", 404),
        ("DELETE", "/status/204", 204),
    ] {
        let response = client.request(method, &url(path), &[], b"");
        assert_eq!(response.status(), status, "{method} {path}");
        assert!(!response.fields().lists("Connection", "close"), "{method} {path} {response:?}");
        if method == "HEAD" && path == "/bytes/5000" {
            assert_eq!(response.fields().get("Content-Length"), Some("5000"));
        }
    }
    assert_eq!((network.parent.connections(), network.parent.handshakes()), (1, 1));
}

#[test]
fn a_client_keeps_its_connection_for_many_requests() {
    let network = Network::ntlm();
    let mut client = network.client();
    for size in 0..50 {
        assert_eq!(client.get(&url(&format!("/bytes/{size}"))).body.length, size);
    }
    assert_eq!((network.origin.seen().len(), network.parent.connections()), (50, 1));
}

#[test]
fn two_requests_sent_at_once_are_answered_in_order() {
    let network = Network::ntlm();
    let mut client = network.client();
    let first = client.head("POST", &url("/echo"), &[], b"one");
    let second = client.head("GET", &url("/bytes/7"), &[], b"");
    client.send([&first[..], b"one", &second].concat());
    assert_eq!(client.read_response().text(), "one");
    assert_eq!(client.read_response().body.length, 7);
    let paths: Vec<_> = network.origin.seen().iter().map(|seen| seen.path().to_owned()).collect();
    assert_eq!(paths, ["/echo", "/bytes/7"]);
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let network = Network::ntlm();
    let mut client = network.client();
    let head = client.head("POST", &url("/echo"), &[("Transfer-Encoding", "chunked")], b"slow");
    client.send_byte_by_byte([&head[..], b"4\r\nslow\r\n0\r\n\r\n"].concat());
    assert_eq!(client.read_response().text(), "slow");
    assert_eq!(network.origin.seen()[0].body.text(), "slow");
}

#[test]
fn a_client_that_half_closes_after_its_request_gets_its_response() {
    let network = Network::ntlm();
    for (method, path, body) in [("GET", "/bytes/300000", ""), ("POST", "/echo", "a body")] {
        let mut client = network.client();
        client.start(method, &url(path), &[], body.as_bytes());
        client.finish();
        let response = client.read_response();
        assert_eq!(response.status(), 200, "{method}");
        assert_eq!(response.body.length, if method == "GET" { 300_000 } else { 6 });
        assert!(client.is_closed());
    }
}

#[test]
fn blank_lines_before_a_request_are_skipped() {
    let network = Network::ntlm();
    let mut client = network.client();
    client.send("\r\n\r\n");
    assert_eq!(client.get(&url("/hello")).status(), 200);
}

#[test]
fn an_http_1_0_client_gets_its_answer_and_a_close() {
    let network = Network::ntlm();
    let mut client = network.client();
    client.send("GET http://example.test/hello HTTP/1.0\r\n\r\n");
    let response = client.read_response();
    assert_eq!((response.status(), response.text().as_str()), (200, "hello, world\n"));
    assert!(client.is_closed());
    let hop = network.last_hop();
    assert_eq!(
        (hop.head.version.as_str(), hop.fields().get("Host")),
        ("HTTP/1.1", Some("example.test"))
    );
}

#[test]
fn an_http_1_0_client_that_asks_for_it_keeps_its_connection() {
    let network = Network::ntlm();
    for field in ["Connection: Keep-Alive", "Proxy-Connection: keep-alive"] {
        let mut client = network.client();
        for _ in 0..3 {
            client.send(format!("GET http://example.test/hello HTTP/1.0\r\n{field}\r\n\r\n"));
            let response = client.read_response();
            assert_eq!(response.status(), 200);
            assert!(response.fields().lists("Connection", "keep-alive"), "{field} {response:?}");
        }
        client.send("GET http://example.test/hello HTTP/1.0\r\n\r\n");
        assert_eq!(client.read_response().status(), 200);
        assert!(client.is_closed());
    }
}

/// A parent that answers HTTP/1.1 chunks to whoever asks.
#[test]
fn a_chunked_response_comes_decoded_and_closed_to_an_http_1_0_client() {
    let network = Network::ntlm();
    let mut client = network.client();
    client.send("GET http://example.test/chunked/50000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.read_response();
    assert!(!response.fields().has("Transfer-Encoding"), "{response:?}");
    assert_eq!(response.bytes(), crate::support::pattern(50_000));
    assert!(response.fields().lists("Connection", "close") && client.is_closed());
    assert_eq!(network.get("/chunked/50000").fields().get("Transfer-Encoding"), Some("chunked"));
    assert_eq!(network.parent.handshakes(), 1, "the connection to the parent lives on");
}

#[test]
fn a_client_that_asks_for_a_close_is_closed_and_the_parent_is_not() {
    let network = Network::ntlm();
    for option in [("Connection", "close"), ("Proxy-Connection", "close")] {
        let mut client = network.client();
        let response = client.request("GET", &url("/hello"), &[option], b"");
        assert!(response.fields().lists("Connection", "close"), "{response:?}");
        assert!(client.is_closed());
    }
    assert_eq!((network.parent.connections(), network.parent.handshakes()), (1, 1));
}

#[test]
fn early_hints_reach_http_1_1_clients_and_no_others() {
    let network = Network::ntlm();
    let mut client = network.client();
    let response = client.get(&url("/hints"));
    assert_eq!(response.text(), "hello after hints\n");
    let [hints] = &response.interim[..] else { panic!("{response:?}") };
    assert_eq!((hints.status, hints.fields.get("Link")), (103, Some("</style.css>; rel=preload")));
    client.send("GET http://example.test/hints HTTP/1.0\r\n\r\n");
    let response = client.read_response();
    assert_eq!((response.interim.len(), response.text().as_str()), (0, "hello after hints\n"));
}

#[test]
fn order_case_and_duplicates_of_request_fields_are_kept() {
    let network = Network::open();
    let mut client = network.client();
    let fields = "x-ONE: 1\r\nAccept: a\r\nHOST: example.test\r\nX-two:  2 \r\nx-One: 3\r\n\
                  Cookie: a=b; c=d\r\naccept: b, c\r\nX-Empty:\r\nX-Latin: \u{fc}\r\n";
    client.send(format!("GET http://example.test/hello?a=b%20c&d HTTP/1.1\r\n{fields}\r\n"));
    assert_eq!(client.read_response().status(), 200);
    let head = network.last_hop().head;
    assert_eq!(head.target, "http://example.test/hello?a=b%20c&d");
    let expected = "x-ONE: 1|Accept: a|HOST: example.test|X-two: 2|x-One: 3|Cookie: a=b; c=d|\
                    accept: b, c|X-Empty: |X-Latin: \u{fc}";
    let (sent, mark) = (lines(&head.raw).join("|"), "|Via: 1.1 ntlmaps-");
    assert_eq!(sent.split_once(mark).map(|(sent, _)| sent), Some(expected), "{sent}");
}

#[test]
fn order_case_and_duplicates_of_response_fields_are_kept() {
    let origin = Origin::with(|_, wire| {
        let fields = "sERVER: x\r\nSet-Cookie: a=1; path=/\r\nX-Mid: m\r\nSet-Cookie: b=2\r\n\
                      set-cookie: a=3\r\ncontent-LENGTH: 2\r\nWWW-Authenticate: Basic realm=\"o\"\r\n";
        let sent = wire.write(format!("HTTP/1.1 401 No Way Jose\r\n{fields}\r\nno").as_bytes());
        if sent.is_ok() { Then::Next } else { Then::Close }
    });
    let network = Network::to(origin, Parent::ntlm(ALICE), LOGIN);
    let response = network.get("/");
    assert_eq!((response.head.status, response.head.reason.as_str()), (401, "No Way Jose"));
    let expected = "sERVER: x|Set-Cookie: a=1; path=/|X-Mid: m|Set-Cookie: b=2|set-cookie: a=3|\
                    content-LENGTH: 2|WWW-Authenticate: Basic realm=\"o\"|Via: 1.1 parent";
    assert_eq!(lines(&response.head.raw).join("|"), expected);
}

#[test]
fn hop_by_hop_fields_of_a_request_end_here() {
    let network = Network::ntlm();
    let mut client = network.client();
    let fields = [
        ("Connection", "X-Mine, keep-alive"),
        ("x-mine", "gone"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
        ("Proxy-Authorization", "Basic c3BhbTplZ2dz"),
        ("X-Stays", "here"),
    ];
    for _ in 0..2 {
        assert_eq!(client.request("GET", &url("/hello"), &fields, b"").status(), 200);
    }
    let hops = network.parent.hops();
    assert_eq!(
        network.legs(),
        ["bare GET", "negotiate GET", "authenticate GET", "authenticated GET"]
    );
    for hop in &hops {
        let names = hop.fields().names();
        let rest: Vec<_> =
            names.iter().filter(|name| **name != "Proxy-Authorization").copied().collect();
        assert_eq!(rest, ["Host", "X-Stays", "Via"], "{hop}");
        let credentials = hop.fields().all("Proxy-Authorization");
        assert!(credentials.iter().all(|value| value.starts_with("NTLM ")), "{hop}");
    }
}

/// Told by a parent that is no more than a socket: the other one removes such fields itself.
#[test]
fn hop_by_hop_fields_of_a_response_end_here() {
    let parent = Origin::with(|_, wire| {
        let fields = [
            ("Connection", "x-private, keep-alive"),
            ("X-Private", "gone"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authenticate", "Basic realm=\"inner\""),
            ("Proxy-Authentication-Info", "x"),
            ("Upgrade", "h2c"),
            ("X-Stays", "here"),
            ("Content-Length", "0"),
        ];
        let sent = wire.write(&response_head(200, &fields));
        if sent.is_ok() { Then::Next } else { Then::Close }
    });
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{NOBODY}", parent.addr()));
    let response = proxy.get(&url("/"));
    assert_eq!(response.fields().names(), ["X-Stays", "Content-Length"]);
}

#[test]
fn host_follows_the_target_and_userinfo_stays_here() {
    let network = Network::open();
    let mut client = network.client();
    client.send(
        "GET http://ann:s3cret@example.test:80/hello#part HTTP/1.1\r\nHost: other.test\r\n\
         Referer: http://elsewhere.test/\r\n\r\n",
    );
    assert_eq!(client.read_response().status(), 200);
    let head = network.last_hop().head;
    assert_eq!(head.target, "http://example.test:80/hello");
    assert_eq!(head.fields.all("Host"), ["example.test:80"]);
    for raw in [&head.raw, &network.origin.seen()[0].head.raw] {
        let text = String::from_utf8_lossy(raw);
        assert!(
            !text.contains("s3cret") && !text.contains("ann") && !text.contains("part"),
            "{text}"
        );
    }
}

#[test]
fn credentials_for_the_proxy_never_reach_an_origin() {
    let network = Network::ntlm();
    let direct = Proxy::start("");
    let fields =
        [("Proxy-Authorization", "Basic c3BhbTplZ2dz"), ("Authorization", "Basic bWU6bWU=")];
    let mut clients: Vec<Client> = vec![network.client(), direct.client()];
    for client in &mut clients {
        let target = network.origin.url("/headers");
        let response = client.request("POST", &target, &fields, b"x");
        assert_eq!(response.status(), 200);
    }
    let seen = network.origin.seen();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        assert!(!seen.fields().has("Proxy-Authorization"), "{:?}", seen.head);
        assert_eq!(seen.fields().get("Authorization"), Some("Basic bWU6bWU="));
    }
    for hop in network.parent.hops() {
        assert!(!String::from_utf8_lossy(&hop.head.raw).contains("c3BhbTplZ2dz"), "{hop}");
    }
}

/// What comes back from it is the request with all that it carried. No parent is even asked.
#[test]
fn trace_carries_no_login() {
    let logged_in = Network::ntlm();
    let own_account = Network::new(Parent::ntlm(ALICE), "");
    let origin = Origin::start();
    let direct = Proxy::start(&format!("{LOGIN}WWW_AUTH_HOSTS: 127.0.0.1\n"));
    let brought = [("Proxy-Authorization", "Basic YWxpY2U6U2VjcmV0LTEyMw==")];
    assert_eq!(logged_in.get("/hello").status(), 200);
    for (proxy, target, fields) in [
        (&logged_in.proxy, url("/hello"), &[][..]),
        (&own_account.proxy, url("/hello"), &[]),
        (&own_account.proxy, url("/hello"), &brought),
        (&direct, origin.url("/hello"), &[]),
    ] {
        for method in ["TRACE", "Trace"] {
            let response = proxy.client().request(method, &target, fields, b"");
            assert_eq!(response.status(), 405, "{target} {fields:?}");
            assert!(response.fields().get("Allow").is_some_and(|it| !it.contains("TRACE")));
            assert!(response.text().contains("login"), "{}", response.text());
        }
    }
    let methods = logged_in.parent.hops().into_iter().map(|hop| hop.method().to_owned());
    assert!(methods.collect::<Vec<_>>().iter().all(|method| method == "GET"));
    assert_eq!((own_account.parent.connections(), origin.connections()), (0, 0));
    let (open, plain) = (Network::open(), Proxy::start(LOGIN));
    for (proxy, target) in [(&open.proxy, url("/headers")), (&plain, origin.url("/headers"))] {
        let response = proxy.client().request("TRACE", &target, &[("Max-Forwards", "7")], b"");
        assert!(response.text().contains("Max-Forwards: 6\r\n"), "{}", response.text());
    }
}
