//! The command line, and what comes of it together with environment and cma.toml.

use clap::{Parser, Subcommand};
use model::config::{CmaConfig, ConfigError};
use model::paths::SitePaths;
use std::net::SocketAddr;
use std::path::PathBuf;

/// User that the CMA becomes when it is started as root.
pub const DEFAULT_USER: &str = "assimilation";
pub const DEFAULT_BIND: &str = "[::]:1984";
pub const DEFAULT_WEB: &str = "127.0.0.1:1984";

/// The Collective Management Authority: takes what nanoprobes find, judges it by rules, and raises alerts.
///
/// Exit status: 0 = ok, 1 = error; with --status 0 = running, 1 = dead with a pid file, 3 = not running, 4 = unknown.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "cma", version, max_term_width = 110, subcommand_negates_reqs = true)]
pub struct Arguments {
    /// Use DIR in front of every path (/etc/assimilation, /var/lib/assimilation ...)
    #[arg(long, value_name = "DIR", default_value = "/", global = true)]
    pub root: PathBuf,
    /// UDP address to listen on ([::]:1984)
    #[arg(short, long, value_name = "ADDR", env = "CMA_BIND")]
    pub bind: Option<String>,
    /// User to run as when started as root (assimilation)
    #[arg(short, long, value_name = "NAME", env = "CMA_USER")]
    pub user: Option<String>,
    /// How much to log, 0 to 5; SIGUSR1 and SIGUSR2 raise and lower it
    #[arg(short, long, value_name = "N", env = "CMA_DEBUG")]
    pub debug: Option<String>,
    /// Where to keep what is known (sqlite:/var/lib/assimilation/cma.sqlite)
    #[arg(long, value_name = "URL", env = "CMA_STORE")]
    pub store: Option<String>,
    /// TCP address of the web port, or `none` (127.0.0.1:1984)
    #[arg(long, value_name = "ADDR", env = "CMA_WEB")]
    pub web: Option<String>,
    /// Start with an empty database: everything known, history included, is gone
    #[arg(short, long)]
    pub erasedb: bool,
    /// Pid file (/var/run/assimilation/cma)
    #[arg(short, long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// Tell whether a CMA runs
    #[arg(short, long, conflicts_with = "kill")]
    pub status: bool,
    /// Stop the running CMA
    #[arg(short, long)]
    pub kill: bool,
    /// Accepted; foreground is the only mode
    #[arg(short, long)]
    pub foreground: bool,
    /// Print the settings in force as a cma.toml, with what each means and where it comes from, and end
    #[arg(long, conflicts_with_all = ["kill", "status"])]
    pub print_config: bool,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the CMA's program does besides running.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Work on the settings file; needs no CMA
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Tell everything that is wrong with a settings file. Exit status 0: it can be used, 1: it cannot
    Check {
        /// The file [default: /etc/assimilation/cma.toml]
        file: Option<PathBuf>,
    },
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{what} {value:?} is no address with a port, such as {example}")]
    Address { what: &'static str, value: String, example: &'static str },
    #[error("--debug (CMA_DEBUG) {0:?} is no number from 0 to 5")]
    Debug(String),
    #[error("--store (CMA_STORE) {0}: PostgreSQL is not built into this version; use sqlite:PATH")]
    Postgres(String),
    #[error("cma.toml: {0}")]
    Heartbeats(String),
    #[error("cma.toml: {0}")]
    Enrolment(String),
    #[error("--store (CMA_STORE) {0:?} is not known; use sqlite:PATH")]
    Store(String),
}

/// What the CMA works with after flags, environment, file and defaults, in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub site: SitePaths,
    pub bind: SocketAddr,
    pub user: String,
    pub debug: u8,
    pub database: PathBuf,
    pub web: Option<SocketAddr>,
    /// Nobody asked for this web address, so its being taken is no error.
    pub web_is_default: bool,
    pub pidfile: PathBuf,
    pub config: CmaConfig,
}

impl Arguments {
    pub fn site(&self) -> SitePaths {
        SitePaths::new(&self.root)
    }

    pub fn pidfile(&self) -> PathBuf {
        self.pidfile.clone().unwrap_or_else(|| self.site().cma_pidfile())
    }

    /// Combines the arguments (clap has taken the environment into them) with the file.
    pub fn settings(&self, config: CmaConfig) -> Result<Settings, SettingError> {
        if let Some(problem) = config.heartbeats.problem() {
            return Err(SettingError::Heartbeats(problem));
        }
        if let Some(problem) = config.enrolment.problem() {
            return Err(SettingError::Enrolment(problem));
        }
        let site = self.site();
        let (bind, _) = chosen(&self.bind, &config.bind, DEFAULT_BIND);
        let (user, _) = chosen(&self.user, &config.user, DEFAULT_USER);
        let (web, web_is_default) = chosen(&self.web, &config.web, DEFAULT_WEB);
        let debug = match filled(&self.debug) {
            Some(text) => text
                .parse()
                .ok()
                .filter(|level| *level <= 5)
                .ok_or_else(|| SettingError::Debug(text.clone()))?,
            None => config.debug.unwrap_or(0),
        };
        let database = match filled(&self.store).or(config.store.as_ref()) {
            Some(url) => database(url)?,
            None => site.database(),
        };
        let web = if web == "none" { None } else { Some(address("--web", &web, DEFAULT_WEB)?) };
        Ok(Settings {
            bind: address("--bind", &bind, DEFAULT_BIND)?,
            user,
            debug,
            database,
            web,
            web_is_default,
            pidfile: self.pidfile(),
            site,
            config,
        })
    }
}

