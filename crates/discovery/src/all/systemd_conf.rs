//! Settings of the service manager: `/etc/systemd/system.conf` and its drop-ins, see systemd-system.conf(5).
//!
//! `data` is setting → value, of the section `Manager`.
//! Of a repeated setting the last one counts; a setting that no file has is not in the data, and the daemon uses
//! its built-in value. Truth values are booleans, whole numbers numbers, times of settings that end in `Sec` seconds.
//!
//! ```json
//! {"CtrlAltDelBurstAction": "none", "DefaultTimeoutStopSec": 90}
//! ```

use crate::parse::systemd_conf::{self, SystemdConf};
use crate::{Discovery, Instance, documentation};

pub static DISCOVERY: Discovery = Discovery {
    name: "systemd_conf",
    description: "Settings of the service manager",
    documentation: documentation::SYSTEMD_CONF,
    instances: &[Instance { name: "_init_systemd_conf", parameters: &[], schedule: None }],
    collect: |host, _| systemd_conf::collect(host, &CONF),
    ..systemd_conf::DISCOVERY
};

const CONF: SystemdConf = SystemdConf {
    file: "systemd/system.conf",
    program: "systemd",
    sections: &["Manager"],
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
        let (first, then) =
            ("[Manager]\nCtrlAltDelBurstAction=reboot-force\n", "[Manager]\nCtrlAltDelBurstAction=none\n");
        check_systemd_conf(
            &DISCOVERY,
            "/etc/systemd/system.conf",
            first,
            then,
            json!({"CtrlAltDelBurstAction": "none"}),
        );
    }
}
