//! A client that logs in to an origin by itself, through us: NTLM binds the login to a connection,
//! so that connection is this client's alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::proxy::{ALICE, LOGIN, NOBODY, Proxy};
use crate::support::doors::{Door, Passed, Side, behind};
use crate::support::gate::base64;
use crate::support::listener::lock;
use crate::support::replay::{log_on_to_origin, ntlm, windows_rules};
use crate::support::spnego_gate::TokenDoor;
use crate::support::vectors::{WIN7_AUTHENTICATE, WIN7_CHALLENGE, WIN7_NEGOTIATE, hex};
use crate::support::{Origin, Seen};

/// Where a client may log in to an origin by itself.
struct Place {
    proxy: Proxy,
    origin: Origin,
    target: String,
}

impl Place {
    /// `ORIGIN` in the configuration is the origin's address.
    fn new(cfg: &str, origin: Origin) -> Self {
        let proxy = Proxy::start(&cfg.replace("ORIGIN", &origin.addr().to_string()));
        let target = origin.url("/hello");
        Self { proxy, origin, target }
    }

    /// A client that says who it is with each request, for the record.
    fn client(&self, tag: &str) -> impl FnMut(Option<&str>) -> u16 + use<> {
        let (mut client, tag) = (self.proxy.client(), tag.to_owned());
        let target = self.target.clone();
        move |message| {
            let value = message.map(ntlm).unwrap_or_default();
            let fields = [("X-Client", tag.as_str()), ("Authorization", value.as_str())];
            let fields = &fields[..if message.is_some() { 2 } else { 1 }];
            client.request("GET", &target, fields, b"").status()
        }
    }

    /// No connection that was logged in on has ever carried a request of two clients.
    fn nobody_met(&self) {
        let mut users: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        let mut private = BTreeSet::new();
        for seen in self.origin.seen() {
            let user = seen.fields().get("X-Client").unwrap_or_default().to_owned();
            users.entry(seen.connection).or_default().insert(user);
            if seen.fields().has("Authorization") {
                private.insert(seen.connection);
            }
        }
        assert!(!private.is_empty());
        for connection in private {
            assert_eq!(users[&connection].len(), 1, "{connection}: {users:?}");
        }
    }
}

/// The origin that the replayed Windows client logs in to, as a door.
#[derive(Default)]
struct Windows(Mutex<BTreeMap<usize, bool>>);

impl Door for Windows {
    fn judge(&self, seen: &Seen, credentials: Option<&str>) -> Result<Passed, Vec<String>> {
        let mut connections = lock(&self.0);
        let open = connections.get(&seen.connection).copied();
        match (credentials, open) {
            (_, Some(true)) => Ok(Passed::default()),
            (Some(value), None) if value == ntlm(WIN7_NEGOTIATE) => {
                connections.insert(seen.connection, false);
                Err(vec![format!("NTLM {}", base64(&hex(WIN7_CHALLENGE)))])
            }
            (Some(value), Some(false)) if value == ntlm(WIN7_AUTHENTICATE) => {
                connections.insert(seen.connection, true);
                Ok(Passed::default())
            }
            _ => Err(vec!["NTLM".into()]),
        }
    }
}

/// Parents that keep the connections of a client and of its origin together, as Squid does: one
/// that asks for nothing, and one that wants NTLM itself.
fn behind_parents() -> Vec<Place> {
    let parent = TokenDoor::new("NTLM", ALICE).open();
    let windows = Arc::new(Windows::default());
    let both = behind(vec![(Side::Proxy, parent), (Side::Origin, windows)]);
    vec![
        Place::new(&format!("PARENT_PROXY: ORIGIN\n{NOBODY}"), Origin::guarded(windows_rules())),
        Place::new(&format!("PARENT_PROXY: ORIGIN\n{LOGIN}"), Origin::guarded(windows_rules())),
        Place::new(&format!("PARENT_PROXY: ORIGIN\n{LOGIN}"), both),
    ]
}

/// The origin itself, whoever the configuration would log in.
fn directly() -> Vec<Place> {
    let each = "NT_DOMAIN: CORP\nWWW_AUTH_HOSTS: 127.0.0.1\n";
    [NOBODY, LOGIN, "", each].map(|cfg| Place::new(cfg, Origin::guarded(windows_rules()))).into()
}

fn it_works_and_is_its_own(places: Vec<Place>) {
    let (negotiate, authenticate) = (Some(WIN7_NEGOTIATE), Some(WIN7_AUTHENTICATE));
    for (number, place) in places.into_iter().enumerate() {
        let (mut ann, mut bob) = (place.client("ann"), place.client("bob"));
        let strangers = |when: &str| assert_eq!(place.client("eve")(None), 401, "{number} {when}");
        assert_eq!(ann(None), 401, "{number}");
        strangers("before");
        assert_eq!(ann(negotiate), 401);
        strangers("between the legs");
        assert_eq!(bob(None), 401);
        assert_eq!(ann(authenticate), 200, "{number}");
        strangers("after");
        for _ in 0..3 {
            assert_eq!(ann(None), 200, "{number}: she is logged in");
            assert_eq!(bob(None), 401, "{number}: he is not");
        }
        assert_eq!(place.client("eavesdropper")(authenticate), 401, "{number}");
        assert_eq!(bob(negotiate), 401);
        assert_eq!(ann(None), 200);
        assert_eq!(bob(authenticate), 200);
        assert_eq!((ann(None), bob(None)), (200, 200));
        drop(ann);
        strangers("when she is gone");
        assert_eq!(bob(None), 200);
        drop(bob);
        strangers("when both are gone");
        place.nobody_met();
    }
}

