//! What belongs into a backup besides the database, and where each part lives.

use crate::Failure;
use model::paths::SitePaths;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use wire::keys::id::{PUBLIC_SUFFIX, RETIRED_SUFFIX, is_host_secret};

/// Files that a backup takes besides the database, and their size together: a configuration is small.
const MAX_FILES: usize = 20_000;
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Directories below each other.
const MAX_DEPTH: usize = 16;

/// Name of the database inside a backup.
pub const DATABASE: &str = "database/cma.sqlite";

/// Folders of a backup and where they belong; with what is secret in each.
const FOLDERS: [Folder; 5] = [
    Folder { name: "etc/assimilation", place: |site| site.at("/etc/assimilation"), is_key: |_| false },
    Folder { name: "etc/default", place: |site| site.at("/etc/default"), is_key: |_| false },
    Folder { name: "etc/sysconfig", place: |site| site.at("/etc/sysconfig"), is_key: |_| false },
    Folder { name: "crypto.d", place: SitePaths::crypto, is_key: is_secret },
    Folder { name: "state/cma", place: |site| site.state().join("cma"), is_key: |_| true },
];
/// Of these folders only our own files.
const ENVIRONMENT_FILES: [&str; 3] = ["cma", "nanoprobe", "assimilation"];

struct Folder {
    name: &'static str,
    place: fn(&SitePaths) -> PathBuf,
    is_key: fn(&str) -> bool,
}

/// Of the key directory. What is left of a retired key is public: its number is never used again, also on a new machine.
fn is_secret(path: &str) -> bool {
    !path.ends_with(PUBLIC_SUFFIX) && !path.ends_with(RETIRED_SUFFIX)
}

/// A file of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Inside the backup, with `/`.
    pub name: String,
    /// On this machine.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
}

/// Everything but the database, by name. Links and special files are left out and named in the second list.
///
/// # Errors
/// A directory cannot be read, or there is more than a configuration can be.
pub fn of_site(site: &SitePaths, with_keys: bool) -> Result<(Vec<Part>, Vec<PathBuf>), Failure> {
    let mut found = Found::default();
    for folder in &FOLDERS {
        found.walk(folder, &(folder.place)(site), "", with_keys, 0)?;
    }
    found.parts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((found.parts, found.left_out))
}

/// Where a part of this name belongs, `None` for a name that no backup of ours has.
pub fn place(site: &SitePaths, name: &str) -> Option<PathBuf> {
    let folder = FOLDERS.iter().find(|folder| {
        name.strip_prefix(folder.name).is_some_and(|rest| rest.starts_with('/') && rest.len() > 1)
    })?;
    let rest = Path::new(name.strip_prefix(folder.name)?.strip_prefix('/')?);
    // Nothing leads out of the folder.
    let is_plain = rest.components().all(|part| matches!(part, Component::Normal(_)));
    let is_ours = !is_environment(folder) || ENVIRONMENT_FILES.contains(&rest.to_str()?);
    (is_plain && is_ours).then(|| (folder.place)(site).join(rest))
}

/// Whether a part is secret.
pub fn is_key(name: &str) -> bool {
    FOLDERS.iter().any(|folder| {
        name.strip_prefix(folder.name).is_some_and(|rest| rest.starts_with('/') && (folder.is_key)(rest))
    })
}

/// Whether a part is the secret of this machine's own nanoprobe, which root keeps for itself.
pub fn is_nanoprobe_secret(name: &str) -> bool {
    name.strip_prefix("crypto.d/").is_some_and(is_host_secret)
}

fn is_environment(folder: &Folder) -> bool {
    matches!(folder.name, "etc/default" | "etc/sysconfig")
}

#[derive(Default)]
struct Found {
    parts: Vec<Part>,
    left_out: Vec<PathBuf>,
    bytes: u64,
}

