//! What happens next: events by virtual time, those of the same moment in the order in which they were added.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Microseconds since the simulation began.
pub type Moment = u64;

/// A slot holds the events of 1.024 ms.
const SLOT_BITS: u32 = 10;
/// Events up to about 4 s ahead go to a slot, the few later ones to a heap.
const SLOTS: usize = 4096;

/// A wheel of slots: hundreds of thousands of pending heartbeats cost no more each than ten.
#[derive(Debug)]
pub struct Queue<E> {
    slots: Vec<Vec<Entry<E>>>,
    in_slots: usize,
    /// Events of the slot at hand, sorted.
    current: BinaryHeap<Reverse<Entry<E>>>,
    cursor: u64,
    far: BinaryHeap<Reverse<Entry<E>>>,
    added: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            in_slots: 0,
            current: BinaryHeap::new(),
            cursor: 0,
            far: BinaryHeap::new(),
            added: 0,
        }
    }
}

impl<E> Queue<E> {
    /// `at` is not before the last event that was taken.
    pub fn push(&mut self, at: Moment, event: E) {
        self.added += 1;
        let entry = Entry { at, order: self.added, event };
        self.place(entry);
    }

    /// The next event, if it is due at `until` or before.
    pub fn pop(&mut self, until: Moment) -> Option<(Moment, E)> {
        loop {
            if let Some(Reverse(first)) = self.current.peek() {
                if first.at > until {
                    return None;
                }
                return self.current.pop().map(|Reverse(entry)| (entry.at, entry.event));
            }
            if self.cursor >= until >> SLOT_BITS {
                return None;
            }
            self.cursor = match self.far.peek() {
                Some(Reverse(first)) if self.in_slots == 0 => (first.at >> SLOT_BITS).min(until >> SLOT_BITS),
                None if self.in_slots == 0 => until >> SLOT_BITS,
                _ => self.cursor + 1,
            };
            while self.far.peek().is_some_and(|Reverse(first)| self.near(first.at)) {
                if let Some(Reverse(entry)) = self.far.pop() {
                    self.place(entry);
                }
            }
            let slot = &mut self.slots[(self.cursor % SLOTS as u64) as usize];
            self.in_slots -= slot.len();
            self.current.extend(slot.drain(..).map(Reverse));
        }
    }

    fn near(&self, at: Moment) -> bool {
        (at >> SLOT_BITS).saturating_sub(self.cursor) < SLOTS as u64
    }

    fn place(&mut self, entry: Entry<E>) {
        if entry.at >> SLOT_BITS <= self.cursor {
            self.current.push(Reverse(entry));
        } else if self.near(entry.at) {
            self.slots[((entry.at >> SLOT_BITS) % SLOTS as u64) as usize].push(entry);
            self.in_slots += 1;
        } else {
            self.far.push(Reverse(entry));
        }
    }
}

#[derive(Debug)]
struct Entry<E> {
    at: Moment,
    order: u64,
    event: E,
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn events_come_by_time_and_then_in_the_order_of_adding_however_far_ahead() {
        let mut random = Random::new(5);
        let mut queue = Queue::default();
        let mut expected = Vec::new();
        for number in 0..3000u64 {
            let far = [900, 50_000, 5_000_000, 400_000_000][random.below(4) as usize];
            let at = random.below(far);
            queue.push(at, number);
            expected.push((at, number));
        }
        expected.sort();
        let mut taken = Vec::new();
        let mut until = 0;
        while taken.len() < 3000 {
            // Added while the queue is read: also in the slot at hand.
            while let Some(next) = queue.pop(until) {
                assert!(next.0 <= until);
                taken.push(next);
            }
            until += 700_000;
        }
        assert_eq!(taken, expected);
    }

    #[test]
    fn what_is_added_for_now_comes_before_what_is_due_later() {
        let mut queue = Queue::default();
        queue.push(5_000_000, "later");
        queue.push(1_000, "first");
        assert_eq!(queue.pop(2_000), Some((1_000, "first")));
        queue.push(1_000, "at once");
        assert_eq!(queue.pop(2_000), Some((1_000, "at once")));
        assert_eq!(queue.pop(2_000), None);
        queue.push(2_500, "soon");
        assert_eq!(queue.pop(9_000_000), Some((2_500, "soon")));
        assert_eq!(queue.pop(9_000_000), Some((5_000_000, "later")));
        assert_eq!(queue.pop(u64::MAX), None);
    }
}
