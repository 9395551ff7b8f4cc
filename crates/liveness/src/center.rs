//! The CMA's part: partners for everybody, and one verdict for each outage.

use crate::rings::Place;
use model::Designation;
use model::config::HeartbeatConfig;
use model::liveness::{Ask, HostNumber, Observation, Session, Watch};
use std::collections::VecDeque;
use std::time::Duration;

/// A host as the centre has to remember it across a restart of the CMA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub designation: Designation,
    pub number: HostNumber,
    /// Of its nanoprobe's process; `None` when it knows no heartbeats.
    pub session: Option<Session>,
    pub place: Place,
    /// Place in the order of its ring.
    pub position: u64,
    /// Generation of the last watch it was told.
    pub generation: u64,
    /// `address:port` of its nanoprobe.
    pub address: String,
    /// In a ring now. Others (dead, shut down) keep only their number.
    pub present: bool,
}

/// What the CMA's own attempt to reach a host came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// The nanoprobe proved its key.
    Nanoprobe,
    /// The host answers (ICMP, or a refused port), its nanoprobe does not.
    HostOnly,
    Nobody,
    /// Our own network is gone: nothing follows from the silence.
    WeAreCutOff,
}

/// Why hosts are given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The host answers nobody.
    HostDead,
    /// The host answers, its nanoprobe does not.
    NanoprobeDied,
    /// All hosts of this switch or subnet went silent together, others did not.
    PlaceGone(Place),
    /// The members that can be reached no longer reach these; each side may go on working.
    Split,
    /// Hardly anybody answers any more: it is the CMA that is cut off. Nobody is declared dead.
    CmaCutOff,
}

/// One outage.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub cause: Cause,
    /// Everybody it concerns; one host for `HostDead` and `NanoprobeDied`.
    pub hosts: Vec<Designation>,
    /// One sentence for each piece of evidence, for people.
    pub evidence: Vec<String>,
    /// How long before the verdict the first witness last heard of the first host.
    pub silent_milliseconds: u32,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send this to a host: if it is connected on its connection, else it has to be called.
    Tell { host: Designation, watch: Watch },
    /// Ask a host for a probe; only worth it when it is connected or can be called at once.
    Ask { host: Designation, ask: Ask },
    /// The CMA is to try this host itself; the result comes by [`Center::handle_reached`].
    Try { host: Designation, address: String },
    /// The CMA's own observer has these partners from now on.
    OwnWatch(Watch),
    /// To be stored: this is what [`Center::restore`] gets after a restart.
    Keep(Member),
    /// To be committed, with its event.
    Verdict(Verdict),
    /// Heard of again without having registered: it is called, and registers.
    Call { host: Designation, why: &'static str },
}

/// Rings and judgement of a whole site.
#[derive(Debug)]
pub struct Center {
    #[allow(dead_code)]
    outputs: VecDeque<Output>,
}

impl Center {
    /// Of an empty site. `secret` is kept by the CMA on disk; pair keys are derived from it (HKDF, RFC 5869), so that a
    /// restarted CMA knows them without having stored any.
    pub fn new(config: &HeartbeatConfig, secret: [u8; 32], now: Duration) -> Self {
        let _ = (config, secret, now);
        Self { outputs: VecDeque::new() }
    }

    /// Of a site as it was before the CMA stopped. Nobody is told anything: hosts go on watching each other.
    pub fn restore(config: &HeartbeatConfig, secret: [u8; 32], now: Duration, members: Vec<Member>) -> Self {
        let _ = members;
        Self::new(config, secret, now)
    }

    pub fn handle_config(&mut self, now: Duration, config: &HeartbeatConfig) {
        let _ = (now, config);
    }

    /// A registration was committed. `watch`: the generation that the host works with.
    pub fn handle_registered(
        &mut self,
        now: Duration,
        host: &Designation,
        session: Option<Session>,
        watch: Option<u64>,
        address: &str,
    ) {
        let _ = (now, host, session, watch, address);
    }

    /// Its subnet or switch became known, or another.
    pub fn handle_place(&mut self, now: Duration, host: &Designation, place: Place) {
        let _ = (now, host, place);
    }

    /// It said goodbye, or was removed by a person.
    pub fn handle_left(&mut self, now: Duration, host: &Designation) {
        let _ = (now, host);
    }

    pub fn handle_observation(
        &mut self,
        now: Duration,
        from: &Designation,
        generation: u64,
        observation: &Observation,
    ) {
        let _ = (now, from, generation, observation);
    }

    /// From the CMA's own observer.
    pub fn handle_own_observation(&mut self, now: Duration, observation: &Observation) {
        let _ = (now, observation);
    }

    pub fn handle_reached(&mut self, now: Duration, host: &Designation, reached: Reached) {
        let _ = (now, host, reached);
    }

    pub fn handle_timeout(&mut self, now: Duration) {
        let _ = now;
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        None
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}
