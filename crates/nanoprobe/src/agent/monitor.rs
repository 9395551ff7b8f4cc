//! The agent's side of the monitoring: documents in, checks at their time, states out into the queue.

use super::Agent;
use crate::monitoring::state::Moment;
use crate::monitoring::{Effect, Report};
use model::Timestamp;
use std::time::Duration;

impl Agent {
    /// Starts the checks that are due, and whatever else the monitoring has to do by now.
    pub(super) fn look_after(&mut self, now: Duration) {
        let queue = &self.queue;
        let effects = self.monitoring.work(now, |instance| queue.last_body(instance));
        self.carry_out(effects);
    }

    /// A thread of the monitoring has something to say.
    pub(super) fn monitored(&mut self, report: Report) {
        let moment = Moment { now: self.now(), wall: Timestamp::now() };
        let is_choice = matches!(report, Report::Chosen(_));
        let effects = self.monitoring.report(report, moment);
        self.carry_out(effects);
        if is_choice {
            self.drop_strangers();
        }
    }

    /// Applies the configuration of the monitoring.
    pub(super) fn configure_monitoring(&mut self, now: Duration) {
        let effects = self.monitoring.configure(&self.config, now);
        self.carry_out(effects);
        self.drop_strangers();
    }

    /// Documents of monitors that no longer exist: from before a damaged state directory, for instance.
    fn drop_strangers(&mut self) {
        let strangers = self.monitoring.strangers(self.queue.instances());
        self.carry_out(strangers.into_iter().map(Effect::Gone).collect());
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Offer(instance, document) => {
                    let hash = document.hash;
                    self.offer(&instance, document, Timestamp::now());
                    if self.queue.hash_of(&instance) != Some(hash) {
                        self.monitoring.refused(&instance, self.now());
                    }
                }
                Effect::Gone(instance) => self.gone(&instance),
                Effect::LookAgain(instance) => self.scheduler.trigger(instance, self.now()),
            }
        }
    }
}
