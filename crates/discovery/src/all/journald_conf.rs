//! Settings of the system journal: `/etc/systemd/journald.conf` and its drop-ins, see journald.conf(5).
//!
//! `data` is `Journal` → setting → value.
//! Of a repeated setting the last one counts; a setting that no file has is not in the data, and the daemon uses
//! its built-in value. Truth values are booleans, whole numbers numbers, times of settings that end in `Sec` seconds.
//!
//! ```json
//! {"Journal": {"Storage": "persistent", "Compress": true, "ForwardToSyslog": false}}
//! ```

use crate::parse::systemd_conf::{self, SystemdConf};
use crate::{Discovery, Instance, documentation};

pub static DISCOVERY: Discovery = Discovery {
    name: "journald_conf",
    description: "Settings of the system journal",
    documentation: documentation::JOURNALD_CONF,
    instances: &[Instance { name: "_init_journald_conf", parameters: &[], schedule: None }],
    collect: |host, _| systemd_conf::collect(host, &CONF),
    ..systemd_conf::DISCOVERY
};

const CONF: SystemdConf = SystemdConf {
    file: "systemd/journald.conf",
    program: "systemd-journald",
    sections: &["Journal"],
    flat: false,
    lists: &[],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::check_systemd_conf;
    use serde_json::json;

    #[test]
    fn is_read_as_systemd_reads_it() {
        let (first, then) = ("[Journal]\nStorage=auto\n", "[Journal]\nStorage=persistent\n");
        check_systemd_conf(
            &DISCOVERY,
            "/etc/systemd/journald.conf",
            first,
            then,
            json!({"Journal": {"Storage": "persistent"}}),
        );
    }
}
