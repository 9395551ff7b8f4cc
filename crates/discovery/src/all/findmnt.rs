//! Mounted file systems and their options: `/proc/self/mountinfo` (proc_pid_mountinfo(5)) and `/etc/fstab` (fstab(5)).
//!
//! Each mount point is a member: `{"source", "fstype", "options"}`. Options are name → `true`, a number or a text;
//! those whose names end in `mode` or `mask` are octal and delivered in decimal (`mode=1777` → 1023). Of several
//! mounts on one point the last counts, the one that is seen. What the kernel says of the mount and of the file system
//! is one list; `ro` in either makes it `ro`.
//!
//! | member | meaning |
//! |---|---|
//! | `/...` | what is mounted there; for a file tree what fstab and systemd would mount |
//! | `local` | mount points on disks other than `/` → `{"options"}` |
//! | `remote` | mount points of network file systems, also those of fstab that are not mounted → `{"fstype", "options"}` |
//! | `removable` | the same for removable media: the device says so, is a CD or floppy, or is mounted below /media |
//! | `fstab` | mount point → `{"source", "fstype", "options"}` as it stands in fstab |
//!
//! `local`, `remote` and `removable` are absent when there is none. Mounts of disks also tell `encrypted`, whether dm-crypt
//! lies beneath (running system only, not for what the boot loader reads). Passwords in options are `***`.
//! ```json
//! {"/tmp":{"source":"tmpfs","fstype":"tmpfs","options":{"rw":true,"nosuid":true,"nodev":true,"mode":1023}},
//!  "/srv":{"source":"/dev/sdb1","fstype":"ext4","options":{"rw":true},"encrypted":false},"local":{"/srv":{"options":{"rw":true}}}}
//! ```

use crate::parse::mount_points;
use crate::parse::{self, Errors, Files, collected, integer, is_secret_name, mask_secrets, no_data, quoted};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub static DISCOVERY: Discovery = Discovery {
    name: "findmnt",
    description: "Mounted file systems and their options",
    documentation: documentation::FINDMNT,
    parameters: &[],
    instances: &[Instance { name: "_init_findmnt", parameters: &[], schedule: None }],
    // A mount is no event of a file, so somebody has to look.
    schedule: Schedule { repeat_seconds: 120, warn_seconds: 5, timeout_seconds: 60 },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

pub(super) const MOUNTINFO: &str = "/proc/self/mountinfo";
pub(super) const FSTAB: &str = "/etc/fstab";
const SYSTEMD: [&str; 2] = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
/// Links that make systemd mount /tmp, and the unit that says how.
const TMP_WANTED: [&str; 3] = [
    "/etc/systemd/system/local-fs.target.wants/tmp.mount",
    "/usr/lib/systemd/system/local-fs.target.wants/tmp.mount",
    "/lib/systemd/system/local-fs.target.wants/tmp.mount",
];
const TMP_UNIT: [&str; 3] =
    ["/etc/systemd/system/tmp.mount", "/usr/lib/systemd/system/tmp.mount", "/lib/systemd/system/tmp.mount"];
const REMOTE: [&str; 12] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ncpfs",
    "afs",
    "ceph",
    "glusterfs",
    "fuse.glusterfs",
    "fuse.sshfs",
    "9p",
];
/// What boot loaders and firmware read, and so cannot be encrypted as a rule.
const READ_AT_BOOT: [&str; 3] = ["/boot", "/boot/efi", "/efi"];
const MAX_MOUNTS: usize = 2000;
/// dm-crypt below LVM below RAID and the like.
const MAX_LAYERS: usize = 5;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mount {
    pub source: String,
    pub fstype: String,
    options: Map<String, Value>,
    /// `major:minor`; empty when not known.
    device: String,
}

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut errors = Errors::default();
    let running = host.is_running_system();
    let fstab_text = host.text(FSTAB);
    let fstab = match &fstab_text {
        Ok(text) => fstab(text, FSTAB, &mut errors),
        Err(reason) => {
            if !reason.absent || !running {
                errors.unread(reason);
            }
            BTreeMap::new()
        }
    };
    let mounted = if running {
        match host.text(MOUNTINFO) {
            Ok(text) => mountinfo(&text, MOUNTINFO, &mut errors),
            Err(reason) => {
                errors.unread(&reason);
                return collected((no_data(MOUNTINFO), errors.into_list()));
            }
        }
    } else {
        if fstab_text.is_err() {
            return collected((no_data(FSTAB), errors.into_list()));
        }
        let mut mounts: BTreeMap<String, Mount> =
            fstab.iter().filter(|(_, mount)| !mount.options.contains_key("noauto")).map(cloned).collect();
        systemd_mounts(host, &mut mounts);
        mounts
    };
    let facts = Facts {
        encrypted: &|device| encrypted(host, device, 0),
        removable: &|device| removable(host, device),
    };
    let data = document(&mounted, &fstab, if running { Some(&facts) } else { None });
    collected((Value::Object(data), errors.into_list()))
}

