//! `nanoprobe audit`: this host, an image or a chroot against a rule set, once, without a CMA.

use crate::cli::AuditArgs;
use crate::{collector, discover, executables};
use discovery::{Discovery, Host, Instance, Parameters};
use model::Envelope;
use model::paths::SitePaths;
use output::{Format, Rows, note};
use rules::{EffectiveSet, OperatingSystem, Points, Rule, RuleResult, RuleSets, Status};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The discovery whose document decides which rules there are.
const OS: &str = "os";
/// What the kernel is set to, and what the files say: the same names and values.
const RUNNING_KERNEL: &str = "proc_sys";
const KERNEL_FILES: &str = "_init_sysctl_conf";
/// After so long people are told what goes on.
const PATIENCE: Duration = Duration::from_secs(2);
const BY_HAND: Duration = Duration::from_secs(300);

/// What an audit found.
#[derive(Debug)]
pub struct Audit {
    pub os: Option<OperatingSystem>,
    pub set: Arc<EffectiveSet>,
    /// Each result with its rule, the worst first.
    pub results: Vec<(Arc<Rule>, RuleResult)>,
    /// What could not be read, one sentence each, with the discovery in front.
    pub errors: Vec<String>,
}

/// Carries out the sub-command; the exit code: 0 nothing fails, 2 something does, 1 no audit was possible.
pub fn run(arguments: &AuditArgs, site: &SitePaths, host_root: &Path) -> u8 {
    match prepared(arguments, site, host_root) {
        Ok(audit) => match print(&audit, arguments) {
            Ok(()) if audit.results.iter().any(|(_, result)| result.status == Status::Fail) => 2,
            Ok(()) => 0,
            Err(error) => {
                note!("nanoprobe: cannot write the answer: {error}");
                1
            }
        },
        Err(problem) => {
            note!("nanoprobe: {}", model::text::printable(&problem));
            1
        }
    }
}

fn prepared(arguments: &AuditArgs, site: &SitePaths, host_root: &Path) -> Result<Audit, String> {
    if !host_root.is_dir() {
        return Err(format!("--host-root {}: there is no such directory", host_root.display()));
    }
    let (sets, problems) = RuleSets::load(&[site.shared("best_practices"), site.site("best_practices")]);
    for problem in &problems {
        note!("nanoprobe: {}", model::text::printable(&problem.to_string()));
    }
    let audit = audit(&sets, &arguments.set, host_root, arguments.deep, site)?;
    if arguments.rules.is_empty() {
        return Ok(audit);
    }
    let wanted = |rule: &Rule| arguments.rules.iter().any(|id| rule.is_called(id));
    if let Some(id) =
        arguments.rules.iter().find(|id| !audit.results.iter().any(|(rule, _)| rule.is_called(id)))
    {
        let os = audit
            .os
            .as_ref()
            .map_or_else(|| "an unknown system".into(), |os| format!("{} {}", os.id, os.version));
        let elsewhere = match sets.find(id).first() {
            Some(rule) => format!("--set {} has it", rule.set),
            None => "`nanoprobe audit --all` shows those that there are".into(),
        };
        return Err(format!("the set {} has no rule {id} for {os}; {elsewhere}", audit.set.name()));
    }
    let results = audit.results.into_iter().filter(|(rule, _)| wanted(rule)).collect();
    Ok(Audit { results, ..audit })
}

/// Runs the discoveries that the set's rules read, and the rules over what they found.
pub fn audit(
    sets: &RuleSets,
    set: &str,
    host_root: &Path,
    deep: bool,
    site: &SitePaths,
) -> Result<Audit, String> {
    let mut documents = Documents::new(host_root, deep);
    let os = documents.data_of_type(OS).as_deref().and_then(OperatingSystem::of);
    let set = sets.effective_for(set, os.as_ref()).ok_or_else(|| {
        let names: Vec<&str> = sets.iter().map(|set| set.name()).collect();
        format!("there is no rule set {set:?}; there are {}", names.join(", "))
    })?;
    let read: BTreeSet<&str> = set.rules().map(|rule| rule.discovery.as_str()).collect();
    let mut results: BTreeMap<String, (Arc<Rule>, RuleResult)> = BTreeMap::new();
    for name in read {
        let instances = documents.instances_for(name, site);
        let rules: Vec<Arc<Rule>> = set.rules().filter(|rule| rule.discovery == name).cloned().collect();
        if instances.is_empty() {
            let reason = json!({"NODATA": format!("there is no discovery {name} here")});
            add(&mut results, &rules, rules::evaluate(&rules, &reason, &Points::new()));
        }
        for instance in instances {
            // A rule that names an instance beats those of its type, as in the CMA.
            let (data, discovertype) = documents.collect(&instance);
            let rules = set.rules_for(&instance, &discovertype).to_vec();
            let others = documents.others(&rules, &discovertype);
            let judged =
                rules::evaluate_with(&rules, &data, &Points::new(), &|other| others.get(other).cloned());
            add(&mut results, &rules, judged);
        }
    }
    let mut results: Vec<_> = results.into_values().collect();
    results.sort_by(|(_, a), (_, b)| rank(a).cmp(&rank(b)).then_with(|| a.id.cmp(&b.id)));
    Ok(Audit { os, set, results, errors: documents.errors })
}

