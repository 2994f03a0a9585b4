//! What crosses the wire, for the log: `AUTH_DEBUG` tells what logins say, `BIN_DEBUG` shows bytes.
//! Neither shows a credential; what is in a tunnel is nobody's business at all.

use std::net::TcpStream;

use log::Level;

use crate::auth::describe;
use crate::http::ends::find_end;
use crate::http::fields::FieldLines;
use crate::http::names::FieldName;
use crate::http::redaction::redact;
use crate::logging::{BYTES, LOGINS};
use crate::sys;

/// So much is shown of a head, and of a body.
const MOST: usize = 4096;
/// Bytes in a line.
const ROW: usize = 16;

/// Tells what the challenges or credentials in field `name` say; `way` stands before each line.
pub fn login(way: &str, fields: &FieldLines, name: FieldName<'_>) {
    if log::log_enabled!(target: LOGINS, Level::Trace) {
        for line in describe::field(fields, name, &sys::utc_of) {
            log::trace!(target: LOGINS, "{way} {line}");
        }
    }
}

/// Shows a head, and the body that may stand behind it. `peer`: who is at the other end; `None` for
/// the client that every line names.
#[inline]
pub fn message(way: &str, peer: Option<&TcpStream>, bytes: &[u8]) {
    if is_on() {
        message_of(way, peer, bytes);
    }
}

fn message_of(way: &str, peer: Option<&TcpStream>, bytes: &[u8]) {
    let end = find_end(bytes, 0).unwrap_or(bytes.len());
    let (head, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
    show(way, peer, "a head", 0, &redact(head));
    body_of(way, peer, 0, rest);
}

/// Shows bytes of a body that came, `offset` bytes into it.
#[inline]
pub fn body(peer: Option<&TcpStream>, offset: usize, bytes: Option<&[u8]>) {
    if let Some(bytes) = bytes.filter(|_| is_on()) {
        body_of("from", peer, offset, bytes);
    }
}

/// Shows what a SOCKS5 client said, but no name and password (RFC 1929), and what it is told.
pub fn dialogue(said: Option<&[u8]>, answer: &[u8]) {
    if let Some(said) = said.filter(|_| is_on()) {
        let told = if said.first() == Some(&5) { said.len() } else { 2 };
        let mut said = said.to_vec();
        said.iter_mut().skip(told).for_each(|byte| *byte = b'*');
        show("from", None, "SOCKS", 0, &said);
        show("to", None, "SOCKS", 0, answer);
    }
}

#[inline]
fn is_on() -> bool {
    log::log_enabled!(target: BYTES, Level::Trace)
}

fn body_of(way: &str, peer: Option<&TcpStream>, offset: usize, bytes: &[u8]) {
    if !bytes.is_empty() {
        show(way, peer, "a body", offset, bytes);
    }
}

/// Bytes in hexadecimal and ASCII, as far as they are among the first of their message.
fn show(way: &str, peer: Option<&TcpStream>, what: &str, offset: usize, bytes: &[u8]) {
    let peer = peer.map(TcpStream::peer_addr).and_then(Result::ok);
    let peer = peer.map_or_else(|| "the client".to_owned(), |peer| peer.to_string());
    log::trace!(target: BYTES, "{way} {peer}: {} bytes of {what}", bytes.len());
    let mut at = offset;
    for row in bytes.chunks(ROW).take(MOST.saturating_sub(offset).div_ceil(ROW)) {
        let mut hex = String::new();
        for byte in row {
            hex.extend([byte >> 4, byte & 15].map(digit));
            hex.push(' ');
        }
        let text: String = row.iter().map(|b| shown(*b)).collect();
        log::trace!(target: BYTES, "{at:08x}  {hex:<48} |{text}|");
        at = at.saturating_add(ROW);
    }
}

fn digit(half: u8) -> char {
    char::from_digit(half.into(), 16).unwrap_or('?')
}

fn shown(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' }
}
