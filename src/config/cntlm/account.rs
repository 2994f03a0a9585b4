//! Whose account a cntlm.conf logs in with: names, password, hashes and dialect. Finds out how the
//! hashes are written, where anything tells.

use zeroize::Zeroizing;

use super::grammar::{Entries, Entry};
use super::{HashForm, Line, Page};
use crate::config::notice::{Origin, Report, quoted};
use crate::config::options::Section::NtlmAuth;
use crate::config::values;
use crate::ntlm::Dialect;
use crate::ntlm::crypto::{Key, lmowfv1, ntowfv1, ntowfv2};

/// The longest single value of cntlm up to 0.93, in bytes.
const LONGEST: usize = 49;

pub(super) fn convert(
    entries: &Entries,
    form: Option<HashForm>,
    page: &mut Page,
    report: &mut Report<'_>,
) {
    let names = Names::of(entries);
    let per_client = entries.is_on("NTLMToBasic");
    if let Some(entry) = entries.first("Workstation") {
        page.add(line("NT_HOSTNAME", &entry.value, entry.origin()));
    }
    names.convert(entries, per_client, page, report);
    let dialect = dialect(entries, page, report);
    if per_client {
        let entry = entries.first("NTLMToBasic");
        page.add(line("NTLM_TO_BASIC", "1", entry.map_or(Origin::Default, Entry::origin)));
        if let Some(user) = entries.first("Username") {
            let message = "is not taken over, nor is its password: each client brings its own";
            report.note(user.origin(), "Username", message);
        }
        return;
    }
    if names.user.is_empty() {
        let message = "there is no Username: each client is asked for its own account, by Basic";
        report.warning(Origin::Default, "", message);
        return;
    }
    let hashes = Hashes::of(entries, report);
    let mut password = entries.first("Password").filter(|entry| !entry.value.is_empty());
    // What `cntlm -H >>cntlm.conf` leaves there.
    if let Some(prompt) = password.filter(|entry| entry.value.as_str() == ":") {
        let message = "is not taken over: it is the prompt of cntlm -H. cntlm takes the colon for \
                       the password and the hashes for nothing; here the hashes are taken";
        report.warning(prompt.origin(), "Password", message);
        password = None;
    }
    match password {
        Some(entry) => {
            write_password(entry, page, report);
            hashes.compare(&entry.value, &names, report);
        }
        None => {
            // cntlm does not read a last line without a newline; as a witness it is good enough.
            let unread = entries.last.iter().find(|entry| entry.key == "Password");
            let witness = unread.map(|entry| entry.value.as_str());
            write_hashes(&hashes, dialect, form, witness, &names, page, report);
        }
    }
}

fn line(key: &str, value: &str, origin: Origin) -> Line {
    Line::new(NtlmAuth, key, value, origin)
}

/// Who logs in, as cntlm sends it.
struct Names {
    user: String,
    /// In capitals, as cntlm sends and hashes it.
    domain: String,
}

impl Names {
    fn of(entries: &Entries) -> Self {
        let text = |key| entries.first(key).map_or(String::new(), |entry| entry.value.to_string());
        Self { user: text("Username"), domain: text("Domain").to_ascii_uppercase() }
    }

