//! What does not come is not waited for, for ever or at all.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, listen, socket};

use crate::proxy::{ALICE, LOGIN, NOBODY, Network, Proxy, url};
use crate::refusals::dead_port;
use crate::support::{DEADLINE, Parent, Quirk, pattern};

/// A listener whose queue is full: who dials it hears nothing.
fn black_hole() -> (TcpListener, Vec<TcpStream>) {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&fd, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a loopback port");
    listen(&fd, 0).expect("a listener");
    let listener = TcpListener::from(fd);
    let addr = listener.local_addr().expect("its name");
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
        queue.push(stream);
        assert!(queue.len() < 100, "the queue has no end");
    }
    (listener, queue)
}

#[test]
fn a_parent_that_does_not_accept_is_a_504_when_its_time_is_over() {
    let (listener, _queue) = black_hole();
    let addr = listener.local_addr().unwrap();
    let proxy = Proxy::start(&format!("PARENT_PROXY: {addr}\nPARENT_PROXY_TIMEOUT: 1\n{LOGIN}"));
    for target in [url("/"), "example.test:443".into()] {
        let method = if target.contains("://") { "GET" } else { "CONNECT" };
        let page = proxy.client().request(method, &target, &[], b"");
        assert_eq!(page.status(), 504, "{}", page.text());
        assert!(page.text().contains(&addr.to_string()), "{}", page.text());
    }
}

#[test]
fn who_sends_half_a_body_is_answered_before_the_other_half() {
    let (_held, dead) = dead_port();
    let proxy = Proxy::start(&format!("PARENT_PROXY: {dead}\n{NOBODY}"));
    let mut client = proxy.client();
    let head = client.head("POST", &url("/"), &[("Content-Length", "10")], b"");
    client.send([&head[..], b"half"].concat());
    let started = Instant::now();
    let page = client.read_response();
    assert_eq!((page.status(), page.fields().lists("Connection", "close")), (502, true));
    assert!(started.elapsed() < DEADLINE / 2, "{:?}", started.elapsed());
}

/// A parent that forgot the login while a body too long to be sent twice is under way, and reads no
/// more of it.
#[test]
fn a_407_in_the_middle_of_an_upload_is_told_at_once_and_does_not_come_again() {
    let parent =
        Parent::ntlm(ALICE).quirk(Quirk::EarlyAnswer { status: 407, after: 4 << 20, close: false });
    let network = Network::new(parent, LOGIN);
    assert_eq!(network.get("/hello").status(), 200);
    let mut client = network.client();
    let head = client.head("PUT", &url("/hash"), &[("Content-Length", "1000000000")], b"");
    client.send([head, pattern(8 << 20)].concat());
    let page = client.read_response();
    assert_eq!(page.status(), 503, "{}", page.text());
    assert!(page.text().contains("Send the request again"), "{}", page.text());
    let body = pattern(3 << 20);
    let response = network.client().request("PUT", &url("/hash"), &[], &body);
    assert_eq!(response.status(), 200, "{}", response.text());
    assert_eq!((network.parent.handshakes(), network.parent.refusals()), (2, 0));
}
