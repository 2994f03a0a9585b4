//! SOCKS5 (RFC 1928) with user names and passwords (RFC 1929), the server's side of what is said
//! before the bytes flow: bytes of the client in, bytes for it out. Of the commands there is
//! CONNECT alone. Knows no socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::auth::credentials::Secret;
use crate::http::target::Authority;

/// REP of a reply (RFC 1928 section 6).
pub mod rep {
    /// The way is open.
    pub const SUCCEEDED: u8 = 0;
    /// None of the others.
    pub const GENERAL_FAILURE: u8 = 1;
    /// Somebody forbids it.
    pub const NOT_ALLOWED: u8 = 2;
    /// No way leads there.
    pub const NETWORK_UNREACHABLE: u8 = 3;
    /// It has no address, or does not answer.
    pub const HOST_UNREACHABLE: u8 = 4;
    /// Nobody listens there.
    pub const CONNECTION_REFUSED: u8 = 5;
    /// BIND, UDP ASSOCIATE, or none.
    pub const COMMAND_NOT_SUPPORTED: u8 = 7;
    /// Neither a name nor an address.
    pub const ADDRESS_TYPE_NOT_SUPPORTED: u8 = 8;
}

const VERSION: u8 = 5;
/// METHOD (RFC 1928 section 3).
const NO_AUTHENTICATION: u8 = 0;
const USERNAME_PASSWORD: u8 = 2;
const NO_ACCEPTABLE_METHOD: u8 = 0xff;
/// The version of the subnegotiation (RFC 1929 section 2).
const PASSWORD_VERSION: u8 = 1;
const CONNECT: u8 = 1;
/// ATYP (RFC 1928 section 5).
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Who may come in.
#[derive(Clone, Copy)]
pub enum Admission<'a> {
    /// Nobody is asked.
    Anybody,
    /// These users with these passwords.
    Users(&'a [(String, Secret)]),
    /// Whoever brings an account; it is for the parent to judge.
    Account,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Read on: no message is complete.
    Wait,
    /// So many bytes are dealt with; say this, then go on.
    Answer(usize, [u8; 2]),
    /// So many bytes are dealt with; the client wants to go there.
    Connect(usize, Authority),
    /// Say this and close.
    Refuse(Vec<u8>),
}

/// What was said with one client.
pub struct Dialogue<'a> {
    admission: Admission<'a>,
    expects: Message,
    account: Option<(String, Secret)>,
}

#[derive(Clone, Copy)]
enum Message {
    Methods,
    Password,
    Request,
}

impl<'a> Dialogue<'a> {
    /// Nothing was said.
    pub fn new(admission: Admission<'a>) -> Self {
        Self { admission, expects: Message::Methods, account: None }
    }

    /// The account the client brought, where [`Admission::Account`] asks for one.
    pub fn account(self) -> Option<(String, Secret)> {
        self.account
    }

    /// Looks at the bytes that have come and were not dealt with.
    pub fn next(&mut self, bytes: &[u8]) -> Step {
        let step = match self.expects {
            Message::Methods => self.methods(bytes),
            Message::Password => self.password(bytes),
            Message::Request => request(bytes),
        };
        step.unwrap_or(Step::Wait)
    }

    /// `VER NMETHODS METHODS`; `None` as long as they are not complete.
    fn methods(&mut self, bytes: &[u8]) -> Option<Step> {
        let (version, rest) = bytes.split_first()?;
        if *version != VERSION {
            return Some(Step::Refuse(Vec::new()));
        }
        let (offered, taken) = counted(rest)?;
        let (wanted, then) = match self.admission {
            Admission::Anybody => (NO_AUTHENTICATION, Message::Request),
            Admission::Users(_) | Admission::Account => (USERNAME_PASSWORD, Message::Password),
        };
        if !offered.contains(&wanted) {
            return Some(Step::Refuse(vec![VERSION, NO_ACCEPTABLE_METHOD]));
        }
        self.expects = then;
        Some(Step::Answer(taken.saturating_add(1), [VERSION, wanted]))
    }

