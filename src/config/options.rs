//! Every key in one table: its section, its default, what it means, and what its value
//! sets.
//! A new key is a new row here, a line in `ntlmaps.cfg`, and what the row's parser sets.

use std::net::IpAddr;
use std::time::Duration;

use super::Tunnel;
use super::access::{Acl, HostPattern};
use super::values::{
    add_clients, backlog, dialect, flag, hash, hosts, listen_addresses, minutes, name, number,
    parent, password, scheme, seconds, socks_port, socks_user, tunnel, unless_blank, url_log,
    words,
};
use crate::auth::Scheme;
use crate::auth::credentials::Secret;
use crate::http::target::Authority;
use crate::ntlm::Dialect;
use crate::ntlm::crypto::Key;

/// The part of the file a key stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Listening, parents, clients, logs.
    General,
    /// Field lines that every request gets; its keys are field names.
    ClientHeader,
    /// Who logs in, and how.
    NtlmAuth,
    /// How much is logged.
    Debug,
}

impl Section {
    /// Every section with its name in the file, in the order `--check` prints them.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("GENERAL", Self::General),
        ("CLIENT_HEADER", Self::ClientHeader),
        ("NTLM_AUTH", Self::NtlmAuth),
        ("DEBUG", Self::Debug),
    ];

    /// The section of that name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        let mut names = Self::NAMES.iter();
        names.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, section)| *section)
    }

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, section)| *section == self).map_or("", |(name, _)| name)
    }
}

/// One key of the configuration.
pub struct ConfigKey {
    /// The section it belongs to.
    pub section: Section,
    /// Its name, in capitals.
    pub name: &'static str,
    /// The value that holds where none is written, or a blank one.
    pub default: &'static str,
    /// What it is for, in one line.
    pub doc: &'static str,
    /// True when its value must never be shown.
    pub secret: bool,
    /// A default that other keys call for: when, and what it is then.
    pub(super) other_default: Option<(Condition, &'static str)>,
    /// True when a blank value says something else than the default does.
    pub(super) blank_counts: bool,
    pub(super) parse: Parser,
}

/// Looks at other keys: what it is given tells whether one says something other than off.
pub(super) type Condition = fn(&dyn Fn(&str) -> bool) -> bool;

/// Reads a value into its place, or says what is wrong with it and what to write instead.
pub(super) type Parser = fn(&mut Values, &str) -> Result<(), String>;

/// What the values say, each on its own; `mod.rs` makes a [`Config`](super::Config) of them.
#[derive(Default)]
pub(super) struct Values {
    pub(super) listen_port: u16,
    pub(super) listen_addresses: Vec<IpAddr>,
    /// Port 0 stands for `PARENT_PROXY_PORT`.
    pub(super) parents: Vec<Authority>,
    pub(super) parent_port: u16,
    pub(super) parent_timeout: Duration,
    pub(super) clients: Acl,
    pub(super) url_log: Option<String>,
    pub(super) backlog: i32,
    pub(super) max_clients: usize,
    pub(super) bypass: Vec<HostPattern>,
    pub(super) direct_if_possible: bool,
    pub(super) tunnels: Vec<Tunnel>,
    pub(super) socks_port: Option<u16>,
    pub(super) socks_users: Vec<(String, Secret)>,
    pub(super) log_file: Option<String>,
    pub(super) workstation: Option<String>,
    pub(super) domain: String,
    pub(super) user: String,
    pub(super) password: Option<Secret>,
    pub(super) lm: Option<Key>,
    pub(super) nt: Option<Key>,
    pub(super) ntlmv2: Option<Key>,
    pub(super) dialect: Option<Dialect>,
    pub(super) schemes: Vec<Scheme>,
    pub(super) ntlm_to_basic: bool,
    pub(super) www_auth_hosts: Vec<HostPattern>,
    pub(super) rejected_retry: Option<Duration>,
    pub(super) debug: bool,
    pub(super) auth_debug: bool,
    pub(super) bin_debug: bool,
}

const fn row(
    section: Section,
    name: &'static str,
    default: &'static str,
    doc: &'static str,
    parse: Parser,
) -> ConfigKey {
    let (secret, other_default, blank_counts) = (false, None, false);
    ConfigKey { section, name, default, doc, secret, other_default, blank_counts, parse }
}

impl ConfigKey {
    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    const fn blank_counts(mut self) -> Self {
        self.blank_counts = true;
        self
    }

