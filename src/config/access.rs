//! Lists of hosts and of clients: what one entry means and whether an address or a name is meant
//! by it. Looks no name up: an address is compared with what the request or the peer says.

use std::fmt;
use std::net::IpAddr;

use crate::http::target::Authority;

/// A block of addresses (RFC 4632, RFC 4291 section 2.3); a single address is a block of one.
/// `0.0.0.0/0` is all of IPv4 and `::/0` all of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Reads `address` or `address/bits`, IPv6 with or without brackets. Bits beyond the prefix
    /// are not looked at. `None` when it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let written: IpAddr = bare.unwrap_or(address).parse().ok()?;
        let prefix = match bits {
            None => width(written),
            Some(bits) if !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().ok().filter(|prefix| *prefix <= width(written))?
            }
            Some(_) => return None,
        };
        // IPv4 in the guise of IPv6 is IPv4, here as in every address it is compared with.
        let base = written.to_canonical();
        let guise = width(written) - width(base);
        match prefix.checked_sub(guise) {
            Some(prefix) => Some(Self { base, prefix }),
            None => Some(Self { base: written, prefix }),
        }
    }

    /// The address it begins with, and how many bits of it count.
    pub fn parts(&self) -> (IpAddr, u8) {
        (self.base, self.prefix)
    }

    /// True when `ip` is in the block; an IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let difference = match (self.base, ip.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => u128::from(base.to_bits() ^ ip.to_bits()),
            (IpAddr::V6(base), IpAddr::V6(ip)) => base.to_bits() ^ ip.to_bits(),
            _ => return false,
        };
        // A shift by all 128 bits is none in Rust, and compares nothing: /0 means everything.
        let beyond = width(self.base) - self.prefix;
        difference.checked_shr(beyond.into()).unwrap_or(0) == 0
    }
}

impl From<IpAddr> for Cidr {
    fn from(ip: IpAddr) -> Self {
        let base = ip.to_canonical();
        Self { base, prefix: width(base) }
    }
}

/// How many bits an address of this family has.
fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// Which hosts an entry of `HOSTS_TO_BYPASS_PARENT_PROXY` or `WWW_AUTH_HOSTS` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// `<local>`: names of one label.
    Local,
    /// An address or a block of them; means only addresses written in the request.
    Addresses(Cidr),
    /// This name and no other.
    Name(String),
    /// A name with `*` (any run of characters, dots too) and `?` (one).
    Glob(String),
    /// As `Glob`, of digits and dots: `10.*` must not mean `10.attacker.example`.
    AddressGlob(String),
}

impl HostPattern {
    /// Reads one entry. `.suffix` is short for `*.suffix`; neither means the bare `suffix`. A port
    /// is not looked at, nor is case, nor one dot at the end.
    ///
    /// # Errors
    /// What is wrong with it, to follow the quoted entry.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.eq_ignore_ascii_case("<local>") {
            return Ok(Self::Local);
        }
        if let Some(block) = Cidr::parse(text) {
            return Ok(Self::Addresses(block));
        }
        if text.contains("://") {
            return Err("is a URL; write the host alone");
        }
        if text.contains('/') {
            return Err("is no block of addresses; write one like 10.0.0.0/8 or fd00::/8");
        }
        let host = match text.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => text,
        };
        if let Some(address) = Cidr::parse(host) {
            return Ok(Self::Addresses(address));
        }
        let host = without_final_dot(host).to_ascii_lowercase();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.*?".contains(&b) || b >= 0x80;
        if host.is_empty() || !host.bytes().all(allowed) {
            return Err("is no host name, address or pattern");
        }
        let host = if host.starts_with('.') { format!("*{host}") } else { host };
        let wild = |b: u8| b == b'*' || b == b'?';
        Ok(if !host.bytes().any(wild) {
            Self::Name(host)
        } else if host.bytes().any(|b| b.is_ascii_digit())
            && host.bytes().all(|b| b.is_ascii_digit() || b == b'.' || wild(b))
        {
            Self::AddressGlob(host)
        } else {
            Self::Glob(host)
        })
    }

    /// True when the entry means the host of `authority`.
    pub fn matches(&self, authority: &Authority) -> bool {
        let host = without_final_dot(&authority.host);
        let address = host.parse::<IpAddr>().ok();
        match self {
            Self::Local => is_local(host),
            Self::Addresses(block) => address.is_some_and(|ip| block.contains(ip)),
            Self::Name(name) => name == host,
            Self::Glob(pattern) => glob(pattern.as_bytes(), host.as_bytes()),
            Self::AddressGlob(pattern) => {
                address.is_some() && glob(pattern.as_bytes(), host.as_bytes())
            }
        }
    }
}

