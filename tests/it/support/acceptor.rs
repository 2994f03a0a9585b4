//! The server side of NTLM: the accounts, the ways to challenge, the CHALLENGE message.
//! [`super::verify`] judges the answer.

use std::time::{SystemTime, UNIX_EPOCH};

use super::crypto::{upper, utf16le};
use super::message::{self as m, Negotiate, Reader, av_pairs};
pub use super::verify::{Dialect, Logon, Why};

#[derive(Clone, Debug)]
pub struct Account {
    pub domain: String,
    pub user: String,
    pub password: String,
}

/// The accounts of a domain and the manner in which it challenges. Strict unless told otherwise.
#[derive(Clone, Debug)]
pub struct Acceptor {
    pub(super) accounts: Vec<Account>,
    pub(super) lenient: bool,
    timestamp: bool,
    target_info: bool,
    minimal: bool,
    unicode: bool,
    session_security: bool,
    pairs: Vec<(u16, Vec<u8>)>,
    target_info_size: usize,
    server_challenge: Option<[u8; 8]>,
    pub(super) only: Option<Dialect>,
}

impl Acceptor {
    /// Accounts as (domain, user, password).
    pub fn new(accounts: &[(&str, &str, &str)]) -> Self {
        let own = |(domain, user, password): &(&str, &str, &str)| Account {
            domain: (*domain).into(),
            user: (*user).into(),
            password: (*password).into(),
        };
        Self {
            accounts: accounts.iter().map(own).collect(),
            lenient: false,
            timestamp: true,
            target_info: true,
            minimal: false,
            unicode: true,
            session_security: true,
            pairs: Vec::new(),
            target_info_size: 0,
            server_challenge: None,
            only: None,
        }
    }

    /// For clients like curl: no MIC, a 32-byte NEGOTIATE, flags as they come, their own time, AV
    /// pairs in any order.
    pub fn lenient(self) -> Self {
        Self { lenient: true, ..self }
    }

    pub fn without_timestamp(self) -> Self {
        Self { timestamp: false, ..self }
    }

    pub fn without_target_info(self) -> Self {
        Self { target_info: false, ..self }
    }

    /// The 32-byte challenge of the old days: no target info fields, no name, no version.
    pub fn minimal(self) -> Self {
        Self { minimal: true, target_info: false, ..self }
    }

    pub fn oem(self) -> Self {
        Self { unicode: false, ..self }
    }

    /// NTLMv1 responses are then the plain ones.
    pub fn without_session_security(self) -> Self {
        Self { session_security: false, ..self }
    }

    /// An AV pair of an id nobody has defined.
    pub fn unknown_pair(self) -> Self {
        self.pair(0x7fff, b"what no client has ever seen")
    }

    /// Any pair, after the usual ones and before the end of list.
    pub fn pair(mut self, id: u16, value: &[u8]) -> Self {
        self.pairs.push((id, value.into()));
        self
    }

    /// Fills the target info up to this many bytes (at most 65535) with a pair of an unknown id.
    pub fn target_info_size(self, size: usize) -> Self {
        Self { target_info_size: size, ..self }
    }

    pub fn server_challenge(self, challenge: [u8; 8]) -> Self {
        Self { server_challenge: Some(challenge), ..self }
    }

    /// No other dialect is accepted, right password or not.
    pub fn only(self, dialect: Dialect) -> Self {
        Self { only: Some(dialect), ..self }
    }

    /// Whether Basic credentials are an account's: `user` or `DOMAIN\\user`.
    pub fn knows(&self, user: &str, password: &str) -> bool {
        let (domain, user) = user.split_once('\\').unwrap_or(("", user));
        let same = |a: &str, b: &str| upper(a) == upper(b);
        self.accounts.iter().any(|account| {
            same(&account.user, user)
                && (domain.is_empty() || same(&account.domain, domain))
                && account.password == password
        })
    }

    pub fn read_negotiate(&self, message: &[u8]) -> Result<Negotiate, Why> {
        Negotiate::read(message, self.lenient)
    }

