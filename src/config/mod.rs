//! The configuration: text in, values out. Opens no file, asks no environment and looks no name
//! up; whoever calls brings the text and acts on the values.
//!
//! ```text
//! file bytes ── file ──► lines ─┐
//! words ─────── args ──► Args ──┴─ settings ──► one text per key ── options ──► values ─┐
//!                                                                                       │
//!                      Config, immutable ◄── fields, account, and what follows here ────┘
//! ```
//!
//! Whatever is wrong on the way goes into one report, so that all errors are told at once.
//! [`access`] says what the entries of the lists of hosts and clients mean, [`display`] prints
//! what holds, [`cntlm`] makes a file of ours of a cntlm.conf.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::slice;
use std::time::Duration;

use log::LevelFilter;

pub mod access;
pub mod account;
pub mod args;
pub mod cntlm;
pub mod display;
pub mod fields;
mod file;
pub mod notice;
pub mod options;
pub mod pac;
mod settings;
mod unknown;
mod values;

pub use access::{Acl, Cidr, HostPattern, Reach};
pub use account::Account;
pub use args::{Args, Command};
pub use fields::FieldReplacement;
pub use notice::{Notice, Origin, Severity};

use crate::auth::Scheme;
use crate::auth::credentials::{Credentials, Secret};
use crate::http::target::Authority;
use crate::ntlm::Dialect;
use display::Shown;
use notice::Report;
use options::Values;
use settings::Settings;

/// Everything that holds, after file, command line and defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen; never empty, no address twice.
    pub listen_addresses: Vec<IpAddr>,
    /// Nobody named them: one that cannot be bound is no error as long as another can.
    pub listen_addresses_are_default: bool,
    /// The port there; 0 leaves it to the kernel.
    pub listen_port: u16,
    /// The proxies to go through, in the order to try them; empty: everything goes direct.
    pub parents: Vec<Authority>,
    /// How long connecting to a parent may take, and how long one rests that failed.
    pub parent_timeout: Duration,
    /// For `listen(2)`; `i32::MAX` is as many as the kernel allows.
    pub backlog: i32,
    /// Connections served at a time; 0: as many as there are descriptors for.
    pub max_clients: usize,
    /// Who may use it, besides this machine.
    pub clients: Acl,
    /// Hosts that are gone to directly.
    pub bypass: Vec<HostPattern>,
    /// While no parent can be reached, everything goes direct.
    pub direct_if_possible: bool,
    /// Ports that lead to one place each.
    pub tunnels: Vec<Tunnel>,
    /// The port for SOCKS5, if there is to be one.
    pub socks_port: Option<u16>,
    /// Who may come by SOCKS5; empty: whoever may come at all.
    pub socks_users: Vec<(String, Secret)>,
    /// Web servers that may be answered on a 401; see [`Config::answers_origin`].
    pub www_auth_hosts: Vec<HostPattern>,
    /// Field lines that every request gets.
    pub client_header: Vec<FieldReplacement>,
    /// The workstation name as written; to be upper-cased when it is used. `None`: the host's own.
    pub workstation: Option<String>,
    /// The user of the configuration is written with a domain, as DOMAIN\user.
    pub user_is_qualified: bool,
    /// The domain of users written without one.
    pub default_domain: String,
    /// Whose account logs in.
    pub account: Account,
    /// Which responses an AUTHENTICATE message carries.
    pub dialect: Dialect,
    /// The schemes that may be answered, in the order written.
    pub schemes: Vec<Scheme>,
    /// How long credentials rest that were refused; `None`: not at all.
    pub rejected_retry: Option<Duration>,
    /// The file requests are logged to.
    pub url_log: Option<String>,
    /// Which messages are told, and where.
    pub logs: Logs,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    /// The file messages go to; `None`: standard error.
    pub file: Option<String>,
    /// How much is told: `[DEBUG]` and `-v`, whichever is more.
    pub level: LevelFilter,
    /// `AUTH_DEBUG`: the messages of logins too.
    pub logins: bool,
    /// `BIN_DEBUG`: the bytes of messages too.
    pub bytes: bool,
}

/// A port of this machine that leads to one place elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Where to listen; `None`: at [`Config::listen_addresses`].
    pub address: Option<IpAddr>,
    /// The port there; 0 leaves it to the kernel.
    pub port: u16,
    /// Where it leads.
    pub to: Authority,
}

/// Where a request goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Through one of [`Config::parents`].
    Parent,
    /// To the origin server itself.
    Direct,
}

/// A configuration that makes sense.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// What may not be as meant, in the order of the file. No errors are among them.
    pub warnings: Vec<Notice>,
    /// What holds for each key, for [`display::describe`]; without secrets.
    pub shown: Vec<Shown>,
}

