//! What is measured, and what it is held against.

use std::io;
use std::time::{Duration, Instant};

use crate::load::{self, Bulk, Crowd, wait};
use crate::rivals::{Bench, Proxy, Who};
use crate::wire::bad;

use Target::{AtLeast, AtMost, AtMostOfRow, Max, Min};
use Who::{Cntlm, HaProxy, Ntlmaps, Relay};

/// A line of the issue, as it were.
pub struct Row {
    /// What to ask for on the command line.
    pub name: &'static str,
    pub title: &'static str,
    work: Work,
    pub who: &'static [Who],
    pub measures: &'static [Measure],
}

/// One number of a row.
pub struct Measure {
    pub unit: &'static str,
    pub targets: &'static [Target],
}

/// What the number of ntlmaps should be.
pub enum Target {
    /// In parts of a rival's.
    AtLeast(f64, Who),
    AtMost(f64, Who),
    /// In parts of what ntlmaps itself needs in another row, in the same place.
    AtMostOfRow(f64, &'static str),
    /// As it is.
    Min(f64),
    Max(f64),
}

enum Work {
    KeepAlive { connections: usize },
    NewConnections,
    Bulk(Bulk, usize),
    IdleTunnels,
    IdleClients,
    Start,
    Rest,
    Size,
}

/// How much is done.
pub struct Amount {
    /// How long requests are sent.
    pub time: Duration,
    /// How many bytes are moved.
    pub bytes: u64,
    /// How many clients are idle.
    pub idle: usize,
}

const EVERYBODY: &[Who] = &Who::ALL;
const PROXIES: &[Who] = &[Ntlmaps, HaProxy, Relay, Cntlm];
const ALONE: &[Who] = &[Ntlmaps];

/// New connections in one row, as many as a page with its pictures or a package manager makes.
const NEW: usize = 300;
/// Clients that come and go beside a crowd.
const COMING: usize = 8;
/// In how many parts they come.
const PARTS: usize = 8;
/// Longer than a client that falls silent keeps what it needs to be served.
const SETTLED: Duration = Duration::from_millis(2500);

const TUNNEL: &[Measure] = &[
    Measure { unit: "GB/s", targets: &[AtLeast(1.3, HaProxy)] },
    Measure { unit: "CPU s/GB", targets: &[AtMost(0.4, HaProxy), AtMost(0.2, Cntlm)] },
];
const CHUNKED: &[Measure] = &[
    Measure { unit: "GB/s", targets: &[] },
    Measure { unit: "CPU s/GB", targets: &[AtMost(1.0, HaProxy)] },
];

pub const ROWS: &[Row] = &[
    Row {
        name: "get32",
        title: "GET 1 KB, keep-alive, 32 connections",
        work: Work::KeepAlive { connections: 32 },
        who: EVERYBODY,
        measures: &[
            Measure { unit: "requests/s", targets: &[AtLeast(1.0, HaProxy), AtLeast(0.9, Relay)] },
            Measure { unit: "CPU µs/request", targets: &[AtMost(1.1, HaProxy)] },
            Measure { unit: "p50 ms", targets: &[] },
            Measure { unit: "p99 ms", targets: &[AtMost(1.0, HaProxy)] },
        ],
    },
    Row {
        name: "get1",
        title: "the same, 1 connection",
        work: Work::KeepAlive { connections: 1 },
        who: EVERYBODY,
        measures: &[
            Measure { unit: "requests/s", targets: &[AtLeast(1.0, HaProxy)] },
            Measure { unit: "CPU µs/request", targets: &[] },
            Measure { unit: "p50 ms", targets: &[] },
            Measure { unit: "p99 ms", targets: &[] },
        ],
    },
    Row {
        name: "new300",
        title: "300 requests, each on a new connection",
        work: Work::NewConnections,
        who: EVERYBODY,
        measures: &[
            Measure { unit: "median ms", targets: &[AtMost(0.35, Cntlm)] },
            Measure { unit: "logins", targets: &[Max(1.0)] },
        ],
    },
    Row {
        name: "tunnel-down-1",
        title: "tunnel, 1 stream down",
        work: Work::Bulk(Bulk::TunnelDown, 1),
        who: PROXIES,
        measures: TUNNEL,
    },
    Row {
        name: "tunnel-up-1",
        title: "tunnel, 1 stream up",
        work: Work::Bulk(Bulk::TunnelUp, 1),
        who: PROXIES,
        measures: TUNNEL,
    },
    Row {
        name: "tunnel-down-8",
        title: "tunnel, 8 streams down",
        work: Work::Bulk(Bulk::TunnelDown, 8),
        who: PROXIES,
        measures: TUNNEL,
    },
    Row {
        name: "tunnel-up-8",
        title: "tunnel, 8 streams up",
        work: Work::Bulk(Bulk::TunnelUp, 8),
        who: PROXIES,
        measures: TUNNEL,
    },
    Row {
        name: "download",
        title: "download by length",
        work: Work::Bulk(Bulk::Download, 1),
        who: PROXIES,
        measures: &[
            Measure { unit: "GB/s", targets: &[] },
            Measure { unit: "CPU s/GB", targets: &[AtMostOfRow(1.3, "tunnel-down-1")] },
        ],
    },
    Row {
        name: "upload",
        title: "upload by length",
        work: Work::Bulk(Bulk::Upload, 1),
        who: PROXIES,
        measures: &[
            Measure { unit: "GB/s", targets: &[] },
            Measure { unit: "CPU s/GB", targets: &[AtMostOfRow(1.3, "tunnel-up-1")] },
        ],
    },
    Row {
        name: "download-chunked",
        title: "download, chunked",
        work: Work::Bulk(Bulk::ChunkedDownload, 1),
        who: PROXIES,
        measures: CHUNKED,
    },
    Row {
        name: "upload-chunked",
        title: "upload, chunked",
        work: Work::Bulk(Bulk::ChunkedUpload, 1),
        who: PROXIES,
        measures: CHUNKED,
    },
    Row {
        name: "idle-tunnels",
        title: "8,000 idle tunnels",
        work: Work::IdleTunnels,
        who: ALONE,
        measures: &[
            Measure { unit: "kB resident each", targets: &[Max(10.0)] },
            Measure { unit: "8,000 short requests/s", targets: &[] },
            Measure { unit: "in parts of without them", targets: &[Min(0.9)] },
        ],
    },
    Row {
        name: "idle-clients",
        title: "8,000 idle keep-alive clients",
        work: Work::IdleClients,
        who: ALONE,
        measures: &[
            Measure { unit: "kB resident each", targets: &[Max(10.0)] },
            Measure { unit: "parent connections", targets: &[Max(1.0)] },
        ],
    },
    Row {
        name: "start",
        title: "start to the first response",
        work: Work::Start,
        who: ALONE,
        measures: &[Measure { unit: "ms", targets: &[Max(10.0)] }],
    },
    Row {
        name: "rest",
        title: "at rest",
        work: Work::Rest,
        who: ALONE,
        measures: &[
            Measure { unit: "MB resident", targets: &[Max(2.0)] },
            Measure { unit: "wake-ups in 2 s", targets: &[Max(0.0)] },
        ],
    },
    Row {
        name: "size",
        title: "static binary",
        work: Work::Size,
        who: ALONE,
        measures: &[Measure { unit: "MB", targets: &[Max(1.7)] }],
    },
];

impl Row {
    /// How often it is measured in each round: more often where it shows more what else the machine
    /// does, such as to move a virtual processor from one place to another. Those who are compared
    /// should have had the same.
    pub fn turns(&self) -> usize {
        match self.work {
            Work::KeepAlive { .. } => 8,
            Work::Bulk(_, 1) => 2,
            _ => 1,
        }
    }

