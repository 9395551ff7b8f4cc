//! What is to reach hosts: at once where they are connected, else they are called and told when they come. Pure.
//!
//! A nanoprobe that is called comes back with a connection of its own. Only the newest list of partners waits for a host,
//! and one question; who does not come after some calls is told when it registers the next time.

use model::Designation;
use model::liveness::{Ask, Watch};
use model::message::{FromCma, Listen};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

/// A host that just registered, or lost its connection, may be connected in a moment.
const GRACE: Duration = Duration::from_millis(300);
/// Pauses after the first call, the second, and so on; after the last of them nobody calls any more.
const PAUSES: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(20), Duration::from_secs(60)];
/// A question that could not be asked by then is none any more.
const ASK_PATIENCE: Duration = Duration::from_secs(3);
/// Calls under way at once.
const CALLS_AT_ONCE: usize = 50;
/// Between the beginnings of two calls: hosts register no faster than they are stored.
const CALL_INTERVAL: Duration = Duration::from_millis(10);

/// Hosts that have something coming.
#[derive(Debug, Default)]
pub struct Outgoing {
    waiting: HashMap<Designation, Waiting>,
    /// When each of them is called.
    due: BTreeSet<(Duration, Designation)>,
    under_way: HashSet<Designation>,
    next_call: Duration,
    /// Could not be told where to listen.
    unreached: Vec<Designation>,
}

#[derive(Debug, Default)]
struct Waiting {
    watch: Option<Watch>,
    ask: Option<(Ask, Duration)>,
    listen: Option<Listen>,
    due: Duration,
    calls: usize,
}

impl Outgoing {
    /// A list of partners for a host that is not connected.
    pub fn tell(&mut self, now: Duration, host: &Designation, watch: Watch) {
        self.wait(now + GRACE, host).watch = Some(watch);
    }

    /// Where a host that is not connected is to listen.
    pub fn tell_listen(&mut self, now: Duration, host: &Designation, listen: Listen) {
        self.wait(now + GRACE, host).listen = Some(listen);
    }

    /// The host was told something newer.
    pub fn forget_listen(&mut self, host: &Designation) {
        if let Some(waiting) = self.waiting.get_mut(host) {
            waiting.listen = None;
        }
    }

    /// Hosts that were called in vain to be told where to listen, since this was last asked.
    pub fn take_unreached(&mut self) -> Vec<Designation> {
        std::mem::take(&mut self.unreached)
    }

    /// A question for a host that is not connected.
    pub fn ask(&mut self, now: Duration, host: &Designation, ask: Ask) {
        self.wait(now, host).ask = Some((ask, now + ASK_PATIENCE));
    }

    /// The host is to come.
    pub fn call(&mut self, now: Duration, host: &Designation) {
        self.wait(now, host);
    }

    /// A host is connected: what it is to be told. It may be empty.
    pub fn entered(&mut self, now: Duration, host: &Designation) -> Vec<FromCma> {
        let Some(waiting) = self.remove(host) else { return Vec::new() };
        let ask = waiting.ask.filter(|(_, until)| now <= *until).map(|(ask, _)| FromCma::Ask(ask));
        let listen = waiting.listen.map(FromCma::Listen);
        waiting.watch.map(FromCma::Watch).into_iter().chain(ask).chain(listen).collect()
    }

    /// A host left, or was removed.
    pub fn remove_host(&mut self, host: &Designation) {
        self.remove(host);
    }

    /// The next host to call, within the limits. Its result comes by [`Outgoing::called`].
    pub fn poll_call(&mut self, now: Duration) -> Option<Designation> {
        while self.has_room() && now >= self.next_call {
            let (due, host) = self.due.first().filter(|(due, _)| *due <= now).cloned()?;
            self.due.remove(&(due, host.clone()));
            let Some(waiting) = self.waiting.get_mut(&host) else { continue };
            match PAUSES.get(waiting.calls) {
                Some(pause) => {
                    waiting.due = now + *pause;
                    waiting.calls += 1;
                    self.due.insert((waiting.due, host.clone()));
                }
                None => {
                    if self.waiting.remove(&host).is_some_and(|waiting| waiting.listen.is_some()) {
                        self.unreached.push(host);
                    }
                    continue;
                }
            }
            if self.under_way.insert(host.clone()) {
                self.next_call = now + CALL_INTERVAL;
                return Some(host);
            }
        }
        None
    }

    /// A call ended.
    pub fn called(&mut self, host: &Designation) {
        self.under_way.remove(host);
    }

