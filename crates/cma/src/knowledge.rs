//! Configuration, rule sets and canned queries as one value that is replaced as a whole when they are read again.

use crate::groups::membership::{Membership, Standing, newcomer};
use model::config::{AgentConfig, CmaConfig, MonitorOverride, ScheduleOverride};
use model::graph::MEANING;
use model::paths::SitePaths;
use model::{Designation, DocumentHash};
use monitors::MonitorRuleProblem;
use rules::{EffectiveSet, OperatingSystem, Rule, RuleProblem, RuleSets};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use store::query::{Queries, QueryProblem};
use tokio::sync::watch;

/// Of all monitor rules that nanoprobes are sent, which come with every change of the configuration.
const MAX_MONITOR_RULES_BYTES: usize = 512 * 1024;
/// Set that counts where the configured one does not exist.
const LAST_RESORT: &str = "BASE";

/// What results depend on besides the documents.
#[derive(Debug, Clone)]
pub struct Knowledge {
    pub config: CmaConfig,
    pub sets: RuleSets,
    pub rule_problems: Vec<RuleProblem>,
    pub queries: Queries,
    pub query_problems: Vec<QueryProblem>,
    /// The site's own monitor rules: file name → text. Nanoprobes read them; those that every program has inside are
    /// not in it.
    pub monitor_rules: BTreeMap<String, String>,
    pub monitor_rule_problems: Vec<MonitorRuleProblem>,
    /// Where each host stands: its domain and its groups.
    pub membership: Arc<Membership>,
    /// Changes when any result or the graph could. What changes with `membership` is judged host by host.
    pub fingerprint: String,
}

impl Knowledge {
    /// Reads rule sets and queries: built in, shipped, and the site's own.
    pub fn load(config: CmaConfig, site: &SitePaths) -> Self {
        let (sets, problems) = RuleSets::load(&[site.shared("best_practices"), site.site("best_practices")]);
        let mut knowledge = Self::new(config, sets, problems);
        (knowledge.queries, knowledge.query_problems) =
            Queries::load(&[site.shared("queries"), site.site("queries")]);
        (knowledge.monitor_rules, knowledge.monitor_rule_problems) =
            monitor_rules(&[site.shared("monrules"), site.site("monrules")]);
        knowledge
    }

    /// Without queries.
    pub fn new(config: CmaConfig, sets: RuleSets, rule_problems: Vec<RuleProblem>) -> Self {
        let prints: Vec<(String, String)> =
            sets.iter().map(|set| (set.name().to_owned(), set.fingerprint().to_string())).collect();
        let substance = format!(
            "{:?} {:?} {:?} {:?} {MEANING} {prints:?}",
            config.groups, config.domains, config.networks, config.rules
        );
        let fingerprint = DocumentHash::of(substance.as_bytes()).to_string();
        Self {
            fingerprint,
            config,
            sets,
            rule_problems,
            queries: Queries::default(),
            query_problems: Vec::new(),
            monitor_rules: BTreeMap::new(),
            monitor_rule_problems: Vec::new(),
            membership: Arc::default(),
        }
    }

    /// With other hosts in the groups.
    pub fn with_membership(mut self, membership: Membership) -> Self {
        self.membership = Arc::new(membership);
        self
    }

    /// The domain of a host; `tags` are those it has, for a host that has only just come.
    pub fn domain_of(&self, host: &Designation, tags: &[String]) -> String {
        self.standing_of(host, tags).domain.clone()
    }

