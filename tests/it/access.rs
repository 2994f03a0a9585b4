//! Who may use the proxy.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use ntlmaps::config::{Args, Config};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::proxy::{NOBODY, Proxy};
use crate::support::http::response;
use crate::support::listener::Listener;
use crate::support::{Client, DEADLINE, Origin, Parent, Response, Wire};

/// An address of this machine that is not loopback. (Nothing is sent: connecting a UDP socket only
/// chooses a route.)
fn outer_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|addr| addr.ip()).filter(|ip| !ip.is_loopback())
}

/// What somebody at `from` is answered. That its loopback is where it calls makes it no neighbour.
fn ask_from(from: IpAddr, to: SocketAddr, url: &str) -> Response {
    let mut wire = connect_from(from, to);
    wire.write(format!("GET {url} HTTP/1.0\r\n\r\n").as_bytes()).expect("it is taken");
    let head = wire.read_response().expect("an answer, not a reset");
    let body = wire.read_body(head.framing("GET").expect("a framing"), 1000).expect("a body");
    Response { head, body, interim: Vec::new() }
}

fn connect_from(from: IpAddr, to: SocketAddr) -> Wire {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&fd, &SocketAddr::new(from, 0)).expect("an address of this machine");
    connect(&fd, &to).expect("the proxy listens");
    Wire::new(TcpStream::from(fd)).expect("a socket")
}

#[test]
fn a_stranger_is_told_so_and_a_friend_is_served() {
    let Some(outer) = outer_address() else {
        eprintln!("not tried: this machine has no address but loopback");
        return;
    };
    let origin = Origin::start();
    let parent = Parent::open().origin(origin.addr()).start();
    for (cfg, status) in [
        (String::new(), 403),
        ("FRIENDLY_IPS: 192.0.2.7 fd00::/8\n".to_owned(), 403),
        (format!("FRIENDLY_IPS: 192.0.2.7 {outer}\n"), 200),
        (format!("FRIENDLY_IPS: {outer}/20\n"), 200),
        ("ALLOW_EXTERNAL_CLIENTS: 1\n".to_owned(), 200),
    ] {
        let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{cfg}{NOBODY}", parent.addr()));
        let response = ask_from(outer, proxy.addr(), &origin.url("/hello"));
        assert_eq!(response.status(), status, "{cfg}");
        if status == 403 {
            assert!(response.text().contains("FRIENDLY_IPS"), "{}", response.text());
        }
        assert_eq!(proxy.get(&origin.url("/hello")).status(), 200, "its own machine, always");
    }
    assert_eq!(origin.seen().len(), 5 + 3);
    assert_eq!(parent.connections(), 5, "a parent's connections are for everybody");
}

/// Where no HTTP is spoken nothing is said, and nothing begins.
#[test]
fn a_stranger_finds_the_other_doors_closed_and_a_friend_does_not() {
    let Some(outer) = outer_address() else { return };
    let far = Origin::tcp_echo();
    let doors = format!("SOCKS5_PORT: 0\nTUNNELS: 0:{}\n", far.addr());
    for (cfg, friend) in [
        (String::new(), false),
        ("FRIENDLY_IPS: 192.0.2.7\n".to_owned(), false),
        (format!("FRIENDLY_IPS: {outer}\n"), true),
        ("ALLOW_EXTERNAL_CLIENTS: 1\n".to_owned(), true),
    ] {
        let before = far.connections();
        let proxy = Proxy::start(&format!("{cfg}{doors}{NOBODY}"));
        for (door, hello, answer) in
            [(0, &[5, 1, 0][..], &[5, 0][..]), (1, &b"ping"[..], &b"ping"[..])]
        {
            let mut wire = connect_from(outer, proxy.addr_of(door));
            if friend {
                wire.write(hello).expect("it is taken");
                assert_eq!(wire.read_exact(answer.len()).expect("an answer"), answer, "{cfg}");
            } else {
                assert_eq!(wire.read_to_end().expect("an end"), b"", "{cfg}");
            }
        }
        assert_eq!(far.connections() - before, usize::from(friend), "{cfg}");
    }
}