impl Found {
    fn walk(
        &mut self,
        folder: &Folder,
        directory: &Path,
        below: &str,
        with_keys: bool,
        depth: usize,
    ) -> Result<(), Failure> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(Failure::new(format!("{} cannot be read: {error}", directory.display()))
                    .hint("Make backups as root or as the user that the CMA runs as."));
            }
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let (Ok(metadata), Some(file)) =
                (entry.metadata(), entry.file_name().to_str().map(str::to_owned))
            else {
                self.left_out.push(path);
                continue;
            };
            if is_environment(folder) && !ENVIRONMENT_FILES.contains(&file.as_str()) {
                continue;
            }
            let name = format!("{below}/{file}");
            if !with_keys && metadata.is_file() && (folder.is_key)(&name) {
                continue;
            }
            if metadata.is_dir() && depth < MAX_DEPTH {
                self.walk(folder, &path, &name, with_keys, depth + 1)?;
            } else if metadata.is_file() {
                // The CMA's user may make backups, and the nanoprobe on its machine is root's.
                let name_below = format!("{}{name}", folder.name);
                let user = rustix::process::geteuid().as_raw();
                if is_nanoprobe_secret(&name_below) && ![0, metadata.uid()].contains(&user) {
                    self.left_out.push(path);
                    continue;
                }
                self.bytes = self.bytes.saturating_add(metadata.len());
                if self.parts.len() >= MAX_FILES || self.bytes > MAX_BYTES {
                    return Err(Failure::new(format!(
                        "{} holds more than {MAX_FILES} files or {} MB: that is no configuration",
                        directory.display(),
                        MAX_BYTES / 1_048_576
                    ))
                    .hint("Move what does not belong there to another place."));
                }
                let mode = metadata.permissions().mode() & 0o7777;
                self.parts.push(Part { name: name_below, path, mode });
            } else {
                self.left_out.push(path);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> (tempfile::TempDir, SitePaths) {
        let root = tempfile::tempdir().unwrap();
        let site = SitePaths::new(root.path());
        let files = [
            (site.at("/etc/assimilation/rules.d/a/b.toml"), 0o644),
            (site.cma_config(), 0o640),
            (site.at("/etc/default/cma"), 0o644),
            (site.at("/etc/default/cron"), 0o644),
            (site.crypto().join("#CMA#00001.pub"), 0o644),
            (site.crypto().join("#CMA#00000.retired"), 0o644),
            (site.crypto().join("#CMA#00001.secret"), 0o600),
            (site.state().join("cma/keys/heartbeat"), 0o600),
            (site.state().join("nanoprobe/queue"), 0o600),
        ];
        for (path, mode) in files {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, path.file_name().unwrap().as_encoded_bytes()).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        (root, site)
    }

    fn names(parts: &[Part]) -> Vec<&str> {
        parts.iter().map(|part| part.name.as_str()).collect()
    }

    #[test]
    fn secrets_are_taken_only_when_asked_for() {
        let (_root, site) = site();
        std::os::unix::fs::symlink("/etc/passwd", site.at("/etc/assimilation/link")).unwrap();
        let (parts, left_out) = of_site(&site, false).unwrap();
        let public = [
            "crypto.d/#CMA#00000.retired",
            "crypto.d/#CMA#00001.pub",
            "etc/assimilation/cma.toml",
            "etc/assimilation/rules.d/a/b.toml",
            "etc/default/cma",
        ];
        assert_eq!(names(&parts), public);
        assert_eq!(left_out, [site.at("/etc/assimilation/link")]);
        assert!(parts.iter().all(|part| !is_key(&part.name)));
        assert_eq!(parts[2].mode, 0o640);
        let (parts, _) = of_site(&site, true).unwrap();
        let keys: Vec<&str> = names(&parts).into_iter().filter(|name| is_key(name)).collect();
        assert_eq!(keys, ["crypto.d/#CMA#00001.secret", "state/cma/keys/heartbeat"]);
    }

    #[test]
    fn every_part_goes_back_to_where_it_was_and_nothing_anywhere_else() {
        let (_root, site) = site();
        for part in of_site(&site, true).unwrap().0 {
            assert_eq!(place(&site, &part.name), Some(part.path));
        }
        for hostile in [
            "",
            "etc/assimilation",
            "etc/assimilation/",
            "etc/assimilation/../passwd",
            "etc/assimilation//etc/passwd",
            "etc/assimilationx/y",
            "etc/default/cron",
            "etc/default/cma/x",
            "/etc/assimilation/x",
            "crypto.d/./../x",
            "etc/passwd",
            "state/nanoprobe/x",
        ] {
            assert_eq!(place(&site, hostile), None, "{hostile:?}");
        }
    }
}
