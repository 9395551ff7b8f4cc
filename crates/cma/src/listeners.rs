//! Who listens for address resolution (ARP, neighbour discovery) in each subnet: one host for all of them. Pure.
//!
//! Every machine of a subnet hears the same broadcasts, so a thousand listeners would say the same thousand times. An
//! elected host stays elected while it is up and has the interface; else the choice is the same for the same hosts: who
//! has most subnets on that interface (IPv4 and IPv6 share a listener then), then the first by name. Link-local
//! addresses have no subnet of their own; they are heard on the way.
//!
//! What a host does is known only from its registration and from what was handed to its connection; what it should do
//! is told again until the two agree. A host that cannot be told is passed over, and the next that registers takes over.

use model::Designation;
use model::message::Listen;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;

/// Hosts of a subnet that are passed over in a row because they cannot be told; then it waits for one that registers.
const PASSED_OVER: u32 = 3;

/// Addresses that hear each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    /// Name of the network, without `@`.
    pub network: String,
    /// The first address.
    pub address: IpAddr,
    pub prefix_length: u8,
}

/// Interfaces by name, each with its subnets.
pub type Interfaces = BTreeMap<String, BTreeSet<Subnet>>;

/// A host as the store knows it when the CMA starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    pub host: Designation,
    pub is_up: bool,
    pub interfaces: Interfaces,
    /// What was kept of it by [`Output::Keep`].
    pub kept: Listen,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// The host is to listen there and nowhere else.
    Tell { host: Designation, listen: Listen },
    /// To be remembered across a restart of the CMA.
    Keep { host: Designation, listen: Listen },
}

/// All hosts and subnets.
#[derive(Debug, Default)]
pub struct Listeners {
    hosts: HashMap<Designation, Host>,
    subnets: HashMap<Subnet, Group>,
    outputs: VecDeque<Output>,
}

#[derive(Debug, Default)]
struct Host {
    is_up: bool,
    /// It could not be told, and did not come since.
    is_deaf: bool,
    interfaces: Interfaces,
    elected: BTreeSet<(String, Subnet)>,
    /// What it does, as far as is known.
    told: Listen,
    /// What is on its way to it, when that is something else.
    pending: Option<Listen>,
    kept: Listen,
}

#[derive(Debug, Default)]
struct Group {
    candidates: BTreeSet<Candidate>,
    elected: Option<(Designation, String)>,
    passed_over: u32,
}

/// In the order of preference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    is_deaf: bool,
    subnets: Reverse<usize>,
    host: Designation,
    interface: String,
}

impl Listeners {
    /// As it was before this start: who listens goes on, and who should and does not is told.
    pub fn restore(known: Vec<Known>) -> Self {
        let mut listeners = Listeners::default();
        let mut affected = BTreeSet::new();
        for Known { host, is_up, interfaces, kept } in known {
            for (interface, subnets) in &interfaces {
                let listens = is_up && kept.interfaces.contains(interface);
                for subnet in subnets {
                    affected.insert(subnet.clone());
                    let group = listeners.subnets.entry(subnet.clone()).or_default();
                    if listens && group.elected.is_none() {
                        group.elected = Some((host.clone(), interface.clone()));
                    }
                }
            }
            let state = Host { is_up, interfaces, told: kept.clone(), kept, ..Host::default() };
            listeners.hosts.insert(host, state);
        }
        let names: Vec<Designation> = listeners.hosts.keys().cloned().collect();
        for host in &names {
            listeners.enter(host);
        }
        let elected: Vec<(Designation, String, Subnet)> = listeners
            .subnets
            .iter()
            .filter_map(|(subnet, group)| {
                let (host, interface) = group.elected.clone()?;
                Some((host, interface, subnet.clone()))
            })
            .collect();
        for (host, interface, subnet) in elected {
            if let Some(state) = listeners.hosts.get_mut(&host) {
                state.elected.insert((interface, subnet));
            }
        }
        listeners.settle(affected);
        let mut names: Vec<Designation> = names;
        names.sort();
        for host in names {
            listeners.refresh(&host);
        }
        listeners
    }

