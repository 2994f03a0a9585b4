//! Each habit of the stand-in parent, shown to be there: a quirk that did nothing would test
//! nothing.

use super::replay::{log_on, log_on_to_origin, ntlm, windows_parent, windows_rules};
use super::vectors::{WIN7_AUTHENTICATE, WIN7_NEGOTIATE};
use super::*;

const URL: &str = "http://example.test/hello";

fn refused(quirk: Quirk) -> (Parent, Client, Response) {
    let parent = windows_parent().quirk(quirk).start();
    let mut client = Client::connect(parent.addr());
    let response = client.get(URL);
    assert_eq!(response.status(), 407);
    (parent, client, response)
}

fn lines(offers: &[&str]) -> Quirk {
    Quirk::Offer(offers.iter().map(|offer| (*offer).into()).collect())
}

#[test]
fn the_bare_407_may_close_with_or_without_a_word() {
    let (_parent, mut client, response) = refused(Quirk::CloseAfterBare);
    assert!(response.fields().lists("Connection", "close") && client.is_closed());
    let (_parent, mut client, response) = refused(Quirk::DropAfterBare);
    assert!(!response.fields().has("Connection") && client.is_closed());
}

#[test]
fn the_bare_407_offers_what_it_is_told_to() {
    let offers = ["Negotiate", "NTLM", "Basic realm=\"a, b\""];
    let (_parent, _client, response) = refused(lines(&offers));
    assert_eq!(response.fields().all("Proxy-Authenticate"), offers);
    let (_parent, mut client, _) = refused(lines(&["ntlm"]));
    let negotiate = [("Proxy-Authorization", &ntlm(WIN7_NEGOTIATE)[..])];
    let challenge = client.request("GET", URL, &negotiate, b"");
    assert!(
        challenge.fields().get("Proxy-Authenticate").is_some_and(|line| line.starts_with("ntlm T"))
    );
}

#[test]
fn the_407_comes_in_any_size_and_form() {
    let (_parent, mut client, response) = refused(Quirk::RefusalBody(70_000));
    assert_eq!((response.bytes(), client.get(URL).status()), (&pattern(70_000)[..], 407));
    let (_parent, mut client, response) = refused(Quirk::RefusalChunked);
    assert!(response.fields().has("Transfer-Encoding") && client.get(URL).status() == 407);
    let (_parent, mut client, response) = refused(Quirk::RefusalHttp10);
    assert!(response.head.version == "HTTP/1.0" && client.get(URL).status() == 407);
}

#[test]
fn a_refused_body_may_be_left_where_it_is() {
    let parent = windows_parent().quirk(Quirk::StopReading(1000)).start();
    let mut client = Client::connect(parent.addr());
    assert_eq!(client.request("POST", URL, &[], &pattern(1000)).status(), 407);
    assert_eq!(
        client.request("POST", URL, &[("Content-Length", "99999")], &pattern(2000)).status(),
        407
    );
    let hops = parent.wait_until(|hops| hops.len() == 2 && hops[1].body.length > 0);
    assert!(hops[0].body.complete && !hops[1].body.complete);
    let drained = windows_parent().start();
    let mut client = Client::connect(drained.addr());
    assert_eq!(client.request("POST", URL, &[], &pattern(300_000)).status(), 407);
    assert_eq!(drained.hops()[0].body.hash, fnv(&pattern(300_000)));
}

#[test]
fn connections_end_after_as_many_requests_as_they_are_given() {
    let origin = Origin::start();
    let parent = Parent::open().origin(origin.addr()).quirk(Quirk::CloseAfter(2)).start();
    let mut client = Client::connect(parent.addr());
    assert_eq!((client.get(URL).status(), client.get(URL).status()), (200, 200));
    assert!(client.is_closed());
}

#[test]
fn an_authenticated_connection_may_be_forgotten_or_cut() {
    let origin = Origin::start();
    let parent = windows_parent().origin(origin.addr()).quirk(Quirk::ForgetOn(2)).start();
    let mut client = Client::connect(parent.addr());
    assert_eq!(log_on(&mut client, "GET", URL), 200);
    assert_eq!((client.get(URL).status(), client.get(URL).status()), (200, 407));
    assert_eq!(log_on(&mut client, "GET", URL), 200);
    let parent = windows_parent().origin(origin.addr()).quirk(Quirk::HangUpOn(1)).start();
    let mut client = Client::connect(parent.addr());
    assert_eq!(log_on(&mut client, "GET", URL), 200);
    client.start("GET", URL, &[], b"");
    assert!(client.is_closed());
    assert_eq!(parent.hops()[2].status, None);
}

