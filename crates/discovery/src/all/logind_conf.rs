//! Settings of the log-in manager: `/etc/systemd/logind.conf` and its drop-ins, see logind.conf(5).
//!
//! `data` is setting → value, of the section `Login`.
//! Of a repeated setting the last one counts; a setting that no file has is not in the data, and the daemon uses
//! its built-in value. Truth values are booleans, whole numbers numbers, times of settings that end in `Sec` seconds.
//!
//! ```json
//! {"StopIdleSessionSec": 600, "KillUserProcesses": false}
//! ```

use crate::parse::systemd_conf::{self, SystemdConf};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};

pub static DISCOVERY: Discovery = Discovery {
    name: "logind_conf",
    description: "Settings of the log-in manager",
    documentation: documentation::LOGIND_CONF,
    parameters: &[],
    instances: &[Instance { name: "_init_logind_conf", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const CONF: SystemdConf = SystemdConf {
    file: "systemd/logind.conf",
    program: "systemd-logind",
    sections: &["Login"],
    flat: true,
    lists: &[],
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
                ("/etc/systemd/logind.conf", b"[Login]\nStopIdleSessionSec=infinity\nnonsense\n"),
                ("/etc/systemd/logind.conf.d/60-site.conf", b"[Login]\nStopIdleSessionSec=10min\n"),
            ],
        );
        assert_eq!(found.data, json!({"StopIdleSessionSec": 600}));
        assert_eq!(found.errors, ["/etc/systemd/logind.conf line 3: 'nonsense' has no '='"]);
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
