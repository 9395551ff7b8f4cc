//! Where a host stands: the subnet of the address it talks from, by its own `netconfig`.

use super::report::meaning;
use super::{Change, Context};
use liveness::rings::Place;
use model::envelope::Envelope;
use model::graph::NodeKind;
use model::{Designation, GraphFacts};
use std::net::{IpAddr, SocketAddr};
use store::{HostRow, Result, Transaction};

const NETCONFIG: &str = "netconfig";
const SUBNET: &str = "subnet ";
const SWITCH: &str = "switch ";

/// A document arrived; where it is a `netconfig`, it tells where the host stands.
pub fn follow(context: &mut Context<'_>, host: &HostRow, envelope: &Envelope, facts: &GraphFacts) {
    if envelope.discovertype == NETCONFIG
        && let Some(ip) = ip_of(&host.address)
    {
        let place = subnet(facts, ip);
        context.produced.changes.push(Change::Place { host: host.designation.clone(), place });
    }
}

/// A host talks from another address: its stored `netconfig` tells where that is, if there is one.
pub fn find(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &Designation,
    ip: IpAddr,
) -> Result<()> {
    let documents = tx.documents(host)?;
    let Some(row) = documents.into_iter().find(|row| row.discovertype == NETCONFIG) else { return Ok(()) };
    let Some(body) = tx.body(&row.hash)? else { return Ok(()) };
    let facts = serde_json::from_str::<Envelope>(&body)
        .ok()
        .and_then(|text| meaning(context.knowledge, host, &text).ok());
    let place = facts.map_or(Place::Unknown, |facts| subnet(&facts, ip));
    context.produced.changes.push(Change::Place { host: host.clone(), place });
    Ok(())
}

/// The address in `address:port`.
pub fn ip_of(address: &str) -> Option<IpAddr> {
    address.parse::<SocketAddr>().ok().map(|address| address.ip().to_canonical())
}

/// The network of the interface that has this address; unknown where none has it, as behind address translation.
pub fn subnet(facts: &GraphFacts, ip: IpAddr) -> Place {
    let length =
        facts.edges.iter().filter(|edge| edge.target.kind == NodeKind::IpaddrNode).find_map(|edge| {
            let (_, text) = edge.target.key.split_once('/')?;
            let own: IpAddr = text.parse().ok()?;
            let length = edge.target.properties.get("cidrmask")?.as_u64()?;
            (own.to_canonical() == ip.to_canonical()).then(|| u8::try_from(length).ok())?
        });
    length.and_then(|length| network(ip.to_canonical(), length)).unwrap_or(Place::Unknown)
}

/// As it is kept in the store; [`from_text`] reads it.
pub fn to_text(place: &Place) -> String {
    match place {
        Place::Switch(name) => format!("{SWITCH}{name}"),
        Place::Subnet(network, length) => format!("{SUBNET}{network}/{length}"),
        Place::Unknown => String::new(),
    }
}

pub fn from_text(text: &str) -> Place {
    if let Some(name) = text.strip_prefix(SWITCH) {
        return Place::Switch(name.to_owned());
    }
    let subnet = text.strip_prefix(SUBNET).and_then(|text| text.split_once('/'));
    let parsed = subnet.and_then(|(ip, length)| network(ip.parse().ok()?, length.parse().ok()?));
    parsed.unwrap_or(Place::Unknown)
}

/// A host alone in its network (a point-to-point link, a loopback) has no neighbours there.
fn network(ip: IpAddr, length: u8) -> Option<Place> {
    let masked = match ip {
        IpAddr::V4(v4) if length < 32 => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::from((v4.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(v6) if length < 128 => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::from((v6.to_bits() & mask).to_be_bytes())
        }
        _ => return None,
    };
    Some(Place::Subnet(masked, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::graph::{EdgeFact, EdgeKind, NodeFact};
    use serde_json::json;

    fn facts(addresses: &[(&str, u64)]) -> GraphFacts {
        let edge = |(ip, length): &(&str, u64)| EdgeFact {
            source: (NodeKind::NicNode, "web1/eth0".into()),
            kind: EdgeKind::IpOwner,
            target: NodeFact {
                kind: NodeKind::IpaddrNode,
                key: format!("@global/{ip}"),
                properties: json!({"ipaddr": ip, "cidrmask": length}).as_object().unwrap().clone(),
            },
        };
        GraphFacts { edges: addresses.iter().map(edge).collect(), ..GraphFacts::default() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_subnet_is_that_of_the_address_it_talks_from() {
        let facts = facts(&[("127.0.0.1", 8), ("10.3.2.1", 20), ("2001:db8:1:2::7", 64), ("192.0.2.9", 32)]);
        assert_eq!(subnet(&facts, ip("10.3.2.1")), Place::Subnet(ip("10.3.0.0"), 20));
        assert_eq!(subnet(&facts, ip("::ffff:10.3.2.1")), Place::Subnet(ip("10.3.0.0"), 20));
        assert_eq!(subnet(&facts, ip("2001:db8:1:2::7")), Place::Subnet(ip("2001:db8:1:2::"), 64));
        assert_eq!(subnet(&facts, ip("127.0.0.1")), Place::Subnet(ip("127.0.0.0"), 8));
        assert_eq!(subnet(&facts, ip("10.3.2.2")), Place::Unknown, "behind address translation");
        assert_eq!(subnet(&facts, ip("192.0.2.9")), Place::Unknown, "alone there");
        assert_eq!(network(ip("10.1.2.3"), 0), Some(Place::Subnet(ip("0.0.0.0"), 0)));
        assert_eq!((network(ip("10.1.2.3"), 200), network(ip("::1"), 128)), (None, None));
    }

    #[test]
    fn what_is_kept_reads_back() {
        let places = [
            Place::Switch("00-16-3e-00-00-01 port/1".into()),
            Place::Subnet(ip("10.3.0.0"), 20),
            Place::Subnet(ip("2001:db8::"), 32),
            Place::Unknown,
        ];
        for place in places {
            assert_eq!(from_text(&to_text(&place)), place);
        }
        for rubbish in ["subnet", "subnet 10.0.0.0", "subnet x/8", "subnet 10.0.0.0/33", "moon"] {
            assert_eq!(from_text(rubbish), Place::Unknown, "{rubbish}");
        }
    }
}
