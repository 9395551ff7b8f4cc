//! Which instances run on this host, with which settings. Pure.

use crate::collector::Work;
use crate::executables::Executable;
use discovery::{Parameters, Trigger};
use model::config::{DiscoveryConfig, Schedule};
use std::collections::BTreeMap;

/// One instance, ready to be scheduled.
#[derive(Clone)]
pub struct Task {
    pub work: Work,
    pub discovertype: String,
    pub trigger: Trigger,
    pub schedule: Schedule,
    pub parameters: Parameters,
}

impl Task {
    /// Whether another run is needed to take over the settings of `other`.
    pub fn differs(&self, other: &Task) -> bool {
        let same_work = match (&self.work, &other.work) {
            (Work::Native(a), Work::Native(b)) => a.name == b.name,
            (Work::Executable(a), Work::Executable(b)) => a == b,
            _ => false,
        };
        !same_work || self.parameters != other.parameters
    }
}

/// All instances that are switched on: those every host has, and the executables, which win over the former.
pub fn tasks(config: &DiscoveryConfig, executables: &[Executable], host: &str) -> BTreeMap<String, Task> {
    let mut all = BTreeMap::new();
    for discovery in discovery::all() {
        for instance in discovery.instances {
            let own = discovery.schedule_of(instance.name);
            let resolved = config.resolve(own, discovery.name, instance.name, host);
            if resolved.enabled {
                let task = Task {
                    work: Work::Native(discovery),
                    discovertype: discovery.name.into(),
                    trigger: discovery.trigger,
                    schedule: resolved.schedule,
                    parameters: resolved.parameters,
                };
                all.insert(instance.name.to_owned(), task);
            }
        }
    }
    for executable in executables {
        let resolved = config.resolve(Schedule::DEFAULT, &executable.name, &executable.instance, host);
        all.remove(&executable.instance);
        if resolved.enabled {
            let task = Task {
                work: Work::Executable(executable.clone()),
                discovertype: executable.name.clone(),
                trigger: Trigger::None,
                schedule: resolved.schedule,
                parameters: resolved.parameters,
            };
            all.insert(executable.instance.clone(), task);
        }
    }
    all
}

/// Names and rhythms for the scheduler: the network first, because it tells how to reach the host, then the cheap
/// files, and what reads thousands of them last.
pub fn in_order(tasks: &BTreeMap<String, Task>) -> Vec<(String, Schedule)> {
    let weight = |task: &Task| match (&task.work, task.discovertype.as_str()) {
        (_, "netconfig") => 0,
        (_, "os") => 1,
        (_, "packages") => 8,
        (Work::Executable(_), _) => 9,
        _ => 5,
    };
    let mut order: Vec<_> = tasks.iter().collect();
    order.sort_by_key(|(name, task)| (weight(task), *name));
    order.into_iter().map(|(name, task)| (name.clone(), task.schedule)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::config::ScheduleOverride;

    fn executable(name: &str) -> Executable {
        Executable { path: format!("/x/{name}").into(), name: name.into(), instance: format!("_init_{name}") }
    }

    #[test]
    fn the_configuration_decides_what_runs() {
        let mut config = DiscoveryConfig::default();
        let off = ScheduleOverride { enabled: Some(false), ..Default::default() };
        config.agents.insert("login_defs/web1".into(), off.clone());
        config.agents.insert("mine".into(), ScheduleOverride { repeat: Some(7), ..Default::default() });
        let web1 = tasks(&config, &[executable("mine")], "web1");
        assert!(!web1.contains_key("_init_login_defs") && web1.contains_key("_init_os"));
        assert_eq!(web1["_init_mine"].schedule.repeat_seconds, 7);
        assert!(tasks(&config, &[], "web2").contains_key("_init_login_defs"));
        config.agents.insert("mine".into(), off);
        assert!(!tasks(&config, &[executable("mine")], "web1").contains_key("_init_mine"));
    }

    #[test]
    fn an_executable_wins_over_a_discovery_of_the_same_instance() {
        let config = DiscoveryConfig::default();
        let all = tasks(&config, &[executable("login_defs")], "h");
        assert!(matches!(all["_init_login_defs"].work, Work::Executable(_)));
        assert!(all["_init_login_defs"].differs(&tasks(&config, &[], "h")["_init_login_defs"]));
        assert!(!all["_init_os"].differs(&tasks(&config, &[], "h")["_init_os"]));
    }

    #[test]
    fn parameters_make_a_difference_and_rhythms_do_not() {
        let plain = tasks(&DiscoveryConfig::default(), &[], "h");
        let mut config = DiscoveryConfig::default();
        let given = ScheduleOverride { repeat: Some(5), ..Default::default() };
        config.agents.insert("os".into(), given.clone());
        assert!(!tasks(&config, &[], "h")["_init_os"].differs(&plain["_init_os"]));
        let parameters = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        config.agents.insert("os".into(), ScheduleOverride { parameters, ..given });
        assert!(tasks(&config, &[], "h")["_init_os"].differs(&plain["_init_os"]));
        assert_eq!(in_order(&plain).len(), plain.len());
    }
}
