//! The doors beside HTTP: `TUNNELS` and SOCKS5.

use std::net::SocketAddr;

use crate::proxy::{ALICE, LOGIN, NOBODY, Network, Proxy};
use crate::support::{Client, Origin, Parent};

/// The reply to a request that opened a way through a parent.
const OPEN: [u8; 10] = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];

pub fn echo(cfg: &str) -> Network {
    Network::to(Origin::tcp_echo(), Parent::ntlm(ALICE), &format!("{cfg}\n{LOGIN}"))
}

/// CONNECT to a name.
pub fn to_name(name: &str, port: u16) -> Vec<u8> {
    let count = u8::try_from(name.len()).unwrap();
    [&[5, 1, 0, 3, count], name.as_bytes(), &port.to_be_bytes()].concat()
}

/// CONNECT to an IPv4 address.
fn to_address(addr: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(addr) = addr else { panic!("the tests listen on IPv4") };
    [&[5, 1, 0, 1][..], &addr.ip().octets(), &addr.port().to_be_bytes()].concat()
}

/// A client that has said hello to the SOCKS5 door; nobody is asked for a password there.
pub fn greeted(proxy: &Proxy) -> Client {
    let mut client = proxy.client_of(0);
    client.send([5, 1, 0]);
    assert_eq!(client.read_exact(2), [5, 0]);
    client
}

fn logged_in(proxy: &Proxy, user: &str, password: &str) -> (Client, Vec<u8>) {
    let mut client = proxy.client_of(0);
    client.send([5, 2, 0, 2]);
    assert_eq!(client.read_exact(2), [5, 2]);
    let count = |text: &str| u8::try_from(text.len()).unwrap();
    client.send([&[1, count(user)], user.as_bytes()].concat());
    client.send([&[count(password)], password.as_bytes()].concat());
    let status = client.read_exact(2);
    (client, status)
}

/// The code of a refusal; nothing follows it.
pub fn refusal(client: &mut Client) -> u8 {
    let reply = client.read_exact(10);
    assert_eq!((reply[0], &reply[2..]), (5, &OPEN[2..]));
    assert!(client.is_closed());
    reply[1]
}

pub fn echoes(client: &mut Client) {
    client.send("ping");
    assert_eq!(client.read_exact(4), b"ping");
    client.finish();
    assert_eq!(client.read_to_end(), b"");
}

#[test]
fn a_port_of_this_machine_leads_through_the_parent() {
    let network = echo("TUNNELS: 0:git.example.test:22, 127.0.0.1:0:[2001:db8::1]:25");
    for (door, target) in [(0, "git.example.test:22"), (1, "[2001:db8::1]:25")] {
        echoes(&mut network.proxy.client_of(door));
        assert_eq!(network.last_hop().target(), target);
    }
    let legs = ["bare CONNECT", "negotiate CONNECT", "authenticate CONNECT"];
    assert_eq!(network.legs()[..3], legs);
}

#[test]
fn a_tunnel_to_a_bypassed_host_is_direct() {
    let far = Origin::tcp_echo();
    let cfg = format!("TUNNELS: 0:{}\nHOSTS_TO_BYPASS_PARENT_PROXY: 127.0.0.1", far.addr());
    let network = echo(&cfg);
    echoes(&mut network.proxy.client_of(0));
    assert_eq!(network.legs(), Vec::<String>::new());
}

#[test]
fn a_tunnel_that_does_not_open_ends() {
    let proxy = Proxy::start(&format!("TUNNELS: 0:127.0.0.1:1\n{NOBODY}"));
    let mut client = proxy.client_of(0);
    assert!(client.is_closed(), "no HTTP here");
}

#[test]
fn socks_leads_through_the_parent_by_name_and_by_address() {
    let network = echo("SOCKS5_PORT: 0");
    let v6 = [&[5, 1, 0, 4][..], &[0x20, 1, 0xd, 0xb8], &[0; 11], &[1, 0, 22]].concat();
    for (request, target) in [
        (to_name("Git.Example.test", 22), "git.example.test:22"),
        (to_address("192.0.2.7:443".parse().unwrap()), "192.0.2.7:443"),
        (v6, "[2001:db8::1]:22"),
    ] {
        let mut client = greeted(&network.proxy);
        // Whoever is in a hurry sends its first bytes along.
        client.send([&request[..], b"early"].concat());
        assert_eq!(client.read_exact(10), OPEN);
        assert_eq!(client.read_exact(5), b"early");
        echoes(&mut client);
        assert_eq!(network.last_hop().target(), target);
    }
}

