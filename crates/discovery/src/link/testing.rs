//! Frames for tests, made from what they are to say.

use std::net::{Ipv4Addr, Ipv6Addr};

pub const SWITCH: [u8; 6] = [0x00, 0x11, 0x22, 0x33, 0x44, 0x5c];
const LLDP_GROUP: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0x0e];
const CDP_GROUP: [u8; 6] = [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc];

pub fn ethernet(destination: [u8; 6], source: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &kind.to_be_bytes(), payload].concat()
}

/// An LLDP data unit in the making; the end comes by itself.
#[derive(Clone, Default)]
pub struct Lldp(Vec<u8>);

impl Lldp {
    /// With the three TLVs that must be there: ids with their subtypes in front.
    pub fn new(chassis: &[u8], port: &[u8], ttl_seconds: u16) -> Self {
        Self::default().element(1, chassis).element(2, port).element(3, &ttl_seconds.to_be_bytes())
    }

    /// A switch with a MAC address and a port with a name.
    pub fn switch() -> Self {
        Self::new(&[4, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55], b"\x05g7", 120)
    }

    pub fn element(mut self, kind: u8, value: &[u8]) -> Self {
        let header = u16::from(kind) << 9 | u16::try_from(value.len()).unwrap();
        assert!(kind < 128 && value.len() < 512);
        self.0.extend(header.to_be_bytes());
        self.0.extend(value);
        self
    }

    /// Of IEEE 802.1, 802.3 or LLDP-MED.
    pub fn of(self, oui: [u8; 3], subtype: u8, value: &[u8]) -> Self {
        self.element(127, &[&oui[..], &[subtype], value].concat())
    }

    pub fn unit(&self) -> Vec<u8> {
        [&self.0[..], &[0, 0]].concat()
    }

    pub fn frame(&self) -> Vec<u8> {
        self.frame_from(SWITCH)
    }

    pub fn frame_from(&self, source: [u8; 6]) -> Vec<u8> {
        ethernet(LLDP_GROUP, source, 0x88cc, &self.unit())
    }
}

pub const OUI_8021: [u8; 3] = [0x00, 0x80, 0xc2];
pub const OUI_8023: [u8; 3] = [0x00, 0x12, 0x0f];
pub const OUI_MED: [u8; 3] = [0x00, 0x12, 0xbb];

/// A CDP packet in the making.
#[derive(Clone, Default)]
pub struct Cdp(Vec<u8>);

impl Cdp {
    pub fn new(device: &str, port: &str) -> Self {
        Self::default().element(1, device.as_bytes()).element(3, port.as_bytes())
    }

    pub fn element(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(kind.to_be_bytes());
        self.0.extend((value.len() as u16 + 4).to_be_bytes());
        self.0.extend(value);
        self
    }

    /// With the checksum of RFC 1071.
    pub fn bytes(&self) -> Vec<u8> {
        self.with_checksum(|last| u16::from(last) << 8)
    }

    /// With the checksum as its vendor computes it when the length is odd.
    pub fn vendor_bytes(&self) -> Vec<u8> {
        self.with_checksum(|last| (i16::from(last as i8) - i16::from(last >= 0x80)) as u16)
    }

    fn with_checksum(&self, odd: impl Fn(u8) -> u16) -> Vec<u8> {
        let mut bytes = [&[2, 180, 0, 0][..], &self.0].concat();
        let mut sum: u32 = bytes
            .chunks(2)
            .map(|pair| match pair {
                [a, b] => u32::from(u16::from_be_bytes([*a, *b])),
                [last] => u32::from(odd(*last)),
                _ => 0,
            })
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        bytes[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        bytes
    }

    pub fn frame(&self) -> Vec<u8> {
        self.frame_from(SWITCH)
    }

    pub fn frame_from(&self, source: [u8; 6]) -> Vec<u8> {
        let snap = [&[0xaa, 0xaa, 0x03, 0x00, 0x00, 0x0c, 0x20, 0x00][..], &self.bytes()].concat();
        ethernet(CDP_GROUP, source, snap.len() as u16, &snap)
    }
}

/// The content of an address TLV of CDP.
pub fn ipv4_addresses(addresses: &[Ipv4Addr]) -> Vec<u8> {
    let mut bytes = (addresses.len() as u32).to_be_bytes().to_vec();
    for address in addresses {
        bytes.extend([1, 1, 0xcc, 0, 4]);
        bytes.extend(address.octets());
    }
    bytes
}

/// ARP: the operation, then sender and target by hardware and protocol address.
pub fn arp(operation: u16, sender: ([u8; 6], Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let mut payload = vec![0, 1, 8, 0, 6, 4];
    payload.extend(operation.to_be_bytes());
    payload.extend(sender.0);
    payload.extend(sender.1.octets());
    payload.extend([0; 6]);
    payload.extend(target.octets());
    ethernet([0xff; 6], sender.0, 0x0806, &payload)
}

/// An ICMPv6 message with the right checksum; `extension` is what stands between the IPv6 header and it, with its number.
pub struct Icmp<'a> {
    pub mac: [u8; 6],
    pub source: Ipv6Addr,
    pub hops: u8,
    pub extension: Option<(u8, &'a [u8])>,
    /// From type and code on; the checksum's place is filled in.
    pub message: Vec<u8>,
}

impl Icmp<'_> {
    pub fn frame(&self) -> Vec<u8> {
        let destination: Ipv6Addr = "ff02::1".parse().unwrap();
        let mut message = self.message.clone();
        message[2..4].fill(0);
        let pseudo = [
            &self.source.octets()[..],
            &destination.octets(),
            &(message.len() as u32).to_be_bytes(),
            &[0, 0, 0, 58],
            &message,
        ]
        .concat();
        let mut sum: u32 = pseudo
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        message[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        let (next, extension) = self.extension.unwrap_or((58, &[]));
        let length = (extension.len() + message.len()) as u16;
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([next, self.hops]);
        packet.extend(self.source.octets());
        packet.extend(destination.octets());
        packet.extend(extension);
        packet.extend(message);
        ethernet([0x33, 0x33, 0, 0, 0, 1], self.mac, 0x86dd, &packet)
    }
}
