//! The Basic scheme (RFC 7617): as clients use it to bring their own account, and towards a parent
//! where the configuration allows it.

use base64::Engine;

use super::BASE64;
use super::credentials::Secret;

/// The field value that says who this is.
pub fn encode(user: &str, password: &Secret) -> String {
    let pair = zeroize::Zeroizing::new(format!("{user}:{}", password.expose()));
    format!("Basic {}", BASE64.encode(pair.as_bytes()))
}

/// User name and password out of a Proxy-Authorization value; `None` when it is not Basic, not
/// base64, or names nobody. The password is everything behind the first colon. Text that is no
/// UTF-8 comes from clients that never heard of `charset` and is read as Latin-1.
pub fn decode(field_value: &[u8]) -> Option<(String, Secret)> {
    let text = std::str::from_utf8(field_value).ok()?;
    let (scheme, token) = text.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let bytes = zeroize::Zeroizing::new(BASE64.decode(token.trim()).ok()?);
    let pair = zeroize::Zeroizing::new(match std::str::from_utf8(&bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
    });
    let (user, password) = pair.split_once(':')?;
    if user.is_empty() || pair.contains('\0') {
        return None;
    }
    Some((user.to_owned(), Secret::new(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_it() {
        for (pair, expected) in [
            (&b"alice:Secret"[..], Some(("alice", "Secret"))),
            (b"CORP\\alice:a:b:", Some(("CORP\\alice", "a:b:"))),
            ("böb:pä$$ wörd:\"€".as_bytes(), Some(("böb", "pä$$ wörd:\"€"))),
            (b"b\xf6b:p\xe4", Some(("böb", "pä"))),
            (b"alice:", Some(("alice", ""))),
            (b":x", None),
            (b"alice", None),
            (b"a\0:b", None),
        ] {
            let value = format!("basic {}", BASE64.encode(pair));
            let got = decode(value.as_bytes());
            let got = got.as_ref().map(|(user, password)| (user.as_str(), password.expose()));
            assert_eq!(got, expected);
        }
        for value in [&b"Basic"[..], b"Basic !!!", b"NTLM YWxpY2U6eA==", b"\xff\xff"] {
            assert!(decode(value).is_none());
        }
    }
}
