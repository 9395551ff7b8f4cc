//! Who offers what and who uses it: tcpdiscovery's document, Docker's, and the truth behind both.

use super::{DEPENDENCIES, DocumentSite, SERVICES, Tier, digits, object};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Services of a host that run in containers, where there are containers; the last ones of its list.
pub const CONTAINERS: usize = 3;
/// At which a program in a container listens; the host publishes it at the port of the service.
const PORT_INSIDE: u16 = 8080;
/// Programs that have the connections to other hosts.
const CLIENTS: usize = 8;

/// Something that a host offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Its program, and its words on the command line.
    pub exe: String,
    pub cmdline: Vec<String>,
}

/// A service of another host that a host uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency {
    /// Number of the host that offers it.
    pub server: usize,
    pub port: u16,
}

/// What is offered on every host: port, protocol, program.
const COMMON: [(u16, &str, &str); 6] = [
    (22, "tcp", "/usr/sbin/sshd"),
    (111, "tcp", "/usr/sbin/rpcbind"),
    (9100, "tcp", "/usr/bin/prometheus-node-exporter"),
    (10050, "tcp", "/usr/sbin/zabbix_agentd"),
    (123, "udp", "/usr/sbin/chronyd"),
    (161, "udp", "/usr/sbin/snmpd"),
];
const INFRA: [(u16, &str, &str); 5] = [
    (53, "tcp", "/usr/sbin/named"),
    (88, "tcp", "/usr/sbin/krb5kdc"),
    (389, "tcp", "/usr/sbin/slapd"),
    (514, "tcp", "/usr/sbin/rsyslogd"),
    (853, "tcp", "/usr/sbin/unbound"),
];
const DB: [(u16, &str, &str); 4] = [
    (5432, "tcp", "/usr/lib/postgresql/15/bin/postgres"),
    (6379, "tcp", "/usr/bin/redis-server"),
    (6432, "tcp", "/usr/sbin/pgbouncer"),
    (27017, "tcp", "/usr/bin/mongod"),
];
const APP: [(u16, &str, &str); 2] =
    [(5672, "tcp", "/usr/lib/erlang/erts-13.1.5/bin/beam.smp"), (11211, "tcp", "/usr/bin/memcached")];
const WEB: [(u16, &str, &str); 3] =
    [(80, "tcp", "/usr/sbin/nginx"), (443, "tcp", "/usr/sbin/haproxy"), (6081, "tcp", "/usr/sbin/varnishd")];
/// What everybody uses of the infrastructure, on two of its hosts in turn.
const SHARED_PORTS: [u16; 4] = [389, 853, 88, 514];

impl DocumentSite {
    /// The services of a host: what its tier is known for, then programs of its application.
    pub fn services(&self, host: usize) -> Vec<Service> {
        let known: &[(u16, &str, &str)] = match self.tier(host) {
            Tier::Infra => &INFRA,
            Tier::Db => &DB,
            Tier::App => &APP,
            Tier::Web => &WEB,
        };
        let known = COMMON.iter().chain(known).map(|(port, protocol, exe)| Service {
            port: *port,
            protocol,
            exe: (*exe).to_owned(),
            cmdline: vec![(*exe).to_owned(), "--config".into(), format!("/etc/default/{port}")],
        });
        let application = self.application(host);
        let own = (8100_u16..).map(|port| Service {
            port,
            protocol: "tcp",
            exe: "/usr/lib/jvm/java-17-openjdk-amd64/bin/java".into(),
            cmdline: vec![
                "java".into(),
                "-Xmx512m".into(),
                "-jar".into(),
                format!("/srv/a{application:04}/service-{port}.jar"),
            ],
        });
        known.chain(own).take(SERVICES).collect()
    }

    /// What a host uses of others, in order.
    pub fn dependencies(&self, host: usize) -> Vec<Dependency> {
        let mut found = BTreeSet::new();
        let infrastructure = self.infrastructure(host);
        for (index, port) in SHARED_PORTS.into_iter().enumerate() {
            if let Some(server) = infrastructure.get((host + index % 2) % infrastructure.len().max(1)) {
                found.insert(Dependency { server: *server, port });
            }
        }
        let wanted = match self.tier(host) {
            Tier::Web => Tier::App,
            Tier::App | Tier::Db => Tier::Db,
            Tier::Infra => Tier::Infra,
        };
        let fellows = self.members(self.application(host));
        let mut servers: Vec<usize> =
            fellows.filter(|other| *other != host && self.tier(*other) == wanted).collect();
        if servers.is_empty() {
            servers = infrastructure;
        }
        let mut offered: Vec<Dependency> = servers
            .iter()
            .flat_map(|server| {
                let services = self.services(*server).into_iter().filter(|service| service.protocol == "tcp");
                services.map(|service| Dependency { server: *server, port: service.port })
            })
            .collect();
        let mut random = self.random(host, 1);
        while found.len() < DEPENDENCIES && !offered.is_empty() {
            let index = random.below(offered.len() as u64) as usize;
            found.insert(offered.swap_remove(index));
        }
        found.into_iter().collect()
    }

