//! What the network tells: the switch at the other end of the cable, and who answers ARP in the subnet.

use super::{DocumentSite, in_subnet, macaddr, object};
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// Something with an address that has no nanoprobe.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    pub address: Ipv4Addr,
    /// Lower case with dashes.
    pub macaddr: String,
}

impl DocumentSite {
    /// What answers ARP in a rack and is no host of the site: the gateway and two machines that nobody looks after.
    pub fn strangers(&self, rack: usize) -> Vec<Neighbour> {
        let of = |number: usize, vendor, index| Neighbour {
            address: in_subnet(rack, number),
            macaddr: macaddr(vendor, index),
        };
        vec![
            of(1, [0x00, 0x00, 0x0c], rack),
            of(200, [0x00, 0x1b, 0x78], 2 * rack),
            of(201, [0x00, 0x1b, 0x78], 2 * rack + 1),
        ]
    }

    /// The chassis id of the switch of a rack.
    pub fn chassis(&self, rack: usize) -> String {
        macaddr([0x00, 0x1c, 0x73], rack << 8)
    }

    /// The switch port that a host is plugged into.
    pub fn port(&self, host: usize) -> String {
        format!("Ethernet{}", self.place(host).1 + 1)
    }
}

pub fn link(site: &DocumentSite, host: usize, version: u32) -> Value {
    let (rack, slot) = site.place(host);
    let port = site.port(host);
    let fields = json!({
        "ConnectsToHost": site.name(host), "ConnectsToInterface": "eth0",
        "PortId": port, "PortDescription": format!("to {}", site.name(host)),
        "sourceMAC": macaddr([0x00, 0x1c, 0x73], (rack << 8) + slot + 1),
        // The one thing that changes: somebody moves the host to another VLAN.
        "pvid": 100 + rack % 1000 + version as usize, "mtu": 9236, "speed": 10_000, "duplex": "full",
        "autoneg_supported": true, "autoneg_enabled": true, "media": "10GBASE-T",
    });
    let address = Ipv4Addr::new(10, 250, (rack / 256) as u8, (rack % 256) as u8);
    json!({
        "ChassisId": site.chassis(rack), "SystemName": format!("sw-r{rack:04}"),
        "SystemDescription": "Arista Networks EOS version 4.28.3M running on an Arista Networks DCS-7050TX-64",
        "SystemCapabilities": {"bridge": true, "router": false}, "ManagementAddress": address.to_string(),
        "ports": object([(port, fields)]),
    })
}

/// All of the rack but the listener itself; with each version one more stranger, who was not there before.
pub fn arp(site: &DocumentSite, host: usize, version: u32) -> Value {
    let (rack, _) = site.place(host);
    let fellows = site.in_rack(rack).filter(|other| *other != host);
    let mut all: Vec<Neighbour> = fellows
        .map(|other| Neighbour { address: site.address(other), macaddr: site.macaddr(other) })
        .chain(site.strangers(rack))
        .collect();
    if version > 0 {
        let number = version as usize % 40;
        all.push(Neighbour {
            address: in_subnet(rack, 210 + number),
            macaddr: macaddr([0x00, 0x1b, 0x78], (1 << 20) + (rack << 6) + number),
        });
    }
    object(all.into_iter().map(|one| (one.address.to_string(), Value::from(one.macaddr))))
}
