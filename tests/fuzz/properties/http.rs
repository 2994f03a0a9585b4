//! Heads, targets and bodies.

use ntlmaps::http::body::BodyScanner;
use ntlmaps::http::ends::find_end;
use ntlmaps::http::forwarding::{
    FieldReplacement, persists, prepare_bodyless, prepare_request, prepare_response, without_body,
};
use ntlmaps::http::framing::BodyFraming;
use ntlmaps::http::head::{FieldLines, RequestHead, ResponseHead, Version};
use ntlmaps::http::names::{self, FieldName};
use ntlmaps::http::redaction::redact;
use ntlmaps::http::request;
use ntlmaps::http::target::{Authority, RequestTarget, printable, without_userinfo};

use super::{cuts, is_one_line, is_token};

/// The head at the beginning of `data`. Where reading it was interrupted makes no difference.
fn head_of(data: &[u8]) -> Option<&[u8]> {
    let end = find_end(data, 0);
    for cut in cuts(data.len()) {
        match find_end(&data[..cut], 0) {
            None => assert_eq!(find_end(data, cut), end, "cut at {cut}"),
            early => assert_eq!(early, end, "cut at {cut}"),
        }
    }
    Some(&data[..end?])
}

type Fields = Vec<(String, Vec<u8>)>;

fn all(fields: &FieldLines) -> Fields {
    fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec())).collect()
}

fn check_fields(fields: &FieldLines) {
    for (name, value) in fields.iter() {
        assert!(is_token(name.as_bytes()), "{name:?}");
        assert!(is_one_line(value), "{name}: {value:?}");
    }
}

/// One head and nothing else: every line ends in CR LF, and the only blank one is the last.
fn check_wire(wire: &[u8]) {
    assert_eq!(find_end(wire, 0), Some(wire.len()));
    let text = wire.strip_suffix(b"\r\n\r\n").expect("a blank line at the end");
    let bare = text.iter().filter(|byte| **byte == b'\r' || **byte == b'\n').count();
    let pairs = text.windows(2).filter(|pair| pair == b"\r\n").count();
    assert_eq!(bare, 2 * pairs);
}

/// What ends at a proxy, be it for the connection's sake or for the login's.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "upgrade",
    "http2-settings",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-authentication-info",
];

/// The fields that have to arrive as they are: neither hop-by-hop, nor named by the Connection of
/// the head that came, nor what the proxy itself writes.
fn end_to_end(fields: &FieldLines, came: &FieldLines, ours: &[&str]) -> Fields {
    let mut kept = all(fields);
    kept.retain(|(name, _)| {
        !HOP_BY_HOP.contains(&name.as_str())
            && !ours.contains(&name.as_str())
            && !came.has_member(names::CONNECTION, name)
    });
    kept
}

/// All that a head says: the order of lines of different names says nothing.
fn meaning(head: &RequestHead) -> (&str, &str, Fields) {
    let mut fields = all(&head.fields);
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    (&head.method, &head.target, fields)
}

fn request_wire(head: &RequestHead) -> RequestHead {
    let mut wire = Vec::new();
    head.encode(&mut wire);
    check_wire(&wire);
    let again = RequestHead::parse(&wire).expect("what is sent can be read");
    check_fields(&again.fields);
    again
}

