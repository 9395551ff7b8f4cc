//! The agent's conversation with the CMA: from a document to its acknowledgement.

use super::network::Told;
use super::{Agent, DISK_RETRY, STOP_UNKNOWN, sender};
use crate::collector::{self, Document};
use crate::monitoring::document;
use crate::neighbours::is_ours;
use crate::network::protocol::{News, Order, text};
use crate::queue::{Change, Offered};
use model::message::{Ack, Configure, FromCma, Goodbye, PROTOCOL_VERSION, Refused, Register, ToCma, Welcome};
use model::{DocumentHash, Timestamp};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use wire::delivery::{ConnectionId, Output};

/// A clock that differs from the CMA's by more than this is worth a line in the log.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// Longest configuration that is taken from a CMA or from disk, in bytes.
const MAX_CONFIG_BYTES: usize = 1024 * 1024;

/// For the line at the end.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counters {
    pub runs: u64,
    pub changes: u64,
    pub sent: u64,
    pub acknowledged: u64,
    pub rejected: u64,
    pub connections: u64,
    pub failed_dials: u64,
    /// By a CMA.
    pub calls: u64,
}

/// How the CMA takes this nanoprobe, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum StandingWithCma {
    #[default]
    Unknown,
    Connected(String),
    Registered(String),
    Refused(String),
    Unreached(String),
}

impl Agent {
    /// Takes a document into the queue, if it is new.
    pub(super) fn offer(&mut self, instance: &str, document: Document, seen: Timestamp) {
        let Document { hash, body } = document;
        // What is known already is not packed up.
        if self.queue.confirm(instance, hash, seen) {
            return;
        }
        let change = Change { instance: instance.into(), hash, body, seen };
        let offered = self.queue.offer(change);
        self.queued(instance, offered);
    }

    /// There is no such document any more.
    pub(super) fn gone(&mut self, instance: &str) {
        let offered = self.queue.gone(instance, Timestamp::now());
        self.queued(instance, offered);
    }

    /// A run gave nothing: the last data, marked with the reason.
    pub(super) fn failed(&mut self, instance: &str, why: String) {
        let Some(task) = self.tasks.get(instance) else { return };
        let last = self.queue.last_body(instance);
        let host = self.settings.designation.as_str();
        let envelope = collector::failed_envelope(last.as_deref(), instance, &task.discovertype, host, &why);
        let Ok(document) = collector::pack(&envelope) else { return };
        if self.queue.hash_of(instance) != Some(document.hash) {
            tracing::warn!(instance, error = why, "a discovery failed");
        }
        self.offer(instance, document, Timestamp::now());
    }

    /// Tells the delivery core what the queue did.
    pub(super) fn queued(&mut self, instance: &str, offered: Offered) {
        let now = self.now();
        if let Some(problem) = self.queue.problem()
            && self.retry_disk_at.is_none()
        {
            tracing::error!(problem, "changes are not safe from a restart");
            self.retry_disk_at = Some(now + DISK_RETRY);
        }
        match offered {
            Offered::Unchanged => return,
            Offered::Refused => {
                tracing::error!(instance, "a change is dropped for want of memory and found again later");
                return;
            }
            Offered::Queued(_) | Offered::Replaced(_) => self.counters.changes += 1,
        }
        if self.incarnation_changed() {
            return self.start_over(now);
        }
        let fits = match offered {
            Offered::Queued(sequence) => {
                self.sender.handle_enqueued(now, sequence, self.queue.size_of(sequence))
            }
            Offered::Replaced(sequence) => {
                self.sender.handle_replaced(sequence, self.queue.size_of(sequence))
            }
            Offered::Unchanged | Offered::Refused => true,
        };
        if !fits {
            // The two cores disagree, which is a defect; a new start of the delivery mends it without loss.
            tracing::error!(instance, "delivery and queue count differently; registering again");
            self.queue.renew();
            self.start_over(now);
        }
    }

