//! What a diagnosis comes to: what each trouble means and which key to look at, and what to write
//! into the configuration.

use super::report::{Report, dialect_name, scheme_names, user};
use crate::auth::credentials::Credentials;
use crate::auth::{Refusal, Scheme};
use crate::config::Config;
use crate::failure::Failure;
use crate::hop::HopName;
use crate::ntlm::{self, Dialect};

/// A trouble that keeps requests from going through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The name has no address.
    Unresolved,
    /// No address takes connections.
    Unreachable,
    /// It takes connections and does not answer HTTP.
    NoHttp,
    /// Nothing that it offers can be answered at all.
    NoSchemes,
    /// It offers a scheme that could be answered, were it named in AUTH.
    NotAllowed,
    /// The scheme needs the password itself.
    NeedsPassword,
    /// There is nobody to log in.
    NoAccount,
    /// The dialect needs a hash that is not configured.
    NoHash,
    /// The connection ends in the middle of the login.
    Broken,
    /// The challenge is none.
    BadChallenge,
    /// The credentials were refused.
    Refused,
    /// The credentials were refused elsewhere in this run.
    Withheld,
    /// This machine denied something.
    System,
}

impl Problem {
    /// What stands in the way after a refusal of this login.
    pub(super) fn of(refusal: &Refusal, allowed: &[Scheme]) -> Self {
        match refusal {
            Refusal::Credentials => Self::Refused,
            Refusal::NoAccount => Self::NoAccount,
            Refusal::NoPassword => Self::NeedsPassword,
            Refusal::Ntlm(ntlm::Error::MissingKey(_)) => Self::NoHash,
            Refusal::NoChallenge
            | Refusal::NotBase64
            | Refusal::Spnego(_)
            | Refusal::Digest(_)
            | Refusal::Ntlm(_) => Self::BadChallenge,
            Refusal::Schemes(offered) => {
                let known = Scheme::NAMES.into_iter().filter(|(name, _)| {
                    offered.iter().any(|offer| offer.eq_ignore_ascii_case(name))
                });
                let known: Vec<Scheme> = known.map(|(_, scheme)| scheme).collect();
                // Allowed and yet not answered: it is not done the way that is wanted.
                if known.is_empty() || known.iter().any(|scheme| allowed.contains(scheme)) {
                    Self::NoSchemes
                } else {
                    Self::NotAllowed
                }
            }
        }
    }

    /// What stands in the way after a failure; `first`: of the first request on a connection.
    pub(super) fn behind(failure: &Failure, first: bool) -> Self {
        match failure {
            Failure::System(_) => Self::System,
            Failure::Unreachable { .. } => Self::Unreachable,
            _ if first => Self::NoHttp,
            _ => Self::Broken,
        }
    }

    /// What it means, and where to look; for a parent, or for the origin itself.
    pub(super) fn meaning(self, is_parent: bool) -> &'static str {
        match self {
            Self::Unresolved if is_parent => {
                "This machine does not find that name: it is misspelt, or known only inside the \
                 corporate network. Look at PARENT_PROXY."
            }
            Self::Unreachable if is_parent => {
                "Nothing listens there, or a firewall is between. Look at PARENT_PROXY and \
                 PARENT_PROXY_PORT, and at the network."
            }
            Self::Unresolved | Self::Unreachable => {
                "This machine cannot go there by itself. Is there a proxy to go through? Then \
                 PARENT_PROXY is missing."
            }
            Self::NoHttp if !is_parent => "It does not answer HTTP there. Look at the URL.",
            Self::NoHttp => {
                "It does not answer as an HTTP proxy does: perhaps another port. Look at \
                 PARENT_PROXY and PARENT_PROXY_PORT."
            }
            Self::NoSchemes => "It wants a login that ntlmaps cannot do.",
            Self::NotAllowed => {
                "AUTH does not allow what it offers. (Basic shows the password to everybody \
                 between here and the parent.)"
            }
            Self::NeedsPassword => {
                "Digest and Basic need the password itself, hashes are not enough. Look at \
                 PASSWORD."
            }
            Self::NoAccount => {
                "Without an account the diagnosis ends before the login. To try one: \
                 --username DOMAIN\\you, and NTLMAPS_PASSWORD or --password."
            }
            Self::NoHash => "Look at NTLM_DIALECT, NT_HASHED_PW and LM_HASHED_PW, or set PASSWORD.",
            Self::Broken => {
                "A login is bound to its connection. Something between may share or cut \
                 connections, a load balancer for instance: name one proxy behind it in \
                 PARENT_PROXY."
            }
            Self::BadChallenge => {
                "Something answers that is no NTLM server, or cannot reach its domain. Ask those \
                 who run the parent."
            }
            Self::Refused => {
                "Each refusal is one bad logon. The user, the domain or the password is wrong, or the \
                 account is locked, disabled, expired or must change its password (a proxy does \
                 not say which); or the domain does not accept the dialect. Look at USER, \
                 NT_DOMAIN, PASSWORD, then at NTLM_DIALECT and NT_HOSTNAME."
            }
            Self::Withheld => {
                "One run costs an account one bad logon at most. When they are right, run it again."
            }
            Self::System => "This is not about the configuration.",
        }
    }

    /// What to write into the configuration: sections and lines.
    fn remedy(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Unresolved | Self::Unreachable | Self::NoHttp => {
                &[("GENERAL", "PARENT_PROXY: <host:port of the proxy that your browser uses>")]
            }
            Self::Broken => &[("GENERAL", "PARENT_PROXY: <one proxy, not a load balancer>")],
            Self::NotAllowed => &[("NTLM_AUTH", "AUTH: NTLM Negotiate Digest Basic")],
            Self::NeedsPassword => &[("NTLM_AUTH", "PASSWORD: <the password, not its hash>")],
            Self::NoHash => &[("NTLM_AUTH", "NTLM_DIALECT: NTLMv2")],
            Self::NoAccount => &[
                ("NTLM_AUTH", "USER: <DOMAIN\\you; blank when each program brings its account>"),
                ("NTLM_AUTH", "PASSWORD: <your password, or the lines of ntlmaps --hash>"),
            ],
            Self::Refused | Self::Withheld => &[
                ("NTLM_AUTH", "USER: <DOMAIN\\you, as at the Windows logon>"),
                ("NTLM_AUTH", "PASSWORD: <your password now, or the lines of ntlmaps --hash>"),
                ("NTLM_AUTH", "NTLM_DIALECT: <what ntlmaps --diagnose --all-dialects finds>"),
            ],
            Self::NoSchemes | Self::BadChallenge | Self::System => &[],
        }
    }
}

