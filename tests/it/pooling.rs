//! One login for many requests, and never one for somebody else's.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::proxy::{ALICE, LOGIN, NOBODY, Network, Proxy, basic, url};
use crate::support::http::{response, response_head};
use crate::support::{DEADLINE, Leg, Origin, Parent, Quirk, Then, fnv, pattern};

const TWO: &[(&str, &str, &str)] = &[("CORP", "alice", "a-secret"), ("CORP", "bob", "b-secret")];
const EACH_ITS_OWN: &str = "NTLM_TO_BASIC: 1\nNT_DOMAIN: CORP\n";

#[test]
fn a_hundred_clients_one_after_another_cost_one_handshake() {
    let network = Network::ntlm();
    for size in 0..100 {
        assert_eq!(network.get(&format!("/bytes/{size}")).body.length, size);
    }
    assert_eq!((network.parent.handshakes(), network.parent.connections()), (1, 1));
    assert_eq!(network.origin.seen().len(), 100);
}

#[test]
fn clients_at_the_same_time_share_no_connection_and_leave_theirs_to_those_who_follow() {
    let network = Network::ntlm();
    assert_eq!(network.get("/hello").status(), 200);
    thread::scope(|scope| {
        for size in 1..=8 {
            let network = &network;
            scope.spawn(move || {
                let mut client = network.client();
                for _ in 0..5 {
                    let length =
                        client.get(&url(&format!("/chunked/{}", size * 10_000))).body.length;
                    assert_eq!(length, size * 10_000);
                }
            });
        }
    });
    let (handshakes, connections) = (network.parent.handshakes(), network.parent.connections());
    assert!(handshakes <= 8 && connections == handshakes, "{handshakes} {connections}");
    assert_eq!(network.get("/hello").status(), 200);
    assert_eq!(network.parent.handshakes(), handshakes);
    assert_eq!(network.origin.seen().len(), 42);
}

/// What lies between may have forgotten a connection that was silent for long, and swallow the
/// request: a login is worth the risk, a mere connection is not.
#[test]
fn after_seconds_of_rest_an_origin_is_called_anew_and_a_parent_is_not() {
    let (origin, network, alone) = (Origin::start(), Network::ntlm(), Proxy::start(""));
    let ask = || {
        assert_eq!(alone.client().get(&origin.url("/hello")).status(), 200);
        assert_eq!(network.get("/hello").status(), 200);
        (origin.connections(), network.parent.connections())
    };
    assert_eq!((ask(), ask()), ((1, 1), (1, 1)));
    let mut silent = alone.client();
    silent.wire.deadline(Duration::from_millis(5200)).expect("a socket");
    assert!(!silent.is_closed(), "it waits for its first request");
    assert_eq!(ask(), (2, 1));
}

#[test]
fn two_accounts_in_turn_keep_to_their_own_connections() {
    let network = Network::new(Parent::ntlm(TWO), EACH_ITS_OWN);
    let (alice, bob) = (basic("alice:a-secret"), basic("bob:b-secret"));
    for turn in 0..10 {
        for field in [&alice, &bob] {
            let path = url(&format!("/bytes/{turn}"));
            let fields = [("Proxy-Authorization", field.as_str())];
            assert_eq!(network.client().request("GET", &path, &fields, b"").status(), 200);
        }
    }
    assert_eq!(network.parent.handshakes(), 2);
    let mut owner = BTreeMap::new();
    let mut users = Vec::new();
    for hop in network.parent.hops() {
        if let Some(logon) = hop.logon() {
            owner.insert(hop.connection, logon.user.clone());
        }
        if hop.logon().is_some() || hop.leg == Leg::Authenticated {
            users.push(owner[&hop.connection].clone());
        }
    }
    assert_eq!(users, ["alice", "bob"].repeat(10));
}

#[test]
fn who_knows_only_the_name_does_not_ride_on_a_connection() {
    let network = Network::new(Parent::ntlm(TWO), EACH_ITS_OWN);
    let ask = |pair: &str| {
        let fields = [("Proxy-Authorization", &*basic(pair))];
        network.client().request("GET", &url("/hello"), &fields, b"").status()
    };
    assert_eq!(ask("alice:a-secret"), 200);
    for other in ["alice:b-secret", "alice:", "alice:a-secreT", "bob:a-secret"] {
        assert_eq!(ask(other), 407, "{other}");
    }
    assert_eq!(network.origin.seen().len(), 1);
    assert_eq!(ask("alice:a-secret"), 200);
    assert_eq!(network.parent.handshakes(), 1, "hers is still there");
}

