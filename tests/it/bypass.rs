//! `HOSTS_TO_BYPASS_PARENT_PROXY`, at every door.

use std::net::IpAddr;

use crate::proxy::{NOBODY, Network};
use crate::support::{Client, Origin, Parent, Response};

/// A request for the far end of what is open now.
fn hello(client: &mut Client) -> Response {
    client.send("GET /hello HTTP/1.1\r\nHost: far\r\n\r\n");
    client.read_response()
}

/// CONNECT of SOCKS5, the way a client asks that was given this host.
fn socks_request(host: &str, port: u16) -> Vec<u8> {
    let bare = host.trim_matches(['[', ']']);
    let mut wire = vec![5, 1, 0];
    match bare.parse() {
        Ok(IpAddr::V4(ip)) => wire.extend([&[1][..], &ip.octets()].concat()),
        Ok(IpAddr::V6(ip)) => wire.extend([&[4][..], &ip.octets()].concat()),
        Err(_) => {
            wire.extend([3, u8::try_from(bare.len()).expect("a short name")]);
            wire.extend(bare.bytes());
        }
    }
    wire.extend(port.to_be_bytes());
    wire
}

#[test]
fn a_bypassed_host_is_gone_to_directly_through_every_door() {
    for (patterns, host, direct) in [
        ("localhost", "localhost", true),
        ("LocalHost.", "lOCALhost", true),
        ("a.test local*", "localhost", true),
        ("loc?lhost", "localhost", true),
        ("<local>", "localhost", true),
        ("localhost:1", "localhost", true),
        (".localhost", "localhost", false),
        ("local", "localhost", false),
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.1:1", "127.0.0.1", true),
        ("127.*", "127.0.0.1", true),
        ("10.0.0.0/8, 127.0.0.0/8", "127.0.0.1", true),
        ("127.0.0.0/8", "[::ffff:127.0.0.1]", true),
        ("::ffff:127.0.0.0/104", "127.0.0.1", true),
        ("128.0.0.0/8 ::/0 <local>", "127.0.0.1", false),
        // An address pattern means what is written, not what a name stands for.
        ("127.0.0.0/8 ::1 127.* 0.0.0.0/0 ::/0", "localhost", false),
    ] {
        let origin = Origin::start();
        let port = origin.addr().port();
        let cfg = format!(
            "HOSTS_TO_BYPASS_PARENT_PROXY: {patterns}\nSOCKS5_PORT: 0\nTUNNELS: 0:{host}:{port}\n{NOBODY}"
        );
        let network = Network::to(origin, Parent::open(), &cfg);
        let proxy = &network.proxy;
        for door in ["HTTP", "CONNECT", "SOCKS5", "TUNNELS"] {
            let before = network.parent.hops().len();
            let response = match door {
                "HTTP" => proxy.get(&format!("http://{host}:{port}/hello")),
                "CONNECT" => {
                    let mut client = proxy.client();
                    client.tunnel(&format!("{host}:{port}"));
                    hello(&mut client)
                }
                "SOCKS5" => {
                    let mut client = proxy.client_of(0);
                    client.send([5, 1, 0]);
                    client.send(socks_request(host, port));
                    assert_eq!(client.read_exact(2), [5, 0]);
                    let reply = client.read_exact(4);
                    assert_eq!(reply[..3], [5, 0, 0], "{door} {patterns}");
                    client.read_exact(if reply[3] == 1 { 6 } else { 18 });
                    hello(&mut client)
                }
                _ => hello(&mut proxy.client_of(1)),
            };
            assert_eq!(response.text(), "hello, world\n", "{door} {patterns} {host}");
            let asked = network.parent.hops().len() - before;
            assert_eq!(asked, usize::from(!direct), "{door} {patterns} {host}");
        }
    }
}

/// A dot at the end makes no other host of it. (Whether the system then knows the name is not asked.)
#[test]
fn a_final_dot_does_not_lead_around_the_list() {
    let cfg = format!("HOSTS_TO_BYPASS_PARENT_PROXY: .invalid\n{NOBODY}");
    let network = Network::new(Parent::open(), &cfg);
    for host in ["a.invalid", "A.Invalid.", "b.a.invalid."] {
        assert_eq!(network.proxy.get(&format!("http://{host}/")).status(), 502);
        let mut client = network.client();
        assert_eq!(client.request("CONNECT", &format!("{host}:443"), &[], b"").status(), 502);
    }
    assert_eq!(network.parent.connections(), 0);
}
