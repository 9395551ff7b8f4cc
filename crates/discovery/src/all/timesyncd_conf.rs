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
use crate::{Discovery, Instance, documentation};

pub static DISCOVERY: Discovery = Discovery {
    name: "timesyncd_conf",
    description: "Time servers of systemd-timesyncd",
    documentation: documentation::TIMESYNCD_CONF,
    instances: &[Instance { name: "_init_timesyncd_conf", parameters: &[], schedule: None }],
    collect: |host, _| systemd_conf::collect(host, &CONF),
    ..systemd_conf::DISCOVERY
};

const CONF: SystemdConf = SystemdConf {
    file: "systemd/timesyncd.conf",
    program: "systemd-timesyncd",
    sections: &["Time"],
    flat: true,
    lists: &["NTP", "FallbackNTP"],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::check_systemd_conf;
    use serde_json::json;

    #[test]
    fn is_read_as_systemd_reads_it() {
        let (first, then) = ("[Time]\nPollIntervalMaxSec=1024\n", "[Time]\nPollIntervalMaxSec=34min 8s\n");
        check_systemd_conf(
            &DISCOVERY,
            "/etc/systemd/timesyncd.conf",
            first,
            then,
            json!({"PollIntervalMaxSec": 2048}),
        );
    }
}
