//! The nanoprobe's ears: which devices are at the other end of its cables (LLDP, CDP), and on behalf of its subnet, where the
//! CMA says so, who has which address (ARP, IPv6 neighbour discovery, the kernel's own table). Nothing is sent.
//!
//! Frames come through [`ears`] (made of [`packet_socket`]s with a [`filter`] each) from the interfaces of [`links`];
//! [`discovery::link`] reads them, [`table`] knows what they mean and which documents follow. A task of its own does the
//! input, so that a frame wakes nothing else; finished documents go to the agent, and from there the way of all documents.

pub mod advertisements;
pub mod ears;
pub mod filter;
pub mod links;
pub mod pace;
pub mod packet_socket;
pub mod pairs;
pub mod table;

use crate::collector::{Document, pack};
use crate::triggers::netlink::NetworkChanges;
use discovery::link::{MacAddress, Sighting, decode_captured, sighting};
use discovery::rtnetlink;
use ears::{Ears, Heard};
use model::config::NeighboursConfig;
use model::message::Listen;
use model::{DocumentHash, Envelope};
use packet_socket::Arrival;
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use table::{Kind, Table, Told};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

/// When more frames come than are read in one go, the next are read after this; what the kernel cannot keep meanwhile is lost.
/// So a flood costs little: at most 32 frames of each socket in this time.
const BREATH: Duration = Duration::from_millis(50);

/// Interfaces are not listed more often than this, however often they change.
const LINKS_PAUSE: Duration = Duration::from_millis(200);

/// How often interfaces are listed where the kernel does not tell of changes.
const LINKS_POLL: Duration = Duration::from_secs(60);

/// A document of an earlier nanoprobe that the CMA has.
#[derive(Debug, Clone)]
pub struct Kept {
    pub instance: String,
    pub hash: DocumentHash,
    /// zstd of the canonical text.
    pub body: Option<Vec<u8>>,
}

/// What the agent has to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    pub instance: String,
    /// For the queue; `None`: there is no such document any more.
    pub document: Option<Document>,
}

/// Whether a document of this instance is about neighbours.
pub fn is_ours(instance: &str) -> bool {
    Kind::of(instance).is_some()
}

/// The agent's end of the task.
#[derive(Debug)]
pub struct Neighbours {
    host: String,
    config: Option<NeighboursConfig>,
    listen: BTreeSet<String>,
    to_task: UnboundedSender<Order>,
    /// Until the task is started.
    orders: Option<UnboundedReceiver<Order>>,
    to_agent: UnboundedSender<News>,
    news: UnboundedReceiver<News>,
    is_deaf: bool,
}

#[derive(Debug)]
enum Order {
    Configure(NeighboursConfig),
    Listen(BTreeSet<String>),
    Wanted(String),
    Refused(String),
}

#[derive(Debug)]
enum News {
    Effect(Effect),
    /// The system gives no packet sockets.
    Deaf,
}

impl Neighbours {
    pub fn new(host: &str) -> Self {
        let (to_task, orders) = unbounded_channel();
        let (to_agent, news) = unbounded_channel();
        Self {
            host: host.into(),
            config: None,
            listen: BTreeSet::new(),
            to_task,
            orders: Some(orders),
            to_agent,
            news,
            is_deaf: false,
        }
    }

    /// Applies settings. The first time it starts the task, with the documents of before; must be called within a tokio runtime.
    pub fn configure(&mut self, config: &NeighboursConfig, kept: impl FnOnce() -> Vec<Kept>) {
        if self.config.as_ref() == Some(config) {
            return;
        }
        self.config = Some(config.clone());
        self.order(Order::Configure(config.clone()));
        if let Some(orders) = self.orders.take() {
            let mut table = Table::new(&self.host);
            table.configure(Duration::ZERO, config.enabled, forget(config));
            for kept in kept() {
                if let Some((Kind::Addresses, interface)) = Kind::of(&kept.instance) {
                    self.listen.insert(interface.into());
                }
                let pairs = kept.body.as_deref().map(pairs_of).unwrap_or_default();
                table.restore(Duration::ZERO, &kept.instance, kept.hash, pairs);
            }
            tokio::spawn(run(table, config.clone(), orders, self.to_agent.clone()));
        }
    }

    /// The CMA has chosen where to listen for addresses.
    pub fn listen(&mut self, listen: Listen) {
        self.listen = listen.interfaces.into_iter().collect();
        tracing::info!(interfaces = ?self.listen, "the CMA says where to listen for addresses");
        self.order(Order::Listen(self.listen.clone()));
    }

