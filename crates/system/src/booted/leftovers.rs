//! Names that say which process a machine belongs to, so that what a killed test left can be told and removed.

use super::cgroup;
use std::fs;
use std::path::{Path, PathBuf};

/// Beginning of the names of folders, control groups and (see [`crate::network`]) network namespaces of tests.
const PREFIX: &str = "assim";

/// For the machine number `count` of this process.
pub(super) fn name(count: u32) -> String {
    format!("{PREFIX}{}m{count}", std::process::id())
}

/// Where the machine `name` keeps its files.
pub(super) fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(name)
}

/// Removes the machines of processes that do not live any more, with the networks they were in.
pub(super) fn sweep() {
    if let Ok(groups) = cgroup::mount_point() {
        for path in abandoned(&groups, &['m']) {
            cgroup::remove(&path);
        }
    }
    for path in abandoned(&std::env::temp_dir(), &['m']) {
        let _ = fs::remove_dir_all(path);
    }
    for path in abandoned(Path::new("/run/netns"), &['x']) {
        if let Some(name) = path.file_name() {
            let _ =
                crate::process::capture(std::process::Command::new("ip").args(["netns", "del"]).arg(name));
        }
    }
}

fn abandoned(folder: &Path, separators: &[char]) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of_the_dead = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| owner(name, separators))
            .is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
    };
    entries.map(|entry| entry.path()).filter(of_the_dead).collect()
}

/// The process that made what has this name.
fn owner(name: &str, separators: &[char]) -> Option<u32> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once(separators)?;
    pid.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_owner_and_nothing_else_has_one() {
        assert_eq!(owner(&name(3), &['m']), Some(std::process::id()));
        assert_eq!(owner("assim77x0-sw", &['x']), Some(77));
        for foreign in ["assimilation", "assim", "assimxm1", "assim77", "other77m1", "assim-1m0"] {
            assert_eq!(owner(foreign, &['m']), None, "{foreign}");
        }
    }
}
