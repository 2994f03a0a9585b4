//! A listening socket with a thread per connection, all of which end when it is dropped.

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A poisoned lock only means that a test has failed already.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Listener {
    addr: SocketAddr,
    live: Arc<Live>,
    accepting: Option<JoinHandle<bool>>,
}

impl Listener {
    /// `serve` gets the number of the connection, from 1, and its socket.
    pub fn start<F>(at: &str, serve: F) -> io::Result<Self>
    where
        F: Fn(usize, TcpStream, &Arc<Live>) + Send + Sync + 'static,
    {
        Self::serve(TcpListener::bind(at)?, serve)
    }

    /// The same with a socket that listens already.
    pub fn serve<F>(listener: TcpListener, serve: F) -> io::Result<Self>
    where
        F: Fn(usize, TcpStream, &Arc<Live>) + Send + Sync + 'static,
    {
        let addr = listener.local_addr()?;
        let live = Arc::new(Live::default());
        let (for_thread, serve) = (Arc::clone(&live), Arc::new(serve));
        let accepting = thread::spawn(move || accept(&listener, &for_thread, &serve));
        Ok(Self { addr, live, accepting: Some(accepting) })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections were ever accepted.
    pub fn connections(&self) -> usize {
        lock(&self.live.state).accepted
    }

    /// Stops listening and cuts every connection, as a parent that dies does; afterwards its port
    /// refuses.
    pub fn stop(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        self.live.stop();
        // The accept call only returns for a connection.
        drop(TcpStream::connect(self.addr));
        let fine = accepting.join().unwrap_or(false);
        assert!(
            fine || thread::panicking(),
            "a connection of a test peer panicked, see its message above"
        );
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept<F>(listener: &TcpListener, live: &Arc<Live>, serve: &Arc<F>) -> bool
where
    F: Fn(usize, TcpStream, &Arc<Live>) + Send + Sync + 'static,
{
    let mut workers: Vec<JoinHandle<()>> = Vec::new();
    let mut fine = true;
    for stream in listener.incoming() {
        let (done, running): (Vec<_>, Vec<_>) =
            workers.into_iter().partition(JoinHandle::is_finished);
        workers = running;
        fine &= done.into_iter().all(|worker| worker.join().is_ok());
        let Ok(stream) = stream else { continue };
        let Some((number, held)) = live.admit(&stream) else { break };
        let (live, serve) = (Arc::clone(live), Arc::clone(serve));
        workers.push(thread::spawn(move || {
            serve(number, stream, &live);
            drop(held);
        }));
    }
    workers.into_iter().fold(fine, |fine, worker| worker.join().is_ok() && fine)
}

/// The sockets in use, so that whoever waits on one can be woken by shutting it down.
#[derive(Default)]
pub struct Live {
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Default)]
struct State {
    stopping: bool,
    accepted: usize,
    next: usize,
    sockets: BTreeMap<usize, TcpStream>,
}

impl Live {
    fn admit(self: &Arc<Self>, stream: &TcpStream) -> Option<(usize, Held)> {
        let held = self.hold(stream)?;
        let mut state = lock(&self.state);
        state.accepted += 1;
        Some((state.accepted, held))
    }

    /// Registers one more socket of a connection; `None` once all is to end.
    pub fn hold(self: &Arc<Self>, stream: &TcpStream) -> Option<Held> {
        let copy = stream.try_clone().ok()?;
        let mut state = lock(&self.state);
        if state.stopping {
            return None;
        }
        state.next += 1;
        let key = state.next;
        state.sockets.insert(key, copy);
        Some(Held { live: Arc::clone(self), key })
    }

    fn stop(&self) {
        let mut state = lock(&self.state);
        state.stopping = true;
        for socket in state.sockets.values() {
            _ = socket.shutdown(Shutdown::Both);
        }
        self.stopped.notify_all();
    }

    /// Waits for the end of the listener: how a peer that has stopped reading passes its time.
    pub fn wait_for_stop(&self, limit: Duration) {
        let state = lock(&self.state);
        _ = self.stopped.wait_timeout_while(state, limit, |state| !state.stopping);
    }
}

/// A registered socket; dropping this forgets it, which lets it close.
pub struct Held {
    live: Arc<Live>,
    key: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.live.state).sockets.remove(&self.key);
    }
}
