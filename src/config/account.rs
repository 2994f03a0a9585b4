//! Whose account is used: what `USER`, `PASSWORD`, the hashes and `NTLM_TO_BASIC` come to together.

use super::notice::{Origin, Report};
use super::options::Values;
use super::settings::Settings;
use super::values::{MAX_PASSWORD, PASSWORD_TOO_LONG};
use crate::auth::credentials::{Credentials, Keys, Secret};
use crate::ntlm::Dialect;

/// Whose account is used towards parents and web servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// Each client brings its own by Basic (`NTLM_TO_BASIC`).
    PerClient,
    /// Nobody's: what asks for a login is passed on.
    None,
    /// This one, for every client.
    Known(Credentials),
    /// This one, for every client, once somebody tells the password.
    NeedsPassword {
        /// DomainName of MS-NLMP 2.2.1.3; empty with a user principal name.
        domain: String,
        /// UserName of MS-NLMP 2.2.1.3.
        user: String,
    },
}

impl Account {
    /// Supplies the password that was missing; an account that needs none stays as it is.
    ///
    /// # Errors
    /// Why this password cannot be used, without the password.
    pub fn with_password(self, dialect: Dialect, password: &Secret) -> Result<Self, String> {
        let Self::NeedsPassword { domain, user } = self else { return Ok(self) };
        if password.expose().is_empty() {
            return Err("the password is blank".to_owned());
        }
        if password.expose().len() > MAX_PASSWORD {
            return Err(format!("the password {PASSWORD_TOO_LONG}"));
        }
        let credentials = Credentials::from_password(domain, user, password);
        if !suffice(dialect, &credentials.keys) {
            return Err("the password has characters that LM cannot do".to_owned());
        }
        Ok(Self::Known(credentials))
    }
}

/// The keys that hold a hash.
const HASH_KEYS: [&str; 3] = ["LM_HASHED_PW", "NT_HASHED_PW", "NTLMV2_HASHED_PW"];

/// Decides whose account it is. Judges nothing that depends on a key that has an error already.
pub(super) fn decide(values: &Values, settings: &Settings, report: &mut Report<'_>) -> Account {
    if settings.text("USER").is_empty() {
        warn_of_secrets_without_user(settings, report);
    }
    let origin = settings.origin("USER");
    if values.ntlm_to_basic {
        if !settings.text("USER").is_empty() {
            let message = "is not used: with NTLM_TO_BASIC each client brings its own account";
            report.warning(origin, "USER", message);
        }
        return Account::PerClient;
    }
    if values.user.is_empty() {
        return Account::None;
    }
    let (domain, user) = Credentials::split_name(&values.user, &values.domain);
    if user.is_empty() {
        report.error(origin, "USER", "has no name after the \\");
    }
    let dialect = values.dialect.unwrap_or(Dialect::Ntlmv2);
    if let Some(keys) = usable_hashes(values, settings, dialect, report) {
        return Account::Known(Credentials::from_keys(domain, user, keys));
    }
    let account = Account::NeedsPassword { domain, user };
    let Some(password) = &values.password else { return account };
    account.clone().with_password(dialect, password).unwrap_or_else(|why| {
        report.error(settings.origin("PASSWORD"), "PASSWORD", why);
        account
    })
}

fn warn_of_secrets_without_user(settings: &Settings, report: &mut Report<'_>) {
    let mut written = HASH_KEYS.to_vec();
    written.push("PASSWORD");
    written.retain(|name| !settings.text(name).is_empty());
    for name in written {
        let origin = settings.origin(name);
        if name == "NTLMV2_HASHED_PW" {
            let message = "is bound to a user; write USER, and NT_DOMAIN, as they were then";
            report.error(origin, name, message);
        } else {
            report.warning(origin, name, "is not used: there is no USER");
        }
    }
}

/// The hashes, if they are to be used: they can do what the dialect wants, they belong to the
/// account, and no password on the command line replaces them. Where they are not and no password
/// is written either, that is an error: who writes hashes does not expect to be asked.
fn usable_hashes(
    values: &Values,
    settings: &Settings,
    dialect: Dialect,
    report: &mut Report<'_>,
) -> Option<Keys> {
    let name = HASH_KEYS.into_iter().find(|name| !settings.text(name).is_empty())?;
    if report.failed(&HASH_KEYS) || report.failed(&["NTLM_DIALECT", "PASSWORD"]) {
        return None;
    }
    let keys = Keys { lm: values.lm, nt: values.nt, ntlmv2: values.ntlmv2 };
    let (origin, password_origin) = (settings.origin(name), settings.origin("PASSWORD"));
    // An NTLMv2 hash made for one name is a wrong password with another, and three of those may
    // lock an account.
    let renamed = settings.renamed && dialect == Dialect::Ntlmv2 && keys.nt.is_none();
    let usable = suffice(dialect, &keys) && !renamed;
    match (&values.password, usable) {
        (None, true) => Some(keys),
        (Some(_), true) if password_origin != Origin::CommandLine => {
            report.warning(password_origin, "PASSWORD", "is not used: there are hashes");
            Some(keys)
        }
        (Some(_), _) => {
            report.warning(origin, name, "is not used: there is a PASSWORD");
            None
        }
        (None, false) => {
            let why = if renamed {
                "is bound to the file's USER and NT_DOMAIN, and the command line names others"
                    .to_owned()
            } else {
                needed(dialect)
            };
            report.error(origin, name, why);
            None
        }
    }
}

