//! Requests that lead back to the proxy are told so at once, whichever way they come.

use crate::proxy::{NOBODY, Network, Proxy, url};
use crate::support::{Parent, Response};

fn is_told(page: &Response, what: &str) {
    assert_eq!(page.status(), 508, "{what}: {}", page.text());
    assert!(page.text().contains("leads back to ntlmaps itself"), "{}", page.text());
}

#[test]
fn a_url_that_names_the_proxy_is_a_loop_by_whatever_name() {
    let proxy = Proxy::start(NOBODY);
    let port = proxy.addr().port();
    for host in ["127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let mut client = proxy.client();
        is_told(&client.get(&format!("http://{host}:{port}/")), host);
        is_told(&client.request("POST", &format!("http://{host}:{port}/"), &[], b"body"), host);
        is_told(&client.request("CONNECT", &format!("{host}:{port}"), &[], b""), host);
    }
}

#[test]
fn a_parent_that_is_the_proxy_itself_is_a_loop() {
    let proxy = Proxy::start(NOBODY);
    for host in ["127.0.0.1", "localhost"] {
        proxy.reload(&format!("PARENT_PROXY: {host}:{}\n{NOBODY}", proxy.addr().port()));
        is_told(&proxy.get(&url("/")), host);
        is_told(&proxy.client().request("CONNECT", "example.test:443", &[], b""), host);
    }
}

#[test]
fn two_proxies_that_name_each_other_are_a_loop() {
    let one = Proxy::start(NOBODY);
    let other = Proxy::start(&format!("PARENT_PROXY: {}\n{NOBODY}", one.addr()));
    one.reload(&format!("PARENT_PROXY: {}\n{NOBODY}", other.addr()));
    for proxy in [&one, &other] {
        let mut client = proxy.client();
        is_told(&client.get(&url("/")), "GET");
        // Who would have the mark removed has it removed once.
        let fields = [("Connection", "Via"), ("Via", "1.0 fred")];
        is_told(&client.request("POST", &url("/"), &fields, b"body"), "POST");
        is_told(&client.request("CONNECT", "example.test:443", &[], b""), "CONNECT");
    }
}

/// Their clients get no HTTP: SOCKS5 has its own words, a tunnel ends.
#[test]
fn the_other_doors_lead_into_no_loop_either() {
    let doors = format!("TUNNELS: 0:example.test:22\nSOCKS5_PORT: 0\n{NOBODY}");
    let one = Proxy::start(&doors);
    let other = Proxy::start(&format!("PARENT_PROXY: {}\n{NOBODY}", one.addr()));
    one.reload(&format!("PARENT_PROXY: {}\n{doors}", other.addr()));
    assert!(one.client_of(1).is_closed());
    let socks = one.client_of(0).wire.stream().peer_addr().unwrap().port().to_be_bytes();
    let ask = |host: [u8; 4], port: [u8; 2]| {
        let mut client = one.client_of(0);
        client.send([5, 1, 0]);
        assert_eq!(client.read_exact(2), [5, 0]);
        client.send([&[5, 1, 0, 1][..], &host, &port].concat());
        client.read_to_end()
    };
    assert_eq!(ask([192, 0, 2, 1], [0, 80])[1], 1, "two that name each other");
    one.reload(&doors);
    assert_eq!(ask([127, 0, 0, 1], one.addr().port().to_be_bytes())[1], 1, "the HTTP door");
    assert_eq!(ask([127, 0, 0, 1], socks)[1], 1, "its own door");
}

#[test]
fn a_parent_that_leads_back_here_is_a_loop() {
    let parent = Parent::open().start();
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{NOBODY}", parent.addr()));
    is_told(&proxy.get(&format!("http://{}/hello", proxy.addr())), "origin-form");
    assert_eq!(parent.hops().len(), 1);
}

#[test]
fn what_others_wrote_into_via_is_kept_and_only_parents_are_told_of_us() {
    let network = Network::open();
    let fields = [("Via", "1.0 fred, 1.1 ntlmaps-of-others (x, y)")];
    assert_eq!(network.client().request("GET", &url("/hello"), &fields, b"").status(), 200);
    let hop = network.last_hop();
    let via = hop.fields().all("Via");
    assert!(via[0] == fields[0].1 && via[1].starts_with("1.1 ntlmaps-"), "{via:?}");
    let mut old = network.client();
    old.send("GET http://example.test/hello HTTP/1.0\r\n\r\n");
    assert_eq!(old.read_response().status(), 200);
    assert!(network.last_hop().fields().get("Via").is_some_and(|via| via.starts_with("1.0 ")));
    let direct = Proxy::start(NOBODY);
    assert_eq!(direct.get(&network.origin.url("/hello")).status(), 200);
    assert!(!network.origin.seen()[2].fields().has("Via"));
    let hides = format!("PARENT_PROXY: {}\n{NOBODY}[CLIENT_HEADER]\nVia:\n", network.parent.addr());
    assert_eq!(Proxy::start(&hides).get(&url("/hello")).status(), 200);
    assert!(!network.last_hop().fields().has("Via"), "whoever hides it has it hidden");
}