    /// For `Register`.
    pub fn standing(&self) -> Option<Listen> {
        let is_listening = !self.listen.is_empty()
            && !self.is_deaf
            && self.config.as_ref().is_some_and(|config| config.enabled);
        is_listening.then(|| Listen { interfaces: self.listen.iter().cloned().collect() })
    }

    /// The CMA lacks a document.
    pub fn wanted(&mut self, instance: &str) {
        self.order(Order::Wanted(instance.into()));
    }

    /// The queue could not take a document; it comes again later.
    pub fn refused(&mut self, instance: &str) {
        self.order(Order::Refused(instance.into()));
    }

    /// The next document.
    pub async fn next(&mut self) -> Option<Effect> {
        loop {
            match self.news.recv().await? {
                News::Effect(effect) => return Some(effect),
                News::Deaf => self.is_deaf = true,
            }
        }
    }

    /// The task lives as long as we do.
    fn order(&self, order: Order) {
        let _ = self.to_task.send(order);
    }
}

fn forget(config: &NeighboursConfig) -> Duration {
    Duration::from_secs(config.forget_minutes.clamp(1, 7 * 24 * 60) * 60)
}

/// The addresses in a document of before; none when it cannot be read.
fn pairs_of(body: &[u8]) -> BTreeMap<IpAddr, MacAddress> {
    let text = wire::body::decompress(body).unwrap_or_default();
    let envelope: Option<Envelope> = serde_json::from_slice(&text).ok();
    let data = envelope.and_then(|mut envelope| envelope.data.as_object_mut().map(std::mem::take));
    let pair =
        |(ip, mac): (String, serde_json::Value)| Some((ip.parse().ok()?, MacAddress::parse(mac.as_str()?)?));
    data.into_iter().flatten().filter_map(pair).collect()
}

/// The task: input and time around a [`Table`].
struct Listener {
    table: Table,
    config: NeighboursConfig,
    ears: Ears,
    names: BTreeMap<u32, String>,
    links_at: Option<Instant>,
    links_read: Option<Instant>,
    zero: Instant,
    malformed: u64,
    /// What is wrong is said once.
    problem: Option<String>,
    to_agent: UnboundedSender<News>,
}

/// Ends when the agent does.
async fn run(
    table: Table,
    config: NeighboursConfig,
    mut orders: UnboundedReceiver<Order>,
    to_agent: UnboundedSender<News>,
) {
    let now = Instant::now();
    let mut listener = Listener {
        table,
        config,
        ears: Ears::default(),
        names: BTreeMap::new(),
        links_at: Some(now),
        links_read: None,
        zero: now,
        malformed: 0,
        problem: None,
        to_agent,
    };
    let mut changes = NetworkChanges::of_links()
        .inspect_err(
            |error| tracing::warn!(%error, "changes of interfaces cannot be watched: they are looked for"),
        )
        .ok();
    let mut buffer = vec![0; filter::SNAP_BYTES];
    let mut breath: Option<Instant> = None;
    loop {
        let due = listener.work();
        let breathing = breath;
        tokio::select! {
            order = orders.recv() => match order {
                Some(order) => listener.obey(order),
                None => return,
            },
            changed = next(&mut changes) => {
                if let Err(error) = changed {
                    tracing::warn!(%error, "changes of interfaces cannot be watched any more: they are looked for");
                    changes = None;
                }
                listener.links_changed();
            }
            () = listener.ears.ready(), if breathing.is_none() => {
                breath = listener.hear(&mut buffer).then(|| Instant::now() + BREATH);
            }
            () = until(breathing) => breath = None,
            () = until(due) => {}
        }
        if changes.is_none() {
            listener.links_at.get_or_insert_with(|| Instant::now() + LINKS_POLL);
        }
    }
}

impl Listener {
    fn now(&self) -> Duration {
        self.zero.elapsed()
    }

    /// Does what is due, and returns when the next is.
    fn work(&mut self) -> Option<Instant> {
        if self.links_at.is_some_and(|at| at <= Instant::now()) {
            self.links_at = None;
            self.read_links();
        }
        let now = self.now();
        if self.table.take_wants_kernel(now) {
            self.read_kernel(now);
        }
        for Told { instance, document } in self.table.tell(now) {
            self.tell(instance, document.as_ref());
        }
        let due = self.table.poll_timeout().map(|at| self.zero + at);
        [due, self.links_at].into_iter().flatten().min()
    }

