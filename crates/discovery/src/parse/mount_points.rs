//! What is mounted where, told apart by how it can be trusted to answer: proc_pid_mountinfo(5).

use crate::Host;
use crate::host::Barriers;

/// More mounts are left out; a host of containers has some thousands.
const MAX_MOUNTS: usize = 50_000;

/// A file system by its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// On a disk or in the memory of this host.
    Local,
    /// Made up by the kernel: nothing is stored there.
    Pseudo,
    /// Across a network, through a program (FUSE), or unknown: looking at it may wait for ever.
    Elsewhere,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// As the running system names it.
    pub point: Vec<u8>,
    /// Which part of the file system is mounted: `/` for all of it.
    pub root: Vec<u8>,
    /// major:minor
    pub device: String,
    pub kind: String,
}

impl Mount {
    pub fn reach(&self) -> Reach {
        reach(&self.kind)
    }
}

/// The mounts of this process, in the order in which they were made; empty where /proc is not mounted.
pub fn current() -> Vec<Mount> {
    // A host of its own: nobody is to watch /proc/self.
    parse(&Host::running().read("/proc/self/mountinfo").unwrap_or_default())
}

/// The mounts that must be left alone because they may not answer. Those which hold the tree itself are none: whoever
/// names a tree there wants it looked at.
pub fn barriers(host: &Host, mounts: &[Mount]) -> Barriers {
    let root = host.path_outside("/");
    let mut barriers = Barriers::default();
    let in_the_way =
        |mount: &&Mount| mount.reach() == Reach::Elsewhere && !is_at_or_below(&root, &mount.point);
    mounts.iter().filter(in_the_way).for_each(|mount| barriers.add(&mount.point));
    barriers
}

fn is_at_or_below(path: &[u8], point: &[u8]) -> bool {
    let point = point.strip_suffix(b"/").unwrap_or(point);
    path.strip_prefix(point).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The mount that holds `path`; of several at one point the last one, which covers the others.
pub fn holding<'a>(mounts: &'a [Mount], path: &[u8]) -> Option<&'a Mount> {
    let holds = |mount: &&Mount| is_at_or_below(path, &mount.point);
    // `max_by_key` gives the last of equals.
    mounts.iter().filter(holds).max_by_key(|mount| mount.point.len())
}

/// Pure. Lines that are none are left out.
pub fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line).take(MAX_MOUNTS).collect()
}

/// `36 35 98:0 /root /point options tags... - type source options`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = text(fields.nth(2)?);
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    fields.find(|field| *field == b"-")?;
    let kind = text(fields.next().filter(|kind| !kind.is_empty())?);
    point.starts_with(b"/").then_some(Mount { point, root, device, kind })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

/// Blank, tab, line end and backslash are written as three octal digits in mountinfo and fstab.
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = (*first == b'\\').then(|| after.first_chunk::<3>()).flatten();
        let code = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(code) => {
                plain.push(code);
                rest = &after[3..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

fn reach(kind: &str) -> Reach {
    match kind {
        "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "bcachefs" | "f2fs" | "jfs" | "reiserfs" | "nilfs2"
        | "zfs" | "tmpfs" | "ramfs" | "rootfs" | "overlay" | "aufs" | "vfat" | "msdos" | "exfat"
        | "ntfs3" | "hfsplus" | "ufs" | "minix" | "udf" | "iso9660" | "squashfs" | "erofs" | "cramfs"
        | "romfs" => Reach::Local,
        "proc" | "sysfs" | "devtmpfs" | "devpts" | "cgroup" | "cgroup2" | "securityfs" | "debugfs"
        | "tracefs" | "pstore" | "efivarfs" | "bpf" | "mqueue" | "hugetlbfs" | "configfs" | "fusectl"
        | "binfmt_misc" | "selinuxfs" | "nsfs" | "rpc_pipefs" | "nfsd" | "sockfs" | "pipefs" | "resctrl"
        | "smackfs" | "binder" => Reach::Pseudo,
        _ => Reach::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        23 22 0:5 / /proc rw - proc proc rw\n\
        junk\n\
        24 22 0:40 / /srv/with\\040blank rw,relatime master:1 propagate_from:2 - nfs4 server:/x rw\n\
        25 22 254:0 /var/x /bind rw - ext4 /dev/vda rw\n\
        26 22 0:41 / /bind rw - tmpfs none rw";

    #[test]
    fn the_table_is_read_and_told_apart() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 5);
        assert_eq!((mounts[0].reach(), mounts[1].reach()), (Reach::Local, Reach::Pseudo));
        assert_eq!(mounts[2].point, b"/srv/with blank");
        assert_eq!(mounts[2].reach(), Reach::Elsewhere);
        assert_eq!((mounts[3].root.as_slice(), mounts[3].device.as_str()), (&b"/var/x"[..], "254:0"));
        assert_eq!(holding(&mounts, b"/bind/file").unwrap().kind, "tmpfs");
        assert_eq!(holding(&mounts, b"/binding").unwrap().kind, "ext4");
        assert!(holding(&[], b"/x").is_none());
        let of_running = barriers(&Host::running(), &mounts);
        assert!(of_running.hides(b"/srv/with blank/x") && !of_running.hides(b"/proc/1"));
        assert!(!of_running.hides(b"/srv") && !of_running.hides(b"/bind"));
        // A tree on a server, and in it another mount.
        let tree = tempfile::tempdir().unwrap();
        let host = Host::at(tree.path());
        let outside = String::from_utf8(host.path_outside("/")).unwrap();
        let around = outside.trim_end_matches('/');
        let table =
            format!("1 0 0:9 / {around} rw - nfs4 a:/ rw\n2 1 0:10 / {around}/srv rw - nfs4 b:/ rw\n");
        let of_tree = barriers(&host, &parse(table.as_bytes()));
        assert!(!of_tree.hides(&host.path_outside("/etc")) && of_tree.hides(&host.path_outside("/srv/x")));
    }

    #[test]
    fn this_process_has_a_root() {
        assert!(holding(&current(), b"/").is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut line = b"1 2 8:1 /".to_vec();
            line.extend(&bytes);
            line.extend(b" /p\\0 - ext4");
            parse(&line);
            prop_assert!(parse(&bytes).len() <= 1 + bytes.iter().filter(|b| **b == b'\n').count());
        }
    }
}