    fn convert(
        &self,
        entries: &Entries,
        per_client: bool,
        page: &mut Page,
        report: &mut Report<'_>,
    ) {
        for key in ["Username", "Domain", "Workstation"] {
            let Some(entry) = entries.first(key) else { continue };
            if entry.value.trim() != entry.value.as_str() {
                let message = "the blanks at its ends are not taken over";
                report.warning(entry.origin(), key, message);
            }
            if !entry.value.is_ascii() {
                let message = "cntlm sent the characters beyond ASCII wrong; here they are sent \
                               as they read";
                report.warning(entry.origin(), key, message);
            }
        }
        let domain = entries.first("Domain").filter(|entry| !entry.value.is_empty());
        if let Some(entry) = domain {
            page.add(line("NT_DOMAIN", &self.domain, entry.origin()));
            if self.domain != *entry.value {
                let message = format!(
                    "is written {}, for so cntlm sends it, and a PassNTLMv2 is good for nothing \
                     else",
                    quoted(&self.domain)
                );
                report.note(entry.origin(), "Domain", message);
            }
        }
        let Some(user) = entries.first("Username").filter(|_| !per_client) else { return };
        let Self { user: name, domain } = self;
        // To us @ and \ part user and domain, to cntlm they are characters like others.
        let (written, remark) = if name.contains('\\') {
            (
                format!("{domain}\\{name}"),
                "the \\ is part of the name to cntlm, and what stands before it is no domain; if \
                 it was meant to be one, write USER: DOMAIN\\user",
            )
        } else if name.contains('@') && !domain.is_empty() {
            (
                format!("{domain}\\{name}"),
                "the @ is part of the name to cntlm, which sends Domain with it; parents that \
                 refuse that want USER: user@domain alone",
            )
        } else {
            (name.clone(), "")
        };
        if !remark.is_empty() {
            report.warning(user.origin(), "Username", remark);
        }
        page.add(line("USER", &written, user.origin()));
    }

    /// NTOWFv2 as cntlm computes it.
    fn ntlmv2(&self, nt: &Key) -> Key {
        ntowfv2(nt, &self.user.to_ascii_uppercase(), &self.domain)
    }
}

fn dialect(entries: &Entries, page: &mut Page, report: &mut Report<'_>) -> Dialect {
    let Some(entry) = entries.first("Auth") else { return Dialect::Ntlmv2 };
    let mut known = Dialect::NAMES.into_iter();
    if let Some((name, dialect)) = known.find(|(name, _)| name.eq_ignore_ascii_case(&entry.value)) {
        page.add(line("NTLM_DIALECT", name, entry.origin()));
        return dialect;
    }
    let message = match entry.value.eq_ignore_ascii_case("GSS") {
        true => "GSS is not taken over: there is no Kerberos here; it is NTLMv2 with the account",
        false => "is no dialect, and cntlm does not start with it; NTLMv2 is taken",
    };
    report.warning(entry.origin(), "Auth", message);
    Dialect::Ntlmv2
}

fn write_password(entry: &Entry, page: &mut Page, report: &mut Report<'_>) {
    let (origin, text) = (entry.origin(), &entry.value);
    if text.len() > LONGEST {
        let message = format!(
            "is longer than {LONGEST} bytes; cntlm up to 0.93 left the rest away, here all of it \
             counts"
        );
        report.warning(origin, "Password", message);
    }
    if !text.is_ascii() {
        let message = "cntlm hashed the characters beyond ASCII wrong unless the file is in \
                       Latin-1; here they count as they read";
        report.warning(origin, "Password", message);
    }
    let at_end = |c: Option<char>| c.is_some_and(|c| c == ' ' || c == '\t');
    let writable = !at_end(text.chars().next())
        && !at_end(text.chars().next_back())
        && !text.chars().any(|c| c.is_control() && c != '\t');
    if writable {
        page.add(line("PASSWORD", text, origin));
        return;
    }
    let message = "has blanks at its ends or control characters, which PASSWORD cannot have; its \
                   hashes stand in its place";
    report.note(origin, "Password", message);
    page.add(line("NT_HASHED_PW", &hex(&ntowfv1(text)), origin));
    if let Some(lm) = lmowfv1(text) {
        page.add(line("LM_HASHED_PW", &hex(&lm), origin));
    }
}

fn hex(key: &Key) -> Zeroizing<String> {
    Zeroizing::new(key.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A hash as it stands in the file, plain or inverted.
type Written<'a> = Option<(&'a Entry, Zeroizing<Key>)>;

struct Hashes<'a> {
    ntlmv2: Written<'a>,
    nt: Written<'a>,
    lm: Written<'a>,
}

/// The second half of an LM hash whose password has 7 characters at most.
const EMPTY_HALF: [u8; 8] = [0xaa, 0xd3, 0xb4, 0x35, 0xb5, 0x14, 0x04, 0xee];

