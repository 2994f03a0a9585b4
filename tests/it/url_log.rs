//! `URL_LOG`: one line for each request when it is over.

use std::fs;

use crate::proxy::{ALICE, LOGIN, Network};
use crate::support::Parent;

#[test]
fn each_request_is_a_line_with_what_became_of_it_and_no_userinfo() {
    let path = std::env::temp_dir().join(format!("ntlmaps-url-log-{}", std::process::id()));
    let cfg = format!("URL_LOG: {}\n{LOGIN}", path.display());
    let network = Network::new(Parent::ntlm(ALICE), &cfg);
    let mut client = network.client();
    assert_eq!(client.get("http://u:s3cret@example.test/hello?q=1").status(), 200);
    assert_eq!(client.get("/nowhere").status(), 400);
    // A line is written before the next request is read.
    assert_eq!(client.get("/nowhere").status(), 400);
    let log = fs::read_to_string(&path).expect("the log");
    fs::remove_file(&path).expect("the log is ours");
    let lines: Vec<&str> = log.lines().collect();
    let parent = network.parent.addr();
    let first = lines[0];
    assert!(first.contains(" GET http://example.test/hello?q=1 HTTP/1.1 200 "), "{log}");
    assert!(first.contains(&format!(" parent {parent} ")) && first.ends_with(" ms"), "{log}");
    assert!(lines[1].contains(" GET /nowhere HTTP/1.1 400 0 refused "), "{log}");
    assert!(!log.contains("s3cret"), "{log}");
}
