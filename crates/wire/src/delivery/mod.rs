//! Delivery with acknowledgement: every queued change reaches the CMA's store exactly once, in order. Pure.
//!
//! [`Sender`] is the nanoprobe's side: it is told what happened (`handle_*`) and says what to do ([`Sender::poll_output`])
//! and when to ask again ([`Sender::poll_timeout`]). Times are `Duration`s since any fixed moment of a monotonic clock.
//! [`arrival`] is the CMA's side. What they rely on:
//!
//! - The queue is durable before [`Sender::handle_enqueued`], and a change leaves it only at [`Output::Forget`].
//! - The CMA acknowledges after commit, and keeps the last sequence of each incarnation in the same transaction.
//! - Before the CMA answers a registration it stops taking reports from older connections of the same host.
//! - A report's content never changes once it may have been sent: see [`Sender::may_replace`].

mod knocks;
mod random;
mod sender;

pub use sender::{Sender, Standing};

use model::message::Refused;
use std::time::Duration;

/// How one configured address is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Dial it.
    Dial,
    /// A multicast group: send hellos, dial who answers.
    Hello,
}

/// Settings of a [`Sender`]; `new` gives the usual ones.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// Tried in turn; at least one.
    pub routes: Vec<Route>,
    /// The first attempt waits a random part of this, so that a site that boots does not dial all at once.
    pub start_jitter: Duration,
    /// Time between hellos, and how many are sent before the next address is tried.
    pub hello_interval: Duration,
    pub hello_tries: usize,
    /// A dial without result counts as failed after this.
    pub dial_timeout: Duration,
    /// From the connection to the CMA's first answer.
    pub register_timeout: Duration,
    /// From sending to acknowledgement, on top of the time that the bytes may take on a slow line.
    pub ack_timeout: Duration,
    /// Close a connection without traffic after this; `None` keeps it.
    pub idle_close: Option<Duration>,
    /// Reports, and their bytes, that may wait for acknowledgement at once. One report is always allowed.
    pub window_reports: usize,
    pub window_bytes: u64,
    /// Limits of the doubling wait between rounds of attempts; each wait is a random part of it.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// While a CMA that could not be reached is not dialled, a hello asks this often whether it is there, whatever the
    /// route; half of it is fixed, and several routes share it. Doubles with answers that led to no connection.
    pub knock_interval: Duration,
    /// From the answer to such a hello to the dial at the latest: a random part of it.
    pub knock_spread: Duration,
    /// Wait after the CMA refused us; half of it is fixed.
    pub refused_wait: Duration,
}

impl SenderConfig {
    pub fn new(routes: Vec<Route>) -> Self {
        Self {
            routes,
            start_jitter: Duration::from_secs(1),
            hello_interval: Duration::from_secs(1),
            hello_tries: 3,
            dial_timeout: Duration::from_secs(15),
            register_timeout: Duration::from_secs(10),
            ack_timeout: Duration::from_secs(10),
            idle_close: Some(Duration::from_secs(30)),
            window_reports: 64,
            window_bytes: 4 << 20,
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            knock_interval: Duration::from_secs(10),
            knock_spread: Duration::from_secs(1),
            refused_wait: Duration::from_secs(300),
        }
    }
}

/// Names one attempt to connect and the connection that comes of it; what is told about an older one is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What the caller is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a hello to the group or address at this index of `routes`; tell [`Sender::handle_hello_reply`].
    SendHello { route: usize, attempt: usize },
    /// Dial this address (for a group: the source of the reply); tell `handle_connected` or `handle_dial_failed`.
    Dial { route: usize, connection: ConnectionId },
    /// Send `ToCma::Register` on the new connection.
    Register { connection: ConnectionId },
    /// Send the report of this sequence.
    Transmit { connection: ConnectionId, sequence: u64 },
    /// Everything up to this sequence is durable at the CMA: remove it from the queue.
    Forget { through: u64 },
    /// The CMA lacks these documents: queue them again.
    Wanted { instances: Vec<String> },
    /// The CMA and our queue do not fit together (one of them was restored from a copy): take a new incarnation, number
    /// the queue from 1, keep that durably, then tell [`Sender::handle_renumbered`].
    Renumber,
    /// Say now what there is to say besides reports: see [`Sender::handle_message_waiting`].
    Speak { connection: ConnectionId },
    /// Everything is delivered: send `ToCma::Goodbye`.
    Goodbye { connection: ConnectionId },
    /// Close this connection.
    Close { connection: ConnectionId, reason: Closing },
}

/// Why a [`Sender`] closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Nothing to say.
    Idle,
    /// An answer is overdue.
    TimedOut,
    /// The CMA refused us.
    Refused,
    /// The CMA said something that cannot be.
    Protocol,
    /// We stop.
    Stopping,
}

/// The CMA's refusal, as long as it is the last word.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub refused: Refused,
    /// When the next attempt is made, at the earliest.
    pub retry_at: Duration,
}

/// What a CMA does with a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The next one: commit it, then acknowledge it.
    Commit,
    /// Committed before: acknowledge `last` again, store nothing.
    Repeat,
    /// One is missing in between: store nothing, acknowledge nothing beyond `last`, close the connection.
    Gap { expected: u64 },
}

/// What to do with report `sequence` when `last` is the last durable one of the incarnation (0: none).
pub fn arrival(last: u64, sequence: u64) -> Arrival {
    if sequence <= last {
        return Arrival::Repeat;
    }
    match last.checked_add(1) {
        Some(expected) if expected == sequence => Arrival::Commit,
        Some(expected) => Arrival::Gap { expected },
        None => Arrival::Repeat,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_next_report_is_committed() {
        assert_eq!(arrival(0, 1), Arrival::Commit);
        assert_eq!(arrival(7, 8), Arrival::Commit);
        assert_eq!(arrival(7, 7), Arrival::Repeat);
        assert_eq!(arrival(7, 1), Arrival::Repeat);
        assert_eq!(arrival(0, 0), Arrival::Repeat);
        assert_eq!(arrival(7, 9), Arrival::Gap { expected: 8 });
        assert_eq!(arrival(0, u64::MAX), Arrival::Gap { expected: 1 });
        assert_eq!(arrival(u64::MAX, u64::MAX), Arrival::Repeat);
    }
}
