//! `rules`: show, check, load and try rules. Works on the files, with or without a running CMA.

use crate::client::post;
use crate::{Context, Failure, Finding};
use model::text::printable;
use output::{Format, Rows, note, print};
use rules::{Expression, OperatingSystem, Points, RuleProblem, RuleSets};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// All rules of a rule set
    List {
        /// Rule set
        #[arg(default_value = "BASE")]
        set: String,
        /// As hosts with this operating system have it, by ID and VERSION_ID of its os-release
        #[arg(long, value_name = "ID:VERSION", value_parser = system)]
        os: Option<OperatingSystem>,
    },
    /// What a rule checks, why, how to check by hand, how to fix it now and for good, all benchmark ids
    Show {
        /// Its id, a former id, or an id of a benchmark: nist_V-38528, V-38528, RHEL-08-040221, CCE-84110-6
        id: String,
        /// As this rule set has it
        #[arg(long)]
        set: Option<String>,
    },
    /// Check a directory of rules and make it the rule set SET of this site
    Load {
        directory: PathBuf,
        set: String,
        /// The set whose rules hold where this one has none
        based_on: Option<String>,
    },
    /// Check rule files: language, texts, examples
    Check {
        /// A rule set, or a directory of rule sets
        directory: PathBuf,
    },
    /// Evaluate an expression, or a file of vectors
    #[command(group = clap::ArgGroup::new("input").required(true).args(["expression", "vectors"]))]
    Eval {
        /// The expression, for instance 'EQ($net.ipv4.ip_forward, 0)'
        #[arg(value_name = "EXPR", requires = "data")]
        expression: Option<String>,
        /// File with the context: a JSON object
        #[arg(long, value_name = "FILE")]
        data: Option<PathBuf>,
        /// File with one {"id","expr","context"} a line
        #[arg(long, value_name = "FILE", conflicts_with = "data")]
        vectors: Option<PathBuf>,
    },
    /// Status of the rules of one file on a discovery's data
    Status {
        /// A rule file
        #[arg(long, value_name = "FILE")]
        rules: PathBuf,
        /// A discovery's `data`: a JSON object
        #[arg(long, value_name = "FILE")]
        data: PathBuf,
    },
}

/// The largest file that is read whole, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    match &options.command {
        Command::List { set, os } => list(context, set, os.as_ref()),
        Command::Show { id, set } => show(context, id, set.as_deref()),
        Command::Load { directory, set, based_on } => load(context, directory, set, based_on.as_deref()),
        Command::Check { directory } => check(context, directory),
        Command::Eval { vectors: Some(file), .. } => {
            print(
                &rules::vectors::evaluate_vectors(&read(file)?)
                    .map_err(|e| Failure::new(format!("{}: {e}", file.display())))?,
            )?;
            Ok(Finding::Nothing)
        }
        Command::Eval { expression, data, .. } => eval(expression.as_deref().unwrap_or(""), data.as_deref()),
        Command::Status { rules, data } => status(rules, data),
    }
}

/// What is wrong with the rule files of this site, for `doctor`.
pub fn problems(context: &Context) -> Vec<String> {
    let (_, problems) = RuleSets::load(&directories(context));
    problems.iter().map(RuleProblem::to_string).collect()
}

fn directories(context: &Context) -> Vec<PathBuf> {
    vec![context.paths.shared("best_practices"), context.paths.site("best_practices")]
}

fn sets(context: &Context) -> RuleSets {
    let (sets, problems) = RuleSets::load(&directories(context));
    problems.iter().for_each(report);
    sets
}

fn report(problem: &RuleProblem) {
    note!("assimcli: {}", printable(&problem.to_string()));
}

/// `rhel:9.4`
fn system(text: &str) -> Result<OperatingSystem, String> {
    let (id, version) = text.split_once(':').unwrap_or((text, ""));
    let data = json!({"id": id, "version_id": version});
    OperatingSystem::of(&data).ok_or_else(|| "expected ID:VERSION, for example debian:12".to_owned())
}

