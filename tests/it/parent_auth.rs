//! The handshake with the parent, leg by leg: what goes out when, with which body, and what the
//! client is told where it fails.

use crate::proxy::{ALICE, LOGIN, Network, url};
use crate::support::acceptor::Acceptor;
use crate::support::{Dialect, Leg, Origin, Parent, Quirk, fnv, pattern};

const MEGABYTE: usize = 1 << 20;
const HANDSHAKE: [&str; 3] = ["bare GET", "negotiate GET", "authenticate GET"];

fn with_acceptor(change: impl FnOnce(Acceptor) -> Acceptor) -> Network {
    Network::new(Parent::ntlm(ALICE).acceptor(change), LOGIN)
}

fn with_quirk(quirk: Quirk) -> Network {
    Network::new(Parent::ntlm(ALICE).quirk(quirk), LOGIN)
}

#[test]
fn a_parent_with_a_clock_gets_ntlmv2_with_a_mic() {
    let network = Network::new(Parent::ntlm(ALICE), &format!("{LOGIN}NT_HOSTNAME: desk-7\n"));
    assert_eq!(network.get("/hello").text(), "hello, world\n");
    let hop = network.last_hop();
    let logon = hop.logon().expect("a login");
    assert_eq!((logon.dialect, logon.mic), (Dialect::Ntlmv2, true));
    assert_eq!((logon.domain.as_str(), logon.user.as_str()), ("CORP", "alice"));
    assert_eq!(logon.workstation, "DESK-7");
}

#[test]
fn parents_of_every_kind_are_answered_with_ntlmv2() {
    type Change = fn(Acceptor) -> Acceptor;
    let kinds: [(&str, Change, bool); 7] = [
        ("no timestamp", Acceptor::without_timestamp, false),
        ("no target info", Acceptor::without_target_info, false),
        ("a challenge of 32 bytes", Acceptor::minimal, false),
        ("an unknown AV pair", Acceptor::unknown_pair, true),
        ("the server's own MsvAvFlags", |acceptor| acceptor.pair(6, &[1, 0, 0, 0]), true),
        ("OEM names", Acceptor::oem, true),
        ("10,000 bytes of target info", |acceptor| acceptor.target_info_size(10_000), true),
    ];
    for (what, change, mic) in kinds {
        let network = with_acceptor(change);
        assert_eq!(network.get("/hello").status(), 200, "{what}: {:?}", network.parent.hops());
        let hop = network.last_hop();
        let logon = hop.logon().unwrap_or_else(|| panic!("{what}: {hop}"));
        assert_eq!((logon.dialect, logon.mic), (Dialect::Ntlmv2, mic), "{what}");
    }
}

#[test]
fn the_configured_dialect_is_the_one_that_is_spoken() {
    for (name, dialect) in [
        ("NTLMv2", Dialect::Ntlmv2),
        ("NTLM2SR", Dialect::Ntlm2Session),
        ("NTLM", Dialect::Ntlm),
        ("NT", Dialect::NtOnly),
        ("LM", Dialect::LmOnly),
    ] {
        let parent = Parent::ntlm(ALICE).acceptor(|acceptor| acceptor.only(dialect));
        let network = Network::new(parent, &format!("{LOGIN}NTLM_DIALECT: {name}\n"));
        assert_eq!(network.get("/hello").status(), 200, "{name}: {:?}", network.parent.hops());
    }
}

#[test]
fn names_and_passwords_of_all_scripts_and_spellings_log_in() {
    let long = "p".repeat(200);
    for (domain, user, password, cfg) in [
        ("CORP", "jürgen", "Grüße€ßẞ", "USER: CORP\\jürgen\nPASSWORD: Grüße€ßẞ"),
        ("ДОМЕН", "иван", "пароль", "USER: иван\nNT_DOMAIN: ДОМЕН\nPASSWORD: пароль"),
        ("CORP", "山田", "\u{1d11e}パスワード", "USER: CORP\\山田\nPASSWORD: \u{1d11e}パスワード"),
        (
            "",
            "alice@corp.example.test",
            "Secret-123",
            "USER: alice@corp.example.test\nPASSWORD: Secret-123",
        ),
        (
            "CORP",
            "alice",
            "a: b #c \\ \"d\" %25 =",
            "USER: CORP\\alice\nPASSWORD: a: b #c \\ \"d\" %25 =",
        ),
        ("corp", "ALICE", "Secret-123", "USER: alice\nNT_DOMAIN: CORP\nPASSWORD: Secret-123"),
        ("CORP", "alice", &long, &format!("USER: CORP\\alice\nPASSWORD: {long}")),
    ] {
        let network = Network::new(Parent::ntlm(&[(domain, user, password)]), cfg);
        assert_eq!(network.get("/hello").status(), 200, "{cfg}: {:?}", network.parent.hops());
        assert_eq!(network.parent.handshakes(), 1);
    }
}