impl Config {
    /// Reads the file's bytes and puts the command line over them. `file_name` is for messages;
    /// no file is as good as an empty one.
    ///
    /// # Errors
    /// All errors at once, in the order of the file, and the warnings and notes among them.
    pub fn load(file_name: &str, file: &[u8], args: &Args) -> Result<Loaded, Vec<Notice>> {
        let mut report = Report::new(file_name);
        let items = file::read(file, &mut report);
        let settings = Settings::collect(items, args, &mut report);
        let values = settings.values(&mut report);
        let account = account::decide(&values, &settings, &mut report);
        let client_header = fields::replacements(&settings.fields, &mut report);
        let shown = display::shown(&settings, &client_header, file_name);
        warn_of_open_doors(&values, &settings, &mut report);

        let level = if values.debug { LevelFilter::Debug } else { LevelFilter::Info };
        let parents = values.parents.into_iter().map(|parent| match parent.port {
            0 => Authority { port: values.parent_port, ..parent },
            _ => parent,
        });
        let config = Self {
            listen_addresses: values.listen_addresses,
            listen_addresses_are_default: settings.origin("LISTEN_ADDRESS") == Origin::Default,
            listen_port: values.listen_port,
            parents: parents.collect(),
            parent_timeout: values.parent_timeout,
            backlog: values.backlog,
            max_clients: values.max_clients,
            clients: values.clients,
            bypass: values.bypass,
            direct_if_possible: values.direct_if_possible,
            tunnels: values.tunnels,
            socks_port: values.socks_port,
            socks_users: values.socks_users,
            www_auth_hosts: values.www_auth_hosts,
            client_header,
            workstation: values.workstation,
            user_is_qualified: Credentials::is_qualified(&values.user),
            default_domain: values.domain,
            account,
            dialect: values.dialect.unwrap_or(Dialect::Ntlmv2),
            schemes: values.schemes,
            rejected_retry: values.rejected_retry,
            url_log: values.url_log,
            logs: Logs {
                file: values.log_file,
                level: level.max(args.log_level()),
                logins: values.auth_debug,
                bytes: values.bin_debug,
            },
        };
        for parent in config.parents.iter().filter(|parent| config.is_own_address(parent)) {
            let message = format!("{parent} is where this program itself listens");
            report.error(settings.origin("PARENT_PROXY"), "PARENT_PROXY", message);
        }
        if !report.failed(&["LISTEN_ADDRESS", "LISTEN_PORT", "SOCKS5_PORT", "TUNNELS"]) {
            config.refuse_doors_in_one_place(&settings, &mut report);
        }
        let (notices, fatal) = report.finish();
        if fatal { Err(notices) } else { Ok(Loaded { config, warnings: notices, shown }) }
    }

    /// Where a request for this authority goes next. Its port does not matter.
    pub fn route(&self, authority: &Authority) -> Route {
        let means = |pattern: &HostPattern| pattern.matches(authority);
        let direct = self.parents.is_empty() || self.bypass.iter().any(means);
        if direct { Route::Direct } else { Route::Parent }
    }

    /// What [`Config::route`] says, and why.
    pub fn reason(&self, authority: &Authority) -> &'static str {
        match self.route(authority) {
            Route::Parent => "through a parent proxy",
            Route::Direct if self.parents.is_empty() => "directly, without a PARENT_PROXY",
            Route::Direct => "directly, by HOSTS_TO_BYPASS_PARENT_PROXY",
        }
    }

    /// True when a login may be sent to this web server, which asked for one: it is among
    /// `WWW_AUTH_HOSTS` or `HOSTS_TO_BYPASS_PARENT_PROXY`.
    pub fn answers_origin(&self, authority: &Authority) -> bool {
        let mut patterns = self.www_auth_hosts.iter().chain(&self.bypass);
        patterns.any(|pattern| pattern.matches(authority))
    }

    /// Nobody can listen twice in one place.
    fn refuse_doors_in_one_place(&self, settings: &Settings, report: &mut Report<'_>) {
        let everywhere = self.listen_addresses.as_slice();
        let mut doors = vec![("LISTEN_PORT", everywhere, self.listen_port)];
        doors.extend(self.socks_port.map(|port| ("SOCKS5_PORT", everywhere, port)));
        for Tunnel { address, port, .. } in &self.tunnels {
            doors.push(("TUNNELS", address.as_ref().map_or(everywhere, slice::from_ref), *port));
        }
        for (at, (key, own, port)) in doors.iter().enumerate().filter(|(_, door)| door.2 != 0) {
            let meet = |others: &[IpAddr]| {
                own.iter().any(|one| others.iter().any(|other| is_one_place(*one, *other)))
            };
            let mut before = doors.iter().take(at);
            if let Some((first, ..)) = before.find(|door| door.2 == *port && meet(door.1)) {
                let message = format!("port {port} is taken by {first}; choose another");
                report.error(settings.origin(key), key, message);
            }
        }
    }

    /// True when a connection there would arrive here: every request would go round for ever.
    fn is_own_address(&self, parent: &Authority) -> bool {
        let listens = |ip: IpAddr| {
            self.listen_addresses
                .iter()
                .any(|own| *own == ip || own.is_unspecified() && ip.is_loopback())
        };
        parent.port != 0 // a port that could not be read has an error already
            && parent.port == self.listen_port
            && match parent.host.parse::<IpAddr>() {
                Ok(ip) => listens(ip.to_canonical()),
                Err(_) => {
                    parent.host == "localhost"
                        && (listens(Ipv4Addr::LOCALHOST.into())
                            || listens(Ipv6Addr::LOCALHOST.into()))
                }
            }
    }
}

