use super::*;
use std::fs;
use std::path::PathBuf;

struct Rig {
    directory: tempfile::TempDir,
    clock: i64,
}

impl Rig {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), clock: 1000 }
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state/nanoprobe")
    }

    fn open(&self) -> Queue {
        let (queue, notes) = Queue::open(&self.state(), 1 << 20);
        assert_eq!(notes, Vec::<String>::new());
        queue
    }

    fn change(&mut self, instance: &str, text: &str) -> Change {
        self.clock += 1;
        Change {
            instance: instance.into(),
            hash: DocumentHash::of(text.as_bytes()),
            body: text.as_bytes().to_vec(),
            seen: Timestamp(self.clock),
        }
    }

    fn offer(&mut self, queue: &mut Queue, instance: &str, text: &str) -> Offered {
        let change = self.change(instance, text);
        queue.offer(change)
    }

    fn file(&self, sequence: u64) -> PathBuf {
        self.state().join(format!("queue/{sequence:020}"))
    }
}

fn contents(queue: &mut Queue) -> Vec<(u64, String, String)> {
    let range = queue.acknowledged() + 1..=queue.last();
    range
        .map(|sequence| {
            let report = queue.read(sequence).unwrap();
            let body = report.body.map(|body| String::from_utf8(body.to_vec()).unwrap()).unwrap_or_default();
            (report.sequence, report.instance, body)
        })
        .collect()
}

fn row(sequence: u64, instance: &str, body: &str) -> (u64, String, String) {
    (sequence, instance.into(), body.into())
}

#[test]
fn changes_survive_a_restart_and_equal_ones_are_dropped() {
    let mut rig = Rig::new();
    let mut queue = rig.open();
    assert_eq!(rig.offer(&mut queue, "sshd", "one"), Offered::Queued(1));
    assert_eq!(rig.offer(&mut queue, "sshd", "one"), Offered::Unchanged);
    assert_eq!(rig.offer(&mut queue, "sshd", "two"), Offered::Queued(2));
    let incarnation = queue.incarnation();
    drop(queue);
    let mut queue = rig.open();
    assert_eq!(queue.incarnation(), incarnation);
    assert_eq!(rig.offer(&mut queue, "sshd", "two"), Offered::Unchanged);
    assert_eq!(contents(&mut queue), [row(1, "sshd", "one"), row(2, "sshd", "two")]);
    let report = queue.read(2).unwrap();
    assert_eq!((report.changed_after, report.seen), (Timestamp(1002), Timestamp(1003)));
}

#[test]
fn acknowledged_changes_are_kept_as_the_last_document() {
    let mut rig = Rig::new();
    let mut queue = rig.open();
    rig.offer(&mut queue, "a", "A");
    rig.offer(&mut queue, "b", "B");
    let rejected = [Rejection { sequence: 2, reason: "too large".into() }];
    queue.note_rejected(&rejected);
    assert_eq!(queue.acknowledge(2), 2);
    assert_eq!(queue.acknowledge(2), 0);
    drop(queue);
    let mut queue = rig.open();
    assert_eq!((queue.acknowledged(), queue.last(), queue.waiting()), (2, 2, (0, 0)));
    assert_eq!(queue.last_body("a"), Some(b"A".to_vec()));
    let known: Vec<_> = queue.documents().into_iter().map(|document| document.instance).collect();
    assert_eq!(known, ["a"], "the CMA does not have what it rejected");
    assert_eq!(rig.offer(&mut queue, "b", "B"), Offered::Unchanged, "and must not get it again");
    assert!(queue.forget("a"), "to be run again");
    assert_eq!(rig.offer(&mut queue, "a", "A"), Offered::Queued(3));
    assert!(!queue.forget("a"), "waits already");
}

