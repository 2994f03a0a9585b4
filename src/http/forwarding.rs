//! What changes in a head on its way through a proxy (RFC 9110 section 7.6, RFC 9112 sections 3.2
//! and 9.3).

use super::framing::{self, BodyFraming};
use super::head::{FieldLines, RequestHead, ResponseHead, Version};
use super::names::{self, FieldName, Names};
use super::request::max_forwards;
use super::target::RequestTarget;

/// Fields that belong to one connection (RFC 9110 section 7.6.1), and those of a dance that ends
/// here. Transfer-Encoding is not among them: bodies are forwarded in the coding they came in.
const HOP_BY_HOP: Names = Names::of(&[
    names::CONNECTION,
    names::PROXY_CONNECTION,
    names::KEEP_ALIVE,
    names::TE,
    names::UPGRADE,
    names::PROXY_AUTHORIZATION,
    names::PROXY_AUTHENTICATE,
    names::PROXY_AUTHENTICATION_INFO,
    names::HTTP2_SETTINGS,
]);

/// Fields no connection option may remove: they are for everybody, and without them the message
/// would be another one. So would it without those that begin with `Content-` or `If-`.
const NEVER_REMOVED: Names = Names::of(&[
    names::HOST,
    names::TRANSFER_ENCODING,
    names::AUTHORIZATION,
    names::WWW_AUTHENTICATE,
    names::COOKIE,
    names::SET_COOKIE,
    names::CACHE_CONTROL,
    names::EXPECT,
    names::MAX_FORWARDS,
    names::RANGE,
    names::LOCATION,
]);
const NEVER_REMOVED_BEGIN: [&str; 2] = ["Content-", "If-"];

fn is_end_to_end(name: FieldName<'_>) -> bool {
    let begins = |start: &&str| {
        let beginning = name.as_str().get(..start.len());
        beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(start))
    };
    NEVER_REMOVED.has(name) || NEVER_REMOVED_BEGIN.iter().any(begins)
}

/// Removes hop-by-hop fields, those that Connection names included.
pub fn remove_hop_by_hop(fields: &mut FieldLines) {
    if fields.contains(names::CONNECTION) {
        let named = fields.all(names::CONNECTION).collect::<Vec<_>>().join(&b',');
        fields.remove_where(|name| {
            let mut options = named.split(|b| *b == b',').map(<[u8]>::trim_ascii);
            let is_option = |option: &[u8]| option.eq_ignore_ascii_case(name.as_str().as_bytes());
            options.any(is_option) && !is_end_to_end(name)
        });
    }
    fields.remove_all(HOP_BY_HOP);
}

/// The protocols that a request offers to switch to (RFC 9110 section 7.8). Not behind a body,
/// which would still be under way; and never HTTP/2: what a server then hears is other requests
/// than those that pass here (RFC 9113 section 3.1 does away with it as well).
fn wanted_upgrade(head: &RequestHead, framing: BodyFraming) -> Option<Vec<u8>> {
    let fields = &head.fields;
    let asks = head.version == Version::Http11
        && head.method != "CONNECT"
        && framing.is_empty()
        && fields.has_member(names::CONNECTION, "upgrade")
        && !fields.has_member(names::UPGRADE, "h2c");
    fields.first(names::UPGRADE).filter(|value| asks && !value.is_empty()).map(<[u8]>::to_vec)
}

/// A field line that every request shall have, or (without a value) shall not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldReplacement {
    /// Field name.
    pub name: String,
    /// The value; `None` removes the field.
    pub value: Option<String>,
}

/// Makes a request head ready to go on. `to_origin` chooses the form of its target: origin-form to
/// the origin itself, absolute-form to a parent; CONNECT keeps its authority.
pub fn prepare_request(
    head: &mut RequestHead,
    target: &RequestTarget,
    to_origin: bool,
    framing: BodyFraming,
    replacements: &[FieldReplacement],
) {
    let upgrade = wanted_upgrade(head, framing);
    remove_hop_by_hop(&mut head.fields);
    push_upgrade(&mut head.fields, upgrade);
    if let Some(left) = max_forwards(head) {
        head.fields.set(names::MAX_FORWARDS, left.saturating_sub(1).to_string().as_bytes());
    }
    for FieldReplacement { name, value } in replacements {
        match value {
            Some(value) => head.fields.set(FieldName::new(name), value.as_bytes()),
            None => head.fields.remove(FieldName::new(name)),
        }
    }
    // However it was spelt: one line, one value.
    match framing {
        BodyFraming::Length(_) => unify_content_length(&mut head.fields),
        BodyFraming::Chunked => head.fields.set(names::TRANSFER_ENCODING, b"chunked"),
        BodyFraming::None | BodyFraming::UntilClose => {}
    }
    let form = target.encode(to_origin);
    if head.target != form {
        head.target = form.into_owned();
    }
    // Host follows the target whatever the client wrote into it (RFC 9112 section 3.2.2).
    if let Some(host) = target.host_field() {
        if head.fields.contains(names::HOST) {
            head.fields.set(names::HOST, host.as_bytes());
        } else {
            head.fields.push_front(names::HOST, host.as_bytes());
        }
    }
}

