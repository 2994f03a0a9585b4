//! One row a request: refused, or forwarded as one well-formed message. Behind every request that
//! is refused waits another one, which must never be taken for one.

use std::io;
use std::sync::{Arc, Mutex};

use crate::proxy::{NOBODY, Proxy};
use crate::support::{Client, Framing, Origin, Wire};

const HIDDEN: &[u8] = b"GET http://hidden.test/ HTTP/1.1\r\nHost: hidden.test\r\n\r\n";

/// Heads as they come, and the status they get.
const HEADS: &[(u16, &[u8])] = &[
    // The request line.
    (400, b"GET http://a.test/\r\n\r\n"),
    (400, b"GET /\r\n\r\n"),
    (400, b"nonsense\r\n\r\n"),
    (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    (400, b"\x05\x01\x00"),
    (400, b" GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (400, b"GET  http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1.1 \r\nHost: a.test\r\n\r\n"),
    (400, b"GET\thttp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (400, b"GET http://a.test/a b HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (400, b"G@T http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (400, b"GET http://a.test/ http/1.1\r\nHost: a.test\r\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1.1x\r\nHost: a.test\r\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1.10\r\nHost: a.test\r\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1\r\nHost: a.test\r\n\r\n"),
    (505, b"GET http://a.test/ HTTP/0.9\r\nHost: a.test\r\n\r\n"),
    (505, b"GET http://a.test/ HTTP/2.0\r\nHost: a.test\r\n\r\n"),
    (505, b"GET http://a.test/ HTTP/3.0\r\nHost: a.test\r\n\r\n"),
    (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    // Blank lines before it: a few, and only whole ones.
    (400, b"\r\n\r\n\r\n\r\n\r\nGET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (400, b"\nGET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (400, b"\rGET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (400, b"\0GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    // Line ends.
    (400, b"GET http://a.test/ HTTP/1.1\nHost: a.test\n\n"),
    (400, b"GET http://a.test/ HTTP/1.1\nHost: a.test\r\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\n"),
    (400, b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nA: b\nC: d\r\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\rA: b\r\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nA: b\rC: d\r\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1.1\r\r\nHost: a.test\r\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\r\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\r\n\r\n"),
    // Host.
    (400, b"GET http://a.test/ HTTP/1.1\r\n\r\n"),
    (400, b"CONNECT a.test:443 HTTP/1.1\r\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1.0\r\nHost: a.test\r\nhost: b.test\r\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1.1\r\nHost: a test\r\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1.1\r\nHost: a.test/b\r\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1.1\r\nHost: u@a.test\r\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1.1\r\nHost: a.test:b\r\n\r\n"),
    (400, b"GET http://a.test/ HTTP/1.1\r\nHost: http://a.test\r\n\r\n"),
    // CONNECT, TRACE and HTTP/1.0 with bodies.
    (400, b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"),
    (400, b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, b"TRACE http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"),
    (400, b"POST http://a.test/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
];

/// Request lines in front of a Host that is as it should be.
const TARGETS: &[(u16, &str)] = &[
    (400, "GET a.test"),
    (400, "GET a.test:80"),
    (400, "GET *"),
    (400, "GET http:a.test"),
    (400, "GET http:///path"),
    (400, "GET http://:80/"),
    (400, "GET http://u@/"),
    (400, "GET ://a.test/"),
    (400, "GET 1http://a.test/"),
    (400, "GET http://a.test:0/"),
    (400, "GET http://a.test:65536/"),
    (400, "GET http://a.test:99999999999999999999/"),
    (400, "GET http://a.test:+80/"),
    (400, "GET http://a.test:-1/"),
    (400, "GET http://a.test:080/"),
    (400, "GET http://a.test:80abc/"),
    (400, "GET http://a.test:80:80/"),
    (400, "GET http://[::1/"),
    (400, "GET http://[::1]a/"),
    (400, "GET http://[::g]/"),
    (400, "GET http://[fe80::1%25lo]/"),
    (400, "GET http://[v1.a]/"),
    (400, "GET http://::1/"),
    (400, "GET http://%61.test/"),
    (400, "GET http://a.test\\@b.test/"),
    (400, "GET http://a.test\\/"),
    (400, "GET http://u:p@b.test@a.test/"),
    (400, "GET http://a<b>.test/"),
    (400, "GET http://a.test/\u{7f}"),
    (400, "GET http://a.test/\u{1}"),
    (400, "GET http://a.test/\u{e9}"),
    (400, "GET http://\u{e9}.test/"),
    (400, "CONNECT a.test"),
    (400, "CONNECT a.test:"),
    (400, "CONNECT a.test:0"),
    (400, "CONNECT a.test:https"),
    (400, "CONNECT :443"),
    (400, "CONNECT u@a.test:443"),
    (400, "CONNECT a.test:443/"),
    (400, "CONNECT ::1:443"),
    (400, "CONNECT /"),
    (400, "CONNECT *"),
    (400, "CONNECT http://a.test/"),
    (400, "connect a.test:443"),
];

/// Field lines of a POST that is followed by `hello`.
const FIELDS: &[(u16, &[u8])] = &[
    (400, b"Content-Length: 5\r\nContent-Length: 6\r\n"),
    (400, b"Content-Length: 5, 6\r\n"),
    (400, b"Content-Length: 5,\r\n"),
    (400, b"Content-Length: +5\r\n"),
    (400, b"Content-Length: -1\r\n"),
    (400, b"Content-Length: 0x5\r\n"),
    (400, b"Content-Length: 5 5\r\n"),
    (400, b"Content-Length: 5.0\r\n"),
    (400, b"Content-Length: \"5\"\r\n"),
    (400, b"Content-Length:\r\n"),
    (400, b"Content-Length: 5\r\nContent-Length:\r\n"),
    (400, b"Content-Length: 9223372036854775808\r\n"),
    (400, b"Content-Length: 18446744073709551621\r\n"),
    (400, b"Content-Length : 5\r\n"),
    (400, b"Content-Length\t: 5\r\n"),
    (400, b"Content-Length: 5\x0b\r\n"),
    (400, b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
    (400, b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n"),
    (400, b"Transfer-Encoding:\r\nContent-Length: 5\r\n"),
    (400, b"Transfer-Encoding:\r\n"),
    (400, b"Transfer-Encoding: identity\r\n"),
    (400, b"Transfer-Encoding: gzip\r\n"),
    (400, b"Transfer-Encoding: xchunked\r\n"),
    (400, b"Transfer-Encoding: chunkedx\r\n"),
    (400, b"Transfer-Encoding: chunked, chunked\r\n"),
    (400, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    (400, b"Transfer-Encoding: chunked, identity\r\n"),
    (400, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
    (400, b"Transfer-Encoding: \"chunked\"\r\n"),
    (400, b"Transfer-Encoding: chunked;q=1\r\n"),
    (400, b"Transfer-Encoding: \x0bchunked\r\n"),
    (400, b"Transfer-Encoding: \x00chunked\r\n"),
    (400, b"Transfer-Encoding : chunked\r\n"),
    (400, b"Transfer-Encoding:\r\n chunked\r\n"),
    (501, b"Transfer-Encoding: gzip, chunked\r\n"),
    (501, b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
    (501, b"Transfer-Encoding: , chunked\r\n"),
    (501, b"Transfer-Encoding: chunked,\r\n"),
    (400, b"A: b\r\n c\r\n"),
    (400, b"A: b\r\n\tContent-Length: 5\r\n"),
    (400, b": b\r\n"),
    (400, b"A b: c\r\n"),
    (400, b"A\xff: b\r\n"),
    (400, b"A\x00: b\r\n"),
    (400, b"A(b): c\r\n"),
    (400, b"no colon\r\n"),
    (400, b"A: \x00\r\n"),
    (400, b"A: b\x1b[0m\r\n"),
    (400, b"A: \x7f\r\n"),
    (400, b"Authorization: Basic YTpi\r\nAuthorization: NTLM TlRMTVNTUAAB\r\n"),
    (400, b"Proxy-Authorization: Basic YTpi\r\nproxy-authorization: Basic YTpj\r\n"),
    (400, b"Max-Forwards: 1\r\nMax-Forwards: 0\r\n"),
    (400, b"Max-Forwards: -1\r\n"),
];

/// Chunked bodies.
const CHUNKS: &[&[u8]] = &[
    b"nonsense\r\n",
    b"\r\n0\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5\rhello\r\n0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhello!\r\n0\r\n\r\n",
    b"5\r\nhello\r\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\n\r\n",
    b"5\r\nhello\r\n0\r\n\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"5 0\r\nhello\r\n0\r\n\r\n",
    b"5_0\r\nhello\r\n0\r\n\r\n",
    b"5\x00\r\nhello\r\n0\r\n\r\n",
    b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    b"5;\r\nhello\r\n0\r\n\r\n",
    b"5;a\x00\r\nhello\r\n0\r\n\r\n",
    b"5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
    b"5;a\nhello\r\n0\r\n\r\n",
    b"0\r\nContent-Length: 5\r\n\r\n",
    b"0\r\nA: b\r\ntransfer-encoding: chunked\r\n\r\n",
    b"0\r\nHost: b.test\r\n\r\n",
    b"0\r\nAuthorization: Basic YTpi\r\n\r\n",
    b"0\r\nA: b\r\n c\r\n\r\n",
    b"0\r\nA : b\r\n\r\n",
    b"0\r\nno colon\r\n\r\n",
    b"0\r\nA: \x00\r\n\r\n",
    b"0\r\nA: b\nB: c\r\n\r\n",
];

/// What comes, and what the parent gets; several requests where several come.
const FORWARDED: &[(&[u8], &[u8])] = &[
    // The request line.
    (b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (b"\r\n\r\nGET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (b"GET http://a.test/ HTTP/1.0\r\n\r\n", b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (b"GET http://a.test/ HTTP/1.2\r\nHost: a.test\r\n\r\n", b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (b"get http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", b"get http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (b"X-OWN http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", b"X-OWN http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    // Targets: Host follows them.
    (b"GET http://A.test HTTP/1.1\r\nHost: other\r\n\r\n", b"GET http://A.test/ HTTP/1.1\r\nHost: A.test\r\n\r\n"),
    (b"GET http://a.test?q#f HTTP/1.1\r\nHost:\r\n\r\n", b"GET http://a.test/?q HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (b"GET http://u:p%40@a.test:81/ HTTP/1.1\r\nHost: a.test\r\n\r\n", b"GET http://a.test:81/ HTTP/1.1\r\nHost: a.test:81\r\n\r\n"),
    (b"GET http://a.test:/ HTTP/1.1\r\nHost: a.test:\r\n\r\n", b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (b"GET http://[::1]:81/ HTTP/1.1\r\nHost: [::1]:81\r\n\r\n", b"GET http://[::1]:81/ HTTP/1.1\r\nHost: [::1]:81\r\n\r\n"),
    (b"GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", b"GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (b"GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", b"GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (b"GET ftp://u:p%40@a.test:/;type=i HTTP/1.1\r\nHost: a.test\r\n\r\n", b"GET ftp://u:p%40@a.test/;type=i HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (b"GET FTP://u@a.test#f HTTP/1.1\r\nHost: a.test\r\n\r\n", b"GET FTP://u@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (b"GET http://a.test/a//b/../\\{|}[]%C3?\" HTTP/1.1\r\nHost: a.test\r\n\r\n", b"GET http://a.test/a//b/../\\{|}[]%C3?\" HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (b"OPTIONS http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n", b"OPTIONS http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    (b"CONNECT a.test:443 HTTP/1.1\r\nHost: other\r\n\r\n", b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"),
    (b"CONNECT [::1]:443 HTTP/1.0\r\n\r\n", b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n"),
    // Bodies.
    (b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5, 5\r\ncontent-length:  005 \r\n\r\nhello", b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"),
    (b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello", b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"),
    (b"POST http://a.test/ HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"),
    (b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\ntransfer-ENCODING: \tChunked\r\n\r\n005;a;b=\"c;\"\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\ntransfer-ENCODING: chunked\r\n\r\n005;a;b=\"c;\"\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
    // Fields.
    (b"GET http://a.test/ HTTP/1.1\r\nA:\t b\tc \t\r\nHost: a.test\r\nB:\r\nC: \xfc\r\n\r\n", b"GET http://a.test/ HTTP/1.1\r\nA: b\tc\r\nHost: a.test\r\nB: \r\nC: \xfc\r\n\r\n"),
    (b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close, X-A, Host, Cookie, Content-Length,Authorization\r\nX-A: 1\r\nCookie: c\r\nAuthorization: Basic YTpi\r\n\r\n", b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nCookie: c\r\nAuthorization: Basic YTpi\r\n\r\n"),
    (b"PUT http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: If-Match, content-length, content-type, Cache-Control\r\nIf-Match: \"1\"\r\nContent-Type: a/b\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\nhi", b"PUT http://a.test/ HTTP/1.1\r\nHost: a.test\r\nIf-Match: \"1\"\r\nContent-Type: a/b\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\nhi"),
    // Max-Forwards.
    (b"OPTIONS http://a.test/ HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 010\r\n\r\n", b"OPTIONS http://a.test/ HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 9\r\n\r\n"),
    (b"TRACE http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: Max-Forwards\r\nMax-Forwards: 99999999999999999999\r\n\r\n", b"TRACE http://a.test/ HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 18446744073709551614\r\n\r\n"),
    (b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n", b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n"),
    // Pipelining.
    (b"POST http://a.test/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi\r\nGET http://a.test/2 HTTP/1.1\r\nHost: a.test\r\n\r\n", b"POST http://a.test/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhiGET http://a.test/2 HTTP/1.1\r\nHost: a.test\r\n\r\n"),
];

/// Remembers every byte of every request, if it is one to the letter, and says yes to it.
struct Parent {
    got: Arc<Mutex<Vec<u8>>>,
    origin: Origin,
}

impl Parent {
    fn start() -> Self {
        let got = Arc::<Mutex<Vec<u8>>>::default();
        let log = Arc::clone(&got);
        let origin = Origin::raw(move |_, mut wire| {
            loop {
                let message = match read_message(&mut wire) {
                    Ok(Some(message)) => message,
                    Ok(None) => return,
                    Err(error) => return log.lock().unwrap().extend(error.to_string().bytes()),
                };
                log.lock().unwrap().extend(message);
                if wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                    return;
                }
            }
        });
        Self { got, origin }
    }

    /// A proxy without its Via, which is another one each time.
    fn proxy(&self) -> Proxy {
        let parent = self.origin.addr();
        Proxy::start(&format!("PARENT_PROXY: {parent}\n{NOBODY}[CLIENT_HEADER]\nVia:\n"))
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.got.lock().unwrap())
    }
}

fn read_message(wire: &mut Wire) -> io::Result<Option<Vec<u8>>> {
    let Some(head) = wire.read_request()? else { return Ok(None) };
    let length = match head.framing()? {
        Framing::Length(length) => length.try_into().unwrap(),
        // Up to the blank line behind the last chunk: no row has one in its content.
        Framing::Chunked => loop {
            match wire.ahead().windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None if wire.fill()? == 0 => break wire.ahead().len(),
                None => {}
            }
        },
        Framing::None | Framing::UntilClose => 0,
    };
    Ok(Some([head.raw, wire.read_exact(length)?].concat()))
}

fn statuses(wire: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(wire);
    text.split("HTTP/1.1 ").skip(1).map(|rest| rest[..3].parse().unwrap()).collect()
}

/// It is told so, and the proxy hangs up, before the client has said its last.
fn is_refused(client: &mut Client, status: u16, row: &[u8]) {
    let answer = client.read_to_end();
    let shown = row.escape_ascii();
    assert_eq!(statuses(&answer), [status], "{shown}");
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("\r\nConnection: close\r\n"), "{shown} {text}");
}

/// Whole and byte by byte, with another request behind it.
fn are_refused(rows: impl Iterator<Item = (u16, Vec<u8>)>) {
    let parent = Parent::start();
    let proxy = parent.proxy();
    for (status, row) in rows {
        let wire = [&row[..], HIDDEN].concat();
        for step in [wire.len(), 1] {
            let mut client = proxy.client();
            for piece in wire.chunks(step) {
                client.send(piece);
            }
            is_refused(&mut client, status, &row);
        }
    }
    assert_eq!(parent.take().escape_ascii().to_string(), "");
    assert_eq!(parent.origin.connections(), 0);
}

#[test]
fn heads_that_two_might_read_in_two_ways_are_refused() {
    are_refused(HEADS.iter().map(|(status, head)| (*status, head.to_vec())));
}

/// Nobody waits for more of what can only be refused.
#[test]
fn what_is_no_head_is_refused_as_soon_as_that_is_seen() {
    let proxy = Proxy::start("");
    for row in [
        &b"\x16\x03\x01\x02"[..],
        b"\x05\x01\x00",
        b"\n",
        b"GET http://a.test/ HTTP/1.1\nHost: a.test\n\n",
        b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\n\r\n",
        b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\n",
        b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\r\n",
    ] {
        let mut client = proxy.client();
        client.send(row);
        is_refused(&mut client, 400, row);
    }
}

#[test]
fn targets_that_two_might_read_in_two_ways_are_refused() {
    are_refused(TARGETS.iter().map(|(status, line)| {
        (*status, format!("{line} HTTP/1.1\r\nHost: a.test\r\n\r\n").into_bytes())
    }));
}

#[test]
fn fields_that_two_might_read_in_two_ways_are_refused() {
    are_refused(FIELDS.iter().map(|(status, fields)| {
        let line = b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n";
        (*status, [line, *fields, b"\r\nhello"].concat())
    }));
}

#[test]
fn what_is_too_large_is_refused_by_its_name() {
    let long = |count: usize| "x".repeat(count);
    let head = |line: &str, fields: &str| {
        format!("{line} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n").into_bytes()
    };
    let parent = Parent::start();
    let proxy = parent.proxy();
    for (status, wire) in [
        (414, head(&format!("GET http://a.test/{}", long(70_000)), "")),
        (414, long(70_000).into_bytes()),
        (431, head("GET http://a.test/", &format!("A: {}\r\n", long(70_000)))),
        (431, head("GET http://a.test/", &"A: b\r\n".repeat(300))),
        (431, head("GET http://a.test/", &"A: b\r\n".repeat(30_000))),
        (501, head(&format!("{} http://a.test/", long(65)), "")),
    ] {
        let mut client = proxy.client();
        client.send([&wire[..], HIDDEN].concat());
        is_refused(&mut client, status, &wire[..100]);
    }
    assert_eq!(parent.take(), b"");
    let wire = head(&format!("GET http://a.test/{}", long(60_000)), "");
    let mut client = proxy.client();
    client.send(&wire);
    assert_eq!(client.read_response().status(), 200);
    assert!(parent.take() == wire);
}

#[test]
fn chunks_that_two_might_read_in_two_ways_are_refused() {
    let parent = Parent::start();
    let proxy = parent.proxy();
    let head =
        b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = [
        [b"5;", &[b'a'; 5000][..], b"\r\nhello\r\n0\r\n\r\n"].concat(),
        [b"0\r\nA: ", &[b'a'; 17_000][..], b"\r\n\r\n"].concat(),
    ];
    for row in CHUNKS.iter().copied().chain(long.iter().map(Vec::as_slice)) {
        let mut client = proxy.client();
        client.send([head, row, HIDDEN].concat());
        is_refused(&mut client, 400, row);
        // The beginning of a long one may be there; its end never is.
        let got = parent.take();
        assert!(!got.ends_with(b"\r\n\r\n"), "{} {}", row.escape_ascii(), got.escape_ascii());
    }
}

#[test]
fn what_is_forwarded_is_one_well_formed_message() {
    let parent = Parent::start();
    let proxy = parent.proxy();
    for (wire, expected) in FORWARDED {
        let mut client = proxy.client();
        client.send(wire);
        client.finish();
        let answers = statuses(&client.read_to_end());
        assert!(answers.iter().all(|status| *status == 200), "{} {answers:?}", wire.escape_ascii());
        let got = parent.take().escape_ascii().to_string();
        assert_eq!(got, expected.escape_ascii().to_string(), "{}", wire.escape_ascii());
        let requests = got.matches("HTTP/1.1\\r\\n").count();
        assert_eq!(answers.len(), requests, "{}", wire.escape_ascii());
    }
}

#[test]
fn what_is_for_the_proxy_is_answered_by_it() {
    let parent = Parent::start();
    let proxy = parent.proxy();
    let mut client = proxy.client();
    for (status, line, fields) in [
        (200, "OPTIONS *", ""),
        (200, "OPTIONS http://a.test/", "Max-Forwards: 0\r\n"),
        (405, "TRACE http://a.test/", "Max-Forwards: 00\r\nCookie: s3cret\r\n"),
        (400, "OPTIONS /", ""),
        (400, "GET /", ""),
    ] {
        client.send(format!("{line} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
        let page = client.read_response();
        assert_eq!(page.status(), status, "{line}");
        assert_eq!(page.fields().has("Allow"), status != 400, "{line}");
        assert!(!page.text().contains("s3cret"), "{line}");
    }
    assert_eq!(parent.take(), b"");
}

#[test]
fn requests_before_one_that_is_refused_are_answered_and_none_behind_it() {
    let parent = Parent::start();
    let proxy = parent.proxy();
    let mut client = proxy.client();
    let good = b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n";
    client.send([good, &good[..], b"GET http://a.test/ HTTP/1.1\r\n\r\n", HIDDEN].concat());
    assert_eq!(statuses(&client.read_to_end()), [200, 200, 400]);
    assert_eq!(parent.take(), good.repeat(2));
}
