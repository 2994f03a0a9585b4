//! `Expect: 100-continue` with a next hop that does not know it.

use crate::proxy::{NOBODY, Proxy};
use crate::support::Origin;

#[test]
fn a_client_that_waits_for_a_100_gets_one_although_the_next_hop_sends_none() {
    let origin = Origin::raw(|_, mut wire| {
        // Reads head and body whatever the head expects, as servers of HTTP/1.0 do.
        let head = wire.read_request().unwrap().unwrap();
        assert!(head.fields.has("Expect"));
        assert_eq!(wire.read_exact(5).unwrap(), b"hello");
        wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    });
    let proxy = Proxy::start(NOBODY);
    let mut client = proxy.client();
    let fields = [("Content-Length", "5"), ("Expect", "100-continue")];
    let head = client.head("POST", &origin.url("/"), &fields, b"");
    client.send(head);
    assert_eq!(client.read_head().status, 100);
    client.send("hello");
    assert_eq!(client.read_response().text(), "ok");
}
