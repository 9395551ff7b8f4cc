//! When, after a start of the nanoprobe, the discoveries that read large parts of the disks run first.
//!
//! A host has better things to do while it starts, and hosts that share a disk or a rack often start together: so these
//! wait, each host differently long. A host that restarts before their turn has come, again and again, would never
//! get to them; therefore the state directory remembers how many starts went by without a run, and the wait is halved for
//! each. No clock takes part, so none that is wrong can postpone or hurry anything.

use super::tasks::Task;
use crate::collector::Work;
use model::DocumentHash;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Earliest and latest first run after a start.
const RANGE: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(1800));

/// Even after many starts without a run there is this much time to get the host going, and to get rid of a nanoprobe that
/// such a run would bring down.
const SHORTEST: Duration = Duration::from_secs(60);

/// More are not counted: the wait is the shortest long before.
const MAX_STARTS: u32 = 16;

/// There are few expensive instances; a longer file is not ours.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// What the state directory remembers, and the waits of this process.
#[derive(Debug)]
pub struct FirstRuns {
    path: PathBuf,
    /// Starts without a run by instance, this one included; those that have run are not in it.
    starts: BTreeMap<String, u32>,
    /// The waits since the start of the process, decided once.
    waits: BTreeMap<String, Duration>,
}

impl FirstRuns {
    /// Reads what the file at `path` remembers. What is missing or damaged counts as never started before.
    pub fn open(path: PathBuf) -> Self {
        let starts = read(&path).map(|text| parse(&text)).unwrap_or_default();
        Self { path, starts, waits: BTreeMap::new() }
    }

    /// How long after the start of the process each expensive instance of `tasks` runs first at the earliest.
    ///
    /// # Errors
    /// The file cannot be written; the waits hold all the same, and only the next start is not told of this one.
    pub fn waits(
        &mut self,
        tasks: &BTreeMap<String, Task>,
        host: &str,
    ) -> (&BTreeMap<String, Duration>, io::Result<()>) {
        let before = self.starts.clone();
        let is_expensive =
            |task: &Task| matches!(task.work, Work::Native(discovery) if discovery.is_expensive());
        for (name, _) in tasks.iter().filter(|(_, task)| is_expensive(task)) {
            if !self.waits.contains_key(name) {
                let starts = self.starts.entry(name.clone()).or_default();
                self.waits.insert(name.clone(), wait(host, name, *starts));
                *starts = starts.saturating_add(1).min(MAX_STARTS);
            }
        }
        // What is switched off starts anew when it is switched on again.
        self.starts.retain(|name, _| tasks.contains_key(name));
        let saved = if self.starts == before { Ok(()) } else { self.save() };
        (&self.waits, saved)
    }

    /// An instance has had its turn, whatever came of it.
    ///
    /// # Errors
    /// The file cannot be written: after the next start the instance waits less than it would have to.
    pub fn done(&mut self, instance: &str) -> io::Result<()> {
        if self.starts.remove(instance).is_some() { self.save() } else { Ok(()) }
    }

    fn save(&self) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        // Not synced: a power cut costs one count.
        fs::File::create(&temporary)?.write_all(text(&self.starts).as_bytes())?;
        fs::rename(temporary, &self.path)
    }
}

/// Spread over hosts and instances by their names, so that it is the same after every start; half of that for each start
/// that went by without a run.
fn wait(host: &str, instance: &str, starts: u32) -> Duration {
    let hash = DocumentHash::of(format!("{host}\n{instance}").as_bytes());
    let number = hash.0.iter().take(4).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    let (earliest, latest) = RANGE;
    let whole = earliest + (latest - earliest).mul_f64(number as f64 / f64::from(u32::MAX));
    (whole / 2u32.pow(starts.min(MAX_STARTS))).max(SHORTEST)
}

/// Lines `<starts> <instance>`; what is none is left out.
fn parse(text: &str) -> BTreeMap<String, u32> {
    let line = |line: &str| {
        let (starts, name) = line.split_once(' ')?;
        Some((name.to_owned(), starts.parse::<u32>().ok()?.min(MAX_STARTS)))
    };
    text.lines().filter_map(line).collect()
}

fn text(starts: &BTreeMap<String, u32>) -> String {
    starts.iter().map(|(name, starts)| format!("{starts} {name}\n")).collect()
}

