//! The processes that are compared, what they cost, and their end.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::wire::bad;

/// Enough connections wait to be accepted that none is ever turned away.
const BACKLOG: i32 = 4096;
/// How long a program may take to serve.
const START: Duration = Duration::from_secs(10);
/// The unit of times in /proc/PID/stat, USER_HZ: the same on every architecture of today.
const TICKS_PER_SECOND: f64 = 100.0;

/// Who is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    Ntlmaps,
    HaProxy,
    /// Two threads for each connection that copy, and look at nothing.
    Relay,
    /// The same with one thread, which sends a request on and waits for the response: what a proxy
    /// with a thread for each client costs that does nothing else.
    Turns,
    Cntlm,
    /// Nothing in between: how fast both ends are.
    Nobody,
}

impl Who {
    pub const ALL: [Self; 6] =
        [Self::Ntlmaps, Self::HaProxy, Self::Relay, Self::Turns, Self::Cntlm, Self::Nobody];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ntlmaps => "ntlmaps",
            Self::HaProxy => "HAProxy",
            Self::Relay => "relay",
            Self::Turns => "1 thread",
            Self::Cntlm => "cntlm",
            Self::Nobody => "nobody",
        }
    }
}

/// Where everything is.
pub struct Bench {
    /// The release binary.
    pub binary: PathBuf,
    /// For configuration files; gone at the end.
    directory: PathBuf,
    parent: Parent,
}

impl Bench {
    /// Starts the parent. `directory` is made, and removed at the end.
    pub fn new(binary: PathBuf, directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        Ok(Self { binary, directory, parent: Parent::start()? })
    }

    /// Logins that the parent saw, and connections that are open there now.
    pub fn counts(&mut self) -> io::Result<[u64; 2]> {
        writeln!(self.parent.orders)?;
        self.parent.numbers()
    }

    /// Starts a contender; `None` when its program is not installed.
    pub fn start(&self, who: Who) -> io::Result<Option<Proxy>> {
        match who {
            Who::Ntlmaps => self.ntlmaps().map(Some),
            Who::HaProxy => self.installed(who, "haproxy", &["-db", "-f"], HAPROXY),
            Who::Cntlm => self.installed(who, "cntlm", &["-f", "-c"], CNTLM),
            Who::Relay | Who::Turns => {
                let role = if who == Who::Relay { "--relay" } else { "--turns" };
                let mut process = myself(&[role, &self.parent.open.to_string()])?;
                let address = local(first_port(&mut process)?);
                Ok(Some(Proxy { who, address, process: Some(process) }))
            }
            Who::Nobody => Ok(Some(Proxy { who, address: self.parent.open, process: None })),
        }
    }

    fn ntlmaps(&self) -> io::Result<Proxy> {
        let file = self.config("ntlmaps.cfg", NTLMAPS, 0)?;
        let mut command = Command::new(&self.binary);
        command.arg("-c").arg(file).env_remove("RUST_LOG").stdout(Stdio::piped());
        let mut process = Process(command.spawn()?);
        let address = local(first_port(&mut process)?);
        Ok(Proxy { who: Who::Ntlmaps, address, process: Some(process) })
    }

    /// Starts a program that is told its port and says nothing when it serves.
    fn installed(
        &self,
        who: Who,
        program: &str,
        options: &[&str],
        config: &str,
    ) -> io::Result<Option<Proxy>> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        let Some(program) = places.map(|place| place.join(program)).find(|file| file.is_file())
        else {
            return Ok(None);
        };
        let address = listener(local(0))?.local_addr()?;
        let file = self.config(who.name(), config, address.port())?;
        let mut command = Command::new(program);
        command.args(options).arg(file).stdin(Stdio::null()).stdout(Stdio::null());
        let process = Process(command.stderr(Stdio::null()).spawn()?);
        let since = Instant::now();
        while TcpStream::connect(address).is_err() {
            if since.elapsed() > START {
                return Err(bad(format!("{} does not serve", who.name())));
            }
            thread::park_timeout(Duration::from_millis(2));
        }
        Ok(Some(Proxy { who, address, process: Some(process) }))
    }

    fn config(&self, name: &str, text: &str, port: u16) -> io::Result<PathBuf> {
        let file = self.directory.join(name);
        let text = text
            .replace("%NTLM%", &self.parent.demanding.to_string())
            .replace("%OPEN%", &self.parent.open.to_string())
            .replace("%PORT%", &port.to_string());
        let mut open = File::options();
        // ntlmaps warns where others can read a secret.
        open.mode(0o600).write(true).create(true).truncate(true);
        open.open(&file)?.write_all(text.as_bytes())?;
        Ok(file)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.directory));
    }
}

const NTLMAPS: &str = "\
[GENERAL]
LISTEN_PORT: 0
LISTEN_ADDRESS: 127.0.0.1
PARENT_PROXY: %NTLM%
[NTLM_AUTH]
USER: CORP\\bench
NT_HASHED_PW: 0123456789abcdef0123456789abcdef
";

/// Splicing wherever it can be done: better here than `splice-auto`, which hesitates.
const HAPROXY: &str = "\
defaults
  mode http
  timeout connect 10s
  timeout client 120s
  timeout server 120s
  http-reuse always
  option splice-request
  option splice-response
