//! Connections come and go, the services behind them stay: what was used lately counts as used. Pure.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a service counts as used after its last connection.
const KEPT: Duration = Duration::from_secs(3600);
/// More services are not remembered; they count while a connection is there.
const MAX_REMEMBERED: usize = 10_000;
const FIELDS: [&str; 2] = ["clientaddrs", "loopback_clientaddrs"];

/// What earlier runs saw.
#[derive(Debug, Default)]
pub struct Memory {
    has_run: bool,
    /// By entry, field and address.
    seen: BTreeMap<(String, &'static str, String), Seen>,
    /// The entries of programs with remembered services, without addresses.
    programs: BTreeMap<String, Map<String, Value>>,
}

#[derive(Debug, Clone)]
struct Seen {
    protocol: Value,
    last: Duration,
    /// In a second run, or in the first of all.
    counts: bool,
}

impl Memory {
    /// Replaces what is there right now by what counts. `now` is any clock that only goes forward.
    pub fn settle(&mut self, mut data: Map<String, Value>, now: Duration) -> Map<String, Value> {
        for (key, entry) in &mut data {
            let Some(entry) = entry.as_object_mut() else { continue };
            for field in FIELDS {
                let Some(Value::Object(addresses)) = entry.remove(field) else { continue };
                for (address, protocol) in addresses {
                    let place = (key.clone(), field, address);
                    let known = self.seen.contains_key(&place);
                    if !known && self.seen.len() >= MAX_REMEMBERED {
                        put(entry, field, place.2, protocol);
                        continue;
                    }
                    let counts = known || !self.has_run;
                    self.seen.insert(place, Seen { protocol, last: now, counts });
                }
            }
        }
        self.has_run = true;
        self.seen.retain(|_, seen| now.saturating_sub(seen.last) < KEPT);
        let mut programs = BTreeMap::new();
        for ((key, field, address), seen) in &self.seen {
            let found = data.get(key).and_then(Value::as_object).map(|entry| {
                let fields = entry.iter().filter(|(name, _)| !name.ends_with("addrs"));
                fields.map(|(name, value)| (name.clone(), value.clone())).collect()
            });
            if !programs.contains_key(key)
                && let Some(program) = found.or_else(|| self.programs.remove(key))
            {
                programs.insert(key.clone(), program);
            }
            if seen.counts
                && let Some(program) = programs.get(key)
            {
                let entry = data.entry(key.clone()).or_insert_with(|| Value::Object(program.clone()));
                if let Some(entry) = entry.as_object_mut() {
                    put(entry, field, address.clone(), seen.protocol.clone());
                }
            }
        }
        self.programs = programs;
        data.retain(|_, entry| {
            entry.as_object().is_some_and(|entry| entry.keys().any(|name| name.ends_with("addrs")))
        });
        data
    }
}

fn put(entry: &mut Map<String, Value>, field: &str, address: String, protocol: Value) {
    if let Some(addresses) = entry.entry(field).or_insert_with(|| Value::Object(Map::new())).as_object_mut() {
        addresses.insert(address, protocol);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(memory: &mut Memory, data: Value, seconds: u64) -> Value {
        let Value::Object(data) = data else { panic!() };
        Value::Object(memory.settle(data, Duration::from_secs(seconds)))
    }

    #[test]
    fn a_service_counts_from_its_second_run_until_an_hour_without_it() {
        let with = |addresses: Value| json!({"a:1": {"exe": "/a", "clientaddrs": addresses}});
        let mut memory = Memory::default();
        let first = with(json!({"10.0.0.1:1": "tcp"}));
        assert_eq!(run(&mut memory, first.clone(), 0), first, "nothing is known better at first");
        let both = with(json!({"10.0.0.1:1": "tcp", "10.0.0.2:2": "tcp"}));
        assert_eq!(run(&mut memory, both.clone(), 30), first, "one run may be chance");
        assert_eq!(run(&mut memory, both.clone(), 60), both);
        assert_eq!(run(&mut memory, json!({}), 90), both, "even when the program is gone for a moment");
        assert_eq!(run(&mut memory, json!({}), 60 + 3599), both);
        assert_eq!(run(&mut memory, json!({}), 60 + 3600), json!({}));
        assert!(memory.seen.is_empty() && memory.programs.is_empty());
    }

    #[test]
    fn listeners_are_told_as_they_are() {
        let mut memory = Memory::default();
        run(&mut memory, json!({}), 0);
        let listener = json!({"a:1": {"exe": "/a", "listenaddrs": {"0.0.0.0:1": "tcp"}}});
        assert_eq!(run(&mut memory, listener.clone(), 30), listener);
        assert_eq!(run(&mut memory, json!({}), 60), json!({}));
        let used = json!({"a:1": {"exe": "/a", "loopback_clientaddrs": {"127.0.0.1:1": "tcp"}}});
        assert_eq!(
            run(&mut memory, used.clone(), 90),
            json!({}),
            "a single connection of an unknown program"
        );
        assert_eq!(run(&mut memory, used.clone(), 120), used);
    }

    #[test]
    fn memory_is_bounded() {
        let addresses: Map<String, Value> =
            (0..MAX_REMEMBERED + 5).map(|n| (format!("h:{n}"), json!("tcp"))).collect();
        let data = json!({"a:1": {"clientaddrs": addresses}});
        let mut memory = Memory::default();
        assert_eq!(run(&mut memory, data.clone(), 0), data);
        assert_eq!(memory.seen.len(), MAX_REMEMBERED);
    }
}
