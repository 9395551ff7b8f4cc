//! The command line (contract §1). Usage errors end with 1 and name the word at fault.

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::path::PathBuf;

/// Agent of the Assimilation monitoring system: discovers what this host is like and reports changes to the CMA
#[derive(Debug, Parser)]
#[command(name = "nanoprobe", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    /// Put DIR in front of every path of the site (keys, configuration, state)
    #[arg(long, value_name = "DIR", global = true, default_value = "/")]
    pub root: PathBuf,
    /// Discover the file tree below DIR (an image, a chroot, a fixture) instead of /
    #[arg(long, value_name = "DIR", global = true, default_value = "/")]
    pub host_root: PathBuf,
    #[command(flatten)]
    pub agent: AgentArgs,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// One line for each paragraph: clap fits them to the terminal.
const AFTER_HELP: &str = "\
Settings come from these options, then the environment (NANOPROBE_CMAADDR, NANOPROBE_BIND, NANOPROBE_DYNAMIC, \
NANOPROBE_TTL, NANOPROBE_DEBUG), then /etc/assimilation/nanoprobe.toml. SIGUSR1 and SIGUSR2 raise and lower the \
debug level, SIGTERM stops in good order.

Exit status: 0 = ok, 1 = error; with --status 0 = running, 1 = dead with a pid file, 3 = not running, 4 = unknown.";

/// What the running agent is told.
#[derive(Debug, Clone, Default, Args)]
pub struct AgentArgs {
    /// Where the CMA is: 1.2.3.4:1984, [2001:db8::1]:1984 or name:1984; may be repeated [default: multicast 224.0.2.5:1984]
    #[arg(short, long, value_name = "ADDR")]
    pub cmaaddr: Vec<String>,
    /// Local address and port [default: [::]:1984, or any free port if that is taken]
    #[arg(short, long, value_name = "ADDR")]
    pub bind: Option<String>,
    /// Use any free port
    #[arg(short = 'D', long)]
    pub dynamic: bool,
    /// Routers that a multicast packet may pass, 0 to 255 [default: 31]
    #[arg(short, long, value_name = "N")]
    pub ttl: Option<String>,
    /// Name that this host is known by [default: the host name in lower case]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Accepted for compatibility: foreground is the only mode
    #[arg(short, long)]
    pub foreground: bool,
    /// Pid file [default: /var/run/nanoprobe]
    #[arg(short, long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// Tell whether the nanoprobe of the pid file runs: exit code 0 running, 1 dead, 3 not running, 4 unknown
    #[arg(short, long, conflicts_with = "kill")]
    pub status: bool,
    /// Stop the nanoprobe of the pid file
    #[arg(short, long)]
    pub kill: bool,
    /// Debug level, 0 to 5 [default: 0]
    #[arg(short, long, value_name = "N")]
    pub debug: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one discovery once and print what it found as JSON; needs neither CMA nor keys
    Discover(DiscoverArgs),
    /// Judge this host (or the file tree of --host-root) by a rule set, once; needs neither CMA nor keys. Exit status 2
    /// when a rule fails
    Audit(AuditArgs),
    /// List what would look after the services of this host, once; needs neither CMA nor keys. Exit status 2 when a check
    /// finds something down
    Monitors(MonitorsArgs),
    /// The network side of a nanoprobe, which starts it
    #[command(hide = true)]
    Network,
}

#[derive(Debug, Args)]
pub struct MonitorsArgs {
    /// Also run each check once, and tell what it says
    #[arg(long)]
    pub check: bool,
    /// Output format [default: table on a terminal, else script]
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<output::Format>,
}

#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Rule set; BASE chooses by the operating system
    #[arg(long, value_name = "SET", default_value = "BASE")]
    pub set: String,
    /// Only this rule, with all that there is to say about it: its id, or its id in a benchmark; may be repeated
    #[arg(long = "rule", value_name = "ID")]
    pub rules: Vec<String>,
    /// Also the rules that pass, and those that could not be judged, with the reason
    #[arg(long)]
    pub all: bool,
    /// Also read whole file systems, which takes minutes
    #[arg(long)]
    pub deep: bool,
    /// Output format [default: table on a terminal, else script]
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<output::Format>,
}

#[derive(Debug, Args)]
pub struct DiscoverArgs {
    /// List the discoveries there are
    #[arg(long, conflicts_with_all = ["kind", "params"])]
    pub list: bool,
    /// Explain the discovery instead of running it: what it reads, the shape of its data, its parameters
    #[arg(long, requires = "kind", conflicts_with_all = ["list", "params"])]
    pub explain: bool,
    /// Type or instance to run, or an executable of the discovery_agents directories
    #[arg(value_name = "TYPE", required_unless_present = "list")]
    pub kind: Option<String>,
    /// Decode the LLDP and CDP frames of a capture (pcap, pcapng, - for standard input), with TYPE switch: one document a
    /// line. Exit status 2 when a frame is malformed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["list", "explain"])]
    pub pcap: Option<PathBuf>,
    /// Parameter of the discovery; may be repeated
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    pub params: Vec<(String, String)>,
}

/// What to do after reading the command line.
pub enum Parsed {
    Run(Box<Cli>),
    /// Help or version: text for standard output.
    Print(String),
    /// A usage error: text for standard error, exit code 1.
    Wrong(String),
}

/// Reads the command line; `words` starts with the name of the program.
pub fn parse(words: impl IntoIterator<Item = std::ffi::OsString>) -> Parsed {
    let parsed =
        Cli::command().try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(cli) => Parsed::Run(Box::new(cli)),
        Err(error) if error.use_stderr() => Parsed::Wrong(error.to_string()),
        Err(text) => Parsed::Print(text.to_string()),
    }
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Parsed {
        parse(["nanoprobe"].iter().chain(words).map(std::ffi::OsString::from))
    }

    fn wrong(words: &[&str]) -> String {
        match read(words) {
            Parsed::Wrong(text) => text,
            _ => panic!("{words:?} was taken"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn errors_name_the_word() {
        for (words, word) in [
            (&["--cmaadr", "x"][..], "--cmaadr"),
            (&["discover", "--prm", "a=b"], "--prm"),
            (&["discovr"], "discovr"),
            (&["discover", "sshd", "--param", "novalue"], "novalue"),
            (&["--status", "--kill"], "--kill"),
        ] {
            let text = wrong(words);
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn short_forms_and_globals_work() {
        let Parsed::Run(cli) =
            read(&["-c", "a:1", "-c", "b:2", "-b", ":5", "-D", "-t", "3", "-f", "-p", "/x", "-d", "2"])
        else {
            panic!("not taken")
        };
        assert_eq!(cli.agent.cmaaddr, ["a:1", "b:2"]);
        assert!(cli.agent.dynamic && cli.agent.foreground && cli.agent.ttl.as_deref() == Some("3"));
        let Parsed::Run(cli) = read(&["discover", "sshd", "--host-root", "/image", "--root", "/site"]) else {
            panic!("not taken")
        };
        assert_eq!((cli.host_root, cli.root), ("/image".into(), "/site".into()));
    }
}
