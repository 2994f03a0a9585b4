//! The only file that knows the operating system beyond std. Linux is what is promised and tested;
//! another system is a port of this file.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use rustix::pipe::{PipeFlags, SpliceFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::calendar;

/// Whether a connection that should be idle is: open, and nothing came. Any byte, an end or an
/// error means that it is spoiled.
pub fn is_quiet(stream: &TcpStream) -> bool {
    matches!(peek(stream), Err(Errno::AGAIN))
}

/// Whether a connection was ended by its peer, or is broken.
pub fn has_ended(stream: &TcpStream) -> bool {
    !matches!(peek(stream), Ok(1..) | Err(Errno::AGAIN))
}

/// Whether a peer has said its last, whatever is still to be read of it, and whether it is gone.
pub fn farewell(stream: &TcpStream) -> (bool, bool) {
    let mut fd = PollFd::new(stream, PollFlags::RDHUP);
    let now = Timespec::try_from(Duration::ZERO).ok();
    let told = rustix::event::poll(std::slice::from_mut(&mut fd), now.as_ref()) == Ok(1);
    (told, told && fd.revents().intersects(PollFlags::HUP | PollFlags::ERR))
}

/// The number of the processor that this thread runs on. It may run on another one at once.
pub fn processor() -> usize {
    rustix::thread::sched_getcpu()
}

fn peek(stream: &TcpStream) -> Result<usize, Errno> {
    let mut byte = [0_u8; 1];
    rustix::net::recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT)
        .map(|(count, _)| count)
}

/// Reads once, behind what is in `buffer` and within its capacity; 0 at the end. Memory that is not
/// read into is not touched.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] when the read timeout ran out; others when the connection broke.
pub fn receive(stream: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    rustix::io::retry_on_intr(|| {
        rustix::net::recv(stream, spare_capacity(buffer), RecvFlags::empty())
    })
    .map(|(count, _)| count)
    .map_err(io::Error::from)
}

/// Sends what fits without waiting; `None` when nothing does.
///
/// # Errors
/// When the connection is broken.
pub fn send_now(stream: &TcpStream, bytes: &[u8]) -> io::Result<Option<usize>> {
    would_block(rustix::net::send(stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL))
}

fn would_block<T>(result: Result<T, Errno>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What to wait for at a socket, and what came of it.
pub struct Wait<'a> {
    /// The socket.
    pub socket: BorrowedFd<'a>,
    /// Wait until it can be read: bytes, an end, or an error.
    pub read: bool,
    /// Wait until it can be written.
    pub write: bool,
    /// Set by [`poll`]: one of the wishes is fulfilled, or the connection is broken.
    pub ready: bool,
}

impl<'a> Wait<'a> {
    /// Waits until there is something to read.
    pub fn readable(socket: &'a impl AsFd) -> Self {
        Self { socket: socket.as_fd(), read: true, write: false, ready: false }
    }

    /// Waits until something can be written.
    pub fn writable(socket: &'a impl AsFd) -> Self {
        Self { socket: socket.as_fd(), read: false, write: true, ready: false }
    }
}

/// Waits until one of the sockets is ready. A socket without a wish is left out altogether: the
/// kernel would report its hang-up over and over. `false` when the time ran out.
///
/// # Errors
/// When the kernel cannot poll.
pub fn poll(waits: &mut [Wait<'_>], timeout: Option<Duration>) -> io::Result<bool> {
    let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(waits.len());
    for wait in waits.iter().filter(|wait| wait.read || wait.write) {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, wait.read);
        flags.set(PollFlags::OUT, wait.write);
        fds.push(PollFd::from_borrowed_fd(wait.socket, flags));
    }
    let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
    let ready = loop {
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            // A signal starts the wait anew, longer than asked; nothing here is that exact.
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let outcomes: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    drop(fds);
    let asked = waits.iter_mut().filter(|wait| wait.read || wait.write);
    for (wait, outcome) in asked.zip(outcomes) {
        wait.ready = outcome;
    }
    Ok(ready > 0)
}

/// Waits for any number of sockets at once, some of which come and go meanwhile.
pub struct Watch {
    all: OwnedFd,
    /// Can always be read, and is watched only to be woken.
    bell: OwnedFd,
}

impl Watch {
    /// No place.
    const NOBODY: epoll::EventData = epoll::EventData::new_u64(u64::MAX);

    /// Waits for none yet.
    ///
    /// # Errors
    /// When there is no descriptor for it.
    pub fn new() -> io::Result<Self> {
        let all = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let bell = eventfd(1, EventfdFlags::CLOEXEC)?;
        epoll::add(&all, &bell, Self::NOBODY, epoll::EventFlags::ONESHOT)?;
        Ok(Self { all, bell })
    }

    /// Ends a wait, or the next one: it tells of somebody at a place that is none.
    pub fn wake(&self) {
        let once = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        let woken = epoll::modify(&self.all, &self.bell, Self::NOBODY, once);
        woken.unwrap_or_else(|error| log::debug!("nobody was woken: {error}"));
    }

    /// From now on waits until this one can be read, too; `place` is what it is known by.
    ///
    /// # Errors
    /// When the system watches too many already.
    pub fn add(&self, stream: &TcpStream, place: usize) -> io::Result<()> {
        let data = epoll::EventData::new_u64(u64::try_from(place).unwrap_or(u64::MAX));
        Ok(epoll::add(&self.all, stream, data, epoll::EventFlags::IN)?)
    }

    /// No longer waits for that one.
    pub fn remove(&self, stream: &TcpStream) {
        if let Err(error) = epoll::delete(&self.all, stream) {
            log::trace!("a socket was not watched: {error}");
        }
    }

    /// Waits until some can be read, or are broken, and tells which; none when the time ran out.
    ///
    /// # Errors
    /// When the kernel cannot wait.
    pub fn wait(&self, limit: Option<Duration>) -> io::Result<Vec<usize>> {
        let mut events = Vec::with_capacity(64);
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        match epoll::wait(&self.all, spare_capacity(&mut events), limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let place = |event: &epoll::Event| usize::try_from(event.data.u64()).ok();
        Ok(events.iter().filter_map(place).collect())
    }
}

/// Descriptors for everything but clients.
pub const LAST_DESCRIPTORS: u64 = 64;

/// Whether it was for want of a descriptor.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::MFILE)
}

/// A pipe to move bytes between two sockets without copying them.
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    /// What one splice moves at most.
    capacity: usize,
    /// Bytes on their way.
    pub held: usize,
}