/// Of several instances that a rule judged, the worst counts.
fn add(all: &mut BTreeMap<String, (Arc<Rule>, RuleResult)>, rules: &[Arc<Rule>], results: Vec<RuleResult>) {
    for result in results {
        let Some(rule) = rules.iter().find(|rule| rule.id == result.id) else { continue };
        match all.get(&result.id) {
            Some((_, known)) if rank(known) <= rank(&result) => {}
            _ => drop(all.insert(result.id.clone(), (rule.clone(), result))),
        }
    }
}

/// The worst first: failures by severity, then what passed, is switched off, was not judged.
fn rank(result: &RuleResult) -> (u8, std::cmp::Reverse<rules::Severity>) {
    let status = match result.status {
        Status::Fail => 0,
        Status::Pass => 1,
        Status::Ignore => 2,
        Status::NotApplicable => 3,
    };
    (status, std::cmp::Reverse(result.severity))
}

/// What the discoveries found, each run at most once.
struct Documents<'a> {
    host_root: &'a Path,
    is_running: bool,
    deep: bool,
    /// Instance → `data` and discovery type.
    found: BTreeMap<String, (Arc<Value>, String)>,
    errors: Vec<String>,
    started: Instant,
}

impl<'a> Documents<'a> {
    fn new(host_root: &'a Path, deep: bool) -> Self {
        let is_running = Host::at(host_root).is_running_system();
        Self {
            host_root,
            is_running,
            deep,
            found: BTreeMap::new(),
            errors: Vec::new(),
            started: Instant::now(),
        }
    }

    /// The instances of a discovery that rules name by its type or by an instance.
    fn instances_for(&mut self, name: &str, site: &SitePaths) -> Vec<String> {
        match discovery::find(name) {
            Some((discovery, _)) if discovery.name == name && discovery.instances.len() > 1 => {
                discovery.instances.iter().map(|instance| instance.name.to_owned()).collect()
            }
            Some((_, instance)) => vec![instance.name.to_owned()],
            // A site's own discoveries look at the running system only.
            None if self.is_running => self.executable(name, site).into_iter().collect(),
            None => Vec::new(),
        }
    }

    fn executable(&mut self, name: &str, site: &SitePaths) -> Option<String> {
        let scan = executables::scan(&discover::directories(site));
        let executable = scan.executables.iter().find(|e| e.name == name || e.instance == name)?;
        let (result, _) =
            collector::run_executable(executable, &Host::running().name(), &Parameters::new(), BY_HAND);
        match result {
            Ok(envelope) => self.keep(&executable.instance, envelope),
            Err(error) => self.errors.push(format!("{}: {error}", executable.path.display())),
        }
        Some(executable.instance.clone())
    }

    fn keep(&mut self, instance: &str, envelope: Envelope) {
        self.errors.extend(envelope.errors.iter().map(|error| format!("{}: {error}", envelope.discovertype)));
        self.found.insert(instance.to_owned(), (Arc::new(envelope.data), envelope.discovertype));
    }

    /// `data` and discovery type of an instance.
    fn collect(&mut self, instance: &str) -> (Arc<Value>, String) {
        if let Some(known) = self.found.get(instance) {
            return known.clone();
        }
        let Some((discovery, used)) = discovery::find(instance) else {
            return (Arc::new(json!({"NODATA": "the discovery gave nothing"})), instance.to_owned());
        };
        if discovery.name == RUNNING_KERNEL && !self.is_running {
            let files = self.collect(KERNEL_FILES).0;
            let kernel = (Arc::new(kernel_of_files(&files)), discovery.name.to_owned());
            self.found.insert(instance.to_owned(), kernel.clone());
            return kernel;
        }
        if discovery.is_expensive() && !self.deep {
            return (Arc::new(not_looked_at(discovery)), discovery.name.to_owned());
        }
        if self.started.elapsed() > PATIENCE && std::io::stderr().is_terminal() {
            note!("... {}", discovery.description);
        }
        self.run(discovery, used);
        self.found.get(instance).cloned().unwrap_or_else(|| (Arc::new(json!({})), discovery.name.to_owned()))
    }

    fn run(&mut self, discovery: &'static Discovery, instance: &Instance) {
        let envelope =
            discovery::run(discovery, instance.name, &Host::at(self.host_root), &Parameters::new());
        self.keep(instance.name, envelope);
    }

    fn data_of_type(&mut self, name: &str) -> Option<Arc<Value>> {
        let (_, instance) = discovery::find(name)?;
        Some(self.collect(instance.name).0)
    }