#[test]
fn what_was_found_again_is_confirmed_only_while_it_is_the_last_document() {
    let mut rig = Rig::new();
    let mut queue = rig.open();
    let hash = DocumentHash::of(b"A");
    assert!(!queue.confirm("a", hash, Timestamp(1)), "never offered");
    rig.offer(&mut queue, "a", "A");
    assert!(queue.confirm("a", hash, Timestamp(2000)), "queued");
    queue.acknowledge(1);
    assert!(queue.confirm("a", hash, Timestamp(3000)), "acknowledged");
    assert!(!queue.confirm("a", DocumentHash::of(b"B"), Timestamp(4000)), "another one");
    rig.offer(&mut queue, "a", "B");
    assert_eq!(queue.read(2).unwrap().changed_after, Timestamp(3000), "the last time that A was seen");
    assert!(!queue.confirm("a", hash, Timestamp(5000)), "replaced meanwhile");
    queue.acknowledge(2);
    assert!(queue.forget("a"));
    assert!(
        !queue.confirm("a", DocumentHash::of(b"B"), Timestamp(6000)),
        "the CMA asked for it: its text is needed"
    );
    rig.offer(&mut queue, "a", "B");
    queue.gone("a", Timestamp(7000));
    assert!(!queue.confirm("a", DocumentHash::of(b"B"), Timestamp(8000)), "gone meanwhile");
}

#[test]
fn an_instance_that_is_gone_is_told_once() {
    let mut rig = Rig::new();
    let mut queue = rig.open();
    assert_eq!(queue.gone("x", Timestamp(1)), Offered::Unchanged);
    rig.offer(&mut queue, "x", "X");
    queue.acknowledge(1);
    assert_eq!(queue.instances(), ["x"]);
    assert_eq!(queue.gone("x", Timestamp(5)), Offered::Queued(2));
    assert_eq!(queue.gone("x", Timestamp(5)), Offered::Unchanged);
    assert_eq!(queue.read(2).unwrap().body, None);
    assert!(queue.instances().is_empty());
    queue.acknowledge(2);
    assert_eq!((queue.hash_of("x"), queue.last_body("x")), (None, None));
    assert_eq!(rig.offer(&mut queue, "x", "X"), Offered::Queued(3));
}

#[test]
fn a_crash_while_writing_leaves_the_old_state() {
    let mut rig = Rig::new();
    let mut queue = rig.open();
    rig.offer(&mut queue, "a", "A");
    drop(queue);
    // Killed before the rename, of a change and of the acknowledgement.
    let half = fs::read(rig.file(1)).unwrap();
    fs::write(rig.state().join(format!("queue/{:020}.new", 2)), &half[..10]).unwrap();
    fs::write(rig.state().join("acknowledged.new"), "half").unwrap();
    let mut queue = rig.open();
    assert_eq!(contents(&mut queue), [row(1, "a", "A")]);
    assert_eq!(fs::read_dir(rig.state().join("queue")).unwrap().count(), 1);
    assert!(!rig.state().join("acknowledged.new").exists());
    assert_eq!(rig.offer(&mut queue, "a", "A2"), Offered::Queued(2));
}

#[test]
fn a_crash_between_acknowledgement_and_removal_sends_nothing_twice() {
    let mut rig = Rig::new();
    let mut queue = rig.open();
    rig.offer(&mut queue, "a", "A");
    rig.offer(&mut queue, "b", "B");
    let first = fs::read(rig.file(1)).unwrap();
    queue.acknowledge(1);
    let incarnation = queue.incarnation();
    drop(queue);
    fs::write(rig.file(1), first).unwrap();
    let mut queue = rig.open();
    assert_eq!(queue.incarnation(), incarnation);
    assert_eq!(contents(&mut queue), [row(2, "b", "B")]);
    assert!(!rig.file(1).exists());
}

#[test]
fn damaged_and_foreign_files_are_moved_aside_and_numbers_start_anew() {
    let mut rig = Rig::new();
    let mut queue = rig.open();
    for text in ["A", "B", "C", "D"] {
        rig.offer(&mut queue, "x", text);
    }
    let old = queue.incarnation();
    drop(queue);
    let whole = fs::read(rig.file(2)).unwrap();
    fs::write(rig.file(2), &whole[..whole.len() - 1]).unwrap();
    let mut flipped = fs::read(rig.file(3)).unwrap();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(rig.file(3), flipped).unwrap();
    fs::write(rig.state().join("queue/core.1234"), "junk").unwrap();
    fs::create_dir(rig.state().join("queue/subdirectory")).unwrap();
    let (mut queue, notes) = Queue::open(&rig.state(), 1 << 20);
    assert_eq!(notes.len(), 4, "{notes:?}");
    assert_ne!(queue.incarnation(), old, "a gap would block the CMA for ever");
    assert_eq!(contents(&mut queue), [row(1, "x", "A"), row(2, "x", "D")]);
    assert_eq!(fs::read_dir(rig.state().join("damaged")).unwrap().count(), 3);
    assert_eq!(rig.offer(&mut queue, "x", "E"), Offered::Queued(3));
}