#[test]
fn an_answer_may_come_while_the_body_is_under_way() {
    for close in [false, true] {
        let early = Quirk::EarlyAnswer { status: 413, after: 5000, close };
        let parent = Parent::open().quirk(early).start();
        let mut client = Client::connect(parent.addr());
        let length = [("Content-Length", "1000000")];
        let response = client.request("POST", URL, &length, &pattern(20_000));
        assert_eq!((response.status(), response.head.persists()), (413, !close));
        assert!(!close || client.is_closed());
        assert!(!parent.hops()[0].body.complete);
    }
}

#[test]
fn everybody_may_be_refused() {
    let parent = windows_parent().quirk(Quirk::RefuseAll).quirk(Quirk::CloseAfterRefused).start();
    let mut client = Client::connect(parent.addr());
    assert_eq!(log_on(&mut client, "GET", URL), 407);
    assert!(client.is_closed());
    assert_eq!(parent.hops()[1].leg, Leg::Authenticate(Err(Why::Refused)));
}

#[test]
fn a_challenge_may_be_nonsense() {
    let parent = windows_parent().quirk(Quirk::ChallengeToken("?".into())).start();
    let mut client = Client::connect(parent.addr());
    let negotiate = [("Proxy-Authorization", &ntlm(WIN7_NEGOTIATE)[..])];
    let challenge = client.request("GET", URL, &negotiate, b"");
    assert_eq!(challenge.fields().get("Proxy-Authenticate"), Some("NTLM ?"));
    let authenticate = [("Proxy-Authorization", &ntlm(WIN7_AUTHENTICATE)[..])];
    assert_eq!(client.request("GET", URL, &authenticate, b"").status(), 407);
    assert_eq!(parent.hops()[1].leg, Leg::Authenticate(Err(Why::NoChallenge)));
}

#[test]
fn no_handshake_begins_on_a_connection_that_is_to_close() {
    let parent = windows_parent().start();
    let mut client = Client::connect(parent.addr());
    let fields = [("Proxy-Authorization", &ntlm(WIN7_NEGOTIATE)[..]), ("Connection", "close")];
    let response = client.request("GET", URL, &fields, b"");
    assert!(response.status() == 407 && !response.fields().has("Proxy-Authenticate"));
    assert!(client.is_closed());
}

#[test]
fn connect_may_be_answered_otherwise() {
    let echo = Origin::tcp_echo();
    let answered = |status, text: &str| {
        let quirk = Quirk::ConnectAnswer(status, text.into());
        let parent = Parent::open().origin(echo.addr()).quirk(quirk).start();
        let mut client = Client::connect(parent.addr());
        let response = client.request("CONNECT", "example.test:443", &[], b"");
        (parent, client, response)
    };
    for (status, lie) in [(201, ""), (200, "this never comes")] {
        let (_parent, mut client, response) = answered(status, lie);
        assert_eq!(
            (response.status(), response.fields().has("Content-Length")),
            (status, !lie.is_empty())
        );
        client.send("ping");
        assert_eq!(client.read_exact(4), b"ping");
    }
    for status in [403, 502] {
        let (_parent, mut client, response) = answered(status, "not this one");
        assert_eq!((response.status(), &response.text()[..]), (status, "not this one"));
        assert_eq!(client.request("CONNECT", "example.test:443", &[], b"").status(), status);
    }
}

#[test]
fn the_far_side_may_speak_with_the_200() {
    let greeter = Origin::raw(|_, mut wire| {
        let greeted = wire.write(b"220 ready\r\n").and_then(|()| wire.read_to_end());
        assert!(greeted.is_ok());
    });
    let parent = Parent::open().origin(greeter.addr()).quirk(Quirk::EagerTunnel).start();
    let mut client = Client::connect(parent.addr());
    client.tunnel("example.test:25");
    assert_eq!(client.wire.ahead(), b"220 ready\r\n");
    client.finish();
    assert_eq!(client.read_to_end(), b"220 ready\r\n");
}

