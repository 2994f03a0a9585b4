//! The request log (`URL_LOG`): a line for each request when it is over. What cannot be written is
//! told, and costs no request.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::hop::HopName;
use crate::http::head::RequestHead;
use crate::http::target::{self, Authority};
use crate::lines::{Lines, Loss};
use crate::sys;

/// An open log.
pub struct UrlLog(Lines);

impl UrlLog {
    /// Opens a log to append to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(path: &str) -> io::Result<Self> {
        Lines::open(path).map(Self)
    }

    /// Writes an entry.
    fn write(&self, entry: &Entry, outcome: &Outcome) {
        let millis = entry.began.elapsed().as_millis();
        let Outcome { status, bytes, way, .. } = outcome;
        let status = Shown(*status);
        let line =
            format!("{} {} {status} {bytes} {millis} ms {way}\n", sys::utc_now(), entry.request);
        if let Err(Loss { error, lines }) = self.0.append(&line) {
            log::warn!(
                target: "ntlmaps::often::URL_LOG",
                "URL_LOG: {error}; {lines} lines are lost"
            );
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
        let is_shown = log.is_some() || log::log_enabled!(log::Level::Debug);
        Self { entry, outcome: Outcome { is_shown, ..Outcome::default() } }
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
    pub way: Way,
    /// Anybody will read it.
    is_shown: bool,
}

/// Which way a request went.
pub enum Way {
    /// None: it was answered here.
    Here,
    /// To the origin itself.
    Direct,
    /// Through this parent.
    Parent(Authority),
    /// None, and this is why: one line.
    Refused(String),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("here"),
            Self::Direct => f.write_str("direct"),
            Self::Parent(parent) => write!(f, "parent {parent}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

impl Outcome {
    /// It went to a next hop.
    pub fn went_to(&mut self, hop: &HopName) {
        if self.is_shown {
            self.way = if hop.is_parent { Way::Parent(hop.authority.clone()) } else { Way::Direct };
        }
    }

    /// It goes no further, and this is why: one line, whatever it says.
    pub fn refuse(&mut self, why: &dyn fmt::Display) {
        let why = why.to_string();
        self.way = Way::Refused(why.trim().replace(char::is_control, " "));
    }
}

impl Default for Outcome {
    fn default() -> Self {
        Self { status: None, bytes: 0, way: Way::Here, is_shown: true }
    }
}

/// A status, or that there is none.
struct Shown(Option<u16>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(status) => status.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// For people.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} bytes, {}", Shown(self.status), self.bytes, self.way)
    }
}
