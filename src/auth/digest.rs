//! The Digest scheme (RFC 7616), the client's side: a challenge and an HA1 in, a field value out.
//!
//! Must not know which request it is for, how often a nonce was used, or where the client nonce
//! comes from: those are arguments. Answers MD5 and MD5-sess with qop `auth`, and challenges
//! without qop as RFC 2069 has it. Passwords are not kept: HA1 is as good as one, for its realm.
//! Names and realms are hashed and sent in UTF-8, whether or not `charset` asks for it.

use std::fmt;

use zeroize::Zeroizing;

use crate::http::challenge::Challenge;
use crate::http::head::FieldLines;
use crate::http::names;
use crate::ntlm::crypto::{Key, md5};

/// `algorithm` (RFC 7616 section 3.3), those of them that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HA1 goes into each response.
    Md5,
    /// HA1 goes into a session key together with the nonce and the client nonce.
    Md5Sess,
}

impl Algorithm {
    const NAMES: [(&'static str, Self); 2] = [("MD5", Self::Md5), ("MD5-sess", Self::Md5Sess)];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, a)| *a == self).map_or("", |(name, _)| name)
    }

    fn named(name: &str) -> Result<Self, DigestError> {
        let known = Self::NAMES.iter().find(|(n, _)| n.eq_ignore_ascii_case(name.trim()));
        known.map(|(_, known)| *known).ok_or_else(|| DigestError::Algorithm(name.to_owned()))
    }
}

/// A Digest challenge that can be answered (RFC 7616 section 3.3). `domain` means nothing to a
/// proxy, `userhash` is an offer that need not be taken, `charset` can only ask for what is done
/// anyway, other parameters must be ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestChallenge {
    /// `realm`: which of the user's passwords is meant.
    pub realm: String,
    /// `nonce`. A nextnonce takes its place, and the count begins again.
    pub nonce: String,
    /// `opaque`, to be returned as it came.
    pub opaque: Option<String>,
    /// `algorithm`; without one it is MD5, and the answer does not name it either: some servers
    /// older than the parameter choke on it.
    pub algorithm: Option<Algorithm>,
    /// Whether `qop` offers `auth`; otherwise it offers nothing, and the answer takes the form of
    /// RFC 2069.
    pub qop_auth: bool,
    /// `stale`: the response was right but for the age of its nonce. No refusal.
    pub stale: bool,
}

/// Why a Digest challenge cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DigestError {
    /// A parameter that must be there is not.
    Missing(&'static str),
    /// A parameter that has to be sent back has control characters in it, or was no UTF-8.
    Unprintable(&'static str),
    /// It wants this `algorithm`.
    Algorithm(String),
    /// `qop` does not offer `auth`, but this.
    Qop(String),
    /// MD5-sess without a `qop`: there is no parameter for the client nonce to travel in.
    SessionWithoutQop,
}

impl DigestError {
    /// The challenge breaks the grammar; else it asks for what is not spoken here.
    pub fn is_malformed(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Unprintable(_))
    }
}

impl fmt::Display for DigestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "its Digest challenge has no {name}"),
            Self::Unprintable(name) => {
                write!(f, "the {name} of its Digest challenge is not readable text")
            }
            Self::Algorithm(name) => {
                write!(f, "it wants Digest with {}; MD5 is what there is", name.escape_debug())
            }
            Self::Qop(list) => {
                write!(f, "it wants Digest with qop {}, not auth", list.escape_debug())
            }
            Self::SessionWithoutQop => {
                f.write_str("it wants Digest with MD5-sess but names no qop")
            }
        }
    }
}

impl DigestChallenge {
    /// Reads a challenge of scheme Digest. A server that offers several algorithms sends a
    /// challenge for each.
    ///
    /// # Errors
    /// [`DigestError`], when there is no answer that the server could accept.
    pub fn of(challenge: &Challenge) -> Result<Self, DigestError> {
        let echoed = |name: &'static str| match challenge.param(name) {
            Some(text) if !is_sound(text) => Err(DigestError::Unprintable(name)),
            found => Ok(found.map(str::to_owned)),
        };
        let algorithm = challenge.param("algorithm").map(Algorithm::named).transpose()?;
        let qop = challenge.param("qop").map_or("", str::trim);
        let qop_auth = qop.split(',').any(|option| option.trim().eq_ignore_ascii_case("auth"));
        if !qop_auth && !qop.is_empty() {
            return Err(DigestError::Qop(qop.to_owned()));
        }
        if !qop_auth && algorithm == Some(Algorithm::Md5Sess) {
            return Err(DigestError::SessionWithoutQop);
        }
        let nonce = echoed("nonce")?.filter(|nonce| !nonce.is_empty());
        Ok(Self {
            realm: echoed("realm")?.ok_or(DigestError::Missing("realm"))?,
            nonce: nonce.ok_or(DigestError::Missing("nonce"))?,
            opaque: echoed("opaque")?,
            algorithm,
            qop_auth,
            stale: challenge.param("stale").is_some_and(|v| v.trim().eq_ignore_ascii_case("true")),
        })
    }
}

