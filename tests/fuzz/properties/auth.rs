//! Challenges and the answers to them, but for the NTLM messages in both.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ntlmaps::auth::credentials::Secret;
use ntlmaps::auth::digest::{self, DigestChallenge};
use ntlmaps::auth::spnego::{self, SpnegoError, Wrapping};
use ntlmaps::auth::{Handshake, Login, Scheme, Side, Verdict, basic};
use ntlmaps::http::challenge::Challenge;
use ntlmaps::http::head::{RequestHead, ResponseHead};
use ntlmaps::ntlm::{Client, Dialect, Keys, Moment};

use super::is_token;

const MOMENT: Moment = Moment { file_time: 1, client_challenge: [7; 8] };

/// A response that demands a login in these lines; `None` when they cannot stand in a head.
fn demand(side: Side, lines: &[&[u8]]) -> Option<ResponseHead> {
    let mut wire = format!("HTTP/1.1 {} X\r\n", side.status()).into_bytes();
    for line in lines {
        wire.extend_from_slice(side.challenge_field().as_str().as_bytes());
        wire.extend_from_slice(b": ");
        wire.extend_from_slice(line);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"\r\n");
    ResponseHead::parse(&wire).ok()
}

fn list(lines: &[&[u8]]) -> Option<Vec<Challenge>> {
    let head = demand(Side::Proxy, lines)?;
    Some(Challenge::list(&head.fields, Side::Proxy.challenge_field()))
}

/// A challenge as RFC 9110 writes it; `None` for one it has no form for.
fn written(challenge: &Challenge) -> Option<String> {
    let Challenge { scheme, token68, params } = challenge;
    let names = params.iter().all(|(name, _)| is_token(name.as_bytes()));
    if !is_token(scheme.as_bytes()) || !names {
        return None;
    }
    let quote = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"");
    let params: Vec<String> =
        params.iter().map(|(name, value)| format!("{name}=\"{}\"", quote(value))).collect();
    match token68 {
        None => Some(format!("{scheme} {}", params.join(", "))),
        Some(token) if params.is_empty() && is_token68(token) => Some(format!("{scheme} {token}")),
        Some(_) => None,
    }
}

fn is_token68(text: &str) -> bool {
    let word = text.trim_end_matches('=');
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}

/// Takes no more memory than the lines do, reads each line for itself, and reads what RFC 9110
/// would write for it as the same.
pub fn challenge_list(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let Some(all) = list(&lines) else { return };
    let apart: Vec<Challenge> = lines.iter().filter_map(|line| list(&[line])).flatten().collect();
    assert_eq!(all, apart);

    // An element is a parameter, or a scheme with one.
    let parts: usize = all.iter().map(|challenge| 1 + challenge.params.len()).sum();
    let commas = data.iter().filter(|byte| **byte == b',').count();
    assert!(parts <= 2 * (commas + lines.len()), "{parts} parts");
    let size = |challenge: &Challenge| {
        let params = challenge.params.iter();
        let params: usize = params.map(|(name, value)| name.capacity() + value.capacity()).sum();
        let token = challenge.token68.as_ref().map_or(0, String::capacity);
        challenge.scheme.capacity() + token + params
    };
    // What is no UTF-8 becomes U+FFFD, of three bytes.
    assert!(all.iter().map(size).sum::<usize>() <= 3 * data.len());

    for challenge in all {
        assert!(!challenge.scheme.is_empty());
        if let Some(line) = written(&challenge) {
            assert_eq!(list(&[line.as_bytes()]), Some(vec![challenge]), "{line:?}");
        }
    }
}

fn is_field_value(text: &str) -> bool {
    let control = |c: char| c.is_ascii_control() && c != '\t';
    !text.is_empty() && text.trim() == text && !text.contains(control)
}