#[test]
fn socks_without_a_parent_is_direct_and_tells_this_end() {
    let far = Origin::tcp_echo();
    let proxy = Proxy::start(&format!("SOCKS5_PORT: 0\n{NOBODY}"));
    let mut client = greeted(&proxy);
    let request = to_address(far.addr());
    for byte in request {
        client.send([byte]);
    }
    let reply = client.read_exact(10);
    assert_eq!(reply[..8], [5, 0, 0, 1, 127, 0, 0, 1]);
    assert_ne!(reply[8..], [0, 0]);
    echoes(&mut client);
}

#[test]
fn only_those_who_are_named_come_by_socks() {
    let network = echo("SOCKS5_PORT: 0\nSOCKS5_USERS: jane:pw joe:x");
    let mut stranger = network.proxy.client_of(0);
    stranger.send([5, 1, 0]);
    assert_eq!(stranger.read_to_end(), [5, 0xff]);
    for (user, password) in [("jane", "x"), ("jim", "pw"), ("jane", "")] {
        let (mut client, status) = logged_in(&network.proxy, user, password);
        assert_eq!(status, [1, 1], "{user}");
        assert!(client.is_closed());
    }
    for (user, password) in [("jane", "pw"), ("joe", "x")] {
        let (mut client, status) = logged_in(&network.proxy, user, password);
        assert_eq!(status, [1, 0], "{user}");
        client.send(to_name("a.test", 80));
        assert_eq!(client.read_exact(10), OPEN);
        echoes(&mut client);
    }
}

#[test]
fn where_each_client_has_its_own_account_it_brings_it_by_socks_too() {
    let cfg = "SOCKS5_PORT: 0\nNTLM_TO_BASIC: 1\n";
    let network = Network::to(Origin::tcp_echo(), Parent::ntlm(ALICE), cfg);
    for (password, opens) in [("Secret-123", true), ("wrong", false)] {
        let (mut client, status) = logged_in(&network.proxy, "CORP\\alice", password);
        assert_eq!(status, [1, 0]);
        client.send(to_name("a.test", 80));
        if opens {
            assert_eq!(client.read_exact(10), OPEN);
            echoes(&mut client);
        } else {
            assert_eq!(refusal(&mut client), 2);
        }
    }
    assert_eq!(network.parent.refusals(), 1);
}

#[test]
fn a_refusal_says_why() {
    // A port nobody listens on, for a moment at least.
    let free = Origin::tcp_echo().addr();
    let direct = Proxy::start(&format!("SOCKS5_PORT: 0\n{NOBODY}"));
    let gone = Proxy::start(&format!("SOCKS5_PORT: 0\nPARENT_PROXY: {free}\n{NOBODY}"));
    let refusing = Network::to(
        Origin::tcp_echo(),
        Parent::ntlm(ALICE),
        "SOCKS5_PORT: 0\nUSER: CORP\\alice\nPASSWORD: wrong\n",
    );
    for (proxy, request, expected) in [
        (&direct, to_address(free), 5),
        (&direct, to_name("no-such-host.invalid", 80), 4),
        (&direct, [&[5, 2], &to_address(free)[2..]].concat(), 7),
        (&direct, [&[5, 3], &to_address(free)[2..]].concat(), 7),
        (&direct, vec![5, 1, 0, 2, 0, 0], 8),
        (&direct, to_name("a b", 80), 1),
        (&gone, to_name("a.test", 80), 1),
        (&refusing.proxy, to_name("a.test", 80), 2),
    ] {
        let mut client = greeted(proxy);
        client.send(&request);
        assert_eq!(refusal(&mut client), expected, "{request:?}");
    }
}

#[test]
fn whoever_speaks_something_else_gets_nothing() {
    let proxy = Proxy::start(&format!("SOCKS5_PORT: 0\n{NOBODY}"));
    for hello in [&b"GET http://a.test/ HTTP/1.1\r\n\r\n"[..], &[4, 1, 0, 80, 127, 0, 0, 1, 0]] {
        let mut client = proxy.client_of(0);
        client.send(hello);
        assert_eq!(client.read_to_end(), b"");
    }
}
