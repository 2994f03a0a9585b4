//! One connection of the parent: what each request on it gets.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::forward;
use super::gate::{Gate, Verdict};
use super::hops::Leg;
use super::http::{Body, Framing, RequestHead, ResponseHead, chunk, pattern, reason, response};
use super::listener::Live;
use super::parent::{Phase, Shared};
use super::quirks::Plan;
use super::wire::{KEEP, Wire};

/// What follows an answer.
enum Next {
    Request,
    Close,
}

/// One connection of a parent.
pub struct Connection<'a> {
    shared: &'a Shared,
    number: usize,
    wire: Wire,
    live: &'a Arc<Live>,
    gate: Option<Gate<'a>>,
    /// Requests answered with something else than a demand for credentials.
    served: usize,
    /// Requests that came once it was authenticated.
    trusted: usize,
}

impl<'a> Connection<'a> {
    pub fn new(shared: &'a Shared, number: usize, wire: Wire, live: &'a Arc<Live>) -> Self {
        let gate = shared.rules.as_ref().map(Gate::new);
        Self { shared, number, wire, live, gate, served: 0, trusted: 0 }
    }

    pub fn serve(mut self) {
        if let Err(error) = self.requests()
            && error.kind() == ErrorKind::InvalidData
        {
            // In a body as in a head: said, recorded, and the end of the connection.
            self.shared.hops.fault(self.number, &error);
            let text = error.to_string();
            if self.wire.write(&response(400, &[("Connection", "close")], text.as_bytes())).is_ok()
            {
                self.wire.linger();
            }
        }
    }

    fn requests(&mut self) -> io::Result<()> {
        loop {
            self.shared.phase(self.number, Phase::Idle);
            self.wire.deadline(self.shared.patience.1)?;
            let Some(head) = self.wire.read_request()? else { return Ok(()) };
            self.shared.phase(self.number, Phase::Reading);
            self.wire.deadline(self.shared.patience.0)?;
            if let Next::Close = self.request(&head)? {
                return Ok(());
            }
        }
    }

    fn request(&mut self, head: &RequestHead) -> io::Result<Next> {
        let plan = &self.shared.plan;
        let mut verdict = match &mut self.gate {
            Some(gate) => gate.judge(head),
            None => Verdict::Pass(Leg::Open),
        };
        if let Verdict::Pass(Leg::Authenticated) = verdict {
            self.trusted += 1;
            if plan.forget_on == Some(self.trusted) {
                let offers = self.gate.as_mut().map(Gate::forget).unwrap_or_default();
                verdict = Verdict::Refuse(Leg::Authenticated, offers);
            }
        }
        let (leg, refusal) = match verdict {
            Verdict::Pass(leg) => (leg, None),
            Verdict::Refuse(leg, lines) => (leg, Some(lines)),
        };
        let trusted = leg == Leg::Authenticated;
        let hop = self.shared.hops.begin(self.number, head.clone(), leg.clone());
        if trusted && plan.hang_up_on == Some(self.trusted) {
            return Ok(Next::Close);
        }
        let next = match refusal {
            Some(lines) => self.refuse(hop, head, &leg, &lines)?,
            None => {
                self.served += 1;
                self.pass(hop, head)?
            }
        };
        let enough = plan.close_after.is_some_and(|count| self.served >= count);
        Ok(if enough { Next::Close } else { next })
    }

    /// Records the status, then lets the answer out.
    fn answering(&self, hop: usize, status: u16, phase: Phase) {
        let hop = self.shared.hops.answered(hop, status);
        if let Some(watch) = &self.shared.watch {
            watch(&hop);
        }
        self.shared.phase(self.number, phase);
    }

    /// Reads the body and keeps the record; `false` if it is longer than the limit and was left
    /// there.
    fn drain(&mut self, hop: usize, framing: Framing, limit: u64) -> io::Result<bool> {
        let mut body = Body::default();
        let (mut total, mut over) = (0, false);
        let read = self.wire.copy_body(framing, KEEP, &mut body, |piece| {
            total += piece.len() as u64;
            over = total > limit;
            if over { Err(io::Error::other("enough of this body")) } else { Ok(()) }
        });
        self.shared.hops.body(hop, body);
        if over { Ok(false) } else { read.map(|()| true) }
    }

    /// Holds the connection without reading from it, as one does who has forgotten it.
    fn hold(&self) -> Next {
        self.shared.phase(self.number, Phase::Reading);
        self.live.wait_for_stop(self.shared.patience.1);
        Next::Close
    }