fn without_final_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// A name of one label that only the local network can know. Numbers are none: name resolution
/// takes `134744072` and `0x8080808` for addresses anywhere in the world.
fn is_local(host: &str) -> bool {
    !host.is_empty()
        && !is_number(host)
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// True for a label that `inet_aton` reads as a number: decimal, octal or hexadecimal.
pub(super) fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x").or_else(|| label.strip_prefix("0X")) {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// Matches the whole text. Upon a mismatch only the last `*` takes one byte more, so the time is
/// at most the product of the lengths.
fn glob(mut pattern: &[u8], mut text: &[u8]) -> bool {
    let mut last_star = None;
    loop {
        match (pattern, text) {
            ([], []) => return true,
            ([b'*', rest @ ..], _) => {
                last_star = Some((rest, text));
                pattern = rest;
            }
            ([want, after @ ..], [have, rest @ ..]) if *want == b'?' || want == have => {
                (pattern, text) = (after, rest);
            }
            _ => {
                let Some((after, [_, rest @ ..])) = last_star else { return false };
                last_star = Some((after, rest));
                (pattern, text) = (after, rest);
            }
        }
    }
}

/// Where a client may be led without a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Everywhere: it is of this machine, or the place is the operator's choice.
    Everywhere,
    /// Not to where it can only get by this machine: its loopback, and what its link alone sees.
    Outside,
}

impl Reach {
    /// Whether a connection there may serve it.
    pub fn includes(self, ip: IpAddr) -> bool {
        let inside = match ip.to_canonical() {
            IpAddr::V4(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local(),
        };
        self == Self::Everywhere || !inside
    }
}

/// Who may use the proxy. The machine's loopback addresses always may; that its other addresses
/// may as well is for the server to see, by comparing a connection's two ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    /// `ALLOW_EXTERNAL_CLIENTS`: no questions asked.
    pub everybody: bool,
    /// The addresses among `FRIENDLY_IPS`, and those its names stand for once they are looked up.
    pub blocks: Vec<Cidr>,
    /// The names among `FRIENDLY_IPS`, for the server to look up and [`Acl::admit`].
    pub names: Vec<String>,
}

