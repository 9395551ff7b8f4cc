//! Which instances run on this host, with which settings. Pure.

use crate::collector::Work;
use crate::executables::Executable;
use discovery::{Parameters, Trigger};
use model::config::{DiscoveryConfig, Schedule};
use std::collections::BTreeMap;

/// Where the system does not tell of changed files, they are looked at this often, in seconds.
const POLL_SECONDS: u64 = 60;

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
/// `polling`: nothing tells of changed files, so what counts on that runs as often as what does not.
pub fn tasks(
    config: &DiscoveryConfig,
    executables: &[Executable],
    host: &str,
    polling: bool,
) -> BTreeMap<String, Task> {
    let mut all = BTreeMap::new();
    for discovery in discovery::all() {
        for instance in discovery.instances {
            let mut own = discovery.schedule_of(instance.name);
            if polling && discovery.trigger == Trigger::Files && !discovery.is_expensive() {
                own.repeat_seconds = own.repeat_seconds.min(config.repeat.unwrap_or(POLL_SECONDS));
            }
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
        let web1 = tasks(&config, &[executable("mine")], "web1", false);
        assert!(!web1.contains_key("_init_login_defs") && web1.contains_key("_init_os"));
        assert_eq!(web1["_init_mine"].schedule.repeat_seconds, 7);
        assert!(tasks(&config, &[], "web2", false).contains_key("_init_login_defs"));
        config.agents.insert("mine".into(), off);
        assert!(!tasks(&config, &[executable("mine")], "web1", false).contains_key("_init_mine"));
    }

    #[test]
    fn an_executable_wins_over_a_discovery_of_the_same_instance() {
        let config = DiscoveryConfig::default();
        let all = tasks(&config, &[executable("login_defs")], "h", false);
        assert!(matches!(all["_init_login_defs"].work, Work::Executable(_)));
        assert!(all["_init_login_defs"].differs(&tasks(&config, &[], "h", false)["_init_login_defs"]));
        assert!(!all["_init_os"].differs(&tasks(&config, &[], "h", false)["_init_os"]));
    }

    #[test]
    fn parameters_make_a_difference_and_rhythms_do_not() {
        let plain = tasks(&DiscoveryConfig::default(), &[], "h", false);
        let mut config = DiscoveryConfig::default();
        let given = ScheduleOverride { repeat: Some(5), ..Default::default() };
        config.agents.insert("os".into(), given.clone());
        assert!(!tasks(&config, &[], "h", false)["_init_os"].differs(&plain["_init_os"]));
        let parameters = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        config.agents.insert("os".into(), ScheduleOverride { parameters, ..given });
        assert!(tasks(&config, &[], "h", false)["_init_os"].differs(&plain["_init_os"]));
        assert_eq!(in_order(&plain).len(), plain.len());
    }

    #[test]
    fn without_events_of_files_everything_that_counts_on_them_is_polled() {
        let mut config = DiscoveryConfig::default();
        let repeats = |config: &DiscoveryConfig, polling| {
            let all = tasks(config, &[], "h", polling);
            all.into_iter().map(|(name, task)| (name, (task.trigger, task.schedule.repeat_seconds)))
        };
        let slower = repeats(&config, false)
            .filter(|(_, (trigger, seconds))| *trigger == Trigger::Files && *seconds > 60);
        assert!(slower.count() > 10);
        let polled: BTreeMap<_, _> = repeats(&config, true).collect();
        let late: Vec<_> = polled
            .iter()
            .filter(|(_, (trigger, seconds))| *trigger == Trigger::Files && *seconds > 60)
            .collect();
        assert!(late.iter().all(|(name, _)| *name == "_auto_checksumdiscovery"), "{late:?}");
        assert_eq!(polled["_init_fs_scan"].1, 86_400, "what costs much keeps its rhythm");
        assert_eq!(polled["_init_cpu"].1, 60);
        config.repeat = Some(120);
        config.agents.insert("sshd".into(), ScheduleOverride { repeat: Some(900), ..Default::default() });
        let polled: BTreeMap<_, _> = repeats(&config, true).collect();
        assert_eq!((polled["_init_cpu"].1, polled["_init_sshd"].1), (120, 900), "settings win");
    }
}
