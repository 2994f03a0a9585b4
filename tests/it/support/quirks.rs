//! What real parents do to their clients, one habit each.

use super::gate::Rules;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// `Connection: close` with the bare 407, and then it does.
    CloseAfterBare,
    /// Closes after the bare 407 without a word.
    DropAfterBare,
    /// Closes, announced, after a refused AUTHENTICATE.
    CloseAfterRefused,
    /// The Proxy-Authenticate lines of a bare 407, e.g. `Negotiate`, `NTLM`, `Basic realm="x"`;
    /// default `NTLM`. Where Basic is among them it is accepted, too.
    Offer(Vec<String>),
    /// Bytes in the body of each 407; default 20.
    RefusalBody(usize),
    /// 407 bodies come chunked.
    RefusalChunked,
    /// 407 speaks HTTP/1.0 and asks for keep-alive.
    RefusalHttp10,
    /// The 407 comes before the body is read, of which no more than this many bytes then are, for
    /// ever (Squid: about 64 KiB). With `u64::MAX` all of it is read in the end. Without this quirk
    /// the body comes first, the 407 after.
    StopReading(u64),
    /// Closes silently after this many requests served on a connection.
    CloseAfter(usize),
    /// The nth request on an authenticated connection (after the AUTHENTICATE) gets a bare 407.
    ForgetOn(usize),
    /// A request that passes is answered with this status after this many bytes of a longer body,
    /// and no more is read; `close`: with `Connection: close` and the end of the stream.
    EarlyAnswer { status: u16, after: u64, close: bool },
    /// Nobody is let in.
    RefuseAll,
    /// This CHALLENGE message, whole or broken, instead of one of its own; if readable, the answer
    /// is held against it.
    ChallengeBytes(Vec<u8>),
    /// This text where the base64 of a CHALLENGE message would be.
    ChallengeToken(String),
    /// CONNECT is answered so. A 2xx opens the tunnel all the same: a text then only makes a
    /// Content-Length that lies.
    ConnectAnswer(u16, String),
    /// Waits for the first bytes of the far side and sends them in one piece with the 200.
    EagerTunnel,
    /// Closes without any answer when this request arrives on an authenticated connection (the nth,
    /// as above).
    HangUpOn(usize),
}

/// The quirks of one parent, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub close_after_bare: bool,
    pub drop_after_bare: bool,
    pub close_after_refused: bool,
    pub refusal_body: Option<usize>,
    pub refusal_chunked: bool,
    pub refusal_http10: bool,
    pub stop_reading: Option<u64>,
    pub close_after: Option<usize>,
    pub forget_on: Option<usize>,
    pub hang_up_on: Option<usize>,
    pub early: Option<(u16, u64, bool)>,
    pub connect: Option<(u16, String)>,
    pub eager: bool,
}

impl Plan {
    pub fn add(&mut self, quirk: Quirk, rules: &mut Rules) {
        match quirk {
            Quirk::CloseAfterBare => self.close_after_bare = true,
            Quirk::DropAfterBare => self.drop_after_bare = true,
            Quirk::CloseAfterRefused => self.close_after_refused = true,
            Quirk::Offer(lines) => rules.offers = lines,
            Quirk::RefusalBody(size) => self.refusal_body = Some(size),
            Quirk::RefusalChunked => self.refusal_chunked = true,
            Quirk::RefusalHttp10 => self.refusal_http10 = true,
            Quirk::StopReading(after) => self.stop_reading = Some(after),
            Quirk::CloseAfter(count) => self.close_after = Some(count),
            Quirk::ForgetOn(nth) => self.forget_on = Some(nth),
            Quirk::HangUpOn(nth) => self.hang_up_on = Some(nth),
            Quirk::EarlyAnswer { status, after, close } => {
                self.early = Some((status, after, close));
            }
            Quirk::RefuseAll => rules.refuse_all = true,
            Quirk::ChallengeToken(token) => rules.token = Some(token),
            Quirk::ChallengeBytes(bytes) => rules.token = Some(super::gate::base64(&bytes)),
            Quirk::ConnectAnswer(status, body) => self.connect = Some((status, body)),
            Quirk::EagerTunnel => self.eager = true,
        }
    }
}