impl Settings {
    /// What of other settings cannot count before a restart, as a sentence; `None` when there is nothing.
    pub fn needs_restart(&self, new: &Settings) -> Option<String> {
        let web = |settings: &Settings| settings.web.map_or("none".to_owned(), |address| address.to_string());
        let pairs = [
            ("bind", self.bind.to_string(), new.bind.to_string()),
            ("user", self.user.clone(), new.user.clone()),
            ("store", self.database.display().to_string(), new.database.display().to_string()),
            ("web", web(self), web(new)),
        ];
        let differing = pairs.into_iter().filter(|(_, old, new)| old != new);
        let named: Vec<String> = differing.map(|(key, old, new)| format!("{key}: {old} → {new}")).collect();
        (!named.is_empty()).then(|| {
            format!("cma.toml was changed where only a restart helps ({}): restart the CMA", named.join(", "))
        })
    }
}

/// An empty variable in /etc/default means the same as none.
fn filled(value: &Option<String>) -> Option<&String> {
    value.as_ref().filter(|text| !text.is_empty())
}

fn chosen(given: &Option<String>, file: &Option<String>, default: &str) -> (String, bool) {
    match filled(given).or(filled(file)) {
        Some(text) => (text.clone(), false),
        None => (default.to_owned(), true),
    }
}

fn address(what: &'static str, text: &str, example: &'static str) -> Result<SocketAddr, SettingError> {
    wire::address::parse_bind(text).map_err(|_| SettingError::Address {
        what,
        value: text.to_owned(),
        example,
    })
}

fn database(url: &str) -> Result<PathBuf, SettingError> {
    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        // The URL may hold a password: only its scheme is repeated.
        return Err(SettingError::Postgres("postgres://...".into()));
    }
    match url.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path)) {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err(SettingError::Store(url.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> CmaConfig {
        CmaConfig {
            bind: Some("127.0.0.1:1".into()),
            web: Some("127.0.0.1:2".into()),
            debug: Some(3),
            ..CmaConfig::default()
        }
    }

    #[test]
    fn flags_beat_the_file_and_the_file_beats_defaults() {
        let arguments = Arguments {
            bind: Some("127.0.0.1:9".into()),
            ..Arguments::parse_from(["cma", "--root", "/tmp/x"])
        };
        let settings = arguments.settings(file()).unwrap();
        assert_eq!(settings.bind.port(), 9);
        assert_eq!((settings.web.unwrap().port(), settings.web_is_default, settings.debug), (2, false, 3));
        assert_eq!(settings.database, PathBuf::from("/tmp/x/var/lib/assimilation/cma.sqlite"));
        let settings = Arguments { bind: Some(String::new()), ..Arguments::default() }
            .settings(CmaConfig::default())
            .unwrap();
        assert_eq!((settings.bind, settings.user.as_str()), ("[::]:1984".parse().unwrap(), "assimilation"));
        assert!(settings.web_is_default);
    }

    #[test]
    fn what_only_a_restart_changes_is_named() {
        let settings = |config: CmaConfig| Arguments::default().settings(config).unwrap();
        let old = settings(file());
        assert_eq!(old.needs_restart(&settings(CmaConfig { debug: Some(1), ..file() })), None);
        let new = settings(CmaConfig { web: Some("none".into()), user: Some("x".into()), ..file() });
        let told = old.needs_restart(&new).unwrap();
        assert!(
            told.contains("web: 127.0.0.1:2 → none") && told.contains("user: assimilation → x"),
            "{told}"
        );
        assert!(!told.contains("bind"), "{told}");
    }

    #[test]
    fn wrong_words_are_named() {
        let with = |change: fn(&mut Arguments)| {
            let mut arguments = Arguments::default();
            change(&mut arguments);
            arguments.settings(CmaConfig::default()).map_err(|error| error.to_string())
        };
        let mut config = CmaConfig::default();
        config.heartbeats.probes = 0;
        let error = Arguments::default().settings(config).unwrap_err().to_string();
        assert!(error.contains("cma.toml") && error.contains("probes = 0"), "{error}");
        let refused = |change| with(change).unwrap_err();
        assert!(refused(|a| a.bind = Some("localhost".into())).contains("--bind \"localhost\""));
        assert!(refused(|a| a.debug = Some("9".into())).contains("\"9\""));
        assert!(refused(|a| a.store = Some("mysql:x".into())).contains("mysql:x"));
        let postgres = refused(|a| a.store = Some("postgres://u:secret@h/db".into()));
        assert!(postgres.contains("not built") && !postgres.contains("secret"), "{postgres}");
        assert_eq!(with(|a| a.web = Some("none".into())).unwrap().web, None);
        assert_eq!(
            with(|a| a.store = Some("sqlite:///var/x.db".into())).unwrap().database,
            PathBuf::from("/var/x.db")
        );
    }
}
