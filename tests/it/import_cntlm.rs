//! `--import-cntlm`: what becomes of cntlm.conf, line by line and in whole files with all the
//! traps, and that whatever comes out can be loaded and does the same.

use ntlmaps::auth::credentials::Credentials;
use ntlmaps::config::cntlm::{HashForm, Import, import};
use ntlmaps::config::{Account, Args, Config, Route, Severity};
use ntlmaps::http::target::Authority;

mod account;
mod program;

fn of(conf: &str, form: Option<HashForm>) -> (Import, Config) {
    let made = import("c.conf", conf.as_bytes(), form);
    let loaded = Config::load("made.cfg", made.text.as_bytes(), &Args::default());
    let loaded = loaded.unwrap_or_else(|notices| panic!("{notices:?}\n{}", made.text.as_str()));
    assert!(made.notices.iter().all(|notice| notice.severity < Severity::Error));
    (made, loaded.config)
}

fn said(made: &Import) -> String {
    made.notices.iter().map(|notice| format!("{notice}\n")).collect()
}

/// The lines that are neither comments nor sections.
fn active(made: &Import) -> Vec<&str> {
    let line = |line: &&str| !line.is_empty() && !line.starts_with(['#', '[']);
    made.text.lines().filter(line).collect()
}

/// The account that a configuration logs in with.
fn account(config: &Config) -> &Credentials {
    match &config.account {
        Account::Known(credentials) => credentials,
        other => panic!("{other:?}"),
    }
}

/// What nearly every file has, so that tests can be about the rest.
const BASE: &str =
    "Username alice\nDomain CORP\nPassword Secret-123\nProxy proxy:8080\nListen 3128\n";

/// What comes out of it.
const BASE_LINES: [&str; 5] = [
    "LISTEN_PORT: 3128",
    "PARENT_PROXY: proxy:8080",
    "NT_DOMAIN: CORP",
    "USER: alice",
    "PASSWORD: Secret-123",
];

