//! What goes out without its body while a login is under way: nobody gets an empty POST that no
//! client has sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::proxy::{ALICE, LOGIN, Proxy, url};
use crate::support::doors::{self, Door, Passed, Side};
use crate::support::http::response;
use crate::support::origin::Then;
use crate::support::spnego_gate::TokenDoor;
use crate::support::{Origin, Response, Seen, fnv, pattern};

const HERS: &str = "WWW_AUTH_HOSTS: 127.0.0.1\n";

/// A door that some requests need not pass.
struct Beside<F>(Arc<TokenDoor>, F);

impl<F: Fn(&Seen) -> bool + Send + Sync> Door for Beside<F> {
    fn judge(&self, seen: &Seen, credentials: Option<&str>) -> Result<Passed, Vec<String>> {
        if self.1(seen) { Ok(Passed::default()) } else { self.0.judge(seen, credentials) }
    }
}

/// An origin or a parent that wants NTLM but of requests that are free, and a proxy before it.
fn beside<F>(side: Side, free: F) -> (Arc<TokenDoor>, Origin, Proxy)
where
    F: Fn(&Seen) -> bool + Send + Sync + 'static,
{
    let door = TokenDoor::new("NTLM", ALICE).open();
    let hop = doors::behind(vec![(side, Arc::new(Beside(Arc::clone(&door), free)))]);
    let cfg = match side {
        Side::Proxy => format!("PARENT_PROXY: {}\n{LOGIN}", hop.addr()),
        Side::Origin => format!("{HERS}{LOGIN}"),
    };
    (door, hop, Proxy::start(&cfg))
}

fn whole(body: &[u8]) -> String {
    format!("{} {:016x}", body.len(), fnv(body))
}

fn post(proxy: &Proxy, target: &str, body: &[u8]) -> Response {
    proxy.client().request("POST", target, &[("Max-Forwards", "0")], body)
}

/// How long the bodies of the POSTs to that target were, whole or not.
fn posts(hop: &Origin, target: &str) -> Vec<u64> {
    let seen = hop.seen();
    let posts = seen.iter().filter(|seen| seen.method() == "POST" && seen.head.target == target);
    posts.map(|seen| seen.body.length).collect()
}

#[test]
fn an_open_path_of_a_guarded_origin_gets_no_post_without_its_body() {
    let free = |seen: &Seen| seen.method() == "OPTIONS" || seen.path() == "/open";
    let (_door, origin, proxy) = beside(Side::Origin, free);
    let body = pattern(3 << 20);
    let page = post(&proxy, &origin.url("/hash"), &body);
    assert!(page.text().contains("Send the request again"), "{}", page.text());
    assert_eq!(post(&proxy, &origin.url("/open"), &body).status(), 200);
    assert_eq!(posts(&origin, "/open"), [3 << 20]);
    // There is a connection now that is not logged in: not for this one.
    assert_eq!(post(&proxy, &origin.url("/hash"), &body).text(), whole(&body));
}

#[test]
fn a_host_that_a_parent_leaves_free_gets_no_post_without_its_body() {
    let (door, parent, proxy) =
        beside(Side::Proxy, |seen| seen.head.target.starts_with("http://free.test/"));
    assert_eq!(proxy.get(&url("/")).status(), 200);
    for size in [5, 3 << 20] {
        let body = pattern(size);
        // Each on a connection of its own: what was logged in on is forgotten, or a tunnel.
        door.forget();
        let mut tunnel = proxy.client();
        tunnel.tunnel("a.test:443");
        let target = format!("http://free.test/hash?{size}");
        assert_eq!(post(&proxy, &target, &body).text(), whole(&body));
        assert_eq!(posts(&parent, &target), [size as u64]);
    }
    let offered = parent.seen().into_iter().filter(|seen| {
        seen.head.target.contains("free.test") && seen.fields().has("Proxy-Authorization")
    });
    let harmless = offered.map(|seen| (seen.head.method.clone(), seen.body.length));
    assert_eq!(harmless.collect::<Vec<_>>(), [("OPTIONS".into(), 0), ("OPTIONS".into(), 0)]);
}

/// Squid answers an OPTIONS with `Max-Forwards: 0` by itself and asks for no login; and what is
/// said of a body is said of none.
#[test]
fn an_options_leg_has_nothing_of_a_body_and_may_go_as_far_as_it_must() {
    let (_door, parent, proxy) = beside(Side::Proxy, |_| false);
    assert_eq!(proxy.get(&url("/")).status(), 200);
    let mut tunnel = proxy.client();
    tunnel.tunnel("a.test:443");
    let fields = [("Max-Forwards", "0"), ("Content-Type", "text/plain"), ("X-Mine", "1")];
    let page = proxy.client().request("PUT", &url("/echo"), &fields, b"a body");
    assert_eq!(page.text(), "a body");
    let seen = parent.seen();
    let [.., leg, put] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((leg.method(), leg.head.target.as_str()), ("OPTIONS", url("/echo").as_str()));
    for name in ["Max-Forwards", "Content-Type", "Content-Length", "Transfer-Encoding"] {
        assert!(!leg.fields().has(name), "{name}");
    }
    assert!(leg.fields().has("X-Mine"));
    assert_eq!((put.method(), put.fields().get("Max-Forwards")), ("PUT", Some("0")));
}

