//! How events look (contract §3 and §5): the object is the host, `extrainfo` what happened to it.

use super::Context;
use model::{Event, EventType};
use serde_json::{Map, Value, json};
use store::HostRow;

/// An event about a host as it is after the change.
pub fn about_host(context: &mut Context<'_>, kind: EventType, host: &HostRow, extrainfo: Value) -> Event {
    Event {
        eventid: (context.event_ids)(),
        time: context.now,
        eventtype: kind,
        associatedobject: object(host),
        extrainfo: match extrainfo {
            Value::Object(map) => map,
            _ => Map::new(),
        },
    }
}

/// The host as scripts see it.
pub fn object(host: &HostRow) -> Map<String, Value> {
    let value = json!({
        "nodetype": "Drone",
        "designation": host.designation.as_str(),
        "status": host.status,
        "reason": host.reason,
        "domain": host.domain,
        "address": host.address,
    });
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