fn cloned((point, mount): (&String, &Mount)) -> (String, Mount) {
    (point.clone(), mount.clone())
}

/// What the running kernel says of a block device by its number.
struct Facts<'a> {
    encrypted: &'a dyn Fn(&str) -> bool,
    removable: &'a dyn Fn(&str) -> bool,
}

fn document(
    mounted: &BTreeMap<String, Mount>,
    fstab: &BTreeMap<String, Mount>,
    facts: Option<&Facts<'_>>,
) -> Map<String, Value> {
    let (mut data, mut local, mut remote, mut removable) = (Map::new(), Map::new(), Map::new(), Map::new());
    let mut encrypted = BTreeMap::new();
    let not_mounted = fstab.iter().filter(|(point, _)| !mounted.contains_key(*point));
    for (point, mount) in mounted.iter().chain(not_mounted) {
        let told = json!({"fstype": mount.fstype, "options": mount.options});
        if REMOTE.contains(&mount.fstype.as_str()) {
            remote.insert(point.clone(), told);
            continue;
        }
        let device_says =
            facts.is_some_and(|facts| !mount.device.is_empty() && (facts.removable)(&mount.device));
        if device_says || looks_removable(point, mount) {
            removable.insert(point.clone(), told);
        } else if mounted.contains_key(point) && is_on_disk(mount) {
            if let Some(facts) =
                facts.filter(|_| !mount.device.is_empty() && !READ_AT_BOOT.contains(&point.as_str()))
            {
                encrypted.insert(point.as_str(), (facts.encrypted)(&mount.device));
            }
            if point != "/" {
                local.insert(point.clone(), json!({ "options": mount.options }));
            }
        }
    }
    for (name, group) in [("local", local), ("remote", remote), ("removable", removable)] {
        if !group.is_empty() {
            data.insert(name.into(), Value::Object(group));
        }
    }
    let about =
        |mount: &Mount| json!({"source": mount.source, "fstype": mount.fstype, "options": mount.options});
    for (point, mount) in mounted {
        let mut told = about(mount);
        if let Some(encrypted) = encrypted.get(point.as_str()) {
            told["encrypted"] = (*encrypted).into();
        }
        data.insert(point.clone(), told);
    }
    if !fstab.is_empty() {
        data.insert(
            "fstab".into(),
            fstab.iter().map(|(point, mount)| (point.clone(), about(mount))).collect(),
        );
    }
    data
}

fn is_on_disk(mount: &Mount) -> bool {
    let named = ["/dev/", "UUID=", "LABEL=", "PARTUUID=", "PARTLABEL="]
        .iter()
        .any(|start| mount.source.starts_with(start));
    named && !matches!(mount.fstype.as_str(), "tmpfs" | "devtmpfs" | "squashfs" | "swap")
        // Without a device behind it this is a program, not a disk.
        && !mount.source.starts_with("/dev/fuse")
        // An image file, mounted by snapd and the like.
        && !mount.source.starts_with("/dev/loop")
}

fn looks_removable(point: &str, mount: &Mount) -> bool {
    let device = mount.source.strip_prefix("/dev/").unwrap_or("");
    let optical = ["cdrom", "cdrw", "dvd", "sr", "scd", "fd", "floppy"]
        .iter()
        .any(|kind| device.strip_prefix(kind).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit())));
    let medium = is_on_disk(mount) && ["/media/", "/run/media/"].iter().any(|start| point.starts_with(start));
    optical || medium
}