/// What is sent on says the same as what came, to everybody, and says it once.
pub fn request_head(data: &[u8]) {
    assert_eq!(redact(data).len(), data.len());
    let Some(head) = head_of(data).and_then(|head| RequestHead::parse(head).ok()) else { return };
    check_fields(&head.fields);
    assert!(is_token(head.method.as_bytes()));
    assert!(head.target.bytes().all(|byte| byte > b' ' && byte != 0x7f), "{:?}", head.target);
    let Ok((target, framing)) = request::check(&head) else { return };
    let Ok(recipient) = request::recipient(&head, &target) else { return };
    let replacements = [
        FieldReplacement { name: "User-Agent".into(), value: Some("ours".into()) },
        FieldReplacement { name: "X-Gone".into(), value: None },
    ];
    // Max-Forwards counts down where the method says so; transfer codings may be spelt anew.
    let counts = ["OPTIONS", "TRACE"].contains(&&*head.method);
    let counter = if counts { "max-forwards" } else { "x-gone" };
    let ours = ["host", "content-length", "transfer-encoding", "user-agent", "x-gone", counter];
    for to_origin in [false, true] {
        let prepare = |head: &RequestHead, target: &RequestTarget| {
            let mut head = head.clone();
            prepare_request(&mut head, target, to_origin, framing, &replacements);
            head
        };
        let sent = prepare(&head, &target);
        let again = request_wire(&sent);
        assert_eq!(again.method, head.method);
        assert_eq!(again.version, Version::Http11);
        let (_, again_framing) = request::check(&again).expect("the next one finds nothing amiss");
        assert_eq!(again_framing, framing);
        let lengths = again.fields.all(names::CONTENT_LENGTH).count();
        let codings = usize::from(again.fields.contains(names::TRANSFER_ENCODING));
        assert_eq!(lengths + codings, usize::from(framing != BodyFraming::None));
        // An offer to switch protocols may go on, as an offer of the proxy's own.
        let offers = head.fields.has_member(names::CONNECTION, "upgrade");
        let upgrade = offers && again.fields.contains(names::UPGRADE);
        let connection: &[&[u8]] = if upgrade { &[b"Upgrade"] } else { &[] };
        assert_eq!(again.fields.all(names::CONNECTION).collect::<Vec<_>>(), connection);
        for (name, _) in all(&again.fields) {
            let ours = upgrade && ["connection", "upgrade"].contains(&name.as_str());
            assert!(ours || !HOP_BY_HOP.contains(&name.as_str()), "{name}");
        }
        assert_eq!(again.fields.all(FieldName::new("user-agent")).collect::<Vec<_>>(), [b"ours"]);
        assert!(!again.fields.contains(FieldName::new("x-gone")));
        assert_eq!(
            end_to_end(&again.fields, &head.fields, &ours),
            end_to_end(&head.fields, &head.fields, &ours),
        );
        let host = target.host_field().expect("a host");
        assert_eq!(again.fields.all(names::HOST).collect::<Vec<_>>(), [host.as_bytes()]);
        let aimed = RequestTarget::parse(&again.method, &again.target).expect("a target");
        match &target {
            RequestTarget::Absolute(_) if to_origin => {
                assert!(matches!(aimed, RequestTarget::Origin | RequestTarget::Asterisk));
            }
            _ => {
                assert_eq!(aimed.authority(), Some(recipient));
                let twice = request_wire(&prepare(&again, &aimed));
                let counted = counts && again.fields.contains(names::MAX_FORWARDS);
                assert!(
                    counted || meaning(&twice) == meaning(&again),
                    "a second proxy would send something else"
                );
            }
        }
        for asks in [false, true] {
            let bodyless = request_wire(&without_body(&sent, framing, asks));
            assert!(BodyFraming::of_request(&bodyless).is_ok_and(BodyFraming::is_empty));
            assert!(!bodyless.fields.contains(names::EXPECT));
            assert_eq!(bodyless.method, if asks { "OPTIONS" } else { &*head.method });
            assert_eq!(bodyless.target, again.target);
        }
    }
}

fn response_wire(head: &ResponseHead) -> ResponseHead {
    let mut wire = Vec::new();
    head.encode(&mut wire);
    check_wire(&wire);
    let again = ResponseHead::parse(&wire).expect("what is sent can be read");
    check_fields(&again.fields);
    assert_eq!((again.status, &again.reason), (head.status, &head.reason));
    again
}

