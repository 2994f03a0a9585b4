//! The doors of cntlm.conf, and who may come in by them: `Listen`, `Gateway`, `Allow`, `Deny`,
//! `Tunnel`, `SOCKS5Proxy` and its users.

use std::net::{IpAddr, Ipv4Addr};

use super::clients::{Clients, clients};
use super::grammar::{Entries, Entry};
use super::{Line, Page, join, port, refused};
use crate::config::notice::{Origin, Report, quoted};
use crate::config::options::Section;
use crate::config::values::words;

pub(super) fn convert(entries: &Entries, page: &mut Page, report: &mut Report<'_>) {
    let addresses = listen(entries, page, report);
    let outer = addresses.iter().find(|(_, ip)| !ip.is_loopback());
    if let Some((entry, _)) = outer {
        admit(entries, entry, page, report);
    } else if let Some(rule) = entries.first("Allow").or(entries.first("Deny")) {
        let message = "is not taken over, nor is any other rule: nobody but this machine reaches \
                       the proxy";
        report.note(rule.origin(), rule.key, message);
    }
    tunnels(entries, page, report);
    socks(entries, page, report);
}

/// Where cntlm listens, `LISTEN_PORT` and `LISTEN_ADDRESS`.
fn listen<'a>(
    entries: &'a Entries,
    page: &mut Page,
    report: &mut Report<'_>,
) -> Vec<(&'a Entry, IpAddr)> {
    let mut chosen = None;
    let mut found = Vec::new();
    for entry in entries.all("Listen") {
        let origin = entry.origin();
        let Some((address, port)) = place(entry, entries, report) else { continue };
        match chosen {
            None => {
                chosen = Some(port);
                page.add(Line::new(Section::General, "LISTEN_PORT", &port.to_string(), origin));
            }
            Some(first) if first != port => {
                let message = format!(
                    "port {port} is not taken over: there is one port, {first}; a second ntlmaps \
                     can serve there (-p {port})"
                );
                report.warning(origin, "Listen", message);
                continue;
            }
            Some(_) => {}
        }
        found.push((entry, address));
    }
    if chosen.is_none() {
        let message = "there is no Listen, and cntlm serves nowhere then, whatever its manual \
                       says; here it is port 5865 of this machine";
        report.warning(Origin::Default, "", message);
    }
    // Without LISTEN_ADDRESS it is this machine, or every address once others are let in.
    let named = found.iter().any(|(entry, _)| entry.value.contains(':'));
    let everywhere = found.iter().any(|(_, ip)| ip.is_unspecified());
    if named && !everywhere {
        let list: Vec<_> = found.iter().map(|(entry, ip)| (*entry, ip.to_string())).collect();
        join(page, "LISTEN_ADDRESS", &list, "");
    }
    found
}

/// The address and the port of a `Listen` or a `SOCKS5Proxy`.
fn place(entry: &Entry, entries: &Entries, report: &mut Report<'_>) -> Option<(IpAddr, u16)> {
    let (host, digits) = match entry.value.rsplit_once(':') {
        Some((host, digits)) => (Some(host), digits),
        None => (None, entry.value.as_str()),
    };
    let Some(port) = port(digits) else {
        let message = "is not taken over: it has no port, and cntlm does not start with it";
        report.warning(entry.origin(), entry.key, message);
        return None;
    };
    let Some(host) = host else { return Some((default_address(entries), port)) };
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let address = match bare.parse() {
        Ok(address) => address,
        Err(_) if bare.eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST.into(),
        Err(_) => {
            let message = format!(
                "is not taken over: {} is no address; write the one it stands for",
                quoted(bare)
            );
            report.warning(entry.origin(), entry.key, message);
            return None;
        }
    };
    Some((address, port))
}

/// Where a port without an address is.
fn default_address(entries: &Entries) -> IpAddr {
    match entries.is_on("Gateway") {
        true => Ipv4Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::LOCALHOST.into(),
    }
}

/// Who besides this machine may come, where `listen` lets them reach it: `FRIENDLY_IPS` or
/// `ALLOW_EXTERNAL_CLIENTS`.
fn admit(entries: &Entries, listen: &Entry, page: &mut Page, report: &mut Report<'_>) {
    let Clients { everybody, friends, all_others } = clients(entries, report);
    let rule = entries.read.iter().find(|entry| entry.key == "Allow" || entry.key == "Deny");
    let gateway = entries.first("Gateway").filter(|_| !listen.value.contains(':'));
    let source = rule.or(gateway).unwrap_or(listen);
    let origin = source.origin();
    if everybody {
        let comment = "Everybody who can reach this machine, by IPv4 and IPv6.";
        let line = Line::new(Section::General, "ALLOW_EXTERNAL_CLIENTS", "1", origin);
        page.add(line.comment(comment));
        let message = "nothing keeps anybody out, with cntlm and here: whoever reaches this \
                       machine may use the proxy (see FRIENDLY_IPS)";
        report.warning(origin, source.key, message);
    } else if !friends.is_empty() {
        let comment = if all_others { "Everybody but those whom a Deny named." } else { "" };
        let line = Line::new(Section::General, "FRIENDLY_IPS", &friends.join(" "), origin);
        page.add(line.comment(comment));
        let message = "say nothing about IPv6 to cntlm, and let everybody in who comes by it; \
                       here only those are let in who are named";
        report.note(origin, "Allow and Deny", message);
    }
}

