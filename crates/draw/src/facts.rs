//! The words for a node: its name, and the lines below it.

use crate::escape::line;
use crate::looks::security_score;
use model::graph::NodeKind;
use model::subgraph::SubgraphNode;
use serde_json::{Map, Value};
use std::net::IpAddr;

/// Lines below a name at most.
const MAX_DETAILS: usize = 14;

/// A property as one harmless line; nothing when it is absent or no scalar.
pub fn property(properties: &Map<String, Value>, name: &str) -> Option<String> {
    scalar(properties.get(name)?)
}

fn scalar(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => line(text),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// The short name of a node.
pub fn name(kind: NodeKind, node: &SubgraphNode) -> String {
    let own = |name: &str| property(&node.properties, name);
    let last = || line(node.key.rsplit('/').next().unwrap_or(""));
    let name = match kind {
        NodeKind::SystemNode => own("SystemName").or_else(|| own("ChassisId")).unwrap_or_else(last),
        NodeKind::NicNode => own("ifname").unwrap_or_else(last),
        NodeKind::LinkAddress => {
            let hostname = node.hostname.as_deref().map(line);
            hostname.or_else(|| own("macaddr")).unwrap_or_else(last)
        }
        NodeKind::IpaddrNode => own("ipaddr").unwrap_or_else(last),
        NodeKind::IpTcpPortNode => match (own("ipaddr"), own("port")) {
            (Some(address), Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
            (Some(address), Some(port)) => format!("{address}:{port}"),
            _ => last(),
        },
        NodeKind::ProcessNode => program(node),
        NodeKind::ChildSystem => {
            let name = own("name").map(|name| name.trim_start_matches('/').to_owned());
            name.unwrap_or_else(|| line(node.key.split_once('/').map_or("", |(_, proxy)| proxy)))
        }
        NodeKind::MonitorAction => own("agent").or_else(|| own("class")).unwrap_or_else(last),
        NodeKind::Package => own("name").unwrap_or_else(last),
        NodeKind::Drone => line(&node.key),
    };
    if name.is_empty() { "?".into() } else { name }
}

/// The lines below the name, the most telling first.
pub fn details(kind: NodeKind, node: &SubgraphNode) -> Vec<String> {
    let own = |name: &str| property(&node.properties, name);
    let named = |word: &str, name: &str| own(name).map(|value| format!("{word} {value}"));
    let mut lines: Vec<Option<String>> = match kind {
        NodeKind::Drone => {
            let score = security_score(node);
            vec![
                state(node),
                own("os_description"),
                own("kernel_release"),
                (score > 0.0).then(|| format!("security risk {score}")),
                node.properties.get("roles").and_then(list).map(|roles| format!("roles: {roles}")),
            ]
        }
        NodeKind::SystemNode => {
            let mut lines = vec![own("SystemDescription")];
            // What LLDP, LLDP-MED and CDP tell has many names; all of it is worth a line.
            let rest = node
                .properties
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "SystemName" | "SystemDescription"));
            lines.extend(rest.map(|(name, value)| {
                let value = scalar(value).or_else(|| list(value))?;
                Some(line(&format!("{name}: {value}")))
            }));
            lines
        }
        NodeKind::NicNode => vec![
            own("macaddr").filter(|address| !node.key.ends_with(address.as_str())),
            own("PortDescription"),
            own("OUI").or_else(|| own("oui")),
            vlan(node).map(|vlan| format!("VLAN {vlan}")),
            named("MTU", "mtu"),
            own("speed").map(|speed| format!("{speed} Mbit/s")),
            named("duplex", "duplex"),
            named("carrier", "carrier"),
        ],
        NodeKind::IpaddrNode => vec![own("hostname")],
        NodeKind::IpTcpPortNode => vec![own("protocol")],
        NodeKind::ProcessNode => vec![named("uid", "uid"), named("gid", "gid"), own("cwd")],
        NodeKind::MonitorAction => {
            vec![named("class", "class"), own("state"), own("reason"), own("output")]
        }
        NodeKind::ChildSystem => vec![own("kind"), own("image"), own("status")],
        NodeKind::LinkAddress => {
            vec![node.hostname.as_ref().and_then(|_| own("macaddr")), node.vendor.as_deref().map(line)]
        }
        NodeKind::Package => vec![own("version"), own("arch")],
    };
    lines.truncate(MAX_DETAILS * 4);
    lines.into_iter().flatten().take(MAX_DETAILS).collect()
}

/// `dead: HBDEAD` of a host that is not up.
pub fn state(node: &SubgraphNode) -> Option<String> {
    let status = node.status.as_deref().filter(|status| *status != "up")?;
    Some(line(&match node.reason.as_deref() {
        Some(reason) if !reason.is_empty() => format!("{status}: {reason}"),
        _ => status.to_owned(),
    }))
}

/// The VLAN of untagged frames at a switch port.
pub fn vlan(node: &SubgraphNode) -> Option<String> {
    property(&node.properties, "vlan")
}

/// The base name of the program; of interpreters what they run.
fn program(node: &SubgraphNode) -> String {
    let own = |name: &str| property(&node.properties, name);
    let named = || {
        // `sshd:<hash>`: the hash tells programs of one name apart, and tells people nothing.
        let name = own("processname").unwrap_or_else(|| line(node.key.rsplit('/').next().unwrap_or("")));
        name.rsplit_once(':').map_or(name.clone(), |(name, _)| name.to_owned())
    };
    let path = own("pathname").unwrap_or_else(named);
    let base = path.rsplit('/').next().unwrap_or("").to_owned();
    let words = node.properties.get("cmdline").and_then(Value::as_array);
    let mut words = words.into_iter().flatten().skip(1).filter_map(Value::as_str);
    let interpreter = ["python", "perl", "ruby", "node", "bash", "sh", "php"];
    let bare = base.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let what = match bare {
        "java" => words.last(),
        bare if interpreter.contains(&bare) => words.find(|word| !word.starts_with('-')),
        _ => None,
    };
    match what {
        Some(what) => line(&format!("{base} {}", what.rsplit('/').next().unwrap_or(""))),
        None => base,
    }
}

