use super::*;
use rustix::fs::{CWD, FileType, Mode, chown};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

fn write(root: &Path, path: &str, mode: u32) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

fn set_mode(root: &Path, path: &str, mode: u32) {
    fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The files of the test belong to whoever runs it: named `me`, a person with a home.
fn tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    write(root, "etc/group", 0o644);
    fs::write(root.join("etc/passwd"), format!("me:x:{uid}:{gid}::/home/me:/bin/sh\n")).unwrap();
    fs::write(root.join("etc/group"), format!("mine:x:{gid}:\n")).unwrap();
    fs::write(root.join("etc/login.defs"), format!("UID_MIN {uid}\nGID_MIN {}\n", gid + 1)).unwrap();
    for directory in ["tmp", "srv/open", "home/me", "var/lib/docker"] {
        fs::create_dir_all(root.join(directory)).unwrap();
        set_mode(root, directory, 0o755);
    }
    tree
}

fn scan_of(root: &Path, parameters: &[(&str, &str)]) -> model::Envelope {
    let parameters =
        parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    crate::run(&DISCOVERY, "_init_fs_scan", &Host::at(root), &parameters)
}

#[test]
fn everything_is_found() {
    let tree = tree();
    let root = tree.path();
    set_mode(root, "tmp", 0o1777);
    set_mode(root, "srv/open", 0o777);
    write(root, "srv/everybody", 0o666);
    write(root, "usr/bin/su", 0o4755);
    write(root, "home/me/wide", 0o644);
    write(root, "home/me/good", 0o640);
    write(root, "home/me/.hidden", 0o644);
    write(root, "home/me/.cache/x/wide", 0o644);
    write(root, "var/lib/docker/everybody", 0o666);
    symlink("everybody", root.join("srv/link")).unwrap();
    fs::create_dir_all(root.join("home/me/loop")).unwrap();
    set_mode(root, "home/me/loop", 0o700);
    symlink("..", root.join("home/me/loop/up")).unwrap();
    let envelope = scan_of(root, &[]);
    assert_eq!(envelope.errors, [""; 0]);
    let data = envelope.data;
    assert_eq!(keys(&data["world_writable_files"]), ["/srv/everybody"]);
    assert_eq!(keys(&data["world_writable_directories"]), ["/srv/open", "/tmp"]);
    assert_eq!(data["world_writable_directories"]["/tmp"]["sticky"], true);
    assert_eq!(data["world_writable_directories"]["/srv/open"]["sticky"], false);
    assert_eq!(keys(&data["setid_programs"]), ["/usr/bin/su"]);
    assert_eq!(keys(&data["home_files_wide"]), ["/home/me/wide"]);
    assert_eq!(keys(&data["home_files_foreign_group"]), [""; 0]);
    let entry = &data["setid_programs"]["/usr/bin/su"];
    assert_eq!(
        (&entry["owner"], &entry["group"], &entry["system_owner"], &entry["system_group"]),
        (&json!("me"), &json!("mine"), &json!(false), &json!(true))
    );
    for list in ["unowned_files", "ungrouped_files", "device_files"] {
        assert_eq!(keys(&data[list]), [""; 0], "{list}");
    }
    assert_eq!(
        (&data["complete"], &data["owners_known"], &data["groups_known"], &data["homes"]),
        (&json!(true), &json!(true), &json!(true), &json!(1))
    );
    assert_eq!(data["counts"]["world_writable_directories"], 2);
}

