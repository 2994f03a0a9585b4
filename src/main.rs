//! The program: arguments to command to exit code. Everything else is the library's.

use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ntlmaps::auth::credentials::Secret;
use ntlmaps::config::args::USAGE;
use ntlmaps::config::{
    Account, Args, Command, Config, Loaded, Notice, Origin, Severity, cntlm, display,
};
use ntlmaps::diagnose;
use ntlmaps::logging::{self, Logger};
use ntlmaps::server::{Reloader, Server};
use ntlmaps::sys;
use zeroize::Zeroizing;

/// How long requests and tunnels may go on once the program is told to end.
const DRAIN_TIME: Duration = Duration::from_secs(30);

/// Exit codes: the configuration or a listener; the command line.
const FAILED: u8 = 1;
const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let args = match Args::parse(&words) {
        Ok(args) => args,
        Err(error) => {
            say(&format!("ntlmaps: {error}; ntlmaps --help tells what there is"));
            return ExitCode::from(USAGE_ERROR);
        }
    };
    let outcome = match args.command {
        Command::Help => print(USAGE),
        Command::Version => print(concat!("ntlmaps ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Check => load(&args).and_then(|loaded| check(&loaded, args.verbosity > 0)),
        Command::Hash => hash(&args),
        Command::Diagnose => load(&args).and_then(|loaded| diagnose(loaded, &args)),
        Command::ImportCntlm => import(&args),
        Command::Serve => load(&args).and_then(|loaded| serve(loaded, args)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error);
            ExitCode::from(FAILED)
        }
    }
}

/// Writes to standard output; a reader that went away is no failure.
fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("ntlmaps: standard output: {error}"))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error; where that is closed, there is nobody to tell.
fn say(line: &str) {
    drop(writeln!(io::stderr(), "{}", line.trim_end()));
}

/// The file that `-c` names, or the first of the usual places where there is one.
fn config_file(args: &Args) -> Option<PathBuf> {
    if let Some(path) = &args.config {
        return Some(path.into());
    }
    if let Some(path) = std::env::var_os("NTLMAPS_CONF").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".ntlmaps.conf"));
    let places = ["ntlmaps.cfg".into(), "server.cfg".into()]
        .into_iter()
        .chain(home)
        .chain(["/etc/ntlmaps/ntlmaps.cfg".into()]);
    places.into_iter().find(|path| path.is_file())
}

/// Reads the configuration and fills in a password from the environment.
fn load(args: &Args) -> Result<Loaded, String> {
    let path = config_file(args);
    let (name, bytes) = match &path {
        Some(path) => {
            let name = path.display().to_string();
            let bytes = std::fs::read(path)
                .map_err(|error| format!("ntlmaps: the configuration {name}: {error}"))?;
            (name, Zeroizing::new(bytes))
        }
        None => ("no configuration file".to_owned(), Zeroizing::default()),
    };
    let mut loaded = Config::load(&name, &bytes, args).map_err(|notices| report(&notices))?;
    if let Some(path) = path.filter(|path| is_open_secret(path, &loaded, &name)) {
        loaded.warnings.push(Notice {
            severity: Severity::Warning,
            file: name,
            origin: Origin::Default,
            key: String::new(),
            message: format!(
                "holds a secret, and others on this machine can read it: chmod 600 {}",
                path.display()
            ),
        });
    }
    let missing = matches!(loaded.config.account, Account::NeedsPassword { .. });
    if let Some(password) = std::env::var("NTLMAPS_PASSWORD").ok().filter(|_| missing) {
        let account = std::mem::replace(&mut loaded.config.account, Account::None);
        loaded.config.account = account
            .with_password(loaded.config.dialect, &Secret::new(password))
            .map_err(|error| format!("ntlmaps: NTLMAPS_PASSWORD: {error}"))?;
        for shown in loaded.shown.iter_mut().filter(|shown| shown.name == "PASSWORD") {
            "***".clone_into(&mut shown.value);
            "environment".clone_into(&mut shown.origin);
        }
    }
    Ok(loaded)
}

