//! Does it run for a year? The release binary under a mixed load, with reloads and a parent that
//! dies and comes back every few seconds.
//!
//! `cargo run --example soak -- [--seconds N] [--clients N] [NTLMAPS]`
//!
//! Every response says for whom and for which URL it is: one that is lost, cut without a sign, or
//! somebody else's ends it with exit code 1. So does whatever breaks while the parent is there, and
//! memory, descriptors or threads that do not come back: again and again all clients leave for a
//! moment, and what the program then holds is compared with what it held before.

#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::string_slice,
    reason = "it speaks to a terminal, and what goes wrong is to end it"
)]
#![allow(missing_docs, unreachable_pub, reason = "there is no library to export anything from")]

use std::env;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

#[path = "../it/support/mod.rs"]
mod support;

mod load;
mod parent;
mod process;

use load::{Act, Dice, Trouble, Visitor};
use parent::{Outages, Parent};
use process::{Held, Program};
use support::listener::lock;

/// How often all clients leave, in a run that is long enough.
const ROUND: Duration = Duration::from_secs(60);
/// What memory may grow by after the first round: the allocator keeps what the largest crowd needed.
const SLACK_KB: u64 = 3 * 1024;
/// How long credentials rest when their first logins broke off, at most.
const REST: Duration = Duration::from_secs(12);

/// What the command line asks for.
struct Asked {
    time: Duration,
    clients: u64,
    binary: String,
}

impl Asked {
    fn parse() -> Option<Self> {
        let mut asked = Self {
            time: Duration::from_secs(60),
            clients: 16,
            binary: "target/release/ntlmaps".to_owned(),
        };
        let mut words = env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--seconds" => asked.time = Duration::from_secs(words.next()?.parse().ok()?),
                "--clients" => asked.clients = words.next()?.parse().ok()?,
                _ if word.starts_with('-') => return None,
                _ => asked.binary = word,
            }
        }
        Some(asked)
    }
}

