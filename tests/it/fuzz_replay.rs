//! The inputs of the fuzzer's corpora, once more: each property of `tests/fuzz/properties` holds.

#[path = "../fuzz/properties/mod.rs"]
mod properties;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// The names in a directory, without endings.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|why| panic!("{directory:?}: {why}"));
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<String> = entries.map(|entry| stem(entry.unwrap().path())).collect();
    names.sort();
    names
}

#[test]
fn every_property_holds_for_its_corpus() {
    for (target, property) in properties::ALL {
        let directory = fuzz().join("corpus").join(target);
        let mut inputs = 0;
        for entry in fs::read_dir(&directory).unwrap_or_else(|why| panic!("{directory:?}: {why}")) {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            assert!(catch_unwind(|| property(&input)).is_ok(), "{}", path.display());
            inputs += 1;
        }
        assert!(inputs > 0, "{} is empty", directory.display());
    }
}

#[test]
fn every_property_has_a_target_and_a_corpus() {
    let mut properties = properties::ALL.map(|(name, _)| name);
    properties.sort_unstable();
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let targets: Vec<&str> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""))
        .collect();
    assert_eq!(targets.len(), properties.len());
    assert!(properties.iter().all(|name| targets.contains(name)));
    assert_eq!(names(&fuzz().join("fuzz_targets")), properties);
    assert_eq!(names(&fuzz().join("corpus")), properties);
}
