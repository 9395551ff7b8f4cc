//! The TLVs of IEEE 802.3 (clause 79): speed and duplex, power, link aggregation, largest frame, energy.

use super::super::Told;
use super::{Bytes, ieee8021, mau};
use serde_json::{Map, Value, json};

/// `ifMauAutoNegCapAdvertisedBits` of RFC 4836, from the highest bit on.
const ADVERTISED: [&str; 16] = [
    "other",
    "10BASE-T half",
    "10BASE-T full",
    "100BASE-T4",
    "100BASE-TX half",
    "100BASE-TX full",
    "100BASE-T2 half",
    "100BASE-T2 full",
    "PAUSE",
    "asymmetric PAUSE",
    "symmetric PAUSE",
    "asymmetric and symmetric PAUSE",
    "1000BASE-X half",
    "1000BASE-X full",
    "1000BASE-T half",
    "1000BASE-T full",
];

/// Types of 802.3bt.
const EXTENDED_TYPES: [&str; 6] = [
    "type 3 PSE",
    "type 4 PSE",
    "type 3 single-signature PD",
    "type 3 dual-signature PD",
    "type 4 single-signature PD",
    "type 4 dual-signature PD",
];

/// `Some(false)`: of no subtype that is known here; `None`: malformed.
pub fn read(subtype: u8, mut bytes: Bytes<'_>, told: &mut Told) -> Option<bool> {
    match subtype {
        1 => link(bytes, told)?,
        2 => {
            let power = power(bytes)?;
            told.put_port("power", power);
        }
        3 => ieee8021::aggregation(bytes, told)?,
        4 => told.put_port("mtu", bytes.u16()?),
        5 => {
            let (transmit, receive, fallback) = (bytes.u16()?, bytes.u16()?, bytes.u16()?);
            let eee = json!({"transmit_wake_microseconds": transmit, "receive_wake_microseconds": receive,
                "fallback_wake_microseconds": fallback});
            told.put_port("energy_efficient_ethernet", eee);
        }
        _ => return Some(false),
    }
    Some(true)
}

/// 79.3.1: autonegotiation, what is advertised by it, and the operational MAU type.
fn link(mut bytes: Bytes<'_>, told: &mut Told) -> Option<()> {
    let (status, advertised, mau_type) = (bytes.u8()?, bytes.u16()?, bytes.u16()?);
    told.put_port("autoneg_supported", status & 1 != 0);
    told.put_port("autoneg_enabled", status & 2 != 0);
    let names: Vec<&str> = (0..16)
        .filter(|bit| advertised & (0x8000 >> bit) != 0)
        .filter_map(|bit: usize| ADVERTISED.get(bit).copied())
        .collect();
    if !names.is_empty() {
        told.put_port("autoneg_advertised", names);
    }
    told.put_port("mau_type", mau_type);
    if let Some(mau) = mau::of(mau_type) {
        told.put_port("media", mau.media);
        if mau.speed_mbits > 0 {
            told.put_port("speed", mau.speed_mbits);
        }
        if let Some(duplex) = mau.duplex() {
            told.put_port("duplex", duplex);
        }
    }
    Some(())
}

/// 79.3.2: three bytes at first, five more since 802.3at, seventeen more since 802.3bt.
fn power(mut bytes: Bytes<'_>) -> Option<Value> {
    let (support, pairs, class) = (bytes.u8()?, bytes.u8()?, bytes.u8()?);
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.into(), value));
    put("port_class", if support & 1 != 0 { "PSE" } else { "PD" }.into());
    put("supported", (support & 2 != 0).into());
    put("enabled", (support & 4 != 0).into());
    put("pair_control", (support & 8 != 0).into());
    match pairs {
        1 => put("pairs", "signal".into()),
        2 => put("pairs", "spare".into()),
        _ => {}
    }
    // Told as the class and one.
    if (1..=5).contains(&class) {
        put("class", (class - 1).into());
    }
    if let (Some(kind), Some(requested), Some(allocated)) = (bytes.u8(), bytes.u16(), bytes.u16()) {
        let is_device = kind & 0x40 != 0;
        let number = if kind & 0x80 == 0 { 2 } else { 1 };
        put("type", format!("type {number} {}", if is_device { "PD" } else { "PSE" }).into());
        put("source", source(is_device, kind >> 4 & 3).into());
        put("priority", priority(kind & 3).into());
        put("requested_milliwatts", (u32::from(requested) * 100).into());
        put("allocated_milliwatts", (u32::from(allocated) * 100).into());
    }
    // Requests and allocations of the two pairs of pairs, status, setup, what the source could give.
    if let (Some(pairs), Some(status), Some(setup), Some(available)) =
        (bytes.array::<8>(), bytes.u16(), bytes.u8(), bytes.u16())
    {
        let tenths = |at: usize| u32::from(u16::from_be_bytes([pairs[at], pairs[at + 1]])) * 100;
        for (name, value) in [
            ("requested_a_milliwatts", tenths(0)),
            ("requested_b_milliwatts", tenths(2)),
            ("allocated_a_milliwatts", tenths(4)),
            ("allocated_b_milliwatts", tenths(6)),
            ("available_milliwatts", u32::from(available) * 100),
        ] {
            if value > 0 {
                put(name, value.into());
            }
        }
        let extended = status & 0x0f;
        if (1..=8).contains(&extended) {
            put("extended_class", extended.into());
        }
        if let Some(kind) = EXTENDED_TYPES.get(usize::from(setup >> 1 & 7)) {
            put("type", (*kind).into());
        }
    }
    Some(Value::Object(fields))
}

/// Of the same code in 802.3at and, for the first three, in LLDP-MED.
pub fn source(is_device: bool, code: u8) -> &'static str {
    match (is_device, code) {
        (true, 1) => "PSE",
        (true, 2) => "local",
        (true, 3) => "PSE and local",
        (false, 1) => "primary",
        (false, 2) => "backup",
        _ => "unknown",
    }
}

pub fn priority(code: u8) -> &'static str {
    match code {
        1 => "critical",
        2 => "high",
        3 => "low",
        _ => "unknown",
    }
}
