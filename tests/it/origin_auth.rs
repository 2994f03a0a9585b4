//! Origins that want a login: whom we answer, and whom we do not.

use std::collections::BTreeMap;

use crate::proxy::{ALICE, LOGIN, NOBODY, Network, Proxy, basic};
use crate::support::doors;
use crate::support::gate::Rules;
use crate::support::http::response;
use crate::support::spnego_gate::{Said, TokenDoor, Unwanted};
use crate::support::{Acceptor, Client, Origin, Parent, Then, fnv, pattern};

const HERS: &str = "WWW_AUTH_HOSTS: 127.0.0.1\n";
const EACH_ITS_OWN: &str = "NT_DOMAIN: CORP\nWWW_AUTH_HOSTS: 127.0.0.1\n";

fn guarded() -> Origin {
    Origin::guarded(Rules::www(Acceptor::new(ALICE)))
}

/// The same URL by a name without a dot, or any other spelling of the host.
fn by_name(origin: &Origin, host: &str, path: &str) -> String {
    format!("http://{host}:{}{path}", origin.addr().port())
}

fn tokens(origin: &Origin) -> Vec<String> {
    let seen = origin.seen();
    let values = seen.iter().filter_map(|seen| seen.fields().get("Authorization"));
    values.map(|value| value.split(' ').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn names_without_a_dot_and_named_and_bypassed_hosts_are_answered() {
    let parent = Parent::open().start();
    let bypass = format!("PARENT_PROXY: {}\nHOSTS_TO_BYPASS_PARENT_PROXY:", parent.addr());
    for (cfg, host) in [
        (String::new(), "localhost"),
        ("WWW_AUTH_HOSTS: <local>\n".into(), "LOCALHOST"),
        (HERS.into(), "127.0.0.1"),
        ("WWW_AUTH_HOSTS: 127.*\n".into(), "127.0.0.1"),
        ("WWW_AUTH_HOSTS: <local> 127.0.0.0/8\n".into(), "127.0.0.1"),
        (format!("{bypass} 127.0.0.1\n"), "127.0.0.1"),
        (format!("{bypass} <local>\n"), "localhost"),
        (format!("{bypass} 127.0.0.1\nWWW_AUTH_HOSTS: other.test\n"), "127.0.0.1"),
    ] {
        let origin = guarded();
        let proxy = Proxy::start(&format!("{cfg}{LOGIN}"));
        let response = proxy.get(&by_name(&origin, host, "/hello"));
        assert_eq!(response.status(), 200, "{cfg}{host}: {}", response.text());
        assert_eq!(tokens(&origin), ["NTLM", "NTLM"], "{cfg}");
        // The connection serves the next client, who has the same account.
        assert_eq!(proxy.get(&by_name(&origin, host, "/hello")).status(), 200);
        assert_eq!((origin.connections(), origin.seen().len()), (1, 4), "{cfg}");
    }
    assert_eq!(parent.connections(), 0);
}

#[test]
fn nobody_else_gets_anything_of_ours() {
    let parent = Parent::open().start();
    let through = format!("PARENT_PROXY: {}\n", parent.addr());
    for (cfg, host) in [
        (String::new(), "127.0.0.1"),
        ("WWW_AUTH_HOSTS: other.test 10.0.0.0/8\n".into(), "127.0.0.1"),
        ("WWW_AUTH_HOSTS: other\n".into(), "localhost"),
        // An address, whatever it looks like.
        (String::new(), "2130706433"),
        (String::new(), "0x7f000001"),
        // Not directly: what is behind a parent is not for NTLM.
        (through.clone(), "localhost"),
        (format!("{through}{HERS}"), "127.0.0.1"),
        (format!("{through}HOSTS_TO_BYPASS_PARENT_PROXY: other\n"), "localhost"),
    ] {
        for auth in ["", "AUTH: NTLM Negotiate Digest Basic\n"] {
            let rules = Rules {
                offers: vec!["NTLM".into(), "Negotiate".into(), "Basic realm=\"x\"".into()],
                ..Rules::www(Acceptor::new(ALICE))
            };
            let origin = Origin::guarded(rules);
            let proxy = Proxy::start(&format!("{cfg}{LOGIN}{auth}"));
            for (method, body) in [("GET", ""), ("POST", "body")] {
                let fields = [("Host", "intranet")];
                let target = by_name(&origin, host, "/echo");
                let response = proxy.client().request(method, &target, &fields, body.as_bytes());
                assert_eq!(response.status(), 401, "{cfg}{host}");
                let offers = response.fields().all("WWW-Authenticate");
                assert_eq!(offers, ["NTLM", "Negotiate", "Basic realm=\"x\""]);
                assert_eq!(response.text(), "who are you?");
            }
            assert_eq!((tokens(&origin), origin.seen().len()), (vec![], 2), "{cfg}{host}");
        }
    }
}

#[test]
fn bodies_arrive_once_and_whole_behind_a_401() {
    for (scheme, path) in [("NTLM", "/hash"), ("Negotiate", "/hash")] {
        let door = TokenDoor::new(scheme, ALICE).open();
        let origin = doors::origin(&door);
        let proxy = Proxy::start(&format!("{HERS}{LOGIN}"));
        for size in [5, 100_000, 3 << 20] {
            door.forget();
            // Whatever connection there is has been forgotten: a large body could not go twice.
            assert_eq!(proxy.get(&origin.url("/")).status(), 200);
            let body = pattern(size);
            let response = proxy.client().request("POST", &origin.url(path), &[], &body);
            assert_eq!(response.text(), format!("{size} {:016x}", fnv(&body)));
        }
        assert_eq!(door.verdicts().1, 0);
    }
}

#[test]
fn a_body_on_first_contact_arrives_once_and_whole() {
    let chunked = [("Transfer-Encoding", "chunked")];
    let chunks = b"4\r\nbody\r\n0\r\n\r\n".to_vec();
    for (fields, sent, body) in [
        (&[][..], b"body".to_vec(), b"body".to_vec()),
        (&[], pattern(3 << 20), pattern(3 << 20)),
        (&chunked, chunks, b"body".to_vec()),
    ] {
        let door = TokenDoor::new("NTLM", ALICE).open();
        let origin = doors::origin(&door);
        let proxy = Proxy::start(&format!("{HERS}{LOGIN}"));
        let response = proxy.client().request("PUT", &origin.url("/hash"), fields, &sent);
        assert_eq!(response.text(), format!("{} {:016x}", body.len(), fnv(&body)));
        let words = door.words();
        assert!(matches!(
            words[..],
            [Said::Nothing, Said::Negotiate(_), Said::Authenticate(_, Ok(_))]
        ));
        let seen = origin.seen();
        let lengths: Vec<_> = seen.iter().map(|seen| seen.body.length).collect();
        assert!(lengths[1] == 0 && lengths[2] == body.len() as u64, "{lengths:?}");
    }
}

#[test]
fn negotiate_of_an_origin_is_answered_bare_and_wrapped() {
    for door in [
        TokenDoor::new("Negotiate", ALICE).open(),
        TokenDoor::new("Negotiate", ALICE).wraps().open(),
        TokenDoor::new("Negotiate", ALICE).wrapped_only(Unwanted::Reject).open(),
    ] {
        let origin = doors::origin(&door);
        let proxy = Proxy::start(&format!("{HERS}{LOGIN}"));
        assert_eq!(proxy.get(&origin.url("/")).status(), 200);
        assert_eq!(door.verdicts(), (1, 0));
    }
}

#[test]
fn a_wrong_password_costs_one_logon_at_an_origin_too() {
    let origin = guarded();
    let proxy = Proxy::start(&format!("{HERS}USER: CORP\\alice\nPASSWORD: wrong\n"));
    for number in 0..10 {
        let page = proxy.get(&origin.url("/hello"));
        let expected = if number == 0 { 401 } else { 403 };
        assert_eq!(page.status(), expected, "{}", page.text());
        assert!(number == 0 || page.text().contains("PASSWORD"), "{}", page.text());
    }
    let seen = origin.seen();
    let logons = seen.iter().filter_map(|seen| seen.fields().get("Authorization"));
    assert_eq!(logons.filter(|value| value.starts_with("NTLM TlRMTVNTUAAD")).count(), 1);
}

/// A file server with accounts of its own is no domain's voice where the account has worked. Where
/// it has not, a second refusal may be one too many: the page names who made the first.
#[test]
fn an_origin_that_refuses_the_account_does_not_take_other_origins_away() {
    let refuses = Rules { refuse_all: true, ..Rules::www(Acceptor::new(ALICE)) };
    let stranger = Origin::guarded(refuses);
    let [wiki, unknown] = [(); 2].map(|()| TokenDoor::new("NTLM", ALICE).open());
    let [proven, other] = [&wiki, &unknown].map(doors::origin);
    let proxy = Proxy::start(&format!("{HERS}{LOGIN}"));
    assert_eq!(proxy.get(&proven.url("/")).status(), 200);
    assert_eq!(proxy.get(&stranger.url("/")).status(), 401);
    for _ in 0..3 {
        wiki.forget();
        let page = proxy.get(&proven.url("/"));
        assert_eq!(page.status(), 200, "{}", page.text());
        for origin in [&stranger, &other] {
            let page = proxy.get(&origin.url("/"));
            assert_eq!(page.status(), 403, "{}", page.text());
            let text = page.text();
            assert!(text.contains(&format!("server {} refused", stranger.addr())), "{text}");
            assert!(!text.contains(&other.addr().to_string()), "{text}");
        }
    }
    assert_eq!((wiki.verdicts(), unknown.verdicts()), ((4, 0), (0, 0)));
}

#[test]
fn ntlm_to_basic_translates_a_401_and_keeps_the_basic_from_the_origin() {
    for host in ["127.0.0.1", "localhost"] {
        let origin = guarded();
        let proxy = Proxy::start("NT_DOMAIN: CORP\nWWW_AUTH_HOSTS: 127.0.0.1 <local>\n");
        let mut client = proxy.client();
        let target = by_name(&origin, host, "/headers");
        let mut ask = |fields: &[(&str, &str)]| client.request("GET", &target, fields, b"");
        let page = ask(&[]);
        assert_eq!(page.status(), 401);
        let challenge = ["Basic realm=\"ntlmaps\", charset=\"UTF-8\""];
        assert_eq!(page.fields().all("WWW-Authenticate"), challenge);
        let wrong = ask(&[("Authorization", &basic("alice:wrong"))]);
        assert_eq!(
            (wrong.status(), wrong.fields().all("WWW-Authenticate")),
            (401, challenge.to_vec())
        );
        let rested = ask(&[("Authorization", &basic("alice:wrong"))]);
        assert_eq!(
            (rested.status(), rested.fields().all("WWW-Authenticate")),
            (401, challenge.to_vec())
        );
        assert!(rested.text().contains("again for"), "{}", rested.text());
        for _ in 0..3 {
            let page = ask(&[("Authorization", &basic("CORP\\alice:Secret-123"))]);
            assert_eq!(page.status(), 200, "{}", page.text());
            assert!(!page.text().contains("Basic"), "{}", page.text());
        }
        assert_eq!(ask(&[]).status(), 401, "who brings nothing is nobody");
        for seen in origin.seen() {
            let raw = String::from_utf8_lossy(&seen.head.raw).into_owned();
            assert!(!raw.contains("Basic") && !raw.contains("YWxpY2U6"), "{raw}");
        }
        let seen = origin.seen();
        let logons = seen.iter().filter_map(|seen| seen.fields().get("Authorization"));
        let logons = logons.filter(|value| value.starts_with("NTLM TlRMTVNTUAAD"));
        assert_eq!(logons.count(), 2, "one wrong, one right");
    }
}

#[test]
fn two_accounts_at_one_origin_do_not_meet() {
    let accounts = &[("CORP", "alice", "a-secret"), ("CORP", "bob", "b-secret")];
    let door = TokenDoor::new("NTLM", accounts).open();
    let origin = doors::origin(&door);
    let proxy = Proxy::start(EACH_ITS_OWN);
    let mut client = proxy.client();
    for number in 0..20 {
        let user = ["alice:a-secret", "bob:b-secret"][number % 2];
        let path = format!("/{}", &user[..3]);
        let fields = [("Authorization", &*basic(user))];
        let response = client.request("GET", &origin.url(&path), &fields, b"");
        assert_eq!(response.status(), 200);
    }
    let mut owners = BTreeMap::new();
    for (connection, said) in door.said() {
        if let Said::Authenticate(_, Ok(logon)) = said {
            owners.insert(connection, logon.user[..3].to_owned());
        }
    }
    assert_eq!(owners.len(), 2);
    for seen in origin.seen() {
        if let Some(owner) = owners.get(&seen.connection) {
            assert_eq!(seen.path(), format!("/{owner}"));
        }
    }
}

#[test]
fn posts_are_translated_with_their_bodies() {
    for size in [5, 3 << 20] {
        let origin = guarded();
        let proxy = Proxy::start(EACH_ITS_OWN);
        let body = pattern(size);
        let fields = [("Authorization", &*basic("alice:Secret-123"))];
        let mut client = proxy.client();
        for _ in 0..2 {
            let response = client.request("POST", &origin.url("/hash"), &fields, &body);
            assert_eq!(response.text(), format!("{size} {:016x}", fnv(&body)));
        }
        assert!(tokens(&origin).iter().all(|scheme| scheme == "NTLM"));
    }
}

/// What an origin of its own accounts does.
fn basic_origin() -> Origin {
    Origin::with(|seen, wire| {
        let bytes = match seen.fields().get("Authorization") {
            Some(value) if *value == basic("me:mine") => response(200, &[], b"welcome"),
            _ => response(401, &[("WWW-Authenticate", "Basic realm=\"wiki\"")], b"who are you?"),
        };
        if wire.write(&bytes).is_ok() { Then::Next } else { Then::Close }
    })
}

#[test]
fn an_origin_that_itself_wants_basic_gets_it_when_it_has_asked() {
    for cfg in [EACH_ITS_OWN.to_owned(), format!("{HERS}{LOGIN}"), format!("{HERS}{NOBODY}")] {
        let origin = basic_origin();
        let proxy = Proxy::start(&cfg);
        let mut client = proxy.client();
        let page = client.get(&origin.url("/"));
        assert_eq!(page.fields().get("WWW-Authenticate"), Some("Basic realm=\"wiki\""), "{cfg}");
        for (pair, status) in [("me:mine", 200), ("me:wrong", 401), ("me:mine", 200)] {
            let fields = [("Authorization", &*basic(pair))];
            for (method, body) in [("GET", ""), ("POST", "a body")] {
                let response = client.request(method, &origin.url("/"), &fields, body.as_bytes());
                assert_eq!(response.status(), status, "{cfg}: {}", response.text());
            }
        }
        let posts = origin.seen().into_iter().filter(|seen| {
            seen.method() == "POST" && seen.fields().get("Authorization") == Some(&basic("me:mine"))
        });
        assert!(posts.map(|seen| seen.body.length).eq([6, 6]), "{cfg}");
        assert!(tokens(&origin).iter().all(|scheme| scheme == "Basic"), "{cfg}");
        let before_asked = &origin.seen()[0];
        assert!(!before_asked.fields().has("Authorization"));
    }
}

#[test]
fn basic_that_comes_unasked_waits_until_the_origin_asks() {
    let origin = basic_origin();
    let proxy = Proxy::start(EACH_ITS_OWN);
    let fields = [("Authorization", &*basic("me:mine"))];
    let response = proxy.client().request("POST", &origin.url("/"), &fields, b"a body");
    assert_eq!(response.text(), "welcome");
    let seen = origin.seen();
    assert!(!seen[0].fields().has("Authorization"), "{seen:?}");
    assert_eq!(seen.last().map(|seen| seen.body.text()), Some("a body".into()));
    // Once it has asked, it gets it at once.
    let before = seen.len();
    assert_eq!(proxy.client().request("GET", &origin.url("/"), &fields, b"").status(), 200);
    assert_eq!(origin.seen().len(), before + 1);
}

#[test]
fn an_origin_that_wants_no_login_never_sees_one() {
    let origin = Origin::start();
    let proxy = Proxy::start(EACH_ITS_OWN);
    let body = pattern(3 << 20);
    let fields = [("Authorization", &*basic("alice:Secret-123"))];
    let mut client = proxy.client();
    assert_eq!(client.request("GET", &origin.url("/hello"), &fields, b"").status(), 200);
    let response = client.request("POST", &origin.url("/hash"), &fields, &body);
    assert_eq!(response.text(), format!("{} {:016x}", body.len(), fnv(&body)));
    assert_eq!(tokens(&origin), Vec::<String>::new());
}

#[test]
fn a_parents_login_of_ours_and_an_origins_of_the_clients_do_not_disturb_each_other() {
    let network = Network::new(Parent::ntlm(ALICE), LOGIN);
    let mut client: Client = network.client();
    let value = basic("me:mine");
    let fields = [("Authorization", value.as_str())];
    assert_eq!(client.request("GET", &crate::proxy::url("/hello"), &fields, b"").status(), 200);
    assert_eq!(network.origin.seen()[0].fields().get("Authorization"), Some(&*value));
    assert!(
        network.parent.hops().iter().all(|hop| hop.fields().get("Authorization") == Some(&value))
    );
}
