//! The clients: what one does between coming and going, and whether what it gets is its own.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::parent::{PASSWORD, USERS, content};
use crate::support::gate::base64;
use crate::support::http::chunk;
use crate::support::{Client, Response};

/// Numbers that look random; the same ones for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end.max(1)
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Mostly small, sometimes large: both sides of every buffer and of the pipe.
    fn size(&mut self) -> usize {
        let most = self.one(&[1, 300, 5_000, 20_000, 70_000, 70_000, 300_000, 2_000_000]);
        self.below(most)
    }
}

/// What is done; an index into the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Get,
    Head,
    Post,
    PostChunked,
    Pipelined,
    Tunnel,
    Socks,
    BreakOff,
}

impl Act {
    pub const ALL: [Self; 8] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::PostChunked,
        Self::Pipelined,
        Self::Tunnel,
        Self::Socks,
        Self::BreakOff,
    ];
}

/// Why an act did not come to its end.
#[derive(Debug)]
pub enum Trouble {
    /// The connection broke or the proxy said why it cannot: fine while the parent is away.
    Cut(String),
    /// The credentials rest, as logins broke off that nobody had heard of before: fine for a while.
    Rests(String),
    /// Never fine.
    Wrong(String),
}

impl Trouble {
    fn of(status: u16, text: &str) -> Self {
        let text = format!("{status} {text}");
        match status {
            502 | 504 => Self::Cut(text),
            407 => Self::Rests(text),
            _ => Self::Wrong(text),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Not HTTP to the letter, or not in time.
            ErrorKind::InvalidData | ErrorKind::TimedOut => Self::Wrong(error.to_string()),
            _ => Self::Cut(error.to_string()),
        }
    }
}

/// Where the proxy listens.
#[derive(Clone, Copy)]
pub struct Doors {
    pub http: SocketAddr,
    pub socks: SocketAddr,
}

/// A client for a while.
pub struct Visitor {
    pub dice: Dice,
    pub doors: Doors,
    /// Makes each URL its own.
    pub name: String,
    pub count: u64,
    /// A connection that may be used again.
    kept: Option<Client>,
}

impl Visitor {
    pub fn new(seed: u64, doors: Doors) -> Self {
        Self { dice: Dice::new(seed), doors, name: format!("v{seed}"), count: 0, kept: None }
    }

    /// Closes what it has open.
    pub fn leave(&mut self) {
        self.kept = None;
    }

    /// Does something; says what, when it began, and how it went.
    pub fn act(&mut self) -> (Act, Instant, Result<(), Trouble>) {
        use Act::{BreakOff, Get, Head, Pipelined, Post, PostChunked, Socks, Tunnel};
        self.count += 1;
        let act = self.dice.one(&[
            Get,
            Get,
            Get,
            Get,
            Get,
            Get,
            Get,
            Get,
            Head,
            Post,
            Post,
            PostChunked,
            PostChunked,
            Pipelined,
            Tunnel,
            Tunnel,
            Socks,
            BreakOff,
            BreakOff,
        ]);
        let begin = Instant::now();
        let done = match act {
            Get | Head | Post | PostChunked | Pipelined => self.requests(act),
            Tunnel => self.tunnel(),
            Socks => self.socks(),
            BreakOff => self.break_off(),
        };
        (act, begin, done)
    }

    fn url(&mut self, kind: &str, length: usize) -> String {
        let host = self.dice.one(&["a.test", "b.test", "c.test:8080"]);
        format!("http://{host}/{kind}/{length}/{}/{}", self.name, self.count)
    }

    /// A connection for requests: the one that was kept, or a new one.
    fn client(&mut self) -> io::Result<Client> {
        match self.kept.take() {
            Some(client) => {
                self.fall_silent();
                Ok(client)
            }
            None => Client::try_connect(self.doors.http),
        }
    }

    /// Sometimes for so long that nobody waits for it in particular.
    fn fall_silent(&mut self) {
        if self.dice.below(20) == 0 {
            thread::park_timeout(Duration::from_millis(1_200));
        }
    }

    fn requests(&mut self, act: Act) -> Result<(), Trouble> {
        let mut client = self.client()?;
        let method = match act {
            Act::Head => "HEAD",
            Act::Post | Act::PostChunked => "POST",
            _ => "GET",
        };
        let mut expected = Vec::new();
        for _ in 0..if act == Act::Pipelined { 3 } else { 1 } {
            let (length, kind) =
                (self.dice.size(), self.dice.one(&["length", "length", "chunked", "until-close"]));
            let url = self.url(kind, length);
            self.count += 1;
            let user = self.dice.one(&USERS);
            let body = match method {
                "POST" => content("posted", &url, self.dice.size()),
                _ => Vec::new(),
            };
            let account = account(user);
            let mut fields = vec![("Proxy-Authorization", account.as_str())];
            if act == Act::PostChunked {
                fields.push(("Transfer-Encoding", "chunked"));
            }
            let mut bytes = client.head(method, &url, &fields, &body);
            if act == Act::PostChunked {
                let size = 1 + self.dice.below(90_000);
                body.chunks(size).for_each(|piece| bytes.extend(chunk(piece)));
                bytes.extend(b"0\r\n\r\n");
            } else {
                bytes.extend(&body);
            }
            // An early answer may stop it: what that was is in the response.
            let sent = client.try_send(&bytes);
            let whole = [content(user, &url, length), body].concat();
            expected.push((url, whole, sent));
        }
        for (url, whole, sent) in expected {
            let response = client.try_read_response();
            let response = response.or_else(|error| sent.and(Err(error)))?;
            check(&response, method, &url, &whole)?;
            if !response.head.persists() {
                return Ok(());
            }
        }
        if self.dice.below(4) > 0 {
            self.kept = Some(client);
        }
        Ok(())
    }

