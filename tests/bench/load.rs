//! The clients: how much work is done in what time.

use std::io;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::rivals::Proxy;
use crate::wire::{Wire, bad, status};

/// What curl sends, but for its name; cntlm keeps no connection without the last line.
const GET: &[u8] = b"GET http://origin.bench/1k HTTP/1.1\r\nHost: origin.bench\r\n\
    Proxy-Connection: Keep-Alive\r\n\r\n";
const FIELDS: &str = "Host: origin.bench\r\nProxy-Connection: Keep-Alive\r\n";

/// Bytes that are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bulk {
    TunnelDown,
    TunnelUp,
    Download,
    Upload,
    ChunkedDownload,
    ChunkedUpload,
}

/// How it went.
#[derive(Default)]
pub struct Speed {
    /// Seconds it took.
    pub seconds: f64,
    /// Seconds of processor time it took the proxy.
    pub cpu: f64,
    /// How long each request took, in seconds, in order.
    pub times: Vec<f64>,
}

impl Speed {
    /// The time that this share of the requests did not exceed.
    pub fn percentile(&self, share: f64) -> f64 {
        let last = self.times.len().saturating_sub(1);
        let at = (last as f64 * share) as usize;
        self.times.get(at).copied().unwrap_or(f64::NAN)
    }
}

/// One request and its response.
pub fn ask(wire: &mut Wire, request: &[u8]) -> io::Result<()> {
    wire.write(request)?;
    answer(wire)
}

fn answer(wire: &mut Wire) -> io::Result<()> {
    let head = wire.read_head()?.ok_or_else(|| bad("closed instead of answering"))?;
    match status(&head) {
        200 => wire.skip_body(&head),
        other => Err(bad(format!("status {other}"))),
    }
}

/// A connection on which one request was answered.
pub fn client(address: SocketAddr) -> io::Result<Wire> {
    let mut wire = Wire::connect(address)?;
    ask(&mut wire, GET)?;
    Ok(wire)
}

/// Another request on a connection.
pub fn again(wire: &mut Wire) -> io::Result<()> {
    ask(wire, GET)
}

/// Lets that much time pass; a park alone may end at once.
pub fn wait(time: Duration) {
    let since = Instant::now();
    while let Some(left) = time.checked_sub(since.elapsed()) {
        thread::park_timeout(left);
    }
}

/// Runs `work` once for each of `places` at the same time, and measures from when all are ready and
/// `warm_up` is over.
fn race<T: Send, U: Send>(
    proxy: &Proxy,
    places: Vec<T>,
    warm_up: Duration,
    work: impl Fn(T) -> io::Result<U> + Sync,
) -> io::Result<(Speed, Vec<U>)> {
    let barrier = Barrier::new(places.len() + 1);
    thread::scope(|scope| {
        let (barrier, work) = (&barrier, &work);
        let start = |place| {
            scope.spawn(move || {
                barrier.wait();
                work(place)
            })
        };
        let threads: Vec<_> = places.into_iter().map(start).collect();
        let now = || Ok::<_, io::Error>((proxy.cpu()?, Instant::now()));
        // Before the others run, who may keep this thread from it for a while.
        let mut begin = now()?;
        barrier.wait();
        if !warm_up.is_zero() {
            wait(warm_up);
            begin = now()?;
        }
        let (cpu, since) = begin;
        let ended = threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(bad("a panic"))));
        let results = ended.collect::<io::Result<Vec<U>>>()?;
        let seconds = since.elapsed().as_secs_f64();
        Ok((Speed { seconds, cpu: proxy.cpu()? - cpu, times: Vec::new() }, results))
    })
}

/// Requests on as many connections that stay, for so long, and for as long before to warm up: until
/// the kernel has settled which thread runs where.
pub fn keep_alive(proxy: &Proxy, connections: usize, duration: Duration) -> io::Result<Speed> {
    let clients =
        (0..connections).map(|_| client(proxy.address)).collect::<io::Result<Vec<_>>>()?;
    let (mut speed, times) = race(proxy, clients, duration, |mut wire| {
        let mut times = Vec::new();
        let mut before = Instant::now();
        let start = before + duration;
        let end = start + duration;
        while before < end {
            again(&mut wire)?;
            let now = Instant::now();
            if before >= start {
                times.push((now - before).as_secs_f64());
            }
            before = now;
        }
        Ok(times)
    })?;
    speed.times = times.concat();
    speed.times.sort_by(f64::total_cmp);
    Ok(speed)
}

