//! Where a request is aimed: the request-target (RFC 9112 section 3.2) and its authority.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;
use std::ops::Range;

/// A host and a port (RFC 3986 section 3.2): `host`, `host:port`, `[v6]:port`. No userinfo.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    /// A registered name or an address, lower-cased; IPv6 without its brackets.
    pub host: String,
    /// The port; the scheme's or the configuration's default where none was written.
    pub port: u16,
}

/// Why a text is no authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorityError {
    /// No host before the port.
    NoHost,
    /// A character no host may hold, or brackets around something else than an IPv6 address.
    BadHost,
    /// A port that is no number from 1 to 65535.
    BadPort,
    /// No port, and none is implied here.
    NoPort,
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHost => "it has no host",
            Self::BadHost => "its host is none",
            Self::BadPort => "its port is no number from 1 to 65535",
            Self::NoPort => "it has no port",
        })
    }
}

impl Authority {
    /// Reads `host`, `host:port` or `[v6]:port`; `default_port` fills in where no port is written.
    ///
    /// # Errors
    /// [`AuthorityError`] says which part is wrong.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, AuthorityError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']').ok_or(AuthorityError::BadHost)?;
                let address: Ipv6Addr = address.parse().map_err(|_| AuthorityError::BadHost)?;
                let port = match after.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if after.is_empty() => None,
                    None => return Err(AuthorityError::BadHost),
                };
                (address.to_string(), port)
            }
            None => {
                let (host, port) = match text.split_once(':') {
                    Some((host, port)) => (host, Some(port)),
                    None => (text, None),
                };
                if !host.bytes().all(is_host_byte) {
                    return Err(AuthorityError::BadHost);
                }
                (host.to_ascii_lowercase(), port)
            }
        };
        if host.is_empty() {
            return Err(AuthorityError::NoHost);
        }
        // RFC 3986 allows an empty port after the colon; it means the default.
        let port = match port {
            None | Some("") => default_port.ok_or(AuthorityError::NoPort)?,
            // No sign, and no zero in front, which makes an octal number for some.
            Some(digits) if digits.starts_with(|c: char| matches!(c, '1'..='9')) => {
                digits.parse().map_err(|_| AuthorityError::BadPort)?
            }
            Some(_) => return Err(AuthorityError::BadPort),
        };
        Ok(Self { host, port })
    }

    /// Whether a Host field may have that value.
    pub fn is_valid(value: &[u8]) -> bool {
        std::str::from_utf8(value).is_ok_and(|text| Self::parse(text, Some(80)).is_ok())
    }
}

/// A request-target (RFC 9112 section 3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestTarget {
    /// absolute-form: what clients send to a proxy.
    Absolute(AbsoluteForm),
    /// authority-form: CONNECT.
    Authority(Authority),
    /// origin-form: what is sent to an origin server, so whoever sends it means this program.
    Origin,
    /// asterisk-form: OPTIONS for the recipient itself.
    Asterisk,
}

/// A URL as it was written, without a fragment and userinfo of http, and where its parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsoluteForm {
    text: String,
    /// Host and port.
    host: Range<usize>,
    authority: Authority,
}

/// Why a text is no request-target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// None of the four forms, or not the one its method takes.
    Form,
    /// Its authority is wrong.
    Authority(AuthorityError),
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("a proxy expects a whole URL, or host:port with CONNECT"),
            Self::Authority(error) => error.fmt(f),
        }
    }
}

impl RequestTarget {
    /// Reads the target of a request with `method`.
    ///
    /// # Errors
    /// [`TargetError`] says what is wrong.
    pub fn parse(method: &str, target: &str) -> Result<Self, TargetError> {
        if method == "CONNECT" {
            return Authority::parse(target, None)
                .map(Self::Authority)
                .map_err(TargetError::Authority);
        }
        if target.starts_with('/') {
            return Ok(Self::Origin);
        }
        if target == "*" && method == "OPTIONS" {
            return Ok(Self::Asterisk);
        }
        AbsoluteForm::parse(method, target).map(Self::Absolute)
    }

    /// The target as the next hop wants it: origin-form for the origin, else absolute-form
    /// (RFC 9112 sections 3.2.1, 3.2.2 and 3.2.4).
    pub fn encode(&self, to_origin: bool) -> Cow<'_, str> {
        match self {
            Self::Absolute(url) if !to_origin => Cow::Borrowed(&url.text),
            Self::Absolute(url) if !url.path().is_empty() => Cow::Borrowed(url.path()),
            Self::Authority(authority) => Cow::Owned(authority.to_string()),
            Self::Origin => Cow::Borrowed("/"),
            Self::Absolute(_) | Self::Asterisk => Cow::Borrowed("*"),
        }
    }

    /// The value of Host that goes with it.
    pub fn host_field(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Absolute(url) => url.text.get(url.host.clone()).map(Cow::Borrowed),
            Self::Authority(authority) => Some(authority.to_string().into()),
            Self::Origin | Self::Asterisk => None,
        }
    }

    /// Whom the request is for; `None` where it is for this program.
    pub fn authority(&self) -> Option<&Authority> {
        match self {
            Self::Absolute(url) => Some(&url.authority),
            Self::Authority(authority) => Some(authority),
            Self::Origin | Self::Asterisk => None,
        }
    }
}

