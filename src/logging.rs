//! Messages: which are told, how they look, where they go.
//!
//! Which: `RUST_LOG` alone where it is set, with the levels of env_logger's syntax; else the louder of `-v` and
//! `[DEBUG]`, which a reload reads again. What they say about bytes and logins goes by the targets
//! [`BYTES`] and [`LOGINS`].
//!
//! Warnings that may come a thousand times a second have targets that begin with [`OFTEN`] and end
//! in the kind of trouble: each kind is told once a second, with how often it came. Those that no
//! other follows are told with whatever is logged next.
//!
//! A line is one message, whatever is in it. It names the client it is about, if its thread serves
//! one. What cannot be written is lost: messages never cost a request.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::config::Logs;
use crate::lines::{Lines, Loss};
use crate::sys;

/// The target of what `AUTH_DEBUG` tells, at the level Trace.
pub const LOGINS: &str = "ntlmaps::logins";
/// The target of what `BIN_DEBUG` tells, at the level Trace.
pub const BYTES: &str = "ntlmaps::bytes";

/// How the targets begin of what is summed up.
pub const OFTEN: &str = "ntlmaps::often::";

/// How soon trouble of one kind is told again.
const PAUSE: Duration = Duration::from_secs(1);

thread_local! {
    static CLIENT: Cell<Option<SocketAddr>> = const { Cell::new(None) };
}

/// Does `work`; what this thread logs meanwhile is about that client.
pub fn serve(client: SocketAddr, work: impl FnOnce()) {
    CLIENT.set(Some(client));
    work();
    CLIENT.set(None);
}

/// The client of this thread, as it stands before a message.
fn client() -> String {
    CLIENT.get().map(|client| format!("{client} ")).unwrap_or_default()
}

/// The logger of the process.
pub struct Logger {
    /// Asked which messages are told; it writes none.
    filter: RwLock<env_logger::Logger>,
    /// `RUST_LOG` has decided.
    settled: bool,
    /// `None`: standard error.
    file: RwLock<Option<Lines>>,
    held: Mutex<Vec<Held>>,
}

/// Begins to log.
///
/// # Errors
/// When `LOG_FILE` cannot be written.
pub fn start(logs: &Logs) -> Result<&'static Logger, String> {
    let variable = std::env::var("RUST_LOG").ok().filter(|spec| !spec.is_empty());
    let filter = filter(logs, variable.as_deref());
    let logger: &Logger = Box::leak(Box::new(Logger {
        filter: RwLock::new(filter),
        settled: variable.is_some(),
        file: RwLock::new(open(logs)?),
        held: Mutex::default(),
    }));
    log::set_logger(logger).map_err(|error| error.to_string())?;
    Ok(logger)
}

/// What is told from now on.
fn filter(logs: &Logs, variable: Option<&str>) -> env_logger::Logger {
    let mut builder = env_logger::Builder::new();
    if let Some(spec) = variable {
        builder.parse_filters(spec);
    } else {
        let trace = |wanted| if wanted { LevelFilter::Trace } else { logs.level };
        builder.filter_level(LevelFilter::Warn);
        for (target, level) in
            [("ntlmaps", logs.level), (LOGINS, trace(logs.logins)), (BYTES, trace(logs.bytes))]
        {
            builder.filter_module(target, level);
        }
    }
    let filter = builder.build();
    log::set_max_level(filter.filter());
    filter
}

fn open(logs: &Logs) -> Result<Option<Lines>, String> {
    let Some(path) = &logs.file else { return Ok(None) };
    Lines::open(path).map(Some).map_err(|error| format!("LOG_FILE {path}: {error}"))
}

impl Logger {
    /// The file may have been moved away: opens it by its name again.
    pub fn reopen(&self) {
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        let told = file.as_ref().map(|file| (file.path().to_owned(), file.reopen()));
        drop(file);
        if let Some((path, Err(error))) = told {
            log::error!("LOG_FILE {path}: {error}; messages go where they went before");
        }
    }