    /// Where a host stands; one that has come since that was last worked out stands by its name and its `tags`, until the
    /// questions of groups are asked about it too.
    pub fn standing_of(&self, host: &Designation, tags: &[String]) -> Cow<'_, Standing> {
        match self.membership.of(host) {
            Some(standing) => Cow::Borrowed(standing),
            None => Cow::Owned(newcomer(&self.config, host, tags)),
        }
    }

    /// Whether it was not yet worked out where a host stands: only its tags tell.
    pub fn is_newcomer(&self, host: &Designation) -> bool {
        self.membership.of(host).is_none()
    }

    /// The rule set of a host: that of its first group that has one, in order of their names, else that of its domain.
    fn set_of(&self, standing: &Standing, domain: &str) -> &str {
        let by_group = &self.config.rules.by_group;
        let of_group = standing.groups.keys().find_map(|group| by_group.get(group));
        of_group.map_or_else(|| self.config.rules.set_of(domain), String::as_str)
    }

    /// With the built-in rules only.
    #[cfg(test)]
    pub fn for_tests(config: CmaConfig) -> Self {
        let (sets, problems) = RuleSets::load(&[]);
        Self::new(config, sets, problems)
    }

    /// The rule set of a host of this domain that stands there and has this operating system. A set that does not exist is a
    /// problem and must not make every rule pass: BASE counts instead.
    pub fn effective(
        &self,
        standing: &Standing,
        domain: &str,
        os: Option<&OperatingSystem>,
    ) -> Option<Arc<EffectiveSet>> {
        let set = self.set_of(standing, domain);
        self.sets.effective_for(set, os).or_else(|| self.sets.effective_for(LAST_RESORT, os))
    }

    /// A rule of a host, for its texts.
    pub fn rule(&self, host: &Designation, domain: &str, id: &str) -> Option<&Arc<Rule>> {
        let set = self.set_of(&self.standing_of(host, &[]), domain);
        self.sets.rule(set, id).or_else(|| self.sets.rule(LAST_RESORT, id))
    }

    /// What a nanoprobe is told, as JSON text. Settings of other hosts are left out.
    pub fn agent_config(&self, host: &Designation) -> String {
        self.agent_config_by(host, &self.standing_of(host, &[]))
    }

    /// The same of a host that stands there.
    pub fn agent_config_by(&self, host: &Designation, standing: &Standing) -> String {
        let mut discovery = self.config.discovery.clone();
        discovery.agents =
            of_host(&self.config.discovery.agents, host, standing, ScheduleOverride::overridden_by);
        let mut monitoring = self.config.monitoring.clone();
        monitoring.agents =
            of_host(&self.config.monitoring.agents, host, standing, MonitorOverride::overridden_by);
        let config = AgentConfig {
            domain: standing.domain.clone(),
            discovery,
            monitoring,
            neighbours: self.config.neighbours.clone(),
            monitor_rules: self.monitor_rules.clone(),
        };
        // Maps with text keys cannot fail to serialise.
        serde_json::to_string(&config).unwrap_or_default()
    }

    /// Rules in the largest set.
    pub fn rule_count(&self) -> usize {
        self.sets.iter().map(|set| set.rules().count()).max().unwrap_or(0)
    }

    /// What is wrong with rule files and configuration.
    pub fn problems(&self) -> Vec<String> {
        let rules = &self.config.rules;
        let by_domain = rules.by_domain.iter().map(|(name, set)| ("domain", "by_domain", name, set));
        let by_group = rules.by_group.iter().map(|(name, set)| ("group", "by_group", name, set));
        let unknown = by_domain.chain(by_group).filter(|(_, _, _, set)| self.sets.effective(set).is_none());
        let unknown = unknown.map(|(what, key, name, set)| {
            format!("{what} {name} wants rule set {set:?}, which does not exist; {LAST_RESORT} is used (rules.{key} in cma.toml)")
        });
        let queries = self.query_problems.iter().map(QueryProblem::to_string);
        let monitors = self.monitor_rule_problems.iter().map(MonitorRuleProblem::to_string);
        let rules = self.rule_problems.iter().map(RuleProblem::to_string);
        rules.chain(queries).chain(monitors).chain(unknown).collect()
    }
}

/// What is read from directories, within bounds; a file that is wrong is told and not sent to anybody.
fn monitor_rules(directories: &[PathBuf]) -> (BTreeMap<String, String>, Vec<MonitorRuleProblem>) {
    let (mut texts, mut problems) = monitors::site_files(directories);
    let mut bytes = 0;
    texts.retain(|name, text| {
        bytes += name.len() + text.len();
        let fits = bytes <= MAX_MONITOR_RULES_BYTES;
        if !fits {
            problems.push(MonitorRuleProblem {
                file: name.clone(),
                line: None,
                message: format!(
                    "is not sent to nanoprobes: all rules have more than {MAX_MONITOR_RULES_BYTES} bytes"
                ),
                hint: "remove what is not needed, or put it into /etc/assimilation/monrules.d on the hosts"
                    .into(),
            });
        }
        fits
    });
    (texts, problems)
}

