//! Settings of the package manager DNF (or YUM) and of its repositories: `/etc/dnf/dnf.conf`, else `/etc/yum.conf`, and
//! `/etc/yum.repos.d/*.repo`, see dnf.conf(5).
//!
//! `data` is `main` → setting → value and `repos` → repository id → setting → value. `yes`, `true`, `on` and their
//! opposites are booleans, whole numbers stay numbers (`gpgcheck=1` is 1). `gpgcheck` and `repo_gpgcheck` that a
//! repository does not set are filled in from `main`, as DNF does. Passwords are replaced by `***`.
//!
//! ```json
//! {"main": {"gpgcheck": 1, "clean_requirements_on_remove": true},
//!  "repos": {"baseos": {"name": "BaseOS", "enabled": 1, "gpgcheck": 1}}}
//! ```

use crate::parse::drop_ins::drop_ins;
use crate::parse::ini::{self, Continued, Style};
use crate::parse::presence::not_there;
use crate::parse::{self, Errors};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "dnf_conf",
    description: "Settings of the package manager DNF and its repositories",
    documentation: documentation::DNF_CONF,
    parameters: &[],
    instances: &[Instance { name: "_init_dnf_conf", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const MAIN_FILES: &[&str] = &["/etc/dnf/dnf.conf", "/etc/yum.conf"];
const REPOSITORIES: &str = "/etc/yum.repos.d";
const MAX_REPOSITORIES: usize = 2000;
const STYLE: Style = Style { continued: Continued::Indent, without_section: false };

fn collect(host: &Host, _: &Parameters) -> Collected {
    let Some(main) = MAIN_FILES.iter().find(|path| host.stat(path).is_ok()) else {
        return not_there("DNF is not installed: there is no /etc/dnf/dnf.conf and no /etc/yum.conf");
    };
    let mut errors = Errors::default();
    let text = match host.read_text(main) {
        Ok(text) => text,
        Err(error) => {
            errors.add(format!("Cannot read {error}"));
            return parse::collected((parse::no_data(main), errors.into_list()));
        }
    };
    let mut sections = Map::new();
    take(&text, main, &mut sections, &mut errors);
    for path in drop_ins(host, &[REPOSITORIES], ".repo", &mut errors) {
        match host.read_text(&path) {
            Ok(text) => take(&text, &path, &mut sections, &mut errors),
            Err(error) => errors.add(format!("Cannot read {error}")),
        }
    }
    parse::collected((arranged(sections), errors.into_list()))
}

fn take(text: &str, path: &str, sections: &mut Map<String, Value>, errors: &mut Errors) {
    for entry in ini::entries(text, path, errors, STYLE) {
        if !sections.contains_key(&*entry.section) && sections.len() > MAX_REPOSITORIES {
            errors.at(
                path,
                entry.line,
                format_args!("more than {MAX_REPOSITORIES} repositories, the rest is left out"),
            );
            return;
        }
        let value = ini::value_of(&entry.key, &entry.value);
        if let Value::Object(section) = sections.entry(&*entry.section).or_insert_with(|| json!({})) {
            section.insert(entry.key, value);
        }
    }
}

/// `main` apart from the repositories, which inherit the checks of signatures from it.
fn arranged(mut sections: Map<String, Value>) -> Value {
    let main = sections.remove("main").unwrap_or_else(|| json!({}));
    for repository in sections.values_mut().filter_map(Value::as_object_mut) {
        for key in ["gpgcheck", "repo_gpgcheck"] {
            if let (false, Some(inherited)) = (repository.contains_key(key), main.get(key)) {
                repository.insert(key.to_owned(), inherited.clone());
            }
        }
    }
    json!({ "main": main, "repos": sections })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, check_fixtures, collect as collect_from};

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn repositories_inherit_the_checks() {
        let repos = b"[a]\nname=A\nbaseurl=https://u:geheim@h/x\n  https://h/y\n[b]\ngpgcheck = False\npassword=geheim\n";
        let found = collect_from(
            &DISCOVERY,
            &[
                ("/etc/yum.conf", b"[main]\ngpgcheck=1\n"),
                ("/etc/yum.repos.d/x.repo", repos),
                ("/etc/yum.repos.d/y.bak", b"[c]\nx=1\n"),
            ],
        );
        assert_eq!(found.errors, [""; 0]);
        let expected = json!({"main": {"gpgcheck": 1},
            "repos": {"a": {"name": "A", "baseurl": "https://u:***@h/x https://h/y", "gpgcheck": 1},
                      "b": {"gpgcheck": false, "password": "***"}}});
        assert_eq!(found.data, expected);
    }

    #[test]
    fn malformed_lines_and_missing_files() {
        let found = collect_from(&DISCOVERY, &[("/etc/dnf/dnf.conf", b"[main]\nnonsense\nbest=True\n")]);
        assert_eq!(found.data, json!({"main": {"best": true}, "repos": {}}));
        assert_eq!(found.errors, ["/etc/dnf/dnf.conf line 2: 'nonsense' has no '='"]);
        let absent = collect_from(&DISCOVERY, &[("/etc/hostname", b"h")]);
        assert!(absent.data["NODATA"].as_str().unwrap().starts_with("DNF is not installed"));
        let directory = collect_from(&DISCOVERY, &[("/etc/dnf/dnf.conf/x", b"")]);
        assert_eq!(directory.data["NODATA"], "ERROR: Cannot read /etc/dnf/dnf.conf");
    }

    #[test]
    fn any_text() {
        let tokens = &["[main]", "[a]", "\n", "gpgcheck", "=", "1", " ", "[", "]", "password", "#"];
        check_any_text("/etc/dnf/dnf.conf", tokens, |text| {
            let (mut data, mut errors) = (Map::new(), Errors::default());
            take(text, "/etc/dnf/dnf.conf", &mut data, &mut errors);
            (arranged(data), errors.into_list())
        });
    }
}
