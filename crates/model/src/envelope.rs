//! What one discovery found in one run, in the shape that every later step handles.

use crate::ids::DocumentHash;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The largest document that a nanoprobe sends and a CMA takes, as canonical JSON text.
pub const MAX_DOCUMENT_BYTES: usize = 16 * 1024 * 1024;

/// The result of a discovery (contract §4). `data` has the shape that the discovery's own file documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// Type of the data, for instance `sshd`; rules and queries choose by it.
    pub discovertype: String,
    /// One line for people.
    pub description: String,
    /// Host name as the host itself tells it. The CMA goes by the registered designation instead.
    pub host: String,
    /// What produced this: `nanoprobe` or the path of an executable.
    pub source: String,
    /// Unique name of this discovery on this host, for instance `_init_sshd`; key of storage and change detection.
    pub instance: String,
    /// Which system the data are about: `local/local`, `docker/<id>`.
    pub proxy: String,
    pub data: Value,
    /// What could not be read or understood, one sentence each; the rest of the data is good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// Further top-level fields of some discoveries, such as `packagetypes`.
    #[serde(flatten)]
    pub extras: Map<String, Value>,
}

impl Envelope {
    /// Keys sorted at every level, no white space: equal facts give equal text.
    pub fn canonical(&self) -> String {
        // A map keyed by text cannot fail to serialise; serde_json's maps are sorted.
        let value = serde_json::to_value(self).unwrap_or(Value::Null);
        value.to_string()
    }

    pub fn hash(&self) -> DocumentHash {
        DocumentHash::of(self.canonical().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn canonical_text_is_sorted_and_survives_a_round_trip() {
        let envelope = Envelope {
            discovertype: "sshd".into(),
            description: "d".into(),
            host: "h".into(),
            source: "nanoprobe".into(),
            instance: "_init_sshd".into(),
            proxy: "local/local".into(),
            data: json!({"b": 1, "a": {"d": 2, "c": 3}}),
            errors: vec![],
            extras: Map::new(),
        };
        let text = envelope.canonical();
        assert!(text.starts_with(r#"{"data":{"a":{"c":3,"d":2},"b":1},"description":"#), "{text}");
        let back: Envelope = serde_json::from_str(&text).unwrap();
        assert_eq!(back, envelope);
        assert_eq!(back.hash(), DocumentHash::of(text.as_bytes()));
    }
}
