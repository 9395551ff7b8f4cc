//! What tests of the sender's decisions have in common.

use std::time::Duration;
use wire::delivery::{ConnectionId, Output, Route, Sender, SenderConfig, Standing};

pub const ZERO: Duration = Duration::ZERO;
pub const ONE: ConnectionId = ConnectionId(1);

pub fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn config(routes: &[Route]) -> SenderConfig {
    SenderConfig { start_jitter: ZERO, ..SenderConfig::new(routes.to_vec()) }
}

pub fn outputs(sender: &mut Sender, now: Duration) -> Vec<Output> {
    std::iter::from_fn(|| sender.poll_output(now)).collect()
}

/// Registered at time zero on connection 1, with `queued` reports of 100 bytes from sequence 1.
pub fn streaming(config: SenderConfig, queued: usize) -> Sender {
    let mut sender = Sender::new(config, ZERO, 1, 1, vec![100; queued]);
    sender.handle_connected(ZERO, ONE);
    sender.handle_welcome(ZERO, ONE, 0, Vec::new());
    assert_eq!(sender.standing(), Standing::Streaming);
    let dialled = Output::Dial { route: 0, connection: ONE };
    assert_eq!(outputs(&mut sender, ZERO)[..2], [dialled, Output::Register { connection: ONE }]);
    sender
}

/// Lets the timer run out; returns when that was and what it gave.
pub fn timer(sender: &mut Sender) -> (Duration, Vec<Output>) {
    let at = sender.poll_timeout().expect("a timer runs");
    sender.handle_timeout(at);
    (at, outputs(sender, at))
}