/// Lets a server demand a login in these rounds, and the last one for ever: the answers are field
/// values, and they come to an end.
fn converse(side: Side, rounds: &[Vec<&[u8]>]) {
    let keys = Keys { lm: Some([1; 16]), nt: Some([2; 16]), ntlmv2: Some([3; 16]) };
    let request = RequestHead::parse(b"GET http://h/\"\\ HTTP/1.1\r\n\r\n").expect("a request");
    let schemes = Scheme::NAMES.map(|(_, scheme)| scheme);
    let client = Client {
        dialect: Dialect::Ntlmv2,
        domain: "CORP",
        user: "j\u{e4}ne \"\\",
        workstation: "PC",
        keys: &keys,
    };
    let password = Some(Secret::new("s3cret"));
    let login = Login { client, is_qualified: true, password, schemes: &schemes, moment: MOMENT };
    let mut handshake = Handshake::new(side, &request, Some(login));
    for said in 0.. {
        // Three carriers of two messages each, a nonce that turns stale twice, and Basic.
        assert!(said <= 3 * 2 + 3 + 1, "no end");
        let Some(lines) = rounds.get(said).or(rounds.last()) else { return };
        let Some(head) = demand(side, lines) else { return };
        match handshake.on_response(&head) {
            Verdict::Answer(reply) => {
                assert!(is_field_value(&reply.value), "{:?}", reply.value);
                assert!(Scheme::of(&reply.value).is_some(), "{:?}", reply.value);
            }
            Verdict::Relay => panic!("{} is relayed", side.status()),
            Verdict::Refused(_) => break,
        }
    }
    if let Some(mut standing) = handshake.into_standing() {
        assert!(is_field_value(&standing.answer(&request)));
    }
}

fn check_digest(challenge: &Challenge) {
    let Ok(asked) = DigestChallenge::of(challenge) else { return };
    let (user, cnonce) = ("j\u{e4}ne \"\\", [7; 8]);
    let value = digest::answer(&asked, user, &[3; 16], "GET", "http://h/\"\\", 1, cnonce);
    assert!(is_field_value(&value), "{value:?}");
    // Credentials have the form of a challenge (RFC 9110 section 11.4).
    let read = list(&[value.as_bytes()]).expect("a field value");
    let [read] = &read[..] else { panic!("{value:?} is not one") };
    let expected = [
        ("username", Some(user)),
        ("realm", Some(asked.realm.as_str())),
        ("nonce", Some(asked.nonce.as_str())),
        ("opaque", asked.opaque.as_deref()),
        ("qop", asked.qop_auth.then_some("auth")),
    ];
    for (name, value) in expected {
        assert_eq!(read.param(name), value, "{name}");
    }
}

fn check_spnego(data: &[u8]) {
    if let Ok((wrapping, message)) = spnego::unwrap(data) {
        assert!(message.starts_with(b"NTLMSSP\0") && message.len() <= data.len());
        let answer = spnego::wrap_like(data, message);
        assert_eq!(spnego::unwrap(&answer), Ok((wrapping, message)));
        if wrapping == Wrapping::Spnego {
            let cut = data.len() / 2;
            assert_eq!(spnego::unwrap(&data[..cut]), Err(SpnegoError::Malformed));
        }
    }
    let message = [b"NTLMSSP\0", data].concat();
    for token in [spnego::wrap_negotiate(&message), spnego::wrap_authenticate(&message)] {
        assert_eq!(spnego::unwrap(&token), Ok((Wrapping::Spnego, &message[..])));
    }
}

fn check_basic(data: &[u8]) {
    let exposed = |found: Option<(String, Secret)>| {
        found.map(|(user, password)| (user, password.expose().to_owned()))
    };
    let again = |user: &str, password: &str| {
        exposed(basic::decode(basic::encode(user, &Secret::new(password)).as_bytes()))
    };
    if let Some((user, password)) = exposed(basic::decode(data)) {
        assert!(!user.is_empty() && !user.contains(':'));
        assert_eq!(again(&user, &password), Some((user, password)));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Some((user, password)) = text.split_once(':')
    {
        let whole = !user.is_empty() && !text.contains('\0');
        let expected = whole.then(|| (user.to_owned(), password.to_owned()));
        assert_eq!(again(user, password), expected);
    }
}

/// Digest, SPNEGO and Basic say back what they were told, and no server keeps a client answering.
/// Blank lines part the rounds of a conversation.
pub fn auth(data: &[u8]) {
    check_basic(data);
    check_spnego(data);
    if let Some(nonce) = digest::next_nonce(data) {
        assert!(is_field_value(&format!("x{nonce}x")));
    }
    let mut rounds = vec![Vec::new()];
    for line in data.split(|byte| *byte == b'\n') {
        match rounds.last_mut() {
            Some(round) if !line.is_empty() => round.push(line),
            _ => rounds.push(Vec::new()),
        }
    }
    for challenge in rounds.iter().filter_map(|round| list(round)).flatten() {
        check_digest(&challenge);
    }
    let token = BASE64.encode(data);
    for side in [Side::Proxy, Side::Origin] {
        converse(side, &rounds);
        for scheme in ["NTLM", "Negotiate"] {
            let challenge = format!("{scheme} {token}");
            converse(side, &[vec![scheme.as_bytes()], vec![challenge.as_bytes()]]);
        }
    }
}
