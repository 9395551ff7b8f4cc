//! AppArmor: the profiles in the kernel and their modes, see apparmor(7), aa-status(8).
//!
//! | member | meaning |
//! |---|---|
//! | `enabled` | the kernel uses AppArmor (`/sys/module/apparmor/parameters/enabled`) |
//! | `profiles` | profile → `{"mode"}`: `enforce`, `complain`, `kill`, `prompt` or `unconfined` |
//! | `counts` | mode → number of profiles |
//!
//! Read from `/sys/kernel/security/apparmor/profiles`, which only root can. A kernel without AppArmor, a container and a
//! file tree give no data.
//! ```json
//! {"enabled":true,"profiles":{"/usr/sbin/chronyd":{"mode":"enforce"}},"counts":{"enforce":1}}
//! ```

use crate::parse::container::container_of;
use crate::parse::presence::not_there;
use crate::parse::{self, Errors, Files, collected, no_data, quoted};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "apparmor",
    description: "AppArmor's profiles and their modes",
    documentation: documentation::APPARMOR,
    parameters: &[],
    instances: &[Instance { name: "_init_apparmor", parameters: &[], schedule: None }],
    // Loading a profile is no event of a file.
    schedule: Schedule { repeat_seconds: 300, warn_seconds: 5, timeout_seconds: 60 },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";
const MAX_PROFILES: usize = 10_000;

fn collect(host: &Host, _: &Parameters) -> Collected {
    let nothing = |sentence: String| not_there(sentence);
    if let Some(kind) = container_of(host) {
        return nothing(format!("this is a container ({kind}): AppArmor belongs to the machine"));
    }
    let enabled = match host.text(ENABLED) {
        Ok(text) => text.trim() == "Y",
        Err(reason) if reason.absent && !host.is_running_system() => {
            return nothing(
                "the profiles of AppArmor belong to a running kernel, and this is a file tree".into(),
            );
        }
        Err(reason) if reason.absent => return nothing("this kernel has no AppArmor".into()),
        Err(reason) => {
            let mut errors = Errors::default();
            errors.unread(&reason);
            return collected((no_data(ENABLED), errors.into_list()));
        }
    };
    let mut errors = Errors::default();
    let mut data = Map::from_iter([("enabled".to_owned(), Value::Bool(enabled))]);
    if enabled {
        match host.text(PROFILES) {
            Ok(text) => data.extend(profiles(&text, PROFILES, &mut errors)),
            Err(reason) => {
                errors.unread(&reason);
                return collected((no_data(PROFILES), errors.into_list()));
            }
        }
    }
    collected((Value::Object(data), errors.into_list()))
}

/// Lines `name (mode)`; a name may hold blanks and parentheses.
fn profiles(text: &str, file: &str, errors: &mut Errors) -> Map<String, Value> {
    let (mut profiles, mut counts) = (Map::new(), std::collections::BTreeMap::<&str, u64>::new());
    for (number, line) in parse::lines(text, file, errors) {
        let line = line.trim();
        let parts = line.strip_suffix(')').and_then(|line| line.rsplit_once(" ("));
        let Some((name, mode)) = parts.filter(|(_, mode)| parse::is_plausible_key(mode)) else {
            errors.at(file, number, format_args!("{} is not a profile", quoted(line)));
            continue;
        };
        if profiles.len() == MAX_PROFILES {
            errors.at(file, number, format_args!("more than {MAX_PROFILES} profiles, the rest is left out"));
            break;
        }
        *counts.entry(mode).or_default() += 1;
        profiles.insert(name.to_owned(), json!({ "mode": mode }));
    }
    Map::from_iter([("profiles".to_owned(), Value::Object(profiles)), ("counts".to_owned(), json!(counts))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, collect};

    #[test]
    fn profiles_have_modes() {
        let files = [
            (ENABLED, b"Y\n".as_slice()),
            (PROFILES, b"/usr/sbin/chronyd (enforce)\nfire fox (x) (complain)\nlsb_release (enforce)\nbad\n"),
        ];
        let found = collect(&DISCOVERY, &files);
        let expected = json!({"enabled": true, "counts": {"enforce": 2, "complain": 1}, "profiles": {
            "/usr/sbin/chronyd": {"mode": "enforce"}, "fire fox (x)": {"mode": "complain"}, "lsb_release": {"mode": "enforce"}}});
        assert_eq!(found.data, expected);
        assert_eq!(found.errors, ["/sys/kernel/security/apparmor/profiles line 4: 'bad' is not a profile"]);
    }

    #[test]
    fn switched_off_or_not_there() {
        assert_eq!(collect(&DISCOVERY, &[(ENABLED, b"N\n")]).data, json!({"enabled": false}));
        assert_eq!(
            collect(&DISCOVERY, &[(ENABLED, b"Y\n")]).data["NODATA"],
            format!("ERROR: Cannot read {PROFILES}")
        );
        let tree = collect(&DISCOVERY, &[("/etc/hostname", b"")]);
        assert!(tree.errors.is_empty() && tree.data["NODATA"].as_str().unwrap().contains("running kernel"));
        assert!(
            collect(&DISCOVERY, &[("/.dockerenv", b"")]).data["NODATA"].as_str().unwrap().contains("docker")
        );
    }

    #[test]
    fn hostile_texts() {
        check_any_text(PROFILES, &["a", " (", "enforce", ")", "\n", "(", "ä"], |text| {
            let mut errors = Errors::default();
            (Value::Object(profiles(text, PROFILES, &mut errors)), errors.into_list())
        });
    }
}