    pub(super) fn retry_disk(&mut self, now: Duration) {
        self.queue.retry();
        self.retry_disk_at = match self.queue.problem() {
            Some(problem) => {
                tracing::debug!(problem, "still no disk");
                Some(now + DISK_RETRY)
            }
            None => {
                tracing::info!("the state directory can be written again");
                None
            }
        };
        if self.incarnation_changed() {
            self.start_over(now);
        }
    }

    /// Carries out what the delivery core wants.
    pub(super) fn deliver(&mut self, now: Duration) {
        if !self.network.is_up() {
            return;
        }
        if self.sender.poll_timeout().is_some_and(|at| now >= at) {
            self.sender.handle_timeout(now);
        }
        while let Some(output) = self.sender.poll_output(now) {
            match output {
                Output::SendHello { route, attempt } => self.say_hello(route, attempt),
                Output::Dial { route, connection } => {
                    let Some(address) = self.settings.cma_addresses.get(route) else { continue };
                    let (epoch, address) = (self.network.epoch(), address.to_string());
                    self.network.order(&Order::Dial { epoch, connection: connection.0, address });
                }
                Output::Register { connection } => {
                    let register = Box::new(self.register());
                    self.network.order(&Order::Register { connection: connection.0, register });
                }
                Output::Transmit { connection, sequence } => match self.queue.read(sequence) {
                    Ok(report) => {
                        self.counters.sent += 1;
                        self.say(connection, ToCma::Report(report));
                    }
                    Err(renewed) => {
                        tracing::error!(
                            note = renewed.note,
                            "a queued change was lost; its discovery runs again"
                        );
                        self.find_again(&renewed.instance, now);
                        return self.start_over(now);
                    }
                },
                Output::Forget { through } => {
                    self.counters.acknowledged += self.queue.acknowledge(through) as u64;
                    self.after_acknowledge(now);
                }
                Output::Wanted { instances } => {
                    for instance in instances {
                        if self.queue.forget(&instance) {
                            self.find_again(&instance, now);
                        }
                    }
                }
                Output::Renumber => {
                    tracing::warn!(
                        "the CMA counts differently (one side was restored from a copy): starting anew"
                    );
                    self.queue.renew();
                    self.registered_incarnation_is_current();
                    self.sender.handle_renumbered(now);
                }
                Output::Speak { connection } => {
                    self.network.order(&Order::Speak { connection: connection.0 });
                }
                Output::Goodbye { connection } => {
                    self.say(connection, ToCma::Goodbye(Goodbye { reason: "HBSHUTDOWN".into() }));
                }
                Output::Close { connection, reason } => {
                    self.network.order(&Order::Close { connection: connection.0, reason: reason.into() });
                }
            }
        }
    }

    /// Says it to the CMA; nothing happens when the connection is gone already (that news is under way).
    pub(super) fn say(&self, connection: ConnectionId, message: ToCma) {
        self.network.order(&Order::Say { connection: connection.0, message: Box::new(message) });
    }

    /// The network process says something, or is gone.
    pub(super) fn network_told(&mut self, told: Told) {
        let now = self.now();
        let news = match told {
            Told::News(news) => news,
            Told::Gone(why) => return self.network.gone(now, &why),
        };
        self.network.note(&news);
        match news {
            News::Ready { .. } => {
                // The first one is there before the agent; another knows of no connection.
                let address = self.network.address().map(tracing::field::display);
                tracing::info!(address, "the network process is back");
                self.standing = StandingWithCma::Unknown;
                self.start_over(now);
            }
            News::Failed { error } => {
                tracing::error!(error = text(error), "the network process cannot work");
            }
            News::Connected { epoch, connection, address } if self.is_current(epoch) => {
                let address = text(address);
                tracing::debug!(address, "connected to a CMA");
                self.counters.connections += 1;
                self.standing = StandingWithCma::Connected(address);
                self.sender.handle_connected(now, ConnectionId(connection));
            }
            News::DialFailed { epoch, connection, error } if self.is_current(epoch) => {
                self.counters.failed_dials += 1;
                let error = text(error);
                match self.keys.explanation(&error) {
                    Some(explanation) => tracing::error!(error, explanation, "no CMA reached"),
                    None => tracing::warn!(error, "no CMA reached"),
                }
                self.standing = StandingWithCma::Unreached(error);
                self.sender.handle_dial_failed(now, ConnectionId(connection));
            }
            News::Lost { epoch, connection, error } if self.is_current(epoch) => {
                tracing::info!(error = text(error), "the connection to the CMA has ended");
                self.sender.handle_disconnected(now, ConnectionId(connection));
            }
            News::Message { epoch, connection, message } if self.is_current(epoch) => {
                self.cma_says(now, ConnectionId(connection), *message);
            }
            // Of connections before a new start.
            News::Connected { .. } | News::DialFailed { .. } | News::Lost { .. } | News::Message { .. } => {}
            News::Answered => self.sender.handle_hello_reply(now),
            News::Called => {
                self.counters.calls += 1;
                self.sender.handle_call(now);
            }
            News::Waiting => self.sender.handle_message_waiting(now),
            News::Tock | News::Ended(_) => {}
        }
        self.manager.happened(now);
    }

