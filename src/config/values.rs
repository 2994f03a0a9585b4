//! How a value is read: each function takes the text of one value, or of one entry of a list, and
//! gives what it means, or what is wrong with it and what to write instead. What is said of a
//! secret never repeats it.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::Tunnel;
use super::access::{Acl, HostPattern, is_number};
use super::notice::quoted;
use crate::auth::Scheme;
use crate::auth::credentials::Secret;
use crate::http::target::{Authority, AuthorityError};
use crate::ntlm::Dialect;
use crate::ntlm::crypto::Key;

/// The entries of a list: blanks and commas stand between them.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '\t', ',']).filter(|word| !word.is_empty())
}

fn about(word: &str, why: &str) -> String {
    format!("{} {why}", quoted(word))
}

pub(super) fn unless_blank(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The file requests are logged to: the original knew only off and on.
pub(super) fn url_log(text: &str) -> Option<String> {
    match text {
        "" | "0" => None,
        "1" => Some("url.log".to_owned()),
        path => Some(path.to_owned()),
    }
}

fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

pub(super) fn number<T: FromStr + PartialOrd + Display>(
    text: &str,
    what: &str,
    range: RangeInclusive<T>,
) -> Result<T, String> {
    digits(text).filter(|number| range.contains(number)).ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        about(text, &format!("is no {what}; write a number from {least} to {most}"))
    })
}

/// As the original read its switches: any number but 0 is on.
pub(super) fn flag(text: &str) -> Result<bool, String> {
    let number = text.parse::<i64>().ok();
    number.map(|n| n != 0).ok_or_else(|| about(text, "is neither 0 nor 1"))
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    number(text, "time in seconds", 1..=86_400).map(Duration::from_secs)
}

/// A time of which 0 means none at all; a year at most.
pub(super) fn minutes(text: &str) -> Result<Option<Duration>, String> {
    let minutes: u64 = number(text, "time in minutes", 0..=525_600)?;
    Ok((minutes > 0).then(|| Duration::from_secs(minutes.saturating_mul(60))))
}

pub(super) fn backlog(text: &str) -> Result<i32, String> {
    if text.eq_ignore_ascii_case("SOMAXCONN") {
        return Ok(i32::MAX); // the kernel cuts it to its limit
    }
    digits(text)
        .filter(|backlog| *backlog > 0)
        .ok_or_else(|| about(text, "is neither a number from 1 on nor SOMAXCONN"))
}

pub(super) fn listen_addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for word in words(text) {
        let bare = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = bare.unwrap_or(word).parse().map_err(|_| {
            about(word, "is no address; write some like 127.0.0.1, ::1, or 0.0.0.0 :: for all")
        })?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    // Who listens at all addresses of a family cannot do so once more at one of them.
    let all = addresses.iter().copied().filter(IpAddr::is_unspecified).collect::<Vec<_>>();
    let is_among = |one: &IpAddr| all.iter().any(|all| all.is_ipv4() == one.is_ipv4());
    addresses.retain(|one| one.is_unspecified() || !is_among(one));
    Ok(addresses)
}

pub(super) fn add_clients(clients: &mut Acl, text: &str) -> Result<(), String> {
    words(text).try_for_each(|word| clients.add(word).map_err(|why| about(word, why)))
}

pub(super) fn parent(entry: &str) -> Result<Authority, String> {
    if entry.contains('@') {
        // What stands before the @ may be a password: not shown.
        return Err("an entry holds an @; an account is written as USER and PASSWORD".to_owned());
    }
    let why = match Authority::parse(entry, Some(0)) {
        Ok(parent) if is_number(&parent.host) => "is a number; a port is written host:port",
        Ok(parent) => return Ok(parent),
        Err(_) if entry.contains("://") => "is a URL; write host:port alone",
        Err(AuthorityError::BadPort) if !entry.contains("::") => {
            "has no port; write a number from 1 to 65535 after the colon"
        }
        Err(_) => "is no proxy; write host, host:port or [IPv6 address]:port",
    };
    Err(about(entry, why))
}

