//! CONNECT: how a tunnel opens, what goes through it, and how it ends.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::process::{Place, Serving};
use crate::proxy::{ALICE, LOGIN, NOBODY, Network, Proxy, url};
use crate::support::{Client, DEADLINE, Origin, Parent, Quirk, fnv, pattern};

const FAR: &str = "example.test:443";

/// A parent and what stands behind its tunnels.
fn behind(parent: crate::support::Builder, far: Origin) -> Network {
    Network::to(far, parent, LOGIN)
}

#[test]
fn a_tunnel_opens_after_a_handshake_and_carries_bytes_both_ways() {
    let network = behind(Parent::ntlm(ALICE), Origin::tcp_echo());
    let mut client = network.client();
    let response = client.tunnel(FAR);
    assert_eq!(response.head.raw, b"HTTP/1.1 200 Connection established\r\n\r\n");
    assert_eq!(network.legs(), ["bare CONNECT", "negotiate CONNECT", "authenticate CONNECT"]);
    let hop = network.last_hop();
    assert_eq!((hop.target(), hop.fields().get("Host")), (FAR, Some(FAR)));
    for round in 0..3 {
        let bytes = pattern(1000 << (4 * round));
        client.send(&bytes);
        assert_eq!(client.read_exact(bytes.len()), bytes);
    }
    client.finish();
    assert_eq!(client.read_to_end(), b"");
}

/// What moves many bytes without copying them takes descriptors, two for each direction.
#[test]
fn tunnels_go_on_when_there_are_no_descriptors_left() {
    let origin = Origin::tcp_echo();
    let place = Place::with("my.cfg", "LISTEN_PORT: 0\nLISTEN_ADDRESS: 127.0.0.1\n");
    let mut serving = Serving::start(place.command(&["-c", "my.cfg"]));
    let address = serving.address();
    let mut clients: Vec<Client> = (0..18).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        assert_eq!(client.tunnel(&origin.addr().to_string()).status(), 200);
    }
    let few = Rlimit { current: Some(60), maximum: Some(60) };
    prlimit(Some(Pid::from_child(&serving.child)), Resource::Nofile, few).unwrap();
    let bytes = pattern(100_000);
    for _ in 0..2 {
        for client in &mut clients {
            client.send(&bytes);
        }
        for client in &mut clients {
            assert_eq!(fnv(&client.read_exact(bytes.len())), fnv(&bytes));
        }
    }
}

#[test]
fn any_2xx_opens_a_tunnel_whatever_else_it_says() {
    for (status, text) in [(200, ""), (201, ""), (204, ""), (200, "a body, it says")] {
        let answer = Quirk::ConnectAnswer(status, text.into());
        let network = behind(Parent::ntlm(ALICE).quirk(answer), Origin::tcp_echo());
        let mut client = network.client();
        let response = client.tunnel(FAR);
        assert_eq!(response.status(), status);
        for field in ["Content-Length", "Transfer-Encoding", "Connection"] {
            assert!(!response.fields().has(field), "{response:?}");
        }
        client.send("ping");
        assert_eq!(client.read_exact(4), b"ping", "{status}");
    }
}

#[test]
fn bytes_sent_together_with_the_connect_are_not_lost() {
    for cfg in [LOGIN, NOBODY] {
        let parent = if cfg == LOGIN { Parent::ntlm(ALICE) } else { Parent::open() };
        let network = Network::to(Origin::tcp_echo(), parent, cfg);
        let mut client = network.client();
        let early = pattern(50_000);
        let head = client.head("CONNECT", FAR, &[], b"");
        client.send([&head[..], &early].concat());
        assert_eq!(client.read_response().status(), 200);
        assert_eq!(client.read_exact(early.len()), early);
    }
}

