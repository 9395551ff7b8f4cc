//! The TLVs of IEEE 802.1 (802.1Q-2018 annex D): VLANs, protocols, link aggregation.

use super::super::{Told, text};
use super::Bytes;
use serde_json::{Value, json};

/// `Some(false)`: of no subtype that is known here; `None`: malformed.
pub fn read(subtype: u8, mut bytes: Bytes<'_>, told: &mut Told) -> Option<bool> {
    match subtype {
        1 => told.put_port("pvid", bytes.u16()?),
        2 => {
            let (flags, vlan) = (bytes.u8()?, bytes.u16()?);
            let entry = json!({"ppvid": vlan, "capable": flags & 2 != 0, "enabled": flags & 4 != 0});
            told.add_port("protocol_vlans", entry);
        }
        3 => {
            let vlan = bytes.u16()?;
            let length = usize::from(bytes.u8()?);
            told.add_port("vlans", json!({"vid": vlan, "name": text::identity(bytes.take(length)?)}));
        }
        4 => {
            let length = usize::from(bytes.u8()?);
            let protocol = bytes.take(length)?;
            if !protocol.is_empty() {
                told.add_port("protocol_identities", text::hex(protocol).into());
            }
        }
        5 => told.put_port("vid_usage_digest", format!("{:08x}", bytes.u32()?)),
        6 => told.put_port("management_vid", bytes.u16()?),
        7 => aggregation(bytes, told)?,
        _ => return Some(false),
    }
    Some(true)
}

/// Also subtype 3 of 802.3, where it stood before.
pub fn aggregation(mut bytes: Bytes<'_>, told: &mut Told) -> Option<()> {
    let (status, port) = (bytes.u8()?, bytes.u32()?);
    told.put_port("aggregation_capable", status & 1 != 0);
    told.put_port("aggregation_enabled", status & 2 != 0);
    if status & 2 != 0 {
        told.put_port("aggregation_port", port);
    }
    Some(())
}

/// Of several VLANs the untagged one, otherwise the first, is the one whose number and name stand alone; of several
/// protocol VLANs the first.
pub fn summarise(told: &mut Told) {
    let list = |name: &str| told.of_port.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let (vlans, protocol_vlans) = (list("vlans"), list("protocol_vlans"));
    let untagged = told.of_port.get("pvid").cloned();
    let chosen = vlans.iter().find(|vlan| Some(&vlan["vid"]) == untagged.as_ref()).or(vlans.first());
    if let Some(vlan) = chosen {
        told.put_port("vid", vlan["vid"].clone());
        told.put_port("vlan_name", vlan["name"].clone());
    }
    if let Some(vlan) = protocol_vlans.first() {
        told.put_port("ppvid", vlan["ppvid"].clone());
        told.put_port("pp_vlan_capable", vlan["capable"].clone());
        told.put_port("pp_vlan_enabled", vlan["enabled"].clone());
    }
}
