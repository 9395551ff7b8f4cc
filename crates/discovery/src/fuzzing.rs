//! What the fuzzer calls (`cargo xtask fuzz`): parsers of answers and frames that come over sockets instead of from files. Not
//! an interface: nobody else is to use it.

use crate::all::{audit_rules, docker, firewall, netconfig, services, tcpdiscovery};
use crate::link;

/// Reads an answer, whatever it is.
pub type Reader = fn(&[u8]);

/// Each with a name; the bytes are the whole answer.
pub const ANSWERS: &[(&str, Reader)] = &[
    ("arp", link::any_sighting),
    ("audit", audit_rules::any_answer),
    ("cdp", link::any_advertisement),
    ("docker", docker::any_answer),
    ("lldp", link::any_advertisement),
    ("nft", firewall::any_answer),
    ("pcap", link::any_capture),
    ("rtnetlink", netconfig::any_answer),
    ("sock_diag", tcpdiscovery::any_answer),
    ("systemd", services::any_answer),
];

#[cfg(test)]
mod tests {
    use super::ANSWERS;

    #[test]
    fn nonsense_is_survived_by_all() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        for (_, answer) in ANSWERS {
            (0..300).for_each(|start| answer(&bytes[start..]));
            answer(b"");
        }
        assert!(ANSWERS.is_sorted_by_key(|(name, _)| *name));
    }
}