    /// What a host's interfaces are now. They are kept also while it is down.
    pub fn handle_interfaces(&mut self, host: &Designation, interfaces: Interfaces) {
        let state = self.hosts.entry(host.clone()).or_default();
        if state.interfaces == interfaces {
            return;
        }
        let mut affected = self.withdraw(host);
        if let Some(state) = self.hosts.get_mut(host) {
            state.interfaces = interfaces;
        }
        affected.extend(self.enter(host));
        self.settle(affected);
        self.refresh(host);
    }

    /// A host registered, and said what it listens for.
    pub fn handle_registered(&mut self, host: &Designation, says: Option<Listen>) {
        let mut affected = self.withdraw(host);
        let state = self.hosts.entry(host.clone()).or_default();
        state.is_up = true;
        state.is_deaf = false;
        state.pending = None;
        state.told = says.unwrap_or_default();
        affected.extend(self.enter(host));
        for subnet in &affected {
            let Some(group) = self.subnets.get_mut(subnet) else { continue };
            group.passed_over = 0;
            let Some((elected, interface)) = group.elected.clone() else { continue };
            // Whoever is elected and could not be told does not listen either; this one is here.
            if elected != *host && self.hosts.get(&elected).is_some_and(|elected| elected.is_deaf) {
                self.dismiss(subnet, &elected, &interface);
                self.elect(subnet, host);
            }
        }
        self.settle(affected);
        self.keep(host);
        self.refresh(host);
    }

    /// A host died, or said goodbye.
    pub fn handle_down(&mut self, host: &Designation) {
        let affected = self.withdraw(host);
        let Some(state) = self.hosts.get_mut(host) else { return };
        state.is_up = false;
        state.pending = None;
        self.settle(affected);
    }

    /// A host is forgotten.
    pub fn handle_removed(&mut self, host: &Designation) {
        self.handle_down(host);
        if let Some(state) = self.hosts.remove(host)
            && state.kept != Listen::default()
        {
            self.outputs.push_back(Output::Keep { host: host.clone(), listen: Listen::default() });
        }
    }

    /// What was to be told was handed to the host's connection. Lost on the way, it is told when the host registers.
    pub fn handle_told(&mut self, host: &Designation, listen: &Listen) {
        let Some(state) = self.hosts.get_mut(host) else { return };
        state.told = listen.clone();
        if state.pending.as_ref() == Some(listen) {
            state.pending = None;
        }
        self.keep(host);
    }

