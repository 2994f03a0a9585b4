//! Bodies, both ways: every framing, any size, streamed; and what waits for a 100.

use std::sync::Mutex;
use std::sync::mpsc;

use crate::proxy::{ALICE, LOGIN, NOBODY, Network, url};
use crate::support::http::{chunk, response, response_head};
use crate::support::{Body, Client, DEADLINE, Origin, Parent, fnv, pattern};

const MEGABYTE: usize = 1 << 20;
const SIZES: [usize; 4] = [0, 1, 100_000, 8 * MEGABYTE];

/// What `/hash` says of a body that arrived whole.
fn whole(body: &[u8]) -> String {
    format!("{} {:016x}", body.len(), fnv(body))
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut wire: Vec<u8> = body.chunks(size).flat_map(chunk).collect();
    wire.extend(b"0\r\n\r\n");
    wire
}

/// A body as large as it likes goes out while the answer is waited for.
fn post_chunked(client: &mut Client, path: &str, wire: &[u8]) -> String {
    let head = client.head("POST", &url(path), &[("Transfer-Encoding", "chunked")], b"");
    client.send([&head, wire].concat());
    client.read_response().text()
}

#[test]
fn request_bodies_by_length_arrive_whole() {
    let network = Network::ntlm();
    let mut client = network.client();
    for size in SIZES {
        let body = pattern(size);
        let fields = [("Content-Length", &*size.to_string())];
        let response = client.request("POST", &url("/hash"), &fields, &body);
        assert_eq!(response.text(), whole(&body));
    }
    let lengths: Vec<_> = network.origin.seen().iter().map(|seen| seen.body.length).collect();
    assert_eq!(lengths, SIZES.map(|size| size as u64));
    assert_eq!(network.parent.handshakes(), 1);
}

#[test]
fn request_bodies_in_chunks_arrive_whole() {
    let network = Network::ntlm();
    let mut client = network.client();
    for (size, step) in SIZES.into_iter().zip([1, 1, 13, 70_001]) {
        let body = pattern(size);
        assert_eq!(post_chunked(&mut client, "/hash", &chunked(&body, step)), whole(&body));
    }
    let seen = network.origin.seen();
    assert!(seen.iter().all(|seen| seen.fields().get("Transfer-Encoding") == Some("chunked")));
    assert_eq!(network.parent.handshakes(), 1);
}

#[test]
fn trailers_travel_both_ways() {
    let network = Network::ntlm();
    let mut client = network.client();
    let text = post_chunked(&mut client, "/hash", b"5;ext=\"1\"\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n");
    assert_eq!(text, whole(b"hello"));
    let seen = &network.origin.seen()[0];
    assert_eq!(seen.body.trailers.get("X-Sum"), Some("5"));
    let response = client.get(&url("/trailers"));
    assert_eq!(
        (response.text().as_str(), response.body.trailers.get("X-Sum")),
        ("hello", Some("5"))
    );
}

#[test]
fn responses_arrive_whole_in_every_framing() {
    let network = Network::ntlm();
    for kind in ["bytes", "chunked", "untilclose"] {
        for size in SIZES {
            let mut client = network.client();
            let response = client.get(&url(&format!("/{kind}/{size}")));
            let Body { length, hash, complete, .. } = response.body;
            assert_eq!((length, hash), (size as u64, fnv(&pattern(size))), "{kind}");
            assert!(complete);
            let closes = response.fields().lists("Connection", "close");
            assert_eq!(closes, kind == "untilclose", "{response:?}");
            if closes {
                assert!(client.is_closed());
            } else {
                assert_eq!(client.get(&url("/hello")).status(), 200);
            }
        }
    }
}

/// The client sends its second half only once the origin has the first, and the origin answers
/// in the same manner: neither half can have waited here for the other.
#[test]
fn bodies_are_streamed_and_not_collected() {
    let (up, first_half_up) = mpsc::channel();
    let (down, first_half_down) = mpsc::channel();
    let down_seen = Mutex::new(first_half_down);
    let origin = Origin::raw(move |_, mut wire| {
        let Ok(Some(_)) = wire.read_request() else { return };
        let half = wire.read_exact(2 * MEGABYTE).expect("the first half of the request");
        up.send(fnv(&half)).expect("the test waits");
        let rest = wire.read_exact(2 * MEGABYTE).expect("the second half");
        assert_eq!(fnv(&rest), fnv(&pattern(4 * MEGABYTE)[2 * MEGABYTE..]));
        let head = response_head(200, &[("Content-Length", &*(2 * MEGABYTE).to_string())]);
        wire.write(&[head, pattern(MEGABYTE)].concat()).expect("the first half goes");
        down_seen.lock().unwrap().recv_timeout(DEADLINE).expect("the client has the first half");
        wire.write(&pattern(MEGABYTE)).expect("the second half goes");
    });
    let network = Network::to(origin, Parent::ntlm(ALICE), LOGIN);
    let mut client = network.client();
    let body = pattern(4 * MEGABYTE);
    let head = client.head("PUT", &url("/"), &[], &body);
    client.send([&head, &body[..2 * MEGABYTE]].concat());
    assert_eq!(first_half_up.recv_timeout(DEADLINE).unwrap(), fnv(&body[..2 * MEGABYTE]));
    client.send(&body[2 * MEGABYTE..]);
    assert_eq!(client.read_head().status, 200);
    assert_eq!(client.read_exact(MEGABYTE), pattern(MEGABYTE));
    down.send(()).unwrap();
    assert_eq!(client.read_exact(MEGABYTE), pattern(MEGABYTE));
}

