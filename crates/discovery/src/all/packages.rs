//! Installed packages of the system (dpkg, rpm, apk, snap, flatpak) and of languages (pip, npm, gem).
//!
//! `data` = package type → packages; types without a database on this host are left out. The extra `packagetypes` lists
//! the types looked for.
//!
//! | type | entries | from |
//! |---|---|---|
//! | `deb` | `"<name>::<arch>":"<version>"` | /var/lib/dpkg/status (deb-status, dpkg-query(1)), /var/lib/dpkg/status.d |
//! | `rpm` | `"<name>::<arch>":"<version>-<release>"` | rpmdb.sqlite in /usr/lib/sysimage/rpm or /var/lib/rpm; older databases by way of rpm(8), with `--root` for a file tree |
//! | `apk` | `"<name>":"<version>"` | /lib/apk/db/installed (apk-tools(8)) |
//! | `pip` | `"<name>":"<version>"` | `*.dist-info` and `*.egg-info` in the system's site-packages and dist-packages directories |
//! | `npm` | `"<name>":"<version>"` | package.json in the global node_modules and in /usr/share/nodejs |
//! | `gem` | `"<name>":"<version>"` | the names of `specifications/*.gemspec` |
//! | `snap` | `"<name>":"<version>-<revision>"` | /snap/`<name>`/current and its meta/snap.yaml; only the revision where it is not mounted |
//! | `flatpak` | `"<id>::<arch>":"<branch>-<commit>"` | /var/lib/flatpak/app |
//!
//! A second version of the same package gets the key `<name>#2`, and so on, in order of version text. Virtual
//! environments, projects and users' own packages are not looked at.
//!
//! Rules ask `HASPACKAGE(name, ...)`, which looks into deb, rpm and apk whatever the architecture.
//! ```json
//! {"deb":{"openssh-server::amd64":"1:9.2p1-2+deb12u3"},"pip":{"requests":"2.31.0"}}
//! ```

#[path = "packages/deb.rs"]
pub(crate) mod deb;
#[path = "packages/flatpak.rs"]
mod flatpak;
#[path = "packages/gem.rs"]
mod gem;
#[path = "packages/npm.rs"]
mod npm;
#[path = "packages/pip.rs"]
mod pip;
#[path = "packages/rpm.rs"]
mod rpm;
#[path = "packages/rpm_sqlite.rs"]
mod rpm_sqlite;
#[path = "packages/snap.rs"]
mod snap;

use crate::{
    Collected, Discovery, Host, HostFile, Instance, Parameters, ReadError, Schedule, Trigger, documentation,
};
use model::Envelope;
use model::graph::{EdgeFact, EdgeKind, GraphFacts, NodeFact, NodeKind};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, Read};

pub static DISCOVERY: Discovery = Discovery {
    name: "packages",
    description: "Installed packages",
    documentation: documentation::PACKAGES,
    parameters: &[],
    instances: &[Instance { name: "_init_packages", parameters: &[], schedule: None }],
    // Every package manager writes a file that is watched; the repetition is for lost events.
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph,
};

const TYPES: [&str; 8] = ["apk", "deb", "flatpak", "gem", "npm", "pip", "rpm", "snap"];
const APK_DATABASES: [&str; 2] = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];
/// More packages of one type are left out.
const MAX_PACKAGES: usize = 100_000;
/// A longer line of a package database holds no name or version; what is beyond is skipped.
const MAX_LINE_BYTES: usize = 4096;
/// A package database that is larger is not a package database.
const MAX_DATABASE_BYTES: u64 = 256 * 1024 * 1024;