    /// Answers a NEGOTIATE message.
    pub fn challenge(&self, negotiate: &[u8]) -> Result<Challenge, Why> {
        let asked = self.read_negotiate(negotiate)?.flags;
        let unicode = self.unicode && asked & m::UNICODE != 0;
        if !unicode && asked & m::OEM == 0 {
            return Err(Why::NotAsAsked(
                "NEGOTIATE offers no OEM, and this server knows no other".into(),
            ));
        }
        let kept = m::REQUEST_TARGET | m::NTLM | m::ALWAYS_SIGN | m::EXTENDED_SESSION_SECURITY;
        let kept = kept | m::SIGN | m::SEAL | m::KEY_EXCH | m::KEY_128 | m::KEY_56 | m::VERSION;
        let mut flags = asked & kept | if unicode { m::UNICODE } else { m::OEM };
        if !self.session_security {
            flags &= !m::EXTENDED_SESSION_SECURITY;
        }
        if self.target_info {
            flags |= m::TARGET_INFO;
        }
        if self.minimal {
            flags &= !m::VERSION;
        }
        let named = flags & m::REQUEST_TARGET != 0 && !self.minimal;
        if named {
            flags |= m::TARGET_TYPE_DOMAIN;
        }
        let name = match (named, unicode) {
            (false, _) => Vec::new(),
            (true, true) => utf16le("CORP"),
            (true, false) => b"CORP".to_vec(),
        };
        let target_info = if self.target_info { self.target_info_bytes() } else { Vec::new() };

        let mut bytes = b"NTLMSSP\0\x02\0\0\0".to_vec();
        bytes.extend(buffer(name.len(), if self.minimal { 0 } else { 56 }));
        bytes.extend(flags.to_le_bytes());
        bytes.extend(self.server_challenge.unwrap_or_else(random));
        if !self.minimal {
            bytes.extend([0; 8]);
            bytes.extend(buffer(target_info.len(), 56 + name.len()));
            bytes.extend(if flags & m::VERSION != 0 {
                *b"\x0a\0\x63\x45\0\0\0\x0f"
            } else {
                [0; 8]
            });
            bytes.extend(name);
            bytes.extend(target_info);
        }
        Challenge::given(negotiate, &bytes)
    }

    fn target_info_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |id: u16, value: &[u8]| {
            out.extend(id.to_le_bytes());
            out.extend((value.len() as u16).to_le_bytes());
            out.extend(value);
            out.len()
        };
        put(2, &utf16le("CORP"));
        put(1, &utf16le("PROXY"));
        put(4, &utf16le("corp.example.test"));
        put(3, &utf16le("proxy.corp.example.test"));
        if self.timestamp {
            put(m::AV_TIMESTAMP, &file_time_now().to_le_bytes());
        }
        self.pairs.iter().for_each(|(id, value)| _ = put(*id, value));
        let length = put(0x7ffe, b"") - 4;
        out.truncate(length);
        let filler = self.target_info_size.min(0xffff).saturating_sub(length + 8);
        if filler > 0 {
            out.extend(0x7ffe_u16.to_le_bytes());
            out.extend((filler as u16).to_le_bytes());
            out.extend((0..filler).map(|i| i as u8));
        }
        out.extend([0; 4]);
        out
    }
}

/// A challenge given out, with what is needed to judge the answer.
#[derive(Clone, Debug)]
pub struct Challenge {
    pub negotiate: Vec<u8>,
    pub bytes: Vec<u8>,
    pub flags: u32,
    pub server_challenge: [u8; 8],
    pub target_info: Vec<u8>,
    pub timestamp: Option<u64>,
}

impl Challenge {
    /// From the two messages as they went over the wire, whoever made them.
    pub fn given(negotiate: &[u8], challenge: &[u8]) -> Result<Self, Why> {
        let mut reader = Reader::new("CHALLENGE", challenge, 2, 32)?;
        let target_info = match challenge.len() {
            ..48 => Vec::new(),
            _ => reader.field(40, "target info")?.to_vec(),
        };
        let timestamp = av_pairs(&target_info).and_then(|(pairs, _)| {
            let (_, value) = pairs.into_iter().find(|(id, _)| *id == m::AV_TIMESTAMP)?;
            value.try_into().ok().map(u64::from_le_bytes)
        });
        Ok(Self {
            negotiate: negotiate.into(),
            bytes: challenge.into(),
            flags: reader.u32(20)?,
            server_challenge: reader.array(24)?,
            target_info,
            timestamp,
        })
    }
}

/// A security buffer: length, the same again, offset.
fn buffer(length: usize, offset: usize) -> Vec<u8> {
    let length = (length as u16).to_le_bytes();
    [&length[..], &length, &(offset as u32).to_le_bytes()].concat()
}

fn random() -> [u8; 8] {
    let mut bytes = [0; 8];
    let mut source = std::fs::File::open("/dev/urandom").expect("there is /dev/urandom");
    std::io::Read::read_exact(&mut source, &mut bytes).expect("it has random bytes");
    bytes
}

/// Tenths of a microsecond since 1601.
fn file_time_now() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    116_444_736_000_000_000 + (since_1970.as_nanos() / 100) as u64
}
