//! The command line: words in, [`Args`] out. What is wrong with it is told in one sentence; what
//! the values mean is for the keys they override to say.

use std::ffi::OsStr;

use getopts::{HasArg, Occur, Options};
use log::LevelFilter;

use super::cntlm::HashForm;
use crate::auth::credentials::Secret;
use crate::http::target::RequestTarget;

/// What the program is asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    #[default]
    Serve,
    /// `--check`: print what holds.
    Check,
    /// `--hash`: read a password and print the lines to paste.
    Hash,
    /// `--diagnose`: try each parent, step by step.
    Diagnose,
    /// `--import-cntlm FILE`: print a configuration that does what a cntlm.conf does.
    ImportCntlm,
    /// `-V`: print the version.
    Version,
    /// `-h`: print [`USAGE`].
    Help,
}

/// The command line, read. Blank strings are kept: they blank the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// The configuration file; `None`: the first of the usual places where there is one.
    pub config: Option<String>,
    /// What to do.
    pub command: Command,
    /// Overrides `LISTEN_PORT`.
    pub port: Option<u16>,
    /// Overrides `NT_DOMAIN`.
    pub domain: Option<String>,
    /// Overrides `USER`, and switches `NTLM_TO_BASIC` off.
    pub username: Option<String>,
    /// Overrides `PASSWORD` and the hashes.
    pub password: Option<Secret>,
    /// Overrides `TUNNELS`: every `-L`, in their order.
    pub tunnels: Option<String>,
    /// What `--diagnose` asks for; `None`: an example.
    pub url: Option<RequestTarget>,
    /// `--diagnose` may try every dialect.
    pub all_dialects: bool,
    /// The file of [`Command::ImportCntlm`].
    pub cntlm_conf: Option<String>,
    /// How its hashes are written; `None`: to be found out.
    pub cntlm_hashes: Option<HashForm>,
    /// How many `-v` there are.
    pub verbosity: u8,
}

/// What `-h` prints; fits a screen of 24 lines by 80 columns.
pub const USAGE: &str = "\
Usage: ntlmaps [-c FILE] [options]
A local proxy that logs in to an NTLM parent proxy for programs that cannot.

  -c, --config FILE   configuration; else $NTLMAPS_CONF, ./ntlmaps.cfg,
                      ./server.cfg, ~/.ntlmaps.conf, /etc/ntlmaps/ntlmaps.cfg
  -p, --port PORT     listen on this port            (instead of LISTEN_PORT)
      --domain NAME   the Windows domain             (instead of NT_DOMAIN)
      --username NAME who logs in, for all clients   (instead of USER)
      --password WORD the password; others can see it in the list of processes
                      (better: PASSWORD in the file, or $NTLMAPS_PASSWORD)
  -L [ADDRESS:]PORT:HOST:PORT   a port that leads there  (instead of TUNNELS)

      --check         print what holds and where it comes from, then end
      --hash          read a password, print hashes to keep in its place
      --diagnose [URL] try each parent; tell step by step what works, what not
      --all-dialects  ... with every NTLM_DIALECT; each may cost a bad logon
      --import-cntlm CNTLM.CONF   print a configuration that does the same
      --cntlm-hashes plain|inverted    how cntlm wrote its Pass* (0.94|older)
  -v                  say more; -vv says most; --check -v explains every key
  -V, --version       print the version
  -h, --help          print this

Then point programs at it:
  export http_proxy=http://127.0.0.1:5865 https_proxy=http://127.0.0.1:5865
";

/// Every option: its short name, its long name, and whether a value follows.
const KNOWN: [(&str, &str, HasArg); 15] = [
    ("c", "config", HasArg::Yes),
    ("p", "port", HasArg::Yes),
    ("L", "", HasArg::Yes),
    ("", "domain", HasArg::Yes),
    ("", "username", HasArg::Yes),
    ("", "password", HasArg::Yes),
    ("", "import-cntlm", HasArg::Yes),
    ("", "cntlm-hashes", HasArg::Yes),
    ("", "diagnose", HasArg::Maybe),
    ("", "all-dialects", HasArg::No),
    ("", "check", HasArg::No),
    ("", "hash", HasArg::No),
    ("v", "", HasArg::No),
    ("V", "version", HasArg::No),
    ("h", "help", HasArg::No),
];

