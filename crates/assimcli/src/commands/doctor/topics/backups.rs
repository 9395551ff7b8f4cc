//! When the last backup was made, and copies that nobody needs any more.

use super::{Check, Look, Topic};
use model::Timestamp;
use serde_json::Value;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const NAME: &str = "backups";

pub static TOPIC: Topic = Topic { name: NAME, check };

/// A backup that is older is too old.
const OLD: Duration = Duration::from_secs(8 * 86_400);
/// Databases from before a restore are kept in mind for so long.
const KEPT: Duration = Duration::from_secs(30 * 86_400);
const MAKE: &str = "assimcli backup /var/backups/cma-$(date +%F).tar.zst";

fn check(look: &Look) -> Vec<Check> {
    if !look.has_cma() {
        return Vec::new();
    }
    let mut checks = vec![last(look)];
    checks.extend(left_over(look));
    checks
}

fn last(look: &Look) -> Check {
    let record = super::look::read(&look.paths().state().join("last-backup.json"));
    let record: Value = record.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null);
    let Some(made) = record["made"].as_str().and_then(Timestamp::parse) else {
        // A new CMA has nothing to lose yet.
        let age = look
            .paths()
            .database()
            .metadata()
            .and_then(|file| file.created())
            .ok()
            .map(|time| since(look, time));
        return if age.is_some_and(|age| age > OLD) {
            Check::bad(
                NAME,
                format!(
                    "no backup was ever made, and the database is {} days old",
                    days(age.unwrap_or_default())
                ),
            )
            .fix(MAKE)
        } else {
            Check::good(NAME, "no backup was made yet")
        };
    };
    let age = look.now.since(made);
    let ago = match days(age) {
        0 => "within the last day".to_owned(),
        days => format!("{} ago", super::counted(days, "day")),
    };
    let text = format!("the last backup was made {ago}: {}", output::text(&record["file"]));
    if age > OLD { Check::bad(NAME, text).fix(MAKE) } else { Check::good(NAME, text) }
}

/// Databases that were replaced by a restore long ago.
fn left_over(look: &Look) -> Vec<Check> {
    let entries = fs::read_dir(look.paths().state()).into_iter().flatten().flatten();
    let old = entries.filter(|entry| {
        let is_copy = entry.file_name().to_string_lossy().starts_with("cma.sqlite.before-restore-");
        let changed = entry.metadata().and_then(|file| file.modified());
        is_copy && changed.is_ok_and(|time| since(look, time) > KEPT)
    });
    old.map(|entry| {
        let path = entry.path().display().to_string();
        Check::bad(NAME, format!("{path} is from before a restore, and older than {} days", days(KEPT)))
            .fix(format!("rm {path}"))
    })
    .collect()
}

fn since(look: &Look, time: SystemTime) -> Duration {
    let time = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    look.now.since(Timestamp(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)))
}

fn days(age: Duration) -> u64 {
    age.as_secs() / 86_400
}

#[cfg(test)]
mod tests {
    use super::super::look::Rig;
    use super::*;

    #[test]
    fn an_old_backup_and_none_are_problems() {
        let mut rig = Rig::new();
        assert_eq!(check(&rig.look()), [], "no CMA here");
        rig.file("/var/lib/assimilation/cma.sqlite", "");
        rig.now = Timestamp::now();
        assert!(!check(&rig.look())[0].is_bad(), "it is new");
        rig.file("/var/lib/assimilation/cma.sqlite.before-restore-20200101T000000Z", "");
        rig.now = rig.now.plus(Duration::from_secs(40 * 86_400));
        let found = check(&rig.look());
        assert!(found[0].is_bad() && found[0].fix.contains("assimcli backup"), "{found:?}");
        assert!(
            found[1].fix.starts_with("rm ") && found[1].fix.ends_with("before-restore-20200101T000000Z"),
            "{found:?}"
        );
        let made = |days: u64| {
            format!(
                "{{\"made\":\"{}\",\"file\":\"/b\"}}",
                Timestamp(rig.now.0 - days as i64 * 86_400_000_000)
            )
        };
        rig.file("/var/lib/assimilation/last-backup.json", &made(2));
        assert_eq!(check(&rig.look())[0], Check::good(NAME, "the last backup was made 2 days ago: /b"));
        rig.file("/var/lib/assimilation/last-backup.json", &made(1));
        assert_eq!(check(&rig.look())[0].text, "the last backup was made 1 day ago: /b");
        rig.file("/var/lib/assimilation/last-backup.json", &made(0));
        assert_eq!(check(&rig.look())[0].text, "the last backup was made within the last day: /b");
        rig.file("/var/lib/assimilation/last-backup.json", &made(20));
        assert!(check(&rig.look())[0].is_bad());
    }
}