    /// The host did not come to be told, however often it was called.
    pub fn handle_unreached(&mut self, host: &Designation) {
        let Some(state) = self.hosts.get_mut(host).filter(|state| state.is_up) else { return };
        state.pending = None;
        let elected: Vec<(String, Subnet)> = state.elected.iter().cloned().collect();
        // It may still have been told what it is not to do any more; only what it lacks counts.
        let deaf = elected.iter().any(|(interface, _)| !state.told.interfaces.contains(interface));
        if !deaf || state.is_deaf {
            return;
        }
        let affected = self.withdraw(host);
        if let Some(state) = self.hosts.get_mut(host) {
            state.is_deaf = true;
        }
        self.enter(host);
        for (interface, subnet) in elected {
            let Some(group) = self.subnets.get_mut(&subnet) else { continue };
            let has_other = group.candidates.first().is_some_and(|first| !first.is_deaf);
            if has_other && group.passed_over < PASSED_OVER {
                group.passed_over += 1;
                self.dismiss(&subnet, host, &interface);
            }
        }
        self.settle(affected);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Makes a host that is up a candidate wherever it has an interface. Returns those subnets.
    fn enter(&mut self, host: &Designation) -> BTreeSet<Subnet> {
        let mut entered = BTreeSet::new();
        let Some(state) = self.hosts.get(host).filter(|state| state.is_up) else { return entered };
        for (subnet, candidate) in candidates(host, state) {
            self.subnets.entry(subnet.clone()).or_default().candidates.insert(candidate);
            entered.insert(subnet);
        }
        entered
    }

    /// Takes a host out of the candidates everywhere; whom it is elected by is settled afterwards. Returns the subnets.
    fn withdraw(&mut self, host: &Designation) -> BTreeSet<Subnet> {
        let mut affected = BTreeSet::new();
        let Some(state) = self.hosts.get(host) else { return affected };
        for (subnet, candidate) in candidates(host, state) {
            if let Some(group) = self.subnets.get_mut(&subnet) {
                group.candidates.remove(&candidate);
            }
            affected.insert(subnet);
        }
        affected
    }

    /// Elects where nobody is elected, or somebody who cannot be any more.
    fn settle(&mut self, subnets: BTreeSet<Subnet>) {
        for subnet in subnets {
            let Some(group) = self.subnets.get(&subnet) else { continue };
            if let Some((host, interface)) = group.elected.clone() {
                let can = self.hosts.get(&host).is_some_and(|state| {
                    state.is_up && state.interfaces.get(&interface).is_some_and(|of| of.contains(&subnet))
                });
                if can {
                    continue;
                }
                self.dismiss(&subnet, &host, &interface);
            }
            let first = self.subnets.get(&subnet).and_then(|group| group.candidates.first());
            match first.map(|first| first.host.clone()) {
                Some(host) => self.elect(&subnet, &host),
                None => drop(self.subnets.remove(&subnet)),
            }
        }
    }

    /// A host that is up listens there from now on, on the first of its interfaces that are in the subnet.
    fn elect(&mut self, subnet: &Subnet, host: &Designation) {
        let Some(state) = self.hosts.get_mut(host) else { return };
        let fitting = state.interfaces.iter().filter(|(_, of)| of.contains(subnet));
        let Some(interface) = fitting
            .min_by_key(|(name, of)| (Reverse(of.len()), (*name).clone()))
            .map(|(name, _)| name.clone())
        else {
            return;
        };
        state.elected.insert((interface.clone(), subnet.clone()));
        if let Some(group) = self.subnets.get_mut(subnet) {
            group.elected = Some((host.clone(), interface));
        }
        self.refresh(host);
    }

    fn dismiss(&mut self, subnet: &Subnet, host: &Designation, interface: &str) {
        if let Some(group) = self.subnets.get_mut(subnet) {
            group.elected = None;
        }
        if let Some(state) = self.hosts.get_mut(host) {
            state.elected.remove(&(interface.to_owned(), subnet.clone()));
        }
        self.refresh(host);
    }

    /// Tells a host what it is to do, when that is another thing than it does or is being told.
    fn refresh(&mut self, host: &Designation) {
        let Some(state) = self.hosts.get_mut(host).filter(|state| state.is_up) else { return };
        let interfaces: BTreeSet<&String> = state.elected.iter().map(|(interface, _)| interface).collect();
        let listen = Listen { interfaces: interfaces.into_iter().cloned().collect() };
        if state.pending.as_ref().unwrap_or(&state.told) == &listen {
            return;
        }
        state.pending = (state.told != listen).then(|| listen.clone());
        self.outputs.push_back(Output::Tell { host: host.clone(), listen });
    }

    fn keep(&mut self, host: &Designation) {
        let Some(state) = self.hosts.get_mut(host) else { return };
        if state.kept != state.told {
            state.kept = state.told.clone();
            self.outputs.push_back(Output::Keep { host: host.clone(), listen: state.told.clone() });
        }
    }
}

/// Where a host stands for election.
fn candidates(host: &Designation, state: &Host) -> Vec<(Subnet, Candidate)> {
    let of_interface = |(interface, subnets): (&String, &BTreeSet<Subnet>)| {
        let candidate = Candidate {
            is_deaf: state.is_deaf,
            subnets: Reverse(subnets.len()),
            host: host.clone(),
            interface: interface.clone(),
        };
        subnets.iter().map(|subnet| (subnet.clone(), candidate.clone())).collect::<Vec<_>>()
    };
    state.interfaces.iter().flat_map(of_interface).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn name(text: &str) -> Designation {
        Designation::new(text).unwrap()
    }

    fn listen(interfaces: &[&str]) -> Listen {
        Listen { interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect() }
    }

    /// `eth0=10.0.0.0,eth1=10.0.1.0` as /24 of one network.
    fn interfaces(text: &str) -> Interfaces {
        let mut interfaces = Interfaces::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (interface, address) = part.split_once('=').unwrap();
            interfaces.entry(interface.to_owned()).or_default().insert(Subnet {
                network: "global".into(),
                address: address.parse().unwrap(),
                prefix_length: if address.contains(':') { 64 } else { 24 },
            });
        }
        interfaces
    }