#[test]
fn a_connection_the_parent_closed_while_idle_is_replaced_unseen() {
    let network = Network::ntlm();
    assert_eq!(network.get("/hello").status(), 200);
    for (method, body) in [("GET", ""), ("POST", "body"), ("CONNECT", "")] {
        assert_eq!(network.parent.close_idle(), 1);
        let before = network.parent.hops().len();
        let target = if method == "CONNECT" { "example.test:80".into() } else { url("/echo") };
        let response = network.client().request(method, &target, &[], body.as_bytes());
        assert_eq!((response.status(), response.text().as_str()), (200, body));
        let first = if body.is_empty() { method } else { "OPTIONS" };
        let legs = [format!("negotiate {first}"), format!("authenticate {method}")];
        assert_eq!(network.legs()[before..], legs);
    }
}

/// Whether the client is still there or not.
#[test]
fn a_connection_that_the_parent_closes_while_nothing_happens_is_let_go() {
    let (told, telling) = channel();
    let parent = Origin::raw(move |_, mut wire| {
        _ = wire.read_request();
        _ = wire.write(&response(200, &[], b""));
        _ = wire.finish();
        wire.deadline(2 * DEADLINE).expect("a socket");
        told.send(wire.fill().ok()).expect("the test waits");
    });
    let proxies =
        [(); 2].map(|()| Proxy::start(&format!("PARENT_PROXY: {}\n{NOBODY}", parent.addr())));
    assert_eq!(proxies[0].get(&url("/")).status(), 200);
    let mut client = proxies[1].client();
    assert_eq!(client.get(&url("/")).status(), 200);
    for _ in proxies {
        assert_eq!(telling.recv_timeout(3 * DEADLINE), Ok(Some(0)));
    }
}

/// A firewall may have forgotten it, which swallows what is sent; a body is not sent again.
#[test]
fn what_cannot_be_sent_again_goes_on_no_connection_that_was_idle_for_long() {
    let (_hold, never) = channel::<()>();
    let networks = [Network::ntlm(), Network::ntlm(), Network::ntlm()];
    for network in &networks {
        assert_eq!(network.get("/hello").status(), 200);
    }
    never.recv_timeout(Duration::from_millis(5500)).expect_err("nobody calls");
    let asked = [("GET", ""), ("POST", "body"), ("PUT", "body")];
    for (network, (method, body)) in networks.iter().zip(asked) {
        let again = || network.client().request(method, &url("/echo"), &[], body.as_bytes());
        assert_eq!(again().text(), body);
        let expected = if body.is_empty() { 1 } else { 2 };
        assert_eq!(network.parent.connections(), expected, "{method}");
        assert_eq!(again().text(), body);
        assert_eq!(network.parent.connections(), expected, "{method} at once");
    }
}

#[test]
fn a_parent_that_closes_in_a_requests_face_gets_a_get_again_and_a_post_once() {
    let network = Network::new(Parent::ntlm(ALICE).quirk(Quirk::HangUpOn(1)), LOGIN);
    assert_eq!(network.get("/hello").status(), 200);
    assert_eq!(network.get("/hello").status(), 200);
    assert_eq!(network.legs()[3..], ["authenticated GET", "negotiate GET", "authenticate GET"]);

    let page = network.client().request("POST", &url("/echo"), &[], b"pay 100");
    assert_eq!(page.status(), 502, "it may have been served: {}", page.text());
    assert!(page.text().contains(&network.parent.addr().to_string()), "{}", page.text());
    assert_eq!(network.legs()[6..], ["authenticated POST"]);
}

#[test]
fn a_parent_that_closes_after_every_few_requests_is_not_noticed() {
    let network = Network::new(Parent::ntlm(ALICE).quirk(Quirk::CloseAfter(3)), LOGIN);
    let mut client = network.client();
    for size in 0..12 {
        assert_eq!(client.get(&url(&format!("/bytes/{size}"))).body.length, size);
    }
    assert_eq!(network.origin.seen().len(), 12);
    assert!((4..=12).contains(&network.parent.handshakes()));
}

#[test]
fn a_response_with_bytes_behind_its_end_leaves_no_connection_behind() {
    let parent = Origin::raw(|number, mut wire| {
        while let Ok(Some(_)) = wire.read_request() {
            let mut bytes = response(200, &[], number.to_string().as_bytes());
            bytes.extend(response(200, &[], b"somebody else's"));
            if wire.write(&bytes).is_err() {
                return;
            }
        }
    });
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{NOBODY}", parent.addr()));
    let mut client = proxy.client();
    for number in 1..=3 {
        assert_eq!(client.get(&url("/")).text(), number.to_string());
    }
}

