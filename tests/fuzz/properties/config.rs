//! Configuration files, our own and cntlm's.

use std::net::Ipv4Addr;

use ntlmaps::config::cntlm::{HashForm, import};
use ntlmaps::config::display::describe;
use ntlmaps::config::options::{ConfigKey, OPTIONS};
use ntlmaps::config::{Args, Config, Notice, Origin, Severity};
use ntlmaps::http::target::Authority;

/// What stands in every value that may be a secret.
const SECRET: &str = "s3cr3t-canary";
/// What stands in the values of keys nobody knows: they may be secrets too.
const UNKNOWN: &str = "unkn0wn-canary";

/// Whether the input itself brings what should not come out.
fn has_canary(data: &[u8]) -> bool {
    let has = |text: &str| data.windows(text.len()).any(|window| window == text.as_bytes());
    has(SECRET) || has(UNKNOWN)
}

/// The file with a canary in each value. `canary` chooses it by the word a line begins with, of
/// letters, digits and `joints`; `separators` stand between that and the value.
fn marked(
    data: &[u8],
    joints: &[u8],
    separators: &[u8],
    canary: impl Fn(&str) -> &'static str,
) -> Vec<u8> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || joints.contains(byte);
    let lines = data.split(|byte| *byte == b'\n').map(|line| {
        let begin = line.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let word = line[begin..].iter().take_while(|byte| is_word(byte)).count();
        let between = begin + word;
        let blanks = line[between..].iter().take_while(|byte| separators.contains(byte)).count();
        let value = between + blanks;
        if word == 0 || blanks == 0 {
            return line.to_vec();
        }
        let canary = canary(&String::from_utf8_lossy(&line[begin..between]));
        [&line[..value], canary.as_bytes(), &line[value..]].concat()
    });
    lines.collect::<Vec<_>>().join(&b'\n')
}

/// What is said about a file stands on one line, names a line that is there, tells no secret and
/// comes to an end.
fn check_notices(notices: &[Notice], data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n').count();
    for notice in notices {
        if let Origin::Line(line) = notice.origin {
            assert!((1..=lines).contains(&line), "{notice} of {lines}");
        }
        let text = notice.to_string();
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(!text.contains(SECRET) && !text.contains(UNKNOWN), "{text}");
    }
    let said: usize = notices.iter().map(|notice| notice.to_string().len()).sum();
    assert!(said <= 8 * data.len() + 500 * (lines + OPTIONS.len()), "{said} bytes");
    assert!(notices.is_sorted_by_key(|notice| notice.origin));
}

fn is_error(notice: &Notice) -> bool {
    notice.severity == Severity::Error
}

fn load(data: &[u8], args: &Args) {
    match Config::load("f", data, args) {
        Err(notices) => {
            check_notices(&notices, data);
            assert!(notices.iter().any(is_error), "refused without a reason");
        }
        Ok(loaded) => {
            check_notices(&loaded.warnings, data);
            assert!(!loaded.warnings.iter().any(is_error), "{:?}", loaded.warnings);
            for text in [describe(&loaded, true), format!("{loaded:?}")] {
                assert!(!text.contains(SECRET), "{text}");
            }
            let config = loaded.config;
            assert!(!config.listen_addresses.is_empty());
            assert!(config.parents.iter().all(|parent| parent.port != 0));
            let long = "a.".repeat(100);
            for host in ["intranet", "www.example.test", "10.1.2.3", "[::ffff:10.1.2.3]", &long] {
                let host = Authority::parse(host, Some(80)).expect("an authority");
                config.route(&host);
                config.answers_origin(&host);
            }
            config.clients.permits(Ipv4Addr::new(192, 0, 2, 1).into());
        }
    }
}

/// A file of ours loads or is refused with reasons; no word of a secret in what is said or shown.
pub fn config(data: &[u8]) {
    if has_canary(data) {
        return;
    }
    let canary = |word: &str| {
        let is = |option: &&ConfigKey| option.name.eq_ignore_ascii_case(word);
        match OPTIONS.iter().find(is) {
            // A user's name is none.
            Some(option) if option.name == "SOCKS5_USERS" => "u:s3cr3t-canary",
            Some(option) if option.secret => SECRET,
            Some(_) => "",
            None => UNKNOWN,
        }
    };
    let words = ["--port", "1", "--domain", "D", "--username", "E\\u", "--password", SECRET];
    let args = Args::parse(&words).expect("a command line");
    let marked = marked(data, b"_-", b" \t:=", canary);
    load(data, &Args::default());
    load(&marked, &Args::default());
    load(&marked, &args);
}

/// Keys of cntlm's whose values may be told; a word it does not know may well be a secret.
const TOLD: [&str; 20] = [
    "Username",
    "Domain",
    "Auth",
    "Flags",
    "Workstation",
    "Gateway",
    "NTLMToBasic",
    "ISAScannerSize",
    "ISAScannerAgent",
    "Pac",
    "PacFile",
    "SSPI",
    "Proxy",
    "NoProxy",
    "Listen",
    "Allow",
    "Deny",
    "Tunnel",
    "Header",
    "SOCKS5Proxy",
];

/// What is made of a cntlm.conf always loads, opens no door that was closed, and tells no secret.
pub fn cntlm(data: &[u8]) {
    if has_canary(data) {
        return;
    }
    let told = |word: &str| TOLD.iter().any(|key| key.eq_ignore_ascii_case(word));
    let canary = |word: &str| if told(word) { "" } else { SECRET };
    let has =
        |word: &str| data.to_ascii_lowercase().windows(word.len()).any(|w| w == word.as_bytes());
    let opens = has("listen") || has("gateway");
    for data in [data, &marked(data, b"", b" \t\"", canary)] {
        for form in [None, Some(HashForm::Plain), Some(HashForm::Inverted)] {
            let made = import("c", data, form);
            check_notices(&made.notices, data);
            assert!(!made.notices.iter().any(is_error), "{:?}", made.notices);
            let text = made.text.as_str();
            assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{text:?}");
            let loaded = Config::load("o", text.as_bytes(), &Args::default());
            let config = loaded.unwrap_or_else(|notices| panic!("{notices:#?}\n{text}")).config;
            assert!(opens || !config.clients.permits(Ipv4Addr::new(192, 0, 2, 1).into()), "{text}");
        }
    }
}
