//! Services of the host that nothing looks after, and why.
//!
//! The nanoprobe makes this document itself (instance `_monitors`) when it chooses monitors; there is nothing to run.
//! `data` has one field, `unmonitored`: key of the process in `tcpdiscovery` → `pathname`, `listen` (list of
//! `address:port`) and `why`. What a NEVERMON rule keeps from being looked after is not in it.
//!
//! ```json
//! {"unmonitored":{"x:5d41402abc4b2a76b9719d911017c592":{"pathname":"/opt/x","listen":["0.0.0.0:69"],
//!  "why":"it takes no TCP connections and belongs to no systemd unit"}}}
//! ```

use crate::{Collected, Discovery, Host, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::json;

pub static DISCOVERY: Discovery = Discovery {
    name: "monitors",
    description: "Services that nothing looks after",
    documentation: documentation::MONITORS,
    parameters: &[],
    instances: &[],
    schedule: Schedule { repeat_seconds: 0, ..Schedule::DEFAULT },
    trigger: Trigger::None,
    collect,
    graph: no_graph,
};

fn collect(_: &Host, _: &Parameters) -> Collected {
    Collected::new(json!({
        "NODATA": "a running nanoprobe tells what nothing looks after; by hand there is none: there is nothing to run"
    }))
}
