//! Parents and origins behind a login of any scheme: the scheme is a [`Door`], everything else is
//! here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::http::{response, response_head};
use super::origin::{Origin, Seen, Then};
use super::wire::Wire;

/// Whether a request passes; if not, the challenges it gets instead.
pub trait Door: Send + Sync {
    fn judge(&self, seen: &Seen, credentials: Option<&str>) -> Result<Passed, Vec<String>>;
}

/// What the answer to a request that passes says about the login.
#[derive(Debug, Default)]
pub struct Passed {
    /// Of `Proxy-Authentication-Info` or `Authentication-Info`.
    pub info: Option<String>,
    /// Of `Proxy-Authenticate` or `WWW-Authenticate`, behind the scheme.
    pub token: Option<String>,
}

/// Which fields and which status a door speaks with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Proxy,
    Origin,
}

impl Side {
    fn names(self) -> (u16, &'static str, &'static str, &'static str) {
        match self {
            Self::Proxy => {
                (407, "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Authentication-Info")
            }
            Self::Origin => (401, "WWW-Authenticate", "Authorization", "Authentication-Info"),
        }
    }
}

/// A parent that answers everything itself once the door lets it in: `/hash` and `/echo` with the
/// request's body, CONNECT with an echo, anything else with a greeting.
pub fn parent<D: Door + 'static>(door: &Arc<D>) -> Origin {
    behind(vec![(Side::Proxy, Arc::<D>::clone(door))])
}

/// The same for an origin.
pub fn origin<D: Door + 'static>(door: &Arc<D>) -> Origin {
    behind(vec![(Side::Origin, Arc::<D>::clone(door))])
}

/// One door behind the other, as of a parent that is also asked for what lies behind it.
pub fn behind(doors: Vec<(Side, Arc<dyn Door>)>) -> Origin {
    Origin::with(move |seen, wire| enter(&doors, seen, wire).unwrap_or(Then::Close))
}

fn enter(doors: &[(Side, Arc<dyn Door>)], seen: &Seen, wire: &mut Wire) -> io::Result<Then> {
    let mut fields = Vec::new();
    for (side, door) in doors {
        let (status, challenge, credentials, info) = side.names();
        match door.judge(seen, seen.fields().get(credentials)) {
            Ok(passed) => {
                fields.extend(passed.info.map(|value| (info, value)));
                fields.extend(passed.token.map(|value| (challenge, value)));
            }
            Err(lines) => {
                let fields: Vec<_> = lines.iter().map(|line| (challenge, line.as_str())).collect();
                wire.write(&refusal(seen, status, &fields))?;
                return Ok(Then::Next);
            }
        }
    }
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    if seen.method() == "CONNECT" {
        wire.write(&response_head(200, &fields))?;
        loop {
            let bytes = wire.take_ahead();
            wire.write(&bytes)?;
            if wire.fill()? == 0 {
                return Ok(Then::Close);
            }
        }
    }
    let body = match seen.path() {
        "/hash" => format!("{} {:016x}", seen.body.length, seen.body.hash).into_bytes(),
        "/echo" => seen.body.bytes.clone(),
        _ => b"hello, world\n".to_vec(),
    };
    wire.write(&bodyless(seen, response(200, &fields, &body), body.len()))?;
    Ok(Then::Next)
}

fn refusal(seen: &Seen, status: u16, fields: &[(&str, &str)]) -> Vec<u8> {
    let text = b"who are you?\n";
    bodyless(seen, response(status, fields, text), text.len())
}

fn bodyless(seen: &Seen, mut bytes: Vec<u8>, length: usize) -> Vec<u8> {
    bytes.truncate(bytes.len() - if seen.method() == "HEAD" { length } else { 0 });
    bytes
}

/// Several doors, of which one is in use: a parent that changes its mind.
pub struct Fickle {
    doors: Vec<Arc<dyn Door>>,
    which: AtomicUsize,
}

impl Fickle {
    pub fn new(doors: Vec<Arc<dyn Door>>) -> Arc<Self> {
        Arc::new(Self { doors, which: AtomicUsize::new(0) })
    }

    pub fn turn_to(&self, door: usize) {
        self.which.store(door, Ordering::SeqCst);
    }
}

impl Door for Fickle {
    fn judge(&self, seen: &Seen, credentials: Option<&str>) -> Result<Passed, Vec<String>> {
        self.doors[self.which.load(Ordering::SeqCst)].judge(seen, credentials)
    }
}

/// Offers these lines to whatever comes.
pub struct Wall(pub Vec<String>);

impl Door for Wall {
    fn judge(&self, _: &Seen, _: Option<&str>) -> Result<Passed, Vec<String>> {
        Err(self.0.clone())
    }
}
