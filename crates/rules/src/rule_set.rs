//! Rule sets: files merged by id, with inheritance and with rules switched off.
//!
//! A set is a directory with `set.toml` and rule files: `<discovery>/<id>.toml`, or `<discovery>.json` in the original's
//! format. Files come in layers (built in, shipped, the site's own); of one id in one set the last layer wins. A set
//! may be based on another: its own definition of an id replaces the basis's, and what it lacks is inherited.
//!
//! The set `catalogue` holds the rules themselves; most other sets only select from it, by benchmark. Rules that give
//! one subject different values may stand there side by side: of a subject, a set keeps the nearest.
//! A set may hand hosts of an operating system to another set (`[[pick]]`); it then keeps what is its own.

mod files;
mod os;

pub use files::{SourceFile, builtin_files, read_set, read_sets};
pub use os::OperatingSystem;

use crate::rule::{Rule, RuleProblem};
use crate::rule_file::{self, Pick, SetFile};
use model::DocumentHash;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

/// Rules in all sets together; further ones are refused with a problem.
pub const MAXIMUM_RULES: usize = 20_000;
pub const MAXIMUM_SETS: usize = 256;
/// The set that others select from.
pub const CATALOGUE: &str = "catalogue";

/// All rule sets, merged once when they are loaded.
#[derive(Debug, Clone, Default)]
pub struct RuleSets {
    sets: BTreeMap<String, Arc<EffectiveSet>>,
    /// By set, where it or a basis of it picks: the picks in order, each with what the set then is.
    picked: BTreeMap<String, Vec<(Pick, Arc<EffectiveSet>)>>,
}

/// The rules that hold for a host with this set: its own and the inherited ones.
#[derive(Debug, Clone)]
pub struct EffectiveSet {
    name: String,
    description: String,
    /// This set, then what it is based on, and so on.
    chain: Vec<String>,
    rules: BTreeMap<String, Arc<Rule>>,
    /// Discovery type → discoveries with rules whose `[applies]` looks at it.
    depending: BTreeMap<String, Vec<String>>,
    /// By instance name or discovery type, each in order of ids.
    by_discovery: HashMap<String, Vec<Arc<Rule>>>,
    fingerprint: DocumentHash,
}