/// HA1: H(A1) of RFC 7616 section 3.4.2 for the algorithm MD5. All that is needed of a password,
/// for any number of challenges of one realm.
pub fn ha1(user: &str, realm: &str, password: &str) -> Key {
    md5(&[user.as_bytes(), b":", realm.as_bytes(), b":", password.as_bytes()])
}

/// The value of Proxy-Authorization or Authorization for one request (RFC 7616 section 3.4).
///
/// `uri` is the request-target as it is sent: absolute-form to a proxy, the authority with CONNECT.
/// `nonce_count` counts the requests with this nonce from 1. With MD5-sess `cnonce` stays the same
/// as long as the challenge does. Control characters in `user`, which no field can carry, become
/// `?`, and the server will not agree.
pub fn answer(
    challenge: &DigestChallenge,
    user: &str,
    ha1: &Key,
    method: &str,
    uri: &str,
    nonce_count: u32,
    cnonce: [u8; 8],
) -> String {
    let count = format!("{nonce_count:08x}");
    let cnonce = hex(&cnonce);
    let uri = plain(uri);
    let response = response(challenge, ha1, method, &uri, &count, &cnonce);
    // Which values are quoted is fixed, "for historical reasons" (RFC 7616 section 3.4).
    let mut value = format!(
        "Digest username={}, realm={}, nonce={}, uri=\"{uri}\"",
        quoted(user),
        quoted(&challenge.realm),
        quoted(&challenge.nonce)
    );
    if challenge.qop_auth {
        value.push_str(&format!(", cnonce=\"{cnonce}\", nc={count}, qop=auth"));
    }
    value.push_str(&format!(", response=\"{response}\""));
    if let Some(opaque) = &challenge.opaque {
        value.push_str(&format!(", opaque={}", quoted(opaque)));
    }
    if let Some(algorithm) = challenge.algorithm {
        value.push_str(&format!(", algorithm={}", algorithm.name()));
    }
    value
}

/// `response` (RFC 7616 section 3.4.1; without qop RFC 2617 section 3.2.2.1, which is RFC 2069).
fn response(
    challenge: &DigestChallenge,
    ha1: &Key,
    method: &str,
    uri: &str,
    count: &str,
    cnonce: &str,
) -> String {
    let nonce = challenge.nonce.as_bytes();
    let mut key = Zeroizing::new(hex(ha1));
    if challenge.algorithm == Some(Algorithm::Md5Sess) {
        // The hexadecimal form of HA1, not its bytes as in the sample code of RFC 2617.
        key = Zeroizing::new(hex(&md5(&[key.as_bytes(), b":", nonce, b":", cnonce.as_bytes()])));
    }
    let ha2 = hex(&md5(&[method.as_bytes(), b":", uri.as_bytes()]));
    let mut parts = vec![key.as_bytes(), b":", nonce];
    if challenge.qop_auth {
        parts.extend([&b":"[..], count.as_bytes(), b":", cnonce.as_bytes(), b":auth"]);
    }
    parts.extend([b":", ha2.as_bytes()]);
    hex(&md5(&parts))
}

/// `nextnonce` of a Proxy-Authentication-Info or Authentication-Info field (RFC 7616 section 3.5):
/// the nonce to use from now on.
pub fn next_nonce(field_value: &[u8]) -> Option<String> {
    // The grammar is that of a challenge without its scheme.
    let mut lines = FieldLines::default();
    lines.push(names::AUTHENTICATION_INFO, &[b"Digest ", field_value].concat());
    let info = Challenge::list(&lines, names::AUTHENTICATION_INFO);
    let nonce = info.first()?.param("nextnonce")?;
    (is_sound(nonce) && !nonce.is_empty()).then(|| nonce.to_owned())
}

/// Whether a field can carry the text (RFC 9110 section 5.5) and it is what was received: U+FFFD
/// stands where bytes were no UTF-8.
fn is_sound(text: &str) -> bool {
    !text.contains(|c| is_control(c) || c == char::REPLACEMENT_CHARACTER)
}

fn is_control(c: char) -> bool {
    c.is_ascii_control() && c != '\t'
}

/// A quoted-string (RFC 9110 section 5.6.4).
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len().saturating_add(2));
    quoted.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(if is_control(c) { '?' } else { c });
    }
    quoted.push('"');
    quoted
}

