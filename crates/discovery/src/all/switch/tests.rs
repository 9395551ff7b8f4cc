use super::*;
use crate::link::testing::{Cdp, Lldp, OUI_8021, OUI_8023, ipv4_addresses};
use crate::link::{decode, document};
use std::net::Ipv4Addr;

fn envelope(frames: &[Vec<u8>]) -> Envelope {
    let told: Vec<_> = frames.iter().map(|frame| decode(frame).unwrap().unwrap()).collect();
    document("web1", "eth0", &told)
}

fn switch() -> Vec<u8> {
    Lldp::switch()
        .element(5, b"sw1")
        .element(7, &[0, 0x14, 0, 0x04])
        .element(8, &[5, 1, 10, 0, 0, 2, 2, 0, 0, 0, 1, 0])
        .element(8, &[5, 1, 127, 0, 0, 1, 2, 0, 0, 0, 1, 0])
        .of(OUI_8021, 1, &[0, 10])
        .of(OUI_8023, 1, &[3, 0, 0, 0, 30])
        .frame()
}

fn edges(facts: &GraphFacts) -> Vec<(String, &'static str, String)> {
    let text = |kind: NodeKind, key: &str| format!("{} {key}", kind.as_str());
    let mut edges: Vec<_> = facts
        .edges
        .iter()
        .map(|edge| {
            (
                text(edge.source.0, &edge.source.1),
                edge.kind.as_str(),
                text(edge.target.kind, &edge.target.key),
            )
        })
        .collect();
    edges.sort();
    edges
}

#[test]
fn a_switch_is_wired_to_the_host() {
    let facts = graph("web1", &envelope(&[switch()]));
    let owned = |from: &str, kind, to: &str| (from.to_owned(), kind, to.to_owned());
    let key = "@global/00-11-22-33-44-55";
    assert_eq!(
        edges(&facts),
        [
            owned(&format!("NICNode {key}/(management)"), "ipowner", "IPaddrNode @global/10.0.0.2"),
            owned(
                &format!("NICNode {key}/(management)"),
                "linkaddr",
                "LinkAddress @global/00-11-22-33-44-55"
            ),
            owned(&format!("NICNode {key}/g7"), "linkaddr", "LinkAddress @global/00-11-22-33-44-5c"),
            owned(&format!("NICNode {key}/g7"), "wiredto", "NICNode web1/eth0"),
            owned(&format!("SystemNode {key}"), "nicowner", &format!("NICNode {key}/(management)")),
            owned(&format!("SystemNode {key}"), "nicowner", &format!("NICNode {key}/g7")),
        ]
    );
    let [device] = facts.sources.as_slice() else { panic!("{:?}", facts.sources) };
    assert_eq!((device.kind, device.key.as_str()), (NodeKind::SystemNode, key));
    let properties = Value::Object(device.properties.clone());
    assert_eq!((&properties["SystemName"], &properties["roles"]), (&json!("sw1"), &json!(["bridge"])));
    assert_eq!(properties["ManagementAddress"], "10.0.0.2");
    let port = facts.edges.iter().find(|edge| edge.target.key.ends_with("/g7")).unwrap();
    assert_eq!(
        Value::Object(port.target.properties.clone()),
        json!({"PortId": "g7", "PortIdSubtype": "ifname", "ifname": "g7", "macaddr": "00-11-22-33-44-5c", "pvid": 10,
            "vlan": 10, "speed": 1000, "duplex": "full", "media": "1000BASE-T", "mau_type": 30,
            "autoneg_supported": true, "autoneg_enabled": true})
    );
}

/// The store takes edges only from the host itself, from targets of the same facts, or from their sources.
#[test]
fn every_edge_starts_at_a_node_that_is_told() {
    let packet = Cdp::new("sw/2", "Gi1/0/4")
        .element(2, &ipv4_addresses(&[Ipv4Addr::new(10, 0, 0, 3)]))
        .element(4, &9u32.to_be_bytes())
        .element(5, b"IOS")
        .element(10, &[0, 7]);
    let facts = graph("web1", &envelope(&[switch(), packet.frame_from([2, 0, 0, 0, 0, 1])]));
    let mut known: BTreeSet<&str> = facts.sources.iter().map(|node| node.key.as_str()).collect();
    known.extend(facts.edges.iter().map(|edge| edge.target.key.as_str()));
    assert!(facts.edges.iter().all(|edge| known.contains(edge.source.1.as_str())), "{:?}", edges(&facts));
    // A slash in a device's name does not reach into its ports.
    let cdp = facts.sources.iter().find(|node| node.key == "@global/sw%2f2").unwrap();
    assert_eq!(cdp.properties["SystemName"], "sw/2");
    assert_eq!(
        (&cdp.properties["SystemDescription"], &cdp.properties["roles"]),
        (&json!("IOS"), &json!(["router", "bridge"]))
    );
    let port = facts.edges.iter().find(|edge| edge.target.key == "@global/sw%2f2/Gi1/0/4").unwrap();
    assert_eq!(port.target.properties["vlan"], 7);
    assert!(edges(&facts).contains(&(
        "NICNode @global/sw%2f2/(management)".into(),
        "ipowner",
        "IPaddrNode @global/10.0.0.3".into()
    )));
}

#[test]
fn what_a_hostile_host_says_means_nothing() {
    let good = envelope(&[switch()]);
    let with = |change: &dyn Fn(&mut Envelope)| {
        let mut other = good.clone();
        change(&mut other);
        graph("web1", &other)
    };
    assert!(!with(&|_| ()).edges.is_empty());
    assert_eq!(with(&|other| other.instance = "switch".into()), GraphFacts::default());
    assert_eq!(with(&|other| other.data = json!([])), GraphFacts::default());
    for id in [json!(""), json!(7), json!("a\u{1b}[2J"), json!("x".repeat(513))] {
        assert_eq!(with(&|other| other.data["ChassisId"] = id.clone()), GraphFacts::default(), "{id}");
    }
    let many: Value = (0..1000).map(|number| (format!("p{number}"), json!({}))).collect::<Map<_, _>>().into();
    let facts = with(&|other| other.data["ports"] = many.clone());
    assert!(facts.edges.len() < 20, "{} edges", facts.edges.len());
    let many: Value = (0..1000).map(|_| good.data.clone()).collect();
    let facts = with(&|other| other.data["neighbours"] = many.clone());
    assert_eq!(facts, with(&|_| ()));
    let odd = json!({"g7": {"sourceMAC": "ff-ff-ff-ff-ff-ff", "speed": {"a": 1}}, "x\n": {}});
    let facts = with(&|other| other.data["ports"] = odd.clone());
    let port = facts.edges.iter().find(|edge| edge.target.key.ends_with("/g7")).unwrap();
    assert_eq!(port.target.properties, Map::from_iter([("ifname".to_owned(), json!("g7"))]));
}