    fn tell(&self, instance: String, document: Option<&Envelope>) {
        let document = match document.map(pack).transpose() {
            Ok(document) => document,
            Err(error) => return tracing::error!(instance, error, "a document of neighbours is not sent"),
        };
        let (devices, addresses) = self.table.sizes();
        tracing::debug!(
            instance,
            gone = document.is_none(),
            devices,
            addresses,
            malformed = self.malformed,
            "neighbours changed"
        );
        // Without the agent there is nobody to tell.
        let _ = self.to_agent.send(News::Effect(Effect { instance, document }));
    }

    fn obey(&mut self, order: Order) {
        let now = self.now();
        match order {
            Order::Configure(config) => {
                self.table.configure(now, config.enabled, forget(&config));
                self.config = config;
                self.open_ears();
            }
            Order::Listen(interfaces) => {
                self.table.listen(now, interfaces);
                self.open_ears();
            }
            Order::Wanted(instance) => self.table.wanted(now, &instance),
            Order::Refused(instance) => self.table.refused(now, &instance),
        }
    }

    fn links_changed(&mut self) {
        let earliest = self.links_read.map_or_else(Instant::now, |read| read + LINKS_PAUSE);
        self.links_at = Some(self.links_at.map_or(earliest, |at| at.min(earliest)));
    }

    fn read_links(&mut self) {
        self.links_read = Some(Instant::now());
        match rtnetlink::links() {
            Ok(links) => {
                let states = links::states(&links);
                self.names = states.iter().map(|state| (state.index, state.name.clone())).collect();
                self.table.handle_links(self.now(), states);
                self.open_ears();
            }
            Err(error) => {
                tracing::warn!(error, "interfaces cannot be listed; they are looked for later");
                self.links_at = Some(Instant::now() + LINKS_POLL);
            }
        }
    }

    fn open_ears(&mut self) {
        let opened = self.ears.set(self.table.ports(), self.table.listening(), self.config.all_multicast);
        let Err(error) = opened else {
            self.problem = None;
            return;
        };
        let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
        let text = error.to_string();
        if self.problem.as_ref() == Some(&text) {
            return;
        }
        if is_denied {
            tracing::warn!(
                "switches and neighbours are not heard: that takes CAP_NET_RAW; run nanoprobe as root or give it that \
                 capability, or set enabled = false under [neighbours] in cma.toml"
            );
            // Without the agent there is nobody to tell.
            let _ = self.to_agent.send(News::Deaf);
        } else {
            tracing::warn!(%error, "not all neighbours are heard; it is tried again when an interface changes");
        }
        self.problem = Some(text);
    }

    /// Reads what came in. Returns whether there is more than should be read at once.
    fn hear(&mut self, buffer: &mut [u8]) -> bool {
        let now = self.now();
        let Self { ears, table, names, malformed, .. } = self;
        ears.read(buffer, |heard, arrival, frame| {
            let Some(interface) = names.get(&arrival.interface) else { return };
            match heard {
                Heard::Advertisements => advertised(table, now, interface, arrival, frame, malformed),
                Heard::Addresses => {
                    if let Some(found) = sighting(frame) {
                        table.handle_sighting(now, interface, found, Duration::ZERO);
                    }
                }
            }
        })
    }

    fn read_kernel(&mut self, now: Duration) {
        let entries = match rtnetlink::neighbours() {
            Ok(entries) => entries,
            Err(error) => return tracing::warn!(error, "the kernel's table of neighbours cannot be read"),
        };
        for entry in entries {
            let Some(interface) = self.names.get(&entry.link) else { continue };
            let Ok(mac) = <[u8; 6]>::try_from(entry.address.as_slice()).map(MacAddress) else { continue };
            if mac.is_station()
                && !entry.ip.is_loopback()
                && !entry.ip.is_multicast()
                && !entry.ip.is_unspecified()
            {
                let age = entry.confirmed_ago.unwrap_or_default();
                self.table.handle_sighting(now, interface, Sighting { ip: entry.ip, mac }, age);
            }
        }
    }
}

fn advertised(
    table: &mut Table,
    now: Duration,
    interface: &str,
    arrival: Arrival,
    frame: &[u8],
    malformed: &mut u64,
) {
    match decode_captured(frame, arrival.wire_bytes) {
        Some(Ok(advertisement)) => table.handle_advertisement(now, interface, advertisement),
        Some(Err(error)) => {
            *malformed += 1;
            tracing::debug!(interface, %error, "a neighbour is not understood");
        }
        None => {}
    }
}

async fn next(changes: &mut Option<NetworkChanges>) -> io::Result<()> {
    match changes {
        Some(changes) => changes.next().await,
        None => pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