    fn refuse(
        &mut self,
        hop: usize,
        head: &RequestHead,
        leg: &Leg,
        lines: &[String],
    ) -> io::Result<Next> {
        let plan = &self.shared.plan;
        let framing = head.framing()?;
        let bodied = !matches!(framing, Framing::None | Framing::Length(0));
        // Nobody can know whether a body follows that was to wait for a 100.
        let waits = bodied && head.expects_continue();
        let bare = *leg == Leg::Bare;
        let denied = matches!(leg, Leg::Authenticate(Err(_)));
        let announced = bare && plan.close_after_bare || denied && plan.close_after_refused;
        let close = announced || waits || !head.persists();
        if !waits && plan.stop_reading.is_none() {
            self.drain(hop, framing, u64::MAX)?;
        }
        self.answering(hop, 407, Phase::Answering);
        self.wire.write(&refusal(plan, head, lines, close))?;
        if waits {
            self.wire.linger();
        } else if bodied && let Some(limit) = plan.stop_reading {
            self.shared.phase(self.number, Phase::Reading);
            if !self.drain(hop, framing, limit)? {
                return Ok(self.hold());
            }
        }
        Ok(if close || bare && plan.drop_after_bare { Next::Close } else { Next::Request })
    }

    fn pass(&mut self, hop: usize, head: &RequestHead) -> io::Result<Next> {
        let framing = head.framing()?;
        if head.method == "CONNECT" {
            self.drain(hop, framing, u64::MAX)?;
            return self.connect(hop, head);
        }
        if let Some((status, after, close)) = self.shared.plan.early
            && (framing == Framing::Chunked
                || matches!(framing, Framing::Length(length) if length > after))
        {
            self.drain(hop, framing, after)?;
            self.answering(hop, status, Phase::Answering);
            let lines =
                self.gate.as_mut().filter(|_| status == 407).map(Gate::forget).unwrap_or_default();
            let mut fields: Vec<_> =
                lines.iter().map(|line| ("Proxy-Authenticate", line.as_str())).collect();
            if close {
                fields.push(("Connection", "close"));
            }
            self.wire.write(&response(status, &fields, b"enough of this body\n"))?;
            if close {
                self.wire.finish()?;
            }
            return Ok(self.hold());
        }
        self.forward(hop, head, framing)
    }

    /// An answer of the parent's own.
    fn reply(
        &mut self,
        hop: usize,
        head: &RequestHead,
        status: u16,
        text: &str,
    ) -> io::Result<Next> {
        self.answering(hop, status, Phase::Answering);
        let persistence = persistence(head, !head.persists());
        let mut bytes = response(status, &persistence, text.as_bytes());
        bytes.truncate(bytes.len() - if head.method == "HEAD" { text.len() } else { 0 });
        self.wire.write(&bytes)?;
        Ok(if head.persists() { Next::Request } else { Next::Close })
    }

    fn forward(&mut self, hop: usize, head: &RequestHead, framing: Framing) -> io::Result<Next> {
        let Some((host, port, path)) = forward::absolute(&head.target) else {
            self.drain(hop, framing, u64::MAX)?;
            return self.reply(hop, head, 400, "a proxy wants the absolute form\n");
        };
        let mut far = match forward::dial(host, port, self.shared.origin, self.shared.patience.0) {
            Ok(far) => far,
            Err(error) => {
                self.drain(hop, framing, u64::MAX)?;
                return self.reply(hop, head, 502, &format!("{host}: {error}\n"));
            }
        };
        let _held = self.live.hold(far.stream());
        far.write(&forward::request_head(head, &path))?;
        let (answer, unread) = self.send_body(hop, head, framing, &mut far)?;
        let framed = match answer {
            Some(answer) => Ok(answer),
            None => self.final_head(head, &mut far),
        };
        let framed = framed.and_then(|answer| Ok((answer.framing(&head.method)?, answer)));
        let next = match framed {
            Ok((framing, answer)) => {
                self.send_back(hop, head, &answer, framing, unread, &mut far)?
            }
            Err(error) => self.reply(hop, head, 502, &format!("{host}: {error}\n"))?,
        };
        if unread {
            self.wire.linger();
            return Ok(Next::Close);
        }
        Ok(next)
    }

    /// A final answer that came before the body was wanted, and whether some of the body was left
    /// unread.
    fn send_body(
        &mut self,
        hop: usize,
        head: &RequestHead,
        framing: Framing,
        far: &mut Wire,
    ) -> io::Result<(Option<ResponseHead>, bool)> {
        if head.expects_continue() && framing != Framing::None {
            loop {
                let answer = far.read_response().map_err(io::Error::other)?;
                if !answer.is_interim() {
                    return Ok((Some(answer), true));
                }
                self.wire.write(&answer.raw)?;
                if answer.status == 100 {
                    break;
                }
            }
        }
        let (mut body, mut far_gone) = (Body::default(), false);
        let copied = self.wire.copy_body(framing, KEEP, &mut body, |piece| {
            forward::put(far, framing, piece).inspect_err(|_| far_gone = true)
        });
        if framing == Framing::Chunked && copied.is_ok() {
            far_gone = far.write(&forward::last_chunk(&body)).is_err();
        }
        self.shared.hops.body(hop, body);
        if far_gone { Ok((None, copied.is_err())) } else { copied.map(|()| (None, false)) }
    }