impl AbsoluteForm {
    fn parse(method: &str, target: &str) -> Result<Self, TargetError> {
        let end = target.bytes().position(|b| !is_scheme_byte(b)).unwrap_or(target.len());
        let (scheme, rest) = target.split_at_checked(end).ok_or(TargetError::Form)?;
        let rest = rest.strip_prefix("://").ok_or(TargetError::Form)?;
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(TargetError::Form);
        }
        let end = rest.bytes().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let (path, _fragment) = path.split_once('#').unwrap_or((path, ""));
        // A second @ or a backslash in userinfo would leave open where it ends.
        let (userinfo, host) = authority.split_once('@').unwrap_or(("", authority));
        if !userinfo.bytes().all(|b| is_host_byte(b) || b"%:".contains(&b)) {
            return Err(TargetError::Authority(AuthorityError::BadHost));
        }
        // With http, userinfo is for the client alone (RFC 9110 section 4.2.4); with ftp it is what
        // the parent logs in with for it.
        let schemes = [("http", 80, true), ("https", 443, true), ("ftp", 21, false)];
        let known = schemes.iter().find(|(name, ..)| scheme.eq_ignore_ascii_case(name));
        let (port, stays) = known.map_or((80, false), |(_, port, stays)| (*port, *stays));
        let onward = if stays { host } else { authority };
        let authority = Authority::parse(host, Some(port)).map_err(TargetError::Authority)?;
        let [host, onward] = [host, onward].map(|text| text.strip_suffix(':').unwrap_or(text));
        // Without a path it is the root that is meant (RFC 9110 section 4.2.3), or with OPTIONS the
        // server as a whole (RFC 9112 section 3.2.4).
        let is_whole = path.starts_with('/') || path.is_empty() && method == "OPTIONS";
        let slash = if is_whole { "" } else { "/" };
        let text = [scheme, "://", onward, slash, path].concat();
        let end = scheme.len().saturating_add("://".len()).saturating_add(onward.len());
        Ok(Self { text, host: end.saturating_sub(host.len())..end, authority })
    }

    /// Whether it has that scheme.
    pub fn has_scheme(&self, scheme: &str) -> bool {
        let own = self.text.split_once(':').map_or("", |(scheme, _)| scheme);
        own.eq_ignore_ascii_case(scheme)
    }

    /// Whom it is for.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Path and query; empty where a server as a whole is meant.
    pub fn path(&self) -> &str {
        self.text.get(self.host.end..).unwrap_or_default()
    }
}

fn is_scheme_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)
}

/// reg-name of RFC 3986 section 3.2.2, and the bytes of UTF-8 names, which a configuration may hold.
/// No percent-encoding: who decodes it sees another host than who does not.
#[inline]
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | 0x80..
        )
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A target as it may stand in a log: one line, without userinfo and query, where secrets travel.
pub fn printable(target: &str) -> String {
    let mut line = without_userinfo(target);
    line.truncate(line.find('?').unwrap_or(line.len()));
    line
}