/// `TUNNELS`.
fn tunnels(entries: &Entries, page: &mut Page, report: &mut Report<'_>) {
    let mut taken = Vec::new();
    for entry in entries.all("Tunnel") {
        let parts = entry.value.splitn(4, ':').count();
        let whole = match entries.is_on("Gateway") && parts == 3 {
            true => format!("0.0.0.0:{}", entry.value.as_str()),
            false => entry.value.to_string(),
        };
        let one = parts >= 3 && words(&whole).count() == 1;
        match refused(Section::General, "TUNNELS", &whole).filter(|_| one) {
            None if one => taken.push((entry, whole)),
            why => {
                let what = "it is not [address:]port:host:port, and cntlm does not start with it";
                let message = format!("is not taken over: {}", why.as_deref().unwrap_or(what));
                report.warning(entry.origin(), "Tunnel", message);
            }
        }
    }
    join(page, "TUNNELS", &taken, "");
}

/// `SOCKS5_PORT` and `SOCKS5_USERS`. A port is never taken over without the users that were meant
/// to guard it.
fn socks(entries: &Entries, page: &mut Page, report: &mut Report<'_>) {
    let users = socks_users(entries, report);
    let mut ports = Vec::new();
    for entry in entries.all("SOCKS5Proxy") {
        let Some((address, port)) = place(entry, entries, report) else { continue };
        if ports.is_empty() && address != default_address(entries) {
            let message = "its address is not taken over: all doors are at LISTEN_ADDRESS";
            report.warning(entry.origin(), "SOCKS5Proxy", message);
        }
        if !ports.is_empty() {
            let message = format!("port {port} is not taken over: there is one SOCKS5_PORT");
            report.warning(entry.origin(), "SOCKS5Proxy", message);
        }
        ports.push((entry, port));
    }
    let meant = entries.all("SOCKS5User").chain(entries.all("SOCKS5Users")).next();
    let list = users.iter().map(|(_, user)| user.as_str()).collect::<Vec<_>>().join(" ");
    let list = zeroize::Zeroizing::new(list);
    let users_refused = refused(Section::General, "SOCKS5_USERS", &list);
    if let Some((entry, port)) = ports.first() {
        let (origin, port) = (entry.origin(), port.to_string());
        let line = Line::new(Section::General, "SOCKS5_PORT", &port, origin);
        let why = refused(Section::General, "SOCKS5_PORT", &port)
            .or_else(|| users_refused.clone().filter(|_| !list.is_empty()))
            .or_else(|| {
                let unguarded = meant.is_some() && list.is_empty();
                unguarded.then(|| "none of its users could be".to_owned())
            });
        match why {
            None => page.add(line),
            Some(why) => {
                report.warning(origin, "SOCKS5Proxy", format!("is left as a comment: {why}"));
                page.add(line.comment(format!("Not taken over: {why}")).inactive());
            }
        }
        if meant.is_none() {
            let message = "asks for no password, and did not with cntlm: see SOCKS5_USERS";
            report.warning(origin, "SOCKS5Proxy", message);
        }
    }
    if let Some((first, _)) = users.first() {
        let line = Line::new(Section::General, "SOCKS5_USERS", &list, first.origin());
        page.add(match users_refused {
            None => line,
            Some(why) => line.comment(format!("Not taken over: {why}")).inactive(),
        });
    }
}

fn socks_users<'a>(entries: &'a Entries, report: &mut Report<'_>) -> Vec<(&'a Entry, String)> {
    if let Some(ignored) = entries.first("SOCKS5User") {
        let open = entries.first("SOCKS5Proxy").is_some() && entries.first("SOCKS5Users").is_none();
        let message = if open {
            "CNTLM NEVER READ THIS: it looks for SOCKS5Users, whatever its manual says. Its SOCKS5 \
             port asked nobody for a password; whoever reached it used the account. Here it is \
             taken for what it was meant to be"
        } else {
            "cntlm never read this: it looks for SOCKS5Users, whatever its manual says. Here it \
             is taken for what it was meant to be"
        };
        report.warning(ignored.origin(), "SOCKS5User", message);
    }
    let both = |entry: &&Entry| entry.key == "SOCKS5User" || entry.key == "SOCKS5Users";
    let mut users = Vec::new();
    for entry in entries.read.iter().filter(both) {
        let value = entry.value.as_str();
        if value.contains(':') && words(value).count() == 1 && !value.contains(',') {
            users.push((entry, value.to_owned()));
        } else {
            let message = "is not taken over: user:password is what it takes, without blanks and \
                           commas";
            report.warning(entry.origin(), entry.key, message);
        }
    }
    users
}
