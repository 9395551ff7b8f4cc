//! Configuration, rule sets and canned queries as one value that is replaced as a whole when they are read again.

use model::config::{AgentConfig, CmaConfig};
use model::graph::MEANING;
use model::paths::SitePaths;
use model::{Designation, DocumentHash};
use monitors::MonitorRuleProblem;
use rules::{EffectiveSet, OperatingSystem, Rule, RuleProblem, RuleSets};
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
#[derive(Debug)]
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
    /// Changes when any result or the graph could.
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
        let substance =
            format!("{:?} {:?} {:?} {MEANING} {prints:?}", config.domains, config.networks, config.rules);
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
        }
    }

    /// With the built-in rules only.
    #[cfg(test)]
    pub fn for_tests(config: CmaConfig) -> Self {
        let (sets, problems) = RuleSets::load(&[]);
        Self::new(config, sets, problems)
    }

    /// The rule set of hosts of a domain that have this operating system. A set that does not exist is a problem and
    /// must not make every rule pass: BASE counts instead.
    pub fn effective(&self, domain: &str, os: Option<&OperatingSystem>) -> Option<Arc<EffectiveSet>> {
        let set = self.config.rules.set_of(domain);
        self.sets.effective_for(set, os).or_else(|| self.sets.effective_for(LAST_RESORT, os))
    }

    /// A rule of a domain, for its texts.
    pub fn rule(&self, domain: &str, id: &str) -> Option<&Arc<Rule>> {
        let set = self.config.rules.set_of(domain);
        self.sets.rule(set, id).or_else(|| self.sets.rule(LAST_RESORT, id))
    }

    /// What a nanoprobe is told, as JSON text. Settings of other hosts are left out.
    pub fn agent_config(&self, host: &Designation) -> String {
        let mut discovery = self.config.discovery.clone();
        discovery.agents.retain(|name, _| of_host(name, host));
        let mut monitoring = self.config.monitoring.clone();
        monitoring.agents.retain(|name, _| of_host(name, host));
        let config = AgentConfig {
            domain: self.config.domain_of(host.as_str()).to_owned(),
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
        let unknown =
            self.config.rules.by_domain.iter().filter(|(_, set)| self.sets.effective(set).is_none());
        let unknown = unknown.map(|(domain, set)| {
            format!("domain {domain} wants rule set {set:?}, which does not exist; {LAST_RESORT} is used (rules.by_domain in cma.toml)")
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

/// Whether a setting named `<what>` or `<what>/<host>` concerns this host.
fn of_host(name: &str, host: &Designation) -> bool {
    name.split_once('/').is_none_or(|(_, of)| of == host.as_str())
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
        let set = knowledge.effective("global", None).unwrap();
        assert!(!set.rules_for("_auto_proc_sys", "proc_sys").is_empty());
    }
}
