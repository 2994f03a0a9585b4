//! `URL_LOG`: one line for each request when it is over, by whatever door it came.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use crate::doors::{echo, echoes, greeted, refusal, to_name};
use crate::process::{Place, Serving};
use crate::proxy::{ALICE, LOGIN, NOBODY, Network, Proxy};
use crate::refusals::dead_port;
use crate::support::{Client, DEADLINE, Origin, Parent};

/// The place of a log, and the line that asks for it.
fn place() -> (Place, String) {
    let place = Place::new();
    let line = format!("URL_LOG: {}\n", place.path("url.log").display());
    (place, line)
}

/// The log as soon as it has so many lines; a line comes when the client may already be gone.
fn lines(log: &Path, count: usize) -> Vec<String> {
    let until = Instant::now() + DEADLINE;
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        if text.lines().count() >= count && text.ends_with('\n') {
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
            return text.lines().map(str::to_owned).collect();
        }
        assert!(Instant::now() < until, "{count} lines are expected:\n{text}");
        std::thread::yield_now();
    }
}

/// Takes a line apart: who asked, for what, what became of it, and which way it went.
fn parts(line: &str) -> (SocketAddr, String, u64, String) {
    let words: Vec<&str> = line.splitn(10, ' ').collect();
    let [time, client, method, target, version, status, bytes, millis, "ms", way] = words[..]
    else {
        panic!("{line}")
    };
    assert!(time.len() == "2026-01-31T00:00:00Z".len() && time.ends_with('Z'), "{line}");
    millis.parse::<u64>().expect("a duration");
    let asked = [method, target, version, status].join(" ");
    let bytes = bytes.parse().expect("a number of bytes");
    (client.parse().expect("an address"), asked, bytes, way.to_owned())
}

/// Sends a request that is the last one; who asked, and how many bytes came back.
fn exchange(proxy: &Proxy, request: &str) -> (SocketAddr, u64) {
    let mut client = proxy.client();
    let own = client.wire.stream().local_addr().expect("its name");
    client.send(request);
    client.finish();
    (own, client.read_to_end().len().try_into().expect("not that many"))
}

