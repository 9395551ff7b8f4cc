//! The clock of this machine, and how far those of the hosts are from the CMA's.

use super::{Check, Look, Topic};
use model::Timestamp;
use output::text;
use serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

const NAME: &str = "clock";

pub static TOPIC: Topic = Topic { name: NAME, check };

/// This program was made after 2026-01-01: a clock before that is wrong.
const MADE_AFTER: Timestamp = Timestamp(1_767_225_600_000_000);
/// A file that is from so long after now was written under another clock.
const AHEAD: Duration = Duration::from_secs(3600);
/// How far a host's clock may be off, in seconds. Messages take a while, and a virtual machine may have been asleep.
const OFF_SECONDS: i64 = 30;
/// Hosts of which at least so many, and more than half, are off in one direction: then it is the CMA's clock.
const SEVERAL: u64 = 3;
/// Hosts that are named.
const NAMED: usize = 10;
const SET: &str = "timedatectl set-ntp true";

fn check(look: &Look) -> Vec<Check> {
    let mut checks = vec![own(look)];
    if let Ok(status) = &look.status {
        checks.extend(hosts(&status["clocks"]));
    }
    checks
}

fn own(look: &Look) -> Check {
    let now = look.now;
    if now < MADE_AFTER {
        let text = format!("it is {} by this machine's clock, which is years off", now.to_local_text());
        return Check::bad(NAME, text).fix(SET);
    }
    let newest = [look.paths().database(), look.paths().nanoprobe_state(), look.paths().run()]
        .iter()
        .filter_map(|path| path.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok())
        .map(|since| Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)))
        .max();
    if let Some(newest) = newest.filter(|newest| newest.since(now) > AHEAD) {
        let text = format!(
            "it is {} by this machine's clock, and something was stored at {}: the clock is, or was, far off",
            now.to_local_text(),
            newest.to_local_text()
        );
        return Check::bad(NAME, text).fix(SET);
    }
    let synchronised = look
        .program("timedatectl", &["show", "-p", "NTPSynchronized", "--value"])
        .map(|answer| answer.trim() == "yes")
        .or_else(|| look.at("/run/systemd/timesync/synchronized").exists().then_some(true));
    match synchronised {
        Some(true) => Check::good(NAME, "this machine's clock is synchronised"),
        Some(false) => {
            let text = "this machine's clock is not synchronised: times in events and history may be wrong";
            // Without a program that does it, switching it on fails: "NTP not supported".
            let can = look.program("timedatectl", &["show", "-p", "CanNTP", "--value"]);
            if can.is_some_and(|answer| answer.trim() == "no") {
                Check::bad(NAME, format!("{text}; no program that keeps it right is installed"))
                    .fix(format!("{} chrony", look.install()))
            } else {
                Check::bad(NAME, text).fix(SET)
            }
        }
        None => Check::unknown(NAME, "whether this machine's clock is synchronised is not to be seen here"),
    }
}

/// `{"hosts": how many told their clock, "off": [{"designation", "seconds"}], "ahead": n, "behind": n}`, seconds ahead of the CMA.
fn hosts(clocks: &Value) -> Vec<Check> {
    let known = clocks["hosts"].as_u64().unwrap_or(0);
    let off: Vec<(String, i64)> = clocks["off"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|host| Some((text(&host["designation"]), host["seconds"].as_i64()?)))
        .filter(|(_, seconds)| seconds.saturating_abs() > OFF_SECONDS)
        .collect();
    if known == 0 {
        return Vec::new();
    }
    let (ahead, behind) = (clocks["ahead"].as_u64().unwrap_or(0), clocks["behind"].as_u64().unwrap_or(0));
    if ahead.max(behind) >= SEVERAL && ahead.max(behind).saturating_mul(2) > known {
        let direction = if ahead > behind { "ahead of" } else { "behind" };
        let text = format!(
            "{} of {known} hosts are {direction} the CMA: its own clock is off, not theirs",
            ahead.max(behind)
        );
        return vec![Check::bad(NAME, text).fix(SET)];
    }
    let mut checks: Vec<Check> = off
        .iter()
        .take(NAMED)
        .map(|(host, seconds)| {
            let direction = if *seconds > 0 { "ahead of" } else { "behind" };
            let far = long(seconds.unsigned_abs());
            Check::bad(NAME, format!("the clock of {host} is {far} {direction} the CMA's"))
                .fix(format!("ssh {host} sudo {SET}"))
        })
        .collect();
    if off.len() > NAMED {
        checks.push(Check::bad(NAME, format!("and of {} more hosts", off.len() - NAMED)));
    }
    if checks.is_empty() {
        checks.push(Check::good(
            NAME,
            format!("the clocks of {} agree with the CMA's", super::counted(known, "host")),
        ));
    }
    checks
}

