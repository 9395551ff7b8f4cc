//! The outgoing queue: what has changed on this host and is not yet durable at the CMA.
//!
//! A change is on disk before it is sent, and stays there until the CMA has committed it. So a crash of either
//! side, or of the host, loses nothing that was reported here, and the CMA drops what comes twice by
//! (key, incarnation, sequence). Documents are on disk only; in memory there is a line per change.
//!
//! When the state directory cannot be written, changes are held in memory (bounded) under a new incarnation, so
//! that the numbers on disk never mean something else after a restart, and the disk is tried again.

pub mod files;
pub mod plan;
#[cfg(test)]
mod tests;

use files::{Acknowledged, Document, Files, Record, seal, unseal};
use model::message::{Incarnation, KnownDocument, Rejection, Report};
use model::{DocumentHash, Timestamp};
use plan::{Entry, Place, Placement, Plan, Resume};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// Most bytes of changes that are held in memory while the disk cannot be written.
pub const MEMORY_BYTES: u64 = 4 * 1024 * 1024;

/// The hash that stands for "this instance is gone".
const GONE: DocumentHash = DocumentHash([0; 32]);

/// What a discovery found, as the queue takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub instance: String,
    /// Of the canonical text.
    pub hash: DocumentHash,
    /// zstd of the canonical text.
    pub body: Vec<u8>,
    pub seen: Timestamp,
}

/// What became of an offered document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// The CMA has it, or will have it from the queue.
    Unchanged,
    Queued(u64),
    /// Took the place of an older change of the same instance.
    Replaced(u64),
    /// The disk cannot be written and memory is full: forgotten, so that a later run offers it again.
    Refused,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Queue {
    files: Files,
    plan: Plan,
    incarnation: Incarnation,
    /// What the CMA has, by instance.
    documents: BTreeMap<String, Document>,
    /// When the present value of an instance was last found.
    seen: BTreeMap<String, Timestamp>,
    /// Queued sequences that the CMA has rejected and is about to acknowledge.
    rejected: BTreeSet<u64>,
    /// Why the disk cannot be written; `None` = it can.
    problem: Option<String>,
    /// Files on disk that are done with, to be removed when it can be written again.
    leftover: Vec<u64>,
}

impl Queue {
    /// Opens the queue below `state`, which is made if missing. Never fails: without a usable disk it works from
    /// memory and [`Queue::problem`] says why. The texts are for the log.
    pub fn open(state: &Path, limit_bytes: u64) -> (Self, Vec<String>) {
        let files = Files::new(state);
        let prepared = files.prepare();
        let found = files.load();
        let mut queue = Self {
            files,
            plan: Plan { limit_bytes, ..Plan::default() },
            incarnation: fresh_incarnation(),
            documents: BTreeMap::new(),
            seen: BTreeMap::new(),
            rejected: BTreeSet::new(),
            problem: None,
            leftover: Vec::new(),
        };
        let mut known = false;
        if let Some(acknowledged) = found.acknowledged {
            known = true;
            queue.incarnation = acknowledged.incarnation;
            queue.plan.acknowledged = acknowledged.sequence;
            for document in acknowledged.documents {
                queue.seen.insert(document.instance.clone(), document.seen);
                queue.documents.insert(document.instance.clone(), document);
            }
        }
        for (number, record, bytes) in found.records {
            if known && number <= queue.plan.acknowledged {
                // The crash came between the two steps of an acknowledgement.
                let _ = queue.files.keep(number, &record.instance);
                continue;
            }
            let Record { instance, hash, superseded, seen, .. } = record;
            queue.seen.insert(instance.clone(), seen);
            queue
                .plan
                .entries
                .insert(number, Entry { instance, hash, bytes, superseded, place: Place::File(number) });
        }
        queue.plan.frozen = queue.plan.next() - 1;
        let sound = known && queue.plan.is_contiguous();
        if let Err(error) = prepared {
            queue.disk_failed(&error);
        } else if !sound {
            queue.renew();
        }
        (queue, found.notes)
    }

