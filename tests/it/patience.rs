//! A parent that says nothing may have stopped, or wait for an origin that takes its time: it is
//! asked which.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::proxy::{ALICE, LOGIN, NOBODY, Proxy, url};
use crate::support::doors::{self, Door, Passed, Side};
use crate::support::spnego_gate::TokenDoor;
use crate::support::{DEADLINE, Origin, Parent, Seen};

/// Something that is waited for.
#[derive(Default)]
struct Event(Mutex<bool>, Condvar);

impl Event {
    fn comes(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        drop(self.1.wait_timeout_while(self.0.lock().unwrap(), DEADLINE, |came| !*came));
    }
}

/// Wants NTLM, but for `free.test`. What goes to `/slow` there is answered when the parent was asked
/// whether it works, an OPTIONS to `/mute` when a POST came.
struct Slow {
    door: Arc<TokenDoor>,
    asked: Event,
    posted: Event,
}

impl Door for Slow {
    fn judge(&self, seen: &Seen, credentials: Option<&str>) -> Result<Passed, Vec<String>> {
        if seen.head.target == "*" {
            self.asked.comes();
        }
        let Some(path) = seen.head.target.strip_prefix("http://free.test") else {
            return self.door.judge(seen, credentials);
        };
        match (path, seen.method()) {
            ("/slow", _) => self.asked.wait(),
            ("/mute", "OPTIONS") => self.posted.wait(),
            ("/mute", _) => self.posted.comes(),
            _ => {}
        }
        Ok(Passed::default())
    }
}

fn slow() -> Origin {
    let door = TokenDoor::new("NTLM", ALICE).open();
    let slow = Slow { door, asked: Event::default(), posted: Event::default() };
    doors::behind(vec![(Side::Proxy, Arc::new(slow))])
}

/// The methods of what came for that target.
fn methods(parent: &Origin, target: &str) -> Vec<String> {
    let seen = parent.seen();
    let meant = seen.iter().filter(|seen| seen.head.target == target);
    meant.map(|seen| seen.method().to_owned()).collect()
}

#[test]
fn a_host_that_needs_no_login_may_take_its_time() {
    let target = "http://free.test/slow";
    for (known, cfg) in [(false, LOGIN), (true, LOGIN), (false, NOBODY)] {
        let (parent, other) = (slow(), Parent::open().start());
        let list = format!("{} {}", parent.addr(), other.addr());
        let proxy = Proxy::start(&format!("PARENT_PROXY: {list}\nPARENT_PROXY_TIMEOUT: 2\n{cfg}"));
        let mut tunnel = proxy.client();
        if known {
            // On a connection that no other request can use.
            tunnel.tunnel("a.test:443");
        }
        let page = proxy.get(target);
        assert_eq!(page.status(), 200, "{known} {cfg}: {}", page.text());
        assert_eq!(methods(&parent, target), ["GET"]);
        assert_eq!(methods(&parent, "*"), ["OPTIONS"]);
        let asked = parent.seen().into_iter().find(|seen| seen.head.target == "*").unwrap();
        assert!(!asked.fields().has("Proxy-Authorization"));
        assert_eq!(other.connections(), 0);
        assert_eq!(parent.faults(), Vec::<String>::new());
    }
}

#[test]
fn a_host_that_does_not_answer_options_gets_its_posts_and_no_empty_one() {
    let parent = slow();
    let cfg = format!("PARENT_PROXY: {}\nPARENT_PROXY_TIMEOUT: 2\n{LOGIN}", parent.addr());
    let proxy = Proxy::start(&cfg);
    assert_eq!(proxy.get(&url("/")).status(), 200);
    let target = "http://free.test/mute";
    for expected in [&["OPTIONS", "POST"][..], &["OPTIONS", "POST", "POST"]] {
        let mut tunnel = proxy.client();
        tunnel.tunnel("a.test:443");
        let page = proxy.client().request("POST", target, &[], b"a body");
        assert_eq!(page.status(), 200, "{}", page.text());
        assert_eq!(methods(&parent, target), expected, "what it does not answer is remembered");
    }
    let posts = parent.seen().into_iter().filter(|seen| seen.method() == "POST");
    assert!(posts.into_iter().all(|seen| seen.body.length == 6));
}

/// Also where nobody logs in, and every answer may be that of a slow origin.
#[test]
fn a_parent_that_says_nothing_at_all_is_left_in_a_few_seconds() {
    for cfg in [LOGIN, NOBODY] {
        let (origin, hung) = (Origin::start(), Origin::raw(|_, mut wire| _ = wire.read_to_end()));
        let other = Parent::open().origin(origin.addr()).start();
        let list = format!("{} {}", hung.addr(), other.addr());
        let proxy = Proxy::start(&format!("PARENT_PROXY: {list}\nPARENT_PROXY_TIMEOUT: 1\n{cfg}"));
        let mut client = proxy.client();
        client.wire.deadline(Duration::from_secs(60)).expect("a socket");
        assert_eq!(client.get(&url("/hello")).status(), 200);
        assert_eq!(hung.connections(), 2, "it was asked");
    }
}

#[test]
fn a_parent_that_stays_silent_holds_up_one_request_after_each_rest() {
    let (origin, hung) = (Origin::start(), Origin::raw(|_, mut wire| _ = wire.read_to_end()));
    let other = Parent::open().origin(origin.addr()).start();
    let list = format!("{} {}", hung.addr(), other.addr());
    let proxy = Proxy::start(&format!("PARENT_PROXY: {list}\nPARENT_PROXY_TIMEOUT: 1\n{LOGIN}"));
    assert_eq!(proxy.get(&url("/hello")).status(), 200);
    // Past its first rest and the trial behind that: each costs a request, and a question.
    let started = Instant::now();
    while hung.connections() < 4 {
        assert!(started.elapsed() < DEADLINE, "it was not tried again");
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!(proxy.get(&url("/hello")).status(), 200));
            }
        });
    }
    assert_eq!(hung.connections(), 4, "one tries it");
}
