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
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};

pub static DISCOVERY: Discovery = Discovery {
    name: "journal_upload_conf",
    description: "Where the journal is sent to",
    documentation: documentation::JOURNAL_UPLOAD_CONF,
    parameters: &[],
    instances: &[Instance { name: "_init_journal_upload_conf", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const CONF: SystemdConf = SystemdConf {
    file: "systemd/journal-upload.conf",
    program: "systemd-journal-upload",
    sections: &["Upload"],
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
                ("/etc/systemd/journal-upload.conf", b"[Upload]\nURL=http://a\nnonsense\n"),
                ("/etc/systemd/journal-upload.conf.d/60-site.conf", b"[Upload]\nURL=https://b\n"),
            ],
        );
        assert_eq!(found.data, json!({"URL": "https://b"}));
        assert_eq!(found.errors, ["/etc/systemd/journal-upload.conf line 3: 'nonsense' has no '='"]);
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
