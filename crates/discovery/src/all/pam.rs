//! How programs authenticate people: the service files of PAM, see pam.conf(5).
//!
//! `data` is file name → list of its lines in order, as they stand in `/etc/pam.d`; a file that exists only in the
//! vendor's `/usr/lib/pam.d` or `/usr/etc/pam.d` is taken from there. Only where none of these directories exists
//! `/etc/pam.conf` is read, which names the service at the beginning of each line. Editor backups and leftovers of
//! package managers are skipped.
//!
//! - A module line is `{"service", "type", "module"}`. `service` is the module type in lower case and keeps a
//!   leading `-`. `type` is `{"keyword": "required"}` or, for `[...]`, return value → action, where the number of
//!   modules to jump over is a number. `module` has `path` and the arguments: a bare word → true,
//!   `name=value` → number (octal after a leading 0, delivered in decimal) or text, `[name=several words]` →
//!   list, and a repeated name → list.
//! - An include line is `{"service": "@include", "filename": "common-auth"}`. `include` and `substack` are
//!   control words and come as `type.keyword`, with the file in `module.path`.
//!
//! `effective` is file name → the module lines in the order in which PAM calls them, all includes and substacks
//! resolved: `PAMMODARGS($effective.sshd, auth, pam_faillock, deny)`. There a line that comes from another file has
//! its name in `file`, one within a substack its name in `substack`, the path of a module in PAM's own directory is
//! only its name, and instead of the `-` before the module type there is `"if_installed": true`. A phase for
//! which a service has no line is answered by the service `other`; that is left to the reader.
//!
//! Values of arguments that look like secrets are replaced by `***`.
//!
//! ```json
//! {"sshd": [{"service": "auth", "type": {"success": 1, "default": "ignore"},
//!            "module": {"path": "pam_unix.so", "nullok": true}},
//!           {"service": "@include", "filename": "common-account"}],
//!  "effective": {"sshd": [{"service": "auth", "type": {"success": 1, "default": "ignore"},
//!                          "module": {"path": "pam_unix.so", "nullok": true}},
//!                         {"service": "account", "type": {"keyword": "required"}, "file": "common-account",
//!                          "module": {"path": "pam_permit.so"}}]}}
//! ```

use crate::parse::pam_stack::Stacks;
use crate::parse::{self, Errors, Files, NotRead};
use crate::{
    Collected, Discovery, Host, Instance, Parameter, Parameters, Schedule, Trigger, documentation, no_graph,
};
use serde_json::{Map, Value};

