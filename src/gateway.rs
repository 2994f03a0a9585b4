//! What all exchanges share: the configuration, the connections, and what is known of parents and
//! accounts. A reload replaces it as a whole, so that everything begins afresh. Sends nothing.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::auth::Login;
use crate::auth::credentials::Credentials;
use crate::config::{Account, Config, Reach};
use crate::conn::Conn;
use crate::dial::{self, DialError};
use crate::failure::Failure;
use crate::guard::{Attempt, Guard};
use crate::hop::HopName;
use crate::http::head::{RequestHead, Version};
use crate::http::names;
use crate::http::reply::Reply;
use crate::http::target::Authority;
use crate::ntlm::{Client, Moment, crypto};
use crate::parents::Parents;
use crate::pool::{Key, Pool};
use crate::standings::Standings;
use crate::sys;
use crate::urllog::UrlLog;

/// How many origins and requests are remembered.
const MAX_REMEMBERED: usize = 1024;

/// See the module.
pub struct Gateway {
    /// No two are the same: what was found out with the help of one need not hold for another.
    pub number: u64,
    /// What holds.
    pub config: Config,
    /// The account of the configuration.
    pub account: Option<Arc<Credentials>>,
    /// The parents and their health.
    pub parents: Arc<Parents>,
    /// Idle connections.
    pub pool: Pool,
    /// Which credentials may be sent.
    pub guard: Guard,
    /// Logins that hold for a request, not for a connection.
    pub standings: Standings,
    /// Basic credentials that an origin wants for itself: whose, and the hash of the field value.
    pub strangers: Remembered<(Authority, crypto::Key)>,
    /// Requests that met with a demand for a login too late: when an OPTIONS in their place had met
    /// with none, or when their body was gone. The next hop, and the hash of method and target.
    pub guarded: Remembered<(Authority, crypto::Key)>,
    /// Where an OPTIONS says nothing of what a request meets with. The next hop, and the hash of the
    /// origin behind it.
    pub mute: Remembered<(Authority, crypto::Key)>,
    /// Where requests are logged.
    pub url_log: Option<Arc<UrlLog>>,
    /// Where clients connect: not where a request should be sent.
    pub listening: Vec<SocketAddr>,
    /// What this is in Via, when the message came as HTTP/1.0 and as HTTP/1.1.
    via: [String; 2],
    /// Workstation in AUTHENTICATE messages.
    workstation: String,
}

impl Gateway {
    /// Everything begins afresh: no connection, no knowledge of any parent.
    /// `listening`: where clients connect.
    pub fn new(config: Config, listening: Vec<SocketAddr>) -> Self {
        let account = match &config.account {
            Account::Known(credentials) => {
                let mut credentials = credentials.clone();
                credentials.is_qualified = config.user_is_qualified;
                Some(Arc::new(credentials))
            }
            _ => None,
        };
        // A NetBIOS name: no domain behind it, upper-case.
        let name = config
            .workstation
            .clone()
            .unwrap_or_else(|| sys::host_name().split('.').next().unwrap_or_default().to_owned());
        let pseudonym = format!("ntlmaps-{:08x}", sys::file_time() & 0xffff_ffff);
        let url_log = config.url_log.as_deref().and_then(|path| {
            let told = |error: &_| log::warn!("URL_LOG: {path}: {error}; requests are not logged");
            UrlLog::open(path).inspect_err(told).ok().map(Arc::new)
        });
        static GATEWAYS: AtomicU64 = AtomicU64::new(0);
        Self {
            number: GATEWAYS.fetch_add(1, Ordering::Relaxed),
            account,
            url_log,
            parents: Arc::new(Parents::new(
                &config.parents,
                config.parent_timeout,
                config.direct_if_possible,
            )),
            pool: Pool::default(),
            guard: Guard::new(config.rejected_retry),
            standings: Standings::default(),
            strangers: Remembered::default(),
            guarded: Remembered::default(),
            mute: Remembered::default(),
            workstation: name.to_uppercase(),
            listening,
            via: ["1.0", "1.1"].map(|version| format!("{version} {pseudonym}")),
            config,
        }
    }

