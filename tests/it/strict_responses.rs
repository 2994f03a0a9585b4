//! Responses that two recipients could read in two ways, and what becomes of each: with a parent,
//! and with the origin itself in its place.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::proxy::{LOGIN, NOBODY, Proxy, url};
use crate::support::http::response;
use crate::support::listener::lock;
use crate::support::origin::Then::{Close, Next};
use crate::support::{Origin, Wire};

/// What the client sees.
enum Sees {
    /// A page of ours that begins so.
    Page(u16),
    /// These bytes and then an orderly end: the head has `Connection: close`, as it asked.
    Bytes(&'static str),
    /// These bytes and then a reset.
    Reset(&'static str),
}
use Sees::{Bytes, Page, Reset};

/// What the sender does when it has sent.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Stays,
    Closes,
    /// It breaks off.
    Breaks,
}
use Then::{Breaks, Closes, Stays};

/// What it is, the beginning of the request line, what is sent, what then, what the client sees,
/// and whether the connection serves another request afterwards.
type Row = (&'static str, &'static str, Vec<u8>, Then, Sees, bool);

const GET: &str = "GET";
/// With the version changed.
const OLD: &str = "GET 1.0";
const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
const LENGTH_5: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

fn row(what: &'static str, sent: &str, then: Then, sees: Sees, reused: bool) -> Row {
    (what, GET, sent.into(), then, sees, reused)
}

fn to(method: &'static str, row: Row) -> Row {
    (row.0, method, row.2, row.3, row.4, row.5)
}

/// A 200 with these field lines and this body.
fn ok(what: &'static str, lines: &str, body: &str, sees: Sees, reused: bool) -> Row {
    row(what, &format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}"), Stays, sees, reused)
}

/// What cannot be passed on, for what stands in the head.
fn bad(what: &'static str, sent: &str) -> Row {
    row(what, sent, Stays, Page(502), false)
}

#[rustfmt::skip] // a table
fn lengths() -> Vec<Row> {
    let bad = |what, lines| ok(what, lines, "hello", Page(502), false);
    vec![
        ok("a length", "Content-Length: 5\r\n", "hello", Bytes(LENGTH_5), true),
        ok("equal lengths", "Content-Length: 5\r\ncontent-length: 5\r\n", "hello", Bytes(LENGTH_5), true),
        ok("a list of equal lengths", "Content-Length: 5, 5\r\n", "hello", Bytes(LENGTH_5), true),
        ok("a blank before the colon", "Content-Length : 5\r\n", "hello", Bytes(LENGTH_5), true),
        ok("a folded length", "Content-Length:\r\n 5\r\n", "hello", Bytes(LENGTH_5), true),
        bad("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        bad("a list of two lengths", "Content-Length: 5, 6\r\n"),
        bad("a length folded into two", "Content-Length: 5\r\n 6\r\n"),
        bad("no length", "Content-Length:\r\n"),
        bad("a sign", "Content-Length: +5\r\n"),
        bad("less than nothing", "Content-Length: -5\r\n"),
        bad("hexadecimal", "Content-Length: 0x5\r\n"),
        bad("a fraction", "Content-Length: 5.0\r\n"),
        bad("more than there is", "Content-Length: 18446744073709551616\r\n"),
        bad("in quotes", "Content-Length: \"5\"\r\n"),
        to("HEAD", bad("two lengths to a HEAD", "Content-Length: 5\r\nContent-Length: 6\r\n")),
        row(
            "less than promised", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", Closes,
            Bytes("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nhello"), false,
        ),
        ok("more than promised", "Content-Length: 5\r\n", "hello, world", Bytes(LENGTH_5), false),
    ]
}

#[rustfmt::skip] // a table
fn codings() -> Vec<Row> {
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let gzip = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n\r\nhello";
    let bad = |what, lines| ok(what, lines, chunks, Page(502), false);
    vec![
        ok("chunks", "Transfer-Encoding: chunked\r\n", chunks, Bytes(CHUNKED), true),
        ok("in capitals", "Transfer-Encoding: CHUNKED\r\n", chunks, Bytes(CHUNKED), true),
        ok("a coding and a length", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", chunks, Bytes(CHUNKED), false),
        ok("a coding and no length", "Transfer-Encoding: chunked\r\nContent-Length: x\r\n", chunks, Bytes(CHUNKED), false),
        to(OLD, ok("to an old client", "Transfer-Encoding: chunked\r\nTrailer: x\r\n", chunks, Bytes("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"), true)),
        row(
            "from an old server",
            &format!("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
            Stays, Bytes(CHUNKED), false,
        ),
        row("not chunked at all", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhello", Closes, Bytes(gzip), false),
        bad("chunked twice", "Transfer-Encoding: chunked, chunked\r\n"),
        bad("chunked in two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        bad("chunked first", "Transfer-Encoding: chunked, gzip\r\n"),
        bad("a coding nobody asked for below", "Transfer-Encoding: gzip, chunked\r\n"),
        bad("an empty member", "Transfer-Encoding: , chunked\r\n"),
        bad("two codings and no chunks", "Transfer-Encoding: gzip\r\nTransfer-Encoding: x\r\n"),
        bad("nearly chunked", "Transfer-Encoding: xchunked\r\n"),
        bad("chunked with a parameter", "Transfer-Encoding: chunked;q=1\r\n"),
        bad("chunked in quotes", "Transfer-Encoding: \"chunked\"\r\n"),
        bad("an empty coding", "Transfer-Encoding:\r\n"),
        bad("an empty coding and a length", "Transfer-Encoding:\r\nContent-Length: 5\r\n"),
        bad("a vertical tab", "Transfer-Encoding:\u{b}chunked\r\n"),
        ok("no chunk", "Transfer-Encoding: chunked\r\n", "hello\r\n", Page(502), false),
        ok("a chunk size too large", "Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n", Page(502), false),
        row(
            "an end inside a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello", Closes,
            Bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n9\r\nhello"), false,
        ),
        row(
            "an end between chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Closes,
            Bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n"), false,
        ),
        to(OLD, row("such an end to an old client", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Closes, Reset(OK), false)),
        ok("bytes behind the last chunk", "Transfer-Encoding: chunked\r\n", &format!("{chunks}HTTP/1.1 200 OK\r\n\r\n"), Bytes(CHUNKED), false),
    ]
}

#[rustfmt::skip] // a table
fn bodyless() -> Vec<Row> {
    let no_content = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
    let unmodified = "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
    let hinted = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let hello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    vec![
        row("a 204", "HTTP/1.1 204 No Content\r\n\r\n", Stays, Bytes(no_content), true),
        row("a 204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Stays, Bytes(no_content), true),
        row("a 204 with a body", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", Stays, Bytes(no_content), false),
        row("a 304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Stays, Bytes(unmodified), true),
        row("a 304 with a body", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", Stays, Bytes(unmodified), false),
        to("HEAD", ok("a HEAD", "Content-Length: 5\r\n", "", Bytes(head), true)),
        to("HEAD", ok("a HEAD with two equal lengths", "Content-Length: 5\r\nContent-Length: 5\r\n", "", Bytes(head), true)),
        to("HEAD", ok("a HEAD with a body", "Content-Length: 5\r\n", "hello", Bytes(head), false)),
        row("an interim response", &format!("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{hello}"), Stays, Bytes(hinted), true),
        row("one that speaks of a body", &format!("HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nLink: x\r\n\r\n{hello}"), Stays, Bytes(hinted), true),
        to(OLD, row("one to an old client", &format!("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{hello}"), Stays, Bytes(LENGTH_5), true)),
        to(OLD, row("one with a body", &format!("HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello{hello}"), Stays, Page(502), false)),
        to(OLD, row("a hundred", &format!("{}{hello}", "HTTP/1.1 102 Processing\r\n\r\n".repeat(100)), Stays, Bytes(LENGTH_5), true)),
        to(OLD, bad("without end", &"HTTP/1.1 102 Processing\r\n\r\n".repeat(101))),
        row("two final responses", &format!("{hello}{hello}"), Stays, Bytes(LENGTH_5), false),
        row("a line end behind the end", &format!("{hello}\r\n"), Stays, Bytes(LENGTH_5), false),
        bad("a 101 nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    ]
}

#[rustfmt::skip] // a table
fn heads() -> Vec<Row> {
    let mended = "HTTP/1.1 200 OK\r\nX-A: b  \t c\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let bad_field = |what, line| ok(what, line, "", Page(502), false);
    vec![
        ok("a folded line", "X-A: b\r\n\t c\r\nContent-Length: 5\r\n", "hello", Bytes(mended), true),
        row("bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", Stays, Bytes(LENGTH_5), true),
        row("no reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Stays, Bytes("HTTP/1.1 200 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), true),
        row("until close", "HTTP/1.1 200 OK\r\n\r\nhello", Closes, Bytes("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"), false),
        row("until a reset", "HTTP/1.1 200 OK\r\n\r\nhello", Breaks, Reset(OK), false),
        row("of HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", Stays, Bytes(LENGTH_5), false),
        row("that announces a close", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", Stays, Bytes(LENGTH_5), false),
        ok("fields of the hop", "Connection: X-Own\r\nX-Own: 1\r\nKeep-Alive: 5\r\nUpgrade: h2\r\nProxy-Authenticate: NTLM\r\nProxy-Authentication-Info: x\r\nContent-Length: 5\r\n", "hello", Bytes(LENGTH_5), true),
        ok("a length called the hop's own", "Connection: Content-Length\r\nContent-Length: 5\r\n", "hello", Bytes(LENGTH_5), true),
        bad_field("a NUL", "X: a\0b\r\n"),
        bad_field("a bell", "X: a\u{7}b\r\n"),
        bad_field("a DEL", "X: a\u{7f}b\r\n"),
        bad_field("a bare CR in a value", "X: a\rContent-Length: 5\r\n"),
        bad_field("a bare CR in a name", "X\rY: a\r\n"),
        bad_field("no colon", "Content-Length 5\r\n"),
        bad_field("no name", ": 5\r\n"),
        bad_field("a blank in a name", "Content Length: 5\r\n"),
        bad_field("a fold before any line", " Content-Length: 5\r\n"),
        bad("a NUL in the reason", "HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n"),
        bad("a bare CR in the reason", "HTTP/1.1 200 OK\rX: y\r\nContent-Length: 0\r\n\r\n"),
        bad("status 099", "HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n"),
        bad("status 600", "HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n"),
        bad("two digits", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
        bad("four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
        bad("a negative status", "HTTP/1.1 -20 OK\r\nContent-Length: 0\r\n\r\n"),
        bad("HTTP/2", "HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n"),
        bad("HTTP/1.10", "HTTP/1.10 200 OK\r\nContent-Length: 0\r\n\r\n"),
        bad("another protocol", "ICY 200 OK\r\n\r\nnoise"),
        bad("a request", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        bad("a page and no head", "<html>\r\n\r\n</html>"),
        row("HTTP/0.9", "<html></html>", Closes, Page(502), false),
        row("half a head", "HTTP/1.1 200 OK\r\nContent-Le", Closes, Page(502), false),
        row("nothing", "", Closes, Page(502), false),
        bad("a head too large", &format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(66_000))),
        bad("a head without end", &"x".repeat(70_000)),
        bad("too many lines", &format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(300))),
    ]
}

type Log = Arc<Mutex<Vec<(String, usize)>>>;

/// Sends the row that the path ends in, and notes which connection each request came on.
fn sender(rows: Arc<Vec<Row>>, log: Log) -> Origin {
    Origin::raw(move |number, mut wire| {
        while let Ok(Some(head)) = wire.read_request() {
            let path = head.target.rsplit('/').next().unwrap_or_default().to_owned();
            let row = path.parse::<usize>().ok().and_then(|at| rows.get(at));
            lock(&log).push((path, number));
            let probe = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec();
            let (bytes, then) = row.map_or((&probe, Stays), |row| (&row.2, row.3));
            if wire.write(bytes).is_err() || then == Closes {
                return;
            }
            if then == Breaks {
                _ = set_socket_linger(wire.stream(), Some(Duration::ZERO));
                return;
            }
        }
    })
}

#[test]
fn every_response_is_read_in_one_way_or_not_at_all() {
    let rows = Arc::new(
        [lengths(), codings(), bodyless(), heads()].into_iter().flatten().collect::<Vec<_>>(),
    );
    let log = Log::default();
    let sender = sender(Arc::clone(&rows), Arc::clone(&log));
    let through = Proxy::start(&format!("PARENT_PROXY: {}\n{NOBODY}", sender.addr()));
    let direct = Proxy::start(NOBODY);
    for (proxy, base, way) in [(&through, url("/"), "parent"), (&direct, sender.url("/"), "direct")]
    {
        for (at, (what, method, _, _, sees, reused)) in rows.iter().enumerate() {
            let what = format!("{what} ({way})");
            let (method, version) = if *method == OLD { (GET, "1.0") } else { (*method, "1.1") };
            let mut client = proxy.client();
            client.send(format!(
                "{method} {base}{at} HTTP/{version}\r\nHost: x\r\nConnection: close\r\n\r\n"
            ));
            let (seen, ended) = to_the_end(&mut client.wire);
            let (expected, orderly) = match sees {
                Page(status) => (format!("HTTP/1.1 {status} "), true),
                Bytes(bytes) => ((*bytes).to_owned(), true),
                Reset(begin) => ((*begin).to_owned(), false),
            };
            match sees {
                Bytes(_) => assert_eq!(seen, expected, "{what}"),
                Page(_) => assert!(seen.starts_with(&expected), "{what}: {seen}"),
                // What was not read yet goes with it.
                Reset(_) => {
                    assert!(format!("{expected}hello").starts_with(&seen), "{what}: {seen}");
                }
            }
            assert_eq!(ended.is_ok(), orderly, "{what}: {ended:?}");
            assert_eq!(proxy.get(&format!("{base}probe")).status(), 200, "{what}");
            let log = lock(&log);
            let [.., (path, served), (_, probed)] = &log[..] else { panic!("{what}") };
            assert_eq!(*path, at.to_string(), "{what}");
            assert_eq!(served == probed, *reused, "{what}: the connection");
        }
    }
}

/// What stands behind a challenge was sent before its answer, and answers nothing.
#[test]
fn a_response_behind_a_challenge_is_not_the_answer_to_the_login() {
    let challenge = crate::support::vectors::hex(crate::support::vectors::WIN7_CHALLENGE);
    let lines = ["NTLM".to_owned(), format!("NTLM {}", crate::support::gate::base64(&challenge))];
    let parent = Origin::with(move |seen, wire| {
        let asked = seen.fields().has("Proxy-Authorization");
        let fields = [("Proxy-Authenticate", lines[usize::from(asked)].as_str())];
        let refusal = response(407, &fields, b"no");
        let sent = wire.write(&[refusal, response(200, &[], b"smuggled")].concat());
        if sent.is_ok() { Next } else { Close }
    });
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{LOGIN}", parent.addr()));
    for legs in [2, 3] {
        let page = proxy.get(&url("/"));
        assert_eq!(page.status(), 502, "{}", page.text());
        assert_eq!(parent.seen().len(), legs, "no AUTHENTICATE goes there");
    }
}

fn to_the_end(wire: &mut Wire) -> (String, std::io::Result<usize>) {
    let ended = loop {
        match wire.fill() {
            Ok(1..) => {}
            other => break other,
        }
    };
    (String::from_utf8_lossy(&wire.take_ahead()).into_owned(), ended)
}