#[test]
fn a_lost_acknowledgement_file_means_a_new_incarnation() {
    let mut rig = Rig::new();
    let mut queue = rig.open();
    rig.offer(&mut queue, "x", "A");
    rig.offer(&mut queue, "x", "B");
    queue.acknowledge(1);
    let old = queue.incarnation();
    drop(queue);
    fs::write(rig.state().join("acknowledged.cbor"), "junk").unwrap();
    let (mut queue, notes) = Queue::open(&rig.state(), 1 << 20);
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_ne!(queue.incarnation(), old);
    assert_eq!(contents(&mut queue), [row(1, "x", "B")]);
}

/// Every state that a crash during a renumbering can leave behind leads to a queue with all changes in order.
#[test]
fn a_crash_at_any_step_of_a_renumbering_is_harmless() {
    for renamed in 0..=3u64 {
        let mut rig = Rig::new();
        let mut queue = rig.open();
        for text in ["A", "B", "C", "D", "E"] {
            rig.offer(&mut queue, "x", text);
        }
        queue.acknowledge(2);
        let fresh = Incarnation([9; 16]);
        let step = Acknowledged { incarnation: fresh, sequence: 0, documents: vec![] };
        queue.files.write_acknowledged(&step).unwrap();
        (1..=renamed).for_each(|to| queue.files.rename(to + 2, to).unwrap());
        drop(queue);
        let mut queue = rig.open();
        assert_eq!(queue.incarnation() == fresh, renamed == 3);
        assert_eq!(contents(&mut queue), [row(1, "x", "C"), row(2, "x", "D"), row(3, "x", "E")]);
        drop(queue);
        let mut queue = rig.open();
        assert_eq!(contents(&mut queue).len(), 3);
    }
}

#[test]
fn a_cma_that_counts_differently_leads_to_a_new_incarnation() {
    let mut rig = Rig::new();
    let mut queue = rig.open();
    rig.offer(&mut queue, "x", "A");
    rig.offer(&mut queue, "x", "B");
    let old = queue.incarnation();
    assert!(queue.resume(1));
    assert_eq!(contents(&mut queue), [row(2, "x", "B")]);
    assert!(!queue.resume(0), "restored from a backup");
    assert_ne!(queue.incarnation(), old);
    assert_eq!(contents(&mut queue), [row(1, "x", "B")]);
    assert!(!queue.resume(7));
    drop(queue);
    assert_eq!(contents(&mut rig.open()), [row(1, "x", "B")]);
}

#[test]
fn a_full_queue_replaces_unsent_changes_only() {
    let mut rig = Rig::new();
    let (mut queue, _) = Queue::open(&rig.state(), 1000);
    let long = |c: char| c.to_string().repeat(400);
    rig.offer(&mut queue, "a", &long('1'));
    rig.offer(&mut queue, "b", &long('1'));
    assert_eq!(rig.offer(&mut queue, "a", &long('2')), Offered::Replaced(1));
    assert_eq!(rig.offer(&mut queue, "a", &long('3')), Offered::Replaced(1));
    assert_eq!(rig.offer(&mut queue, "c", &long('1')), Offered::Queued(3));
    let report = queue.read(1).unwrap();
    assert_eq!((report.superseded, report.changed_after, report.seen), (2, Timestamp(0), Timestamp(1004)));
    assert_eq!(report.body.unwrap().to_vec(), long('3').into_bytes());
    assert_eq!(rig.offer(&mut queue, "a", &long('4')), Offered::Queued(4), "number 1 has left the host");
    drop(queue);
    let (mut queue, _) = Queue::open(&rig.state(), 1000);
    assert_eq!(rig.offer(&mut queue, "a", &long('5')), Offered::Queued(5), "number 4 may have left the host");
}

