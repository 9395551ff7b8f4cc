//! Which deliveries may start now: in order per host and receiver, different hosts side by side.
//!
//! Pure: rows, outcomes and the time go in, rows to start and records to write come out. A row leaves only when
//! its record is durable, so a crash at any point repeats at most the deliveries that were running.

use super::Outcome;
use model::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use store::OutboxRow;

/// Limits of the dispatcher.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// Deliveries are given up after this many attempts.
    pub attempts: u32,
    /// Pause after the first failure; doubles with each further one.
    pub first_pause: Duration,
    pub longest_pause: Duration,
    /// Deliveries of one channel that run at the same time.
    pub workers_per_channel: usize,
    /// Rows kept in memory; more stay on disk and are loaded when there is room.
    pub rows_in_memory: usize,
}

impl Policy {
    pub fn with_attempts(attempts: u32) -> Self {
        Self {
            attempts: attempts.max(1),
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(300),
            workers_per_channel: 8,
            rows_in_memory: 20_000,
        }
    }

    /// Pause before the next attempt after `failures` failed ones.
    pub fn pause(&self, failures: u32) -> Duration {
        let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first_pause.saturating_mul(factor).min(self.longest_pause)
    }

    /// What to write about an attempt that ended at `now`.
    pub fn record(
        &self,
        row: &OutboxRow,
        outcome: &Outcome,
        progress: Vec<String>,
        now: Timestamp,
    ) -> Record {
        let finish =
            |failure| Record::Finish { sequence: row.sequence, channel: row.channel.clone(), failure };
        match outcome {
            Outcome::Delivered | Outcome::Skipped(_) => finish(None),
            Outcome::Failed(reason) if row.attempts + 1 >= self.attempts => {
                finish(Some(format!("given up after {} attempts: {reason}", row.attempts + 1)))
            }
            Outcome::Failed(_) => {
                let attempts = row.attempts + 1;
                Record::Retry(OutboxRow {
                    attempts,
                    progress,
                    due: now.plus(self.pause(attempts)),
                    ..row.clone()
                })
            }
        }
    }
}

/// What to write about a row that was offered to some receivers while an earlier one waits for its retry: what is
/// done. No attempt counts, and its own turn comes as if nothing had been.
pub fn passed(row: &OutboxRow, progress: Vec<String>) -> Record {
    Record::Retry(OutboxRow { progress, ..row.clone() })
}

/// What has to become durable before the next delivery of the same host and channel may start.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Done, or given up with the reason.
    Finish { sequence: i64, channel: String, failure: Option<String> },
    /// To be tried again when `due` has come.
    Retry(OutboxRow),
}

#[derive(Debug, Default)]
struct Line {
    rows: VecDeque<OutboxRow>,
    /// Sequence of the row that is being delivered, or whose outcome is being recorded.
    busy: Option<i64>,
    /// Rows up to this sequence were offered to the receivers that are not behind.
    offered: i64,
}

/// The outbox as the dispatcher sees it.
#[derive(Debug)]
pub struct Dispatcher {
    policy: Policy,
    /// By host and channel.
    lines: BTreeMap<(String, String), Line>,
    waiting: usize,
    more_on_disk: bool,
    /// By channel, the highest sequence ever taken in, to drop rows that come twice.
    highest: BTreeMap<String, i64>,
}

impl Dispatcher {
    /// Knows nothing yet and therefore asks for a [`load`](Self::load) first.
    pub fn new(policy: Policy) -> Self {
        Self { policy, lines: BTreeMap::new(), waiting: 0, more_on_disk: true, highest: BTreeMap::new() }
    }

    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Whether rows wait on disk and there is room for them; then read `rows_in_memory` rows and [`load`](Self::load).
    pub fn wants_load(&self) -> bool {
        self.more_on_disk && self.waiting <= self.policy.rows_in_memory / 2
    }

