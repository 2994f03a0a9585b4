//! The PAC file for clients that take one: bypassed hosts directly, everything else through here.

use std::net::IpAddr;

use super::access::{Cidr, HostPattern};

/// The script. `proxy` is where the client reaches this program, as `host:port`. `or_direct`: where
/// it does not, it may go to every server by itself.
///
/// No condition makes the client look a name up: an address pattern means addresses that are
/// written in the URL.
pub fn script(bypass: &[HostPattern], proxy: &str, or_direct: bool) -> String {
    let mut text = "function FindProxyForURL(url, host) {\n\
                    \x20 host = host.toLowerCase().replace(/\\.$/, \"\");\n\
                    \x20 var v4 = /^[\\d.]+$/.test(host), v6 = host.indexOf(\":\") >= 0;\n"
        .to_owned();
    for pattern in bypass {
        let condition = match pattern {
            HostPattern::Local => "!v4 && !v6 && isPlainHostName(host)".to_owned(),
            HostPattern::Name(name) => format!("host == \"{name}\""),
            HostPattern::Glob(glob) => format!("shExpMatch(host, \"{glob}\")"),
            HostPattern::AddressGlob(glob) => format!("v4 && shExpMatch(host, \"{glob}\")"),
            HostPattern::Addresses(block) => in_block(block),
        };
        text.push_str(&format!("  if ({condition}) return \"DIRECT\";\n"));
    }
    let or_direct = if or_direct { "; DIRECT" } else { "" };
    text.push_str(&format!("  return \"PROXY {proxy}{or_direct}\";\n}}\n"));
    text
}

fn in_block(block: &Cidr) -> String {
    let (base, prefix) = block.parts();
    match base {
        IpAddr::V4(base) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            let mask = std::net::Ipv4Addr::from(mask);
            format!("v4 && isInNet(host, \"{base}\", \"{mask}\")")
        }
        // Only Microsoft's extension knows IPv6; a browser without it asks the proxy.
        IpAddr::V6(base) => format!(
            "v6 && typeof isInNetEx == \"function\" && isInNetEx(host, \"{base}/{prefix}\")"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_a_condition() {
        for (entry, condition) in [
            ("<local>", "!v4 && !v6 && isPlainHostName(host)"),
            ("A.example.", "host == \"a.example\""),
            (".corp", "shExpMatch(host, \"*.corp\")"),
            ("10.*", "v4 && shExpMatch(host, \"10.*\")"),
            ("10.0.0.0/8", "v4 && isInNet(host, \"10.0.0.0\", \"255.0.0.0\")"),
            ("192.0.2.1", "v4 && isInNet(host, \"192.0.2.1\", \"255.255.255.255\")"),
            ("0.0.0.0/0", "v4 && isInNet(host, \"0.0.0.0\", \"0.0.0.0\")"),
            ("fd00::/8", "v6 && typeof isInNetEx == \"function\" && isInNetEx(host, \"fd00::/8\")"),
        ] {
            let text = script(&[HostPattern::parse(entry).unwrap()], "127.0.0.1:5865", false);
            let line = format!("\n  if ({condition}) return \"DIRECT\";\n");
            assert!(text.contains(&line), "{text}");
            assert!(text.ends_with("\n  return \"PROXY 127.0.0.1:5865\";\n}\n"), "{text}");
        }
        let text = script(&[], "[::1]:5865", true);
        assert!(text.ends_with("\n  return \"PROXY [::1]:5865; DIRECT\";\n}\n"), "{text}");
    }
}
