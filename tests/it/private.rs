//! Clients that log in to an origin by themselves.

use crate::proxy::Proxy;
use crate::support::Origin;
use crate::support::replay::{log_on_to_origin, windows_rules};

/// NTLM binds a login to a connection: one on which a client of ours has logged in to an origin is
/// that client's alone, and neither goes to the pool nor to anybody else.
#[test]
fn nobody_rides_on_the_login_of_another_client_to_an_origin() {
    let origin = Origin::guarded(windows_rules());
    let proxy = Proxy::start("");
    let mut client = proxy.client();
    let target = origin.url("/hello");
    assert_eq!(log_on_to_origin(&mut client, "GET", &target), 200);
    assert_eq!(proxy.get(&target).status(), 401, "another client");
    assert_eq!(client.get(&target).status(), 200, "it is still logged in");
}