    /// Takes what the store holds, in order. `complete` tells that there was no more.
    pub fn load(&mut self, rows: Vec<OutboxRow>, complete: bool) {
        for line in self.lines.values_mut() {
            let kept = line.rows.iter().position(|row| Some(row.sequence) == line.busy);
            line.rows.truncate(kept.map_or(0, |position| position + 1));
        }
        self.lines.retain(|_, line| !line.rows.is_empty());
        self.waiting = self.lines.values().map(|line| line.rows.len()).sum();
        self.more_on_disk = !complete;
        for row in rows {
            self.push(row);
        }
    }

    /// Takes a row that was just committed. Rows that [`load`](Self::load) already brought are dropped.
    pub fn add(&mut self, row: OutboxRow) {
        if self.highest.get(&row.channel).is_some_and(|highest| *highest >= row.sequence) {
            return;
        }
        // While rows wait on disk a new one must not overtake them.
        if self.more_on_disk || self.waiting >= self.policy.rows_in_memory {
            self.more_on_disk = true;
            return;
        }
        self.push(row);
    }

    fn push(&mut self, row: OutboxRow) {
        let line = self.lines.entry((row.event.designation().to_owned(), row.channel.clone())).or_default();
        // Only `load` can bring a row again that is being delivered; sequences grow within a line.
        if line.rows.back().is_some_and(|last| last.sequence >= row.sequence) {
            return;
        }
        let highest = self.highest.entry(row.channel.clone()).or_insert(row.sequence);
        *highest = row.sequence.max(*highest);
        line.rows.push_back(row);
        self.waiting += 1;
    }

    /// Rows to start delivering now.
    pub fn start(&mut self, now: Timestamp) -> Vec<OutboxRow> {
        let mut running = self.running();
        let mut candidates: Vec<(i64, (String, String))> = self
            .lines
            .iter()
            .filter(|(_, line)| line.busy.is_none())
            .filter_map(|(key, line)| line.rows.front().map(|row| (row, key)))
            .filter(|(row, _)| is_due(&self.policy, row, now))
            .map(|(row, key)| (row.sequence, key.clone()))
            .collect();
        // The oldest event first, so that no host waits for ever behind busier ones.
        candidates.sort();
        let mut started = Vec::new();
        for (_, key) in candidates {
            let count = running.entry(key.1.clone()).or_default();
            if *count >= self.policy.workers_per_channel {
                continue;
            }
            if let Some(line) = self.lines.get_mut(&key)
                && let Some(row) = line.rows.front()
            {
                *count += 1;
                line.busy = Some(row.sequence);
                started.push(row.clone());
            }
        }
        started
    }

    /// One receiver that fails must not hold up the others: rows behind one that waits for its retry, each with the
    /// receivers that are done with everything before it. For them, and only them, it may be delivered now; record
    /// it with [`passed`]. Each receiver still gets the events of a host in order.
    pub fn pass(&mut self, now: Timestamp) -> Vec<(OutboxRow, Vec<String>)> {
        let mut running = self.running();
        let waits = |row: &OutboxRow| row.attempts > 0 && !is_due(&self.policy, row, now);
        let mut started = Vec::new();
        for ((_, channel), line) in &mut self.lines {
            let count = running.entry(channel.clone()).or_default();
            if line.busy.is_some()
                || *count >= self.policy.workers_per_channel
                || !line.rows.front().is_some_and(waits)
            {
                continue;
            }
            let first = line.rows.partition_point(|row| row.sequence <= line.offered).max(1);
            for index in first..line.rows.len() {
                let (before, row) = (&line.rows[index - 1].progress, &line.rows[index]);
                line.offered = row.sequence;
                if before.iter().any(|receiver| !row.progress.contains(receiver)) {
                    *count += 1;
                    line.busy = Some(row.sequence);
                    started.push((row.clone(), before.clone()));
                    break;
                }
            }
        }
        started
    }