    /// A site as its hosts see it: what each was told last.
    #[derive(Default)]
    struct Site {
        listeners: Listeners,
        told: BTreeMap<String, Vec<String>>,
        kept: BTreeMap<String, Listen>,
        tells: usize,
    }

    impl Site {
        /// Hands everything over at once, except to the hosts of `away`.
        fn deliver(&mut self, away: &[&str]) {
            while let Some(output) = self.listeners.poll_output() {
                match output {
                    Output::Tell { host, .. } if away.contains(&host.as_str()) => {}
                    Output::Tell { host, listen } => {
                        self.tells += 1;
                        self.told.insert(host.to_string(), listen.interfaces.clone());
                        self.listeners.handle_told(&host, &listen);
                    }
                    Output::Keep { host, listen } => drop(self.kept.insert(host.to_string(), listen)),
                }
            }
        }

        fn come(&mut self, host: &str, text: &str) {
            let says = self.told.get(host).map(|told| Listen { interfaces: told.clone() });
            self.listeners.handle_registered(&name(host), says);
            self.listeners.handle_interfaces(&name(host), interfaces(text));
            self.deliver(&[]);
        }

        fn listening(&self) -> String {
            let listening = self.told.iter().filter(|(_, told)| !told.is_empty());
            listening.map(|(host, told)| format!("{host}:{}", told.join("+"))).collect::<Vec<_>>().join(" ")
        }
    }

    #[test]
    fn one_host_of_each_subnet_listens_and_goes_on_while_it_is_up() {
        let mut site = Site::default();
        site.come("m", "eth0=10.0.0.0");
        assert_eq!(site.listening(), "m:eth0");
        site.come("a", "eth0=10.0.0.0");
        site.come("z", "eth0=10.0.0.0,eth1=10.0.1.0");
        assert_eq!(site.listening(), "m:eth0 z:eth1", "the first stays");
        site.come("m", "eth0=10.0.0.0");
        assert_eq!((site.listening().as_str(), site.tells), ("m:eth0 z:eth1", 2), "nothing is told twice");
        site.listeners.handle_down(&name("m"));
        site.told.remove("m");
        site.deliver(&[]);
        assert_eq!(site.listening(), "a:eth0 z:eth1", "the first by name follows");
        site.listeners.handle_removed(&name("a"));
        site.told.remove("a");
        site.deliver(&[]);
        assert_eq!(site.listening(), "z:eth0+eth1");
        assert_eq!(site.kept["a"], Listen::default());
        site.come("m", "eth0=10.0.0.0");
        assert_eq!(site.listening(), "z:eth0+eth1");
    }

    #[test]
    fn an_interface_that_moves_to_another_subnet_is_another_matter() {
        let mut site = Site::default();
        site.come("a", "eth0=10.0.0.0");
        site.come("b", "eth0=10.0.0.0");
        site.come("a", "eth0=10.0.9.0");
        assert_eq!(site.listening(), "a:eth0 b:eth0");
        site.come("a", "eth0=10.0.0.0");
        assert_eq!(site.listening(), "b:eth0", "back again, it stops");
        site.come("b", "");
        assert_eq!(site.listening(), "a:eth0");
    }

    #[test]
    fn both_families_of_an_interface_share_a_listener() {
        let known = |host: &str, text| Known {
            host: name(host),
            is_up: true,
            interfaces: interfaces(text),
            kept: Listen::default(),
        };
        let hosts = vec![known("a", "eth0=10.0.0.0"), known("b", "eth0=10.0.0.0,eth0=2001:db8::")];
        let mut site = Site { listeners: Listeners::restore(hosts), ..Site::default() };
        site.deliver(&[]);
        assert_eq!(site.listening(), "b:eth0");
    }

