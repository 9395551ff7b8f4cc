//! What differs between two JSON documents, by path.

use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Longest text of a value in the answer, in characters.
const MAX_VALUE_CHARS: usize = 200;
/// Levels that are looked into; deeper ones are compared as a whole.
const MAX_DEPTH: usize = 32;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    pub facts: Vec<Fact>,
    /// Further ones beyond the bound.
    pub more: usize,
}

/// One fact that came, went or changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fact {
    /// Keys from the top, separated by dots: `eth0.ipaddrs.10.0.0.7/24`. Of a list of plain values the list itself.
    pub path: String,
    /// `added`, `removed` or `changed`.
    pub change: &'static str,
    pub old: Option<String>,
    pub new: Option<String>,
}

/// From `old` to `new`, at most `limit` facts. Lists of plain values are compared as sets, and another order of the same
/// values is one change; other lists are compared place by place.
pub fn difference(old: &Value, new: &Value, limit: usize) -> Difference {
    let mut found = Found { facts: Vec::new(), more: 0, limit };
    compare(&mut found, &mut Vec::new(), old, new);
    Difference { facts: found.facts, more: found.more }
}

struct Found {
    facts: Vec<Fact>,
    more: usize,
    limit: usize,
}

impl Found {
    fn push(&mut self, path: &[String], old: Option<&Value>, new: Option<&Value>) {
        if self.facts.len() >= self.limit {
            self.more += 1;
            return;
        }
        let change = match (old, new) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        };
        self.facts.push(Fact { path: path.join("."), change, old: old.map(shown), new: new.map(shown) });
    }
}

fn compare(found: &mut Found, path: &mut Vec<String>, old: &Value, new: &Value) {
    if old == new {
        return;
    }
    match (old, new) {
        (Value::Object(a), Value::Object(b)) if path.len() < MAX_DEPTH => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                path.push(key.clone());
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => compare(found, path, a, b),
                    (a, b) => found.push(path, a, b),
                }
                path.pop();
            }
        }
        (Value::Array(a), Value::Array(b)) if a.iter().chain(b).all(is_plain) => {
            let mut counts: BTreeMap<String, (i64, &Value)> = BTreeMap::new();
            for (list, step) in [(a, -1), (b, 1)] {
                for value in list {
                    counts.entry(value.to_string()).or_insert((0, value)).0 += step;
                }
            }
            let mut is_same_set = true;
            for (count, value) in counts.into_values() {
                if count != 0 {
                    is_same_set = false;
                    let (old, new) = if count < 0 { (Some(value), None) } else { (None, Some(value)) };
                    found.push(path, old, new);
                }
            }
            if is_same_set {
                // In some lists the order means something.
                found.push(path, Some(old), Some(new));
            }
        }
        (Value::Array(a), Value::Array(b)) if path.len() < MAX_DEPTH => {
            for index in 0..a.len().max(b.len()) {
                path.push(index.to_string());
                match (a.get(index), b.get(index)) {
                    (Some(a), Some(b)) => compare(found, path, a, b),
                    (a, b) => found.push(path, a, b),
                }
                path.pop();
            }
        }
        _ => found.push(path, Some(old), Some(new)),
    }
}

fn is_plain(value: &Value) -> bool {
    !matches!(value, Value::Array(_) | Value::Object(_))
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    model::text::shortened(&text, MAX_VALUE_CHARS).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(old: Value, new: Value) -> Vec<String> {
        let one = |fact: Fact| {
            format!(
                "{} {} {} {}",
                fact.change,
                fact.path,
                fact.old.unwrap_or_default(),
                fact.new.unwrap_or_default()
            )
        };
        difference(&old, &new, 100).facts.into_iter().map(one).collect()
    }

    #[test]
    fn facts_that_came_went_and_changed() {
        assert_eq!(
            told(
                json!({"a": 1, "b": {"c": "x", "d": null}, "e": [1, 2]}),
                json!({"a": 2, "b": {"c": "x"}, "e": [2, 3], "f": true})
            ),
            ["changed a 1 2", "removed b.d null ", "removed e 1 ", "added e  3", "added f  true"]
        );
        assert_eq!(told(json!({"a": [1]}), json!({"a": [1]})), [""; 0]);
        assert_eq!(
            told(json!([{"x": 1}, {"y": 2}]), json!([{"x": 5}])),
            ["changed 0.x 1 5", "removed 1 {\"y\":2} "]
        );
        assert_eq!(told(json!({"a": {}}), json!({"a": "text"})), ["changed a {} text"]);
    }

    #[test]
    fn another_order_is_one_change() {
        assert_eq!(
            told(json!({"pam": ["a", "b"]}), json!({"pam": ["b", "a"]})),
            ["changed pam [\"a\",\"b\"] [\"b\",\"a\"]"]
        );
        assert_eq!(told(json!(["a", "a"]), json!(["a"])), ["removed  a "], "one of two equal ones went");
    }

    #[test]
    fn much_is_bounded_and_counted() {
        let many: Value = (0..50)
            .map(|n| (n.to_string(), json!("x".repeat(1000))))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let found = difference(&json!({}), &many, 10);
        assert_eq!((found.facts.len(), found.more), (10, 40));
        assert_eq!(found.facts[0].new.as_ref().unwrap().chars().count(), 200);
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!({"a": deep});
        }
        assert_eq!(difference(&deep, &json!({"a": 2}), 10).facts.len(), 1);
    }
}
