//! Messages: where they go, which are told, and that they tell no secret.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use rustix::net::listen;
use rustix::process::{Pid, Signal, kill_process};

use crate::process::{Place, Serving};
use crate::proxy::{ALICE, LOGIN, NOBODY, url};
use crate::refusals::dead_port;
use crate::support::gate::Rules;
use crate::support::{Acceptor, Client, DEADLINE, Origin, Parent};

pub const TO_FILE: &str = "LOG_FILE: the.log\n";

/// A configuration file: lines of each section, and where to listen.
pub fn cfg(general: &str, account: &str, debug: &str) -> String {
    format!(
        "[GENERAL]\nLISTEN_ADDRESS: 127.0.0.1\nLISTEN_PORT: 0\n{general}\n\
         [NTLM_AUTH]\n{account}[DEBUG]\n{debug}\n"
    )
}

/// The bytes that the rows of a hexadecimal dump show, of all heads and bodies in their order.
pub fn dumped(log: &str) -> String {
    let mut bytes = Vec::new();
    for line in log.lines() {
        let Some((row, _text)) = line.split_once(" |") else { continue };
        let row = row.rsplit_once(" TRACE ").map_or("", |(_, row)| row);
        let digits = row.split_whitespace().filter(|word| word.len() == 2);
        bytes.extend(digits.map(|word| u8::from_str_radix(word, 16).expect("two digits")));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A process that logs to a file of its own directory; killed when dropped.
pub struct Logging {
    place: Place,
    child: Child,
}

impl Logging {
    pub fn start(cfg: &str) -> Self {
        let place = Place::with("ntlmaps.cfg", cfg);
        let command = place.command(&[]);
        Self::with(place, command)
    }

    fn with(place: Place, mut command: Command) -> Self {
        let alone = fs::Permissions::from_mode(0o600);
        fs::set_permissions(place.path("ntlmaps.cfg"), alone).expect("a file of ours");
        let child = command.spawn().expect("the program starts");
        Self { place, child }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.place.path("the.log")).unwrap_or_default()
    }

    /// The log, once a line with `text` is in it.
    pub fn wait_for(&self, text: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            let log = self.log();
            if log.lines().any(|line| line.contains(text)) && log.ends_with('\n') {
                return log;
            }
            assert!(Instant::now() < until, "no {text} in\n{log}");
            thread::yield_now();
        }
    }

    pub fn address(&self) -> SocketAddr {
        let log = self.wait_for(" started as process ");
        let (_, addresses) = log.split_once(" at ").expect("where it listens");
        let (address, _) = addresses.split_once('\n').expect("a line");
        address.parse().expect("one address")
    }

    pub fn get(&self, path: &str) -> u16 {
        Client::connect(self.address()).get(&url(path)).status()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a process of ours");
    }

    /// The file says this now, and the program has read it.
    fn reload(&self, cfg: &str) -> String {
        fs::write(self.place.path("ntlmaps.cfg"), cfg).expect("a file of ours");
        fs::rename(self.place.path("the.log"), self.place.path("old.log")).expect("a log");
        self.signal(Signal::HUP);
        self.wait_for("reloaded")
    }

    /// Ends it as it should end; what is in the log and on standard error.
    pub fn stop(mut self) -> (String, String) {
        self.signal(Signal::TERM);
        let until = Instant::now() + DEADLINE;
        while self.child.try_wait().expect("a process of ours").is_none() {
            assert!(Instant::now() < until, "it does not end");
            thread::yield_now();
        }
        assert_eq!(self.child.wait().expect("it ended").code(), Some(0));
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            _ = stderr.read_to_string(&mut said);
        }
        (self.log(), said)
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn a_log_that_was_moved_away_is_opened_anew_and_is_its_owners_alone() {
    let cfg = cfg(TO_FILE, NOBODY, "");
    let logging = Logging::start(&cfg);
    let first = logging.wait_for(" started as process ");
    let second = logging.reload(&cfg);
    assert!(!second.contains("started"), "{second}");
    let old = fs::read_to_string(logging.place.path("old.log")).expect("it was moved");
    assert_eq!(old, first, "nothing goes there any more");
    let mode = fs::metadata(logging.place.path("the.log")).expect("a log").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (log, said) = logging.stop();
    assert!(log.starts_with(&second) && log.ends_with(" stopped\n"), "{log}");
    assert_eq!(said, "");
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error_at_the_start_and_changes_nothing_later() {
    let bad = cfg("LOG_FILE: nowhere/the.log", NOBODY, "");
    let place = Place::with("ntlmaps.cfg", &bad);
    let output = place.command(&[]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(said.starts_with("ntlmaps: LOG_FILE nowhere/the.log: No such file"), "{said}");

    let logging = Logging::start(&cfg(TO_FILE, NOBODY, ""));
    logging.address();
    let log = logging.reload(&bad);
    assert!(log.contains("LOG_FILE nowhere/the.log: No such file"), "{log}");
    // Nor is a file lost that is moved to where none can be made.
    fs::remove_file(logging.place.path("the.log")).expect("a log");
    fs::create_dir(logging.place.path("the.log")).expect("a directory of ours");
    logging.signal(Signal::HUP);
    let (_, said) = logging.stop();
    assert_eq!(said, "");
}

#[test]
fn levels_are_read_again() {
    let origin = Origin::start();
    let parent = Parent::ntlm(ALICE).origin(origin.addr()).start();
    let general = format!("{TO_FILE}PARENT_PROXY: {}", parent.addr());
    let logging = Logging::start(&cfg(&general, LOGIN, ""));
    let address = logging.address();
    let get = || {
        // The answer comes before the last line about it; that of a second request does not.
        let mut client = Client::connect(address);
        _ = client.get(&url("/one"));
        _ = client.get(&url("/two"));
        logging.log()
    };
    let quiet = get();
    assert_eq!(quiet.lines().count(), 1, "{quiet}");
    for (keys, debug, logins, bytes) in [
        ("DEBUG: 1", true, false, false),
        ("AUTH_DEBUG: 1", false, true, false),
        ("BIN_DEBUG: 1", false, false, true),
        ("SCR_DEBUG: 1\nBIN_DEBUG: 0", true, false, false),
        ("DEBUG: 0", false, false, false),
    ] {
        logging.reload(&cfg(&general, LOGIN, keys));
        let log = get();
        for (text, told) in [
            ("request GET http://example.test/one HTTP/1.1\n", debug),
            ("> AUTHENTICATE_MESSAGE: ", logins),
            ("|GET http://examp|", bytes),
        ] {
            assert_eq!(log.contains(text), told, "{keys}\n{log}");
        }
    }
}

#[test]
fn rust_log_alone_decides_where_it_is_set() {
    let place = Place::with("ntlmaps.cfg", &cfg(TO_FILE, NOBODY, "BIN_DEBUG: 1"));
    let mut command = place.command(&["-vv"]);
    command.env("RUST_LOG", "ntlmaps=info,ntlmaps::session=debug");
    let logging = Logging::with(place, command);
    for requests in 1..3 {
        assert_eq!(Client::connect(logging.address()).get("/").status(), 400);
        let log = logging.log();
        assert_eq!(log.matches(" request GET / ").count(), requests, "{log}");
        assert!(!log.contains("TRACE"), "{log}");
        logging.signal(Signal::HUP);
        logging.wait_for("reloaded");
    }
}

#[test]
fn a_full_disk_costs_lines_and_says_so() {
    let origin = Origin::start();
    let general = "LOG_FILE: /dev/full\nURL_LOG: /dev/full";
    let place = Place::with("ntlmaps.cfg", &cfg(general, NOBODY, "DEBUG: 1"));
    let mut serving = Serving::start(place.command(&[]));
    let mut client = Client::connect(serving.address());
    for _ in 0..20 {
        assert_eq!(client.get(&origin.url("/hello")).status(), 200);
    }
    let said = serving.end();
    let losses: Vec<_> = said.lines().filter(|line| line.contains("LOG_FILE /dev/full")).collect();
    assert!(losses[0].contains("No space left on device"), "{said}");
    // At 1, 2, 4, ... of some two hundred.
    assert!((5..12).contains(&losses.len()), "{said}");
}

#[test]
fn trouble_is_summed_up() {
    let origin = Origin::start();
    let general = format!("{TO_FILE}URL_LOG: /dev/full");
    let logging = Logging::start(&cfg(&general, NOBODY, ""));
    let mut client = Client::connect(logging.address());
    let began = Instant::now();
    for _ in 0..50 {
        assert_eq!(client.get(&origin.url("/hello")).status(), 200);
    }
    let seconds = began.elapsed().as_secs();
    drop(client);
    let (log, _) = logging.stop();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(" URL_LOG: ")).collect();
    let most = usize::try_from(seconds).expect("soon") + 2;
    assert!((2..=most).contains(&lines.len()), "{log}");
    let more = |line: &&str| -> usize {
        let (_, more) = line.split_once(" lines are lost").expect("the same words");
        let count = more.strip_prefix(" (").and_then(|more| more.split(' ').next());
        1 + count.map_or(0, |count| count.parse::<usize>().expect("a number"))
    };
    assert_eq!(lines.iter().map(more).sum::<usize>(), 50, "{log}");
    assert!(lines.last().expect("a line").contains(" more like this in the last "), "{log}");
}

#[test]
fn a_parent_that_comes_and_goes_is_told_once() {
    let (port, at) = dead_port();
    let logging = Logging::start(&cfg(&format!("{TO_FILE}PARENT_PROXY: {at}"), NOBODY, ""));
    for _ in 0..3 {
        assert_eq!(logging.get("/"), 502);
    }
    listen(&port, 16).expect("it is bound");
    let origin = Origin::start();
    let parent = Parent::open().origin(origin.addr()).serve(port.into());
    let parent = parent.expect("a socket that listens");
    for _ in 0..3 {
        assert_eq!(logging.get("/hello"), 200);
    }
    drop(parent);
    let (log, _) = logging.stop();
    let lines: Vec<_> = log.lines().filter_map(|line| line.split_once(" parent ")).collect();
    let told: Vec<_> = lines.iter().map(|(_, rest)| rest.rsplit(' ').next()).collect();
    assert_eq!(told, [Some("away"), Some("back")], "{log}");
    assert_eq!(log.lines().count(), 5, "start, away, back, stopping, stopped\n{log}");
}

#[test]
fn debug_tells_the_way_of_a_request() {
    let origin = Origin::start();
    let parent = Parent::ntlm(ALICE).origin(origin.addr()).start();
    let general = format!("{TO_FILE}PARENT_PROXY: {}", parent.addr());
    let logging = Logging::start(&cfg(&general, LOGIN, "DEBUG: 1"));
    let mut clients = [(); 2].map(|()| Client::connect(logging.address()));
    for client in &mut clients {
        assert_eq!(client.get("http://u:s3cret@example.test/hello?s3cret").status(), 200);
    }
    let log = logging.wait_for("goes to the pool");
    let mut told: Vec<Vec<&str>> = Vec::new();
    for client in clients {
        let own = format!(" {} ", client.local());
        let lines = log.lines().filter_map(|line| line.split_once(&own));
        told.push(lines.map(|(_, message)| message).collect());
    }
    let name = format!("the parent proxy {}", parent.addr());
    let expected = [
        "request GET http://example.test/hello HTTP/1.1".to_owned(),
        "route to example.test:80: through a parent proxy".to_owned(),
        format!("a new connection to {name}, from port "),
        "sending GET http://example.test/hello".to_owned(),
        format!("{name} answers 407"),
        "it offers NTLM".to_owned(),
        "sending GET http://example.test/hello with the first word of NTLM".to_owned(),
        format!("{name} answers 407"),
        "it offers NTLM".to_owned(),
        "sending GET http://example.test/hello with the last word of NTLM".to_owned(),
        format!("{name} answers 200"),
        "response 200 with a body by Content-Length".to_owned(),
        format!("the connection to {name} goes to the pool"),
        "done: 200, ".to_owned(),
    ];
    for (line, expected) in told[0].iter().zip(&expected) {
        assert!(line.starts_with(expected), "{expected}\n{log}");
    }
    assert!(told[0].len() >= expected.len() - 1, "{log}");
    assert!(
        told[1][2].starts_with(&format!("a connection of the pool to {name}, from port ")),
        "{log}"
    );
    assert!(!log.contains("s3cret"), "{log}");
}

/// The address at the end of a line that `from` says.
fn told(from: impl Read) -> SocketAddr {
    let mut line = String::new();
    BufReader::new(from).read_line(&mut line).expect("a line");
    let line = line.trim_end().replace(" on port ", ":");
    let (_, address) = line.rsplit_once(" at ").expect("where it listens");
    address.parse().expect("an address")
}

#[test]
fn nobody_who_reads_is_no_reason_to_end() {
    let origin = Origin::start();
    for (closed, file) in [("", ""), (">&-", ""), ("2>&-", ""), (">&- 2>&-", "LOG_FILE: the.log\n")]
    {
        let place = Place::with("ntlmaps.cfg", &cfg(file, NOBODY, "DEBUG: 1"));
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec \"$0\" {closed}")]);
        command.arg(place.command(&[]).get_program()).current_dir(place.path(""));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut logging = Logging::with(place, command);
        let (out, err) = (logging.child.stdout.take(), logging.child.stderr.take());
        // What is left open is read once: from then on, writing to it is an error.
        let address = match closed {
            ">&- 2>&-" => logging.address(),
            ">&-" => told(err.expect("a pipe")),
            _ => told(out.expect("a pipe")),
        };
        for _ in 0..3 {
            let response = Client::connect(address).get(&origin.url("/hello"));
            assert_eq!(response.status(), 200, "{closed}");
            logging.signal(Signal::HUP);
        }
        logging.stop();
    }
}

/// Whoever refuses the account: each once, and then it rests.
#[test]
fn a_refused_account_is_told_once() {
    let origin = Origin::guarded(Rules::www(Acceptor::new(ALICE)));
    let parent = Parent::ntlm(ALICE).origin(origin.addr()).start();
    let at = origin.addr();
    let wrong = "USER: CORP\\alice\nPASSWORD: Wr0ng-Secret\nWWW_AUTH_HOSTS: 127.0.0.1\n";
    for (general, url, status) in [
        (format!("{TO_FILE}PARENT_PROXY: {}", parent.addr()), url("/hello"), 407),
        (TO_FILE.to_owned(), format!("http://{at}/hello"), 401),
    ] {
        let logging = Logging::start(&cfg(&general, wrong, ""));
        let mut client = Client::connect(logging.address());
        let first = client.get(&url).status();
        for _ in 0..3 {
            assert_ne!(client.get(&url).status(), 200);
        }
        assert_eq!(first, status);
        let (log, _) = logging.stop();
        let refusals = log.matches(" refused: the credentials were not accepted").count();
        assert_eq!((refusals, log.matches(" WARN ").count()), (1, 1), "{log}");
    }
}
