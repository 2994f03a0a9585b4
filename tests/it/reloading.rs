//! A new configuration while it runs: which listeners open, close, and stay.

use std::net::{SocketAddr, TcpListener};
use std::thread;

use ntlmaps::config::{Args, Config};
use ntlmaps::server::{Reloader, Server, Stopper};

use crate::proxy::NOBODY;
use crate::support::{Client, Origin};

struct Running {
    reloader: Reloader,
    stopper: Stopper,
}

impl Running {
    fn start(cfg: &str) -> Self {
        let server = Server::bind(config(cfg)).unwrap_or_else(|error| panic!("{error}"));
        let running = Self { reloader: server.reloader(), stopper: server.stopper() };
        thread::spawn(move || server.run());
        running
    }

    fn reload(&self, cfg: &str) -> Result<Vec<SocketAddr>, String> {
        self.reloader.reload(config(cfg)).map_err(|error| error.to_string())?;
        Ok(self.reloader.addresses())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
    }
}

fn config(cfg: &str) -> Config {
    let text = format!("LISTEN_ADDRESS: 127.0.0.1\nLISTEN_PORT: 0\n{NOBODY}[GENERAL]\n{cfg}");
    let loaded = Config::load("f", text.as_bytes(), &Args::default());
    loaded.unwrap_or_else(|notices| panic!("{notices:?}")).config
}

/// What answers behind a tunnel.
fn greeting(address: SocketAddr) -> Vec<u8> {
    Client::connect(address).read_to_end()
}

fn far(name: &'static str) -> Origin {
    Origin::raw(move |_, mut wire| _ = wire.write(name.as_bytes()))
}

#[test]
fn doors_open_close_and_lead_elsewhere_while_others_go_on() {
    let (a, b) = (far("a"), far("b"));
    let running = Running::start("");
    let http = running.reloader.addresses()[0];
    let mut idle = Client::connect(http);
    assert_eq!(idle.get("/").status(), 400);
    let mut waiting = Client::connect(http);

    let tunnel = format!("TUNNELS: 0:{}", a.addr());
    let addresses = running.reload(&tunnel).expect("a port");
    assert_eq!((addresses.len(), addresses[0]), (2, http));
    assert_eq!(greeting(addresses[1]), b"a");
    assert_eq!(running.reload(&tunnel), Ok(addresses.clone()), "nothing to change");

    let port = addresses[1].port();
    assert_eq!(running.reload(""), Ok(vec![http]));
    assert!(Client::try_connect(addresses[1]).is_err(), "nobody listens");
    for far in [&a, &b] {
        let moved = running.reload(&format!("TUNNELS: {port}:{}", far.addr()));
        assert_eq!(moved.expect("the port is free again"), addresses);
        let expected: &[u8] = if std::ptr::eq(far, &a) { b"a" } else { b"b" };
        assert_eq!(greeting(addresses[1]), expected);
    }
    for client in [&mut idle, &mut waiting] {
        assert_eq!(client.get("/").status(), 400, "it was there all the time");
    }
}

#[test]
fn a_port_that_cannot_be_had_changes_nothing() {
    let taken = far("somebody else");
    let running = Running::start("MAX_CLIENTS: 3");
    let before = running.reloader.addresses();
    let port = taken.addr().port();
    let refused = running.reload(&format!("TUNNELS: 0:a:1 {port}:b:2")).unwrap_err();
    assert!(refused.contains(&format!("on port {port}")), "{refused}");
    assert!(refused.ends_with("choose another port in TUNNELS"), "{refused}");
    assert_eq!(running.reloader.addresses(), before);
    assert_eq!(running.reloader.gateway().config.max_clients, 3);
    assert_eq!(Client::connect(before[0]).get("/").status(), 400);
}

/// Nobody can listen at all addresses as long as somebody listens at one of them.
#[test]
fn a_listener_goes_from_one_address_to_all_and_back_with_its_port() {
    for (one, all) in [("127.0.0.1", "0.0.0.0"), ("::1", "::")] {
        let cfg = |address, port| format!("LISTEN_ADDRESS: {address}\nLISTEN_PORT: {port}");
        if TcpListener::bind((one, 0)).is_err() {
            eprintln!("not tried: this machine has no {one}");
            continue;
        }
        let running = Running::start(&cfg(one, 0));
        let http = running.reloader.addresses()[0];
        let mut client = Client::connect(http);
        for address in [one, all, one, one, all, all] {
            let now = running.reload(&cfg(address, http.port())).expect("nobody else has it");
            assert_eq!(now, [SocketAddr::new(address.parse().unwrap(), http.port())]);
            assert_eq!(Client::connect(http).get("/").status(), 400);
            assert_eq!(client.get("/").status(), 400, "it was there all the time");
        }
    }
}

#[test]
fn a_listener_that_cannot_go_elsewhere_is_where_it_was() {
    let taken = far("somebody else");
    let running = Running::start("");
    let http = running.reloader.addresses()[0];
    let all = format!("LISTEN_ADDRESS: 0.0.0.0\nLISTEN_PORT: {}\n", http.port());
    let neighbour = TcpListener::bind(("127.0.0.2", http.port())).expect("another address");
    for cfg in [all.clone(), format!("{all}TUNNELS: 127.0.0.1:{}:a:1", taken.addr().port())] {
        running.reload(&cfg).unwrap_err();
        assert_eq!(running.reloader.addresses(), [http]);
        assert_eq!(Client::connect(http).get("/").status(), 400);
    }
    drop(neighbour);
    let tunnel = format!("{all}TUNNELS: 127.0.0.1:{}:a:1", taken.addr().port());
    let refused = running.reload(&tunnel).unwrap_err();
    assert!(refused.ends_with("choose another port in TUNNELS"), "{refused}");
    assert_eq!(running.reloader.addresses(), [http]);
    assert_eq!(Client::connect(http).get("/").status(), 400);
    running.reload(&all).expect("nobody else has it");
    assert_eq!(Client::connect(http).get("/").status(), 400);
}

#[test]
fn more_clients_are_let_in_when_there_is_more_room() {
    let running = Running::start("MAX_CLIENTS: 1");
    let http = running.reloader.addresses()[0];
    let mut first = Client::connect(http);
    first.tunnel(&far("far").addr().to_string());
    let mut second = Client::connect(http);
    second.start("GET", "/", &[], b"");
    running.reload("MAX_CLIENTS: 2").expect("no new port");
    assert_eq!(second.read_response().status(), 400);
    drop(first);
}

#[test]
fn a_door_nobody_uses_takes_nobodys_room() {
    let running = Running::start("MAX_CLIENTS: 1\nSOCKS5_PORT: 0");
    let addresses = running.reloader.addresses();
    for _ in 0..3 {
        assert_eq!(Client::connect(addresses[0]).get("/").status(), 400);
        let mut socks = Client::connect(addresses[1]);
        socks.send([5, 1, 0]);
        assert_eq!(socks.read_exact(2), [5, 0]);
    }
}
