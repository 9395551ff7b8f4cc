//! What the kernel lets through to the sockets of neighbours: programs of the classic packet filter
//! (Documentation/networking/filter.rst of Linux).
//!
//! They only spare us work; what they let through is checked again by [`discovery::link`].

use socket2::SockFilter;

/// Longest piece of a frame that is read, in bytes: what fits an Ethernet of the usual size, with tags.
pub const SNAP_BYTES: usize = 1600;

// linux/bpf_common.h
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// To 01-00-0c-cc-cc-cc.
const CDP_GROUP: (u32, u16) = (0x0100_0ccc, 0xcccc);

/// Everything of the socket's protocol.
pub fn all() -> Vec<SockFilter> {
    vec![accept()]
}

/// Frames to the group of CDP, among all frames with a length in the place of a protocol.
pub fn cdp() -> Vec<SockFilter> {
    vec![
        load(LOAD_WORD, 0),
        jump(JUMP_IF_EQUAL, CDP_GROUP.0, 0, 3),
        load(LOAD_HALF, 4),
        jump(JUMP_IF_EQUAL, u32::from(CDP_GROUP.1), 0, 1),
        accept(),
        refuse(),
    ]
}

/// IPv6 frames of neighbour discovery (RFC 4861: ICMPv6 types 133 to 137) and of multicast listeners (RFC 2710, RFC 3810:
/// types 130 to 132 and 143, behind an extension header of eight bytes). All others are
/// refused after two comparisons.
pub fn icmpv6() -> Vec<SockFilter> {
    const NEXT_HEADER: u32 = 14 + 6;
    const PAYLOAD: u32 = 14 + 40;
    const ICMPV6: u32 = 58;
    const HOP_BY_HOP: u32 = 0;
    vec![
        load(LOAD_BYTE, NEXT_HEADER),
        jump(JUMP_IF_EQUAL, ICMPV6, 5, 0),
        jump(JUMP_IF_EQUAL, HOP_BY_HOP, 0, 9),
        load(LOAD_BYTE, PAYLOAD),
        jump(JUMP_IF_EQUAL, ICMPV6, 0, 7),
        load(LOAD_BYTE, PAYLOAD + 8),
        SockFilter::new(JUMP, 0, 0, 1),
        load(LOAD_BYTE, PAYLOAD),
        jump(JUMP_IF_EQUAL, 143, 2, 0),
        jump(JUMP_IF_AT_LEAST, 138, 2, 0),
        jump(JUMP_IF_AT_LEAST, 130, 0, 1),
        accept(),
        refuse(),
    ]
}

fn load(code: u16, offset: u32) -> SockFilter {
    SockFilter::new(code, 0, 0, offset)
}

/// `then` and `otherwise`: so many instructions are skipped.
fn jump(code: u16, value: u32, then: u8, otherwise: u8) -> SockFilter {
    SockFilter::new(code, then, otherwise, value)
}

fn accept() -> SockFilter {
    SockFilter::new(RETURN, 0, 0, SNAP_BYTES as u32)
}

fn refuse() -> SockFilter {
    SockFilter::new(RETURN, 0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::Socket;
    use std::os::unix::net::UnixDatagram;

    /// The kernel itself runs the filter: on a socket that needs no privilege, with whole frames as datagrams.
    fn lets_through(filter: &[SockFilter], frame: &[u8]) -> Option<usize> {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        let receiver = Socket::from(std::os::fd::OwnedFd::from(receiver));
        receiver.attach_filter(filter).unwrap();
        let receiver = UnixDatagram::from(std::os::fd::OwnedFd::from(receiver));
        receiver.set_nonblocking(true).unwrap();
        sender.send(frame).unwrap();
        receiver.recv(&mut [0; 4096]).ok()
    }

    fn to(destination: [u8; 6], bytes: usize) -> Vec<u8> {
        let mut frame = destination.to_vec();
        frame.resize(bytes, 7);
        frame
    }

    #[test]
    fn all_means_all_up_to_the_length_that_is_read() {
        assert_eq!(lets_through(&all(), &[1, 2, 3]), Some(3));
        assert_eq!(lets_through(&all(), &[1; 3000]), Some(SNAP_BYTES));
    }

    #[test]
    fn only_the_group_of_cdp_passes() {
        let group = [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc];
        assert_eq!(lets_through(&cdp(), &to(group, 200)), Some(200));
        for other in 0..6 {
            let mut address = group;
            address[other] ^= 1;
            assert_eq!(lets_through(&cdp(), &to(address, 200)), None, "{address:?}");
        }
        assert_eq!(lets_through(&cdp(), &group[..5]), None, "shorter than an address");
    }

    fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 14 + 40];
        frame[14 + 6] = next_header;
        frame.extend(payload);
        frame
    }

    #[test]
    fn only_neighbours_and_listeners_of_ipv6_pass() {
        for kind in 0..=255u8 {
            let is_wanted = (130..=137).contains(&kind) || kind == 143;
            let direct = ipv6(58, &[kind, 0, 0, 0]);
            let behind_options = ipv6(0, &[58, 0, 5, 2, 0, 0, 1, 0, kind, 0, 0, 0]);
            for frame in [direct, behind_options] {
                assert_eq!(lets_through(&icmpv6(), &frame).is_some(), is_wanted, "{kind}");
            }
            assert_eq!(lets_through(&icmpv6(), &ipv6(6, &[kind; 20])), None, "TCP");
            assert_eq!(
                lets_through(&icmpv6(), &ipv6(0, &[6, 0, 5, 2, 0, 0, 1, 0, kind])),
                None,
                "TCP with options"
            );
        }
        assert_eq!(lets_through(&icmpv6(), &ipv6(58, &[])), None, "shorter than a type");
    }
}
