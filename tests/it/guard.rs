//! The lockout guard: what a wrong password costs the account, however many clients use it, and
//! what a right one costs the clients.

use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::proxy::{ALICE, LOGIN, Network, Proxy, basic, url};
use crate::support::doors::{Door, parent};
use crate::support::http::response;
use crate::support::spnego_gate::{Said, TokenDoor};
use crate::support::{Client, Origin, Parent, Quirk, Response, Then};

const WRONG: &str = "USER: CORP\\alice\nPASSWORD: not-hers\n";
/// Longer than anybody may have to wait, on whatever machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn at<D: Door + 'static>(door: &Arc<D>, cfg: &str) -> (Origin, Proxy) {
    let parent = parent(door);
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{cfg}", parent.addr()));
    (parent, proxy)
}

fn client(proxy: &Proxy) -> Client {
    let client = proxy.client();
    client.wire.deadline(PATIENCE).expect("a socket");
    client
}

/// As many clients as that, each with one request, all at the same time.
fn together(count: usize, ask: impl Fn(usize) -> Response + Sync) -> Vec<Response> {
    let barrier = Barrier::new(count);
    thread::scope(|scope| {
        let one = |number| {
            let (barrier, ask) = (&barrier, &ask);
            scope.spawn(move || {
                barrier.wait();
                ask(number)
            })
        };
        let all: Vec<_> = (0..count).map(one).collect();
        all.into_iter().map(|client| client.join().expect("a client")).collect()
    })
}

/// What happened, when it is tried again, what to do.
fn tells_everything(page: &Response, parent: &Origin) {
    assert_eq!(page.status(), 407, "{}", page.text());
    let text = page.text();
    let parent = parent.addr().to_string();
    for word in ["refused", &parent, "again for", " min", "Check ", "PASSWORD", "ntlmaps.cfg"] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
    assert!(!text.contains("not-hers"), "{text}");
}

#[test]
fn fifty_clients_with_a_wrong_password_cost_one_failed_logon_and_so_do_a_hundred_more() {
    for scheme in ["NTLM", "Negotiate"] {
        let door = TokenDoor::new(scheme, ALICE).held_for(50).open();
        let (parent, proxy) = at(&door, WRONG);
        for page in together(50, |_| client(&proxy).get(&url("/"))) {
            tells_everything(&page, &parent);
        }
        assert_eq!(door.verdicts(), (0, 1));
        let mut kept = client(&proxy);
        for number in 0..100 {
            let page = match number % 4 {
                0 => kept.request("POST", &url("/"), &[], b"body"),
                1 => kept.get(&url("/")),
                2 => proxy.client().request("CONNECT", "a.test:443", &[], b""),
                _ => proxy.get(&url("/")),
            };
            tells_everything(&page, &parent);
        }
        assert_eq!(door.verdicts(), (0, 1), "{scheme}");
    }
}

#[test]
fn fifty_clients_with_the_right_password_are_all_served_and_nobody_is_refused() {
    let door = TokenDoor::new("NTLM", ALICE).held_for(50).open();
    let (_parent, proxy) = at(&door, LOGIN);
    for _ in 0..2 {
        for page in together(50, |_| client(&proxy).get(&url("/"))) {
            assert_eq!((page.status(), page.text().as_str()), (200, "hello, world\n"));
        }
        let (accepted, refused) = door.verdicts();
        assert!((1..=100).contains(&accepted) && refused == 0, "{accepted}, {refused}");
    }
}

#[test]
fn a_parent_that_forgets_a_login_holds_nobody_back() {
    let network = Network::new(Parent::ntlm(ALICE).quirk(Quirk::ForgetOn(1)), LOGIN);
    for _ in 0..10 {
        assert_eq!(network.get("/hello").status(), 200);
    }
    assert_eq!((network.origin.seen().len(), network.parent.refusals()), (10, 0));
}

#[test]
fn one_odd_refusal_of_a_proven_account_is_over_with_the_next_request() {
    let door = TokenDoor::new("NTLM", ALICE).refuses(&[2, 5]).open();
    let (_parent, proxy) = at(&door, LOGIN);
    let mut statuses = Vec::new();
    for _ in 0..6 {
        door.forget();
        let page = proxy.get(&url("/"));
        assert!(!page.text().contains("again for"), "{}", page.text());
        statuses.push(page.status());
    }
    assert_eq!(statuses, [200, 407, 200, 200, 407, 200]);
}

#[test]
fn a_proven_account_that_is_refused_again_and_again_rests_for_seconds_at_first() {
    let door = TokenDoor::new("NTLM", ALICE).refuses(&[2, 3, 4]).open();
    let (_parent, proxy) = at(&door, LOGIN);
    for (status, words) in
        [(200, ""), (407, "not accepted"), (407, "for 10 s"), (407, " s, or until")]
    {
        door.forget();
        let page = proxy.get(&url("/"));
        assert!(page.status() == status && page.text().contains(words), "{words}: {}", page.text());
    }
    assert_eq!(door.verdicts(), (1, 2), "the last was not sent");
}

#[test]
fn connections_that_are_logged_in_serve_while_the_account_rests() {
    let door = TokenDoor::new("NTLM", ALICE).refuses(&[2, 3]).open();
    let (_parent, proxy) = at(&door, LOGIN);
    let mut tunnel = proxy.client();
    tunnel.tunnel("a.test:443");
    for _ in 0..2 {
        assert_eq!(proxy.get(&url("/")).status(), 407);
    }
    tunnel.send("still there?");
    assert_eq!(tunnel.read_exact(12), b"still there?");
}

