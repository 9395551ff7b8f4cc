use super::*;
use crate::parse::ownership::{name_of, parse_names};
use crate::run;
use proptest::prelude::*;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

fn attributes_of(root: &Path, list: &str) -> crate::Envelope {
    let parameters = Parameters::from([(FILELIST.to_owned(), list.to_owned())]);
    run(&DISCOVERY, "x", &Host::at(root), &parameters)
}

fn tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    fs::create_dir_all(root.join("etc/audit")).unwrap();
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    let me = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    fs::write(
        root.join("etc/passwd"),
        format!("# c\nbroken\nme:x:{}:0::/:/bin/sh\nalso:x:{}:0:::\n", me.0, me.0),
    )
    .unwrap();
    fs::write(root.join("etc/group"), format!("mine:x:{}:\r\n", me.1)).unwrap();
    fs::write(root.join("usr/bin/tool"), "").unwrap();
    set_mode(root, "usr/bin/tool", 0o4755);
    set_mode(root, "etc/passwd", 0o644);
    symlink("usr/bin", root.join("bin")).unwrap();
    tree
}

fn set_mode(root: &Path, path: &str, mode: u32) {
    fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_file_has_owner_mode_and_type() {
    let tree = tree();
    let envelope = attributes_of(tree.path(), "/etc/passwd /missing");
    let expected = json!({"/etc/passwd": {
        "owner": "me", "group": "mine", "type": "-", "octal": "0644",
        "perms": {
            "owner": {"read": true, "write": true, "exec": false, "setid": false},
            "group": {"read": true, "write": false, "exec": false, "setid": false},
            "other": {"read": true, "write": false, "exec": false},
            "sticky": false,
        },
    }});
    assert_eq!(envelope.data, expected);
    assert!(envelope.errors.is_empty());
}

#[test]
fn a_slash_adds_the_children_also_behind_a_symlink() {
    let tree = tree();
    symlink("tool", tree.path().join("usr/bin/link")).unwrap();
    set_mode(tree.path(), "usr", 0o1777);
    let data = attributes_of(tree.path(), "/bin/ /usr /").data;
    let names: Vec<&String> = data.as_object().unwrap().keys().collect();
    assert_eq!(names, ["/", "/bin", "/bin/link", "/bin/tool", "/usr"]);
    assert_eq!(data["/bin"]["type"], "l");
    assert_eq!(data["/bin/link"]["type"], "l");
    assert_eq!(data["/bin/tool"]["octal"], "04755");
    assert_eq!(data["/bin/tool"]["perms"]["owner"]["setid"], true);
    assert_eq!(data["/usr"]["perms"]["sticky"], true);
    assert_eq!(data["/usr"]["octal"], "01777");
    assert_eq!(attributes_of(tree.path(), "/bin").data.as_object().unwrap().len(), 1);
    assert_eq!(attributes_of(tree.path(), "/etc/passwd/").data.as_object().unwrap().len(), 1);
    assert!(attributes_of(tree.path(), "etc").errors[0].starts_with("etc: not an absolute path"));
}

#[test]
fn modes_have_four_or_five_digits() {
    let tree = tree();
    for (mode, octal) in [(0o0, "0000"), (0o7, "0007"), (0o640, "0640"), (0o1777, "01777"), (0o6755, "06755")]
    {
        set_mode(tree.path(), "usr/bin/tool", mode);
        assert_eq!(attributes_of(tree.path(), "/usr/bin/tool").data["/usr/bin/tool"]["octal"], octal);
    }
    set_mode(tree.path(), "usr/bin/tool", 0o2755);
    let data = attributes_of(tree.path(), "/usr/bin/tool").data;
    assert_eq!(data["/usr/bin/tool"]["perms"]["group"]["setid"], true);
}

/// The original lower-cased the path of the log, so that a directory with capitals was never found.
#[test]
fn the_directory_of_auditds_log_keeps_its_case() {
    let tree = tree();
    fs::create_dir_all(tree.path().join("srv/Audit")).unwrap();
    fs::create_dir_all(tree.path().join("var/log/audit")).unwrap();
    fs::write(tree.path().join("srv/Audit/audit.log"), "").unwrap();
    fs::write(tree.path().join("var/log/audit/audit.log.1"), "").unwrap();
    let names = || {
        let envelope = run(&DISCOVERY, "auditd_fileattrs", &Host::at(tree.path()), &Parameters::new());
        envelope.data.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(), ["/var/log/audit", "/var/log/audit/audit.log.1"]);
    let conf = tree.path().join("etc/audit/auditd.conf");
    fs::write(&conf, "#log_file = /no\nLOG_FILE = /srv/Audit/audit.log\n").unwrap();
    assert_eq!(names(), ["/srv/Audit", "/srv/Audit/audit.log"]);
    fs::write(&conf, "log_file = audit.log\n").unwrap();
    assert_eq!(names()[0], "/var/log/audit");
    fs::write(&conf, "log_file = /audit.log\n").unwrap();
    assert_eq!(names(), ["/"]);
}

#[test]
fn the_logs_of_auditd_tell_their_role_and_group() {
    let tree = tree();
    let data = || run(&DISCOVERY, "auditd_fileattrs", &Host::at(tree.path()), &Parameters::new()).data;
    assert!(data()["NODATA"].as_str().unwrap().starts_with("auditd is not installed"));
    fs::create_dir_all(tree.path().join("var/log/audit/sub")).unwrap();
    fs::write(tree.path().join("var/log/audit/audit.log.1"), "").unwrap();
    fs::write(tree.path().join("etc/audit/auditd.conf"), "log_group = adm\n").unwrap();
    let data = data();
    assert_eq!(data["/var/log/audit"]["role"], "log_dir");
    assert_eq!(data["/var/log/audit/audit.log.1"]["role"], "log_file");
    assert_eq!(data["/var/log/audit/sub"]["role"], Value::Null);
    assert_eq!(data["/var/log/audit/sub"]["log_group"], "adm");
    assert!(data["/var/log/audit"]["perms"].is_object());
}

#[test]
fn the_logs_of_rsyslog_are_those_that_exist() {
    let tree = tree();
    let data = || run(&DISCOVERY, "rsyslog_fileattrs", &Host::at(tree.path()), &Parameters::new()).data;
    assert!(data()["NODATA"].as_str().unwrap().starts_with("rsyslog is not installed"));
    fs::create_dir_all(tree.path().join("var/log")).unwrap();
    fs::write(tree.path().join("var/log/syslog"), "").unwrap();
    symlink("syslog", tree.path().join("var/log/link")).unwrap();
    fs::write(
        tree.path().join("etc/rsyslog.conf"),
        "*.* /var/log/syslog\n*.* /var/log/none\n*.* /var/log/link\n*.* /var/log\n",
    )
    .unwrap();
    let data = data();
    assert_eq!(data.as_object().unwrap().keys().collect::<Vec<_>>(), ["/var/log/syslog"]);
    assert_eq!(data["/var/log/syslog"]["type"], "-");
}

fn keys(data: &Value) -> Vec<&str> {
    data.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn patterns_and_choices_name_files() {
    let tree = tree();
    fs::create_dir_all(tree.path().join("etc/ssh/more")).unwrap();
    for name in ["a_key", "b_key", "a_key.pub", ".hidden_key", "more/c_key"] {
        fs::write(tree.path().join("etc/ssh").join(name), "").unwrap();
    }
    let data = attributes_of(tree.path(), "/etc/ssh/*_key /etc/{passwd,group,none}{,-}").data;
    assert_eq!(keys(&data), ["/etc/group", "/etc/passwd", "/etc/ssh/a_key", "/etc/ssh/b_key"]);
    assert!(data["/etc/ssh/a_key"]["perms"].is_object());
    assert_eq!(
        keys(&attributes_of(tree.path(), "/etc/s*/**/*_key").data),
        ["/etc/ssh/a_key", "/etc/ssh/b_key", "/etc/ssh/more/c_key"]
    );
    assert_eq!(attributes_of(tree.path(), "/none/* /etc/passwd/*").errors, [""; 0]);
    assert!(attributes_of(tree.path(), "/**/a/**/**").errors[0].contains("**"));
    let host = Host::at(tree.path());
    run(&DISCOVERY, "x", &host, &Parameters::from([(FILELIST.to_owned(), "/etc/ssh/*.pub".to_owned())]));
    let root = fs::canonicalize(tree.path()).unwrap();
    assert!(host.touched().directories.contains(&root.join("etc/ssh")), "a new key is noticed");
}

#[test]
fn of_logs_alike_a_few_stand_for_all() {
    let tree = tree();
    fs::create_dir_all(tree.path().join("var/log/apt")).unwrap();
    for number in 100..150 {
        fs::write(tree.path().join(format!("var/log/app.{number}")), "").unwrap();
        set_mode(tree.path(), &format!("var/log/app.{number}"), 0o640);
    }
    for name in ["var/log/lastlog", "var/log/.hidden", "var/log/apt/term.log", "var/log/app.999"] {
        fs::write(tree.path().join(name), "").unwrap();
        set_mode(tree.path(), name, 0o640);
    }
    set_mode(tree.path(), "var/log/app.149", 0o666);
    let host = Host::at(tree.path());
    let envelope = run(&DISCOVERY, "log_fileattrs", &host, &Parameters::new());
    assert_eq!(envelope.errors, [""; 0]);
    let names = keys(&envelope.data);
    let samples = names.iter().filter(|name| name.contains("app.")).count();
    assert_eq!(samples, 20, "{names:?}");
    assert_eq!(envelope.data["/var/log/app.149"]["octal"], "0666");
    for name in ["/var/log", "/var/log/lastlog", "/var/log/.hidden", "/var/log/apt", "/var/log/apt/term.log"]
    {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert_eq!(envelope.data["/var/log/apt/term.log"]["name"], "term.log");
    assert!(
        host.touched().directories.is_empty()
            && host.touched().files.iter().all(|file| !file.ends_with("var/log"))
    );
}

#[test]
fn names_that_are_not_text_are_there() {
    use std::os::unix::ffi::OsStrExt;
    let tree = tree();
    fs::create_dir_all(tree.path().join("var/log")).unwrap();
    fs::write(tree.path().join("var/log").join(std::ffi::OsStr::from_bytes(b"a\xff")), "").unwrap();
    let log = run(&DISCOVERY, "log_fileattrs", &Host::at(tree.path()), &Parameters::new()).data;
    assert_eq!(log["/var/log/a\\xff"]["owner"], "me");
    for list in ["/var/log/*", "/var/log/**", "/var/log/"] {
        assert_eq!(attributes_of(tree.path(), list).data["/var/log/a\\xff"]["type"], "-", "{list}");
    }
}

/// On merged systems /bin is /usr/bin: the same two thousand files need not be told twice.
#[test]
fn what_another_list_has_is_not_listed_again() {
    let tree = tree();
    fs::create_dir_all(tree.path().join("own")).unwrap();
    fs::write(tree.path().join("own/thing"), "").unwrap();
    symlink("/own", tree.path().join("sbin")).unwrap();
    symlink("bin", tree.path().join("usr/sbin")).unwrap();
    let of = |instance: &str| run(&DISCOVERY, instance, &Host::at(tree.path()), &Parameters::new()).data;
    let bin = of("bin_fileattrs");
    assert_eq!(keys(&bin), ["/bin", "/sbin", "/sbin/thing"]);
    assert_eq!(bin["/bin"]["same_as"], "/usr/bin");
    assert_eq!(bin["/sbin"]["same_as"], Value::Null);
    assert_eq!(keys(&of("usr_bin_fileattrs")), ["/usr/bin", "/usr/bin/tool", "/usr/sbin"]);
}

fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

const NOBODY: u32 = u32::MAX;

#[test]
fn access_control_lists_are_parsed() {
    let bytes =
        acl(&[(1, 6, NOBODY), (2, 4, 1000), (4, 5, NOBODY), (8, 7, 50), (16, 5, NOBODY), (32, 0, NOBODY)]);
    let entries = parse_acl(&bytes).unwrap();
    assert_eq!(entries.len(), 6);
    assert_eq!(entries[1], AclEntry { tag: AclTag::User, rights: 4, id: 1000 });
    let host = Host::running();
    let files = Files {
        host: &host,
        names: Names { users: HashMap::from([(1000, "bob".to_owned())]), groups: HashMap::new() },
        barriers: Barriers::default(),
        alike: 0,
        once: false,
        data: Map::new(),
        errors: Vec::new(),
    };
    let expected = json!([
        {"user:bob": {"read": true, "write": false, "exec": false}},
        {"group:": {"read": true, "write": false, "exec": true}},
        {"group:50": {"read": true, "write": true, "exec": true}},
        {"mask:": {"read": true, "write": false, "exec": true}},
    ]);
    assert_eq!(files.acl(&entries), expected);
    assert_eq!(parse_acl(&bytes[..bytes.len() - 1]), None);
    assert_eq!(parse_acl(&[1, 0, 0, 0]), None);
    assert_eq!(parse_acl(&acl(&[(3, 0, 0)])), None);
    assert_eq!(parse_acl(&[]), None);
}

/// Where the file system of the temporary directory has them.
#[test]
fn extended_attributes_are_reported() {
    let tree = tree();
    let file = tree.path().join("etc/passwd");
    let set =
        |name: &str, value: &[u8]| rustix::fs::setxattr(&file, name, value, rustix::fs::XattrFlags::empty());
    if set("user.note", "grüße".as_bytes()).is_err() {
        eprintln!("the file system of the temporary directory has no user attributes: nothing to see here");
        return;
    }
    set("user.binary", &[0, 255, 1]).unwrap();
    set("user.long", &[b'x'; 2000]).unwrap();
    let has_acl = set(
        "system.posix_acl_access",
        &acl(&[(1, 6, NOBODY), (2, 6, 4242), (4, 4, NOBODY), (16, 6, NOBODY), (32, 4, NOBODY)]),
    )
    .is_ok();
    let entry = attributes_of(tree.path(), "/etc/passwd").data["/etc/passwd"].clone();
    assert_eq!(entry["user:note"], "grüße");
    assert_eq!(entry["user:binary"], "0x00ff01");
    assert_eq!(entry["user:long"].as_str().unwrap().len(), 1024 + "... (2000 bytes)".len());
    if has_acl {
        assert_eq!(
            entry["perms"]["ACL"][0]["user:4242"],
            json!({"read": true, "write": true, "exec": false})
        );
        assert_eq!(entry["octal"], "0664");
    }
}

#[test]
fn labels_and_values_are_split() {
    assert_eq!(
        selinux(b"system_u:object_r:shadow_t:s0:c1,c2\0"),
        json!({"user": "system_u", "role": "object_r", "type": "shadow_t", "level": "s0:c1,c2"})
    );
    assert_eq!(selinux(b"odd"), json!({"user": "odd"}));
    assert_eq!(xattr_text(b"a\0b"), "0x610062");
}

#[test]
fn the_lists_of_every_host_are_there() {
    let names: Vec<&str> = DISCOVERY.instances.iter().map(|instance| instance.name).collect();
    assert_eq!(names.len(), 12);
    assert_eq!(DISCOVERY.schedule_of("usr_bin_fileattrs").repeat_seconds, 900);
    assert_eq!(DISCOVERY.schedule_of("sysfile_fileattrs").repeat_seconds, 300);
    let envelope = run(&DISCOVERY, "sysfile_fileattrs", &Host::running(), &Parameters::new());
    assert_eq!(envelope.data["/etc/passwd"]["owner"], "root");
    assert!(envelope.data["/"]["perms"]["owner"]["read"].is_boolean());
}

proptest! {
    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        parse_acl(&bytes);
        let mut versioned = vec![2, 0, 0, 0];
        versioned.extend(&bytes);
        if let Some(entries) = parse_acl(&versioned) {
            prop_assert_eq!(entries.len() * 8, bytes.len());
        }
        selinux(&bytes);
        xattr_text(&bytes);
        parse_names(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn the_first_name_of_a_number_counts(number in any::<u32>(), name in "[a-z]{1,8}") {
        let text = format!("{name}:x:{number}:\nother:x:{number}:\n:x:{number}:\n");
        prop_assert_eq!(name_of(&parse_names(&text), number), name);
    }
}
