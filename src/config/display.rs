//! What `--check` and `--hash` print. The one shows no secret, the other nothing else.

use super::notice::{Origin, printable};
use super::options::Section;
use super::settings::Settings;
use super::{FieldReplacement, Loaded};
use crate::auth::credentials::{Credentials, Secret};
use crate::http::redaction::is_secret;
use crate::ntlm::crypto::{self, Key};

/// What a secret is shown as.
const HIDDEN: &str = "***";

/// What holds for one key, fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The section it belongs to.
    pub section: Section,
    /// The key, or the name of a field of `[CLIENT_HEADER]`.
    pub name: String,
    /// The value that holds; `***` for a secret.
    pub value: String,
    /// Where it comes from: `default`, `ntlmaps.cfg:12` or `command line`.
    pub origin: String,
    /// What it is for, in one line.
    pub doc: &'static str,
}

/// What holds for each key, in the order of the table, without secrets.
pub(super) fn shown(
    settings: &Settings,
    client_header: &[FieldReplacement],
    file_name: &str,
) -> Vec<Shown> {
    let place = |origin| match origin {
        Origin::Default => "default".to_owned(),
        Origin::Line(line) => format!("{file_name}:{line}"),
        Origin::CommandLine => "command line".to_owned(),
    };
    let keys = settings.iter().map(|(key, held)| Shown {
        section: key.section,
        name: key.name.to_owned(),
        value: match held.text.as_str() {
            text if text.is_empty() || !key.secret => printable(text),
            _ => HIDDEN.to_owned(),
        },
        origin: place(held.origin),
        doc: key.doc,
    });
    let fields = client_header.iter().map(|field| {
        let is_line = |line: &&super::settings::Field| line.name == field.name;
        let line = settings.fields.iter().rfind(is_line);
        Shown {
            section: Section::ClientHeader,
            name: field.name.clone(),
            value: match &field.value {
                Some(_) if is_secret(field.name.as_bytes()) => HIDDEN.to_owned(),
                value => value.clone().unwrap_or_default(),
            },
            origin: place(line.map_or(Origin::Default, |line| line.origin)),
            doc: "replaces or adds this field in every request; blank removes it",
        }
    });
    keys.chain(fields).collect()
}

/// Every key with the value that holds and where it comes from, section by section; with
/// `explained`, what each is for as well. Ends with a newline.
pub fn describe(loaded: &Loaded, explained: bool) -> String {
    let width = loaded.shown.iter().map(|shown| shown.origin.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, section) in Section::NAMES {
        let mut entries = loaded.shown.iter().filter(|shown| shown.section == section).peekable();
        if entries.peek().is_some() {
            text.push_str(&format!("[{name}]\n"));
        }
        for Shown { name, value, origin, doc, .. } in entries {
            if explained {
                text.push_str(&format!("# {doc}\n"));
            }
            let colon = if value.is_empty() { ":" } else { ": " };
            text.push_str(&format!("{origin:width$}  {name}{colon}{value}\n"));
        }
    }
    text
}

