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
use crate::{Discovery, Instance, documentation};

pub static DISCOVERY: Discovery = Discovery {
    name: "logind_conf",
    description: "Settings of the log-in manager",
    documentation: documentation::LOGIND_CONF,
    instances: &[Instance { name: "_init_logind_conf", parameters: &[], schedule: None }],
    collect: |host, _| systemd_conf::collect(host, &CONF),
    ..systemd_conf::DISCOVERY
};

const CONF: SystemdConf = SystemdConf {
    file: "systemd/logind.conf",
    program: "systemd-logind",
    sections: &["Login"],
    flat: true,
    lists: &[],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::check_systemd_conf;
    use serde_json::json;

    #[test]
    fn is_read_as_systemd_reads_it() {
        let (first, then) = ("[Login]\nStopIdleSessionSec=infinity\n", "[Login]\nStopIdleSessionSec=10min\n");
        check_systemd_conf(
            &DISCOVERY,
            "/etc/systemd/logind.conf",
            first,
            then,
            json!({"StopIdleSessionSec": 600}),
        );
    }
}
