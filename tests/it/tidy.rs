//! Rules of the house that a compiler does not keep.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `directory`, with its path from the root of the project and its text.
fn sources(directory: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = vec![root().join(directory)];
    while let Some(path) = left.pop() {
        if path.ends_with("tests/fuzz/target") {
            continue; // what the fuzzer's build leaves
        }
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(!found.is_empty(), "nothing in {directory}");
    found.sort();
    found
}

/// Code without comments, and without the unit tests at the end of a file.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let kept = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    kept.collect::<Vec<_>>().join("\n")
}

/// The whole path of everything a `use` or an inline path names: `a::{b, c::d}` becomes `a::b` and
/// `a::c::d`.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for statement in code.split(';') {
        let used = statement.rfind("use ").filter(|at| {
            let before = statement[..*at].trim_end();
            before.is_empty() || before.ends_with(['}', ']', '{', ')']) || before.ends_with("pub")
        });
        match used {
            Some(at) => expand("", statement[at + 4..].trim(), &mut found),
            None => found.extend(inline_paths(statement)),
        }
    }
    found
}

fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let Some((head, rest)) = tree.split_once('{') else {
        return found.push(format!("{prefix}{}", tree.trim()));
    };
    let inner = rest.trim_end().strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = inner[begin..at].trim();
                if !part.is_empty() {
                    expand(&format!("{prefix}{}", head.trim()), part, found);
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
}

fn inline_paths(statement: &str) -> Vec<String> {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = statement.split(|c| !word(c)).filter(|text| text.contains("::"));
    words.map(|text| text.trim_matches(':').to_owned()).collect()
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let code = "use std::{io, net::{IpAddr, TcpStream as T}};\npub use crate::auth::Scheme;\n\
                fn f() { let x: std::fs::File = std::time::Instant::now().into(); }";
    let expected = [
        "std::io",
        "std::net::IpAddr",
        "std::net::TcpStream as T",
        "crate::auth::Scheme",
        "std::fs::File",
        "std::time::Instant::now",
    ];
    assert_eq!(paths(code), expected);
}

#[test]
fn pure_directories_touch_nothing_of_the_world() {
    for directory in ["src/config", "src/http", "src/ntlm", "src/auth"] {
        for (name, text) in sources(directory) {
            let code = code(&text);
            for path in paths(&code) {
                let pure_address = ["std::net::Ip", "std::net::AddrParseError"]
                    .iter()
                    .any(|pure| path.starts_with(pure));
                let worldly =
                    ["net", "fs", "env", "thread", "process", "os"].iter().any(|module| {
                        path == format!("std::{module}")
                            || path.starts_with(&format!("std::{module}::"))
                    });
                assert!(!worldly || pure_address, "{name} uses {path}");
                for forbidden in ["getrandom", "rustix", "std::io"] {
                    let whole = path == forbidden || path.starts_with(&format!("{forbidden}::"));
                    assert!(!whole, "{name} uses {path}");
                }
            }
            for word in ["SystemTime", "Instant", "TcpStream", "UdpSocket", "println!", "eprintln!"]
            {
                assert!(!code.contains(word), "{name} names {word}");
            }
        }
    }
}

/// What of the crate each directory may use beside itself. `http` is a package of its own.
#[test]
fn arrows_between_modules_go_one_way() {
    for (directory, allowed) in [
        (
            "config",
            &[
                "crate::auth",
                "crate::ntlm",
                "crate::http::target",
                "crate::http::forwarding::FieldReplacement",
                "crate::http::head::is_tchar",
                "crate::http::redaction::is_secret",
            ][..],
        ),
        ("auth", &["crate::http", "crate::ntlm"]),
        ("ntlm", &[]),
    ] {
        for (name, text) in sources(&format!("src/{directory}")) {
            for path in paths(&code(&text)) {
                if !path.starts_with("crate::") {
                    assert!(!path.starts_with("super::super"), "{name} climbs out with {path}");
                    continue;
                }
                let own = format!("crate::{directory}");
                let fine =
                    allowed.iter().chain([&own.as_str()]).any(|start| path.starts_with(start));
                assert!(fine, "{name} uses {path}");
            }
        }
    }
}

#[test]
fn only_one_file_knows_the_operating_system() {
    for (name, text) in sources("src") {
        let system = paths(&code(&text)).into_iter().find(|path| path.starts_with("rustix::"));
        assert!(name == "src/sys.rs" || system.is_none(), "{name} uses {system:?}");
    }
}

#[test]
fn no_file_is_longer_than_500_lines() {
    for (name, text) in sources("src").into_iter().chain(sources("tests")) {
        let lines = text.lines().count();
        assert!(lines <= 500, "{name} has {lines} lines");
    }
}

#[test]
fn nothing_is_left_for_later_and_no_test_sleeps_or_is_skipped() {
    // Put together here so that this file does not name them itself.
    let everywhere = [["TO", "DO"], ["FIX", "ME"], ["XX", "X:"], ["todo", "!("], ["db", "g!("]];
    let in_tests = [["#[ign", "ore"], ["#[should_", "panic"], ["thread::", "sleep"]];
    for (name, text) in sources("src").into_iter().chain(sources("tests")) {
        for word in everywhere.map(|parts| parts.concat()) {
            assert!(!text.contains(&word), "{name} has {word}");
        }
        let tests = match text.split_once("#[cfg(test)]\nmod ") {
            Some((_, tests)) if name.starts_with("src") => tests,
            None if name.starts_with("src") => "",
            // Its pauses are the load that it makes.
            _ if name.starts_with("tests/soak") => "",
            _ => &text,
        };
        for word in in_tests.iter().map(|parts| parts.concat()) {
            assert!(!tests.contains(&word), "{name} has {word}");
        }
    }
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let paths = [["/ho", "me/"], ["/wo", "rk/"], ["/Us", "ers/"], ["/ro", "ot/"], ["/tm", "p/"]];
    let mut files = sources("src");
    files.extend(sources("tests"));
    for file in ["Cargo.toml", "ntlmaps.cfg", "README.md", ".ci/run", "tests/interop/run"] {
        if let Ok(text) = fs::read_to_string(root().join(file)) {
            files.push((file.to_owned(), text));
        }
    }
    for (name, text) in files {
        let found = text.lines().find(|line| {
            let told = |path: &String| {
                line.split(['"', ' ', '`', '\'', '=']).any(|word| word.starts_with(path))
            };
            paths.iter().map(|parts| parts.concat()).any(|path| told(&path))
        });
        // Interop scripts make their own directory there.
        let own =
            found.is_some_and(|line| line.contains("mktemp") || name.starts_with("tests/interop"));
        assert!(found.is_none() || own, "{name}: {}", found.unwrap_or_default());
    }
}