    /// The other documents that the rules' conditions look at.
    fn others(&mut self, rules: &[Arc<Rule>], own: &str) -> BTreeMap<String, Arc<Value>> {
        let names: BTreeSet<&str> =
            rules.iter().filter_map(|rule| rule.applies.as_ref()?.discovery.as_deref()).collect();
        let others = names.into_iter().filter(|name| *name != own);
        others.filter_map(|name| Some((name.to_owned(), self.data_of_type(name)?))).collect()
    }
}

/// No kernel runs in an image: there the files that will set the kernel's parameters stand for what it has, and are
/// what is configured as well. `files` is the document of `sysctl_conf`, in which a name with a dot is a parameter.
fn kernel_of_files(files: &Value) -> Value {
    let mut kernel = files.clone();
    if let Some(data) = kernel.as_object_mut().filter(|data| !data.contains_key("NODATA")) {
        let configured: Map<String, Value> =
            data.iter().filter(|(name, _)| name.contains('.')).map(|(k, v)| (k.clone(), v.clone())).collect();
        data.insert("_configured".into(), Value::Object(configured));
    }
    kernel
}

fn not_looked_at(discovery: &Discovery) -> Value {
    json!({"NODATA": format!("not looked at: {} takes long; add --deep", discovery.name)})
}

fn print(audit: &Audit, arguments: &AuditArgs) -> std::io::Result<()> {
    let format = arguments.output.unwrap_or_else(Format::by_terminal);
    let by_id = !arguments.rules.is_empty();
    if by_id && matches!(format, Format::Table | Format::Script) {
        let page = |(rule, result): &(Arc<Rule>, RuleResult)| {
            let status = format!("{}{}", result.status.to_string().to_uppercase(), found(result));
            format!("{}\n{}", model::text::printable(&status), rule.page())
        };
        return output::print(&audit.results.iter().map(page).collect::<Vec<_>>().join("\n"));
    }
    let texts = matches!(format, Format::Json | Format::Jsonl);
    let mut columns = vec!["status", "severity", "rule", "title", "found"];
    if texts {
        columns.extend([
            "category",
            "discovery",
            "note",
            "values",
            "why",
            "check",
            "fix_now",
            "fix_permanently",
            "references",
        ]);
    }
    let mut rows = Rows::new(&columns);
    let shown = |status: Status| arguments.all || by_id || status == Status::Fail;
    for (rule, result) in audit.results.iter().filter(|(_, result)| shown(result.status)) {
        let mut row = vec![
            json!(result.status),
            json!(result.severity),
            json!(result.id),
            json!(rule.title),
            json!(found(result).trim_start_matches(": ")),
        ];
        if texts {
            row.extend([
                json!(result.category),
                json!(rule.discovery),
                json!(result.note),
                json!(result.values),
                json!(rule.why),
                json!(rule.check),
                json!(rule.fix_now),
                json!(rule.fix_permanently),
                json!(rule.references),
            ]);
        }
        rows.rows.push(row);
    }
    rows.print(format)?;
    summary(audit, arguments);
    Ok(())
}

/// What decided, short: `: net.ipv4.ip_forward = 1`, or why nothing could be decided.
fn found(result: &RuleResult) -> String {
    if !result.note.is_empty() {
        return format!(": {}", result.note);
    }
    let value = |(name, value): (&String, &Value)| match value {
        Value::Null => format!("{name} is not set"),
        value => format!("{name} = {}", model::text::shortened(&model::template::plain(value), 60)),
    };
    let values: Vec<String> = result.values.iter().take(3).map(value).collect();
    let more = if result.values.len() > 3 { " ..." } else { "" };
    if values.is_empty() { String::new() } else { format!(": {}{more}", values.join(", ")) }
}

fn summary(audit: &Audit, arguments: &AuditArgs) {
    let count = |status: Status| audit.results.iter().filter(|(_, result)| result.status == status).count();
    let system = match &audit.os {
        Some(os) => format!("{} {}", os.id, os.version).trim().to_owned(),
        None => "an unknown operating system".into(),
    };
    for error in audit.errors.iter().take(10) {
        note!("nanoprobe: {}", model::text::printable(error));
    }
    if audit.errors.len() > 10 {
        note!("nanoprobe: {} more things could not be read", audit.errors.len() - 10);
    }
    note!(
        "{} on {}: {} failed, {} passed, {} not judged, {} switched off.",
        audit.set.chain().join(" + "),
        model::text::printable(&system),
        count(Status::Fail),
        count(Status::Pass),
        count(Status::NotApplicable),
        count(Status::Ignore)
    );
    if !rustix::process::geteuid().is_root() {
        note!("Not everything can be read without being root; run it with sudo to judge the rest.");
    }
    if arguments.rules.is_empty() && count(Status::Fail) > 0 {
        note!("What is behind a rule, and how to mend it: nanoprobe audit --rule ID. All rules: --all.");
    }
}

#[cfg(test)]
mod tests;