    /// From now on this holds. A file that cannot be opened changes nothing.
    pub fn apply(&self, logs: &Logs) {
        if !self.settled {
            let filter = filter(logs, None);
            *self.filter.write().unwrap_or_else(PoisonError::into_inner) = filter;
        }
        let before = self.file.read().unwrap_or_else(PoisonError::into_inner);
        if before.as_ref().map(Lines::path) == logs.file.as_deref() {
            return;
        }
        drop(before);
        match open(logs) {
            Ok(file) => *self.file.write().unwrap_or_else(PoisonError::into_inner) = file,
            Err(error) => log::error!("{error}; messages go where they went before"),
        }
    }

    fn write(&self, level: Level, client: &str, message: &dyn fmt::Display) {
        let line = format!("{} {level:5} {client}{message}", sys::utc_now());
        // What others sent neither makes up a line nor speaks to a terminal.
        let mut line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        line.push('\n');
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = file.as_ref() else { return to_stderr(&line) };
        match file.append(&line) {
            Ok(0) => {}
            Ok(lost) => {
                let missing =
                    format!("{} WARN  {lost} lines before that are lost\n", sys::utc_now());
                drop(file.append(&missing));
            }
            Err(Loss { error, lines }) if lines.is_power_of_two() => {
                to_stderr(&format!(
                    "ntlmaps: LOG_FILE {}: {error}; {lines} lines lost\n",
                    file.path()
                ));
            }
            Err(_) => {}
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be said behind a message about those of its kind that were held back; `None`: it
    /// is held back itself.
    fn sum_up(&self, record: &Record<'_>) -> Option<String> {
        let now = Instant::now();
        let mut all = self.held();
        match all.iter_mut().find(|held| held.kind == record.target()) {
            None => {
                let kind = record.target().to_owned();
                all.push(Held { kind, told: now, count: 0, last: String::new() });
                Some(String::new())
            }
            Some(held) if held.is_due(now) => Some(held.more(now)),
            Some(held) => {
                held.count = held.count.saturating_add(1);
                held.last = format!("{}{}", client(), record.args());
                None
            }
        }
    }

    /// Tells what was held back; what waits for its time only if `all`.
    #[inline(never)]
    fn release(&self, all: bool) {
        let now = Instant::now();
        let mut messages = Vec::new();
        for held in self.held().iter_mut().filter(|held| held.is_due(now) || all) {
            if let Some(left) = held.count.checked_sub(1) {
                held.count = left;
                messages.push(std::mem::take(&mut held.last) + &held.more(now));
            }
        }
        for message in messages {
            self.write(Level::Warn, "", &message);
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.read().unwrap_or_else(PoisonError::into_inner).enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let often = record.target().starts_with(OFTEN);
        let more = if often { self.sum_up(record) } else { Some(String::new()) };
        self.release(false);
        if let Some(more) = more {
            self.write(record.level(), &client(), &format_args!("{}{more}", record.args()));
        }
    }

    fn flush(&self) {
        self.release(true);
    }
}

fn to_stderr(line: &str) {
    // Where that is closed, there is nobody to tell.
    drop(io::stderr().write_all(line.as_bytes()));
}

/// Trouble of one kind.
struct Held {
    kind: String,
    /// When it was told last.
    told: Instant,
    /// How often it was not told since, and what the last one said.
    count: u64,
    last: String,
}

impl Held {
    fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.told) >= PAUSE
    }

    /// What is said about those that were held back; they count as told.
    fn more(&mut self, now: Instant) -> String {
        let seconds = now.saturating_duration_since(self.told).as_secs().saturating_add(1);
        self.told = now;
        match std::mem::take(&mut self.count) {
            0 => String::new(),
            count => format!(" ({count} more like this in the last {seconds} s)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_done_with_a_client_speaks_of_it_no_more() {
        serve(([127, 0, 0, 1], 9).into(), || assert_eq!(client(), "127.0.0.1:9 "));
        assert_eq!(client(), "");
    }
}
