//! `NTLM_TO_BASIC`: each client brings its account by Basic, and the parent gets NTLM.

use crate::proxy::{ALICE, LOGIN, Network, Proxy, basic, url};
use crate::support::gate::base64;
use crate::support::{Client, Origin, Parent, Response};

/// The walk-through of yum: USER and PASSWORD commented out.
const COMMENTED_OUT: &str = "[NTLM_AUTH]\nNT_DOMAIN: CORP\n#USER: jane\n#PASSWORD: her password\n";

fn network() -> Network {
    Network::new(Parent::ntlm(ALICE), COMMENTED_OUT)
}

fn ask(client: &mut Client, pair: &str) -> Response {
    client.request("GET", &url("/headers"), &[("Proxy-Authorization", &basic(pair))], b"")
}

#[test]
fn who_brings_no_account_is_asked_for_one_by_basic() {
    let network = network();
    let mut client = network.client();
    for (fields, method, target) in [
        (&[][..], "GET", url("/")),
        (&[("Proxy-Authorization", "Bearer abc")], "GET", url("/")),
        (&[("Proxy-Authorization", "Basic !!!")], "GET", url("/")),
        (&[("Proxy-Authorization", "Basic YWxpY2U=")], "PUT", url("/")),
        (&[], "CONNECT", "example.test:443".into()),
        (&[("Authorization", "Basic YWxpY2U6U2VjcmV0LTEyMw==")], "GET", url("/")),
    ] {
        let body: &[u8] = if method == "PUT" { b"body" } else { b"" };
        let page = client.request(method, &target, fields, body);
        assert_eq!(page.status(), 407, "{fields:?}");
        let challenges = page.fields().all("Proxy-Authenticate");
        assert_eq!(challenges.len(), 1, "{page:?}");
        assert!(challenges[0].starts_with("Basic realm=\"ntlmaps\""), "{page:?}");
        assert!(page.text().contains("USER"), "{}", page.text());
    }
    assert_eq!(network.parent.connections(), 0, "nobody is bothered with nothing");
}

#[test]
fn names_of_every_spelling_become_the_ntlm_account() {
    let accounts = &[
        ("CORP", "alice", "Secret-123"),
        ("OTHER", "bob", "p:w: "),
        ("", "carol@corp.example.test", "x"),
        ("CORP", "jürgen", "Grüße€"),
        ("CORP", "zoë", "é"),
    ];
    let network = Network::new(Parent::ntlm(accounts), COMMENTED_OUT);
    for (pair, domain, user) in [
        ("alice:Secret-123".as_bytes(), "CORP", "alice"),
        (b"CORP\\alice:Secret-123", "CORP", "alice"),
        (b"OTHER\\bob:p:w: ", "OTHER", "bob"),
        (b"carol@corp.example.test:x", "", "carol@corp.example.test"),
        ("jürgen:Grüße€".as_bytes(), "CORP", "jürgen"),
        (b"zo\xeb:\xe9", "CORP", "zoë"), // Latin-1, of a client that never heard of charset
    ] {
        network.parent.close_idle();
        let value = format!("Basic {}", base64(pair));
        let fields = [("Proxy-Authorization", value.as_str())];
        let response = network.client().request("GET", &url("/hello"), &fields, b"");
        assert_eq!(response.status(), 200, "{user}: {:?}", network.parent.hops().last());
        let hop = network.last_hop();
        let logon = hop.logon().expect("a login");
        assert_eq!((logon.domain.as_str(), logon.user.as_str()), (domain, user));
    }
}

#[test]
fn the_clients_basic_reaches_neither_parent_nor_origin() {
    let network = network();
    let mut client = network.client();
    let value = basic("alice:Secret-123");
    let fields = [("Proxy-Authorization", value.as_str()), ("X-Other", "1")];
    for (method, body) in [("GET", &b""[..]), ("POST", b"body")] {
        assert_eq!(client.request(method, &url("/echo"), &fields, body).status(), 200);
    }
    client.request("CONNECT", "example.test:80", &fields, b"");
    let heads = network.parent.hops().into_iter().map(|hop| hop.head.raw);
    for raw in heads.chain(network.origin.seen().into_iter().map(|seen| seen.head.raw)) {
        let text = String::from_utf8_lossy(&raw);
        assert!(!text.contains("Basic") && !text.contains(&value[6..]), "{text}");
        assert!(!text.contains("Secret"), "{text}");
    }
}

