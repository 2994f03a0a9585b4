//! What `AUTH_DEBUG` and `BIN_DEBUG` show, and what no log shows.

use crate::logs::{Logging, TO_FILE, cfg, dumped};
use crate::proxy::{ALICE, LOGIN, NOBODY};
use crate::support::doors;
use crate::support::spnego_gate::{TokenDoor, Unwanted};
use crate::support::{Client, Origin, Parent};

/// What a token of the parent's record holds of responses: LM, NT, and the MIC.
fn responses(message: &[u8]) -> Vec<&[u8]> {
    let field = |at: usize| {
        let number = |at: usize| usize::from(message[at]) | usize::from(message[at + 1]) << 8;
        &message[number(at + 4)..number(at + 4) + number(at)]
    };
    vec![field(12), &field(20)[..16], &field(20)[32..40], &message[72..88]]
}

#[test]
fn auth_debug_explains_the_handshake_and_hides_what_the_password_made() {
    let wrapped = TokenDoor::new("Negotiate", ALICE).wrapped_only(Unwanted::Offer).open();
    let at_wrapped = doors::parent(&wrapped);
    let origin = Origin::start();
    let parent = Parent::ntlm(ALICE).origin(origin.addr()).start();
    for (at, spnego) in [(parent.addr(), false), (at_wrapped.addr(), true)] {
        let general = format!("{TO_FILE}PARENT_PROXY: {at}");
        let logging = Logging::start(&cfg(&general, LOGIN, "AUTH_DEBUG: 1"));
        assert_eq!(logging.get("/hello"), 200);
        let (log, _) = logging.stop();
        for line in [
            "> NEGOTIATE_MESSAGE: 40 bytes",
            ">   NTLMSSP_NEGOTIATE_UNICODE",
            "< CHALLENGE_MESSAGE: ",
            "< TargetName: CORP",
            "< ServerChallenge: 8 bytes, hidden",
            "<   MsvAvNbDomainName: CORP",
            "<   MsvAvTimestamp: 20",
            "> AUTHENTICATE_MESSAGE: ",
            "> DomainName: CORP",
            "> UserName: alice",
            ">   NTProofStr: 16 bytes, hidden",
            ">   RespType, HiRespType: 1, 1",
            ">   TimeStamp: 20",
            "> EncryptedRandomSessionKey: none",
            "> Version: 10.0 build 19041, NTLMRevisionCurrent 15",
            "> MIC: 16 bytes, hidden",
        ] {
            assert!(log.contains(&format!(" {line}")), "{line}\n{log}");
        }
        assert_eq!(log.contains("> SPNEGO token: "), spnego, "{log}");
    }
}

fn decode(token: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(token).expect("base64")
}

/// At the loudest of all keys together: not in text, not in base64, not in hexadecimal.
#[test]
fn no_response_is_in_any_log() {
    let origin = Origin::start();
    let parent = Parent::ntlm(ALICE).origin(origin.addr()).start();
    let all = "DEBUG: 1\nAUTH_DEBUG: 1\nBIN_DEBUG: 1\nSCR_DEBUG: 1";
    let general = format!("{TO_FILE}PARENT_PROXY: {}", parent.addr());
    let logging = Logging::start(&cfg(&general, LOGIN, all));
    let fields = [
        ("Cookie", "sid=Cookie-s3cret"),
        ("Authorization", "Bearer Bearer-s3cret"),
        ("Referer", "http://u:Referer-s3cret@a.test/?Query-s3cret"),
    ];
    let mut client = Client::connect(logging.address());
    let target = "http://u:Url-s3cret@example.test/echo?Query-s3cret";
    let response = client.request("POST", target, &fields, b"a body to be seen");
    assert_eq!(response.bytes(), b"a body to be seen");
    client.tunnel("a.test:443");
    assert_eq!(client.get("/Tunnel-s3cret").status(), 404);
    drop(client);
    let log = logging.wait_for("tunnel closed: ");
    let bytes = dumped(&log);
    for seen in [
        "POST http://************@example.test/echo?*",
        "a body to be seen",
        "Cookie: ***",
        "NTLM ****",
    ] {
        assert!(bytes.contains(seen), "{seen}\n{bytes}");
    }
    let hops = parent.hops();
    let values = hops.iter().filter_map(|hop| hop.fields().get("Proxy-Authorization"));
    let tokens: Vec<_> = values.filter_map(|value| value.strip_prefix("NTLM ")).collect();
    assert!(tokens.len() >= 2, "{tokens:?}");
    let said = (log + &bytes).to_lowercase();
    for token in tokens {
        assert!(!said.contains(&token.to_lowercase()), "{token}\n{said}");
        let message = decode(token);
        if message[8] == 3 {
            for response in responses(&message) {
                let hex: String = response.iter().map(|byte| format!("{byte:02x}")).collect();
                let spaced: String = response.iter().map(|byte| format!("{byte:02x} ")).collect();
                let encoded = crate::support::gate::base64(response).to_lowercase();
                for text in [hex, spaced, encoded.trim_end_matches('=').to_owned()] {
                    let zeros = response.iter().all(|byte| *byte == 0);
                    assert!(zeros || !said.contains(text.trim_end()), "{text}\n{said}");
                }
            }
        }
    }
    assert!(!said.contains("s3cret") && !said.contains("secret-123"), "{said}");
}

/// A name and a password that come by SOCKS5 stand in none of the bytes either.
#[test]
fn a_socks_dialogue_is_shown_without_its_password() {
    let origin = Origin::start();
    let general = format!("{TO_FILE}SOCKS5_PORT: 0\nSOCKS5_USERS: joe:Socks-s3cret");
    let logging = Logging::start(&cfg(&general, NOBODY, "BIN_DEBUG: 1"));
    let log = logging.wait_for(" started as process ");
    let door = log.trim_end().rsplit(' ').next().and_then(|door| door.parse().ok());
    let mut client = Client::connect(door.expect("an address"));
    client.send(b"\x05\x01\x02");
    assert_eq!(client.read_exact(2), b"\x05\x02");
    client.send(b"\x01\x03joe\x0cSocks-s3cret");
    assert_eq!(client.read_exact(2), b"\x01\x00");
    let port = origin.addr().port().to_be_bytes();
    client.send([&b"\x05\x01\x00\x01\x7f\x00\x00\x01"[..], &port].concat());
    assert_eq!(client.read_exact(10)[..2], *b"\x05\x00");
    let bytes = dumped(&logging.log());
    assert!(bytes.contains("\x01\x03****") && bytes.contains("\x05\x01\x00\x01\x7f"), "{bytes:?}");
    assert!(!bytes.contains("joe") && !bytes.contains("s3cret"), "{bytes:?}");
}