    fn is_current(&self, epoch: u64) -> bool {
        epoch == self.network.epoch()
    }

    fn cma_says(&mut self, now: Duration, connection: ConnectionId, message: FromCma) {
        match message {
            FromCma::Welcome(welcome) => self.on_welcome(now, connection, welcome),
            FromCma::Refused(refused) => {
                let Refused { reason, text: why } = &refused;
                tracing::error!(?reason, why, "the CMA refuses this nanoprobe; it is asked again later");
                self.standing = StandingWithCma::Refused(text(why));
                self.sender.handle_refused(now, connection, refused);
            }
            FromCma::Ack(ack) => self.on_ack(now, connection, ack),
            FromCma::Farewell => self.sender.handle_farewell(now, connection),
            FromCma::Configure(configure) => self.configure(now, configure),
            FromCma::Listen(listen) => self.neighbours.listen(listen),
            FromCma::Keys(keys) => self.take_keys(connection, &keys),
            // The network process keeps what is about partners.
            FromCma::Watch(_) | FromCma::Ask(_) => {}
        }
    }

    /// One line on how things are.
    pub(super) fn status(&self) -> String {
        let standing = match &self.standing {
            StandingWithCma::Unknown => "looking for the CMA".into(),
            StandingWithCma::Connected(address) => format!("connected to the CMA at {address}"),
            StandingWithCma::Registered(address) => format!("registered with the CMA at {address}"),
            StandingWithCma::Refused(why) => format!("refused by the CMA: {why}"),
            StandingWithCma::Unreached(why) => format!("no CMA reached: {why}"),
        };
        let waiting = match self.queue.waiting().0 {
            0 => "everything delivered".into(),
            1 => "1 change waits".into(),
            changes => format!("{changes} changes wait"),
        };
        let problems = [self.settings_problem(), self.keys.problem()].into_iter().flatten();
        let problem: String = problems.map(|problem| format!("; {problem}")).collect();
        model::text::printable(&format!("{}; {waiting}{problem}", text(standing))).into_owned()
    }

