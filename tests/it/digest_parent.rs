//! Parents that want Digest (RFC 7616), held to the letter by an acceptor of the tests' own.

use std::sync::{Arc, Barrier};
use std::thread;

use crate::proxy::{Proxy, basic, url};
use crate::support::digest_gate::{DigestDoor, Judged};
use crate::support::doors::{Fickle, Wall, parent};
use crate::support::{Origin, fnv, pattern};

const LOGIN: &str = "USER: CORP\\alice\nPASSWORD: Secret-123\n";
const ALICE: &[(&str, &str)] = &[("alice", "Secret-123")];

fn at(door: &Arc<DigestDoor>, cfg: &str) -> (Origin, Proxy) {
    let parent = parent(door);
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{cfg}", parent.addr()));
    (parent, proxy)
}

fn wrong(door: &DigestDoor) -> usize {
    door.uses().iter().filter(|one| matches!(one.judged, Judged::Wrong(_))).count()
}

#[test]
fn one_407_and_then_every_request_is_counted() {
    for algorithm in [None, Some("MD5"), Some("MD5-sess")] {
        let door = DigestDoor::new(ALICE);
        let door = algorithm.into_iter().fold(door, DigestDoor::algorithm).open();
        let (parent, proxy) = at(&door, LOGIN);
        let mut client = proxy.client();
        assert_eq!(client.get(&url("/?a=1,b=%222%22")).status(), 200, "{:?}", door.uses());
        assert_eq!(client.request("POST", &url("/echo"), &[], b"body").text(), "body");
        assert_eq!(client.request("HEAD", &url("/"), &[], b"").status(), 200);
        let mut tunnel = proxy.client();
        tunnel.tunnel("a.test:443");
        tunnel.send("hello");
        assert_eq!(tunnel.read_exact(5), b"hello");
        assert_eq!(client.get(&url("/")).status(), 200);
        assert_eq!(door.right_uses(), [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5)], "{algorithm:?}");
        assert_eq!(door.bare(), 1);
        assert_eq!(parent.connections(), 2, "the tunnel took one away");
    }
}

#[test]
fn the_password_goes_nowhere() {
    let door = DigestDoor::new(ALICE).open();
    let (parent, proxy) = at(&door, LOGIN);
    for _ in 0..3 {
        assert_eq!(proxy.get(&url("/")).status(), 200);
    }
    for seen in parent.seen() {
        let raw = String::from_utf8_lossy(&seen.head.raw).into_owned();
        assert!(!raw.contains("Secret") && !raw.contains("Basic"), "{raw}");
    }
}

#[test]
fn a_stale_nonce_is_asked_again_and_no_refusal() {
    for (algorithm, lifetime) in [("MD5", 2), ("MD5", 1), ("MD5-sess", 3)] {
        let door = DigestDoor::new(ALICE).algorithm(algorithm).lifetime(lifetime).open();
        let (_parent, proxy) = at(&door, LOGIN);
        let mut client = proxy.client();
        for number in 0..12 {
            let response = match number % 3 {
                0 => client.get(&url("/")),
                1 => client.request("POST", &url("/echo"), &[], b"a body"),
                _ => proxy.client().request("CONNECT", "a.test:443", &[], b""),
            };
            assert_eq!(response.status(), 200, "{number}: {:?}", door.uses());
        }
        let uses = door.uses();
        assert_eq!(uses.iter().filter(|one| one.judged == Judged::Right).count(), 12);
        assert!(uses.iter().any(|one| one.judged == Judged::Stale), "{uses:?}");
        assert_eq!(wrong(&door), 0, "{uses:?}");
    }
}

#[test]
fn a_nonce_that_is_stale_at_its_first_use_is_no_refusal_either() {
    for (method, target, body) in [
        ("GET", url("/echo"), ""),
        ("POST", url("/echo"), "body"),
        ("CONNECT", "a.test:1".into(), ""),
    ] {
        let door = DigestDoor::new(ALICE).stillborn(&[1, 4]).open();
        let (_parent, proxy) = at(&door, LOGIN);
        for _ in 0..2 {
            let response = proxy.client().request(method, &target, &[], body.as_bytes());
            assert_eq!((response.status(), response.text().as_str()), (200, body));
            door.expire();
        }
        let uses = door.uses();
        assert_eq!((uses[0].nonce, &uses[0].judged), (1, &Judged::Stale));
        assert_eq!((uses[1].nonce, &uses[1].judged), (2, &Judged::Right));
        assert_eq!(wrong(&door), 0, "{uses:?}");
    }
}

