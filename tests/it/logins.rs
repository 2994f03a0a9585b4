//! Logins where two interests meet: origin and parent, one account and another, old ways and new.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::proxy::{ALICE, LOGIN, NOBODY, Proxy, basic, url};
use crate::support::digest_gate::{DigestDoor, Judged};
use crate::support::doors::{self, Door, Fickle, Passed, Wall};
use crate::support::gate::Rules;
use crate::support::http::response;
use crate::support::replay::{log_on_to_origin, windows_rules};
use crate::support::spnego_gate::{Said, TokenDoor};
use crate::support::{Acceptor, Client, Origin, Parent, Quirk, Seen, Then, fnv, pattern};

const HERS: &str = "WWW_AUTH_HOSTS: 127.0.0.1\n";

fn answer(wire: &mut crate::support::Wire, bytes: &[u8]) -> Then {
    if wire.write(bytes).is_ok() { Then::Next } else { Then::Close }
}

/// Who has logged in to an origin as somebody else than the account of the configuration goes on
/// as that one, on the connection of that login.
/// on another connection.
#[test]
fn what_follows_a_clients_own_login_goes_under_it() {
    let accounts = [("WS2008R2", "Administrator", "P@ssw0rd"), ALICE[0]];
    let rules = Rules { acceptor: Acceptor::new(&accounts), ..windows_rules() };
    let origin = Origin::guarded(rules);
    let proxy = Proxy::start(&format!("{HERS}{LOGIN}"));
    let mut client = proxy.client();
    assert_eq!(log_on_to_origin(&mut client, "GET", &origin.url("/hello")), 200);
    assert_eq!(client.get(&origin.url("/hello")).status(), 200);
    let seen = origin.seen();
    let connections: Vec<_> = seen.iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [1, 1, 1], "Administrator's, alice's: {seen:#?}");
}

/// The Basic that a client brings for the realm of ours is withheld from an origin that wants NTLM,
/// though the same origin wants Basic for another path.
#[test]
fn basic_is_withheld_where_ntlm_is_wanted_even_if_basic_was_wanted_elsewhere() {
    let door = TokenDoor::new("NTLM", ALICE).open();
    let origin = Origin::with(move |seen, wire| {
        let credentials = seen.fields().get("Authorization");
        let bytes = match (seen.path(), credentials) {
            ("/wiki", Some(value)) if *value == basic("me:mine") => response(200, &[], b"wiki"),
            ("/wiki", _) => response(401, &[("WWW-Authenticate", "Basic realm=\"wiki\"")], b""),
            _ => match door.judge(seen, credentials) {
                Ok(_) => response(200, &[], b"intranet"),
                Err(lines) => response(401, &[("WWW-Authenticate", &*lines[0])], b""),
            },
        };
        answer(wire, &bytes)
    });
    let proxy = Proxy::start(&format!("{HERS}NT_DOMAIN: CORP\n"));
    let mut client = proxy.client();
    let mut ask = |path: &str, pair: &str| {
        let fields = [("Authorization", &*basic(pair))];
        client.request("GET", &origin.url(path), &fields, b"").text()
    };
    assert_eq!(ask("/wiki", "me:mine"), "wiki");
    let page = ask("/intranet", "alice:Secret-123");
    let hers = basic("alice:Secret-123");
    assert!(origin.seen().iter().all(|seen| seen.fields().get("Authorization") != Some(&hers)));
    assert_eq!(page, "intranet");
    assert_eq!(ask("/wiki", "me:mine"), "wiki");
}

/// What an intranet server thinks of the account is no reason to keep it from the parent: it may
/// know other accounts (a router, a printer, a wiki), or mean "not this page".
#[test]
fn an_origin_that_refuses_the_account_does_not_take_the_parent_away() {
    let router = || doors::origin(&DigestDoor::new(&[("admin", "admin")]).open());
    let refuses =
        || Origin::guarded(Rules { refuse_all: true, ..Rules::www(Acceptor::new(ALICE)) });
    for (origin, proven) in
        [(router(), false), (router(), true), (refuses(), false), (refuses(), true)]
    {
        let door = TokenDoor::new("NTLM", ALICE).open();
        let parent = doors::parent(&door);
        let proxy = Proxy::start(&format!(
            "PARENT_PROXY: {}\n{LOGIN}HOSTS_TO_BYPASS_PARENT_PROXY: 127.0.0.1\n",
            parent.addr()
        ));
        if proven {
            assert_eq!(proxy.get(&url("/")).status(), 200);
            door.forget();
        }
        for _ in 0..3 {
            assert!(matches!(proxy.get(&origin.url("/")).status(), 401 | 403));
        }
        let page = proxy.get(&url("/"));
        assert_eq!(page.status(), 200, "proven: {proven}: {}", page.text());
    }
}

/// A parent that has gone from NTLM to Digest is asked the new way.
#[test]
fn a_parent_that_changed_its_mind_is_not_asked_the_old_way_for_ever() {
    let digest = DigestDoor::new(&[("alice", "Secret-123")]).open();
    let ntlm = TokenDoor::new("NTLM", ALICE).open();
    let door = Fickle::new(vec![ntlm, Arc::<DigestDoor>::clone(&digest)]);
    let parent = doors::parent(&door);
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{LOGIN}", parent.addr()));
    assert_eq!(proxy.get(&url("/")).status(), 200);
    door.turn_to(1);
    let tunnel = |_| {
        let mut client = proxy.client();
        client.tunnel("a.test:443");
        client
    };
    let _held: Vec<Client> = (0..5).map(tunnel).collect();
    let uses = digest.uses();
    let ntlm = uses.iter().filter(|one| matches!(one.judged, Judged::Wrong(_)));
    assert_eq!(ntlm.count(), 1, "{uses:#?}");
}

