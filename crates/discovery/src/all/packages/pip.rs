//! Python packages in the directories of the system's interpreters.

use super::{Found, Lines, MAX_PACKAGES, Packages};
use crate::{Directory, DirectoryEntry, Host, Kind};
use std::io::Read;

/// Directories with one directory per interpreter (`python3.11`, `python3`).
const LIBRARIES: [&str; 5] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/opt/lib"];
/// Name and version stand in the first lines of the metadata (core metadata specification of PyPA).
const MAX_METADATA_BYTES: u64 = 16 * 1024;

pub(super) fn installed(host: &Host) -> Found {
    let mut packages = None;
    for library in LIBRARIES {
        let interpreters = match host.list(library) {
            Ok(names) => names,
            // No such directory, or closed to us: nothing of pip there.
            Err(_) => continue,
        };
        for interpreter in interpreters.iter().filter(|name| name.starts_with("python")) {
            for kind in ["site-packages", "dist-packages"] {
                if let Ok(directory) = host.directory(&format!("{library}/{interpreter}/{kind}")) {
                    directory_of_packages(&directory, packages.get_or_insert_default())?;
                }
            }
        }
    }
    Ok(packages.filter(|packages: &Packages| !packages.is_empty()))
}

fn directory_of_packages(directory: &Directory<'_>, packages: &mut Packages) -> Result<(), String> {
    for entry in directory.entries().map_err(|error| error.to_string())? {
        let name = entry.name();
        let (stem, metadata) = match name.rsplit_once('.') {
            Some((stem, "dist-info")) => (stem, c"METADATA"),
            Some((stem, "egg-info")) => (stem, c"PKG-INFO"),
            _ => continue,
        };
        if packages.len() > MAX_PACKAGES {
            break;
        }
        let found = read_metadata(directory, &entry, metadata).or_else(|| by_directory_name(stem));
        packages.extend(found);
    }
    Ok(())
}

fn read_metadata(
    directory: &Directory<'_>,
    entry: &DirectoryEntry,
    metadata: &std::ffi::CStr,
) -> Option<(String, String)> {
    // An egg-info may be the file itself.
    let file = match entry.kind() {
        Kind::Regular => directory.open(entry.raw()).ok()?,
        _ => directory.subdirectory_unrecorded(entry.raw()).ok()?.open(metadata).ok()?,
    };
    let reader = std::io::BufReader::with_capacity(1024, file.take(MAX_METADATA_BYTES));
    parse_metadata(&mut Lines::new("", reader))
}

/// Headers as in mail, up to the first empty line.
pub(super) fn parse_metadata<R: std::io::BufRead>(lines: &mut Lines<R>) -> Option<(String, String)> {
    let (mut name, mut version) = (None, None);
    while name.is_none() || version.is_none() {
        let line = lines.next().ok()??;
        if line.is_empty() {
            return None;
        }
        match line.split_once(':') {
            Some((field, value)) if field.eq_ignore_ascii_case("name") => {
                name = Some(value.trim().to_owned())
            }
            Some((field, value)) if field.eq_ignore_ascii_case("version") => {
                version = Some(value.trim().to_owned())
            }
            _ => {}
        }
    }
    Some((name?, version?)).filter(|(name, version)| !name.is_empty() && !version.is_empty())
}

/// `<name>-<version>`, for eggs also `<name>-<version>-py3.11`.
pub(super) fn by_directory_name(stem: &str) -> Option<(String, String)> {
    let mut parts = stem.split('-');
    let (name, version) = (parts.next()?, parts.next()?);
    (!name.is_empty() && version.starts_with(|c: char| c.is_ascii_digit()))
        .then(|| (name.to_owned(), version.to_owned()))
}