/// One set as defined, before inheritance.
#[derive(Default)]
struct Definition {
    description: String,
    based_on: Option<String>,
    select: Vec<String>,
    chosen: Vec<String>,
    pick: Vec<Pick>,
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
        let own: BTreeMap<&str, BTreeMap<String, Arc<Rule>>> = definitions
            .iter()
            .map(|(name, definition)| (name.as_str(), select(definition, &definitions, &mut problems)))
            .collect();
        let mut sets = BTreeMap::new();
        let mut picked = BTreeMap::new();
        for name in definitions.keys() {
            let plain = chain(name, None, &definitions, &mut problems);
            let picks =
                plain.iter().map(|set| definitions[*set].pick.as_slice()).find(|pick| !pick.is_empty());
            let mut effective = merge(&plain, &definitions, &own, &mut problems);
            let mut variants = Vec::new();
            for pick in picks.unwrap_or_default() {
                // What is wrong in one of them was told above, or when the picked set itself was merged.
                let chain = chain(name, Some(&pick.set), &definitions, &mut Vec::new());
                let variant = merge(&chain, &definitions, &own, &mut Vec::new());
                let substance = format!("{} {pick:?} {}", effective.fingerprint, variant.fingerprint);
                effective.fingerprint = DocumentHash::of(substance.as_bytes());
                variants.push((pick.clone(), Arc::new(variant)));
            }
            if !variants.is_empty() {
                picked.insert(name.clone(), variants);
            }
            sets.insert(name.clone(), Arc::new(effective));
        }
        (RuleSets { sets, picked }, problems)
    }

    /// The rules of a set where nothing is known of the host; `None` when there is no such set.
    pub fn effective(&self, set: &str) -> Option<Arc<EffectiveSet>> {
        self.sets.get(set).cloned()
    }

    /// The rules of a set for hosts with this operating system; `None` when there is no such set.
    pub fn effective_for(&self, set: &str, os: Option<&OperatingSystem>) -> Option<Arc<EffectiveSet>> {
        let fits = |os: &OperatingSystem| {
            self.picked.get(set)?.iter().find(|(pick, _)| os.fits(pick)).map(|(_, variant)| variant.clone())
        };
        os.and_then(fits).or_else(|| self.effective(set))
    }

    /// Which operating systems get which set in place of this one, in the order in which they are tried.
    pub fn picks(&self, set: &str) -> impl Iterator<Item = &Pick> {
        self.picked.get(set).into_iter().flatten().map(|(pick, _)| pick)
    }

    /// A rule as a set has it on some host: for its texts, where the host's operating system is not at hand.
    pub fn rule(&self, set: &str, id: &str) -> Option<&Arc<Rule>> {
        let variants = self.picked.get(set).into_iter().flatten().map(|(_, variant)| variant);
        self.sets.get(set).into_iter().chain(variants).find_map(|set| set.rule(id))
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

    /// The discoveries with rules whose `[applies]` looks at the document of `discovery`.
    pub fn depending_on(&self, discovery: &str) -> &[String] {
        self.depending.get(discovery).map_or(&[], Vec::as_slice)
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
                Ok(SetFile { description, based_on, select, rules, ignore, pick }) => {
                    definition.description = description.trim().to_string();
                    definition.based_on = Some(based_on.trim().to_string()).filter(|name| !name.is_empty());
                    definition.select.extend(select);
                    definition.chosen.extend(rules);
                    definition.ignore.extend(ignore);
                    // The nearest layer decides first.
                    definition.pick.splice(..0, pick);
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

/// The rules that a set has by itself: what it selects from the catalogue, and those in its own directory.
fn select(
    definition: &Definition,
    definitions: &BTreeMap<String, Definition>,
    problems: &mut Vec<RuleProblem>,
) -> BTreeMap<String, Arc<Rule>> {
    let mut rules = BTreeMap::new();
    let catalogue = definitions.get(CATALOGUE).map(|catalogue| &catalogue.rules);
    let is_selected =
        |rule: &Rule| definition.select.iter().any(|benchmark| rule.references.contains_key(benchmark));
    for rule in catalogue.into_iter().flat_map(BTreeMap::values).filter(|rule| is_selected(rule)) {
        rules.insert(rule.id.clone(), rule.clone());
    }
    for id in &definition.chosen {
        match catalogue.and_then(|catalogue| catalogue.get(id)) {
            Some(rule) => drop(rules.insert(id.clone(), rule.clone())),
            None => {
                let message = format!("rules names {id:?}, which is no rule of the set {CATALOGUE}");
                problems.push(RuleProblem::new(
                    &definition.file,
                    message,
                    "correct the id, or remove it from the list",
                ));
            }
        }
    }
    rules.extend(definition.rules.iter().map(|(id, rule)| (id.clone(), rule.clone())));
    rules
}

/// The sets that a set consists of, nearest first: itself, what it picks for the host, what it is based on.
fn chain<'d>(
    name: &'d str,
    picked: Option<&'d str>,
    definitions: &'d BTreeMap<String, Definition>,
    problems: &mut Vec<RuleProblem>,
) -> Vec<&'d str> {
    let mut chain: Vec<&str> = Vec::new();
    let mut picked = picked;
    let mut next = Some(name);
    while let Some(set) = next.take() {
        let Some(definition) = definitions.get(set) else { break };
        chain.push(set);
        if let Some(target) = picked.filter(|_| !definition.pick.is_empty()) {
            picked = None;
            for set in self::chain(target, None, definitions, &mut Vec::new()) {
                if !chain.contains(&set) {
                    chain.push(set);
                }
            }
        }
        let Some(basis) = definition.based_on.as_deref() else { continue };
        let told_by_itself = set == name;
        if chain.contains(&basis) {
            if name == basis {
                let message = format!("the rule sets are based on each other in a circle: {set} on {basis}");
                problems.push(RuleProblem::new(&definition.file, message, "correct based_on in one of them"));
            }
            continue;
        }
        next = Some(basis);
        if told_by_itself && !definitions.contains_key(basis) {
            let message = format!("the rule set {set} is based on {basis:?}, which does not exist");
            problems.push(RuleProblem::new(
                &definition.file,
                message,
                "correct based_on, or install that set",
            ));
        }
    }
    if let Some(definition) = definitions.get(name) {
        for pick in definition.pick.iter().filter(|pick| !definitions.contains_key(&pick.set)) {
            let message = format!("the rule set {name} picks {:?}, which does not exist", pick.set);
            problems.push(RuleProblem::new(
                &definition.file,
                message,
                "correct set under [[pick]], or install that set",
            ));
        }
    }
    chain
}

/// The sets of a chain as one; the nearest definition of an id, and of a subject, replaces the others.
fn merge(
    chain: &[&str],
    definitions: &BTreeMap<String, Definition>,
    own: &BTreeMap<&str, BTreeMap<String, Arc<Rule>>>,
    problems: &mut Vec<RuleProblem>,
) -> EffectiveSet {
    let mut rules: BTreeMap<String, Arc<Rule>> = BTreeMap::new();
    for (position, set) in chain.iter().enumerate().rev() {
        let (Some(definition), Some(nearer)) = (definitions.get(*set), own.get(set)) else { continue };
        let subjects: BTreeSet<&str> = nearer.values().filter_map(|rule| rule.subject.as_deref()).collect();
        rules.retain(|_, rule| rule.subject.as_deref().is_none_or(|subject| !subjects.contains(subject)));
        rules.extend(nearer.iter().map(|(id, rule)| (id.clone(), rule.clone())));
        for (wanted, reason) in &definition.ignore {
            let found: Vec<String> = match rules.contains_key(wanted) {
                true => vec![wanted.clone()],
                false => {
                    rules.values().filter(|rule| rule.is_called(wanted)).map(|rule| rule.id.clone()).collect()
                }
            };
            // Each mistake is told once, for the set whose file it is in. A rule that only some hosts have is none.
            let exists =
                || definitions.values().flat_map(|set| set.rules.values()).any(|rule| rule.is_called(wanted));
            if found.is_empty() && position == 0 && !exists() {
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
    let mut depending: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut substance = String::new();
    for rule in rules.values() {
        by_discovery.entry(rule.discovery.clone()).or_default().push(rule.clone());
        if let Some(other) = rule.applies.as_ref().and_then(|applies| applies.discovery.as_ref()) {
            let depending = depending.entry(other.clone()).or_default();
            if *other != rule.discovery && !depending.contains(&rule.discovery) {
                depending.push(rule.discovery.clone());
            }
        }
        let applies = rule.applies.as_ref().map(|a| (&a.discovery, &a.expression.text, &a.reason));
        let parts =
            (&rule.id, &rule.discovery, &rule.category, rule.severity, &rule.expression.text, &rule.ignored);
        substance.push_str(&format!("{parts:?} {applies:?}\n"));
    }
    let name = chain.first().copied().unwrap_or_default();
    EffectiveSet {
        name: name.to_string(),
        description: definitions
            .get(name)
            .map(|definition| definition.description.clone())
            .unwrap_or_default(),
        chain: chain.iter().map(ToString::to_string).collect(),
        rules,
        depending,
        by_discovery,
        fingerprint: DocumentHash::of(substance.as_bytes()),
    }
}

#[cfg(test)]
mod tests;
