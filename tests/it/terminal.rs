//! A password that somebody types.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::process::{Place, Serving};
use crate::proxy::{ALICE, url};
use crate::support::{Client, DEADLINE, Origin, Parent};

/// Where somebody sits: keys to press, a screen to read.
struct Terminal {
    keys: File,
    shown: Receiver<Vec<u8>>,
    screen: String,
}

impl Terminal {
    /// Also the end that the program gets.
    fn new() -> (Self, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let own = openpt(flags).expect("a terminal");
        grantpt(&own).expect("a terminal of ours");
        unlockpt(&own).expect("a terminal of ours");
        let other = ioctl_tiocgptpeer(&own, flags).expect("its other end");
        let keys = File::from(own);
        let mut screen = keys.try_clone().expect("a descriptor");
        let (tell, shown) = mpsc::channel();
        // Ends with an error when nobody has the other end any more.
        thread::spawn(move || {
            let mut piece = [0; 1024];
            while let Ok(count @ 1..) = screen.read(&mut piece) {
                if tell.send(piece[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        (Self { keys, shown, screen: String::new() }, other)
    }

    /// Waits until it can be read; whether it ever could.
    fn shows(&mut self, text: &str) -> bool {
        let until = Instant::now() + DEADLINE;
        while !self.screen.contains(text) {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.shown.recv_timeout(left) else { return false };
            self.screen += &String::from_utf8_lossy(&bytes);
        }
        true
    }

    fn type_line(&mut self, line: &str) {
        self.keys.write_all(format!("{line}\n").as_bytes()).expect("somebody reads");
    }
}

fn echoes(terminal: &OwnedFd) -> bool {
    tcgetattr(terminal).expect("a terminal").local_modes.contains(LocalModes::ECHO)
}

#[test]
fn a_missing_password_is_asked_for_and_not_shown() {
    let origin = Origin::start();
    let parent = Parent::ntlm(ALICE).origin(origin.addr()).start();
    let cfg = format!("LISTEN_PORT: 0\nPARENT_PROXY: {}\nUSER: CORP\\alice\n", parent.addr());
    let place = Place::with("ntlmaps.cfg", &cfg);
    let (mut terminal, other) = Terminal::new();
    let mut command = place.command(&[]);
    command.stdin(other.try_clone().expect("a descriptor"));
    command.stderr(other.try_clone().expect("a descriptor"));
    let mut serving = Serving::start(command);
    assert!(terminal.shows("Password of alice: "), "{}", terminal.screen);
    assert!(!echoes(&other));
    terminal.type_line("Secret-123");
    assert_eq!(Client::connect(serving.address()).get(&url("/hello")).status(), 200);
    assert!(echoes(&other));
    serving.end();
    drop(other);
    assert!(!terminal.shows("Secret-123"), "{}", terminal.screen);
}

#[test]
fn a_password_to_hash_is_asked_for_too() {
    let place = Place::new();
    let (mut terminal, other) = Terminal::new();
    let mut command = place.command(&["--hash"]);
    command.stdin(other.try_clone().expect("a descriptor")).stderr(other);
    let child = command.spawn().expect("the program starts");
    drop(command);
    assert!(terminal.shows("Password to hash: "), "{}", terminal.screen);
    terminal.type_line("Password");
    let out = child.wait_with_output().expect("it ends").stdout;
    let out = String::from_utf8(out).expect("text");
    // MS-NLMP 4.2.2.1.2.
    assert!(out.contains("NT_HASHED_PW: a4f49c406510bdcab6824ee7c30fd852"), "{out}");
    assert!(!terminal.shows("Password\r"), "{}", terminal.screen);
}
