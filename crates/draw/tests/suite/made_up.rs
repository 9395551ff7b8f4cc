//! A site that nobody has: switches, hosts on them, services and who uses them, monitors and rings.

use model::subgraph::{PlaceInNetwork, RING_NEXT, RING_OF_RINGS, Relationship, Subgraph, SubgraphNode};
use serde_json::{Value, json};
use std::collections::HashMap;

#[derive(Default)]
pub struct Site {
    pub subgraph: Subgraph,
    known: HashMap<(String, String), i64>,
}

impl Site {
    /// The number of a node; the first one to speak of it says what it is.
    pub fn node(&mut self, kind: &str, key: &str, properties: Value) -> i64 {
        let next = self.known.len() as i64 + 1;
        let id = *self.known.entry((kind.into(), key.into())).or_insert(next);
        if id == next {
            let Value::Object(properties) = properties else { panic!("{properties}") };
            self.subgraph.nodes.push(SubgraphNode {
                id,
                kind: kind.into(),
                key: key.into(),
                properties,
                ..SubgraphNode::default()
            });
        }
        id
    }

    pub fn edge(&mut self, source: i64, kind: &str, target: i64) {
        self.subgraph.relationships.push(Relationship {
            kind: kind.into(),
            source,
            target,
            ..Relationship::default()
        });
    }

    pub fn get(&mut self, id: i64) -> &mut SubgraphNode {
        self.subgraph.nodes.iter_mut().find(|node| node.id == id).unwrap()
    }

    pub fn host(&mut self, name: &str, ip: &str, subnet: &str, port: Option<(&str, &str, &str)>) -> i64 {
        let host = self.node(
            "Drone",
            name,
            json!({"os_description": "Debian GNU/Linux 13 (trixie)", "primary_ip_addr": ip}),
        );
        let nic = self.node(
            "NICNode",
            &format!("{name}/eth0"),
            json!({"ifname": "eth0", "carrier": true, "mtu": 1500}),
        );
        self.edge(host, "nicowner", nic);
        let address =
            self.node("IPaddrNode", &format!("@global/{ip}"), json!({"ipaddr": ip, "cidrmask": 24}));
        self.edge(nic, "ipowner", address);
        let mut place = PlaceInNetwork {
            network: Some("global".into()),
            subnet: Some(subnet.into()),
            ..PlaceInNetwork::default()
        };
        if let Some((chassis, system, port)) = port {
            let switch = self.node(
                "SystemNode",
                &format!("@global/{chassis}"),
                json!({"SystemName": system, "SystemDescription": "Example Networks EX2300"}),
            );
            let end = self.node(
                "NICNode",
                &format!("@global/{chassis}/{port}"),
                json!({"ifname": port, "vlan": 20}),
            );
            self.edge(switch, "nicowner", end);
            self.edge(end, "wiredto", nic);
            place.switch = Some(format!("@global/{chassis}"));
            place.switch_name = Some(system.into());
            place.port = Some(port.into());
        }
        let node = self.get(host);
        node.status = Some("up".into());
        node.reason = Some("STARTUP".into());
        node.place = Some(place);
        host
    }

    /// A program on a host that listens at a port of an address.
    pub fn service(&mut self, host: i64, program: &str, ip: &str, port: u16, is_monitored: bool) -> i64 {
        let name = self.get(host).key.clone();
        let process = self.node(
            "ProcessNode",
            &format!("{name}/{program}:1"),
            json!({"pathname": format!("/usr/sbin/{program}"), "roles": ["server"], "uid": 100}),
        );
        self.edge(host, "hosting", process);
        self.get(process).is_monitored = Some(is_monitored);
        let end = self.port(ip, port);
        self.edge(process, "tcpservice", end);
        if is_monitored {
            let monitor = self.node(
                "MonitorAction",
                &format!("{name}:tcp:{program}::1"),
                json!({"class": "tcp", "agent": program, "state": "up", "isactive": true}),
            );
            self.edge(host, "hosting", monitor);
            self.edge(monitor, "monitoring", process);
        }
        process
    }

    pub fn port(&mut self, ip: &str, port: u16) -> i64 {
        self.node(
            "IPtcpportNode",
            &format!("@global/{port}_tcp_{ip}"),
            json!({"ipaddr": ip, "port": port, "protocol": "tcp"}),
        )
    }

    pub fn client(&mut self, process: i64, ip: &str, port: u16) {
        let end = self.port(ip, port);
        self.edge(process, "tcpclient", end);
    }

