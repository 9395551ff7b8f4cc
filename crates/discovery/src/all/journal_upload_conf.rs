//! Where the journal is sent to: `/etc/systemd/journal-upload.conf` and its drop-ins, see journal-upload.conf(5).
//!
//! `data` is setting → value, of the section `Upload`.
//! Of a repeated setting the last one counts; a setting that no file has is not in the data, and the daemon uses
//! its built-in value. Truth values are booleans, whole numbers numbers, times of settings that end in `Sec` seconds.
//!
//! ```json
//! {"URL": "https://logs.example.org", "TrustedCertificateFile": "/etc/ssl/ca.pem"}
//! ```

use crate::parse::systemd_conf::{self, SystemdConf};
use crate::{Discovery, Instance, documentation};

pub static DISCOVERY: Discovery = Discovery {
    name: "journal_upload_conf",
    description: "Where the journal is sent to",
    documentation: documentation::JOURNAL_UPLOAD_CONF,
    instances: &[Instance { name: "_init_journal_upload_conf", parameters: &[], schedule: None }],
    collect: |host, _| systemd_conf::collect(host, &CONF),
    ..systemd_conf::DISCOVERY
};

const CONF: SystemdConf = SystemdConf {
    file: "systemd/journal-upload.conf",
    program: "systemd-journal-upload",
    sections: &["Upload"],
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
        let (first, then) = ("[Upload]\nURL=http://a\n", "[Upload]\nURL=https://b\n");
        check_systemd_conf(
            &DISCOVERY,
            "/etc/systemd/journal-upload.conf",
            first,
            then,
            json!({"URL": "https://b"}),
        );
    }
}