impl<'a> Hashes<'a> {
    fn of(entries: &'a Entries, report: &mut Report<'_>) -> Self {
        let mut hash = |key| {
            let entry = entries.first(key).filter(|entry| !entry.value.is_empty())?;
            match values::hash(&entry.value) {
                Ok(Some(hash)) if entry.value.len() == 32 => Some((entry, Zeroizing::new(hash))),
                _ => {
                    let message = "is not taken over: it is no hash of 32 hexadecimal digits";
                    report.warning(entry.origin(), key, message);
                    None
                }
            }
        };
        Self { ntlmv2: hash("PassNTLMv2"), nt: hash("PassNT"), lm: hash("PassLM") }
    }

    fn all(&self) -> impl Iterator<Item = &(&'a Entry, Zeroizing<Key>)> {
        [&self.ntlmv2, &self.nt, &self.lm].into_iter().flatten()
    }

    /// How a hash must be written to be the one of this password, if it can be.
    fn form_by_password(&self, password: &str, names: &Names) -> Option<HashForm> {
        // cntlm hashed what it had, perhaps not all of it.
        let cut = password.get(..LONGEST).unwrap_or(password);
        HashForm::NAMES.into_iter().map(|(_, form)| form).find(|form| {
            [password, cut].into_iter().any(|password| {
                let nt = ntowfv1(password);
                let is = |written: &Written<'_>, hash: Option<Key>| {
                    written.as_ref().is_some_and(|(_, key)| Some(form.read(key)) == hash)
                };
                is(&self.nt, Some(nt))
                    || is(&self.ntlmv2, Some(names.ntlmv2(&nt)))
                    || is(&self.lm, lmowfv1(password))
            })
        })
    }

    /// What tells how the hashes are written.
    fn evidence(&self, witness: Option<&str>, names: &Names) -> Vec<(HashForm, &'static str)> {
        let mut found = Vec::new();
        let forms = || HashForm::NAMES.into_iter().map(|(_, form)| form);
        if let Some(form) = witness.and_then(|text| self.form_by_password(text, names)) {
            found.push((form, "they are those of the Password that cntlm never read"));
        }
        if let (Some((_, nt)), Some((_, v2))) = (&self.nt, &self.ntlmv2)
            && let Some(form) = forms().find(|f| names.ntlmv2(&f.read(nt)) == f.read(v2))
        {
            found.push((form, "only so does PassNTLMv2 follow from PassNT"));
        }
        if let Some((_, lm)) = &self.lm
            && let Some(form) = forms().find(|form| form.read(lm).ends_with(&EMPTY_HALF))
        {
            found.push((form, "the second half of PassLM is that of a short password"));
        }
        found
    }

    /// Tells of hashes beside a password, which cntlm does not look at.
    fn compare(&self, password: &str, names: &Names, report: &mut Report<'_>) {
        let Some((entry, _)) = self.all().next() else { return };
        match self.form_by_password(password, names) {
            Some(form) => {
                let message = format!(
                    "the hashes are not taken over: cntlm takes Password, and they are the same \
                     ({})",
                    form.name()
                );
                report.note(entry.origin(), entry.key, message);
            }
            None => {
                let message = "the hashes are not taken over: cntlm takes Password, and they \
                               belong to another one";
                report.warning(entry.origin(), entry.key, message);
            }
        }
    }
}

impl HashForm {
    /// The hash itself, from how it is written.
    fn read(self, written: &Key) -> Key {
        match self {
            Self::Plain => *written,
            Self::Inverted => written.map(|byte| !byte),
        }
    }
}

