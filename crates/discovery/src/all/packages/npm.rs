//! Node.js packages in the directories that `npm install --global` and the distributions use. What a program brings
//! along for itself (a `node_modules` inside a package or a project) is not looked at.

use super::{Found, MAX_PACKAGES, Packages};
use crate::{Directory, Host, Kind};
use serde_json::Value;

const DIRECTORIES: [&str; 4] =
    ["/usr/lib/node_modules", "/usr/local/lib/node_modules", "/usr/share/nodejs", "/usr/local/share/nodejs"];
/// A larger package.json does not count: real ones have a few kB.
const MAX_MANIFEST_BYTES: u64 = 256 * 1024;

pub(super) fn installed(host: &Host) -> Found {
    let mut packages = Packages::new();
    for path in DIRECTORIES {
        // No such directory, or closed to us: nothing of npm there.
        let Ok(directory) = host.directory(path) else { continue };
        for entry in directory.entries().map_err(|error| error.to_string())? {
            // Links lead to packages under development, or to another name of the same package.
            if !matches!(entry.kind(), Kind::Directory | Kind::Unknown) || entry.name().starts_with('.') {
                continue;
            }
            if !entry.name().starts_with('@') {
                one(&directory, entry.raw(), &mut packages);
                continue;
            }
            let Ok(scope) = directory.subdirectory(entry.raw()) else { continue };
            for entry in scope.entries().map_err(|error| error.to_string())? {
                one(&scope, entry.raw(), &mut packages);
            }
        }
    }
    Ok((!packages.is_empty()).then_some(packages))
}

/// A directory without a package.json, or with one that says nothing of use, is none of ours.
fn one(directory: &Directory<'_>, name: &std::ffi::CStr, packages: &mut Packages) {
    let manifest = || {
        let package = directory.subdirectory_unrecorded(name).ok()?;
        parse(&package.open(c"package.json").ok()?.bytes(MAX_MANIFEST_BYTES).ok()?)
    };
    if packages.len() <= MAX_PACKAGES {
        packages.extend(manifest());
    }
}

/// Name and version of a package.json (its manual page is package.json(5)).
pub(super) fn parse(bytes: &[u8]) -> Option<(String, String)> {
    let manifest: Value = serde_json::from_slice(bytes).ok()?;
    let text = |field| manifest.get(field)?.as_str().filter(|text| super::is_word(text));
    Some((text("name")?.to_owned(), text("version")?.to_owned()))
}
