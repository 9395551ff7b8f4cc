use super::*;
use crate::link::testing::{Icmp, arp, ethernet};
use proptest::prelude::*;

const MAC: [u8; 6] = [0x00, 0x16, 0x3e, 0, 0, 1];
const OTHER: [u8; 6] = [0x00, 0x16, 0x3e, 0, 0, 2];

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn seen(ip: &str) -> Option<Sighting> {
    Some(Sighting { ip: ip.parse().unwrap(), mac: MacAddress(MAC) })
}

fn icmp(source: &str, message: Vec<u8>) -> Icmp<'static> {
    Icmp { mac: MAC, source: source.parse().unwrap(), hops: 255, extension: None, message }
}

/// Type, code, checksum, flags, target, an option with a link-layer address.
fn neighbour(kind: u8, flags: u8, target: &str, option: Option<(u8, [u8; 6])>) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.parse::<Ipv6Addr>().unwrap().octets());
    if let Some((kind, address)) = option {
        message.extend([kind, 1]);
        message.extend(address);
    }
    message
}

#[test]
fn arp_tells_its_sender() {
    let target = v4("10.0.0.9");
    for operation in [1, 2] {
        assert_eq!(sighting(&arp(operation, (MAC, v4("10.0.0.1")), target)), seen("10.0.0.1"));
    }
    // Gratuitous: for itself.
    assert_eq!(sighting(&arp(1, (MAC, v4("10.0.0.1")), v4("10.0.0.1"))), seen("10.0.0.1"));
    let mut tagged = arp(1, (MAC, v4("10.0.0.1")), target);
    tagged.splice(12..12, [0x81, 0x00, 0, 7]);
    assert_eq!(sighting(&tagged), seen("10.0.0.1"));
}

#[test]
fn what_must_not_be_believed_of_arp() {
    let target = v4("10.0.0.9");
    for ip in ["0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255", "240.0.0.1", "0.1.2.3"] {
        assert_eq!(sighting(&arp(1, (MAC, v4(ip)), target)), None, "{ip}");
    }
    assert_eq!(sighting(&arp(3, (MAC, v4("10.0.0.1")), target)), None, "reverse ARP");
    for mac in [[0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        assert_eq!(sighting(&arp(2, (mac, v4("10.0.0.1")), target)), None, "{mac:x?}");
    }
    let good = arp(2, (MAC, v4("10.0.0.1")), target);
    let mut forged = good.clone();
    forged[6..12].copy_from_slice(&OTHER);
    assert_eq!(sighting(&forged), None, "the frame comes from another address than the packet says");
    for at in [14, 15, 16, 17, 18, 19] {
        let mut other = good.clone();
        other[at] ^= 1;
        assert_eq!(sighting(&other), None, "byte {at}");
    }
    assert!((0..good.len()).all(|end| sighting(&good[..end]).is_none()));
}

#[test]
fn neighbour_discovery_tells_its_sender() {
    let from = "fe80::1";
    for message in [
        neighbour(135, 0, "2001:db8::9", Some((SOURCE, MAC))),
        neighbour(135, 0, "2001:db8::9", None),
        [vec![133, 0, 0, 0, 0, 0, 0, 0, SOURCE, 1], MAC.to_vec()].concat(),
        [vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, SOURCE, 1], MAC.to_vec()].concat(),
    ] {
        assert_eq!(sighting(&icmp(from, message.clone()).frame()), seen(from), "{message:?}");
    }
    // An answer is about its target.
    let answer = |flags, option| icmp(from, neighbour(136, flags, "2001:db8::1", option)).frame();
    assert_eq!(sighting(&answer(0x60, Some((TARGET, MAC)))), seen("2001:db8::1"));
    assert_eq!(sighting(&answer(0x60, None)), seen("2001:db8::1"));
    assert_eq!(sighting(&answer(0x40, Some((TARGET, MAC)))), None, "a proxy");
    assert_eq!(sighting(&answer(0x60, Some((TARGET, OTHER)))), None);
}

#[test]
fn what_must_not_be_believed_of_neighbour_discovery() {
    let message = neighbour(135, 0, "2001:db8::9", Some((SOURCE, MAC)));
    let good = icmp("fe80::1", message.clone());
    assert_eq!(sighting(&good.frame()), seen("fe80::1"));
    assert_eq!(sighting(&Icmp { hops: 254, ..icmp("fe80::1", message.clone()) }.frame()), None, "routed");
    assert_eq!(sighting(&icmp("::", message.clone()).frame()), None, "duplicate address detection");
    assert_eq!(sighting(&icmp("ff02::1", message.clone()).frame()), None);
    assert_eq!(sighting(&icmp("::ffff:10.0.0.1", message.clone()).frame()), None);
    let mut other_option = message.clone();
    other_option[26..].copy_from_slice(&OTHER);
    assert_eq!(sighting(&icmp("fe80::1", other_option).frame()), None);
    let mut endless_option = message.clone();
    endless_option[25] = 0;
    assert_eq!(sighting(&icmp("fe80::1", endless_option).frame()), None);
    let mut wrong_code = message;
    wrong_code[1] = 1;
    assert_eq!(sighting(&icmp("fe80::1", wrong_code).frame()), None);
    let frame = good.frame();
    let mut damaged = frame.clone();
    damaged[60] ^= 4;
    assert_eq!(sighting(&damaged), None, "the checksum");
    assert!((0..frame.len()).all(|end| sighting(&frame[..end]).is_none()));
}

#[test]
fn listeners_tell_their_own_address() {
    let alert: &[u8] = &[58, 0, 5, 2, 0, 0, 1, 0];
    let report = vec![143, 0, 0, 0, 0, 0, 0, 0];
    let from =
        |source, hops, extension| sighting(&Icmp { hops, extension, ..icmp(source, report.clone()) }.frame());
    assert_eq!(from("fe80::1", 1, Some((0, alert))), seen("fe80::1"));
    assert_eq!(from("fe80::1", 1, None), seen("fe80::1"));
    assert_eq!(from("2001:db8::1", 1, Some((0, alert))), None);
    assert_eq!(from("fe80::1", 64, Some((0, alert))), None);
    // Another extension in front is not looked behind.
    assert_eq!(from("fe80::1", 1, Some((60, alert))), None);
}

#[test]
fn other_frames_tell_nothing() {
    for kind in [0x0800, 0x88cc, 0x0040] {
        assert_eq!(sighting(&ethernet([0xff; 6], MAC, kind, &[0; 60])), None);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::link::any_sighting(&bytes);
        crate::link::any_sighting(&ethernet([0xff; 6], MAC, ARP, &bytes));
        crate::link::any_sighting(&ethernet([0xff; 6], MAC, IPV6, &bytes));
    }

    #[test]
    fn any_options_are_survived(options in prop::collection::vec(any::<u8>(), 0..100), kind in 130u8..145) {
        let message = [neighbour(kind, 0x60, "2001:db8::1", None), options].concat();
        crate::link::any_sighting(&icmp("fe80::1", message).frame());
    }
}
