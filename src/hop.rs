//! The next hop of a request, as it is spoken of.

use std::fmt;

use crate::auth::Side;
use crate::http::target::Authority;

/// Who gets a request next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopName {
    /// Where it is.
    pub authority: Authority,
    /// Whether it is a parent, else an origin.
    pub is_parent: bool,
}

impl HopName {
    /// Where a login to it is demanded.
    pub fn side(&self) -> Side {
        if self.is_parent { Side::Proxy } else { Side::Origin }
    }
}

impl fmt::Display for HopName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.is_parent { "parent proxy" } else { "server" };
        write!(f, "{role} {}", self.authority)
    }
}