#[test]
fn bytes_of_the_far_side_that_come_with_the_200_are_not_lost() {
    let far = Origin::raw(|_, mut wire| {
        _ = wire.write(&pattern(5000));
        _ = wire.read_to_end();
    });
    let network = behind(Parent::ntlm(ALICE).quirk(Quirk::EagerTunnel), far);
    let mut client = network.client();
    client.tunnel(FAR);
    assert_eq!(client.read_exact(5000), pattern(5000));
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let far = Origin::raw(|_, mut wire| {
        _ = wire.write(b"220 mail.example.test\r\n");
        assert_eq!(wire.read_exact(6).expect("an answer"), b"QUIT\r\n");
        _ = wire.write(b"221 bye\r\n");
    });
    let network = behind(Parent::ntlm(ALICE), far);
    let mut client = network.client();
    client.tunnel("mail.example.test:25");
    assert_eq!(client.read_exact(23), b"220 mail.example.test\r\n");
    client.send("QUIT\r\n");
    assert_eq!(client.read_to_end(), b"221 bye\r\n");
}

/// Both ends of a tunnel through each kind of way, and the far end's socket.
fn each_way(far: impl Fn() -> Origin, test: impl Fn(Client)) {
    let network = behind(Parent::ntlm(ALICE), far());
    let mut client = network.client();
    client.tunnel(FAR);
    test(client);
    let (direct, origin) = (Proxy::start(""), far());
    let mut client = direct.client();
    client.tunnel(&origin.addr().to_string());
    test(client);
}

#[test]
fn a_client_that_has_said_its_last_still_hears_the_other_side() {
    let far = || {
        Origin::raw(|_, mut wire| {
            let said = wire.read_to_end().expect("an end");
            _ = wire.write(format!("{} bytes, thank you", said.len()).as_bytes());
        })
    };
    each_way(far, |mut client| {
        client.send(pattern(100_000));
        client.finish();
        assert_eq!(client.read_to_end(), b"100000 bytes, thank you");
    });
}

#[test]
fn a_server_that_has_said_its_last_still_hears_the_client() {
    let (heard, hearing) = mpsc::channel();
    let far = move || {
        let heard = heard.clone();
        Origin::raw(move |_, mut wire| {
            _ = wire.write(b"I am done");
            _ = wire.finish();
            let said = wire.read_to_end().map(|said| fnv(&said));
            heard.send(said.expect("an end")).expect("the test waits");
        })
    };
    each_way(far, |mut client| {
        assert_eq!(client.read_to_end(), b"I am done");
        client.send(pattern(100_000));
        client.finish();
        assert_eq!(hearing.recv_timeout(DEADLINE).expect("it heard all"), fnv(&pattern(100_000)));
    });
}

#[test]
fn much_goes_both_ways_at_the_same_time() {
    const SIZE: usize = 8 << 20;
    let far = || {
        Origin::raw(|_, wire| {
            let mut out = wire.stream().try_clone().expect("a socket");
            let sending = thread::spawn(move || out.write_all(&pattern(SIZE)));
            let mut wire = wire;
            let heard = wire.read_exact(SIZE).expect("all of it");
            assert_eq!(fnv(&heard), fnv(&pattern(SIZE)));
            sending.join().expect("no panic").expect("all of it goes");
        })
    };
    each_way(far, |mut client| {
        let mut out = client.wire.stream().try_clone().expect("a socket");
        let sending = thread::spawn(move || out.write_all(&pattern(SIZE)));
        assert_eq!(fnv(&client.read_exact(SIZE)), fnv(&pattern(SIZE)));
        sending.join().expect("no panic").expect("all of it goes");
    });
}