/// The same request without its body and the promise of one, for a leg of a handshake whose answer
/// can only be a challenge. `asks`: as an OPTIONS, which has no effect wherever it gets
/// (RFC 9110 section 9.2.1).
#[must_use]
pub fn without_body(head: &RequestHead, framing: BodyFraming, asks: bool) -> RequestHead {
    let mut head = head.clone();
    head.fields.remove(names::EXPECT);
    // Of Connection, nothing else is left here.
    head.fields.remove(names::CONNECTION);
    head.fields.remove(names::UPGRADE);
    if framing != BodyFraming::None {
        head.fields.remove(names::TRANSFER_ENCODING);
        head.fields.remove(names::TRAILER);
        head.fields.set(names::CONTENT_LENGTH, b"0");
    }
    if asks {
        head.method = "OPTIONS".into();
        head.fields.remove(names::CONTENT_LENGTH);
        head.fields.remove(names::CONTENT_TYPE);
        // It would mean something now: Squid answers a 0 by itself, and asks for no login.
        head.fields.remove(names::MAX_FORWARDS);
    }
    head
}

/// Whether the sender of a message with these fields keeps its connection open afterwards
/// (RFC 9112 section 9.3). Proxy-Connection counts as well: old clients and parents mean it.
pub fn persists(version: Version, fields: &FieldLines) -> bool {
    let option = |name: &str| {
        fields.has_member(names::CONNECTION, name)
            || fields.has_member(names::PROXY_CONNECTION, name)
    };
    match version {
        Version::Http11 => !option("close"),
        Version::Http10 => option("keep-alive") && !option("close"),
    }
}

/// How a response goes on to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponsePlan {
    /// The client's connection stays open afterwards.
    pub persists: bool,
    /// The chunked coding has to be taken off: an HTTP/1.0 client does not know it.
    pub decode: bool,
}

/// Makes a response head ready for the client.
pub fn prepare_response(
    head: &mut ResponseHead,
    framing: BodyFraming,
    client: Version,
    client_persists: bool,
) -> ResponsePlan {
    remove_hop_by_hop(&mut head.fields);
    let decode = framing == BodyFraming::Chunked && client == Version::Http10;
    let delimited = !decode && framing != BodyFraming::UntilClose;
    if head.status == 204 {
        remove_framing(&mut head.fields);
    } else if head.fields.contains(names::TRANSFER_ENCODING) {
        // It overrides Content-Length; passing on both would invite another reading.
        head.fields.remove(names::CONTENT_LENGTH);
        if framing == BodyFraming::Chunked {
            head.fields.set(names::TRANSFER_ENCODING, b"chunked");
        }
    } else {
        unify_content_length(&mut head.fields);
    }
    if client == Version::Http10 && framing != BodyFraming::UntilClose {
        head.fields.remove(names::TRANSFER_ENCODING);
        head.fields.remove(names::TRAILER);
    }
    let persists = client_persists && delimited;
    if !persists {
        head.fields.push(names::CONNECTION, b"close");
    } else if client == Version::Http10 {
        head.fields.push(names::CONNECTION, b"keep-alive");
    }
    ResponsePlan { persists, decode }
}

/// However the length was spelt, from here on it is one line with one number.
fn unify_content_length(fields: &mut FieldLines) {
    let digits = |rest: &[u8]| rest.iter().all(u8::is_ascii_digit);
    let is_plain = |value: &[u8]| matches!(value, [b'1'..=b'9', rest @ ..] if digits(rest));
    if fields.all(names::CONTENT_LENGTH).enumerate().all(|(at, value)| at == 0 && is_plain(value)) {
        return;
    }
    if let Ok(Some(length)) = framing::content_length(fields) {
        fields.set(names::CONTENT_LENGTH, length.to_string().as_bytes());
    }
}

fn remove_framing(fields: &mut FieldLines) {
    fields.remove(names::CONTENT_LENGTH);
    fields.remove(names::TRANSFER_ENCODING);
}

/// Makes ready what no body can follow: an interim response; and the 2xx to a CONNECT or the 101,
/// behind which a tunnel begins, so that nothing may speak of closing either (RFC 9110 section
/// 9.3.6; Jetty's client obeys a `Connection: close` here).
pub fn prepare_bodyless(head: &mut ResponseHead) {
    let upgrade =
        head.fields.first(names::UPGRADE).filter(|_| head.status == 101).map(<[u8]>::to_vec);
    remove_hop_by_hop(&mut head.fields);
    remove_framing(&mut head.fields);
    push_upgrade(&mut head.fields, upgrade);
}