    /// The configuration of the last CMA, so that a restart without one keeps it.
    pub(super) fn load_config(&mut self) {
        let path = self.config_path();
        let small =
            fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() <= MAX_CONFIG_BYTES as u64);
        if !small {
            return;
        }
        let Ok(text) = fs::read_to_string(&path) else { return };
        match serde_json::from_str(&text) {
            Ok(config) => {
                self.config = config;
                self.config_text = Some(text);
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the kept configuration is not used")
            }
        }
    }

    /// The document of this instance must be offered again.
    fn find_again(&mut self, instance: &str, now: Duration) {
        if document::is_ours(instance) {
            self.monitoring.wanted(instance, now);
        } else if is_ours(instance) {
            self.neighbours.wanted(instance);
        } else {
            self.scheduler.trigger(instance, now);
        }
    }

    fn on_welcome(&mut self, now: Duration, connection: ConnectionId, welcome: Welcome) {
        let Welcome { last_sequence, wanted, configure, clock, started: _ } = welcome;
        if !self.welcomed {
            tracing::info!("registered with the CMA");
        }
        self.welcomed = true;
        if let StandingWithCma::Connected(address) = &self.standing {
            self.standing = StandingWithCma::Registered(address.clone());
        }
        self.enrolment.welcomed();
        let own = Timestamp::now();
        let apart = own.since(clock).max(clock.since(own));
        if apart > CLOCK_TOLERANCE {
            tracing::warn!(seconds = apart.as_secs(), "this host's clock and the CMA's differ");
        }
        if let Some(configure) = configure {
            self.configure(now, configure);
        }
        self.sender.handle_welcome(now, connection, last_sequence, wanted);
    }

    fn on_ack(&mut self, now: Duration, connection: ConnectionId, ack: Ack) {
        for rejection in ack.rejected.iter().take(100) {
            self.counters.rejected += 1;
            tracing::error!(
                sequence = rejection.sequence,
                reason = rejection.reason,
                "the CMA rejected a change for good"
            );
        }
        self.queue.note_rejected(&ack.rejected);
        self.sender.handle_ack(now, connection, ack.sequence);
    }

    fn configure(&mut self, now: Duration, configure: Configure) {
        let text = configure.json;
        if text.len() > MAX_CONFIG_BYTES {
            return tracing::error!(bytes = text.len(), "the CMA's configuration is too large and not used");
        }
        match serde_json::from_str(&text) {
            Ok(config) => self.config = config,
            Err(error) => {
                return tracing::error!(%error, "the CMA's configuration is not understood and not used");
            }
        }
        tracing::info!(domain = self.config.domain, "configuration from the CMA applied");
        let path = self.config_path();
        let kept = write_config(&path, &text);
        if let Err(error) = kept {
            tracing::warn!(%error, "the configuration cannot be kept for the next start");
        }
        self.config_text = Some(text);
        self.rescan(now);
    }

    fn register(&mut self) -> Register {
        self.registered_incarnation_is_current();
        Register {
            protocol: PROTOCOL_VERSION,
            designation: self.settings.designation.as_str().into(),
            incarnation: self.queue.incarnation(),
            software: format!("nanoprobe {}", env!("CARGO_PKG_VERSION")),
            clock: Timestamp::now(),
            started: self.started,
            port: self.network.port(),
            config: self.config_text.as_ref().map(|text| DocumentHash::of(text.as_bytes())),
            documents: self.queue.documents(),
            // The network process knows these two and puts them in.
            session: None,
            watch: None,
            listen: self.neighbours.standing(),
            token: self.enrolment.token(),
            machine: Some(self.enrolment.machine()),
            cma_keys: self.keys.trusted(),
        }
    }

    fn say_hello(&self, route: usize, attempt: usize) {
        if let Some(address) = self.settings.cma_addresses.get(route) {
            self.network.order(&Order::Hello { address: address.to_string(), attempt: attempt as u64 });
        }
    }

    fn after_acknowledge(&mut self, now: Duration) {
        if self.queue.problem().is_some() && self.retry_disk_at.is_none() {
            self.retry_disk_at = Some(now + DISK_RETRY);
        }
        if self.incarnation_changed() {
            self.start_over(now);
        }
    }

    fn incarnation_changed(&self) -> bool {
        self.known_incarnation != self.queue.incarnation()
    }

    fn registered_incarnation_is_current(&mut self) {
        self.known_incarnation = self.queue.incarnation();
    }

    /// The queue counts anew by itself: so does the delivery.
    pub(super) fn start_over(&mut self, now: Duration) {
        self.network.start_over();
        self.seed = self.seed.rotate_left(17) ^ self.queue.incarnation().0[0] as u64;
        self.registered_incarnation_is_current();
        self.sender = sender(&self.settings, &self.queue, now, self.seed);
        if self.stopping {
            self.sender.stop(now, now + STOP_UNKNOWN);
        }
    }

    fn config_path(&self) -> PathBuf {
        self.site.nanoprobe_state().join("config.json")
    }
}

fn write_config(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, text)?;
    fs::File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, path)
}