#[test]
fn a_tunnel_ends_when_either_side_breaks_it() {
    let (gone, leaving) = mpsc::channel();
    let far = move || {
        let gone = gone.clone();
        Origin::raw(move |_, mut wire| {
            _ = wire.write(b"hello");
            gone.send(wire.read_to_end().map(|said| said.len()).unwrap_or(0)).expect("awaited");
        })
    };
    each_way(far, |mut client| {
        assert_eq!(client.read_exact(5), b"hello");
        drop(client);
        assert_eq!(leaving.recv_timeout(DEADLINE), Ok(0), "the far side learns of it");
    });
    let mut network = behind(Parent::ntlm(ALICE), Origin::tcp_echo());
    let mut client = network.client();
    client.tunnel(FAR);
    client.send("x");
    assert_eq!(client.read_exact(1), b"x");
    network.parent.stop();
    assert!(client.is_closed());
}

/// TLS tells an end from a cut; what is sent plainly has only the connection to tell by.
#[test]
fn a_reset_is_passed_on_as_one() {
    let reset = |stream: &TcpStream| set_socket_linger(stream, Some(Duration::ZERO)).expect("one");
    let proxy = Proxy::start("");
    let server = Origin::raw(move |_, mut wire| {
        _ = wire.write(b"part of it");
        _ = wire.read_exact(4);
        reset(wire.stream());
    });
    let mut client = proxy.client();
    client.tunnel(&server.addr().to_string());
    assert_eq!(client.read_exact(10), b"part of it");
    client.send("more");
    let end = client.wire.fill().map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    let (told, telling) = mpsc::channel();
    let server = Origin::raw(move |_, mut wire| {
        assert_eq!(wire.read_exact(4).expect("part of it"), b"part");
        told.send(wire.fill().map_err(|error| error.kind())).expect("the test waits");
    });
    let mut client = proxy.client();
    client.tunnel(&server.addr().to_string());
    client.send("part");
    reset(client.wire.stream());
    drop(client);
    assert_eq!(telling.recv_timeout(DEADLINE), Ok(Err(ErrorKind::ConnectionReset)));
}

#[test]
fn a_refused_connect_is_relayed_with_its_page_and_the_connection_goes_on() {
    let answer = Quirk::ConnectAnswer(403, "not to that place\n".into());
    let network = Network::new(Parent::ntlm(ALICE).quirk(answer), LOGIN);
    let mut client = network.client();
    for _ in 0..2 {
        let page = client.request("CONNECT", "evil.test:443", &[], b"");
        assert_eq!((page.status(), page.text().as_str()), (403, "not to that place\n"));
    }
    assert_eq!(client.get(&url("/hello")).status(), 200);
    assert_eq!((network.parent.connections(), network.parent.handshakes()), (1, 1));
}

#[test]
fn a_connect_of_http_1_0_opens_a_tunnel() {
    let network = behind(Parent::ntlm(ALICE), Origin::tcp_echo());
    let mut client = network.client();
    client.send(format!("CONNECT {FAR} HTTP/1.0\r\nProxy-Connection: Keep-Alive\r\n\r\n"));
    assert_eq!(client.read_response_to("CONNECT").status(), 200);
    client.send("ping");
    assert_eq!(client.read_exact(4), b"ping");
}

#[test]
fn a_direct_connect_reaches_the_server_itself() {
    let (proxy, echo) = (Proxy::start(""), Origin::tcp_echo());
    let mut client = proxy.client();
    let head = client.head("CONNECT", &echo.addr().to_string(), &[], b"");
    client.send([&head[..], b"early"].concat());
    assert_eq!(client.read_response().status(), 200);
    assert_eq!(client.read_exact(5), b"early");
    client.finish();
    assert!(client.is_closed());
}

#[test]
fn a_connect_without_port_or_with_a_body_is_told_so() {
    let proxy = Proxy::start("");
    for target in ["example.test", "http://example.test/", "/", "example.test:0", ":443"] {
        let page = proxy.client().request("CONNECT", target, &[], b"");
        assert_eq!(page.status(), 400, "{target}");
    }
    let page = proxy.client().request("CONNECT", FAR, &[], b"body");
    assert_eq!(page.status(), 400);
    assert!(page.text().contains("no body"), "{}", page.text());
}
