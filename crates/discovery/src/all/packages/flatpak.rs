//! Flatpak applications of the whole system: `/var/lib/flatpak/app/<id>/<arch>/<branch>/active` points to the commit
//! in use (flatpak(1)). Those that people install for themselves are not looked at.

use super::{Found, MAX_PACKAGES, Packages, is_word};
use crate::Host;

const APPLICATIONS: &str = "/var/lib/flatpak/app";
/// As many digits of a commit as flatpak(1) shows.
const COMMIT_DIGITS: usize = 12;

pub(super) fn installed(host: &Host) -> Found {
    let mut packages = Packages::new();
    let names = |path: &str| host.list(path).unwrap_or_default();
    for id in names(APPLICATIONS).iter().filter(|id| is_word(id)) {
        for arch in names(&format!("{APPLICATIONS}/{id}")).iter().filter(|arch| *arch != "current") {
            for branch in names(&format!("{APPLICATIONS}/{id}/{arch}")) {
                let active = format!("{APPLICATIONS}/{id}/{arch}/{branch}/active");
                let Ok(commit) = host.read_link(&active) else { continue };
                if is_word(&branch) && is_word(arch) && is_word(&commit) && packages.len() <= MAX_PACKAGES {
                    let commit: String = commit.chars().take(COMMIT_DIGITS).collect();
                    packages.insert((format!("{id}::{arch}"), format!("{branch}-{commit}")));
                }
            }
        }
    }
    Ok((!packages.is_empty()).then_some(packages))
}
