//! Where rule files come from: inside the program, directories, the CMA.

use crate::rule::{MAXIMUM_FILE_BYTES, MonitorRuleProblem};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Directory entries looked at below one directory, directories within directories.
const MAXIMUM_ENTRIES: usize = 5000;
const MAXIMUM_DEPTH: usize = 8;

/// The files inside the program: name and text, sorted by path.
pub fn builtin_files() -> &'static [(&'static str, &'static str)] {
    include!(concat!(env!("OUT_DIR"), "/builtin_monrules.rs"))
}

/// The `*.mrule` files below `directory`: name → (path, text). A directory that does not exist is empty; of files with
/// the same name the last in order of paths counts.
pub fn read_directory(
    directory: &Path,
    problems: &mut Vec<MonitorRuleProblem>,
) -> BTreeMap<String, (String, String)> {
    let mut reader = Reader { files: BTreeMap::new(), problems, entries: 0 };
    reader.directory(directory, 0);
    reader.files
}

struct Reader<'a> {
    files: BTreeMap<String, (String, String)>,
    problems: &'a mut Vec<MonitorRuleProblem>,
    entries: usize,
}

impl Reader<'_> {
    fn problem(&mut self, path: &Path, message: impl Into<String>, hint: &str) {
        let shown = model::text::printable(&path.display().to_string()).into_owned();
        self.problems.push(MonitorRuleProblem::new(&shown, message, hint));
    }

    fn directory(&mut self, directory: &Path, depth: usize) {
        let listing = match fs::read_dir(directory) {
            Ok(listing) => listing,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => {
                let message = format!("cannot be read: {error}");
                return self.problem(directory, message, "check owner and mode of the directory");
            }
        };
        let room = MAXIMUM_ENTRIES.saturating_sub(self.entries);
        let mut paths: Vec<PathBuf> =
            listing.filter_map(Result::ok).map(|entry| entry.path()).take(room + 1).collect();
        if paths.len() > room {
            paths.truncate(room);
            let message = format!("more than {MAXIMUM_ENTRIES} files");
            self.problem(directory, message, "move what is no monitor rule elsewhere");
        }
        self.entries += paths.len();
        paths.sort();
        for path in paths {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                if depth < MAXIMUM_DEPTH {
                    self.directory(&path, depth + 1);
                }
            } else if name.ends_with(".mrule") {
                match read_bounded(&path) {
                    Ok(text) => {
                        self.files.insert(name, (path.display().to_string(), text));
                    }
                    Err(reason) => {
                        self.problem(&path, reason, "it must be a text file that the program can read");
                    }
                }
            }
        }
    }
}

/// Regular files only: opening a FIFO would wait for ever.
fn read_bounded(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err("is not a regular file".into());
    }
    let limit = MAXIMUM_FILE_BYTES as u64 + 1;
    let mut text = String::new();
    File::open(path).map_err(failed)?.take(limit).read_to_string(&mut text).map_err(failed)?;
    if text.len() > MAXIMUM_FILE_BYTES {
        return Err(format!("is larger than {MAXIMUM_FILE_BYTES} bytes"));
    }
    Ok(text)
}