    /// `VER ULEN UNAME PLEN PASSWD`.
    fn password(&mut self, bytes: &[u8]) -> Option<Step> {
        let refused = || Some(Step::Refuse(vec![PASSWORD_VERSION, 1]));
        let (version, rest) = bytes.split_first()?;
        if *version != PASSWORD_VERSION {
            return refused();
        }
        let (user, user_taken) = counted(rest)?;
        let (password, taken) = counted(rest.get(user_taken..)?)?;
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        let (Some(user), Some(password)) = (text(user), text(password).map(Secret::new)) else {
            return refused();
        };
        match self.admission {
            Admission::Users(known) if !known.iter().any(|k| k.0 == user && k.1 == password) => {
                return refused();
            }
            Admission::Account if user.is_empty() => return refused(),
            Admission::Account => self.account = Some((user, password)),
            Admission::Anybody | Admission::Users(_) => {}
        }
        self.expects = Message::Request;
        let taken = user_taken.saturating_add(taken).saturating_add(1);
        Some(Step::Answer(taken, [PASSWORD_VERSION, 0]))
    }
}

/// Bytes behind a byte that counts them, and how many that makes together.
fn counted(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (count, rest) = bytes.split_first()?;
    let count = usize::from(*count);
    Some((rest.get(..count)?, count.saturating_add(1)))
}

/// `VER CMD RSV ATYP DST.ADDR DST.PORT`.
fn request(bytes: &[u8]) -> Option<Step> {
    let refused = |rep| Some(Step::Refuse(reply(rep, None)));
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    let [version, command, _, address_type] = *head;
    if version != VERSION {
        return refused(rep::GENERAL_FAILURE);
    }
    if command != CONNECT {
        return refused(rep::COMMAND_NOT_SUPPORTED);
    }
    let (host, taken) = match address_type {
        IPV4 => (Ipv4Addr::from(*rest.first_chunk()?).to_string(), 4),
        IPV6 => (Ipv6Addr::from(*rest.first_chunk()?).to_string(), 16),
        NAME => {
            let (name, taken) = counted(rest)?;
            // What is no text is no host either.
            (std::str::from_utf8(name).unwrap_or_default().to_owned(), taken)
        }
        _ => return refused(rep::ADDRESS_TYPE_NOT_SUPPORTED),
    };
    let port = u16::from_be_bytes(*rest.get(taken..)?.first_chunk()?);
    let colons =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    match Authority::parse(&colons, None) {
        Ok(authority) => Some(Step::Connect(taken.saturating_add(6), authority)),
        Err(_) => refused(rep::GENERAL_FAILURE),
    }
}

