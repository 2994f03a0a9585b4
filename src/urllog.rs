//! The request log (`URL_LOG`): a line for each request when it is over. What cannot be written is
//! counted, and costs no request.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::http::head::RequestHead;
use crate::http::target;
use crate::sys;

/// An open log.
pub struct UrlLog {
    file: File,
    lost: AtomicU64,
}

impl UrlLog {
    /// Opens a log to append to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(path: &str) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self { file, lost: AtomicU64::new(0) })
    }

    /// Writes an entry, at once: lines of several threads never mix.
    fn write(&self, entry: &Entry, outcome: &Outcome) {
        let millis = entry.began.elapsed().as_millis();
        let Outcome { status, bytes, way } = outcome;
        let status = status.map_or("-".to_owned(), |status| status.to_string());
        let line =
            format!("{} {} {status} {bytes} {millis} ms {way}\n", sys::utc_now(), entry.request);
        if let Err(error) = (&self.file).write_all(line.as_bytes()) {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            if lost.is_power_of_two() {
                log::warn!("URL_LOG: {error}; {lost} lines are lost");
            }
        }
    }
}

/// A line to be, written when this is dropped: what is known when a request begins, and what became
/// of it.
pub struct Record {
    /// `None` where nobody wants it.
    entry: Option<(Arc<UrlLog>, Entry)>,
    /// What became of it.
    pub outcome: Outcome,
}

struct Entry {
    began: Instant,
    request: String,
}

impl Record {
    /// A request has come, and belongs into `log`.
    pub fn begin(log: Option<&Arc<UrlLog>>, peer: SocketAddr, head: &RequestHead) -> Self {
        let entry = log.map(|log| {
            let target = target::without_userinfo(&head.target);
            let request = format!("{peer} {} {target} {}", head.method, head.version);
            (Arc::clone(log), Entry { began: Instant::now(), request })
        });
        Self { entry, outcome: Outcome::default() }
    }

    /// What has come cannot be read.
    pub fn unreadable(log: Option<&Arc<UrlLog>>, peer: SocketAddr) -> Self {
        let entry = Entry { began: Instant::now(), request: format!("{peer} - - -") };
        Self { entry: log.map(|log| (Arc::clone(log), entry)), outcome: Outcome::default() }
    }
}

/// It is over.
impl Drop for Record {
    fn drop(&mut self) {
        if let Some((log, entry)) = &self.entry {
            log.write(entry, &self.outcome);
        }
    }
}

/// What became of it.
pub struct Outcome {
    /// The status the client saw; `None` when it was gone before.
    pub status: Option<u16>,
    /// Bytes sent to the client; through a tunnel, both ways.
    pub bytes: u64,
    /// Which way it went, or why it went none.
    pub way: String,
}

impl Outcome {
    /// It goes no further, and this is why: one line, whatever it says.
    pub fn refuse(&mut self, why: &dyn fmt::Display) {
        let why = why.to_string();
        self.way = format!("refused: {}", why.trim().replace(char::is_control, " "));
    }
}

impl Default for Outcome {
    fn default() -> Self {
        Self { status: None, bytes: 0, way: "here".to_owned() }
    }
}