/// What is mounted, by mount point. Lines `id parent major:minor root point options [tag...] - fstype source super-options`.
pub(super) fn mountinfo(text: &str, file: &str, errors: &mut Errors) -> BTreeMap<String, Mount> {
    let mut mounts = BTreeMap::new();
    for (number, line) in parse::lines(text, file, errors) {
        // Split at single blanks: an empty source leaves two of them.
        let fields: Vec<&str> = line.split(' ').collect();
        let separator = fields.iter().position(|field| *field == "-").filter(|at| *at >= 6);
        let (Some(at), [_, _, device, _, point, options, ..]) = (separator, fields.as_slice()) else {
            errors.at(file, number, format_args!("{} is not a mount", quoted(line)));
            continue;
        };
        let [fstype, source, of_file_system @ ..] = &fields[at + 1..] else {
            errors.at(file, number, format_args!("{} is not a mount", quoted(line)));
            continue;
        };
        let mut all = options_of(options);
        for (name, value) in options_of(of_file_system.first().unwrap_or(&"")) {
            match name.as_str() {
                // The file system may be writable where this mount of it is not, and the reverse.
                "rw" => {}
                "ro" => {
                    all.remove("rw");
                    all.insert(name, value);
                }
                _ => {
                    all.insert(name, value);
                }
            }
        }
        let mount = Mount {
            source: unescaped(source),
            fstype: unescaped(fstype),
            options: all,
            device: (*device).to_owned(),
        };
        if mounts.len() == MAX_MOUNTS {
            errors.at(file, number, format_args!("more than {MAX_MOUNTS} mounts, the rest is left out"));
            break;
        }
        mounts.insert(unescaped(point), mount);
    }
    mounts
}

/// Lines `source point fstype options dump pass`, by mount point; swap has none.
pub(super) fn fstab(text: &str, file: &str, errors: &mut Errors) -> BTreeMap<String, Mount> {
    let mut mounts = BTreeMap::new();
    for (number, line) in parse::lines(text, file, errors) {
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        let mut fields = line.split_whitespace();
        let (Some(source), Some(point), Some(fstype)) = (fields.next(), fields.next(), fields.next()) else {
            errors.at(file, number, format_args!("{} is not a line of fstab", quoted(line)));
            continue;
        };
        if fstype == "swap" || matches!(point, "none" | "swap") {
            continue;
        }
        if !point.starts_with('/') {
            errors.at(file, number, format_args!("{} is not a mount point", quoted(point)));
            continue;
        }
        if mounts.len() == MAX_MOUNTS {
            errors.at(file, number, format_args!("more than {MAX_MOUNTS} mounts, the rest is left out"));
            break;
        }
        let mount = Mount {
            source: unescaped(source),
            fstype: unescaped(fstype),
            options: with_implied(options_of(fields.next().unwrap_or("defaults"))),
            device: String::new(),
        };
        let point = unescaped(point);
        let point = point.trim_end_matches('/');
        mounts.insert(if point.is_empty() { "/" } else { point }.to_owned(), mount);
    }
    mounts
}

fn options_of(list: &str) -> Map<String, Value> {
    let mut options = Map::new();
    for option in list.split(',').map(str::trim).filter(|option| !option.is_empty()) {
        let (name, value) =
            option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let octal = name.ends_with("mode") || name.ends_with("mask");
        let value = match value {
            None => Value::Bool(true),
            Some(_) if is_secret_name(name) => "***".into(),
            Some(value) if octal && i64::from_str_radix(value, 8).is_ok_and(|mode| mode >= 0) => {
                i64::from_str_radix(value, 8).unwrap_or_default().into()
            }
            Some(value) => integer(value).map_or_else(|| mask_secrets(&unescaped(value)).into(), Value::from),
        };
        options.insert(unescaped(name), value);
    }
    options
}

/// What mount(8) adds to the options of people: who may mount without being root gets no devices, programs or
/// set-id, unless the line says otherwise. The opposite of an option takes it away.
fn with_implied(mut options: Map<String, Value>) -> Map<String, Value> {
    let any =
        |names: &[&str], options: &Map<String, Value>| names.iter().any(|name| options.contains_key(*name));
    let (mounted_by_user, by_owner) = (["user", "users"], ["user", "users", "owner", "group"]);
    for (option, opposite, implied_by) in
        [("nodev", "dev", &by_owner[..]), ("nosuid", "suid", &by_owner), ("noexec", "exec", &mounted_by_user)]
    {
        if options.contains_key(opposite) {
            options.remove(option);
        } else if any(implied_by, &options) {
            options.insert(option.to_owned(), Value::Bool(true));
        }
    }
    options
}

/// `\040` and the like as the characters they stand for.
fn unescaped(text: &str) -> String {
    String::from_utf8_lossy(&mount_points::unescape(text.as_bytes())).into_owned()
}

