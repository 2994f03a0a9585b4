//! The program that is tried: its start, its configuration, and what it holds.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::load::Doors;
use crate::support::Client;

/// How long it may take to let go of what nobody uses, and to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Resident, in kB.
    pub memory: u64,
    pub descriptors: usize,
    pub threads: usize,
}

impl Held {
    pub fn max(self, other: Self) -> Self {
        Self {
            memory: self.memory.max(other.memory),
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory, descriptors, threads } = self;
        write!(f, "{memory} kB, {descriptors} descriptors, {threads} threads")
    }
}

pub struct Program {
    child: Child,
    /// Open as long as it runs.
    _out: BufReader<ChildStdout>,
    directory: PathBuf,
    parent: SocketAddr,
    pub doors: Doors,
    pub reloads: usize,
}

impl Program {
    pub fn start(binary: &str, parent: SocketAddr) -> Self {
        let directory = std::env::temp_dir().join(format!("soak-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        configure(&directory, parent, 0);
        let errors = File::create(directory.join("errors")).expect("a file");
        let mut command = Command::new(binary);
        command.arg("-c").arg(directory.join("cfg")).env_remove("RUST_LOG");
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{binary}: {error}"));
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut door = || {
            let mut line = String::new();
            out.read_line(&mut line).expect("a line");
            let port = line.split_whitespace().find_map(|word| word.parse::<u16>().ok());
            SocketAddr::from(([127, 0, 0, 1], port.unwrap_or_else(|| panic!("it says {line:?}"))))
        };
        let doors = Doors { http: door(), socks: door() };
        Self { child, _out: out, directory, parent, doors, reloads: 0 }
    }

    /// What it holds once everything that stays is there: each door was used, and a reload was.
    pub fn started(&mut self) -> Held {
        self.reload();
        for door in [self.doors.http, self.doors.socks] {
            Client::connect(door).finish();
        }
        let mut held = self.held();
        loop {
            thread::park_timeout(Duration::from_millis(300));
            let before = std::mem::replace(&mut held, self.held());
            if (before.threads, before.descriptors) == (held.threads, held.descriptors) {
                return held;
            }
        }
    }

    /// Another configuration takes effect.
    pub fn reload(&mut self) {
        self.reloads += 1;
        configure(&self.directory, self.parent, self.reloads);
        kill_process(Pid::from_child(&self.child), Signal::HUP).expect("it runs");
    }

    pub fn held(&self) -> Held {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = fs::read_to_string(proc.join("status")).expect("it runs");
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0_u64)
        };
        Held {
            memory: number("VmRSS:"),
            threads: number("Threads:") as usize,
            descriptors: fs::read_dir(proc.join("fd")).map_or(0, Iterator::count),
        }
    }

    /// What it holds once nobody is there: as many threads and descriptors as when it was fresh.
    pub fn rested(&self, fresh: &Held) -> Result<Held, String> {
        let since = Instant::now();
        loop {
            let held = self.held();
            if (held.threads, held.descriptors) == (fresh.threads, fresh.descriptors) {
                return Ok(held);
            }
            if since.elapsed() > PATIENCE {
                return Err(format!("without a client it keeps {held}; it began with {fresh}"));
            }
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Ends it; says what was wrong with the end.
    pub fn end(&mut self) -> Option<String> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Ok(Some(status)) = self.child.try_wait() {
                let said = fs::read_to_string(self.directory.join("errors")).unwrap_or_default();
                let panicked = said.lines().find(|line| line.contains("panicked"));
                return match panicked {
                    Some(line) => Some(line.to_owned()),
                    None => (!status.success()).then(|| format!("it ended with {status}")),
                };
            }
            thread::park_timeout(Duration::from_millis(20));
        }
        Some("it does not end".to_owned())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// Each client brings its own account; something is different every time.
fn configure(directory: &Path, parent: SocketAddr, number: usize) {
    let text = format!(
        "[GENERAL]\nLISTEN_ADDRESS: 127.0.0.1\nLISTEN_PORT: 0\nSOCKS5_PORT: 0\n\
         PARENT_PROXY: {parent}\n[CLIENT_HEADER]\nX-Configuration: {number}\n\
         [NTLM_AUTH]\nNT_DOMAIN: CORP\nNTLM_TO_BASIC: 1\n"
    );
    let new = directory.join("new");
    fs::write(&new, text).and_then(|()| fs::rename(new, directory.join("cfg"))).expect("a file");
}
