//! How fast ntlmaps is, beside others doing the same in the same minutes.
//!
//! `cargo run --release --example bench [-- OPTIONS] [ROW...]`
//!
//! It builds the release binary, starts a parent that demands NTLM, HAProxy (which cannot log in:
//! it gets a port of the parent where nothing is demanded), relays that only copy, and cntlm;
//! HAProxy and cntlm are Debian packages, and left out where they are missing. Then it runs all
//! rows one after the other, through one contender after the other, and that for several rounds.
//! The table has medians; its ratios are medians of each round's, so that whatever else the machine
//! does meets both sides.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "speaking to the terminal is its purpose"
)]
#![allow(
    clippy::as_conversions,
    reason = "statistics: no number here is beyond what a double holds exactly"
)]
#![allow(missing_docs, unreachable_pub, reason = "there is no library to export anything from")]

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

mod load;
mod parent;
mod rivals;
mod rows;
mod table;
mod wire;

use rivals::{Bench, Proxy, Who};
use rows::{Amount, ROWS, Row};
use table::Results;
use wire::bad;

const USAGE: &str = "\
usage: cargo run --release --example bench [-- OPTIONS] [ROW...]
  --rounds N     how often everything is measured (5)
  --millis MS    how long requests are sent at a time, after as long to warm up (500)
  --megabytes M  how much a stream row moves (2048)
  --idle N       how many are idle (8000)
A ROW is the beginning of a name: ";

/// The limit on descriptors for each process.
const DESCRIPTORS: u64 = 20_000;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let outcome = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--parent"] => parent::run(),
        [role @ ("--relay" | "--turns"), to] => {
            let to = to.parse().map_err(|_| bad("no address"));
            to.and_then(|to| rivals::relay(to, *role == "--turns"))
        }
        words => match Asked::parse(words) {
            Some(asked) => compare(&asked),
            None => {
                let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
                eprintln!("{USAGE}{}", names.join(", "));
                return ExitCode::from(2);
            }
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line asks for.
struct Asked {
    rows: Vec<&'static Row>,
    rounds: usize,
    amount: Amount,
}

impl Asked {
    fn parse(words: &[&str]) -> Option<Self> {
        let (mut rounds, mut millis, mut megabytes, mut idle) = (5, 500, 2048, 8000);
        let mut names = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let number = match *word {
                "--rounds" => &mut rounds,
                "--millis" => &mut millis,
                "--megabytes" => &mut megabytes,
                "--idle" => &mut idle,
                name if ROWS.iter().any(|row| row.name.starts_with(name)) => {
                    names.push(name);
                    continue;
                }
                _ => return None,
            };
            *number = words.next()?.parse::<u32>().ok().filter(|n| *n > 0)?;
        }
        let named = |row: &&Row| names.is_empty() || names.iter().any(|n| row.name.starts_with(n));
        Some(Self {
            rows: ROWS.iter().filter(named).collect(),
            rounds: usize::try_from(rounds).ok()?,
            amount: Amount {
                time: Duration::from_millis(millis.into()),
                bytes: u64::from(megabytes) * 1_048_576,
                idle: usize::try_from(idle).ok()?,
            },
        })
    }
}

fn compare(asked: &Asked) -> io::Result<()> {
    limit_descriptors(asked)?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = rivals::target_directory()?;
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--bin", "ntlmaps", "--target-dir"]).arg(&target);
    let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status()?;
    if !built.success() {
        return Err(bad("the release binary cannot be built"));
    }
    let release = target.join("release");
    let own = release.join(format!("bench-{}", std::process::id()));
    let mut bench = Bench::new(release.join("ntlmaps"), own)?;
    let mut proxies = Vec::new();
    for who in Who::ALL {
        match bench.start(who)? {
            Some(proxy) => proxies.push(proxy),
            None => eprintln!("{} is not installed and left out", who.name()),
        }
    }
    let mut results = Results::default();
    let since = Instant::now();
    for round in 0..asked.rounds {
        for row in &asked.rows {
            eprintln!("{:4} s, round {}: {}", since.elapsed().as_secs(), round + 1, row.title);
            for _ in 0..row.turns() {
                // What one leaves behind, a cache or a tired machine, does not always meet the same.
                proxies.sort_by_cached_key(|_| RandomState::new().hash_one(()));
                measure(row, &mut bench, &proxies, &asked.amount, &mut results);
            }
        }
    }
    println!("{}", results.table(&asked.rows));
    Ok(())
}

/// One row, through everybody. A rival that failed once takes minutes to fail again: it is left out.
fn measure(
    row: &Row,
    bench: &mut Bench,
    proxies: &[Proxy],
    amount: &Amount,
    results: &mut Results,
) {
    for proxy in proxies.iter().filter(|proxy| row.who.contains(&proxy.who)) {
        if proxy.who != Who::Ntlmaps && results.has_failed(row, proxy.who) {
            continue;
        }
        let numbers = row.sample(bench, proxy, amount);
        if let Err(error) = &numbers {
            eprintln!("{}: {}: {error}", row.title, proxy.who.name());
        }
        results.note(row, proxy.who, numbers.ok().as_deref());
    }
}

/// Sets the limit on descriptors that everybody works under.
fn limit_descriptors(asked: &Asked) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(DESCRIPTORS).min(DESCRIPTORS);
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    if limit < asked.amount.idle as u64 * 2 + 200 {
        eprintln!("{limit} descriptors are not enough for {} tunnels", asked.amount.idle);
    }
    Ok(())
}
