//! What no compiler checks: file sizes, licences, registered extensions, links, names that must not appear.

mod links;

use crate::{Outcome, workspace};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use system::process::capture;

/// Lines above which a source file should have been split by meaning.
const MAX_LINES: usize = 600;

/// SPDX identifiers that a dependency may offer; an expression needs one alternative made of these alone.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BlueOak-1.0.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Unmaintained, with advisories, or ruled out by design/architecture: never, not even indirectly.
const BANNED_CRATES: &[&str] =
    &["pnet", "bincode", "daemonize", "users", "serde_yaml", "structopt", "openssl-sys"];

pub fn run() -> Outcome {
    let root = workspace();
    let files = tracked_files(&root)?;
    let mut problems = Vec::new();
    problems.extend(oversized(&root, &files));
    problems.extend(stubs(&root, &files));
    problems.extend(without_module_documentation(&root, &files));
    problems.extend(unregistered(&root, &files));
    problems.extend(links::problems(&files, |file| read(&root, file)));
    let metadata = metadata(&root)?;
    problems.extend(licence_problems(&metadata));
    problems.extend(banned(&metadata));
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!("{} tidy problems:\n  {}", problems.len(), problems.join("\n  ")))
}

pub fn tracked_files(root: &Path) -> Result<Vec<PathBuf>, String> {
    let output = capture(
        Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(root),
    )?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let files: Vec<PathBuf> = text.lines().map(PathBuf::from).filter(|f| root.join(f).is_file()).collect();
    if files.is_empty() { Err("git lists no files: tidy needs a git checkout".into()) } else { Ok(files) }
}

pub fn rust_files(files: &[PathBuf]) -> impl Iterator<Item = &PathBuf> {
    files.iter().filter(|file| file.extension().is_some_and(|e| e == "rs"))
}

fn read(root: &Path, file: &Path) -> String {
    std::fs::read_to_string(root.join(file)).unwrap_or_default()
}

fn oversized(root: &Path, files: &[PathBuf]) -> Vec<String> {
    let scripts = files.iter().filter(|file| file.extension().is_some_and(|e| e == "sh"));
    rust_files(files)
        .chain(scripts)
        .filter_map(|file| {
            let lines = read(root, file).lines().count();
            (lines > MAX_LINES).then(|| {
                format!(
                    "{}: {lines} lines, {} over {MAX_LINES}: split it by meaning",
                    file.display(),
                    lines - MAX_LINES
                )
            })
        })
        .collect()
}

