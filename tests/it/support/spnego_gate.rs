//! NTLM behind the scheme NTLM or Negotiate, bare or in SPNEGO (RFC 4178), as a server plays it;
//! with a DER of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::acceptor::{Acceptor, Challenge, Logon, Why};
use super::doors::{Door, Passed};
use super::gate::base64;
use super::listener::lock;
use super::origin::Seen;

/// How a message lay in its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Bare,
    /// In a NegTokenInit inside the frame of RFC 2743.
    Init,
    /// In a NegTokenResp.
    Resp,
}

/// What a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Nothing,
    Negotiate(Form),
    Authenticate(Form, Result<Logon, Why>),
    /// Something this door does not understand, and why.
    Other(String),
}

/// What becomes of a NEGOTIATE in a form that the server does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwanted {
    /// The bare offer again.
    Offer,
    /// A NegTokenResp that says `reject`.
    Reject,
    /// A NegTokenResp that says `accept-incomplete`, and no token.
    Empty,
}

enum State {
    Challenged(Box<Challenge>),
    Open,
    Burnt,
}

#[derive(Default)]
struct Record {
    connections: BTreeMap<usize, State>,
    said: Vec<(usize, Said)>,
    authenticates: usize,
}

/// See the module.
pub struct TokenDoor {
    acceptor: Acceptor,
    scheme: &'static str,
    offers: Vec<String>,
    takes: Vec<Form>,
    unwanted: Unwanted,
    /// Challenges come in SPNEGO whatever the question came in.
    wraps: bool,
    refused: Vec<usize>,
    held_for: usize,
    record: Mutex<Record>,
    changed: Condvar,
}

