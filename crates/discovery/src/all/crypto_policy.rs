//! The system-wide cryptographic policy of Red Hat and its relatives: crypto-policies(7).
//!
//! | field | from |
//! |---|---|
//! | `system` | `/etc/crypto-policies/config`: the policy that was chosen, with subpolicies (`DEFAULT`, `FIPS:STIG`) |
//! | `current` | `/etc/crypto-policies/state/current`: the policy that was applied last |
//! | `applied` | whether both are the same; `false` means that `update-crypto-policies` has to be run |
//! ```json
//! {"system":"DEFAULT:NO-SHA1","current":"DEFAULT:NO-SHA1","applied":true}
//! ```

use crate::parse::presence::not_there;
use crate::parse::{Errors, Files, collected, no_data, quoted};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value};

pub static DISCOVERY: Discovery = Discovery {
    name: "crypto_policy",
    description: "System-wide cryptographic policy",
    documentation: documentation::CRYPTO_POLICY,
    parameters: &[],
    instances: &[Instance { name: "_init_crypto_policy", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, warn_seconds: 5, timeout_seconds: 60 },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const CONFIG: &str = "/etc/crypto-policies/config";
const CURRENT: &str = "/etc/crypto-policies/state/current";

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut errors = Errors::default();
    let config = match host.text(CONFIG) {
        Ok(text) => text,
        Err(reason) if reason.absent => {
            let sentence = format!("system-wide cryptographic policies are not in use: there is no {CONFIG}");
            return not_there(sentence);
        }
        Err(reason) => {
            errors.unread(&reason);
            return collected((no_data(CONFIG), errors.into_list()));
        }
    };
    let mut data = Map::new();
    let system = policy(&config, CONFIG, &mut errors);
    let current = match host.text(CURRENT) {
        Ok(text) => policy(&text, CURRENT, &mut errors),
        Err(reason) if reason.absent => None,
        Err(reason) => {
            errors.unread(&reason);
            None
        }
    };
    if let (Some(system), Some(current)) = (&system, &current) {
        data.insert("applied".into(), (system == current).into());
    }
    for (name, value) in [("system", system), ("current", current)] {
        if let Some(value) = value {
            data.insert(name.into(), value.into());
        }
    }
    collected((Value::Object(data), errors.into_list()))
}

/// The first line that is no comment: names of capitals, joined by colons.
fn policy(text: &str, file: &str, errors: &mut Errors) -> Option<String> {
    let lines = crate::parse::lines(text, file, errors);
    let (number, line) = lines.into_iter().find(|(_, line)| !line.trim_start().starts_with('#'))?;
    let name = line.trim();
    let legal = |b: u8| b.is_ascii_alphanumeric() || b":-_".contains(&b);
    if name.len() > 256 || !name.bytes().all(legal) {
        errors.at(file, number, format_args!("{} is not the name of a policy", quoted(name)));
        return None;
    }
    Some(name.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, check_fixtures, collect};
    use serde_json::json;

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn policies() {
        let files = [(CONFIG, b"# comment\n\nfips:stig\n".as_slice()), (CURRENT, b"DEFAULT\n")];
        let found = collect(&DISCOVERY, &files);
        assert_eq!(found.data, json!({"system": "FIPS:STIG", "current": "DEFAULT", "applied": false}));
        assert_eq!(collect(&DISCOVERY, &files[..1]).data, json!({"system": "FIPS:STIG"}));
        let bad = collect(&DISCOVERY, &[(CONFIG, b"# c\nno policy\n")]);
        assert_eq!(
            bad.errors,
            ["/etc/crypto-policies/config line 2: 'no policy' is not the name of a policy"]
        );
    }

    #[test]
    fn other_distributions_have_none() {
        let found = collect(&DISCOVERY, &[("/etc/hostname", b"h")]);
        assert!(found.errors.is_empty() && found.data["NODATA"].as_str().unwrap().contains(CONFIG));
        let unreadable = collect(&DISCOVERY, &[("/etc/crypto-policies/config/x", b"")]);
        assert_eq!(unreadable.data["NODATA"], format!("ERROR: Cannot read {CONFIG}"));
    }

    #[test]
    fn hostile_texts() {
        check_any_text(CONFIG, &["FIPS", ":", " ", "\n", "#", "ä"], |text| {
            let mut errors = Errors::default();
            let policy = policy(text, CONFIG, &mut errors);
            (json!({ "system": policy }), errors.into_list())
        });
    }
}
