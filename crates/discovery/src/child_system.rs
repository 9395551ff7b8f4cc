//! Containers and virtual machines in the graph: children of the host, one node whoever saw them first.
//!
//! An engine's own discovery tells what a child is (`docker`, `vagrant`), a process in it tells that there is one
//! (`tcpdiscovery`, by its control group). Both say the same key, so they meet; the child is gone when neither speaks of it.

use model::graph::{EdgeFact, EdgeKind, NodeFact, NodeKind};
use model::text::{printable, shortened};
use serde_json::{Map, Value};

/// Characters of `<engine>/<name>` that a key holds.
const MAX_PROXY: usize = 200;

/// The key of a child: `<host>/<engine>/<name>`, such as `web1/docker/<id>`. `proxy` is `<engine>/<name>`.
pub(crate) fn key(host: &str, proxy: &str) -> String {
    format!("{host}/{}", shortened(&printable(proxy), MAX_PROXY))
}

/// Host –hosting→ child –parentsys→ host. `properties` are what this document knows; `kind` (the engine) and `id` (its name
/// for the child) are added.
pub(crate) fn edges(host: &str, proxy: &str, mut properties: Map<String, Value>) -> [EdgeFact; 2] {
    let child = key(host, proxy);
    let named = child.strip_prefix(host).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
    let (kind, id) = named.split_once('/').unwrap_or((named, ""));
    properties.insert("kind".into(), kind.into());
    properties.insert("id".into(), id.into());
    [
        EdgeFact {
            source: (NodeKind::Drone, host.to_owned()),
            kind: EdgeKind::Hosting,
            target: NodeFact { kind: NodeKind::ChildSystem, key: child.clone(), properties },
        },
        EdgeFact {
            source: (NodeKind::ChildSystem, child),
            kind: EdgeKind::ParentSys,
            target: NodeFact { kind: NodeKind::Drone, key: host.to_owned(), properties: Map::new() },
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_child_hangs_between_two_edges_and_says_what_it_is() {
        let [hosting, parent] =
            edges("web1", "docker/0123", Map::from_iter([("name".into(), json!("shop"))]));
        assert_eq!(hosting.source, (NodeKind::Drone, "web1".to_owned()));
        assert_eq!(hosting.target.key, "web1/docker/0123");
        assert_eq!(
            Value::Object(hosting.target.properties),
            json!({"name": "shop", "kind": "docker", "id": "0123"})
        );
        assert_eq!(parent.source, (NodeKind::ChildSystem, "web1/docker/0123".to_owned()));
        assert_eq!((parent.target.kind, parent.target.key.as_str()), (NodeKind::Drone, "web1"));
    }

    #[test]
    fn a_hostile_name_stays_below_its_host_and_short() {
        let [hosting, _] = edges("web1", &format!("../other\u{1b}[2J{}", "x".repeat(10_000)), Map::new());
        assert!(hosting.target.key.starts_with("web1/..") && hosting.target.key.chars().count() < 220);
        assert!(!hosting.target.key.contains('\u{1b}'));
        let [hosting, _] = edges("web1", "", Map::new());
        assert_eq!((hosting.target.key.as_str(), &hosting.target.properties["id"]), ("web1/", &json!("")));
    }
}