#[test]
fn what_one_account_did_is_no_other_accounts_business() {
    let accounts = &[("CORP", "alice", "a-secret"), ("CORP", "bob", "b-secret")];
    let network = Network::new(Parent::ntlm(accounts), "NT_DOMAIN: CORP\n");
    let ask = |pair: &str| {
        let fields = [("Proxy-Authorization", &*basic(pair))];
        network.client().request("GET", &url("/hello"), &fields, b"")
    };
    let page = ask("alice:wrong");
    assert_eq!(page.status(), 407);
    assert!(page.text().contains("15 min"), "{}", page.text());
    for _ in 0..3 {
        for right in ["alice:a-secret", "bob:b-secret", "CORP\\alice:a-secret"] {
            network.parent.close_idle();
            assert_eq!(ask(right).status(), 200, "{right}");
        }
        let page = ask("alice:wrong");
        assert_eq!(page.status(), 407);
        assert!(page.fields().has("Proxy-Authenticate"), "a browser asks again: {page:?}");
        assert!(page.text().contains("your program sends"), "{}", page.text());
    }
    assert_eq!(network.parent.refusals(), 1);
    assert_eq!(ask("bob:wrong").status(), 407);
    assert_eq!((ask("bob:b-secret").status(), network.parent.refusals()), (200, 2));
}

#[test]
fn without_a_guard_everything_is_sent() {
    let door = TokenDoor::new("NTLM", ALICE).open();
    let (_parent, proxy) = at(&door, &format!("{WRONG}REJECTED_RETRY: 0\n"));
    for page in together(10, |_| client(&proxy).get(&url("/"))) {
        assert!(page.status() == 407 && !page.text().contains("again for"), "{}", page.text());
    }
    for _ in 0..5 {
        assert_eq!(proxy.get(&url("/")).status(), 407);
    }
    assert_eq!(door.verdicts(), (0, 15));
}

#[test]
fn a_new_process_tries_again() {
    let door = TokenDoor::new("NTLM", ALICE).open();
    for expected in 1..=2 {
        let (_parent, proxy) = at(&door, WRONG);
        door.forget();
        assert_eq!(proxy.get(&url("/")).status(), 407);
        assert_eq!(proxy.get(&url("/")).status(), 407);
        assert_eq!(door.verdicts(), (0, expected));
    }
}

#[test]
fn a_reload_tries_again_at_once_and_the_right_password_is_in() {
    let door = TokenDoor::new("NTLM", ALICE).open();
    let (parent, proxy) = at(&door, WRONG);
    let mut client = client(&proxy);
    let through = format!("PARENT_PROXY: {}\n", parent.addr());
    for expected in 1..=2 {
        for _ in 0..3 {
            tells_everything(&client.get(&url("/")), &parent);
        }
        assert_eq!(door.verdicts(), (0, expected));
        proxy.reload(&format!("{through}{WRONG}"));
    }
    proxy.reload(&format!("{through}{LOGIN}"));
    assert_eq!(client.get(&url("/")).status(), 200, "on the client's connection of before");
    assert_eq!(door.verdicts(), (1, 2));
}

#[test]
fn a_trial_that_comes_to_nothing_lets_the_next_one_go() {
    // The parent's own trouble, or its silence, says nothing about a password.
    for answer in [&response(503, &[], b"no domain controller")[..], b""] {
        let answer = answer.to_vec();
        let door = TokenDoor::new("NTLM", ALICE).open();
        let counted = Arc::clone(&door);
        let first = Mutex::new(true);
        let parent = Origin::with(move |seen, wire| {
            let credentials = seen.fields().get("Proxy-Authorization");
            let verdict = counted.judge(seen, credentials);
            let authenticated = matches!(counted.words().last(), Some(Said::Authenticate(..)));
            let (bytes, then) = match verdict {
                _ if authenticated && std::mem::take(&mut *first.lock().unwrap()) => {
                    (answer.clone(), Then::Close)
                }
                Ok(_) => (response(200, &[], b"hello"), Then::Next),
                Err(lines) => {
                    let fields: Vec<_> =
                        lines.iter().map(|line| ("Proxy-Authenticate", line.as_str())).collect();
                    (response(407, &fields, b""), Then::Next)
                }
            };
            if wire.write(&bytes).is_ok() { then } else { Then::Close }
        });
        let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{LOGIN}", parent.addr()));
        assert!([502, 503].contains(&proxy.get(&url("/")).status()));
        let begun = Instant::now();
        assert_eq!(client(&proxy).get(&url("/")).status(), 200);
        assert!(begun.elapsed() < Duration::from_secs(4), "nobody waits for who is gone");
    }
}

#[test]
fn a_slow_first_request_does_not_hold_the_others_back_for_long() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let inside = Arc::clone(&gate);
    let origin = Origin::with(move |seen, wire| {
        if seen.path() == "/slow" {
            let (open, opened) = &*inside;
            drop(opened.wait_timeout_while(open.lock().unwrap(), PATIENCE, |open| !*open));
        }
        let sent = wire.write(&response(200, &[], b"at last"));
        if sent.is_ok() { Then::Next } else { Then::Close }
    });
    let parent = Parent::ntlm(ALICE).patience(PATIENCE, PATIENCE);
    let network = Network::to(origin, parent, LOGIN);
    let mut slow = client(&network.proxy);
    slow.start("GET", &url("/slow"), &[], b"");
    network.origin.wait_until(|seen| !seen.is_empty());
    let begun = Instant::now();
    for page in together(20, |_| client(&network.proxy).get(&url("/"))) {
        assert_eq!(page.status(), 200);
    }
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(15), "{waited:?}");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    assert_eq!(slow.read_response().text(), "at last");
    assert_eq!(network.parent.refusals(), 0);
}
