//! RFC 9110 and 9112 on byte slices. Knows no sockets, decides no policy, depends on nothing of
//! ours.

pub mod body;
pub mod challenge;
pub mod chunked;
pub mod ends;
pub mod fields;
pub mod forwarding;
pub mod framing;
pub mod head;
pub mod names;
pub mod redaction;
pub mod reply;
pub mod request;
pub mod target;