#[test]
fn a_client_that_waits_for_100_sends_its_body_once_it_has_it() {
    for (network, legs) in [
        (Network::ntlm(), &["bare POST", "negotiate POST", "authenticate POST"][..]),
        (Network::open(), &["open POST"]),
    ] {
        let mut client = network.client();
        let fields = [("Expect", "100-continue"), ("Content-Length", "4")];
        let head = client.head("POST", &url("/echo"), &fields, b"");
        client.send(head);
        assert_eq!(client.read_head().status, 100);
        assert_eq!(network.origin.seen().len(), 0, "the origin has no whole request yet");
        client.send("body");
        let response = client.read_response();
        assert_eq!((response.interim.len(), response.text().as_str()), (0, "body"));
        assert_eq!(network.legs(), legs);
        assert_eq!(network.origin.seen().len(), 1);
        assert_eq!(client.get(&url("/hello")).status(), 200, "the connection goes on");
    }
}

#[test]
fn a_chunked_body_may_wait_for_100_too() {
    let network = Network::ntlm();
    let mut client = network.client();
    for _ in 0..2 {
        let fields = [("Transfer-Encoding", "chunked"), ("Expect", "100-continue")];
        let head = client.head("PUT", &url("/hash"), &fields, b"");
        client.send(head);
        assert_eq!(client.read_head().status, 100);
        let body = pattern(2 * MEGABYTE);
        client.send(chunked(&body, 5000));
        assert_eq!(client.read_response().text(), whole(&body));
    }
    assert_eq!(network.parent.handshakes(), 1);
}

#[test]
fn a_client_that_expects_100_and_does_not_wait_is_served() {
    let network = Network::ntlm();
    let mut client = network.client();
    let body = pattern(2 * MEGABYTE);
    let response = client.request("POST", &url("/hash"), &[("Expect", "100-continue")], &body);
    assert_eq!(response.text(), whole(&body));
    assert_eq!(client.get(&url("/hello")).status(), 200);
}

#[test]
fn a_final_answer_instead_of_the_100_reaches_the_client_that_waits() {
    let origin = Origin::raw(|_, mut wire| {
        if let Ok(Some(_)) = wire.read_request() {
            _ = wire.write(&response(417, &[("Connection", "close")], b"no"));
            wire.linger();
        }
    });
    let network = Network::to(origin, Parent::ntlm(ALICE), LOGIN);
    let mut client = network.client();
    let fields = [("Expect", "100-continue"), ("Content-Length", "1000000")];
    let head = client.head("POST", &url("/"), &fields, b"");
    client.send(head);
    let response = client.read_response();
    assert_eq!((response.status(), response.text().as_str()), (417, "no"));
    assert!(response.fields().lists("Connection", "close"), "whether a body follows is unknown");
}

#[test]
fn a_100_that_nobody_asked_for_is_no_answer() {
    let network = Network::ntlm();
    let mut client = network.client();
    let response = client.request("POST", &url("/continue"), &[], b"body");
    assert_eq!((response.status(), response.text().as_str()), (200, "hello, world\n"));
    assert_eq!(client.get(&url("/hello")).status(), 200);
}

#[test]
fn a_body_its_client_does_not_finish_is_not_finished_for_it() {
    let network = Network::new(Parent::open(), NOBODY);
    for (fields, part) in [
        (("Content-Length", "100000"), &pattern(50_000)[..]),
        (("Transfer-Encoding", "chunked"), b"5\r\nhello\r\n"),
    ] {
        let before = network.parent.hops().len();
        let mut client = network.client();
        let head = client.head("POST", &url("/echo"), &[fields], b"");
        client.send([&head, part].concat());
        client.finish();
        let hops = network
            .parent
            .wait_until(|hops| hops.get(before).is_some_and(|hop| hop.body.length > 0));
        assert!(!hops[before].body.complete, "{:?}", hops[before].body);
        drop(client);
    }
    let seen = network.origin.wait_until(|seen| seen.len() == 2);
    assert!(seen.iter().all(|seen| !seen.body.complete));
}
