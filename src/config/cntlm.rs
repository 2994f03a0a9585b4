//! cntlm.conf to our own text: a configuration that does the same, and what could not be carried
//! over. Reads and writes no file; never names a secret in a notice.
//!
//! `grammar` reads the lines as cntlm does; `doors` (who may come, and where), `account` (who logs
//! in) and this file (where requests go) turn them into our keys. What comes out is loaded once
//! here: a line that [`Config::load`] refuses is left as a comment, with its words. So a feature
//! that is still to be built is taken over on the day it is.

use std::net::IpAddr;

use zeroize::Zeroizing;

use super::access::HostPattern;
use super::notice::{Notice, Origin, Report, Severity, printable, quoted};
use super::options::Section;
use super::values::{self, words};
use super::{Args, Config};

mod account;
mod clients;
mod doors;
mod grammar;

use grammar::{Entries, Entry};

/// How cntlm wrote password hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashForm {
    /// As they are: since 0.94.
    Plain,
    /// With every bit inverted: up to 0.93.
    Inverted,
}

impl HashForm {
    /// Both, as `--cntlm-hashes` names them.
    pub const NAMES: [(&'static str, Self); 2] =
        [("plain", Self::Plain), ("inverted", Self::Inverted)];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, form)| *form == self).map_or("", |(name, _)| name)
    }
}

/// What an import gives.
#[derive(Clone, Debug)]
pub struct Import {
    /// The configuration, ready to be written to a file.
    pub text: Zeroizing<String>,
    /// What was not carried over, and every trap met. No errors are among them, and no secrets.
    pub notices: Vec<Notice>,
}

/// Turns the bytes of a cntlm.conf into a configuration. `file_name` is for messages; `form` is
/// how its hashes are written, `None` to find out. Whatever the bytes are, the text loads.
pub fn import(file_name: &str, bytes: &[u8], form: Option<HashForm>) -> Import {
    let mut report = Report::new(file_name);
    let mut entries = grammar::read(bytes, &mut report);
    let last = entries.last.clone();
    if let Some(last) = last.as_ref().filter(|last| last.key == "Deny") {
        let message = "is the last line and no newline ends it, so cntlm never read it; it is \
                       taken over all the same, for it can only keep people out";
        report.warning(last.origin(), last.key, message);
        entries.read.push(last.clone());
    }
    let mut page = convert(&entries, form, &mut report);
    if let Some(last) = last.filter(|last| last.key != "Deny") {
        let message = "is the last line and no newline ends it, so cntlm never read it; it is \
                       left as a comment";
        report.warning(last.origin(), last.key, message);
        entries.read.push(last);
        let other = convert(&entries, form, &mut Report::new(file_name));
        page.add_unread(other);
    }
    page.settle(&mut report);
    if page.lines.iter().any(|line| SECRETS.contains(&line.key.as_str())) {
        let message = "what was printed can log in by itself: keep the file it goes to to \
                       yourself (chmod 600)";
        report.note(Origin::Default, "", message);
    }
    let (text, _) = page.render(file_name);
    Import { text, notices: report.finish().0 }
}

/// Our keys that hold secrets.
const SECRETS: [&str; 5] =
    ["PASSWORD", "NT_HASHED_PW", "LM_HASHED_PW", "NTLMV2_HASHED_PW", "SOCKS5_USERS"];

/// One line to be printed.
struct Line {
    section: Section,
    key: String,
    value: Zeroizing<String>,
    /// The line of cntlm.conf it comes from.
    origin: Origin,
    /// Comments above it; blank: none.
    comment: String,
    /// False: printed behind a `#`.
    active: bool,
}

impl Line {
    fn new(section: Section, key: &str, value: &str, origin: Origin) -> Self {
        let (key, value) = (key.to_owned(), Zeroizing::new(value.to_owned()));
        Self { section, key, value, origin, comment: String::new(), active: true }
    }

    fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = comment.into();
        self
    }

    fn inactive(mut self) -> Self {
        self.active = false;
        self
    }
}

/// The text that is to come out.
#[derive(Default)]
struct Page {
    lines: Vec<Line>,
}

