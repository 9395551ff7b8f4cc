//! Time servers of systemd-timesyncd: `/etc/systemd/timesyncd.conf` and its drop-ins, see timesyncd.conf(5).
//!
//! `data` is setting → value, of the section `Time`; `NTP` and `FallbackNTP` are lists that add up over several lines.
//! Of a repeated setting the last one counts; a setting that no file has is not in the data, and the daemon uses
//! its built-in value. Truth values are booleans, whole numbers numbers, times of settings that end in `Sec` seconds.
//!
//! ```json
//! {"NTP": ["ntp1.example.org", "ntp2.example.org"], "PollIntervalMaxSec": 2048}
//! ```

use crate::parse::systemd_conf::{self, SystemdConf};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};

pub static DISCOVERY: Discovery = Discovery {
    name: "timesyncd_conf",
    description: "Time servers of systemd-timesyncd",
    documentation: documentation::TIMESYNCD_CONF,
    parameters: &[],
    instances: &[Instance { name: "_init_timesyncd_conf", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const CONF: SystemdConf = SystemdConf {
    file: "systemd/timesyncd.conf",
    program: "systemd-timesyncd",
    sections: &["Time"],
    flat: true,
    lists: &["NTP", "FallbackNTP"],
};

fn collect(host: &Host, _: &Parameters) -> Collected {
    systemd_conf::collect(host, &CONF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_fixtures, collect as collect_from};
    use serde_json::json;

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn drop_ins_win_and_malformed_lines_are_named() {
        let found = collect_from(
            &DISCOVERY,
            &[
                ("/etc/systemd/timesyncd.conf", b"[Time]\nPollIntervalMaxSec=2048\nnonsense\n"),
                ("/etc/systemd/timesyncd.conf.d/60-site.conf", b"[Time]\nPollIntervalMaxSec=34min 8s\n"),
            ],
        );
        assert_eq!(found.data, json!({"PollIntervalMaxSec": 2048}));
        assert_eq!(found.errors, ["/etc/systemd/timesyncd.conf line 3: 'nonsense' has no '='"]);
    }

    #[test]
    fn a_host_without_it_has_nothing_to_judge() {
        let found = collect_from(&DISCOVERY, &[("/etc/hostname", b"h")]);
        assert!(
            found.data["NODATA"].as_str().is_some_and(|why| why.contains("is not installed")),
            "{}",
            found.data
        );
        assert!(found.errors.is_empty());
    }
}
