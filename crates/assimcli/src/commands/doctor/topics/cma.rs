//! The running CMA and what it says is wrong.

use super::{Check, Look, Topic};
use output::text;
use serde_json::Value;

const NAME: &str = "cma";

pub static TOPIC: Topic = Topic { name: NAME, check };

fn check(look: &Look) -> Vec<Check> {
    let status = match &look.status {
        Ok(status) => status,
        Err(reason) => return vec![Check::bad(NAME, reason.clone())],
    };
    let mut checks = vec![Check::good(
        NAME,
        format!(
            "version {} (pid {}) listens on {}, up since {}; {} hosts, {} connected",
            text(&status["version"]),
            text(&status["pid"]),
            text(&status["bind"]),
            local(&status["started"]),
            text(&status["hosts"]),
            text(&status["connected"]),
        ),
    )];
    let problems = status["problems"].as_array().into_iter().flatten();
    checks.extend(problems.map(|problem| Check::bad(NAME, text(problem))));
    let notes = status["notes"].as_object().into_iter().flatten();
    checks.extend(notes.map(|(topic, note)| Check::good(NAME, format!("{topic}: {}", text(note)))));
    checks
}

fn local(time: &Value) -> String {
    time.as_str()
        .and_then(model::Timestamp::parse)
        .map_or_else(|| text(time), model::Timestamp::to_local_text)
}

#[cfg(test)]
mod tests {
    use super::super::look::Rig;
    use super::*;
    use serde_json::json;

    #[test]
    fn its_problems_are_ours() {
        let mut rig = Rig::new();
        assert!(check(&rig.look())[0].text.contains("Start one with"));
        rig.status = Ok(
            json!({"version": "1", "pid": 7, "problems": ["the web port is taken"], "notes": {"names": "some"}}),
        );
        let found = check(&rig.look());
        let bad: Vec<&Check> = found.iter().filter(|c| c.is_bad()).collect();
        assert!(bad.len() == 1 && bad[0].text == "the web port is taken", "{found:?}");
        assert!(found.iter().any(|c| c.text == "names: some"));
    }
}