    /// What a client is told that may not use the proxy; who reaches everything is of this machine.
    pub fn refuse(&self, peer: SocketAddr, reach: Reach) -> Option<Reply> {
        if reach == Reach::Everywhere || self.config.clients.permits(peer.ip()) {
            return None;
        }
        log::warn!(
            target: "ntlmaps::often::stranger",
            "{peer} is not in FRIENDLY_IPS and was refused"
        );
        Some(Reply::new(403, "This proxy does not serve your machine (FRIENDLY_IPS)."))
    }

    /// Connects by `dial`, unless it leads here.
    ///
    /// # Errors
    /// [`Failure::Unreachable`], or [`Failure::Loop`].
    pub fn connect(
        &self,
        is_parent: bool,
        dial: &dyn Fn() -> Result<TcpStream, DialError>,
    ) -> Result<Conn, Failure> {
        let stream = dial().or_else(|error| {
            // What nobody uses gives way to what somebody needs.
            let again = sys::is_out_of_descriptors(&error.reason) && self.pool.clear();
            if again { dial() } else { Err(error) }
        });
        let stream =
            stream.map_err(|error| Failure::Unreachable { is_parent, errors: vec![error] })?;
        if dial::is_own(&stream, &self.listening) {
            return Err(Failure::Loop);
        }
        Conn::new(stream).map_err(|error| Failure::System(error.to_string()))
    }

    /// Names this proxy in the Via of a request to a parent, so that one that comes back is known:
    /// when two proxies name each other as parent, nothing else tells. Origins get no Via: some
    /// switch compression off for whoever sends it, and no loop leads through them.
    pub fn mark(&self, head: &mut RequestHead) {
        let [http10, http11] = &self.via;
        let via = if head.version == Version::Http10 { http10 } else { http11 };
        head.fields.push(names::VIA, via.as_bytes());
    }

    /// Whether a request was here before.
    pub fn is_marked(&self, head: &RequestHead) -> bool {
        self.via.iter().any(|via| head.fields.has_member(names::VIA, via))
    }

    /// Asks the guard whether credentials may go out now; there need not be any.
    ///
    /// # Errors
    /// [`Failure::Resting`], when they may not.
    pub fn admit(&self, key: Key<'_>) -> Result<Option<Attempt<'_>>, Failure> {
        let Some(account) = key.credentials else { return Ok(None) };
        let asked = self.guard.attempt(account, key.hop.side(), &key.hop.authority);
        asked.map(Some).map_err(|resting| {
            let name = HopName { authority: resting.by.clone(), ..*key.hop };
            Failure::Resting(name, resting)
        })
    }

    /// Takes note that credentials were refused: whatever stands on them falls. `None`: the guard
    /// was not asked. How long they rest now.
    pub fn refused(&self, key: Key<'_>, attempt: Option<Attempt<'_>>) -> Duration {
        self.standings.forget(key);
        let place = &key.hop.authority;
        let sent = || Some(self.guard.trusted(key.credentials?, key.hop.side(), place));
        attempt.or_else(sent).map_or(Duration::ZERO, Attempt::refused)
    }

    /// Whether each client brings its own account.
    pub fn is_per_client(&self) -> bool {
        matches!(self.config.account, Account::PerClient)
    }

    /// What a login with these credentials is made of. The only place where clock and dice enter.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn login<'a>(&'a self, credentials: &'a Credentials) -> Result<Login<'a>, Failure> {
        let client_challenge =
            sys::random().map_err(|error| Failure::System(format!("no random bytes: {error}")))?;
        Ok(Login {
            client: Client {
                dialect: self.config.dialect,
                domain: &credentials.domain,
                user: &credentials.user,
                workstation: &self.workstation,
                keys: &credentials.keys,
            },
            is_qualified: credentials.is_qualified,
            password: credentials.password(),
            schemes: &self.config.schemes,
            moment: Moment { file_time: sys::file_time(), client_challenge },
        })
    }
}

/// A bounded set, the oldest leaving first.
pub struct Remembered<T>(Mutex<VecDeque<T>>);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: PartialEq> Remembered<T> {
    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was noted.
    pub fn contains(&self, item: &T) -> bool {
        self.lock().contains(item)
    }

    /// Notes it.
    pub fn note(&self, item: T) {
        let mut all = self.lock();
        if !all.contains(&item) {
            if all.len() >= MAX_REMEMBERED {
                all.pop_front();
            }
            all.push_back(item);
        }
    }
}
