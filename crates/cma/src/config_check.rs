//! `cma config check`: whether the settings of cma.toml can work, without a CMA and without writing anything.
//!
//! What the file may say at all, and which numbers can work, is the business of `model::config`; this knows what names mean.

use crate::groups::statement_of;
use crate::settings::{Arguments, SettingError};
use crate::vendors::is_prefix;
use model::Designation;
use model::config::check::{Finding, Grade, Lines, join, nearest};
use model::config::{CmaConfig, GLOBAL, Selection, check_cma};
use model::paths::SitePaths;
use model::text::shortened;
use rules::RuleSets;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use store::query::Queries;

/// Classes of monitors that `[monitoring.agents]` may name.
const CLASSES: [&str; 7] = ["ocf", "nagios", "lsb", "systemd", "tcp", "http", "tls"];
/// Whom the packages make for the CMA.
const DEFAULT_USER: &str = "assimilation";
const SEVERITIES: [&str; 3] = ["high", "medium", "low"];

/// Everything that is wrong with the text of a file, in order of its lines, and what it says if it can be read. Rule sets and
/// queries are looked for where this site has them.
pub fn check(text: &str, site: &SitePaths) -> (Option<CmaConfig>, Vec<Finding>) {
    let checked = check_cma(text);
    let mut findings = checked.findings;
    if let Some(config) = &checked.config {
        let mut semantics = Semantics { config, lines: &checked.lines, findings: Vec::new() };
        semantics.all(site);
        findings.extend(semantics.findings);
        findings.sort_by_key(|finding| finding.line);
    }
    (checked.config, findings)
}

/// `cma config check`: prints what is wrong with `named`, or with the site's own file. `true` when it can be used as it stands.
///
/// # Errors
/// It cannot be read, or there is no file of the name that somebody gave.
pub fn run(named: Option<&Path>, site: &SitePaths) -> Result<bool, String> {
    let own = site.cma_config();
    let file = named.unwrap_or(&own);
    let text = daemon::settings::text(file).map_err(|error| error.to_string())?;
    let Some(text) = text else {
        if named.is_some() {
            return Err(format!("{}: there is no such file", file.display()));
        }
        println!("{}: there is no such file, so all settings have their defaults", file.display());
        return Ok(true);
    };
    let (_, findings) = check(&text, site);
    Ok(report(file, &findings))
}

/// Prints findings, one a line; `true` when none of them is more than a warning.
fn report(file: &Path, findings: &[Finding]) -> bool {
    for finding in findings {
        println!("{}: {}", file.display(), model::text::printable(&finding.to_string()));
    }
    let wrong = findings.iter().filter(|finding| finding.grade != Grade::Warning).count();
    if wrong == 0 {
        println!("{}: can be used", file.display());
    }
    wrong == 0
}

/// That nobody on this machine is called so, in the text of its passwd(5). The default is made by the packages.
fn no_user(user: &str, passwd: &str) -> Option<String> {
    let is_there =
        user.is_empty() || user == DEFAULT_USER || daemon::privileges::find_user(passwd, user).is_some();
    (!is_there && !passwd.is_empty()).then(|| {
        format!("there is no user {user:?} on this machine: a CMA that root starts here would not run")
    })
}

struct Semantics<'c> {
    config: &'c CmaConfig,
    lines: &'c Lines,
    findings: Vec<Finding>,
}