/// Of settings named `<what>`, `<what>/@<group>` and `<what>/<host>` those that concern this host. What its groups say, in order
/// of their names, becomes part of what is said for the host itself, which wins: nanoprobes know nothing of groups.
fn of_host<T: Clone>(
    settings: &BTreeMap<String, T>,
    host: &Designation,
    standing: &Standing,
    overridden_by: impl Fn(T, &T) -> T,
) -> BTreeMap<String, T> {
    let mut kept: BTreeMap<String, T> = BTreeMap::new();
    let mut own: BTreeMap<&str, T> = BTreeMap::new();
    let for_this = |(name, of): &(&str, &str), as_group: bool| match of.strip_prefix('@') {
        Some(group) => as_group && standing.groups.contains_key(group),
        None => !as_group && *of == host.as_str() && !name.is_empty(),
    };
    // Sorted: of one `<what>` the groups come in order of their names.
    for as_group in [true, false] {
        for (key, value) in settings {
            let Some((name, of)) = key.split_once('/') else {
                kept.insert(key.clone(), value.clone());
                continue;
            };
            if for_this(&(name, of), as_group) {
                let merged = match own.remove(name) {
                    Some(weaker) => overridden_by(weaker, value),
                    None => value.clone(),
                };
                own.insert(name, merged);
            }
        }
    }
    kept.extend(own.into_iter().map(|(name, value)| (format!("{name}/{host}"), value)));
    kept
}

/// The knowledge of the moment, for all threads.
#[derive(Debug, Clone)]
pub struct SharedKnowledge {
    current: Arc<watch::Sender<Arc<Knowledge>>>,
}

impl SharedKnowledge {
    pub fn new(knowledge: Knowledge) -> Self {
        Self { current: Arc::new(watch::Sender::new(Arc::new(knowledge))) }
    }

    pub fn get(&self) -> Arc<Knowledge> {
        self.current.borrow().clone()
    }

    pub fn set(&self, knowledge: Knowledge) {
        self.current.send_replace(Arc::new(knowledge));
    }

    /// Puts hosts into other groups, as worked out from `seen`. `false`: there is other knowledge by now, and nothing was
    /// changed.
    pub fn regroup(&self, seen: &Arc<Knowledge>, membership: Membership) -> bool {
        self.current.send_if_modified(|current| {
            let is_same = Arc::ptr_eq(current, seen);
            if is_same {
                *current = Arc::new(Knowledge::clone(current).with_membership(membership));
            }
            is_same
        })
    }

