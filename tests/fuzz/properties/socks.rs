//! What a SOCKS5 client says before its tunnel opens.

use ntlmaps::auth::credentials::Secret;
use ntlmaps::http::target::Authority;
use ntlmaps::socks::{Admission, Dialogue, Step};

use super::cuts;

/// How a dialogue went.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// All that was said to the client.
    said: Vec<u8>,
    /// Where it wants to go, and how many of its bytes belong to the tunnel.
    connect: Option<(Authority, usize)>,
    refused: bool,
    account: Option<(String, Secret)>,
}

fn converse<'a>(admission: Admission<'_>, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let (mut dialogue, mut outcome) = (Dialogue::new(admission), Outcome::default());
    let (mut waiting, mut answers, mut over) = (Vec::new(), 0, false);
    for piece in pieces {
        waiting.extend_from_slice(piece);
        while !over {
            match dialogue.next(&waiting) {
                Step::Wait => break,
                Step::Answer(taken, answer) => {
                    assert!(taken > 0);
                    waiting.drain(..taken);
                    outcome.said.extend(answer);
                    answers += 1;
                    assert!(answers <= 2, "no end");
                }
                Step::Connect(taken, authority) => {
                    waiting.drain(..taken);
                    outcome.connect = Some((authority, 0));
                    over = true;
                }
                Step::Refuse(answer) => {
                    outcome.said.extend(answer);
                    outcome.refused = true;
                    over = true;
                }
            }
        }
    }
    if let Some((_, rest)) = &mut outcome.connect {
        *rest = waiting.len();
    }
    outcome.account = dialogue.account();
    outcome
}

/// The same comes out wherever the bytes are cut on their way, it is a place to go to, and nobody
/// gets there who did not say who they are.
pub fn socks(data: &[u8]) {
    let users = [("u".to_owned(), Secret::new("p"))];
    let has = |words: &[u8]| data.windows(words.len()).any(|window| window == words);
    for admission in [Admission::Anybody, Admission::Users(&users), Admission::Account] {
        let whole = converse(admission, [data]);
        for cut in cuts(data.len()) {
            let (first, second) = data.split_at(cut);
            assert_eq!(converse(admission, [first, second]), whole, "cut at {cut}");
        }
        assert_eq!(converse(admission, data.chunks(1)), whole, "byte by byte");

        let asked = !matches!(admission, Admission::Anybody);
        assert_eq!(whole.said.first().copied().unwrap_or(5), 5);
        if let Some((authority, rest)) = &whole.connect {
            assert!(!whole.refused && *rest < data.len());
            let expected: &[u8] = if asked { &[5, 2, 1, 0] } else { &[5, 0] };
            assert_eq!(whole.said, expected);
            assert_eq!(Authority::parse(&authority.to_string(), None).as_ref(), Ok(authority));
            assert!(authority.host.bytes().all(|byte| byte > b' ' && byte != 0x7f));
        }
        let through = whole.connect.is_some();
        match admission {
            Admission::Anybody => assert!(whole.account.is_none()),
            Admission::Users(_) => assert!(!through || has(b"\x01\x01u\x01p")),
            Admission::Account => {
                assert!(
                    !through || whole.account.as_ref().is_some_and(|(user, _)| !user.is_empty())
                );
            }
        }
    }
}