    /// Through CONNECT.
    fn tunnel(&mut self) -> Result<(), Trouble> {
        let mut client = self.client()?;
        let (user, to) = (self.dice.one(&USERS), format!("t{}.{}.test:443", self.count, self.name));
        let head = client.head("CONNECT", &to, &[("Proxy-Authorization", &account(user))], b"");
        client.try_send(&head)?;
        let response = client.try_read_response()?;
        if response.status() != 200 {
            return Err(refused(&response));
        }
        self.through(client, user, &to)
    }

    /// Through the SOCKS5 door (RFC 1928, RFC 1929).
    fn socks(&mut self) -> Result<(), Trouble> {
        let mut client = Client::try_connect(self.doors.socks)?;
        let user = self.dice.one(&USERS);
        let host = format!("s{}.{}.test", self.count, self.name);
        client.try_send(&[5, 1, 2])?;
        let chosen = client.wire.read_exact(2)?;
        let text = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
        client.try_send(&[vec![1], text(&format!("CORP\\{user}")), text(PASSWORD)].concat())?;
        let admitted = client.wire.read_exact(2)?;
        client.try_send(&[vec![5, 1, 0, 3], text(&host), vec![1, 187]].concat())?;
        let reply = client.wire.read_exact(10)?;
        match (chosen.as_slice(), admitted.as_slice(), reply.as_slice()) {
            ([5, 2], [1, 0], [5, 0, ..]) => self.through(client, user, &format!("{host}:443")),
            ([5, 2], [1, 0], [5, code @ (1 | 4), ..]) => {
                Err(Trouble::Cut(format!("SOCKS5 reply {code}")))
            }
            ([5, 2], [1, 0], [5, 2, ..]) => Err(Trouble::Rests("SOCKS5 reply 2".to_owned())),
            other => Err(Trouble::Wrong(format!("SOCKS5 {other:?}"))),
        }
    }

    /// A tunnel is open: says who it is for, then echoes.
    fn through(&mut self, mut client: Client, user: &str, to: &str) -> Result<(), Trouble> {
        let mut expected = format!("{user} {to}\n").into_bytes();
        for _ in 0..self.dice.below(4) {
            // Less than the buffers of two sockets hold: nobody reads while this is sent.
            let most = self.dice.one(&[100, 5_000, 60_000]);
            let bytes = content(user, to, self.dice.below(most));
            client.try_send(&bytes)?;
            expected.extend(bytes);
            let echoed = client.wire.read_exact(expected.len())?;
            same(&echoed, &expected)?;
            expected.clear();
            self.fall_silent();
        }
        if self.dice.below(3) == 0 {
            return Ok(()); // and leaves as one who is in a hurry
        }
        client.wire.finish()?;
        let rest = client.wire.read_to_end()?;
        if rest.len() < expected.len() {
            return Err(Trouble::Cut("a tunnel ended early".to_owned()));
        }
        same(&rest, &expected)
    }

    /// Begins something and goes away.
    fn break_off(&mut self) -> Result<(), Trouble> {
        let mut client = self.client()?;
        let user = self.dice.one(&USERS);
        let url = self.url("length", 2_000_000);
        let account = account(user);
        let fields = [("Proxy-Authorization", account.as_str()), ("Content-Length", "50000")];
        match self.dice.below(5) {
            0 => {}
            1 => {
                let head = client.head("GET", &url, &fields[..1], b"");
                client.try_send(&head[..self.dice.below(head.len())])?;
            }
            2 => {
                let head = client.head("POST", &url, &fields, b"");
                client.try_send(&[head, vec![b'x'; self.dice.below(50_000)]].concat())?;
            }
            3 => {
                let head = client.head("GET", &url, &fields[..1], b"");
                client.try_send(&head)?;
                let status = client.wire.read_response()?.status;
                if status != 200 {
                    return Err(Trouble::of(status, "for one who breaks off"));
                }
                client.wire.read_exact(self.dice.below(200_000))?;
            }
            _ => {
                client = Client::try_connect(self.doors.socks)?;
                client.try_send(&[5, 1, 2, 1, 4][..1 + self.dice.below(5)])?;
            }
        }
        Ok(())
    }
}

fn account(user: &str) -> String {
    format!("Basic {}", base64(format!("CORP\\{user}:{PASSWORD}").as_bytes()))
}

fn refused(response: &Response) -> Trouble {
    Trouble::of(response.status(), response.body.text().trim())
}

fn check(response: &Response, method: &str, url: &str, whole: &[u8]) -> Result<(), Trouble> {
    if response.status() != 200 {
        return Err(refused(response));
    }
    if method == "HEAD" {
        let length = response.fields().get("Content-Length");
        return match length {
            Some(length) if length != whole.len().to_string() => {
                Err(Trouble::Wrong(format!("HEAD of another: {length} for {}", whole.len())))
            }
            _ => Ok(()),
        };
    }
    let seen = &response.body.bytes;
    let short = seen.len() < whole.len() && whole.starts_with(seen);
    if short && url.contains("/until-close/") {
        // Nothing but the length tells this from an end, and there is none.
        return Err(Trouble::Cut("the parent closed".to_owned()));
    }
    same(seen, whole)
}

fn same(seen: &[u8], expected: &[u8]) -> Result<(), Trouble> {
    if seen == expected {
        return Ok(());
    }
    let line = |bytes: &[u8]| {
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        String::from_utf8_lossy(&line[..line.len().min(100)]).into_owned()
    };
    Err(Trouble::Wrong(format!(
        "{} bytes of '{}' instead of {} of '{}'",
        seen.len(),
        line(seen),
        expected.len(),
        line(expected)
    )))
}
