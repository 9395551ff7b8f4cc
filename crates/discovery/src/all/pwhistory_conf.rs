//! How many old passwords may not come back: the effective settings of pam_pwhistory, see pwhistory.conf(5).
//!
//! The module reads `/etc/security/pwhistory.conf` (or the file that its argument `conf` names), then the arguments of
//! its line in the PAM stack, which win. The module of Debian 12 knows only the arguments.
//!
//! `data` is setting → number or text; `enforce_for_root` and the other switches are true when they are there. What
//! nobody sets is not in the data; the defaults stand in the manual page. `from` says for each setting which file or
//! PAM stack it comes from, `pam` has the arguments by PAM file, for each file that calls the module: empty when none
//! does, and then nothing is remembered.
//!
//! ```json
//! {"remember": 24, "use_authtok": true,
//!  "from": {"remember": "/etc/security/pwhistory.conf", "use_authtok": "PAM: system-auth"},
//!  "pam": {"system-auth": {"use_authtok": true}}}
//! ```

use crate::parse::pam_settings::{self, Module};
use crate::{
    Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph, parse,
};

pub static DISCOVERY: Discovery = Discovery {
    name: "pwhistory_conf",
    description: "How many old passwords may not come back (pam_pwhistory)",
    documentation: documentation::PWHISTORY_CONF,
    parameters: &[],
    instances: &[Instance { name: "_init_pwhistory_conf", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 600, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const MODULE: Module = Module {
    name: "pam_pwhistory",
    file: "/etc/security/pwhistory.conf",
    drop_ins: None,
    phase: "password",
    services: &["passwd", "common-password", "system-auth", "password-auth"],
    flags: &["enforce_for_root", "use_authtok", "debug"],
    texts: &["file", "conf", "type", "authtok_type"],
    ignored: &["try_first_pass", "use_first_pass"],
    file_argument: Some("conf"),
};

fn collect(host: &Host, _: &Parameters) -> Collected {
    parse::collected(pam_settings::read(host, &MODULE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{Tree, check_any_text, check_fixtures, collect};
    use serde_json::json;

    const FILE: &str = "/etc/security/pwhistory.conf";

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn the_line_wins_over_the_file() {
        let tree = Tree::of(&[
            (FILE, "remember = 5\nenforce_for_root\nfile = /etc/security/opasswd\n"),
            ("/usr/lib/pam.d/passwd", "password required pam_pwhistory.so remember=24 use_authtok\n"),
        ]);
        let (data, errors) = pam_settings::read(&tree, &MODULE);
        assert_eq!(data["remember"], 24);
        assert_eq!((&data["enforce_for_root"], &data["use_authtok"]), (&json!(true), &json!(true)));
        assert_eq!(data["from"]["remember"], "PAM: passwd");
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn not_in_use() {
        let absent =
            collect(&DISCOVERY, &[("/etc/pam.d/passwd", b"password required pam_unix.so remember=5")]);
        assert!(
            absent.data["NODATA"].as_str().unwrap().starts_with("pam_pwhistory is not in use"),
            "{absent:?}"
        );
        assert!(absent.errors.is_empty());
    }

    #[test]
    fn any_text() {
        let tokens = &["remember", "=", " ", "\n", "#", "14", "enforce_for_root", "ä", "\\"];
        check_any_text(FILE, tokens, |text| pam_settings::read(&Tree::of(&[(FILE, text)]), &MODULE));
    }
}