fn list(context: &Context, name: &str, os: Option<&OperatingSystem>) -> Result<Finding, Failure> {
    let sets = sets(context);
    let Some(set) = sets.effective_for(name, os) else { return Err(no_such_set(&sets, name)) };
    let mut rows = Rows::new(&["id", "severity", "category", "discovery", "title", "set"]);
    for rule in set.rules() {
        let title = rule
            .ignored
            .as_ref()
            .map_or_else(|| rule.title.clone(), |why| format!("(ignored: {why}) {}", rule.title));
        rows.rows.push(vec![
            json!(rule.id),
            json!(rule.severity.as_str()),
            json!(rule.category),
            json!(rule.discovery),
            json!(title),
            json!(rule.set),
        ]);
    }
    rows.print(context.format)?;
    if os.is_none() && context.format == Format::Table && sets.picks(name).next().is_some() {
        let picks: Vec<String> = sets
            .picks(name)
            .map(|pick| format!("{} {} {}", pick.os, pick.versions.join(" "), pick.set).replace("  ", " "))
            .collect();
        note!(
            "Hosts get further rules by their operating system ({}): see them with --os, for example --os debian:12.",
            picks.join(", ")
        );
    }
    Ok(Finding::Nothing)
}

fn no_such_set(sets: &RuleSets, name: &str) -> Failure {
    let names: Vec<&str> = sets.iter().map(|set| set.name()).collect();
    Failure::new(format!("there is no rule set {name:?}")).hint(format!("There are: {}.", names.join(", ")))
}

fn show(context: &Context, id: &str, set: Option<&str>) -> Result<Finding, Failure> {
    let sets = sets(context);
    let found = match set {
        Some(name) => match sets.effective(name) {
            Some(set) => set.find(id).into_iter().cloned().collect(),
            None => return Err(no_such_set(&sets, name)),
        },
        None => sets.find(id),
    };
    if found.is_empty() {
        let known = sets.iter().flat_map(|set| set.rules().flat_map(|rule| rule.names()));
        return Err(Failure::new(format!("no rule is called {id:?}"))
            .hint("`assimcli rules list` shows all.")
            .meant(id, known));
    }
    match context.format {
        Format::Json => print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&found.iter().map(|r| r.to_json()).collect::<Vec<_>>())
                .unwrap_or_default()
        ))?,
        Format::Jsonl => {
            print(&found.iter().map(|rule| format!("{}\n", rule.to_json())).collect::<String>())?
        }
        Format::Csv => Rows::from_objects(
            &["id", "title", "severity", "category", "discovery", "expression"],
            &Value::Array(found.iter().map(|r| r.to_json()).collect()),
        )
        .print(Format::Csv)?,
        Format::Table | Format::Script => {
            print(&found.iter().map(|rule| rule.page()).collect::<Vec<_>>().join("\n"))?
        }
    }
    Ok(Finding::Nothing)
}

fn check(context: &Context, directory: &Path) -> Result<Finding, Failure> {
    if !directory.is_dir() {
        return Err(Failure::new(format!("{} is no directory", directory.display())));
    }
    let (files, mut problems) = files_of(directory)?;
    let count = files.len();
    problems.extend(problems_of(context, files));
    let mut rows = Rows::new(&["file", "line", "rule", "problem", "hint"]);
    for p in &problems {
        rows.rows.push(vec![json!(p.file), json!(p.line), json!(p.rule), json!(p.message), json!(p.hint)]);
    }
    rows.print(context.format)?;
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    note!("{count} file{} checked, {} problem{}", plural(count), problems.len(), plural(problems.len()));
    Ok(if problems.is_empty() { Finding::Nothing } else { Finding::Something })
}