/// Key (name or `name::arch`) and version of each package, before doubles are numbered.
pub(crate) type Packages = BTreeSet<(String, String)>;
/// `None`: there is no such database.
pub(crate) type Found = Result<Option<Packages>, String>;

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut data = Map::new();
    let mut errors = Vec::new();
    for (name, found) in [
        ("apk", apk(host)),
        ("deb", deb::installed(host)),
        ("flatpak", flatpak::installed(host)),
        ("gem", gem::installed(host)),
        ("npm", npm::installed(host)),
        ("pip", pip::installed(host)),
        ("rpm", rpm::installed(host)),
        ("snap", snap::installed(host)),
    ] {
        match found {
            Ok(Some(packages)) => {
                if packages.len() > MAX_PACKAGES {
                    errors.push(format!(
                        "more than {MAX_PACKAGES} packages of type {name}: the rest is left out"
                    ));
                }
                data.insert(name.into(), Value::Object(numbered(packages)));
            }
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    let extras = Map::from_iter([("packagetypes".to_owned(), json!(TYPES))]);
    Collected { data: Value::Object(data), errors, extras }
}

fn graph(host: &str, envelope: &Envelope) -> GraphFacts {
    let mut edges = Vec::new();
    let types = envelope.data.as_object().into_iter().flatten();
    for (package_type, packages) in types {
        for (key, version) in packages.as_object().into_iter().flatten() {
            let Some(version) = version.as_str() else { continue };
            let (name, arch) = name_and_arch(key);
            let properties = json!({"name": name, "arch": arch, "version": version, "type": package_type})
                .as_object()
                .cloned();
            edges.push(EdgeFact {
                source: (NodeKind::Drone, host.to_owned()),
                kind: EdgeKind::Installed,
                target: NodeFact {
                    kind: NodeKind::Package,
                    key: format!("{package_type}/{name}/{arch}/{version}"),
                    properties: properties.unwrap_or_default(),
                },
            });
        }
    }
    GraphFacts { edges, ..GraphFacts::default() }
}

/// Takes a key of `data` apart; the number of a double is not part of the name. No name contains `#`.
fn name_and_arch(key: &str) -> (&str, &str) {
    let key = match key.rsplit_once('#') {
        Some((key, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => key,
        _ => key,
    };
    key.split_once("::").unwrap_or((key, ""))
}

/// `#2`, `#3` for further versions of the same package, such as two kernels of rpm.
fn numbered(packages: Packages) -> Map<String, Value> {
    let mut map = Map::new();
    let mut previous = String::new();
    let mut count = 1;
    for (key, version) in packages.into_iter().take(MAX_PACKAGES) {
        count = if key == previous { count + 1 } else { 1 };
        let name = if count == 1 { key.clone() } else { format!("{key}#{count}") };
        map.insert(name, version.into());
        previous = key;
    }
    map
}

/// Stanzas of lines `<letter>:<value>`, separated by empty lines; `P` is the name, `V` the version.
fn apk(host: &Host) -> Found {
    let Some(mut lines) = first_database(host, &APK_DATABASES)? else { return Ok(None) };
    let mut packages = Packages::new();
    let (mut name, mut version) = (String::new(), String::new());
    loop {
        let line = lines.next()?;
        match line.map(|line| (line, line.split_once(':'))) {
            Some((_, Some(("P", value)))) => name = value.to_owned(),
            Some((_, Some(("V", value)))) => version = value.to_owned(),
            Some((line, _)) if !line.is_empty() => {}
            end => {
                if !name.is_empty() && !version.is_empty() && packages.len() <= MAX_PACKAGES {
                    packages.insert((std::mem::take(&mut name), std::mem::take(&mut version)));
                }
                (name, version) = (String::new(), String::new());
                if end.is_none() {
                    return Ok(Some(packages));
                }
            }
        }
    }
}

fn first_database(
    host: &Host,
    paths: &[&str],
) -> Result<Option<Lines<std::io::BufReader<HostFile>>>, String> {
    for path in paths {
        match host.open(path) {
            Ok(file) => {
                return Ok(Some(Lines::new(path, std::io::BufReader::with_capacity(64 * 1024, file))));
            }
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(None)
}

/// What may be a name or a version: one word of bounded length.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && text.chars().all(|c| !c.is_whitespace() && !c.is_control())
}

/// The package manager is not installed.
fn is_absent(error: &ReadError) -> bool {
    error.is_missing() || *error.problem() == crate::Problem::NotADirectory
}

/// The lines of a file of any size in bounded memory: long lines are cut, line ends and invalid UTF-8 are gone.
pub(crate) struct Lines<R> {
    path: String,
    reader: R,
    line: Vec<u8>,
    text: String,
    bytes: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(path: &str, reader: R) -> Self {
        Self { path: path.to_owned(), reader, line: Vec::new(), text: String::new(), bytes: 0 }
    }

    /// `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<&str>, String> {
        self.line.clear();
        let told = |error: std::io::Error| format!("{}: {error}: check the file system it is on", self.path);
        let room = MAX_LINE_BYTES as u64;
        let read = (&mut self.reader).take(room).read_until(b'\n', &mut self.line).map_err(told)?;
        self.bytes += read as u64;
        if read == 0 {
            return Ok(None);
        }
        if self.line.last() != Some(&b'\n') {
            let rest = (MAX_DATABASE_BYTES + 1).saturating_sub(self.bytes);
            self.bytes += (&mut self.reader).take(rest).skip_until(b'\n').map_err(told)? as u64;
        }
        if self.bytes > MAX_DATABASE_BYTES {
            return Err(format!("{}: larger than {MAX_DATABASE_BYTES} bytes: it is not read", self.path));
        }
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match std::str::from_utf8(line) {
            Ok(line) => Ok(Some(line)),
            Err(_) => {
                self.text = String::from_utf8_lossy(line).into_owned();
                Ok(Some(&self.text))
            }
        }
    }
}

#[cfg(test)]
#[path = "packages/tests.rs"]
mod tests;