/// `[address:]port:host:port`.
pub(super) fn tunnel(entry: &str) -> Result<Tunnel, String> {
    let (address, rest) = match entry.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").unwrap_or_default(),
        None => match entry.split_once(':') {
            Some((port, _)) if digits::<u64>(port).is_some() => ("", entry),
            parts => parts.unwrap_or_default(),
        },
    };
    let listen = if address.is_empty() { Ok(None) } else { address.parse().map(Some) };
    let (port, to) = rest.split_once(':').unwrap_or_default();
    match (listen, digits(port), Authority::parse(to, None)) {
        (Ok(address), Some(port), Ok(to)) => Ok(Tunnel { address, port, to }),
        _ => Err(about(entry, "is no tunnel; write port:host:port or address:port:host:port")),
    }
}

pub(super) fn socks_port(text: &str) -> Result<Option<u16>, String> {
    if text.is_empty() { Ok(None) } else { number(text, "port", 0..=u16::MAX).map(Some) }
}

/// One of `SOCKS5_USERS`: each part has its length in a byte (RFC 1929 section 2).
pub(super) fn socks_user(entry: &str) -> Result<(String, Secret), String> {
    let fits = |part: &str| (1..=usize::from(u8::MAX)).contains(&part.len());
    match entry.split_once(':') {
        Some((user, password)) if fits(user) && fits(password) => {
            Ok((user.to_owned(), Secret::new(password)))
        }
        _ => Err("holds an entry that is not user:password, each up to 255 bytes".to_owned()),
    }
}

pub(super) fn hosts(text: &str) -> Result<Vec<HostPattern>, String> {
    words(text).map(|word| HostPattern::parse(word).map_err(|why| about(word, why))).collect()
}

/// A name that goes into an NTLM message: UTF-16 in a field of at most 65535 bytes (MS-NLMP
/// 2.2.1.3), upper-cased before or not.
pub(super) fn name(text: &str) -> Result<String, String> {
    let units = text.encode_utf16().count().max(text.to_uppercase().encode_utf16().count());
    if units > usize::from(u16::MAX / 2) {
        return Err(format!("is {units} characters long; NTLM has room for 32767"));
    }
    Ok(text.to_owned())
}

pub(super) fn password(text: &str) -> Result<Option<Secret>, String> {
    if text.len() > MAX_PASSWORD {
        return Err(PASSWORD_TOO_LONG.to_owned());
    }
    Ok((!text.is_empty()).then(|| Secret::new(text)))
}

/// The longest password taken, in bytes; no directory takes a longer one.
pub(super) const MAX_PASSWORD: usize = 64 * 1024;
/// What is said to a longer one.
pub(super) const PASSWORD_TOO_LONG: &str = "is longer than 64 KiB";

/// 32 hex digits, or the original's base64 of the hash and the five zero bytes DES wants.
pub(super) fn hash(text: &str) -> Result<Option<Key>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let bytes = if text.len() == 28 { BASE64.decode(text).ok() } else { hex(text) };
    let bytes = Zeroizing::new(bytes.unwrap_or_default());
    let key = match bytes.split_first_chunk::<16>() {
        Some((key, [] | [0, 0, 0, 0, 0])) => Some(*key),
        _ => None,
    };
    key.map(Some).ok_or_else(|| {
        "is no hash; write 32 hexadecimal digits, as ntlmaps --hash prints them".to_owned()
    })
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let nibbles: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let pairs = nibbles?;
    let byte = |pair: &[u32]| match pair {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    };
    pairs.chunks(2).map(byte).collect()
}

/// The entry of `names` that `text` means, in any case.
fn among<T: Copy>(text: &str, names: &[(&str, T)], what: &str) -> Result<T, String> {
    let found = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        about(text, &format!("is no {what}; there are {}", names.join(", ")))
    })
}

pub(super) fn dialect(text: &str) -> Result<Dialect, String> {
    among(text, &Dialect::NAMES, "dialect")
}

