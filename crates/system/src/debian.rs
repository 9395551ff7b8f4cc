//! Small Debian trees below a directory, kept from one test to the next. Needs root, debootstrap and the package mirror.

use crate::process::capture;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The release all trees are made of.
const RELEASE: &str = "bookworm";

/// Where trees are kept: `trees` in the target directory of the running program, or of the machine's temporary files.
pub fn cache() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "target"))
        .map_or_else(std::env::temp_dir, Path::to_owned)
        .join("trees")
}

/// A tree with `packages` (separated by commas) beyond Debian's smallest set, in which `finish` (sh) was run; it is
/// made at the first use, which takes half a minute, and made anew when either changes. Nobody may write to it.
pub fn template(cache: &Path, kind: &str, packages: &str, finish: &str) -> Result<PathBuf, String> {
    let mut hasher = DefaultHasher::new();
    (packages, finish).hash(&mut hasher);
    let tree = cache.join(format!("debian-{RELEASE}-{kind}-{:016x}", hasher.finish()));
    if tree.is_dir() {
        return Ok(tree);
    }
    let failed = |what: &Path, e: std::io::Error| format!("{}: {e}", what.display());
    fs::create_dir_all(cache).map_err(|e| failed(cache, e))?;
    // Several tests may want it at once: one makes it, the others wait and find it there.
    let path = tree.with_extension("lock");
    let lock = File::create(&path).map_err(|e| failed(&path, e))?;
    lock.lock().map_err(|e| failed(&path, e))?;
    if tree.is_dir() {
        return Ok(tree);
    }
    let unfinished = tree.with_extension("unfinished");
    match fs::remove_dir_all(&unfinished) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(&unfinished, e)),
        _ => {}
    }
    let include = format!("--include={packages}");
    checked(Command::new("debootstrap").args(["--variant=minbase", &include, RELEASE]).arg(&unfinished))?;
    checked(Command::new("chroot").arg(&unfinished).args(["sh", "-c", finish]))?;
    fs::rename(&unfinished, &tree).map_err(|e| failed(&tree, e))?;
    Ok(tree)
}

/// Runs `command`; the error has the last lines that it wrote.
pub(crate) fn checked(command: &mut Command) -> Result<(), String> {
    let output = capture(command)?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let mut last: Vec<&str> = text.lines().rev().take(8).collect();
    last.reverse();
    Err(format!("{} failed: {}", command.get_program().to_string_lossy(), last.join(" / ")))
}
