//! Whether a system is a container, and of which kind.
//!
//! Software that starts a container leaves a mark: systemd keeps the name in `/run/systemd/container` (see
//! "Container Interface" of systemd), the variable `container` stands in the environment of process 1, Podman and
//! Docker put a file into the root directory, and the control groups of process 1 tell the rest. The kernel knows best:
//! a process in the first PID namespace, on the same root as process 1, is in no container whatever lies about.

use super::mount_points::{self, Mount};
use crate::Host;

/// The largest environment and list of control groups that is looked at.
const MAX_BYTES: u64 = 64 * 1024;

/// A host with thousands of containers has as many lines.
const MAX_MOUNTINFO_BYTES: u64 = 4 * 1024 * 1024;
/// The process namespace of the machine itself: the kernel numbers it so (include/linux/proc_ns.h, PROC_PID_INIT_INO).
/// Files may have stayed from an image that was a container once; this cannot.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Parts of a control group's path by which container managers are known.
const IN_CGROUP: [(&str, &str); 8] = [
    ("/docker", "docker"),
    ("docker-", "docker"),
    ("libpod", "podman"),
    ("/kubepods", "kubernetes"),
    ("kubepods.slice", "kubernetes"),
    ("/lxc", "lxc"),
    ("cri-containerd", "containerd"),
    ("/garden/", "garden"),
];

/// The kind of container as its manager calls itself: `docker`, `podman`, `lxc`, `systemd-nspawn`, `openvz`,
/// `kubernetes`; `None` for a machine, real or virtual.
pub fn container_of(host: &Host) -> Option<String> {
    let read = |path: &str| host.read_at_most(path, MAX_BYTES).ok();
    if is_beside_init(host) {
        return None;
    }
    if let Some(bytes) = read("/run/systemd/container") {
        let text = String::from_utf8_lossy(&bytes);
        return Some(kind(text.lines().next().unwrap_or("")));
    }
    if let Some(name) = read("/proc/1/environ").as_deref().and_then(from_environment) {
        return Some(name);
    }
    for (file, name) in [("/run/.containerenv", "podman"), ("/.dockerenv", "docker")] {
        if host.lstat(file).is_ok() {
            return Some(name.to_owned());
        }
    }
    // Inside OpenVZ there is /proc/vz; the machine that runs it has /proc/bc besides.
    if host.lstat("/proc/vz").is_ok() && host.lstat("/proc/bc").is_err() {
        return Some("openvz".to_owned());
    }
    from_cgroups(&String::from_utf8_lossy(&read("/proc/1/cgroup")?))
}

/// Whether this process lives where the machine's own first process does. Then marks in the file system mean
/// nothing: virtual machines are made from the images of containers, with everything that is in them.
fn is_beside_init(host: &Host) -> bool {
    if host.read_link("/proc/self/ns/pid").as_deref() != Ok(FIRST_PID_NAMESPACE) {
        return false;
    }
    // A container may share the processes of the machine, but has a root directory of its own.
    let root_device = |process: &str| {
        let bytes = host.read_at_most(&format!("/proc/{process}/mountinfo"), MAX_MOUNTINFO_BYTES).ok()?;
        root_device(&bytes)
    };
    match (root_device("1"), root_device("self")) {
        (Some(of_init), Some(ours)) => of_init == ours,
        _ => true,
    }
}

/// The `major:minor` of what is mounted on `/`, the last of several.
fn root_device(mountinfo: &[u8]) -> Option<String> {
    let on_root = |mount: &Mount| mount.point == b"/";
    mount_points::parse(mountinfo).into_iter().rfind(on_root).map(|mount| mount.device)
}

fn from_environment(environment: &[u8]) -> Option<String> {
    let value = environment.split(|b| *b == 0).find_map(|variable| variable.strip_prefix(b"container="))?;
    (!value.is_empty()).then(|| kind(&String::from_utf8_lossy(value)))
}

fn from_cgroups(text: &str) -> Option<String> {
    let paths = || text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    IN_CGROUP
        .iter()
        .find(|(part, _)| paths().any(|path| path.contains(part)))
        .map(|(_, name)| (*name).to_owned())
}

/// A name as rules may rely on: one short word, whatever was written there.
fn kind(text: &str) -> String {
    let name = text.trim();
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if (1..=40).contains(&name.len()) && name.bytes().all(legal) {
        name.to_ascii_lowercase()
    } else {
        "container".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &[u8])]) -> Option<String> {
        let tree = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        container_of(&Host::at(tree.path()))
    }

    #[test]
    fn marks_of_containers() {
        assert_eq!(of(&[("run/systemd/container", b"systemd-nspawn\n")]).as_deref(), Some("systemd-nspawn"));
        assert_eq!(of(&[("run/systemd/container", b"\xff\x00 junk")]).as_deref(), Some("container"));
        assert_eq!(of(&[("proc/1/environ", b"A=1\0container=lxc\0")]).as_deref(), Some("lxc"));
        assert_eq!(of(&[(".dockerenv", b"")]).as_deref(), Some("docker"));
        assert_eq!(of(&[("run/.containerenv", b"")]).as_deref(), Some("podman"));
        assert_eq!(of(&[("proc/vz/version", b"")]).as_deref(), Some("openvz"));
        let cgroup = b"12:cpu:/docker/0123\n0::/\n";
        assert_eq!(of(&[("proc/1/cgroup", cgroup)]).as_deref(), Some("docker"));
        let cgroup = b"0::/system.slice/libpod-0123.scope\n";
        assert_eq!(of(&[("proc/1/cgroup", cgroup)]).as_deref(), Some("podman"));
    }

    #[test]
    fn the_root_tells_whether_a_container_shares_the_processes_of_the_machine() {
        let host = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:5 / /proc rw - proc proc rw\n";
        assert_eq!(root_device(host.as_bytes()).as_deref(), Some("8:1"));
        assert_eq!(root_device(b"9 8 0:52 / / rw - overlay overlay rw\n").as_deref(), Some("0:52"));
        assert_eq!(root_device(b"junk\n"), None);
    }

    #[test]
    fn a_machine_made_from_an_image_is_no_container() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::write(tree.path().join(".dockerenv"), "").unwrap();
        std::fs::create_dir_all(tree.path().join("proc/self/ns")).unwrap();
        std::os::unix::fs::symlink("pid:[4026531836]", tree.path().join("proc/self/ns/pid")).unwrap();
        assert_eq!(container_of(&Host::at(tree.path())), None);
        std::fs::remove_file(tree.path().join("proc/self/ns/pid")).unwrap();
        std::os::unix::fs::symlink("pid:[4026532200]", tree.path().join("proc/self/ns/pid")).unwrap();
        assert_eq!(container_of(&Host::at(tree.path())).as_deref(), Some("docker"));
    }

    #[test]
    fn a_machine_is_no_container() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("proc/1/cgroup", b"0::/init.scope\n"), ("proc/1/environ", b"TERM=linux\0")]), None);
        // A host of OpenVZ, and a manager without anything in it.
        assert_eq!(of(&[("proc/vz/version", b""), ("proc/bc/resources", b"")]), None);
        assert_eq!(of(&[("proc/1/environ", b"container=\0")]), None);
    }
}