impl Pipe {
    /// The kernel's default size of a pipe, and the largest one that it grants to everybody. Few
    /// large moves cost a third less than many small ones, but all pipes of a user together may
    /// not take more than 64 MB: only a stream that fills the small one gets the large one.
    const SMALL: usize = 64 * 1024;
    const LARGE: usize = 1024 * 1024;

    /// A new, empty pipe.
    ///
    /// # Errors
    /// When there are no descriptors for it, or only the last ones: those are for connections.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // The kernel gives the lowest number that is free.
        let taken = u64::try_from(writer.as_raw_fd()).unwrap_or(0).saturating_add(LAST_DESCRIPTORS);
        if getrlimit(Resource::Nofile).current.is_some_and(|limit| taken > limit) {
            return Err(Errno::MFILE.into());
        }
        Ok(Self { reader, writer, capacity: Self::SMALL, held: 0 })
    }

    /// Takes what has arrived at `from`; `None` when nothing has, `Some(0)` at its end.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn fill(&mut self, from: &TcpStream) -> io::Result<Option<usize>> {
        self.fill_up_to(from, u64::MAX)
    }

    /// The same, but no more than `most`.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn fill_up_to(&mut self, from: &TcpStream, most: u64) -> io::Result<Option<usize>> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.capacity);
        let moved = splice(from.as_fd(), self.writer.as_fd(), most)?;
        self.held = self.held.saturating_add(moved.unwrap_or(0));
        if self.held >= Self::SMALL && self.capacity == Self::SMALL {
            self.capacity = Self::LARGE;
            if let Err(error) = rustix::pipe::fcntl_setpipe_size(&self.writer, Self::LARGE) {
                log::trace!("a pipe stays small: {error}");
            }
        }
        Ok(moved)
    }

    /// Hands to `to` what it takes without waiting; `None` when that is nothing.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn drain(&mut self, to: &TcpStream) -> io::Result<Option<usize>> {
        let moved = splice(self.reader.as_fd(), to.as_fd(), self.held)?;
        self.held = self.held.saturating_sub(moved.unwrap_or(0));
        Ok(moved)
    }

    /// Hands everything to `to`, however long that takes.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn empty(&mut self, to: &TcpStream) -> io::Result<()> {
        while self.held > 0 {
            if self.drain(to)?.is_none() {
                poll(&mut [Wait::writable(to)], None)?;
            }
        }
        Ok(())
    }
}

fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, length: usize) -> io::Result<Option<usize>> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    // The sockets are blocking ones: NONBLOCK alone speaks only for the pipe. A caller asks after
    // poll said yes, so that a read does not wait; a write may, for a moment.
    would_block(rustix::pipe::splice(from, None, to, None, length, flags))
}

/// Has the kernel find out about a peer that vanished: after a minute of silence it asks, three
/// times in a minute.
///
/// # Errors
/// When the socket is broken.
pub fn set_keepalive(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(20))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}

/// Between two programs of one machine there is no path to be careful with. An algorithm that paces
/// (BBR, which some systems take for everything) arms a timer for each burst all the same, and a
/// tunnel spends most of its processor time on those: this one only counts losses, and every kernel
/// has it.
pub fn spare_pacing(stream: &TcpStream) {
    if stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback())
        && let Err(error) = sockopt::set_tcp_congestion(stream, "reno")
    {
        log::trace!("a connection keeps its congestion control: {error}");
    }
}

