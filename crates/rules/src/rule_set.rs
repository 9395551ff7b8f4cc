//! Rule sets: files merged by id, with inheritance and with rules switched off.
//!
//! A set is a directory with `set.toml` and rule files: `<discovery>/<id>.toml`, or `<discovery>.json` in the original's
//! format. Files come in layers (built in, shipped, the site's own); of one id in one set the last layer wins. A set
//! may be based on another: its own definition of an id replaces the basis's, and what it lacks is inherited.

mod files;

pub use files::{SourceFile, builtin_files, read_set, read_sets};

use crate::rule::{Rule, RuleProblem};
use crate::rule_file::{self, SetFile};
use model::DocumentHash;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

/// Rules in all sets together; further ones are refused with a problem.
pub const MAXIMUM_RULES: usize = 20_000;
pub const MAXIMUM_SETS: usize = 256;

/// All rule sets, merged once when they are loaded.
#[derive(Debug, Clone, Default)]
pub struct RuleSets {
    sets: BTreeMap<String, Arc<EffectiveSet>>,
}

/// The rules that hold for a host with this set: its own and the inherited ones.
#[derive(Debug, Clone)]
pub struct EffectiveSet {
    name: String,
    description: String,
    /// This set, then what it is based on, and so on.
    chain: Vec<String>,
    rules: BTreeMap<String, Arc<Rule>>,
    /// By instance name or discovery type, each in order of ids.
    by_discovery: HashMap<String, Vec<Arc<Rule>>>,
    fingerprint: DocumentHash,
}

/// One set as defined, before inheritance.
#[derive(Default)]
struct Definition {
    description: String,
    based_on: Option<String>,
    ignore: BTreeMap<String, String>,
    rules: BTreeMap<String, Arc<Rule>>,
    /// Where `set.toml` is, for problems.
    file: String,
}

impl RuleSets {
    /// The built-in rules, then the sets below each directory (`best_practices/<SET>/...`); later directories win.
    /// Directories that do not exist are passed over. Problems name file, line, rule and hint, and affect only what
    /// they name.
    pub fn load(directories: &[PathBuf]) -> (RuleSets, Vec<RuleProblem>) {
        let mut files = builtin_files();
        let mut problems = Vec::new();
        for directory in directories {
            let (found, unreadable) = read_sets(directory);
            files.extend(found);
            problems.extend(unreadable);
        }
        let (sets, wrong) = RuleSets::from_files(&files);
        problems.extend(wrong);
        (sets, problems)
    }

    /// Merges files; later ones win by id.
    pub fn from_files(files: &[SourceFile]) -> (RuleSets, Vec<RuleProblem>) {
        let mut problems = Vec::new();
        let definitions = define(files, &mut problems);
        let mut sets = BTreeMap::new();
        for name in definitions.keys() {
            let effective = merge(name, &definitions, &mut problems);
            sets.insert(name.clone(), Arc::new(effective));
        }
        (RuleSets { sets }, problems)
    }

    /// The rules of a set; `None` when there is no such set.
    pub fn effective(&self, set: &str) -> Option<Arc<EffectiveSet>> {
        self.sets.get(set).cloned()
    }

    /// All sets by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<EffectiveSet>> {
        self.sets.values()
    }

    /// Rules with this id, former id or benchmark id, in any set (once each, where they are defined), by set and id.
    pub fn find(&self, id: &str) -> Vec<Arc<Rule>> {
        let own = |set: &Arc<EffectiveSet>| {
            set.rules
                .values()
                .filter(|rule| rule.set == set.name && rule.is_called(id))
                .cloned()
                .collect::<Vec<_>>()
        };
        let mut found: Vec<Arc<Rule>> = self.sets.values().flat_map(own).collect();
        // An id of ours beats a benchmark id that happens to read the same.
        if found.iter().any(|rule| rule.id.eq_ignore_ascii_case(id)) {
            found.retain(|rule| rule.id.eq_ignore_ascii_case(id));
        }
        found
    }
}

impl EffectiveSet {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn description(&self) -> &str {
        &self.description
    }

    /// This set, then what it is based on, and so on.
    pub fn chain(&self) -> &[String] {
        &self.chain
    }

    /// All rules, in order of ids.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.values()
    }

    pub fn rule(&self, id: &str) -> Option<&Arc<Rule>> {
        self.rules.get(id)
    }

    /// Rules with this id, former id or benchmark id (`RHEL-08-040221`, `V-38528`), in order of ids.
    pub fn find(&self, id: &str) -> Vec<&Arc<Rule>> {
        match self.rules.get(id) {
            Some(rule) => vec![rule],
            None => self.rules.values().filter(|rule| rule.is_called(id)).collect(),
        }
    }

    /// The rules that read this document, in order of ids: those of the instance name if there are any, else those of
    /// the discovery type.
    pub fn rules_for(&self, instance: &str, discovertype: &str) -> &[Arc<Rule>] {
        self.by_discovery
            .get(instance)
            .or_else(|| self.by_discovery.get(discovertype))
            .map_or(&[], Vec::as_slice)
    }

    /// Changes when anything changes that results depend on; for deciding whether hosts must be evaluated again.
    pub fn fingerprint(&self) -> DocumentHash {
        self.fingerprint
    }
}