impl Semantics<'_> {
    fn all(&mut self, site: &SitePaths) {
        self.addresses();
        self.rules(site);
        self.selections(site);
        self.circles();
        self.agents(site);
        for start in self.config.oui.keys().filter(|start| !is_prefix(start)) {
            let problem = "is no start of a MAC address: write 3 to 6 bytes, such as \"56-84-7a\"".to_owned();
            self.push(Grade::Wrong, join("oui", start), problem);
        }
    }

    fn push(&mut self, grade: Grade, key: String, problem: String) {
        self.findings.push(Finding { line: self.lines.of(&key), key, problem, grade });
    }

    fn addresses(&mut self) {
        let only = |change: fn(&mut CmaConfig, &CmaConfig)| {
            let mut one = CmaConfig::default();
            change(&mut one, self.config);
            Arguments::default().settings(one).err().map(|error: SettingError| error.to_string())
        };
        let problems = [
            ("bind", only(|one, all| one.bind.clone_from(&all.bind))),
            ("web", only(|one, all| one.web.clone_from(&all.web))),
            ("store", only(|one, all| one.store.clone_from(&all.store))),
        ];
        for (key, problem) in problems {
            if let Some(problem) = problem {
                self.push(Grade::Refused, key.into(), problem);
            }
        }
        let port = self.config.bind.as_deref().and_then(|bind| bind.rsplit_once(':')).map(|(_, port)| port);
        if port.is_some_and(|port| port.parse() == Ok(0_u16)) {
            let problem = "0 is another free port at each start: no nanoprobe and no firewall can know it";
            self.push(Grade::Warning, "bind".into(), problem.into());
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        if let Some(problem) = self.config.user.as_deref().and_then(|user| no_user(user, &passwd)) {
            self.push(Grade::Warning, "user".into(), problem);
        }
        if let Some(level) = self.config.debug.filter(|level| *level > daemon::logging::MAX_DEBUG_LEVEL) {
            let most = daemon::logging::MAX_DEBUG_LEVEL;
            self.push(Grade::Refused, "debug".into(), format!("{level} is no level from 0 to {most}"));
        }
    }

    fn rules(&mut self, site: &SitePaths) {
        let (sets, _) = RuleSets::load(&[site.shared("best_practices"), site.site("best_practices")]);
        let names: Vec<String> = sets.iter().map(|set| set.name().to_owned()).collect();
        let rules = &self.config.rules;
        let domains: BTreeSet<&str> =
            self.config.domains.keys().map(String::as_str).chain([GLOBAL]).collect();
        let groups: BTreeSet<&str> = self.config.groups.keys().map(String::as_str).collect();
        for (map, section, known, what) in [
            (&rules.by_domain, "rules.by_domain", &domains, "domain"),
            (&rules.by_group, "rules.by_group", &groups, "group"),
        ] {
            for (name, set) in map {
                let key = join(section, name);
                if sets.effective(set).is_none() {
                    let near = near(set, names.iter().map(String::as_str));
                    self.push(
                        Grade::Wrong,
                        key.clone(),
                        format!("there is no rule set {set:?}{near}; BASE would be used"),
                    );
                }
                if !known.contains(name.as_str()) {
                    let near = near(name, known.iter().copied());
                    self.push(Grade::Wrong, key, format!("there is no {what} {name:?}{near}"));
                }
            }
        }
        for (category, points) in &rules.points {
            for (severity, value) in points {
                let key = join(&join("rules.points", category), severity);
                if !SEVERITIES.contains(&severity.as_str()) {
                    self.push(
                        Grade::Wrong,
                        key,
                        "no rule has this severity: it is high, medium or low".into(),
                    );
                } else if !value.is_finite() || *value < 0.0 {
                    self.push(Grade::Refused, key, "points are 0 or more".into());
                }
            }
        }
    }

    fn selections(&mut self, site: &SitePaths) {
        let (queries, _) = Queries::load(&[site.shared("queries"), site.site("queries")]);
        let config = self.config;
        for (section, selections) in [("groups", &config.groups), ("domains", &config.domains)] {
            for (name, selection) in selections {
                let path = join(section, name);
                if Designation::new(name).is_err() {
                    let problem = "is no name: use letters, digits, and . _ - between them".to_owned();
                    self.push(Grade::Refused, path.clone(), problem);
                }
                self.patterns(&selection.names, &path, "names");
                self.selection(selection, &path, &queries);
            }
        }
        for (name, patterns) in &config.networks {
            self.patterns(patterns, &join("networks", name), "");
        }
    }

    fn selection(&mut self, selection: &Selection, path: &str, queries: &Queries) {
        if *selection == Selection::default() {
            self.push(Grade::Warning, path.into(), "says nothing, so no host is in it".into());
        }
        for tag in selection.tags.iter().filter(|tag| tag.trim() != tag.as_str() || tag.is_empty()) {
            self.push(Grade::Refused, join(path, "tags"), format!("{tag:?} is no tag"));
        }
        if let Some(sql) = &selection.query
            && let Err(error) = store::sqlite::columns_of(sql)
        {
            self.push(Grade::Refused, join(path, "query"), format!("cannot be asked: {error}"));
        }
        if let Some(name) = &selection.query_name {
            let key = join(path, "query_name");
            let sql = statement_of(queries, name);
            let problem =
                sql.and_then(|sql| store::sqlite::columns_of(&sql).map_err(|error| error.to_string()));
            if let Err(problem) = problem {
                let near = near(
                    name,
                    queries.iter().map(|query| query.name.as_str()).filter(|known| *known != name),
                );
                self.push(Grade::Refused, key, format!("{problem}{near}"));
            }
        }
        for group in selection.groups.iter().filter(|group| !self.config.groups.contains_key(*group)) {
            let near = near(group, self.config.groups.keys().map(String::as_str));
            self.push(Grade::Refused, join(path, "groups"), format!("there is no group {group:?}{near}"));
        }
    }

    fn patterns(&mut self, patterns: &[String], path: &str, key: &str) {
        let key = if key.is_empty() { path.to_owned() } else { join(path, key) };
        // A list in the place of a table has its line at the name itself.
        for pattern in patterns {
            let example = pattern.replace('*', "x");
            if Designation::new(&example).is_err() || example != example.to_ascii_lowercase() {
                let shown = shortened(pattern, 80);
                let problem =
                    format!("no host name fits {shown:?}: they have lower case letters, digits, and . _ -");
                self.push(Grade::Warning, key.clone(), problem);
            }
        }
    }

    /// Groups that are in themselves by way of others: all would have the same hosts, which nobody means.
    fn circles(&mut self) {
        let config = self.config;
        for name in config.groups.keys().filter(|name| below(config, name).contains(name.as_str())) {
            let through: Vec<&String> = config.groups[name]
                .groups
                .iter()
                .filter(|inner| *inner == name || below(config, inner).contains(name.as_str()))
                .collect();
            let through = through.iter().map(|inner| inner.as_str()).collect::<Vec<_>>().join(", ");
            let problem = format!("the group is in itself, by way of {through}: take one of them out");
            self.push(Grade::Refused, join(&join("groups", name), "groups"), problem);
        }
    }

    fn agents(&mut self, site: &SitePaths) {
        let config = self.config;
        let known: BTreeSet<&str> = discovery::all()
            .iter()
            .flat_map(|one| {
                [one.name, discovery::discovertype(one)]
                    .into_iter()
                    .chain(one.instances.iter().map(|i| i.name))
            })
            .collect();
        let has_own = [site.shared("discovery_agents"), site.site("discovery_agents")];
        for (name, change) in &config.discovery.agents {
            let key = join("discovery.agents", name);
            let (kind, of) = split(name);
            let is_own = has_own.iter().any(|directory| directory.join(kind).is_file());
            if !known.contains(kind) && !is_own {
                let near = near(kind, known.iter().copied());
                self.push(Grade::Warning, key.clone(), format!("no discovery is called {kind:?}{near} (`nanoprobe discover --list`), unless hosts have one of their own"));
            }
            self.concerned(of, &key);
            if change.timeout == Some(0) {
                self.push(
                    Grade::Refused,
                    join(&key, "timeout"),
                    "0 cannot work: it must be 1 or more".into(),
                );
            }
        }
        for name in config.monitoring.agents.keys() {
            let key = join("monitoring.agents", name);
            let (agent, of) = split(name);
            match agent.split_once("::") {
                None => self.push(
                    Grade::Wrong,
                    key.clone(),
                    "is not <class>::<type>, such as \"nagios::check_load\"".into(),
                ),
                Some((class, _)) if !CLASSES.contains(&class) => {
                    let near = near(class, CLASSES);
                    self.push(
                        Grade::Wrong,
                        key.clone(),
                        format!("there is no class {class:?}{near}: it is one of {}", CLASSES.join(", ")),
                    );
                }
                Some(_) => {}
            }
            self.concerned(of, &key);
        }
    }

    /// The part behind the `/`.
    fn concerned(&mut self, of: Option<&str>, key: &str) {
        let Some(of) = of else { return };
        if let Some(group) = of.strip_prefix('@') {
            if !self.config.groups.contains_key(group) {
                let near = near(group, self.config.groups.keys().map(String::as_str));
                self.push(Grade::Wrong, key.into(), format!("there is no group {group:?}{near}"));
            }
        } else if Designation::new(of).is_err() || of != of.to_ascii_lowercase() {
            self.push(
                Grade::Warning,
                key.into(),
                format!("no host is called {of:?}: names have lower case letters, digits, and . _ -"),
            );
        }
    }
}

