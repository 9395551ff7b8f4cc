//! A whole site as documents: what the discoveries of every host of a made-up company report, in their own shapes, and what
//! is true of it, so that answers about the graph can be checked.
//!
//! | what | how |
//! |---|---|
//! | applications | 20 hosts each: 4 of the tier `db`, 6 `app`, 10 `web`; web uses app, app uses db, db uses its fellows |
//! | infrastructure | every 50th application is 20 hosts `infra`, which the following 49 use for names, logins and logs |
//! | hosts | 30 services each, and 40 services of other hosts that they use |
//! | racks | up to 40 hosts with a switch and a subnet; the hosts of an application stand in different racks |
//! | neighbours | one host of each rack listens to ARP: all of the rack, the gateway, and two machines without a nanoprobe |
//! | containers | the first `app` host of each application runs three of its services in containers |
//!
//! One seed decides everything. A document has versions: version 0 is what is there at first, every other differs from it
//! in one thing, as a change in real life does.

#[path = "documents/host.rs"]
mod host;
#[path = "documents/network.rs"]
mod network;
#[path = "documents/services.rs"]
mod services;

use crate::random::Random;
use model::Envelope;
use serde_json::{Map, Value};
use std::net::Ipv4Addr;

pub use network::Neighbour;
pub use services::{CONTAINERS, Dependency, Service};

/// Services of each host.
pub const SERVICES: usize = 30;
/// Services of other hosts that each host uses, where the site is large enough to have them.
pub const DEPENDENCIES: usize = 40;
/// Hosts of one application.
pub const APPLICATION_HOSTS: usize = 20;
/// One application in so many is infrastructure, which the others after it use.
pub const INFRASTRUCTURE_EVERY: usize = 50;
/// Most hosts of one rack.
pub const RACK_HOSTS: usize = 40;
/// Hosts of an application that are databases, and those that are application servers; the rest is web servers.
const DB_HOSTS: usize = 4;
const APP_HOSTS: usize = 6;

/// What a host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    Infra,
    Db,
    App,
    Web,
}

impl Tier {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Infra => "infra",
            Self::Db => "db",
            Self::App => "app",
            Self::Web => "web",
        }
    }
}

/// The documents of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Os,
    Netconfig,
    Tcpdiscovery,
    Packages,
    Sshd,
    ProcSys,
    Link,
    /// Of the host of a rack that listens for all.
    Arp,
    /// Of every fifth host.
    Checksums,
    /// Of hosts with containers.
    Docker,
}

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::Os,
        Kind::Netconfig,
        Kind::Tcpdiscovery,
        Kind::Packages,
        Kind::Sshd,
        Kind::ProcSys,
        Kind::Link,
        Kind::Arp,
        Kind::Checksums,
        Kind::Docker,
    ];

    /// Discovery type, instance and description, as the discoveries have them.
    fn identity(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Os => ("os", "_init_os", "Operating system and kernel"),
            Self::Netconfig => ("netconfig", "netconfig", "Network interfaces and addresses"),
            Self::Tcpdiscovery => {
                ("tcpdiscovery", "_init_tcpdiscovery", "Network services offered and used by processes")
            }
            Self::Packages => ("packages", "_init_packages", "Installed packages"),
            Self::Sshd => ("sshd", "_init_sshd", "Configuration of the SSH server"),
            Self::ProcSys => ("proc_sys", "_auto_proc_sys", "Kernel parameters"),
            Self::Link => ("__LinkDiscovery", "#SWITCH_eth0", "Link Level Switch Discovery (lldp)"),
            Self::Arp => ("ARP", "_ARP_eth0", "ARP map"),
            Self::Checksums => ("checksums", "_auto_checksumdiscovery", "Checksums of files"),
            Self::Docker => ("docker", "_init_docker", "Docker and its running containers"),
        }
    }

    pub fn instance(self) -> &'static str {
        self.identity().1
    }
}

/// A site of `hosts` hosts, each known by its number from 0 on.
#[derive(Debug, Clone, Copy)]
pub struct DocumentSite {
    seed: u64,
    hosts: usize,
}

