//! Answers that come before the whole request is there: refusals of a parent that leaves the rest
//! unread, and answers of an origin that has seen enough.

use crate::proxy::{ALICE, LOGIN, NOBODY, Network, Proxy, url};
use crate::support::http::response;
use crate::support::{Builder, Origin, Parent, Quirk, fnv, pattern};

const MEGABYTE: usize = 1 << 20;

fn parents() -> [(Builder, &'static str); 2] {
    [(Parent::ntlm(ALICE), LOGIN), (Parent::open(), NOBODY)]
}

/// Squid reads some 64 KiB of a body that it refuses, and nothing more from that connection.
#[test]
fn a_body_that_a_refusing_parent_stops_reading_is_delivered_all_the_same() {
    for limit in [500, 65_536] {
        for size in [1000, 200_000, MEGABYTE, 3 * MEGABYTE] {
            let network = Network::new(Parent::ntlm(ALICE).quirk(Quirk::StopReading(limit)), LOGIN);
            let body = pattern(size);
            for _ in 0..2 {
                let response = network.client().request("POST", &url("/hash"), &[], &body);
                assert_eq!(response.text(), format!("{size} {:016x}", fnv(&body)));
            }
            assert_eq!(network.origin.seen().len(), 2);
        }
    }
}

#[test]
fn a_refused_body_that_is_read_to_its_end_is_delivered_once() {
    for size in [1000, MEGABYTE, 3 * MEGABYTE] {
        let quirk = Quirk::StopReading(u64::MAX);
        let network = Network::new(Parent::ntlm(ALICE).quirk(quirk), LOGIN);
        let response = network.client().request("POST", &url("/hash"), &[], &pattern(size));
        assert_eq!(response.text(), format!("{size} {:016x}", fnv(&pattern(size))));
        assert_eq!(network.origin.seen().len(), 1);
    }
}

#[test]
fn an_early_413_reaches_the_client_while_it_is_still_sending() {
    for close in [true, false] {
        for (parent, cfg) in parents() {
            let quirk = Quirk::EarlyAnswer { status: 413, after: 100_000, close };
            let network = Network::new(parent.quirk(quirk), cfg);
            assert_eq!(network.get("/hello").status(), 200);
            for (field, begin) in [
                (("Content-Length", "500000000"), String::new()),
                (("Transfer-Encoding", "chunked"), format!("{MEGABYTE:x}\r\n")),
            ] {
                let mut client = network.client();
                let head = client.head("PUT", &url("/"), &[field], b"");
                client.send([&head, begin.as_bytes(), &pattern(MEGABYTE)].concat());
                let response = client.read_response();
                let text = response.text();
                assert_eq!((response.status(), text.as_str()), (413, "enough of this body\n"));
                assert!(response.fields().lists("Connection", "close"), "{response:?}");
                // The rest of that body belongs to nobody's next request.
                assert_eq!(network.get("/hello").status(), 200, "close: {close}");
            }
        }
    }
}

#[test]
fn an_early_413_of_an_origin_is_heard_although_it_resets_the_connection() {
    let origin = Origin::raw(|_, mut wire| {
        if let Ok(Some(_)) = wire.read_request() {
            _ = wire.write(&response(413, &[("Connection", "close")], b"too much"));
            _ = wire.finish();
            // Enough is read that the answer gets out, and the rest is left to a reset.
            _ = wire.read_exact(1000);
        }
    });
    let proxy = Proxy::start("");
    let mut client = proxy.client();
    let head = client.head("PUT", &origin.url("/"), &[("Content-Length", "500000000")], b"");
    client.send([head, pattern(100_000)].concat());
    let response = client.read_response();
    assert_eq!((response.status(), response.text().as_str()), (413, "too much"));
}

#[test]
fn an_early_redirect_leaves_no_connection_behind() {
    // On its first connection it answers at once and never looks at the body; it does not close.
    let parent = Origin::raw(|number, mut wire| {
        if let Ok(Some(_)) = wire.read_request() {
            _ = wire.write(&response(302, &[("Location", "/")], number.to_string().as_bytes()));
            _ = wire.read_to_end();
        }
    });
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{NOBODY}", parent.addr()));
    let mut client = proxy.client();
    let head = client.head("PUT", &url("/"), &[("Content-Length", "100")], b"");
    client.send([&head[..], b"some of it"].concat());
    let response = client.read_response();
    assert_eq!((response.status(), response.text().as_str()), (302, "1"));
    assert!(response.fields().lists("Connection", "close"), "{response:?}");
    assert_eq!(proxy.get(&url("/")).text(), "2");
}

#[test]
fn a_client_that_goes_on_sending_after_an_early_answer_can_still_read_it() {
    let quirk = Quirk::EarlyAnswer { status: 403, after: 0, close: true };
    let network = Network::new(Parent::open().quirk(quirk), NOBODY);
    let mut client = network.client();
    let head = client.head("PUT", &url("/"), &[("Content-Length", "3000000")], b"");
    client.send([head, pattern(3_000_000)].concat());
    assert_eq!(client.read_response().status(), 403);
}
