//! A request as it goes on, and who gets it. Knows nothing of what has been said so far.

use std::sync::Arc;

use crate::auth::credentials::Credentials;
use crate::config::Reach;
use crate::hop::HopName;
use crate::http::head::RequestHead;
use crate::parents::Parent;
use crate::pool::Private;

/// Who answers a request.
#[derive(Clone, Copy)]
pub enum NextHop<'a> {
    /// A parent.
    Parent(&'a Parent),
    /// The origin itself.
    Origin(&'a HopName),
}

/// A request as it goes on.
pub struct Outgoing<'a> {
    /// Its head, prepared for the next hop.
    pub head: &'a RequestHead,
    /// As whom a login is answered.
    pub account: Option<&'a Arc<Credentials>>,
    /// The connection is for this client alone.
    pub private: Option<&'a Private>,
    /// Where this client may be led without a parent.
    pub reach: Reach,
}