    /// When [`Outgoing::poll_call`] has something; `None` also while no more calls may be under way.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let (due, _) = self.due.first()?;
        self.has_room().then(|| (*due).max(self.next_call))
    }

    fn has_room(&self) -> bool {
        self.under_way.len() < CALLS_AT_ONCE
    }

    /// The entry of a host, which is called at `due` or earlier.
    fn wait(&mut self, due: Duration, host: &Designation) -> &mut Waiting {
        let is_new = !self.waiting.contains_key(host);
        let waiting = self.waiting.entry(host.clone()).or_default();
        if is_new || due < waiting.due {
            self.due.remove(&(waiting.due, host.clone()));
            waiting.due = due;
            self.due.insert((due, host.clone()));
        }
        waiting
    }

    fn remove(&mut self, host: &Designation) -> Option<Waiting> {
        let waiting = self.waiting.remove(host)?;
        self.due.remove(&(waiting.due, host.clone()));
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Designation {
        Designation::new(text).unwrap()
    }

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn watch(generation: u64) -> Watch {
        Watch {
            generation,
            own_number: 1,
            interval_milliseconds: 1000,
            suspect_milliseconds: 1400,
            probe_milliseconds: 700,
            probes: 6,
            partners: Vec::new(),
        }
    }

    #[test]
    fn the_newest_watch_reaches_a_host_that_comes_by_itself() {
        let mut outgoing = Outgoing::default();
        outgoing.tell(at(0), &name("a"), watch(1));
        outgoing.tell(at(10), &name("a"), watch(2));
        outgoing.ask(at(10), &name("b"), Ask { question: 1, about: 2 });
        assert_eq!(outgoing.poll_call(at(200)), Some(name("b")), "a question does not wait");
        assert_eq!(outgoing.poll_call(at(250)), None, "it may be connected in a moment");
        assert_eq!(outgoing.entered(at(260), &name("a")), [FromCma::Watch(watch(2))]);
        assert_eq!(outgoing.entered(at(261), &name("a")), []);
        assert_eq!(outgoing.entered(at(60_000), &name("b")), [], "too late for an answer");
        assert_eq!((outgoing.poll_timeout(), outgoing.waiting.len()), (None, 0));
    }

    #[test]
    fn who_does_not_come_is_called_some_times_and_then_left_alone() {
        let mut outgoing = Outgoing::default();
        outgoing.tell(at(0), &name("a"), watch(1));
        let mut calls = Vec::new();
        while let Some(due) = outgoing.poll_timeout() {
            if let Some(host) = outgoing.poll_call(due) {
                calls.push(due.as_millis());
                outgoing.called(&host);
            }
        }
        assert_eq!(calls, [300, 5_300, 25_300]);
        assert_eq!(outgoing.waiting.len(), 0);
        assert_eq!(outgoing.take_unreached(), [], "a list of partners concerns the host alone");
    }

    #[test]
    fn where_to_listen_waits_with_the_rest_and_somebody_else_is_told_when_it_does_not_arrive() {
        let mut outgoing = Outgoing::default();
        let listen = |name: &str| Listen { interfaces: vec![name.to_owned()] };
        outgoing.tell(at(0), &name("a"), watch(1));
        outgoing.tell_listen(at(10), &name("a"), listen("eth0"));
        outgoing.tell_listen(at(20), &name("a"), listen("eth1"));
        let told = outgoing.entered(at(100), &name("a"));
        assert_eq!(told, [FromCma::Watch(watch(1)), FromCma::Listen(listen("eth1"))]);
        outgoing.tell_listen(at(200), &name("a"), listen("eth0"));
        outgoing.forget_listen(&name("a"));
        assert_eq!(outgoing.entered(at(300), &name("a")), []);
        outgoing.tell_listen(at(400), &name("b"), listen("eth0"));
        while let Some(due) = outgoing.poll_timeout() {
            if let Some(host) = outgoing.poll_call(due) {
                outgoing.called(&host);
            }
        }
        assert_eq!(outgoing.take_unreached(), [name("b")]);
        assert_eq!(outgoing.take_unreached(), []);
    }

    #[test]
    fn calls_are_bounded_in_number_and_in_pace() {
        let mut outgoing = Outgoing::default();
        for number in 0..200 {
            outgoing.call(at(0), &name(&format!("h{number:03}")));
        }
        assert!(outgoing.poll_call(at(0)).is_some());
        assert_eq!(outgoing.poll_call(at(9)), None);
        let mut called = 1;
        for tick in 1..=1000 {
            called += usize::from(outgoing.poll_call(at(tick * 10)).is_some());
        }
        assert_eq!(called, CALLS_AT_ONCE);
        assert_eq!(outgoing.poll_timeout(), None, "nothing can be done before one of them ends");
        outgoing.called(&name("h000"));
        assert!(outgoing.poll_timeout().is_some());
        assert_eq!(outgoing.poll_call(at(10_010)), Some(name("h050")));
    }

    #[test]
    fn a_host_that_left_is_not_called() {
        let mut outgoing = Outgoing::default();
        outgoing.tell(at(0), &name("a"), watch(1));
        outgoing.remove_host(&name("a"));
        assert_eq!((outgoing.poll_timeout(), outgoing.poll_call(at(10_000))), (None, None));
    }
}