/// Writes the hashes that the dialect works with, and no others: one more may be left from an old
/// password, and each wrong one costs a logon.
fn write_hashes(
    hashes: &Hashes<'_>,
    dialect: Dialect,
    form: Option<HashForm>,
    witness: Option<&str>,
    names: &Names,
    page: &mut Page,
    report: &mut Report<'_>,
) {
    let (nt, lm) = (("NT_HASHED_PW", &hashes.nt), ("LM_HASHED_PW", &hashes.lm));
    let ntlmv2 = ("NTLMV2_HASHED_PW", &hashes.ntlmv2);
    let wanted = match dialect {
        Dialect::Ntlmv2 if hashes.ntlmv2.is_some() => vec![ntlmv2],
        Dialect::Ntlmv2 | Dialect::Ntlm2Session | Dialect::Nt => vec![nt],
        Dialect::NtlmAndLm => vec![nt, lm],
        Dialect::Lm => vec![lm],
    };
    let missing = wanted.iter().any(|(_, written)| written.is_none());
    let Some((first, _)) = hashes.all().next().filter(|_| !missing) else {
        let message = "there is no Password, nor the hashes that Auth works with; cntlm does not \
                       start so. NTLMAPS_PASSWORD or a terminal can supply the password";
        report.warning(Origin::Default, "", message);
        return;
    };
    if dialect == Dialect::Ntlmv2 && hashes.ntlmv2.is_none() {
        let message = "is enough for NTLMv2 here; cntlm wants PassNTLMv2 and does not start so";
        report.note(first.origin(), first.key, message);
    }
    let left: Vec<&str> = hashes
        .all()
        .map(|(entry, _)| entry.key)
        .filter(|key| {
            !wanted.iter().flat_map(|(_, w)| w.iter()).any(|(entry, _)| entry.key == *key)
        })
        .collect();
    if !left.is_empty() {
        let message = format!("{} not taken over: Auth works without", left.join(" and "));
        report.note(first.origin(), "", message);
    }
    // Sent as it reads, such a name does not fit a hash that cntlm made of its bytes.
    let bound = wanted.iter().any(|(key, _)| *key == "NTLMV2_HASHED_PW");
    let usable = !bound || names.user.is_ascii() && names.domain.is_ascii();
    if !usable {
        let message = "is left as a comment: with characters beyond ASCII in a name it is not the \
                       hash that Windows makes, and would be a failed logon";
        report.warning(first.origin(), first.key, message);
    }
    let form = find_form(hashes, form, witness, names, first, report);
    // 0.92.3 is what distributions ship: without evidence its form is the likelier one.
    let likely = form.unwrap_or(HashForm::Inverted);
    let add = |form: HashForm, page: &mut Page, active: bool, comment: &str| {
        let written = wanted.iter().filter_map(|(key, written)| Some((key, written.as_ref()?)));
        for (nth, (key, (entry, hash))) in written.enumerate() {
            let mut line = line(key, &hex(&form.read(hash)), entry.origin());
            line.active = active && usable;
            page.add(if nth == 0 { line.comment(comment) } else { line });
        }
    };
    if form.is_some() {
        add(likely, page, true, "");
        return;
    }
    let guess = "Of cntlm up to 0.93 (inverted); a guess. `ntlmaps -c THISFILE --hash` tells which \
                 is right.";
    add(likely, page, true, guess);
    add(HashForm::Plain, page, false, "Of cntlm 0.94 (plain):");
}

/// How the hashes are written: by the switch, else by what they tell themselves.
fn find_form(
    hashes: &Hashes<'_>,
    form: Option<HashForm>,
    witness: Option<&str>,
    names: &Names,
    first: &Entry,
    report: &mut Report<'_>,
) -> Option<HashForm> {
    let evidence = hashes.evidence(witness, names);
    let (origin, key) = (first.origin(), first.key);
    if let Some(form) = form {
        if let Some((other, why)) = evidence.iter().find(|(other, _)| *other != form) {
            let message = format!(
                "taken as {}, as --cntlm-hashes says, but looks {}: {why}",
                form.name(),
                other.name()
            );
            report.warning(origin, key, message);
        }
        return Some(form);
    }
    if let Some((form, why)) = evidence.first()
        && evidence.iter().all(|(other, _)| other == form)
    {
        let message = format!("the hashes are {}: {why}", form.name());
        report.note(origin, key, message);
        return Some(*form);
    }
    let contradiction =
        if evidence.is_empty() { "nothing tells" } else { "the hashes disagree on" };
    let message = format!(
        "{contradiction} whether they are inverted (cntlm up to 0.93) or plain (0.94); they are \
         taken as inverted, with the plain ones beside them as comments. Find out before the first \
         start, for a wrong hash is a failed logon: `cntlm -h` tells the version that works with \
         this file, then import again with --cntlm-hashes; or type the password into `ntlmaps -c \
         NEWFILE --hash`, which asks no server, and keep the lines that hold what it prints"
    );
    report.warning(origin, key, message);
    None
}