#[test]
fn a_parent_for_which_every_nonce_is_stale_is_not_asked_for_ever() {
    let door = DigestDoor::new(ALICE).lifetime(0).open();
    let (_parent, proxy) = at(&door, LOGIN);
    let page = proxy.get(&url("/"));
    assert_eq!(page.status(), 407);
    let uses = door.uses();
    assert!((1..=4).contains(&uses.len()), "{uses:?}");
}

#[test]
fn the_next_nonce_is_taken_and_none_goes_stale() {
    let (each, every_other) = (
        vec![(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)],
        vec![(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)],
    );
    for (algorithm, uses, expected) in [
        ("MD5", 1, &each),
        ("MD5", 2, &every_other),
        // As Squid has it: the session key is made anew with each nonce.
        ("MD5-sess", 1, &each),
        ("MD5-sess", 2, &every_other),
    ] {
        let door = DigestDoor::new(ALICE).algorithm(algorithm).next_after(uses).open();
        let (_parent, proxy) = at(&door, LOGIN);
        let mut client = proxy.client();
        for number in 0..6 {
            let page = match number % 2 {
                0 => client.get(&url("/")),
                _ => client.request("PUT", &url("/echo"), &[], b"body"),
            };
            assert_eq!(page.status(), 200, "{:?}", door.uses());
            assert!(!page.fields().has("Proxy-Authentication-Info"), "it is ours: {page:?}");
        }
        assert_eq!((&door.right_uses(), door.bare()), (expected, 1), "{algorithm}");
    }
}

#[test]
fn bodies_of_every_size_and_framing_arrive_whole() {
    let large = pattern(3 << 20);
    for first in [true, false] {
        let door = DigestDoor::new(ALICE).open();
        let (_parent, proxy) = at(&door, LOGIN);
        if !first {
            assert_eq!(proxy.get(&url("/")).status(), 200);
        }
        let mut client = proxy.client();
        for _ in 0..2 {
            let response = client.request("POST", &url("/hash"), &[], &large);
            assert_eq!(response.text(), format!("{} {:016x}", large.len(), fnv(&large)));
            door.expire();
            let response = client.request("POST", &url("/hash"), &[], &large);
            assert_eq!(response.text(), format!("{} {:016x}", large.len(), fnv(&large)));
            let chunked = [("Transfer-Encoding", "chunked")];
            let mut chunks = format!("{:x}\r\n", large.len()).into_bytes();
            chunks.extend(&large);
            chunks.extend(b"\r\n0\r\n\r\n");
            let response = client.request("PUT", &url("/hash"), &chunked, &chunks);
            assert_eq!(response.text(), format!("{} {:016x}", large.len(), fnv(&large)));
            door.expire();
            let small = b"4\r\nbody\r\n0\r\n\r\n";
            assert_eq!(client.request("PUT", &url("/echo"), &chunked, small).text(), "body");
        }
        assert_eq!(wrong(&door), 0, "{:?}", door.uses());
    }
}

#[test]
fn fifty_clients_with_a_wrong_password_cost_one_refusal_and_a_hundred_more_none() {
    let door = DigestDoor::new(ALICE).open();
    let (_parent, proxy) = at(&door, "USER: alice\nPASSWORD: not-hers\n");
    let barrier = Barrier::new(50);
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let mut client = proxy.client();
                client.wire.deadline(std::time::Duration::from_secs(30)).expect("a socket");
                barrier.wait();
                let page = client.get(&url("/"));
                assert!(page.status() == 407 && page.text().contains("min"), "{}", page.text());
            });
        }
    });
    for _ in 0..100 {
        assert_eq!(proxy.get(&url("/")).status(), 407);
    }
    assert_eq!(wrong(&door), 1, "{:?}", door.uses());
}

