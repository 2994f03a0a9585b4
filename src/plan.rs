//! What is to be done with a request: who gets it, and as whom; or what its client is told instead.
//! Sends nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::auth::credentials::Credentials;
use crate::auth::{Side, basic};
use crate::config::{Reach, Route};
use crate::failure::{LOOP, ask_for_account};
use crate::gateway::Gateway;
use crate::http::head::RequestHead;
use crate::http::names;
use crate::http::reply::Reply;
use crate::http::request;
use crate::http::target::{Authority, RequestTarget};
use crate::ntlm::crypto;
use crate::pool::Private;

/// An account and the field value that said so. The hashes are computed once, not for each request.
pub struct OwnAccount {
    /// The field value.
    pub value: Vec<u8>,
    /// The account.
    pub credentials: Arc<Credentials>,
}

/// What is to be done with a request.
pub struct Plan<'a> {
    /// What it asks for.
    pub target: &'a RequestTarget,
    /// Where that is.
    pub authority: &'a Authority,
    /// The connection is for this client alone.
    pub private: Option<&'a Private>,
    /// Where the client may be led without a parent.
    pub reach: Reach,
    /// Who gets it.
    pub hop: Hop<'a>,
}

/// Who gets it, and as whom.
pub enum Hop<'a> {
    /// A parent.
    Parent(Option<&'a Arc<Credentials>>),
    /// The origin itself.
    Origin(OriginLogin<'a>),
}

impl Hop<'_> {
    /// Whether a demand for a login is answered from here.
    fn is_logged_in_to(&self) -> bool {
        match self {
            Self::Parent(account) => account.is_some(),
            Self::Origin(login) => !matches!(login, OriginLogin::Client),
        }
    }
}

/// What becomes of a 401.
pub enum OriginLogin<'a> {
    /// It is the client's business.
    Client,
    /// It is answered with the account of the configuration.
    Configured(&'a Arc<Credentials>),
    /// It is translated: the client is asked by Basic. What it brought is withheld as long as the
    /// origin may want NTLM.
    Translated(Option<&'a OwnAccount>),
}

/// Where a request goes and as whom; or what its client is told instead.
///
/// # Errors
/// The reply to the client.
pub fn plan<'a>(
    gateway: &'a Gateway,
    head: &RequestHead,
    target: &'a RequestTarget,
    reach: Reach,
    known: &'a mut Option<OwnAccount>,
    private: &'a mut Option<Private>,
) -> Result<Plan<'a>, Reply> {
    if gateway.is_marked(head) {
        return Err(Reply::new(508, LOOP));
    }
    let authority = request::recipient(head, target)?;
    let private = private_to(private, authority, head);
    log::debug!("route to {authority}: {}", gateway.config.reason(authority));
    let parents = &gateway.parents;
    let hop = match gateway.config.route(authority) {
        Route::Parent if parents.are_away() => Hop::Origin(direct(target, OriginLogin::Client)?),
        Route::Parent if gateway.is_per_client() => {
            let account = head
                .fields
                .first(names::PROXY_AUTHORIZATION)
                .and_then(|value| own_account(gateway, value, known));
            match account {
                Some(account) => Hop::Parent(Some(&account.credentials)),
                // Nobody needs an account for a parent that is not there.
                None if parents.may_go_direct() && !parents.can_be_reached() => {
                    Hop::Origin(direct(target, OriginLogin::Client)?)
                }
                None if request::is_echoed(head) => return Err(request::no_trace()),
                None => return Err(ask_for_account(Side::Proxy)),
            }
        }
        Route::Parent => Hop::Parent(gateway.account.as_ref()),
        Route::Direct => {
            let login = match private {
                // Who logged in by itself goes on as that one.
                Some(_) => OriginLogin::Client,
                None => origin_login(gateway, authority, head, known),
            };
            Hop::Origin(direct(target, login)?)
        }
    };
    if hop.is_logged_in_to() && request::is_echoed(head) {
        return Err(request::no_trace());
    }
    Ok(Plan { target, authority, private, reach, hop })
}

/// That a target can be fetched from the origin itself. For want of a parent, `login` is the
/// client's: the origin is as strange as it would be through one, and the network anybody's.
///
/// # Errors
/// The reply to the client, when it cannot.
pub fn direct<'a>(
    target: &RequestTarget,
    login: OriginLogin<'a>,
) -> Result<OriginLogin<'a>, Reply> {
    match target {
        RequestTarget::Absolute(url) if !url.has_scheme("http") => Err(Reply::new(
            501,
            "Without a parent proxy only http:// can be fetched this way; https goes through \
             CONNECT, which programs use when https_proxy names this proxy.",
        )),
        _ => Ok(login),
    }
}

fn origin_login<'a>(
    gateway: &'a Gateway,
    origin: &Authority,
    head: &RequestHead,
    known: &'a mut Option<OwnAccount>,
) -> OriginLogin<'a> {
    let brought = head.fields.first(names::AUTHORIZATION);
    if head.method == "CONNECT" || !gateway.config.answers_origin(origin) {
        return OriginLogin::Client;
    }
    match (&gateway.account, brought) {
        (Some(account), None) => OriginLogin::Configured(account),
        (None, None) if gateway.is_per_client() => OriginLogin::Translated(None),
        (None, Some(value))
            if gateway.is_per_client() && !gateway.strangers.contains(&stranger(origin, value)) =>
        {
            match own_account(gateway, value, known) {
                Some(account) => OriginLogin::Translated(Some(account)),
                None => OriginLogin::Client,
            }
        }
        _ => OriginLogin::Client,
    }
}

/// Credentials of a client as they are remembered.
pub fn stranger(origin: &Authority, value: &[u8]) -> (Authority, crypto::Key) {
    (origin.clone(), crypto::md5(&[value]))
}

/// The account a client brings by Basic.
fn own_account<'a>(
    gateway: &Gateway,
    value: &[u8],
    known: &'a mut Option<OwnAccount>,
) -> Option<&'a OwnAccount> {
    if known.as_ref().is_none_or(|before| before.value != value) {
        let (name, password) = basic::decode(value)?;
        let domain = &gateway.config.default_domain;
        let credentials = Arc::new(Credentials::from_name(&name, domain, &password));
        *known = Some(OwnAccount { value: value.to_vec(), credentials });
    }
    known.as_ref()
}

/// Whether the connection to the next hop is for this client alone: it logs in to that origin by
/// itself, with a scheme that authenticates the connection.
fn private_to<'a>(
    known: &'a mut Option<Private>,
    origin: &Authority,
    head: &RequestHead,
) -> Option<&'a Private> {
    static SESSIONS: AtomicU64 = AtomicU64::new(0);
    let value = head.fields.first(names::AUTHORIZATION);
    let scheme = value.and_then(|value| value.split(|b| b" \t".contains(b)).next());
    // NTLM and Negotiate do, and others that nobody counts; only these are known not to.
    let to_request: [&[u8]; 3] = [b"Basic", b"Digest", b"Bearer"];
    let to_connection =
        scheme.is_some_and(|scheme| !to_request.iter().any(|s| s.eq_ignore_ascii_case(scheme)));
    if known.as_ref().is_none_or(|private| private.origin != *origin) {
        *known = to_connection.then(|| Private {
            session: SESSIONS.fetch_add(1, Ordering::Relaxed),
            origin: origin.clone(),
        });
    }
    known.as_ref()
}