#[test]
fn hashes_in_place_of_the_password_log_in() {
    // NTOWFv1 and NTOWFv2 of MS-NLMP 4.2, published for Domain\User with "Password".
    for hash in [
        "NT_HASHED_PW: a4f49c406510bdcab6824ee7c30fd852",
        "NTLMV2_HASHED_PW: 0c868a403bfd7a93a3001ef22ef02e3f",
    ] {
        let cfg = format!("USER: User\nNT_DOMAIN: Domain\n{hash}\n");
        let network = Network::new(Parent::ntlm(&[("Domain", "User", "Password")]), &cfg);
        assert_eq!(network.get("/hello").status(), 200, "{hash}: {:?}", network.parent.hops());
    }
}

#[test]
fn the_first_get_asks_first_and_the_next_connection_does_not() {
    let network = Network::ntlm();
    assert_eq!(network.get("/hello").status(), 200);
    assert_eq!(network.legs(), HANDSHAKE);
    assert_eq!(network.parent.connections(), 1, "one connection for all three");
    network.parent.close_idle();
    assert_eq!(network.get("/hello").status(), 200);
    assert_eq!(network.legs()[3..], ["negotiate GET", "authenticate GET"]);
}

#[test]
fn a_negotiate_has_no_body_and_the_authenticate_has_it_once() {
    let network = Network::ntlm();
    assert_eq!(network.get("/hello").status(), 200);
    for size in [5, 3 * MEGABYTE] {
        network.parent.close_idle();
        let before = network.parent.hops().len();
        let body = pattern(size);
        let response = network.client().request("POST", &url("/hash"), &[], &body);
        assert_eq!(response.text(), format!("{size} {:016x}", fnv(&body)));
        assert_eq!(network.legs()[before..], ["negotiate OPTIONS", "authenticate POST"]);
        let hops = network.parent.hops();
        let [negotiate, authenticate] = &hops[before..] else { panic!("{hops:?}") };
        assert!(!negotiate.fields().has("Content-Length"));
        assert!(!negotiate.fields().has("Connection"), "Squid drops the challenge then");
        assert_eq!((negotiate.body.length, authenticate.body.length), (0, size as u64));
        assert_eq!(negotiate.connection, authenticate.connection);
    }
    assert_eq!(network.origin.seen().len(), 3);
}

#[test]
fn a_small_post_on_first_contact_is_repeated_with_its_body() {
    let network = Network::ntlm();
    let response = network.client().request("POST", &url("/echo"), &[], b"a small body");
    assert_eq!(response.text(), "a small body");
    assert_eq!(network.legs(), ["bare POST", "negotiate POST", "authenticate POST"]);
    let lengths: Vec<_> = network.parent.hops().iter().map(|hop| hop.body.length).collect();
    assert_eq!(lengths, [12, 0, 12]);
    assert_eq!(network.origin.seen().len(), 1);
}

#[test]
fn a_large_or_chunked_post_on_first_contact_waits_behind_an_options() {
    let body = pattern(3 * MEGABYTE);
    for (fields, wire) in [
        (&[][..], body.clone()),
        (&[("Transfer-Encoding", "chunked")], b"2\r\nab\r\n0\r\n\r\n".to_vec()),
    ] {
        let network = Network::ntlm();
        let mut client = network.client();
        let response = client.request("POST", &url("/hash"), fields, &wire);
        assert_eq!(response.status(), 200);
        assert_eq!(network.legs(), ["bare OPTIONS", "negotiate OPTIONS", "authenticate POST"]);
        let lengths: Vec<_> = network.parent.hops().iter().map(|hop| hop.body.length).collect();
        let whole = if fields.is_empty() { body.len() as u64 } else { 2 };
        assert_eq!(lengths, [0, 0, whole]);
        assert_eq!(network.origin.seen().len(), 1, "the OPTIONS went no further than the parent");
    }
}

