//! Watches up to four partners from where it stands.
//!
//! Every interval each partner gets one heartbeat, and sends one. One that is silent for longer than `suspect` gets a
//! burst of probes, while the shell looks whether its host still answers; a single heartbeat ends the suspicion. Without
//! one the CMA is told, again and again with growing pauses, until it gives another watch or the partner is heard.
//!
//! A partner that was never heard since it became one (or got another key) has some seconds more: it learns its keys at
//! another moment. The CMA as a partner is sent heartbeats and never suspected: there is nobody to tell.

mod doubt;
mod partner;

use crate::rings::{CMA, MAX_PARTNERS};
use doubt::Doubt;
use model::liveness::{Ask, HostNumber, Observation, PortState, Sight, Watch};
use partner::{FormerPartners, Partner, Phase, Timing};
use std::collections::VecDeque;
use std::time::Duration;

/// From telling that a partner is silent to telling it again; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Who says that it stops tells the CMA itself. After this it is told here as well, and after the other it is suspected
/// like anybody.
const STOPPING_PATIENCE: Duration = Duration::from_secs(5);
const STOPPED_FOR_LONG: Duration = Duration::from_secs(15);
/// A line that loses packets is worth one word in a while, but not a single lost heartbeat: at a large site one is lost at
/// every moment.
const LATE_PAUSE: Duration = Duration::from_secs(300);
const LATE_PROBES: u32 = 3;
/// Probes that a host must have left unanswered before its refusal of the port is believed.
const PROBES_BEFORE_REFUSAL: u32 = 2;
/// The doubt of one that hears nobody: limits are twice as long.
const HEARS_NOBODY: u32 = 4;
/// Being called this late says nothing, whatever the interval.
const LATENESS: Duration = Duration::from_millis(50);
/// Intervals without being called after which the observer was away (stopped, suspended) rather than late.
const GAP_INTERVALS: u32 = 3;
/// Intervals in which a former partner may still send because it does not know yet.
const FORMER_GRACE_INTERVALS: u32 = 2;

/// The sealed byte of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Beat {
    /// One of the regular ones.
    Regular = 0,
    /// Are you there? Answered at once.
    Probe = 1,
    /// Yes.
    Answer = 2,
    /// The last one: the sender stops on purpose.
    Stopping = 3,
}

impl Beat {
    /// From the byte of a packet; `None` for what a later version may mean.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Regular, Self::Probe, Self::Answer, Self::Stopping]
            .into_iter()
            .find(|beat| *beat as u8 == byte)
    }
}

/// What the shell found out about a partner's host by other means than heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    pub port: PortState,
    /// Answer to an ICMP echo request; `None`: none could be sent.
    pub echo: Option<bool>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send one heartbeat.
    Send { to: HostNumber, beat: Beat },
    /// Try the port and the echo of a partner's host; the result comes by [`Observer::handle_tried`].
    Try { to: HostNumber },
    /// Tell the CMA, under this generation of the watch.
    Tell { generation: u64, observation: Observation },
}

/// The watching side of one host.
#[derive(Debug)]
pub struct Observer {
    generation: u64,
    timing: Option<Timing>,
    partners: Vec<Partner>,
    former: FormerPartners,
    next_beat: Duration,
    doubt: Doubt,
    /// Nobody is suspected before: what arrived while this host was busy has to be read first.
    settled: Duration,
    stopped: bool,
    outputs: VecDeque<Output>,
}

impl Observer {
    /// Without partners.
    pub fn new(now: Duration) -> Self {
        Self {
            generation: 0,
            timing: None,
            partners: Vec::new(),
            former: FormerPartners::default(),
            next_beat: now,
            doubt: Doubt::none(now),
            settled: now,
            stopped: false,
            outputs: VecDeque::new(),
        }
    }