/// Those of them that name a file.
const FILES: [&str; 2] = ["config", "import-cntlm"];

/// Options that end the program once they are done, and what they are for.
const COMMANDS: [(&str, Command); 6] = [
    ("help", Command::Help),
    ("version", Command::Version),
    ("check", Command::Check),
    ("hash", Command::Hash),
    ("diagnose", Command::Diagnose),
    ("import-cntlm", Command::ImportCntlm),
];

impl Args {
    /// Reads the words after the program's name. An option given twice counts as given last.
    ///
    /// # Errors
    /// One sentence without a full stop that says what is wrong; it repeats no option's value.
    pub fn parse<W: AsRef<OsStr>>(words: &[W]) -> Result<Self, String> {
        let mut texts = Vec::with_capacity(words.len());
        for (word, place) in words.iter().zip(1..) {
            let text = word.as_ref().to_str();
            texts.push(text.ok_or_else(|| format!("argument {place} is not valid UTF-8"))?);
        }
        let mut known = Options::new();
        for (short, long, has_arg) in KNOWN {
            known.opt(short, long, "", "", has_arg, Occur::Multi);
        }
        let matches = known.parse(&texts).map_err(|fail| lower_first(&fail.to_string()))?;
        let last = |name: &str| matches.opt_strs(name).pop();
        for (short, long, _) in KNOWN {
            let name = if long.is_empty() { short } else { long };
            if matches.opt_strs(name).iter().any(|text| text.chars().any(char::is_control)) {
                let dashes = if long.is_empty() { "-" } else { "--" };
                return Err(format!("{dashes}{name} holds a control character"));
            }
            if FILES.contains(&name) && last(name).is_some_and(|text| text.is_empty()) {
                return Err(format!("--{name} takes the name of a file"));
            }
        }
        let mut urls = matches.opt_strs("diagnose");
        urls.extend(matches.free.iter().cloned());
        let mut commands = COMMANDS.iter().filter(|(name, _)| matches.opt_present(name));
        let command = match (commands.next(), commands.next()) {
            (None, _) => Command::Serve,
            (Some((_, command)), None) => *command,
            (Some((_, command @ (Command::Help | Command::Version))), _) => *command,
            (Some((one, _)), Some((other, _))) => {
                return Err(format!("--{one} and --{other} do not go together"));
            }
        };
        let mut args = Self {
            config: last("config"),
            command,
            port: None,
            domain: last("domain"),
            username: last("username"),
            password: last("password").map(Secret::new),
            tunnels: matches.opt_present("L").then(|| matches.opt_strs("L").join(" ")),
            url: None,
            all_dialects: matches.opt_present("all-dialects"),
            cntlm_conf: last("import-cntlm"),
            cntlm_hashes: None,
            verbosity: u8::try_from(matches.opt_count("v")).unwrap_or(u8::MAX),
        };
        let mut wrong = None;
        if urls.len() > usize::from(matches.opt_present("diagnose")) {
            // Not repeated: it may be the second half of a password with a blank in it.
            wrong = Some("there is a word too many, after or between the options");
        } else if let Some(text) = urls.pop() {
            args.url = url(&text);
            wrong = args.url.is_none().then_some(
                "--diagnose takes a URL that begins with http:// or https:// and has no blanks",
            );
        }
        if let Some(text) = last("port") {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            args.port = text.parse().ok().filter(|_| digits);
            wrong =
                wrong.or(args.port.is_none().then_some("--port takes a number from 0 to 65535"));
        }
        if let Some(text) = last("cntlm-hashes") {
            let mut names = HashForm::NAMES.into_iter();
            args.cntlm_hashes =
                names.find(|(name, _)| name.eq_ignore_ascii_case(&text)).map(|(_, form)| form);
            wrong = wrong.or(match (&args.cntlm_hashes, &args.cntlm_conf) {
                (_, None) => Some("--cntlm-hashes goes with --import-cntlm"),
                (None, _) => Some("--cntlm-hashes takes plain or inverted"),
                _ => None,
            });
        }
        if args.all_dialects && !matches.opt_present("diagnose") {
            wrong = Some("--all-dialects goes with --diagnose");
        }
        wrong.map_or(Ok(args), |wrong| Err(wrong.to_owned()))
    }

