//! Digest (RFC 7616) as a server plays it: nonces with a lifetime, nonce counts, nextnonce; with a
//! grammar and hashing of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::crypto::md5;
use super::doors::{Door, Passed};
use super::listener::lock;
use super::origin::Seen;

const OPAQUE: &str = "op\\\"aque, =";

/// How an answer was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    Right,
    /// Right but for the age of the nonce.
    Stale,
    Wrong(String),
}

/// One request with credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    pub method: String,
    /// The number of its nonce, from 1; 0 for one that was never given out.
    pub nonce: usize,
    pub count: u32,
    pub judged: Judged,
}

#[derive(Default)]
struct Record {
    /// By the nonce: its number, the counts seen, the client's nonce of an MD5-sess.
    nonces: BTreeMap<String, Nonce>,
    uses: Vec<Use>,
    bare: usize,
}

#[derive(Clone, Default)]
struct Nonce {
    number: usize,
    counts: Vec<u32>,
    client: String,
    expired: bool,
}

/// See the module.
pub struct DigestDoor {
    accounts: Vec<(String, String)>,
    algorithm: Option<&'static str>,
    lifetime: usize,
    next_after: Option<usize>,
    stillborn: Vec<usize>,
    realm: &'static str,
    record: Mutex<Record>,
}

impl DigestDoor {
    /// Accounts as (user, password).
    pub fn new(accounts: &[(&str, &str)]) -> Self {
        let own = |(user, password): &(&str, &str)| ((*user).into(), (*password).into());
        Self {
            accounts: accounts.iter().map(own).collect(),
            algorithm: None,
            lifetime: usize::MAX,
            next_after: None,
            stillborn: Vec::new(),
            realm: "Corp, \\\"Digest\\\"",
            record: Mutex::default(),
        }
    }

    pub fn algorithm(self, name: &'static str) -> Self {
        Self { algorithm: Some(name), ..self }
    }

    /// A nonce is stale after so many uses.
    pub fn lifetime(self, lifetime: usize) -> Self {
        Self { lifetime, ..self }
    }

    /// With the answer to so many uses of a nonce comes the next one, and the old one expires.
    pub fn next_after(self, uses: usize) -> Self {
        Self { next_after: Some(uses), ..self }
    }

    /// These nonces, numbered from 1, are stale before they are used.
    pub fn stillborn(self, numbers: &[usize]) -> Self {
        Self { stillborn: numbers.into(), ..self }
    }

    pub fn open(self) -> Arc<Self> {
        Arc::new(self)
    }

    pub fn uses(&self) -> Vec<Use> {
        lock(&self.record).uses.clone()
    }

    /// (nonce, count) of each use, all of which must have been right.
    pub fn right_uses(&self) -> Vec<(usize, u32)> {
        let uses = self.uses();
        assert!(uses.iter().all(|one| one.judged == Judged::Right), "{uses:#?}");
        uses.iter().map(|one| (one.nonce, one.count)).collect()
    }

    /// Requests without credentials.
    pub fn bare(&self) -> usize {
        lock(&self.record).bare
    }

    /// Every nonce given out so far is stale.
    pub fn expire(&self) {
        lock(&self.record).nonces.values_mut().for_each(|nonce| nonce.expired = true);
    }

    fn challenge(&self, record: &mut Record, stale: bool) -> Vec<String> {
        let nonce = self.issue(record);
        let algorithm = self.algorithm.map_or(String::new(), |name| format!(", algorithm={name}"));
        let stale = if stale { ", stale=TRUE" } else { "" };
        vec![format!(
            "Digest realm=\"{}\", qop=\"auth,auth-int\", nonce=\"{nonce}\", opaque=\"{OPAQUE}\"\
             {algorithm}{stale}",
            self.realm
        )]
    }

    fn issue(&self, record: &mut Record) -> String {
        let number = record.nonces.len() + 1;
        let nonce = format!("nonce/{number}+=");
        let expired = self.stillborn.contains(&number);
        record.nonces.insert(nonce.clone(), Nonce { number, expired, ..Nonce::default() });
        nonce
    }

