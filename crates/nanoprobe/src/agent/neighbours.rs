//! The agent's side of what is heard of neighbours: settings and the CMA's choice go there, documents come back.

use super::Agent;
use crate::neighbours::{Effect, Kept, is_ours};
use model::Timestamp;

impl Agent {
    /// Applies the configuration; what an earlier nanoprobe told is handed over with the first one.
    pub(super) fn configure_neighbours(&mut self) {
        let queue = &self.queue;
        let kept = || {
            let ours = queue.instances().into_iter().filter(|instance| is_ours(instance));
            ours.filter_map(|instance| {
                Some(Kept { hash: queue.hash_of(&instance)?, body: queue.last_body(&instance), instance })
            })
            .collect()
        };
        self.neighbours.configure(&self.config.neighbours, kept);
    }

    /// A document of neighbours is another one, or gone.
    pub(super) fn neighbours_changed(&mut self, effect: Effect) {
        let Effect { instance, document } = effect;
        let Some(document) = document else { return self.gone(&instance) };
        let hash = document.hash;
        self.offer(&instance, document, Timestamp::now());
        if self.queue.hash_of(&instance) != Some(hash) {
            self.neighbours.refused(&instance);
        }
    }
}
