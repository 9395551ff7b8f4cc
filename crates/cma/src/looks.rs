//! Wakes ingestion when something that it put off is due, such as a conflict of addresses that has to last before anybody
//! is told. With nothing put off it sleeps.

use crate::commit::{Done, Work, Writer};
use model::Timestamp;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// Never longer, in case that the clock is set.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// Looks are not closer to each other, and after one that failed there is another.
const SHORTEST_SLEEP: Duration = Duration::from_secs(1);
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// How long a look may wait for its commit.
const PATIENCE: Duration = Duration::from_secs(600);

/// Works until the CMA stops. What was put off before its start is looked at first.
pub async fn run(writer: Writer, asked: mpsc::UnboundedReceiver<Timestamp>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = look(writer, asked) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn look(writer: Writer, mut asked: mpsc::UnboundedReceiver<Timestamp>) {
    let mut due = Some(Timestamp::now());
    loop {
        tokio::select! {
            request = asked.recv() => match request {
                Some(request) => due = due.into_iter().chain([request]).min(),
                // The writer is gone.
                None => return,
            },
            () = sleep(pause(Timestamp::now(), due)), if due.is_some() => {
                if due.is_some_and(|due| due <= Timestamp::now()) {
                    // What is still to come is asked for by the look itself.
                    due = match writer.ask(Work::Look, PATIENCE).await {
                        Ok(Done::Written) => None,
                        _ => Some(Timestamp::now().plus(RETRY_AFTER)),
                    };
                }
            }
        }
    }
}

fn pause(now: Timestamp, due: Option<Timestamp>) -> Duration {
    due.map_or(LONGEST_SLEEP, |due| due.since(now)).clamp(SHORTEST_SLEEP, LONGEST_SLEEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sleeps_until_something_is_due() {
        let now = Timestamp(1_000_000_000);
        let at = |seconds: i64| Some(Timestamp(now.0 + seconds * 1_000_000));
        assert_eq!(pause(now, at(15)), Duration::from_secs(15));
        assert_eq!(pause(now, at(-5)), SHORTEST_SLEEP, "no busy loop");
        assert_eq!(pause(now, at(1_000_000)), LONGEST_SLEEP, "the clock may be set");
    }
}
