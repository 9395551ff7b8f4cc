//! Between the core that watches partners ([`liveness::observer`]) and the network: opens and seals heartbeats, sends
//! them where they belong, tries what the core wants tried, and keeps what it has to tell until the CMA can hear it.

use liveness::observer::{Beat, Observer, Output, Tried};
use model::Timestamp;
use model::liveness::{Ask, Heard, HostNumber, Observation, Session, Watch};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use wire::attempt::attempt;
use wire::endpoint::{Datagram, Endpoint, canonical};
use wire::heartbeat::{HEARTBEAT_TYPE, HeartbeatStats, Pairs};
use zeroize::Zeroize;

/// Attempts at partners' hosts under way at once; there are four partners, and each is tried once at a time.
const MAX_ATTEMPTS: usize = 8;

/// Limits of the time for one attempt. It is a part of the burst of probes, so that its result is there in the end.
const ATTEMPT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// Observations that wait for the CMA; there is one for each partner and question.
const MAX_HEARD: usize = 64;

/// After a probe of a partner the kernel has to find out by itself for so long whether it is still at the same link-layer
/// address.
const AFTER_A_PROBE: Duration = Duration::from_secs(60);

/// What became of an attempt.
pub struct Trial {
    about: HostNumber,
    tried: Tried,
}

/// Everything about partners.
pub struct Partners {
    session: Session,
    endpoint: Endpoint,
    observer: Observer,
    pairs: Pairs,
    places: HashMap<HostNumber, Place>,
    /// Where the CMA is, as of the last connection.
    cma: Option<SocketAddr>,
    probe: Duration,
    interval: Duration,
    results: UnboundedSender<Trial>,
    trying: BTreeSet<HostNumber>,
    /// By partner and question: what is observed later replaces what was observed before.
    heard: BTreeMap<(HostNumber, Option<u64>), (u64, Observation)>,
    /// There is something in `heard` that the delivery core does not know of.
    news: bool,
}

/// Where a partner is.
struct Place {
    /// As the CMA says.
    told: SocketAddr,
    /// It is the CMA itself, which watches a host that has no neighbours.
    is_cma: bool,
    /// Where its last authentic heartbeat came from, if not from there.
    seen: Option<SocketAddr>,
    reach: Reach,
}

/// Whether a partner hears us, by what it sends.
#[derive(Debug, Clone, Copy, Default)]
struct Reach {
    heard: Option<Duration>,
    /// When it last sent a probe, which is for those that it does not hear.
    probed: Option<Duration>,
}

impl Reach {
    fn hear(&mut self, now: Duration, beat: Beat) {
        self.heard = Some(now);
        if beat == Beat::Probe {
            self.probed = Some(now);
        }
    }

    fn is_good(self, now: Duration, interval: Duration) -> bool {
        let within =
            |at: Option<Duration>, limit: Duration| at.is_some_and(|at| now.saturating_sub(at) <= limit);
        within(self.heard, interval * 2) && !within(self.probed, AFTER_A_PROBE)
    }
}

impl Partners {
    /// Without partners. `results` leads back to [`Partners::handle_tried`].
    pub fn new(now: Duration, session: Session, endpoint: Endpoint, results: UnboundedSender<Trial>) -> Self {
        Self {
            session,
            endpoint,
            observer: Observer::new(now),
            pairs: Pairs::default(),
            places: HashMap::new(),
            cma: None,
            probe: Duration::ZERO,
            interval: Duration::ZERO,
            results,
            trying: BTreeSet::new(),
            heard: BTreeMap::new(),
            news: false,
        }
    }

    /// For the registration: our session, and the generation of the watch that we have.
    pub fn standing(&self) -> (Session, Option<u64>) {
        (self.session, Some(self.observer.generation()).filter(|generation| *generation > 0))
    }