/// Has the kernel give a connection up whose peer acknowledges nothing for so long; `None`: as long
/// as the system always waits, a quarter of an hour.
pub fn set_patience(stream: &TcpStream, patience: Option<Duration>) {
    let millis = patience.map_or(0, |p| u32::try_from(p.as_millis()).unwrap_or(u32::MAX));
    if let Err(error) = sockopt::set_tcp_user_timeout(stream, millis) {
        log::debug!("a connection's patience cannot be set: {error}");
    }
}

/// Ends a connection by a reset, not an orderly end: the peer is to see that something is missing.
pub fn reset(stream: &TcpStream) {
    if let Err(error) = sockopt::set_socket_linger(stream, Some(Duration::ZERO)) {
        log::debug!("a connection cannot be reset: {error}");
    }
}

/// A listener, with a backlog of so many connections that wait to be accepted. `::` takes no IPv4
/// clients, so that it can stand beside `0.0.0.0`; a port of connections that are still winding
/// down can be had.
///
/// # Errors
/// When the address cannot be had.
pub fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let (family, flags) = match address {
        SocketAddr::V4(_) => (AddressFamily::INET, SocketFlags::CLOEXEC),
        SocketAddr::V6(_) => (AddressFamily::INET6, SocketFlags::CLOEXEC),
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, backlog)?;
    Ok(socket.into())
}

/// Lets so many connections wait from now on.
///
/// # Errors
/// When it listens no more.
pub fn set_backlog(listener: &TcpListener, backlog: i32) -> io::Result<()> {
    Ok(rustix::net::listen(listener, backlog)?)
}

/// Closes the queue of a listener and wakes whoever waits there for a client.
pub fn stop_listening(listener: &TcpListener) {
    if let Err(error) = rustix::net::shutdown(listener, rustix::net::Shutdown::Both) {
        log::debug!("a listener did not close: {error}");
    }
}

/// The name of this machine.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Raises the limit of open descriptors as far as allowed; returns it.
pub fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// How much more memory this process may map; `None` where that is not limited, or not known.
pub fn memory_left() -> Option<usize> {
    let limit = getrlimit(Resource::As).current?;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // vsize is the 23rd field; the second, a name in brackets, may hold blanks.
    let size = stat.rsplit(')').next()?.split_ascii_whitespace().nth(20)?.parse().ok()?;
    usize::try_from(limit.saturating_sub(size)).ok()
}

/// Runs `action` in a thread of its own whenever one of these signals arrives, instead of ending.
fn on(signals: &[i32], mut action: Box<dyn FnMut() + Send>) -> io::Result<()> {
    let (mut arrivals, sender) = UnixStream::pair()?;
    for signal in signals {
        signal_hook::low_level::pipe::register(*signal, sender.try_clone()?)?;
    }
    std::thread::Builder::new().stack_size(256 * 1024).spawn(move || {
        while arrivals.read_exact(&mut [0]).is_ok() {
            action();
        }
    })?;
    Ok(())
}

/// Calls `action` for each SIGHUP.
///
/// # Errors
/// When the handler cannot be installed or its thread not started.
pub fn on_hang_up(action: impl FnMut() + Send + 'static) -> io::Result<()> {
    on(&[SIGHUP], Box::new(action))
}

/// Calls `action` for each SIGTERM and SIGINT.
///
/// # Errors
/// As [`on_hang_up`].
pub fn on_terminate(action: impl FnMut() + Send + 'static) -> io::Result<()> {
    on(&[SIGTERM, SIGINT], Box::new(action))
}

/// A terminal that does not show what is typed, until this is dropped.
pub struct EchoOff(rustix::termios::Termios);

impl EchoOff {
    /// Switches the echo of standard input off.
    ///
    /// # Errors
    /// When standard input is no terminal.
    pub fn new() -> io::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        quiet.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        if let Err(error) = tcsetattr(io::stdin(), OptionalActions::Now, &self.0) {
            log::warn!("the terminal's echo cannot be switched on again: {error}");
        }
    }
}

/// Random bytes from the kernel, without a device file: there is none in an empty root.
///
/// # Errors
/// When the kernel has none to give.
pub fn random() -> io::Result<[u8; 8]> {
    let mut bytes = [0; 8];
    // So few bytes come whole or not at all.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())? {
        8 => Ok(bytes),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// From 1601 to 1970, in units of 100 nanoseconds.
const FILE_TIME_OF_1970: u64 = 116_444_736_000_000_000;

/// The time as FILETIME (MS-DTYP 2.3.3): 100-nanosecond units since 1601-01-01.
pub fn file_time() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    FILE_TIME_OF_1970.saturating_add(u64::try_from(since.as_nanos() / 100).unwrap_or(0))
}

/// A FILETIME for messages, as [`utc_now`]; 1970 is the earliest there is.
pub fn utc_of(file_time: u64) -> String {
    calendar::utc(file_time.saturating_sub(FILE_TIME_OF_1970) / 10_000_000)
}

/// The time, for messages: `2026-11-22T15:04:05Z`.
pub fn utc_now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    calendar::utc(since.as_secs())
}
