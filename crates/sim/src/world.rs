//! One site in one process: machines, network and CMA, driven by a queue of events in virtual time.
//!
//! What is real: the cores of crate `liveness`, and `wire::delivery`'s sender, which decides when a nanoprobe dials, backs
//! off and closes. What is modelled: QUIC (handshakes and streams that are repeated when a packet is lost, end after 40 s
//! without progress, and are reset by an endpoint that does not know them), the sealing of heartbeats ([`crate::peers`]),
//! the CMA's processor and disk as fixed costs ([`Costs`]), its calls of hosts that are not connected, and ICMP.

mod authority;
mod fault;
mod links;
mod nanoprobe;
mod whole;

pub(crate) use authority::designation;
pub use fault::Fault;
pub use whole::Steady;

use crate::cores::{Cores, Production};
use crate::ledger::Ledger;
use crate::machine::{Machine, Power, Traffic};
use crate::network::{CMA, Network, Node, Weather};
use crate::peers::Sealed;
use crate::queue::{Moment, Queue};
use crate::random::Random;
use authority::Authority;
use links::Links;
use liveness::center::Reached;
use liveness::observer::Tried;
use liveness::rings::Place;
use model::config::HeartbeatConfig;
use model::liveness::HostNumber;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// What the CMA's work takes in virtual time; the real cost is measured elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costs {
    /// Processor time of one handshake.
    pub handshake_microseconds: u32,
    /// Share of one registration in the writer's time.
    pub registration_microseconds: u32,
    /// From the end of that to the answer: the group commit.
    pub commit_microseconds: u32,
}

impl Default for Costs {
    fn default() -> Self {
        Self { handshake_microseconds: 500, registration_microseconds: 1000, commit_microseconds: 8000 }
    }
}

/// A site to simulate.
#[derive(Debug, Clone)]
pub struct Setup {
    pub seed: u64,
    pub hosts: usize,
    /// Machines on one switch.
    pub hosts_per_place: usize,
    /// The machines are switched on within this time.
    pub boot_spread: Duration,
    pub config: HeartbeatConfig,
    pub weather: Weather,
    pub costs: Costs,
}

impl Setup {
    /// Some hosts on switches of 24, switched on within two seconds, in a quiet LAN.
    pub fn new(seed: u64, hosts: usize) -> Self {
        Self {
            seed,
            hosts,
            hosts_per_place: 24,
            boot_spread: Duration::from_secs(2),
            config: HeartbeatConfig::default(),
            weather: Weather::default(),
            costs: Costs::default(),
        }
    }
}

/// Something that happens.
#[derive(Debug, Clone)]
pub enum Event {
    /// A heartbeat arrives at an address, or at the CMA.
    Packet {
        from: Node,
        to: Node,
        sealed: Sealed,
    },
    /// A timer of a nanoprobe.
    Wake {
        machine: Node,
        life: u32,
    },
    /// First packet of a handshake, for the so many-th time.
    Dial {
        link: u32,
        attempt: u32,
    },
    /// The handshake is through.
    Dialled {
        link: u32,
    },
    /// First message of a direction arrives.
    Stream {
        link: u32,
        down: bool,
    },
    /// The registration is committed.
    Registered {
        link: u32,
    },
    /// What came of trying a partner's port and echo.
    Tried {
        machine: Node,
        life: u32,
        about: HostNumber,
        tried: Tried,
    },
    CmaWake {
        life: u32,
    },
    CmaTried {
        life: u32,
        about: HostNumber,
        tried: Tried,
    },
    CmaReached {
        life: u32,
        identity: u32,
        address: Node,
        attempt: u32,
    },
    CmaTold {
        life: u32,
        identity: u32,
        reached: Reached,
    },
    /// The CMA calls a host.
    Call {
        life: u32,
        identity: u32,
        attempt: u32,
    },
    /// The call arrives.
    Called {
        machine: Node,
        life: u32,
    },
    Boot {
        machine: Node,
    },
    Fault(Box<Fault>),
    /// Once a second: what must hold at every moment.
    Check,
}

/// A whole site.
pub struct World {
    pub(crate) now: Moment,
    pub(crate) queue: Queue<Event>,
    pub(crate) random: Random,
    pub(crate) network: Network,
    pub(crate) machines: Vec<Machine>,
    /// Machine at each address.
    pub(crate) owners: Vec<Node>,
    pub(crate) links: Links,
    pub(crate) cma: Authority,
    pub(crate) cores: Box<dyn Cores>,
    pub(crate) ledger: Ledger,
    pub(crate) setup: Setup,
    pub(crate) events: u64,
    pub(crate) trace: u64,
    /// Heartbeats that an eavesdropper kept, to send them again.
    pub(crate) overheard: Vec<(Node, Node, Sealed)>,
    pub(crate) eavesdrop: bool,
    log: Option<Vec<String>>,
}

impl World {
    /// With the cores that are shipped.
    pub fn new(setup: Setup) -> Self {
        Self::with_cores(setup, Box::new(Production))
    }

    pub fn with_cores(setup: Setup, cores: Box<dyn Cores>) -> Self {
        let mut random = Random::new(setup.seed);
        let per_place = setup.hosts_per_place.max(1);
        let places = (0..setup.hosts).map(|host| (host / per_place) as u32).collect();
        let machines = (0..setup.hosts as u32).map(|host| machine(host, host)).collect();
        let cma = Authority::new(random.bytes(), random.bytes());
        let mut world = Self {
            now: 0,
            queue: Queue::default(),
            network: Network::new(setup.weather, places),
            machines,
            owners: (0..setup.hosts as u32).collect(),
            links: Links::default(),
            cma,
            cores,
            ledger: Ledger::new(setup.hosts, &setup.config),
            events: 0,
            trace: setup.seed,
            overheard: Vec::new(),
            eavesdrop: false,
            log: None,
            random,
            setup,
        };
        world.start_cma();
        let spread = micros(world.setup.boot_spread);
        for machine in 0..world.machines.len() as u32 {
            let at = world.random.below(spread + 1);
            world.queue.push(at, Event::Boot { machine });
        }
        world.queue.push(1_000_000, Event::Check);
        world
    }

