//! Snaps: `/snap/<name>/current` points to the revision in use, whose version stands in `meta/snap.yaml` (snap(8)).
//! Where they are not mounted, as in an image, the files of snapd tell names and revisions.

use super::{Found, Lines, Packages};
use crate::Host;
use std::io::BufReader;

const MOUNTS: [&str; 2] = ["/snap", "/var/lib/snapd/snap"];
const FILES: &str = "/var/lib/snapd/snaps";

pub(super) fn installed(host: &Host) -> Found {
    let mut packages = Packages::new();
    for mounts in MOUNTS {
        for name in host.list(mounts).unwrap_or_default() {
            // `bin` holds the commands, README is a text.
            let Ok(revision) = host.read_link(&format!("{mounts}/{name}/current")) else { continue };
            if !super::is_word(&revision) || !super::is_word(&name) {
                continue;
            }
            let path = format!("{mounts}/{name}/{revision}/meta/snap.yaml");
            let version = host.open(&path).ok().and_then(|file| version(&path, file));
            packages
                .insert((name, version.map_or(revision.clone(), |version| format!("{version}-{revision}"))));
        }
        if !packages.is_empty() {
            return Ok(Some(packages));
        }
    }
    // Older revisions are kept: the last one by number counts.
    let mut newest = std::collections::BTreeMap::<String, (u64, String)>::new();
    for file in host.list(FILES).unwrap_or_default() {
        let Some((name, revision)) = file.strip_suffix(".snap").and_then(|stem| stem.rsplit_once('_')) else {
            continue;
        };
        if !super::is_word(name) || !super::is_word(revision) {
            continue;
        }
        // `x1` is the first revision of a snap that was built locally.
        let number = revision.trim_start_matches('x').parse().unwrap_or(0);
        let known = newest.entry(name.to_owned()).or_insert_with(|| (number, revision.to_owned()));
        if number > known.0 {
            *known = (number, revision.to_owned());
        }
    }
    packages.extend(newest.into_iter().map(|(name, (_, revision))| (name, revision)));
    Ok((!packages.is_empty()).then_some(packages))
}

/// The field `version` at the top level of snap.yaml, with or without quotes.
fn version(path: &str, file: crate::HostFile) -> Option<String> {
    let mut lines = Lines::new(path, BufReader::with_capacity(4096, file));
    for _ in 0..10_000 {
        if let Some(value) = lines.next().ok()??.strip_prefix("version:") {
            let value = value.trim().trim_matches(['"', '\'']);
            return super::is_word(value).then(|| value.to_owned());
        }
    }
    None
}
