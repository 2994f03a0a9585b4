//! What is written about the program is so.

use std::fs;
use std::path::Path;

use ntlmaps::config::args::USAGE;
use ntlmaps::config::options::{ConfigKey, OPTIONS};
use ntlmaps::config::{Account, Args, Config};

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
    let Some(readme) = text("README.md") else {
        eprintln!("not tried: there is no README.md yet");
        return;
    };
    let found = configurations(&readme);
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
    let Some(readme) = text("README.md") else { return };
    let words = readme.split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c)));
    for word in words {
        // Only what stands in the table of the program's own commands is the program's own.
        if word.len() > 3
            && word.contains('_')
            && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        {
            let known = |option: &ConfigKey| option.name == word || option.section.name() == word;
            let ours = OPTIONS.iter().any(known);
            let environment = ["NTLMAPS_CONF", "NTLMAPS_PASSWORD", "RUST_LOG"].contains(&word);
            assert!(ours || environment, "{word}");
        }
    }
    for line in readme.lines().filter(|line| line.starts_with("| `ntlmaps ")) {
        let options = line.split(['`', ' ', ',']).filter(|word| word.starts_with('-'));
        for option in options.filter(|option| option.len() > 1) {
            assert!(USAGE.contains(option), "{option}");
        }
    }
    let port = OPTIONS.iter().find(|option| option.name == "LISTEN_PORT").unwrap().default;
    assert!(readme.contains(&format!("127.0.0.1:{port}")));
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
