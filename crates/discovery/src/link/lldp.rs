//! LLDP data units (IEEE 802.1AB-2016 clauses 8 and 9) with the extensions of 802.1, 802.3 and LLDP-MED.

mod civic;
mod ieee8021;
mod ieee8023;
mod mau;
mod med;

use super::bytes::Bytes;
use super::{Told, text};
use serde_json::{Map, Value, json};

const END: u8 = 0;
const CHASSIS_ID: u8 = 1;
const PORT_ID: u8 = 2;
const TIME_TO_LIVE: u8 = 3;
const ORGANISATION: u8 = 127;

const OUI_8021: [u8; 3] = [0x00, 0x80, 0xc2];
const OUI_8023: [u8; 3] = [0x00, 0x12, 0x0f];
const OUI_MED: [u8; 3] = [0x00, 0x12, 0xbb];

/// 802.1AB table 8-4 from bit 0 on; a word has two more bytes than names.
const CAPABILITIES: [&str; 11] = [
    "other", "repeater", "bridge", "WLANAP", "router", "phone", "DOCSIS", "station", "CVLAN", "SVLAN", "TPMR",
];

/// A TLV: its type and its content.
struct Element<'a> {
    kind: u8,
    value: &'a [u8],
}

/// Reads a data unit. The first three TLVs must be chassis id, port id and time to live, each once, and the last one the end;
/// of a unit that was cut by a capture what is whole is read. The error is a sentence.
pub fn read(unit: &[u8], is_cut: bool) -> Result<Told, String> {
    let elements = split(unit, is_cut)?;
    let mut told = Told::default();
    let [chassis, port, time, rest @ ..] = elements.as_slice() else {
        return Err(format!("it has {} TLVs, too few to say who sent it", elements.len()));
    };
    for (element, kind, place) in
        [(chassis, CHASSIS_ID, "first"), (port, PORT_ID, "second"), (time, TIME_TO_LIVE, "third")]
    {
        if element.kind != kind {
            return Err(format!("its {place} TLV has the type {}, not {kind}", element.kind));
        }
    }
    told.chassis = chassis_id(chassis.value, &mut told)?;
    told.port = port_id(port.value, &mut told)?;
    told.ttl_seconds = Bytes(time.value).u16().ok_or("its time to live has no two bytes")?;
    let mut seen = [false; 128];
    for element in rest {
        let kind = usize::from(element.kind & 0x7f);
        let may_repeat = element.kind > 7;
        if std::mem::replace(&mut seen[kind], true) && !may_repeat {
            told.error(format!("a second TLV of type {kind}: the first one counts"));
            continue;
        }
        if matches!(element.kind, CHASSIS_ID | PORT_ID | TIME_TO_LIVE) {
            return Err(format!("it has a second TLV of type {kind}"));
        }
        if basic(element, &mut told).is_none() {
            let of = match element.value {
                [a, b, c, subtype, ..] if element.kind == ORGANISATION => {
                    format!(" ({}, {subtype})", text::dashed(&[*a, *b, *c]))
                }
                _ => String::new(),
            };
            told.error(format!(
                "the TLV of type {kind}{of} is too short or contradicts itself: it is left out"
            ));
        }
    }
    summarise(&mut told);
    Ok(told)
}

/// The TLVs before the end.
fn split(unit: &[u8], is_cut: bool) -> Result<Vec<Element<'_>>, String> {
    let mut bytes = Bytes(unit);
    let mut elements = Vec::new();
    loop {
        let Some(header) = bytes.u16() else {
            return if is_cut { Ok(elements) } else { Err("it has no end".into()) };
        };
        // Seven bits of type, nine of length.
        let kind = (header >> 9) as u8;
        let length = usize::from(header & 0x1ff);
        if kind == END {
            return Ok(elements);
        }
        match bytes.take(length) {
            Some(value) => elements.push(Element { kind, value }),
            None if is_cut => return Ok(elements),
            None => return Err(format!("a TLV of type {kind} is longer than what is left of the frame")),
        }
    }
}

/// Table 8-2.
fn chassis_id(value: &[u8], told: &mut Told) -> Result<String, String> {
    let kinds = ["", "component", "alias", "port", "mac", "network", "ifname", "local"];
    identity(value, &kinds, "ChassisIdSubtype", "chassis id", &mut told.device)
}

/// Table 8-3.
fn port_id(value: &[u8], told: &mut Told) -> Result<String, String> {
    let kinds = ["", "alias", "component", "mac", "network", "ifname", "agent", "local"];
    identity(value, &kinds, "PortIdSubtype", "port id", &mut told.of_port)
}

