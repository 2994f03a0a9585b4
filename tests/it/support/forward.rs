//! The way from the parent to the far side: targets, dialing, heads on their way through, tunnels.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use super::http::{Body, Framing, RequestHead, ResponseHead, chunk};
use super::wire::Wire;

/// Host, port and origin-form of an absolute-form target.
pub fn absolute(target: &str) -> Option<(&str, u16, String)> {
    let rest = target.strip_prefix("http://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, port) = authority(&rest[..end], Some(80))?;
    let path = if rest[end..].starts_with('/') { "" } else { "/" };
    Some((host, port, format!("{path}{}", &rest[end..])))
}

/// `host:port`, `[v6]:port`; without a port only where there is a default.
pub fn authority(text: &str, default: Option<u16>) -> Option<(&str, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, default?),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some((host, port))
}

/// Every name means `origin`, if there is one.
pub fn dial(
    host: &str,
    port: u16,
    origin: Option<SocketAddr>,
    limit: Duration,
) -> io::Result<Wire> {
    let addrs = match origin {
        Some(addr) => vec![addr],
        None => (host, port).to_socket_addrs()?.collect(),
    };
    let mut result = Err(io::Error::new(ErrorKind::NotFound, "no address"));
    for addr in addrs {
        result = TcpStream::connect_timeout(&addr, limit);
        if result.is_ok() {
            break;
        }
    }
    let wire = Wire::new(result?)?;
    wire.deadline(limit)?;
    Ok(wire)
}

/// The field lines that concern the next hop too, byte for byte.
fn end_to_end(raw: &[u8], dropped: impl Fn(&str) -> bool) -> Vec<u8> {
    let mut out = Vec::new();
    for line in raw.split_inclusive(|byte| *byte == b'\n').skip(1) {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if line != b"\r\n" && !dropped(&String::from_utf8_lossy(name)) {
            out.extend(line);
        }
    }
    out
}

fn is_hop_by_hop(name: &str) -> bool {
    let names = [
        "Connection",
        "Proxy-Connection",
        "Keep-Alive",
        "Proxy-Authorization",
        "Proxy-Authenticate",
    ];
    names.iter().any(|hop| hop.eq_ignore_ascii_case(name))
}

pub fn request_head(head: &RequestHead, path: &str) -> Vec<u8> {
    let named = |name: &str| is_hop_by_hop(name) || head.fields.lists("Connection", name);
    let mut out = format!("{} {path} HTTP/1.1\r\n", head.method).into_bytes();
    out.extend(end_to_end(&head.raw, named));
    out.extend(b"Via: 1.1 parent\r\nConnection: close\r\n\r\n");
    out
}

pub fn response_head(head: &ResponseHead, framing: Framing, own: &[(&str, &str)]) -> Vec<u8> {
    let unchunked = |name: &str| {
        framing == Framing::UntilClose && name.eq_ignore_ascii_case("Transfer-Encoding")
    };
    let mut out = format!("HTTP/1.1 {} {}\r\n", head.status, head.reason).into_bytes();
    out.extend(end_to_end(&head.raw, |name| is_hop_by_hop(name) || unchunked(name)));
    own.iter().for_each(|(name, value)| out.extend(format!("{name}: {value}\r\n").bytes()));
    out.extend(b"Via: 1.1 parent\r\n\r\n");
    out
}

/// A piece of a body in its framing.
pub fn put(to: &mut Wire, framing: Framing, piece: &[u8]) -> io::Result<()> {
    match framing {
        Framing::Chunked if !piece.is_empty() => to.write(&chunk(piece)),
        Framing::Chunked => Ok(()),
        _ => to.write(piece),
    }
}

pub fn last_chunk(body: &Body) -> Vec<u8> {
    let mut out = "0\r\n".to_owned();
    body.trailers.0.iter().for_each(|(name, value)| out += &format!("{name}: {value}\r\n"));
    out += "\r\n";
    out.into()
}

/// Copies both ways until both sides have said their last; what was read ahead goes first.
pub fn tunnel(near: &mut Wire, far: &mut Wire, idle: Duration) -> io::Result<()> {
    near.deadline(idle)?;
    far.deadline(idle)?;
    let (up, down) = (near.take_ahead(), far.take_ahead());
    far.write(&up)?;
    near.write(&down)?;
    thread::scope(|scope| {
        scope.spawn(|| copy(near.stream(), far.stream()));
        copy(far.stream(), near.stream());
    });
    Ok(())
}

/// The end of one direction is passed on; an error ends both.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let mut piece = [0; 64 * 1024];
    loop {
        let result = match from.read(&mut piece) {
            Ok(0) => {
                _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(count) => to.write_all(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        };
        if result.is_err() {
            _ = from.shutdown(Shutdown::Both);
            _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}