    /// Takes a document unless it equals the last one of its instance. Durable when this returns, unless there is
    /// a [`Queue::problem`].
    pub fn offer(&mut self, change: Change) -> Offered {
        let Change { instance, hash, body, seen } = change;
        self.take(instance, hash, Some(body), seen)
    }

    /// The present value of an instance was found again and is `hash`. `false` when that is not the last document (any
    /// more): then only [`Queue::offer`] will do.
    pub fn confirm(&mut self, instance: &str, hash: DocumentHash, seen: Timestamp) -> bool {
        let is_last = self.hash_of(instance) == Some(hash);
        if is_last {
            self.seen.insert(instance.to_owned(), seen);
        }
        is_last
    }

    /// The instance is gone from the host for good.
    pub fn gone(&mut self, instance: &str, seen: Timestamp) -> Offered {
        if self.hash_of(instance).is_none() {
            return Offered::Unchanged;
        }
        self.take(instance.to_owned(), GONE, None, seen)
    }

    /// The hash of the last document of an instance, queued or acknowledged.
    pub fn hash_of(&self, instance: &str) -> Option<DocumentHash> {
        let queued = self.plan.newest(instance).map(|(_, entry)| entry.hash);
        queued.or_else(|| self.documents.get(instance).map(|document| document.hash))
    }

    /// Instances that the CMA has or will have a document of.
    pub fn instances(&self) -> Vec<String> {
        let queued = self.plan.entries.values().map(|entry| &entry.instance);
        let mut all: Vec<String> = queued.chain(self.documents.keys()).cloned().collect();
        all.sort();
        all.dedup();
        all.retain(|instance| self.hash_of(instance).is_some_and(|hash| hash != GONE));
        all
    }

    /// The zstd body of the last document of an instance, from disk.
    pub fn last_body(&self, instance: &str) -> Option<Vec<u8>> {
        let record = match self.plan.newest(instance) {
            Some((sequence, _)) => self.record(sequence).ok(),
            None => self.files.read_kept(instance),
        };
        record.and_then(|record| record.body).map(Vec::from)
    }

    /// For `Register`: what the CMA is supposed to have.
    pub fn documents(&self) -> Vec<KnownDocument> {
        let there = self.documents.values().filter(|document| !document.rejected);
        there
            .map(|document| KnownDocument { instance: document.instance.clone(), hash: document.hash })
            .collect()
    }

    /// Changes when counting starts anew; a connection registered under another one is of no use any more.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Last acknowledged sequence.
    pub fn acknowledged(&self) -> u64 {
        self.plan.acknowledged
    }

    /// Last sequence there is.
    pub fn last(&self) -> u64 {
        self.plan.next() - 1
    }

    /// From the next change on this many bytes may wait.
    pub fn set_limit(&mut self, limit_bytes: u64) {
        self.plan.limit_bytes = limit_bytes;
    }

    /// Number and size of what waits.
    pub fn waiting(&self) -> (usize, u64) {
        (self.plan.entries.len(), self.plan.bytes())
    }

    /// Size of one queued change as stored; 0 when there is none of this number.
    pub fn size_of(&self, sequence: u64) -> u64 {
        self.plan.entries.get(&sequence).map_or(0, |entry| entry.bytes)
    }

    /// Sizes of all queued changes, in order.
    pub fn sizes(&self) -> impl Iterator<Item = u64> {
        self.plan.entries.values().map(|entry| entry.bytes)
    }

    /// Why the state directory cannot be used at present.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Reads one change to be sent; from now on its content stays.
    ///
    /// # Errors
    /// The file is gone or damaged: it was given up, numbers start again under a new incarnation (the caller must
    /// register again), and the instance named in the error must run again.
    pub fn read(&mut self, sequence: u64) -> Result<Report, Renewed> {
        let record = match self.record(sequence) {
            Ok(record) => record,
            Err(error) => return Err(self.give_up(sequence, &error)),
        };
        self.plan.frozen = self.plan.frozen.max(sequence);
        let Record { instance, hash, body, changed_after, seen, superseded } = record;
        Ok(Report { sequence, instance, hash, body, changed_after, seen, superseded })
    }