    pub fn stranger(&mut self, macaddr: &str, ip: &str, vendor: &str) {
        let station = self.node("LinkAddress", &format!("@global/{macaddr}"), json!({"macaddr": macaddr}));
        let address = self.node("IPaddrNode", &format!("@global/{ip}"), json!({"ipaddr": ip}));
        self.edge(station, "ipowner", address);
        self.get(station).vendor = Some(vendor.into());
    }

    pub fn ring(&mut self, name: &str, hosts: &[i64]) {
        for (index, source) in hosts.iter().enumerate() {
            if hosts.len() > 1 && (hosts.len() > 2 || index == 0) {
                self.subgraph.relationships.push(Relationship {
                    kind: RING_NEXT.into(),
                    source: *source,
                    target: hosts[(index + 1) % hosts.len()],
                    ring: Some(name.into()),
                    ..Relationship::default()
                });
            }
        }
    }
}

/// One host with a few services and nobody around.
pub fn one() -> Subgraph {
    let mut site = Site::default();
    let host = site.host("web1", "10.0.1.7", "10.0.1.0/24", Some(("00-16-3e-00-00-01", "sw1", "ge-0/0/7")));
    site.service(host, "sshd", "10.0.1.7", 22, true);
    let nginx = site.service(host, "nginx", "10.0.1.7", 443, true);
    site.service(host, "exim4", "127.0.0.1", 25, false);
    site.client(nginx, "203.0.113.9", 5432);
    site.subgraph
}

/// A small company: two switches, ten hosts, one of them dead, strangers in the office.
pub fn ten() -> Subgraph {
    let mut site = Site::default();
    let switch = |number: usize| match number {
        1..=6 => Some(("00-16-3e-00-00-01", "sw-rack1", format!("ge-0/0/{number}"))),
        _ => Some(("00-16-3e-00-00-02", "sw-office", format!("ge-0/0/{number}"))),
    };
    let names = ["web1", "web2", "app1", "app2", "db1", "db2", "mail1", "files1", "build1", "desk1"];
    let mut hosts = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let number = index + 1;
        let subnet = if number <= 6 { 1 } else { 2 };
        let ip = format!("10.0.{subnet}.{}", 10 + number);
        let port = switch(number);
        let port = port.as_ref().map(|(chassis, name, port)| (*chassis, *name, port.as_str()));
        let host = site.host(name, &ip, &format!("10.0.{subnet}.0/24"), port);
        site.service(host, "sshd", &ip, 22, number % 3 != 0);
        hosts.push((host, ip));
    }
    let ip = |index: usize, hosts: &[(i64, String)]| hosts[index].1.clone();
    for index in [0, 1] {
        let own = ip(index, &hosts);
        let nginx = site.service(hosts[index].0, "nginx", &own, 443, true);
        for app in [2, 3] {
            site.client(nginx, &ip(app, &hosts), 8080);
        }
    }
    for index in [2, 3] {
        let own = ip(index, &hosts);
        let java = site.service(hosts[index].0, "tomcat", &own, 8080, true);
        site.client(java, &ip(4, &hosts), 5432);
        site.client(java, &ip(6, &hosts), 25);
        site.client(java, "198.51.100.20", 443);
    }
    for index in [4, 5] {
        let own = ip(index, &hosts);
        let postgres = site.service(hosts[index].0, "postgres", &own, 5432, index == 4);
        if index == 5 {
            site.client(postgres, &ip(4, &hosts), 5432);
        }
    }
    let own = ip(6, &hosts);
    site.service(hosts[6].0, "exim4", &own, 25, true);
    let own = ip(7, &hosts);
    site.service(hosts[7].0, "smbd", &own, 445, false);
    let container = site.node(
        "ChildSystem",
        "build1/docker/0123456789ab",
        json!({"name": "/registry", "kind": "docker"}),
    );
    site.edge(container, "parentsys", hosts[8].0);
    site.edge(hosts[8].0, "hosting", container);
    site.stranger("b8-27-eb-12-34-56", "10.0.2.77", "Raspberry Pi Foundation");
    site.stranger("00-1b-a9-00-00-07", "10.0.2.80", "Brother Industries");
    for (index, score) in [(0, 4.0), (4, 13.0), (9, 31.0)] {
        site.get(hosts[index].0).scores.insert("security".into(), score);
    }
    let dead = site.get(hosts[5].0);
    (dead.status, dead.reason) = (Some("dead".into()), Some("HBDEAD".into()));
    let down = site.get(hosts[8].0);
    (down.status, down.reason) = (Some("dead".into()), Some("HBSHUTDOWN".into()));
    let all: Vec<i64> = hosts.iter().map(|(host, _)| *host).collect();
    site.ring("subnet 10.0.1.0/24", &[&all[..5]].concat());
    site.ring("subnet 10.0.2.0/24", &[all[6], all[7], all[9]]);
    site.ring(RING_OF_RINGS, &[all[0], all[6]]);
    site.subgraph
}