/// True when the dialect can do with these keys.
fn suffice(dialect: Dialect, keys: &Keys) -> bool {
    match dialect {
        Dialect::Ntlmv2 => keys.nt.is_some() || keys.ntlmv2.is_some(),
        Dialect::Ntlm2Session | Dialect::Nt => keys.nt.is_some(),
        Dialect::NtlmAndLm => keys.nt.is_some() && keys.lm.is_some(),
        Dialect::Lm => keys.lm.is_some(),
    }
}

fn needed(dialect: Dialect) -> String {
    let keys = match dialect {
        Dialect::Ntlmv2 => "NTLMV2_HASHED_PW or NT_HASHED_PW",
        Dialect::Ntlm2Session | Dialect::Nt => "NT_HASHED_PW",
        Dialect::NtlmAndLm => "NT_HASHED_PW and LM_HASHED_PW",
        Dialect::Lm => "LM_HASHED_PW",
    };
    let name = Dialect::NAMES.iter().find(|(_, known)| *known == dialect).map_or("", |(n, _)| n);
    format!("is not enough for NTLM_DIALECT {name}; that takes {keys}, or PASSWORD")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Args, Config};

    // Of "SecREt01" (the published vectors of the ntlmv2 literature use it), for user@DOMAIN.
    const LM: &str = "ff3750bcc2b22412c2265b23734e0dac";
    const NT: &str = "cd06ca7c7e10c99b1d33b7485a2ed808";
    const NTLMV2: &str = "04b8e0ba74289cc540826bab1dee63ae";

    /// What comes out, and what is said about it.
    fn decide(file: &str, words: &[&str]) -> (Option<Account>, Vec<String>) {
        let args = Args::parse(words).unwrap();
        let (account, notices) = match Config::load("f", file.as_bytes(), &args) {
            Ok(loaded) => (Some(loaded.config.account), loaded.warnings),
            Err(notices) => (None, notices),
        };
        (account, notices.iter().map(ToString::to_string).collect())
    }

    fn by_password(domain: &str, user: &str) -> Account {
        let password = Secret::new("SecREt01");
        Account::Known(Credentials::from_password(domain.into(), user.into(), &password))
    }

    #[test]
    fn whose_account_it_is() {
        let needed = |domain: &str, user: &str| Account::NeedsPassword {
            domain: domain.into(),
            user: user.into(),
        };
        for (file, words, expected) in [
            ("", vec![], Account::PerClient),
            ("NTLM_TO_BASIC: 0", vec![], Account::None),
            ("USER: u", vec![], needed("", "u")),
            ("USER: u\nNT_DOMAIN: D", vec![], needed("D", "u")),
            ("USER: E\\u\nNT_DOMAIN: D", vec![], needed("E", "u")),
            ("USER: u@e\nNT_DOMAIN: D", vec![], needed("", "u@e")),
            ("USER: u\nNT_DOMAIN: D\nPASSWORD: SecREt01", vec![], by_password("D", "u")),
            ("USER: u\nPASSWORD: SecREt01\nNTLM_TO_BASIC: 1", vec![], Account::PerClient),
            ("", vec!["--username", "u"], needed("", "u")),
            ("NTLM_TO_BASIC: 1", vec!["--username", "u", "--domain", "D"], needed("D", "u")),
            ("NTLM_TO_BASIC: 1", vec!["--username", ""], Account::PerClient),
            ("USER: u", vec!["--username", ""], Account::PerClient),
            ("USER: u\nPASSWORD: x", vec!["--password", "SecREt01"], by_password("", "u")),
        ] {
            let file = format!("[NTLM_AUTH]\n{file}");
            assert_eq!(decide(&file, &words).0, Some(expected), "{file} {words:?}");
        }
    }

    #[test]
    fn hashes_take_the_place_of_the_password_where_they_can() {
        let names = "[NTLM_AUTH]\nUSER: user\nNT_DOMAIN: DOMAIN\n";
        let nt_only = Credentials::split_name("user", "DOMAIN");
        let known = |keys: &[&str]| {
            let key = |name: &str, hex: &str| {
                keys.contains(&name).then(|| u128::from_str_radix(hex, 16).unwrap().to_be_bytes())
            };
            let keys = Keys { lm: key("LM", LM), nt: key("NT", NT), ntlmv2: key("V2", NTLMV2) };
            let (domain, user) = nt_only.clone();
            Some(Account::Known(Credentials::from_keys(domain, user, keys)))
        };
        let (lm, nt, v2) = (
            format!("LM_HASHED_PW: {LM}\n"),
            format!("NT_HASHED_PW: {NT}\n"),
            format!("NTLMV2_HASHED_PW: {NTLMV2}\n"),
        );
        let v1 = "NTLM_DIALECT: NTLM\n";
        let password = "PASSWORD: SecREt01\n";
        let unused = "is not used: there is a PASSWORD";
        for (file, words, expected, said) in [
            (nt.clone(), vec![], known(&["NT"]), ""),
            (v2.clone(), vec![], known(&["V2"]), ""),
            (format!("{lm}{nt}{v1}"), vec![], known(&["LM", "NT"]), ""),
            (format!("{lm}NTLM_DIALECT: LM"), vec![], known(&["LM"]), ""),
            (format!("{nt}PASSWORD: x"), vec![], known(&["NT"]), "is not used: there are hashes"),
            (
                format!("{nt}PASSWORD: x"),
                vec!["--password", "SecREt01"],
                known(&["LM", "NT"]),
                unused,
            ),
            (format!("{lm}{password}"), vec![], known(&["LM", "NT"]), unused),
            (lm, vec![], None, "NTLMv2; that takes NTLMV2_HASHED_PW or NT_HASHED_PW, or PASSWORD"),
            (format!("{v2}{v1}"), vec![], None, "NTLM; that takes NT_HASHED_PW and LM_HASHED_PW"),
            (format!("{nt}{v1}"), vec![], None, "that takes NT_HASHED_PW and LM_HASHED_PW"),
            (format!("{v2}NTLM_DIALECT: NT"), vec![], None, "NT; that takes NT_HASHED_PW, or"),
            (v2.clone(), vec!["--username", "USER"], known(&["V2"]), ""),
            (v2.clone(), vec!["--username", "DOMAIN\\user"], known(&["V2"]), ""),
            (v2.clone(), vec!["--username", "other"], None, "the command line names others"),
            (v2.clone(), vec!["--domain", "other"], None, "the command line names others"),
        ] {
            let (account, notices) = decide(&format!("{names}{file}"), &words);
            // The case of the user's name does not matter to the hash.
            let account = account.map(|account| match account {
                Account::Known(mut credentials) => {
                    credentials.user = credentials.user.to_lowercase();
                    Account::Known(credentials)
                }
                other => other,
            });
            assert_eq!(account, expected, "{file} {words:?} {notices:?}");
            let notices: Vec<String> =
                notices.into_iter().filter(|n| !n.contains("list of processes")).collect();
            assert_eq!(notices.len(), usize::from(!said.is_empty()), "{file} {notices:?}");
            assert!(notices.concat().contains(said), "{file} {notices:?}");
        }
        let alone = format!("[NTLM_AUTH]\n{v2}");
        let (account, notices) = decide(&alone, &["--username", "user", "--domain", "DOMAIN"]);
        assert_eq!((account, notices), (known(&["V2"]), vec![]), "names on the command line alone");
    }

    #[test]
    fn a_name_and_its_secret_are_missed_when_one_is_alone() {
        for (file, expected) in [
            ("PASSWORD: x", "f:2: PASSWORD: is not used: there is no USER"),
            ("USER: D\\", "f:2: USER: has no name after the \\"),
            (
                "NTLMV2_HASHED_PW: 04b8e0ba74289cc540826bab1dee63ae",
                "f:2: NTLMV2_HASHED_PW: is bound to a user; \
                 write USER, and NT_DOMAIN, as they were then",
            ),
            (
                "NTLM_TO_BASIC: 1\nUSER: u",
                "f:3: USER: is not used: with NTLM_TO_BASIC each client brings its own account",
            ),
            (
                "NTLM_DIALECT: LM\nUSER: u\nPASSWORD: \u{20ac}",
                "f:4: PASSWORD: the password has characters that LM cannot do",
            ),
        ] {
            assert_eq!(decide(&format!("[NTLM_AUTH]\n{file}"), &[]).1, [expected], "{file}");
        }
        let (_, notices) = decide("[NTLM_AUTH]\nUSER: u\nLM_HASHED_PW: x\nNTLM_DIALECT: y", &[]);
        assert_eq!(notices.len(), 2, "no third error follows from the two: {notices:?}");
    }

    #[test]
    fn a_password_may_come_later() {
        let missing = || Account::NeedsPassword { domain: "D".into(), user: "u".into() };
        let supply = |text: &str, dialect| missing().with_password(dialect, &Secret::new(text));
        assert_eq!(supply("SecREt01", Dialect::Ntlmv2), Ok(by_password("D", "u")));
        for (text, dialect) in [
            (String::new(), Dialect::Ntlmv2),
            ("x".repeat(MAX_PASSWORD + 1), Dialect::Ntlmv2),
            ("\u{20ac}".to_owned(), Dialect::Lm),
        ] {
            assert!(supply(&text, dialect).is_err(), "{dialect:?}");
        }
        let password = Secret::new("x");
        let unchanged = Account::PerClient.with_password(Dialect::Ntlmv2, &password);
        assert_eq!(unchanged, Ok(Account::PerClient));
    }
}