fn long(seconds: u64) -> String {
    match seconds {
        0..=299 => format!("{seconds} s"),
        300..=17_999 => format!("{} minutes", seconds / 60),
        18_000..=431_999 => format!("{} hours", seconds / 3600),
        432_000..=63_071_999 => format!("{} days", seconds / 86_400),
        _ => format!("{} years", seconds / 31_536_000),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::look::Rig;
    use super::*;
    use serde_json::json;

    fn told(clocks: Value) -> Vec<String> {
        hosts(&clocks).into_iter().map(|c| format!("{} {}", c.state.as_str(), c.text)).collect()
    }

    #[test]
    fn the_own_clock() {
        let mut rig = Rig::new();
        assert_eq!(check(&rig.look())[0].state, State::Unknown);
        let line = "timedatectl show -p NTPSynchronized --value";
        rig.program(line, "no\n");
        assert!(check(&rig.look())[0].fix.contains("set-ntp"));
        let can = "timedatectl show -p CanNTP --value";
        rig.program(can, "no\n");
        assert_eq!(check(&rig.look())[0].fix, "apt-get install chrony");
        rig.file("/usr/bin/dnf", "");
        assert_eq!(check(&rig.look())[0].fix, "dnf install chrony");
        rig.program(can, "yes\n");
        assert!(check(&rig.look())[0].fix.contains("set-ntp"));
        rig.program(line, "yes\n");
        assert_eq!(check(&rig.look())[0].state, State::Ok);
        rig.now = Timestamp(0);
        assert!(check(&rig.look())[0].text.contains("years off"));
        // Written today, and the clock stands in 2026.
        rig.file("/var/lib/assimilation/cma.sqlite", "");
        rig.now = MADE_AFTER.plus(Duration::from_secs(1));
        let found = check(&rig.look());
        assert!(found[0].is_bad() && found[0].text.contains("something was stored"), "{found:?}");
    }

    #[test]
    fn hosts_that_are_off_and_the_cma_that_is() {
        assert_eq!(told(json!(null)), Vec::<String>::new());
        assert_eq!(told(json!({"hosts": 9, "off": []})), ["ok the clocks of 9 hosts agree with the CMA's"]);
        assert_eq!(told(json!({"hosts": 1, "off": []})), ["ok the clocks of 1 host agree with the CMA's"]);
        let year = 31_536_000;
        assert_eq!(
            told(json!({"hosts": 9, "ahead": 1, "behind": 1,
                "off": [{"designation": "a", "seconds": 3 * year}, {"designation": "b", "seconds": -40}, {"designation": "c", "seconds": 20}]})),
            [
                "PROBLEM the clock of a is 3 years ahead of the CMA's",
                "PROBLEM the clock of b is 40 s behind the CMA's"
            ]
        );
        let all: Vec<Value> =
            (0..12).map(|n| json!({"designation": n.to_string(), "seconds": 500})).collect();
        assert!(
            told(json!({"hosts": 12, "ahead": 12, "behind": 0, "off": all}))[0]
                .contains("12 of 12 hosts are ahead")
        );
        assert_eq!(
            told(json!({"hosts": 40, "ahead": 12, "behind": 0, "off": all})).last().unwrap(),
            "PROBLEM and of 2 more hosts"
        );
        assert!(
            told(json!({"hosts": 1, "ahead": 1, "off": [{"designation": "a", "seconds": i64::MIN}]}))[0]
                .contains("years")
        );
    }
}
