//! The PAC file, and what else is asked of the program itself.

use crate::proxy::{ALICE, LOGIN, Network};
use crate::support::{Client, Parent};

fn ask(client: &mut Client, method: &str, host: &str) -> (u16, String, String) {
    let host = if host.is_empty() { String::new() } else { format!("Host: {host}\r\n") };
    client.send(format!("{method} /proxy.pac HTTP/1.0\r\nConnection: keep-alive\r\n{host}\r\n"));
    let response = client.read_response_to(method);
    let kind = response.fields().get("Content-Type").unwrap_or_default().to_owned();
    (response.status(), kind, response.text())
}

#[test]
fn a_browser_that_asks_learns_where_to_go() {
    let cfg = format!("HOSTS_TO_BYPASS_PARENT_PROXY: <local> .corp 10.0.0.0/8\n{LOGIN}");
    let network = Network::new(Parent::ntlm(ALICE), &cfg);
    let addr = network.proxy.addr();
    let mut client = network.client();
    for (host, named) in [
        (addr.to_string(), addr.to_string()),
        ("localhost:7".to_owned(), "localhost:7".to_owned()),
        ("[::1]:7".to_owned(), "[::1]:7".to_owned()),
        // A health check says no name.
        (String::new(), addr.to_string()),
    ] {
        let (status, kind, text) = ask(&mut client, "GET", &host);
        assert_eq!((status, &*kind), (200, "application/x-ns-proxy-autoconfig"), "{host}");
        assert!(text.contains(&format!("return \"PROXY {named}\"")), "{text}");
        assert!(text.contains("shExpMatch(host, \"*.corp\")"), "{text}");
        assert_eq!(ask(&mut client, "HEAD", &host).0, 200);
    }
    assert_eq!(network.legs(), Vec::<String>::new());
}

#[test]
fn where_it_may_go_direct_a_browser_may_as_well() {
    let cfg = format!("DIRECT_CONNECT_IF_POSSIBLE: 1\n{LOGIN}");
    let network = Network::new(Parent::ntlm(ALICE), &cfg);
    let (_, _, text) = ask(&mut network.client(), "GET", "localhost:7");
    assert!(text.contains("return \"PROXY localhost:7; DIRECT\""), "{text}");
}

#[test]
fn a_name_that_anybody_can_give_learns_nothing() {
    let network = Network::ntlm();
    for host in ["attacker.example", "attacker.example:5865", "127.0.0.1.attacker.example"] {
        let (status, _, text) = ask(&mut network.client(), "GET", host);
        assert_eq!(status, 403, "{host}");
        assert!(!text.contains("PROXY"), "{text}");
    }
}

#[test]
fn other_paths_get_a_page_that_says_what_this_is() {
    let network = Network::ntlm();
    let response = network.client().get("/");
    assert_eq!(response.status(), 400);
    assert!(response.text().contains("This is ntlmaps, a proxy."), "{}", response.text());
}
