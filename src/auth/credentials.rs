//! Who logs in, and the secrets derived from a password. Secrets are wiped when dropped and have
//! no printable form.

use std::fmt;

use zeroize::Zeroizing;

pub use crate::ntlm::Keys;
use crate::ntlm::crypto::{self, Key};

/// A password on its way to becoming [`Keys`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over; the caller's copies are the caller's to wipe.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself, for the one-way functions and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A password that is no longer needed as text, but perhaps once more: Digest hashes it with a realm
/// that only the challenge names. Under a key stream made of the NT hash, so that it does not lie in
/// memory as it was typed.
#[derive(Clone)]
struct Sealed(Vec<u8>);

impl Sealed {
    fn new(password: &Secret, nt: &Key) -> Self {
        Self(Self::crypt(password.expose().as_bytes(), nt))
    }

    fn open(&self, nt: &Key) -> Secret {
        let bytes = Zeroizing::new(Self::crypt(&self.0, nt));
        Secret::new(String::from_utf8_lossy(&bytes))
    }

    fn crypt(bytes: &[u8], nt: &Key) -> Vec<u8> {
        let blocks = bytes.chunks(16).zip(0_u64..);
        let crypted = blocks.flat_map(|(block, count)| {
            let pad = crypto::hmac_md5(nt, &[b"seal", &count.to_le_bytes()]);
            block.iter().zip(pad).map(|(byte, pad)| byte ^ pad).collect::<Vec<u8>>()
        });
        crypted.collect()
    }
}

/// One account: names as AUTHENTICATE carries them, and its keys.
/// Two are equal only when the secrets are equal too.
#[derive(Clone)]
pub struct Credentials {
    /// DomainName of MS-NLMP 2.2.1.3; empty with a user principal name.
    pub domain: String,
    /// UserName of MS-NLMP 2.2.1.3.
    pub user: String,
    /// The domain was written with the name: it is part of it for Basic, which knows no domains.
    pub is_qualified: bool,
    /// The secrets.
    pub keys: Keys,
    sealed: Option<Sealed>,
}

impl Credentials {
    /// Names as a person writes them, `user`, `DOMAIN\user` or `user@domain`, split into
    /// (domain, user). A user principal name goes whole into the user, with an empty domain, as
    /// Windows sends it; only a bare name takes `default_domain`.
    pub fn split_name(name: &str, default_domain: &str) -> (String, String) {
        match name.split_once('\\') {
            Some((domain, user)) => (domain.to_owned(), user.to_owned()),
            None if name.contains('@') => (String::new(), name.to_owned()),
            None => (default_domain.to_owned(), name.to_owned()),
        }
    }

    /// Whether a name, as a person writes it, has a domain before it.
    pub fn is_qualified(name: &str) -> bool {
        name.split_once('\\').is_some_and(|(domain, _)| !domain.is_empty())
    }

    /// The account that a name and its password stand for; see [`Self::split_name`].
    pub fn from_name(name: &str, default_domain: &str, password: &Secret) -> Self {
        let (domain, user) = Self::split_name(name, default_domain);
        let is_qualified = Self::is_qualified(name);
        Self { is_qualified, ..Self::from_password(domain, user, password) }
    }

    /// Computes every key from the password, which is not kept as it is.
    pub fn from_password(domain: String, user: String, password: &Secret) -> Self {
        let nt = crypto::ntowfv1(password.expose());
        let sealed = Some(Sealed::new(password, &nt));
        let lm = crypto::lmowfv1(password.expose());
        Self { sealed, ..Self::from_keys(domain, user, Keys { lm, nt: Some(nt), ntlmv2: None }) }
    }

    /// Takes hashes for what they are; fills in NTOWFv2 where NTOWFv1 is known.
    pub fn from_keys(domain: String, user: String, mut keys: Keys) -> Self {
        if let Some(nt) = &keys.nt {
            keys.ntlmv2 = Some(crypto::ntowfv2(nt, &user, &domain));
        }
        Self { domain, user, is_qualified: false, keys, sealed: None }
    }

    /// The password, for schemes that cannot do with a hash; unknown where hashes were configured.
    pub fn password(&self) -> Option<Secret> {
        Some(self.sealed.as_ref()?.open(self.keys.nt.as_ref()?))
    }
}

/// The hash says everything the sealed password does.
impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        (&self.domain, &self.user, self.is_qualified, &self.keys)
            == (&other.domain, &other.user, other.is_qualified, &other.keys)
    }
}

impl Eq for Credentials {}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\\{} ***", self.domain, self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_as_windows_does() {
        for (name, expected) in [
            ("ann", ("D", "ann")),
            ("CORP\\ann", ("CORP", "ann")),
            ("\\ann", ("", "ann")),
            ("ann@corp.example", ("", "ann@corp.example")),
            ("CORP\\ann@x", ("CORP", "ann@x")),
        ] {
            let (domain, user) = Credentials::split_name(name, "D");
            assert_eq!((domain.as_str(), user.as_str()), expected, "{name}");
            assert_eq!(Credentials::is_qualified(name), name.starts_with("CORP"));
        }
    }

    #[test]
    fn a_password_is_kept_and_not_as_it_was_typed() {
        let typed = "pä$$ wörd:\"€ and long enough for several blocks";
        let account = Credentials::from_password("D".into(), "u".into(), &Secret::new(typed));
        assert_eq!(account.password().unwrap().expose(), typed);
        let sealed = account.sealed.clone().unwrap().0;
        assert!(!sealed.windows(4).any(|four| typed.as_bytes().windows(4).any(|t| t == four)));
        assert_eq!(format!("{account:?}"), "D\\u ***");
        assert_eq!(
            Credentials::from_keys("D".into(), "u".into(), Keys::default()).password(),
            None
        );
    }
}