/// Whether the file holds a secret and is not its owner's alone.
fn is_open_secret(path: &Path, loaded: &Loaded, name: &str) -> bool {
    let in_file = |shown: &display::Shown| shown.value == "***" && shown.origin.starts_with(name);
    let for_others = |metadata: std::fs::Metadata| metadata.permissions().mode() & 0o077 != 0;
    loaded.shown.iter().any(in_file) && std::fs::metadata(path).is_ok_and(for_others)
}

/// Every notice in a line of its own.
fn report(notices: &[Notice]) -> String {
    let line = |notice: &Notice| {
        let kind = match notice.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        format!("ntlmaps: {kind}: {notice}\n")
    };
    notices.iter().map(line).collect()
}

fn check(loaded: &Loaded, explained: bool) -> Result<(), String> {
    if !loaded.warnings.is_empty() {
        say(&report(&loaded.warnings));
    }
    if let Account::NeedsPassword { user, .. } = &loaded.config.account {
        say(&format!("ntlmaps: note: the password of {user} will be asked for at the start"));
    }
    print(&display::describe(loaded, explained))
}

/// `--diagnose`: the report goes to standard output as it grows.
fn diagnose(loaded: Loaded, args: &Args) -> Result<(), String> {
    let Loaded { mut config, warnings, .. } = loaded;
    if !warnings.is_empty() {
        say(&report(&warnings));
    }
    ask_for_password(&mut config)?;
    let mut printed = Ok(());
    let through = diagnose::run(config, args, &mut |line| {
        if printed.is_ok() {
            printed = print(&format!("{line}\n"));
        }
    });
    printed?;
    if through { Ok(()) } else { Err("ntlmaps: no request went through".to_owned()) }
}

/// `--hash`: for the account of the configuration, where it names one.
fn hash(args: &Args) -> Result<(), String> {
    let config = load(args)?.config;
    let (domain, user) = match config.account {
        Account::Known(credentials) => (credentials.domain, credentials.user),
        Account::NeedsPassword { domain, user } => (domain, user),
        Account::PerClient | Account::None => (config.default_domain, String::new()),
    };
    let password = match args.password.clone() {
        Some(password) => password,
        None => read_password("Password to hash: ")?,
    };
    print(&display::hash_lines(&domain, &user, &password))
}

/// `--import-cntlm`: the new configuration to standard output, then what there is to say about it.
fn import(args: &Args) -> Result<(), String> {
    let path = args.cntlm_conf.as_deref().unwrap_or_default();
    let bytes = std::fs::read(path).map_err(|error| format!("ntlmaps: {path}: {error}"))?;
    let made = cntlm::import(path, &Zeroizing::new(bytes), args.cntlm_hashes);
    print(&made.text)?;
    if !made.notices.is_empty() {
        say(&report(&made.notices));
    }
    Ok(())
}

/// Asks at the terminal, unseen; or reads the first line of standard input.
fn read_password(prompt: &str) -> Result<Secret, String> {
    let stdin = io::stdin();
    let failed = |error: io::Error| format!("ntlmaps: the password cannot be read: {error}");
    let _quiet = if stdin.is_terminal() {
        let quiet = sys::EchoOff::new().map_err(failed)?;
        drop(write!(io::stderr(), "{prompt}"));
        Some(quiet)
    } else {
        None
    };
    let mut line = Zeroizing::new(String::new());
    stdin.lock().read_line(&mut line).map_err(failed)?;
    Ok(Secret::new(line.trim_end_matches(['\r', '\n'])))
}

