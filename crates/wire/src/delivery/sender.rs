//! The nanoprobe's side of delivery.

use super::knocks::Knocks;
use super::random::Random;
use super::{Closing, ConnectionId, Output, Refusal, Route, SenderConfig};
use model::message::{Refused, RefusedReason};
use std::collections::VecDeque;
use std::time::Duration;

/// A connection that lasted this long was good: the next wait starts small again.
const SETTLED: Duration = Duration::from_secs(30);
/// Slowest line on which an acknowledgement is awaited patiently.
const SLOW_LINE_BYTES_PER_SECOND: u64 = 64 << 10;
/// More wanted instances than any host has.
const MAX_WANTED: usize = 10_000;

/// Where a [`Sender`] stands, for status displays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not connected, nothing to send.
    Resting,
    /// Not connected, waiting for the next attempt.
    BackingOff,
    Hello,
    Dialing,
    Registering,
    Streaming,
    /// After [`Sender::stop`].
    Stopped,
}

/// Decides when to dial, what to send and what to send again. Its memory is 8 bytes per queued report.
#[derive(Debug)]
pub struct Sender {
    config: SenderConfig,
    random: Random,
    state: State,
    outputs: VecDeque<Output>,
    /// Sizes of the queued reports, in order.
    queue: VecDeque<u64>,
    /// Sequence of the first queued report, or of the next one when the queue is empty.
    first: u64,
    /// Reports in flight: the first so many of the queue.
    in_flight: usize,
    in_flight_bytes: u64,
    /// Highest sequence that may have left this host, in this life or an earlier one.
    maybe_sent: u64,
    connections: u64,
    route: usize,
    /// Attempts of this round over the routes.
    tried: usize,
    /// Rounds that failed in a row.
    failures: u32,
    knocks: Knocks,
    refusal: Option<Refusal>,
    /// A connection is wanted though nothing is queued.
    asked: bool,
    /// Something is to be said that is no report.
    message_waits: bool,
    renumbering: bool,
    stop_by: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Waiting {
        until: Duration,
    },
    Hello {
        sent: usize,
        next: Duration,
    },
    Dialing {
        connection: ConnectionId,
        deadline: Duration,
    },
    Registering {
        connection: ConnectionId,
        deadline: Duration,
    },
    Streaming {
        connection: ConnectionId,
        since: Duration,
        active: Duration,
        deadline: Option<Duration>,
        bye: bool,
    },
    Stopped,
}

impl Sender {
    /// `first` is the sequence of the first queued report (or of the next one), `sizes` the bytes of each queued one;
    /// `seed` is a random number. Dials soon, to register.
    pub fn new(
        config: SenderConfig,
        now: Duration,
        seed: u64,
        first: u64,
        sizes: impl IntoIterator<Item = u64>,
    ) -> Self {
        let queue: VecDeque<u64> = sizes.into_iter().collect();
        let first = first.max(1);
        let mut sender = Self {
            random: Random(seed),
            state: State::Waiting { until: now },
            outputs: VecDeque::new(),
            maybe_sent: first + queue.len() as u64 - 1,
            queue,
            first,
            in_flight: 0,
            in_flight_bytes: 0,
            connections: 0,
            route: 0,
            tried: 0,
            failures: 0,
            knocks: Knocks::default(),
            refusal: None,
            asked: true,
            message_waits: false,
            renumbering: false,
            stop_by: None,
            config,
        };
        let delay = sender.random.part(sender.config.start_jitter);
        sender.state = State::Waiting { until: now + delay };
        sender.advance(now);
        sender
    }

