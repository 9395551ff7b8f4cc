//! Something that people may want to be told.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::str::FromStr;

/// Kinds of events (contract §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    Create,
    Up,
    Down,
    Warn,
    Unwarn,
    Update,
    Delete,
}

impl EventType {
    /// Each of them once.
    pub const ALL: [Self; 7] =
        [Self::Create, Self::Up, Self::Down, Self::Warn, Self::Unwarn, Self::Update, Self::Delete];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Up => "up",
            Self::Down => "down",
            Self::Warn => "warn",
            Self::Unwarn => "unwarn",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventType {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("no such event type: {text:?}"))
    }
}

/// An event as notification scripts read it on standard input (contract §3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// UUID version 7; a repeated delivery carries the same id.
    pub eventid: String,
    pub time: Timestamp,
    pub eventtype: EventType,
    /// The object: always `nodetype`, `designation`, `status`, `reason`, `domain`.
    pub associatedobject: Map<String, Value>,
    /// What happened to it; for rules `ruleid`, `category`, `severity`, `title`, `values` ...
    pub extrainfo: Map<String, Value>,
}

impl Event {
    /// `Drone`, `MonitorAction` ... as in the second argument of a notification script.
    pub fn nodetype(&self) -> &str {
        self.associatedobject.get("nodetype").and_then(Value::as_str).unwrap_or("Drone")
    }

    /// `service ssh (tcp) of web1` for an event about a service, else the name of the object: who reads "web1 is down" when
    /// a service of it is would look at the wrong thing.
    pub fn subject(&self) -> String {
        let text = |name: &str| self.associatedobject.get(name).and_then(Value::as_str).unwrap_or("");
        let host = self.designation();
        match (self.nodetype(), text("type")) {
            ("MonitorAction", "") => format!("service {} of {host}", text("monitorname")),
            ("MonitorAction", service) => format!("service {service} ({}) of {host}", text("class")),
            _ => host.to_owned(),
        }
    }

    /// The host (or service) that the event is about; events of one designation are delivered in order.
    pub fn designation(&self) -> &str {
        self.associatedobject.get("designation").and_then(Value::as_str).unwrap_or("")
    }
}