fn in_a_crowd_too(places: Vec<Place>) {
    for place in places {
        thread::scope(|scope| {
            for number in 0..8 {
                let place = &place;
                scope.spawn(move || {
                    let mut ask = place.client(&format!("own-{number}"));
                    assert_eq!(ask(Some(WIN7_NEGOTIATE)), 401);
                    assert_eq!(ask(Some(WIN7_AUTHENTICATE)), 200);
                    for _ in 0..20 {
                        assert_eq!(ask(None), 200);
                    }
                });
                scope.spawn(move || {
                    for visit in 0..5 {
                        let mut ask = place.client(&format!("none-{number}-{visit}"));
                        for _ in 0..4 {
                            assert_eq!(ask(None), 401);
                        }
                    }
                });
            }
        });
        place.nobody_met();
    }
}

#[test]
fn a_clients_own_login_behind_a_parent_works_and_is_its_own() {
    it_works_and_is_its_own(behind_parents());
}

#[test]
fn behind_a_parent_nobody_rides_on_the_login_of_another_in_a_crowd() {
    in_a_crowd_too(behind_parents());
}

#[test]
fn a_clients_own_login_without_a_parent_works_and_is_its_own() {
    it_works_and_is_its_own(directly());
}

#[test]
fn without_a_parent_nobody_rides_on_the_login_of_another_in_a_crowd() {
    in_a_crowd_too(directly());
}

#[test]
fn a_login_to_one_origin_is_none_to_another_and_she_may_come_back() {
    let (one, other) = (Origin::guarded(windows_rules()), Origin::guarded(windows_rules()));
    let proxy = Proxy::start("");
    let mut client = proxy.client();
    let (here, there) = (one.url("/hello"), other.url("/hello"));
    for _ in 0..3 {
        assert_eq!(log_on_to_origin(&mut client, "GET", &here), 200);
        assert_eq!(client.get(&there).status(), 401);
        assert_eq!(proxy.get(&here).status(), 401);
        assert_eq!(log_on_to_origin(&mut client, "GET", &there), 200);
        assert_eq!(proxy.get(&here).status(), 401);
        assert_eq!(proxy.get(&there).status(), 401);
        assert_eq!(client.get(&there).status(), 200);
    }
}

#[test]
fn a_login_to_one_origin_behind_a_parent_is_none_to_another() {
    let parent = Origin::guarded(windows_rules());
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{NOBODY}", parent.addr()));
    let mut client = proxy.client();
    for _ in 0..3 {
        for (host, other) in [("one.test", "two.test"), ("two.test", "one.test")] {
            let (here, there) = (format!("http://{host}/hello"), format!("http://{other}/hello"));
            for (message, status) in [(WIN7_NEGOTIATE, 401), (WIN7_AUTHENTICATE, 200)] {
                let fields = [("Authorization", &*ntlm(message))];
                assert_eq!(client.request("GET", &here, &fields, b"").status(), status);
            }
            assert_eq!(client.get(&here).status(), 200);
            assert_eq!(proxy.get(&here).status(), 401);
            assert_eq!(client.get(&there).status(), 401, "{other} does not know her");
        }
    }
}

#[test]
fn every_spelling_and_method_of_a_login_makes_the_connection_private() {
    let schemes = ["NTLM", "ntlm", "Negotiate", "NEGOTIATE"];
    for (scheme, direct) in schemes.iter().flat_map(|scheme| [(scheme, true), (scheme, false)]) {
        let parent = Origin::guarded(windows_rules());
        let through = if direct { "".into() } else { format!("PARENT_PROXY: {}\n", parent.addr()) };
        let proxy = Proxy::start(&format!("{through}{NOBODY}"));
        let mut client = proxy.client();
        let mut say = |message: &str, body: &[u8]| {
            let value = ntlm(message).replacen("NTLM", scheme, 1);
            client.request("POST", &parent.url("/echo"), &[("Authorization", &value)], body)
        };
        assert_eq!(say(WIN7_NEGOTIATE, b"").status(), 401);
        assert_eq!(say(WIN7_AUTHENTICATE, b"a body").text(), "a body", "{scheme}");
        assert_eq!(proxy.get(&parent.url("/hello")).status(), 401, "{scheme}");
        assert_eq!(client.get(&parent.url("/hello")).status(), 200);
    }
}