    /// The CMA tells at registration what is durable. `true`: go on after it; `false`: a new incarnation has
    /// begun, register again.
    pub fn resume(&mut self, last_sequence: u64) -> bool {
        match self.plan.resume(last_sequence) {
            Resume::Continue => {
                self.acknowledge(last_sequence);
                true
            }
            Resume::Renew => {
                self.renew();
                false
            }
        }
    }

    /// Of what is acknowledged next, the CMA rejected these for good.
    pub fn note_rejected(&mut self, rejections: &[Rejection]) {
        let queued = rejections.iter().map(|rejection| rejection.sequence);
        self.rejected.extend(queued.filter(|sequence| self.plan.entries.contains_key(sequence)));
    }

    /// The CMA has everything up to `through`, except what it rejected for good. Returns how many are done.
    pub fn acknowledge(&mut self, through: u64) -> usize {
        let done = self.plan.acknowledge(through);
        if done.is_empty() {
            return 0;
        }
        for (sequence, entry) in &done {
            let rejected = self.rejected.remove(sequence);
            if entry.hash == GONE {
                self.documents.remove(&entry.instance);
                continue;
            }
            let seen = self.seen.get(&entry.instance).copied().unwrap_or_default();
            let document = Document { instance: entry.instance.clone(), hash: entry.hash, seen, rejected };
            self.documents.insert(entry.instance.clone(), document);
        }
        let written = if self.problem.is_none() { self.write_acknowledged() } else { Ok(()) };
        let failed = written.is_err();
        if let Err(error) = written {
            self.disk_failed(&error);
        }
        for entry in done.values() {
            let Place::File(number) = entry.place else { continue };
            if failed || self.problem.is_some() {
                // As long as acknowledged.cbor is not written, the file must stay: its number is still in use.
                self.leftover.push(number);
            } else if entry.hash == GONE {
                let _ = self.files.forget(&entry.instance);
                let _ = self.files.remove(number);
            } else if self.files.keep(number, &entry.instance).is_err() {
                let _ = self.files.remove(number);
            }
        }
        done.len()
    }

    /// The CMA asks for the document of an instance: `true` when it must be run again, `false` when it waits in
    /// the queue already.
    pub fn forget(&mut self, instance: &str) -> bool {
        self.documents.remove(instance);
        self.plan.newest(instance).is_none()
    }

    /// Tries the disk again after a [`Queue::problem`]. When it works, counting starts again under another
    /// incarnation, because what was sent from memory must not be mistaken for what is on disk after a crash.
    pub fn retry(&mut self) {
        if self.problem.is_none() {
            return;
        }
        match self.files.prepare().and_then(|()| self.files.probe()) {
            Ok(()) => {
                self.problem = None;
                self.renew();
            }
            Err(error) => self.problem = Some(self.describe(&error)),
        }
    }

    fn take(
        &mut self,
        instance: String,
        hash: DocumentHash,
        body: Option<Vec<u8>>,
        seen: Timestamp,
    ) -> Offered {
        if self.confirm(&instance, hash, seen) {
            return Offered::Unchanged;
        }
        // Never seen before: the change may be as old as the host.
        let changed_after = self.seen.get(&instance).copied().unwrap_or_default();
        let mut record =
            Record { instance, hash, body: body.map(Into::into), changed_after, seen, superseded: 0 };
        let mut sealed = seal(&record);
        let placement = self.plan.place(&record.instance, sealed.len() as u64);
        let (sequence, offered) = match placement {
            Placement::Append(sequence) => (sequence, Offered::Queued(sequence)),
            Placement::Replace(sequence) => {
                if let Some(old) = self.plan.entries.get(&sequence) {
                    record.superseded = old.superseded.saturating_add(1);
                    // What was given up had begun to differ earlier.
                    record.changed_after =
                        self.record(sequence).map_or(changed_after, |old| old.changed_after);
                    sealed = seal(&record);
                }
                (sequence, Offered::Replaced(sequence))
            }
        };
        let bytes = sealed.len() as u64;
        let mut place = None;
        if self.problem.is_none() {
            match self.files.write(sequence, &sealed) {
                Ok(()) => place = Some(Place::File(sequence)),
                Err(error) => {
                    self.disk_failed(&error);
                    // Numbers have changed: decide anew, now for memory.
                    let Record { instance, hash, body, seen, .. } = record;
                    return self.take(instance, hash, body.map(Vec::from), seen);
                }
            }
        } else if self.memory_bytes() + bytes > MEMORY_BYTES {
            return Offered::Refused;
        }
        let place = place.unwrap_or(Place::Memory(sealed));
        let Record { instance, superseded, .. } = record;
        self.seen.insert(instance.clone(), seen);
        self.plan.entries.insert(sequence, Entry { instance, hash, bytes, superseded, place });
        offered
    }