/// A friend on another machine is not led to what relies on being reached from this one alone, not
/// even to learn what listens there; not on a connection that a client of this machine left either.
#[test]
fn a_friend_is_not_led_to_what_only_this_machine_reaches() {
    let Some(outer) = outer_address() else { return };
    let (origin, far) = (Origin::start(), Origin::tcp_echo());
    let nobody = Parent::open().start();
    let port = origin.addr().port();
    let outside = Listener::start(&format!("{outer}:0"), |_, stream, _| {
        let mut wire = Wire::new(stream).expect("a socket");
        if let Ok(Some(_)) = wire.read_request() {
            _ = wire.write(&response(200, &[], b"outside"));
        }
    });
    let outside = outside.expect("a port");
    let bypassed = format!(
        "PARENT_PROXY: {}\nHOSTS_TO_BYPASS_PARENT_PROXY: <local> 0.0.0.0/0 ::/0\n",
        nobody.addr()
    );
    for way in ["", &bypassed] {
        let cfg = format!("FRIENDLY_IPS: {outer}\nSOCKS5_PORT: 0\nTUNNELS: 0:{}\n", far.addr());
        let proxy = Proxy::start(&format!("{cfg}{way}{NOBODY}"));
        let hosts = ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "[::1]"];
        for host in hosts.iter().take(4) {
            assert_eq!(proxy.get(&format!("http://{host}:{port}/hello")).status(), 200, "{host}");
        }
        let before = origin.connections();
        for host in hosts {
            for url in [format!("http://{host}:{port}/hello"), format!("http://{host}:9/")] {
                let page = ask_from(outer, proxy.addr(), &url);
                assert_eq!(page.status(), 403, "{url}");
                assert!(page.text().contains("this machine"), "{}", page.text());
            }
            let mut wire = connect_from(outer, proxy.addr());
            let connect = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
            wire.write(connect.as_bytes()).expect("it is taken");
            assert_eq!(wire.read_response().expect("an answer").status, 403, "{host}");
        }
        for host in [&[1, 127, 0, 0, 1][..], b"\x03\x09localhost"] {
            let mut wire = connect_from(outer, proxy.addr_of(0));
            let request = [b"\x05\x01\x00\x05\x01\x00", host, &port.to_be_bytes()].concat();
            wire.write(&request).expect("it is taken");
            assert_eq!(wire.read_exact(4).expect("an answer"), [5, 0, 5, 2]);
        }
        assert_eq!(origin.connections(), before, "nobody came");
        // What the operator named, and what is outside.
        let mut wire = connect_from(outer, proxy.addr_of(1));
        wire.write(b"ping").expect("it is taken");
        assert_eq!(wire.read_exact(4).expect("an answer"), b"ping");
        let page = ask_from(outer, proxy.addr(), &format!("http://{}/", outside.addr()));
        assert_eq!(page.text(), "outside");
    }
    assert_eq!(nobody.connections(), 0);
}

/// Not that a connection was opened in time counts, but what holds when it asks.
#[test]
fn who_is_taken_off_the_list_is_a_stranger_on_an_old_connection_too() {
    let Some(outer) = outer_address() else { return };
    let origin = Origin::start();
    let parent = Parent::open().origin(origin.addr()).start();
    let through = format!("PARENT_PROXY: {}\n", parent.addr());
    let listed = format!("{through}FRIENDLY_IPS: 192.0.2.7 {outer}\n");
    let proxy = Proxy::start(&format!("{listed}{NOBODY}"));
    let (mut friend, mut neighbour) = (connect_from(outer, proxy.addr()), proxy.client());
    let mut ask = || {
        let request = format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", origin.url("/hello"));
        friend.write(request.as_bytes()).expect("it is taken");
        let head = friend.read_response().expect("an answer");
        friend.read_body(head.framing("GET").expect("a framing"), 1000).expect("a body");
        head.status
    };
    assert_eq!(ask(), 200);
    proxy.reload(&format!("{listed}MAX_CLIENTS: 9\n{NOBODY}"));
    assert_eq!(ask(), 200, "still a friend");
    assert_eq!(neighbour.get(&origin.url("/hello")).status(), 200);
    proxy.reload(&format!("{through}FRIENDLY_IPS: 192.0.2.7\n{NOBODY}"));
    assert_eq!(ask(), 403);
    assert_eq!(friend.read_to_end().expect("an end"), b"");
    assert_eq!(neighbour.get(&origin.url("/hello")).status(), 200, "its own machine, always");
}

