//! Configuration, rule sets and canned queries as one value that is replaced as a whole when they are read again.

use model::config::{AgentConfig, CmaConfig};
use model::paths::SitePaths;
use model::{Designation, DocumentHash};
use rules::{EffectiveSet, OperatingSystem, Rule, RuleProblem, RuleSets};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::query::{Queries, QueryProblem};
use tokio::sync::watch;

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
    /// The site's own monitor rules: file name → text. Nanoprobes read them.
    pub monitor_rules: BTreeMap<String, String>,
    /// Changes when any result could.
    pub fingerprint: String,
}

impl Knowledge {
    /// Reads rule sets and queries: built in, shipped, and the site's own.
    pub fn load(config: CmaConfig, site: &SitePaths) -> Self {
        let (sets, problems) = RuleSets::load(&[site.shared("best_practices"), site.site("best_practices")]);
        let mut knowledge = Self::new(config, sets, problems);
        (knowledge.queries, knowledge.query_problems) =
            Queries::load(&[site.shared("queries"), site.site("queries")]);
        knowledge
    }

    /// Without queries.
    pub fn new(config: CmaConfig, sets: RuleSets, rule_problems: Vec<RuleProblem>) -> Self {
        let prints: Vec<(String, String)> =
            sets.iter().map(|set| (set.name().to_owned(), set.fingerprint().to_string())).collect();
        let substance = format!("{:?} {:?} {prints:?}", config.domains, config.rules);
        let fingerprint = DocumentHash::of(substance.as_bytes()).to_string();
        Self {
            fingerprint,
            config,
            sets,
            rule_problems,
            queries: Queries::default(),
            query_problems: Vec::new(),
            monitor_rules: BTreeMap::new(),
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
        self.rule_problems.iter().map(RuleProblem::to_string).chain(queries).chain(unknown).collect()
    }
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
    fn a_missing_rule_set_is_told_and_does_not_pass_everything() {
        let knowledge = knowledge("[rules.by_domain]\nglobal = \"BSE\"\n");
        assert!(knowledge.problems().iter().any(|p| p.contains("\"BSE\"")), "{:?}", knowledge.problems());
        let set = knowledge.effective("global", None).unwrap();
        assert!(!set.rules_for("_auto_proc_sys", "proc_sys").is_empty());
    }
}
