use super::*;
use crate::questions::made::Made;

fn told(made: &mut Made) -> (Vec<String>, usize) {
    let (gaps, outside) = without_nanoprobe(made).unwrap();
    (gaps.into_iter().map(|gap| format!("{}: {}", gap.place, gap.what)).collect(), outside)
}

#[test]
fn who_is_seen_or_used_and_has_no_nanoprobe_is_a_gap() {
    let mut made = Made::default();
    made.host("web1", "10.0.0.1");
    made.host("web2", "10.0.0.2");
    made.seen("web1", "00-16-3e-00-00-09", "10.0.0.9");
    made.seen("web2", "00-16-3e-00-00-09", "10.0.0.9");
    made.uses("web1", "nginx", "10.0.0.9:5432");
    made.uses("web2", "app", "10.9.0.1:389");
    // Owned, loopback, out in the Internet.
    made.seen("web1", "00-16-3e-00-00-02", "10.0.0.2");
    made.uses("web1", "nginx", "web1/127.0.0.1:6379");
    made.uses("web1", "apt", "203.0.113.7:443");
    let (gaps, outside) = told(&mut made);
    assert_eq!(
        gaps,
        [
            "network global: 10.0.0.9, 00-16-3e-00-00-09, seen by web1, web2, 10.0.0.9:5432 used by nginx of web1",
            "network global: 10.9.0.1, 10.9.0.1:389 used by app of web2",
        ]
    );
    assert_eq!(outside, 1);
}

#[test]
fn devices_and_further_addresses_of_known_hosts_are_no_gaps() {
    let mut made = Made::default();
    made.host("web1", "10.0.0.1");
    // The management address of a switch.
    made.wired("aa-01", "g1", "web1", "eth0");
    let device = made.node(super::super::SYSTEM, "@global/aa-01", json!({}));
    let port = made.node(NIC, "@global/aa-01/(management)", json!({}));
    let address = made.node(ADDRESS, "@global/10.0.0.250", json!({"ipaddr": "10.0.0.250"}));
    made.edge("web1", device, "nicowner", port);
    made.edge("web1", port, "ipowner", address);
    // A second address at the link-layer address of an interface of web1.
    let nic = made.nic("web1", "eth0");
    made.seen("web2", "00-16-3e-00-00-01", "10.0.0.77");
    let link = made.node(LINK, "@global/00-16-3e-00-00-01", json!({}));
    made.edge("web1", nic, "linkaddr", link);
    // An address on which a host listens without owning it.
    made.offers("web1", "haproxy", "10.0.0.100:80");
    made.uses("web1", "curl", "10.0.0.100:80");
    assert_eq!(told(&mut made), (vec![], 0));
}

#[test]
fn a_public_address_in_a_subnet_of_ours_is_ours() {
    let mut made = Made::default();
    made.host("web1", "203.0.113.1");
    made.uses("web1", "nginx", "203.0.113.9:5432");
    made.uses("web1", "nginx", "198.51.100.9:5432");
    let (gaps, outside) = told(&mut made);
    assert_eq!((gaps.len(), outside), (1, 1));
    assert!(gaps[0].contains("203.0.113.9"), "{gaps:?}");
    // The same subnet of another network is not where it is.
    let mut other = Made::default();
    other.host("web1", "@berlin/203.0.113.1");
    other.uses("web1", "nginx", "@global/203.0.113.9:5432");
    assert_eq!(told(&mut other), (vec![], 1));
}
