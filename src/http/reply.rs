//! Responses that originate here: a status and a sentence that says what happened and what to do.

use super::head::{RequestHead, Version};

/// A response of our own. Every one has a short text body: nobody gets an empty reply.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    fields: Vec<(&'static str, String)>,
    text: String,
    /// What the text is, where it is a file and not a sentence.
    content_type: Option<&'static str>,
}

impl Reply {
    /// `text` is a sentence or several; line ends and a heading are added.
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        Self { status, fields: Vec::new(), text: text.into(), content_type: None }
    }

    /// A 200 with a file of ours in it.
    pub fn file(content_type: &'static str, text: String) -> Self {
        Self { content_type: Some(content_type), ..Self::new(200, text) }
    }

    /// Adds a field line; the caller gives no text of strangers.
    #[must_use]
    pub fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The sentence for the log.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The message on the wire. `request` is what it answers, where one could be read;
    /// `persists` tells whether the client may send another.
    pub fn encode(&self, request: Option<&RequestHead>, persists: bool) -> Vec<u8> {
        let reason = reason(self.status);
        let page;
        let body = match self.content_type {
            Some(_) => &self.text,
            None => {
                let text = printable(&self.text);
                page = format!("ntlmaps: {} {reason}\n\n{text}\n", self.status);
                &page
            }
        };
        let mut out = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        for (name, value) in &self.fields {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        let content_type = self.content_type.unwrap_or("text/plain; charset=utf-8");
        out.push_str(&format!("Content-Type: {content_type}\r\nCache-Control: no-store\r\n"));
        out.push_str(&format!("Content-Length: {}\r\n", body.len()));
        out.push_str(match (persists, request.map(|head| head.version)) {
            (false, _) | (true, None) => "Connection: close\r\n",
            (true, Some(Version::Http10)) => "Connection: keep-alive\r\n",
            (true, Some(Version::Http11)) => "",
        });
        out.push_str("\r\n");
        if request.is_none_or(|head| head.method != "HEAD") {
            out.push_str(body);
        }
        out.into_bytes()
    }
}

/// Control characters out of a name that a stranger sent do not belong on a page.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        407 => "Proxy Authentication Required",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        414 => "URI Too Long",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_request_gets_the_length_and_no_body() {
        let head = RequestHead::parse(b"HEAD http://a/ HTTP/1.0\r\n\r\n").unwrap();
        let reply = Reply::new(502, "The parent \u{7}\r\nis away.").field("X-A", "b");
        let whole = String::from_utf8(reply.encode(None, true)).unwrap();
        let (top, body) = whole.split_once("\r\n\r\n").unwrap();
        assert!(top.ends_with("Connection: close") && top.contains("\r\nX-A: b\r\n"));
        assert!(top.contains(&format!("Content-Length: {}\r\n", body.len())), "{whole}");
        assert_eq!(body, "ntlmaps: 502 Bad Gateway\n\nThe parent ??\nis away.\n");
        let short = String::from_utf8(reply.encode(Some(&head), true)).unwrap();
        assert!(short.ends_with("Connection: keep-alive\r\n\r\n"), "{short}");
    }
}
