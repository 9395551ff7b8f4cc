//! Cisco's discovery protocol, versions 1 and 2, as its vendor and those who had to read it describe it.

use super::bytes::Bytes;
use super::{Told, text};
use serde_json::{Map, Value, json};
use std::net::Ipv4Addr;

/// What is sent names itself 1 or 2; receivers have always taken a little more.
const VERSIONS: std::ops::RangeInclusive<u8> = 1..=4;
/// Bits of the capabilities, from 0 on.
const CAPABILITIES: [&str; 11] = [
    "router",
    "tb_bridge",
    "srcbridge",
    "bridge",
    "host",
    "igmp-filter",
    "repeater",
    "phone",
    "remotely-managed",
    "cvta",
    "two-port-relay",
];
/// 802.2 with SNAP: the protocol of IPv6 addresses.
const IPV6: [u8; 8] = [0xaa, 0xaa, 0x03, 0x00, 0x00, 0x00, 0x86, 0xdd];
const IPV4: [u8; 1] = [0xcc];

/// Reads what follows the SNAP header. Device id and port id must be there; of a packet that was cut by a capture what is whole
/// is read. The error is a sentence.
pub fn read(packet: &[u8], is_cut: bool) -> Result<Told, String> {
    let mut bytes = Bytes(packet);
    let too_short = || format!("{} bytes are too few for its header", packet.len());
    let version = bytes.u8().ok_or_else(too_short)?;
    let ttl_seconds = bytes.u8().ok_or_else(too_short)?;
    bytes.u16().ok_or_else(too_short)?;
    if !VERSIONS.contains(&version) {
        return Err(format!("version {version} of the protocol is not known"));
    }
    let mut told = Told { ttl_seconds: ttl_seconds.into(), ..Told::default() };
    told.put("CdpVersion", version);
    if !is_cut && !checksum_fits(packet) {
        told.error("the checksum of the CDP packet is wrong: it may have been damaged on its way".into());
    }
    while let Some((kind, value)) = next(&mut bytes, is_cut)? {
        if element(kind, value, &mut told).is_none() {
            told.error(format!("the TLV of type {kind} is too short or contradicts itself: it is left out"));
        }
    }
    if told.chassis.is_empty() {
        return Err("it does not say which device sent it".into());
    }
    if told.port.is_empty() {
        return Err("it does not say from which port it was sent".into());
    }
    Ok(told)
}

/// Type and content of the next TLV. Less than the header of one at the end is padding.
fn next<'a>(bytes: &mut Bytes<'a>, is_cut: bool) -> Result<Option<(u16, &'a [u8])>, String> {
    let (Some(kind), Some(length)) = (bytes.u16(), bytes.u16()) else { return Ok(None) };
    let Some(length) = usize::from(length).checked_sub(4) else {
        return Err(format!("a TLV of type {kind} is {length} bytes long, shorter than its own header"));
    };
    match bytes.take(length) {
        Some(value) => Ok(Some((kind, value))),
        None if is_cut => Ok(None),
        None => Err(format!("a TLV of type {kind} is longer than what is left of the frame")),
    }
}

/// The Internet checksum (RFC 1071). Cisco computes it in its own way when the length is odd: the last byte is taken as the lower
/// half of the last word, and as a signed number.
fn checksum_fits(packet: &[u8]) -> bool {
    let (even, last) = packet.split_at(packet.len() & !1);
    let words = even.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    // A packet has fewer than 65,536 words, so the sum does not overflow.
    let sum: u32 = words.sum();
    let is_right = |last: u16| {
        let mut sum = sum + u32::from(last);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum == 0xffff
    };
    match last {
        [] => is_right(0),
        [last, ..] => {
            let last = u16::from(*last);
            let signed = if last & 0x80 == 0 { last } else { 0xff00 | (last - 1) };
            is_right(last << 8) || is_right(signed)
        }
    }
}