/// A directory with `set.toml` or rules right in it or in folders named after discoveries is one set; otherwise each
/// of its directories is a set.
fn files_of(directory: &Path) -> Result<(Vec<rules::rule_set::SourceFile>, Vec<RuleProblem>), Failure> {
    let is_set = directory.join("set.toml").exists()
        || has_rule_files(directory)
        || subdirectories(directory).iter().any(|d| has_rule_files(d))
            && !subdirectories(directory)
                .iter()
                .any(|d| d.join("set.toml").exists() || subdirectories(d).iter().any(|s| has_rule_files(s)));
    let (files, problems) = if is_set {
        let name = directory
            .canonicalize()
            .ok()
            .and_then(|d| d.file_name().map(|n| n.to_string_lossy().into_owned()))
            .unwrap_or_else(|| "CHECKED".into());
        rules::rule_set::read_set(directory, &name)
    } else {
        rules::rule_set::read_sets(directory)
    };
    if files.is_empty() && problems.is_empty() {
        return Err(Failure::new(format!("there are no rules in {}", directory.display())).hint(
            "A rule set is a directory with <discovery>/<id>.toml files; docs/add-a-rule.md tells more.",
        ));
    }
    Ok((files, problems))
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

fn has_rule_files(directory: &Path) -> bool {
    let is_rule = |path: &Path| {
        path.extension().is_some_and(|e| e == "toml" || e == "json")
            && path.file_name().is_some_and(|n| n != "set.toml")
    };
    fs::read_dir(directory).into_iter().flatten().flatten().any(|entry| is_rule(&entry.path()))
}

/// Load problems of these files on top of the site's own sets, and shortcomings of their rules.
fn problems_of(context: &Context, files: Vec<rules::rule_set::SourceFile>) -> Vec<RuleProblem> {
    let own: Vec<String> = files.iter().map(|file| file.file.clone()).collect();
    // The site's own directory may be the one that is checked: none of its files is there twice then.
    let resolved: Vec<PathBuf> = own.iter().filter_map(|file| fs::canonicalize(file).ok()).collect();
    let other = |file: &str| !fs::canonicalize(file).is_ok_and(|path| resolved.contains(&path));
    let mut all = rules::rule_set::builtin_files();
    for directory in directories(context) {
        all.extend(rules::rule_set::read_sets(&directory).0.into_iter().filter(|file| other(&file.file)));
    }
    all.extend(files);
    let (sets, problems) = RuleSets::from_files(&all);
    let ours = |file: &str| own.iter().any(|path| path == file);
    let mut problems: Vec<RuleProblem> = problems.into_iter().filter(|p| ours(&p.file)).collect();
    let mut seen = std::collections::BTreeSet::new();
    for rule in sets.iter().flat_map(|set| set.rules().cloned().collect::<Vec<_>>()) {
        // The original's JSON format has no texts to complain about; a wrong expression was reported above.
        if ours(&rule.source)
            && rule.source.ends_with(".toml")
            && rule.expression.parsed.is_ok()
            && seen.insert((rule.set.clone(), rule.id.clone()))
        {
            problems.extend(
                rule.shortcomings()
                    .into_iter()
                    .filter(|p| {
                        !problems.iter().any(|known| known.message == p.message && known.rule == p.rule)
                    })
                    .collect::<Vec<_>>(),
            );
        }
    }
    problems
}

fn load(context: &Context, directory: &Path, set: &str, based_on: Option<&str>) -> Result<Finding, Failure> {
    if set.is_empty() || !set.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
        return Err(Failure::new(format!(
            "{set:?} is no name for a rule set: letters, digits, _ and - only"
        )));
    }
    if let Some(basis) = based_on
        && sets(context).effective(basis).is_none()
    {
        return Err(no_such_set(&sets(context), basis));
    }
    if !directory.is_dir() {
        return Err(Failure::new(format!("{} is no directory", directory.display())));
    }
    let (files, mut problems) = rules::rule_set::read_set(directory, set);
    if files.is_empty() && problems.is_empty() {
        return Err(Failure::new(format!("there are no rules in {}", directory.display())));
    }
    let count = files.len();
    problems.extend(problems_of(context, files));
    if !problems.is_empty() {
        problems.iter().for_each(report);
        return Err(Failure::new(format!(
            "nothing was loaded: {} problems in {}",
            problems.len(),
            directory.display()
        ))
        .hint("Mend them and load again; `assimcli rules check` shows them as a table."));
    }
    install(context, directory, set, based_on)?;
    note!(
        "Rule set {set}: {count} file{} now in {}.",
        if count == 1 { " is" } else { "s are" },
        context.paths.site("best_practices").join(set).display()
    );
    match post(context, "/v1/rules/reload", &json!({})) {
        Ok(answer) => note!(
            "The CMA uses it from now on{}.",
            answer["changed"].as_u64().map(|n| format!(" ({n} results changed)")).unwrap_or_default()
        ),
        Err(_) => note!(
            "No CMA runs here; it will use the set when it starts. cma.toml chooses sets: [rules.by_domain]."
        ),
    }
    Ok(Finding::Nothing)
}