frontend clients
  bind 127.0.0.1:%PORT%
  default_backend parent
backend parent
  server parent %OPEN%
";

const CNTLM: &str = "\
Username bench
Domain CORP
Auth NTLMv2
PassNTLMv2 0123456789ABCDEF0123456789ABCDEF
Workstation BENCH
Proxy %NTLM%
Listen 127.0.0.1:%PORT%
";

/// A contender that serves.
pub struct Proxy {
    pub who: Who,
    pub address: SocketAddr,
    process: Option<Process>,
}

impl Proxy {
    fn proc(&self, file: &str) -> io::Result<String> {
        let id = self.process.as_ref().map_or(0, |process| process.0.id());
        fs::read_to_string(format!("/proc/{id}/{file}"))
    }

    /// Seconds of processor time until now.
    pub fn cpu(&self) -> io::Result<f64> {
        if self.process.is_none() {
            return Ok(f64::NAN);
        }
        let stat = self.proc("stat")?;
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        // utime and stime are the 14th and 15th, the name was the 2nd.
        let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
        Ok(ticks.sum::<f64>() / TICKS_PER_SECOND)
    }

    /// Resident memory, in kB.
    pub fn memory(&self) -> io::Result<f64> {
        Ok(status(&self.proc("status")?, "VmRSS:"))
    }

    /// How often its threads have left the processor: each wake-up ends like this.
    pub fn switches(&self) -> io::Result<f64> {
        let id = self.process.as_ref().map_or(0, |process| process.0.id());
        let mut sum = 0.0;
        for task in fs::read_dir(format!("/proc/{id}/task"))? {
            let text = fs::read_to_string(task?.path().join("status"))?;
            sum += status(&text, "voluntary_ctxt_switches:");
            sum += status(&text, "nonvoluntary_ctxt_switches:");
        }
        Ok(sum)
    }
}

fn status(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(f64::NAN)
}

/// A child that does not outlive us.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

struct Parent {
    _process: Process,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    demanding: SocketAddr,
    open: SocketAddr,
}

impl Parent {
    fn start() -> io::Result<Self> {
        let mut process = myself(&["--parent"])?;
        let missing = || bad("a child without pipes");
        let orders = process.0.stdin.take().ok_or_else(missing)?;
        let answers = BufReader::new(process.0.stdout.take().ok_or_else(missing)?);
        let nowhere = local(0);
        let mut parent =
            Self { _process: process, orders, answers, demanding: nowhere, open: nowhere };
        let [demanding, open] = parent.numbers()?;
        let port = |number: u64| local(u16::try_from(number).unwrap_or(0));
        (parent.demanding, parent.open) = (port(demanding), port(open));
        Ok(parent)
    }

    fn numbers(&mut self) -> io::Result<[u64; 2]> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let numbers: Vec<u64> = line.split_whitespace().flat_map(str::parse).collect();
        numbers.try_into().map_err(|_| bad(format!("the parent says {line:?}")))
    }
}

/// This program again, in another role.
fn myself(arguments: &[&str]) -> io::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    Ok(Process(command.spawn()?))
}

/// The last number of the only line that a child prints: its port.
fn first_port(process: &mut Process) -> io::Result<u16> {
    let out = process.0.stdout.as_mut().ok_or_else(|| bad("a child without output"))?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    let port = line.split_whitespace().next_back().and_then(|word| word.parse().ok());
    port.ok_or_else(|| bad(format!("a child says {line:?}")))
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A listener at which thousands may queue; std's has room for 128.
pub fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// The bare relays: what a proxy costs that does nothing at all.
pub fn relay(to: SocketAddr, in_turns: bool) -> io::Result<()> {
    let listener = listener(local(0))?;
    println!("{}", listener.local_addr()?.port());
    for client in listener.incoming() {
        let (client, server) = (client?, TcpStream::connect(to)?);
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        if in_turns {
            thread::spawn(move || take_turns(&client, &server));
        } else {
            let (client2, server2) = (client.try_clone()?, server.try_clone()?);
            thread::spawn(move || copy(&client, &server));
            thread::spawn(move || copy(&server2, &client2));
        }
    }
    Ok(())
}

fn copy(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let mut block = vec![0; 64 * 1024];
    while pass(from, to, &mut block)? {}
    Ok(())
}

/// For messages that come in one piece.
fn take_turns(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    let mut block = vec![0; 64 * 1024];
    while pass(client, server, &mut block)? && pass(server, client, &mut block)? {}
    Ok(())
}

/// Passes on what one read yields; `false` at the end.
fn pass(mut from: &TcpStream, mut to: &TcpStream, block: &mut [u8]) -> io::Result<bool> {
    let count = from.read(block)?;
    if count == 0 {
        to.shutdown(std::net::Shutdown::Write)?;
    }
    to.write_all(block.get(..count).unwrap_or_default())?;
    Ok(count > 0)
}

/// Where cargo puts what it builds.
pub fn target_directory() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    own.ancestors().nth(3).map(Path::to_owned).ok_or_else(|| bad("not started by cargo"))
}