/// The client finds the end of the body where the proxy does, and whether more can follow.
pub fn response_head(data: &[u8]) {
    let Some(head) = head_of(data).and_then(|head| ResponseHead::parse(head).ok()) else { return };
    check_fields(&head.fields);
    assert!(is_one_line(head.reason.as_bytes()), "{:?}", head.reason);
    let mut tunnel = head.clone();
    prepare_bodyless(&mut tunnel);
    let tunnel = response_wire(&tunnel);
    for name in [names::CONTENT_LENGTH, names::TRANSFER_ENCODING] {
        assert!(!tunnel.fields.contains(name), "{name:?}");
    }
    // Behind a 101 there is a tunnel too, to what it switches to.
    let mut options = tunnel.fields.all(names::CONNECTION);
    assert!(options.all(|value| tunnel.status == 101 && value == b"Upgrade"));
    let ours = ["connection", "content-length", "transfer-encoding", "trailer"];
    for (method, client, stays) in [
        ("GET", Version::Http11, true),
        ("GET", Version::Http11, false),
        ("GET", Version::Http10, true),
        ("GET", Version::Http10, false),
        ("HEAD", Version::Http11, true),
        ("CONNECT", Version::Http11, true),
        ("CONNECT", Version::Http10, false),
    ] {
        let Ok(framing) = BodyFraming::of_response(method, &head) else { return };
        let mut sent = head.clone();
        let plan = prepare_response(&mut sent, framing, client, stays);
        let again = response_wire(&sent);
        assert_eq!(plan.decode, framing == BodyFraming::Chunked && client == Version::Http10);
        let seen = if plan.decode { BodyFraming::UntilClose } else { framing };
        assert_eq!(BodyFraming::of_response(method, &again), Ok(seen));
        assert_eq!(plan.persists, stays && seen != BodyFraming::UntilClose);
        assert_eq!(persists(client, &again.fields), plan.persists);
        if framing != BodyFraming::None {
            let both = [names::CONTENT_LENGTH, names::TRANSFER_ENCODING];
            assert!(!both.iter().all(|name| again.fields.contains(*name)));
            assert!(again.fields.all(names::CONTENT_LENGTH).count() <= 1);
        }
        assert_eq!(
            end_to_end(&again.fields, &head.fields, &ours),
            end_to_end(&head.fields, &head.fields, &ours),
        );
    }
}