    /// Replaces partners and timing; a watch that is not newer than the present one is ignored. Former partners are
    /// remembered for a while, so that they are recognised as martians.
    ///
    /// A partner whose key and address are as before is watched as if nothing had happened. One that is told silent and
    /// stays a partner is told again at once, under the new generation.
    pub fn handle_watch(&mut self, now: Duration, watch: &Watch) {
        if self.stopped || watch.generation <= self.generation {
            return;
        }
        let timing = Timing::of(watch);
        if self.partners.is_empty() {
            self.next_beat = now;
        }
        self.generation = watch.generation;
        self.timing = Some(timing);
        let mut before = std::mem::take(&mut self.partners);
        for partner in &watch.partners {
            let known = self.partners.iter().any(|other| other.number == partner.number);
            if known || partner.number == watch.own_number || self.partners.len() >= MAX_PARTNERS {
                continue;
            }
            self.former.forget(partner.number);
            let kept =
                before.iter().position(|old| old.is_the_same(partner)).map(|index| before.swap_remove(index));
            if let Some(mut kept) = kept {
                if let Phase::Told { next, .. } = &mut kept.phase {
                    *next = now;
                }
                self.partners.push(kept);
            } else {
                if self.next_beat > now {
                    self.outputs.push_back(Output::Send { to: partner.number, beat: Beat::Regular });
                }
                self.partners.push(Partner::new(now, partner));
            }
        }
        before.retain(|old| self.partners.iter().all(|partner| partner.number != old.number));
        for old in before {
            self.former.add(now, old.number);
        }
        self.next_beat = self.next_beat.min(now.saturating_add(timing.interval));
    }

    /// The CMA asks for a probe. What is already known is answered at once; a partner that was never heard so far is
    /// given its time.
    pub fn handle_ask(&mut self, now: Duration, ask: Ask) {
        let Some(index) = self.index_of(ask.about).filter(|_| !self.stopped) else { return };
        let partner = &mut self.partners[index];
        match partner.phase {
            Phase::Told { .. } => self.tell(now, index, Sight::Silent, Some(ask.question)),
            Phase::Stopping { .. } => self.tell(now, index, Sight::Stopping, Some(ask.question)),
            Phase::Probing { .. } => partner.question = Some(ask.question),
            Phase::Quiet => {
                partner.question = Some(ask.question);
                if partner.ever_heard {
                    self.start_burst(now, index);
                } else {
                    self.probe(index);
                }
            }
        }
    }

    /// An authentic heartbeat of a partner or a former one.
    pub fn handle_beat(&mut self, now: Duration, from: HostNumber, beat: Beat) {
        if self.stopped {
            return;
        }
        let Some(index) = self.index_of(from) else {
            self.former_beat(now, from, beat);
            return;
        };
        if beat == Beat::Probe {
            self.outputs.push_back(Output::Send { to: from, beat: Beat::Answer });
        }
        if beat == Beat::Stopping {
            self.stopping(now, index);
        } else {
            self.heard(now, index);
        }
    }

    /// The answer to [`Output::Try`].
    pub fn handle_tried(&mut self, _now: Duration, about: HostNumber, tried: Tried) {
        let Some(index) = self.index_of(about) else { return };
        let partner = &mut self.partners[index];
        if matches!(partner.phase, Phase::Probing { .. } | Phase::Told { .. }) {
            partner.port = tried.port;
            partner.echo = tried.echo;
        }
    }

    /// Says goodbye to all partners and then nothing more.
    pub fn stop(&mut self, _now: Duration) {
        if !self.stopped {
            let goodbye = |partner: &Partner| Output::Send { to: partner.number, beat: Beat::Stopping };
            self.outputs.extend(self.partners.iter().map(goodbye));
            self.stopped = true;
        }
    }