    #[test]
    fn after_a_restart_who_listens_goes_on_and_the_others_are_put_right() {
        let known = |host: &str, is_up, kept: &[&str]| Known {
            host: name(host),
            is_up,
            interfaces: interfaces("eth0=10.0.0.0"),
            kept: listen(kept),
        };
        let mut site = Site {
            listeners: Listeners::restore(vec![known("a", true, &[]), known("b", true, &["eth0"])]),
            ..Site::default()
        };
        site.deliver(&[]);
        assert_eq!(site.tells, 0, "{:?}", site.told);
        // Killed between the election of c and telling it; b listened and is dead.
        let hosts = vec![known("b", false, &["eth0"]), known("c", true, &[]), known("d", true, &["eth1"])];
        site.listeners = Listeners::restore(hosts);
        site.deliver(&[]);
        assert_eq!(site.told, BTreeMap::from([("c".into(), vec!["eth0".into()]), ("d".into(), vec![])]));
        assert_eq!((&site.kept["c"], &site.kept["d"]), (&listen(&["eth0"]), &Listen::default()));
    }

    #[test]
    fn a_host_that_does_otherwise_than_it_should_is_told_when_it_registers() {
        let mut site = Site::default();
        site.come("a", "eth0=10.0.0.0");
        let mut says = |host: &str, what: Option<Listen>| {
            site.listeners.handle_registered(&name(host), what);
            let mut tells = Vec::new();
            while let Some(output) = site.listeners.poll_output() {
                if let Output::Tell { host, listen } = output {
                    tells.push((host.to_string(), listen));
                }
            }
            tells
        };
        assert_eq!(says("a", Some(listen(&["eth0"]))), []);
        // Started again: it lost what it was told.
        assert_eq!(says("a", None), [("a".to_owned(), listen(&["eth0"]))]);
        assert_eq!(says("b", Some(listen(&["eth5"]))), [("b".to_owned(), listen(&[]))]);
    }

    #[test]
    fn who_cannot_be_told_is_passed_over_some_times() {
        let mut site = Site::default();
        for host in ["a", "b", "c", "d", "e", "f"] {
            site.listeners.handle_registered(&name(host), None);
            site.listeners.handle_interfaces(&name(host), interfaces("eth0=10.0.0.0"));
        }
        let all = ["a", "b", "c", "d", "e", "f"];
        site.deliver(&all);
        for host in ["a", "b", "c"] {
            site.listeners.handle_unreached(&name(host));
            site.deliver(&["a", "b", "c"]);
        }
        assert_eq!(site.listening(), "d:eth0");
        // Nobody can be called: after some attempts it waits for one that comes by itself.
        let mut site = Site::default();
        for host in all {
            site.listeners.handle_registered(&name(host), None);
            site.listeners.handle_interfaces(&name(host), interfaces("eth0=10.0.0.0"));
        }
        for host in all {
            site.listeners.handle_unreached(&name(host));
        }
        site.deliver(&all);
        assert_eq!(site.listening(), "");
        let deaf = site.listeners.hosts.values().filter(|host| host.is_deaf).count();
        assert_eq!(deaf, 4, "three were passed over, the fourth stays elected");
        site.come("f", "eth0=10.0.0.0");
        assert_eq!(site.listening(), "f:eth0");
        site.come("a", "eth0=10.0.0.0");
        assert_eq!(site.listening(), "f:eth0");
    }

    #[test]
    fn ten_thousand_hosts_come_and_go() {
        let mut site = Site::default();
        let place = |number: usize| format!("eth0=10.{}.{}.0", number / 250 / 250, number / 250 % 250);
        for number in 0..10_000 {
            site.come(&format!("h{number:05}"), &place(number));
        }
        assert_eq!((site.tells, site.listening().split(' ').count()), (40, 40));
        for number in (0..10_000).step_by(250) {
            let host = format!("h{number:05}");
            site.listeners.handle_down(&name(&host));
            site.told.remove(&host);
        }
        site.deliver(&[]);
        assert_eq!((site.tells, site.listening().split(' ').count()), (80, 40));
        assert!(site.listening().starts_with("h00001:eth0 h00251:eth0"), "{}", site.listening());
    }
}
