//! The end: no new clients, no new requests, and what has begun goes on for a while.

use std::process::{Child, ExitStatus};
use std::thread;
use std::time::Instant;

use ntlmaps::config::{Args, Config};
use ntlmaps::server::Server;
use rustix::process::{Pid, Signal, kill_process};

use crate::process::{Place, Serving};
use crate::proxy::{ALICE, LOGIN, NOBODY, Network};
use crate::support::{Client, DEADLINE, Origin, Parent};

const CFG: &str = "LISTEN_ADDRESS: 127.0.0.1\nLISTEN_PORT: 0\n";

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_child(child);
    kill_process(pid, signal).expect("a process of ours");
}

/// How it ended, within the deadline of every test.
fn end(serving: &mut Serving) -> ExitStatus {
    let until = Instant::now() + DEADLINE;
    loop {
        match serving.child.try_wait().expect("a process of ours") {
            Some(status) => return status,
            None => assert!(Instant::now() < until, "it does not end"),
        }
        thread::yield_now();
    }
}

#[test]
fn idle_clients_are_closed_and_what_has_begun_goes_on() {
    let network = Network::to(Origin::tcp_echo(), Parent::ntlm(ALICE), LOGIN);
    let direct = Network::to(Origin::start(), Parent::open(), NOBODY);
    let mut tunnel = network.client();
    tunnel.tunnel("a.test:22");
    let mut uploading = direct.client();
    let url = "http://example.test/echo";
    let head = uploading.head("POST", url, &[("Content-Length", "4")], b"");
    uploading.send([&head[..], b"pi"].concat());
    direct.parent.wait_until(|hops| hops.len() == 1);
    let mut idle = [network.client(), direct.client(), direct.client()];
    assert_eq!(idle[1].get("http://example.test/hello").status(), 200);

    network.proxy.stop();
    direct.proxy.stop();
    for client in &mut idle {
        assert!(client.is_closed());
    }
    assert!(Client::try_connect(direct.proxy.addr()).is_err(), "nobody listens");
    tunnel.send("ping");
    assert_eq!(tunnel.read_exact(4), b"ping");
    uploading.send("ng");
    assert_eq!(uploading.read_response().bytes(), b"ping");
    assert!(uploading.is_closed(), "no further request is wanted");
}

#[test]
fn who_came_before_the_end_may_ask_still() {
    let place = Place::with("ntlmaps.cfg", &format!("{CFG}{NOBODY}"));
    let mut serving = Serving::start(place.command(&[]));
    let address = serving.address();
    signal(&serving.child, Signal::STOP);
    // The kernel accepts them; to them that is a connection.
    let mut clients = [(); 12].map(|()| Client::connect(address));
    signal(&serving.child, Signal::TERM);
    for client in &mut clients[..6] {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    }
    signal(&serving.child, Signal::CONT);
    for client in &mut clients[6..] {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.read_response().status(), 400);
        assert!(client.is_closed());
    }
    assert_eq!(end(&mut serving).code(), Some(0));
}

#[test]
fn a_server_waits_for_its_clients_and_no_longer_than_it_is_told() {
    let far = Origin::tcp_echo();
    let loaded = Config::load("f", format!("{CFG}{NOBODY}").as_bytes(), &Args::default());
    let server = Server::bind(loaded.expect("a configuration").config).expect("a port");
    let (addr, stopper) = (server.addresses()[0], server.stopper());
    let mut client = Client::connect(addr);
    let running = thread::spawn(move || {
        server.run().expect("threads");
        server
    });
    client.tunnel(&far.addr().to_string());
    stopper.stop();
    let server = running.join().expect("a server");
    assert!(!server.drain(std::time::Duration::ZERO), "the tunnel is there");
    let draining = thread::spawn(move || server.drain(DEADLINE));
    client.finish();
    assert_eq!(client.read_to_end(), b"");
    assert!(draining.join().expect("a server"), "the tunnel is gone");
}

#[test]
fn a_signal_ends_it_with_0_and_a_second_one_at_once() {
    for (first, second) in
        [(Signal::TERM, None), (Signal::INT, None), (Signal::INT, Some(Signal::TERM))]
    {
        let far = Origin::tcp_echo();
        let place = Place::with("ntlmaps.cfg", &format!("{CFG}{NOBODY}"));
        let mut serving = Serving::start(place.command(&[]));
        let address = serving.address();
        let mut idle = Client::connect(address);
        assert_eq!(idle.get("/").status(), 400);
        let mut tunnel = second.map(|_| Client::connect(address));
        if let Some(tunnel) = &mut tunnel {
            tunnel.tunnel(&far.addr().to_string());
        }
        signal(&serving.child, first);
        assert!(idle.is_closed());
        if let Some(second) = second {
            signal(&serving.child, second);
        }
        let status = end(&mut serving);
        assert_eq!(status.code(), Some(i32::from(second.is_some())), "{first:?} {second:?}");
    }
}