#[test]
fn strangers_do_not_use_up_the_places_of_clients() {
    let Some(outer) = outer_address() else { return };
    let origin = Origin::start();
    let proxy = Proxy::start("MAX_CLIENTS: 2\n");
    for _ in 0..10 {
        assert_eq!(ask_from(outer, proxy.addr(), &origin.url("/")).status(), 403);
    }
    let mut clients = [proxy.client(), proxy.client()];
    for client in &mut clients {
        assert_eq!(client.get(&origin.url("/hello")).status(), 200);
    }
}

#[test]
fn one_client_more_than_there_are_places_waits_its_turn() {
    let origin = Origin::start();
    let proxy = Proxy::start("MAX_CLIENTS: 1\n");
    let mut first = proxy.client();
    assert_eq!(first.get(&origin.url("/hello")).status(), 200);
    let mut second: Client = proxy.client();
    second.start("GET", &origin.url("/bytes/2"), &[], b"");
    for _ in 0..100 {
        assert_eq!(first.get(&origin.url("/bytes/1")).body.length, 1);
    }
    assert_eq!(origin.seen().len(), 101, "the second was not let in yet");
    drop(first);
    assert_eq!(second.read_response().body.length, 2);
}

#[test]
fn when_all_places_are_taken_the_one_that_is_idle_longest_gives_way() {
    let (origin, far) = (Origin::start(), Origin::tcp_echo());
    let proxy = Proxy::start("MAX_CLIENTS: 4\n");
    let mut tunnel = proxy.client();
    tunnel.tunnel(&far.addr().to_string());
    let mut busy = proxy.client();
    busy.send("GET ");
    // One after the other, with a time between them in which nothing happens.
    let idle_one = || {
        let mut client = proxy.client();
        assert_eq!(client.get(&origin.url("/hello")).status(), 200);
        client.wire.deadline(Duration::from_millis(500)).expect("a socket");
        assert!(!client.is_closed());
        client.wire.deadline(DEADLINE).expect("a socket");
        client
    };
    let mut idle = [idle_one(), idle_one()];
    for _ in 0..3 {
        let new = idle_one();
        assert!(idle[0].is_closed());
        let [_, second] = idle;
        idle = [second, new];
    }
    tunnel.send("ping");
    assert_eq!(tunnel.read_exact(4), b"ping");
    busy.send(format!("{} HTTP/1.1\r\nHost: a\r\n\r\n", origin.url("/hello")));
    assert_eq!(busy.read_response().status(), 200);
}

#[test]
fn who_is_permitted_is_what_the_list_says() {
    for (cfg, ip, permitted) in [
        ("", "127.0.0.1", true),
        ("", "127.8.9.10", true),
        ("", "::1", true),
        ("", "::ffff:127.0.0.1", true),
        ("", "192.0.2.7", false),
        ("FRIENDLY_IPS: 192.0.2.0/24", "192.0.2.7", true),
        ("FRIENDLY_IPS: 192.0.2.0/24", "::ffff:192.0.2.7", true),
        ("FRIENDLY_IPS: 192.0.2.0/24", "192.0.3.7", false),
        ("FRIENDLY_IPS: 2001:db8::/32", "2001:db8:1::1", true),
        ("FRIENDLY_IPS: 2001:db8::/32", "2001:db9::1", false),
        ("ALLOW_EXTERNAL_CLIENTS: 1", "203.0.113.9", true),
    ] {
        let loaded = Config::load("test.cfg", cfg.as_bytes(), &Args::default());
        let clients = loaded.expect("it is right").config.clients;
        assert_eq!(clients.permits(ip.parse().unwrap()), permitted, "{cfg} {ip}");
    }
}
