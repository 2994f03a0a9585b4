//! NTLM_DIALECT: each is accepted where that one and nothing else is accepted, in the server's
//! character set.

use crate::proxy::{ALICE, LOGIN, Network};
use crate::support::{Dialect, Parent, message};

const DIALECTS: [(&str, Dialect); 5] = [
    ("NTLMv2", Dialect::Ntlmv2),
    ("NTLM2SR", Dialect::Ntlm2Session),
    ("NTLM", Dialect::Ntlm),
    ("NT", Dialect::NtOnly),
    ("LM", Dialect::LmOnly),
];

#[test]
fn each_dialect_is_that_one_and_no_other() {
    for (name, spoken) in DIALECTS {
        for (_, only) in DIALECTS {
            let parent = Parent::ntlm(ALICE).acceptor(|acceptor| acceptor.only(only));
            let network = Network::new(parent, &format!("{LOGIN}NTLM_DIALECT: {name}\n"));
            let expected = if spoken == only { (200, 1, 0) } else { (407, 0, 1) };
            let status = network.get("/hello").status();
            let counts = (status, network.parent.handshakes(), network.parent.refusals());
            assert_eq!(counts, expected, "{name} for {only}: {:?}", network.parent.hops());
        }
    }
}

#[test]
fn spelling_does_not_matter_and_ntlmv2_needs_not_be_said() {
    for (line, spoken) in [
        ("", Dialect::Ntlmv2),
        ("NTLM_DIALECT: ntlmV2\n", Dialect::Ntlmv2),
        ("ntlm_dialect: Ntlm2sr\n", Dialect::Ntlm2Session),
        ("NTLM_DIALECT: lm\n", Dialect::LmOnly),
        // What decided in the original decides no more.
        ("LM_PART: 1\nNT_PART: 0\nNTLM_FLAGS: 06820000\n", Dialect::Ntlmv2),
    ] {
        let parent = Parent::ntlm(ALICE).acceptor(|acceptor| acceptor.only(spoken));
        let network = Network::new(parent, &format!("{LOGIN}{line}"));
        assert_eq!(network.get("/hello").status(), 200, "{line}");
    }
}

#[test]
fn a_server_that_knows_no_unicode_is_answered_in_its_characters() {
    let accounts = &[("MÜNCHEN", "jürgen", "Secret-123")];
    let login = "USER: MÜNCHEN\\jürgen\nPASSWORD: Secret-123\nNT_HOSTNAME: desk-7\n";
    for (name, spoken) in DIALECTS {
        let parent = Parent::ntlm(accounts).acceptor(|acceptor| acceptor.only(spoken).oem());
        let network = Network::new(parent, &format!("{login}NTLM_DIALECT: {name}\n"));
        assert_eq!(network.get("/hello").status(), 200, "{name}: {:?}", network.parent.hops());
        let hop = network.last_hop();
        let logon = hop.logon().expect("a login");
        assert_eq!(logon.flags & (message::UNICODE | message::OEM), message::OEM, "{name}");
        let names = [&*logon.domain, &*logon.user, &*logon.workstation];
        assert_eq!(names, ["MÜNCHEN", "jürgen", "DESK-7"], "{name}");
    }
}

#[test]
fn a_server_of_the_old_days_is_answered_in_every_dialect_it_knows() {
    for (name, spoken) in DIALECTS {
        // There is no session security to be had: what is left of it is the NT response.
        let spoken = if name == "NTLM2SR" { Dialect::NtOnly } else { spoken };
        let parent = Parent::ntlm(ALICE)
            .acceptor(|acceptor| acceptor.only(spoken).minimal().oem().without_session_security());
        let network = Network::new(parent, &format!("{LOGIN}NTLM_DIALECT: {name}\n"));
        assert_eq!(network.get("/hello").status(), 200, "{name}: {:?}", network.parent.hops());
    }
}

#[test]
fn each_dialect_asks_for_what_it_needs_and_for_no_keys() {
    for (name, spoken) in DIALECTS {
        let network = Network::new(Parent::ntlm(ALICE), &format!("{LOGIN}NTLM_DIALECT: {name}\n"));
        assert_eq!(network.get("/hello").status(), 200, "{name}");
        let hop = network.last_hop();
        let flags = hop.logon().expect("a login").flags;
        let session = matches!(spoken, Dialect::Ntlmv2 | Dialect::Ntlm2Session);
        assert_eq!(flags & message::EXTENDED_SESSION_SECURITY != 0, session, "{name}");
        let unwanted = message::SIGN | message::SEAL | message::KEY_EXCH | message::LM_KEY;
        assert_eq!(flags & unwanted, 0, "{name}: {flags:#010x}");
    }
}

#[test]
fn a_wrong_password_is_one_bad_logon_in_each_dialect() {
    for (name, _) in DIALECTS {
        let cfg = format!("USER: CORP\\alice\nPASSWORD: wrong\nNTLM_DIALECT: {name}\n");
        let network = Network::new(Parent::ntlm(ALICE), &cfg);
        for _ in 0..5 {
            assert_eq!(network.get("/hello").status(), 407);
        }
        assert_eq!((network.parent.handshakes(), network.parent.refusals()), (0, 1), "{name}");
    }
}
