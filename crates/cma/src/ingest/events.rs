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

/// An event about something that is no host of ours: a switch, a subnet, an address, the CMA itself.
pub fn about_system(context: &mut Context<'_>, kind: EventType, object: Value, extrainfo: Value) -> Event {
    let map = |value| match value {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    Event {
        eventid: (context.event_ids)(),
        time: context.now,
        eventtype: kind,
        associatedobject: map(object),
        extrainfo: map(extrainfo),
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