/// `None`: its content is not what its type asks for.
fn element(kind: u16, value: &[u8], told: &mut Told) -> Option<()> {
    let mut bytes = Bytes(value);
    match kind {
        0x01 => {
            // Some send the six bytes of an address instead of a name.
            let is_name = value.len() != 6 || value.iter().all(|byte| (b' '..=b'~').contains(byte));
            told.chassis = if is_name { text::identity(value) } else { text::dashed(value) };
        }
        0x02 => put_list(told, "SystemAddress", addresses(bytes)?),
        0x03 => told.port = text::identity(value),
        0x04 => {
            let bits = bytes.u32()?;
            let roles = CAPABILITIES.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
            told.put("SystemCapabilities", roles.map(|(_, role)| *role).collect::<Vec<_>>());
        }
        0x05 => told.put("SystemVersion", text::free(value)),
        0x06 => told.put("SystemPlatform", text::free(value)),
        0x07 => prefixes(bytes, told)?,
        0x08 => {
            let hello = hello(bytes)?;
            told.put("ProtocolHello", hello);
        }
        0x09 if value.is_empty() => {}
        0x09 => told.put("VLANManagementDomain", text::free(value)),
        0x0a => told.put_port("VlanId", bytes.u16()?),
        0x0b => told.put_port("duplex", if bytes.u8()? == 0 { "half" } else { "full" }),
        0x0e | 0x0f => {
            let name = if kind == 0x0e { "VoiceVlanId" } else { "VoiceVlanQuery" };
            // The number of the appliance; without a VLAN behind it a phone is told to use the port's own.
            bytes.u8()?;
            if !bytes.is_empty() {
                told.put_port(name, bytes.u16()?);
            }
        }
        0x10 => told.put_port("PortPower", bytes.u16()?),
        0x11 => told.put_port("mtu", bytes.u32()?),
        0x12 => told.put_port("CiscoTrustBitmap", bytes.u8()?),
        0x13 => told.put_port("CiscoUnTrustedPortCOS", bytes.u8()?),
        0x14 => told.put("SystemName", text::free(value)),
        0x15 => told.put("SystemObjectId", object(value)?),
        0x16 => put_list(told, "ManagementAddress", addresses(bytes)?),
        0x17 => {
            // A byte that nobody has explained comes before the text.
            bytes.u8()?;
            told.put("Location", text::free(bytes.rest()));
        }
        0x18 => told.put_port("ExternalPortId", text::identity(value)),
        0x19 | 0x1a => {
            let name = if kind == 0x19 { "PowerRequested" } else { "PowerAvailable" };
            // Two numbers of the negotiation, which change without anything else changing.
            bytes.u32()?;
            while !bytes.is_empty() {
                told.add_port(name, bytes.u32()?.into());
            }
        }
        0x1b => told.put_port("unidirectional", bytes.u8()? != 0),
        // Without its content: some count packets in there, and each would be a change.
        other => {
            let fields = json!({"type": other, "bytes": value.len()});
            told.unknown.add(fields.as_object().cloned().unwrap_or_default(), &[]);
        }
    }
    Some(())
}

/// Both address TLVs may come in pieces.
fn put_list(told: &mut Told, name: &str, addresses: Vec<String>) {
    for address in addresses {
        super::add(&mut told.device, name, address.into());
    }
}

/// A number of addresses, each with its protocol.
fn addresses(mut bytes: Bytes<'_>) -> Option<Vec<String>> {
    let count = bytes.u32()?;
    let mut addresses = Vec::new();
    for _ in 0..count {
        // Ends with the bytes: a count is only a claim.
        bytes.u8()?;
        let length = usize::from(bytes.u8()?);
        let protocol = bytes.take(length)?;
        let length = usize::from(bytes.u16()?);
        let address = bytes.take(length)?;
        let known = match (protocol, address.len()) {
            (protocol, 4) if protocol == IPV4 => text::address(1, address),
            (protocol, 16) if protocol == IPV6 => text::address(2, address),
            _ => None,
        };
        addresses.push(known.unwrap_or_else(|| format!("{}:{}", text::hex(protocol), text::hex(address))));
    }
    Some(addresses)
}

/// On-demand routing: the default gateway that a hub tells, or the prefixes that a stub tells.
fn prefixes(mut bytes: Bytes<'_>, told: &mut Told) -> Option<()> {
    if bytes.len() == 4 {
        told.put("DefaultGateway", Ipv4Addr::from(bytes.array::<4>()?).to_string());
        return Some(());
    }
    let mut list = Vec::new();
    while !bytes.is_empty() {
        let (address, length) = (bytes.array::<4>()?, bytes.u8().filter(|length| *length <= 32)?);
        list.push(format!("{}/{length}", Ipv4Addr::from(address)));
    }
    put_list(told, "IpPrefixes", list);
    Some(())
}

/// A protocol that uses CDP to find its like; the one of switch clusters is taken apart.
fn hello(mut bytes: Bytes<'_>) -> Option<Value> {
    let (oui, protocol) = (bytes.array::<3>()?, bytes.u16()?);
    let mut fields = Map::from_iter([
        ("oui".to_owned(), Value::from(text::dashed(&oui))),
        ("protocol".to_owned(), format!("{protocol:04x}").into()),
    ]);
    let content = bytes.rest();
    let mut bytes = Bytes(content);
    if (oui, protocol) != ([0x00, 0x00, 0x0c], 0x0112) || content.len() < 27 {
        let shown = &content[..content.len().min(super::Unknown::MAX_BYTES)];
        fields.insert("hex".into(), text::hex(shown).into());
        return Some(Value::Object(fields));
    }
    let (master, mask) = (bytes.array::<4>()?, bytes.array::<4>()?);
    let (version, sub_version, status) = (bytes.u8()?, bytes.u8()?, bytes.u8()?);
    bytes.u8()?;
    let (commander, switch) = (bytes.array::<6>()?, bytes.array::<6>()?);
    bytes.u8()?;
    let vlan = bytes.u16()?;
    for (name, value) in [
        ("cluster_master", Value::from(Ipv4Addr::from(master).to_string())),
        ("cluster_mask", Ipv4Addr::from(mask).to_string().into()),
        ("version", format!("{version}.{sub_version}").into()),
        ("status", status.into()),
        ("commander", text::dashed(&commander).into()),
        ("switch", text::dashed(&switch).into()),
        ("management_vlan", vlan.into()),
    ] {
        fields.insert(name.into(), value);
    }
    Some(Value::Object(fields))
}

