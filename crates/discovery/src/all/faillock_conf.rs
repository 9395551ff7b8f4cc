//! When an account is locked after failed log-ins: the effective settings of pam_faillock, see faillock.conf(5).
//!
//! The module reads `/etc/security/faillock.conf` (or the file that its argument `conf` names), then the arguments of
//! its lines in the PAM stack, which win. The lines looked at are those that login(1) meets, then those of sshd and of
//! the common stacks (`common-auth` on Debian, `system-auth` and `password-auth` on Red Hat).
//!
//! `data` is setting → number or text; `audit`, `silent`, `even_deny_root` and the other switches are true when they
//! are there, and a time of `never` is 0. What nobody sets is not in the data; the defaults stand in the manual page.
//! `from` says for each setting which file or PAM stack it comes from, `pam` has the arguments by PAM file, for each
//! file that calls the module: empty when none does, and then no account is ever locked.
//!
//! ```json
//! {"deny": 3, "unlock_time": 0, "even_deny_root": true,
//!  "from": {"deny": "/etc/security/faillock.conf", "unlock_time": "/etc/security/faillock.conf",
//!           "even_deny_root": "PAM: system-auth"},
//!  "pam": {"system-auth": {"even_deny_root": true}, "password-auth": {}}}
//! ```

use crate::parse::pam_settings::{self, Module};
use crate::{
    Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph, parse,
};

pub static DISCOVERY: Discovery = Discovery {
    name: "faillock_conf",
    description: "When an account is locked after failed log-ins (pam_faillock)",
    documentation: documentation::FAILLOCK_CONF,
    parameters: &[],
    instances: &[Instance { name: "_init_faillock_conf", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 600, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const MODULE: Module = Module {
    name: "pam_faillock",
    file: "/etc/security/faillock.conf",
    drop_ins: None,
    phase: "auth",
    services: &["login", "sshd", "common-auth", "system-auth", "password-auth"],
    flags: &["audit", "silent", "no_log_info", "local_users_only", "nodelay", "even_deny_root"],
    texts: &["dir", "admin_group", "conf"],
    ignored: &["preauth", "authfail", "authsucc"],
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

    const FILE: &str = "/etc/security/faillock.conf";

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn arguments_of_both_lines_win_over_the_file() {
        let tree = Tree::of(&[
            (FILE, "deny = 5\nunlock_time = never\naudit\ndir = /var/log/faillock\nroot_unlock_time=60\n"),
            ("/etc/pam.d/login", "auth substack system-auth\n"),
            (
                "/etc/pam.d/system-auth",
                "auth required pam_faillock.so preauth silent deny=3\nauth required pam_faillock.so authfail even_deny_root\n",
            ),
            ("/etc/pam.d/password-auth", "auth required pam_faillock.so preauth deny=9\n"),
        ]);
        let (data, errors) = pam_settings::read(&tree, &MODULE);
        for (name, value) in [
            ("deny", json!(3)),
            ("unlock_time", json!(0)),
            ("audit", json!(true)),
            ("silent", json!(true)),
            ("even_deny_root", json!(true)),
            ("dir", json!("/var/log/faillock")),
            ("root_unlock_time", json!(60)),
        ] {
            assert_eq!(data[name], value, "{name}");
        }
        assert_eq!(data["from"]["deny"], "PAM: system-auth");
        assert_eq!(data["pam"]["password-auth"], json!({"deny": 9}));
        assert!(data.get("preauth").is_none());
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn another_file_may_be_named_by_the_line() {
        let tree = Tree::of(&[
            (FILE, "deny = 5\n"),
            ("/etc/other.conf", "deny = 7\n"),
            ("/etc/pam.d/login", "auth required pam_faillock.so preauth conf=/etc/other.conf\n"),
        ]);
        let (data, _) = pam_settings::read(&tree, &MODULE);
        assert_eq!((&data["deny"], &data["from"]["deny"]), (&json!(7), &json!("/etc/other.conf")));
    }

    #[test]
    fn not_in_use() {
        let absent = collect(&DISCOVERY, &[("/etc/hostname", b"h")]);
        assert!(
            absent.data["NODATA"].as_str().unwrap().starts_with("pam_faillock is not in use"),
            "{absent:?}"
        );
        assert!(absent.errors.is_empty());
        assert_eq!(collect(&DISCOVERY, &[(FILE, b"# nothing\n")]).data, json!({"from": {}, "pam": {}}));
    }

    #[test]
    fn any_text() {
        let tokens = &["deny", "=", " ", "\n", "#", "14", "never", "audit", "ä", "\\"];
        check_any_text(FILE, tokens, |text| pam_settings::read(&Tree::of(&[(FILE, text)]), &MODULE));
    }
}