pub static DISCOVERY: Discovery = Discovery {
    name: "pam",
    description: "How programs authenticate people (PAM)",
    documentation: documentation::PAM,
    parameters: &[Parameter {
        name: "PAM_DIRECTORY",
        meaning: "directory of service files",
        default: "/etc/pam.d",
    }],
    instances: &[Instance { name: "_init_pam", parameters: &[], schedule: None }],
    schedule: Schedule::DEFAULT,
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const MAX_FILES: usize = 1000;
const PAM_CONF: &str = "/etc/pam.conf";
/// The key of the resolved sequences; a service file of this name would stand in its way.
const EFFECTIVE: &str = "effective";

fn collect(host: &Host, parameters: &Parameters) -> Collected {
    parse::collected(read(host, parameters.get("PAM_DIRECTORY").map_or("/etc/pam.d", String::as_str)))
}

fn read(files: &dyn Files, directory: &str) -> (Value, Vec<String>) {
    let mut stacks = Stacks::new(files, directory);
    let mut names = match stacks.names() {
        Ok(names) => names,
        Err(reason) => match pam_conf(files, &reason) {
            Some(text) => stacks.read_pam_conf(&text, PAM_CONF),
            None => {
                let mut errors = Errors::default();
                errors.unread(&reason);
                return (parse::no_data(directory), errors.into_list());
            }
        },
    };
    if names.len() > MAX_FILES {
        stacks.errors.add(format!(
            "{directory} has {} files, those after the first {MAX_FILES} are left out",
            names.len()
        ));
        names.truncate(MAX_FILES);
    }
    let mut data = Map::new();
    let mut effective = Map::new();
    for name in names {
        if name == EFFECTIVE {
            stacks
                .errors
                .add(format!("the service file {EFFECTIVE} is left out: the name is used for all sequences"));
            continue;
        }
        // One that is gone since the directory was listed is not there.
        if let Some(service) = stacks.service(&name) {
            data.insert(name.clone(), service.lines());
            effective.insert(name.clone(), Value::Array(stacks.effective(&name)));
        }
    }
    data.insert(EFFECTIVE.into(), Value::Object(effective));
    (Value::Object(data), stacks.errors.into_list())
}

/// The text of `/etc/pam.conf`, which counts only where no directory of service files exists.
fn pam_conf(files: &dyn Files, reason: &NotRead) -> Option<String> {
    if reason.absent { files.text(PAM_CONF).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{Tree, check_any_text, check_fixtures, check_robustness};
    use serde_json::json;

    const FILE: &str = "/etc/pam.d/x";

    fn entries(text: &str) -> (Value, Vec<String>) {
        let (data, errors) = read(&Tree::of(&[(FILE, text), ("/etc/pam.d/system-auth", "")]), "/etc/pam.d");
        (data["x"].clone(), errors)
    }

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn robustness() {
        check_robustness(
            &DISCOVERY,
            "/etc/pam.d",
            FILE,
            "auth [success=1 default=ignore] pam_unix.so nullok a=b=c [d=e f]\n-session\trequired\tz.so\n",
        );
        let tokens = &[
            "auth",
            " ",
            "\n",
            "=",
            "#",
            "[",
            "]",
            "\\",
            "required",
            "pam_unix.so",
            "@include",
            "-",
            "1",
            "ä",
        ];
        check_any_text(FILE, tokens, |text| read(&Tree::of(&[(FILE, text)]), "/etc/pam.d"));
    }

    #[test]
    fn module_lines() {
        let (found, errors) = entries(
            "-Auth [Success = 2 default=DIE new_authtok_reqd=ok] pam_unix.so \\\n  nullok_secure remember=24 minlen=-1 umask=0022\n\
             password Required pam_ldap.so filter=(a=b) uri=ldap://u:pw@h bindpw=x [query=select x from y] [a \\] b] empty=\n\
             account sufficient pam_succeed_if.so uid >= 1000 quiet # why\n\
             auth include system-auth\nauth required m.so a=1 a=2 path=/evil\n",
        );
        let expected = json!([
            {"service": "-auth", "type": {"success": 2, "default": "die", "new_authtok_reqd": "ok"},
             "module": {"path": "pam_unix.so", "nullok_secure": true, "remember": 24, "minlen": -1, "umask": 18}},
            {"service": "password", "type": {"keyword": "required"},
             "module": {"path": "pam_ldap.so", "filter": "(a=b)", "uri": "ldap://u:***@h", "bindpw": "***",
                        "query": ["select", "x", "from", "y"], "a ] b": true, "empty": ""}},
            {"service": "account", "type": {"keyword": "sufficient"},
             "module": {"path": "pam_succeed_if.so", "uid": true, ">=": true, "1000": true, "quiet": true}},
            {"service": "auth", "type": {"keyword": "include"}, "module": {"path": "system-auth"}},
            {"service": "auth", "type": {"keyword": "required"}, "module": {"path": "m.so", "a": [1, 2]}},
        ]);
        assert_eq!(found, expected);
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let (found, errors) = entries(
            "auth required\nwrong required x.so\nauth [a=1 x.so\nauth perhaps x.so\n@include\nauth [a b] y.so\nauth [default=ok]\n",
        );
        let expected = json!([
            {"service": "auth", "type": {"keyword": "perhaps"}, "module": {"path": "x.so"}},
            {"service": "auth", "type": {}, "module": {"path": "y.so"}},
        ]);
        assert_eq!(found, expected);
        let lines: Vec<&str> = errors.iter().filter_map(|error| error.split(':').next()).collect();
        let expected: Vec<String> =
            [1, 2, 3, 4, 5, 6, 7].iter().map(|n| format!("{FILE} line {n}")).collect();
        assert_eq!(lines, expected, "{errors:?}");
    }

    #[test]
    fn leftovers_are_skipped_and_unreadable_files_named() {
        let line = "auth required a.so\n";
        let mut tree = Tree::of(&[]);
        for name in [
            "sshd",
            "sshd~",
            ".sshd.swp",
            "sshd.dpkg-old",
            "sshd.rpmsave",
            "#sshd#",
            "other.bak",
            "a.ucf-dist",
        ] {
            tree.0.insert(format!("/etc/pam.d/{name}"), Some(line.into()));
        }
        tree.0.insert("/etc/pam.d/closed".into(), None);
        let (data, errors) = read(&tree, "/etc/pam.d");
        assert_eq!(data.as_object().unwrap().keys().collect::<Vec<_>>(), ["effective", "sshd"]);
        assert_eq!(errors, ["Cannot read /etc/pam.d/closed: permission denied"]);
    }

    #[test]
    fn pam_conf_is_read_where_there_is_no_directory() {
        let tree = Tree::of(&[(
            "/etc/pam.conf",
            "Login auth required a.so\nlogin account required b.so x=1\nsu bad\n",
        )]);
        let (data, errors) = read(&tree, "/etc/pam.d");
        assert_eq!(data["login"][1]["module"], json!({"path": "b.so", "x": 1}));
        assert_eq!(data["login"][0]["service"], "auth");
        assert_eq!(errors.len(), 1);
        assert!(errors[0].starts_with("/etc/pam.conf line 3: 'bad'"), "{errors:?}");
    }

    #[test]
    fn the_sequence_of_each_service_is_resolved() {
        let tree = Tree::of(&[
            ("/etc/pam.d/su", "-auth required pam_wheel.so use_uid\n@include common-auth\n"),
            ("/etc/pam.d/common-auth", "auth required pam_unix.so nullok\n"),
            ("/etc/pam.d/effective", "auth required pam_evil.so\n"),
            ("/usr/lib/pam.d/su", "auth required pam_hidden.so\n"),
            ("/usr/lib/pam.d/vendor", "auth required pam_vendor.so\n"),
        ]);
        let (data, errors) = read(&tree, "/etc/pam.d");
        let expected = json!([
            {"service": "auth", "type": {"keyword": "required"}, "if_installed": true,
             "module": {"path": "pam_wheel.so", "use_uid": true}},
            {"service": "auth", "type": {"keyword": "required"}, "file": "common-auth",
             "module": {"path": "pam_unix.so", "nullok": true}},
        ]);
        assert_eq!(data["effective"]["su"], expected);
        assert_eq!(data["su"].as_array().unwrap().len(), 2);
        assert_eq!(data["vendor"][0]["module"]["path"], "pam_vendor.so");
        assert!(data["effective"].get("effective").is_none());
        assert_eq!(errors.len(), 1, "{errors:?}");
    }

    #[test]
    fn pam_conf_does_not_count_where_a_vendor_has_a_directory() {
        let tree = Tree::of(&[
            ("/etc/pam.conf", "login auth required a.so\n"),
            ("/usr/lib/pam.d/login", "auth required b.so\n"),
        ]);
        let (data, _) = read(&tree, "/etc/pam.d");
        assert_eq!(data["login"][0]["module"]["path"], "b.so");
    }
}