#[test]
fn a_response_that_closes_leaves_no_connection_behind() {
    let parent = Origin::raw(|number, mut wire| {
        while let Ok(Some(_)) = wire.read_request() {
            let answer = response(200, &[("Connection", "close")], number.to_string().as_bytes());
            if wire.write(&answer).is_err() {
                return;
            }
            // It does not close: whoever sends on is answered by the wrong number.
        }
    });
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{NOBODY}", parent.addr()));
    let mut client = proxy.client();
    for number in 1..=3 {
        assert_eq!(client.get(&url("/")).text(), number.to_string());
    }
}

#[test]
fn a_response_of_two_framings_leaves_no_connection_behind() {
    let parent = Origin::raw(|number, mut wire| {
        while let Ok(Some(_)) = wire.read_request() {
            let fields = [("Content-Length", "3"), ("Transfer-Encoding", "chunked")];
            let head = response_head(200, &fields);
            if wire.write(&[head, format!("1\r\n{number}\r\n0\r\n\r\n").into()].concat()).is_err() {
                return;
            }
        }
    });
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{NOBODY}", parent.addr()));
    for number in 1..=2 {
        let response = proxy.get(&url("/"));
        assert_eq!(response.text(), number.to_string());
        assert!(!response.fields().has("Content-Length"), "{response:?}");
    }
}

#[test]
fn an_answer_its_client_does_not_wait_for_leaves_no_connection_behind() {
    let network = Network::ntlm();
    let mut client = network.client();
    client.start("GET", &url("/bytes/50000000"), &[], b"");
    assert_eq!(client.read_head().status, 200);
    drop(client);
    let response = network.get("/bytes/10");
    assert_eq!(response.bytes(), pattern(10));
    assert_eq!(network.parent.connections(), 2);
}

#[test]
fn a_connect_may_use_a_pooled_connection_and_does_not_give_it_back() {
    let echo = Origin::tcp_echo();
    let network = Network::ntlm();
    assert_eq!(network.get("/hello").status(), 200);
    let mut tunnel = network.client();
    tunnel.tunnel("example.test:80");
    assert_eq!(network.legs()[3..], ["authenticated CONNECT"]);
    assert_eq!(network.get("/hello").status(), 200);
    assert_eq!((network.parent.connections(), network.parent.handshakes()), (2, 2));
    drop((tunnel, echo));
}

/// A body that is gone cannot be sent again; that the next request logs in first is a promise.
#[test]
fn a_large_body_that_met_a_forgotten_login_is_told_so_once() {
    let network = Network::new(Parent::ntlm(ALICE).quirk(Quirk::ForgetOn(1)), LOGIN);
    let mut slow = network.client();
    slow.start("GET", &url("/bytes/5000000"), &[], b"");
    assert_eq!(slow.read_head().status, 200);
    assert_eq!(network.get("/hello").status(), 200);
    slow.read_exact(5_000_000);
    assert_eq!(network.parent.connections(), 2, "two lie idle now, and both will be forgotten");
    let body = pattern(3 << 20);
    let post = || network.client().request("POST", &url("/hash"), &[], &body);
    let page = post();
    assert_eq!(page.status(), 503);
    assert!(page.text().contains("now the login comes first"), "{}", page.text());
    assert_eq!(post().text(), format!("{} {:016x}", body.len(), fnv(&body)));
    let posts = network.origin.seen().into_iter().filter(|seen| seen.method() == "POST");
    assert_eq!(posts.count(), 1);
}

/// A PUT may be sent again, but not without its body; and no login had to do with it.
#[test]
fn a_large_put_in_whose_face_a_parent_closes_is_told_what_happened() {
    let parent = Origin::with(|seen, wire| {
        let closes = seen.method() == "PUT" || wire.write(&response(200, &[], b"")).is_err();
        if closes { Then::Close } else { Then::Next }
    });
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{NOBODY}", parent.addr()));
    assert_eq!(proxy.get(&url("/")).status(), 200);
    let page = proxy.client().request("PUT", &url("/"), &[], &pattern(3 << 20));
    assert_eq!(page.status(), 502);
    assert!(page.text().contains("closed the connection"), "{}", page.text());
    assert_eq!((parent.connections(), parent.seen().len()), (1, 2));
}
