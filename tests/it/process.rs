//! The program under test as a process of its own: where it runs, and what it says.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::DEADLINE;

/// A directory of a test's own, gone with it.
pub struct Place(PathBuf);

impl Place {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("cli-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a directory of our own");
        Self(path)
    }

    pub fn with(file: &str, text: &str) -> Self {
        let place = Self::new();
        fs::write(place.0.join(file), text).expect("a file of our own");
        place
    }

    /// A path in here.
    pub fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// The program, here, and with nothing of this machine's.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ntlmaps"));
        command.args(words).current_dir(&self.0).env_clear().env("HOME", &self.0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What it does with these words; one that should end and does not is ended.
    pub fn run(&self, words: &[&str]) -> Output {
        let child = self.command(words).spawn().expect("the program starts");
        let (pid, (ended, waits)) = (Pid::from_child(&child), mpsc::channel::<()>());
        let watch = thread::spawn(move || {
            if let Err(RecvTimeoutError::Timeout) = waits.recv_timeout(DEADLINE) {
                _ = kill_process(pid, Signal::KILL);
            }
        });
        let output = child.wait_with_output().expect("its output");
        drop(ended);
        watch.join().expect("no panic");
        output
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// Exit code, standard output, standard error.
pub fn texts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// A serving process; killed when dropped.
pub struct Serving {
    pub child: Child,
    out: BufReader<ChildStdout>,
    err: Option<JoinHandle<String>>,
    said: String,
}

impl Serving {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        // Read all the time: a full pipe would stop the program.
        let err = child.stderr.take().map(|mut stderr| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                _ = stderr.read_to_end(&mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            })
        });
        Self { child, out, err, said: String::new() }
    }

    /// From the next `Now listening at` line.
    pub fn address(&mut self) -> SocketAddr {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("a line");
        self.said += &line;
        let rest = line.trim_end().strip_prefix("Now listening at ");
        let (ip, port) = rest.and_then(|rest| rest.split_once(" on port ")).unwrap_or_else(|| {
            panic!("{line:?}");
        });
        let port = port.split(' ').next().unwrap_or_default();
        SocketAddr::new(ip.parse().expect("an address"), port.parse().expect("a port"))
    }

    /// Ends it; everything it ever said.
    pub fn end(mut self) -> String {
        self.child.kill().expect("it was running");
        _ = self.child.wait();
        let mut said = std::mem::take(&mut self.said);
        _ = self.out.read_to_string(&mut said);
        said + &self.err.take().map(|err| err.join().expect("no panic")).unwrap_or_default()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
