//! A client that says exactly what it is told to, and reads answers to the letter.
//!
//! Its methods panic with what they saw, for that is what a test would do; `try_` ones return the
//! error.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};

use super::http::{Body, DEADLINE, Fields, ResponseHead};
use super::wire::{KEEP, Wire};

pub struct Client {
    pub wire: Wire,
    /// Of the requests whose answers are still to come: HEAD and CONNECT change where an answer
    /// ends.
    methods: VecDeque<String>,
}

/// A final response, its body, and the interim ones before it.
#[derive(Clone, Debug)]
pub struct Response {
    pub head: ResponseHead,
    pub body: Body,
    pub interim: Vec<ResponseHead>,
}

impl Response {
    pub fn status(&self) -> u16 {
        self.head.status
    }

    pub fn fields(&self) -> &Fields {
        &self.head.fields
    }

    /// The whole body; it must have been small enough (16 MiB) to be kept.
    pub fn bytes(&self) -> &[u8] {
        assert_eq!(
            self.body.bytes.len() as u64,
            self.body.length,
            "too large to be kept, use body.hash"
        );
        &self.body.bytes
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).unwrap_or_else(|error| panic!("cannot connect to {addr}: {error}"))
    }

    pub fn try_connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, DEADLINE)?;
        Ok(Self { wire: Wire::new(stream)?, methods: VecDeque::new() })
    }

    /// Its own address, by which others know it.
    pub fn local(&self) -> SocketAddr {
        self.wire.stream().local_addr().expect("it is connected")
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).expect("the peer takes what is sent");
    }

    /// The request lines of what is sent are not looked at; see [`Self::read_response_to`].
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write(bytes)
    }

    /// Each byte in its own segment.
    pub fn send_byte_by_byte(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.send([*byte]);
        }
    }

    /// `GET`, absolute-form, with the Host that belongs to it.
    pub fn get(&mut self, url: &str) -> Response {
        self.request("GET", url, &[], b"")
    }

    /// Sends a request and reads its response. Host and, where there is a body, Content-Length are
    /// added unless given.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        self.start(method, target, fields, body);
        self.read_response()
    }

    /// Sends a request and leaves its response to be read.
    pub fn start(&mut self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) {
        let mut bytes = self.head(method, target, fields, body);
        bytes.extend(body);
        self.send(bytes);
    }

    /// The head `start` would send; the method is remembered for the response.
    pub fn head(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<u8> {
        let given = |name: &str| fields.iter().any(|(found, _)| found.eq_ignore_ascii_case(name));
        let mut out = format!("{method} {target} HTTP/1.1\r\n");
        if !given("Host") {
            let rest = target.split_once("://").map_or(target, |(_, rest)| rest);
            let authority = rest.split(['/', '?']).next().unwrap_or_default();
            let host = authority.rsplit('@').next().unwrap_or_default();
            out += &format!("Host: {host}\r\n");
        }
        fields.iter().for_each(|(name, value)| out += &format!("{name}: {value}\r\n"));
        if !body.is_empty() && !given("Content-Length") && !given("Transfer-Encoding") {
            out += &format!("Content-Length: {}\r\n", body.len());
        }
        out += "\r\n";
        self.methods.push_back(method.into());
        out.into()
    }

    /// CONNECT; asserts the 2xx, after which `wire` is the tunnel.
    pub fn tunnel(&mut self, authority: &str) -> Response {
        let response = self.request("CONNECT", authority, &[], b"");
        assert!((200..300).contains(&response.status()), "no tunnel: {response:?}");
        response
    }

    /// To the oldest request made with `start`, else to a GET.
    pub fn read_response(&mut self) -> Response {
        self.try_read_response().unwrap_or_else(|error| panic!("no response: {error}"))
    }

    pub fn try_read_response(&mut self) -> io::Result<Response> {
        let method = self.methods.pop_front().unwrap_or_else(|| "GET".into());
        self.try_read_response_to(&method)
    }

    pub fn read_response_to(&mut self, method: &str) -> Response {
        self.try_read_response_to(method).unwrap_or_else(|error| panic!("no response: {error}"))
    }

    pub fn try_read_response_to(&mut self, method: &str) -> io::Result<Response> {
        let mut interim = Vec::new();
        let head = loop {
            let head = self.wire.read_response()?;
            if !head.is_interim() {
                break head;
            }
            interim.push(head);
        };
        let body = self.wire.read_body(head.framing(method)?, 16 * KEEP)?;
        Ok(Response { head, body, interim })
    }

    /// A head alone, interim or not: the body is left on the wire.
    pub fn read_head(&mut self) -> ResponseHead {
        self.wire.read_response().unwrap_or_else(|error| panic!("no response head: {error}"))
    }

    /// Half-close.
    pub fn finish(&mut self) {
        self.wire.finish().expect("the connection is still there");
    }

    pub fn read_exact(&mut self, count: usize) -> Vec<u8> {
        self.wire.read_exact(count).unwrap_or_else(|error| panic!("{count} bytes wanted: {error}"))
    }

    pub fn read_to_end(&mut self) -> Vec<u8> {
        self.wire.read_to_end().unwrap_or_else(|error| panic!("no end of the stream: {error}"))
    }

    /// Whether the peer ends the connection, by whatever means, before it says anything more.
    pub fn is_closed(&mut self) -> bool {
        match self.wire.fill() {
            Ok(count) => count == 0,
            Err(error) => error.kind() != ErrorKind::TimedOut,
        }
    }
}
