//! What waits on this host to be sent to the CMA.

use super::{Check, Look, Topic};
use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

const NAME: &str = "queue";

pub static TOPIC: Topic = Topic { name: NAME, check };

/// A change that waits for longer means that no CMA takes it.
const LONG: Duration = Duration::from_secs(600);
/// Of 64 MiB; above it older changes are dropped.
const NEARLY_FULL_BYTES: u64 = 48 * 1024 * 1024;
const MAX_FILES: usize = 1_000_000;

fn check(look: &Look) -> Vec<Check> {
    if !look.has_nanoprobe() {
        return Vec::new();
    }
    let directory = look.paths().nanoprobe_state().join("queue");
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(_) => {
            let text = format!("{} cannot be read by this user", directory.display());
            return vec![Check::unknown(NAME, text).fix("sudo assimcli doctor")];
        }
    };
    let (mut count, mut bytes, mut oldest) = (0u64, 0u64, None);
    for entry in entries.flatten().take(MAX_FILES) {
        let is_change =
            entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
        let Some(metadata) = entry.metadata().ok().filter(|metadata| is_change && metadata.is_file()) else {
            continue;
        };
        count += 1;
        bytes = bytes.saturating_add(metadata.len());
        let made = metadata.modified().ok();
        oldest = match (oldest, made) {
            (Some(old), Some(new)) => Some(std::cmp::min(old, new)),
            (old, new) => old.or(new),
        };
    }
    let age = oldest
        .and_then(|oldest| oldest.duration_since(std::time::UNIX_EPOCH).ok())
        .map(|since| look.now.since(model::Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))))
        .unwrap_or_default();
    vec![judge(count, bytes, age)]
}

fn judge(count: u64, bytes: u64, age: Duration) -> Check {
    let verb = if count == 1 { "waits" } else { "wait" };
    let waiting = format!("{} ({} KB) {verb} for the CMA", super::counted(count, "change"), bytes / 1024);
    let why = "journalctl -u assimilation-nanoprobe -n 20";
    if bytes > NEARLY_FULL_BYTES {
        Check::bad(NAME, format!("{waiting}: the queue is nearly full, older changes will be dropped"))
            .fix(why)
    } else if age > LONG {
        Check::bad(
            NAME,
            format!("{waiting}, the oldest for {} minutes: no CMA takes them", age.as_secs() / 60),
        )
        .fix(why)
    } else {
        Check::good(NAME, waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::super::look::Rig;
    use super::*;
    use model::Timestamp;

    #[test]
    fn changes_that_wait_long_are_a_problem() {
        let mut rig = Rig::new();
        assert_eq!(check(&rig.look()), [], "no nanoprobe here");
        rig.file("/var/lib/assimilation/nanoprobe/queue/00000000000000000007", "0123456789");
        rig.file("/var/lib/assimilation/nanoprobe/queue/unfinished.tmp", "x");
        rig.now = Timestamp::now();
        assert_eq!(check(&rig.look()), [Check::good(NAME, "1 change (0 KB) waits for the CMA")]);
        rig.now = rig.now.plus(Duration::from_secs(3600));
        let found = check(&rig.look());
        assert!(found[0].is_bad() && found[0].text.contains("for 60 minutes"), "{found:?}");
        assert!(judge(9, 60 << 20, Duration::ZERO).text.contains("nearly full"));
    }
}
