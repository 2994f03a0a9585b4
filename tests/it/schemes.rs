//! Parents that want something else than NTLM by its own name, or now this and now that.

use std::sync::Arc;

use crate::proxy::{ALICE, LOGIN, Proxy, basic, url};
use crate::support::digest_gate::DigestDoor;
use crate::support::doors::{Door, Fickle, Wall, parent};
use crate::support::spnego_gate::{Form, Said, TokenDoor, Unwanted};
use crate::support::{Dialect, Origin, Parent, fnv, pattern};

fn at<D: Door + 'static>(door: &Arc<D>, cfg: &str) -> (Origin, Proxy) {
    let parent = parent(door);
    let proxy = Proxy::start(&format!("PARENT_PROXY: {}\n{cfg}", parent.addr()));
    (parent, proxy)
}

/// Everything a client may want of a parent, each with a login of its own: a tunnel takes the
/// connection away that the request before has left.
fn works(proxy: &Proxy) {
    let tunnel = || {
        let mut client = proxy.client();
        client.tunnel("a.test:443");
        client.send("through the tunnel");
        assert_eq!(client.read_exact(18), b"through the tunnel");
        client
    };
    assert_eq!(proxy.get(&url("/")).text(), "hello, world\n");
    // Yesterday's connections too.
    let mut held: Vec<_> = (0..8).map(|_| tunnel()).collect();
    for body in [b"a small body".to_vec(), pattern(3 << 20)] {
        let response = proxy.client().request("POST", &url("/hash"), &[], &body);
        assert_eq!(response.text(), format!("{} {:016x}", body.len(), fnv(&body)));
        held.push(tunnel());
    }
    let chunked = [("Transfer-Encoding", "chunked")];
    let body = b"6\r\nchunks\r\n0\r\n\r\n";
    assert_eq!(proxy.client().request("PUT", &url("/echo"), &chunked, body).text(), "chunks");
    held.push(tunnel());
    held.push(tunnel());
}

/// The first credentials a parent with these offers sees; `None` if it sees none.
fn first_answer(lines: &[&str], cfg: &str) -> Option<String> {
    let wall = Arc::new(Wall(lines.iter().map(|line| (*line).into()).collect()));
    let (parent, proxy) = at(&wall, &format!("{LOGIN}{cfg}"));
    let page = proxy.get(&url("/"));
    assert!(matches!(page.status(), 407 | 502), "{}", page.text());
    let seen = parent.seen();
    let values = seen.iter().filter_map(|seen| seen.fields().get("Proxy-Authorization"));
    values.map(str::to_owned).next()
}

#[test]
fn the_strongest_is_chosen_in_every_order() {
    let basic = "Basic realm=\"Digest, NTLM\"";
    let digest = "Digest realm=\"a, Basic b\", nonce=\"n\", qop=\"auth\"";
    let all = [basic, digest, "Negotiate", "NTLM"];
    let mut orders = Vec::new();
    for (a, one) in all.iter().enumerate() {
        for (b, two) in all.iter().enumerate().filter(|(b, _)| *b != a) {
            for (c, three) in all.iter().enumerate().filter(|(c, _)| *c != a && *c != b) {
                orders.push([*one, *two, *three, all[6 - a - b - c]]);
            }
        }
    }
    assert_eq!(orders.len(), 24);
    for order in orders {
        let answer = first_answer(&order, "").expect("an answer");
        assert!(answer.starts_with("NTLM TlRMTVNTUAAB"), "{order:?}: {answer}");
        let without: Vec<_> = order.into_iter().filter(|line| *line != "NTLM").collect();
        let answer = first_answer(&without, "").expect("an answer");
        assert!(answer.starts_with("Negotiate TlRMTVNTUAAB"), "{without:?}: {answer}");
        let two: Vec<_> = without.into_iter().filter(|line| *line != "Negotiate").collect();
        let answer = first_answer(&[&two.join(", ")], "").expect("an answer");
        assert!(answer.starts_with("Digest username=\"alice\""), "{two:?}: {answer}");
    }
}

#[test]
fn spelling_and_layout_do_not_matter() {
    for lines in [
        &["bAsIc realm=x , nTLm"][..],
        &["", "NTLM,Negotiate"],
        &["Digest realm=\"r\", nonce=\"n\", stale=false,NTLM"],
        &["Kerberos", "Bearer error=\"x, Negotiate\"", "ntlm"],
        &["Basic realm=\"unfinished \\\" quote, NTLM\"", "Custom abc==", "NTLM"],
    ] {
        let answer = first_answer(lines, "").expect("an answer");
        assert!(answer.starts_with("NTLM TlRM"), "{lines:?}: {answer}");
    }
    for lines in [&["NEGOTIATE"][..], &["Basic realm=\"NTLM\", negotiate"]] {
        let answer = first_answer(lines, "").expect("an answer");
        assert!(answer.starts_with("Negotiate TlRM"), "{lines:?}: {answer}");
    }
}

