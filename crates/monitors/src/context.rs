//! What the expressions of monitor rules see: the process, then the host.

use crate::Findings;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Ports from here on are chosen by the kernel, unless an administrator moved the range: the next start of the same
/// service has another one.
pub const FIRST_EPHEMERAL_PORT: u16 = 32768;

/// What all rules see of a host, below what they see of a process.
pub fn host(designation: &str, findings: &Findings<'_>) -> Value {
    json!({
        "designation": designation,
        "_init_commands": {"data": findings.commands},
        "_init_monitoringagents": {"data": findings.monitoringagents},
        "_init_services": {"data": findings.services},
    })
}

/// A process that listens, as rules see it.
///
/// | name | value |
/// |---|---|
/// | `pathname`, `argv`, `cwd` | program, words of the command line, directory |
/// | `uid`, `user` | name of the user, or the number where it has no name; a rule that asks for the number gets that |
/// | `unit` | systemd unit, where there is one |
/// | `ports`, `udp_ports` | TCP and UDP ports as texts, lowest first |
/// | `listen.<port>` | its addresses at that TCP port, for `serviceip($listen.443)` |
/// | `loopback_only` | nobody but this host reaches it |
/// | `procinfo` | the entry of `tcpdiscovery`; its `listenaddrs`, which `serviceport()` looks at, are those with TCP that other hosts reach, or all with TCP when there is none |
#[derive(Debug)]
pub struct Process {
    pub key: String,
    pub pathname: String,
    /// Addresses with a port at which TCP connections are taken: those that others reach first, then by port.
    pub tcp: Vec<(IpAddr, u16)>,
    /// `address:port`, whatever the protocol, sorted.
    pub listen: Vec<String>,
    /// `local/local`, or a container.
    pub proxy: String,
    pub netns: Option<String>,
    pub unit: Option<String>,
    pub uid: Option<u64>,
    /// With names of users, and with their numbers where those differ.
    views: Vec<Value>,
}

impl Process {
    /// `None` for a process that offers nothing.
    pub fn new(key: &str, entry: &Value) -> Option<Process> {
        let entry = entry.as_object()?;
        let mut addresses: Map<String, Value> = Map::new();
        for field in ["listenaddrs", "loopback_listenaddrs"] {
            let found = entry.get(field).and_then(Value::as_object).into_iter().flatten();
            addresses.extend(found.map(|(address, protocol)| (address.clone(), protocol.clone())));
        }
        if addresses.is_empty() {
            return None;
        }
        let text = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
        let mut tcp = Vec::new();
        let mut by_port: BTreeMap<u16, Map<String, Value>> = BTreeMap::new();
        for (address, protocols) in &addresses {
            let Some((ip, port)) = parsed(address).filter(|_| speaks(protocols, "tcp")) else { continue };
            // Link-local addresses mean nothing without their interface, which is not told.
            if is_link_local(ip) {
                continue;
            }
            tcp.push((ip, port));
            by_port.entry(port).or_default().insert(address.clone(), protocols.clone());
        }
        // What others reach is what the service is there for; the rest is for its own administration.
        tcp.sort_by_key(|(ip, port)| (ip.is_loopback(), *port, ip.is_ipv6(), *ip));
        let of_tcp = |others: bool| -> Map<String, Value> {
            let reached = |address: &str| parsed(address).is_some_and(|(ip, _)| !ip.is_loopback());
            let shown = by_port.values().flatten().filter(|(address, _)| !others || reached(address));
            shown.map(|(address, protocols)| (address.clone(), protocols.clone())).collect()
        };
        let shown = Some(of_tcp(true)).filter(|shown| !shown.is_empty()).unwrap_or_else(|| of_tcp(false));
        let mut process = Process {
            key: key.to_owned(),
            pathname: text("exe").unwrap_or_default(),
            tcp,
            listen: addresses.keys().cloned().collect(),
            proxy: text("proxy").unwrap_or_else(|| "local/local".into()),
            netns: text("netns"),
            unit: text("unit"),
            uid: entry.get("uid").and_then(Value::as_u64),
            views: Vec::new(),
        };
        let mut view = Map::new();
        for name in ["cwd", "uid", "euid", "gid", "egid", "user", "proxy", "netns", "unit", "exe_deleted"] {
            view.extend(entry.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        view.extend(entry.get("exe").map(|exe| ("pathname".to_owned(), exe.clone())));
        view.extend(entry.get("cmdline").map(|words| ("argv".to_owned(), words.clone())));
        view.insert("processname".into(), key.into());
        let loopback_only =
            addresses.keys().all(|address| parsed(address).is_some_and(|(ip, _)| ip.is_loopback()));
        view.insert("loopback_only".into(), loopback_only.into());
        let ports: BTreeSet<u16> = by_port.keys().copied().collect();
        let is_udp = |protocols: &Value| speaks(protocols, "udp");
        let udp_ports: BTreeSet<u16> = addresses
            .iter()
            .filter(|(_, protocols)| is_udp(protocols))
            .filter_map(|(address, _)| parsed(address).map(|(_, port)| port))
            .collect();
        let texts = |ports: BTreeSet<u16>| -> Value {
            ports.into_iter().map(|port| Value::from(port.to_string())).collect()
        };
        view.insert("udp_ports".into(), texts(udp_ports));
        view.insert("ports".into(), texts(ports));
        let listen =
            by_port.into_iter().map(|(port, addresses)| (port.to_string(), Value::Object(addresses)));
        view.insert("listen".into(), Value::Object(listen.collect()));
        let mut procinfo = entry.clone();
        procinfo.insert("listenaddrs".into(), Value::Object(shown));
        view.insert("procinfo".into(), Value::Object(procinfo));
        let name = text("user").or_else(|| (process.uid == Some(0)).then(|| "root".to_owned()));
        if let Some(name) = name {
            let mut named = view.clone();
            named.insert("uid".into(), name.as_str().into());
            named.insert("user".into(), name.into());
            process.views.push(Value::Object(named));
        }
        process.views.push(Value::Object(view));
        Some(process)
    }

    /// The same process with names of users, then with numbers; a condition holds when it does in one of them.
    pub fn views(&self) -> &[Value] {
        &self.views
    }

    /// Where a TCP connection from the host itself reaches it: the first port that is not of the kernel's choice.
    pub fn reached_at(&self) -> Option<(IpAddr, u16)> {
        let (ip, port) = self.tcp.iter().find(|(_, port)| *port < FIRST_EPHEMERAL_PORT)?;
        let ip = match ip {
            IpAddr::V4(any) if any.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(any) if any.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
            other => *other,
        };
        Some((ip, *port))
    }

    /// Its program's name without directory; `unknown` for what cannot be seen.
    pub fn program(&self) -> &str {
        self.pathname.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("unknown")
    }

    /// In the network and file tree of the nanoprobe.
    pub fn is_local(&self) -> bool {
        self.proxy == "local/local" && self.netns.is_none()
    }
}

fn parsed(address: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = address.rsplit_once(':')?;
    let ip: IpAddr = ip.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    let port: u16 = port.parse().ok()?;
    (port != 0).then(|| (ip.to_canonical(), port))
}

fn speaks(protocols: &Value, wanted: &str) -> bool {
    protocols.as_str().is_some_and(|text| text.split(',').any(|protocol| protocol.starts_with(wanted)))
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(six) if six.is_unicast_link_local())
}