impl Page {
    fn add(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// Adds as comments what would be there too if cntlm had read its last line.
    fn add_unread(&mut self, other: Self) {
        for line in other.lines {
            let known = |own: &Line| own.key == line.key && own.value == line.value;
            if !self.lines.iter().any(known) {
                let comment = "cntlm never read this, its last line, for no newline ends it. Take \
                               away the # if it\nwas meant:";
                self.lines.push(line.comment(comment).inactive());
            }
        }
    }

    /// Makes comments of the lines that a configuration must not hold, until it loads.
    fn settle(&mut self, report: &mut Report<'_>) {
        // Each round takes at least one line out.
        for _ in 0..=self.lines.len() {
            let (text, places) = self.render("");
            let Err(notices) = Config::load("", text.as_bytes(), &Args::default()) else { return };
            for notice in notices.iter().filter(|notice| notice.severity == Severity::Error) {
                let place = places.iter().find(|(line, _)| Origin::Line(*line) == notice.origin);
                let line = place.and_then(|(_, index)| self.lines.get_mut(*index));
                let Some(line) = line.filter(|line| line.active) else { continue };
                line.active = false;
                line.comment = format!("Not taken over: {}", printable(&notice.message));
                let message = format!("is left as a comment: {}", notice.message);
                report.warning(line.origin, &line.key, message);
            }
        }
    }

    /// The whole text, and which line of it each active line has become.
    fn render(&self, file_name: &str) -> (Zeroizing<String>, Vec<(usize, usize)>) {
        let name = printable(file_name);
        let mut text = Zeroizing::new(format!(
            "# Made by ntlmaps --import-cntlm of {name}\n\
             # Every key is explained in ntlmaps.cfg; `ntlmaps -c THISFILE --check` prints what \
             holds.\n"
        ));
        let (mut number, mut places) = (2, Vec::new());
        for (name, section) in Section::NAMES {
            let lines = self.lines.iter().enumerate().filter(|(_, line)| line.section == section);
            for (nth, (index, line)) in lines.enumerate() {
                if nth == 0 {
                    text.push_str(&format!("\n[{name}]\n"));
                    number += 2;
                }
                for comment in line.comment.lines() {
                    text.push_str(&format!("# {comment}\n"));
                    number += 1;
                }
                number += 1;
                let colon = if line.value.is_empty() { ":" } else { ": " };
                let written = Zeroizing::new(format!("{}{colon}{}", line.key, line.value.as_str()));
                if line.active {
                    places.push((number, index));
                    text.push_str(&written);
                } else {
                    // A control character in a comment would be a line of its own to some editors.
                    text.push('#');
                    text.push_str(&Zeroizing::new(printable(&written)));
                }
                text.push('\n');
            }
        }
        (text, places)
    }
}

/// Everything but the grammar and the last line.
fn convert(entries: &Entries, form: Option<HashForm>, report: &mut Report<'_>) -> Page {
    let mut page = Page::default();
    doors::convert(entries, &mut page, report);
    parents(entries, &mut page, report);
    bypass(entries, &mut page, report);
    header(entries, &mut page, report);
    account::convert(entries, form, &mut page, report);
    warn_of_unsupported(entries, report);
    page
}

/// The entries of a list that were taken over, as one line.
fn join(page: &mut Page, key: &str, taken: &[(&Entry, String)], comment: &str) {
    let Some((first, _)) = taken.first() else { return };
    let mut list: Vec<&str> = Vec::new();
    for (_, value) in taken {
        if !list.contains(&value.as_str()) {
            list.push(value);
        }
    }
    let value = Zeroizing::new(list.join(" "));
    page.add(Line::new(Section::General, key, &value, first.origin()).comment(comment));
}

/// What is wrong with one value of one key, told by the reader of our own files.
fn refused(section: Section, key: &str, value: &str) -> Option<String> {
    let text = Zeroizing::new(format!("[{}]\n{key}: {value}\n", section.name()));
    let notices = Config::load("", text.as_bytes(), &Args::default()).err()?;
    notices.into_iter().find(|n| n.severity == Severity::Error).map(|notice| {
        let why = notice.message.split(';').next().unwrap_or_default().to_owned();
        format!("{key} {why}")
    })
}

/// C's `atoi` for ports: the digits in front. `None` for what is no port.
fn port(text: &str) -> Option<u16> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end).0.parse().ok().filter(|port| *port != 0)
}

fn parents(entries: &Entries, page: &mut Page, report: &mut Report<'_>) {
    let mut taken = Vec::new();
    for entry in entries.all("Proxy") {
        let parts = entry.value.rsplit_once(':');
        let found = parts.and_then(|(host, digits)| Some((host, port(digits)?)));
        let Some((host, port)) = found else {
            let message = "is not taken over: it has no port, and cntlm does not start with it";
            report.warning(entry.origin(), "Proxy", message);
            continue;
        };
        let written = format!("{host}:{port}");
        match values::parent(&written) {
            Ok(_) if words(&written).count() == 1 => taken.push((entry, written)),
            Ok(_) => report.warning(entry.origin(), "Proxy", "is not taken over: it is no proxy"),
            Err(why) => {
                report.warning(entry.origin(), "Proxy", format!("is not taken over: {why}"));
            }
        }
    }
    if taken.is_empty() {
        let message = "no Proxy is taken over, so every server is gone to directly; cntlm does \
                       not start without one";
        report.warning(Origin::Default, "", message);
    }
    join(page, "PARENT_PROXY", &taken, "");
}