/// The groups that a group has, and those that they have.
fn below<'c>(config: &'c CmaConfig, name: &str) -> BTreeSet<&'c str> {
    let inner =
        |name: &str| config.groups.get(name).into_iter().flat_map(|group| &group.groups).map(String::as_str);
    let mut found = BTreeSet::new();
    let mut left: Vec<&str> = inner(name).collect();
    while let Some(name) = left.pop() {
        if found.insert(name) {
            left.extend(inner(name));
        }
    }
    found
}

/// `sshd/web1`: what, and for whom.
fn split(name: &str) -> (&str, Option<&str>) {
    name.split_once('/').map_or((name, None), |(what, of)| (what, Some(of)))
}

/// `, is "web" meant?`
fn near<'w>(name: &str, words: impl IntoIterator<Item = &'w str>) -> String {
    nearest(name, words).map(|near| format!(" (is {near:?} meant?)")).unwrap_or_default()
}

/// What the settings of groups need of others, by group: for those that show them.
pub fn uses(config: &CmaConfig) -> BTreeMap<&str, Vec<String>> {
    let mut uses: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (group, set) in &config.rules.by_group {
        uses.entry(group).or_default().push(format!("rules {set}"));
    }
    let agents = config.discovery.agents.keys().chain(config.monitoring.agents.keys());
    for (what, of) in agents.map(|name| split(name)) {
        if let Some(group) = of.and_then(|of| of.strip_prefix('@')) {
            uses.entry(group).or_default().push(what.to_owned());
        }
    }
    uses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<(Grade, String)> {
        let root = tempfile::tempdir().unwrap();
        let (_, findings) = check(text, &SitePaths::new(root.path()));
        findings.into_iter().map(|finding| (finding.grade, finding.to_string())).collect()
    }

    #[test]
    fn the_defaults_and_what_the_documentation_shows_are_right() {
        assert_eq!(told(""), []);
        let page = include_str!("../../../docs/configuration.md");
        let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let wrong: Vec<_> =
            told(example).into_iter().filter(|(_, text)| !text.contains("rule set \"LAB\"")).collect();
        assert_eq!(wrong, []);
    }

    #[test]
    fn everything_that_cannot_work_is_told_with_its_line() {
        let cases = [
            ("bind = \"localhost\"", Grade::Refused, "line 1: bind: ", "no address with a port"),
            ("bind = \"[::]:0\"", Grade::Warning, "line 1: warning: bind: ", "another free port"),
            ("user = \"nobdoy-here\"", Grade::Warning, "line 1: warning: user: ", "no user \"nobdoy-here\""),
            ("store = \"mysql:x\"", Grade::Refused, "line 1: store: ", "use sqlite:PATH"),
            ("debug = 6", Grade::Refused, "line 1: debug: ", "0 to 5"),
            ("[heartbeats]\nprobes = 0", Grade::Refused, "line 2: heartbeats.probes: ", "from 1 to 20"),
            (
                "[enrolment]\nmax_pending = 0",
                Grade::Refused,
                "line 2: enrolment.max_pending: ",
                "from 1 to 10000",
            ),
            ("[notify]\nattempts = 0", Grade::Refused, "line 2: notify.attempts: ", "1 or more"),
            (
                "[monitoring]\nwarn = 90",
                Grade::Warning,
                "line 2: warning: monitoring.warn: ",
                "nobody will be warned",
            ),
            (
                "[rules.by_domain]\nglobal = \"BSAE\"",
                Grade::Wrong,
                "line 2: rules.by_domain.global: ",
                "is \"BASE\" meant?",
            ),
            (
                "[groups]\nweb = [\"w\"]\n[rules.by_group]\nwbe = \"BASE\"",
                Grade::Wrong,
                "line 4: rules.by_group.wbe: ",
                "is \"web\" meant?",
            ),
            (
                "[groups.a]\nquery = \"DELETE FROM hosts\"",
                Grade::Refused,
                "line 2: groups.a.query: ",
                "cannot be asked",
            ),
            (
                "[groups.a]\nquery = \"SELECT hots FROM hosts\"",
                Grade::Refused,
                "line 2: groups.a.query: ",
                "hots",
            ),
            (
                "[groups.a]\nquery_name = \"donw\"",
                Grade::Refused,
                "line 2: groups.a.query_name: ",
                "there is no query",
            ),
            (
                "[groups.a]\ngroups = [\"b\"]\n[groups.b]\ngroups = [\"a\"]",
                Grade::Refused,
                "line 2: groups.a.groups: ",
                "in itself, by way of b",
            ),
            (
                "[groups.a]\nnames = [\"WEB*\"]",
                Grade::Warning,
                "line 2: warning: groups.a.names: ",
                "no host name fits",
            ),
            (
                "[domains]\nlab = [\"a b\"]",
                Grade::Warning,
                "line 2: warning: domains.lab.names: ",
                "no host name fits",
            ),
            (
                "[discovery.agents.sshdd]\nrepeat = 5",
                Grade::Warning,
                "line 1: warning: discovery.agents.sshdd: ",
                "is \"sshd\" meant?",
            ),
            (
                "[discovery.agents.\"sshd/@dmz\"]\nrepeat = 5",
                Grade::Wrong,
                "line 1: discovery.agents.\"sshd/@dmz\": ",
                "no group \"dmz\"",
            ),
            (
                "[monitoring.agents.\"nagois::x\"]\nrepeat = 5",
                Grade::Wrong,
                "line 1: monitoring.agents.\"nagois::x\": ",
                "is \"nagios\" meant?",
            ),
            ("[oui]\nxyz = \"v\"", Grade::Wrong, "line 2: oui.xyz: ", "no start of a MAC address"),
            (
                "[rules.points.security]\nhihg = 1",
                Grade::Wrong,
                "line 2: rules.points.security.hihg: ",
                "high, medium or low",
            ),
        ];
        for (text, grade, start, part) in cases {
            let found = told(text);
            assert!(
                found.iter().any(|(g, line)| *g == grade && line.starts_with(start) && line.contains(part)),
                "{text}\n{found:#?}"
            );
        }
    }

    #[test]
    fn a_canned_query_with_parameters_names_no_hosts() {
        let found = told("[groups.a]\nquery_name = \"findip\"\n");
        assert!(found.iter().all(|(grade, _)| *grade == Grade::Refused) && !found.is_empty(), "{found:?}");
    }
}
