//! What one discovery found in one run, in the shape that every later step handles.

use crate::ids::DocumentHash;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

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
        // Text keys and JSON values cannot fail to serialise.
        serde_json::to_string(&self.sorted()).unwrap_or_default()
    }

    /// The top-level fields by name, borrowed; the levels below are sorted because `serde_json` keeps its maps so.
    /// An extra field of the name of a fixed one wins, as it does when an envelope becomes a `Value`.
    fn sorted(&self) -> BTreeMap<&str, Field<'_>> {
        let mut fields = BTreeMap::from([
            ("data", Field::Value(&self.data)),
            ("description", Field::Text(&self.description)),
            ("discovertype", Field::Text(&self.discovertype)),
            ("host", Field::Text(&self.host)),
            ("instance", Field::Text(&self.instance)),
            ("proxy", Field::Text(&self.proxy)),
            ("source", Field::Text(&self.source)),
        ]);
        if !self.errors.is_empty() {
            fields.insert("errors", Field::Errors(&self.errors));
        }
        fields.extend(self.extras.iter().map(|(name, value)| (name.as_str(), Field::Value(value))));
        fields
    }

    /// Of the canonical text. Who needs the text too hashes that: `DocumentHash::of(text.as_bytes())`.
    pub fn hash(&self) -> DocumentHash {
        DocumentHash::of(self.canonical().as_bytes())
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Field<'a> {
    Text(&'a str),
    Value(&'a Value),
    Errors(&'a [String]),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
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

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// Also names of fixed fields, which no discovery uses but a hostile executable may.
    fn extra_names() -> impl Strategy<Value = String> {
        prop_oneof![any::<String>(), "(data|errors|source|zebra|Data|e|packagetypes)"]
    }

    proptest! {
        #[test]
        fn canonical_text_is_that_of_the_envelope_as_a_value(
            texts in prop::array::uniform6(any::<String>()),
            data in values(),
            errors in prop::collection::vec(any::<String>(), 0..3),
            extras in prop::collection::vec((extra_names(), values()), 0..4),
        ) {
            let [discovertype, description, host, source, instance, proxy] = texts;
            let extras: Map<String, Value> = extras.into_iter().collect();
            let envelope =
                Envelope { discovertype, description, host, source, instance, proxy, data, errors, extras };
            let value = serde_json::to_value(&envelope).unwrap();
            prop_assert_eq!(envelope.canonical(), value.to_string());
            prop_assert_eq!(envelope.hash(), DocumentHash::of(value.to_string().as_bytes()));
        }
    }
}