    fn record(&self, sequence: u64) -> io::Result<Record> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        match &self.plan.entries.get(&sequence).ok_or_else(missing)?.place {
            Place::File(number) => self.files.read(*number),
            Place::Memory(sealed) => unseal(sealed),
        }
    }

    /// A change that cannot be read is lost; its instance forgets what it sent, so the next run brings it again.
    fn give_up(&mut self, sequence: u64, error: &io::Error) -> Renewed {
        let mut instance = String::new();
        let mut note = format!("queued change {sequence} cannot be read: {error}");
        if let Some(entry) = self.plan.entries.remove(&sequence) {
            if let Place::File(number) = entry.place {
                note = self.files.put_aside(&self.files.path(number), error);
            }
            self.documents.remove(&entry.instance);
            instance = entry.instance;
        }
        self.renew();
        Renewed { instance, note }
    }

    /// Starts to count from 1 under another incarnation; the caller registers again.
    pub fn renew(&mut self) {
        self.incarnation = fresh_incarnation();
        self.plan.renumber();
        self.rejected.clear();
        if self.problem.is_none()
            && let Err(error) = self.bring_to_disk()
        {
            self.disk_failed(&error);
        }
    }

    fn disk_failed(&mut self, error: &io::Error) {
        self.problem = Some(self.describe(error));
        self.incarnation = fresh_incarnation();
        self.plan.renumber();
        self.rejected.clear();
    }

    /// Makes the disk say what memory says, after [`Plan::renumber`]. The order matters: once `acknowledged.cbor`
    /// names the new incarnation with nothing acknowledged, every state that a crash can leave is either right or
    /// has a gap, which leads to yet another incarnation at the next start. Nothing is sent before this has ended.
    fn bring_to_disk(&mut self) -> io::Result<()> {
        while let Some(number) = self.leftover.last() {
            self.files.remove(*number)?;
            self.leftover.pop();
        }
        self.write_acknowledged()?;
        // Numbers only ever become smaller, so in ascending order no rename meets a file still in use.
        for (sequence, entry) in &mut self.plan.entries {
            match &entry.place {
                Place::File(number) if number == sequence => continue,
                Place::File(number) => self.files.rename(*number, *sequence)?,
                Place::Memory(sealed) => self.files.write(*sequence, sealed)?,
            }
            entry.place = Place::File(*sequence);
        }
        self.files.sync_queue()
    }

    fn write_acknowledged(&self) -> io::Result<()> {
        self.files.write_acknowledged(&Acknowledged {
            incarnation: self.incarnation,
            sequence: self.plan.acknowledged,
            documents: self.documents.values().cloned().collect(),
        })
    }

    fn memory_bytes(&self) -> u64 {
        let in_memory = self.plan.entries.values().filter(|entry| matches!(entry.place, Place::Memory(_)));
        in_memory.map(|entry| entry.bytes).sum()
    }

    fn describe(&self, error: &io::Error) -> String {
        format!(
            "the state directory {} cannot be written ({error}); changes are held in memory until it can: check \
             its owner, mode and free space",
            self.files.state().display()
        )
    }
}

/// The queue counts anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// Whose change was lost; empty when none was.
    pub instance: String,
    /// For the log.
    pub note: String,
}

fn fresh_incarnation() -> Incarnation {
    let mut bytes = [0; 16];
    // Without a random source a time stamp still differs from every other life of this queue.
    if getrandom::fill(&mut bytes).is_err() {
        bytes[..8].copy_from_slice(&Timestamp::now().0.to_be_bytes());
        bytes[8..12].copy_from_slice(&std::process::id().to_be_bytes());
    }
    Incarnation(bytes)
}
