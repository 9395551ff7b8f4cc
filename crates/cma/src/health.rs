//! What is wrong with this CMA right now, for `doctor`, `/healthz` and nanoprobes that are told to wait.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// Problems by topic, each one sentence that says what to do.
#[derive(Debug, Default)]
pub struct Health {
    state: Mutex<State>,
}

/// How far this life of the CMA is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Starting,
    /// Everything listens.
    Ready,
    Stopping,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    store: Option<String>,
    others: BTreeMap<String, String>,
    notes: BTreeMap<String, String>,
}

impl Health {
    /// Why the store cannot be written, if so. Returns whether that is a change.
    pub fn set_store_problem(&self, problem: Option<String>) -> bool {
        let mut state = self.lock();
        let changed = state.store.is_some() != problem.is_some();
        state.store = problem;
        changed
    }

    pub fn store_problem(&self) -> Option<String> {
        self.lock().store.clone()
    }

    pub fn set_phase(&self, phase: Phase) {
        self.lock().phase = phase;
    }

    pub fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Sets or clears the problem of one topic.
    pub fn set(&self, topic: &str, problem: Option<String>) {
        let mut state = self.lock();
        match problem {
            Some(problem) => state.others.insert(topic.to_owned(), problem),
            None => state.others.remove(topic),
        };
    }

    /// What is worth knowing about a topic without being wrong.
    pub fn note(&self, topic: &str, note: String) {
        self.lock().notes.insert(topic.to_owned(), note);
    }

    /// All of these, by topic.
    pub fn notes(&self) -> BTreeMap<String, String> {
        self.lock().notes.clone()
    }

    /// Everything that is wrong, the store first.
    pub fn problems(&self) -> Vec<String> {
        let state = self.lock();
        let store = state.store.iter().map(|problem| format!("nothing can be stored: {problem}"));
        store.chain(state.others.values().cloned()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole values are replaced under the lock, so a panic elsewhere leaves nothing half-done.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_come_and_go() {
        let health = Health::default();
        assert!(health.set_store_problem(Some("full".into())));
        assert!(!health.set_store_problem(Some("still full".into())));
        health.set("syslog", Some("no socket".into()));
        assert_eq!(health.problems(), ["nothing can be stored: still full", "no socket"]);
        assert!(health.set_store_problem(None));
        health.set("syslog", None);
        assert!(health.problems().is_empty());
        health.note("vendors", "none".into());
        health.note("vendors", "some".into());
        assert_eq!(health.notes(), BTreeMap::from([("vendors".into(), "some".into())]));
        assert!(health.problems().is_empty(), "a note is no problem");
    }
}
