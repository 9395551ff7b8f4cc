//! Ports at which this host waits for others, whoever does it: sock_diag(7), else /proc/net (proc(5)).
//!
//! `data` = protocol → port → addresses, sorted, IPv4 first; `0.0.0.0` and `::` stand for all addresses of the host. Both protocols
//! are always there. Only the network namespace of the nanoprobe is looked at, not those of containers; UDP sockets at ports
//! of the kernel's choice are left out, since they wait for answers. `tcpdiscovery` tells which programs these are.
//!
//! Sockets belong to the running system: a file tree has none.
//! ```json
//! {"tcp":{"22":["0.0.0.0","::"],"25":["127.0.0.1","::1"]},"udp":{"123":["0.0.0.0"]}}
//! ```

use super::tcpdiscovery::sockets::{self, EPHEMERAL, Protocol, Sockets, Wanted};
use crate::parse;
use crate::parse::presence::not_there;
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub static DISCOVERY: Discovery = Discovery {
    name: "listeners",
    description: "Ports at which the host can be reached",
    documentation: documentation::LISTENERS,
    parameters: &[],
    instances: &[Instance { name: "_init_listeners", parameters: &[], schedule: None }],
    // The kernel tells nobody of new sockets. A run costs a fraction of a millisecond.
    schedule: Schedule { repeat_seconds: 15, ..Schedule::DEFAULT },
    trigger: Trigger::None,
    collect,
    graph: no_graph,
};

fn collect(host: &Host, _: &Parameters) -> Collected {
    if !host.is_running_system() {
        return not_there("sockets belong to a running system, and this is a file tree");
    }
    let limit = sockets::TABLE_LIMIT_BYTES as u64;
    let text = |path: &str| {
        let bytes = host.read_at_most(path, limit).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let range = text("/proc/sys/net/ipv4/ip_local_port_range");
    let range = range.and_then(|text| sockets::ephemeral(&text)).unwrap_or(EPHEMERAL);
    let found = sockets::by_netlink(Wanted::Listening, &range).or_else(|error| {
        let tables =
            sockets::by_tables(Wanted::Listening, &range, |name| text(&format!("/proc/self/net/{name}")));
        tables.ok_or(error)
    });
    match found {
        Ok(found) => {
            let mut collected = Collected::new(data(&found));
            if found.is_cut {
                collected.errors.push(format!(
                    "more than {} sockets wait for peers, the rest is left out: see ss -ltun",
                    sockets::MAX_SOCKETS
                ));
            }
            collected
        }
        Err(error) => parse::collected((parse::no_data("the sockets of this host"), vec![error])),
    }
}

fn data(found: &Sockets) -> Value {
    let mut ports: BTreeMap<Protocol, BTreeMap<u16, BTreeSet<IpAddr>>> =
        BTreeMap::from([(Protocol::Tcp, BTreeMap::new()), (Protocol::Udp, BTreeMap::new())]);
    for socket in &found.list {
        let of_protocol = ports.entry(socket.protocol).or_default();
        of_protocol.entry(socket.address.port()).or_default().insert(socket.address.ip());
    }
    let ports = ports.into_iter().map(|(protocol, ports)| {
        let ports = ports.into_iter().map(|(port, addresses)| {
            let addresses: Vec<Value> = addresses.iter().map(|ip| Value::from(ip.to_string())).collect();
            (port.to_string(), Value::from(addresses))
        });
        (protocol.as_str().to_owned(), Value::Object(ports.collect()))
    });
    Value::Object(ports.collect::<Map<String, Value>>())
}

#[cfg(test)]
mod tests {
    use super::sockets::{Role, Socket};
    use super::*;
    use serde_json::json;
    use std::net::TcpListener;

    #[test]
    fn addresses_are_gathered_by_port() {
        let socket = |protocol, address: &str, inode| Socket {
            protocol,
            role: Role::Listens,
            address: address.parse().unwrap(),
            inode,
        };
        let list = vec![
            socket(Protocol::Tcp, "[::1]:25", 1),
            socket(Protocol::Tcp, "127.0.0.1:25", 2),
            socket(Protocol::Tcp, "127.0.0.1:25", 3),
            socket(Protocol::Tcp, "[::]:22", 4),
        ];
        let found = data(&Sockets { list, is_cut: false });
        assert_eq!(found, json!({"tcp": {"22": ["::"], "25": ["127.0.0.1", "::1"]}, "udp": {}}));
    }

    #[test]
    fn a_port_that_is_opened_shows() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let look = || collect(&Host::running(), &Parameters::new()).data["tcp"][&port].clone();
        assert_eq!(look(), json!(["127.0.0.1"]));
        drop(listener);
        assert_eq!(look(), Value::Null);
    }

    #[test]
    fn a_file_tree_has_no_sockets() {
        let tree = tempfile::tempdir().unwrap();
        assert!(collect(&Host::at(tree.path()), &Parameters::new()).data["NODATA"].is_string());
    }
}
