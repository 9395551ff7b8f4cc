//! The switch at the other end of each cable, as it tells by itself: LLDP (IEEE 802.1AB) and CDP.
//!
//! A running nanoprobe listens on each interface and makes a document when something changes; nothing is sent, and no interface
//! is made promiscuous. By hand, `nanoprobe discover switch --pcap FILE` decodes a capture (pcap or pcapng, `-` is standard
//! input) into one document for each LLDP or CDP frame. The type in documents is `__LinkDiscovery`, the instance
//! `#SWITCH_<interface>`. `data` is one neighbour; further ones of the same interface are in `neighbours`, in the same shape:
//!
//! | field | value |
//! |---|---|
//! | `ChassisId` | identity of the device: a MAC address (lower case with dashes), an IP address or a text; CDP: the device id |
//! | `ChassisIdSubtype` | LLDP: `component`, `alias`, `port`, `mac`, `network`, `ifname`, `local` |
//! | `SystemName`, `SystemDescription` | texts of LLDP; CDP has `SystemVersion`, `SystemPlatform`, sometimes `SystemName` |
//! | `SystemCapabilities` | LLDP: role → whether it is enabled; CDP: list of roles |
//! | `ManagementAddress` | LLDP: an address, the first IP address if there is one; CDP: list |
//! | `ManagementAddresses` | LLDP: all of them, `{address, numbering?, interface?, object?}` |
//! | `SystemAddress` | CDP: list of addresses |
//! | `hardware_revision`, `firmware_revision`, `software_revision`, `serial_number`, `manufacturer`, `model`, `asset_id` | LLDP-MED inventory |
//! | `med_capabilities`, `med_class` | LLDP-MED: list of texts; kind of endpoint |
//! | `VLANManagementDomain`, `CdpVersion`, `SystemObjectId`, `Location`, `IpPrefixes`, `DefaultGateway`, `ProtocolHello` | CDP |
//! | `CdpDeviceId` | what CDP calls a device that is known by LLDP |
//! | `protocols` | list of `lldp`, `cdp`: by what it was heard |
//! | `unknown_tlvs`, `unknown_tlvs_left_out` | elements that are not known here; how many more there were |
//! | `ports` | port id → object, with one entry |
//!
//! Fields of the port: `ConnectsToHost`, `ConnectsToInterface`, `PortId`, `PortIdSubtype`, `CdpPortId`, `sourceMAC`,
//! `PortDescription`; VLANs `pvid`, `vid`, `vlan_name`, `vlans`, `ppvid`, `pp_vlan_capable`, `pp_vlan_enabled`, `protocol_vlans`,
//! `management_vid`, `vid_usage_digest`, CDP `VlanId`, `VoiceVlanId`, `VoiceVlanQuery`; link `autoneg_supported`, `autoneg_enabled`,
//! `autoneg_advertised`, `speed` (Mbit/s), `duplex` (`full`, `half`), `media` (`1000BASE-T`), `mau_type`, `mtu` (LLDP: the largest
//! frame in bytes), `aggregation_capable`, `aggregation_enabled`, `aggregation_port`, `energy_efficient_ethernet`,
//! `protocol_identities`; power `power`, `med_power`, CDP `PortPower`, `PowerRequested`, `PowerAvailable` (milliwatts); LLDP-MED
//! `policies`, `location`; CDP `CiscoTrustBitmap`, `CiscoUnTrustedPortCOS`, `ExternalPortId`, `unidirectional`.
//!
//! ```json
//! {"ChassisId":"00-11-22-33-44-55","ChassisIdSubtype":"mac","SystemName":"sw1","SystemCapabilities":{"bridge":true,"router":false},
//!  "ManagementAddress":"10.0.0.2","ManagementAddresses":[{"address":"10.0.0.2"}],"protocols":["lldp"],"ports":{"g7":
//!  {"ConnectsToHost":"web1","ConnectsToInterface":"eth0","PortId":"g7","PortIdSubtype":"ifname","sourceMAC":"00-11-22-33-44-5c",
//!  "pvid":10,"speed":1000,"duplex":"full","media":"1000BASE-T","mau_type":30}}}
//! ```

#[path = "switch/graph.rs"]
mod graph;

use crate::{Collected, Discovery, Host, Parameter, Parameters, Schedule, Trigger, documentation, link};
use serde_json::json;

pub static DISCOVERY: Discovery = Discovery {
    name: "switch",
    description: "The switch and other neighbours on each interface (LLDP, CDP)",
    documentation: documentation::SWITCH,
    parameters: &[Parameter {
        name: "device",
        meaning: "interface that a capture (--pcap) was made on",
        default: "pcap",
    }],
    instances: &[],
    schedule: Schedule { repeat_seconds: 0, ..Schedule::DEFAULT },
    trigger: Trigger::None,
    collect,
    graph: graph::graph,
};

/// What documents call it.
pub const DISCOVERTYPE: &str = link::LINK_TYPE;

fn collect(_: &Host, _: &Parameters) -> Collected {
    Collected::new(json!({
        "NODATA": "switches are heard by a running nanoprobe; by hand `nanoprobe discover switch --pcap FILE` decodes a capture"
    }))
}