#[test]
fn files_without_an_owner_are_found() {
    let tree = tree();
    let root = tree.path();
    fs::write(root.join("etc/passwd"), "other:x:77:77::/x:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "").unwrap();
    write(root, "srv/file", 0o644);
    let data = scan_of(root, &[]).data;
    assert!(keys(&data["unowned_files"]).contains(&"/srv/file"));
    assert!(keys(&data["ungrouped_files"]).contains(&"/srv/file"));
    // With a directory service only numbers of the system can be judged; whose number is below UID_MIN here.
    fs::write(root.join("etc/nsswitch.conf"), "passwd: files sss\ngroup: files sss\n").unwrap();
    let data = scan_of(root, &[]).data;
    assert_eq!(keys(&data["unowned_files"]), [""; 0]);
    assert_eq!(data["owners_known"], Value::Null);
    assert_eq!(data["unknown_users"], json!([rustix::process::getuid().as_raw()]));
    assert_eq!(data["groups_known"], true, "its number is below GID_MIN");
    assert!(keys(&data["ungrouped_files"]).contains(&"/srv/file"));
}

/// Needs root, as the agent has it.
#[test]
fn devices_and_foreign_groups_are_found_and_whiteouts_are_none() {
    let tree = tree();
    let root = tree.path();
    let mode = Mode::from_raw_mode(0o644);
    let device = rustix::fs::makedev(1, 3);
    let made = rustix::fs::mknodat(CWD, root.join("srv/null"), FileType::CharacterDevice, mode, device);
    if made.is_err() {
        eprintln!("only root makes devices: nothing to see here");
        return;
    }
    rustix::fs::mknodat(CWD, root.join("srv/whiteout"), FileType::CharacterDevice, mode, 0).unwrap();
    write(root, "home/me/shared", 0o640);
    chown(root.join("home/me/shared"), None, Some(rustix::process::Gid::from_raw(4711))).unwrap();
    let data = scan_of(root, &[]).data;
    assert_eq!(keys(&data["device_files"]), ["/srv/null"]);
    assert_eq!(keys(&data["home_files_foreign_group"]), ["/home/me/shared"]);
    assert_eq!(keys(&data["ungrouped_files"]), ["/home/me/shared"]);
    assert_eq!(data["home_files_foreign_group"]["/home/me/shared"]["group"], "4711");
}

#[test]
fn what_was_left_out_is_told() {
    let tree = tree();
    for number in 0..300 {
        write(tree.path(), &format!("srv/{number:03}"), 0o666);
    }
    let envelope = scan_of(tree.path(), &[("max_files", "10")]);
    assert_eq!(envelope.data["complete"], Value::Null);
    assert!(envelope.errors[0].starts_with("more than 10 files"), "{:?}", envelope.errors);
    let envelope = scan_of(tree.path(), &[("seconds", "0")]);
    assert_eq!(envelope.data["complete"], Value::Null);
    assert!(envelope.errors[0].starts_with("/: time or number"), "{:?}", envelope.errors);
    let data = scan_of(tree.path(), &[("seconds", "nonsense")]).data;
    assert_eq!(data["counts"]["world_writable_files"], 300);
    let files = keys(&data["world_writable_files"]);
    assert_eq!((files.len(), files[99]), (100, "/srv/099"));
    let skipped = scan_of(tree.path(), &[("skip", "/srv /tmp")]).data;
    assert_eq!(skipped["counts"]["world_writable_files"], 0);
    assert_eq!(skipped["complete"], true, "what was asked to be left out is not missing");
}

/// Anybody can make many directories with long names and odd modes to fill the lists; that must not look clean.
#[test]
fn lists_that_overflow_are_not_complete() {
    let tree = tree();
    for mode in 0..300 {
        write(tree.path(), &format!("srv/{}/{mode}", "x".repeat(200)), 0o2 | (mode << 2));
    }
    let envelope = scan_of(tree.path(), &[]);
    assert_eq!(envelope.data["complete"], Value::Null);
    assert!(
        envelope.errors.iter().any(|error| error.starts_with("world_writable_files: ")),
        "{:?}",
        envelope.errors
    );
    assert_eq!(envelope.data["counts"]["world_writable_files"], 300);
}

/// Containers mount single files (/etc/hosts), and a mount may be gone before it is its turn.
#[test]
fn a_mount_may_be_a_file_or_gone() {
    let tree = tree();
    write(tree.path(), "srv/mounted", 0o666);
    write(tree.path(), "data/inside", 0o666);
    let starts = ["/srv/mounted", "/gone", "/data"].map(|start| (start.to_owned(), "ext4".to_owned()));
    let places =
        Places { starts: starts.into(), not_scanned: Default::default(), barriers: Default::default() };
    let limits = Limits { deadline: Instant::now() + Duration::from_secs(60), max_entries: 1000 };
    let found = scan_places(&Host::at(tree.path()), &places, limits);
    assert_eq!((found.errors.len(), &found.data["complete"]), (0, &json!(true)));
    assert_eq!(keys(&found.data["world_writable_files"]), ["/data/inside", "/srv/mounted"]);
    let used_up = scan_places(&Host::at(tree.path()), &places, Limits { max_entries: 0, ..limits });
    assert_eq!((used_up.errors.len(), &used_up.data["complete"]), (3, &Value::Null));
}
