//! Clients that have nothing to say, which cost neither a thread nor much memory.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::process::{Place, Serving};
use crate::proxy::NOBODY;
use crate::support::{Client, DEADLINE, Origin};

const MANY: usize = 30;
/// What the program has for itself.
const FEW: usize = 8;

fn wait_for_few_threads(serving: &Serving) {
    let until = Instant::now() + DEADLINE;
    let tasks = format!("/proc/{}/task", serving.child.id());
    let threads = || fs::read_dir(&tasks).expect("a running process").count();
    while threads() > FEW {
        assert!(Instant::now() < until, "{} threads", threads());
        thread::yield_now();
    }
}

#[test]
fn silent_clients_have_no_thread_and_are_served_when_they_are_heard() {
    let (far, origin) = (Origin::tcp_echo(), Origin::start());
    let cfg = format!("LISTEN_ADDRESS: 127.0.0.1\nLISTEN_PORT: 0\n{NOBODY}");
    let place = Place::with("ntlmaps.cfg", &cfg);
    let mut serving = Serving::start(place.command(&[]));
    let address = serving.address();
    let mut tunnels: Vec<_> = (0..MANY).map(|_| Client::connect(address)).collect();
    for tunnel in &mut tunnels {
        tunnel.tunnel(&far.addr().to_string());
    }
    // Others have ended on one side; what they lead to is not heard.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut ended = Vec::new();
    for _ in 0..MANY {
        let mut tunnel = Client::connect(address);
        tunnel.tunnel(&mute.local_addr().expect("a port").to_string());
        tunnel.finish();
        ended.push((tunnel, mute.accept().expect("a tunnel").0));
    }
    // Half of the clients have had an answer.
    let mut clients: Vec<_> = (0..MANY).map(|_| Client::connect(address)).collect();
    let url = format!("http://{}/hello", origin.addr());
    for client in clients.iter_mut().step_by(2) {
        assert_eq!(client.get(&url).status(), 200);
    }
    for _ in 0..2 {
        wait_for_few_threads(&serving);
        for tunnel in &mut tunnels {
            tunnel.send("ping");
            assert_eq!(tunnel.read_exact(4), b"ping");
        }
        for client in &mut clients {
            assert_eq!(client.get(&url).status(), 200);
        }
    }
    wait_for_few_threads(&serving);
    for (mut tunnel, mut stream) in ended {
        stream.write_all(b"late").expect("an open tunnel");
        drop(stream);
        assert_eq!(tunnel.read_to_end(), b"late");
    }
    drop(tunnels);
    kill_process(Pid::from_child(&serving.child), Signal::TERM).expect("a process of ours");
    for client in &mut clients {
        assert!(client.is_closed());
    }
}