    /// The next thing to do; ask until `None` after every `handle_*`.
    pub fn poll_output(&mut self, now: Duration) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        let State::Streaming { connection, active, deadline, .. } = &mut self.state else { return None };
        let bytes = *self.queue.get(self.in_flight)?;
        let full = self.in_flight >= self.config.window_reports.max(1)
            || self.in_flight_bytes.saturating_add(bytes) > self.config.window_bytes;
        if full && self.in_flight > 0 {
            return None;
        }
        let sequence = self.first + self.in_flight as u64;
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        self.maybe_sent = self.maybe_sent.max(sequence);
        *active = now;
        let patience = self.config.ack_timeout + line_time(bytes);
        *deadline = Some(deadline.map_or(now + patience, |due| due + line_time(bytes)));
        Some(Output::Transmit { connection: *connection, sequence })
    }

    /// When to call [`Sender::handle_timeout`]; `None`: only after something else happened.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let due = match self.state {
            State::Waiting { until } => {
                let due = self.knocks.due().map_or(until, |knock| knock.min(until));
                (self.wanted() && !self.renumbering).then_some(due)
            }
            State::Hello { next, .. } => Some(next),
            State::Dialing { deadline, .. } | State::Registering { deadline, .. } => Some(deadline),
            State::Streaming { active, deadline, .. } => deadline.or_else(|| self.idle_at(active)),
            State::Stopped => return None,
        };
        [due, self.stop_by].into_iter().flatten().min()
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.advance(now);
    }

    /// A report was appended to the durable queue. Returns whether `sequence` was the one expected; if not, nothing changed.
    pub fn handle_enqueued(&mut self, now: Duration, sequence: u64, bytes: u64) -> bool {
        if sequence != self.next_sequence() {
            return false;
        }
        self.queue.push_back(bytes);
        self.advance(now);
        true
    }

    /// The sequence that the next report must have.
    pub fn next_sequence(&self) -> u64 {
        self.first + self.queue.len() as u64
    }

    /// Whether the queued report `sequence` has certainly never left this host, so that a newer change of the same
    /// instance may take its place (tell [`Sender::handle_replaced`]).
    pub fn may_replace(&self, sequence: u64) -> bool {
        sequence > self.maybe_sent && sequence < self.next_sequence()
    }

    /// The content of a queued report was replaced durably. Returns whether that was allowed.
    pub fn handle_replaced(&mut self, sequence: u64, bytes: u64) -> bool {
        if !self.may_replace(sequence) {
            return false;
        }
        match usize::try_from(sequence - self.first).ok().and_then(|index| self.queue.get_mut(index)) {
            Some(size) => {
                *size = bytes;
                true
            }
            None => false,
        }
    }

    /// The CMA dialled us and has something to say: it is there, and knows of no connection of ours. So a connection
    /// that we believe in is dead or about to be replaced, and no wait is needed before the next attempt.
    pub fn handle_call(&mut self, now: Duration) {
        // Who is about to stop has its last connection already, or tries to get it.
        if self.stop_by.is_some() {
            return;
        }
        self.asked = true;
        match &mut self.state {
            State::Waiting { until } => *until = now.min(*until),
            State::Streaming { connection, .. } => {
                let connection = *connection;
                self.outputs.push_back(Output::Close { connection, reason: Closing::Idle });
                self.tried = 0;
                self.reset_flight();
                self.state = State::Waiting { until: now };
            }
            State::Hello { .. } | State::Dialing { .. } | State::Registering { .. } | State::Stopped => {
                return;
            }
        }
        self.advance(now);
    }

    /// Something is to be said that is no report and cannot wait: [`Output::Speak`] tells when, once, however often this
    /// was told before. A connection is made if there is none; a wait between attempts is cut short, unless the CMA
    /// refused us. What is lost with a connection after that is the caller's to tell again.
    pub fn handle_message_waiting(&mut self, now: Duration) {
        if matches!(self.state, State::Stopped | State::Streaming { bye: true, .. }) {
            return;
        }
        self.message_waits = true;
        let soon = now + self.random.part(self.config.backoff_min);
        let refused = self.refusal.as_ref().is_some_and(|known| known.refused.reason != RefusedReason::Busy);
        if let State::Waiting { until } = &mut self.state
            && !refused
        {
            *until = soon.min(*until);
        }
        self.advance(now);
    }

    /// Somebody answered the hello and is to be dialled.
    pub fn handle_hello_reply(&mut self, now: Duration) {
        match &mut self.state {
            State::Hello { .. } => self.dial(now),
            State::Waiting { until } => {
                if let Some(route) = self.knocks.answered() {
                    *until = (*until).min(now + self.random.part(self.config.knock_spread));
                    self.route = route;
                    self.advance(now);
                }
            }
            _ => {}
        }
    }

    /// The QUIC connection stands; nobody knows yet whether the CMA takes our key.
    pub fn handle_connected(&mut self, now: Duration, connection: ConnectionId) {
        if matches!(self.state, State::Dialing { connection: current, .. } if current == connection) {
            let deadline = now + self.config.register_timeout;
            self.state = State::Registering { connection, deadline };
            self.outputs.push_back(Output::Register { connection });
        }
    }

    /// The dial came to nothing.
    pub fn handle_dial_failed(&mut self, now: Duration, connection: ConnectionId) {
        if matches!(self.state, State::Dialing { connection: current, .. } if current == connection) {
            self.next_route(now);
        }
    }

    /// The CMA registered us: `last_sequence` is durable, it wants the documents of `wanted`.
    pub fn handle_welcome(
        &mut self,
        now: Duration,
        connection: ConnectionId,
        last_sequence: u64,
        wanted: Vec<String>,
    ) {
        if !matches!(self.state, State::Registering { connection: current, .. } if current == connection) {
            return;
        }
        self.refusal = None;
        let fits = last_sequence < self.next_sequence() && last_sequence.saturating_add(1) >= self.first;
        if !fits {
            self.renumbering = true;
            self.outputs.push_back(Output::Renumber);
            self.outputs.push_back(Output::Close { connection, reason: Closing::Protocol });
            self.lost(now);
            return;
        }
        self.asked = false;
        self.tried = 0;
        self.knocks.welcomed();
        self.forget(last_sequence);
        self.state = State::Streaming { connection, since: now, active: now, deadline: None, bye: false };
        let mut instances = wanted;
        instances.retain(|instance| model::ids::check_instance(instance).is_ok());
        instances.truncate(MAX_WANTED);
        if !instances.is_empty() {
            self.outputs.push_back(Output::Wanted { instances });
        }
        self.advance(now);
    }

    /// The CMA acknowledged everything up to `sequence`.
    pub fn handle_ack(&mut self, now: Duration, connection: ConnectionId, sequence: u64) {
        let State::Streaming { connection: current, since, bye, .. } = self.state else { return };
        if current != connection || sequence < self.first {
            return;
        }
        if sequence >= self.first + self.in_flight as u64 {
            self.outputs.push_back(Output::Close { connection, reason: Closing::Protocol });
            self.lost(now);
            return;
        }
        self.forget(sequence);
        self.failures = 0;
        let patience = self.config.ack_timeout + line_time(self.in_flight_bytes);
        let deadline = (self.in_flight > 0).then(|| now + patience);
        self.state = State::Streaming { connection, since, active: now, deadline, bye };
        self.advance(now);
    }

    /// The CMA refuses us. A busy one is asked again soon, any other refusal waits long for a person to act.
    pub fn handle_refused(&mut self, now: Duration, connection: ConnectionId, refused: Refused) {
        if self.connection() != Some(connection) {
            return;
        }
        self.outputs.push_back(Output::Close { connection, reason: Closing::Refused });
        self.refusal = Some(Refusal { refused, retry_at: now });
        self.next_route(now);
    }

    /// The connection is gone.
    pub fn handle_disconnected(&mut self, now: Duration, connection: ConnectionId) {
        if self.connection() != Some(connection) {
            return;
        }
        match self.state {
            State::Streaming { .. } => self.lost(now),
            _ => self.next_route(now),
        }
    }

    /// The CMA answered our goodbye.
    pub fn handle_farewell(&mut self, now: Duration, connection: ConnectionId) {
        if matches!(self.state, State::Streaming { connection: current, bye: true, .. } if current == connection)
        {
            self.stop_by = Some(now);
            self.advance(now);
        }
    }

    /// After [`Output::Renumber`]: the queue has a new incarnation and starts at sequence 1.
    pub fn handle_renumbered(&mut self, now: Duration) {
        if self.renumbering {
            self.renumbering = false;
            self.first = 1;
            // Under the new incarnation nothing has been sent yet.
            self.maybe_sent = 0;
            self.asked = true;
            self.advance(now);
        }
    }

    /// Delivers what is queued, says goodbye, and is [`Standing::Stopped`] afterwards or at `deadline`.
    pub fn stop(&mut self, now: Duration, deadline: Duration) {
        if !matches!(self.state, State::Stopped) {
            self.stop_by = Some(deadline);
            // A last attempt is worth its packets; after that the deadline decides.
            if let State::Waiting { until } = &mut self.state {
                *until = now;
            }
            self.advance(now);
        }
    }

    pub fn standing(&self) -> Standing {
        match self.state {
            State::Waiting { .. } if self.wanted() => Standing::BackingOff,
            State::Waiting { .. } => Standing::Resting,
            State::Hello { .. } => Standing::Hello,
            State::Dialing { .. } => Standing::Dialing,
            State::Registering { .. } => Standing::Registering,
            State::Streaming { .. } => Standing::Streaming,
            State::Stopped => Standing::Stopped,
        }
    }

    /// The CMA's last refusal, until it welcomes us.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// Reports not yet acknowledged.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Reports sent on this connection and not yet acknowledged.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn advance(&mut self, now: Duration) {
        if self.stop_by.is_some_and(|by| now >= by) {
            if let Some(connection) = self.connection() {
                self.outputs.push_back(Output::Close { connection, reason: Closing::Stopping });
            }
            self.state = State::Stopped;
            self.stop_by = None;
            return;
        }
        self.speak(now);
        match self.state {
            State::Waiting { until } if now >= until && self.wanted() && !self.renumbering => {
                self.attempt(now)
            }
            State::Waiting { .. } if self.wanted() && !self.renumbering => {
                if let Some((route, attempt)) = self.knocks.take(now, &self.config, &mut self.random) {
                    self.outputs.push_back(Output::SendHello { route, attempt });
                }
            }
            State::Hello { next, sent } if now >= next => {
                if sent >= self.config.hello_tries {
                    self.next_route(now);
                } else {
                    self.say_hello(now, sent);
                }
            }
            State::Dialing { connection, deadline } | State::Registering { connection, deadline }
                if now >= deadline =>
            {
                self.outputs.push_back(Output::Close { connection, reason: Closing::TimedOut });
                self.next_route(now);
            }
            State::Streaming { connection, deadline: Some(deadline), .. } if now >= deadline => {
                self.outputs.push_back(Output::Close { connection, reason: Closing::TimedOut });
                self.lost(now);
            }
            State::Streaming { connection, since, active, bye: false, deadline: None }
                if self.stop_by.is_some() && self.queue.is_empty() =>
            {
                let deadline = Some(now + self.config.ack_timeout);
                self.state = State::Streaming { connection, since, active, deadline, bye: true };
                self.outputs.push_back(Output::Goodbye { connection });
            }
            State::Streaming { connection, active, .. }
                if self.idle_at(active).is_some_and(|at| now >= at) =>
            {
                self.outputs.push_back(Output::Close { connection, reason: Closing::Idle });
                self.failures = 0;
                self.state = State::Waiting { until: now };
            }
            _ => {}
        }
    }

    /// Has said what waits, where that is possible.
    fn speak(&mut self, now: Duration) {
        if let State::Streaming { connection, active, bye: false, .. } = &mut self.state
            && self.message_waits
        {
            *active = now;
            self.outputs.push_back(Output::Speak { connection: *connection });
            self.message_waits = false;
        }
    }

    /// Starts with the current route.
    fn attempt(&mut self, now: Duration) {
        self.knocks.end();
        match self.config.routes.get(self.route) {
            Some(Route::Dial) => self.dial(now),
            Some(Route::Hello) => self.say_hello(now, 0),
            // Without any route there is nothing to attempt; look again when told to.
            None => self.state = State::Waiting { until: now + self.config.backoff_max },
        }
    }

    fn say_hello(&mut self, now: Duration, sent: usize) {
        self.outputs.push_back(Output::SendHello { route: self.route, attempt: sent });
        self.state = State::Hello { sent: sent + 1, next: now + self.config.hello_interval };
    }

    fn dial(&mut self, now: Duration) {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.outputs.push_back(Output::Dial { route: self.route, connection });
        self.state = State::Dialing { connection, deadline: now + self.config.dial_timeout };
    }

    /// This route failed: the next one at once, or after the last one a wait.
    fn next_route(&mut self, now: Duration) {
        let was_heard = matches!(self.state, State::Registering { .. } | State::Streaming { .. });
        let routes = self.config.routes.len().max(1);
        self.route = (self.route + 1) % routes;
        self.tried += 1;
        self.reset_flight();
        if self.tried < routes {
            self.state = State::Waiting { until: now };
            self.advance(now);
        } else {
            self.tried = 0;
            self.back_off(now, was_heard);
        }
    }

    /// A working connection ended: the same route again, after a wait.
    fn lost(&mut self, now: Duration) {
        if let State::Streaming { since, .. } = self.state
            && now.saturating_sub(since) >= SETTLED
        {
            self.failures = 0;
        }
        self.tried = 0;
        self.reset_flight();
        self.back_off(now, true);
    }

    /// `was_heard`: the CMA can be reached, so that nobody has to ask whether it can.
    fn back_off(&mut self, now: Duration, was_heard: bool) {
        let long = self.refusal.as_ref().is_some_and(|known| known.refused.reason != RefusedReason::Busy);
        let delay = if long {
            self.config.refused_wait / 2 + self.random.part(self.config.refused_wait / 2)
        } else {
            let doubled = self.config.backoff_min.saturating_mul(1 << self.failures.min(20));
            self.failures = self.failures.saturating_add(1);
            self.random.part(doubled.min(self.config.backoff_max))
        };
        let until = now + delay;
        if let Some(refusal) = &mut self.refusal {
            refusal.retry_at = until;
        }
        self.knocks.begin(now, &self.config, &mut self.random, was_heard || long);
        self.state = State::Waiting { until };
    }

    fn reset_flight(&mut self) {
        self.in_flight = 0;
        self.in_flight_bytes = 0;
    }

    /// Drops everything up to `through`, which is durable at the CMA.
    fn forget(&mut self, through: u64) {
        let mut dropped = false;
        while self.first <= through {
            let Some(bytes) = self.queue.pop_front() else { break };
            self.first += 1;
            if self.in_flight > 0 {
                self.in_flight -= 1;
                self.in_flight_bytes -= bytes;
            }
            dropped = true;
        }
        if dropped {
            self.outputs.push_back(Output::Forget { through });
        }
    }

    fn wanted(&self) -> bool {
        self.asked
            || self.message_waits
            || !self.queue.is_empty()
            || self.config.idle_close.is_none()
            || self.stop_by.is_some()
    }

    fn idle_at(&self, active: Duration) -> Option<Duration> {
        let quiet = self.queue.is_empty() && self.stop_by.is_none();
        self.config.idle_close.filter(|_| quiet).map(|idle| active + idle)
    }

    fn connection(&self) -> Option<ConnectionId> {
        match self.state {
            State::Dialing { connection, .. }
            | State::Registering { connection, .. }
            | State::Streaming { connection, .. } => Some(connection),
            State::Waiting { .. } | State::Hello { .. } | State::Stopped => None,
        }
    }
}

/// Time that `bytes` take on the slowest line we are patient with.
fn line_time(bytes: u64) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000_000) / SLOW_LINE_BYTES_PER_SECOND)
}
