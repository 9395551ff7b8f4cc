//! Decisions of the outgoing queue, without disk: what to append, what to replace, what an answer of the CMA means.

use model::DocumentHash;
use std::collections::BTreeMap;

/// What is known about one queued change without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub instance: String,
    pub hash: DocumentHash,
    /// Size as stored.
    pub bytes: u64,
    /// Older changes of the instance that were given up for this one.
    pub superseded: u32,
    pub place: Place,
}

/// Where the change is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file of this number, which differs from the sequence while a renumbering has not reached the disk.
    File(u64),
    /// The state directory cannot be written.
    Memory(Vec<u8>),
}

/// Where a new change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    Append(u64),
    /// In place of an older change of the same instance that was never sent. Sequences stay without gaps.
    Replace(u64),
}

/// What the CMA's last durable sequence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Everything up to it is acknowledged, the rest follows.
    Continue,
    /// The CMA counts differently: it lost data or we did. A new incarnation is the only safe way on.
    Renew,
}

/// Sequence numbers and sizes.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Contiguous from `acknowledged + 1`.
    pub entries: BTreeMap<u64, Entry>,
    /// Last sequence that the CMA has acknowledged.
    pub acknowledged: u64,
    /// Highest sequence that may ever have left this host: its content must not change any more.
    pub frozen: u64,
    /// Size from which on changes replace older ones of the same instance.
    pub limit_bytes: u64,
}

impl Plan {
    pub fn next(&self) -> u64 {
        self.entries.last_key_value().map_or(self.acknowledged, |(sequence, _)| *sequence) + 1
    }

    pub fn bytes(&self) -> u64 {
        self.entries.values().map(|entry| entry.bytes).sum()
    }

    /// The newest queued change of an instance.
    pub fn newest(&self, instance: &str) -> Option<(u64, &Entry)> {
        self.entries.iter().rev().find(|(_, entry)| entry.instance == instance).map(|(n, entry)| (*n, entry))
    }

    /// Appends below the limit. Above it, a change takes the place of the newest one of its instance, if that was
    /// never sent: after a lost acknowledgement the CMA may have the old content under that number already.
    pub fn place(&self, instance: &str, bytes: u64) -> Placement {
        if self.bytes() + bytes > self.limit_bytes
            && let Some((sequence, _)) = self.newest(instance)
            && sequence > self.frozen
        {
            return Placement::Replace(sequence);
        }
        Placement::Append(self.next())
    }

    pub fn resume(&self, last_sequence: u64) -> Resume {
        if (self.acknowledged..self.next()).contains(&last_sequence) {
            Resume::Continue
        } else {
            Resume::Renew
        }
    }

    /// Takes out what is acknowledged.
    pub fn acknowledge(&mut self, through: u64) -> BTreeMap<u64, Entry> {
        let through = through.min(self.next() - 1);
        if through <= self.acknowledged {
            return BTreeMap::new();
        }
        let rest = self.entries.split_off(&(through + 1));
        self.acknowledged = through;
        std::mem::replace(&mut self.entries, rest)
    }

    /// Counts from 1 again.
    pub fn renumber(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        self.entries = entries.into_values().enumerate().map(|(i, entry)| (i as u64 + 1, entry)).collect();
        self.acknowledged = 0;
        self.frozen = 0;
    }

    /// Whether numbers follow `acknowledged` without gaps.
    pub fn is_contiguous(&self) -> bool {
        self.entries.keys().enumerate().all(|(i, sequence)| *sequence == self.acknowledged + 1 + i as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(instance: &str, bytes: u64) -> Entry {
        let hash = DocumentHash::of(instance.as_bytes());
        Entry { instance: instance.into(), hash, bytes, superseded: 0, place: Place::File(0) }
    }

    fn put(plan: &mut Plan, instance: &str, bytes: u64) -> Placement {
        let placement = plan.place(instance, bytes);
        let (Placement::Append(sequence) | Placement::Replace(sequence)) = placement;
        let superseded = plan.entries.get(&sequence).map_or(0, |old| old.superseded + 1);
        plan.entries.insert(sequence, Entry { superseded, ..entry(instance, bytes) });
        placement
    }

    #[test]
    fn only_unsent_older_changes_of_the_same_instance_are_replaced() {
        let mut plan = Plan { limit_bytes: 100, ..Plan::default() };
        assert_eq!(put(&mut plan, "a", 60), Placement::Append(1));
        assert_eq!(put(&mut plan, "a", 40), Placement::Append(2));
        assert_eq!(put(&mut plan, "b", 40), Placement::Append(3));
        assert_eq!(put(&mut plan, "a", 40), Placement::Replace(2));
        assert_eq!(plan.entries[&2].superseded, 1);
        plan.frozen = 2;
        assert_eq!(put(&mut plan, "a", 40), Placement::Append(4));
        assert_eq!(put(&mut plan, "a", 40), Placement::Replace(4));
    }

    #[test]
    fn the_cma_must_count_as_we_do() {
        let mut plan = Plan { limit_bytes: 100, acknowledged: 4, ..Plan::default() };
        put(&mut plan, "a", 1);
        put(&mut plan, "b", 1);
        for (last, expected) in
            [(3, Resume::Renew), (4, Resume::Continue), (6, Resume::Continue), (7, Resume::Renew)]
        {
            assert_eq!(plan.resume(last), expected, "{last}");
        }
        assert_eq!(plan.acknowledge(5).len(), 1);
        assert_eq!(plan.acknowledge(5).len(), 0);
        assert_eq!(plan.acknowledge(u64::MAX).len(), 1);
        assert_eq!((plan.acknowledged, plan.next()), (6, 7));
    }

    proptest! {
        /// Whatever happens, numbers have no gaps and the newest change of every instance is there.
        #[test]
        fn numbers_have_no_gaps(steps in proptest::collection::vec((0usize..4, 1u64..60, 0u8..5), 1..80)) {
            let mut plan = Plan { limit_bytes: 150, ..Plan::default() };
            let mut newest = BTreeMap::new();
            for (instance, bytes, what) in steps {
                match what {
                    0 => plan.frozen = plan.next() - 1,
                    1 => {
                        for (_, entry) in plan.acknowledge(plan.acknowledged + bytes % 3) {
                            if newest.get(&entry.instance) == Some(&entry.bytes) && plan.newest(&entry.instance).is_none() {
                                newest.remove(&entry.instance);
                            }
                        }
                    }
                    _ => {
                        let name = ["a", "b", "c", "d"][instance];
                        put(&mut plan, name, bytes);
                        newest.insert(name.to_string(), bytes);
                    }
                }
                prop_assert!(plan.is_contiguous());
                for (name, bytes) in &newest {
                    prop_assert_eq!(plan.newest(name).map(|(_, entry)| entry.bytes), Some(*bytes));
                }
            }
        }
    }
}
