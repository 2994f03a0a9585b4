//! Which text holds for each key, and where it comes from: the defaults, the file over them, the
//! command line over both. Finds the keys of the table in what the file says, and has each read its
//! value.

use zeroize::Zeroizing;

use super::args::Args;
use super::file::Item;
use super::notice::{Origin, Report};
use super::options::{self, COMMENT_HINT, ConfigKey, OPTIONS, Section, Values, seems_commented};
use super::unknown;
use super::values::flag;
use crate::auth::credentials::Credentials;

/// The text that holds for one key.
pub(super) struct Held {
    pub(super) text: Zeroizing<String>,
    pub(super) origin: Origin,
}

/// One line of `[CLIENT_HEADER]`.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: Zeroizing<String>,
    pub(super) origin: Origin,
}

/// The text that holds for every key, and the lines of `[CLIENT_HEADER]`.
pub(super) struct Settings {
    /// One for each of [`OPTIONS`], in their order.
    held: Vec<Held>,
    pub(super) fields: Vec<Field>,
    /// The command line names somebody else than the file does.
    pub(super) renamed: bool,
}

/// Keys that once chose what `NTLM_DIALECT` chooses.
const REPLACED_BY_DIALECT: [&str; 3] = ["LM_PART", "NT_PART", "NTLM_FLAGS"];

/// What the sample file of ntlmaps 1.0 holds until somebody fills it in.
const PLACEHOLDERS: [(&str, &str); 4] = [
    ("PARENT_PROXY", "your_parentproxy"),
    ("NT_DOMAIN", "your_domain"),
    ("USER", "username_to_use"),
    ("PASSWORD", "your_nt_password"),
];

impl Settings {
    /// Puts together what the file and the command line say, and the defaults where both are
    /// silent.
    pub(super) fn collect(items: Vec<(usize, Item)>, args: &Args, report: &mut Report<'_>) -> Self {
        let nothing = || Held { text: Zeroizing::default(), origin: Origin::Default };
        let held = OPTIONS.iter().map(|_| nothing()).collect();
        let mut settings = Self { held, fields: Vec::new(), renamed: false };
        settings.take_file(items, report);
        settings.take_args(args, report);
        settings.warn(report);
        settings.fill_in();
        settings
    }

