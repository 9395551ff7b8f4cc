//! Executables of the site that run as discoveries: `NAME discover` prints an envelope as JSON.
//!
//! They are found in `discovery_agents` of the shared data and `discovery_agents.d` of the site; of two with the
//! same name the site's wins. The instance is `_init_<file name>`, or what a comment `assimilation-instance: NAME`
//! in the first lines of a script says. Since they run with the rights of the nanoprobe, only files (in
//! directories) that nobody but root and the nanoprobe's own user can change are run.

mod run;
#[cfg(test)]
mod tests;

use model::envelope::Envelope;
pub use run::{End, Ended, Limits, Outcome, Program, code_or_signal, execute, run};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most executables that are looked at; a directory with more is a mistake.
const MAX_EXECUTABLES: usize = 200;

/// Most errors of its own that an executable may report, and the length of each in characters.
const MAX_ERRORS: usize = 100;
const MAX_ERROR_CHARACTERS: usize = 500;

/// One executable discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    pub path: PathBuf,
    /// File name; also the name that `[discovery.agents.NAME]` goes by.
    pub name: String,
    pub instance: String,
}

/// What the directories hold.
#[derive(Debug, Default, PartialEq)]
pub struct Scan {
    /// In order of instance.
    pub executables: Vec<Executable>,
    /// Files that are not run, one sentence each that says why and what to do.
    pub problems: Vec<String>,
}

/// Looks through `directories`; later ones win. Missing directories are empty ones.
pub fn scan(directories: &[PathBuf]) -> Scan {
    let mut found = BTreeMap::new();
    let mut problems = Vec::new();
    for directory in directories {
        let Ok(entries) = fs::read_dir(directory) else { continue };
        if let Err(problem) = check_owner(directory, "directory") {
            problems.push(problem);
            continue;
        }
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            match examine(&path) {
                Ok(Some(_)) if found.len() >= MAX_EXECUTABLES => {
                    problems.push(format!(
                        "{} is not run: more than {MAX_EXECUTABLES} executables",
                        path.display()
                    ));
                }
                Ok(Some(executable)) => {
                    found.insert(executable.instance.clone(), executable);
                }
                Ok(None) => {}
                Err(problem) => problems.push(problem),
            }
        }
    }
    Scan { executables: found.into_values().collect(), problems }
}

/// Reads what an executable printed. Fields that are not its business are overridden.
///
/// # Errors
/// A sentence that says what is wrong with the text.
pub fn envelope(executable: &Executable, host: &str, printed: &[u8]) -> Result<Envelope, String> {
    if printed.iter().all(u8::is_ascii_whitespace) {
        return Err("it printed nothing".into());
    }
    let value: Value =
        serde_json::from_slice(printed).map_err(|error| format!("it printed no JSON: {error}"))?;
    let Value::Object(mut fields) = value else { return Err("it printed JSON that is no object".into()) };
    let data = match fields.remove("data") {
        Some(data @ Value::Object(_)) => data,
        Some(_) => return Err("the field `data` is no object".into()),
        None => return Err("the field `data` is missing".into()),
    };
    let discovertype = match text(&mut fields, "discovertype")? {
        Some(name) if model::ids::check_instance(&name).is_ok() => name,
        Some(_) => return Err("the field `discovertype` is no plain name".into()),
        None => return Err("the field `discovertype` is missing".into()),
    };
    let description = text(&mut fields, "description")?.unwrap_or_else(|| executable.name.clone());
    let proxy = text(&mut fields, "proxy")?.unwrap_or_else(|| "local/local".into());
    let errors = errors(fields.remove("errors"))?;
    for overridden in ["host", "source", "instance"] {
        fields.remove(overridden);
    }
    Ok(Envelope {
        discovertype,
        description,
        host: host.into(),
        source: executable.path.display().to_string(),
        instance: executable.instance.clone(),
        proxy,
        data,
        errors,
        extras: fields,
    })
}

/// The environment of an executable: nothing but this and its parameters.
pub fn environment(parameters: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let fixed = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("LC_ALL", "C"),
        ("HOME", "/"),
    ];
    let mut all: BTreeMap<String, String> =
        fixed.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let legal = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            // The configuration comes over the network: it must not choose what the loader loads.
            && !name.starts_with("LD_")
    };
    for (name, value) in parameters {
        if legal(name) && !value.contains('\0') && !all.contains_key(name.as_str()) {
            all.insert(name.clone(), value.clone());
        }
    }
    all
}

/// `None` for what is plainly not meant to be run.
fn examine(path: &Path) -> Result<Option<Executable>, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.starts_with('.') || name.ends_with('~') || name.starts_with("README") || path.is_dir() {
        return Ok(None);
    }
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|error| format!("{shown} is not run: {error}"))?;
    if !metadata.is_file() {
        return Err(format!("{shown} is not run: it is no regular file"));
    }
    if metadata.mode() & 0o111 == 0 {
        return Err(format!("{shown} is not run: it is not executable; chmod 755 it, or remove it"));
    }
    check_owner(path, "file")?;
    let instance = own_instance(path).unwrap_or_else(|| format!("_init_{name}"));
    model::ids::check_instance(&instance).map_err(|error| format!("{shown} is not run: {error}"))?;
    Ok(Some(Executable { path: path.into(), name, instance }))
}

/// Refuses what somebody else could have put there.
fn check_owner(path: &Path, what: &str) -> Result<(), String> {
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|error| format!("{shown} is not used: {error}"))?;
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != own {
        return Err(format!(
            "the {what} {shown} is not used: it belongs to user {}; chown it to root",
            metadata.uid()
        ));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(format!("the {what} {shown} is not used: others may write to it; chmod go-w it"));
    }
    Ok(())
}

/// The name behind `assimilation-instance:` in a comment of a script's first lines.
fn own_instance(path: &Path) -> Option<String> {
    let mut start = Vec::new();
    fs::File::open(path).ok()?.take(2048).read_to_end(&mut start).ok()?;
    if !start.starts_with(b"#!") {
        return None;
    }
    let start = String::from_utf8_lossy(&start);
    let comments = start.lines().filter_map(|line| line.strip_prefix('#'));
    comments
        .filter_map(|line| line.trim().strip_prefix("assimilation-instance:"))
        .map(|name| name.trim().to_owned())
        .next()
}

fn text(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("the field `{name}` is no text")),
    }
}

fn errors(value: Option<Value>) -> Result<Vec<String>, String> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err("the field `errors` is no list".into()),
    };
    let sentence = |value: Value| match value {
        Value::String(text) => Ok(model::text::shortened(&text, MAX_ERROR_CHARACTERS).into_owned()),
        _ => Err("the field `errors` holds something else than text".to_owned()),
    };
    list.into_iter().take(MAX_ERRORS).map(sentence).collect()
}
