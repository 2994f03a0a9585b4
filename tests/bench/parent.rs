//! The far end of every measurement: a parent proxy that demands NTLM at one port and nothing at
//! another, and the origin behind it, all in one process of its own. It computes nothing: whoever
//! sends an AUTHENTICATE message is let in.

use std::io::{self, BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::rivals::listener;
use crate::wire::{Wire, bad, number, value};

/// Enough for what a connection does here.
const STACK: usize = 128 * 1024;

/// What is asked for at the end of a measurement.
#[derive(Default)]
struct Counts {
    /// AUTHENTICATE messages.
    logins: AtomicU64,
    /// Connections that are open at the port that demands NTLM.
    open: AtomicU64,
}

/// Serves until standard input ends. A line there asks for the counts.
pub fn run() -> io::Result<()> {
    let counts = Arc::new(Counts::default());
    let challenge = challenge();
    let demanding = listen(Some(&challenge), &counts)?;
    let open = listen(None, &counts)?;
    println!("{} {}", demanding.port(), open.port());
    for line in io::stdin().lock().lines() {
        line?;
        let count = |of: &AtomicU64| of.load(Ordering::SeqCst);
        println!("{} {}", count(&counts.logins), count(&counts.open));
        io::stdout().flush()?;
    }
    Ok(())
}

fn listen(challenge: Option<&str>, counts: &Arc<Counts>) -> io::Result<SocketAddr> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = listener(address)?;
    let address = listener.local_addr()?;
    let challenge: Option<Arc<str>> = challenge.map(Arc::from);
    let counts = Arc::clone(counts);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (challenge, counts) = (challenge.clone(), Arc::clone(&counts));
            let serve = move || stream.and_then(|stream| serve(stream, challenge, &counts));
            // A client that breaks off is told on about by the one who measures.
            drop(thread::Builder::new().stack_size(STACK).spawn(serve));
        }
    });
    Ok(address)
}

/// One connection.
fn serve(stream: TcpStream, challenge: Option<Arc<str>>, counts: &Counts) -> io::Result<()> {
    let _counted = challenge.as_ref().map(|_| Counted::new(&counts.open));
    let small = format!(
        "HTTP/1.1 200 OK\r\nProxy-Connection: Keep-Alive\r\nContent-Length: 1024\r\n\r\n{}",
        "x".repeat(1024)
    );
    let mut wire = Wire::new(stream)?;
    let mut challenge = challenge;
    while let Some(head) = wire.read_head()? {
        let mut words = head.split(|byte| *byte == b' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if let Some(text) = &challenge {
            wire.skip_body(&head)?;
            match message_type(&head) {
                3 => {
                    counts.logins.fetch_add(1, Ordering::SeqCst);
                    challenge = None;
                }
                1 => {
                    wire.write(&demand(&format!(" {text}")))?;
                    continue;
                }
                _ => {
                    wire.write(&demand(""))?;
                    continue;
                }
            }
        } else if method != b"CONNECT" {
            wire.skip_body(&head)?;
        }
        let asked = |path: &str| {
            let at = target.windows(path.len()).position(|part| part == path.as_bytes());
            at.and_then(|at| target.get(at + path.len()..)).map(number)
        };
        if method == b"CONNECT" {
            wire.write(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
            return tunnel(&mut wire);
        } else if let Some(length) = asked("/length/") {
            let length = length?;
            wire.write(format!("HTTP/1.1 200 OK\r\nProxy-Connection: Keep-Alive\r\nContent-Length: {length}\r\n\r\n").as_bytes())?;
            wire.pour(length)?;
        } else if let Some(length) = asked("/chunked/") {
            wire.write(b"HTTP/1.1 200 OK\r\nProxy-Connection: Keep-Alive\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            wire.pour_chunked(length?)?;
        } else {
            wire.write(small.as_bytes())?;
        }
    }
    Ok(())
}

/// What is in a tunnel: a letter and a number. `D`: so many bytes down; `U`: so many up, then one
/// that confirms them; `E`: an echo of so many bytes, one by one.
fn tunnel(wire: &mut Wire) -> io::Result<()> {
    let [kind, length @ ..] = wire.read_exact::<9>()?;
    let length = u64::from_be_bytes(length);
    match kind {
        b'D' => wire.pour(length),
        b'U' => {
            wire.skip(length)?;
            wire.write(b"!")
        }
        b'E' => {
            wire.rest();
            for _ in 0..length {
                let byte = wire.read_exact::<1>()?;
                wire.write(&byte)?;
            }
            Ok(())
        }
        _ => Err(bad("a tunnel that asks for nothing")),
    }
}

struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn demand(challenge: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: NTLM{challenge}\r\n\
         Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// Which message of a handshake a request carries; 0 for none.
fn message_type(head: &[u8]) -> u8 {
    let message = value(head, "proxy-authorization").and_then(|text| {
        let token = text.strip_prefix(b"NTLM ")?;
        STANDARD.decode(token).ok().filter(|message| message.starts_with(b"NTLMSSP\0"))
    });
    message.and_then(|message| message.get(8).copied()).unwrap_or(0)
}

/// A CHALLENGE message (MS-NLMP 2.2.1.2) as a domain controller of today sends it: Unicode,
/// extended session security, target information with a timestamp.
fn challenge() -> String {
    let text = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let name = text("CORP");
    let mut info = Vec::new();
    let timestamp = 0x01DC_0000_0000_0000_u64.to_le_bytes().to_vec();
    for (id, value) in [(2, name.clone()), (1, text("DC1")), (7, timestamp), (0, Vec::new())] {
        info.extend([id, 0, u8::try_from(value.len()).unwrap_or(0), 0]);
        info.extend(value);
    }
    // Length twice, then where: behind the 56 bytes that do not vary.
    let place = |length: usize, at: usize| {
        let [length, at] = [length, at].map(|n| u8::try_from(n).unwrap_or(0));
        [length, 0, length, 0, at, 0, 0, 0]
    };
    let mut message = b"NTLMSSP\0\x02\0\0\0".to_vec();
    message.extend(place(name.len(), 56));
    message.extend(0xA289_8205_u32.to_le_bytes());
    message.extend(*b"\x01\x23\x45\x67\x89\xab\xcd\xef\0\0\0\0\0\0\0\0");
    message.extend(place(info.len(), 56 + name.len()));
    message.extend([6, 1, 0, 0, 0, 0, 0, 15]);
    message.extend(name);
    message.extend(info);
    STANDARD.encode(message)
}