/// An origin that lets everybody ask OPTIONS (as for CORS or WebDAV) and guards the rest: a body too
/// long to be sent twice never gets there, though the page says "send the request again".
#[test]
fn a_large_body_gets_to_an_origin_whose_options_are_free() {
    struct Free(Arc<TokenDoor>);
    impl Door for Free {
        fn judge(&self, seen: &Seen, credentials: Option<&str>) -> Result<Passed, Vec<String>> {
            let free = seen.method() == "OPTIONS";
            if free { Ok(Passed::default()) } else { self.0.judge(seen, credentials) }
        }
    }
    let origin = doors::origin(&Arc::new(Free(TokenDoor::new("NTLM", ALICE).open())));
    let proxy = Proxy::start(&format!("{HERS}{LOGIN}"));
    let body = pattern(3 << 20);
    let put = || proxy.client().request("PUT", &origin.url("/hash"), &[], &body).text();
    let first = put();
    let right = format!("{} {:016x}", body.len(), fnv(&body));
    assert!(first == right || first.contains("Send the request again") && put() == right);
}

/// Other schemes, and other spellings, log a connection in as well: CredSSP and Kerberos of WinRM,
/// Nego2, and `NTLM` with a tab behind it.
#[test]
fn a_connection_is_private_whatever_scheme_logged_it_in() {
    for scheme in ["NTLM\t", "CredSSP ", "Kerberos ", "Nego2 "] {
        let origin = Origin::with(|seen, wire| match seen.fields().get("Authorization") {
            Some(_) => answer(wire, &response(200, &[], b"logged in")),
            None => answer(wire, &response(401, &[("WWW-Authenticate", "NTLM")], b"")),
        });
        for cfg in [String::new(), format!("PARENT_PROXY: {}\n{NOBODY}", origin.addr())] {
            let before = origin.seen().len();
            let proxy = Proxy::start(&cfg);
            let value = format!("{scheme}TlRMTVNTUAAD");
            let fields = [("Authorization", value.as_str())];
            assert_eq!(proxy.client().request("GET", &origin.url("/"), &fields, b"").status(), 200);
            proxy.get(&origin.url("/"));
            let seen = origin.seen();
            assert_ne!(seen[before].connection, seen[before + 1].connection, "{scheme:?} {cfg}");
        }
    }
}

/// A parent that hangs up on a wrong password instead of saying 407 has asked its domain controller
/// all the same: unproven credentials must not go out with each request.
#[test]
fn a_parent_that_hangs_up_on_a_wrong_password_costs_no_logon_for_each_request() {
    let door = TokenDoor::new("NTLM", ALICE).open();
    let (sent, counted) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&door));
    let authenticates = Arc::clone(&sent);
    let parent = Origin::with(move |seen, wire| {
        let verdict = counted.judge(seen, seen.fields().get("Proxy-Authorization"));
        if matches!(counted.words().last(), Some(Said::Authenticate(..))) {
            authenticates.fetch_add(1, Ordering::SeqCst);
            return Then::Close;
        }
        let lines = verdict.err().unwrap_or_default();
        answer(wire, &response(407, &[("Proxy-Authenticate", lines[0].as_str())], b""))
    });
    let cfg = format!("PARENT_PROXY: {}\nUSER: CORP\\alice\nPASSWORD: wrong\n", parent.addr());
    let proxy = Proxy::start(&cfg);
    for _ in 0..10 {
        assert!(proxy.get(&url("/")).status() >= 400);
    }
    assert!(sent.load(Ordering::SeqCst) <= 2, "{sent:?} failed logons");
}

/// `AUTH: ... Basic` is for the parent (DESIGN); an origin without a dot that asks for Basic does not
/// get the configured password in clear.
#[test]
fn basic_of_the_configuration_is_for_the_parent_and_not_for_an_origin() {
    let origin = doors::origin(&Arc::new(Wall(vec!["Basic realm=\"x\"".into()])));
    let proxy = Proxy::start(&format!("{HERS}{LOGIN}AUTH: NTLM Basic\n"));
    assert_eq!(proxy.get(&origin.url("/")).status(), 401);
    assert!(origin.seen().iter().all(|seen| !seen.fields().has("Authorization")));
}

/// Neither Digest nor Basic mind on which connection they travel.
#[test]
fn basic_gets_to_a_parent_that_closes_behind_its_407() {
    for quirk in [Quirk::CloseAfterBare, Quirk::DropAfterBare] {
        let origin = Origin::start();
        let parent = Parent::ntlm(ALICE).offer(&["Basic realm=\"x\""]).quirk(quirk);
        let parent = parent.origin(origin.addr()).start();
        let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{LOGIN}AUTH: Basic\n", parent.addr()));
        assert_eq!(proxy.get(&url("/hello")).status(), 200);
        assert_eq!(proxy.get(&url("/hello")).status(), 200);
    }
}
