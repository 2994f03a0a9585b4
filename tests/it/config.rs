//! The configuration as people meet it: the file that is shipped, files of the original's shape,
//! and mistakes.

use ntlmaps::config::options::OPTIONS;
use ntlmaps::config::{Account, Args, Config, Loaded, Notice, Route, Severity, display};
use ntlmaps::http::target::Authority;

const SHIPPED: &str = include_str!("../../ntlmaps.cfg");

fn load(file: &[u8]) -> Result<Loaded, Vec<Notice>> {
    Config::load("ntlmaps.cfg", file, &Args::default())
}

fn shown(notices: &[Notice]) -> Vec<String> {
    notices.iter().map(ToString::to_string).collect()
}

/// The shipped file with every `#KEY: value` made `KEY: value`; `# prose` stays.
fn uncommented() -> String {
    let line = |line: &'static str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_alphabetic()) => rest,
        _ => line,
    };
    SHIPPED.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_file_runs_in_direct_mode_on_this_machine_only() {
    let Loaded { config, warnings, .. } = load(SHIPPED.as_bytes()).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config, load(b"").unwrap().config, "it says nothing but what is so anyway");
    assert_eq!(config.listen_port, 5865);
    assert!(config.listen_addresses.iter().all(std::net::IpAddr::is_loopback));
    assert!(!config.clients.lets_others_in());
    let anywhere = Authority::parse("example.com", Some(80)).unwrap();
    assert_eq!(config.route(&anywhere), Route::Direct);
}

#[test]
fn the_shipped_file_loads_with_every_line_uncommented() {
    let Loaded { config, warnings, .. } = load(uncommented().as_bytes()).unwrap();
    assert_eq!(shown(&warnings), Vec::<String>::new());
    assert_eq!(config.parents.len(), 2);
    let Account::Known(credentials) = &config.account else { panic!("{:?}", config.account) };
    assert_eq!((credentials.domain.as_str(), credentials.user.as_str()), ("EXAMPLE", "jane"));
    assert!(!config.client_header.is_empty());
}

#[test]
fn the_shipped_file_has_every_key_once_and_under_its_section() {
    let file = uncommented();
    for key in &OPTIONS {
        let is_it = |line: &&str| line.split_once(':').is_some_and(|(name, _)| name == key.name);
        assert_eq!(file.lines().filter(is_it).count(), 1, "{}", key.name);
        let before = file.lines().take_while(|line| !is_it(line));
        let section = before.filter(|line| line.starts_with('[')).last().unwrap();
        assert_eq!(section, format!("[{}]", key.section.name()), "{}", key.name);
    }
    let first: Vec<&str> = file
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once(':')?.0))
        .take(3)
        .collect();
    assert_eq!(first, ["PARENT_PROXY", "USER", "PASSWORD"]);
    assert!(SHIPPED.lines().all(|line| line.chars().count() <= 100));
}

#[test]
fn the_examples_for_a_key_with_a_default_are_that_default() {
    let file = uncommented();
    for key in OPTIONS.iter().filter(|key| !key.default.is_empty()) {
        let start = format!("{}: ", key.name);
        let value = file.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_default();
        let other = key.name == "NTLM_TO_BASIC"; // the example has a USER
        assert_eq!(value == key.default, !other, "{}", key.name);
    }
}

/// As ntlmaps 0.9.9 had it: LF or CR LF, blank keys, comments that look like keys, an old browser.
const OLDEST: &str = "\
#=======================================
[GENERAL]

LISTEN_PORT:5865
# Several may be given. EG:
#PARENT_PROXY:one two three
PARENT_PROXY:

PARENT_PROXY_PORT:
PARENT_PROXY_TIMEOUT:15
ALLOW_EXTERNAL_CLIENTS:0
FRIENDLY_IPS:
URL_LOG:0
MAX_CONNECTION_BACKLOG:5
[CLIENT_HEADER]
Accept: image/gif, image/x-xbitmap, */*
User-Agent: Mozilla/4.0 (compatible; MSIE 5.5; Windows 98)
# User-Agent: Mozilla/4.0 (compatible; MSIE 5.5; Windows NT5)
[NTLM_AUTH]
NT_HOSTNAME:
NT_DOMAIN:
USER:
PASSWORD:
LM_PART:1
NT_PART:0
# LM - 06820000
NTLM_FLAGS: 06820000
NTLM_TO_BASIC:1
[DEBUG]
DEBUG:0
BIN_DEBUG:0
SCR_DEBUG:0
AUTH_DEBUG:0
";

/// As ntlmaps 1.0 had it: more keys, and texts to be replaced.
const LAST: &str = "\
[GENERAL]
LISTEN_PORT:5865
PARENT_PROXY:your_parentproxy
PARENT_PROXY_PORT:8080
HOSTS_TO_BYPASS_PARENT_PROXY:
DIRECT_CONNECT_IF_POSSIBLE:0
[NTLM_AUTH]
NT_DOMAIN:your_domain
USER:username_to_use
PASSWORD:your_nt_password
LM_HASHED_PW:
NT_HASHED_PW:
COMPLEX_PASSWORD_INPUT:1
LM_PART:1
NT_PART:0
NTLM_FLAGS: 06820000
NTLM_TO_BASIC:0
";

#[test]
fn files_of_the_original_load_unchanged() {
    for text in [OLDEST.to_owned(), OLDEST.replace('\n', "\r\n")] {
        let Loaded { config, warnings, .. } = load(text.as_bytes()).unwrap();
        let line = 1 + text.lines().position(|line| line.starts_with("LM_PART")).unwrap();
        let expected = format!(
            "ntlmaps.cfg:{line}: LM_PART: has no effect, nor has NT_PART or NTLM_FLAGS; \
             NTLM_DIALECT decides now"
        );
        assert_eq!(shown(&warnings), [expected]);
        assert_eq!(config.account, Account::PerClient);
        assert_eq!((config.parents.len(), config.backlog, config.client_header.len()), (0, 5, 2));
        assert_eq!(
            config.client_header[0].value.as_deref(),
            Some("image/gif, image/x-xbitmap, */*")
        );
    }
    let Loaded { config, warnings, .. } = load(LAST.as_bytes()).unwrap();
    let unfilled = warnings.iter().filter(|w| w.message.contains("text of the sample file"));
    assert_eq!((unfilled.count(), warnings.len()), (4, 6), "{:?}", shown(&warnings));
    assert!(matches!(config.account, Account::Known(_)));
    assert_eq!(config.parents[0].to_string(), "your_parentproxy:8080");

    // The original took --username for the wish to log everybody in as that one.
    let args = Args::parse(&["--username", "jane", "--domain", "EXAMPLE"]).unwrap();
    let account = Config::load("f", OLDEST.as_bytes(), &args).unwrap().config.account;
    let expected = Account::NeedsPassword { domain: "EXAMPLE".into(), user: "jane".into() };
    assert_eq!(account, expected);
}

#[test]
fn all_errors_are_told_at_once_with_their_lines_and_warnings_between() {
    let file = "\
[GENERAL]
PARENT_PROXY_PORT: 80a
FREINDLY_IPS: 192.0.2.1
LISTEN_ADDRESS: here
PARENT_PROXY http://proxy
URL_LOG=1
[CLIENT_HEADER]
Content-Length: 5
[NTLM_AUTH]
NT_HASHED_PW: abc
NTLM_DIALECT: NTLMv3
";
    let args = Args::parse(&["--username", &"x".repeat(40_000)]).unwrap();
    let notices = Config::load("ntlmaps.cfg", file.as_bytes(), &args).unwrap_err();
    assert_eq!(
        shown(&notices),
        [
            "ntlmaps.cfg:2: PARENT_PROXY_PORT: \"80a\" is no port; write a number from 1 to 65535",
            "ntlmaps.cfg:3: \"FREINDLY_IPS\" is no key; did you mean FRIENDLY_IPS?",
            "ntlmaps.cfg:4: LISTEN_ADDRESS: \"here\" is no address; \
             write some like 127.0.0.1, ::1, or 0.0.0.0 :: for all",
            "ntlmaps.cfg:5: PARENT_PROXY: a colon is expected after the key, not a blank",
            "ntlmaps.cfg:6: URL_LOG: a colon is expected after the key, not =",
            "ntlmaps.cfg:8: Content-Length: says where a message ends and cannot be set here",
            "ntlmaps.cfg:10: NT_HASHED_PW: is no hash; \
             write 32 hexadecimal digits, as ntlmaps --hash prints them",
            "ntlmaps.cfg:11: NTLM_DIALECT: \"NTLMv3\" is no dialect; \
             there are NTLMv2, NTLM2SR, NTLM, NT, LM",
            "command line: USER: is 40000 characters long; NTLM has room for 32767",
        ]
    );
    let errors = notices.iter().filter(|notice| notice.severity == Severity::Error);
    assert_eq!(errors.count(), 8);
}

