//! Where a scan begins and what it leaves alone.

use crate::Host;
use crate::host::Barriers;
use crate::parse::mount_points::{self, Mount, Reach};
use std::collections::BTreeMap;

/// What is not scanned is listed up to here.
const MAX_LISTED: usize = 1000;

#[derive(Debug)]
pub struct Places {
    /// Directories of the host to begin at, with the type of their file system.
    pub starts: BTreeMap<String, String>,
    pub not_scanned: BTreeMap<String, String>,
    pub barriers: Barriers,
}

/// `None` when nobody tells what is mounted.
pub fn of(host: &Host, skip: &[&str]) -> Option<Places> {
    let mounts = mount_points::current();
    if mounts.is_empty() {
        return None;
    }
    let skipped: Vec<Vec<u8>> = skip.iter().map(|path| host.path_outside(path)).collect();
    if host.is_running_system() {
        Some(running(&mounts, &skipped))
    } else {
        Some(tree(host, &mounts, &skipped))
    }
}

/// A tree is scanned across the local mounts in it.
fn tree(host: &Host, mounts: &[Mount], skipped: &[Vec<u8>]) -> Places {
    let mut barriers = mount_points::barriers(mounts);
    skipped.iter().for_each(|path| barriers.add(path));
    // In the namespace of a container or image the pseudo file systems of a tree may be ordinary directories.
    let kind = mount_points::holding(mounts, &host.path_outside("/")).map_or("", |mount| mount.kind.as_str());
    Places {
        starts: BTreeMap::from([("/".to_owned(), kind.to_owned())]),
        not_scanned: BTreeMap::new(),
        barriers,
    }
}

/// Each local file system once.
fn running(mounts: &[Mount], skipped: &[Vec<u8>]) -> Places {
    let mut barriers = Barriers::default();
    skipped.iter().for_each(|path| barriers.add(path));
    let mut skip_only = Barriers::default();
    skipped.iter().for_each(|path| skip_only.add(path));
    // The last one mounted at a point is the one that is seen.
    let seen: BTreeMap<&[u8], &Mount> = mounts.iter().map(|mount| (mount.point.as_slice(), mount)).collect();
    let shown: Vec<&Mount> = seen.into_values().filter(|mount| !skip_only.hides(&mount.point)).collect();
    let mut places = Places { starts: BTreeMap::new(), not_scanned: BTreeMap::new(), barriers };
    for mount in mounts {
        if mount.point != b"/" {
            places.barriers.add(&mount.point);
        }
    }
    for mount in &shown {
        // What is no text cannot be a start; that is told below as not scanned.
        let point = String::from_utf8(mount.point.clone());
        let scanned = mount.reach() == Reach::Local && !is_image(&mount.kind) && point.is_ok();
        if scanned && !shown.iter().any(|other| covers(other, mount)) {
            places.starts.extend(point.map(|point| (point, mount.kind.clone())));
        } else if !scanned && mount.reach() != Reach::Pseudo && places.not_scanned.len() < MAX_LISTED {
            let point = String::from_utf8_lossy(&mount.point).into_owned();
            places.not_scanned.insert(point, mount.kind.clone());
        }
    }
    places
}

/// Made elsewhere and never written.
fn is_image(kind: &str) -> bool {
    matches!(kind, "squashfs" | "erofs" | "iso9660" | "cramfs" | "romfs")
}

/// Whether everything in `mount` is seen through `other` too: it shows the same files or a directory above them. Of
/// two that show the same, the first by name is the one.
fn covers(other: &Mount, mount: &Mount) -> bool {
    if other.device != mount.device || other.point == mount.point {
        return false;
    }
    if other.root == mount.root {
        return other.point < mount.point;
    }
    let above = other.root.strip_suffix(b"/").unwrap_or(&other.root);
    mount.root.strip_prefix(above).is_some_and(|rest| rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"1 0 254:0 / / rw - ext4 /dev/vda rw\n\
        2 1 0:5 / /proc rw - proc proc rw\n\
        3 1 254:0 /srv/data /export rw - ext4 /dev/vda rw\n\
        4 1 0:40 / /mnt/nfs rw - nfs4 server:/x rw\n\
        5 1 0:33 /@home /home rw - btrfs /dev/vdb rw\n\
        6 1 0:33 /@srv /srv rw - btrfs /dev/vdb rw\n\
        7 1 0:33 /@srv /mnt/srv rw - btrfs /dev/vdb rw\n\
        8 1 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro\n\
        9 1 0:50 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n\
        10 1 0:51 / /tmp rw - tmpfs tmpfs rw\n\
        11 1 0:52 / /home/joe/remote rw - fuse.sshfs joe@x: rw";

    #[test]
    fn each_local_file_system_is_scanned_once() {
        let places = running(&mount_points::parse(TABLE), &[b"/var/lib/docker".to_vec()]);
        let starts: Vec<&String> = places.starts.keys().collect();
        assert_eq!(starts, ["/", "/home", "/mnt/srv", "/tmp"]);
        let not: Vec<_> =
            places.not_scanned.iter().map(|(point, kind)| (point.as_str(), kind.as_str())).collect();
        assert_eq!(
            not,
            [("/home/joe/remote", "fuse.sshfs"), ("/mnt/nfs", "nfs4"), ("/snap/core/1", "squashfs")]
        );
        for path in ["/proc", "/mnt/nfs", "/home", "/var/lib/docker/x", "/export", "/home/joe/remote"] {
            assert!(places.barriers.hides(path.as_bytes()), "{path}");
        }
        assert!(!places.barriers.hides(b"/var/lib") && !places.barriers.hides(b"/"));
    }
}