#[test]
fn an_open_parent_gets_every_post_once_and_none_without_its_body() {
    for size in [5, 3 * MEGABYTE] {
        let network = Network::new(Parent::open(), LOGIN);
        let body = pattern(size);
        for _ in 0..2 {
            let response = network.client().request("POST", &url("/hash"), &[], &body);
            assert_eq!(response.text(), format!("{size} {:016x}", fnv(&body)));
        }
        let seen = network.origin.seen();
        let posts: Vec<_> = seen.iter().filter(|seen| seen.method() == "POST").collect();
        assert_eq!(posts.len(), 2);
        assert!(posts.iter().all(|post| post.body.length == size as u64));
        assert!(network.parent.hops().iter().all(|hop| !hop.fields().has("Proxy-Authorization")));
    }
}

#[test]
fn a_parent_that_closes_after_its_bare_407_is_called_again() {
    for (quirk, connections) in [(Quirk::CloseAfterBare, 2), (Quirk::DropAfterBare, 2)] {
        let network = with_quirk(quirk.clone());
        assert_eq!(network.get("/hello").status(), 200, "{quirk:?}");
        assert_eq!(network.legs(), HANDSHAKE, "{quirk:?}");
        assert_eq!(network.parent.connections(), connections);
        let network = with_quirk(quirk.clone());
        let response = network.client().request("POST", &url("/echo"), &[], b"body");
        assert_eq!(response.text(), "body", "{quirk:?}");
        let network = with_quirk(quirk.clone());
        let body = pattern(2 * MEGABYTE);
        let response = network.client().request("POST", &url("/hash"), &[], &body);
        assert_eq!(response.text(), format!("{} {:016x}", body.len(), fnv(&body)), "{quirk:?}");
    }
}

#[test]
fn ntlm_is_found_among_other_offers_in_any_order_spelling_and_line() {
    for offers in [
        &["Negotiate", "NTLM", "Basic realm=\"x\""][..],
        &["Basic realm=\"a, NTLM b\"", "Kerberos", "ntlm"],
        &["Basic realm=\"x\", NTLM, Negotiate"],
        &["Digest realm=\"r\", nonce=\"n,tlm\", qop=\"auth\", nTlM"],
        &["Bearer", "NTLM"],
    ] {
        let network = Network::new(Parent::ntlm(ALICE).offer(offers), LOGIN);
        assert_eq!(network.get("/hello").status(), 200, "{offers:?}");
        assert_eq!(network.legs(), HANDSHAKE, "{offers:?}");
    }
}

#[test]
fn a_407_may_be_chunked_large_or_of_http_1_0() {
    for (quirk, connections) in [
        (Quirk::RefusalChunked, 1),
        (Quirk::RefusalBody(0), 1),
        (Quirk::RefusalBody(100_000), 1),
        (Quirk::RefusalHttp10, 1),
    ] {
        let network = with_quirk(quirk.clone());
        assert_eq!(network.get("/hello").status(), 200, "{quirk:?}");
        let head = network.client().request("HEAD", &url("/hello"), &[], b"");
        assert_eq!(head.status(), 200, "{quirk:?}");
        let connect = network.client().request("CONNECT", "example.test:443", &[], b"");
        assert_eq!(connect.status(), 200, "{quirk:?}");
        assert_eq!((network.parent.connections(), network.parent.handshakes()), (connections, 1));
    }
}

#[test]
fn a_parent_that_forgets_a_login_is_logged_in_to_again() {
    for (method, body) in [("GET", &b""[..]), ("POST", b"a body"), ("PUT", &pattern(500_000))] {
        let network = with_quirk(Quirk::ForgetOn(1));
        assert_eq!(network.get("/hello").status(), 200);
        let response = network.client().request(method, &url("/hash"), &[], body);
        assert_eq!(response.text(), format!("{} {:016x}", body.len(), fnv(body)), "{method}");
        let first = if body.is_empty() { method } else { "OPTIONS" };
        let legs = [
            format!("authenticated {method}"),
            format!("negotiate {first}"),
            format!("authenticate {method}"),
        ];
        assert_eq!(network.legs()[3..], legs);
        assert_eq!(network.origin.seen().len(), 2);
    }
}

