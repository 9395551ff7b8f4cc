//! `cargo xtask fuzz`: every discovery of files under libFuzzer, from real files.
//!
//! Which files a discovery reads it shows itself, on an empty tree. The seeds are this machine's own file of that
//! name, those of the Debian trees that tests made, and the fixtures. A finding ends the run with the bytes that cause
//! it, below fuzz/artifacts. Not part of CI (that runs mutated fixtures: crates/discovery/tests/every_discovery.rs).

use crate::{Outcome, target_directory, workspace};
use discovery::{Host, Parameters};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use system::process::on_path;

#[derive(clap::Args)]
pub struct Options {
    /// Only these discoveries, by type or instance; `rule` for the rule files.
    only: Vec<String>,
    /// Seconds for each file of each discovery.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

/// Larger inputs find nothing that smaller ones do not, only later; long lines are tested apart.
const MAX_INPUT_BYTES: u32 = 64 * 1024;
/// Files of one discovery that are tried.
const MAX_FILES: usize = 8;

pub fn run(options: &Options) -> Outcome {
    if !on_path("cargo-fuzz") {
        return Err("cargo-fuzz is not installed: `cargo install --locked cargo-fuzz`".into());
    }
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    if wanted("rule") {
        fuzz("rule", "rule", &seeds_of_rules(), &[], options.seconds)?;
    }
    for discovery in discovery::all() {
        for instance in discovery.instances {
            if !wanted(discovery.name) && !wanted(instance.name) {
                continue;
            }
            for file in files(discovery, instance.name) {
                eprintln!("{}: {file}", instance.name);
                let name = format!("{}{}", instance.name, file.replace('/', "_"));
                let environment = [("DISCOVERY", instance.name), ("FILE", file.as_str())];
                fuzz("discovery", &name, &seeds(discovery.name, &file), &environment, options.seconds)?;
            }
        }
    }
    Ok(())
}

/// The files that a discovery asks an empty host for, and those that it finds when they are there.
fn files(discovery: &'static discovery::Discovery, instance: &str) -> Vec<String> {
    let Ok(tree) = tempfile::tempdir() else { return Vec::new() };
    let root = tree.path().canonicalize().unwrap_or_else(|_| tree.path().to_owned());
    let host = Host::at(&root);
    discovery::run(discovery, instance, &host, &Parameters::new());
    let touched = host.touched();
    let within = |path: &Path| Some(format!("/{}", path.strip_prefix(&root).ok()?.display()));
    let mut files: BTreeSet<String> = touched.files.iter().filter_map(|path| within(path)).collect();
    // Drop-in directories take any name.
    let directories = touched.directories.iter().filter_map(|path| within(path));
    files.extend(directories.map(|directory| format!("{}/fuzz.conf", directory.trim_end_matches('/'))));
    files.into_iter().take(MAX_FILES).collect()
}

fn seeds(discovery: &str, file: &str) -> Vec<PathBuf> {
    let mut seeds = vec![PathBuf::from(file)];
    for tree in entries(&target_directory().join("trees")) {
        seeds.push(tree.join(file.trim_start_matches('/')));
    }
    seeds.extend(regular_files(&workspace().join("crates/discovery/tests/fixtures").join(discovery), 6));
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

fn fuzz(target: &str, name: &str, seeds: &[PathBuf], environment: &[(&str, &str)], seconds: u32) -> Outcome {
    let corpus = target_directory().join("fuzz-corpus").join(name);
    fs::create_dir_all(&corpus).map_err(|e| format!("{}: {e}", corpus.display()))?;
    for (number, seed) in seeds.iter().enumerate() {
        // One that cannot be read is simply no seed.
        let _ = fs::copy(seed, corpus.join(format!("seed{number}")));
    }
    let mut command = Command::new("cargo");
    command
        .current_dir(workspace().join("fuzz"))
        // Sanitizers need a nightly compiler; without unsafe code there is little for them to find.
        .args(["fuzz", "run", "--sanitizer", "none", "--fuzz-dir", ".", target])
        .arg(&corpus)
        .args(["--", &format!("-max_total_time={seconds}"), &format!("-max_len={MAX_INPUT_BYTES}")])
        // A hang is a finding too.
        .args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=0"])
        .env("CARGO_TARGET_DIR", target_directory().join("fuzz"))
        .envs(environment.iter().copied());
    system::process::run(&mut command).map_err(|error| format!("{name}: {error}"))
}