fn read(path: &Path) -> Option<String> {
    if !fs::symlink_metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    fs::File::open(path).ok()?.take(MAX_FILE_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::super::tasks::tasks;
    use super::*;
    use model::config::{DiscoveryConfig, ScheduleOverride};

    const EXPENSIVE: [&str; 2] = ["_auto_checksumdiscovery", "_init_fs_scan"];

    fn all() -> BTreeMap<String, Task> {
        tasks(&DiscoveryConfig::default(), &[], "h", false)
    }

    fn started(path: &Path) -> FirstRuns {
        let mut runs = FirstRuns::open(path.to_owned());
        runs.waits(&all(), "h").1.unwrap();
        runs
    }

    #[test]
    fn what_costs_much_waits_after_the_start_by_the_name_of_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = Vec::new();
        for host in 0..200 {
            let mut runs = FirstRuns::open(folder.path().join(host.to_string()));
            let waits = runs.waits(&all(), &format!("web{host}")).0.clone();
            assert!(waits.keys().eq(EXPENSIVE), "{waits:?}");
            assert_eq!(waits, *runs.waits(&all(), &format!("web{host}")).0, "decided once");
            assert!(waits.iter().all(|(name, decided)| *decided == wait(&format!("web{host}"), name, 0)));
            seen.extend(waits.into_values());
        }
        let (earliest, latest) = RANGE;
        assert!(seen.iter().all(|wait| (earliest..=latest).contains(wait)));
        // Spread: in each quarter of the time there is a fair share of the hosts.
        for quarter in 0..4 {
            let from = earliest + (latest - earliest) / 4 * quarter;
            let there =
                seen.iter().filter(|wait| (from..from + (latest - earliest) / 4).contains(*wait)).count();
            assert!((60..140).contains(&there), "{quarter}: {there} of {}", seen.len());
        }
    }

    #[test]
    fn starts_without_a_run_shorten_the_wait_and_a_run_restores_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("first_runs");
        let [first, other] = EXPENSIVE;
        let mut last = Duration::MAX;
        for start in 0..40 {
            let runs = started(&path);
            let now = runs.waits[first];
            assert!(now < last || now == SHORTEST, "start {start}: {now:?} after {last:?}");
            last = now;
        }
        assert_eq!(last, SHORTEST, "a host that is up for a minute gets there");
        let mut runs = started(&path);
        runs.done(first).unwrap();
        runs.waits(&all(), "h").1.unwrap();
        let after = started(&path);
        assert_eq!(after.waits[first], wait("h", first, 0));
        assert_eq!(after.waits[other], SHORTEST, "that one still has not run");
    }

    #[test]
    fn what_is_switched_off_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("first_runs");
        (0..3).for_each(|_| drop(started(&path)));
        let mut config = DiscoveryConfig::default();
        let off = ScheduleOverride { enabled: Some(false), ..Default::default() };
        config.agents.insert("fs_scan".into(), off);
        let mut runs = FirstRuns::open(path.clone());
        runs.waits(&tasks(&config, &[], "h", false), "h").1.unwrap();
        let runs = started(&path);
        let [checksums, fs_scan] = EXPENSIVE;
        assert_eq!(runs.waits[fs_scan], wait("h", fs_scan, 0));
        assert_eq!(runs.waits[checksums], wait("h", checksums, 4));
    }

    #[test]
    fn a_damaged_file_costs_its_counts_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("first_runs");
        let [checksums, fs_scan] = EXPENSIVE;
        fs::write(&path, format!("99999 {checksums}\n-1 {fs_scan}\n2\n\njunk\u{0}\n")).unwrap();
        let runs = started(&path);
        assert_eq!(runs.waits[checksums], SHORTEST);
        assert_eq!(runs.waits[fs_scan], wait("h", fs_scan, 0));
        let kept = fs::read_to_string(&path).unwrap();
        assert_eq!(kept, format!("{MAX_STARTS} {checksums}\n1 {fs_scan}\n"), "mended");
        fs::write(&path, [0xff, 0xfe, b'\n']).unwrap();
        assert_eq!(started(&path).waits[checksums], wait("h", checksums, 0));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert_eq!(started(&path).waits[checksums], wait("h", checksums, 0));
        assert!(fs::symlink_metadata(&path).unwrap().is_file(), "replaced");
        let mut nowhere = FirstRuns::open(folder.path().join("missing/first_runs"));
        let (waits, saved) = nowhere.waits(&all(), "h");
        assert!(waits.len() == 2 && saved.is_err(), "without a disk there are waits all the same");
    }
}
