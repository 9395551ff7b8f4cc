//! LLDP-MED (ANSI/TIA-1057): class of endpoint, network policies, where it stands, power, inventory.

use super::super::{Told, text};
use super::{Bytes, civic, ieee8023};
use serde_json::{Value, json};

const CAPABILITIES: [&str; 6] =
    ["capabilities", "network policy", "location", "power source", "power device", "inventory"];
/// From 1 on.
const APPLICATIONS: [&str; 8] = [
    "voice",
    "voice signaling",
    "guest voice",
    "guest voice signaling",
    "softphone voice",
    "video conferencing",
    "streaming video",
    "video signaling",
];
/// From subtype 5 on.
const INVENTORY: [&str; 7] = [
    "hardware_revision",
    "firmware_revision",
    "software_revision",
    "serial_number",
    "manufacturer",
    "model",
    "asset_id",
];

/// `Some(false)`: of no subtype that is known here; `None`: malformed.
pub fn read(subtype: u8, mut bytes: Bytes<'_>, told: &mut Told) -> Option<bool> {
    match subtype {
        1 => {
            let (capabilities, class) = (bytes.u16()?, bytes.u8()?);
            let names = CAPABILITIES.iter().enumerate().filter(|(bit, _)| capabilities >> bit & 1 == 1);
            told.put("med_capabilities", names.map(|(_, name)| *name).collect::<Vec<_>>());
            let class = match class {
                1 => "endpoint class I".to_owned(),
                2 => "endpoint class II".to_owned(),
                3 => "endpoint class III".to_owned(),
                4 => "network connectivity".to_owned(),
                other => format!("class {other}"),
            };
            told.put("med_class", class);
        }
        2 => {
            let (application, bits) = (bytes.u8()?, bytes.u24()?);
            let name = APPLICATIONS.get(usize::from(application).wrapping_sub(1));
            let policy = json!({
                "application": name.map_or_else(|| application.to_string(), |name| (*name).to_owned()),
                "unknown": bits >> 23 & 1 == 1,
                "tagged": bits >> 22 & 1 == 1,
                "vlan": bits >> 9 & 0xfff,
                "priority": bits >> 6 & 7,
                "dscp": bits & 0x3f,
            });
            told.add_port("policies", policy);
        }
        3 => {
            let format = bytes.u8()?;
            let (name, location) = match format {
                1 => ("coordinates", civic::coordinates(bytes)?),
                2 => ("civic", civic::address(bytes)?),
                3 => ("elin", text::identity(bytes.rest()).into()),
                _ => return Some(false),
            };
            let mut all = match told.of_port.remove("location") {
                Some(Value::Object(all)) => all,
                _ => serde_json::Map::new(),
            };
            all.insert(name.into(), location);
            told.put_port("location", Value::Object(all));
        }
        4 => {
            let (kind, tenths) = (bytes.u8()?, bytes.u16()?);
            let is_device = kind >> 6 == 1;
            let role = match kind >> 6 {
                0 => "PSE",
                1 => "PD",
                _ => "unknown",
            };
            let power = json!({
                "type": role,
                "source": ieee8023::source(is_device, kind >> 4 & 3),
                "priority": ieee8023::priority(kind & 0x0f),
                "milliwatts": u32::from(tenths) * 100,
            });
            told.put_port("med_power", power);
        }
        5..=11 => {
            let name = INVENTORY.get(usize::from(subtype - 5))?;
            told.put(name, text::free(bytes.rest()));
        }
        _ => return Some(false),
    }
    Some(true)
}
