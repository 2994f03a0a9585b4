//! What a password costs the account that was right and is no longer: three refused logons lock it,
//! whatever the scheme and however many clients there are.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::proxy::{ALICE, LOGIN, Proxy, basic, url};
use crate::support::digest_gate::{DigestDoor, Judged};
use crate::support::doors::{Door, Fickle, Passed, parent};
use crate::support::http::response;
use crate::support::spnego_gate::{Said, TokenDoor};
use crate::support::{Client, Origin, Response, Seen, Then};

/// Longer than anybody may have to wait, on whatever machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// After so long a login that was accepted speaks for no others.
const PAUSE: Duration = Duration::from_millis(1200);

/// Wants Basic, and holds those it lets in until so many are inside.
struct BasicDoor {
    right: AtomicBool,
    refused: AtomicUsize,
    inside: Mutex<usize>,
    came: Condvar,
    together: AtomicUsize,
}

impl BasicDoor {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            right: AtomicBool::new(true),
            refused: AtomicUsize::new(0),
            inside: Mutex::new(0),
            came: Condvar::new(),
            together: AtomicUsize::new(0),
        })
    }

    /// From now on nobody is answered before so many are inside.
    fn gather(&self, together: usize) {
        *self.inside.lock().unwrap() = 0;
        self.together.store(together, Ordering::SeqCst);
    }

    fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    fn hold(&self) {
        let mut inside = self.inside.lock().unwrap();
        *inside += 1;
        self.came.notify_all();
        let few = |inside: &mut usize| *inside < self.together.load(Ordering::SeqCst);
        drop(self.came.wait_timeout_while(inside, PATIENCE / 2, few));
    }
}

impl Door for BasicDoor {
    fn judge(&self, _: &Seen, credentials: Option<&str>) -> Result<Passed, Vec<String>> {
        if let Some(value) = credentials {
            assert_eq!(value, basic("alice:Secret-123"));
            if self.right.load(Ordering::SeqCst) {
                self.hold();
                return Ok(Passed::default());
            }
            self.refused.fetch_add(1, Ordering::SeqCst);
        }
        Err(vec!["Basic realm=\"corp\"".into()])
    }
}

const BASIC: &str = "USER: alice\nPASSWORD: Secret-123\nAUTH: Basic\n";

fn at(parent: &Origin, cfg: &str) -> Proxy {
    Proxy::start(&format!("PARENT_PROXY: {}\n{cfg}", parent.addr()))
}

/// As many clients as that, each with one request, all at the same time.
fn together(proxy: &Proxy, count: usize) -> Vec<Response> {
    let barrier = Barrier::new(count);
    let ask = || {
        let mut client = proxy.client();
        client.wire.deadline(PATIENCE).expect("a socket");
        barrier.wait();
        client.get(&url("/"))
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..count).map(|_| scope.spawn(ask)).collect();
        all.into_iter().map(|client| client.join().expect("a client")).collect()
    })
}