fn stubs(root: &Path, files: &[PathBuf]) -> Vec<String> {
    // Written in two parts so that this file does not find itself.
    let words = [
        concat!("#[ign", "ore"),
        concat!("todo", "!("),
        concat!("unimple", "mented!("),
        concat!("/work", "/"),
    ];
    rust_files(files)
        .flat_map(|file| {
            let text = read(root, file);
            words
                .iter()
                .filter(|word| text.contains(**word))
                .map(|word| format!("{}: contains {word}", file.display()))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn without_module_documentation(root: &Path, files: &[PathBuf]) -> Vec<String> {
    rust_files(files)
        .filter(|file| file.components().any(|c| c.as_os_str() == "src") && !file.ends_with("tests.rs"))
        .filter(|file| !read(root, file).trim_start().starts_with("//!"))
        .map(|file| format!("{}: no `//!` line that tells what it is for", file.display()))
        .collect()
}

/// Every file in an extension folder must be found by the program: a name with a typo in its ending would be silently left out.
fn unregistered(root: &Path, files: &[PathBuf]) -> Vec<String> {
    let folders = [
        ("crates/discovery/src/all", "rs", "pub static DISCOVERY"),
        ("crates/cma/src/notify/channels", "rs", "pub static CHANNEL"),
        ("queries", "toml", "question"),
        ("best_practices", "toml", ""),
        ("monrules", "mrule", "classconfig"),
    ];
    let mut problems = Vec::new();
    for (folder, ending, must_contain) in folders {
        // Modules of one extension lie in a folder named after it.
        let is_part = |file: &Path| ending == "rs" && file.parent() != Some(Path::new(folder));
        for file in files.iter().filter(|file| file.starts_with(folder) && !is_part(file)) {
            if file.extension().is_none_or(|e| e != ending) {
                problems.push(format!("{}: only .{ending} files are read from {folder}", file.display()));
            } else if !read(root, file).contains(must_contain) {
                problems.push(format!("{}: lacks `{must_contain}`, so it is no extension", file.display()));
            }
        }
    }
    problems
}

fn metadata(root: &Path) -> Result<Value, String> {
    let output = capture(
        Command::new("cargo").args(["metadata", "--format-version", "1", "--locked"]).current_dir(root),
    )?;
    if !output.status.success() {
        return Err(format!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata printed no JSON: {e}"))
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

fn licence_problems(metadata: &Value) -> Vec<String> {
    packages(metadata)
        .filter_map(|package| {
            let name = package["name"].as_str().unwrap_or("?");
            let licence = package["license"].as_str().unwrap_or("");
            (!permitted(licence))
                .then(|| format!("crate {name}: licence {licence:?} is not among the permitted ones"))
        })
        .collect()
}

fn banned(metadata: &Value) -> Vec<String> {
    packages(metadata)
        .filter_map(|package| package["name"].as_str())
        .filter(|name| BANNED_CRATES.contains(name))
        .map(|name| format!("crate {name} is banned: unmaintained or with advisories (deny.toml)"))
        .collect()
}

/// Whether an SPDX expression (`A OR (B AND C)`, old form `A/B`) can be met with permitted licences.
fn permitted(expression: &str) -> bool {
    let text = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "~");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut position = 0;
    !words.is_empty() && either(&words, &mut position, 0) && position == words.len()
}

fn either(words: &[&str], position: &mut usize, depth: usize) -> bool {
    let mut good = both(words, position, depth);
    while words.get(*position) == Some(&"OR") {
        *position += 1;
        good |= both(words, position, depth);
    }
    good
}

fn both(words: &[&str], position: &mut usize, depth: usize) -> bool {
    let mut good = single(words, position, depth);
    while words.get(*position) == Some(&"AND") {
        *position += 1;
        good &= single(words, position, depth);
    }
    good
}

fn single(words: &[&str], position: &mut usize, depth: usize) -> bool {
    let word = words.get(*position).copied().unwrap_or("");
    *position += 1;
    if word == "(" && depth < 20 {
        let good = either(words, position, depth + 1);
        *position += 1;
        return good;
    }
    LICENCES.contains(&word.replace('~', " WITH ").as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_expressions() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(permitted(good), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND AGPL-3.0", "MIT )"] {
            assert!(!permitted(bad), "{bad}");
        }
    }

    #[test]
    fn a_long_file_an_unregistered_and_a_stub_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let all = folder.path().join("crates/discovery/src/all");
        std::fs::create_dir_all(&all).unwrap();
        std::fs::write(all.join("x.rs"), "//! x\n".repeat(MAX_LINES + 1)).unwrap();
        std::fs::write(all.join("y.rss"), "").unwrap();
        std::fs::write(all.join("y.sh"), ":\n".repeat(MAX_LINES + 1)).unwrap();
        std::fs::write(all.join("z.rs"), concat!("fn f() { to", "do!() }")).unwrap();
        let files: Vec<PathBuf> = ["x.rs", "y.rss", "y.sh", "z.rs"]
            .iter()
            .map(|f| Path::new("crates/discovery/src/all").join(f))
            .collect();
        assert_eq!(oversized(folder.path(), &files).len(), 2);
        assert_eq!(unregistered(folder.path(), &files).len(), 4);
        assert_eq!(stubs(folder.path(), &files).len(), 1);
        assert_eq!(without_module_documentation(folder.path(), &files).len(), 1);
    }

    #[test]
    fn a_foreign_licence_and_a_banned_crate_are_named() {
        let metadata = serde_json::json!({"packages": [{"name": "good", "license": "MIT"}, {"name": "pnet", "license": "GPL-3.0"}]});
        assert_eq!(licence_problems(&metadata).len(), 1);
        assert_eq!(banned(&metadata).len(), 1);
    }
}
