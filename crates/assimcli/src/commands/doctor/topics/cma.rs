//! The running CMA and what it says is wrong.

use super::{Check, Look, Topic, counted};
use output::text;
use serde_json::Value;

const NAME: &str = "cma";

pub static TOPIC: Topic = Topic { name: NAME, check };

fn check(look: &Look) -> Vec<Check> {
    let status = match &look.status {
        Ok(status) => status,
        Err(_) if look.is_host_only() => {
            return vec![Check::good(NAME, "no CMA belongs to this machine; its own doctor tells of it")];
        }
        Err(reason) if look.is_closed => {
            return vec![Check::unknown(NAME, reason.clone()).fix("sudo assimcli doctor")];
        }
        Err(reason) if !look.has_cma() => return vec![Check::bad(NAME, reason.clone())],
        Err(reason) => return vec![Check::bad(NAME, reason.clone()).fix(look.start_cma())],
    };
    let mut checks = vec![Check::good(
        NAME,
        format!(
            "version {} (pid {}) listens on {}, up since {}; {}, {} connected",
            text(&status["version"]),
            text(&status["pid"]),
            text(&status["bind"]),
            local(&status["started"]),
            counted(status["hosts"].as_u64().unwrap_or(0), "host"),
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
    use super::super::State;
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

    #[test]
    fn a_cma_is_missed_only_where_one_belongs() {
        let mut rig = Rig::new();
        rig.file("/var/lib/assimilation/nanoprobe/queue/x", "");
        assert!(!check(&rig.look())[0].is_bad(), "a host of a CMA elsewhere");
        rig.file("/lib/systemd/system/assimilation-cma.service", "");
        assert!(check(&rig.look())[0].is_bad(), "installed and never started");
        rig.file("/var/lib/assimilation/cma.sqlite", "");
        let found = check(&rig.look());
        assert!(found[0].is_bad() && found[0].fix == "systemctl start assimilation-cma", "{found:?}");
        rig.is_closed = true;
        let found = check(&rig.look());
        assert_eq!((found[0].state, found[0].fix.as_str()), (State::Unknown, "sudo assimcli doctor"));
    }

    #[test]
    fn one_host_is_one_host() {
        let mut rig = Rig::new();
        for (hosts, said) in [(1, "; 1 host, 1 connected"), (2, "; 2 hosts, 1 connected")] {
            rig.status = Ok(json!({"version": "1", "pid": 7, "hosts": hosts, "connected": 1}));
            assert!(check(&rig.look())[0].text.ends_with(said));
        }
    }
}