    /// The id of a container, by the index of its service among those in containers.
    pub fn container(&self, host: usize, index: usize) -> String {
        digits(&mut self.random(host, 2 + index as u64), 64)
    }

    /// The index among the containers of a host's service, if it is in one.
    fn contained(&self, host: usize, service: usize) -> Option<usize> {
        let first = SERVICES - CONTAINERS;
        self.has_containers(host).then(|| service.checked_sub(first)).flatten()
    }
}

/// The extra of tcpdiscovery and docker.
pub fn own_addresses(site: &DocumentSite, host: usize) -> Value {
    let mut addresses = Map::from_iter([
        (format!("{}/24", site.address(host)), Value::from("global")),
        (format!("{}/64", super::host::link_local(site, host)), Value::from("host")),
    ]);
    if site.has_containers(host) {
        addresses.insert("172.17.0.1/16".into(), "host".into());
    }
    addresses.into()
}

pub fn tcpdiscovery(site: &DocumentSite, host: usize, version: u32) -> Value {
    let services = site.services(host);
    let dependencies = site.dependencies(host);
    let restarted = (version > 0).then(|| 6 + version as usize % (SERVICES - 6 - CONTAINERS));
    let mut entries = Map::new();
    for (index, service) in services.iter().enumerate() {
        let mut cmdline = service.cmdline.clone();
        if restarted == Some(index) {
            // An upgrade, as a version of real life: one program is another one from now on.
            cmdline.push(format!("--release={version}"));
        }
        let listens = |address: &str| object([(address.to_owned(), Value::from(service.protocol))]);
        let mut entry = process(&service.exe, &cmdline);
        match site.contained(host, index) {
            None => {
                let mut listen = listens(&format!("0.0.0.0:{}", service.port));
                if service.port == 22 {
                    listen[":::22"] = "tcp6".into();
                }
                entry.insert("listenaddrs".into(), listen);
                let unit = service.exe.rsplit('/').next().unwrap_or_default();
                entry.insert("unit".into(), format!("{unit}-{}.service", service.port).into());
                entry.insert("user".into(), "root".into());
            }
            Some(container) => {
                let port = service.port.to_string();
                let inside = format!("172.17.0.{}", container + 2);
                let words =
                    ["/usr/bin/docker-proxy", "-proto", "tcp", "-host-port", &port, "-container-ip", &inside];
                let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
                let mut proxy = process("/usr/bin/docker-proxy", &words);
                proxy.insert("listenaddrs".into(), listens(&format!("0.0.0.0:{port}")));
                entries.insert(key("docker-proxy", &words), proxy.into());
                entry.insert("proxy".into(), format!("docker/{}", site.container(host, container)).into());
                entry.insert("listenaddrs".into(), listens(&format!("0.0.0.0:{PORT_INSIDE}")));
            }
        }
        let clients = dependencies.iter().skip(index).step_by(CLIENTS).filter(|_| index < CLIENTS);
        let addresses =
            clients.map(|used| (format!("{}:{}", site.address(used.server), used.port), Value::from("tcp")));
        let addresses: Map<String, Value> = addresses.collect();
        if !addresses.is_empty() {
            entry.insert("clientaddrs".into(), addresses.into());
        }
        let name = service.exe.rsplit('/').next().unwrap_or_default();
        entries.insert(key(name, &cmdline), entry.into());
    }
    entries.into()
}