#[test]
fn a_wrong_password_and_then_the_right_one_may_come_on_one_connection() {
    let network = network();
    let mut client = network.client();
    let page = ask(&mut client, "alice:n0t-it");
    assert_eq!(page.status(), 407);
    assert!(page.fields().get("Proxy-Authenticate").is_some_and(|line| line.starts_with("Basic ")));
    assert!(!page.text().contains("n0t-it"), "{}", page.text());
    assert_eq!((network.parent.refusals(), network.origin.seen().len()), (1, 0));
    assert_eq!(ask(&mut client, "alice:Secret-123").status(), 200);
    assert_eq!((network.parent.refusals(), network.parent.handshakes()), (1, 1));
    // And back: what was right before does not make what is wrong right.
    assert_eq!(ask(&mut client, "bob:Secret-123").status(), 407);
    assert_eq!(ask(&mut client, "alice:Secret-123").status(), 200);
    assert_eq!(network.parent.handshakes(), 1);
}

#[test]
fn a_refused_post_leaves_its_connection_to_the_next_try() {
    let network = network();
    let mut client = network.client();
    let page = client.request("POST", &url("/echo"), &[], b"the body of nobody");
    assert_eq!(page.status(), 407);
    let fields = [("Proxy-Authorization", &*basic("alice:Secret-123"))];
    assert_eq!(client.request("POST", &url("/echo"), &fields, b"body").text(), "body");
    assert_eq!(network.origin.seen().len(), 1);
}

#[test]
fn a_tunnel_opens_for_an_account_brought_by_basic() {
    let network = network();
    let mut client = network.client();
    let fields = [("Proxy-Authorization", &*basic("alice:Secret-123"))];
    assert_eq!(client.request("CONNECT", "example.test:80", &fields, b"").status(), 200);
    client.send("GET /hello HTTP/1.1\r\nHost: example.test\r\n\r\n");
    assert_eq!(client.read_response().text(), "hello, world\n");
}

#[test]
fn an_http_1_0_client_may_bring_its_account_too() {
    let network = network();
    let mut client = network.client();
    client.send("GET http://example.test/hello HTTP/1.0\r\n\r\n");
    let page = client.read_response();
    assert!(page.status() == 407 && client.is_closed());
    let mut client = network.client();
    let value = basic("alice:Secret-123");
    client.send(format!(
        "GET http://example.test/hello HTTP/1.0\r\nProxy-Authorization: {value}\r\n\r\n"
    ));
    assert_eq!(client.read_response().status(), 200);
}

#[test]
fn ntlm_to_basic_overrules_the_account_of_the_file() {
    let network = Network::new(Parent::ntlm(ALICE), &format!("{LOGIN}NTLM_TO_BASIC: 1\n"));
    assert_eq!(network.get("/hello").status(), 407);
    let mut client = network.client();
    assert_eq!(ask(&mut client, "CORP\\alice:Secret-123").status(), 200);
}

#[test]
fn a_host_that_bypasses_the_parent_needs_no_account_and_gets_none() {
    let origin = Origin::start();
    let proxy = Proxy::start(&format!(
        "PARENT_PROXY: 127.0.0.1:1\nHOSTS_TO_BYPASS_PARENT_PROXY: 127.0.0.1\n{COMMENTED_OUT}"
    ));
    let mut client = proxy.client();
    assert_eq!(client.get(&origin.url("/hello")).status(), 200);
    let fields = [("Proxy-Authorization", &*basic("alice:Secret-123"))];
    assert_eq!(client.request("GET", &origin.url("/hello"), &fields, b"").status(), 200);
    assert!(origin.seen().iter().all(|seen| !seen.fields().has("Proxy-Authorization")));
}

#[test]
fn an_open_parent_never_sees_the_account() {
    let network = Network::new(Parent::open(), COMMENTED_OUT);
    let mut client = network.client();
    assert_eq!(ask(&mut client, "alice:Secret-123").status(), 200);
    assert_eq!(network.legs(), ["open GET"]);
    assert!(!network.last_hop().fields().has("Proxy-Authorization"));
}

#[test]
fn after_a_reload_a_client_that_stays_is_of_the_new_domain() {
    let network = Network::new(Parent::ntlm(ALICE), "NT_DOMAIN: ELSEWHERE\n");
    let mut client = network.client();
    assert_eq!(ask(&mut client, "alice:Secret-123").status(), 407);
    network.proxy.reload(&format!("PARENT_PROXY: {}\n{COMMENTED_OUT}", network.parent.addr()));
    assert_eq!(ask(&mut client, "alice:Secret-123").status(), 200);
}