    /// What `-v` asks to be logged.
    pub fn log_level(&self) -> LevelFilter {
        match self.verbosity {
            0 => LevelFilter::Off,
            1 => LevelFilter::Debug,
            _ => LevelFilter::Trace,
        }
    }
}

/// What `--diagnose` asks for.
fn url(text: &str) -> Option<RequestTarget> {
    let target = RequestTarget::parse("GET", text).ok()?;
    let RequestTarget::Absolute(url) = &target else { return None };
    let fetched = url.has_scheme("http") || url.has_scheme("https");
    (fetched && text.bytes().all(|b| b.is_ascii_graphic())).then_some(target)
}

fn lower_first(sentence: &str) -> String {
    let mut chars = sentence.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Args, String> {
        Args::parse(&words.split_whitespace().collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read() {
        let port = |port| Args { port: Some(port), ..Args::default() };
        let config = |file: &str| Args { config: Some(file.into()), ..Args::default() };
        let command = |command| Args { command, ..Args::default() };
        let diagnose = |url: &str, all_dialects| Args {
            url: Some(RequestTarget::parse("GET", url).unwrap()),
            all_dialects,
            ..command(Command::Diagnose)
        };
        let import = |cntlm_hashes| Args {
            cntlm_conf: Some("a.conf".into()),
            cntlm_hashes,
            ..command(Command::ImportCntlm)
        };
        for (words, expected) in [
            ("", Args::default()),
            ("-c a.cfg", config("a.cfg")),
            ("-ca.cfg", config("a.cfg")),
            ("--config a.cfg", config("a.cfg")),
            ("--config=a=b", config("a=b")),
            ("-c a -c b", config("b")),
            ("-p 80", port(80)),
            ("--port=0", port(0)),
            ("-p 1 --port 65535", port(65535)),
            ("--domain D", Args { domain: Some("D".into()), ..Args::default() }),
            ("--username D\\u", Args { username: Some("D\\u".into()), ..Args::default() }),
            ("--username=", Args { username: Some(String::new()), ..Args::default() }),
            ("--password -p", Args { password: Some(Secret::new("-p")), ..Args::default() }),
            (
                "-L 1:a:2 -L [::1]:3:b:4",
                Args { tunnels: Some("1:a:2 [::1]:3:b:4".into()), ..Args::default() },
            ),
            ("-v", Args { verbosity: 1, ..Args::default() }),
            ("-vv -v", Args { verbosity: 3, ..Args::default() }),
            ("--check", command(Command::Check)),
            ("--hash --hash", command(Command::Hash)),
            ("--import-cntlm a.conf", import(None)),
            ("--import-cntlm a.conf --cntlm-hashes plain", import(Some(HashForm::Plain))),
            ("--cntlm-hashes=Inverted --import-cntlm=a.conf", import(Some(HashForm::Inverted))),
            ("-h", command(Command::Help)),
            ("--help --check", command(Command::Help)),
            ("-V --hash", command(Command::Version)),
            ("--diagnose", command(Command::Diagnose)),
            ("--diagnose http://a/x", diagnose("http://a/x", false)),
            ("--diagnose=https://a", diagnose("https://a", false)),
            ("--diagnose --all-dialects http://a/?", diagnose("http://a/?", true)),
        ] {
            assert_eq!(parse(words), Ok(expected), "{words}");
        }
    }

    #[test]
    fn mistakes_are_told_in_a_sentence_without_values() {
        const URL: &str =
            "--diagnose takes a URL that begins with http:// or https:// and has no blanks";
        for (words, expected) in [
            ("-p", "argument to option 'p' missing"),
            ("--config", "argument to option 'config' missing"),
            ("--config=", "--config takes the name of a file"),
            ("-p s3cret", "--port takes a number from 0 to 65535"),
            ("-p 65536", "--port takes a number from 0 to 65535"),
            ("-p +1", "--port takes a number from 0 to 65535"),
            ("--pasword=s3cret", "unrecognized option: 'pasword'"),
            ("--check=s3cret", "option 'check' does not take an argument"),
            ("-x", "unrecognized option: 'x'"),
            ("--password my s3cret", "there is a word too many, after or between the options"),
            ("-- -p", "there is a word too many, after or between the options"),
            ("--check --hash", "--check and --hash do not go together"),
            ("--diagnose a.example", URL),
            ("--diagnose ftp://a/", URL),
            ("--diagnose http://", URL),
            ("--diagnose=http://a/\u{e9}", URL),
            (
                "--diagnose http://a/ http://b/",
                "there is a word too many, after or between the options",
            ),
            (
                "--diagnose=http://a/ http://b/",
                "there is a word too many, after or between the options",
            ),
            ("--diagnose --check", "--check and --diagnose do not go together"),
            ("--all-dialects", "--all-dialects goes with --diagnose"),
            ("--import-cntlm", "argument to option 'import-cntlm' missing"),
            ("--import-cntlm=", "--import-cntlm takes the name of a file"),
            ("--import-cntlm a --hash", "--hash and --import-cntlm do not go together"),
            ("--cntlm-hashes plain", "--cntlm-hashes goes with --import-cntlm"),
            ("--import-cntlm a --cntlm-hashes s3", "--cntlm-hashes takes plain or inverted"),
        ] {
            assert_eq!(parse(words), Err(expected.to_owned()), "{words}");
        }
        for option in ["--domain", "--username", "--password", "--config"] {
            let refused = Args::parse(&[option, "s3cret\n"]);
            assert_eq!(refused, Err(format!("{option} holds a control character")));
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_utf_8_is_refused() {
        use std::os::unix::ffi::OsStringExt as _;
        let words = ["-c".into(), std::ffi::OsString::from_vec(vec![0xff])];
        assert_eq!(Args::parse(&words), Err("argument 2 is not valid UTF-8".to_owned()));
    }

    #[test]
    fn verbosity_is_a_level() {
        for (words, level) in
            [("", LevelFilter::Off), ("-v", LevelFilter::Debug), ("-vvvv", LevelFilter::Trace)]
        {
            assert_eq!(parse(words).unwrap().log_level(), level);
        }
    }

    #[test]
    fn the_usage_fits_a_screen_and_names_every_option() {
        assert!(USAGE.lines().count() <= 24);
        assert!(USAGE.lines().all(|line| line.len() <= 80));
        assert!(USAGE.ends_with('\n'));
        for (short, long, _) in KNOWN {
            let names = match (short, long) {
                ("", long) => format!("--{long} "),
                (short, "") => format!("-{short} "),
                (short, long) => format!("-{short}, --{long} "),
            };
            let own = USAGE.lines().filter(|line| line.trim_start().starts_with(&names));
            assert_eq!(own.count(), 1, "{names}");
        }
        let words = USAGE.split(|c: char| c.is_whitespace() || ",;[".contains(c));
        for word in words.filter(|word| word.len() > 1 && word.starts_with('-')) {
            let name = word.trim_start_matches('-').replace("vv", "v");
            let known = KNOWN.iter().any(|(short, long, _)| name == *short || name == *long);
            assert!(known, "{word}");
        }
    }
}
