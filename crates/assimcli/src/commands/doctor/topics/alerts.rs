//! Alerts that wait too long, or were given up.

use super::{Check, Look, Topic};
use output::text;
use serde_json::Value;

const NAME: &str = "alerts";

pub static TOPIC: Topic = Topic { name: NAME, check };

/// Waiting alerts above which a channel does not keep up.
const MANY: u64 = 1000;

/// One failure may be chance.
const SEVERAL_TRIES: u64 = 3;

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
    if waiting > 0 {
        checks.extend(refused(look));
    }
    let failed = status["failed_deliveries"].as_array().into_iter().flatten();
    checks.extend(failed.map(|failed| Check::bad(NAME, sentence(failed))));
    checks
}

/// Channels that do not take what waits: it is tried again for a while, but nobody hears of anything meanwhile.
fn refused(look: &Look) -> Vec<Check> {
    let statement = format!(
        "SELECT channel, count(*), max(attempts) FROM alerts WHERE state = 'waiting' AND attempts >= {SEVERAL_TRIES}
         GROUP BY channel ORDER BY channel"
    );
    let channel = |row: &Vec<Value>| {
        let [channel, count, tries] = row.as_slice() else { return None };
        let alerts = super::counted(count.as_u64()?, "alert");
        let text = format!(
            "the channel {} failed up to {} times with {alerts}, and later ones of the same hosts wait: `assimcli notify test` \
             shows why",
            text(channel),
            text(tries)
        );
        Some(Check::bad(NAME, text).fix("assimcli notify test"))
    };
    look.sql(&statement).iter().flatten().filter_map(channel).collect()
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
    fn a_channel_that_takes_nothing_is_a_problem_before_it_is_given_up() {
        let mut rig = Rig::new();
        rig.status = Ok(json!({"outbox": 120}));
        rig.questions.push(("FROM alerts".into(), vec![vec![json!("scripts"), json!(120), json!(4)]]));
        let found = check(&rig.look());
        assert!(!found[0].is_bad() && found[1].is_bad(), "{found:?}");
        assert!(
            found[1].text.starts_with("the channel scripts failed up to 4 times with 120 alerts"),
            "{found:?}"
        );
        rig.status = Ok(json!({"outbox": 0}));
        assert_eq!(check(&rig.look()), [Check::good(NAME, "0 alerts waiting")]);
    }

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
