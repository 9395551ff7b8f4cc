//! The dispatcher's shell: reads the outbox, starts deliveries, has their outcomes recorded.

use super::dispatch::{Dispatcher, Policy, Record, passed};
use super::{Attempt, CHANNELS, ChannelContext, Outcome, find};
use crate::commit::{Work, Writer};
use crate::health::Health;
use crate::knowledge::SharedKnowledge;
use crate::readers::Readers;
use model::Timestamp;
use model::paths::SitePaths;
use std::sync::Arc;
use std::time::Duration;
use store::OutboxRow;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// How long to wait before reading the outbox again after that failed.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What the dispatcher works with.
pub struct Delivery {
    pub rows: mpsc::UnboundedReceiver<OutboxRow>,
    pub writer: Writer,
    pub readers: Arc<Readers>,
    pub knowledge: SharedKnowledge,
    pub health: Arc<Health>,
    pub site: SitePaths,
    pub hostname: String,
    /// Becomes true when no further delivery may start.
    pub stop: watch::Receiver<bool>,
}

impl Delivery {
    /// Delivers until told to stop, then lets what is running come to its end.
    pub async fn run(mut self) {
        let mut changed = self.knowledge.changes();
        let (mut context, policy) = self.settings();
        let mut dispatcher = Dispatcher::new(policy);
        let mut running: JoinSet<(OutboxRow, Record)> = JoinSet::new();
        loop {
            let stopping = *self.stop.borrow();
            if !stopping && dispatcher.wants_load() {
                self.load(&mut dispatcher, policy).await;
            }
            let now = Timestamp::now();
            if !stopping {
                for row in dispatcher.start(now) {
                    running.spawn(deliver(
                        context.clone(),
                        row,
                        policy,
                        self.writer.clone(),
                        self.health.clone(),
                    ));
                }
                for (row, only) in dispatcher.pass(now) {
                    running.spawn(deliver_to(context.clone(), row, only, self.writer.clone()));
                }
            } else if running.is_empty() {
                return;
            }
            let pause = match dispatcher.next_due() {
                _ if dispatcher.wants_load() => READ_AGAIN_AFTER,
                Some(due) => due.since(now).clamp(Duration::from_millis(10), policy.longest_pause),
                None => policy.longest_pause,
            };
            tokio::select! {
                Some(row) = self.rows.recv() => {
                    dispatcher.add(row);
                    // What one commit brought is taken in together.
                    while let Ok(row) = self.rows.try_recv() {
                        dispatcher.add(row);
                    }
                }
                Some(ended) = running.join_next() => match ended {
                    Ok((row, record)) => dispatcher.recorded(&row, &record),
                    Err(error) => tracing::error!(%error, "a delivery broke off; it is tried again when the CMA starts anew"),
                },
                Ok(()) = changed.changed() => {
                    let (new_context, policy) = self.settings();
                    context = new_context;
                    dispatcher.set_policy(policy);
                }
                Ok(()) = self.stop.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn settings(&self) -> (Arc<ChannelContext>, Policy) {
        let notify = self.knowledge.get().config.notify.clone();
        let policy = Policy::with_attempts(notify.attempts);
        for channel in CHANNELS {
            // What was wrong with it may be mended, or it may be switched off now.
            self.health.set(&topic(channel.name), None);
        }
        (Arc::new(ChannelContext::new(self.site.clone(), notify, self.hostname.clone())), policy)
    }

    async fn load(&self, dispatcher: &mut Dispatcher, policy: Policy) {
        let limit = policy.rows_in_memory;
        match self.readers.read(move |reader| reader.outbox(limit)).await {
            Ok(rows) => {
                let complete = rows.len() < limit;
                dispatcher.load(rows, complete);
                self.health.set("outbox", None);
            }
            Err(error) => {
                let text = format!("alerts wait because the outbox cannot be read: {error}");
                tracing::error!(%error, "the outbox cannot be read; alerts wait");
                self.health.set("outbox", Some(text));
            }
        }
    }
}

/// Under which a channel's problem is kept.
fn topic(channel: &str) -> String {
    format!("channel {channel}")
}

/// One attempt and its record; returns when the record is durable.
async fn deliver(
    context: Arc<ChannelContext>,
    row: OutboxRow,
    policy: Policy,
    writer: Writer,
    health: Arc<Health>,
) -> (OutboxRow, Record) {
    let attempt = match find(&row.channel).filter(|channel| (channel.enabled)(&context.notify)) {
        Some(channel) => {
            let attempt = (channel.deliver)(context, Arc::new(row.event.clone()), row.progress.clone()).await;
            let note = match &attempt.outcome {
                Outcome::Skipped(reason) => Some(format!("alert channel {}: {reason}", row.channel)),
                _ => None,
            };
            health.set(&topic(&row.channel), note);
            attempt
        }
        None => {
            let reason = format!("channel {} is switched off", row.channel);
            Attempt { outcome: Outcome::Skipped(reason), progress: vec![], answers: vec![] }
        }
    };
    let record = policy.record(&row, &attempt.outcome, attempt.progress, Timestamp::now());
    if let Record::Finish { failure: Some(reason), .. } = &record {
        tracing::error!(channel = %row.channel, event = %row.event.eventid, host = %row.event.designation(), %reason, "an alert could not be delivered");
    }
    // The writer answers when the disk can be written; until then this host's next alert waits.
    if let Ok(answer) = writer.submit(Work::Delivery(record.clone()), None).await {
        let _ = answer.await;
    }
    (row, record)
}

/// Delivers a row to those receivers that are done with everything before it, and records what that brought.
async fn deliver_to(
    context: Arc<ChannelContext>,
    row: OutboxRow,
    only: Vec<String>,
    writer: Writer,
) -> (OutboxRow, Record) {
    let channel = find(&row.channel).filter(|channel| (channel.enabled)(&context.notify));
    let Some(to_some) = channel.and_then(|channel| channel.deliver_to) else {
        return (row.clone(), passed(&row, row.progress.clone()));
    };
    let attempt = to_some(context, Arc::new(row.event.clone()), row.progress.clone(), only).await;
    let record = passed(&row, attempt.progress);
    if let Ok(answer) = writer.submit(Work::Delivery(record.clone()), None).await {
        let _ = answer.await;
    }
    (row, record)
}