/// What goes on means whom the client meant, and the next proxy reads the same.
pub fn request_target(data: &[u8]) {
    // Through a head: what cannot stand in one is no target.
    let wire = [data, b" HTTP/1.1\r\n\r\n"].concat();
    let Some(head) = head_of(&wire).and_then(|head| RequestHead::parse(head).ok()) else { return };
    for shown in [printable(&head.target), without_userinfo(&head.target)] {
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
    let Ok(target) = RequestTarget::parse(&head.method, &head.target) else { return };
    let encoded = target.encode(false);
    let again = RequestTarget::parse(&head.method, &encoded).expect("what is sent can be read");
    assert_eq!(again, target);
    if let RequestTarget::Absolute(url) = &target {
        assert!(!encoded.contains('#'), "{encoded:?}");
        // Nothing is lost of a path, and a slash alone is added.
        let written = head.target.split('#').next().unwrap_or_default();
        assert!(written.ends_with(url.path().strip_prefix('/').unwrap_or_default()), "{encoded:?}");
        let host = target.host_field().expect("a URL has a host");
        assert!(!host.contains('@'), "{host:?}");
        // Userinfo goes on where the parent needs it, and into no log.
        let (scheme, rest) = encoded.split_once("://").expect("a URL has a scheme");
        let (userinfo, _) = rest.split_at(rest.len() - url.path().len() - host.len());
        let is_http = ["http", "https"].iter().any(|scheme| url.has_scheme(scheme));
        assert!(head.target.contains(userinfo) && (!is_http || userinfo.is_empty()), "{encoded:?}");
        assert_eq!(without_userinfo(&encoded), format!("{scheme}://{host}{}", url.path()));
        let default_port = match ["https", "ftp"].map(|scheme| url.has_scheme(scheme)) {
            [true, _] => 443,
            [_, true] => 21,
            _ => 80,
        };
        assert_eq!(Authority::parse(&host, Some(default_port)).as_ref(), Ok(url.authority()));
        let origin = target.encode(true);
        assert!(origin.starts_with('/') || origin == "*", "{origin:?}");
    }
    if let Some(authority) = target.authority() {
        let written = authority.to_string();
        assert_eq!(Authority::parse(&written, None).as_ref(), Ok(authority), "{written:?}");
    }
}

/// How a scanner took a body: the bytes that belong to it (`None`: it is malformed), their content,
/// whether it is complete, and whether it would be if the connection closed.
type Reading = (Option<usize>, Vec<u8>, bool, bool);

type Begin = fn(BodyFraming) -> BodyScanner;

fn read<'a>(
    begin: Begin,
    framing: BodyFraming,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Reading {
    let (mut scanner, mut counter) = (begin(framing), begin(framing));
    let (mut taken, mut content) = (0, Vec::new());
    for piece in pieces {
        let counted = counter.scan(piece);
        let decoded = scanner.decode(piece, &mut content);
        assert_eq!(counted, decoded);
        let Ok(length) = decoded else { return (None, content, false, false) };
        assert!(length <= piece.len());
        assert!(length == piece.len() || scanner.is_done());
        taken += length;
    }
    let done = scanner.is_done();
    (Some(taken), content, done, scanner.at_close().is_ok())
}

/// What a chunked body that is complete says, by another way to read it.
fn chunks(mut body: &[u8]) -> Vec<u8> {
    fn line<'a>(body: &mut &'a [u8]) -> &'a [u8] {
        let end = body.windows(2).position(|pair| pair == b"\r\n").expect("a line end");
        let (line, rest) = body.split_at(end);
        assert!(is_one_line(line));
        *body = &rest[2..];
        line
    }
    let mut content = Vec::new();
    loop {
        let size = line(&mut body);
        let digits = size.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        assert!(matches!(size.get(digits), None | Some(b';' | b' ' | b'\t')));
        let digits = std::str::from_utf8(&size[..digits]).expect("digits");
        let size = usize::from_str_radix(digits, 16).expect("a size");
        if size == 0 {
            break;
        }
        content.extend_from_slice(&body[..size]);
        body = &body[size..];
        assert!(line(&mut body).is_empty());
    }
    while !line(&mut body).is_empty() {}
    assert!(body.is_empty());
    content
}

/// The end of a body is where it is, wherever the bytes are cut on their way; and who takes chunks
/// to the letter sees no other end than who does not.
pub fn body_framing(data: &[u8]) {
    let length = |length: usize| BodyFraming::Length(length as u64);
    for framing in [
        BodyFraming::Chunked,
        BodyFraming::None,
        BodyFraming::UntilClose,
        length(data.len() / 2),
        length(data.len() + 1),
    ] {
        let lenient = check_cuts(BodyScanner::new, framing, data);
        let strict = check_cuts(BodyScanner::strict, framing, data);
        assert!(strict.0.is_none() || strict == lenient, "{framing:?}");
    }
    let mut body = Vec::new();
    for chunk in data.chunks(usize::from(data.first().copied().unwrap_or_default()) + 1) {
        body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let next = [&body, &b"GET"[..]].concat();
    let expected = (Some(body.len()), data.to_vec(), true, true);
    assert_eq!(read(BodyScanner::strict, BodyFraming::Chunked, [next.as_slice()]), expected);
}

fn check_cuts(begin: Begin, framing: BodyFraming, data: &[u8]) -> Reading {
    let whole = read(begin, framing, [data]);
    for cut in cuts(data.len()) {
        let (first, second) = data.split_at(cut);
        assert_eq!(read(begin, framing, [first, second]), whole, "{framing:?} cut at {cut}");
    }
    assert_eq!(read(begin, framing, data.chunks(1)), whole, "{framing:?} byte by byte");
    if let (BodyFraming::Chunked, (Some(taken), content, true, _)) = (framing, &whole) {
        assert_eq!(chunks(&data[..*taken]), *content);
    }
    whole
}
