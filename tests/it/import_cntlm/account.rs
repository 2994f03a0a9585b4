//! `--import-cntlm` and the account: names, passwords, and hashes in both forms.

use ntlmaps::auth::credentials::{Credentials, Secret};
use ntlmaps::config::Account;
use ntlmaps::config::cntlm::HashForm;
use ntlmaps::ntlm::Dialect;

use super::{BASE, account, active, of, said};

#[test]
fn the_account_is_the_one_that_cntlm_sent() {
    for (lines, domain, user, text) in [
        ("Username alice\nDomain Corp", "CORP", "alice", "is written \"CORP\""),
        ("Username alice\nDomain \"\"", "", "alice", ""),
        ("Username alice", "", "alice", ""),
        ("Username a@b.example\nDomain C", "C", "a@b.example", "the @ is part of the name"),
        ("Username a@b.example", "", "a@b.example", ""),
        ("Username D\\a\nDomain C", "C", "D\\a", "the \\ is part of the name to cntlm"),
        ("Username D\\a", "", "D\\a", "the \\ is part of the name to cntlm"),
        ("Username \" a\"", "", "a", "the blanks at its ends are not taken over"),
        ("Username b\u{f6}b", "", "b\u{f6}b", "cntlm sent the characters beyond ASCII wrong"),
    ] {
        for password in ["Secret-123", "a#b;c", "\u{e4}\u{20ac}", " edges ", "a # b", "a\u{1}b"] {
            let conf = format!("{lines}\nPassword \"{password}\"\nProxy p:1\nListen 3128\n");
            let (made, config) = of(&conf, None);
            let secret = Secret::new(password);
            let expected = Credentials::from_password(domain.into(), user.into(), &secret);
            let got = account(&config);
            assert_eq!((&got.domain, &got.user), (&expected.domain, &expected.user), "{conf}");
            assert_eq!(got.keys.nt, expected.keys.nt, "{conf}\n{}", made.text.as_str());
            let said = said(&made);
            assert!(said.contains(text), "{said}");
            assert!(!said.contains(password), "{said}");
        }
    }
    let long = "x".repeat(60);
    let (made, _) = of(&format!("Username a\nPassword {long}\n"), None);
    assert!(said(&made).contains("cntlm up to 0.93 left the rest away"));
}

#[test]
fn whose_account_it_is_without_a_name_or_a_secret() {
    let (made, config) = of("Proxy p:1\nListen 3128\n", None);
    assert_eq!(config.account, Account::PerClient);
    assert!(said(&made).contains("each client is asked for its own account, by Basic"));

    let conf = format!("{BASE}NTLMToBasic yes\n");
    let (made, config) = of(&conf, None);
    assert_eq!((config.account, config.default_domain.as_str()), (Account::PerClient, "CORP"));
    assert!(said(&made).contains("Username: is not taken over, nor is its password"));
    assert!(!made.text.contains("Secret"), "nothing secret is printed in vain");
    assert!(!said(&made).contains("chmod"));

    let (made, config) = of("Username a\nDomain D\nProxy p:1\nListen 3128\n", None);
    let expected = Account::NeedsPassword { domain: "D".into(), user: "a".into() };
    assert_eq!(config.account, expected);
    assert!(said(&made).contains("there is no Password, nor the hashes"));

    let (made, config) = of("", None);
    assert!(config.parents.is_empty() && config.listen_port == 5865);
    assert!(said(&made).contains("no Proxy is taken over"), "{}", said(&made));
    assert!(said(&made).contains("there is no Listen"), "{}", said(&made));
}