/// `VER REP RSV ATYP BND.ADDR BND.PORT`; `bound` is this machine's end of the new connection,
/// where it is known.
pub fn reply(rep: u8, bound: Option<SocketAddr>) -> Vec<u8> {
    let bound = bound.unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into());
    let mut reply = vec![VERSION, rep, 0];
    match bound.ip() {
        IpAddr::V4(address) => {
            reply.push(IPV4);
            reply.extend(address.octets());
        }
        IpAddr::V6(address) => {
            reply.push(IPV6);
            reply.extend(address.octets());
        }
    }
    reply.extend(bound.port().to_be_bytes());
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_greeting(admission: Admission<'_>) -> Dialogue<'_> {
        let mut dialogue = Dialogue::new(admission);
        assert!(matches!(dialogue.next(&[5, 2, 0, 2]), Step::Answer(4, _)));
        dialogue
    }

    #[test]
    fn the_method_follows_who_may_come() {
        let users = [("jane".to_owned(), Secret::new("pw"))];
        for (admission, greeting, expected) in [
            (Admission::Anybody, &[5, 1, 0][..], Step::Answer(3, [5, 0])),
            (Admission::Anybody, &[5, 1, 0, 9], Step::Answer(3, [5, 0])),
            (Admission::Anybody, &[5, 1, 2], Step::Refuse(vec![5, 0xff])),
            (Admission::Users(&users), &[5, 2, 0, 2], Step::Answer(4, [5, 2])),
            (Admission::Account, &[5, 1, 0], Step::Refuse(vec![5, 0xff])),
            (Admission::Anybody, &[5, 0], Step::Refuse(vec![5, 0xff])),
            (Admission::Anybody, &[4, 1, 0], Step::Refuse(vec![])),
            (Admission::Anybody, b"GET", Step::Refuse(vec![])),
            (Admission::Anybody, &[], Step::Wait),
            (Admission::Anybody, &[5], Step::Wait),
            (Admission::Anybody, &[5, 2, 0], Step::Wait),
        ] {
            assert_eq!(Dialogue::new(admission).next(greeting), expected, "{greeting:?}");
        }
    }

    #[test]
    fn only_the_right_password_opens() {
        let users = [("jane".to_owned(), Secret::new("pw")), ("joe".to_owned(), Secret::new("x"))];
        let message = |user: &str, password: &str| {
            let count = |text: &str| u8::try_from(text.len()).unwrap();
            [&[1, count(user)], user.as_bytes(), &[count(password)], password.as_bytes()].concat()
        };
        for (user, password, opens) in [
            ("jane", "pw", true),
            ("joe", "x", true),
            ("jane", "x", false),
            ("jane", "", false),
            ("", "", false),
            ("Jane", "pw", false),
        ] {
            let mut dialogue = after_greeting(Admission::Users(&users));
            let message = message(user, password);
            for cut in 0..message.len() {
                assert_eq!(dialogue.next(&message[..cut]), Step::Wait);
            }
            let expected = match opens {
                true => Step::Answer(message.len(), [1, 0]),
                false => Step::Refuse(vec![1, 1]),
            };
            assert_eq!(dialogue.next(&message), expected, "{user}:{password}");
        }
        let mut dialogue = after_greeting(Admission::Account);
        assert!(matches!(dialogue.next(&message("CORP\\al", "s")), Step::Answer(..)));
        assert_eq!(dialogue.account(), Some(("CORP\\al".to_owned(), Secret::new("s"))));
        for bad in [&[2, 1, b'a', 1, b'b'][..], &[1, 1, 0xff, 1, b'b'], &[1, 0, 0]] {
            let step = after_greeting(Admission::Account).next(bad);
            assert_eq!(step, Step::Refuse(vec![1, 1]), "{bad:?}");
        }
    }

    #[test]
    fn requests_name_a_place() {
        let refused = |rep| Step::Refuse(vec![5, rep, 0, 1, 0, 0, 0, 0, 0, 0]);
        let connect = |taken, text| Step::Connect(taken, Authority::parse(text, None).unwrap());
        let v6 = [&[5, 1, 0, 4][..], &[0; 15], &[1, 1, 187]].concat();
        for (bytes, expected) in [
            (&b"\x05\x01\x00\x03\x06A.test\x00\x50ahead"[..], connect(13, "a.test:80")),
            (&[5, 1, 0, 1, 192, 0, 2, 1, 1, 187], connect(10, "192.0.2.1:443")),
            (&v6, connect(22, "[::1]:443")),
            (b"\x05\x01\x00\x03\x03::1\x00\x50", connect(10, "[::1]:80")),
            (b"\x05\x02\x00\x03\x06a.test\x00\x50", refused(rep::COMMAND_NOT_SUPPORTED)),
            (&[5, 3, 0, 1], refused(rep::COMMAND_NOT_SUPPORTED)),
            (&[5, 1, 0, 2], refused(rep::ADDRESS_TYPE_NOT_SUPPORTED)),
            (&[4, 1, 0, 1], refused(rep::GENERAL_FAILURE)),
            (b"\x05\x01\x00\x03\x00\x00\x50", refused(rep::GENERAL_FAILURE)),
            (b"\x05\x01\x00\x03\x06a.test\x00\x00", refused(rep::GENERAL_FAILURE)),
            (b"\x05\x01\x00\x03\x06a\r\ntes\x00\x50", refused(rep::GENERAL_FAILURE)),
            (b"\x05\x01\x00\x03\x06a.te\xff\xff\x00\x50", refused(rep::GENERAL_FAILURE)),
            (b"\x05\x01\x00\x03\x03a:1\x00\x50", refused(rep::GENERAL_FAILURE)),
        ] {
            let step = after_greeting(Admission::Anybody).next(bytes);
            assert_eq!(step, expected, "{bytes:?}");
        }
        for cut in 0..v6.len() {
            assert_eq!(after_greeting(Admission::Anybody).next(&v6[..cut]), Step::Wait);
        }
    }

    #[test]
    fn the_reply_tells_this_end_where_it_is_known() {
        let v6: SocketAddr = "[::1]:258".parse().unwrap();
        assert_eq!(reply(0, Some(v6)), [&[5, 0, 0, 4][..], &[0; 15], &[1, 1, 2]].concat());
        assert_eq!(reply(1, None), [5, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
}