    /// Does the work once through `proxy` (or a new process of its kind, where the work asks for
    /// one), and returns a number for each measure.
    pub fn sample(
        &self,
        bench: &mut Bench,
        proxy: &Proxy,
        amount: &Amount,
    ) -> io::Result<Vec<f64>> {
        match self.work {
            Work::KeepAlive { connections } => {
                let speed = load::keep_alive(proxy, connections, amount.time)?;
                let requests = speed.times.len() as f64;
                let milliseconds = |share| speed.percentile(share) * 1e3;
                let cpu = speed.cpu / requests * 1e6;
                Ok(vec![requests / speed.seconds, cpu, milliseconds(0.5), milliseconds(0.99)])
            }
            Work::NewConnections => {
                let logs_in = matches!(proxy.who, Ntlmaps | Cntlm);
                let new = if logs_in { Some(another(bench, proxy)?) } else { None };
                let [before, _] = bench.counts()?;
                let speed = load::fresh(new.as_ref().unwrap_or(proxy), NEW, 1)?;
                let [after, _] = bench.counts()?;
                let logins = if logs_in { (after - before) as f64 } else { f64::NAN };
                Ok(vec![speed.percentile(0.5) * 1e3, logins])
            }
            Work::Bulk(bulk, streams) => {
                let speed = load::bulk(proxy, bulk, streams, amount.bytes)?;
                let gigabytes = amount.bytes as f64 / 1e9;
                Ok(vec![gigabytes / speed.seconds, speed.cpu / gigabytes])
            }
            Work::IdleTunnels => {
                let [crowded, empty] = [another(bench, proxy)?, another(bench, proxy)?];
                let seconds = |proxy: &Proxy| {
                    load::fresh(proxy, amount.idle / PARTS, COMING).map(|speed| speed.seconds)
                };
                seconds(&crowded)?;
                let memory = crowded.memory()?;
                let mut crowd = Crowd::of_tunnels(crowded.address, amount.idle, 2)?;
                crowd.each(load::echo)?;
                wait(SETTLED);
                // In turns, so that whatever else the machine does meets both; the first is to warm
                // up.
                let turn = |_| Ok([seconds(&crowded)?, seconds(&empty)?]);
                let turns = (0..=PARTS).map(turn).collect::<io::Result<Vec<_>>>()?;
                let sum = |of: usize| turns.iter().skip(1).filter_map(|t| t.get(of)).sum::<f64>();
                let [with, without] = [0, 1].map(sum);
                let each = (crowded.memory()? - memory) / amount.idle as f64;
                crowd.each(load::echo)?;
                Ok(vec![each, amount.idle as f64 / with, without / with])
            }
            Work::IdleClients => {
                let proxy = another(bench, proxy)?;
                drop(load::client(proxy.address)?);
                let memory = proxy.memory()?;
                let [_, others] = bench.counts()?;
                let mut crowd = Crowd::of_clients(proxy.address, amount.idle)?;
                wait(SETTLED);
                let each = (proxy.memory()? - memory) / amount.idle as f64;
                let [_, open] = bench.counts()?;
                crowd.each(load::again)?;
                // Before the crowd came, one was there.
                Ok(vec![each, (open + 1 - others) as f64])
            }
            Work::Start => {
                let since = Instant::now();
                let proxy = another(bench, proxy)?;
                load::client(proxy.address)?;
                Ok(vec![since.elapsed().as_secs_f64() * 1e3])
            }
            Work::Rest => {
                let proxy = another(bench, proxy)?;
                drop(load::client(proxy.address)?);
                wait(SETTLED);
                let before = proxy.switches()?;
                wait(Duration::from_secs(2));
                Ok(vec![proxy.memory()? / 1e3, proxy.switches()? - before])
            }
            Work::Size => Ok(vec![bench.binary.metadata()?.len() as f64 / 1e6]),
        }
    }
}

/// A new process of the same kind.
fn another(bench: &Bench, proxy: &Proxy) -> io::Result<Proxy> {
    bench.start(proxy.who)?.ok_or_else(|| bad("it is gone"))
}
