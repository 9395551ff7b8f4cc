//! The code under test behind two traits, so that a test can put a faulty one in its place.

use liveness::center::{self, Center, Member, Reached};
use liveness::observer::{self, Beat, Observer, Tried};
use liveness::rings::Place;
use model::Designation;
use model::config::HeartbeatConfig;
use model::liveness::{Ask, HostNumber, Observation, Session, Watch};
use std::time::Duration;

/// What [`liveness::observer::Observer`] does; the same names.
pub trait Watcher {
    fn handle_watch(&mut self, now: Duration, watch: &Watch);
    fn handle_ask(&mut self, now: Duration, ask: Ask);
    fn handle_beat(&mut self, now: Duration, from: HostNumber, beat: Beat);
    fn handle_tried(&mut self, now: Duration, about: HostNumber, tried: Tried);
    fn stop(&mut self, now: Duration);
    fn handle_timeout(&mut self, now: Duration);
    fn poll_timeout(&self) -> Option<Duration>;
    fn poll_output(&mut self) -> Option<observer::Output>;
    fn generation(&self) -> u64;
}

/// What [`liveness::center::Center`] does; the same names.
pub trait Judge {
    fn handle_registered(
        &mut self,
        now: Duration,
        host: &Designation,
        session: Option<Session>,
        watch: Option<u64>,
        address: &str,
    );
    fn handle_place(&mut self, now: Duration, host: &Designation, place: Place);
    fn handle_left(&mut self, now: Duration, host: &Designation);
    fn handle_observation(
        &mut self,
        now: Duration,
        from: &Designation,
        generation: u64,
        observation: &Observation,
    );
    fn handle_own_observation(&mut self, now: Duration, observation: &Observation);
    fn handle_reached(&mut self, now: Duration, host: &Designation, reached: Reached);
    fn handle_timeout(&mut self, now: Duration);
    fn poll_timeout(&self) -> Option<Duration>;
    fn poll_output(&mut self) -> Option<center::Output>;
}

/// Makes the cores of all hosts and of the CMA.
pub trait Cores {
    fn watcher(&self, now: Duration) -> Box<dyn Watcher>;
    fn judge(
        &self,
        config: &HeartbeatConfig,
        secret: [u8; 32],
        now: Duration,
        members: Vec<Member>,
    ) -> Box<dyn Judge>;
}

/// Those that are shipped.
#[derive(Debug, Default, Clone, Copy)]
pub struct Production;

impl Cores for Production {
    fn watcher(&self, now: Duration) -> Box<dyn Watcher> {
        Box::new(Observer::new(now))
    }

    fn judge(
        &self,
        config: &HeartbeatConfig,
        secret: [u8; 32],
        now: Duration,
        members: Vec<Member>,
    ) -> Box<dyn Judge> {
        Box::new(Center::restore(config, secret, now, members))
    }
}

impl Watcher for Observer {
    fn handle_watch(&mut self, now: Duration, watch: &Watch) {
        self.handle_watch(now, watch);
    }

    fn handle_ask(&mut self, now: Duration, ask: Ask) {
        self.handle_ask(now, ask);
    }

    fn handle_beat(&mut self, now: Duration, from: HostNumber, beat: Beat) {
        self.handle_beat(now, from, beat);
    }

    fn handle_tried(&mut self, now: Duration, about: HostNumber, tried: Tried) {
        self.handle_tried(now, about, tried);
    }

    fn stop(&mut self, now: Duration) {
        self.stop(now);
    }

    fn handle_timeout(&mut self, now: Duration) {
        self.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Duration> {
        self.poll_timeout()
    }

    fn poll_output(&mut self) -> Option<observer::Output> {
        self.poll_output()
    }

    fn generation(&self) -> u64 {
        self.generation()
    }
}

impl Judge for Center {
    fn handle_registered(
        &mut self,
        now: Duration,
        host: &Designation,
        session: Option<Session>,
        watch: Option<u64>,
        address: &str,
    ) {
        self.handle_registered(now, host, session, watch, address);
    }

    fn handle_place(&mut self, now: Duration, host: &Designation, place: Place) {
        self.handle_place(now, host, place);
    }

    fn handle_left(&mut self, now: Duration, host: &Designation) {
        self.handle_left(now, host);
    }

    fn handle_observation(
        &mut self,
        now: Duration,
        from: &Designation,
        generation: u64,
        observation: &Observation,
    ) {
        self.handle_observation(now, from, generation, observation);
    }

    fn handle_own_observation(&mut self, now: Duration, observation: &Observation) {
        self.handle_own_observation(now, observation);
    }

    fn handle_reached(&mut self, now: Duration, host: &Designation, reached: Reached) {
        self.handle_reached(now, host, reached);
    }

    fn handle_timeout(&mut self, now: Duration) {
        self.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Duration> {
        self.poll_timeout()
    }

    fn poll_output(&mut self) -> Option<center::Output> {
        self.poll_output()
    }
}