fn bypass(entries: &Entries, page: &mut Page, report: &mut Report<'_>) {
    let mut taken = Vec::new();
    let mut remarks: Vec<&str> = Vec::new();
    for entry in entries.all("NoProxy") {
        for word in words(&entry.value) {
            let (origin, name) = (entry.origin(), quoted(word));
            match host_pattern(word) {
                Ok(remark) => {
                    // The same goes for many: once is enough.
                    if !remark.is_empty() && !remarks.contains(&remark) {
                        report.note(origin, "NoProxy", format!("{name} {remark}"));
                        remarks.push(remark);
                    }
                    taken.push((entry, word.to_owned()));
                }
                Err(why) => {
                    report.warning(origin, "NoProxy", format!("{name} is not taken over: {why}"));
                }
            }
        }
    }
    join(page, "HOSTS_TO_BYPASS_PARENT_PROXY", &taken, "");
}

/// Whether a glob of cntlm's, `fnmatch` on the host as the client wrote it, can be taken over as it
/// is: what to remark, or why not. What matched nothing there and would match something here is
/// not.
fn host_pattern(word: &str) -> Result<&'static str, String> {
    if word.contains(['[', ']', '\\']) {
        return Err("there are no classes and no \\ in patterns here, only * and ?".to_owned());
    }
    let here = match HostPattern::parse(word)? {
        HostPattern::Local => "names without a dot",
        HostPattern::Addresses(_) if word.parse::<IpAddr>().is_ok() => return Ok(""),
        HostPattern::Addresses(_) if word.contains('/') => "all addresses of the block",
        HostPattern::Addresses(_) => "the address on every port",
        _ if word.starts_with('.') => "every name that ends so, which *.suffix says to both",
        _ if word.contains(':') => "the host on every port",
        HostPattern::Glob(all) if all == "*" => {
            return Ok("means every host: the parents are never used");
        }
        HostPattern::AddressGlob(_) => {
            return Ok("means addresses alone here, not names that begin or end like one");
        }
        _ if word.bytes().any(|b| b.is_ascii_uppercase()) => {
            return Ok("meant to cntlm only what clients write with these capitals; here case \
                       does not matter");
        }
        _ if word.bytes().any(|b| b.is_ascii_alphabetic()) => {
            return Ok("means the host in capitals too here; to cntlm it did not");
        }
        _ => return Ok(""),
    };
    Err(format!("to cntlm it meant no host at all, for it compares the whole text; here: {here}"))
}

fn header(entries: &Entries, page: &mut Page, report: &mut Report<'_>) {
    let mut names: Vec<String> = Vec::new();
    for entry in entries.all("Header") {
        let origin = entry.origin();
        let Some((name, value)) = entry.value.split_once(':') else {
            let message = "is not taken over: it holds no colon, and cntlm ignores it too";
            report.warning(origin, "Header", message);
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        if names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            let message = format!("{} is there twice, and the first holds", quoted(name));
            report.warning(origin, "Header", message);
            continue;
        }
        names.push(name.to_owned());
        if value.is_empty() {
            let message = format!(
                "{} is blank: cntlm sent it so, here the field is taken away",
                quoted(name)
            );
            report.warning(origin, "Header", message);
        }
        page.add(Line::new(Section::ClientHeader, name, value, origin));
    }
    let direct = entries.first("NoProxy");
    if let (Some(entry), Some(_)) = (entries.first("Header"), direct) {
        let message = "goes with every request here; cntlm left out those past the parents";
        report.note(entry.origin(), "Header", message);
    }
}

/// What there is no place for here.
fn warn_of_unsupported(entries: &Entries, report: &mut Report<'_>) {
    for (key, message) in [
        ("ISAScannerSize", "is not taken over: ISA's download pages are passed on as they come"),
        ("ISAScannerAgent", "is not taken over: ISA's download pages are passed on as they come"),
        ("Pac", "is not taken over: PARENT_PROXY and HOSTS_TO_BYPASS_PARENT_PROXY decide here"),
        ("PacFile", "is not taken over: PARENT_PROXY and HOSTS_TO_BYPASS_PARENT_PROXY decide here"),
        ("SSPI", "is not taken over: there is no login of Windows' own; USER logs in"),
    ] {
        if let Some(entry) = entries.first(key) {
            report.warning(entry.origin(), key, message);
        }
    }
    for key in ["Gateway", "NTLMToBasic"] {
        let value = entries.first(key);
        let odd = |entry: &&Entry| {
            !["yes", "no"].iter().any(|known| known.eq_ignore_ascii_case(&entry.value))
        };
        if let Some(entry) = value.filter(odd) {
            let message = "is off: nothing but yes turns it on for cntlm";
            report.warning(entry.origin(), key, message);
        }
    }
    if let Some(entry) = entries.first("Flags") {
        report.warning(entry.origin(), "Flags", flags(&entry.value));
    }
}

/// What `Flags` asked for. cntlm reverses the bytes of the number.
fn flags(text: &str) -> String {
    let why = "is not taken over: NTLM_DIALECT decides";
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let number = match hex {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None if text.starts_with('0') => u32::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    };
    match number {
        Some(0) => format!("{why}; 0 left the flags to cntlm's Auth"),
        Some(number) => format!(
            "{why}; the number is the four bytes as they are sent, so these were the NTLM flags \
             0x{:08X}, in the first message alone",
            number.swap_bytes()
        ),
        None => why.to_owned(),
    }
}
