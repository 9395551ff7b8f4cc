//! One check of one monitor: a file for each class. All of them block until there is a result, at most for the monitor's
//! time-out and some seconds to get rid of what does not end.
//!
//! The state that a result means is the same everywhere: `up` it works; `warn` it works and somebody should look, or nobody
//! can tell; `down` it does not work.

mod http;
mod lsb;
mod nagios;
mod net;
mod ocf;
mod program;
mod systemd;
mod tcp;
mod tls;

use super::state::Outcome;
use model::config::MonitoringConfig;
use monitors::{Class, Monitor};
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;
pub use systemd::unit;

/// Longest sentence about a result, in characters.
const MAX_REASON: usize = 500;
/// Most that is told of what a check printed, in bytes.
const MAX_OUTPUT_BYTES: usize = 4096;
/// A shorter secret would make nonsense of every text that it is looked for in, in bytes.
const MIN_SECRET_BYTES: usize = 3;

/// Where things are on this host.
#[derive(Debug, Clone)]
pub struct Around {
    /// `OCF_ROOT`.
    pub ocf_root: PathBuf,
    pub init_scripts: PathBuf,
    /// In order; the first that has a plug-in wins.
    pub nagiospath: Vec<PathBuf>,
    pub systemd_socket: PathBuf,
    /// Links of units that run.
    pub systemd_units: PathBuf,
    /// Where OCF agents keep notes between runs (`HA_RSCTMP`); made when needed.
    pub scratch: PathBuf,
    /// Certificates of the authorities that this host trusts; the first file there is.
    pub authorities: Vec<PathBuf>,
    /// Never told: values of the configuration's environments.
    pub secrets: Vec<String>,
}

impl Around {
    /// This host; `scratch` is a directory of ours.
    pub fn new(config: &MonitoringConfig, scratch: PathBuf) -> Self {
        let secrets = config.agents.values().flat_map(|agent| agent.env.values().cloned());
        Self {
            ocf_root: "/usr/lib/ocf".into(),
            init_scripts: "/etc/init.d".into(),
            nagiospath: config.nagiospath.iter().map(PathBuf::from).collect(),
            systemd_socket: discovery::systemd::SOCKET.into(),
            systemd_units: discovery::systemd::UNITS.into(),
            scratch,
            authorities: ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"]
                .map(PathBuf::from)
                .to_vec(),
            secrets: secrets.collect(),
        }
    }
}

/// What one check came to.
#[derive(Debug)]
pub struct Checked {
    pub outcome: Outcome,
    /// A process of the check that cannot be killed; somebody must wait for it.
    pub stray: Option<Child>,
}

impl From<Outcome> for Checked {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, stray: None }
    }
}

/// Runs a monitor once.
pub fn check(monitor: &Monitor, around: &Around) -> Checked {
    let mut checked = match monitor.class {
        Class::Ocf => ocf::check(monitor, around),
        Class::Nagios => nagios::check(monitor, around),
        Class::Lsb => lsb::check(monitor, around),
        Class::Systemd => systemd::check(monitor, around).into(),
        Class::Tcp => tcp::check(monitor).into(),
        Class::Http => http::check(monitor).into(),
        Class::Tls => tls::check(monitor, around).into(),
        Class::NeverMon => Outcome::warn("deliberately not looked after").into(),
    };
    let secrets = secrets(monitor, around);
    let outcome = &mut checked.outcome;
    outcome.reason = sentence(&masked(&outcome.reason, &secrets));
    outcome.output = block(&masked(&outcome.output, &secrets));
    outcome.perfdata = block(&masked(&outcome.perfdata, &secrets));
    checked
}

/// The monitor's time-out; a zero would never end anything.
fn timeout(monitor: &Monitor) -> Duration {
    Duration::from_secs(monitor.timeout_seconds.clamp(1, 24 * 3600))
}

fn timed_out(monitor: &Monitor) -> Outcome {
    Outcome::down(format!("timed out after {} s", timeout(monitor).as_secs()))
}

/// A parameter of a built-in class; an empty one counts as absent.
fn parameter<'a>(monitor: &'a Monitor, name: &str) -> Option<&'a str> {
    monitor.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// Whether a parameter says yes.
fn is_set(monitor: &Monitor, name: &str) -> bool {
    matches!(parameter(monitor, name), Some("1" | "true" | "yes" | "on"))
}

/// What must not be told: values that the configuration gave, those under names of secrets, and what follows an option
/// like `--password`, or one that often takes a password (`-p`, unless it is a port) or an SNMP community (`-C`).
fn secrets(monitor: &Monitor, around: &Around) -> Vec<String> {
    let is_secret = |name: &str| discovery::mask_secrets(&format!("{name}=x")) != format!("{name}=x");
    let named = monitor.env.iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| value.clone());
    let is_option = |word: &str| match word {
        "-p" | "-C" => true,
        word => word.starts_with('-') && is_secret(word.trim_start_matches('-')),
    };
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let after_option = (monitor.argv.windows(2))
        .filter(|pair| is_option(&pair[0]) && !is_number(&pair[1]))
        .map(|pair| pair[1].clone());
    let given = monitor.env.values().chain(&monitor.argv).filter(|value| around.secrets.contains(value));
    let mut all: Vec<String> = named.chain(after_option).chain(given.cloned()).collect();
    all.retain(|secret| secret.len() >= MIN_SECRET_BYTES);
    // The longest first, so that one that contains another goes as a whole.
    all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    all.dedup();
    all
}

fn masked(text: &str, secrets: &[String]) -> String {
    let mut text = secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"));
    if let std::borrow::Cow::Owned(masked) = discovery::mask_secrets(&text) {
        text = masked;
    }
    text
}

/// One line for people.
fn sentence(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    model::text::shortened(&model::text::printable(&line), MAX_REASON).into_owned()
}

/// Lines for people, bounded.
fn block(text: &str) -> String {
    let mut kept = String::new();
    for line in text.lines() {
        let line = model::text::printable(line.trim_end());
        let room = MAX_OUTPUT_BYTES.saturating_sub(kept.len() + 1);
        if line.len() > room {
            kept.push_str(&line[..line.floor_char_boundary(room.saturating_sub("…\n".len()))]);
            kept.push('…');
            break;
        }
        kept.push_str(&line);
        kept.push('\n');
    }
    kept.truncate(kept.trim_end().len());
    kept
}

#[cfg(test)]
#[path = "classes_tests.rs"]
mod tests;