/// A URI without what no URI has (RFC 3986), though clients send it: servers do not agree on
/// whether to unescape this one quoted-string (Squid does not), so nothing in it needs escaping.
fn plain(uri: &str) -> String {
    let mut plain = String::with_capacity(uri.len());
    for c in uri.chars() {
        if c.is_ascii_control() || matches!(c, '"' | '\\') {
            plain.push_str(&format!("%{:02X}", u32::from(c)));
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Lower-case hexadecimal, as hashes go into each other here (RFC 7616 section 3.1.3, LHEX).
fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for nibble in bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]) {
        text.extend(char::from_digit(u32::from(nibble), 16));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const CNONCE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    fn challenge(line: &str) -> Result<DigestChallenge, DigestError> {
        let mut lines = FieldLines::default();
        lines.push(names::WWW_AUTHENTICATE, line.as_bytes());
        DigestChallenge::of(&Challenge::list(&lines, names::WWW_AUTHENTICATE)[0])
    }

    #[test]
    fn published_conversations() {
        // RFC 7616 section 3.9.1 and RFC 2617 section 3.5; the last is the same without qop.
        let old = ["testrealm@host.com", "Circle Of Life", "dcd98b7102dd2f0e8b11d0f600bfb0c093"];
        let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let new = ["http-auth@example.org", "Circle of Life", nonce];
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        for ([realm, password, nonce], rest, cnonce, expected) in [
            (new, "algorithm=MD5, qop=\"auth\"", cnonce, "8ca523f5e9506fed4657c9700eebdbec"),
            (old, "qop=\"auth,auth-int\"", "0a4f113b", "6629fae49393a05397450978507c4ef1"),
            (old, "", "", "670fd8c2df070c60b045671b8b24ff02"),
        ] {
            let line = format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", {rest}");
            let key = ha1("Mufasa", realm, password);
            let challenge = challenge(&line).unwrap();
            let got = response(&challenge, &key, "GET", "/dir/index.html", "00000001", cnonce);
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn fields_as_they_go_out() {
        // Responses computed with Python's hashlib.
        let key = ha1("böb", "Corp Digest", "pä$$ wörd:\"€");
        let begins = r#"username="böb", realm="Corp Digest", nonce="a\"b\\c", uri="o.example:443""#;
        let session = r#""bbc3495f523bd391080ce2831edf5562", algorithm=MD5-sess"#;
        let with_qop = r#", cnonce="0102030405060708", nc=0000002a, qop=auth"#;
        for (rest, qop, answered) in [
            ("qop=\"auth\", stale=false", with_qop, r#""655ca9be29b76ade092741b187428644""#),
            ("qop=auth,algorithm=\"md5-sess\"", with_qop, session),
            (r#"opaque="o\"""#, "", r#""1240790326d1b071177a291f4968b16e", opaque="o\"""#),
        ] {
            let line = format!(r#"digest REALM="Corp Digest",nonce="a\"b\\c",{rest}"#);
            let challenge = challenge(&line).unwrap();
            let got = answer(&challenge, "böb", &key, "CONNECT", "o.example:443", 42, CNONCE);
            assert_eq!(got, format!("Digest {begins}{qop}, response={answered}"));
        }
    }

    #[test]
    fn no_line_can_be_broken() {
        let fine = challenge("Digest realm=r, nonce=n, qop=auth").unwrap();
        let value = answer(&fine, "a\r\nX: \"\\", &[0; 16], "GET", "http://h/\n\0\"\\", 1, CNONCE);
        let begins =
            r#"Digest username="a??X: \"\\", realm="r", nonce="n", uri="http://h/%0A%00%22%5C", "#;
        assert!(value.starts_with(begins));
        assert!(value.ends_with("response=\"768296fa71f3d6876b7a5a8ce9179b60\""));
        for (name, value) in [("realm", "r\r\n"), ("nonce", "n\x7f"), ("opaque", "o\u{fffd}")] {
            let params = [(name, value), ("realm", "x"), ("nonce", "x"), ("opaque", "x")];
            let params = params.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
            let broken = Challenge { params, ..Challenge::default() };
            assert_eq!(DigestChallenge::of(&broken), Err(DigestError::Unprintable(name)));
        }
    }

    #[test]
    fn what_is_read_of_a_challenge() {
        let odd = challenge("Digest realm=\"\", nonce=n, stale=TRUE, userhash=true").unwrap();
        assert!(odd.realm.is_empty() && odd.opaque.is_none() && odd.algorithm.is_none());
        assert!(odd.stale && !odd.qop_auth);
        for (line, expected) in [
            ("Digest nonce=n", DigestError::Missing("realm")),
            ("Digest realm=r, nonce=\"\"", DigestError::Missing("nonce")),
            ("Digest realm=r, nonce=n, algorithm=SHA", DigestError::Algorithm("SHA".to_owned())),
            ("Digest realm=r, nonce=n, qop=\"auth-int\"", DigestError::Qop("auth-int".to_owned())),
            ("Digest realm=r, nonce=n, algorithm=MD5-sess", DigestError::SessionWithoutQop),
        ] {
            assert_eq!(challenge(line), Err(expected), "{line}");
        }
    }

    #[test]
    fn the_next_nonce() {
        for (value, expected) in [
            (&b"nextnonce=\"a, b=\\\"c\", qop=auth, nc=00000001"[..], Some("a, b=\"c")),
            (b"rspauth=\"00\", NextNonce = n", Some("n")),
            (b"rspauth=\"nextnonce=x\"", None),
            (b"nextnonce=\"\"", None),
            (b"nextnonce=\"a\x01\xe4\"", None),
            (b"", None),
        ] {
            assert_eq!(next_nonce(value).as_deref(), expected);
        }
    }
}
