//! What a new password must be like: the effective settings of pam_pwquality, see pwquality.conf(5).
//!
//! The module reads `/etc/security/pwquality.conf.d/*.conf` in order of name, then `/etc/security/pwquality.conf`,
//! then the arguments of its line in the PAM stack; what is read later wins, so a drop-in file loses against the main
//! file. The line looked at is the one that passwd(1) meets (on Debian in `common-password`, on Red Hat in
//! `system-auth`).
//!
//! `data` is setting → number or text. `enforce_for_root` and `local_users_only` are true when they are there. What
//! nobody sets is not in the data; the defaults stand in the manual page. `from` says for each setting which file
//! or PAM stack it comes from, `pam` has the arguments by PAM file, for each file that calls the module: empty when
//! none does, and then the settings change nothing.
//!
//! ```json
//! {"minlen": 14, "dcredit": -1, "retry": 3, "enforce_for_root": true,
//!  "from": {"minlen": "/etc/security/pwquality.conf", "dcredit": "/etc/security/pwquality.conf.d/50-site.conf",
//!           "enforce_for_root": "/etc/security/pwquality.conf", "retry": "PAM: common-password"},
//!  "pam": {"common-password": {"retry": 3}}}
//! ```

use crate::parse::pam_settings::{self, Module};
use crate::{
    Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph, parse,
};

pub static DISCOVERY: Discovery = Discovery {
    name: "pwquality_conf",
    description: "What a new password must be like (pam_pwquality)",
    documentation: documentation::PWQUALITY_CONF,
    parameters: &[],
    instances: &[Instance { name: "_init_pwquality_conf", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 600, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const MODULE: Module = Module {
    name: "pam_pwquality",
    file: "/etc/security/pwquality.conf",
    drop_ins: Some("/etc/security/pwquality.conf.d"),
    phase: "password",
    services: &["passwd", "common-password", "system-auth", "password-auth"],
    flags: &["enforce_for_root", "local_users_only"],
    texts: &["badwords", "dictpath", "authtok_type", "type"],
    ignored: &["try_first_pass", "use_first_pass", "use_authtok", "debug"],
    file_argument: None,
};

fn collect(host: &Host, _: &Parameters) -> Collected {
    parse::collected(pam_settings::read(host, &MODULE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{Tree, check_any_text, check_fixtures, collect};
    use serde_json::json;

    const FILE: &str = "/etc/security/pwquality.conf";

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn the_main_file_wins_over_drop_ins_and_pam_over_both() {
        let tree = Tree::of(&[
            (FILE, "# minlen = 8\nminlen=14 # why\r\ndcredit = -1\n enforce_for_root\nbadwords = a b\n"),
            ("/etc/security/pwquality.conf.d/20.conf", "minlen = 20\ndifok = 3\nmaxrepeat=2"),
            ("/etc/security/pwquality.conf.d/30.conf", "difok = 4\nlocal_users_only = 0\n"),
            ("/etc/security/pwquality.conf.d/40.conf~", "difok = 5\n"),
            ("/etc/pam.d/passwd", "@include common-password\n"),
            (
                "/etc/pam.d/common-password",
                "password requisite pam_pwquality.so retry=3 dcredit=-2 use_authtok\npassword required pam_unix.so\n",
            ),
        ]);
        let (data, errors) = pam_settings::read(&tree, &MODULE);
        let main = FILE;
        let expected = json!({
            "minlen": 14, "dcredit": -2, "difok": 4, "maxrepeat": 2, "enforce_for_root": true,
            "local_users_only": false, "badwords": "a b", "retry": 3,
            "from": {"minlen": main, "dcredit": "PAM: common-password", "retry": "PAM: common-password",
                "difok": "/etc/security/pwquality.conf.d/30.conf", "maxrepeat": "/etc/security/pwquality.conf.d/20.conf",
                "local_users_only": "/etc/security/pwquality.conf.d/30.conf", "enforce_for_root": main, "badwords": main},
            "pam": {"common-password": {"retry": 3, "dcredit": -2}}
        });
        assert_eq!(data, expected);
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let (data, errors) =
            pam_settings::read(&Tree::of(&[(FILE, "minlen = many\n\u{1}x = 1\ndifok=2\n")]), &MODULE);
        assert_eq!(data["difok"], 2);
        assert!(data.get("minlen").is_none());
        assert_eq!(errors.len(), 2);
        assert!(errors[0].starts_with(&format!("{FILE} line 1: 'many' of minlen")), "{errors:?}");
        assert!(errors[1].starts_with(&format!("{FILE} line 2: ")), "{errors:?}");
    }

    #[test]
    fn not_in_use_and_unreadable_are_different() {
        let absent = collect(&DISCOVERY, &[("/etc/hostname", b"h")]);
        assert!(
            absent.data["NODATA"].as_str().unwrap().starts_with("pam_pwquality is not in use"),
            "{absent:?}"
        );
        assert!(absent.errors.is_empty());
        let below = collect(&DISCOVERY, &[("/etc/security/pwquality.conf/x", b"h")]);
        assert_eq!(below.data["NODATA"], "ERROR: Cannot read /etc/security/pwquality.conf");
        assert_eq!(below.errors.len(), 1);
        let line_only =
            collect(&DISCOVERY, &[("/etc/pam.d/passwd", b"password required pam_pwquality.so minlen=9")]);
        assert_eq!(line_only.data["minlen"], 9);
    }

    #[test]
    fn any_text() {
        let tokens = &["minlen", "=", " ", "\n", "#", "14", "-1", "enforce_for_root", "ä", "\\"];
        check_any_text(FILE, tokens, |text| pam_settings::read(&Tree::of(&[(FILE, text)]), &MODULE));
    }
}