impl DocumentSite {
    /// At most 60,000 hosts, so that every rack has a subnet of its own.
    pub fn new(seed: u64, hosts: usize) -> Self {
        Self { seed, hosts: hosts.min(60_000) }
    }

    pub fn hosts(&self) -> usize {
        self.hosts
    }

    pub fn application(&self, host: usize) -> usize {
        host / APPLICATION_HOSTS
    }

    pub fn tier(&self, host: usize) -> Tier {
        if self.application(host).is_multiple_of(INFRASTRUCTURE_EVERY) {
            return Tier::Infra;
        }
        match host % APPLICATION_HOSTS {
            position if position < DB_HOSTS => Tier::Db,
            position if position < DB_HOSTS + APP_HOSTS => Tier::App,
            _ => Tier::Web,
        }
    }

    /// The designation, such as `web3-a0007`.
    pub fn name(&self, host: usize) -> String {
        let tier = self.tier(host).as_str();
        format!("{tier}{}-a{:04}", host % APPLICATION_HOSTS, self.application(host))
    }

    pub fn racks(&self) -> usize {
        self.hosts.div_ceil(RACK_HOSTS).max(1)
    }

    /// Number of its rack, and of its place there.
    pub fn place(&self, host: usize) -> (usize, usize) {
        (host % self.racks(), host / self.racks())
    }

    /// The hosts of a rack, from the lowest place up.
    pub fn in_rack(&self, rack: usize) -> impl Iterator<Item = usize> {
        (rack..self.hosts).step_by(self.racks())
    }

    pub fn address(&self, host: usize) -> Ipv4Addr {
        let (rack, slot) = self.place(host);
        in_subnet(rack, 10 + slot)
    }

    /// Lower case with dashes.
    pub fn macaddr(&self, host: usize) -> String {
        macaddr([0x00, 0x16, 0x3e], host)
    }

    /// The infrastructure that a host uses, itself left out.
    pub fn infrastructure(&self, host: usize) -> Vec<usize> {
        let application = self.application(host);
        self.members(application - application % INFRASTRUCTURE_EVERY)
            .filter(|other| *other != host)
            .collect()
    }

    /// The documents that a host has.
    pub fn kinds(&self, host: usize) -> Vec<Kind> {
        let has = |kind: &Kind| match kind {
            Kind::Arp => self.listens(host),
            Kind::Checksums => host.is_multiple_of(5),
            Kind::Docker => self.has_containers(host),
            _ => true,
        };
        Kind::ALL.into_iter().filter(has).collect()
    }

    /// Whether the host listens to ARP for its rack.
    pub fn listens(&self, host: usize) -> bool {
        self.place(host).1 == 0
    }

    pub fn has_containers(&self, host: usize) -> bool {
        self.tier(host) == Tier::App && host % APPLICATION_HOSTS == DB_HOSTS
    }

    /// A document as a nanoprobe sends it. Version 0 is the first one.
    pub fn document(&self, host: usize, kind: Kind, version: u32) -> Envelope {
        let mut extras = Map::new();
        let data = match kind {
            Kind::Os => host::os(self, host, version),
            Kind::Netconfig => host::netconfig(self, host, version),
            Kind::Packages => {
                extras.insert("packagetypes".into(), host::packagetypes());
                host::packages(self, host, version)
            }
            Kind::Sshd => host::sshd(version),
            Kind::ProcSys => host::proc_sys(self, host, version),
            Kind::Checksums => {
                extras.insert("sumcmd".into(), "/usr/bin/sha256sum".into());
                host::checksums(self, host, version)
            }
            Kind::Link => network::link(self, host, version),
            Kind::Arp => {
                extras.insert("device".into(), "eth0".into());
                network::arp(self, host, version)
            }
            Kind::Tcpdiscovery | Kind::Docker => {
                extras.insert("addresses".into(), services::own_addresses(self, host));
                match kind {
                    Kind::Docker => services::docker(self, host, version),
                    _ => services::tcpdiscovery(self, host, version),
                }
            }
        };
        let (discovertype, instance, description) = kind.identity();
        Envelope {
            discovertype: discovertype.into(),
            description: description.into(),
            host: self.name(host),
            source: "nanoprobe".into(),
            instance: instance.into(),
            proxy: "local/local".into(),
            data,
            errors: Vec::new(),
            extras,
        }
    }