/// Scalars of a list, or the names of an object, separated by commas.
fn list(value: &Value) -> Option<String> {
    let words: Vec<String> = match value {
        Value::Array(items) => items.iter().take(20).filter_map(scalar).collect(),
        Value::Object(fields) => fields.keys().take(20).map(|name| line(name)).collect(),
        _ => return None,
    };
    (!words.is_empty()).then(|| line(&words.join(", ")))
}

/// Loopback and link-local addresses, which every host has and nobody misses in a picture.
pub fn is_local_address(node: &SubgraphNode) -> bool {
    let text = node.properties.get("ipaddr").and_then(Value::as_str).or_else(|| node.key.rsplit('/').next());
    match text.and_then(|text| text.parse::<IpAddr>().ok()) {
        Some(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_link_local(),
        Some(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unicast_link_local(),
        None => false,
    }
}

/// Whether an address lies in a subnet such as `10.0.0.0/24`.
pub fn is_in(address: &str, subnet: &str) -> bool {
    let Some((network, length)) = subnet.split_once('/') else { return false };
    let Ok(length) = length.parse::<u32>() else { return false };
    match (address.parse::<IpAddr>(), network.parse::<IpAddr>()) {
        (Ok(IpAddr::V4(a)), Ok(IpAddr::V4(b))) if length <= 32 => {
            u64::from(a.to_bits() ^ b.to_bits()) >> (32 - length) == 0
        }
        (Ok(IpAddr::V6(a)), Ok(IpAddr::V6(b))) if length <= 128 => {
            (a.to_bits() ^ b.to_bits()).checked_shr(128 - length).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(key: &str, properties: Value) -> SubgraphNode {
        let Value::Object(properties) = properties else { panic!("{properties}") };
        SubgraphNode { key: key.into(), properties, ..SubgraphNode::default() }
    }

    #[test]
    fn names_are_what_people_call_things() {
        for (kind, key, properties, expected) in [
            (NodeKind::Drone, "web1", json!({}), "web1"),
            (NodeKind::SystemNode, "@global/00-16-3e-00-00-01", json!({"SystemName": "sw1"}), "sw1"),
            (NodeKind::SystemNode, "@global/00-16-3e-00-00-01", json!({}), "00-16-3e-00-00-01"),
            (NodeKind::IpTcpPortNode, "k", json!({"ipaddr": "2001:db8::1", "port": 22}), "[2001:db8::1]:22"),
            (NodeKind::IpTcpPortNode, "@global/22_tcp_10.0.0.1", json!({}), "22_tcp_10.0.0.1"),
            (NodeKind::ProcessNode, "web1/sshd:1", json!({"pathname": "/usr/sbin/sshd"}), "sshd"),
            (
                NodeKind::ProcessNode,
                "web1/unknown:92af716c",
                json!({"processname": "unknown:92af716c"}),
                "unknown",
            ),
            (
                NodeKind::ProcessNode,
                "web1/python3:1",
                json!({"pathname": "/usr/bin/python3.11", "cmdline": ["python3", "-u", "/srv/app.py"]}),
                "python3.11 app.py",
            ),
            (
                NodeKind::ProcessNode,
                "web1/java:1",
                json!({"pathname": "/usr/bin/java", "cmdline": ["java", "-Xmx1g", "org.example.Main"]}),
                "java org.example.Main",
            ),
            (NodeKind::ChildSystem, "web1/docker/0123", json!({"name": "/shop"}), "shop"),
            (NodeKind::ChildSystem, "web1/docker/0123", json!({}), "docker/0123"),
            (NodeKind::NicNode, "web1/", json!({}), "?"),
        ] {
            assert_eq!(name(kind, &node(key, properties)), expected, "{key}");
        }
    }

    #[test]
    fn addresses_are_found_in_their_subnets() {
        assert!(
            is_in("10.0.0.7", "10.0.0.0/24")
                && is_in("8.8.8.8", "0.0.0.0/0")
                && is_in("10.0.0.7", "10.0.0.7/32")
        );
        assert!(!is_in("10.0.1.7", "10.0.0.0/24") && !is_in("10.0.0.7", "10.0.0.0/33"));
        assert!(is_in("2001:db8::7", "2001:db8::/64") && is_in("::1", "::/0"));
        assert!(!is_in("2001:db8:1::7", "2001:db8::/64") && !is_in("10.0.0.7", "::/0"));
        assert!(!is_in("x", "10.0.0.0/24") && !is_in("10.0.0.7", "10.0.0.0"));
    }

    #[test]
    fn a_host_says_what_is_wrong_with_it() {
        let mut host = node("web1", json!({"os_description": "Debian", "roles": ["server", "client"]}));
        assert_eq!(details(NodeKind::Drone, &host), ["Debian", "roles: server, client"]);
        host.status = Some("dead".into());
        host.reason = Some("HBDEAD".into());
        host.scores.insert("security".into(), 12.0);
        assert_eq!(details(NodeKind::Drone, &host)[..2], ["dead: HBDEAD", "Debian"]);
        assert!(details(NodeKind::Drone, &host).contains(&"security risk 12".to_owned()));
    }
}
