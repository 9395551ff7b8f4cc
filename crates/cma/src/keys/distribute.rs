//! Hosts that are not connected are called when the keys that they are to trust change, as they are for a new configuration
//! (`crate::calls`): on the connection that they then make they are told. Who cannot be called is told when it next registers.

use super::Keyring;
use crate::calls::dial;
use crate::readers::Readers;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use wire::endpoint::Endpoint;

/// After a start many hosts come by themselves.
const START_PAUSE: Duration = Duration::from_secs(10);
/// From a change to the first call.
const CHANGE_PAUSE: Duration = Duration::from_millis(500);
/// From one round of calls to the next; the second is longer than a dead connection can look alive to either side.
const ROUNDS: [Duration; 3] = [Duration::from_secs(15), Duration::from_secs(45), Duration::from_secs(600)];
/// Calls under way at once, and the time between the beginnings of two.
const CALLS_AT_ONCE: usize = 50;
const CALL_INTERVAL: Duration = Duration::from_millis(10);

/// Never ends.
pub(super) async fn run(keyring: Arc<Keyring>, endpoint: Endpoint, readers: Arc<Readers>) {
    let mut changed = keyring.changed.subscribe();
    let mut pause = START_PAUSE;
    loop {
        changed.borrow_and_update();
        tokio::select! {
            () = rounds(&keyring, &endpoint, &readers, pause) => {
                if changed.changed().await.is_err() {
                    return;
                }
            }
            more = changed.changed() => if more.is_err() { return },
        }
        pause = CHANGE_PAUSE;
    }
}

async fn rounds(keyring: &Arc<Keyring>, endpoint: &Endpoint, readers: &Arc<Readers>, first: Duration) {
    for pause in [first].into_iter().chain(ROUNDS) {
        sleep(pause).await;
        let ring = keyring.clone();
        let due = match readers.read(move |reader| Ok(ring.due(&reader.hosts()?))).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(%error, "the hosts that lack keys cannot be read");
                continue;
            }
        };
        if due.is_empty() {
            continue;
        }
        let (calls, mut answered) = (due.len(), 0);
        let mut dials = JoinSet::new();
        let mut pace = interval(CALL_INTERVAL);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for (host, address, key) in due {
            if dials.len() >= CALLS_AT_ONCE {
                answered += usize::from(matches!(dials.join_next().await, Some(Ok(true))));
            }
            pace.tick().await;
            let endpoint = endpoint.clone();
            dials.spawn(async move { dial(&endpoint, &host, address, key).await });
        }
        while let Some(done) = dials.join_next().await {
            answered += usize::from(matches!(done, Ok(true)));
        }
        tracing::info!(calls, answered, "hosts were called for the keys that they are to trust");
    }
}
