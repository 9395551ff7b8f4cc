//! `cargo xtask fuzz`: every discovery of files under libFuzzer, from real files; the parsers of what comes over sockets;
//! rule files.
//!
//! Which files a discovery reads it shows itself, on an empty tree and on its fixtures. The seeds are this machine's own
//! file of that name, those of the Debian trees that tests made, and the fixtures. A finding is kept as the bytes that
//! cause it, below fuzz/artifacts. Not part of CI (that runs mutated fixtures: crates/discovery/tests/every_discovery).

use crate::{Outcome, target_directory, workspace};
use discovery::{Discovery, Host, Parameters};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use system::process::on_path;

#[derive(clap::Args)]
pub struct Options {
    /// Only these discoveries, by type or instance; `rule` for the rule files, `answer` for what comes over sockets, or one of
    /// that by its name, such as `lldp`.
    only: Vec<String>,
    /// Seconds for each file of each discovery.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

/// Larger inputs find nothing that smaller ones do not, only later; long lines are tested apart.
const MAX_INPUT_BYTES: u32 = 64 * 1024;
/// Files of one discovery that are tried in an empty tree, and of each of its fixtures.
const MAX_FILES: usize = 8;

pub fn run(options: &Options) -> Outcome {
    if !on_path("cargo-fuzz") {
        return Err("cargo-fuzz is not installed: `cargo install --locked cargo-fuzz`".into());
    }
    build()?;
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let mut runs = Vec::new();
    if wanted("rule") {
        runs.push(Run::new("rule", "rule".into(), seeds_of_rules(), &[]));
    }
    for (name, _) in discovery::fuzzing::ANSWERS.iter().filter(|(name, _)| wanted("answer") || wanted(name)) {
        let seeds = regular_files(&workspace().join("fuzz/seeds").join(name), 1);
        runs.push(Run::new("answer", format!("answer_{name}"), seeds, &[("ANSWER", name)]));
    }
    for discovery in discovery::all() {
        for instance in discovery.instances {
            if wanted(discovery.name) || wanted(instance.name) {
                runs.extend(of_discovery(discovery, instance.name));
            }
        }
    }
    if runs.is_empty() {
        return Err("nothing has that name: `cargo xtask fuzz` without a name does all".into());
    }
    let findings: Vec<String> = runs.iter().filter_map(|run| run.go(options.seconds).err()).collect();
    if findings.is_empty() { Ok(()) } else { Err(findings.join("\n")) }
}

/// One file of one instance, or another target.
struct Run {
    target: &'static str,
    name: String,
    seeds: Vec<PathBuf>,
    environment: Vec<(&'static str, String)>,
}

impl Run {
    fn new(
        target: &'static str,
        name: String,
        seeds: Vec<PathBuf>,
        environment: &[(&'static str, &str)],
    ) -> Run {
        let environment = environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Run { target, name, seeds, environment }
    }

    /// Says on standard error what came of it.
    fn go(&self, seconds: u32) -> Outcome {
        let name = &self.name;
        let failed = |error: std::io::Error| format!("{name}: {error}");
        let corpus = target_directory().join("fuzz-corpus").join(name);
        let artifacts = workspace().join("fuzz/artifacts").join(name);
        fs::create_dir_all(&corpus).map_err(failed)?;
        fs::create_dir_all(&artifacts).map_err(failed)?;
        for (number, seed) in self.seeds.iter().enumerate() {
            // One that cannot be read is simply no seed.
            let _ = fs::copy(seed, corpus.join(format!("seed{number}")));
        }
        let program = target_directory().join("fuzz").join(triple()).join("release").join(self.target);
        let output = Command::new(program)
            .arg(&corpus)
            .args([format!("-max_total_time={seconds}"), format!("-max_len={MAX_INPUT_BYTES}")])
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            // A hang is a finding too.
            .args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .output()
            .map_err(failed)?;
        let told = String::from_utf8_lossy(&output.stderr);
        let runs = number_after(&told, "stat::number_of_executed_units:");
        let coverage = |line: &str| number_after(told.lines().rfind(|own| own.contains(line))?, "cov:");
        eprintln!(
            "{name}: {} runs, coverage of the seeds {}, at the end {}",
            runs.unwrap_or(0),
            coverage("INITED").unwrap_or(0),
            coverage("cov:").unwrap_or(0)
        );
        if output.status.success() {
            // Left behind only when nothing was found.
            let _ = fs::remove_dir(&artifacts);
            return Ok(());
        }
        let tail: Vec<&str> = told.lines().rev().filter(|line| !line.contains("stat::")).take(25).collect();
        eprintln!("{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        Err(format!("{name}: a finding, see {}", artifacts.display()))
    }
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    text.split_once(name)?.1.split_whitespace().next()?.parse().ok()
}

/// The files of an empty host, then those of each fixture, with the rest of the fixture around them.
fn of_discovery(discovery: &'static Discovery, instance: &'static str) -> Vec<Run> {
    let mut runs = Vec::new();
    let fixtures = entries(&fixtures_of(discovery));
    for tree in [None].into_iter().chain(fixtures.iter().filter(|path| path.is_dir()).map(Some)) {
        for file in files(discovery, instance, tree.map(PathBuf::as_path)) {
            let of = tree.and_then(|tree| tree.file_name()).unwrap_or_default().to_string_lossy();
            let name = format!("{instance}_{of}{}", file.replace('/', "_"));
            let mut run = Run::new(
                "discovery",
                name,
                seeds(discovery, &file),
                &[("DISCOVERY", instance), ("FILE", &file)],
            );
            run.environment.extend(tree.map(|tree| ("TREE", tree.display().to_string())));
            runs.push(run);
        }
    }
    runs
}

/// The files that a discovery asks an empty host for, and those that it finds when they are there; in a fixture those
/// that it reads there.
fn files(discovery: &'static Discovery, instance: &str, fixture: Option<&Path>) -> Vec<String> {
    let Ok(empty) = tempfile::tempdir() else { return Vec::new() };
    let root = fixture.unwrap_or(empty.path());
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let host = Host::at(&root);
    discovery::run(discovery, instance, &host, &Parameters::new());
    let touched = host.touched();
    let within = |path: &Path| Some(format!("/{}", path.strip_prefix(&root).ok()?.display()));
    let is_wanted = |path: &&PathBuf| fixture.is_none() || path.is_file();
    let mut files: BTreeSet<String> =
        touched.files.iter().filter(is_wanted).filter_map(|path| within(path)).collect();
    if fixture.is_none() {
        // Drop-in directories take any name.
        let directories = touched.directories.iter().filter_map(|path| within(path));
        files.extend(directories.map(|directory| format!("{}/fuzz.conf", directory.trim_end_matches('/'))));
    }
    files.into_iter().take(MAX_FILES).collect()
}

fn fixtures_of(discovery: &Discovery) -> PathBuf {
    workspace().join("crates/discovery/tests/fixtures").join(discovery.name)
}

fn seeds(discovery: &Discovery, file: &str) -> Vec<PathBuf> {
    let mut seeds = vec![PathBuf::from(file)];
    for tree in entries(&target_directory().join("trees")) {
        seeds.push(tree.join(file.trim_start_matches('/')));
    }
    seeds.extend(regular_files(&fixtures_of(discovery), 6));
    seeds.retain(|seed| {
        fs::metadata(seed).is_ok_and(|meta| meta.is_file() && meta.len() < u64::from(MAX_INPUT_BYTES))
    });
    seeds
}

fn seeds_of_rules() -> Vec<PathBuf> {
    regular_files(&workspace().join("best_practices"), 3)
}

fn regular_files(directory: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in entries(directory) {
        if path.is_dir() && depth > 0 {
            found.extend(regular_files(&path, depth - 1));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Once for all runs: cargo-fuzz would ask cargo again before each.
fn build() -> Outcome {
    let mut command = Command::new("cargo");
    command
        .current_dir(workspace().join("fuzz"))
        // Sanitizers need a nightly compiler; without unsafe code there is little for them to find. The directory of
        // what is built has the triple in its name.
        .args(["fuzz", "build", "--sanitizer", "none", "--fuzz-dir", ".", "--target", &triple()])
        .env("CARGO_TARGET_DIR", target_directory().join("fuzz"));
    system::process::run(&mut command)
}

/// What is built for. cargo-fuzz's own default is that of the machine it was built on, which may be another C library.
fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}
