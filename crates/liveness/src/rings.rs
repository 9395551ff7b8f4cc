//! Who watches whom.

use model::liveness::HostNumber;
use std::net::IpAddr;

/// Where a host stands, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// On this switch (LLDP, CDP): its identity.
    Switch(String),
    /// In this subnet: network address and prefix length.
    Subnet(IpAddr, u8),
    /// Nothing is known.
    Unknown,
}

/// All rings of a site. The order in a ring is that of `position`, which counts up with every join.
#[derive(Debug, Default)]
pub struct Rings {}

impl Rings {
    /// Takes a host in, or moves it to another place. Returns whose partners changed.
    pub fn join(&mut self, host: HostNumber, position: u64, place: &Place) -> Vec<HostNumber> {
        let _ = (host, position, place);
        Vec::new()
    }

    /// Takes a host out and closes the gap. Returns whose partners changed, without the host itself.
    pub fn leave(&mut self, host: HostNumber) -> Vec<HostNumber> {
        let _ = host;
        Vec::new()
    }

    /// Partners of a host, at most four, each once; 0 is the CMA, for a host that would have none.
    pub fn partners(&self, host: HostNumber) -> Vec<HostNumber> {
        let _ = host;
        Vec::new()
    }
}