/// Of "password", for testuser in corp-uk: what cntlm 0.94.0 and 0.92.3 print.
pub const PLAIN: [&str; 3] = [
    "PassLM E52CAC67419A9A224A3B108F3FA6CB6D",
    "PassNT 8846F7EAEE8FB117AD06BDD830B7586C",
    "PassNTLMv2 E097C611EA19C676CD79309A3A2F59A3",
];
pub const INVERTED: [&str; 3] = [
    "PassLM 1AD35398BE6565DDB5C4EF70C0593492",
    "PassNT 77B9081511704EE852F94227CF48A793",
    "PassNTLMv2 1F6839EE15E639893286CF65C5D0A65C",
];
/// The LM hash of the empty password, both ways: its second half is that of every short one.
const SHORT_PLAIN: &str = "PassLM AAD3B435B51404EEAAD3B435B51404EE";
const SHORT_INVERTED: &str = "PassLM 552C4BCA4AEBFB11552C4BCA4AEBFB11";
pub const NAMES: &str = "Username testuser\nDomain corp-uk\nProxy p:1\nListen 3128\n";

fn password() -> Credentials {
    let secret = Secret::new("password");
    Credentials::from_password("CORP-UK".into(), "testuser".into(), &secret)
}

#[test]
fn hashes_are_taken_over_as_the_dialect_needs_them() {
    let expected = password();
    for (hashes, form) in [(PLAIN, HashForm::Plain), (INVERTED, HashForm::Inverted)] {
        for (auth, lines, dialect) in [
            ("", &hashes[2..], Dialect::Ntlmv2),
            ("Auth NTLMv2\n", &hashes[2..], Dialect::Ntlmv2),
            ("", &hashes[1..2], Dialect::Ntlmv2),
            ("Auth NTLM2SR\n", &hashes[1..2], Dialect::Ntlm2Session),
            ("Auth NT\n", &hashes[1..2], Dialect::Nt),
            ("Auth NTLM\n", &hashes[..2], Dialect::NtlmAndLm),
            ("Auth LM\n", &hashes[..1], Dialect::Lm),
        ] {
            let conf = format!("{NAMES}{auth}{}\n", lines.join("\n"));
            let (made, config) = of(&conf, Some(form));
            assert_eq!(config.dialect, dialect);
            let got = account(&config);
            assert_eq!((got.domain.as_str(), got.user.as_str()), ("CORP-UK", "testuser"));
            let same = match dialect {
                Dialect::Ntlmv2 => got.keys.ntlmv2 == expected.keys.ntlmv2,
                Dialect::Lm => got.keys.lm == expected.keys.lm,
                Dialect::NtlmAndLm => {
                    got.keys.nt == expected.keys.nt && got.keys.lm == expected.keys.lm
                }
                _ => got.keys.nt == expected.keys.nt,
            };
            assert!(same, "{conf}{}", made.text.as_str());
            for line in lines {
                let hex = line.split(' ').nth(1).unwrap();
                assert!(!said(&made).to_uppercase().contains(hex), "no hash is told");
            }
        }
    }
}