#[test]
fn without_a_disk_changes_stay_in_memory_until_it_is_back() {
    let mut rig = Rig::new();
    fs::create_dir_all(rig.state().parent().unwrap()).unwrap();
    // A file where the directory should be fails for root as well.
    fs::write(rig.state(), "in the way").unwrap();
    let (mut queue, _) = Queue::open(&rig.state(), 1 << 20);
    assert!(queue.problem().unwrap().contains("cannot be written"), "{:?}", queue.problem());
    assert_eq!(rig.offer(&mut queue, "a", "A"), Offered::Queued(1));
    assert_eq!(rig.offer(&mut queue, "b", "B"), Offered::Queued(2));
    assert_eq!(contents(&mut queue).len(), 2);
    queue.acknowledge(1);
    queue.retry();
    assert!(queue.problem().is_some());
    let volatile = queue.incarnation();
    fs::remove_file(rig.state()).unwrap();
    queue.retry();
    assert_eq!(queue.problem(), None);
    assert_ne!(queue.incarnation(), volatile);
    drop(queue);
    let mut queue = rig.open();
    assert_eq!(contents(&mut queue), [row(1, "b", "B")]);
    assert_eq!(rig.offer(&mut queue, "a", "A"), Offered::Unchanged);
}

#[test]
fn a_disk_that_fails_later_does_not_confuse_the_numbers() {
    let mut rig = Rig::new();
    let mut queue = rig.open();
    rig.offer(&mut queue, "a", "A");
    rig.offer(&mut queue, "b", "B");
    queue.acknowledge(1);
    let old = queue.incarnation();
    // Whatever is written has to pass through these names.
    for blocked in ["queue/00000000000000000003.new", "acknowledged.new", "queue/probe.new"] {
        fs::create_dir(rig.state().join(blocked)).unwrap();
    }
    assert_eq!(rig.offer(&mut queue, "c", "C"), Offered::Queued(2));
    assert!(queue.problem().is_some());
    assert_ne!(queue.incarnation(), old);
    assert_eq!(contents(&mut queue), [row(1, "b", "B"), row(2, "c", "C")]);
    assert_eq!(queue.acknowledge(1), 1);
    queue.retry();
    assert!(queue.problem().is_some());
    for blocked in ["queue/00000000000000000003.new", "acknowledged.new", "queue/probe.new"] {
        fs::remove_dir(rig.state().join(blocked)).unwrap();
    }
    queue.retry();
    assert_eq!(contents(&mut queue), [row(1, "c", "C")]);
    drop(queue);
    assert_eq!(contents(&mut rig.open()), [row(1, "c", "C")]);
}

#[test]
fn memory_is_bounded_while_there_is_no_disk() {
    let mut rig = Rig::new();
    fs::create_dir_all(rig.state().parent().unwrap()).unwrap();
    fs::write(rig.state(), "in the way").unwrap();
    let (mut queue, _) = Queue::open(&rig.state(), 1 << 30);
    let mut refused = 0;
    for i in 0..10 {
        let text = format!("{i}").repeat(1 << 20);
        refused += usize::from(rig.offer(&mut queue, &format!("i{i}"), &text) == Offered::Refused);
    }
    assert!(refused >= 6 && queue.waiting().1 <= MEMORY_BYTES, "{refused}");
    assert_eq!(queue.hash_of("i9"), None, "a refused document is offered again by the next run");
}

#[test]
fn a_change_that_vanished_while_running_is_given_up_with_its_name() {
    let mut rig = Rig::new();
    let mut queue = rig.open();
    for (instance, text) in [("a", "A"), ("b", "B"), ("c", "C")] {
        rig.offer(&mut queue, instance, text);
    }
    let old = queue.incarnation();
    fs::remove_file(rig.file(2)).unwrap();
    assert_eq!(queue.read(2).unwrap_err().instance, "b");
    assert_ne!(queue.incarnation(), old);
    assert_eq!(contents(&mut queue), [row(1, "a", "A"), row(2, "c", "C")]);
    assert_eq!(queue.hash_of("b"), None);
}