/// An id by its subtype, whose name goes to `fields`. What is no address in spite of its subtype is told by its bytes.
fn identity(
    value: &[u8],
    kinds: &[&str],
    field: &str,
    what: &str,
    fields: &mut Map<String, Value>,
) -> Result<String, String> {
    let (subtype, bytes) = value.split_first().ok_or_else(|| format!("its {what} is empty"))?;
    if bytes.is_empty() || bytes.len() > 255 {
        return Err(format!("its {what} has {} bytes, not 1 to 255", bytes.len()));
    }
    let kind = kinds.get(usize::from(*subtype)).filter(|kind| !kind.is_empty());
    let id = match kind.copied() {
        Some("mac") => text::address(6, bytes).unwrap_or_else(|| text::hex(bytes)),
        Some("network") => text::address(bytes[0], &bytes[1..])
            .filter(|id| !id.is_empty())
            .unwrap_or_else(|| text::hex(bytes)),
        // Some put the six bytes of an address where a text belongs.
        _ if bytes.len() == 6 && bytes.iter().any(|byte| !(b' '..=b'~').contains(byte)) => {
            text::dashed(bytes)
        }
        _ => text::identity(bytes),
    };
    if id.is_empty() {
        return Err(format!("its {what} is blank"));
    }
    fields.insert(field.into(), kind.map_or_else(|| subtype.to_string(), |kind| (*kind).to_owned()).into());
    Ok(id)
}

/// One TLV after the first three. `None`: its content is not what its type asks for.
fn basic(element: &Element<'_>, told: &mut Told) -> Option<()> {
    let mut bytes = Bytes(element.value);
    match element.kind {
        4 => told.put_port("PortDescription", text::free(element.value)),
        5 => told.put("SystemName", text::free(element.value)),
        6 => told.put("SystemDescription", text::free(element.value)),
        7 => {
            let (supported, enabled) = (bytes.u16()?, bytes.u16()?);
            told.put("SystemCapabilities", capabilities(supported, enabled));
        }
        8 => add_management_address(bytes, told)?,
        ORGANISATION => organisation(bytes, told)?,
        kind => told.unknown.add(Map::from_iter([("type".to_owned(), kind.into())]), element.value),
    }
    Some(())
}

/// Role → whether it is enabled. What a device does without saying that it can is a role as well.
fn capabilities(supported: u16, enabled: u16) -> Value {
    let roles = CAPABILITIES.iter().enumerate().filter(|(bit, _)| (supported | enabled) >> bit & 1 == 1);
    roles.map(|(bit, role)| ((*role).to_owned(), Value::from(enabled >> bit & 1 == 1))).collect()
}

/// 8.5.9: address, number of the interface, object identifier.
fn add_management_address(mut bytes: Bytes<'_>, told: &mut Told) -> Option<()> {
    let length = usize::from(bytes.u8()?);
    let (family, address) = bytes.take(length)?.split_first()?;
    let address = text::address(*family, address).filter(|address| !address.is_empty())?;
    let mut fields = Map::from_iter([("address".to_owned(), Value::from(address))]);
    let (numbering, number) = (bytes.u8()?, bytes.u32()?);
    let numbering = match numbering {
        2 => Some("ifIndex"),
        3 => Some("port"),
        // 1 is unknown, the rest is reserved.
        _ => None,
    };
    if let Some(numbering) = numbering {
        fields.insert("numbering".into(), numbering.into());
        fields.insert("interface".into(), number.into());
    }
    let length = usize::from(bytes.u8()?);
    let object = bytes.take(length)?;
    if !object.is_empty() {
        let id = text::object_identifier(object).unwrap_or_else(|| text::hex(object));
        fields.insert("object".into(), id.into());
    }
    super::add(&mut told.device, "ManagementAddresses", Value::Object(fields));
    Some(())
}

fn organisation(mut bytes: Bytes<'_>, told: &mut Told) -> Option<()> {
    let oui: [u8; 3] = bytes.array()?;
    let subtype = bytes.u8()?;
    let known = match oui {
        OUI_8021 => ieee8021::read(subtype, bytes, told)?,
        OUI_8023 => ieee8023::read(subtype, bytes, told)?,
        OUI_MED => med::read(subtype, bytes, told)?,
        _ => false,
    };
    if !known {
        let fields = json!({"oui": text::dashed(&oui), "subtype": subtype});
        told.unknown.add(fields.as_object().cloned().unwrap_or_default(), bytes.rest());
    }
    Some(())
}

/// The one address, VLAN and protocol VLAN that stand for the lists where only one is asked for.
fn summarise(told: &mut Told) {
    let addresses = told.device.get("ManagementAddresses").and_then(Value::as_array);
    let is_ip = |entry: &&Value| {
        entry["address"].as_str().is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok())
    };
    let chosen = addresses.and_then(|list| list.iter().find(is_ip).or(list.first()));
    if let Some(address) = chosen.map(|entry| entry["address"].clone()) {
        told.put("ManagementAddress", address);
    }
    ieee8021::summarise(told);
}