/// The last resort for a password: a person.
fn ask_for_password(config: &mut Config) -> Result<(), String> {
    let Account::NeedsPassword { user, .. } = &config.account else { return Ok(()) };
    if !io::stdin().is_terminal() {
        return Err(format!(
            "ntlmaps: there is no password for {user}, and no terminal to ask at: set PASSWORD in \
             the configuration file, or NTLMAPS_PASSWORD in the environment"
        ));
    }
    let password = read_password(&format!("Password of {user}: "))?;
    let account = std::mem::replace(&mut config.account, Account::None);
    config.account = account
        .with_password(config.dialect, &password)
        .map_err(|error| format!("ntlmaps: {error}"))?;
    Ok(())
}

fn serve(loaded: Loaded, args: Args) -> Result<(), String> {
    let logs = loaded.config.logs.clone();
    let logger = logging::start(&logs).map_err(|error| format!("ntlmaps: {error}"))?;
    serve_logged(loaded, args, logger).inspect_err(|error| {
        // Whoever has messages in a file looks there too.
        if logs.file.is_some() {
            log::error!("{}", error.trim_start_matches("ntlmaps: "));
        }
    })
}

fn serve_logged(loaded: Loaded, args: Args, logger: &'static Logger) -> Result<(), String> {
    let Loaded { mut config, warnings, .. } = loaded;
    log_notices(&warnings);
    ask_for_password(&mut config)?;
    let server = Server::bind(config).map_err(|error| format!("ntlmaps: {error}"))?;
    let reloader = server.reloader();
    sys::on_hang_up(move || reload(&args, &reloader, logger))
        .map_err(|error| format!("ntlmaps: signals: {error}"))?;
    let stopper = server.stopper();
    let mut told = false;
    sys::on_terminate(move || {
        if std::mem::replace(&mut told, true) {
            end_at_once();
        }
        log::info!("stopping; once more to stop at once");
        stopper.stop();
    })
    .map_err(|error| format!("ntlmaps: signals: {error}"))?;
    // Scripts wait for these lines, and may send a signal then; whoever closed standard output does
    // not.
    if let Err(error) = print(&server.announcement()) {
        log::warn!("{error}");
    }
    let at: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
    let (version, process) = (env!("CARGO_PKG_VERSION"), std::process::id());
    log::info!("ntlmaps {version} started as process {process} at {}", at.join(" "));
    server.run().map_err(|error| format!("ntlmaps: no thread for clients: {error}"))?;
    let cut = if server.drain(DRAIN_TIME) { "" } else { "; what still went on is cut off" };
    log::logger().flush();
    log::info!("stopped{cut}");
    Ok(())
}

#[expect(clippy::exit, reason = "who says it twice does not want to wait for anything")]
fn end_at_once() -> ! {
    std::process::exit(FAILED.into())
}

/// Puts the file as it is now in force; one with an error changes nothing.
fn reload(args: &Args, reloader: &Reloader, logger: &Logger) {
    logger.reopen();
    match load(args) {
        Ok(Loaded { mut config, warnings, .. }) => {
            log_notices(&warnings);
            let before = reloader.gateway();
            if let (Account::NeedsPassword { domain, user }, Some(known)) =
                (&config.account, &before.account)
            {
                // Somebody typed it at the start; nobody is there to type it again.
                if (domain, user) == (&known.domain, &known.user) {
                    config.account = Account::Known(known.as_ref().clone());
                }
            }
            if matches!(config.account, Account::NeedsPassword { .. }) {
                log::error!("not reloaded: there is no PASSWORD for the new USER");
                return;
            }
            let logs = config.logs.clone();
            match reloader.reload(config) {
                Ok(()) => {
                    logger.apply(&logs);
                    log::info!("reloaded");
                }
                Err(error) => log::error!("not reloaded: {error}"),
            }
        }
        Err(error) => {
            for line in error.lines() {
                log::error!("{}", line.trim_start_matches("ntlmaps: "));
            }
            log::error!("not reloaded: what held before still holds");
        }
    }
}

fn log_notices(notices: &[Notice]) {
    for notice in notices {
        match notice.severity {
            Severity::Note => log::info!("{notice}"),
            _ => log::warn!("{notice}"),
        }
    }
}
