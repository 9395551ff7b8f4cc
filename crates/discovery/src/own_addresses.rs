//! The addresses of the host itself, as an extra of documents that tell of services: at which addresses something on
//! `0.0.0.0` is reached, and what an address means outside the host. The context of addresses is that of netconfig.

use crate::all::netconfig;
use crate::{Host, Parameters};
use model::Envelope;
use model::graph::{GLOBAL, NodeKind};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Name of the extra.
pub(crate) const EXTRA: &str = "addresses";

/// The extra: `"10.0.0.7/24":"global"`, or `"host"` for addresses that other hosts may have too. Loopback is left out.
pub(crate) fn collect(host: &Host) -> Map<String, Value> {
    let collected = (netconfig::DISCOVERY.collect)(host, &Parameters::new());
    let envelope = Envelope {
        discovertype: netconfig::DISCOVERY.name.into(),
        description: String::new(),
        host: String::new(),
        source: String::new(),
        instance: String::new(),
        proxy: String::new(),
        data: collected.data,
        errors: Vec::new(),
        extras: Map::new(),
    };
    let facts = (netconfig::DISCOVERY.graph)("host", &envelope);
    let addresses =
        facts.edges.iter().filter(|edge| edge.target.kind == NodeKind::IpaddrNode).filter_map(|edge| {
            let (context, ip) = edge.target.key.split_once('/')?;
            let ip: IpAddr = ip.parse().ok()?;
            let length = edge.target.properties.get("cidrmask")?;
            let context = if context == GLOBAL { "global" } else { "host" };
            (!ip.is_loopback()).then(|| (format!("{ip}/{length}"), Value::from(context)))
        });
    addresses.collect()
}

/// The extra as it was read: address → length of its network, and whether it means the same at other hosts.
#[derive(Debug, Default)]
pub(crate) struct OwnAddresses(BTreeMap<IpAddr, (u8, bool)>);

impl OwnAddresses {
    /// Of a document's extras; what is no address is left out.
    pub(crate) fn of(extras: &Map<String, Value>) -> Self {
        let addresses = extras.get(EXTRA).and_then(Value::as_object);
        let parsed = addresses.into_iter().flatten().filter_map(|(address, context)| {
            let (ip, length) = address.split_once('/')?;
            Some((ip.parse().ok()?, (length.parse().ok()?, context == "global")))
        });
        Self(parsed.collect())
    }

    /// The addresses at which something that listens at `ip` on `host` is reached, with their contexts.
    pub(crate) fn reached(&self, host: &str, ip: IpAddr, six_takes_four: bool) -> Vec<(String, IpAddr)> {
        if !ip.is_unspecified() {
            return vec![(self.context_of(host, ip, host), ip)];
        }
        let fits = |own: &IpAddr| own.is_ipv4() == ip.is_ipv4() || (ip.is_ipv6() && six_takes_four);
        let own = self.0.keys().filter(|own| fits(own));
        own.map(|own| (self.context_of(host, *own, host), *own)).collect()
    }

    /// [`GLOBAL`], or `inside` for an address of the place itself (loopback, link-local), or `host` for one that may exist
    /// on other hosts too: in the network of an interface that has no hardware.
    pub(crate) fn context_of(&self, host: &str, ip: IpAddr, inside: &str) -> String {
        let is_link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        if ip.is_loopback() || ip.is_unspecified() || is_link_local {
            return inside.to_owned();
        }
        let is_hosts = match self.0.get(&ip) {
            Some((_, is_global)) => !is_global,
            None => {
                self.0.iter().any(|(own, (length, is_global))| !is_global && same_network(ip, *own, *length))
            }
        };
        if is_hosts { host } else { GLOBAL }.to_owned()
    }
}

fn same_network(a: IpAddr, b: IpAddr, length: u8) -> bool {
    let shift = |bits: u32| bits.saturating_sub(u32::from(length));
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0
        }
        _ => false,
    }
}
