//! A client that can log on without knowing NTLM: it replays what a Windows 7 machine said, to a
//! parent that plays that machine's proxy.

use super::gate::{Rules, base64};
use super::vectors::{WIN7_AUTHENTICATE, WIN7_CHALLENGE, WIN7_NEGOTIATE, hex};
use super::{Acceptor, Builder, Client, Parent, Quirk};

const ACCOUNT: [(&str, &str, &str); 1] = [("WS2008R2", "Administrator", "P@ssw0rd")];

/// Strict: the replayed messages carry a MIC.
pub fn windows_parent() -> Builder {
    Parent::ntlm(&ACCOUNT).quirk(Quirk::ChallengeBytes(hex(WIN7_CHALLENGE)))
}

/// The same for an origin behind 401.
pub fn windows_rules() -> Rules {
    Rules { token: Some(base64(&hex(WIN7_CHALLENGE))), ..Rules::www(Acceptor::new(&ACCOUNT)) }
}

pub fn ntlm(message: &str) -> String {
    format!("NTLM {}", base64(&hex(message)))
}

/// Both legs on this connection; the status of the second.
pub fn log_on(client: &mut Client, method: &str, target: &str) -> u16 {
    both_legs(client, ["Proxy-Authorization", "Proxy-Authenticate"], method, target)
}

/// The same to an origin.
pub fn log_on_to_origin(client: &mut Client, method: &str, target: &str) -> u16 {
    both_legs(client, ["Authorization", "WWW-Authenticate"], method, target)
}

fn both_legs(client: &mut Client, fields: [&str; 2], method: &str, target: &str) -> u16 {
    let [answer, question] = fields;
    let first = client.request(method, target, &[(answer, &ntlm(WIN7_NEGOTIATE))], b"");
    assert_eq!(first.fields().get(question), Some(&ntlm(WIN7_CHALLENGE)[..]), "{first:?}");
    client.request(method, target, &[(answer, &ntlm(WIN7_AUTHENTICATE))], b"").status()
}