    /// Every key with what holds for it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static ConfigKey, &Held)> {
        OPTIONS.iter().zip(&self.held)
    }

    /// The text that holds for a key.
    pub(super) fn text(&self, name: &str) -> &str {
        self.find(name).map_or("", |held| held.text.as_str())
    }

    /// Where it comes from.
    pub(super) fn origin(&self, name: &str) -> Origin {
        self.find(name).map_or(Origin::Default, |held| held.origin)
    }

    /// Reads every value, and reports every one that makes no sense.
    pub(super) fn values(&self, report: &mut Report<'_>) -> Values {
        let mut values = Values::default();
        for (key, held) in self.iter() {
            let comment = matches!(held.origin, Origin::Line(_)) && seems_commented(&held.text);
            match (key.parse)(&mut values, &held.text) {
                Ok(()) if comment => report.warning(held.origin, key.name, COMMENT_HINT),
                Ok(()) => {}
                Err(why) if comment => {
                    report.error(held.origin, key.name, format!("{why} ({COMMENT_HINT})"));
                }
                Err(why) => report.error(held.origin, key.name, why),
            }
        }
        values
    }

    fn find(&self, name: &str) -> Option<&Held> {
        self.iter().find(|(key, _)| key.name == name).map(|(_, held)| held)
    }

    /// Puts a text in the place of what held before, and gives that back.
    fn put(&mut self, name: &str, text: Zeroizing<String>, origin: Origin) -> Option<Held> {
        let mut keys = OPTIONS.iter().zip(&mut self.held);
        let (_, held) = keys.find(|(key, _)| key.name == name)?;
        Some(std::mem::replace(held, Held { text, origin }))
    }

    fn take_file(&mut self, items: Vec<(usize, Item)>, report: &mut Report<'_>) {
        let mut section = None;
        for (line, item) in items {
            let origin = Origin::Line(line);
            match item {
                Item::Section(name) => {
                    unknown::warn_of_section(&name, origin, report);
                    section = Some(name);
                }
                Item::Pair(key, value) => {
                    self.take_pair(section.as_deref(), &key, value, origin, report);
                }
            }
        }
    }

    fn take_pair(
        &mut self,
        section: Option<&str>,
        name: &str,
        value: Zeroizing<String>,
        origin: Origin,
        report: &mut Report<'_>,
    ) {
        let here = section.and_then(Section::named);
        let key = options::find(name);
        match key {
            Some(key) if here == Some(Section::ClientHeader) => {
                // A forgotten [NTLM_AUTH] would send the password to every server there is.
                let message = format!(
                    "would be sent as a header field; write it under [{}]",
                    key.section.name()
                );
                report.error(origin, key.name, message);
            }
            _ if here == Some(Section::ClientHeader) => {
                self.fields.push(Field { name: name.to_owned(), value, origin });
            }
            Some(key) => {
                if here != Some(key.section) {
                    let belongs =
                        format!("belongs under [{}]; taken all the same", key.section.name());
                    report.warning(origin, key.name, belongs);
                }
                let before = self.put(key.name, value, origin).map(|held| held.origin);
                if let Some(Origin::Line(line)) = before {
                    report.warning(
                        origin,
                        key.name,
                        format!("is in line {line} too; this one holds"),
                    );
                }
            }
            None => unknown::warn_of_key(section.unwrap_or_default(), name, origin, report),
        }
    }

    fn take_args(&mut self, args: &Args, report: &mut Report<'_>) {
        let password = args.password.as_ref().map(|secret| secret.expose().to_owned());
        if password.is_some() {
            let message =
                "others can read it in the list of processes; NTLMAPS_PASSWORD they cannot";
            report.note(Origin::CommandLine, "PASSWORD", message);
        }
        // As the original did: to name one account is to want it for everybody.
        let one_account = args.username.as_ref().filter(|name| !name.is_empty());
        let who = |settings: &Self| {
            Credentials::split_name(settings.text("USER"), settings.text("NT_DOMAIN"))
        };
        let (file_domain, file_user) = who(self);
        for (name, text) in [
            ("LISTEN_PORT", args.port.map(|port| port.to_string())),
            ("TUNNELS", args.tunnels.clone()),
            ("NT_DOMAIN", args.domain.clone()),
            ("USER", args.username.clone()),
            ("PASSWORD", password),
            ("NTLM_TO_BASIC", one_account.map(|_| "0".to_owned())),
        ] {
            if let Some(text) = text {
                self.put(name, Zeroizing::new(text), Origin::CommandLine);
            }
        }
        let (domain, user) = who(self);
        self.renamed = !file_user.is_empty() && file_user.to_uppercase() != user.to_uppercase()
            || !file_domain.is_empty() && file_domain != domain;
    }

    /// Warns of what will not do what somebody may expect, before the defaults hide who said it.
    fn warn(&self, report: &mut Report<'_>) {
        let written = |name: &&str| !self.text(name).is_empty();
        let replaced: Vec<&str> = REPLACED_BY_DIALECT.into_iter().filter(written).collect();
        if let [first, others @ ..] = replaced.as_slice() {
            let nor = if others.is_empty() { "" } else { ", nor has " };
            let others = others.join(" or ");
            let message = format!("has no effect{nor}{others}; NTLM_DIALECT decides now");
            report.warning(self.origin(first), first, message);
        }
        for (name, placeholder) in PLACEHOLDERS {
            if self.text(name) == placeholder {
                report.warning(self.origin(name), name, "still holds the text of the sample file");
            }
        }
    }

    /// Puts the defaults where nothing is written, or a blank.
    fn fill_in(&mut self) {
        let defaults: Vec<Option<&str>> = self
            .iter()
            .map(|(key, held)| {
                let written =
                    !held.text.is_empty() || key.blank_counts && held.origin != Origin::Default;
                let other = key.other_default.filter(|(when, _)| {
                    when(&|name| {
                        !matches!(self.text(name), "") && flag(self.text(name)) != Ok(false)
                    })
                });
                (!written).then(|| other.map_or(key.default, |(_, text)| text))
            })
            .collect();
        for (held, default) in self.held.iter_mut().zip(defaults) {
            if let Some(text) = default.filter(|text| !text.is_empty()) {
                *held = Held { text: Zeroizing::new(text.to_owned()), origin: Origin::Default };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file;

    /// The texts that hold, but the defaults, with their origins; and the notices.
    fn collect(text: &str, words: &[&str]) -> (Vec<String>, Vec<String>) {
        let mut report = Report::new("f");
        let items = file::read(text.as_bytes(), &mut report);
        let args = Args::parse(words).unwrap();
        let settings = Settings::collect(items, &args, &mut report);
        let held = settings
            .iter()
            .filter(|(_, held)| held.origin != Origin::Default)
            .map(|(key, held)| match held.origin {
                Origin::Line(line) => format!("{}={} {line}", key.name, held.text.as_str()),
                _ => format!("{}={}", key.name, held.text.as_str()),
            })
            .collect();
        (held, report.finish().0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn keys_are_found_wherever_they_stand_and_however_they_are_written() {
        for (file, held, notices) in [
            ("[GENERAL]\nURL_LOG: 1", "URL_LOG=1 2", ""),
            ("[general]\nUrl_Log: 1\n[ Debug ]\ndebug: 1", "URL_LOG=1 2|DEBUG=1 4", ""),
            (
                "[GENERAL]\nURL_LOG: 1\n[DEBUG]\n[GENERAL]\nMAX_CLIENTS: 9",
                "URL_LOG=1 2|MAX_CLIENTS=9 5",
                "",
            ),
            (
                "[GENERAL]\nURL_LOG: 1\nURL_LOG: 2",
                "URL_LOG=2 3",
                "f:3: URL_LOG: is in line 2 too; this one holds",
            ),
            ("USER: u", "USER=u 1", "f:1: USER: belongs under [NTLM_AUTH]; taken all the same"),
            (
                "[GENERAL]\nUSER: u",
                "USER=u 2",
                "f:2: USER: belongs under [NTLM_AUTH]; taken all the same",
            ),
            ("[GENERAL]\ns3cret!: 1", "", "f:2: this is no key"),
            (
                "[GENERALS]\nURL_LOG: 1",
                "URL_LOG=1 2",
                "f:1: [GENERALS] is no section; did you mean [GENERAL]?|\
                 f:2: URL_LOG: belongs under [GENERAL]; taken all the same",
            ),
            ("[]\n", "", "f:1: [] is no section"),
            ("[x y z]\n", "", "f:1: [x y z] is no section"),
            (
                "[GENERAL]\nLISTEN_PROT: 1",
                "",
                "f:2: \"LISTEN_PROT\" is no key; did you mean LISTEN_PORT?",
            ),
            (
                "[NTLM_AUTH]\nPASWORD: s3cret",
                "",
                "f:2: \"PASWORD\" is no key; did you mean PASSWORD?",
            ),
            (
                "[NTLM_AUTH]\nnt-domain: x",
                "",
                "f:2: \"nt-domain\" is no key; did you mean NT_DOMAIN?",
            ),
            ("[GENERAL]\nQQQQQQQQQQQQ: 1", "", "f:2: \"QQQQQQQQQQQQ\" is no key"),
            (
                "[GENERAL]\nURL_LOG:\nUSER:",
                "USER= 3",
                "f:3: USER: belongs under [NTLM_AUTH]; taken all the same",
            ),
        ] {
            let (got_held, got_notices) = collect(file, &[]);
            assert_eq!(got_held.join("|"), held, "{file}");
            assert_eq!(got_notices.join("|"), notices, "{file}");
        }
        let (_, notices) = collect(&format!("{}: 1", "LISTEN_PORT".repeat(1000)), &[]);
        assert!(notices.concat().len() < 120, "a long key is not repeated in full");
    }

    #[test]
    fn keys_of_old_versions_are_known() {
        let dialect = "NTLM_DIALECT decides now";
        for (file, notices) in [
            ("LM_PART: 1", format!("f:2: LM_PART: has no effect; {dialect}")),
            (
                "NTLM_FLAGS: 06820000\nLM_PART: x\nNT_PART: 0",
                format!("f:3: LM_PART: has no effect, nor has NT_PART or NTLM_FLAGS; {dialect}"),
            ),
            ("LM_PART:\nNT_PART:", String::new()),
            ("FULL_NTLM: 1", format!("f:2: FULL_NTLM: has no effect; {dialect}")),
            ("USER: username_to_use", "f:2: USER: still holds the text of the sample file".into()),
            (
                "[NTLM]\nDOMAIN: x",
                "f:3: DOMAIN: has no effect; write NT_DOMAIN under [NTLM_AUTH]".into(),
            ),
            (
                "[direct]\nHosts: x",
                "f:3: HOSTS: has no effect; write HOSTS_TO_BYPASS_PARENT_PROXY under [GENERAL]"
                    .into(),
            ),
            ("DOMAIN: x", "f:2: \"DOMAIN\" is no key; did you mean NT_DOMAIN?".into()),
        ] {
            assert_eq!(
                collect(&format!("[NTLM_AUTH]\n{file}"), &[]).1.join("|"),
                notices,
                "{file}"
            );
        }
    }

    #[test]
    fn the_command_line_overrides_the_file() {
        let file = "[GENERAL]\nLISTEN_PORT: 1\n\
                    [NTLM_AUTH]\nUSER: u\nNT_DOMAIN: d\nPASSWORD: p\nNTLM_TO_BASIC: 1";
        let words = ["--port", "2", "--username", "v", "--domain", "e", "--password", "q"];
        let (held, notices) = collect(file, &words);
        assert_eq!(
            held,
            ["LISTEN_PORT=2", "NT_DOMAIN=e", "USER=v", "PASSWORD=q", "NTLM_TO_BASIC=0"]
        );
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(notices.concat().starts_with("command line: PASSWORD: others can read it"));
        let (held, _) = collect(file, &["--domain", ""]);
        assert_eq!(held.iter().find(|held| held.starts_with("NT_DOMAIN")).unwrap(), "NT_DOMAIN=");
    }

    #[test]
    fn defaults_fill_what_is_blank_and_may_hang_on_others() {
        let text = |file: &str, name: &str| {
            let mut report = Report::new("f");
            let items = file::read(file.as_bytes(), &mut report);
            Settings::collect(items, &Args::default(), &mut report).text(name).to_owned()
        };
        for (file, name, expected) in [
            ("", "LISTEN_PORT", "5865"),
            ("LISTEN_PORT:", "LISTEN_PORT", "5865"),
            ("", "WWW_AUTH_HOSTS", "<local>"),
            ("WWW_AUTH_HOSTS:", "WWW_AUTH_HOSTS", ""),
            ("", "NTLM_TO_BASIC", "1"),
            ("USER: u", "NTLM_TO_BASIC", "0"),
            ("USER: u\nNTLM_TO_BASIC:", "NTLM_TO_BASIC", "0"),
            ("USER: u\nNTLM_TO_BASIC: 1", "NTLM_TO_BASIC", "1"),
            ("USER:\nNTLM_TO_BASIC: 0", "NTLM_TO_BASIC", "0"),
            ("", "LISTEN_ADDRESS", "127.0.0.1 ::1"),
            ("FRIENDLY_IPS: a", "LISTEN_ADDRESS", "0.0.0.0 ::"),
            ("ALLOW_EXTERNAL_CLIENTS: 1", "LISTEN_ADDRESS", "0.0.0.0 ::"),
            ("ALLOW_EXTERNAL_CLIENTS: 0", "LISTEN_ADDRESS", "127.0.0.1 ::1"),
            ("FRIENDLY_IPS: a\nLISTEN_ADDRESS: ::1", "LISTEN_ADDRESS", "::1"),
        ] {
            assert_eq!(text(file, name), expected, "{file}");
        }
    }
}
