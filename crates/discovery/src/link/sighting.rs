//! Who has which address: ARP (RFC 826, 5227) and IPv6 neighbour discovery (RFC 4861), and reports of multicast listeners (RFC 2710,
//! 3810). Only what a sender says of itself counts, and only when its frame comes from the address that it names.

use super::MacAddress;
use super::bytes::Bytes;
use super::frame::{Ethernet, ethernet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A station that was heard: its IP address and where on the link it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sighting {
    pub ip: IpAddr,
    pub mac: MacAddress,
}

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
/// ARP: Ethernet, IPv4, and the lengths of their addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
const HOP_BY_HOP: u8 = 0;
const ICMPV6: u8 = 58;

/// What a frame says about its sender. `None`: nothing, or what must not be believed: groups, zero, the loopback address, a
/// sender that speaks for another (proxy ARP apart: its answer comes from the address that it gives), a sender that only asks
/// whether an address is free (RFC 5227 probe, RFC 4862 duplicate address detection).
pub fn sighting(frame: &[u8]) -> Option<Sighting> {
    let frame = ethernet(frame)?;
    if !frame.source.is_station() {
        return None;
    }
    let found = match frame.kind {
        ARP => of_arp(&frame)?,
        IPV6 => of_ipv6(&frame)?,
        _ => return None,
    };
    (is_host(found.ip) && found.mac.is_station()).then_some(found)
}

/// An address that one interface can have and others reach.
fn is_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let is_reserved = ip.octets()[0] == 0 || ip.octets()[0] >= 240;
            !(is_reserved || ip.is_loopback() || ip.is_multicast())
        }
        IpAddr::V6(ip) => {
            let is_mapped = ip.to_ipv4_mapped().is_some();
            !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || is_mapped)
        }
    }
}

/// Requests, answers and announcements all name their sender.
fn of_arp(frame: &Ethernet<'_>) -> Option<Sighting> {
    let mut bytes = Bytes(frame.payload);
    if bytes.array::<6>()? != ETHERNET_IPV4 {
        return None;
    }
    let operation = bytes.u16()?;
    let (mac, ip) = (MacAddress(bytes.array()?), Ipv4Addr::from(bytes.array::<4>()?));
    // The target must be there as well, or the packet was cut.
    bytes.array::<10>()?;
    (matches!(operation, 1 | 2) && mac == frame.source).then_some(Sighting { ip: ip.into(), mac })
}

fn of_ipv6(frame: &Ethernet<'_>) -> Option<Sighting> {
    let mut bytes = Bytes(frame.payload);
    let version = bytes.u32()? >> 28;
    let length = usize::from(bytes.u16()?);
    let (mut next, hops) = (bytes.u8()?, bytes.u8()?);
    let (source, destination) = (Ipv6Addr::from(bytes.array::<16>()?), Ipv6Addr::from(bytes.array::<16>()?));
    let mut bytes = Bytes(bytes.take(length)?);
    if version != 6 {
        return None;
    }
    // Reports of listeners carry a router alert.
    if next == HOP_BY_HOP {
        next = bytes.u8()?;
        let more = usize::from(bytes.u8()?) * 8;
        bytes.take(6 + more)?;
    }
    if next != ICMPV6 || !checksum_fits(source, destination, bytes.0) {
        return None;
    }
    let (kind, code) = (bytes.u8()?, bytes.u8()?);
    bytes.u16()?;
    let sender = Sighting { ip: source.into(), mac: frame.source };
    match kind {
        // Neighbour discovery never passes a router: what did has fewer hops left (RFC 4861 7.1).
        133..=136 if hops != 255 || code != 0 => None,
        133 => with_option(skip(bytes, 4)?, SOURCE, sender),
        134 => with_option(skip(bytes, 12)?, SOURCE, sender),
        135 => with_option(skip(bytes, 20)?, SOURCE, sender),
        136 => {
            let flags = bytes.u32()?;
            let target = Ipv6Addr::from(bytes.array::<16>()?);
            // An answer for others (the override flag is not set, an anycast or a proxy) is not about the sender's own address.
            let is_proxy = flags & 0x2000_0000 == 0 && target != source;
            let found = with_option(bytes, TARGET, Sighting { ip: target.into(), ..sender })?;
            (!is_proxy).then_some(found)
        }
        // Version 1 report and done, version 2 report; link-local by RFC 3590 and 3810.
        131 | 132 | 143 if hops == 1 && source.is_unicast_link_local() => Some(sender),
        _ => None,
    }
}

/// Options of neighbour discovery that give a link-layer address.
const SOURCE: u8 = 1;
const TARGET: u8 = 2;

fn skip(mut bytes: Bytes<'_>, count: usize) -> Option<Bytes<'_>> {
    bytes.take(count)?;
    Some(bytes)
}

/// The sighting, unless the options name another link-layer address or are malformed. Without the option the frame itself says
/// where it comes from.
fn with_option(mut options: Bytes<'_>, wanted: u8, sighting: Sighting) -> Option<Sighting> {
    while !options.is_empty() {
        let (kind, eights) = (options.u8()?, usize::from(options.u8()?));
        let content = options.take((eights * 8).checked_sub(2)?)?;
        if kind == wanted && content.get(..6) != Some(&sighting.mac.0[..]) {
            return None;
        }
    }
    Some(sighting)
}

/// RFC 4443 2.3: over the pseudo header and the message.
fn checksum_fits(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> bool {
    let mut sum: u64 = u64::from(ICMPV6) + message.len() as u64;
    let mut add = |bytes: &[u8]| {
        for pair in bytes.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    };
    add(&source.octets());
    add(&destination.octets());
    add(message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum == 0xffff
}

#[cfg(test)]
mod tests;