fn main() -> ExitCode {
    let Some(asked) = Asked::parse() else {
        eprintln!("usage: soak [--seconds N] [--clients N] [NTLMAPS]");
        return ExitCode::from(2);
    };
    let violations = soak(&asked);
    for violation in violations.iter().take(20) {
        println!("VIOLATION: {violation}");
    }
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What all threads share.
struct Shared {
    outages: Arc<Outages>,
    over: AtomicBool,
    /// Held by each client while it is there, and by whoever wants all of them gone.
    presence: RwLock<()>,
    acts: [AtomicUsize; Act::ALL.len()],
    /// Acts that the parent's absence cut.
    cut: AtomicUsize,
    /// Acts that met with credentials at rest after that.
    rested: AtomicUsize,
    violations: Mutex<Vec<String>>,
}

impl Shared {
    fn violation(&self, text: String) {
        eprintln!("soak: {text}");
        lock(&self.violations).push(text);
    }
}

fn soak(asked: &Asked) -> Vec<String> {
    let mut parent = Parent::start().expect("a loopback port");
    let mut program = Program::start(&asked.binary, parent.addr());
    let shared = Shared {
        outages: Arc::clone(&parent.outages),
        over: AtomicBool::new(false),
        presence: RwLock::new(()),
        acts: Default::default(),
        cut: AtomicUsize::new(0),
        rested: AtomicUsize::new(0),
        violations: Mutex::default(),
    };
    let fresh = program.started();
    println!("at the start: {fresh}");
    let begin = Instant::now();
    let counts = Arc::clone(&parent.counts);
    thread::scope(|scope| {
        let shared = &shared;
        let doors = program.doors;
        for seed in 1..=asked.clients {
            scope.spawn(move || visits(&mut Visitor::new(seed, doors), shared));
        }
        let parent = &mut parent;
        scope.spawn(move || {
            let mut dice = Dice::new(99);
            while !shared.over.load(Ordering::SeqCst) {
                thread::park_timeout(Duration::from_millis(2_000 + dice.below(3_000) as u64));
                parent.restart(Duration::from_millis(dice.below(400) as u64)).expect("its port");
            }
        });
        rounds(asked.time, begin, &mut program, &fresh, shared);
        shared.over.store(true, Ordering::SeqCst);
    });
    let count =
        |act: &Act| format!("{act:?} {}", shared.acts[*act as usize].load(Ordering::SeqCst));
    println!("acts: {}", Act::ALL.iter().map(count).collect::<Vec<_>>().join(", "));
    println!(
        "{} s: {} reloads, {} parent restarts, {} logins ({} refused), {} acts cut while it was away, \
         {} while the credentials rested after that",
        begin.elapsed().as_secs(),
        program.reloads,
        shared.outages.count(),
        counts.logins.load(Ordering::SeqCst),
        counts.refusals.load(Ordering::SeqCst),
        shared.cut.load(Ordering::SeqCst),
        shared.rested.load(Ordering::SeqCst),
    );
    if counts.refusals.load(Ordering::SeqCst) > 0 {
        shared.violation("a login with the right password was refused".to_owned());
    }
    shared.violation_if(program.end());
    shared.violations.into_inner().unwrap_or_default()
}

impl Shared {
    fn violation_if(&self, found: Option<String>) {
        found.into_iter().for_each(|text| self.violation(text));
    }
}

/// A client that comes, does a few things and goes, again and again.
fn visits(visitor: &mut Visitor, shared: &Shared) {
    while !shared.over.load(Ordering::SeqCst) {
        let Ok(_present) = shared.presence.read() else { return };
        for _ in 0..20 {
            let (act, begin, done) = visitor.act();
            shared.acts[act as usize].fetch_add(1, Ordering::SeqCst);
            match done {
                Ok(()) => {}
                Err(Trouble::Cut(_)) if shared.outages.touch(begin) => {
                    shared.cut.fetch_add(1, Ordering::SeqCst);
                }
                Err(Trouble::Rests(_)) if shared.outages.touch(begin - REST) => {
                    shared.rested.fetch_add(1, Ordering::SeqCst);
                }
                Err(Trouble::Cut(text) | Trouble::Rests(text) | Trouble::Wrong(text)) => {
                    let (name, count) = (&visitor.name, visitor.count);
                    let after = begin.elapsed().as_millis();
                    shared.violation(format!("{name}/{count} {act:?} after {after} ms: {text}"));
                }
            }
        }
        visitor.leave();
    }
}

/// Reloads every few seconds; sends everybody away at the end of each round and looks at what is
/// left then.
fn rounds(time: Duration, begin: Instant, program: &mut Program, fresh: &Held, shared: &Shared) {
    let round = ROUND.min(time / 4);
    let mut dice = Dice::new(7);
    let mut settled: Option<Held> = None;
    let mut next = begin + round;
    let mut peak = program.held();
    while begin.elapsed() < time && lock(&shared.violations).len() < 20 {
        thread::park_timeout(Duration::from_millis(1_000 + dice.below(3_000) as u64));
        program.reload();
        peak = peak.max(program.held());
        if Instant::now() < next {
            continue;
        }
        next += round;
        let Ok(_alone) = shared.presence.write() else { return };
        // The pool goes with the configuration it belonged to.
        program.reload();
        match program.rested(fresh) {
            Err(text) => shared.violation(text),
            Ok(held) => {
                let seconds = begin.elapsed().as_secs();
                println!("after {seconds} s: {held}; under load at most {peak}");
                match &settled {
                    Some(first) if held.memory > first.memory + SLACK_KB => shared.violation(
                        format!("memory grew from {} to {} kB", first.memory, held.memory),
                    ),
                    None if begin.elapsed() >= ROUND.min(time / 2) => settled = Some(held),
                    _ => {}
                }
            }
        }
    }
}