/// Whether a port cannot be had at both: all addresses of a family are each of them.
pub fn is_one_place(one: IpAddr, other: IpAddr) -> bool {
    let all = one.is_unspecified() || other.is_unspecified();
    one == other || all && one.is_ipv4() == other.is_ipv4()
}

/// Warns of who is let in that perhaps should not be, and of who is not although somebody listens.
fn warn_of_open_doors(values: &Values, settings: &Settings, report: &mut Report<'_>) {
    if values.clients.everybody {
        let whose = if values.ntlm_to_basic { "" } else { ", with your account" };
        let message = format!("everybody who can reach this machine may use the proxy{whose}");
        let key = "ALLOW_EXTERNAL_CLIENTS";
        report.warning(settings.origin(key), key, message);
    } else if !values.clients.lets_others_in()
        && values.listen_addresses.iter().any(|ip| !ip.is_loopback())
    {
        let message =
            "other machines are not let in without FRIENDLY_IPS or ALLOW_EXTERNAL_CLIENTS";
        report.note(settings.origin("LISTEN_ADDRESS"), "LISTEN_ADDRESS", message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str) -> Result<Loaded, Vec<Notice>> {
        Config::load("f", file.as_bytes(), &Args::default())
    }

    fn authority(text: &str) -> Authority {
        Authority::parse(text, Some(80)).unwrap()
    }

    #[test]
    fn requests_go_where_the_lists_say() {
        let bypass = "HOSTS_TO_BYPASS_PARENT_PROXY: <local> *.corp 10.0.0.0/8";
        let parent = "PARENT_PROXY: proxy";
        for (general, host, route) in [
            ("", "a.example", Route::Direct),
            (bypass, "a.example", Route::Direct),
            (parent, "a.example", Route::Parent),
            (parent, "intranet", Route::Parent),
            (&format!("{parent}\n{bypass}"), "a.example:443", Route::Parent),
            (&format!("{parent}\n{bypass}"), "intranet:8080", Route::Direct),
            (&format!("{parent}\n{bypass}"), "x.corp.", Route::Direct),
            (&format!("{parent}\n{bypass}"), "10.1.2.3", Route::Direct),
        ] {
            let config = load(&format!("[GENERAL]\n{general}")).unwrap().config;
            assert_eq!(config.route(&authority(host)), route, "{general} {host}");
        }
    }

    #[test]
    fn web_servers_get_a_login_only_where_they_are_named() {
        for (file, host, answered) in [
            ("", "intranet", true),
            ("", "a.example", false),
            ("WWW_AUTH_HOSTS:", "intranet", false),
            ("WWW_AUTH_HOSTS: a.example", "a.example", true),
            ("WWW_AUTH_HOSTS: a.example", "intranet", false),
            ("HOSTS_TO_BYPASS_PARENT_PROXY: b.example", "b.example", true),
            ("", "134744072", false),
        ] {
            let config = load(file).unwrap().config;
            assert_eq!(config.answers_origin(&authority(host)), answered, "{file} {host}");
        }
    }

    #[test]
    fn a_parent_that_is_this_program_is_refused() {
        for (general, refused) in [
            ("PARENT_PROXY: 127.0.0.1:5865", true),
            ("PARENT_PROXY: localhost:5865", true),
            ("PARENT_PROXY: [::1]:5865", true),
            ("PARENT_PROXY: [::ffff:127.0.0.1]:5865", true),
            ("PARENT_PROXY: a 127.0.0.1\nPARENT_PROXY_PORT: 5865", true),
            ("PARENT_PROXY: 127.0.0.2:5865", false),
            ("PARENT_PROXY: 127.0.0.1:3128", false),
            ("PARENT_PROXY: proxy:5865", false),
            ("PARENT_PROXY: 127.0.0.2:5865\nLISTEN_ADDRESS: 0.0.0.0", true),
            ("PARENT_PROXY: 192.0.2.1:5865\nLISTEN_ADDRESS: 0.0.0.0", false),
            ("PARENT_PROXY: 192.0.2.1:5865\nLISTEN_ADDRESS: 192.0.2.1", true),
            ("PARENT_PROXY: localhost:5865\nLISTEN_ADDRESS: 192.0.2.1", false),
        ] {
            let got = load(&format!("[GENERAL]\n{general}"));
            assert_eq!(got.is_err(), refused, "{general} {got:?}");
            if let Err(errors) = got {
                assert!(errors[0].to_string().ends_with("is where this program itself listens"));
            }
        }
        let both = load("[GENERAL]\nLISTEN_PORT: 0\nPARENT_PROXY: localhost\nPARENT_PROXY_PORT: x");
        assert_eq!(both.unwrap_err().len(), 1, "no second error follows from the first");
    }

    #[test]
    fn two_doors_in_one_place_are_refused() {
        let all = "FRIENDLY_IPS: a\nLISTEN_ADDRESS: 0.0.0.0";
        for (general, expected) in [
            ("SOCKS5_PORT: 5865", "f:2: SOCKS5_PORT: port 5865 is taken by LISTEN_PORT"),
            ("TUNNELS: 5865:a:1", "f:2: TUNNELS: port 5865 is taken by LISTEN_PORT"),
            ("TUNNELS: [::1]:5865:a:1", "f:2: TUNNELS: port 5865 is taken by LISTEN_PORT"),
            ("SOCKS5_PORT: 1080\nTUNNELS: 1080:a:1", "f:3: TUNNELS: port 1080 is taken by SOCKS5"),
            ("TUNNELS: 81:a:1, 127.0.0.1:81:b:2", "f:2: TUNNELS: port 81 is taken by TUNNELS"),
            (&format!("{all}\nTUNNELS: 127.0.0.2:5865:a:1"), "f:4: TUNNELS: port 5865 is"),
            (&format!("{all}\nTUNNELS: [::1]:5865:a:1"), ""),
            ("TUNNELS: 127.0.0.2:5865:a:1, 81:a:1, 82:a:1", ""),
            ("LISTEN_PORT: 0\nSOCKS5_PORT: 0\nTUNNELS: 0:a:1, 0:a:1", ""),
        ] {
            let errors = load(&format!("[GENERAL]\n{general}")).err().unwrap_or_default();
            assert_eq!(errors.len(), usize::from(!expected.is_empty()), "{general} {errors:?}");
            assert!(errors.iter().all(|e| e.to_string().starts_with(expected)), "{errors:?}");
        }
        let both = load("[GENERAL]\nLISTEN_PORT: x\nSOCKS5_PORT: 5865");
        assert_eq!(both.unwrap_err().len(), 1, "no second error follows from the first");
    }

    #[test]
    fn doors_wide_open_or_locked_are_told() {
        let everybody = "everybody who can reach this machine may use the proxy";
        for (file, expected) in [
            ("", ""),
            ("[GENERAL]\nALLOW_EXTERNAL_CLIENTS: 1", everybody),
            ("[GENERAL]\nALLOW_EXTERNAL_CLIENTS: 1\n[NTLM_AUTH]\nUSER: u", "with your account"),
            ("[GENERAL]\nLISTEN_ADDRESS: ::", "other machines are not let in"),
            ("[GENERAL]\nLISTEN_ADDRESS: ::\nFRIENDLY_IPS: a", ""),
        ] {
            let warnings = load(file).unwrap().warnings;
            assert_eq!(warnings.len(), usize::from(!expected.is_empty()), "{file}");
            assert!(warnings.iter().all(|w| w.message.contains(expected)), "{warnings:?}");
        }
    }

    #[test]
    fn the_louder_of_file_and_command_line_is_heard() {
        for (file, words, level) in [
            ("", vec![], LevelFilter::Info),
            ("", vec!["-v"], LevelFilter::Debug),
            ("[DEBUG]\nDEBUG: 1", vec!["-vv"], LevelFilter::Trace),
            ("[DEBUG]\nDEBUG: 1", vec!["-v"], LevelFilter::Debug),
            ("[DEBUG]\nSCR_DEBUG: 1\nDEBUG: 0", vec![], LevelFilter::Debug),
            ("[DEBUG]\nBIN_DEBUG: 1", vec![], LevelFilter::Info),
        ] {
            let args = Args::parse(&words).unwrap();
            let loaded = Config::load("f", file.as_bytes(), &args).unwrap();
            assert_eq!(loaded.config.logs.level, level, "{file} {words:?}");
        }
    }
}