#[test]
fn a_parent_that_lets_every_options_pass_is_logged_in_to_all_the_same() {
    let (door, parent, proxy) = beside(Side::Proxy, |seen| seen.method() == "OPTIONS");
    assert_eq!(proxy.get(&url("/")).status(), 200);
    let mut legs = Vec::new();
    for _ in 0..2 {
        door.forget();
        let mut tunnel = proxy.client();
        tunnel.tunnel("a.test:443");
        let before = parent.seen().len();
        assert_eq!(post(&proxy, &url("/echo"), b"a body").text(), "a body");
        let seen = parent.seen();
        legs.push(seen[before..].iter().map(|seen| seen.method().to_owned()).collect::<Vec<_>>());
    }
    assert_eq!(legs[0], ["OPTIONS", "POST", "POST", "POST"]);
    assert_eq!(legs[1], ["POST", "POST"], "what such a request meets with is remembered");
    assert_eq!(door.verdicts().1, 0);
}

/// Apache's `LimitExcept`: what is said to an OPTIONS is not said to the client's request.
#[test]
fn an_origin_that_lets_posts_pass_gets_a_large_one_whatever_it_says_to_an_options() {
    let wall = Arc::new(doors::Wall(vec!["Basic realm=\"dav\"".into()]));
    struct Limit(Arc<doors::Wall>);
    impl Door for Limit {
        fn judge(&self, seen: &Seen, credentials: Option<&str>) -> Result<Passed, Vec<String>> {
            let free = seen.method() == "POST";
            if free { Ok(Passed::default()) } else { self.0.judge(seen, credentials) }
        }
    }
    let origin = doors::origin(&Arc::new(Limit(wall)));
    let proxy = Proxy::start(&format!("{HERS}{LOGIN}"));
    let body = pattern(3 << 20);
    assert_eq!(post(&proxy, &origin.url("/hash"), &body).text(), whole(&body));
}

#[test]
fn a_parent_that_demands_a_login_and_answers_none_is_not_asked_for_ever() {
    // Whatever has no body passes, with a NEGOTIATE or without.
    let (_door, parent, proxy) =
        beside(Side::Proxy, |seen| seen.path() == "/" && seen.body.length == 0);
    assert_eq!(proxy.get(&url("/in")).status(), 200);
    for method in ["POST", "GET", "POST"] {
        let mut tunnel = proxy.client();
        tunnel.tunnel("a.test:443");
        let before = parent.seen().len();
        let page = proxy.client().request(method, &url("/"), &[], b"a body");
        assert_eq!(page.status(), 502, "{}", page.text());
        assert!(page.text().contains("NEGOTIATE"), "{}", page.text());
        assert!(parent.seen().len() - before <= 5, "{:#?}", parent.seen());
    }
}

/// A parent that wants NTLM, but for `shut.test`, for which it closes on each OPTIONS; and on
/// whatever comes while it is `away`. A connection of it serves one request.
fn closing(away: &Arc<AtomicBool>) -> Origin {
    let (away, door) = (Arc::clone(away), TokenDoor::new("NTLM", ALICE).open());
    Origin::with(move |seen, wire| {
        let free = seen.head.target.starts_with("http://shut.test/");
        if away.load(Ordering::SeqCst) || free && seen.method() == "OPTIONS" {
            return Then::Close;
        }
        let judged = if free { Ok(Passed::default()) } else { door.judge(seen, credentials(seen)) };
        let answer = match judged {
            Ok(_) => response(200, &[("Connection", "close")], whole_of(seen).as_bytes()),
            Err(lines) => response(407, &[("Proxy-Authenticate", &lines[0])], b"who?"),
        };
        if wire.write(&answer).is_ok() { Then::Next } else { Then::Close }
    })
}

fn credentials(seen: &Seen) -> Option<&str> {
    seen.fields().get("Proxy-Authorization")
}

fn whole_of(seen: &Seen) -> String {
    format!("{} {:016x}", seen.body.length, seen.body.hash)
}

#[test]
fn a_host_whose_options_end_without_an_answer_gets_its_posts() {
    let parent = closing(&Arc::default());
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{LOGIN}", parent.addr()));
    assert_eq!(proxy.get(&url("/")).status(), 200);
    for size in [5, 3 << 20] {
        let (target, body) = (format!("http://shut.test/{size}"), pattern(size));
        assert_eq!(post(&proxy, &target, &body).text(), whole(&body));
        assert_eq!(posts(&parent, &target), [size as u64]);
    }
}

/// What crashes says nothing about the hosts behind it.
#[test]
fn a_parent_that_closed_for_a_while_is_asked_before_a_large_body_as_before() {
    let away = Arc::new(AtomicBool::new(false));
    let parent = closing(&away);
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{LOGIN}", parent.addr()));
    assert_eq!(proxy.get(&url("/")).status(), 200);
    away.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(post(&proxy, &url("/"), b"a body").status(), 502);
    }
    away.store(false, Ordering::SeqCst);
    let body = pattern(3 << 20);
    assert_eq!(post(&proxy, &url("/"), &body).text(), whole(&body));
}
