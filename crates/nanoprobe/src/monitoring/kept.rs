//! The monitors and their last states on disk, so that a restart repeats nothing and a service that does not come back
//! after a reboot is missed. One JSON file in the state directory, readable by its owner only: parameters may be secret.

use super::plan::{Kept, MAX_MONITORS};
use super::state::Told;
use model::Timestamp;
use monitors::{Class, Monitor, Target};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A larger file is not ours.
const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;

/// Raised when what is written would be misunderstood by this version.
const VERSION: u32 = 1;

/// Longest text of a field that was written, in bytes; more is damage.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Reads what was kept. A missing file is an empty one.
///
/// # Errors
/// One sentence: the file is damaged, or of another version; it is to be done without.
pub fn read(path: &Path) -> Result<Vec<Kept>, String> {
    let told = |error: io::Error| format!("{}: {error}", path.display());
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file.map_err(told)?,
    };
    let mut text = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(told)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("{}: larger than {MAX_FILE_BYTES} bytes", path.display()));
    }
    let file: File = serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    if file.version != VERSION {
        return Err(format!("{}: version {} is not known", path.display(), file.version));
    }
    if file.monitors.len() > 2 * MAX_MONITORS {
        return Err(format!("{}: {} monitors are too many", path.display(), file.monitors.len()));
    }
    let kept: Option<Vec<Kept>> = file.monitors.into_iter().map(Line::into_kept).collect();
    kept.ok_or_else(|| format!("{}: a monitor in it makes no sense", path.display()))
}

/// What is written.
///
/// # Errors
/// None that can be expected: the fields are texts and numbers.
pub fn text(kept: impl Iterator<Item = Kept>) -> io::Result<Vec<u8>> {
    let file = File { version: VERSION, monitors: kept.map(Line::from).collect() };
    serde_json::to_vec(&file).map_err(io::Error::other)
}

/// Writes a [`text`]; either the old file or the new one is there afterwards.
///
/// # Errors
/// Those of the file system.
pub fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut new = fs::File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
    new.write_all(text)?;
    new.sync_all()?;
    fs::rename(&temporary, path)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    monitors: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    class: String,
    agent: String,
    provider: Option<String>,
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    /// Process, program and addresses; absent for the host itself.
    service: Option<(String, String, Vec<String>)>,
    rule: String,
    repeat_seconds: u64,
    warn_seconds: u64,
    timeout_seconds: u64,
    failures: u32,
    user: String,
    told: Option<Told>,
    vanished: Option<Timestamp>,
    unit: Option<String>,
}

impl From<Kept> for Line {
    fn from(kept: Kept) -> Self {
        let Kept { monitor, told, vanished, unit } = kept;
        let Monitor {
            name,
            class,
            agent,
            provider,
            argv,
            env,
            target,
            rule,
            repeat_seconds,
            warn_seconds,
            timeout_seconds,
            failures,
            user,
        } = monitor;
        let service = match target {
            Target::Host => None,
            Target::Service { process, pathname, listen } => Some((process, pathname, listen)),
        };
        Self {
            name,
            class: class.as_str().into(),
            agent,
            provider,
            argv,
            env,
            service,
            rule,
            repeat_seconds,
            warn_seconds,
            timeout_seconds,
            failures,
            user,
            told,
            vanished,
            unit,
        }
    }
}

impl Line {
    /// `None`: nothing that we would have written.
    fn into_kept(self) -> Option<Kept> {
        let told = self.told.as_ref();
        let texts = [&self.name, &self.agent, &self.rule, &self.user]
            .into_iter()
            .chain(&self.provider)
            .chain(&self.argv)
            .chain(self.env.iter().flat_map(|(name, value)| [name, value]))
            .chain(told.into_iter().flat_map(|told| [&told.reason, &told.output, &told.perfdata]))
            .chain(&self.unit);
        if texts.into_iter().any(|text| text.len() > MAX_TEXT_BYTES) || self.name.is_empty() {
            return None;
        }
        let target = match self.service {
            None => Target::Host,
            Some((process, pathname, listen)) => Target::Service { process, pathname, listen },
        };
        let monitor = Monitor {
            class: class_of(&self.class)?,
            name: self.name,
            agent: self.agent,
            provider: self.provider,
            argv: self.argv,
            env: self.env,
            target,
            rule: self.rule,
            repeat_seconds: self.repeat_seconds,
            warn_seconds: self.warn_seconds,
            timeout_seconds: self.timeout_seconds,
            failures: self.failures,
            user: self.user,
        };
        Some(Kept { monitor, told: self.told, vanished: self.vanished, unit: self.unit })
    }
}

fn class_of(name: &str) -> Option<Class> {
    let all = [
        Class::Ocf,
        Class::Nagios,
        Class::Lsb,
        Class::Systemd,
        Class::Tcp,
        Class::Http,
        Class::Tls,
        Class::NeverMon,
    ];
    all.into_iter().find(|class| class.as_str() == name)
}

#[cfg(test)]
mod tests {
    use super::super::state::State;
    use super::super::testing::service;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn example() -> Vec<Kept> {
        let told = Told {
            state: State::Down,
            since: Timestamp(1_795_000_000_000_001),
            reason: "not running".into(),
            rc: Some(7),
            signal: None,
            output: "ünïcode\n".into(),
            perfdata: String::new(),
        };
        let mut first = service(Class::Ocf, "redis", 6379);
        first.provider = Some("heartbeat".into());
        first.env.insert("password".into(), "geheim".into());
        let second = Monitor { target: Target::Host, ..service(Class::Nagios, "check_load", 1) };
        vec![
            Kept {
                monitor: first,
                told: Some(told),
                vanished: Some(Timestamp(5)),
                unit: Some("redis.service".into()),
            },
            Kept { monitor: second, told: None, vanished: None, unit: None },
        ]
    }

    #[test]
    fn what_was_written_is_read_and_nobody_else_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("monitors.json");
        assert_eq!(read(&path).unwrap(), []);
        for _ in 0..2 {
            write(&path, &text(example().into_iter()).unwrap()).unwrap();
            assert_eq!(read(&path).unwrap(), example());
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no leftovers");
    }

    #[test]
    fn damage_is_told_and_never_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("monitors.json");
        write(&path, &text(example().into_iter()).unwrap()).unwrap();
        let good = fs::read(&path).unwrap();
        for end in (0..good.len()).step_by(7) {
            fs::write(&path, &good[..end]).unwrap();
            assert!(read(&path).is_err(), "cut at {end}");
        }
        let text = String::from_utf8(good).unwrap();
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"ocf\"", "\"shell\""),
            ("\"down\"", "\"dwon\""),
            ("\"user\":", "\"usr\":"),
        ] {
            assert!(text.contains(from), "{from} in {text}");
            fs::write(&path, text.replace(from, to)).unwrap();
            assert!(read(&path).is_err(), "{to}");
        }
        let long = text.replace("geheim", &"x".repeat(MAX_TEXT_BYTES + 1));
        fs::write(&path, long).unwrap();
        assert!(read(&path).unwrap_err().contains("no sense"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(read(&path).is_err());
    }
}
