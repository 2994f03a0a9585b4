//! What is fetched from this program itself, as from a web server: its PAC file.

use std::net::IpAddr;

use crate::config::pac;
use crate::conn::Conn;
use crate::gateway::Gateway;
use crate::http::head::RequestHead;
use crate::http::names;
use crate::http::reply::Reply;
use crate::http::target::Authority;
use crate::sys;

/// The answer, if `head` asks for the PAC file. A page elsewhere may give our address a name of its
/// own and read what it fetches here (DNS rebinding): only names that nobody else can give are
/// answered to.
pub fn reply(gateway: &Gateway, head: &RequestHead, client: &Conn) -> Option<Reply> {
    if head.target != "/proxy.pac" || !matches!(&*head.method, "GET" | "HEAD") {
        return None;
    }
    let host = head.fields.first(names::HOST).filter(|value| !value.is_empty());
    let host = host.and_then(|value| std::str::from_utf8(value).ok());
    let proxy = match host.and_then(|text| Authority::parse(text, Some(80)).ok()) {
        None => client.stream().local_addr().ok()?.to_string(),
        Some(own)
            if own.host.parse::<IpAddr>().is_ok()
                || own.host == "localhost"
                || own.host.eq_ignore_ascii_case(&sys::host_name()) =>
        {
            own.to_string()
        }
        Some(_) => {
            return Some(Reply::new(403, "The PAC file is there for the name of this machine."));
        }
    };
    let config = &gateway.config;
    let script = pac::script(&config.bypass, &proxy, config.direct_if_possible);
    Some(Reply::file("application/x-ns-proxy-autoconfig", script))
}