pub(super) fn scheme(text: &str) -> Result<Scheme, String> {
    among(text, &Scheme::NAMES, "scheme")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader makes of each text: `Ok` shown, or a part of what it says.
    fn check<T: std::fmt::Debug>(
        read: impl Fn(&str) -> Result<T, String>,
        cases: &[(&str, Result<&str, &str>)],
    ) {
        for (text, expected) in cases {
            match (read(text), expected) {
                (Ok(value), Ok(shown)) => assert_eq!(format!("{value:?}"), *shown, "{text}"),
                (Err(why), Err(part)) => assert!(why.contains(part), "{text}: {why}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn numbers() {
        let bad = Err("is no port; write a number from 1 to 65535");
        check(
            |text| number(text, "port", 1..=u16::MAX),
            &[
                ("1", Ok("1")),
                ("65535", Ok("65535")),
                ("080", Ok("80")),
                ("0", bad),
                ("65536", bad),
                ("99999999999999999999", bad),
                ("80a", Err("\"80a\" is no port")),
                ("+80", bad),
                ("-1", bad),
                ("8 0", bad),
            ],
        );
        let bad = Err("is neither 0 nor 1");
        check(
            flag,
            &[
                ("0", Ok("false")),
                ("00", Ok("false")),
                ("1", Ok("true")),
                ("2", Ok("true")),
                ("-1", Ok("true")),
                ("yes", bad),
                ("1 # on", bad),
            ],
        );
        let bad = Err("is neither a number from 1 on nor SOMAXCONN");
        check(
            backlog,
            &[
                ("5", Ok("5")),
                ("SOMAXCONN", Ok("2147483647")),
                ("somaxconn", Ok("2147483647")),
                ("2147483647", Ok("2147483647")),
                ("0", bad),
                ("2147483648", bad),
                ("five", bad),
            ],
        );
        let bad = Err("is no time in minutes; write a number from 0 to 525600");
        check(minutes, &[("15", Ok("Some(900s)")), ("0", Ok("None")), ("525601", bad)]);
        let bad = Err("is no time in seconds; write a number from 1 to 86400");
        check(seconds, &[("15", Ok("15s")), ("0", bad), ("86401", bad), ("15s", bad)]);
    }

    #[test]
    fn places() {
        check(
            listen_addresses,
            &[
                ("127.0.0.1 ::1", Ok("[127.0.0.1, ::1]")),
                ("[::1],127.0.0.1, ::1", Ok("[::1, 127.0.0.1]")),
                ("127.0.0.1 0.0.0.0 ::1 192.0.2.1", Ok("[0.0.0.0, ::1]")),
                ("localhost", Err("\"localhost\" is no address; write some like 127.0.0.1")),
                ("127.0.0.1 *", Err("\"*\" is no address")),
                ("127.0.0.1:80", Err("is no address")),
            ],
        );
        check(
            |text| parent(text).map(|parent| parent.to_string()),
            &[
                ("Proxy.example", Ok("\"proxy.example:0\"")),
                ("proxy:3128", Ok("\"proxy:3128\"")),
                ("proxy:", Ok("\"proxy:0\"")),
                ("192.0.2.1:80", Ok("\"192.0.2.1:80\"")),
                ("[2001:DB8::1]:80", Ok("\"[2001:db8::1]:80\"")),
                ("[::1]", Ok("\"[::1]:0\"")),
                ("proxy:80a", Err("\"proxy:80a\" has no port; write a number from 1 to 65535")),
                ("proxy:0", Err("has no port")),
                ("proxy:80:90", Err("has no port")),
                ("8080", Err("\"8080\" is a number; a port is written host:port")),
                ("http://proxy:80/", Err("is a URL; write host:port alone")),
                ("fd00::1:80", Err("write host, host:port or [IPv6 address]:port")),
                (":80", Err("is no proxy")),
                ("proxy/x", Err("is no proxy")),
            ],
        );
        let refused = parent("http://jane:s3cret@proxy:80").unwrap_err();
        assert!(refused.contains("USER and PASSWORD") && !refused.contains("s3cret"), "{refused}");
        check(
            hosts,
            &[
                ("", Ok("[]")),
                ("<local>, a.b\t.c", Ok("[Local, Name(\"a.b\"), Glob(\"*.c\")]")),
                ("a http://b/", Err("\"http://b/\" is a URL; write the host alone")),
                ("10.0.0.0/40", Err("\"10.0.0.0/40\" is no block of addresses")),
            ],
        );
    }

    #[test]
    fn doors() {
        let shown = |text: &str| {
            tunnel(text).map(|Tunnel { address, port, to }| format!("{address:?} {port} {to}"))
        };
        let bad = Err("is no tunnel; write port:host:port");
        check(
            shown,
            &[
                ("2222:git.example:22", Ok("\"None 2222 git.example:22\"")),
                ("127.0.0.2:25:[::1]:2525", Ok("\"Some(127.0.0.2) 25 [::1]:2525\"")),
                ("[::1]:25:mail:25", Ok("\"Some(::1) 25 mail:25\"")),
                ("0:a:1", Ok("\"None 0 a:1\"")),
                ("2222", bad),
                ("2222:a", bad),
                ("65536:a:1", bad),
                ("localhost:1:a:1", bad),
                ("[::1]", bad),
                ("1:a:b:1", bad),
                ("1:a:0", bad),
                ("::1:1:a:1", bad),
            ],
        );
        let bad = Err("is no port; write a number from 0 to 65535");
        let cases =
            [("", Ok("None")), ("0", Ok("Some(0)")), ("1080", Ok("Some(1080)")), ("x", bad)];
        check(socks_port, &cases);
        let read = socks_user("jane:pa:ss").unwrap();
        assert_eq!((read.0.as_str(), read.1.expose()), ("jane", "pa:ss"));
        for text in ["s3cret", ":s3cret", "jane:", &format!("j:s3cret{}", "x".repeat(250))] {
            let why = socks_user(text).unwrap_err();
            assert!(why.contains("user:password") && !why.contains("s3cret"), "{why}");
        }
    }

    #[test]
    fn names_and_kinds() {
        let most = "x".repeat(32_767);
        assert_eq!(name(&most).as_ref(), Ok(&most));
        assert_eq!(name(&"\u{1f600}".repeat(16_383)).map(|name| name.len()), Ok(65_532));
        for text in [most + "x", "\u{1f600}".repeat(16_384), "\u{df}".repeat(16_384)] {
            let why = name(&text).unwrap_err();
            assert!(why.ends_with("NTLM has room for 32767") && why.len() < 100, "{why}");
        }
        check(
            dialect,
            &[
                ("NTLMv2", Ok("Ntlmv2")),
                ("ntlm2sr", Ok("Ntlm2Session")),
                ("NTLM", Ok("NtlmAndLm")),
                ("Nt", Ok("Nt")),
                ("lm", Ok("Lm")),
                ("v2", Err("\"v2\" is no dialect; there are NTLMv2, NTLM2SR, NTLM, NT, LM")),
            ],
        );
        check(
            scheme,
            &[
                ("ntlm", Ok("Ntlm")),
                ("Negotiate", Ok("Negotiate")),
                ("DIGEST", Ok("Digest")),
                ("basic", Ok("Basic")),
                ("Kerberos", Err("\"Kerberos\" is no scheme")),
            ],
        );
    }

    #[test]
    fn secrets_are_read_and_never_repeated() {
        let nt = "8846f7eaee8fb117ad06bdd830b7586c";
        let key = u128::from_str_radix(nt, 16).unwrap().to_be_bytes();
        let base64 = BASE64.encode([key.as_slice(), &[0; 5]].concat());
        assert_eq!(base64.len(), 28);
        for text in [nt, &nt.to_uppercase(), &base64] {
            assert_eq!(hash(text), Ok(Some(key)), "{text}");
        }
        assert_eq!(hash(""), Ok(None));
        let not_zero = BASE64.encode([key.as_slice(), &[0, 0, 0, 0, 1]].concat());
        let (short, long) = (nt.replace("6c", ""), nt.to_owned() + "00");
        let odd = nt.to_owned() + "0";
        for text in [&not_zero, &short, &long, &odd, "x", &nt.replace('8', "g"), "0x12"] {
            let why = hash(text).unwrap_err();
            assert_eq!(
                why,
                "is no hash; write 32 hexadecimal digits, as ntlmaps --hash prints them"
            );
        }
        let longest = "p".repeat(MAX_PASSWORD);
        assert_eq!(password(&longest), Ok(Some(Secret::new(longest.clone()))));
        assert_eq!(password(&(longest + "p")), Err(PASSWORD_TOO_LONG.to_owned()));
        assert_eq!(password(""), Ok(None));
    }
}