#[test]
fn auth_says_what_may_be_answered() {
    let all =
        ["NTLM", "Negotiate", "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"", "Basic realm=x"];
    for (auth, expected) in [
        ("NTLM", "NTLM TlRM"),
        ("negotiate", "Negotiate TlRM"),
        ("Digest", "Digest username"),
        ("Basic", "Basic Q09SUFxhbGljZTpTZWNyZXQtMTIz"), // CORP\alice:Secret-123
        ("Basic Digest", "Digest username"),
        ("Basic Negotiate", "Negotiate TlRM"),
        ("Basic Digest Negotiate NTLM", "NTLM TlRM"),
    ] {
        let answer = first_answer(&all, &format!("AUTH: {auth}\n")).expect("an answer");
        assert!(answer.starts_with(expected), "{auth}: {answer}");
    }
}

#[test]
fn what_may_not_be_answered_is_told_by_name_and_not_answered() {
    for (auth, lines, names) in [
        ("", &["Basic realm=\"x\""][..], "Basic"),
        ("AUTH: NTLM Negotiate Digest\n", &["basic realm=x", "Kerberos"], "basic, Kerberos"),
        ("AUTH: NTLM\n", &["Negotiate", "Digest realm=r, nonce=n"], "Negotiate, Digest"),
        ("AUTH: Negotiate\n", &["NTLM"], "NTLM"),
        ("AUTH: Digest Basic\n", &["NTLM, Negotiate"], "NTLM, Negotiate"),
    ] {
        let wall = Arc::new(Wall(lines.iter().map(|line| (*line).into()).collect()));
        let (parent, proxy) = at(&wall, &format!("{LOGIN}{auth}"));
        let page = proxy.get(&url("/"));
        assert_eq!(page.status(), 407);
        assert!(page.text().contains(names) && page.text().contains("AUTH"), "{}", page.text());
        assert!(parent.seen().iter().all(|seen| !seen.fields().has("Proxy-Authorization")));
    }
}

#[test]
fn negotiate_works_with_bare_messages() {
    let door = TokenDoor::new("Negotiate", ALICE).open();
    let (_parent, proxy) = at(&door, LOGIN);
    assert_eq!(proxy.get(&url("/")).status(), 200);
    let words = door.words();
    let [Said::Nothing, Said::Negotiate(Form::Bare), Said::Authenticate(Form::Bare, Ok(logon))] =
        &words[..]
    else {
        panic!("{words:?}");
    };
    assert_eq!((logon.dialect, logon.mic), (Dialect::Ntlmv2, true));
    works(&proxy);
    assert_eq!(door.verdicts().1, 0);
}

#[test]
fn negotiate_works_with_challenges_in_spnego() {
    let door = TokenDoor::new("Negotiate", ALICE).wraps().open();
    let (_parent, proxy) = at(&door, LOGIN);
    let page = proxy.get(&url("/"));
    assert_eq!(page.status(), 200);
    assert!(!page.fields().has("Proxy-Authenticate"), "the last token is ours, not the client's");
    let words = door.words();
    let [Said::Nothing, Said::Negotiate(Form::Bare), Said::Authenticate(Form::Resp, Ok(logon))] =
        &words[..]
    else {
        panic!("{words:?}");
    };
    assert!(logon.mic, "over the messages, not their wrapping");
    works(&proxy);
    assert_eq!(door.verdicts().1, 0);
}

#[test]
fn a_parent_that_understands_nothing_but_spnego_gets_it() {
    for unwanted in [Unwanted::Offer, Unwanted::Reject, Unwanted::Empty] {
        let door = TokenDoor::new("Negotiate", ALICE).wrapped_only(unwanted).open();
        let (_parent, proxy) = at(&door, LOGIN);
        assert_eq!(proxy.get(&url("/")).status(), 200, "{unwanted:?}");
        let said = door.said();
        let [(_, Said::Nothing), (bare, Said::Negotiate(Form::Bare)), rest @ ..] = &said[..] else {
            panic!("{said:?}");
        };
        let [(one, Said::Negotiate(Form::Init)), (two, Said::Authenticate(Form::Resp, Ok(_)))] =
            rest
        else {
            panic!("{said:?}");
        };
        assert!(one == two && one != bare, "on a connection of its own: {said:?}");
        // It is remembered.
        works(&proxy);
        let again = door.words().into_iter().filter(|said| *said == Said::Negotiate(Form::Bare));
        assert_eq!((again.count(), door.verdicts().1), (1, 0), "{unwanted:?}");
    }
}

#[test]
fn a_wrong_password_in_negotiate_is_one_refusal() {
    for door in [
        TokenDoor::new("Negotiate", ALICE).open(),
        TokenDoor::new("Negotiate", ALICE).wraps().open(),
        TokenDoor::new("Negotiate", ALICE).wrapped_only(Unwanted::Reject).open(),
    ] {
        let (_parent, proxy) = at(&door, "USER: CORP\\alice\nPASSWORD: wrong\n");
        for _ in 0..3 {
            assert_eq!(proxy.get(&url("/")).status(), 407);
        }
        assert_eq!(door.verdicts(), (0, 1), "{:?}", door.words());
    }
}

#[test]
fn basic_is_for_those_who_named_it() {
    let offer = || Parent::ntlm(ALICE).offer(&["Basic realm=\"corp\""]);
    let network = crate::proxy::Network::new(offer(), &format!("{LOGIN}AUTH: NTLM Basic\n"));
    for _ in 0..3 {
        assert_eq!(network.get("/hello").status(), 200);
    }
    let body = pattern(3 << 20);
    let response = network.client().request("POST", &url("/hash"), &[], &body);
    assert_eq!(response.text(), format!("{} {:016x}", body.len(), fnv(&body)));
    let legs = network.legs();
    assert_eq!(legs[..2], ["bare GET", "basic GET"]);
    assert_eq!(legs.iter().filter(|leg| leg.starts_with("bare GET")).count(), 1, "{legs:?}");
    let network = crate::proxy::Network::new(offer(), LOGIN);
    assert_eq!(network.get("/hello").status(), 407);
    assert_eq!(network.legs(), ["bare GET"]);
}

#[test]
fn basic_sends_the_name_as_it_was_written() {
    let wall = Arc::new(Wall(vec!["Basic realm=\"corp\"".into()]));
    let names = ["SALES\\alice", "alice", "alice@sales.example", "alice@x\\alice"];
    let (parent, proxy) = at(&wall, "NT_DOMAIN: SALES\nAUTH: NTLM Basic\n");
    for name in names {
        let pair = basic(&format!("{name}:pw"));
        proxy.client().request("GET", &url("/"), &[("Proxy-Authorization", &pair)], b"");
        let sent = parent.seen().pop().expect("a login, whatever became of the others");
        assert_eq!(sent.fields().get("Proxy-Authorization"), Some(&*pair), "{name}");
    }
    for domain in ["", "SALES", "OTHER"] {
        for name in names {
            let cfg = format!("USER: {name}\nNT_DOMAIN: {domain}\nPASSWORD: pw\nAUTH: Basic\n");
            let (parent, proxy) = at(&wall, &cfg);
            proxy.get(&url("/"));
            let sent = parent.seen().pop().expect("a login");
            let pair = basic(&format!("{name}:pw"));
            assert_eq!(sent.fields().get("Proxy-Authorization"), Some(&*pair), "{cfg}");
        }
    }
}

#[test]
fn a_parent_may_change_its_mind() {
    for yesterday in 0..4 {
        for today in 0..4 {
            let wrapped = TokenDoor::new("Negotiate", ALICE).wrapped_only(Unwanted::Offer);
            let door = Fickle::new(vec![
                TokenDoor::new("NTLM", ALICE).open(),
                TokenDoor::new("Negotiate", ALICE).open(),
                wrapped.open(),
                DigestDoor::new(&[("alice", "Secret-123")]).open(),
            ]);
            let (_parent, proxy) = at(&door, LOGIN);
            for mind in [yesterday, today, yesterday] {
                door.turn_to(mind);
                let mut client = proxy.client();
                for _ in 0..2 {
                    let page = client.get(&url("/"));
                    assert_eq!(page.status(), 200, "{yesterday} {today}: {}", page.text());
                }
            }
            door.turn_to(today);
            works(&proxy);
        }
    }
}

#[test]
fn a_parent_may_cease_to_ask_and_begin_again() {
    struct Nobody;
    impl Door for Nobody {
        fn judge(
            &self,
            _: &crate::support::Seen,
            _: Option<&str>,
        ) -> Result<crate::support::doors::Passed, Vec<String>> {
            Ok(crate::support::doors::Passed::default())
        }
    }
    let ntlm = TokenDoor::new("NTLM", ALICE).open();
    let door = Fickle::new(vec![Arc::<TokenDoor>::clone(&ntlm), Arc::new(Nobody)]);
    let (parent, proxy) = at(&door, LOGIN);
    for mind in [0, 1, 0, 1] {
        door.turn_to(mind);
        ntlm.forget();
        works(&proxy);
    }
    let posts = parent.seen().into_iter().filter(|seen| seen.path() == "/hash");
    let wanted = [12, 3 << 20];
    assert!(
        posts.filter(|seen| seen.body.length > 0).all(|seen| wanted.contains(&seen.body.length))
    );
}