    fn members(&self, application: usize) -> impl Iterator<Item = usize> + use<> {
        let first = application * APPLICATION_HOSTS;
        first.min(self.hosts)..(first + APPLICATION_HOSTS).min(self.hosts)
    }

    /// A stream of chance for one thing about one host, the same whatever was asked before.
    fn random(&self, host: usize, about: u64) -> Random {
        let mut mixed = Random::new(self.seed ^ about.rotate_left(40));
        Random::new(mixed.word() ^ host as u64)
    }
}

/// An address in the subnet of a rack.
fn in_subnet(rack: usize, number: usize) -> Ipv4Addr {
    // The caller's numbers are bounded by `DocumentSite::new`; a wrong one shows as an address used twice.
    Ipv4Addr::new(10, 1 + (rack / 256) as u8, (rack % 256) as u8, number as u8)
}

fn macaddr(vendor: [u8; 3], number: usize) -> String {
    let [_, a, b, c] = (number as u32).to_be_bytes();
    let [x, y, z] = vendor;
    format!("{x:02x}-{y:02x}-{z:02x}-{a:02x}-{b:02x}-{c:02x}")
}

/// `count` hexadecimal digits that look like a hash.
fn digits(random: &mut Random, count: usize) -> String {
    let mut text = String::with_capacity(count + 16);
    while text.len() < count {
        text.push_str(&format!("{:016x}", random.word()));
    }
    text.truncate(count);
    text
}

fn object(fields: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value::Object(fields.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_same_seed_gives_the_same_documents_and_another_gives_others() {
        let text = |seed, host, kind| DocumentSite::new(seed, 300).document(host, kind, 0).canonical();
        for kind in Kind::ALL {
            // Host 24 has containers, host 5 checksums, host 3 listens.
            let host = match kind {
                Kind::Docker => 24,
                Kind::Checksums => 5,
                _ => 3,
            };
            assert_eq!(text(1, host, kind), text(1, host, kind), "{kind:?}");
        }
        assert_ne!(text(1, 30, Kind::Tcpdiscovery), text(2, 30, Kind::Tcpdiscovery));
        assert_ne!(text(1, 30, Kind::Tcpdiscovery), text(1, 31, Kind::Tcpdiscovery));
    }

    #[test]
    fn each_version_is_another_document_of_about_the_same_size() {
        let site = DocumentSite::new(7, 300);
        for kind in Kind::ALL {
            let host = (0..300).find(|host| site.kinds(*host).contains(&kind)).unwrap();
            let texts: Vec<String> =
                (0..4).map(|version| site.document(host, kind, version).canonical()).collect();
            let distinct: BTreeSet<&String> = texts.iter().collect();
            assert_eq!(distinct.len(), texts.len(), "{kind:?}");
            let sizes = texts.iter().map(String::len);
            let (least, most) = (sizes.clone().min().unwrap(), sizes.max().unwrap());
            assert!(most - least < 200 + least / 10, "{kind:?}: {least} to {most} bytes");
        }
    }

    #[test]
    fn no_two_hosts_share_a_name_an_address_or_a_place() {
        for hosts in [1, 19, 300, 10_000] {
            let site = DocumentSite::new(3, hosts);
            let distinct = |of: &dyn Fn(usize) -> String| (0..hosts).map(of).collect::<BTreeSet<_>>().len();
            assert_eq!(distinct(&|host| site.name(host)), hosts);
            assert_eq!(distinct(&|host| site.address(host).to_string()), hosts);
            assert_eq!(distinct(&|host| site.macaddr(host)), hosts);
            assert_eq!((0..site.racks()).map(|rack| site.in_rack(rack).count()).sum::<usize>(), hosts);
            assert!((0..hosts).all(|host| site.place(host).1 < RACK_HOSTS));
        }
    }
}
