//! The lines of a diagnosis: facts with their labels, in columns. Must not know where they go, nor a
//! secret.

use std::time::Duration;

use base64::Engine;

use crate::auth::credentials::Credentials;
use crate::auth::{BASE64, Scheme, spnego};
use crate::config::{Account, Args, Config, Route};
use crate::hop::HopName;
use crate::http::challenge::Challenge;
use crate::http::head::ResponseHead;
use crate::http::target::RequestTarget;
use crate::ntlm::Dialect;
use crate::ntlm::message::ChallengeMessage;
use crate::sys;

/// The report is this wide; what follows a label begins here.
const WIDTH: usize = 80;
const INDENT: usize = 15;
/// A clock that is further off than this is worth a word; Kerberos draws its line there.
const MAX_SKEW: u64 = 300;

/// The report, line by line.
pub(super) struct Report<'a>(&'a mut dyn FnMut(&str));

impl<'a> Report<'a> {
    /// Each line goes out as soon as it is known.
    pub(super) fn new(out: &'a mut dyn FnMut(&str)) -> Self {
        Self(out)
    }

    /// A line as it is. What strangers sent is among the words: control characters do not pass.
    pub(super) fn line(&mut self, text: &str) {
        let safe: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        (self.0)(&safe);
    }

    /// A paragraph.
    pub(super) fn text(&mut self, text: &str) {
        self.wrapped("", 0, text);
    }

    /// A labelled fact.
    pub(super) fn fact(&mut self, label: &str, text: &str) {
        self.wrapped(&format!("  {label:<12}"), INDENT, text);
    }

    fn wrapped(&mut self, start: &str, indent: usize, text: &str) {
        let mut line = start.to_owned();
        let mut length = line.len();
        for word in text.split(' ') {
            let wanted = word.chars().count().saturating_add(1);
            if length.saturating_add(wanted) > WIDTH && length > indent {
                self.line(&line);
                line = " ".repeat(indent.saturating_sub(1));
                length = line.len();
            }
            if length > 0 {
                line.push(' ');
            }
            line.push_str(word);
            length = length.saturating_add(wanted);
        }
        self.line(&line);
    }

    /// What is about to be diagnosed.
    pub(super) fn introduce(&mut self, url: &RequestTarget, config: &Config, args: &Args) {
        let given = if args.url.is_some() { "" } else { " (none was given)" };
        self.line(&format!("Diagnosis with the URL {}{given}", url.encode(false)));
        let account = match &config.account {
            Account::Known(account) => {
                format!("{}, NTLM_DIALECT {}", user(account), dialect_name(config.dialect))
            }
            Account::PerClient => "each client brings its own (NTLM_TO_BASIC)".to_owned(),
            _ => "none (USER is blank)".to_owned(),
        };
        self.fact("account", &account);
        self.fact("AUTH", &scheme_names(&config.schemes));
        let bypassed = url.authority().is_some_and(|host| config.route(host) == Route::Direct);
        if config.parents.is_empty() {
            self.fact("parents", "none (PARENT_PROXY is blank): everything goes direct");
        } else if bypassed {
            let text = "HOSTS_TO_BYPASS_PARENT_PROXY names this host: parents are asked for it \
                        here, but in service it is gone to directly";
            self.fact("bypass", text);
        }
        if args.all_dialects {
            self.line("");
            self.text(
                "Warning: up to five dialects are tried, and each refusal counts as a bad logon. \
                 Many domains lock an account after three.",
            );
        }
    }

    /// Whom the next facts are about.
    pub(super) fn hop(&mut self, name: &HopName) {
        self.line("");
        let way = if name.is_parent { "Parent proxy" } else { "Directly to" };
        self.line(&format!("{way} {}", name.authority));
    }

    /// The challenges of a 407, one in a line.
    pub(super) fn offers(&mut self, offered: &[Challenge]) {
        let mut label = "offers";
        for challenge in offered {
            let mut text = challenge.scheme.clone();
            for name in ["realm", "algorithm", "qop"] {
                if let Some(value) = challenge.param(name) {
                    text.push_str(&format!(" {name}=\"{value}\""));
                }
            }
            self.fact(label, &text);
            label = "";
        }
        if offered.is_empty() {
            self.fact(label, "no way to log in");
        }
    }

    /// Whether the connection outlives the 407: as it says, and as it is.
    pub(super) fn persistence(&mut self, announced: bool, kept: bool) {
        let text = match (announced, kept) {
            (_, true) => "stays open after the 407",
            (false, _) => "closes after the 407, and says so: the login takes a new one",
            (true, _) => "closes after the 407 without saying so: the login takes a new one",
        };
        self.fact("connection", text);
    }