#[test]
fn how_hashes_are_written_is_found_out_where_anything_tells() {
    let alone = |hash: &str| format!("{NAMES}{hash}\n");
    let beside = |lm: &str, v2: &str| format!("{NAMES}{lm}\n{v2}\n");
    let follows = "only so does PassNTLMv2 follow from PassNT";
    let half = "the second half of PassLM";
    for (conf, form, why) in [
        (format!("{NAMES}{}\n", PLAIN.join("\n")), Some(HashForm::Plain), follows),
        (format!("{NAMES}{}\n", INVERTED.join("\n")), Some(HashForm::Inverted), follows),
        (beside(SHORT_PLAIN, PLAIN[2]), Some(HashForm::Plain), half),
        (beside(SHORT_INVERTED, INVERTED[2]), Some(HashForm::Inverted), half),
        (
            format!("{NAMES}{}\nPassword password", PLAIN[2]),
            Some(HashForm::Plain),
            "they are those of the Password that cntlm never read",
        ),
        (
            format!("{NAMES}{}\nPassword password", INVERTED[2]),
            Some(HashForm::Inverted),
            "they are those of the Password that cntlm never read",
        ),
        (alone(PLAIN[2]), None, "nothing tells whether they are inverted"),
        (alone(INVERTED[2]), None, "nothing tells whether they are inverted"),
        (
            format!("{NAMES}{SHORT_PLAIN}\n{}\n{}\n", INVERTED[1], INVERTED[2]),
            None,
            "the hashes disagree on whether they are inverted",
        ),
    ] {
        let (made, config) = of(&conf, None);
        let (text, said) = (made.text.as_str(), said(&made));
        assert!(said.contains(why), "{conf}{said}");
        let found = [(HashForm::Plain, "are plain: "), (HashForm::Inverted, "are inverted: ")];
        for (other, words) in found {
            assert_eq!(
                said.contains(&format!("the hashes {words}")),
                form == Some(other),
                "{said}"
            );
        }
        if form.is_some() {
            assert_eq!(account(&config).keys.ntlmv2, password().keys.ntlmv2, "{conf}{text}");
            let hashes = text.lines().filter(|line| line.contains("NTLMV2_HASHED_PW"));
            assert_eq!(hashes.count(), 1, "{text}");
        } else {
            assert!(text.contains("\nNTLMV2_HASHED_PW: "), "{text}");
            assert!(text.contains("\n#NTLMV2_HASHED_PW: "), "{text}");
            assert!(text.contains("e097c611ea19c676cd79309a3a2f59a3"), "one is right: {text}");
            assert!(said.contains("--hash`, which asks no server"), "{said}");
        }
    }
    let (made, _) = of(&format!("{NAMES}{}\n", PLAIN.join("\n")), Some(HashForm::Inverted));
    assert!(said(&made).contains("as --cntlm-hashes says, but looks plain"), "{}", said(&made));
    assert!(!made.text.contains("\nNTLMV2_HASHED_PW: e097"), "the switch decides");
}

#[test]
fn hashes_that_are_of_no_use_are_left_out() {
    for (lines, text) in [
        ("Password password\nPassNT 8846F7EAEE8FB117AD06BDD830B7586C", "they are the same (plain)"),
        (
            "Password password\nPassNT 77B9081511704EE852F94227CF48A793",
            "they are the same (inverted)",
        ),
        ("Password other\nPassNT 8846F7EAEE8FB117AD06BDD830B7586C", "they belong to another one"),
    ] {
        let (made, _) = of(&format!("{NAMES}{lines}\n"), None);
        assert!(said(&made).contains(text), "{}", said(&made));
        assert!(!made.text.contains("HASHED_PW"), "{}", made.text.as_str());
    }
    // A PassNT of an old password would be a wrong one: NTLMv2 works without it.
    let stale = "PassNT 00112233445566778899AABBCCDDEEFF";
    let (made, _) = of(&format!("{NAMES}{stale}\n{}\n", PLAIN[2]), Some(HashForm::Plain));
    assert_eq!(active(&made).last(), Some(&"NTLMV2_HASHED_PW: e097c611ea19c676cd79309a3a2f59a3"));
    assert!(!made.text.contains("\nNT_HASHED_PW"));
    assert!(said(&made).contains("PassNT not taken over: Auth works without"));

    for hash in ["8846F7EA", "s3cret", "8846F7EAEE8FB117AD06BDD830B7586Cs3cret"] {
        let (made, config) = of(&format!("{NAMES}PassNT {hash}\n"), None);
        assert!(matches!(config.account, Account::NeedsPassword { .. }));
        assert!(said(&made).contains("PassNT: is not taken over: it is no hash"));
        assert!(!said(&made).contains(hash));
    }
    // The whole output of `cntlm -H`, its prompt too.
    let conf = format!("{NAMES}Password: \n{}\n", PLAIN.join("\n"));
    let (made, config) = of(&conf, None);
    assert_eq!(account(&config).keys.ntlmv2, password().keys.ntlmv2, "{}", made.text.as_str());
    assert!(said(&made).contains("it is the prompt of cntlm -H"));
    // With a name that cntlm sent wrong its hash is wrong too.
    let conf = format!("Username b\u{f6}b\nProxy p:1\n{}\n", PLAIN[2]);
    let (made, config) = of(&conf, Some(HashForm::Plain));
    assert!(matches!(config.account, Account::NeedsPassword { .. }), "{}", made.text.as_str());
    assert!(said(&made).contains("would be a failed logon"));
}
