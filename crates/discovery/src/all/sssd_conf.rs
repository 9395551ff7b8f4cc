//! Settings of the identity daemon SSSD: `/etc/sssd/sssd.conf` and `/etc/sssd/conf.d/*.conf`, see sssd.conf(5).
//!
//! `data` is section → setting → value: booleans, whole numbers, texts; the settings that are lists of names
//! (`services`, `domains`, ...) are lists. Later files win over earlier ones, setting by setting. `certmaps` lists the
//! sections `certmap/<domain>/<rule>` and is absent when there are none. Passwords are replaced by `***`.
//!
//! ```json
//! {"sssd": {"services": ["nss", "pam"], "domains": ["example.org"]}, "pam": {"offline_credentials_expiration": 1},
//!  "certmaps": ["example.org/rule"]}
//! ```

use crate::parse::drop_ins::drop_ins;
use crate::parse::ini::{self, Continued, Style};
use crate::parse::presence::not_there;
use crate::parse::{self, Errors, is_secret_name, mask_secrets, scalar};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "sssd_conf",
    description: "Settings of the identity daemon SSSD",
    documentation: documentation::SSSD_CONF,
    parameters: &[],
    instances: &[Instance { name: "_init_sssd_conf", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const FILE: &str = "/etc/sssd/sssd.conf";
const DIRECTORY: &str = "/etc/sssd/conf.d";
const STYLE: Style = Style { continued: Continued::Indent, without_section: false };
const LISTS: &[&str] = &["services", "domains", "certificate_verification", "filter_users", "filter_groups"];

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut errors = Errors::default();
    let further = drop_ins(host, &[DIRECTORY], ".conf", &mut errors);
    let missing = host.stat(FILE).is_err_and(|error| error.is_missing());
    if missing && further.is_empty() {
        return not_there("SSSD is not in use: there is no /etc/sssd/sssd.conf");
    }
    let mut data = Map::new();
    for path in std::iter::once(FILE.to_owned()).filter(|_| !missing).chain(further) {
        match host.read_text(&path) {
            Ok(text) => take(&text, &path, &mut data, &mut errors),
            Err(error) => {
                errors.add(format!("Cannot read {error}"));
                if path == FILE {
                    return parse::collected((parse::no_data(FILE), errors.into_list()));
                }
            }
        }
    }
    parse::collected((Value::Object(data), errors.into_list()))
}

fn take(text: &str, path: &str, data: &mut Map<String, Value>, errors: &mut Errors) {
    let mut certmaps: Vec<String> = Vec::new();
    for entry in ini::entries(text, path, errors, STYLE) {
        if let Some(rule) = entry.section.strip_prefix("certmap/")
            && certmaps.last().is_none_or(|last| last != rule)
        {
            certmaps.push(rule.to_owned());
        }
        let value = value_of(&entry.key, &entry.value);
        if let Value::Object(section) = data.entry(&*entry.section).or_insert_with(|| json!({})) {
            section.insert(entry.key, value);
        }
    }
    if !certmaps.is_empty()
        && let Value::Array(list) = data.entry("certmaps").or_insert_with(|| json!([]))
    {
        list.extend(certmaps.into_iter().map(Value::from));
    }
}

fn value_of(key: &str, value: &str) -> Value {
    if is_secret_name(key) || key.ends_with("authtok") {
        return Value::from("***");
    }
    if LISTS.contains(&key) {
        return ini::words(value).into_iter().take(1000).map(Value::from).collect();
    }
    match value.to_ascii_lowercase().as_str() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => match scalar(value) {
            Value::String(text) => Value::from(mask_secrets(&text)),
            other => other,
        },
    }
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
    fn later_files_win_and_secrets_stay_here() {
        let main = b"[sssd]\nservices = nss, pam\ndebug_level=1\n[domain/x]\nldap_default_authtok = geheim\n\
                     cache_credentials = True\n[certmap/x/r]\nmatchrule = a\n  b\n";
        let found = collect_from(
            &DISCOVERY,
            &[
                (FILE, main),
                ("/etc/sssd/conf.d/b.conf", b"[sssd]\ndebug_level=3\n"),
                ("/etc/sssd/conf.d/a.conf", b"[sssd]\ndebug_level=2\n"),
                ("/etc/sssd/conf.d/.c.conf", b"[sssd]\ndebug_level=4\n"),
            ],
        );
        assert_eq!(found.errors, [""; 0]);
        let expected = json!({"sssd": {"services": ["nss", "pam"], "debug_level": 3},
            "domain/x": {"ldap_default_authtok": "***", "cache_credentials": true},
            "certmap/x/r": {"matchrule": "a b"}, "certmaps": ["x/r"]});
        assert_eq!(found.data, expected);
    }

    #[test]
    fn malformed_lines_and_missing_files() {
        let found = collect_from(&DISCOVERY, &[(FILE, b"x=1\n[pam]\nnonsense\ny=2\n")]);
        assert_eq!(found.data, json!({"pam": {"y": 2}}));
        let expected = [
            "/etc/sssd/sssd.conf line 1: 'x' stands in no section",
            "/etc/sssd/sssd.conf line 3: 'nonsense' has no '='",
        ];
        assert_eq!(found.errors, expected);
        let absent = collect_from(&DISCOVERY, &[("/etc/hostname", b"h")]);
        assert!(absent.data["NODATA"].as_str().unwrap().starts_with("SSSD is not in use"));
        let directory = collect_from(&DISCOVERY, &[("/etc/sssd/sssd.conf/x", b"")]);
        assert_eq!(directory.data["NODATA"], "ERROR: Cannot read /etc/sssd/sssd.conf");
    }

    #[test]
    fn any_text() {
        let tokens = &["[certmap/a/b]", "\n", "services", "=", ",", " ", "[", "]", "authtok", "#", "\t"];
        check_any_text(FILE, tokens, |text| {
            let (mut data, mut errors) = (Map::new(), Errors::default());
            take(text, FILE, &mut data, &mut errors);
            (Value::Object(data), errors.into_list())
        });
    }
}