    /// Who is right about everything but perhaps the age of the nonce.
    fn check(&self, seen: &Seen, fields: &Answer, nonce: &Nonce) -> Result<(), String> {
        let quoted = ["username", "realm", "nonce", "uri", "response", "cnonce", "opaque"];
        let bare = ["nc", "qop", "algorithm"];
        for (name, (value, is_quoted)) in &fields.0 {
            let fine = if *is_quoted { &quoted[..] } else { &bare[..] };
            if !fine.contains(&name.as_str()) {
                return Err(format!("{name}={value}, quoted: {is_quoted}"));
            }
        }
        let want = |name: &str, value: &str| {
            let found = fields.get(name);
            if found == value { Ok(()) } else { Err(format!("{name} {found:?} for {value:?}")) }
        };
        want("realm", self.realm)?;
        want("opaque", OPAQUE)?;
        want("uri", &seen.head.target)?;
        want("qop", "auth")?;
        want("algorithm", self.algorithm.unwrap_or_default())?;
        let count = fields.get("nc");
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if count.len() != 8 || !count.bytes().all(lower_hex) || fields.count() == 0 {
            return Err(format!("nc {count:?}"));
        }
        if nonce.counts.contains(&fields.count()) {
            return Err(format!("nc {count} a second time"));
        }
        let session = self.algorithm.is_some_and(|name| name.eq_ignore_ascii_case("MD5-sess"));
        if session && !nonce.client.is_empty() {
            want("cnonce", &nonce.client)?;
        }
        let user = fields.get("username");
        let account = self.accounts.iter().find(|(name, _)| name == user);
        let (_, password) = account.ok_or_else(|| format!("no account {user:?}"))?;
        // Quoted pairs are opened before they are hashed.
        let realm = self.realm.replace('\\', "");
        let mut a1 = hex(&[user, &realm, password]);
        if session {
            a1 = hex(&[&a1, fields.get("nonce"), fields.get("cnonce")]);
        }
        let a2 = hex(&[seen.method(), fields.get("uri")]);
        let parts = [&a1, fields.get("nonce"), count, fields.get("cnonce"), "auth", &a2];
        want("response", &hex(&parts)).map_err(|_| "wrong password".to_owned())
    }
}

impl Door for DigestDoor {
    fn judge(&self, seen: &Seen, credentials: Option<&str>) -> Result<Passed, Vec<String>> {
        let mut record = lock(&self.record);
        let record = &mut *record;
        let Some(value) = credentials else {
            record.bare += 1;
            return Err(self.challenge(record, false));
        };
        let mut noted =
            Use { method: seen.method().into(), nonce: 0, count: 0, judged: Judged::Right };
        let answer = Answer::read(value);
        let Some(answer) = answer else {
            noted.judged = Judged::Wrong(format!("unreadable: {value}"));
            record.uses.push(noted);
            return Err(self.challenge(record, false));
        };
        let known = record.nonces.get(answer.get("nonce")).cloned();
        let nonce = known.clone().unwrap_or_default();
        (noted.nonce, noted.count) = (nonce.number, answer.count());
        let judged = match self.check(seen, &answer, &nonce) {
            Err(why) => Judged::Wrong(why),
            Ok(()) if known.is_none() || nonce.expired => Judged::Stale,
            Ok(()) if nonce.counts.len() >= self.lifetime => Judged::Stale,
            Ok(()) => Judged::Right,
        };
        record.uses.push(Use { judged: judged.clone(), ..noted });
        match judged {
            Judged::Wrong(_) => Err(self.challenge(record, false)),
            Judged::Stale => Err(self.challenge(record, true)),
            Judged::Right => {
                let mut next = None;
                if let Some(nonce) = record.nonces.get_mut(answer.get("nonce")) {
                    nonce.counts.push(answer.count());
                    nonce.client = answer.get("cnonce").into();
                    nonce.expired = self.next_after.is_some_and(|uses| nonce.counts.len() >= uses);
                    next = nonce.expired.then(|| self.issue(record));
                }
                let info = next.map(|next| format!("qop=auth, nextnonce=\"{next}\""));
                Ok(Passed { info, ..Passed::default() })
            }
        }
    }
}

/// The parameters of an answer: name, value as it stood there, and whether in quotes.
struct Answer(BTreeMap<String, (String, bool)>);

impl Answer {
    /// `Digest name=token, name="quoted"`, each name once.
    fn read(value: &str) -> Option<Self> {
        let mut rest = value.strip_prefix("Digest ")?.trim_start();
        let mut found = BTreeMap::new();
        loop {
            let (name, after) = rest.split_once('=')?;
            let (value, quoted, after) = match after.strip_prefix('"') {
                Some(text) => {
                    let end = closing_quote(text)?;
                    (&text[..end], true, &text[end + 1..])
                }
                None => {
                    let end = after.find(',').unwrap_or(after.len());
                    (&after[..end], false, &after[end..])
                }
            };
            if found.insert(name.to_owned(), (value.to_owned(), quoted)).is_some() {
                return None;
            }
            match after.strip_prefix(',') {
                Some(more) => rest = more.trim_start(),
                None => return after.is_empty().then_some(Self(found)),
            }
        }
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |(value, _)| value)
    }

    fn count(&self) -> u32 {
        u32::from_str_radix(self.get("nc"), 16).unwrap_or(0)
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// H() of the parts with colons between them, as it goes into another H().
fn hex(parts: &[&str]) -> String {
    md5(&[parts.join(":").as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect()
}