    /// To be called when due; also measures by how much it was late, which is what the doubt in oneself comes from.
    pub fn handle_timeout(&mut self, now: Duration) {
        let (Some(timing), Some(due)) = (self.timing, self.poll_timeout()) else { return };
        if due > now {
            return;
        }
        self.measure(now, now - due, timing);
        if self.next_beat <= now {
            self.send_regular_beats(now, timing);
        }
        for index in 0..self.partners.len() {
            // A goodbye of long ago is told and then suspected.
            for _ in 0..3 {
                if self.due(index, timing).is_some_and(|due| due <= now) {
                    self.step(now, index, timing);
                }
            }
        }
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        let timing = self.timing.filter(|_| !self.stopped && !self.partners.is_empty())?;
        let steps = (0..self.partners.len()).filter_map(|index| self.due(index, timing));
        Some(steps.fold(self.next_beat, Duration::min))
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Generation of the watch in use, 0 for none.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    fn send_regular_beats(&mut self, now: Duration, timing: Timing) {
        let regular = |partner: &Partner| Output::Send { to: partner.number, beat: Beat::Regular };
        self.outputs.extend(self.partners.iter().map(regular));
        // Keeps its beat; after a delay it does not catch up.
        self.next_beat = self.next_beat.saturating_add(timing.interval);
        if self.next_beat <= now {
            self.next_beat = now.saturating_add(timing.interval);
        }
    }

    fn index_of(&self, number: HostNumber) -> Option<usize> {
        self.partners.iter().position(|partner| partner.number == number)
    }

    fn due(&self, index: usize, timing: Timing) -> Option<Duration> {
        let partner = &self.partners[index];
        if partner.number == CMA {
            return None;
        }
        let due = match partner.phase {
            Phase::Quiet => {
                let patience = self.doubt.stretch(partner.patience(timing.suspect));
                partner.counts_from.saturating_add(patience)
            }
            Phase::Probing { next, .. } | Phase::Told { next, .. } => next,
            Phase::Stopping { since, told: false } => since.saturating_add(STOPPING_PATIENCE),
            Phase::Stopping { since, told: true } => since.saturating_add(STOPPED_FOR_LONG),
        };
        Some(due.max(self.settled))
    }

    /// What follows from being called `late`.
    fn measure(&mut self, now: Duration, late: Duration, timing: Timing) {
        if late > timing.interval.saturating_mul(GAP_INTERVALS) {
            self.doubt.rise(now, 4);
            for partner in &mut self.partners {
                partner.counts_from = now;
                match &mut partner.phase {
                    Phase::Quiet | Phase::Stopping { .. } => {}
                    // It may have answered to nobody.
                    Phase::Probing { sent, next, .. } => {
                        (*sent, *next) = (0, now.saturating_add(timing.suspect))
                    }
                    Phase::Told { next, .. } => *next = now.saturating_add(timing.suspect),
                }
            }
        } else if late > (timing.interval / 4).max(LATENESS) {
            self.doubt.rise(now, if late > timing.interval { 2 } else { 1 });
            self.settled = now.saturating_add(late.min(timing.interval));
        } else {
            self.doubt.calm(now, timing.interval);
        }
    }

    /// The next thing to do about a partner, which is due.
    fn step(&mut self, now: Duration, index: usize, timing: Timing) {
        match self.partners[index].phase {
            Phase::Quiet => self.start_burst(now, index),
            Phase::Probing { sent, again, .. } => self.go_on_probing(now, index, sent, again, timing),
            Phase::Told { pause, .. } => {
                self.tell(now, index, Sight::Silent, None);
                self.probe(index);
                let pause = (pause * 2).min(LONGEST_PAUSE);
                self.partners[index].phase = Phase::Told { next: now.saturating_add(pause), pause };
            }
            Phase::Stopping { since, told: false } => {
                self.tell(now, index, Sight::Stopping, None);
                self.partners[index].phase = Phase::Stopping { since, told: true };
            }
            Phase::Stopping { told: true, .. } => self.start_burst(now, index),
        }
    }

    fn start_burst(&mut self, now: Duration, index: usize) {
        let Some(timing) = self.timing else { return };
        self.outputs.push_back(Output::Try { to: self.partners[index].number });
        self.go_on_probing(now, index, 0, false, timing);
    }

    fn go_on_probing(&mut self, now: Duration, index: usize, sent: u32, again: bool, timing: Timing) {
        let partner = &mut self.partners[index];
        let refused = partner.port == PortState::Refused;
        let wanted = if refused { PROBES_BEFORE_REFUSAL.min(timing.probes) } else { timing.probes };
        if sent < wanted {
            partner.probes = partner.probes.saturating_add(1);
            self.outputs.push_back(Output::Send { to: partner.number, beat: Beat::Probe });
            let next = now.saturating_add(self.doubt.stretch(timing.spacing));
            partner.phase = Phase::Probing { sent: sent + 1, next, again };
        } else if !again && self.hears_nobody(now, index, timing) {
            self.doubt.rise_to(now, HEARS_NOBODY);
            self.outputs.push_back(Output::Try { to: self.partners[index].number });
            self.go_on_probing(now, index, 0, true, timing);
        } else {
            let partner = &mut self.partners[index];
            let question = partner.question.take();
            partner.phase = Phase::Told { next: now.saturating_add(FIRST_PAUSE), pause: FIRST_PAUSE };
            self.tell(now, index, Sight::Silent, question);
        }
    }

    /// Whether it is rather this host that is cut off: there are other partners, and nothing comes from any of them, nor
    /// from the host in question.
    fn hears_nobody(&self, now: Duration, index: usize, timing: Timing) -> bool {
        let partner = &self.partners[index];
        let proof = partner.port == PortState::Refused || partner.echo == Some(true);
        let quiet = |other: &Partner| other.silent_for(now) >= timing.suspect;
        !proof && self.partners.len() > 1 && self.partners.iter().all(quiet)
    }

    /// One probe outside of a burst, with a look at the host.
    fn probe(&mut self, index: usize) {
        let partner = &mut self.partners[index];
        partner.probes = partner.probes.saturating_add(1);
        self.outputs.push_back(Output::Send { to: partner.number, beat: Beat::Probe });
        self.outputs.push_back(Output::Try { to: partner.number });
    }

    fn heard(&mut self, now: Duration, index: usize) {
        let Some(timing) = self.timing else { return };
        let partner = &mut self.partners[index];
        let question = partner.question;
        let sight = match partner.phase {
            // A heartbeat from before, overtaken by the goodbye.
            Phase::Stopping { since, .. } if now < since.saturating_add(timing.interval) => return,
            Phase::Stopping { told: true, .. } | Phase::Told { .. } => Some(Sight::Alive),
            _ if question.is_some() => Some(Sight::Alive),
            Phase::Probing { .. } => {
                let told = partner.told_late.is_some_and(|told| now.saturating_sub(told) < LATE_PAUSE);
                let late =
                    !told && partner.probes >= LATE_PROBES && partner.silent_for(now) >= timing.suspect;
                if late {
                    partner.told_late = Some(now);
                }
                late.then_some(Sight::Late)
            }
            Phase::Quiet | Phase::Stopping { .. } => None,
        };
        if let Some(sight) = sight {
            self.tell(now, index, sight, question);
        }
        self.partners[index].heard(now);
    }

    fn stopping(&mut self, now: Duration, index: usize) {
        let partner = &mut self.partners[index];
        let question = partner.question;
        // Who was told silent, or is asked about, is spoken of at once.
        let told = match partner.phase {
            Phase::Stopping { .. } => return,
            Phase::Told { .. } => true,
            _ => question.is_some(),
        };
        partner.heard(now);
        partner.phase = Phase::Stopping { since: now, told };
        if told {
            self.tell(now, index, Sight::Stopping, question);
        }
    }

    fn former_beat(&mut self, now: Duration, from: HostNumber, beat: Beat) {
        let Some(timing) = self.timing.filter(|_| self.former.knows(now, from)) else { return };
        if beat == Beat::Probe {
            // It does not know that it is none any more; its suspicion would be of no use.
            self.outputs.push_back(Output::Send { to: from, beat: Beat::Answer });
        }
        let grace = timing.interval.saturating_mul(FORMER_GRACE_INTERVALS);
        if beat != Beat::Stopping && self.former.beat(now, from, grace) {
            let observation = Observation {
                about: from,
                sight: Sight::Martian,
                silent_milliseconds: 0,
                probes: 0,
                port: PortState::Silent,
                echo: None,
                doubt: self.doubt.level(),
                question: None,
            };
            self.outputs.push_back(Output::Tell { generation: self.generation, observation });
        }
    }

    fn tell(&mut self, now: Duration, index: usize, sight: Sight, question: Option<u64>) {
        let observation = self.partners[index].observation(now, sight, self.doubt.level(), question);
        self.outputs.push_back(Output::Tell { generation: self.generation, observation });
    }
}

#[cfg(test)]
mod tests;
