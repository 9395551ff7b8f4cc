//! What systemd-coredump keeps of programs that crash: `/etc/systemd/coredump.conf` and its drop-ins, see coredump.conf(5).
//!
//! `data` is `Coredump` → setting → value. Sizes with a unit (`2G`) stay texts.
//! Of a repeated setting the last one counts; a setting that no file has is not in the data, and the daemon uses
//! its built-in value. Truth values are booleans, whole numbers numbers, times of settings that end in `Sec` seconds.
//!
//! ```json
//! {"Coredump": {"Storage": "none", "ProcessSizeMax": 0}}
//! ```

use crate::parse::systemd_conf::{self, SystemdConf};
use crate::{Discovery, Instance, documentation};

pub static DISCOVERY: Discovery = Discovery {
    name: "coredump_conf",
    description: "What is kept of programs that crash",
    documentation: documentation::COREDUMP_CONF,
    instances: &[Instance { name: "_init_coredump_conf", parameters: &[], schedule: None }],
    collect: |host, _| systemd_conf::collect(host, &CONF),
    ..systemd_conf::DISCOVERY
};

const CONF: SystemdConf = SystemdConf {
    file: "systemd/coredump.conf",
    program: "systemd-coredump",
    sections: &["Coredump"],
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
        let (first, then) = ("[Coredump]\nProcessSizeMax=2G\n", "[Coredump]\nProcessSizeMax=0\n");
        check_systemd_conf(
            &DISCOVERY,
            "/etc/systemd/coredump.conf",
            first,
            then,
            json!({"Coredump": {"ProcessSizeMax": 0}}),
        );
    }
}