    /// The CMA is reached there.
    pub fn handle_cma(&mut self, address: SocketAddr) {
        self.cma = Some(address);
        for place in self.places.values_mut().filter(|place| place.is_cma && place.told != address) {
            (place.told, place.seen) = (address, None);
        }
    }

    pub fn handle_watch(&mut self, now: Duration, mut watch: Watch) {
        let Watch { generation, own_number, .. } = watch;
        if generation <= self.observer.generation() {
            return tracing::debug!(generation, "an older list of partners came late and is not used");
        }
        tracing::debug!(generation, own_number, partners = watch.partners.len(), "partners from the CMA");
        self.pairs.handle_watch(&watch);
        let before = std::mem::take(&mut self.places);
        for partner in &watch.partners {
            // Of itself the CMA does not know how it is reached.
            let is_cma = partner.address.is_empty();
            let told = if is_cma { self.cma } else { address(&partner.address) };
            let Some(told) = told else {
                tracing::error!(
                    partner = partner.designation,
                    address = partner.address,
                    "the CMA gives an address that cannot be sent to; this partner is only listened to"
                );
                continue;
            };
            let known = before.get(&partner.number).filter(|place| place.told == told);
            let (seen, reach) = known.map_or_else(Default::default, |place| (place.seen, place.reach));
            self.places.insert(partner.number, Place { told, is_cma, seen, reach });
        }
        self.probe = Duration::from_millis(watch.probe_milliseconds.into());
        self.interval = Duration::from_millis(watch.interval_milliseconds.into());
        self.observer.handle_watch(now, &watch);
        for partner in &mut watch.partners {
            partner.key.0.zeroize();
        }
    }

    pub fn handle_ask(&mut self, now: Duration, ask: Ask) {
        self.observer.handle_ask(now, ask);
    }

    /// Whether it was a heartbeat, authentic or not.
    pub fn handle_datagram(&mut self, now: Duration, datagram: &Datagram) -> bool {
        if datagram.bytes.first() != Some(&HEARTBEAT_TYPE) {
            return false;
        }
        let Some((from, byte)) = self.pairs.open(&datagram.bytes) else { return true };
        // What a later version may say is a sign of life all the same.
        let beat = Beat::from_byte(byte).unwrap_or(Beat::Regular);
        if let Some(place) = self.places.get_mut(&from) {
            place.seen = Some(datagram.source).filter(|source| *source != place.told);
            place.reach.hear(now, beat);
        }
        self.observer.handle_beat(now, from, beat);
        self.perform(now, Some((from, datagram.source)));
        true
    }

    pub fn handle_tried(&mut self, now: Duration, trial: &Trial) {
        self.trying.remove(&trial.about);
        self.observer.handle_tried(now, trial.about, trial.tried);
    }

    /// Says goodbye to all partners.
    pub fn stop(&mut self, now: Duration) {
        self.observer.stop(now);
        self.perform(now, None);
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        self.observer.poll_timeout()
    }

    /// Does what is due. Returns whether there is something to tell the CMA since it was last asked.
    pub fn advance(&mut self, now: Duration) -> bool {
        if self.observer.poll_timeout().is_some_and(|at| now >= at) {
            self.observer.handle_timeout(now);
        }
        self.perform(now, None);
        std::mem::take(&mut self.news)
    }

    /// What the CMA is to be told, one message for each generation of the watch.
    pub fn take_heard(&mut self) -> Vec<Heard> {
        let mut messages: BTreeMap<u64, Vec<Observation>> = BTreeMap::new();
        for (generation, observation) in std::mem::take(&mut self.heard).into_values() {
            messages.entry(generation).or_default().push(observation);
        }
        let heard = |(generation, observations)| Heard { generation, observations };
        messages.into_iter().map(heard).collect()
    }

    pub fn stats(&self) -> HeartbeatStats {
        self.pairs.stats()
    }