/// The lines that stand for a password in the configuration file: what `--hash` prints.
/// `domain` and `user` are as `NT_DOMAIN` and `USER` have them. There is no LM hash of a password
/// longer than 14 characters or with characters LM cannot do, and no NTLMv2 hash without a user.
pub fn hash_lines(domain: &str, user: &str, password: &Secret) -> String {
    let nt = crypto::ntowfv1(password.expose());
    let mut lines = vec![
        "# Whoever can read these can log in with them. For NTLM_DIALECT NTLMv2 one is enough,"
            .to_owned(),
        "# NT_HASHED_PW or NTLMV2_HASHED_PW; the latter is good for nothing else.".to_owned(),
        format!("NT_HASHED_PW: {}", hex(&nt)),
    ];
    if password.expose().chars().count() <= 14 {
        let lm = crypto::lmowfv1(password.expose());
        lines.extend(lm.map(|key| format!("LM_HASHED_PW: {}", hex(&key))));
    }
    let (its_domain, its_user) = Credentials::split_name(user, domain);
    if its_user.is_empty() {
        lines.push("# There is no NTLMV2_HASHED_PW without a user name.".to_owned());
    } else {
        let (user, domain) = (printable(user), printable(domain));
        lines.push(format!("# Good only with USER: {user} and NT_DOMAIN: {domain}"));
        let ntlmv2 = crypto::ntowfv2(&nt, &its_user, &its_domain);
        lines.push(format!("NTLMV2_HASHED_PW: {}", hex(&ntlmv2)));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn hex(key: &Key) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::OPTIONS;
    use crate::config::{Account, Args, Config};

    #[test]
    fn what_holds_is_shown_with_its_place_and_without_secrets() {
        let file = "[GENERAL]\nPARENT_PROXY: p\nFRIENDLY_IPS: 192.0.2.1\nURL_LOG:\n\
                    [CLIENT_HEADER]\nX: 1\nx: 2\nY:\nX-Auth-Token: s3cret\nCookie:\n\
                    [NTLM_AUTH]\nUSER: u\nPASSWORD: s3cret\n";
        let args = Args::parse(&["--port", "81"]).unwrap();
        let loaded = Config::load("a.cfg", file.as_bytes(), &args).unwrap();
        let text = describe(&loaded, false);
        let lines: Vec<&str> = text.lines().collect();
        for line in [
            "[GENERAL]",
            "command line  LISTEN_PORT: 81",
            "default       LISTEN_ADDRESS: 0.0.0.0 ::",
            "a.cfg:2       PARENT_PROXY: p",
            "default       PARENT_PROXY_PORT: 8080",
            "default       URL_LOG: 0",
            "[CLIENT_HEADER]",
            "a.cfg:7       x: 2",
            "a.cfg:8       Y:",
            "a.cfg:9       X-Auth-Token: ***",
            "a.cfg:10      Cookie:",
            "[NTLM_AUTH]",
            "a.cfg:12      USER: u",
            "a.cfg:13      PASSWORD: ***",
            "default       NT_HASHED_PW:",
            "default       NTLM_TO_BASIC: 0",
            "[DEBUG]",
        ] {
            assert!(lines.contains(&line), "{line}\n{text}");
        }
        assert_eq!(lines.len(), OPTIONS.len() + 4 + 4, "{text}");
        assert!(!text.contains("s3cret"));

        let explained = describe(&loaded, true);
        assert_eq!(explained.lines().count(), 2 * (OPTIONS.len() + 4) + 4);
        for key in &OPTIONS {
            assert!(explained.contains(&format!("# {}\n", key.doc)), "{}", key.name);
        }
        let nothing = Config::load("a.cfg", b"", &Args::default()).unwrap();
        assert!(!describe(&nothing, false).contains("CLIENT_HEADER"));
    }

    #[test]
    fn the_hash_lines_are_those_of_the_literature() {
        // Glass, "The NTLM Authentication Protocol": SecREt01, of user in DOMAIN.
        let lines = hash_lines("DOMAIN", "user", &Secret::new("SecREt01"));
        for line in [
            "NT_HASHED_PW: cd06ca7c7e10c99b1d33b7485a2ed808",
            "LM_HASHED_PW: ff3750bcc2b22412c2265b23734e0dac",
            "# Good only with USER: user and NT_DOMAIN: DOMAIN",
            "NTLMV2_HASHED_PW: 04b8e0ba74289cc540826bab1dee63ae",
        ] {
            assert!(lines.lines().any(|l| l == line), "{line}\n{lines}");
        }
        assert!(lines.ends_with('\n'));
        for (user, domain, password, keys) in [
            ("u", "D", "fourteen chars", "NT_HASHED_PW LM_HASHED_PW NTLMV2_HASHED_PW"),
            ("u", "D", "fifteen charact", "NT_HASHED_PW NTLMV2_HASHED_PW"),
            ("u", "D", "\u{20ac}", "NT_HASHED_PW NTLMV2_HASHED_PW"),
            ("", "D", "x", "NT_HASHED_PW LM_HASHED_PW"),
            ("D\\", "", "x", "NT_HASHED_PW LM_HASHED_PW"),
        ] {
            let lines = hash_lines(domain, user, &Secret::new(password));
            let got: Vec<&str> = lines
                .lines()
                .filter(|l| !l.starts_with('#'))
                .filter_map(|l| l.split(':').next())
                .collect();
            assert_eq!(got.join(" "), keys, "{password}");
        }
        let forged = hash_lines("D", "u\nPARENT_PROXY: evil", &Secret::new("x"));
        assert!(forged.contains("USER: u?PARENT_PROXY"), "{forged}");
    }

    #[test]
    fn the_hash_lines_load_as_the_password_does() {
        for user in ["jane", "EXAMPLE\\jane", "jane@example.com"] {
            let names = format!("[NTLM_AUTH]\nUSER: {user}\nNT_DOMAIN: Dom\n");
            let load = |secret: &str| {
                let file = format!("{names}{secret}");
                Config::load("f", file.as_bytes(), &Args::default()).unwrap().config.account
            };
            let lines = hash_lines("Dom", user, &Secret::new("pass"));
            assert_eq!(load(&lines), load("PASSWORD: pass"), "{user}");
            let last = lines.lines().find(|line| line.starts_with("NTLMV2")).unwrap();
            let (Account::Known(by_hash), Account::Known(by_password)) =
                (load(last), load("PASSWORD: pass"))
            else {
                panic!("an account is missing");
            };
            assert_eq!(by_hash.keys.ntlmv2, by_password.keys.ntlmv2, "{user}");
            assert_eq!(
                (by_hash.domain.as_str(), by_hash.user.as_str()),
                (by_password.domain.as_str(), by_password.user.as_str())
            );
        }
    }
}