#[test]
fn many_clients_at_once_are_all_served_and_no_count_comes_twice() {
    for door in [DigestDoor::new(ALICE).open(), DigestDoor::new(ALICE).lifetime(5).open()] {
        let (_parent, proxy) = at(&door, LOGIN);
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    let mut client = proxy.client();
                    client.wire.deadline(std::time::Duration::from_secs(30)).expect("a socket");
                    for _ in 0..10 {
                        let page = client.get(&url("/"));
                        assert_eq!(page.status(), 200, "{}", page.text());
                    }
                });
            }
        });
        let uses = door.uses();
        assert_eq!(uses.iter().filter(|one| one.judged == Judged::Right).count(), 200);
        assert_eq!(wrong(&door), 0);
        // As Squid wants it: a nonce's counts come in their order.
        for number in 1..=uses.len() {
            let of_nonce = uses.iter().filter(|one| one.nonce == number).map(|one| one.count);
            assert!(of_nonce.clone().is_sorted(), "{:?}", of_nonce.collect::<Vec<_>>());
        }
    }
}

#[test]
fn each_client_may_bring_its_own_account_to_digest() {
    let accounts = &[("alice", "Secret-123"), ("jürgen", "Grüße: \"€\" \\")];
    let door = DigestDoor::new(accounts).open();
    let (parent, proxy) = at(&door, "NT_DOMAIN: CORP\n");
    let mut client = proxy.client();
    for (pair, status) in [
        ("CORP\\alice:Secret-123", 200),
        ("jürgen:Grüße: \"€\" \\", 200),
        ("jürgen:nein", 407),
        ("alice:Secret-123", 200),
        ("jürgen:Grüße: \"€\" \\", 200),
    ] {
        let fields = [("Proxy-Authorization", &*basic(pair))];
        let page = client.request("GET", &url("/"), &fields, b"");
        assert_eq!(page.status(), status, "{pair}: {}", page.text());
    }
    assert_eq!(wrong(&door), 1);
    for seen in parent.seen() {
        assert!(!String::from_utf8_lossy(&seen.head.raw).contains("Basic"));
    }
}

#[test]
fn a_password_that_changes_at_the_parent_is_refused_once_and_then_not_for_long() {
    let old = DigestDoor::new(ALICE).open();
    let new = DigestDoor::new(&[("alice", "another")]).open();
    let door = Fickle::new(vec![Arc::<DigestDoor>::clone(&old), Arc::<DigestDoor>::clone(&new)]);
    let parent = parent(&door);
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{LOGIN}", parent.addr()));
    assert_eq!(proxy.get(&url("/")).status(), 200);
    door.turn_to(1);
    for _ in 0..5 {
        assert_eq!(proxy.get(&url("/")).status(), 407);
    }
    assert!((1..=3).contains(&wrong(&new)), "{:?}", new.uses());
    door.turn_to(0);
}

#[test]
fn digest_that_we_cannot_do_is_told_and_one_that_we_can_is_found_behind_it() {
    let sha = "Digest realm=\"r\", nonce=\"n\", qop=\"auth\", algorithm=SHA-256";
    let int = "Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"";
    let md5 = "Digest realm=\"r\", nonce=\"the one\", qop=\"auth\", algorithm=MD5";
    for (lines, found) in [
        (vec![sha], false),
        (vec![int], false),
        (vec![sha, md5], true),
        (vec![int, sha, md5], true),
    ] {
        let wall = Arc::new(Wall(lines.iter().map(|line| (*line).into()).collect()));
        let parent = parent(&wall);
        let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{LOGIN}", parent.addr()));
        let page = proxy.get(&url("/"));
        assert!(page.status() == 407, "{}", page.text());
        assert!(found || page.text().contains("Digest"), "{}", page.text());
        let seen = parent.seen();
        let answers: Vec<_> =
            seen.iter().filter_map(|seen| seen.fields().get("Proxy-Authorization")).collect();
        assert_eq!(answers.len(), usize::from(found), "{lines:?}");
        assert!(answers.iter().all(|answer| answer.contains("nonce=\"the one\"")), "{answers:?}");
    }
}
