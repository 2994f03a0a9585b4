//! `--import-cntlm` as people run it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::account::{INVERTED, NAMES, PLAIN};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("cntlm-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn ntlmaps(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ntlmaps")).args(words).output().unwrap()
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_program_prints_a_file_that_it_loads_itself() {
    let folder = Folder::new("program");
    let conf = folder.write("cntlm.conf", &format!("{NAMES}{}\n", INVERTED[2]));
    let output = ntlmaps(&["--import-cntlm", &conf, "--cntlm-hashes", "inverted"]);
    let (printed, said) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(printed.contains("\nNTLMV2_HASHED_PW: e097c611ea19c676cd79309a3a2f59a3\n"));
    assert!(said.contains("ntlmaps: note: ") && said.contains("chmod 600"), "{said}");
    assert!(!said.contains("e097c611") && !said.contains("1F6839EE"), "{said}");

    let made = folder.write("made.cfg", &printed);
    let output = ntlmaps(&["-c", &made, "--check"]);
    let (checked, said) = texts(&output);
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
    assert!(checked.contains("made.cfg:5 "), "{checked}");
    assert!(checked.contains("NTLMV2_HASHED_PW: ***") && !checked.contains("e097"), "{checked}");

    // Told which form it is by the password, without a logon, as the import advises.
    let conf = folder.write("guess.conf", &format!("{NAMES}{}\n", PLAIN[2]));
    let output = ntlmaps(&["--import-cntlm", &conf]);
    let (printed, said) = texts(&output);
    assert_eq!(output.status.code(), Some(0));
    assert!(said.contains("ntlmaps: warning: ") && said.contains("nothing tells"), "{said}");
    let made = folder.write("guess.cfg", &printed);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ntlmaps"));
    let input = folder.write("input", "password\n");
    let input = std::fs::File::open(input).unwrap();
    let hashed = command.args(["-c", &made, "--hash"]).stdin(input).output().unwrap();
    let (hashes, said) = texts(&hashed);
    let right = hashes.lines().find(|line| line.starts_with("NTLMV2_HASHED_PW")).expect(&said);
    assert!(printed.contains(&format!("\n#{right}\n")), "{printed}\n{hashes}");
}

#[test]
fn a_file_that_cannot_be_read_is_told_in_a_sentence() {
    let folder = Folder::new("missing");
    let missing = folder.0.join("none.conf");
    let missing = missing.to_str().unwrap();
    let output = ntlmaps(&["--import-cntlm", missing]);
    let (printed, said) = texts(&output);
    assert_eq!((output.status.code(), printed.as_str()), (Some(1), ""));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with(&format!("ntlmaps: {missing}: ")), "{said}");
    let output = ntlmaps(&["--import-cntlm", missing, "--cntlm-hashes", "x"]);
    assert_eq!(output.status.code(), Some(2));
}