/// Lines added to [`BASE`], what they add to what comes out, active or as comments, and what is
/// said, in parts.
type Case = (&'static str, &'static [&'static str], &'static [&'static str]);

const CASES: &[Case] = &[
    ("", &[], &["c.conf: what was printed can log in by itself", "chmod 600"]),
    ("Workstation pc7", &["NT_HOSTNAME: pc7"], &[]),
    ("Auth ntlmv2", &["NTLM_DIALECT: NTLMv2"], &[]),
    ("Auth NTLM2SR", &["NTLM_DIALECT: NTLM2SR"], &[]),
    ("Auth nt", &["NTLM_DIALECT: NT"], &[]),
    ("Auth NTLM", &["NTLM_DIALECT: NTLM"], &[]),
    ("Auth Lm", &["NTLM_DIALECT: LM"], &[]),
    ("Auth GSS", &[], &["c.conf:6: Auth: GSS is not taken over: there is no Kerberos here"]),
    ("Auth 2", &[], &["c.conf:6: Auth: is no dialect"]),
    ("Username bob", &[], &["c.conf:6: Username: is in line 1 too, and the first holds"]),
    ("Proxy [2001:db8::1]:80", &["PARENT_PROXY: proxy:8080 [2001:db8::1]:80"], &[]),
    ("Proxy second", &[], &["c.conf:6: Proxy: is not taken over: it has no port"]),
    ("Proxy u:s3cret@third:80", &[], &["c.conf:6: Proxy: is not taken over: an entry holds an @"]),
    (
        "NoProxy localhost, 127.0.0.*,*.corp  a?c",
        &["HOSTS_TO_BYPASS_PARENT_PROXY: localhost 127.0.0.* *.corp a?c"],
        &["\"localhost\" means the host in capitals too", "\"127.0.0.*\" means addresses alone"],
    ),
    ("NoProxy 10.1.2.3", &["HOSTS_TO_BYPASS_PARENT_PROXY: 10.1.2.3"], &[]),
    ("NoProxy *", &["HOSTS_TO_BYPASS_PARENT_PROXY: *"], &["\"*\" means every host"]),
    ("NoProxy *.CORP", &["HOSTS_TO_BYPASS_PARENT_PROXY: *.CORP"], &["only what clients write"]),
    ("NoProxy pc[0-9]", &[], &["\"pc[0-9]\" is not taken over: there are no classes"]),
    ("NoProxy a\\*b", &[], &["is not taken over: there are no classes and no \\ in patterns"]),
    ("NoProxy .corp", &[], &["\".corp\" is not taken over: to cntlm it meant no host at all"]),
    ("NoProxy 10.0.0.0/8", &[], &["is not taken over: to cntlm it meant no host at all"]),
    ("NoProxy <local>", &[], &["is not taken over: to cntlm it meant no host at all"]),
    ("NoProxy pc:80", &[], &["is not taken over: to cntlm it meant no host at all"]),
    ("NoProxy 10.0.0.1:80", &[], &["is not taken over: to cntlm it meant no host at all"]),
    ("Header X-A: 1", &["X-A: 1"], &[]),
    ("Header X-A:", &["X-A:"], &["cntlm sent it so, here the field is taken away"]),
    ("Header X-A: 1\nHeader x-a: 2", &["X-A: 1"], &["c.conf:7: Header: \"x-a\" is there twice"]),
    (
        "Header Host: x",
        &["# Not taken over: names where the request goes and cannot be set here", "#Host: x"],
        &["c.conf:6: Host: is left as a comment: names where the request goes"],
    ),
    (
        "Header X-A: 1\nNoProxy 10.0.0.1",
        &["X-A: 1", "HOSTS_TO_BYPASS_PARENT_PROXY: 10.0.0.1"],
        &["Header: goes with every request here"],
    ),
    ("Header X", &[], &["c.conf:6: Header: is not taken over: it holds no colon"]),
    ("Listen 127.0.0.1:3128", &["LISTEN_ADDRESS: 127.0.0.1"], &[]),
    ("Listen [::1]:3128", &["LISTEN_ADDRESS: 127.0.0.1 ::1"], &[]),
    ("Listen 3129", &[], &["c.conf:6: Listen: port 3129 is not taken over: there is one port"]),
    ("Listen pc7:3128", &[], &["Listen: is not taken over: \"pc7\" is no address"]),
    ("Listen x", &[], &["Listen: is not taken over: it has no port"]),
    (
        "Listen 172.17.0.1:3128",
        &["LISTEN_ADDRESS: 127.0.0.1 172.17.0.1", "ALLOW_EXTERNAL_CLIENTS: 1"],
        &["c.conf:6: Listen: nothing keeps anybody out, with cntlm and here"],
    ),
    ("Gateway yes", &["ALLOW_EXTERNAL_CLIENTS: 1"], &["c.conf:6: Gateway: nothing keeps anybody"]),
    ("Gateway on", &[], &["c.conf:6: Gateway: is off: nothing but yes turns it on"]),
    ("Gateway no", &[], &[]),
    (
        "Gateway yes\nAllow 127.0.0.1\nAllow 192.0.2.0/24\nDeny 0/0",
        &["FRIENDLY_IPS: 192.0.2.0/24"],
        &["Allow and Deny: say nothing about IPv6 to cntlm"],
    ),
    (
        "Gateway yes\nAllow 127.0.0.1\nDeny 0.0.0.0/1",
        &["# Everybody but those whom a Deny named.", "FRIENDLY_IPS: 128.0.0.0/1"],
        &["say nothing about IPv6"],
    ),
    ("Gateway yes\nDeny *", &[], &["c.conf:7: Deny: by these rules cntlm let nobody in"]),
    ("Allow 192.0.2.7\nDeny *", &[], &["is not taken over, nor is any other rule"]),
    (
        "Tunnel 11443:remote.example:443\nTunnel 127.0.0.1:25:mail:25",
        &["TUNNELS: 11443:remote.example:443 127.0.0.1:25:mail:25"],
        &["c.conf: "],
    ),
    (
        "Tunnel 1:a:2\nGateway yes\nAllow 10.0.0.1\nAllow 127.0.0.1\nDeny *",
        &["FRIENDLY_IPS: 10.0.0.1", "TUNNELS: 0.0.0.0:1:a:2"],
        &["IPv6"],
    ),
    (
        "Tunnel 1:a:x\nTunnel 2:b:3",
        &["TUNNELS: 2:b:3"],
        &["c.conf:6: Tunnel: is not taken over: TUNNELS \"1:a:x\" is no tunnel"],
    ),
    ("Tunnel 443:remote", &[], &["c.conf:6: Tunnel: is not taken over: it is not [address:]"]),
    ("SOCKS5Proxy 8010", &["SOCKS5_PORT: 8010"], &["asks for no password, and did not with cntlm"]),
    (
        "SOCKS5Proxy 8010\nSOCKS5User dave:s3cret\nSOCKS5User eve:s3cret2",
        &["SOCKS5_PORT: 8010", "SOCKS5_USERS: dave:s3cret eve:s3cret2"],
        &["c.conf:7: SOCKS5User: CNTLM NEVER READ THIS: it looks for SOCKS5Users"],
    ),
    (
        "SOCKS5Proxy 8010\nSOCKS5Users dave:s3cret",
        &["SOCKS5_PORT: 8010", "SOCKS5_USERS: dave:s3cret"],
        &["c.conf: "],
    ),
    (
        "Flags 0x06820000",
        &[],
        &["Flags: is not taken over: NTLM_DIALECT decides", "the NTLM flags 0x00008206"],
    ),
    ("Flags 0", &[], &["0 left the flags to cntlm's Auth"]),
    (
        "ISAScannerSize 1024\nISAScannerAgent Wget/",
        &[],
        &["ISAScannerSize: is not", "Agent: is not"],
    ),
    ("Pac yes", &[], &["c.conf:6: Pac: is not taken over"]),
    ("SSPI NTLM", &[], &["c.conf:6: SSPI: is not taken over"]),
    ("Foo s3cret", &[], &["c.conf:6: \"Foo\" is no key of cntlm's"]),
    ("Workstation \"s3cret", &[], &["c.conf:6: Workstation: the closing quote is missing"]),
    ("Workstation #s3cret", &[], &["c.conf:6: Workstation: the value begins with # or ;"]),
    ("Workstation a#s3cret", &["NT_HOSTNAME: a"], &["cuts a value without quotes at the #"]),
    ("[work]", &[], &["c.conf:6: sections mean nothing to cntlm"]),
];

#[test]
fn a_socks_port_is_never_open_by_accident() {
    let conf = format!("{BASE}SOCKS5Proxy 8010\nSOCKS5Users dave:s3 cret\n");
    let (made, _) = of(&conf, None);
    assert!(made.text.contains("\n#SOCKS5_PORT: 8010\n"), "{}", made.text.as_str());
    for part in ["SOCKS5Users: is not taken over", "SOCKS5Proxy: is left as a comment"] {
        assert!(said(&made).contains(part), "{}", said(&made));
    }
    let (made, _) = of(&format!("{BASE}SOCKS5Proxy 8010\nSOCKS5Users :x\n"), None);
    let why = "# Not taken over: SOCKS5_USERS holds an entry that is not user:password, each up to \
               255 bytes";
    for line in ["#SOCKS5_PORT: 8010", "#SOCKS5_USERS: :x"] {
        assert!(made.text.contains(&format!("{why}\n{line}\n")), "{}", made.text.as_str());
    }
}

#[test]
fn each_line_becomes_what_it_was_to_cntlm() {
    for (lines, added, parts) in CASES {
        let (made, _) = of(&format!("{BASE}{lines}\n"), None);
        let said = said(&made);
        for part in *parts {
            assert!(said.contains(part), "{lines}: {part}\n{said}");
        }
        assert!(!said.contains("cret"), "{said}");
        let expected = |line: &&str| {
            let known = added.contains(line);
            !BASE_LINES.contains(line) && !known && !line.starts_with("# ")
        };
        let came: Vec<&str> = made.text.lines().collect();
        for line in *added {
            assert!(came.contains(line), "{lines}: {line}\n{}", made.text.as_str());
        }
        let odd = came.iter().copied().filter(|line| !line.is_empty() && !line.starts_with('['));
        let odd: Vec<&str> = odd.filter(expected).collect();
        // A list that is longer than in BASE takes the place of its line.
        assert!(odd.is_empty(), "{lines}: {odd:?}");
        // The note on the secret is always there; an item without parts has no other.
        if parts.is_empty() {
            assert_eq!(made.notices.len(), 1, "{lines}: {said}");
        }
    }
}

#[test]
fn a_last_line_without_a_newline_is_a_comment() {
    for (last, line) in [
        ("Password s3cret", "#PASSWORD: s3cret"),
        ("Gateway yes", "#ALLOW_EXTERNAL_CLIENTS: 1"),
        ("Proxy second:80", "#PARENT_PROXY: p:1 second:80"),
        ("Domain D", "#NT_DOMAIN: D"),
        ("Header X: 1", "#X: 1"),
    ] {
        let base = "Username a\nProxy p:1\nListen 3128\n";
        let (made, config) = of(&format!("{base}{last}"), None);
        let text = made.text.as_str();
        assert!(text.lines().any(|l| l == line), "{last}: {text}");
        assert!(text.contains("# cntlm never read this, its last line"), "{text}");
        assert_eq!(config, of(base, None).1, "{last} has no effect");
        assert!(said(&made).contains("c.conf:4: "), "{}", said(&made));
        assert!(said(&made).contains("so cntlm never read it; it is left as a comment"));
        assert!(!said(&made).contains("s3cret"));
    }
    // To keep somebody out whom nobody kept out before is the safe reading.
    let (made, config) = of(&format!("{BASE}Gateway yes\nAllow 10.0.0.1\nDeny *"), None);
    assert!(!config.clients.everybody);
    assert!(config.clients.permits("10.0.0.1".parse().unwrap()));
    assert!(!config.clients.permits("10.0.0.2".parse().unwrap()));
    assert!(said(&made).contains("taken over all the same"));
}

#[test]
fn a_parent_at_our_own_door_is_left_out() {
    let (made, config) = of("Username a\nPassword x\nProxy localhost:3128\nListen 3128\n", None);
    assert!(config.parents.is_empty());
    assert!(said(&made).contains("PARENT_PROXY: is left as a comment: localhost:3128 is where"));
    assert!(made.text.contains("\n#PARENT_PROXY: localhost:3128"));
}

/// As 0.92.3 came, filled in by somebody, with most of what can go wrong.
const OLD: &str = "\
# settings of the laptop
[work]
Username\tjane
Domain\t\tExample
Auth\t\tNTLMv2
PassNTLMv2\t5ADE6B5C6AF7D9CBA3E6EB1A2D2ACB29   # only for jane in Example
PassLM\t\t0123456789ABCDEF552C4BCA4AEBFB11

Proxy\t\t192.0.2.41:8080
Proxy\t\tproxy2.example.com:3128
NoProxy\t\tlocalhost, 127.0.0.*, 10.*, *.example.com, build[12].lan
Listen\t\t3128
Listen\t\t172.17.0.1:3128
SOCKS5Proxy\t8010
SOCKS5User\tdave:s3cret
Tunnel\t\t11443:git.example.org:443
Allow\t\t127.0.0.1
Allow\t\t172.17.0.0/16
Deny\t\t0/0
Flags\t\t0x06820000
Header\t\tUser-Agent: Mozilla/5.0 (X11)
ISAScannerSize\t1024
Workstation\t\"LAPTOP7
NoProxy\t\t*.lan";

#[test]
fn an_old_file_with_most_traps() {
    let (made, config) = of(OLD, None);
    assert_eq!(
        active(&made),
        [
            "LISTEN_PORT: 3128",
            "LISTEN_ADDRESS: 127.0.0.1 172.17.0.1",
            "FRIENDLY_IPS: 172.17.0.0/16",
            "TUNNELS: 11443:git.example.org:443",
            "SOCKS5_PORT: 8010",
            "SOCKS5_USERS: dave:s3cret",
            "PARENT_PROXY: 192.0.2.41:8080 proxy2.example.com:3128",
            "HOSTS_TO_BYPASS_PARENT_PROXY: localhost 127.0.0.* 10.* *.example.com",
            "User-Agent: Mozilla/5.0 (X11)",
            "NT_DOMAIN: EXAMPLE",
            "USER: jane",
            "NTLM_DIALECT: NTLMv2",
            "NTLMV2_HASHED_PW: a52194a3950826345c1914e5d2d534d6",
        ]
    );
    let route = |host: &str| config.route(&Authority::parse(host, Some(80)).unwrap());
    for (host, expected) in [
        ("localhost", Route::Direct),
        ("wiki.example.com", Route::Direct),
        ("10.1.2.3", Route::Direct),
        ("10.attacker.example", Route::Parent),
        ("build1.lan", Route::Parent),
        ("example.org", Route::Parent),
    ] {
        assert_eq!(route(host), expected, "{host}");
    }
    assert!(config.clients.permits("172.17.9.9".parse().unwrap()));
    assert!(!config.clients.permits("172.18.0.1".parse().unwrap()));
    assert_eq!(account(&config).domain, "EXAMPLE");

    let said = said(&made);
    for part in [
        "c.conf:2: sections mean nothing",
        "the hashes are inverted: the second half of PassLM",
        "PassLM not taken over",
        "\"build[12].lan\" is not taken over",
        "CNTLM NEVER READ THIS",
        "0x00008206",
        "c.conf:22: ISAScannerSize",
        "c.conf:23: Workstation: the closing quote is missing",
        "c.conf:24: NoProxy: is the last line and no newline ends it",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    for secret in ["s3cret", "5ADE6B5C", "a52194a3"] {
        assert!(!said.contains(secret), "{said}");
    }
}

/// As 0.94 came, with an account by Basic.
const NEW: &str = "\
Proxy [2001:db8::41]:8080
NoProxy localhost, *.example.com
Listen 0.0.0.0:8080
Gateway yes
NTLMToBasic Yes
Domain example
Auth GSS
Pac /etc/proxy.pac
Deny 192.0.2.66
# the end";

#[test]
fn a_new_file_without_an_account() {
    let (made, config) = of(NEW, None);
    assert_eq!(config.account, Account::PerClient);
    assert_eq!((config.listen_port, config.default_domain.as_str()), (8080, "EXAMPLE"));
    assert!(config.listen_addresses.contains(&"0.0.0.0".parse().unwrap()));
    assert_eq!(config.parents[0].to_string(), "[2001:db8::41]:8080");
    for (address, permitted) in
        [("192.0.2.65", true), ("192.0.2.66", false), ("192.0.2.67", true), ("2001:db8::1", false)]
    {
        assert_eq!(config.clients.permits(address.parse().unwrap()), permitted, "{address}");
    }
    let said = said(&made);
    for part in ["GSS is not taken over", "Pac: is not taken over", "IPv6"] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    assert!(!said.contains("chmod"), "{said}");
}

/// Whatever the file holds, what comes out loads, and tells no secret.
#[test]
fn any_bytes_give_a_configuration_that_loads() {
    let file = format!("{OLD}\n{NEW}\nPassword \" s3cret\u{e4}\"\nUsername x\n");
    let odd = [0, b'\n', b'"', b'#', b':', b' ', 0xff, 0xe4, 1, b'[', b'@', b'\\', b','];
    for cut in 0..file.len() {
        let mut bytes = file.as_bytes()[cut..].to_vec();
        bytes.truncate(1 + file.len() / 2);
        for (nth, at) in (0..bytes.len()).step_by(1 + cut % 97).enumerate() {
            if (nth + cut) % 3 == 0 {
                bytes[at] = odd[(nth + cut) % odd.len()];
            }
        }
        let made = import("c.conf", &bytes, None);
        let loaded = Config::load("made.cfg", made.text.as_bytes(), &Args::default());
        assert!(loaded.is_ok(), "{:?}\n{}", loaded.err(), made.text.as_str());
    }
}
