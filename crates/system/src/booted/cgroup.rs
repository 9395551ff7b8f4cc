//! Where the processes of a machine are counted: one control group (cgroups(7), version 2) for each.

use std::path::{Path, PathBuf};

/// The directory in which this machine's control groups of version 2 are mounted.
pub(super) fn mount_point() -> Result<PathBuf, String> {
    let mounts =
        std::fs::read_to_string("/proc/self/mountinfo").map_err(|e| format!("/proc/self/mountinfo: {e}"))?;
    find(&mounts).ok_or_else(|| {
        "no control groups of version 2 are mounted, which systemd needs: \
         mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified"
            .into()
    })
}

/// Ends what still runs in a control group and removes it with all below it.
pub(super) fn remove(group: &Path) {
    // Older kernels than 5.14 have no such file; then the death of the machine's init has ended everything already.
    let _ = std::fs::write(group.join("cgroup.kill"), "1");
    for _ in 0..50 {
        remove_below(group);
        if !group.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn remove_below(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}

/// Fields by proc_pid_mountinfo(5): the mount point is the fifth, the type follows the lone dash.
fn find(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        (after.split(' ').next()? == "cgroup2").then_some(())?;
        before.split(' ').nth(4).map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use super::find;
    use std::path::Path;

    #[test]
    fn finds_version_2_alone_and_beside_version_1() {
        let both = "25 1 0:23 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            26 25 0:24 / /sys/fs/cgroup/cpu rw shared:3 - cgroup cgroup rw,cpu\n\
            27 25 0:25 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(find(both).as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        let alone = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(find(alone).as_deref(), Some(Path::new("/sys/fs/cgroup")));
        assert_eq!(find("26 25 0:24 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"), None);
    }
}