/// Whatever is wrong with a secret, and wherever it ends up by mistake, nobody reads it in a log.
#[test]
fn no_secret_is_ever_repeated() {
    const SECRET: &str = "x7Secret";
    let files = OPTIONS
        .iter()
        .filter(|key| key.secret)
        .flat_map(|key| {
            let name = key.name;
            [
                format!("[NTLM_AUTH]\nUSER: u\n{name}: {SECRET}"),
                format!("[NTLM_AUTH]\nUSER: u\n{name}: {SECRET} # {SECRET}"),
                format!("[NTLM_AUTH]\nUSER: u\n{name}: {SECRET}\n{name}: {SECRET}"),
                format!("[NTLM_AUTH]\n{name}={SECRET}"),
                format!("[NTLM_AUTH]\n{name}={SECRET}:x"),
                format!("[NTLM_AUTH]\n{name} {SECRET}"),
                format!("[NTLM_AUTH]\n{name} {SECRET}:x"),
                format!("[NTLM_AUTH]\n{name}S: {SECRET}"),
                format!("[CLIENT_HEADER]\n{name}: {SECRET}"),
                format!("[NTLM_AUTH]\nUSER: u\n{name}: {SECRET}\0"),
                format!("[NTLM_AUTH]\nUSER: u\n{name}: {}", SECRET.repeat(10_000)),
            ]
        })
        .chain([
            format!("[GENERAL]\nPARENT_PROXY: http://u:{SECRET}@proxy:80"),
            format!("[GENERAL]\nPARENT_PROXY: u:{SECRET}@proxy"),
            format!("[NTLM_AUTH]\nUSER: u\nPASSWORD: a\n{SECRET}"),
        ]);
    for file in files {
        let mut bytes = file.clone().into_bytes();
        for _ in 0..2 {
            let text = match load(&bytes) {
                Ok(loaded) => {
                    let all = display::describe(&loaded, true);
                    format!("{} {all} {loaded:?}", shown(&loaded.warnings).concat())
                }
                Err(notices) => format!("{} {notices:?}", shown(&notices).concat()),
            };
            assert!(!text.contains(SECRET), "{file}\n{text}");
            bytes.extend(b"\xff"); // once more, read as Latin-1
        }
    }
    let args = Args::parse(&["--username", "u", "--password", SECRET]).unwrap();
    let loaded = Config::load("f", b"", &args).unwrap();
    let text = format!("{args:?} {loaded:?} {}", display::describe(&loaded, false));
    assert!(!text.contains(SECRET), "{text}");
    assert!(text.contains("command line  PASSWORD: ***"), "{text}");
}

/// Any bytes give an answer: cut, doubled and disturbed shipped files.
#[test]
fn whatever_the_file_holds_there_is_an_answer() {
    let file = uncommented();
    for cut in (0..file.len()).step_by(7) {
        let mut bytes = file.as_bytes()[..cut].to_vec();
        let disturbed = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(disturbed) {
            *byte = u8::try_from(cut % 256).unwrap();
        }
        match load(&bytes) {
            Ok(loaded) => assert!(loaded.warnings.iter().all(|w| w.severity < Severity::Error)),
            Err(notices) => assert!(notices.iter().any(|n| n.severity == Severity::Error)),
        }
    }
}