    const fn default_when(mut self, when: Condition, then: &'static str) -> Self {
        self.other_default = Some((when, then));
        self
    }
}

use Section::{General, NtlmAuth};

/// Every key there is, but the field names of `[CLIENT_HEADER]`.
#[rustfmt::skip] // a table
pub static OPTIONS: [ConfigKey; 35] = [
    row(General, "LISTEN_PORT", "5865",
        "port to listen on; 0 = any free one",
        |v, text| set(&mut v.listen_port, number(text, "port", 0..=u16::MAX))),
    row(General, "LISTEN_ADDRESS", "127.0.0.1 ::1",
        "addresses to listen on",
        |v, text| set(&mut v.listen_addresses, listen_addresses(text)))
        .default_when(lets_others_in, "0.0.0.0 ::"),
    row(General, "PARENT_PROXY", "",
        "proxies to go through, in this order; blank = none, go direct",
        |v, text| set(&mut v.parents, words(text).map(parent).collect())),
    row(General, "PARENT_PROXY_PORT", "8080",
        "port of parents written without one",
        |v, text| set(&mut v.parent_port, number(text, "port", 1..=u16::MAX))),
    row(General, "PARENT_PROXY_TIMEOUT", "15",
        "seconds to connect, and for a failed parent to rest",
        |v, text| set(&mut v.parent_timeout, seconds(text))),
    row(General, "ALLOW_EXTERNAL_CLIENTS", "0",
        "1 = anybody may use it",
        |v, text| set(&mut v.clients.everybody, flag(text))),
    row(General, "FRIENDLY_IPS", "",
        "addresses, blocks and names that may use it, besides this machine",
        |v, text| add_clients(&mut v.clients, text)),
    row(General, "URL_LOG", "0",
        "1 = log requests to url.log; or the file's path",
        |v, text| set(&mut v.url_log, Ok(url_log(text)))),
    row(General, "MAX_CONNECTION_BACKLOG", "SOMAXCONN",
        "connections that may wait to be accepted",
        |v, text| set(&mut v.backlog, backlog(text))),
    row(General, "MAX_CLIENTS", "0",
        "connections served at a time; 0 = as many as there are descriptors for",
        |v, text| set(&mut v.max_clients, number(text, "number of clients", 0..=1_000_000))),
    row(General, "HOSTS_TO_BYPASS_PARENT_PROXY", "",
        "hosts to go to directly: names, patterns, addresses, blocks, <local>",
        |v, text| set(&mut v.bypass, hosts(text))),
    row(General, "DIRECT_CONNECT_IF_POSSIBLE", "0",
        "1 = go direct while no parent can be reached",
        |v, text| set(&mut v.direct_if_possible, flag(text))),
    row(General, "TUNNELS", "",
        "[address:]port:host:port: ports of this machine that lead elsewhere",
        |v, text| set(&mut v.tunnels, words(text).map(tunnel).collect())),
    row(General, "SOCKS5_PORT", "",
        "port of the SOCKS5 door; blank = none, 0 = any free one",
        |v, text| set(&mut v.socks_port, socks_port(text))),
    row(General, "SOCKS5_USERS", "",
        "user:password of those who may come by SOCKS5; blank = anybody",
        |v, text| set(&mut v.socks_users, words(text).map(socks_user).collect())).secret(),
    row(General, "LOG_FILE", "",
        "file for messages; blank = standard error",
        |v, text| set(&mut v.log_file, Ok(unless_blank(text)))),

    row(NtlmAuth, "NT_HOSTNAME", "",
        "workstation name to log in with; blank = this machine's",
        |v, text| set(&mut v.workstation, name(text).map(|name| unless_blank(&name)))),
    row(NtlmAuth, "NT_DOMAIN", "",
        "domain of users written without one",
        |v, text| set(&mut v.domain, name(text))),
    row(NtlmAuth, "USER", "",
        "who logs in; also DOMAIN\\user and user@domain",
        |v, text| set(&mut v.user, name(text))),
    row(NtlmAuth, "PASSWORD", "",
        "the password; blank = NTLMAPS_PASSWORD, or it is asked for",
        |v, text| set(&mut v.password, password(text))).secret(),
    row(NtlmAuth, "LM_HASHED_PW", "",
        "LM hash, instead of the password",
        |v, text| set(&mut v.lm, hash(text))).secret(),
    row(NtlmAuth, "NT_HASHED_PW", "",
        "NT hash, instead of the password",
        |v, text| set(&mut v.nt, hash(text))).secret(),
    row(NtlmAuth, "NTLMV2_HASHED_PW", "",
        "NTLMv2 hash, good for USER and NT_DOMAIN as they are",
        |v, text| set(&mut v.ntlmv2, hash(text))).secret(),
    row(NtlmAuth, "NTLM_DIALECT", "NTLMv2",
        "NTLMv2, NTLM2SR, NTLM, NT or LM",
        |v, text| set(&mut v.dialect, dialect(text).map(Some))),
    row(NtlmAuth, "LM_PART", "", "without effect: NTLM_DIALECT decides", |_, _| Ok(())),
    row(NtlmAuth, "NT_PART", "", "without effect: NTLM_DIALECT decides", |_, _| Ok(())),
    row(NtlmAuth, "NTLM_FLAGS", "", "without effect: NTLM_DIALECT decides", |_, _| Ok(())),
    row(NtlmAuth, "AUTH", "NTLM Negotiate Digest",
        "schemes that may be answered",
        |v, text| set(&mut v.schemes, words(text).map(scheme).collect())),
    row(NtlmAuth, "NTLM_TO_BASIC", "1",
        "1 = each client logs in with its own account, by Basic",
        |v, text| set(&mut v.ntlm_to_basic, flag(text))).default_when(has_user, "0"),
    row(NtlmAuth, "WWW_AUTH_HOSTS", "<local>",
        "web servers that may be answered when they ask for a login",
        |v, text| set(&mut v.www_auth_hosts, hosts(text))).blank_counts(),
    row(NtlmAuth, "REJECTED_RETRY", "15",
        "minutes before a refused login is tried again; 0 = at once",
        |v, text| set(&mut v.rejected_retry, minutes(text))),

    row(Section::Debug, "DEBUG", "0",
        "1 = log the way of each request",
        |v, text| either(&mut v.debug, text)),
    row(Section::Debug, "AUTH_DEBUG", "0",
        "1 = log the messages of logins, without secrets",
        |v, text| set(&mut v.auth_debug, flag(text))),
    row(Section::Debug, "BIN_DEBUG", "0",
        "1 = log the bytes of requests and responses, without credentials",
        |v, text| set(&mut v.bin_debug, flag(text))),
    row(Section::Debug, "SCR_DEBUG", "0",
        "1 = as DEBUG",
        |v, text| either(&mut v.debug, text)),
];

/// The row of a key, whatever the case it is written in.
pub fn find(name: &str) -> Option<&'static ConfigKey> {
    OPTIONS.iter().find(|key| key.name.eq_ignore_ascii_case(name))
}

