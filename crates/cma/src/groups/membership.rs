//! Which host is in which groups and in which domain. Pure: from the settings, the hosts with their tags, and the answers to
//! the questions that the settings ask.

use model::Designation;
use model::config::selection::Question;
use model::config::{CmaConfig, GLOBAL, Selection};
use std::collections::{BTreeMap, BTreeSet};

/// What membership follows from, besides the settings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// All hosts with their tags.
    pub hosts: BTreeMap<Designation, BTreeSet<String>>,
    /// The hosts that each question is answered with.
    pub answers: BTreeMap<Question, BTreeSet<Designation>>,
    /// Questions that got no answer: whoever was in for one of them stays.
    pub failed: BTreeSet<Question>,
}

/// Where one host stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    pub domain: String,
    /// Its groups, each with what it fits.
    pub groups: BTreeMap<String, String>,
}

/// Where all hosts stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    hosts: BTreeMap<Designation, Standing>,
}

impl Membership {
    pub fn new(hosts: BTreeMap<Designation, Standing>) -> Self {
        Self { hosts }
    }

    /// `None`: the host has come since.
    pub fn of(&self, host: &Designation) -> Option<&Standing> {
        self.hosts.get(host)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Designation, &Standing)> {
        self.hosts.iter()
    }

    /// Works it out; `before` is where the hosts stood, for questions that got no answer.
    pub fn work_out(config: &CmaConfig, facts: &Facts, before: &Membership) -> Membership {
        let groups = groups(config, facts, before);
        let mut hosts: BTreeMap<Designation, Standing> = BTreeMap::new();
        for (host, tags) in &facts.hosts {
            let mut standing = Standing::default();
            for (name, members) in &groups {
                if let Some(why) = members.get(host) {
                    standing.groups.insert((*name).to_owned(), why.clone());
                }
            }
            let old = before.of(host);
            let fits = |(name, selection): &(&String, &Selection)| {
                direct(selection, host, tags, facts).is_some()
                    || selection.groups.iter().any(|group| standing.groups.contains_key(group))
                    || stays(selection, facts, old.is_some_and(|old| old.domain == **name))
            };
            let domain = config.domains.iter().find(fits);
            standing.domain = domain.map_or(GLOBAL, |(name, _)| name.as_str()).to_owned();
            hosts.insert(host.clone(), standing);
        }
        Membership { hosts }
    }
}

/// Where a host stands of which only name and tags are known: no question was asked about it yet.
pub fn newcomer(config: &CmaConfig, host: &Designation, tags: &[String]) -> Standing {
    let tags: BTreeSet<String> = tags.iter().cloned().collect();
    let facts = Facts { hosts: BTreeMap::from([(host.clone(), tags)]), ..Facts::default() };
    let mut all = Membership::work_out(config, &facts, &Membership::default());
    all.hosts.remove(host).unwrap_or_default()
}

/// All questions that the settings ask.
pub fn questions(config: &CmaConfig) -> BTreeSet<Question> {
    config.groups.values().chain(config.domains.values()).flat_map(Selection::questions).collect()
}

type Members = BTreeMap<Designation, String>;

fn groups<'c>(config: &'c CmaConfig, facts: &Facts, before: &Membership) -> BTreeMap<&'c str, Members> {
    let mut groups: BTreeMap<&str, Members> = BTreeMap::new();
    for (name, selection) in &config.groups {
        let mut members = Members::new();
        for (host, tags) in &facts.hosts {
            let old = before.of(host).and_then(|old| old.groups.get(name));
            if let Some(why) = direct(selection, host, tags, facts) {
                members.insert(host.clone(), why);
            } else if let Some(why) = old.filter(|why| stays(selection, facts, why.starts_with(QUERY))) {
                members.insert(host.clone(), why.clone());
            }
        }
        groups.insert(name, members);
    }
    // Groups of groups, until nobody comes in any more. Groups that name each other in a circle end up with the same hosts.
    loop {
        let mut more: Vec<(&str, Designation, String)> = Vec::new();
        for (name, selection) in &config.groups {
            for inner in &selection.groups {
                for host in groups.get(inner.as_str()).into_iter().flat_map(BTreeMap::keys) {
                    let is_in = groups.get(name.as_str()).is_some_and(|members| members.contains_key(host));
                    if !is_in {
                        more.push((name, host.clone(), format!("group {inner}")));
                    }
                }
            }
        }
        if more.is_empty() {
            return groups;
        }
        for (name, host, why) in more {
            groups.entry(name).or_default().entry(host).or_insert(why);
        }
    }
}

/// How the reason begins when it is the answer to a question.
const QUERY: &str = "query";