/// What became of one parent, or of the origin.
pub(super) struct Finding {
    /// Who it is.
    pub(super) hop: HopName,
    /// What logged in; `None` when no login was asked for.
    pub(super) login: Option<Login>,
    /// How it ended.
    pub(super) outcome: Outcome,
}

/// What logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Login {
    /// By which scheme.
    pub(super) scheme: Scheme,
    /// With which responses, where the scheme carries NTLM.
    pub(super) dialect: Dialect,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A request went through.
    Through,
    /// The login, if there was one, is not the trouble; the answer is no success all the same.
    NotServed,
    /// No.
    Trouble(Problem),
}

/// The last lines: what to write into the configuration. Whether a request went through.
pub(super) fn conclude(
    report: &mut Report<'_>,
    findings: &[Finding],
    config: &Config,
    account: Option<&Credentials>,
) -> bool {
    let ended = |wanted| findings.iter().filter(move |finding| finding.outcome == wanted);
    let through = ended(Outcome::Through).next().is_some();
    let best = if through { Outcome::Through } else { Outcome::NotServed };
    let good: Vec<&Finding> = ended(best).collect();
    report.line("");
    report.text(match (through, good.is_empty()) {
        (true, _) => "A request went through. What to write into the configuration:",
        (false, false) => {
            "No request went through, though the way to it is open. Try another URL: ntlmaps \
             --diagnose http://HOST/. What to write into the configuration:"
        }
        (false, true) => "No request went through. What to write into the configuration:",
    });
    report.line("");
    let mut lines: Vec<(&str, String)> = Vec::new();
    if good.is_empty() {
        for Finding { outcome, .. } in findings {
            let Outcome::Trouble(problem) = outcome else { continue };
            let remedy = problem.remedy().iter();
            lines.extend(remedy.map(|(section, line)| (*section, (*line).to_owned())));
        }
    } else {
        settings(&good, through, config, account, &mut lines);
    }
    if lines.is_empty() {
        report.line("  Nothing: this is not a matter of the configuration.");
    }
    for section in ["GENERAL", "NTLM_AUTH"] {
        let mut written: Vec<&str> = Vec::new();
        for (_, line) in lines.iter().filter(|(of, _)| *of == section) {
            if written.is_empty() {
                report.line(&format!("  [{section}]"));
            }
            if !written.contains(&line.as_str()) {
                report.line(&format!("  {line}"));
                written.push(line);
            }
        }
    }
    through
}

/// The settings that worked.
fn settings(
    good: &[&Finding],
    through: bool,
    config: &Config,
    account: Option<&Credentials>,
    lines: &mut Vec<(&str, String)>,
) {
    let parents = good.iter().filter(|finding| finding.hop.is_parent);
    let parents: Vec<String> = parents.map(|f| f.hop.authority.to_string()).collect();
    lines.push(("GENERAL", format!("PARENT_PROXY: {}", parents.join(" ")).trim_end().to_owned()));
    let logins: Vec<Login> = good.iter().filter_map(|finding| finding.login).collect();
    match (account, logins.first()) {
        (Some(account), Some(Login { scheme, dialect })) => {
            lines.push(("NTLM_AUTH", format!("USER: {}", user(account))));
            let secret = "# and PASSWORD, or the lines of ntlmaps --hash, as it was for this run";
            lines.push(("NTLM_AUTH", secret.to_owned()));
            if matches!(scheme, Scheme::Ntlm | Scheme::Negotiate) {
                lines.push(("NTLM_AUTH", format!("NTLM_DIALECT: {}", dialect_name(*dialect))));
            }
        }
        (None, None) if through && !parents.is_empty() => {
            lines.push(("NTLM_AUTH", "# it asks for no login".to_owned()));
            lines.push(("NTLM_AUTH", "NTLM_TO_BASIC: 0".to_owned()));
        }
        _ => {}
    }
    if logins.iter().any(|login| login.scheme == Scheme::Basic) {
        lines.push(("NTLM_AUTH", format!("AUTH: {}", scheme_names(&config.schemes))));
    }
}