    /// How a login ended.
    pub(super) fn login(
        &mut self,
        scheme: Option<Scheme>,
        dialect: Dialect,
        account: &Credentials,
        response: &ResponseHead,
        took: Duration,
    ) {
        let name = scheme_names(scheme.as_slice());
        let how = match scheme {
            Some(Scheme::Ntlm | Scheme::Negotiate) => {
                format!("{} by {name} as {}", dialect_name(dialect), user(account))
            }
            _ => format!("{name} as {}", account.user),
        };
        let verdict = match response.status {
            401 | 407 => "REFUSED",
            500.. => "not refused, but no success either",
            _ => "accepted",
        };
        let text = format!("{how}: {verdict}, in {}", milliseconds(took));
        self.fact("login", &text);
    }

    /// The answer that counts. Whether the request went through.
    pub(super) fn result(&mut self, method: &str, response: &ResponseHead) -> bool {
        let connect = method == "CONNECT";
        let what = if connect { "the tunnel" } else { "the request" };
        let through = match response.status {
            200..=299 => true,
            // Only an origin says so.
            300..=399 | 401 | 404 => !connect,
            _ => false,
        };
        let status = status_line(response);
        if through {
            self.fact("result", &format!("{what} went through: {status}"));
            return true;
        }
        self.fact("result", &format!("{what} was not served: {status}"));
        let text = "The parent or the origin does not want this request or cannot fulfil it: a \
                    rule (403), a name it does not find or a host it cannot reach (502, 503, 504). \
                    Another URL may fare better.";
        self.fact("means", text);
        false
    }

    /// What the challenge among `offered` says. `now` is this machine's clock. One that cannot be
    /// read is the handshake's to refuse.
    pub(super) fn challenge(&mut self, offered: &[Challenge], scheme: Option<Scheme>, now: u64) {
        let name = scheme_names(scheme.as_slice());
        let token = offered.iter().find(|c| c.is(&name)).and_then(|c| c.token68.as_ref());
        let Some(bytes) = token.and_then(|token| BASE64.decode(token).ok()) else { return };
        let unwrapped = spnego::unwrap(&bytes).map_or(bytes.as_slice(), |(_, message)| message);
        let Ok(challenge) = ChallengeMessage::decode(unwrapped) else { return };
        self.fact("flags", &format!("{:?}", challenge.flags));
        for name in challenge.flags.names() {
            self.fact("", name);
        }
        let mut label = "target info";
        for pair in challenge.target_info.pairs() {
            let (name, value) = pair.words(&sys::utc_of);
            self.fact(label, format!("{name:<21}{value}").trim_end());
            label = "";
        }
        if !label.is_empty() {
            self.fact(label, "none");
        }
        let Some(server) = challenge.target_info.timestamp() else {
            let text = "the challenge carries no time; the login will carry this machine's, ";
            self.fact("clock", &format!("{text}{}", sys::utc_of(now)));
            return;
        };
        let skew = server.abs_diff(now) / 1_000_000;
        let side = if server < now { "behind" } else { "ahead of" };
        let skew_text = format!("{}.{} s {side} this machine's", skew / 10, skew % 10);
        self.fact("clock", &format!("the server's is {skew_text}"));
        if skew / 10 > MAX_SKEW {
            let text = "NTLMv2 answers with the server's own time, so this alone does not hinder \
                        the login here; a domain controller that disagrees with the parent refuses \
                        all the same. Set the clock that is wrong.";
            self.fact("means", text);
        }
    }
}

/// The name of a dialect in the configuration.
pub(super) fn dialect_name(dialect: Dialect) -> &'static str {
    Dialect::NAMES.iter().find(|(_, known)| *known == dialect).map_or("", |(name, _)| name)
}

/// The names of schemes, as `AUTH` has them.
pub(super) fn scheme_names(schemes: &[Scheme]) -> String {
    let name = |scheme: &Scheme| Scheme::NAMES.iter().find(|(_, known)| known == scheme);
    schemes.iter().filter_map(name).map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

/// An account as `USER` has it.
pub(super) fn user(account: &Credentials) -> String {
    match account.domain.as_str() {
        "" => account.user.clone(),
        domain => format!("{domain}\\{}", account.user),
    }
}

/// A time as the report has it.
pub(super) fn milliseconds(time: Duration) -> String {
    let whole = time.as_secs().saturating_mul(1000).saturating_add(time.subsec_millis().into());
    format!("{whole}.{} ms", time.subsec_micros() / 100 % 10)
}

/// Status and reason of a response.
pub(super) fn status_line(response: &ResponseHead) -> String {
    format!("{} {}", response.status, response.reason).trim_end().to_owned()
}