fn pause() {
    let end = Instant::now() + PAUSE;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

/// Ten requests, in all the ways there are; what the last one is told.
fn ten(proxy: &Proxy) -> String {
    let mut kept = proxy.client();
    let mut told = String::new();
    for number in 0..10 {
        let page = match number % 4 {
            0 => kept.request("POST", &url("/"), &[], b"body"),
            1 => kept.get(&url("/")),
            2 => proxy.client().request("CONNECT", "a.test:443", &[], b""),
            _ => proxy.get(&url("/")),
        };
        assert_eq!(page.status(), 407, "{}", page.text());
        told = page.text();
    }
    told
}

#[test]
fn a_password_that_changed_costs_two_refused_logons_where_each_request_logs_in() {
    let door = BasicDoor::new();
    let through = parent(&door);
    let proxy = at(&through, BASIC);
    assert_eq!(proxy.get(&url("/")).status(), 200);
    door.gather(6);
    assert!(together(&proxy, 6).iter().all(|page| page.status() == 200));
    door.right.store(false, Ordering::SeqCst);
    let page = proxy.get(&url("/"));
    assert_eq!((page.status(), door.refused()), (407, 1), "one request, one logon");
    assert!(ten(&proxy).contains("not sent again for"));
    assert_eq!(door.refused(), 2);
}

#[test]
fn the_same_for_digest() {
    let old = DigestDoor::new(&[("alice", "Secret-123")]).open();
    let new = DigestDoor::new(&[("alice", "another")]).open();
    let door = Fickle::new(vec![old, Arc::<DigestDoor>::clone(&new)]);
    let through = parent(&door);
    let proxy = at(&through, LOGIN);
    for _ in 0..3 {
        assert!(together(&proxy, 8).iter().all(|page| page.status() == 200));
    }
    door.turn_to(1);
    let refused = || new.uses().iter().filter(|one| matches!(one.judged, Judged::Wrong(_))).count();
    let page = proxy.get(&url("/"));
    assert_eq!((page.status(), refused()), (407, 1), "one request, one logon: {}", page.text());
    assert!(ten(&proxy).contains("not sent again for"));
    assert_eq!(refused(), 2, "{:?}", new.uses());
}

/// All that is sent before the first refusal is back cannot be called back, so that after a pause
/// one goes first. It is waited for as long as refusals take, and on a machine that is very busy
/// they may take longer: once is enough.
#[test]
fn a_crowd_that_comes_after_the_password_changed_costs_two_refused_logons() {
    let ntlm = || {
        let new = TokenDoor::new("NTLM", &[("CORP", "alice", "another")]).open();
        let door =
            Fickle::new(vec![TokenDoor::new("NTLM", ALICE).open(), Arc::<TokenDoor>::clone(&new)]);
        let through = parent(&door);
        let proxy = at(&through, LOGIN);
        assert_eq!(proxy.get(&url("/")).status(), 200);
        pause();
        door.turn_to(1);
        assert!(together(&proxy, 20).iter().all(|page| page.status() == 407));
        new.verdicts().1
    };
    let basic = || {
        let door = BasicDoor::new();
        let through = parent(&door);
        let proxy = at(&through, BASIC);
        assert_eq!(proxy.get(&url("/")).status(), 200);
        door.gather(12);
        assert!(together(&proxy, 12).iter().all(|page| page.status() == 200));
        pause();
        door.right.store(false, Ordering::SeqCst);
        assert!(together(&proxy, 20).iter().all(|page| page.status() == 407));
        door.refused()
    };
    let few = |ask: &dyn Fn() -> usize| (0..4).any(|_| ask() <= 2);
    assert!(few(&ntlm), "NTLM");
    assert!(few(&basic), "Basic");
}

#[test]
fn a_crowd_with_the_right_password_waits_for_no_slow_answer() {
    let door = BasicDoor::new();
    let through = parent(&door);
    let proxy = at(&through, BASIC);
    assert_eq!(proxy.get(&url("/")).status(), 200);
    pause();
    door.gather(20);
    let begun = Instant::now();
    assert!(together(&proxy, 20).iter().all(|page| page.status() == 200));
    assert!(begun.elapsed() < PATIENCE / 4, "{:?}", begun.elapsed());
}

/// Whoever hangs up on a login may have asked its domain controller.
#[test]
fn a_parent_that_begins_to_hang_up_costs_no_logon_for_each_request() {
    let door = TokenDoor::new("NTLM", ALICE).open();
    let (counted, sent) = (Arc::clone(&door), Arc::new(AtomicUsize::new(0)));
    let authenticates = Arc::clone(&sent);
    let flaky = Origin::with(move |seen, wire| {
        let before = counted.words().len();
        let verdict = counted.judge(seen, seen.fields().get("Proxy-Authorization"));
        let words = counted.words();
        if matches!(words[before..].last(), Some(Said::Authenticate(..)))
            && authenticates.fetch_add(1, Ordering::SeqCst) > 0
        {
            return Then::Close;
        }
        let bytes = match verdict {
            Ok(_) => response(200, &[("Connection", "close")], b"hello"),
            Err(lines) => response(407, &[("Proxy-Authenticate", lines[0].as_str())], b""),
        };
        if wire.write(&bytes).is_ok() { Then::Next } else { Then::Close }
    });
    let proxy = at(&flaky, LOGIN);
    assert_eq!(proxy.get(&url("/")).status(), 200);
    for _ in 0..10 {
        assert_eq!(proxy.get(&url("/")).status(), 502);
    }
    let page = proxy.get(&url("/"));
    assert!(page.text().contains("hung up on") && page.text().contains("again for"), "{page:?}");
    assert_eq!(sent.load(Ordering::SeqCst), 7, "one that was accepted, and six");
    // Another one is asked in its place.
    sent.store(0, Ordering::SeqCst);
    let second = parent(&TokenDoor::new("NTLM", ALICE).open());
    let cfg = format!(
        "PARENT_PROXY: {} {}\nPARENT_PROXY_TIMEOUT: 1\n{LOGIN}",
        flaky.addr(),
        second.addr()
    );
    let proxy = Proxy::start(&cfg);
    for _ in 0..4 {
        let mut client: Client = proxy.client();
        assert_eq!(client.request("CONNECT", "a.test:443", &[], b"").status(), 200);
        pause();
    }
    assert!(sent.load(Ordering::SeqCst) <= 3, "{sent:?}");
}