/// So many requests, each on a new connection, from as many clients at a time.
pub fn fresh(proxy: &Proxy, requests: usize, clients: usize) -> io::Result<Speed> {
    let (mut speed, times) = race(proxy, vec![(); clients], Duration::ZERO, |()| {
        let mut times = Vec::new();
        for _ in 0..requests / clients {
            let since = Instant::now();
            let wire = client(proxy.address)?;
            times.push(since.elapsed().as_secs_f64());
            wire.reset()?;
        }
        Ok(times)
    })?;
    speed.times = times.concat();
    speed.times.sort_by(f64::total_cmp);
    Ok(speed)
}

/// Opens a tunnel.
fn tunnel(address: SocketAddr) -> io::Result<Wire> {
    let mut wire = Wire::connect(address)?;
    wire.write(b"CONNECT origin.bench:443 HTTP/1.1\r\nHost: origin.bench:443\r\n\r\n")?;
    match wire.read_head()? {
        Some(head) if status(&head) == 200 => Ok(wire),
        Some(head) => Err(bad(format!("status {}", status(&head)))),
        None => Err(bad("closed instead of answering")),
    }
}

/// Says what is to happen in a tunnel.
fn order(wire: &mut Wire, kind: u8, length: u64) -> io::Result<()> {
    let mut order = vec![kind];
    order.extend(length.to_be_bytes());
    wire.write(&order)
}

/// Moves `length` bytes in all, in so many streams.
pub fn bulk(proxy: &Proxy, bulk: Bulk, streams: usize, length: u64) -> io::Result<Speed> {
    let share = length / streams as u64;
    let open = |_| match bulk {
        Bulk::TunnelUp | Bulk::TunnelDown => tunnel(proxy.address),
        _ => client(proxy.address),
    };
    let wires = (0..streams).map(open).collect::<io::Result<Vec<_>>>()?;
    let (speed, _) = race(proxy, wires, Duration::ZERO, |mut wire| {
        let head = |line: &str, field: &str| {
            format!("{line} HTTP/1.1\r\n{FIELDS}{field}\r\n").into_bytes()
        };
        let get = |kind| head(&format!("GET http://origin.bench/{kind}/{share}"), "");
        let post = |field| head("POST http://origin.bench/", field);
        match bulk {
            Bulk::TunnelDown => {
                order(&mut wire, b'D', share)?;
                wire.skip(share)
            }
            Bulk::TunnelUp => {
                order(&mut wire, b'U', share)?;
                wire.pour(share)?;
                wire.read_exact::<1>().map(|_| ())
            }
            Bulk::Download => ask(&mut wire, &get("length")),
            Bulk::ChunkedDownload => ask(&mut wire, &get("chunked")),
            Bulk::Upload => {
                wire.write(&post(&format!("Content-Length: {share}\r\n")))?;
                wire.pour(share)?;
                answer(&mut wire)
            }
            Bulk::ChunkedUpload => {
                wire.write(&post("Transfer-Encoding: chunked\r\n"))?;
                wire.pour_chunked(share)?;
                answer(&mut wire)
            }
        }
    })?;
    Ok(speed)
}

/// Many clients that are there and say nothing.
pub struct Crowd(Vec<Wire>);

impl Crowd {
    /// So many tunnels, each of which carried a byte each way and will carry `later` more.
    pub fn of_tunnels(address: SocketAddr, count: usize, later: u64) -> io::Result<Self> {
        Self::gather(count, || {
            let mut wire = tunnel(address)?;
            order(&mut wire, b'E', later + 1)?;
            echo(&mut wire)?;
            Ok(wire)
        })
    }

    /// So many connections, on each of which one request was answered.
    pub fn of_clients(address: SocketAddr, count: usize) -> io::Result<Self> {
        Self::gather(count, || client(address))
    }

    fn gather(count: usize, mut one: impl FnMut() -> io::Result<Wire>) -> io::Result<Self> {
        let rested = |mut wire: Wire| {
            wire.rest();
            wire
        };
        (0..count).map(|_| one().map(rested)).collect::<io::Result<_>>().map(Self)
    }

    /// Each of them once more.
    pub fn each(&mut self, mut act: impl FnMut(&mut Wire) -> io::Result<()>) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|wire| {
            act(wire)?;
            wire.rest();
            Ok(())
        })
    }
}

/// A byte there and back.
pub fn echo(wire: &mut Wire) -> io::Result<()> {
    wire.write(b"?")?;
    match wire.read_exact()? {
        [b'?'] => Ok(()),
        _ => Err(bad("an echo that is none")),
    }
}
