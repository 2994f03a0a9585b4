//! What is written about the program is so.

use std::fs;
use std::path::Path;
use std::process::Command;

use ntlmaps::config::args::USAGE;
use ntlmaps::config::options::{ConfigKey, OPTIONS};
use ntlmaps::config::{Account, Args, Config};

use crate::process::Place;

fn text(file: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).ok()
}

/// The indented and fenced blocks of a Markdown text.
fn blocks(text: &str) -> Vec<String> {
    let (mut found, mut block, mut fenced) = (Vec::new(), String::new(), false);
    for line in text.lines().chain([""; 2]) {
        let fence = line.trim_start().starts_with("```");
        let indented = line.starts_with("    ");
        if fence {
            fenced = !fenced;
        } else if fenced || indented {
            block += line.trim_start();
            block.push('\n');
            continue;
        }
        if !block.is_empty() {
            found.push(std::mem::take(&mut block));
        }
    }
    found
}

/// Those that are lines for the configuration file.
fn configurations(text: &str) -> Vec<String> {
    let names_a_key = |line: &str| {
        line.split_once(':').is_some_and(|(key, _)| OPTIONS.iter().any(|option| option.name == key))
    };
    blocks(text).into_iter().filter(|block| block.lines().any(names_a_key)).collect()
}

#[test]
fn blocks_of_markdown_are_found() {
    let text = "a\n\n    one: 1\n    two\n\nb\n```cfg\nUSER: x\n```\n1. item\n\n       USER: y\n";
    assert_eq!(blocks(text), ["one: 1\ntwo\n", "USER: x\n", "USER: y\n"]);
    assert_eq!(configurations(text), ["USER: x\n", "USER: y\n"]);
}

#[test]
fn every_configuration_in_the_readme_loads() {
    let found = configurations(&text("README.md").unwrap());
    assert!(found.len() >= 2, "{found:?}");
    for block in found {
        let loaded = Config::load("README.md", block.as_bytes(), &Args::default());
        let loaded = loaded.unwrap_or_else(|notices| panic!("{block}{notices:#?}"));
        assert_eq!(loaded.config.parents.len(), 1, "{block}");
        assert!(matches!(loaded.config.account, Account::Known(_)), "{block}");
        // The three lines of the parent to try things with stand without sections.
        let placed = |notice: &&ntlmaps::config::Notice| !notice.message.contains("belongs under");
        let warnings: Vec<_> = loaded.warnings.iter().filter(placed).collect();
        assert!(warnings.is_empty(), "{block}{warnings:#?}");
    }
}

#[test]
fn the_readme_names_options_keys_and_addresses_that_exist() {
    let readme = text("README.md").unwrap();
    let words = readme.split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c)));
    for word in words {
        if word.len() > 3
            && word.contains('_')
            && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        {
            let known = |option: &ConfigKey| option.name == word || option.section.name() == word;
            let ours = OPTIONS.iter().any(known);
            let others = ["NTLMAPS_CONF", "NTLMAPS_PASSWORD", "RUST_LOG"];
            assert!(ours || others.contains(&word) || word.starts_with("AF_"), "{word}");
        }
    }
    // Options that stand alone or behind the program's name are the program's own.
    for code in readme.lines().flat_map(|line| line.split('`').skip(1).step_by(2)) {
        let mut words = code.split_whitespace().peekable();
        let ours = words.next_if(|word| word.ends_with("ntlmaps")).is_some();
        for option in words.filter(|word| word.starts_with('-') && (ours || *word == code)) {
            let alien = option.contains(['=', '.']);
            assert!(alien || USAGE.contains(&format!("{option} ")), "{option} in {code}");
        }
    }
    let port = OPTIONS.iter().find(|option| option.name == "LISTEN_PORT").unwrap().default;
    assert!(readme.contains(&format!("127.0.0.1:{port}")));
    assert!(readme.lines().count() <= 150, "nobody reads that much");
}

#[test]
fn the_unit_in_the_readme_is_one_that_systemd_takes() {
    let found = blocks(&text("README.md").unwrap());
    let unit = found.iter().find(|block| block.starts_with("[Service]")).expect("a unit");
    let unit = unit.replace("%h/bin/ntlmaps", env!("CARGO_BIN_EXE_ntlmaps"));
    for line in ["Restart=on-failure", "LimitNOFILE=", "ExecReload=kill -HUP", "WantedBy="] {
        assert!(unit.contains(line), "{line}\n{unit}");
    }
    let place = Place::with("ntlmaps.service", &unit);
    let mut command = Command::new("systemd-analyze");
    command.args(["--user", "verify"]).arg(place.path("ntlmaps.service"));
    let Ok(output) = command.env("XDG_RUNTIME_DIR", place.path("")).output() else {
        eprintln!("not tried: there is no systemd-analyze");
        return;
    };
    // What it thinks of other units of this machine is not the matter here.
    let said = String::from_utf8_lossy(&output.stderr);
    let about_it: Vec<_> = said.lines().filter(|line| line.contains("ntlmaps")).collect();
    assert!(about_it.is_empty(), "{said}");
}

/// The tests of the program, apart from those of the configuration alone and of what is written.
fn tests_of_the_program() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut found = vec![fs::read_to_string(root.join("chroot")).unwrap()];
    for directory in ["it", "it/import_cntlm", "interop"] {
        for entry in fs::read_dir(root.join(directory)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_file() && !["config.rs", "docs.rs", "import_cntlm.rs"].contains(&name) {
                found.push(fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// No more than that they stand there, but what nobody tries is found.
#[test]
fn every_key_and_every_option_is_tried_somewhere() {
    let tests = tests_of_the_program();
    let is_there = |text: &str| tests.iter().any(|test| test.contains(text));
    for key in &OPTIONS {
        assert!(is_there(&format!("{}: ", key.name)), "no test of the program uses {}", key.name);
    }
    let words = USAGE.split(|c: char| c.is_whitespace() || ",;[|".contains(c));
    let options: Vec<&str> = words.filter(|word| word.len() > 1 && word.starts_with('-')).collect();
    assert!(options.len() > 12, "{options:?}");
    for option in options {
        let tried = [format!("\"{option}\""), format!(" {option} ")];
        assert!(tried.iter().any(|text| is_there(text)), "no test of the program uses {option}");
    }
}

#[test]
fn the_map_of_the_house_names_every_room() {
    let map = text("src/lib.rs").unwrap();
    let map: String = map.lines().filter(|line| line.starts_with("//!")).collect();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if !["lib", "main"].contains(&name.as_str()) {
            assert!(map.contains(&format!("[`{name}`]")), "{name} is not on the map of src/lib.rs");
        }
    }
}

#[test]
fn the_usage_and_the_shipped_file_name_the_same_port() {
    let shipped = text("ntlmaps.cfg").unwrap();
    assert!(shipped.contains("LISTEN_PORT: 5865") && USAGE.contains("127.0.0.1:5865"));
}
