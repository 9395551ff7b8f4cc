//! Alerts that wait too long, or were given up.

use super::{Check, Look, Topic};
use output::text;
use serde_json::Value;

const NAME: &str = "alerts";

pub static TOPIC: Topic = Topic { name: NAME, check };

/// Waiting alerts above which a channel does not keep up.
const MANY: u64 = 1000;

fn check(look: &Look) -> Vec<Check> {
    let Ok(status) = &look.status else { return Vec::new() };
    let waiting = status["outbox"].as_u64().unwrap_or(0);
    let mut checks = vec![if waiting > MANY {
        let text =
            format!("{waiting} alerts wait for delivery: `assimcli notify test` shows which channel fails");
        Check::bad(NAME, text).fix("assimcli notify test")
    } else {
        Check::good(NAME, format!("{} waiting", super::counted(waiting, "alert")))
    }];
    let failed = status["failed_deliveries"].as_array().into_iter().flatten();
    checks.extend(failed.map(|failed| Check::bad(NAME, sentence(failed))));
    checks
}

fn sentence(failed: &Value) -> String {
    match failed {
        Value::Object(fields) => {
            fields.values().map(text).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ")
        }
        other => text(other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::look::Rig;
    use super::*;
    use serde_json::json;

    #[test]
    fn what_waits_and_what_was_given_up_is_told() {
        let mut rig = Rig::new();
        assert_eq!(check(&rig.look()), []);
        rig.status = Ok(json!({"outbox": 3, "failed_deliveries": []}));
        assert_eq!(check(&rig.look()), [Check::good(NAME, "3 alerts waiting")]);
        rig.status = Ok(json!({"outbox": 1}));
        assert_eq!(check(&rig.look()), [Check::good(NAME, "1 alert waiting")]);
        rig.status =
            Ok(json!({"outbox": 3000, "failed_deliveries": [{"channel": "syslog", "reason": "no socket"}]}));
        let found = check(&rig.look());
        assert!(found[0].is_bad() && found[1].text == "syslog: no socket", "{found:?}");
    }
}
