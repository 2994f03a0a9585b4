//! Nothing left: descriptors, threads, memory, room. Who is there is served, who comes waits, one
//! line a second says so, nothing spins, and it passes by itself.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::{Place, Serving};
use crate::proxy::NOBODY;
use crate::support::{Client, DEADLINE, Origin};

/// How long it is watched while it has nothing to give.
const WATCHED: Duration = Duration::from_secs(2);
/// Enough for a thread that rests in between, far from one that spins.
const MOST_CPU: u64 = 20;

/// The program, started by another one that sets limits.
struct Limited {
    serving: Serving,
    http: SocketAddr,
    origin: Origin,
    _place: Place,
}

impl Limited {
    fn start(limits: &[&str], cfg: &str) -> Self {
        let cfg = format!("LISTEN_ADDRESS: 127.0.0.1\nLISTEN_PORT: 0\n{cfg}{NOBODY}");
        let place = Place::with("ntlmaps.cfg", &cfg);
        let plain = place.command(&[]);
        let mut command = Command::new(limits[0]);
        command.args(&limits[1..]).arg(plain.get_program()).args(["-c", "ntlmaps.cfg"]);
        command.current_dir(plain.get_current_dir().expect("its own")).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut serving = Serving::start(command);
        let http = serving.address();
        Self { serving, http, origin: Origin::start(), _place: place }
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.serving.child.id())).expect("it runs")
    }

    /// Processor time so far, in hundredths of a second.
    fn cpu(&self) -> u64 {
        let stat = self.proc("stat");
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
    }

    fn get(&self, client: &mut Client) -> u16 {
        client.get(&self.origin.url("/hello")).status()
    }

    /// A client that asked and need not be answered yet.
    fn asking(&self) -> Client {
        let mut client = Client::connect(self.http);
        client.start("GET", &self.origin.url("/hello"), &[], b"");
        client
    }

    /// What is left of a request that began with its method.
    fn rest(&self) -> String {
        format!("{} HTTP/1.1\r\nHost: a.test\r\n\r\n", self.origin.url("/hello"))
    }

    /// Watches it for a while: it does not spin. What it says meanwhile is for the end.
    fn watch(&self) {
        let before = self.cpu();
        let until = Instant::now() + WATCHED;
        while Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let spent = self.cpu() - before;
        assert!(spent <= MOST_CPU, "{spent} hundredths of a second in {WATCHED:?}");
    }

    /// Ends it; how often it said that something has to wait, and since when it could have.
    fn complaints(self, since: Instant) {
        let seconds = since.elapsed().as_secs() + 1;
        let said = self.serving.end();
        let lines = said.lines().filter(|line| line.contains("clients have to wait")).count();
        assert!((1..=seconds).contains(&(lines as u64)), "{lines} lines in {seconds} s:\n{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

/// Whether somebody waits: nothing comes, and the connection stands.
fn waits(client: &mut Client) -> bool {
    client.wire.deadline(Duration::from_millis(100)).expect("a socket");
    let nothing = client.wire.fill().is_err_and(|e| e.kind() == std::io::ErrorKind::TimedOut);
    client.wire.deadline(DEADLINE).expect("a socket");
    nothing
}

#[test]
fn the_limit_on_descriptors_is_raised_and_clients_fit_in_it() {
    for cfg in ["", "[GENERAL]\nMAX_CLIENTS: 500\n"] {
        // 64 are for everything else, and each client may take two.
        let limited = Limited::start(&["prlimit", "--nofile=20:74", "--"], cfg);
        let limit = limited.proc("limits");
        let limit = limit.lines().find(|line| line.starts_with("Max open files")).expect("a line");
        assert_eq!(limit.split_whitespace().nth(3), Some("74"));
        let mut served: Vec<_> = (0..5).map(|_| limited.asking()).collect();
        for client in &mut served {
            assert_eq!(client.read_response().status(), 200);
            // Who is idle would give way.
            client.send("GET ");
        }
        let mut waiting: Vec<_> = (0..40).map(|_| limited.asking()).collect();
        assert!(waits(&mut waiting[0]), "there is room for five");
        limited.watch();
        for client in &mut served {
            client.send(limited.rest());
            assert_eq!(client.read_response().status(), 200, "who is there is served");
        }
        drop(served);
        while let Some(mut client) = (!waiting.is_empty()).then(|| waiting.remove(0)) {
            assert_eq!(client.read_response().status(), 200, "who waited is served");
        }
    }
}

/// A client that holds a thread: it has begun a request.
fn holding(limited: &Limited) -> Client {
    let mut client = Client::connect(limited.http);
    client.send("GET ");
    client
}

/// Fills it up with clients that hold a thread each, until one has to wait; and what then holds.
fn fill_up(limited: Limited) {
    let since = Instant::now();
    let mut crowd: Vec<_> = (0..60).map(|_| holding(&limited)).collect();
    let mut late = limited.asking();
    assert!(waits(&mut late), "there was room for all of them");
    limited.watch();
    assert!(waits(&mut late));
    // Those who came first.
    for client in &mut crowd[..3] {
        client.send(limited.rest());
        assert_eq!(client.read_response().status(), 200, "who is there is served");
    }
    drop(crowd);
    assert_eq!(late.read_response().status(), 200, "who waited is served");
    limited.complaints(since);
}

/// An allocation that fails would end the program, so that it may not come to that.
#[test]
fn without_memory_for_one_more_clients_wait() {
    fill_up(Limited::start(&["prlimit", "--as=20000000", "--"], ""));
}

#[test]
fn without_a_thread_for_one_more_clients_wait() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tried: threads are counted for a user, and this one is not alone");
        return;
    }
    // Somebody whom the limit binds, and who can read what only root may.
    let (inherited, ambient) = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search");
    let user = ["setpriv", "--reuid=54321", "--clear-groups", inherited, ambient];
    fill_up(Limited::start(&[&user[..], &["prlimit", "--nproc=16", "--"]].concat(), ""));
}

#[test]
fn all_doors_together_let_in_so_many() {
    let far = Origin::raw(|_, mut wire| _ = wire.write(b"far"));
    let cfg = format!("[GENERAL]\nMAX_CLIENTS: 2\nSOCKS5_PORT: 0\nTUNNELS: 0:{}\n", far.addr());
    let mut limited = Limited::start(&["env"], &cfg);
    let (socks, tunnel) = (limited.serving.address(), limited.serving.address());
    let mut first = Client::connect(limited.http);
    assert_eq!(limited.get(&mut first), 200);
    let mut second = Client::connect(socks);
    second.send([5, 1, 0]);
    assert_eq!(second.read_exact(2), [5, 0]);
    let mut third = Client::connect(tunnel);
    assert!(waits(&mut third), "there is room for two");
    drop(first);
    assert_eq!(third.read_to_end(), b"far");
}