/// What of a selection the host fits, other groups aside.
fn direct(
    selection: &Selection,
    host: &Designation,
    tags: &BTreeSet<String>,
    facts: &Facts,
) -> Option<String> {
    if let Some(pattern) = selection.name_pattern(host.as_str()) {
        return Some(format!("name {pattern}"));
    }
    if let Some(tag) = selection.tags.iter().find(|tag| tags.contains(*tag)) {
        return Some(format!("tag {tag}"));
    }
    let question = selection
        .questions()
        .find(|question| facts.answers.get(question).is_some_and(|hosts| hosts.contains(host)))?;
    Some(match question {
        Question::Sql(_) => QUERY.to_owned(),
        Question::Named(name) => format!("{QUERY} {name}"),
    })
}

/// Whether somebody who was in stays because there was no answer.
fn stays(selection: &Selection, facts: &Facts, was_in: bool) -> bool {
    was_in && selection.questions().any(|question| facts.failed.contains(&question))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::config::parse_toml;

    const CONFIG: &str = r#"
[groups]
web = ["web*"]
[groups.tagged]
tags = ["pci", "dmz"]
[groups.asked]
query = "SELECT host FROM x"
query_name = "down"
[groups.all]
names = ["db1"]
groups = ["web", "asked"]
[domains.a]
groups = ["tagged"]
[domains.b]
names = ["*1"]
query = "SELECT host FROM y"
"#;

    fn name(text: &str) -> Designation {
        Designation::new(text).unwrap()
    }

    fn facts(hosts: &[(&str, &[&str])], answers: &[(Question, &[&str])]) -> Facts {
        let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        Facts {
            hosts: hosts.iter().map(|(host, tags)| (name(host), texts(tags))).collect(),
            answers: answers
                .iter()
                .map(|(question, hosts)| (question.clone(), hosts.iter().map(|host| name(host)).collect()))
                .collect(),
            failed: BTreeSet::new(),
        }
    }

    fn sql(text: &str) -> Question {
        Question::Sql(format!("SELECT host FROM {text}"))
    }

    fn config(text: &str) -> CmaConfig {
        parse_toml("cma.toml", text).unwrap()
    }

    fn shown(membership: &Membership) -> Vec<String> {
        let groups = |standing: &Standing| {
            standing.groups.iter().map(|(name, why)| format!(" {name}({why})")).collect::<String>()
        };
        membership.iter().map(|(host, s)| format!("{host} {}{}", s.domain, groups(s))).collect()
    }

    #[test]
    fn any_of_name_tag_question_and_group_will_do() {
        let facts = facts(
            &[("web1", &[]), ("web2", &["dmz"]), ("db1", &[]), ("db2", &["x"]), ("mail", &[])],
            &[
                (sql("x"), &["db2", "nobody"]),
                (Question::Named("down".into()), &["mail"]),
                (sql("y"), &["db2"]),
            ],
        );
        let all = Membership::work_out(&config(CONFIG), &facts, &Membership::default());
        assert_eq!(
            shown(&all),
            [
                "db1 b all(name db1)",
                "db2 b all(group asked) asked(query)",
                "mail global all(group asked) asked(query down)",
                "web1 b all(group web) web(name web*)",
                // Two domains fit: the first counts.
                "web2 a all(group web) tagged(tag dmz) web(name web*)",
            ]
        );
    }

    #[test]
    fn without_an_answer_nobody_leaves_and_nobody_comes() {
        let hosts: &[(&str, &[&str])] = &[("db2", &[]), ("db3", &[])];
        let answers: &[(Question, &[&str])] = &[(sql("x"), &["db2"]), (sql("y"), &["db2"])];
        let config = config(CONFIG);
        let before = Membership::work_out(&config, &facts(hosts, answers), &Membership::default());
        let mut silent = facts(hosts, &[]);
        silent.failed = BTreeSet::from([sql("x"), sql("y")]);
        assert_eq!(Membership::work_out(&config, &silent, &before), before);
        // An empty answer is one.
        let left = Membership::work_out(&config, &facts(hosts, &[]), &before);
        assert_eq!(shown(&left), ["db2 global", "db3 global"]);
    }

    #[test]
    fn groups_in_a_circle_have_the_same_hosts() {
        let text = "[groups.a]\nnames = [\"x\"]\ngroups = [\"b\"]\n[groups.b]\ngroups = [\"c\"]\n[groups.c]\ngroups = [\"a\", \"c\", \"gone\"]\n";
        let all = Membership::work_out(
            &config(text),
            &facts(&[("x", &[]), ("y", &[])], &[]),
            &Membership::default(),
        );
        assert_eq!(shown(&all), ["x global a(name x) b(group c) c(group a)", "y global"]);
    }

    #[test]
    fn a_newcomer_has_its_name_and_its_tags() {
        let standing = newcomer(&config(CONFIG), &name("web9"), &["pci".into()]);
        assert_eq!((standing.domain.as_str(), standing.groups["web"].as_str()), ("a", "name web*"));
        assert_eq!(newcomer(&config(""), &name("x"), &[]).domain, "global");
    }

    #[test]
    fn questions_are_asked_once() {
        let text = format!("{CONFIG}\n[groups.again]\nquery = \"SELECT host FROM x\"\n");
        assert_eq!(questions(&config(&text)).len(), 3);
    }
}