    /// Carries out what the core wants; `heard_at`: the sender of the heartbeat that made it want this, and from where.
    fn perform(&mut self, now: Duration, heard_at: Option<(HostNumber, SocketAddr)>) {
        while let Some(output) = self.observer.poll_output() {
            match output {
                Output::Send { to, beat } => self.send(now, to, beat, heard_at),
                Output::Try { to } => self.attempt(to),
                Output::Tell { generation, observation } => {
                    tracing::debug!(generation, ?observation, "observed");
                    let key = (observation.about, observation.question);
                    if self.heard.len() < MAX_HEARD || self.heard.contains_key(&key) {
                        self.heard.insert(key, (generation, observation));
                        self.news = true;
                    }
                }
            }
        }
    }

    /// An answer goes where the question came from. Everything else goes where the CMA says that the partner is and, when
    /// its last authentic heartbeat came from elsewhere, there too: it has moved, and the CMA does not know yet.
    fn send(
        &mut self,
        now: Duration,
        to: HostNumber,
        beat: Beat,
        heard_at: Option<(HostNumber, SocketAddr)>,
    ) {
        let place = self.places.get(&to);
        let reached = place.is_some_and(|place| place.reach.is_good(now, self.interval));
        let (told, seen) = (place.map(|place| place.told), place.and_then(|place| place.seen));
        let source = heard_at.filter(|(from, _)| *from == to).map(|(_, source)| source);
        let targets = match beat {
            Beat::Answer => [source.or(seen).or(told), None],
            Beat::Regular | Beat::Probe | Beat::Stopping => [told.or(source), seen],
        };
        for target in targets.into_iter().flatten() {
            let Some(packet) = self.pairs.seal(to, beat as u8) else { return };
            let sent = if reached && beat == Beat::Regular {
                self.endpoint.send_to_neighbour(target, &packet)
            } else {
                self.endpoint.send_datagram(target, &packet)
            };
            if let Err(error) = sent {
                tracing::debug!(%target, %error, "a heartbeat was not sent");
            }
        }
    }

    fn attempt(&mut self, to: HostNumber) {
        let Some(place) = self.places.get(&to) else { return };
        if self.trying.len() >= MAX_ATTEMPTS || !self.trying.insert(to) {
            return;
        }
        let (address, results) = (place.told, self.results.clone());
        let patience = (self.probe * 3 / 4).clamp(ATTEMPT.0, ATTEMPT.1);
        tokio::spawn(async move {
            let found = attempt(address, patience).await;
            tracing::debug!(%address, ?found, "tried");
            let tried = Tried { port: found.port, echo: found.echo };
            // The receiver is gone only when the program ends.
            let _ = results.send(Trial { about: to, tried });
        });
    }
}

/// The session of this life of the network side.
pub(super) fn session() -> Session {
    let mut session = [0; 16];
    if getrandom::fill(&mut session).is_err() {
        // It has to differ from that of earlier lives; nothing rests on its being secret.
        session[..8].copy_from_slice(&u64::from(std::process::id()).to_be_bytes());
        session[8..].copy_from_slice(&Timestamp::now().0.to_be_bytes());
    }
    Session(session)
}

/// An address that packets to one host can be sent to.
fn address(text: &str) -> Option<SocketAddr> {
    let address = canonical(text.parse().ok()?);
    let ip = address.ip();
    let usable = address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast();
    usable.then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_complains_or_is_silent_is_not_taken_to_hear_us() {
        let (second, mut reach) = (Duration::from_secs(1), Reach::default());
        assert!(!reach.is_good(second, second));
        reach.hear(second * 10, Beat::Regular);
        assert!(reach.is_good(second * 12, second) && !reach.is_good(second * 13, second));
        reach.hear(second * 20, Beat::Probe);
        reach.hear(second * 50, Beat::Regular);
        assert!(!reach.is_good(second * 50, second));
        reach.hear(second * 81, Beat::Regular);
        assert!(reach.is_good(second * 81, second));
    }
}