    /// Deliveries that run, by channel.
    fn running(&self) -> BTreeMap<String, usize> {
        let mut running: BTreeMap<String, usize> = BTreeMap::new();
        for ((_, channel), _) in self.lines.iter().filter(|(_, line)| line.busy.is_some()) {
            *running.entry(channel.clone()).or_default() += 1;
        }
        running
    }

    /// The record is durable: the next row of this host and channel may start.
    pub fn recorded(&mut self, row: &OutboxRow, record: &Record) {
        let key = (row.event.designation().to_owned(), row.channel.clone());
        let Some(line) = self.lines.get_mut(&key) else { return };
        let Some(position) = line.rows.iter().position(|known| known.sequence == row.sequence) else {
            return;
        };
        if line.busy != Some(row.sequence) {
            return;
        }
        line.busy = None;
        match record {
            Record::Retry(again) => {
                if again.progress.len() > row.progress.len() {
                    // A receiver has caught up to here: what comes after it may be for it as well.
                    line.offered = again.sequence;
                }
                line.rows[position] = again.clone();
            }
            Record::Finish { .. } => {
                line.rows.remove(position);
                self.waiting = self.waiting.saturating_sub(1);
            }
        }
        if line.rows.is_empty() {
            self.lines.remove(&key);
        }
    }

    /// When the next retry is due; `None` when nothing but new rows or outcomes can change anything.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.lines
            .values()
            .filter(|line| line.busy.is_none())
            .filter_map(|line| line.rows.front())
            .map(|row| row.due)
            .min()
    }

    /// Rows in memory that are not yet recorded as done.
    pub fn waiting(&self) -> usize {
        self.waiting
    }
}