/// Copies the set beside its final place, then exchanges the two by renaming: never half a set.
fn install(context: &Context, directory: &Path, set: &str, based_on: Option<&str>) -> Result<(), Failure> {
    let place = context.paths.site("best_practices");
    let failed = |path: &Path, error: std::io::Error| Failure::new(format!("{}: {error}", path.display()));
    fs::create_dir_all(&place).map_err(|e| failed(&place, e))?;
    let (fresh, old, target) =
        (place.join(format!(".{set}.new")), place.join(format!(".{set}.old")), place.join(set));
    for leftover in [&fresh, &old] {
        if leftover.exists() {
            fs::remove_dir_all(leftover).map_err(|e| failed(leftover, e))?;
        }
    }
    copy_rules(directory, &fresh, 0)?;
    if let Some(basis) = based_on {
        let file = fresh.join("set.toml");
        let given = fs::read_to_string(&file).unwrap_or_default();
        // Tables must come last in TOML, so the key goes to the top and replaces one that is there.
        let rest: String = given
            .lines()
            .filter(|line| !line.trim_start().starts_with("based_on"))
            .map(|line| format!("{line}\n"))
            .collect();
        fs::write(&file, format!("based_on = \"{basis}\"\n{rest}")).map_err(|e| failed(&file, e))?;
    }
    if target.exists() {
        fs::rename(&target, &old).map_err(|e| failed(&target, e))?;
    }
    fs::rename(&fresh, &target).map_err(|e| failed(&target, e))?;
    if old.exists() {
        fs::remove_dir_all(&old).map_err(|e| failed(&old, e))?;
    }
    Ok(())
}

fn copy_rules(from: &Path, to: &Path, depth: usize) -> Result<(), Failure> {
    let failed = |path: &Path, error: std::io::Error| Failure::new(format!("{}: {error}", path.display()));
    fs::create_dir_all(to).map_err(|e| failed(to, e))?;
    for entry in fs::read_dir(from).map_err(|e| failed(from, e))?.flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() && depth < 3 {
            copy_rules(&path, &target, depth + 1)?;
        } else if path.is_file() && path.extension().is_some_and(|e| e == "toml" || e == "json") {
            fs::copy(&path, &target).map_err(|e| failed(&path, e))?;
        }
    }
    Ok(())
}

fn eval(expression: &str, data: Option<&Path>) -> Result<Finding, Failure> {
    let parsed = Expression::parse(expression).map_err(|e| Failure::new(e.to_string()))?;
    let context = data.map(json_object).transpose()?.unwrap_or(Value::Null);
    print(&format!("{}\n", json!({ "result": parsed.evaluate(&[&context]).value })))?;
    Ok(Finding::Nothing)
}

fn status(rules: &Path, data: &Path) -> Result<Finding, Failure> {
    let data = json_object(data)?;
    let (answer, problems) =
        rules::status::status_of_file(&read(rules)?, &rules.to_string_lossy(), &data, &Points::new())
            .map_err(|problem| Failure::new(problem.to_string()))?;
    problems.iter().for_each(report);
    print(&format!("{answer}\n"))?;
    Ok(Finding::Nothing)
}

fn json_object(path: &Path) -> Result<Value, Failure> {
    let value: Value = serde_json::from_str(&read(path)?)
        .map_err(|e| Failure::new(format!("{} is not JSON: {e}", path.display())))?;
    if value.is_object() {
        return Ok(value);
    }
    Err(Failure::new(format!("{} holds no JSON object", path.display()))
        .hint("The data are what stands under \"data\" in what `nanoprobe discover` prints."))
}

fn read(path: &Path) -> Result<String, Failure> {
    use std::io::Read;
    let failed = |e: std::io::Error| Failure::new(format!("{}: {e}", path.display()));
    let mut text = String::new();
    // A bound instead of a size check, so that `--data /dev/stdin` works.
    fs::File::open(path)
        .map_err(failed)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(Failure::new(format!(
            "{} is larger than {} MB",
            path.display(),
            MAX_FILE_BYTES / 1_048_576
        )));
    }
    Ok(text)
}