#[test]
fn a_wrong_password_is_tried_once_a_request_and_the_page_names_the_lines() {
    for quirk in [None, Some(Quirk::CloseAfterRefused)] {
        let cfg = "USER: CORP\\alice\nPASSWORD: s3cret-and-wrong\nREJECTED_RETRY: 0\n";
        let parent = Parent::ntlm(ALICE);
        let parent = quirk.into_iter().fold(parent, crate::support::Builder::quirk);
        let network = Network::new(parent, cfg);
        let mut client = network.client();
        for (request, method) in (1..).zip(["GET", "POST", "CONNECT"]) {
            let target = if method == "CONNECT" { "example.test:443".into() } else { url("/") };
            let body: &[u8] = if method == "POST" { b"body" } else { b"" };
            let page = client.request(method, &target, &[], body);
            assert_eq!(page.status(), 407, "{method}");
            for word in ["USER", "PASSWORD", "NT_DOMAIN", "ntlmaps.cfg"] {
                assert!(page.text().contains(word), "{}", page.text());
            }
            assert!(page.text().contains(&network.parent.addr().to_string()), "{}", page.text());
            let raw = format!("{}{}", String::from_utf8_lossy(&page.head.raw), page.text());
            assert!(!raw.contains("s3cret") && !raw.contains("NTLM T"), "{raw}");
            assert!(!page.fields().has("Proxy-Authenticate"), "nobody should ask for a password");
            assert_eq!(network.parent.refusals(), request);
        }
        assert_eq!(network.origin.seen().len(), 0);
        // Burnt connections were not used again.
        let burnt = network.parent.hops().into_iter().filter(|hop| hop.leg == Leg::Authenticated);
        assert_eq!(burnt.count(), 0);
        assert!(!network.legs().contains(&"bad negotiate GET".to_owned()));
    }
}

#[test]
fn an_account_the_parent_does_not_know_is_told_so() {
    let network = Network::new(Parent::ntlm(ALICE), "USER: CORP\\bob\nPASSWORD: Secret-123\n");
    let page = network.get("/hello");
    assert_eq!(page.status(), 407);
    assert!(page.text().contains("not accepted"), "{}", page.text());
}

#[test]
fn a_parent_that_offers_no_ntlm_is_named_with_what_it_offers() {
    let parent = Parent::ntlm(ALICE).offer(&["Basic realm=\"corp\"", "Kerberos"]);
    let network = Network::new(parent, LOGIN);
    let page = network.get("/hello");
    assert_eq!(page.status(), 407);
    assert!(page.text().contains("Basic, Kerberos"), "{}", page.text());
    assert!(page.text().contains("AUTH"), "{}", page.text());
    assert_eq!(network.legs(), ["bare GET"], "no password goes out by Basic unasked");
}

#[test]
fn a_parent_that_demands_a_login_where_nobody_is_configured_is_told() {
    let network = Network::new(Parent::ntlm(ALICE), "NTLM_TO_BASIC: 0\n");
    let page = network.get("/hello");
    assert_eq!(page.status(), 407);
    assert_eq!(network.legs(), ["bare GET"]);
}

#[test]
fn a_challenge_that_cannot_be_read_is_the_parents_fault_and_a_502() {
    for token in [
        "not base64!",
        "TlRMTVNTUAAC",
        "TlRMTVNTUAADAAAAAAAAAAAAAAACAgAAASNFZ4mrze8=",
        "Zm9vIGJhciBiYXogYW5kIHNvIG9u",
        "=",
    ] {
        let network = with_quirk(Quirk::ChallengeToken(token.into()));
        let page = network.get("/hello");
        assert_eq!(page.status(), 502, "{token}: {}", page.text());
        assert!(page.text().contains("challenge"), "{}", page.text());
        assert!(page.text().contains(&network.parent.addr().to_string()), "{}", page.text());
        assert_eq!((network.parent.handshakes(), network.parent.refusals()), (0, 0));
    }
}

/// A real Squid behind a helper that fails: 407 for ever, with the bare offer.
#[test]
fn a_parent_that_answers_negotiate_with_its_offer_again_is_no_endless_loop() {
    let parent = Origin::with(|_, wire| {
        let offer = [("Proxy-Authenticate", "NTLM")];
        let sent = wire.write(&crate::support::http::response(407, &offer, b"who are you?"));
        if sent.is_ok() { crate::support::Then::Next } else { crate::support::Then::Close }
    });
    let proxy = crate::proxy::Proxy::start(&format!("PARENT_PROXY: {}\n{LOGIN}", parent.addr()));
    let page = proxy.get(&url("/hello"));
    assert_eq!(page.status(), 502);
    assert_eq!(parent.seen().len(), 2);
}
