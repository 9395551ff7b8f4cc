//! Where rule files come from: inside the program, or directories.

use crate::rule::RuleProblem;
use crate::rule_file::{MAXIMUM_JSON_BYTES, check_id};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Directory entries looked at below one directory; further ones are left out with a problem.
const MAXIMUM_ENTRIES: usize = 50_000;
/// Of one directory, all files together.
const MAXIMUM_TOTAL_BYTES: usize = 64 * 1024 * 1024;

/// The text of a rule file or a `set.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The rule set it belongs to.
    pub set: String,
    /// Where it is, for people; ends in the file's name.
    pub file: String,
    /// The directory it was found below; files of one layer should not define an id twice.
    pub layer: String,
    pub text: String,
}

impl SourceFile {
    pub(super) fn is_set_description(&self) -> bool {
        self.file.rsplit('/').next() == Some("set.toml")
    }

    pub(super) fn same_layer(&self, other: &str) -> bool {
        other.strip_prefix(&self.layer).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// The files inside the program: `best_practices/` of the source tree.
pub fn builtin_files() -> Vec<SourceFile> {
    const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/builtin_rules.rs"));
    let source = |(path, text): &(&str, &str)| {
        let set = path.split('/').next()?.to_string();
        let layer = "built-in".to_string();
        Some(SourceFile { set, file: format!("{layer}/{path}"), layer, text: text.to_string() })
    };
    FILES.iter().filter_map(source).collect()
}

/// The sets below `directory`, each a directory of its own. A directory that does not exist is empty.
pub fn read_sets(directory: &Path) -> (Vec<SourceFile>, Vec<RuleProblem>) {
    let mut reader = DirectoryReader::new(directory);
    for path in reader.entries(directory) {
        let name = file_name(&path);
        if path.is_dir() && !name.starts_with('.') {
            reader.set(&path, &name);
        }
    }
    (reader.files, reader.problems)
}

/// One directory as the rule set `set`.
pub fn read_set(directory: &Path, set: &str) -> (Vec<SourceFile>, Vec<RuleProblem>) {
    let mut reader = DirectoryReader::new(directory);
    if directory.is_dir() {
        reader.set(directory, set);
    } else {
        reader.problem(directory, "there is no such directory", "give the directory of a rule set");
    }
    (reader.files, reader.problems)
}

struct DirectoryReader {
    layer: String,
    files: Vec<SourceFile>,
    problems: Vec<RuleProblem>,
    entries: usize,
    bytes: usize,
}

impl DirectoryReader {
    fn new(directory: &Path) -> Self {
        let layer = directory.display().to_string().trim_end_matches('/').to_string();
        Self { layer, files: Vec::new(), problems: Vec::new(), entries: 0, bytes: 0 }
    }

    fn problem(&mut self, path: &Path, message: impl Into<String>, hint: &str) {
        self.problems.push(RuleProblem::new(&path.display().to_string(), message, hint));
    }

    /// Paths in a directory, sorted, bounded.
    fn entries(&mut self, directory: &Path) -> Vec<PathBuf> {
        let listing = match fs::read_dir(directory) {
            Ok(listing) => listing,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.problem(
                    directory,
                    format!("cannot be read: {error}"),
                    "check owner and mode of the directory",
                );
                return Vec::new();
            }
        };
        let room = MAXIMUM_ENTRIES.saturating_sub(self.entries);
        let mut paths: Vec<PathBuf> =
            listing.filter_map(Result::ok).map(|entry| entry.path()).take(room + 1).collect();
        if paths.len() > room {
            paths.truncate(room);
            self.problem(
                directory,
                format!("more than {MAXIMUM_ENTRIES} files"),
                "move what is no rule elsewhere",
            );
        }
        self.entries += paths.len();
        paths.sort();
        paths
    }

    fn set(&mut self, directory: &Path, set: &str) {
        if let Err(message) = check_id(set) {
            self.problem(
                directory,
                format!("not the name of a rule set: {message}"),
                "use letters, digits and . _ - only",
            );
            return;
        }
        for path in self.entries(directory) {
            if path.is_dir() && !file_name(&path).starts_with('.') {
                for path in self.entries(&path) {
                    self.file(&path, set);
                }
            } else {
                self.file(&path, set);
            }
        }
    }

    /// Editors' backups, packagers' leftovers and notes have other endings and are passed over.
    fn file(&mut self, path: &Path, set: &str) {
        let name = file_name(path);
        if name.starts_with('.') || !(name.ends_with(".toml") || name.ends_with(".json")) {
            return;
        }
        match read_bounded(path) {
            Ok(text) if self.bytes + text.len() > MAXIMUM_TOTAL_BYTES => {
                self.bytes = MAXIMUM_TOTAL_BYTES;
                self.problem(path, "not read: the rule files together are too large", "remove some");
            }
            Ok(text) => {
                self.bytes += text.len();
                let (file, layer) = (path.display().to_string(), self.layer.clone());
                self.files.push(SourceFile { set: set.to_string(), file, layer, text });
            }
            Err(reason) => self.problem(path, reason, "it must be a text file that the CMA's user can read"),
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Regular files only: opening a FIFO would wait for ever.
fn read_bounded(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err("is not a regular file".into());
    }
    let limit = MAXIMUM_JSON_BYTES as u64 + 1;
    let mut text = String::new();
    File::open(path).map_err(failed)?.take(limit).read_to_string(&mut text).map_err(failed)?;
    if text.len() > MAXIMUM_JSON_BYTES {
        return Err(format!("is larger than {MAXIMUM_JSON_BYTES} bytes"));
    }
    Ok(text)
}