/// True for a value that a person may take for one and a comment, and the oldest ntlmaps did.
pub(super) fn seems_commented(text: &str) -> bool {
    text.starts_with('#') || text.contains(" #") || text.contains("\t#")
}

/// What is said to such a value.
pub(super) const COMMENT_HINT: &str =
    "what follows # belongs to the value; a comment needs a line of its own";

/// `LISTEN_ADDRESS` by default means every address once others than this machine may come.
fn lets_others_in(says: &dyn Fn(&str) -> bool) -> bool {
    says("FRIENDLY_IPS") || says("ALLOW_EXTERNAL_CLIENTS")
}

fn has_user(says: &dyn Fn(&str) -> bool) -> bool {
    says("USER")
}

fn set<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

/// One of two keys that ask for the same.
fn either(place: &mut bool, text: &str) -> Result<(), String> {
    *place |= flag(text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use log::LevelFilter;

    use super::*;
    use crate::config::{Args, Config, Notice, Severity};

    fn load(section: &str, line: &str) -> Result<Config, Vec<Notice>> {
        let file = format!("[{section}]\n{line}");
        Config::load("f", file.as_bytes(), &Args::default()).map(|loaded| loaded.config)
    }

    #[test]
    fn the_table_is_in_order() {
        let mut values = Values::default();
        for key in &OPTIONS {
            assert_eq!(OPTIONS.iter().filter(|other| other.name == key.name).count(), 1);
            assert_eq!(key.name, key.name.to_ascii_uppercase());
            assert!(!key.doc.is_empty() && key.doc.len() <= 80, "{}", key.name);
            let other = key.other_default.map(|(_, text)| text);
            for default in [Some(key.default), other].into_iter().flatten() {
                assert_eq!((key.parse)(&mut values, default), Ok(()), "{}", key.name);
            }
        }
        let secrets = OPTIONS.iter().filter(|key| key.secret).map(|key| key.name);
        assert_eq!(
            secrets.collect::<Vec<_>>(),
            ["SOCKS5_USERS", "PASSWORD", "LM_HASHED_PW", "NT_HASHED_PW", "NTLMV2_HASHED_PW"]
        );
    }

    #[test]
    fn each_key_sets_its_own_value() {
        type Change = fn(&mut Config);
        let defaults = load("GENERAL", "").unwrap();
        let cases: &[(&str, &str, Change)] = &[
            ("GENERAL", "LISTEN_PORT: 1", |c| c.listen_port = 1),
            ("GENERAL", "LISTEN_PORT: 0", |c| c.listen_port = 0),
            ("GENERAL", "LISTEN_ADDRESS: ::1", |c| {
                c.listen_addresses = vec!["::1".parse().unwrap()];
                c.listen_addresses_are_default = false;
            }),
            ("GENERAL", "PARENT_PROXY: a b:1", |c| {
                c.parents = ["a:8080", "b:1"].map(|p| Authority::parse(p, None).unwrap()).into();
            }),
            ("GENERAL", "PARENT_PROXY: a\nPARENT_PROXY_PORT: 2", |c| {
                c.parents = vec![Authority::parse("a:2", None).unwrap()];
            }),
            ("GENERAL", "PARENT_PROXY_TIMEOUT: 3", |c| c.parent_timeout = Duration::from_secs(3)),
            ("GENERAL", "MAX_CONNECTION_BACKLOG: 4", |c| c.backlog = 4),
            ("GENERAL", "MAX_CLIENTS: 5", |c| c.max_clients = 5),
            ("GENERAL", "URL_LOG: 1", |c| c.url_log = Some("url.log".into())),
            ("GENERAL", "URL_LOG: /x y", |c| c.url_log = Some("/x y".into())),
            ("GENERAL", "LOG_FILE: z", |c| c.logs.file = Some("z".into())),
            ("GENERAL", "HOSTS_TO_BYPASS_PARENT_PROXY: a", |c| {
                c.bypass = vec![HostPattern::Name("a".into())];
            }),
            ("GENERAL", "DIRECT_CONNECT_IF_POSSIBLE: 1", |c| c.direct_if_possible = true),
            ("GENERAL", "LISTEN_ADDRESS: 127.0.0.1 ::1\nFRIENDLY_IPS: a ::2", |c| {
                c.listen_addresses_are_default = false;
                c.clients.add("a").unwrap();
                c.clients.add("::2").unwrap();
            }),
            ("GENERAL", "LISTEN_ADDRESS: 127.0.0.1 ::1\nALLOW_EXTERNAL_CLIENTS: 1", |c| {
                c.listen_addresses_are_default = false;
                c.clients.everybody = true;
            }),
            ("NTLM_AUTH", "NT_HOSTNAME: Pc", |c| c.workstation = Some("Pc".into())),
            ("NTLM_AUTH", "NT_DOMAIN: Dom", |c| c.default_domain = "Dom".into()),
            ("NTLM_AUTH", "NTLM_DIALECT: NT", |c| c.dialect = Dialect::Nt),
            ("NTLM_AUTH", "AUTH: Digest, ntlm", |c| c.schemes = vec![Scheme::Digest, Scheme::Ntlm]),
            ("NTLM_AUTH", "WWW_AUTH_HOSTS: a", |c| {
                c.www_auth_hosts = vec![HostPattern::Name("a".into())];
            }),
            ("NTLM_AUTH", "WWW_AUTH_HOSTS:", |c| c.www_auth_hosts = vec![]),
            ("NTLM_AUTH", "REJECTED_RETRY: 1", |c| {
                c.rejected_retry = Some(Duration::from_secs(60));
            }),
            ("NTLM_AUTH", "REJECTED_RETRY: 0", |c| c.rejected_retry = None),
            ("DEBUG", "DEBUG: 1", |c| c.logs.level = LevelFilter::Debug),
            ("DEBUG", "SCR_DEBUG: 1", |c| c.logs.level = LevelFilter::Debug),
            ("DEBUG", "AUTH_DEBUG: 1", |c| c.logs.logins = true),
            ("DEBUG", "BIN_DEBUG: 1", |c| c.logs.bytes = true),
        ];
        for (section, line, change) in cases {
            let mut expected = defaults.clone();
            change(&mut expected);
            let got = load(section, line).unwrap();
            assert_ne!(got, defaults, "{line}");
            assert_eq!(got, expected, "{line}");
        }
    }

    #[test]
    fn a_comment_behind_a_value_is_no_comment_and_told_so() {
        for (line, severity) in [
            ("USER: a#b", None),
            ("USER: a #b", Some(Severity::Warning)),
            ("USER: a\t# b", Some(Severity::Warning)),
            ("USER: # b", Some(Severity::Warning)),
            ("PASSWORD: s3 #cret\nUSER: u", Some(Severity::Warning)),
            ("REJECTED_RETRY: 5 # minutes", Some(Severity::Error)),
        ] {
            let file = format!("[NTLM_AUTH]\n{line}");
            let notices = match Config::load("f", file.as_bytes(), &Args::default()) {
                Ok(loaded) => loaded.warnings,
                Err(notices) => notices,
            };
            let shown = notices.iter().map(ToString::to_string).collect::<String>();
            assert_eq!(notices.first().map(|notice| notice.severity), severity, "{line}: {shown}");
            assert_eq!(shown.contains(COMMENT_HINT), severity.is_some(), "{shown}");
            assert!(!shown.contains("cret"), "{shown}");
        }
        let loaded = Config::load("f", b"", &Args::parse(&["--username", "a #b"]).unwrap());
        assert_eq!(loaded.unwrap().warnings, [], "nobody writes comments on the command line");
    }
}
