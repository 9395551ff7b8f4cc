//! Ethernet frames: which of them are LLDP or CDP, and what is inside.

use super::bytes::Bytes;
use super::{MacAddress, Protocol};

/// 802.1Q, 802.1ad, and what was used before it.
const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// More tags than anybody stacks.
const MAX_TAGS: usize = 4;
const LLDP: u16 = 0x88cc;
/// Nearest bridge, nearest bridge but relays of two ports, nearest customer bridge (802.1AB table 7-1). Bridges do not forward
/// them, so the sender is at the other end of the cable; a frame to any other address may come from anywhere.
const LLDP_GROUPS: [[u8; 6]; 3] =
    [[0x01, 0x80, 0xc2, 0, 0, 0x0e], [0x01, 0x80, 0xc2, 0, 0, 0x03], [0x01, 0x80, 0xc2, 0, 0, 0x00]];
const CDP_GROUP: [u8; 6] = [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc];
/// LLC header of SNAP (802.2), and the protocols behind it: organisation and protocol id.
const SNAP: [u8; 3] = [0xaa, 0xaa, 0x03];
const SNAP_CDP: [u8; 5] = [0x00, 0x00, 0x0c, 0x20, 0x00];
const SNAP_LLDP: [u8; 5] = [0, 0, 0, 0x88, 0xcc];
/// What is larger in the place of a type is one; otherwise it is a length.
const MAX_LENGTH: u16 = 1500;

/// The addresses of a frame, the type behind all tags (a length when it is at most 1500), and the rest.
pub struct Ethernet<'a> {
    pub destination: MacAddress,
    pub source: MacAddress,
    pub kind: u16,
    pub payload: &'a [u8],
}

pub fn ethernet(frame: &[u8]) -> Option<Ethernet<'_>> {
    let mut bytes = Bytes(frame);
    let destination = MacAddress(bytes.array()?);
    let source = MacAddress(bytes.array()?);
    let mut kind = bytes.u16()?;
    for _ in 0..MAX_TAGS {
        if !TAGS.contains(&kind) {
            break;
        }
        bytes.u16()?;
        kind = bytes.u16()?;
    }
    Some(Ethernet { destination, source, kind, payload: bytes.rest() })
}

/// A frame of LLDP or CDP.
pub struct OfNeighbours<'a> {
    pub protocol: Protocol,
    pub source: MacAddress,
    destination: MacAddress,
    /// Without padding where the frame tells its length.
    pub payload: &'a [u8],
    /// The frame tells a length that it does not have.
    pub lacks_bytes: bool,
}

impl OfNeighbours<'_> {
    /// A sentence when the addresses cannot be those of such a frame.
    pub fn check_addresses(&self) -> Result<(), String> {
        let groups: &[[u8; 6]] = match self.protocol {
            Protocol::Lldp => &LLDP_GROUPS,
            Protocol::Cdp => std::slice::from_ref(&CDP_GROUP),
        };
        if !groups.contains(&self.destination.0) {
            return Err(format!("it was sent to {}, not to the group of neighbours", self.destination));
        }
        if !self.source.is_station() {
            return Err(format!("it was sent from {}, which is no station's address", self.source));
        }
        Ok(())
    }
}

pub fn of_neighbours(frame: &[u8]) -> Option<OfNeighbours<'_>> {
    let Ethernet { destination, source, kind, payload } = ethernet(frame)?;
    let found = |protocol, payload, lacks_bytes| {
        Some(OfNeighbours { protocol, source, destination, payload, lacks_bytes })
    };
    if kind == LLDP {
        return found(Protocol::Lldp, payload, false);
    }
    if kind > MAX_LENGTH {
        return None;
    }
    let length = usize::from(kind);
    let inside = &payload[..payload.len().min(length)];
    let (protocol, payload) = match inside.strip_prefix(&SNAP)? {
        rest if rest.starts_with(&SNAP_CDP) => (Protocol::Cdp, &rest[SNAP_CDP.len()..]),
        rest if rest.starts_with(&SNAP_LLDP) => (Protocol::Lldp, &rest[SNAP_LLDP.len()..]),
        _ => return None,
    };
    found(protocol, payload, inside.len() < length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(destination: [u8; 6], kinds: &[u16], payload: &[u8]) -> Vec<u8> {
        let mut frame = [&destination[..], &[0, 0x16, 0x3e, 0, 0, 1]].concat();
        frame.extend(kinds.iter().flat_map(|kind| kind.to_be_bytes()));
        frame.extend(payload);
        frame
    }

    #[test]
    fn lldp_is_found_behind_tags_and_behind_snap() {
        for kinds in [&[LLDP][..], &[0x8100, 5, LLDP], &[0x88a8, 5, 0x8100, 6, LLDP]] {
            let bytes = frame(LLDP_GROUPS[0], kinds, b"x");
            let found = of_neighbours(&bytes).unwrap();
            assert_eq!((found.protocol, found.payload), (Protocol::Lldp, &b"x"[..]), "{kinds:?}");
            assert_eq!(found.check_addresses(), Ok(()));
        }
        let snap = [&SNAP[..], &SNAP_LLDP, b"x"].concat();
        let bytes = frame(LLDP_GROUPS[2], &[9], &[&snap[..], b"padding"].concat());
        assert_eq!(of_neighbours(&bytes).unwrap().payload, b"x");
    }

    #[test]
    fn cdp_is_what_its_length_says() {
        let snap = [&SNAP[..], &SNAP_CDP, b"content"].concat();
        let bytes = frame(CDP_GROUP, &[15], &[&snap[..], &[0; 20]].concat());
        let found = of_neighbours(&bytes).unwrap();
        assert_eq!(
            (found.protocol, found.payload, found.lacks_bytes),
            (Protocol::Cdp, &b"content"[..], false)
        );
        let short = frame(CDP_GROUP, &[16], &snap);
        assert!(of_neighbours(&short).unwrap().lacks_bytes);
    }

    #[test]
    fn other_frames_are_none() {
        let dtp = [&SNAP[..], &[0, 0, 0x0c, 0x20, 0x04], b"x"].concat();
        for bytes in [
            frame(CDP_GROUP, &[9], &dtp),
            frame([0xff; 6], &[0x0806], b"x"),
            frame(LLDP_GROUPS[0], &[0x8100, 5, 0x8100, 5, 0x8100, 5, 0x8100, 5, 0x8100, 5, LLDP], b"x"),
            frame(LLDP_GROUPS[0], &[0x8100], b""),
            vec![0; 13],
        ] {
            assert!(of_neighbours(&bytes).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn frames_that_may_come_from_afar_are_refused() {
        let unicast = frame([0, 0x16, 0x3e, 0, 0, 2], &[LLDP], b"x");
        assert!(
            of_neighbours(&unicast).unwrap().check_addresses().unwrap_err().contains("00-16-3e-00-00-02")
        );
        let mut from_group = frame(LLDP_GROUPS[0], &[LLDP], b"x");
        from_group[6] = 1;
        assert!(of_neighbours(&from_group).unwrap().check_addresses().unwrap_err().contains("no station"));
    }
}