pub fn docker(site: &DocumentSite, host: usize, version: u32) -> Value {
    let services = site.services(host);
    let containers = services.iter().enumerate().filter_map(|(index, service)| {
        let container = site.contained(host, index)?;
        let published = |ip: &str| json!({"HostIp": ip, "HostPort": service.port.to_string()});
        let release = if container == 0 { version } else { 0 };
        let details = json!({
            "Name": format!("/service-{}", service.port),
            "State": {"Status": "running", "Paused": false, "OOMKilled": false},
            "Config": {"Image": format!("registry.example/a{:04}/service:1.{release}", site.application(host)),
                "Env": ["PATH", "JAVA_HOME"], "ExposedPorts": {format!("{PORT_INSIDE}/tcp"): {}}, "Cmd": service.cmdline},
            "HostConfig": {"NetworkMode": "bridge", "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}},
            "NetworkSettings": {
                "Ports": {format!("{PORT_INSIDE}/tcp"): [published("0.0.0.0"), published("::")]},
                "Networks": {"bridge": {"IPAddress": format!("172.17.0.{}", container + 2), "IPPrefixLen": 16,
                    "Gateway": "172.17.0.1", "MacAddress": format!("02:42:ac:11:00:{:02x}", container + 2),
                    "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0}},
            },
        });
        Some((site.container(host, container), details))
    });
    json!({
        "info": {"version": "24.0.7", "build": "311b9ff", "Driver": "overlay2", "OperatingSystem": "Debian GNU/Linux 12"},
        "networks": {"bridge": {"Driver": "bridge", "Scope": "local"}, "host": {"Driver": "host", "Scope": "local"}},
        "containers": object(containers),
    })
}

/// The fields of an entry that do not depend on sockets.
fn process(exe: &str, cmdline: &[String]) -> Map<String, Value> {
    let mut fields = Map::from_iter([
        ("exe".to_owned(), Value::from(exe)),
        ("cmdline".to_owned(), Value::from(cmdline)),
        ("cwd".to_owned(), Value::from("/")),
        ("proxy".to_owned(), Value::from("local/local")),
    ]);
    for id in ["uid", "euid", "saved_uid", "filesystem_uid", "gid", "egid", "saved_gid", "filesystem_gid"] {
        fields.insert(id.into(), 0.into());
    }
    fields
}

/// The same program with the same words has the same key on every host, as in real life.
fn key(name: &str, cmdline: &[String]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in cmdline.iter().flat_map(|word| word.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{name}:{}", digits(&mut crate::random::Random::new(hash), 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_offer_thirty_services_and_use_forty() {
        let site = DocumentSite::new(1, 1100);
        for host in [0, 20, 24, 30, 1000, 1020, 1099] {
            let services = site.services(host);
            let ports: BTreeSet<(u16, &str)> =
                services.iter().map(|service| (service.port, service.protocol)).collect();
            assert_eq!(ports.len(), SERVICES, "host {host}");
            let dependencies = site.dependencies(host);
            assert_eq!(dependencies.len(), DEPENDENCIES, "host {host}");
            for used in dependencies {
                assert_ne!(used.server, host);
                let offered = site.services(used.server);
                assert!(offered.iter().any(|service| (service.port, service.protocol) == (used.port, "tcp")));
            }
        }
    }

    #[test]
    fn tiers_use_what_is_behind_them() {
        let site = DocumentSite::new(1, 1100);
        let used = |host: usize| -> BTreeSet<Tier> {
            site.dependencies(host).iter().map(|used| site.tier(used.server)).collect()
        };
        assert_eq!(used(30), BTreeSet::from([Tier::Infra, Tier::App]), "web");
        assert_eq!(used(25), BTreeSet::from([Tier::Infra, Tier::Db]), "app");
        assert_eq!(used(20), BTreeSet::from([Tier::Infra, Tier::Db]), "db");
        assert_eq!(used(1005), BTreeSet::from([Tier::Infra]));
        let applications: BTreeSet<usize> =
            site.dependencies(1090).iter().map(|used| site.application(used.server)).collect();
        assert_eq!(applications, BTreeSet::from([50, 54]), "its own and the infrastructure before it");
    }

    #[test]
    fn all_that_is_used_is_in_the_document() {
        let site = DocumentSite::new(5, 300);
        for host in [3, 24, 33] {
            let data = tcpdiscovery(&site, host, 0);
            let addresses = |field: &str| -> BTreeSet<String> {
                let entries = data.as_object().unwrap().values();
                entries
                    .filter_map(|entry| entry[field].as_object())
                    .flat_map(|map| map.keys().cloned())
                    .collect()
            };
            let wanted: BTreeSet<String> = site
                .dependencies(host)
                .iter()
                .map(|used| format!("{}:{}", site.address(used.server), used.port))
                .collect();
            assert_eq!(addresses("clientaddrs"), wanted, "host {host}");
            let listens = addresses("listenaddrs");
            for service in site.services(host) {
                assert!(listens.contains(&format!("0.0.0.0:{}", service.port)), "host {host}: {listens:?}");
            }
        }
    }
}