    /// Passes interim responses on until the final one.
    fn final_head(&mut self, head: &RequestHead, far: &mut Wire) -> io::Result<ResponseHead> {
        loop {
            let answer = far.read_response()?;
            if !answer.is_interim() {
                return Ok(answer);
            }
            if head.version == "HTTP/1.1" {
                self.wire.write(&answer.raw)?;
            }
        }
    }

    fn send_back(
        &mut self,
        hop: usize,
        head: &RequestHead,
        answer: &ResponseHead,
        from: Framing,
        unread: bool,
        far: &mut Wire,
    ) -> io::Result<Next> {
        // A client of HTTP/1.0 knows no chunks.
        let old = head.version == "HTTP/1.0";
        let to = if from == Framing::Chunked && old { Framing::UntilClose } else { from };
        let close = unread || to == Framing::UntilClose || !head.persists();
        self.answering(hop, answer.status, Phase::Answering);
        self.wire.write(&forward::response_head(answer, to, &persistence(head, close)))?;
        let mut body = Body::default();
        // What ends too early ends too early for the client as well.
        far.copy_body(from, 0, &mut body, |piece| forward::put(&mut self.wire, to, piece))
            .map_err(io::Error::other)?;
        if to == Framing::Chunked {
            self.wire.write(&forward::last_chunk(&body))?;
        }
        Ok(if close { Next::Close } else { Next::Request })
    }

    fn connect(&mut self, hop: usize, head: &RequestHead) -> io::Result<Next> {
        let (status, text) = self.shared.plan.connect.clone().unwrap_or((200, String::new()));
        if !(200..300).contains(&status) {
            return self.reply(hop, head, status, &text);
        }
        let Some((host, port)) = forward::authority(&head.target, None) else {
            return self.reply(hop, head, 400, "CONNECT wants host and port\n");
        };
        let mut far = match forward::dial(host, port, self.shared.origin, self.shared.patience.0) {
            Ok(far) => far,
            Err(error) => return self.reply(hop, head, 502, &format!("{host}: {error}\n")),
        };
        let _held = self.live.hold(far.stream());
        let lie = if text.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", text.len())
        };
        let mut bytes =
            format!("HTTP/1.1 {status} Connection established\r\n{lie}\r\n").into_bytes();
        if self.shared.plan.eager {
            far.fill()?;
            bytes.extend(far.take_ahead());
        }
        self.answering(hop, status, Phase::Tunnel);
        self.wire.write(&bytes)?;
        forward::tunnel(&mut self.wire, &mut far, self.shared.patience.1)?;
        Ok(Next::Close)
    }
}

fn persistence(head: &RequestHead, close: bool) -> Vec<(&'static str, &'static str)> {
    match (close, head.version.as_str()) {
        (true, _) => vec![("Connection", "close")],
        (false, "HTTP/1.0") => {
            vec![("Connection", "keep-alive"), ("Proxy-Connection", "keep-alive")]
        }
        (false, _) => Vec::new(),
    }
}

/// The 407, in this parent's manner.
fn refusal(plan: &Plan, head: &RequestHead, lines: &[String], close: bool) -> Vec<u8> {
    let body = match plan.refusal_body {
        Some(size) => pattern(size),
        None => b"credentials, please\n".to_vec(),
    };
    let old = plan.refusal_http10;
    let chunked = plan.refusal_chunked && !old && head.version == "HTTP/1.1";
    let version = if old { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut out = format!("{version} 407 {}\r\n", reason(407));
    lines.iter().for_each(|line| out += &format!("Proxy-Authenticate: {line}\r\n"));
    let keep = [("Connection", "keep-alive"), ("Proxy-Connection", "keep-alive")];
    let fields = if old && !close { keep.to_vec() } else { persistence(head, close) };
    fields.iter().for_each(|(name, value)| out += &format!("{name}: {value}\r\n"));
    out += &match chunked {
        true => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
        false => format!("Content-Length: {}\r\n\r\n", body.len()),
    };
    let mut out = out.into_bytes();
    match (head.method.as_str(), chunked) {
        ("HEAD", _) => {}
        (_, false) => out.extend(body),
        (_, true) => {
            body.chunks(1000).for_each(|piece| out.extend(chunk(piece)));
            out.extend(b"0\r\n\r\n");
        }
    }
    out
}
