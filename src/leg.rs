//! One request of a handshake: what goes along of the client's, and what is added.

use crate::auth::Side;
use crate::dump;
use crate::http::forwarding;
use crate::http::framing::BodyFraming;
use crate::http::head::RequestHead;
use crate::http::target;

/// One request of a handshake.
pub struct Leg {
    /// The value of the credentials field.
    pub field: Option<String>,
    /// Whether the body goes along; without it, the answer can only be a challenge.
    pub with_body: bool,
    /// Without the body it is an OPTIONS: whoever wants no login passes it on, and an empty POST is
    /// another request than the client's.
    pub asks: bool,
    /// Whether it carries the credentials themselves.
    pub last: bool,
}

impl Leg {
    /// The request as it is.
    pub const PLAIN: Self = Self { field: None, with_body: true, asks: false, last: false };

    /// Tells the log that it goes out.
    pub fn tell(&self, request: &RequestHead) {
        let scheme = self.field.as_deref().and_then(|value| value.split(' ').next());
        let word = match scheme {
            None => "",
            Some(_) if self.last => " with the last word of ",
            Some(_) => " with the first word of ",
        };
        log::debug!(
            "sending {} {}{word}{}{}",
            if self.asks && !self.with_body { "OPTIONS" } else { &request.method },
            target::printable(&request.target),
            scheme.unwrap_or_default(),
            if self.with_body { "" } else { ", without its body" }
        );
    }

    /// Appends its head, made of that of `request`.
    pub fn encode(
        &self,
        request: &RequestHead,
        framing: BodyFraming,
        side: Side,
        wire: &mut Vec<u8>,
    ) {
        if self.with_body && self.field.is_none() {
            return request.encode(wire);
        }
        let mut head = if self.with_body {
            request.clone()
        } else {
            forwarding::without_body(request, framing, self.asks)
        };
        if let Some(value) = &self.field {
            head.fields.set(side.credentials_field(), value.as_bytes());
            dump::login(">", &head.fields, side.credentials_field());
        }
        head.encode(wire);
    }
}