    /// Tells when there is another.
    pub fn changes(&self) -> watch::Receiver<Arc<Knowledge>> {
        self.current.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::config::parse_toml;

    fn knowledge(text: &str) -> Knowledge {
        Knowledge::for_tests(parse_toml("cma.toml", text).unwrap())
    }

    #[test]
    fn only_what_results_depend_on_changes_the_fingerprint() {
        let plain = knowledge("");
        assert_eq!(
            plain.fingerprint,
            knowledge("[discovery]\nrepeat = 7\n[notify]\nsyslog = false\n").fingerprint
        );
        assert_ne!(plain.fingerprint, knowledge("[domains]\nlab = [\"lab-*\"]\n").fingerprint);
        assert_ne!(plain.fingerprint, knowledge("[networks]\nberlin = [\"*-b\"]\n").fingerprint);
        assert_ne!(plain.fingerprint, knowledge("[rules.points.security]\nlow = 9\n").fingerprint);
    }

    #[test]
    fn a_host_is_told_its_own_settings_only() {
        let knowledge = knowledge(
            "[discovery.agents.\"sshd/web1\"]\nrepeat = 5\n[discovery.agents.pam]\nrepeat = 6\n[domains]\nlab = [\"web*\"]\n",
        );
        let told = |name: &str| knowledge.agent_config(&Designation::new(name).unwrap());
        assert!(told("web1").contains("sshd/web1") && told("web1").contains("\"domain\":\"lab\""));
        assert!(!told("db1").contains("web1") && told("db1").contains("pam"));
        serde_json::from_str::<AgentConfig>(&told("web1")).unwrap();
    }

    #[test]
    fn groups_set_what_hosts_are_told_and_judged_by() {
        let text = r#"
[groups]
a = ["web*"]
b = ["web1", "db1"]
[rules.by_domain]
global = "original"
[rules.by_group]
b = "BASE"
[discovery.agents.pam]
repeat = 1
[discovery.agents."sshd/@a"]
repeat = 2
warn = 2
timeout = 2
[discovery.agents."sshd/@b"]
warn = 3
timeout = 3
[discovery.agents."sshd/web1"]
timeout = 4
[monitoring.agents."nagios::x/@b"]
env = { a = "1", b = "1" }
[monitoring.agents."nagios::x/web1"]
env = { b = "2" }
"#;
        let knowledge = knowledge(text);
        let name = |name: &str| Designation::new(name).unwrap();
        let told = |host: &str| -> AgentConfig {
            serde_json::from_str(&knowledge.agent_config(&name(host))).unwrap()
        };
        let web1 = &told("web1").discovery.agents;
        assert_eq!(web1.keys().collect::<Vec<_>>(), ["pam", "sshd/web1"]);
        let sshd = &web1["sshd/web1"];
        assert_eq!((sshd.repeat, sshd.warn, sshd.timeout), (Some(2), Some(3), Some(4)));
        assert_eq!(told("web2").discovery.agents["sshd/web2"].timeout, Some(2));
        assert_eq!(told("mail").discovery.agents.keys().collect::<Vec<_>>(), ["pam"]);
        let env = |host: &str| told(host).monitoring.agents[&format!("nagios::x/{host}")].env.clone();
        assert_eq!((env("web1")["a"].as_str(), env("web1")["b"].as_str()), ("1", "2"));
        assert_eq!(env("db1")["b"], "1");
        assert!(told("web2").monitoring.agents.is_empty(), "secrets of other groups are nobody else's");
        let set = |host: &str| {
            knowledge
                .effective(&knowledge.standing_of(&name(host), &[]), "global", None)
                .unwrap()
                .name()
                .to_owned()
        };
        assert_eq!([set("web1"), set("web2")], ["BASE", "original"]);
    }

    #[test]
    fn monitor_rules_of_the_site_go_to_nanoprobes_and_wrong_ones_to_the_doctor() {
        let root = tempfile::tempdir().unwrap();
        let site = SitePaths::new(root.path());
        let own = site.site("monrules");
        std::fs::create_dir_all(&own).unwrap();
        let rule = "{\"class\": \"tcp\", \"type\": \"own\", \"prio\": \"low\", \"classconfig\": [[\"-\", \"@basename()\", \"own$\"]]}";
        std::fs::write(own.join("own.mrule"), rule).unwrap();
        std::fs::write(own.join("wrong.mrule"), rule.replace("prio", "priority")).unwrap();
        let knowledge = Knowledge::load(CmaConfig::default(), &site);
        assert_eq!(knowledge.monitor_rules.keys().collect::<Vec<_>>(), ["own.mrule"]);
        let told: Vec<String> =
            knowledge.problems().into_iter().filter(|problem| problem.contains("wrong.mrule:1")).collect();
        assert_eq!(told.len(), 1, "{:?}", knowledge.problems());
        let config: AgentConfig =
            serde_json::from_str(&knowledge.agent_config(&Designation::new("web1").unwrap())).unwrap();
        assert_eq!(config.monitor_rules["own.mrule"], rule);
        // All together must not fill a message.
        for number in 0..12 {
            let text = format!("{rule}{}", " ".repeat(60_000));
            std::fs::write(own.join(format!("big{number:02}.mrule")), text).unwrap();
        }
        let knowledge = Knowledge::load(CmaConfig::default(), &site);
        assert!(knowledge.monitor_rules.len() == 8, "{:?}", knowledge.monitor_rules.keys());
        assert!(knowledge.problems().iter().any(|problem| problem.contains("is not sent to nanoprobes")));
    }

    #[test]
    fn a_missing_rule_set_is_told_and_does_not_pass_everything() {
        let knowledge = knowledge("[rules.by_domain]\nglobal = \"BSE\"\n");
        assert!(knowledge.problems().iter().any(|p| p.contains("\"BSE\"")), "{:?}", knowledge.problems());
        let set = knowledge.effective(&Standing::default(), "global", None).unwrap();
        assert!(!set.rules_for("_auto_proc_sys", "proc_sys").is_empty());
    }
}