/// What systemd mounts without fstab: /dev/shm always, /tmp when its unit is wanted.
fn systemd_mounts(host: &Host, mounts: &mut BTreeMap<String, Mount>) {
    if !SYSTEMD.iter().any(|program| host.stat(program).is_ok()) {
        return;
    }
    let tmpfs = |options: &str| Mount {
        source: "tmpfs".into(),
        fstype: "tmpfs".into(),
        options: options_of(options),
        device: String::new(),
    };
    mounts.entry("/dev/shm".into()).or_insert_with(|| tmpfs("rw,nosuid,nodev"));
    let masked = host.read_link(TMP_UNIT[0]).as_deref() == Ok("/dev/null");
    if masked || !TMP_WANTED.iter().any(|link| host.lstat(link).is_ok()) {
        return;
    }
    let unit = TMP_UNIT.iter().find_map(|file| host.text(file).ok()).unwrap_or_default();
    let options = unit.lines().filter_map(|line| line.trim().strip_prefix("Options=")).next_back();
    mounts.entry("/tmp".into()).or_insert_with(|| tmpfs(options.unwrap_or("rw")));
}

/// Whether dm-crypt is this device or one beneath it.
fn encrypted(host: &Host, device: &str, layer: usize) -> bool {
    let of = |name: &str| format!("/sys/dev/block/{device}/{name}");
    if host.read_at_most(&of("dm/uuid"), 4096).is_ok_and(|uuid| uuid.starts_with(b"CRYPT-")) {
        return true;
    }
    if layer == MAX_LAYERS {
        return false;
    }
    let beneath = host.list(&of("slaves")).unwrap_or_default();
    let number = |name: &str| {
        let bytes = host.read_at_most(&of(&format!("slaves/{name}/dev")), 64).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    // All disks of an array, because one in clear is enough for a thief.
    let devices: Vec<String> = beneath.iter().take(64).filter_map(|name| number(name)).collect();
    !devices.is_empty() && devices.iter().all(|device| encrypted(host, device, layer + 1))
}

fn removable(host: &Host, device: &str) -> bool {
    // A partition does not say; the disk it is on, the directory above, does.
    ["removable", "../removable"].iter().any(|name| {
        host.read_at_most(&format!("/sys/dev/block/{device}/{name}"), 16)
            .is_ok_and(|text| text.first() == Some(&b'1'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, check_fixtures, check_robustness, collect};

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn robustness() {
        check_robustness(&DISCOVERY, FSTAB, FSTAB, "/dev/sda1 / ext4 rw 0 1\nserver:/x /mnt nfs4 nodev,ro\n");
    }

    fn mounted(text: &str) -> (BTreeMap<String, Mount>, Vec<String>) {
        let mut errors = Errors::default();
        (mountinfo(text, MOUNTINFO, &mut errors), errors.into_list())
    }

    #[test]
    fn mounts_of_the_kernel() {
        let text = "22 27 0:21 / /proc rw,nosuid shared:12 - proc proc rw\n\
            30 27 8:1 / /my\\040disk ro,relatime shared:1 master:2 - ext4 /dev/sda1 rw,errors=remount-ro\n\
            31 27 0:30 / /tmp rw,nosuid,nodev - tmpfs tmpfs rw,size=65536k,nr_inodes=7,mode=1777,inode64\n\
            32 27 0:31 / /dev/pts rw - devpts  rw,gid=5,mode=620,ptmxmode=000\n\
            33 27 0:32 / /tmp rw - tmpfs tmpfs ro\n";
        let (found, errors) = mounted(text);
        assert!(errors.is_empty(), "{errors:?}");
        let disk = &found["/my disk"];
        assert_eq!(
            Value::Object(disk.options.clone()),
            json!({"ro": true, "relatime": true, "errors": "remount-ro"})
        );
        assert_eq!(
            (disk.source.as_str(), disk.fstype.as_str(), disk.device.as_str()),
            ("/dev/sda1", "ext4", "8:1")
        );
        // An empty source moves nothing; octal values are decimal; the last mount on a point counts.
        let pts = &found["/dev/pts"];
        assert_eq!((pts.source.as_str(), pts.fstype.as_str()), ("", "devpts"));
        assert_eq!(
            Value::Object(pts.options.clone()),
            json!({"rw": true, "gid": 5, "mode": 400, "ptmxmode": 0})
        );
        assert_eq!(Value::Object(found["/tmp"].options.clone()), json!({"ro": true}));
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let (found, errors) =
            mounted("1 2 3\n22 27 0:21 / /proc rw - proc\n22 27 0:21 / /p rw - proc proc rw\n");
        assert_eq!(found.len(), 1);
        assert_eq!(errors.len(), 2);
        assert!(errors[0].starts_with("/proc/self/mountinfo line 1:"), "{errors:?}");
        let mut errors = Errors::default();
        let found = fstab(
            "/dev/sda1 /\nUUID=1 swap swap sw 0 0\nx y ext4\n/dev/b /b/ vfat umask=0077,password=p\n",
            FSTAB,
            &mut errors,
        );
        assert_eq!(Value::Object(found["/b"].options.clone()), json!({"umask": 63, "password": "***"}));
        let expected = [
            "/etc/fstab line 1: '/dev/sda1 /' is not a line of fstab",
            "/etc/fstab line 3: 'y' is not a mount point",
        ];
        assert_eq!(errors.into_list(), expected);
    }

    #[test]
    fn what_mount_adds_is_told() {
        let of = |list: &str| Value::Object(with_implied(options_of(list)));
        assert_eq!(of("user,exec"), json!({"user": true, "exec": true, "nodev": true, "nosuid": true}));
        assert_eq!(of("owner"), json!({"owner": true, "nodev": true, "nosuid": true}));
        assert_eq!(of("nodev,dev"), json!({"dev": true}));
        assert_eq!(of("defaults"), json!({"defaults": true}));
    }

    #[test]
    fn groups_of_mounts() {
        let text = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /srv rw - xfs /dev/sda2 rw\n\
            3 1 8:17 / /mnt rw - vfat /dev/sdb1 rw\n4 1 0:9 / /net rw - nfs4 s:/x rw\n5 1 7:0 / /snap rw - squashfs /dev/loop0 ro\n";
        let mut errors = Errors::default();
        let table =
            fstab("/dev/sr0 /media/cdrom iso9660 noauto,ro\ns:/y /y cifs noauto,nodev\n", FSTAB, &mut errors);
        let facts = Facts { encrypted: &|device| device == "8:2", removable: &|device| device == "8:17" };
        let data = Value::Object(document(&mounted(text).0, &table, Some(&facts)));
        assert_eq!(data["local"], json!({"/srv": {"options": {"rw": true}}}));
        assert_eq!((&data["/srv"]["encrypted"], &data["/"]["encrypted"]), (&json!(true), &json!(false)));
        assert!(data["/net"].get("encrypted").is_none());
        let names = |group: &str| data[group].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names("removable"), ["/media/cdrom", "/mnt"]);
        assert_eq!(names("remote"), ["/net", "/y"]);
        assert_eq!(data["fstab"]["/y"]["fstype"], "cifs");
        let plain = Value::Object(document(&BTreeMap::new(), &BTreeMap::new(), None));
        assert_eq!(plain, json!({}));
    }

    #[test]
    fn a_tree_is_mounted_as_systemd_would() {
        let fstab = (FSTAB, b"/dev/sda1 / ext4 rw\n".as_slice());
        let unit =
            b"[Mount]\nWhat=tmpfs\nWhere=/tmp\nOptions=mode=1777,strictatime,nosuid,nodev\n".as_slice();
        let files = [
            fstab,
            ("/usr/lib/systemd/systemd", b"".as_slice()),
            ("/usr/lib/systemd/system/tmp.mount", unit),
            ("/etc/systemd/system/local-fs.target.wants/tmp.mount", unit),
        ];
        let data = collect(&DISCOVERY, &files).data;
        assert_eq!(data["/tmp"]["options"]["mode"], 0o1777);
        assert_eq!(data["/dev/shm"]["options"]["nosuid"], true);
        assert!(collect(&DISCOVERY, &files[..3]).data.get("/tmp").is_none());
        assert!(collect(&DISCOVERY, &files[..1]).data.get("/dev/shm").is_none());
    }

    #[test]
    fn the_running_system_has_a_root() {
        let found = (DISCOVERY.collect)(&Host::running(), &Parameters::new());
        assert!(found.data["/proc"]["fstype"] == "proc", "{:?}", found.data);
    }

    #[test]
    fn hostile_texts() {
        let tokens =
            &["1 0 8:1 / / rw - ext4 /dev/sda1 rw", " ", "\n", "-", "/", "\\040", "mode=7", ",", "ä"];
        check_any_text(MOUNTINFO, tokens, |text| {
            let (found, errors) = mounted(text);
            (Value::Object(document(&found, &BTreeMap::new(), None)), errors)
        });
        check_any_text(FSTAB, tokens, |text| {
            let mut errors = Errors::default();
            let found = fstab(text, FSTAB, &mut errors);
            (Value::Object(document(&found, &found, None)), errors.into_list())
        });
    }
}