#[test]
fn basic_is_taken_where_it_is_offered() {
    let origin = Origin::start();
    let basic = |password: &str| {
        format!("Basic {}", gate::base64(format!("corp\\alice:{password}").as_bytes()))
    };
    let parent = Parent::ntlm(&[("CORP", "alice", "Secret-123")]).origin(origin.addr());
    let parent = parent.offer(&["NTLM", "Basic realm=\"x\""]).start();
    let mut client = Client::connect(parent.addr());
    for (password, status) in [("Secret-123", 200), ("secret-123", 407)] {
        let fields = [("Proxy-Authorization", &basic(password)[..])];
        assert_eq!(client.request("GET", URL, &fields, b"").status(), status);
    }
}

#[test]
fn an_origin_may_ask_too() {
    let origin = Origin::guarded(windows_rules());
    let mut client = Client::connect(origin.addr());
    assert_eq!(client.request("GET", "/hello", &[("Host", "o")], b"").status(), 401);
    assert_eq!(log_on_to_origin(&mut client, "GET", "http://o/hello"), 200);
}

#[test]
fn closing_a_parent_cuts_tunnels_and_refuses_newcomers() {
    let echo = Origin::tcp_echo();
    let mut parent = Parent::open().origin(echo.addr()).start();
    let mut client = Client::connect(parent.addr());
    client.tunnel("example.test:443");
    assert_eq!(parent.close_idle(), 0);
    parent.stop();
    assert!(client.is_closed());
    assert!(Client::try_connect(parent.addr()).is_err());
}

#[test]
fn what_is_not_http_to_the_letter_is_not_read() {
    let good = "GET /a HTTP/1.1\r\nHost: a\r\n";
    assert!(RequestHead::parse(format!("{good}\r\n").as_bytes()).is_ok());
    let bad = [
        "GET  /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET /a HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET /a HTTP/1.1\r\n\r\n",
        "G(T /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a HTTP/1.1\nHost: a\r\n\r\n",
        "GET /ä HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for text in bad {
        assert!(RequestHead::parse(text.as_bytes()).is_err(), "{text:?}");
    }
    let fields = [
        "Host: b",
        "Content-Length: +1",
        "Content-Length: 1, 1",
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "X : 1",
        ": 1",
        "X",
        " folded: 1",
        "X: a\0b",
        "X: a\rb",
        "X: a\nb: c",
    ];
    for field in fields {
        assert!(
            RequestHead::parse(format!("{good}{field}\r\n\r\n").as_bytes()).is_err(),
            "{field:?}"
        );
    }
    let origin = Origin::start();
    let parent = Parent::open().origin(origin.addr()).start();
    let mut client = Client::connect(parent.addr());
    client.send("GET http://a/ HTTP/1.1\r\nHost : a\r\n\r\n");
    assert_eq!((client.read_response().status(), parent.faults().len()), (400, 1));
    for body in ["g\r\n", "1 \r\na\r\n", "1\na\r\n", "1\r\nab\r\n", "-1\r\n"] {
        let mut client = Client::connect(origin.addr());
        client.send(format!(
            "POST /hash HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        ));
        assert_eq!(client.read_response().status(), 400, "{body:?}");
    }
    assert_eq!(origin.faults().len(), 5);
}

#[test]
fn what_breaks_off_behind_a_parent_breaks_off_in_front_of_it() {
    for start in
        ["Content-Length: 100\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"]
    {
        let origin = Origin::with(move |_, wire| {
            assert!(wire.write(format!("HTTP/1.1 200 OK\r\n{start}").as_bytes()).is_ok());
            Then::Close
        });
        let parent = Parent::open().origin(origin.addr()).start();
        let mut client = Client::connect(parent.addr());
        client.start("GET", URL, &[], b"");
        assert!(client.try_read_response().is_err());
        assert!(client.is_closed());
    }
    // An answer before the body is wanted: passed on, and the connection ended.
    let origin = Origin::raw(|_, mut wire| {
        assert!(wire.read_request().is_ok());
        assert!(wire.write(&http::response(417, &[], b"no")).is_ok());
    });
    let parent = Parent::open().origin(origin.addr()).start();
    let mut client = Client::connect(parent.addr());
    let fields = [("Expect", "100-continue"), ("Content-Length", "9")];
    let response = client.request("POST", URL, &fields, b"");
    assert!(response.status() == 417 && response.fields().lists("Connection", "close"));
}