/// With or without the tag and length that BER wants in front.
fn object(value: &[u8]) -> Option<String> {
    let bare = match value {
        [0x06, length, rest @ ..] if usize::from(*length) == rest.len() => rest,
        _ => value,
    };
    text::object_identifier(bare)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::{Cdp, ipv4_addresses};
    use std::net::Ipv6Addr;

    fn told(packet: &Cdp) -> Told {
        read(&packet.bytes(), false).unwrap()
    }

    #[test]
    fn the_checksum_is_that_of_the_internet_or_of_the_vendor() {
        let even = Cdp::new("sw1", "Gi1").element(0x05, b"ab");
        assert!(told(&even).errors.is_empty());
        for last in [0x41, 0x80, 0xff] {
            let odd = Cdp::new("sw1", "Gi1").element(0x05, &[b'a', b'b', last]);
            for bytes in [odd.bytes(), odd.vendor_bytes()] {
                assert!(read(&bytes, false).unwrap().errors.is_empty(), "{last:x}");
                let mut wrong = bytes.clone();
                wrong[2] ^= 1;
                let errors = read(&wrong, false).unwrap().errors;
                assert!(errors.len() == 1 && errors[0].contains("checksum"), "{errors:?}");
            }
            // They are two different sums, or only one of them would be tested.
            assert_ne!(odd.bytes(), odd.vendor_bytes());
        }
    }

    #[test]
    fn addresses_of_both_families_and_of_others() {
        let mut list = ipv4_addresses(&[Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)]);
        list[3] += 2;
        list.extend([2, 8]);
        list.extend(IPV6);
        list.extend(16u16.to_be_bytes());
        list.extend(Ipv6Addr::LOCALHOST.octets());
        list.extend([1, 1, 0x81, 0, 2, 7, 9]);
        let packet = Cdp::new("sw1", "Gi1").element(0x02, &list).element(0x16, &list[..]);
        let data = told(&packet).device;
        assert_eq!(data["SystemAddress"], json!(["10.0.0.1", "10.0.0.2", "::1", "81:0709"]));
        assert_eq!(data["SystemAddress"], data["ManagementAddress"]);
        // A count above what is there.
        list[3] += 1;
        let broken = told(&Cdp::new("sw1", "Gi1").element(0x02, &list));
        assert!(!broken.device.contains_key("SystemAddress") && broken.errors[0].contains("type 2"));
    }

    #[test]
    fn what_has_no_identity_or_breaks_off_is_refused() {
        let nameless = Cdp::default().element(3, b"Gi1").bytes();
        assert!(read(&nameless, false).is_err_and(|why| why.contains("which device")));
        let portless = Cdp::default().element(1, b"sw1").bytes();
        assert!(read(&portless, false).is_err_and(|why| why.contains("which port")));
        let whole = Cdp::new("sw1", "Gi1").element(5, b"version").bytes();
        assert!(read(&whole[..whole.len() - 1], false).is_err_and(|why| why.contains("type 5")));
        let cut = read(&whole[..whole.len() - 1], true).unwrap();
        assert!(cut.chassis == "sw1" && !cut.device.contains_key("SystemVersion"));
        let mut short = whole.clone();
        // The length of the first TLV.
        short[7] = 3;
        assert!(read(&short, false).is_err_and(|why| why.contains("shorter than its own header")));
        let mut future = whole;
        future[0] = 5;
        assert!(read(&future, false).is_err_and(|why| why.contains("version 5")));
    }

    #[test]
    fn power_prefixes_and_voice() {
        let data = told(
            &Cdp::new("sw1", "Gi1")
                .element(0x07, &[10, 1, 0, 0, 16, 10, 2, 3, 0, 24])
                .element(0x0e, &[1, 0, 10])
                .element(0x0f, &[1])
                .element(0x19, &[0, 1, 0, 2, 0, 0, 0x3c, 0x28])
                .element(0x1234, b"x"),
        );
        assert_eq!(data.device["IpPrefixes"], json!(["10.1.0.0/16", "10.2.3.0/24"]));
        assert_eq!((&data.of_port["VoiceVlanId"], data.of_port.get("VoiceVlanQuery")), (&json!(10), None));
        assert_eq!(data.of_port["PowerRequested"], json!([15400]));
        assert_eq!(data.unknown.kept, [json!({"type": 0x1234, "bytes": 1})]);
        let gateway = told(&Cdp::new("sw1", "Gi1").element(0x07, &[10, 0, 0, 254]));
        assert_eq!(gateway.device["DefaultGateway"], "10.0.0.254");
    }
}
