//! Which interfaces can have neighbours that matter, and whether their cables are in. Pure.

use discovery::rtnetlink::Link;

/// ARPHRD_ETHER (linux/if_arp.h).
const ETHERNET: u16 = 1;

/// More interfaces than this have no neighbours; a host of thousands of containers has few cables.
const MAX_LINKS: usize = 256;

/// What [`super::table`] has to know about one interface that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    pub index: u32,
    pub name: String,
    pub has_carrier: bool,
    /// How often the carrier was lost so far, if the kernel counts.
    pub carrier_losses: Option<u32>,
    /// A switch or another device may be at the other end of a cable.
    pub is_port: bool,
}

/// The Ethernet interfaces that are up. Names that are no part of a legal instance are left out.
///
/// Ports are interfaces with hardware, and what stands in their place or in front of them: bonds, bridges (which keep CDP to
/// themselves), macvlans, and veth pairs in a container. At the host's end of such a pair, which is part of a bridge, only
/// the container is heard.
pub fn states(links: &[Link]) -> Vec<LinkState> {
    let heard = links.iter().filter(|link| link.is_up && link.hardware_type == ETHERNET);
    let named = heard.filter(|link| model::ids::check_instance(&link.name).is_ok());
    let mut states: Vec<LinkState> = named
        .map(|link| LinkState {
            index: link.index,
            name: link.name.clone(),
            has_carrier: link.carrier != Some(false),
            carrier_losses: link.carrier_losses,
            is_port: match link.kind.as_deref() {
                None | Some("bond" | "team" | "bridge" | "macvlan" | "macvtap") => true,
                Some("veth") => !link.has_controller,
                Some(_) => false,
            },
        })
        .collect();
    // Those with cables are the last to be left out.
    states.sort_by_key(|state| (!state.is_port, state.index));
    states.truncate(MAX_LINKS);
    states
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: Option<&str>) -> Link {
        Link {
            index,
            name: name.into(),
            hardware_type: ETHERNET,
            is_up: true,
            carrier: Some(true),
            kind: kind.map(str::to_owned),
            ..Link::default()
        }
    }

    #[test]
    fn cables_are_where_hardware_is_or_stands_for_it() {
        for (kind, expected) in [
            (None, Some(true)),
            (Some("bond"), Some(true)),
            (Some("bridge"), Some(true)),
            (Some("veth"), Some(true)),
            (Some("vlan"), Some(false)),
            (Some("tun"), Some(false)),
            (Some("vxlan"), Some(false)),
            (Some("dummy"), Some(false)),
        ] {
            let states = states(&[link(3, "x0", kind)]);
            assert_eq!(states.first().map(|state| state.is_port), expected, "{kind:?}");
        }
        let of_container = Link { has_controller: true, ..link(3, "veth1", Some("veth")) };
        assert!(!states(&[of_container])[0].is_port);
    }

    #[test]
    fn what_is_down_or_no_ethernet_is_not_heard() {
        let down = Link { is_up: false, ..link(2, "eth0", None) };
        let loopback = Link { hardware_type: 772, ..link(1, "lo", None) };
        assert_eq!(states(&[down, loopback, link(3, "a/b", None), link(4, "é", None)]), []);
    }

    #[test]
    fn a_missing_carrier_is_told_and_an_unknown_one_is_there() {
        let lost = Link { carrier: Some(false), carrier_losses: Some(3), ..link(2, "eth0", None) };
        let unknown = Link { carrier: None, ..link(3, "eth1", None) };
        let states = states(&[lost, unknown]);
        assert_eq!((states[0].has_carrier, states[0].carrier_losses), (false, Some(3)));
        assert!(states[1].has_carrier);
    }

    #[test]
    fn cables_go_before_containers() {
        let mut links: Vec<Link> = (2..2000)
            .map(|i| Link { has_controller: true, ..link(i, &format!("v{i}"), Some("veth")) })
            .collect();
        links.push(link(3000, "eth9", None));
        let states = states(&links);
        assert_eq!((states.len(), states[0].name.as_str()), (MAX_LINKS, "eth9"));
    }
}