/// Merges one chain, nearest set first: the nearest definition of an id replaces the others as a whole.
pub fn merge_chain<T: Clone>(nearest_first: &[BTreeMap<String, T>]) -> BTreeMap<String, T> {
    let mut merged = BTreeMap::new();
    for set in nearest_first.iter().rev() {
        merged.extend(set.iter().map(|(id, rule)| (id.clone(), rule.clone())));
    }
    merged
}

fn define(files: &[SourceFile], problems: &mut Vec<RuleProblem>) -> BTreeMap<String, Definition> {
    let mut definitions: BTreeMap<String, Definition> = BTreeMap::new();
    let mut count = 0usize;
    for file in files {
        if !definitions.contains_key(&file.set) && definitions.len() >= MAXIMUM_SETS {
            problems.push(RuleProblem::new(
                &file.file,
                format!("more than {MAXIMUM_SETS} rule sets"),
                "remove some",
            ));
            return definitions;
        }
        let definition = definitions.entry(file.set.clone()).or_default();
        if file.is_set_description() {
            match rule_file::parse_set(&file.text, &file.file) {
                Ok(SetFile { description, based_on, ignore }) => {
                    definition.description = description.trim().to_string();
                    definition.based_on = Some(based_on.trim().to_string()).filter(|name| !name.is_empty());
                    definition.ignore.extend(ignore);
                    definition.file = file.file.clone();
                }
                Err(problem) => problems.push(problem),
            }
            continue;
        }
        match rule_file::parse_any(&file.text, &file.set, &file.file) {
            Ok((rules, wrong)) => {
                problems.extend(wrong);
                for rule in rules.into_iter().filter(|rule| rule.id != "copyright") {
                    count += 1;
                    if count > MAXIMUM_RULES {
                        problems.push(RuleProblem::new(
                            &file.file,
                            format!("more than {MAXIMUM_RULES} rules"),
                            "remove some",
                        ));
                        return definitions;
                    }
                    let same_layer =
                        definition.rules.get(&rule.id).filter(|known| file.same_layer(&known.source));
                    if let Some(known) = same_layer {
                        let message = format!("the id is also used in {}", known.source);
                        problems.push(
                            RuleProblem::new(&file.file, message, "give one of them another id")
                                .rule(&rule.id),
                        );
                    }
                    definition.rules.insert(rule.id.clone(), rule.shared());
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    definitions
}

fn merge(
    name: &str,
    definitions: &BTreeMap<String, Definition>,
    problems: &mut Vec<RuleProblem>,
) -> EffectiveSet {
    let mut chain: Vec<(&str, &Definition)> = Vec::new();
    let mut next = definitions.get_key_value(name);
    while let Some((set, definition)) = next {
        chain.push((set, definition));
        next = None;
        let Some(basis) = &definition.based_on else { continue };
        let told_by_itself = chain.len() == 1;
        if chain.iter().any(|(seen, _)| seen == basis) {
            if chain[0].0 == basis {
                let message = format!("the rule sets are based on each other in a circle: {set} on {basis}");
                problems.push(RuleProblem::new(&definition.file, message, "correct based_on in one of them"));
            }
            continue;
        }
        next = definitions.get_key_value(basis);
        if next.is_none() && told_by_itself {
            let message = format!("the rule set {set} is based on {basis:?}, which does not exist");
            problems.push(RuleProblem::new(
                &definition.file,
                message,
                "correct based_on, or install that set",
            ));
        }
    }
    let names = chain.iter().map(|(set, _)| set.to_string()).collect();
    let mut rules: BTreeMap<String, Arc<Rule>> = BTreeMap::new();
    for (position, (_, definition)) in chain.iter().enumerate().rev() {
        rules.extend(definition.rules.iter().map(|(id, rule)| (id.clone(), rule.clone())));
        for (wanted, reason) in &definition.ignore {
            let found: Vec<String> = match rules.contains_key(wanted) {
                true => vec![wanted.clone()],
                false => {
                    rules.values().filter(|rule| rule.is_called(wanted)).map(|rule| rule.id.clone()).collect()
                }
            };
            // Each mistake is told once, for the set whose file it is in.
            if found.is_empty() && position == 0 {
                let message = format!("[ignore] names {wanted:?}, which is no rule of this set");
                problems.push(RuleProblem::new(
                    &definition.file,
                    message,
                    "correct the id, or remove the line",
                ));
            }
            for id in found {
                if let Some(rule) = rules.get(&id) {
                    let off = Rule { ignored: Some(reason.trim().to_string()), ..Rule::clone(rule) };
                    rules.insert(id, off.shared());
                }
            }
        }
    }
    let mut by_discovery: HashMap<String, Vec<Arc<Rule>>> = HashMap::new();
    let mut substance = String::new();
    for rule in rules.values() {
        by_discovery.entry(rule.discovery.clone()).or_default().push(rule.clone());
        let parts =
            (&rule.id, &rule.discovery, &rule.category, rule.severity, &rule.expression.text, &rule.ignored);
        substance.push_str(&format!("{parts:?}\n"));
    }
    EffectiveSet {
        name: name.to_string(),
        description: definitions
            .get(name)
            .map(|definition| definition.description.clone())
            .unwrap_or_default(),
        chain: names,
        rules,
        by_discovery,
        fingerprint: DocumentHash::of(substance.as_bytes()),
    }
}

#[cfg(test)]
mod tests;
