//! State of one monitor of the host: what looks after a service, or after the host itself, and what it found.
//!
//! The nanoprobe makes these documents itself, one for each monitor, whenever the state changes; there is nothing to run.
//! The instance is `_monitor_<class>:<agent>::<16 hexadecimal digits>`. `data`:
//!
//! | field | value |
//! |---|---|
//! | `monitorname` | `<host>:<class>:<agent>::<16 hexadecimal digits>`, the same whenever it is found again |
//! | `class`, `agent`, `provider` | `ocf`, `nagios`, `lsb`, `systemd`, `tcp`, `http`, `tls`, `NEVERMON`; what is run; of OCF agents who made it |
//! | `target` | `service` or `host` |
//! | `process`, `pathname`, `listen` | of a service: key in `tcpdiscovery`, program, list of `address:port` |
//! | `state` | `up`, `warn`, `down`, `flapping` (up and down too often), `unmonitored` (deliberately: NEVERMON) |
//! | `reason` | why, for people |
//! | `rc`, `signal` | exit code, or the signal that ended the agent |
//! | `output`, `perfdata` | what a plug-in printed, secrets masked, and its figures; at most 4 KiB each |
//! | `since` | when the state began, RFC 3339, by the host's clock |
//! | `active` | whether it is run |
//! | `rule` | file of the monitor rule that chose it |
//!
//! ```json
//! {"monitorname":"web1:nagios:check_ssh::00f1e2d3c4b5a697","class":"nagios","agent":"check_ssh","target":"service",
//!  "process":"sshd:5d41402abc4b2a76b9719d911017c592","pathname":"/usr/sbin/sshd","listen":["0.0.0.0:22"],"state":"up",
//!  "reason":"is now operational","since":"2026-11-23T10:00:00Z","active":true,"rule":"check_ssh.mrule"}
//! ```

use crate::{Collected, Discovery, Host, Parameters, Schedule, Trigger, documentation};
use model::Envelope;
use model::graph::{EdgeFact, EdgeKind, GraphFacts, NodeFact, NodeKind};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "monitor",
    description: "State of a monitor",
    documentation: documentation::MONITOR,
    parameters: &[],
    instances: &[],
    schedule: Schedule { repeat_seconds: 0, ..Schedule::DEFAULT },
    trigger: Trigger::None,
    collect,
    graph,
};

/// What the node knows of the document; what a later one leaves out must not stay.
const FIELDS: [&str; 17] = [
    "monitorname",
    "class",
    "agent",
    "provider",
    "target",
    "process",
    "pathname",
    "listen",
    "state",
    "reason",
    "rc",
    "signal",
    "output",
    "perfdata",
    "since",
    "active",
    "rule",
];

fn collect(_: &Host, _: &Parameters) -> Collected {
    Collected::new(json!({
        "NODATA": "a running nanoprobe tells the state of its monitors; by hand there is none: there is nothing to run"
    }))
}

/// Drone –hosting→ MonitorAction –monitoring→ ProcessNode or Drone.
fn graph(host: &str, envelope: &Envelope) -> GraphFacts {
    let Some(data) = envelope.data.as_object() else { return GraphFacts::default() };
    let text = |name: &str| data.get(name).and_then(Value::as_str);
    // Nobody speaks of the monitors of others.
    let own = |name: &&str| name.strip_prefix(host).is_some_and(|rest| rest.starts_with(':'));
    let Some(name) = text("monitorname").filter(own) else { return GraphFacts::default() };
    let mut properties: Map<String, Value> = FIELDS
        .iter()
        .map(|field| ((*field).to_owned(), data.get(*field).cloned().unwrap_or_default()))
        .collect();
    let state = text("state").unwrap_or_default();
    let is_active = data.get("active").and_then(Value::as_bool).unwrap_or(false);
    properties.insert("isactive".into(), is_active.into());
    properties.insert("isworking".into(), (state != "down").into());
    let monitor = (NodeKind::MonitorAction, name.to_owned());
    let target = match (text("target"), text("process")) {
        (Some("service"), Some(process)) => {
            NodeFact { kind: NodeKind::ProcessNode, key: format!("{host}/{process}"), properties: Map::new() }
        }
        _ => NodeFact { kind: NodeKind::Drone, key: host.to_owned(), properties: Map::new() },
    };
    let node = NodeFact { kind: monitor.0, key: monitor.1.clone(), properties };
    let edges = vec![
        EdgeFact { source: (NodeKind::Drone, host.to_owned()), kind: EdgeKind::Hosting, target: node },
        EdgeFact { source: monitor, kind: EdgeKind::Monitoring, target },
    ];
    GraphFacts { edges, ..GraphFacts::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(data: Value) -> Envelope {
        Envelope {
            discovertype: "monitor".into(),
            description: "d".into(),
            host: "h".into(),
            source: "nanoprobe".into(),
            instance: "_monitor_nagios:check_ssh::1".into(),
            proxy: "local/local".into(),
            data,
            errors: Vec::new(),
            extras: Map::new(),
        }
    }

    #[test]
    fn a_monitor_hangs_between_host_and_process() {
        let data = json!({"monitorname": "web1:nagios:check_ssh::1", "target": "service", "process": "sshd:2",
            "state": "down", "active": true, "rc": 2});
        let facts = graph("web1", &envelope(data.clone()));
        let [hosting, monitoring] = facts.edges.as_slice() else { panic!("{facts:?}") };
        assert_eq!(
            (hosting.kind, hosting.target.key.as_str()),
            (EdgeKind::Hosting, "web1:nagios:check_ssh::1")
        );
        let properties = &hosting.target.properties;
        assert_eq!((&properties["isworking"], &properties["isactive"]), (&json!(false), &json!(true)));
        assert_eq!((&properties["rc"], &properties["signal"]), (&json!(2), &Value::Null));
        assert_eq!(monitoring.source, (NodeKind::MonitorAction, "web1:nagios:check_ssh::1".to_owned()));
        assert_eq!(
            (monitoring.target.kind, monitoring.target.key.as_str()),
            (NodeKind::ProcessNode, "web1/sshd:2")
        );
        let of_host = json!({"monitorname": "web1:nagios:check_load::1", "target": "host", "state": "up"});
        let facts = graph("web1", &envelope(of_host));
        assert_eq!(facts.edges[1].target.kind, NodeKind::Drone);
        // Not its own, or no monitor at all.
        for (host, data) in [("web2", data), ("web1", json!({"monitorname": "web10:x"})), ("web1", json!([]))]
        {
            assert_eq!(graph(host, &envelope(data)), GraphFacts::default());
        }
    }
}
