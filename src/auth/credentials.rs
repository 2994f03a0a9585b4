//! Who logs in, and the secrets derived from a password. Secrets are wiped when dropped and have
//! no printable form.

use std::fmt;

use zeroize::Zeroizing;

pub use crate::ntlm::Keys;
use crate::ntlm::crypto;

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

/// One account: names as AUTHENTICATE carries them, and its keys.
/// Two are equal only when the secrets are equal too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// DomainName of MS-NLMP 2.2.1.3; empty with a user principal name.
    pub domain: String,
    /// UserName of MS-NLMP 2.2.1.3.
    pub user: String,
    /// The secrets.
    pub keys: Keys,
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

    /// Computes every key from the password, which is not kept.
    pub fn from_password(domain: String, user: String, password: &Secret) -> Self {
        let nt = crypto::ntowfv1(password.expose());
        Self::from_keys(
            domain,
            user,
            Keys { lm: crypto::lmowfv1(password.expose()), nt: Some(nt), ntlmv2: None },
        )
    }

    /// Takes hashes for what they are; fills in NTOWFv2 where NTOWFv1 is known.
    pub fn from_keys(domain: String, user: String, mut keys: Keys) -> Self {
        if let Some(nt) = &keys.nt {
            keys.ntlmv2 = Some(crypto::ntowfv2(nt, &user, &domain));
        }
        Self { domain, user, keys }
    }
}