fn is_due(policy: &Policy, row: &OutboxRow, now: Timestamp) -> bool {
    // A clock that was set back must not hold a delivery for longer than the longest pause.
    row.due <= now || row.due.since(now) > policy.longest_pause
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Event, EventType};
    use proptest::prelude::*;
    use serde_json::{Map, json};
    use std::collections::BTreeSet;

    fn row(sequence: i64, host: &str, channel: &str) -> OutboxRow {
        let mut object = Map::new();
        object.insert("designation".into(), json!(host));
        let event = Event {
            eventid: format!("id-{sequence}"),
            time: Timestamp(sequence),
            eventtype: EventType::Warn,
            associatedobject: object,
            extrainfo: Map::new(),
        };
        OutboxRow {
            sequence,
            channel: channel.into(),
            event,
            attempts: 0,
            due: Timestamp(0),
            progress: vec![],
        }
    }

    fn policy() -> Policy {
        Policy { workers_per_channel: 2, ..Policy::with_attempts(3) }
    }

    fn sequences(rows: &[OutboxRow]) -> Vec<i64> {
        rows.iter().map(|row| row.sequence).collect()
    }

    #[test]
    fn one_at_a_time_per_host_and_channel_and_hosts_side_by_side() {
        let mut dispatcher = Dispatcher::new(policy());
        dispatcher.load(
            vec![
                row(1, "a", "scripts"),
                row(1, "a", "syslog"),
                row(2, "a", "scripts"),
                row(3, "b", "scripts"),
                row(4, "c", "scripts"),
            ],
            true,
        );
        let started = dispatcher.start(Timestamp(9));
        assert_eq!(
            started.iter().map(|r| (r.sequence, r.channel.as_str())).collect::<Vec<_>>(),
            [(1, "scripts"), (1, "syslog"), (3, "scripts")],
            "host c waits for a worker, the second event of a for the first"
        );
        assert!(dispatcher.start(Timestamp(9)).is_empty());
        let record = policy().record(&started[0], &Outcome::Delivered, vec![], Timestamp(9));
        dispatcher.recorded(&started[0], &record);
        assert_eq!(sequences(&dispatcher.start(Timestamp(9))), [2], "the oldest event goes first");
    }

    #[test]
    fn failures_are_retried_with_growing_pauses_then_given_up() {
        let mut dispatcher = Dispatcher::new(policy());
        dispatcher.load(vec![row(1, "a", "scripts"), row(2, "a", "scripts")], true);
        let mut now = Timestamp(1_000_000);
        let mut pauses = vec![];
        let failure = loop {
            let started = dispatcher.start(now);
            assert_eq!(sequences(&started), [1], "the second event must not overtake the first");
            let record =
                policy().record(&started[0], &Outcome::Failed("exit 1".into()), vec!["done".into()], now);
            dispatcher.recorded(&started[0], &record);
            match record {
                Record::Retry(again) => {
                    assert_eq!(again.progress, ["done"]);
                    assert!(dispatcher.start(now).is_empty(), "not before it is due");
                    pauses.push(again.due.since(now).as_secs());
                    assert_eq!(dispatcher.next_due(), Some(again.due));
                    now = again.due;
                }
                Record::Finish { failure, .. } => break failure,
            }
        };
        assert_eq!(pauses, [1, 2]);
        assert!(failure.is_some_and(|text| text.contains("3 attempts") && text.contains("exit 1")));
        assert_eq!(sequences(&dispatcher.start(now)), [2]);
    }

    #[test]
    fn one_receiver_that_fails_does_not_hold_up_the_others() {
        let mut dispatcher = Dispatcher::new(policy());
        dispatcher.load((1..=3).map(|n| row(n, "a", "scripts")).collect(), true);
        let now = Timestamp(1_000_000);
        let first = dispatcher.start(now).remove(0);
        assert!(dispatcher.pass(now).is_empty(), "row 1 is being delivered");
        let done = || vec!["good".to_owned()];
        let failed = policy().record(&first, &Outcome::Failed("bad".into()), done(), now);
        dispatcher.recorded(&first, &failed);
        for sequence in [2, 3] {
            let mut offered = dispatcher.pass(now);
            let (row, only) = offered.remove(0);
            assert!((row.sequence, only) == (sequence, done()) && offered.is_empty());
            assert!(
                dispatcher.pass(now).is_empty()
                    && dispatcher.start(now.plus(policy().longest_pause)).is_empty()
            );
            dispatcher.recorded(&row, &passed(&row, done()));
        }
        assert!(dispatcher.pass(now).is_empty(), "each is offered once");
        dispatcher.add(row(4, "a", "scripts"));
        let (fourth, _) = dispatcher.pass(now).remove(0);
        dispatcher.recorded(&fourth, &passed(&fourth, vec![]));
        dispatcher.add(row(5, "a", "scripts"));
        assert!(dispatcher.pass(now).is_empty(), "it failed for row 4, so it may not have row 5 yet");
        assert_eq!(dispatcher.waiting(), 5);

        // The turn of row 1 comes, then that of the others, with what is done and no attempt counted.
        let now = dispatcher.next_due().unwrap();
        let again = dispatcher.start(now).remove(0);
        assert_eq!((again.sequence, again.attempts), (1, 1));
        dispatcher.recorded(&again, &policy().record(&again, &Outcome::Delivered, vec![], now));
        let second = dispatcher.start(now).remove(0);
        assert_eq!((second.sequence, second.attempts, second.progress), (2, 0, done()));
    }

    #[test]
    fn a_row_that_load_brought_is_not_taken_twice() {
        let mut dispatcher = Dispatcher::new(policy());
        dispatcher.load(vec![row(5, "a", "scripts")], true);
        let started = dispatcher.start(Timestamp(9));
        dispatcher
            .recorded(&started[0], &Record::Finish { sequence: 5, channel: "scripts".into(), failure: None });
        dispatcher.add(row(5, "a", "scripts"));
        dispatcher.add(row(6, "a", "scripts"));
        assert_eq!(sequences(&dispatcher.start(Timestamp(9))), [6]);
    }

    #[test]
    fn a_clock_set_back_holds_nothing() {
        let mut dispatcher = Dispatcher::new(policy());
        let day = 86_400_000_000;
        dispatcher.load(vec![OutboxRow { due: Timestamp(day), attempts: 1, ..row(1, "a", "scripts") }], true);
        assert_eq!(sequences(&dispatcher.start(Timestamp(0))), [1]);
    }

    #[test]
    fn pauses_stay_bounded() {
        let policy = Policy::with_attempts(100);
        assert_eq!(policy.pause(1), Duration::from_secs(1));
        assert_eq!(policy.pause(5), Duration::from_secs(16));
        assert_eq!(policy.pause(90), Duration::from_secs(300));
    }

    #[test]
    fn what_does_not_fit_into_memory_stays_on_disk_and_keeps_its_place() {
        let mut dispatcher = Dispatcher::new(Policy { rows_in_memory: 2, ..policy() });
        assert!(dispatcher.wants_load());
        dispatcher.load(vec![row(1, "a", "scripts"), row(2, "a", "scripts")], false);
        dispatcher.add(row(4, "b", "scripts"));
        let started = dispatcher.start(Timestamp(9));
        assert_eq!(sequences(&started), [1], "row 4 may not overtake what waits on disk");
        assert!(!dispatcher.wants_load());
        dispatcher
            .recorded(&started[0], &Record::Finish { sequence: 1, channel: "scripts".into(), failure: None });
        assert!(dispatcher.wants_load());
        dispatcher.load(vec![row(2, "a", "scripts"), row(3, "a", "scripts"), row(4, "b", "scripts")], true);
        assert_eq!(sequences(&dispatcher.start(Timestamp(9))), [2, 4]);
        assert_eq!(dispatcher.waiting(), 3);
    }

    proptest! {
        // A crash loses the dispatcher and the attempts in flight, never what the disk holds.
        #[test]
        fn nothing_is_lost_or_reordered_across_crashes(
            hosts in proptest::collection::vec(0u8..4, 1..30),
            steps in proptest::collection::vec(0u8..5, 1..400),
        ) {
            let mut disk: Vec<OutboxRow> =
                hosts.iter().enumerate().map(|(i, host)| row(i as i64, &format!("h{host}"), "scripts")).collect();
            let all = disk.clone();
            let mut delivered: Vec<(String, i64, String)> = vec![];
            let mut given_up = BTreeSet::new();
            let mut crashes_since_progress = 0u32;
            let mut now = Timestamp(1);
            let mut dispatcher = Dispatcher::new(policy());
            dispatcher.load(disk.clone(), true);
            let mut running: Vec<OutboxRow> = vec![];
            let finish_all = std::iter::repeat_n(0u8, 4000);
            for step in steps.into_iter().chain(finish_all) {
                now = now.plus(Duration::from_secs(1));
                running.extend(dispatcher.start(now));
                if step == 4 {
                    crashes_since_progress += 1;
                    running.clear();
                    dispatcher = Dispatcher::new(policy());
                    dispatcher.load(disk.clone(), true);
                    continue;
                }
                let Some(row) = running.pop() else { continue };
                let outcome = if step == 3 { Outcome::Failed("x".into()) } else { Outcome::Delivered };
                if outcome == Outcome::Delivered {
                    delivered.push((row.event.designation().into(), row.sequence, row.event.eventid.clone()));
                }
                if step == 2 {
                    // Delivered, then killed before the record was durable.
                    running.clear();
                    dispatcher = Dispatcher::new(policy());
                    dispatcher.load(disk.clone(), true);
                    continue;
                }
                let record = policy().record(&row, &outcome, vec![], now);
                match &record {
                    Record::Finish { sequence, failure, .. } => {
                        disk.retain(|r| r.sequence != *sequence);
                        if failure.is_some() { given_up.insert(*sequence); }
                    }
                    Record::Retry(again) => {
                        for r in disk.iter_mut().filter(|r| r.sequence == again.sequence) { *r = again.clone(); }
                    }
                }
                dispatcher.recorded(&row, &record);
            }
            prop_assert!(disk.is_empty(), "{} rows left after {crashes_since_progress} crashes", disk.len());
            for row in &all {
                let copies: Vec<_> = delivered.iter().filter(|d| d.1 == row.sequence).collect();
                prop_assert!(!copies.is_empty() || given_up.contains(&row.sequence), "lost {}", row.sequence);
                prop_assert!(copies.iter().all(|d| d.2 == row.event.eventid), "a repeat has the same id");
            }
            for host in 0..4 {
                let order: Vec<i64> = delivered.iter().filter(|d| d.0 == format!("h{host}")).map(|d| d.1).collect();
                prop_assert!(order.is_sorted(), "host {host}: {order:?}");
            }
        }

        // Whatever fails, and wherever it is killed: each receiver gets everything or it is given up, in order.
        #[test]
        fn each_receiver_keeps_its_order(
            fates in proptest::collection::vec(0u8..16, 1..300),
            rows in 1i64..12,
        ) {
            let mut disk: Vec<OutboxRow> = (1..=rows).map(|n| row(n, "h", "scripts")).collect();
            let mut received: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
            let mut given_up = BTreeSet::new();
            let mut now = Timestamp(1);
            let mut dispatcher = Dispatcher::new(policy());
            dispatcher.load(disk.clone(), true);
            for fate in fates.into_iter().chain(std::iter::repeat_n(0, 4000)) {
                now = now.plus(Duration::from_millis(300));
                let whole = dispatcher.start(now).into_iter().map(|row| (row, None));
                let whole: Vec<_> = whole.collect();
                let part = dispatcher.pass(now).into_iter().map(|(row, only)| (row, Some(only)));
                let all: Vec<_> = whole.into_iter().chain(part).collect();
                prop_assert!(all.len() <= 1, "one at a time for one host");
                let Some((row, only)) = all.into_iter().next() else { continue };
                let mut progress = row.progress.clone();
                for (bit, name) in [(1, "a"), (2, "b")] {
                    let wanted = only.as_ref().is_none_or(|only| only.iter().any(|n| n == name));
                    if wanted && !progress.iter().any(|n| n == name) && fate & bit == 0 {
                        received.entry(name).or_default().push(row.sequence);
                        progress.push(name.into());
                    }
                }
                if fate & 12 == 12 {
                    // Killed before the record was durable.
                    dispatcher = Dispatcher::new(policy());
                    dispatcher.load(disk.clone(), true);
                    continue;
                }
                let outcome =
                    if progress.len() == 2 { Outcome::Delivered } else { Outcome::Failed("x".into()) };
                let record = match only {
                    Some(_) => passed(&row, progress),
                    None => policy().record(&row, &outcome, progress, now),
                };
                match &record {
                    Record::Finish { sequence, failure, .. } => {
                        disk.retain(|r| r.sequence != *sequence);
                        if failure.is_some() {
                            given_up.insert(*sequence);
                        }
                    }
                    Record::Retry(again) => {
                        for r in disk.iter_mut().filter(|r| r.sequence == again.sequence) {
                            *r = again.clone();
                        }
                    }
                }
                dispatcher.recorded(&row, &record);
            }
            prop_assert!(disk.is_empty(), "{} rows left", disk.len());
            for (name, order) in &received {
                prop_assert!(order.is_sorted(), "{name}: {order:?}");
            }
            for sequence in (1..=rows).filter(|sequence| !given_up.contains(sequence)) {
                for name in ["a", "b"] {
                    prop_assert!(received.get(name).is_some_and(|all| all.contains(&sequence)), "{name} lost {sequence}");
                }
            }
        }
    }
}