    /// Keeps a line for everything of interest, for a person who looks for a fault.
    pub fn keep_log(&mut self) {
        self.log = Some(Vec::new());
    }

    /// The lines kept so far.
    pub fn log(&self) -> &[String] {
        self.log.as_deref().unwrap_or_default()
    }

    /// Virtual time since the start.
    pub fn now(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Differs when anything went another way.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        self.run_until(self.now() + time);
    }

    pub fn run_until(&mut self, until: Duration) {
        let until = micros(until);
        while let Some((at, event)) = self.queue.pop(until) {
            self.now = at;
            self.events += 1;
            self.note(&event);
            self.handle(event);
        }
        self.now = until;
    }

    /// Lets a fault happen so long from now.
    pub fn after(&mut self, time: Duration, fault: Fault) {
        self.queue.push(self.now + micros(time), Event::Fault(Box::new(fault)));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Packet { from, to, sealed } => self.packet(from, to, sealed),
            Event::Wake { machine, life } => self.wake(machine, life),
            Event::Dial { link, attempt } => self.dial(link, attempt),
            Event::Dialled { link } => self.dialled(link),
            Event::Stream { link, down } => self.stream(link, down),
            Event::Registered { link } => self.registered(link),
            Event::Tried { machine, life, about, tried } => self.tried(machine, life, about, tried),
            Event::CmaWake { life } => self.cma_wake(life),
            Event::CmaTried { life, about, tried } => self.cma_tried(life, about, tried),
            Event::CmaReached { life, identity, address, attempt } => {
                self.cma_tries(life, identity, address, attempt);
            }
            Event::CmaTold { life, identity, reached } => self.cma_told(life, identity, reached),
            Event::Call { life, identity, attempt } => self.call_attempt(life, identity, attempt),
            Event::Called { machine, life } => self.called(machine, life),
            Event::Boot { machine } => self.boot(machine),
            Event::Fault(fault) => self.apply(*fault),
            Event::Check => {
                self.check();
                self.queue.push(self.now + 1_000_000, Event::Check);
            }
        }
    }

    /// Mixes an event into the trace.
    fn note(&mut self, event: &Event) {
        let (kind, who, what): (u64, u64, u64) = match event {
            Event::Packet { to, sealed, .. } => (1, u64::from(*to), sealed.key ^ sealed.counter),
            Event::Wake { machine, life } => (2, u64::from(*machine), u64::from(*life)),
            Event::Dial { link, attempt } => (3, u64::from(*link), u64::from(*attempt)),
            Event::Dialled { link } => (4, u64::from(*link), 0),
            Event::Stream { link, down } => (5, u64::from(*link), u64::from(*down)),
            Event::Registered { link } => (6, u64::from(*link), 0),
            Event::Tried { machine, about, .. } => (7, u64::from(*machine), u64::from(*about)),
            Event::CmaWake { life } => (8, u64::from(*life), 0),
            Event::CmaTried { about, .. } => (9, u64::from(*about), 0),
            Event::CmaReached { identity, attempt, .. } => (10, u64::from(*identity), u64::from(*attempt)),
            Event::CmaTold { identity, .. } => (11, u64::from(*identity), 0),
            Event::Call { identity, attempt, .. } => (12, u64::from(*identity), u64::from(*attempt)),
            Event::Called { machine, .. } => (13, u64::from(*machine), 0),
            Event::Boot { machine } => (14, u64::from(*machine), 0),
            // A fault shows in what follows from it.
            Event::Fault(_) | Event::Check => return,
        };
        for word in [self.now, kind, who, what] {
            self.trace = (self.trace ^ word).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(29);
        }
    }

    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>12.6} {}", self.now as f64 / 1e6, line()));
        }
    }

    /// Where a machine stands, as discovered.
    pub(crate) fn place_of(&self, machine: Node) -> Place {
        place(self.network.place(machine))
    }

    pub(crate) fn machine_at(&self, address: Node) -> Option<Node> {
        self.owners.get(address as usize).copied()
    }
}

/// The place of this number; both kinds occur on a site.
pub(crate) fn place(number: u32) -> Place {
    if number.is_multiple_of(3) {
        Place::Subnet(IpAddr::V4(Ipv4Addr::from(0x0A00_0000 | number << 8)), 24)
    } else {
        Place::Switch(format!("switch {number}"))
    }
}

/// A machine that is switched off.
pub(crate) fn machine(identity: u32, address: u32) -> Machine {
    Machine {
        identity,
        address,
        power: Power::Off,
        process: None,
        life: 0,
        delivered: false,
        wall_clock_offset_seconds: 0,
        traffic: Traffic::default(),
    }
}

pub(crate) fn micros(time: Duration) -> Moment {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 2)
}

/// The address as the CMA sees it.
pub(crate) fn address_text(address: u32) -> String {
    format!("[::ffff:{}]:1984", Ipv4Addr::from(0x0A00_0000 | address))
}

/// The number of an address; [`CMA`] for what is none, as the CMA's own is.
pub(crate) fn address_number(text: &str) -> Node {
    let inner = text.strip_prefix("[::ffff:").and_then(|rest| rest.strip_suffix("]:1984"));
    match inner.and_then(|inner| inner.parse::<Ipv4Addr>().ok()) {
        Some(address) => u32::from(address) & 0x00FF_FFFF,
        None => CMA,
    }
}