impl TokenDoor {
    /// Offers `scheme` and takes bare messages.
    pub fn new(scheme: &'static str, accounts: &[(&str, &str, &str)]) -> Self {
        Self {
            acceptor: Acceptor::new(accounts),
            scheme,
            offers: vec![scheme.into()],
            takes: vec![Form::Bare],
            unwanted: Unwanted::Offer,
            wraps: false,
            refused: Vec::new(),
            held_for: 0,
            record: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub fn offers(self, lines: &[&str]) -> Self {
        Self { offers: lines.iter().map(|line| (*line).into()).collect(), ..self }
    }

    /// Takes nothing but what is wrapped.
    pub fn wrapped_only(self, unwanted: Unwanted) -> Self {
        Self { takes: vec![Form::Init, Form::Resp], unwanted, wraps: true, ..self }
    }

    /// Takes bare and wrapped messages, and answers in SPNEGO.
    pub fn wraps(self) -> Self {
        Self { takes: vec![Form::Bare, Form::Init, Form::Resp], wraps: true, ..self }
    }

    /// These AUTHENTICATEs, counted from 1, are refused, however right they are.
    pub fn refuses(self, refused: &[usize]) -> Self {
        Self { refused: refused.into(), ..self }
    }

    /// The first AUTHENTICATE is answered when so many NEGOTIATEs have come, or after two seconds:
    /// then so many clients are certain to be under way at once.
    pub fn held_for(self, negotiates: usize) -> Self {
        Self { held_for: negotiates, ..self }
    }

    pub fn open(self) -> Arc<Self> {
        Arc::new(self)
    }

    /// Everything that was said, with the number of its connection; requests on connections that
    /// are logged in say nothing.
    pub fn said(&self) -> Vec<(usize, Said)> {
        lock(&self.record).said.clone()
    }

    /// The same without what led to no login.
    pub fn words(&self) -> Vec<Said> {
        self.said().into_iter().map(|(_, said)| said).collect()
    }

    /// AUTHENTICATEs: accepted, refused.
    pub fn verdicts(&self) -> (usize, usize) {
        let results = self.words().into_iter().filter_map(|said| match said {
            Said::Authenticate(_, result) => Some(result.is_ok()),
            _ => None,
        });
        results.fold((0, 0), |(yes, no), ok| if ok { (yes + 1, no) } else { (yes, no + 1) })
    }

    /// All connections are as new.
    pub fn forget(&self) {
        lock(&self.record).connections.clear();
    }

    fn negotiate(&self, connection: usize, form: Form, message: &[u8]) -> Vec<String> {
        if !self.takes.contains(&form) {
            return match self.unwanted {
                Unwanted::Offer => self.offers.clone(),
                Unwanted::Reject => vec![self.line(&resp(Some(2), None))],
                Unwanted::Empty => vec![self.line(&resp(Some(1), None))],
            };
        }
        let Ok(challenge) = self.acceptor.challenge(message) else { return self.offers.clone() };
        let token = if self.wraps {
            resp(Some(1), Some(&challenge.bytes))
        } else {
            challenge.bytes.clone()
        };
        let state = State::Challenged(Box::new(challenge));
        lock(&self.record).connections.insert(connection, state);
        vec![self.line(&token)]
    }

    fn line(&self, token: &[u8]) -> String {
        format!("{} {}", self.scheme, base64(token))
    }

    fn authenticate(&self, connection: usize, message: &[u8]) -> Result<Logon, Why> {
        let mut record = lock(&self.record);
        record.authenticates += 1;
        let count = record.authenticates;
        let state = record.connections.insert(connection, State::Burnt);
        if count == 1 {
            let few = |record: &mut Record| {
                let negotiates =
                    record.said.iter().filter(|(_, said)| matches!(said, Said::Negotiate(_)));
                negotiates.count() < self.held_for
            };
            drop(self.changed.wait_timeout_while(record, Duration::from_secs(2), few));
        } else {
            drop(record);
        }
        let result = match state {
            Some(State::Challenged(challenge)) => self.acceptor.verify(&challenge, message),
            Some(State::Burnt) => Err(Why::Burnt),
            _ => Err(Why::NoChallenge),
        };
        let result =
            if self.refused.contains(&count) { result.and(Err(Why::Refused)) } else { result };
        if result.is_ok() {
            lock(&self.record).connections.insert(connection, State::Open);
        }
        result
    }

    fn note(&self, connection: usize, said: Said) {
        lock(&self.record).said.push((connection, said));
        self.changed.notify_all();
    }
}

impl Door for TokenDoor {
    fn judge(&self, seen: &Seen, credentials: Option<&str>) -> Result<Passed, Vec<String>> {
        let connection = seen.connection;
        if let Some(State::Open) = lock(&self.record).connections.get(&connection) {
            return Ok(Passed::default());
        }
        let Some(value) = credentials else {
            self.note(connection, Said::Nothing);
            return Err(self.offers.clone());
        };
        let (form, message) = match self.read(value) {
            Ok(read) => read,
            Err(why) => {
                self.note(connection, Said::Other(format!("{why}: {value}")));
                return Err(self.offers.clone());
            }
        };
        if message.get(8) == Some(&1) {
            self.note(connection, Said::Negotiate(form));
            return Err(self.negotiate(connection, form, &message));
        }
        let result = self.authenticate(connection, &message);
        self.note(connection, Said::Authenticate(form, result.clone()));
        match result {
            Ok(_) if self.wraps => {
                Ok(Passed { token: Some(self.line(&resp(Some(0), None))), ..Passed::default() })
            }
            Ok(_) => Ok(Passed::default()),
            Err(_) => Err(self.offers.clone()),
        }
    }
}

impl TokenDoor {
    fn read(&self, value: &str) -> Result<(Form, Vec<u8>), &'static str> {
        let (scheme, token) = value.split_once(' ').ok_or("no token")?;
        if scheme != self.scheme {
            return Err("another scheme");
        }
        let token = BASE64.decode(token).map_err(|_| "no base64")?;
        if token.starts_with(b"NTLMSSP\0") {
            return Ok((Form::Bare, token));
        }
        let (form, message) = unwrap(&token).ok_or("no SPNEGO token to the letter")?;
        // RFC 4178: the first token is a NegTokenInit, all others are NegTokenResps.
        match (form, message.get(8)) {
            (Form::Init, Some(1)) | (Form::Resp, Some(3)) => Ok((form, message)),
            _ => Err("the wrong message for this token"),
        }
    }
}

const SPNEGO: &[u8] = b"\x2b\x06\x01\x05\x05\x02";
const NTLMSSP: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a";

/// The message in a client's token; every length as DER wants it, and nothing that is not NTLM's.
fn unwrap(token: &[u8]) -> Option<(Form, Vec<u8>)> {
    let mut der = Der(token);
    if token.first() == Some(&0x60) {
        let mut frame = der.whole(0x60)?;
        if frame.take(0x06)?.0 != SPNEGO {
            return None;
        }
        let mut fields = frame.whole(0xa0)?.whole(0x30)?;
        let mut mechanisms = fields.take(0xa0)?.whole(0x30)?;
        if mechanisms.whole(0x06)?.0 != NTLMSSP {
            return None;
        }
        let message = fields.whole(0xa2)?.whole(0x04)?.0;
        return Some((Form::Init, message.to_vec()));
    }
    let mut fields = der.whole(0xa1)?.whole(0x30)?;
    let message = fields.whole(0xa2)?.whole(0x04)?.0;
    Some((Form::Resp, message.to_vec()))
}

struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element, which has this tag.
    fn take(&mut self, tag: u8) -> Option<Self> {
        let [found, first, rest @ ..] = self.0 else { return None };
        // As few octets as will do.
        let (length, least, rest) = match (*first, rest) {
            (0..=0x7f, rest) => (usize::from(*first), 0, rest),
            (0x81, [length, rest @ ..]) => (usize::from(*length), 0x80, rest),
            (0x82, [high, low, rest @ ..]) => {
                (usize::from(*high) << 8 | usize::from(*low), 0x100, rest)
            }
            _ => return None,
        };
        if length < least {
            return None;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        (*found == tag).then_some(Der(content))
    }

    /// The same, with nothing behind it.
    fn whole(&mut self, tag: u8) -> Option<Self> {
        let element = self.take(tag)?;
        self.0.is_empty().then_some(element)
    }
}

/// A server's NegTokenResp.
fn resp(state: Option<u8>, message: Option<&[u8]>) -> Vec<u8> {
    let mut fields = Vec::new();
    if let Some(state) = state {
        fields.extend(tlv(0xa0, &tlv(0x0a, &[state])));
    }
    if let Some(message) = message {
        fields.extend(tlv(0xa1, &tlv(0x06, NTLMSSP)));
        fields.extend(tlv(0xa2, &tlv(0x04, message)));
    }
    tlv(0xa1, &tlv(0x30, &fields))
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        ..0x80 => out.push(length as u8),
        0x80..0x100 => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend(content);
    out
}