fn push_upgrade(fields: &mut FieldLines, protocols: Option<Vec<u8>>) {
    if let Some(protocols) = protocols {
        fields.push(names::CONNECTION, b"Upgrade");
        fields.push(names::UPGRADE, &protocols);
    }
}

/// Whether a 101 switches to what `request` asked for (RFC 9110 section 7.8).
pub fn is_wanted_upgrade(head: &ResponseHead, request: &FieldLines) -> bool {
    let protocol = head.fields.first(names::UPGRADE).map(std::str::from_utf8);
    matches!(protocol, Some(Ok(protocol)) if request.has_member(names::UPGRADE, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_on(wire: &str, to_origin: bool) -> String {
        let mut head = RequestHead::parse(wire.as_bytes()).unwrap();
        let target = RequestTarget::parse(&head.method, &head.target).unwrap();
        let framing = BodyFraming::of_request(&head).unwrap();
        let replacements = [
            FieldReplacement { name: "User-Agent".into(), value: Some("ours".into()) },
            FieldReplacement { name: "X-Gone".into(), value: None },
        ];
        prepare_request(&mut head, &target, to_origin, framing, &replacements);
        let mut out = Vec::new();
        head.encode(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hop_by_hop_fields_go_and_the_rest_keeps_its_place() {
        let wire = "POST http://User:pw@Example.test:80/p?q#f HTTP/1.0\r\nUser-Agent: x\r\n\
            Proxy-Connection: keep-alive\r\nConnection: X-Mine, close, Content-Length, host\r\n\
            x-mine: 1\r\nTE: trailers\r\nProxy-Authorization: Basic xx\r\nX-Gone: 1\r\n\
            Host: other\r\nContent-Length: 5\r\nContent-Length: 5\r\nAccept: a\r\n\r\n";
        assert_eq!(
            sent_on(wire, false),
            "POST http://Example.test:80/p?q HTTP/1.1\r\nUser-Agent: ours\r\n\
             Host: Example.test:80\r\nContent-Length: 5\r\nAccept: a\r\n\r\n"
        );
        assert!(sent_on(wire, true).starts_with("POST /p?q HTTP/1.1\r\n"));
    }

    #[test]
    fn targets_take_the_form_of_the_next_hop() {
        for (method, target, to_parent, to_origin, host) in [
            ("GET", "http://a.test", "http://a.test/", "/", "a.test"),
            ("GET", "HTTP://A.test?q", "HTTP://A.test/?q", "/?q", "A.test"),
            ("OPTIONS", "http://a.test", "http://a.test", "*", "a.test"),
            ("GET", "http://[::1]:8/x", "http://[::1]:8/x", "/x", "[::1]:8"),
            ("CONNECT", "a.test:443", "a.test:443", "a.test:443", "a.test:443"),
        ] {
            for (to_origin, expected) in [(false, to_parent), (true, to_origin)] {
                let sent = sent_on(&format!("{method} {target} HTTP/1.1\r\n\r\n"), to_origin);
                assert_eq!(
                    sent,
                    format!(
                        "{method} {expected} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ours\r\n\r\n"
                    )
                );
            }
        }
    }

    #[test]
    fn the_unanswered_leg_promises_nothing() {
        let head = RequestHead::parse(
            b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .unwrap();
        for (asks, leg) in [
            (false, "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
            (true, "OPTIONS / HTTP/1.1\r\n\r\n"),
        ] {
            let mut out = Vec::new();
            without_body(&head, BodyFraming::Chunked, asks).encode(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), leg);
        }
    }

    #[test]
    fn an_old_client_gets_chunks_decoded_and_a_close() {
        let wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n";
        for (client, decode, persists, fields) in [
            (Version::Http10, true, false, "Connection: close\r\n"),
            (Version::Http11, false, true, "Transfer-Encoding: chunked\r\n"),
        ] {
            let mut head = ResponseHead::parse(wire).unwrap();
            let plan = prepare_response(&mut head, BodyFraming::Chunked, client, true);
            assert_eq!(plan, ResponsePlan { persists, decode });
            let mut out = Vec::new();
            head.encode(&mut out);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text, format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
        }
    }

    #[test]
    fn who_keeps_the_connection() {
        for (version, fields, expected) in [
            (Version::Http11, "", true),
            (Version::Http11, "Connection: x, Close\r\n", false),
            (Version::Http11, "Proxy-Connection: close\r\n", false),
            (Version::Http10, "", false),
            (Version::Http10, "Connection: Keep-Alive\r\n", true),
            (Version::Http10, "Proxy-Connection: keep-alive\r\n", true),
        ] {
            let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
            let head = RequestHead::parse(head.as_bytes()).unwrap();
            assert_eq!(persists(version, &head.fields), expected, "{version} {fields:?}");
        }
    }
}