/// A target as the request log has it: one line, without userinfo.
pub fn without_userinfo(target: &str) -> String {
    let scheme = target.find("://").filter(|at| target.bytes().take(*at).all(is_scheme_byte));
    let begin = scheme.map_or(0, |at| at.saturating_add("://".len()));
    let (scheme, rest) = target.split_at_checked(begin).unwrap_or(("", target));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_userinfo, host)| host);
    // Where that is none, userinfo may end anywhere.
    let is_host = || !scheme.is_empty() && Authority::is_valid(host.as_bytes());
    let line = match rest.rsplit_once('@') {
        Some((hidden, shown)) if path.contains('@') && !is_host() => {
            [scheme, if hidden.contains('?') { "?" } else { "" }, shown].concat()
        }
        _ => [scheme, host, path].concat(),
    };
    line.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        use AuthorityError as E;
        for (text, expected) in [
            ("Example.test", Ok("example.test:80")),
            ("example.test:8080", Ok("example.test:8080")),
            ("example.test:", Ok("example.test:80")),
            ("127.0.0.1:1", Ok("127.0.0.1:1")),
            ("[::1]", Ok("[::1]:80")),
            ("[0:0::1]:443", Ok("[::1]:443")),
            ("", Err(E::NoHost)),
            (":80", Err(E::NoHost)),
            ("a:0", Err(E::BadPort)),
            ("a:65536", Err(E::BadPort)),
            ("a:+1", Err(E::BadPort)),
            ("a:1 ", Err(E::BadPort)),
            ("a:1x", Err(E::BadPort)),
            ("a:080", Err(E::BadPort)),
            ("a:b:1", Err(E::BadPort)),
            ("::1", Err(E::NoHost)),
            ("[::1", Err(E::BadHost)),
            ("[a]", Err(E::BadHost)),
            ("[::1]x", Err(E::BadHost)),
            ("a/b", Err(E::BadHost)),
            ("a@b", Err(E::BadHost)),
            ("a b", Err(E::BadHost)),
            ("a\\b", Err(E::BadHost)),
            ("%61", Err(E::BadHost)),
            ("[fe80::1%25lo]", Err(E::BadHost)),
            ("[::1]1", Err(E::BadHost)),
        ] {
            let got = Authority::parse(text, Some(80)).map(|a| a.to_string());
            assert_eq!(got, expected.map(str::to_owned), "{text:?}");
        }
        assert_eq!(Authority::parse("a", None), Err(E::NoPort));
    }

    #[test]
    fn targets() {
        use TargetError as E;
        for (method, target, expected) in [
            ("GET", "http://a/", Ok(Some("a:80"))),
            ("GET", "https://a", Ok(Some("a:443"))),
            ("GET", "ftp://a/x", Ok(Some("a:21"))),
            ("GET", "http://u:p%40@b:1/@", Ok(Some("b:1"))),
            ("GET", "http://u@", Err(E::Authority(AuthorityError::NoHost))),
            ("GET", "http://u:p@a@b:1/@", Err(E::Authority(AuthorityError::BadHost))),
            ("GET", "http://a\\@b/", Err(E::Authority(AuthorityError::BadHost))),
            ("GET", "http://a\\b/", Err(E::Authority(AuthorityError::BadHost))),
            ("GET", "://a/", Err(E::Form)),
            ("GET", "1http://a/", Err(E::Form)),
            ("get", "a:443", Err(E::Form)),
            ("connect", "a:443", Err(E::Form)),
            ("GET", "http://a?x/y://z", Ok(Some("a:80"))),
            ("GET", "http://a#/x?@b:1", Ok(Some("a:80"))),
            ("GET", "/", Ok(None)),
            ("OPTIONS", "*", Ok(None)),
            ("CONNECT", "a:443", Ok(Some("a:443"))),
            ("CONNECT", "a", Err(E::Authority(AuthorityError::NoPort))),
            ("CONNECT", "http://a/", Err(E::Authority(AuthorityError::BadPort))),
            ("GET", "*", Err(E::Form)),
            ("GET", "a:443", Err(E::Form)),
            ("GET", "ht tp://a/", Err(E::Form)),
            ("GET", "http:///x", Err(E::Authority(AuthorityError::NoHost))),
            ("GET", "http://a:x/", Err(E::Authority(AuthorityError::BadPort))),
            ("GET", "ftp://u:p@b/", Ok(Some("b:21"))),
            ("GET", "ftp://u:p@a@b/", Err(E::Authority(AuthorityError::BadHost))),
        ] {
            let got = RequestTarget::parse(method, target)
                .map(|t| t.authority().map(ToString::to_string));
            assert_eq!(got, expected.map(|t| t.map(str::to_owned)), "{method} {target:?}");
        }
    }

    #[test]
    fn a_log_shows_where_it_goes_and_no_secret() {
        for (target, shown) in [
            ("http://a.test/p?token=s", "http://a.test/p"),
            ("http://u:s3cret@a.test:8/p@q", "http://a.test:8/p@q"),
            ("http://u:s3cret@a.test", "http://a.test"),
            ("ftp://u:s3cret@a.test/p;type=i", "ftp://a.test/p;type=i"),
            ("a.test:443", "a.test:443"),
            ("/p/q", "/p/q"),
            ("*", "*"),
            ("u:s3cret@a.test:443", "a.test:443"),
            ("//u:s3cret@a.test/p", "a.test/p"),
            ("//u:s3cret@a.test/x://y", "a.test/x://y"),
            ("http:/u:s3cret@a.test/p", "a.test/p"),
            ("http:u:s3cret@a.test/p", "a.test/p"),
            ("http://u:s3/cret@a.test/p", "http://a.test/p"),
            ("http://u:s3?cret@a.test/p", "http://"),
            ("/p?a=@s3cret", ""),
        ] {
            assert_eq!(printable(target), shown);
        }
        assert_eq!(without_userinfo("http://u:p@a.test?x=@y"), "http://a.test?x=@y");
    }
}