/// `count` hosts on switches of 24 ports, two subnets to a switch, some with a second cable, each with its services,
/// users of those of others, and strangers.
pub fn many(count: usize) -> Subgraph {
    let mut site = Site::default();
    let mut hosts = Vec::new();
    let address = |number: usize| format!("10.{}.{}.{}", number / 24, (number % 24) / 16, 10 + number % 24);
    for number in 0..count {
        let rack = number / 24;
        let ip = address(number);
        let subnet = format!("10.{rack}.{}.0/24", (number % 24) / 16);
        let chassis = format!("00-16-3e-00-01-{rack:02x}");
        let port = format!("Gi1/0/{}", number % 24 + 1);
        let name = format!("{}{:03}", ["web", "app", "db", "cache", "batch"][number % 5], number);
        let port = (rack != 3).then_some((chassis.as_str(), format!("sw-rack{}", rack + 1), port));
        let port = port.as_ref().map(|(chassis, name, port)| (*chassis, name.as_str(), port.as_str()));
        let host = site.host(&name, &ip, &subnet, port);
        if number % 24 == 5 && rack != 3 {
            let second =
                site.node("NICNode", &format!("{name}/eth1"), json!({"ifname": "eth1", "carrier": true}));
            site.edge(host, "nicowner", second);
            let chassis = format!("@global/00-16-3e-00-01-{:02x}", (rack + 1) % 3);
            let switch = site.node(
                "SystemNode",
                &chassis,
                json!({"SystemName": format!("sw-rack{}", (rack + 1) % 3 + 1)}),
            );
            let end = site.node(
                "NICNode",
                &format!("{chassis}/Gi1/1/{rack}"),
                json!({"ifname": format!("Gi1/1/{rack}")}),
            );
            site.edge(switch, "nicowner", end);
            site.edge(end, "wiredto", second);
        }
        site.service(host, "sshd", &ip, 22, number % 2 == 0);
        hosts.push((host, ip));
    }
    for number in 0..count {
        let (host, ip) = hosts[number].clone();
        let (program, port) =
            [("nginx", 443), ("tomcat", 8080), ("postgres", 5432), ("redis-server", 6379), ("cron", 0)]
                [number % 5];
        if port == 0 {
            continue;
        }
        let process = site.service(host, program, &ip, port, number % 3 == 0);
        let next = |role: usize, step: usize| {
            (0..count).filter(|other| other % 5 == role).nth((number / 5 + step) % (count / 5).max(1))
        };
        let uses: &[(usize, usize, u16)] = match number % 5 {
            0 => &[(1, 0, 8080), (1, 3, 8080)],
            1 => &[(2, 0, 5432), (3, 0, 6379)],
            _ => &[],
        };
        for (role, step, port) in uses {
            if let Some(server) = next(*role, *step) {
                let ip = hosts[server].1.clone();
                site.client(process, &ip, *port);
            }
        }
        if number % 17 == 0 {
            let score = (number % 40) as f64;
            site.get(host).scores.insert("security".into(), score);
        }
        if number % 31 == 7 {
            let dead = site.get(host);
            (dead.status, dead.reason) = (Some("dead".into()), Some("HBDEAD".into()));
        }
    }
    for number in 0..count / 12 {
        site.stranger(
            &format!("b8-27-eb-00-00-{number:02x}"),
            &format!("10.{}.0.{}", number % 4, 200 + number),
            "Raspberry Pi Foundation",
        );
    }
    let racks: Vec<Vec<i64>> =
        hosts.chunks(24).map(|rack| rack.iter().map(|(host, _)| *host).collect()).collect();
    for (number, rack) in racks.iter().enumerate() {
        site.ring(&format!("switch sw-rack{}", number + 1), rack);
    }
    let first: Vec<i64> = racks.iter().map(|rack| rack[0]).collect();
    site.ring(RING_OF_RINGS, &first);
    site.subgraph
}