impl Acl {
    /// Adds one entry of `FRIENDLY_IPS`.
    ///
    /// # Errors
    /// What is wrong with it, to follow the quoted entry.
    pub fn add(&mut self, entry: &str) -> Result<(), &'static str> {
        if let Some(block) = Cidr::parse(entry) {
            self.blocks.push(block);
            return Ok(());
        }
        let name = without_final_dot(entry);
        let last_label = name.rsplit('.').next().unwrap_or(name);
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b) || b >= 0x80;
        if name.is_empty() || is_number(last_label) || !name.bytes().all(allowed) {
            return Err("is no address, block or name; \
                        write one like 192.0.2.7, 192.0.2.0/24, fd00::/8 or pc7.example.com");
        }
        self.names.push(name.to_ascii_lowercase());
        Ok(())
    }

    /// Lets in one address more: what a name was found to stand for.
    pub fn admit(&mut self, ip: IpAddr) {
        self.blocks.push(ip.into());
    }

    /// True when a client at `ip` may use the proxy.
    pub fn permits(&self, ip: IpAddr) -> bool {
        self.everybody
            || ip.to_canonical().is_loopback()
            || self.blocks.iter().any(|block| block.contains(ip))
    }

    /// True when somebody besides this machine may.
    pub fn lets_others_in(&self) -> bool {
        self.everybody || !self.blocks.is_empty() || !self.names.is_empty()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_contains_its_addresses_and_no_other() {
        for (block, ip, contained) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.1/32", "10.0.0.1", true),
            ("10.0.0.0/31", "10.0.0.1", true),
            ("10.0.0.0/31", "10.0.0.2", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "203.0.113.9", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("[2001:db8::1]", "2001:db8::1", true),
            ("2001:db8::/127", "2001:db8::2", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("::ffff:10.0.0.0/104", "10.1.1.1", true),
            ("::ffff:10.0.0.0/104", "11.1.1.1", false),
        ] {
            let parsed = Cidr::parse(block).unwrap();
            assert_eq!(parsed.contains(ip.parse().unwrap()), contained, "{ip} in {block}");
        }
        for text in ["", "/", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/+8", "10.0.0/8"] {
            assert_eq!(Cidr::parse(text), None, "{text}");
        }
        for text in ["10.0.0.0/255.0.0.0", "300.0.0.1", "host", "[::1", "::1]", "10.0.0.0/256"] {
            assert_eq!(Cidr::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_pattern_means_these_hosts_and_not_those() {
        for (pattern, hosts, others) in [
            (
                "intranet",
                vec!["intranet", "INTRANET", "intranet.", "intranet:81"],
                vec!["a.intranet"],
            ),
            ("Intra.Corp.", vec!["intra.corp"], vec!["intra", "xintra.corp", "intra.corp.x"]),
            ("intra:8080", vec!["intra", "intra:80"], vec!["intra8080"]),
            ("*.corp", vec!["a.corp", "a.b.corp", "A.CORP."], vec!["corp", "acorp", "a.corp.x"]),
            (".corp", vec!["a.corp", "a.b.corp"], vec!["corp", "acorp"]),
            ("www?.corp", vec!["www1.corp"], vec!["www.corp", "www12.corp"]),
            ("a*b*c", vec!["abc", "axbxbxc", "a.b.c"], vec!["ab", "acb"]),
            ("*", vec!["a", "a.b", "10.0.0.1", "[::1]"], vec![]),
            ("10.*", vec!["10.0.0.1", "10.200.3.4"], vec!["10.evil.example", "110.0.0.1"]),
            ("192.168.1.?", vec!["192.168.1.7"], vec!["192.168.1.77"]),
            ("172.16.0.1", vec!["172.16.0.1", "[::ffff:172.16.0.1]"], vec!["172.16.0.10", "x"]),
            ("172.16.0.0/12", vec!["172.31.0.1"], vec!["172.32.0.1", "intranet", "2886729729"]),
            ("172.16.0.1:80", vec!["172.16.0.1"], vec!["172.16.0.2"]),
            ("fd00::/8", vec!["[fd12::1]"], vec!["[fe80::1]", "fd00"]),
            ("[2001:DB8::1]:80", vec!["[2001:db8:0::1]"], vec!["[2001:db8::2]"]),
            (
                "<LOCAL>",
                vec!["intranet", "pc-7", "my_pc", "intranet.", "x0"],
                vec!["a.b", "10.0.0.1", "[::1]", "134744072", "0x8080808", "0X8", "0x", "."],
            ),
        ] {
            let parsed = HostPattern::parse(pattern).unwrap();
            for (host, meant) in
                hosts.iter().map(|h| (h, true)).chain(others.iter().map(|h| (h, false)))
            {
                let authority = Authority::parse(host, Some(80)).unwrap();
                assert_eq!(parsed.matches(&authority), meant, "{host} by {pattern}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", ".", "http://a/", "a/b", "10.0.0.0/40", "a b", "<locals>", "a@b", ":80"] {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
    }

    /// The definition, without the haste.
    fn slow_glob(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', after @ ..], _) => {
                slow_glob(after, text) || !text.is_empty() && slow_glob(pattern, &text[1..])
            }
            ([want, after @ ..], [have, rest @ ..]) => {
                (*want == b'?' || want == have) && slow_glob(after, rest)
            }
            _ => false,
        }
    }

    /// Every word of up to `longest` of these letters.
    fn all_words(letters: &[u8], longest: u32) -> Vec<Vec<u8>> {
        let mut words = vec![vec![]];
        for _ in 0..longest {
            let longer = words.iter().flat_map(|word: &Vec<u8>| {
                letters.iter().map(|letter| [word.as_slice(), &[*letter]].concat())
            });
            words = std::iter::once(vec![]).chain(longer).collect();
        }
        words
    }

    #[test]
    fn globs_mean_what_their_definition_says() {
        let texts = all_words(b"ab", 6);
        for pattern in all_words(b"ab*", 5) {
            for text in &texts {
                let expected = slow_glob(&pattern, text);
                assert_eq!(glob(&pattern, text), expected, "{pattern:?} {text:?}");
            }
        }
    }

    #[test]
    fn a_long_pattern_of_stars_ends_soon() {
        let pattern = HostPattern::parse(&"*a".repeat(100)).unwrap();
        let authority = Authority::parse(&"a".repeat(5000).replace("aa", "ab"), Some(80)).unwrap();
        assert!(pattern.matches(&Authority { host: authority.host.clone() + "a", ..authority }));
        let never = Authority { host: "a".repeat(5000) + "b", port: 80 };
        assert!(!pattern.matches(&never));
    }

    #[test]
    fn others_are_not_led_inside() {
        for (ip, inside) in [
            ("127.0.0.1", true),
            ("127.8.9.10", true),
            ("0.0.0.0", true),
            ("169.254.169.254", true),
            ("::1", true),
            ("::", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:0.0.0.0", true),
            ("::ffff:169.254.1.1", true),
            ("fe80::1", true),
            ("febf::1", true),
            ("128.0.0.1", false),
            ("10.0.0.1", false),
            ("169.253.1.1", false),
            ("fec0::1", false),
            ("fd00::1", false),
            ("2001:db8::1", false),
        ] {
            let ip = ip.parse().unwrap();
            assert_eq!(Reach::Outside.includes(ip), !inside, "{ip}");
            assert!(Reach::Everywhere.includes(ip), "{ip}");
        }
    }

    #[test]
    fn the_list_of_clients_lets_in_whom_it_names() {
        let mut acl = Acl::default();
        assert!(!acl.lets_others_in());
        for entry in ["192.0.2.7", "198.51.100.0/24", "fd00::/8", "Friend.example."] {
            acl.add(entry).unwrap();
        }
        assert_eq!(acl.names, ["friend.example"]);
        assert!(acl.lets_others_in());
        for (ip, permitted) in [
            ("127.0.0.1", true),
            ("127.8.8.8", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("192.0.2.7", true),
            ("::ffff:192.0.2.7", true),
            ("192.0.2.8", false),
            ("198.51.100.200", true),
            ("fd00::9", true),
            ("fe80::1", false),
            ("::", false),
            ("203.0.113.1", false),
        ] {
            assert_eq!(acl.permits(ip.parse().unwrap()), permitted, "{ip}");
        }
        acl.admit("203.0.113.1".parse().unwrap());
        assert!(acl.permits("203.0.113.1".parse().unwrap()));
        assert!(!acl.permits("203.0.113.2".parse().unwrap()));
        acl.everybody = true;
        assert!(acl.permits("203.0.113.2".parse().unwrap()));
    }

    #[test]
    fn what_is_no_client_is_refused() {
        for entry in ["192.168.3", "192.168.3.*", "300.1.1.1", "10.0.0.0/40", "*", ".", "a:80", ""]
        {
            assert!(Acl::default().add(entry).is_err(), "{entry}");
        }
    }
}
