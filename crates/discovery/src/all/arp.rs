//! Which IP addresses are at which link-layer addresses on a subnet, heard from ARP and IPv6 neighbour discovery.
//!
//! A running nanoprobe that the CMA has chosen for the subnet listens and makes a document when something changes; nothing is
//! sent. The type in documents is `ARP`, the instance `_ARP_<interface>`. `data` is IP address → link-layer address; addresses
//! that are not heard any more vanish after their time. The extra field `device` is the interface.
//!
//! ```json
//! {"10.0.0.1":"00-16-3e-00-00-01","fe80::216:3eff:fe00:1":"00-16-3e-00-00-01"}
//! ```

use crate::link::{self, MacAddress};
use crate::{Collected, Discovery, Host, Parameters, Schedule, Trigger, documentation};
use model::Envelope;
use model::graph::{EdgeFact, EdgeKind, GLOBAL, GraphFacts, NodeFact, NodeKind};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub static DISCOVERY: Discovery = Discovery {
    name: "arp",
    description: "IP addresses and link-layer addresses of the neighbours on a subnet",
    documentation: documentation::ARP,
    parameters: &[],
    instances: &[],
    schedule: Schedule { repeat_seconds: 0, ..Schedule::DEFAULT },
    trigger: Trigger::None,
    collect,
    graph,
};

/// What documents call it.
pub const DISCOVERTYPE: &str = link::NEIGHBOURS_TYPE;

fn collect(_: &Host, _: &Parameters) -> Collected {
    Collected::new(json!({
        "NODATA": "neighbours are heard by a running nanoprobe that the CMA chose for the subnet; by hand `ip neigh` shows what the kernel knows"
    }))
}

/// LinkAddress –ipowner→ IPaddrNode. Link-local addresses exist on every link again: they are in the document only.
fn graph(_: &str, envelope: &Envelope) -> GraphFacts {
    let mut sources = BTreeMap::new();
    let mut edges = Vec::new();
    for (ip, address) in envelope.data.as_object().into_iter().flatten() {
        let address = address.as_str().and_then(MacAddress::parse).filter(|address| address.is_station());
        let ip = ip.parse().map(|ip: IpAddr| ip.to_canonical());
        let (Ok(ip), Some(address)) = (ip, address) else { continue };
        if !link::is_routable(ip) {
            continue;
        }
        let key = format!("{GLOBAL}/{address}");
        sources.entry(address).or_insert_with(|| NodeFact {
            kind: NodeKind::LinkAddress,
            key: key.clone(),
            properties: Map::from_iter([("macaddr".to_owned(), Value::from(address.to_string()))]),
        });
        edges.push(EdgeFact {
            source: (NodeKind::LinkAddress, key),
            kind: EdgeKind::IpOwner,
            target: NodeFact {
                kind: NodeKind::IpaddrNode,
                key: format!("{GLOBAL}/{ip}"),
                properties: Map::from_iter([("ipaddr".to_owned(), Value::from(ip.to_string()))]),
            },
        });
    }
    GraphFacts { sources: sources.into_values().collect(), edges, ..GraphFacts::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn document(data: Value) -> Envelope {
        Envelope { data, ..link::neighbours_document("web1", "eth0", &BTreeMap::new()) }
    }

    #[test]
    fn addresses_hang_at_link_layer_addresses() {
        let facts = graph(
            "web1",
            &document(json!({"10.0.0.1": "00-16-3E-00-00-01", "10.0.0.2": "00-16-3e-00-00-01",
                "2001:db8::1": "00-16-3e-00-00-02", "::ffff:10.0.0.3": "00:16:3e:00:00:02"})),
        );
        let sources: Vec<&str> = facts.sources.iter().map(|node| node.key.as_str()).collect();
        assert_eq!(sources, ["@global/00-16-3e-00-00-01", "@global/00-16-3e-00-00-02"]);
        let edges: BTreeSet<(&str, &str)> =
            facts.edges.iter().map(|edge| (edge.source.1.as_str(), edge.target.key.as_str())).collect();
        assert_eq!(
            edges,
            BTreeSet::from([
                ("@global/00-16-3e-00-00-01", "@global/10.0.0.1"),
                ("@global/00-16-3e-00-00-01", "@global/10.0.0.2"),
                ("@global/00-16-3e-00-00-02", "@global/2001:db8::1"),
                ("@global/00-16-3e-00-00-02", "@global/10.0.0.3"),
            ])
        );
        assert_eq!(facts.edges[0].target.properties["ipaddr"], "10.0.0.1");
    }

    #[test]
    fn what_is_no_pair_of_addresses_means_nothing() {
        let data = json!({"fe80::1": "00-16-3e-00-00-01", "10.0.0.1": "ff-ff-ff-ff-ff-ff", "10.0.0.2": 7,
            "10.0.0.3": "", "host/10.0.0.4": "00-16-3e-00-00-01", "224.0.0.1": "00-16-3e-00-00-01",
            "NODATA": "nothing"});
        assert_eq!(graph("web1", &document(data)), GraphFacts::default());
        assert_eq!(graph("web1", &document(json!([]))), GraphFacts::default());
    }
}