#[test]
fn each_request_is_a_line_that_tells_what_became_of_it() {
    let (_held, dead) = dead_port();
    let far = Origin::start();
    let (place, cfg) = place();
    let cfg = format!("{cfg}HOSTS_TO_BYPASS_PARENT_PROXY: 127.0.0.1\n");
    let good = Network::new(Parent::ntlm(ALICE), &format!("{cfg}{LOGIN}"));
    let wrong = format!("{cfg}USER: CORP\\alice\nPASSWORD: wrong\n");
    let wrong = Network::new(Parent::ntlm(ALICE), &wrong);
    let gone = Proxy::start(&format!("PARENT_PROXY: {dead}\n{cfg}{NOBODY}"));
    let parent = format!("parent {}", good.parent.addr());
    let direct = far.url("/hello");
    for (nth, (proxy, request, asked, way)) in [
        (
            &good.proxy,
            "GET http://u:s3cret@a.test/hello?q=1".to_owned(),
            "GET http://a.test/hello?q=1 HTTP/1.1 200",
            &*parent,
        ),
        (&good.proxy, format!("GET {direct}"), &format!("GET {direct} HTTP/1.1 200"), "direct"),
        (
            &good.proxy,
            "HEAD http://a.test/hello".into(),
            "HEAD http://a.test/hello HTTP/1.1 200",
            &parent,
        ),
        (&good.proxy, "CONNECT a.test:80".into(), "CONNECT a.test:80 HTTP/1.1 200", &parent),
        (&good.proxy, "GET /".into(), "GET / HTTP/1.1 400", "refused: This is ntlmaps, a proxy."),
        (&good.proxy, "GET /proxy.pac".into(), "GET /proxy.pac HTTP/1.1 200", "here"),
        (&good.proxy, "OPTIONS *".into(), "OPTIONS * HTTP/1.1 200", "here"),
        (
            &good.proxy,
            "GET http://a.test/\x1b[31m\u{2028}\u{7f}".into(),
            "- - - 400",
            "refused: The request cannot be read: ",
        ),
        (
            &wrong.proxy,
            "GET http://a.test/".into(),
            "GET http://a.test/ HTTP/1.1 407",
            "refused: The parent proxy ",
        ),
        (
            &wrong.proxy,
            "CONNECT a.test:80".into(),
            "CONNECT a.test:80 HTTP/1.1 407",
            "refused: The parent proxy ",
        ),
        (
            &gone,
            "GET http://a.test/".into(),
            "GET http://a.test/ HTTP/1.1 502",
            &format!("refused: Parent proxy: {dead} cannot be reached: "),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let (own, came) =
            exchange(proxy, &format!("{request} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
        let log = lines(&place.path("url.log"), nth + 1);
        assert_eq!(log.len(), nth + 1, "{log:#?}");
        let line = &log[nth];
        let (client, told, bytes, went) = parts(line);
        assert_eq!((client, &*told), (own, asked), "{line}");
        if asked.contains("CONNECT") && asked.ends_with("200") {
            assert_eq!(bytes, 0, "nothing went through: {line}");
        } else {
            assert_eq!(bytes, came, "{line}");
        }
        assert_eq!(went == way, !way.starts_with("refused"), "{line}");
        assert!(went.starts_with(way), "{line}");
        assert!(!line.contains("s3cret"), "{line}");
    }
}

#[test]
fn other_doors_are_in_it_with_nothing_but_host_and_port() {
    let (place, cfg) = place();
    let log = place.path("url.log");
    let network = echo(&format!(
        "{cfg}SOCKS5_PORT: 0\nTUNNELS: 0:b.test:22 0:127.0.0.1:1\n\
                                 HOSTS_TO_BYPASS_PARENT_PROXY: 127.0.0.1"
    ));
    let parent = format!("parent {}", network.parent.addr());
    let mut client = greeted(&network.proxy);
    client.send(to_name("a.test", 80));
    client.read_exact(10);
    echoes(&mut client);
    lines(&log, 1);
    echoes(&mut network.proxy.client_of(1));
    lines(&log, 2);
    assert!(network.proxy.client_of(2).is_closed());
    lines(&log, 3);
    let mut client = greeted(&network.proxy);
    client.send(to_name("127.0.0.1", 1));
    assert_eq!(refusal(&mut client), 5);
    lines(&log, 4);
    let mut client = greeted(&network.proxy);
    client.send([5, 2, 0, 1, 127, 0, 0, 1, 0, 1]);
    assert_eq!(refusal(&mut client), 7);
    // Whoever says nothing has asked for nothing.
    drop(network.proxy.client_of(0));
    let refused = "refused: Server: 127.0.0.1:1 cannot be reached: ";
    for (line, (asked, bytes, way)) in lines(&log, 5).iter().zip([
        ("CONNECT a.test:80 HTTP/1.1 200", 8, &*parent),
        ("CONNECT b.test:22 HTTP/1.1 200", 8, &parent),
        ("CONNECT 127.0.0.1:1 HTTP/1.1 -", 0, refused),
        ("CONNECT 127.0.0.1:1 HTTP/1.1 -", 0, refused),
        ("- - - -", 0, "refused: no SOCKS5 request that can be served"),
    ]) {
        let (_, told, count, went) = parts(line);
        assert_eq!((&*told, count), (asked, bytes), "{line}");
        assert!(went.starts_with(way), "{line}");
    }
    drop(network);
    assert_eq!(lines(&log, 5).len(), 5);
}

#[test]
fn what_many_clients_do_does_not_mix() {
    let origin = Origin::start();
    let (place, cfg) = place();
    let proxy = Proxy::start(&format!("{cfg}{NOBODY}"));
    std::thread::scope(|scope| {
        for name in 0..8 {
            let (proxy, origin) = (&proxy, &origin);
            scope.spawn(move || {
                let mut client = proxy.client();
                let long = name.to_string().repeat(5000);
                for _ in 0..25 {
                    assert_eq!(client.get(&origin.url(&format!("/hello?{long}"))).status(), 200);
                }
            });
        }
    });
    let log = lines(&place.path("url.log"), 200);
    assert_eq!(log.len(), 200);
    for line in log {
        let (_, asked, _, way) = parts(&line);
        let query = asked.split(['?', ' ']).nth(2).expect("a query");
        let first = query.chars().next().expect("a digit");
        assert!(query.len() == 5000 && query.chars().all(|c| c == first), "{line}");
        assert_eq!(way, "direct");
    }
}

#[test]
fn it_may_be_put_away_and_goes_on_in_a_new_file_after_a_reload() {
    let (place, cfg) = place();
    let (log, old) = (place.path("url.log"), place.path("url.log.1"));
    let proxy = Proxy::start(&format!("{cfg}{NOBODY}"));
    for _ in 0..2 {
        assert_eq!(proxy.get("/").status(), 400);
    }
    fs::rename(&log, &old).expect("both are ours");
    assert_eq!(proxy.get("/").status(), 400);
    assert_eq!(lines(&old, 3).len(), 3, "nothing is lost in between");
    proxy.reload(&format!("{cfg}{NOBODY}"));
    assert_eq!(proxy.get("/").status(), 400);
    assert_eq!((lines(&log, 1).len(), lines(&old, 3).len()), (1, 3));
}

#[test]
fn a_full_disk_costs_lines_and_no_request_and_is_told() {
    let cfg = "LISTEN_ADDRESS: 127.0.0.1\nLISTEN_PORT: 0\nURL_LOG: /dev/full\n";
    let place = Place::with("ntlmaps.cfg", cfg);
    let mut serving = Serving::start(place.command(&[]));
    let mut client = Client::connect(serving.address());
    for _ in 0..9 {
        assert_eq!(client.request("OPTIONS", "*", &[("Host", "")], b"").status(), 200);
    }
    let said = serving.end();
    let told: Vec<&str> = said.lines().filter(|line| line.contains("URL_LOG: No space")).collect();
    assert!((1..9).contains(&told.len()), "told, but not for each line: {said}");
    assert!(told.iter().all(|line| line.contains(" lost")), "{said}");
}

#[test]
fn one_that_cannot_be_opened_costs_no_request_and_is_told() {
    let cfg = "LISTEN_ADDRESS: 127.0.0.1\nLISTEN_PORT: 0\nURL_LOG: no/such/place\n";
    let place = Place::with("ntlmaps.cfg", cfg);
    let mut serving = Serving::start(place.command(&[]));
    assert_eq!(Client::connect(serving.address()).get("/").status(), 400);
    let said = serving.end();
    assert!(said.contains("URL_LOG: no/such/place: No such file"), "{said}");
}

#[test]
fn a_1_is_a_file_of_that_name_in_the_working_directory() {
    let cfg = "LISTEN_ADDRESS: 127.0.0.1\nLISTEN_PORT: 0\nURL_LOG: 1\n";
    let place = Place::with("ntlmaps.cfg", cfg);
    let mut serving = Serving::start(place.command(&[]));
    assert_eq!(Client::connect(serving.address()).get("/").status(), 400);
    lines(&place.path("url.log"), 1);
}
