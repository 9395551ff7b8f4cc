use super::*;
use crate::run;
use proptest::prelude::*;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn script(root: &Path, path: &str) {
    put(root, path, "#!/bin/sh\n");
    fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o755)).unwrap();
}

fn link(root: &Path, path: &str, target: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

fn of(root: &Path) -> (Value, Vec<String>) {
    let envelope = run(&DISCOVERY, "_init_services", &Host::at(root), &Parameters::new());
    (envelope.data, envelope.errors)
}

const WANTED: &str = "[Service]\nExecStart=/bin/x\n[Install]\nWantedBy=multi-user.target\n";
const STATIC: &str = "[Service]\nExecStart=/bin/x\n";

#[test]
fn states_are_those_of_systemctl() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    let vendor = |name: &str, text: &str| put(root, &format!("usr/lib/systemd/system/{name}"), text);
    for name in
        ["on.service", "off.service", "masked.service", "empty.service", "local.service", "tty@.service"]
    {
        vendor(name, WANTED);
    }
    vendor("plain.service", STATIC);
    vendor("also.service", "[Install]\nAlso=on.service\n");
    vendor("commented.service", "[Install]\n# WantedBy=x.target\nWantedBy=\n");
    vendor("renamed.service", "[Install]\nAlias=other.service \\\n  third.service\n");
    vendor("default.target", "");
    fs::remove_file(root.join("usr/lib/systemd/system/default.target")).unwrap();
    vendor("graphical.target", "[Unit]\n");
    vendor("no-unit.txt", WANTED);
    link(root, "usr/lib/systemd/system/default.target", "graphical.target");
    link(root, "usr/lib/systemd/system/old-on.service", "on.service");
    link(root, "usr/lib/systemd/system/sysinit.target.wants/off.service", "../off.service");
    link(root, "lib", "usr/lib");
    link(root, "etc/systemd/system/masked.service", "/dev/null");
    put(root, "etc/systemd/system/empty.service", "");
    put(root, "etc/systemd/system/local.service", STATIC);
    link(root, "etc/systemd/system/third.service", "/usr/lib/systemd/system/renamed.service");
    link(root, "etc/systemd/system/linked.service", "/opt/x/linked.service");
    link(root, "etc/systemd/system/a.service", "b.service");
    link(root, "etc/systemd/system/b.service", "a.service");
    link(root, "etc/systemd/system/multi-user.target.wants/on.service", "/usr/lib/systemd/system/on.service");
    link(
        root,
        "etc/systemd/system/multi-user.target.wants/gone.service",
        "/usr/lib/systemd/system/gone.service",
    );
    link(
        root,
        "etc/systemd/system/getty.target.wants/tty@tty1.service",
        "/usr/lib/systemd/system/tty@.service",
    );
    let enabled = json!({"enabled": "enabled"});
    let (data, errors) = of(root);
    assert_eq!(
        data,
        json!({
            "on.service": enabled,
            "old-on.service": {"enabled": "enabled", "alias_of": "on.service"},
            "off.service": {"enabled": "disabled"},
            "masked.service": {"enabled": "masked"},
            "empty.service": {"enabled": "masked"},
            "local.service": {"enabled": "static"},
            "plain.service": {"enabled": "static"},
            "commented.service": {"enabled": "static"},
            "also.service": {"enabled": "indirect"},
            "renamed.service": enabled,
            "third.service": {"enabled": "enabled", "alias_of": "renamed.service"},
            "linked.service": {"enabled": "linked"},
            "graphical.target": {"enabled": "static"},
            "default.target": {"enabled": "static", "alias_of": "graphical.target"},
            "tty@.service": enabled,
            "tty@tty1.service": enabled,
        })
    );
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn run_time_files_do_not_survive_a_boot_and_are_told_apart() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    put(root, "usr/lib/systemd/system/on.service", WANTED);
    put(root, "usr/lib/systemd/system/off.service", WANTED);
    link(root, "run/systemd/system/off.service", "/dev/null");
    link(root, "run/systemd/system/multi-user.target.wants/on.service", "/usr/lib/systemd/system/on.service");
    put(root, "run/systemd/generator/data.mount", "[Mount]\nWhat=/dev/sdb\n");
    put(root, "run/systemd/transient/run-1.service", STATIC);
    assert_eq!(
        of(root).0,
        json!({
            "on.service": {"enabled": "enabled-runtime"}, "off.service": {"enabled": "masked-runtime"},
            "data.mount": {"enabled": "generated"}, "run-1.service": {"enabled": "transient"},
        })
    );
}

#[test]
fn init_scripts_without_a_unit_and_what_cron_runs() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    for name in ["ssh", "opensmtpd", "lazy", "hwclock.sh", ".hidden"] {
        script(root, &format!("etc/init.d/{name}"));
    }
    put(root, "etc/init.d/README", "text");
    link(root, "etc/rc2.d/S01opensmtpd", "../init.d/opensmtpd");
    link(root, "etc/rc2.d/K01lazy", "../init.d/lazy");
    link(root, "etc/rcS.d/S01lazy", "../init.d/lazy");
    put(root, "usr/lib/systemd/system/ssh.service", WANTED);
    put(root, "run/systemd/generator.late/opensmtpd.service", "# made of a script\n");
    script(root, "etc/cron.daily/logrotate");
    put(root, "etc/cron.daily/.placeholder", "");
    assert_eq!(
        of(root).0,
        json!({
            "ssh.service": {"enabled": "disabled"},
            "opensmtpd.service": {"enabled": "enabled", "sysv": "/etc/init.d/opensmtpd"},
            "lazy.service": {"enabled": "disabled", "sysv": "/etc/init.d/lazy"},
            "hwclock.service": {"enabled": "disabled", "sysv": "/etc/init.d/hwclock.sh"},
            "cron.daily/logrotate": {"enabled": "enabled"},
        })
    );
}

#[test]
fn a_host_without_services_says_so() {
    let tree = tempfile::tempdir().unwrap();
    let (data, errors) = of(tree.path());
    assert!(data["NODATA"].as_str().unwrap().contains("/etc/init.d"), "{data}");
    assert!(errors.is_empty());
}

#[test]
fn the_shell_on_the_console_asks_for_a_password_or_not() {
    let program = |texts: &[&str]| rescue_program(texts.iter().copied());
    let vendor =
        "[Service]\nEnvironment=HOME=/root\nExecStart=-/usr/lib/systemd/systemd-sulogin-shell rescue\n";
    assert_eq!(program(&[vendor]).unwrap(), "sulogin");
    let open = "[Service]\nExecStart=\nExecStart=-/bin/sh -c \\\n  '/bin/bash'\n";
    assert_eq!(program(&[vendor, open]).unwrap(), "sh");
    let old = "[Service]\nExecStart=-/bin/sh -c \"/sbin/sulogin; /usr/bin/systemctl default\"\n";
    assert_eq!(program(&[old]).unwrap(), "sulogin");
    let forced = "[Service]\nEnvironment=SYSTEMD_SULOGIN_FORCE=1\n";
    assert_eq!(program(&[vendor, forced]).unwrap(), "sulogin --force");
    assert_eq!(program(&["[Unit]\nExecStart=/bin/x\n"]), None);

    let tree = tempfile::tempdir().unwrap();
    put(tree.path(), "usr/lib/systemd/system/rescue.service", vendor);
    assert_eq!(of(tree.path()).0["rescue.service"]["auth"], "sulogin");
    put(tree.path(), "etc/systemd/system/rescue.service.d/open.conf", open);
    assert_eq!(of(tree.path()).0["rescue.service"]["auth"], "sh");
}

/// A body `a(ssssssouso)` as systemd makes it.
fn body(units: &[(&str, &str)], is_big_endian: bool) -> Vec<u8> {
    let number = |n: usize| {
        let n = u32::try_from(n).unwrap();
        if is_big_endian { n.to_be_bytes() } else { n.to_le_bytes() }
    };
    let mut bytes = vec![0; 8];
    let pad = |bytes: &mut Vec<u8>, to: usize| bytes.resize(bytes.len().next_multiple_of(to), 0);
    let text = |bytes: &mut Vec<u8>, text: &str| {
        pad(bytes, 4);
        bytes.extend(number(text.len()));
        bytes.extend(text.as_bytes());
        bytes.push(0);
    };
    for (name, state) in units {
        pad(&mut bytes, 8);
        for field in [name, "OpenBSD Secure Shell", "loaded", state, "running", "", "/org/freedesktop/x"] {
            text(&mut bytes, field);
        }
        pad(&mut bytes, 4);
        bytes.extend(number(0));
        text(&mut bytes, "");
        text(&mut bytes, "/");
    }
    let length = number(bytes.len() - 8);
    bytes[..4].copy_from_slice(&length);
    bytes
}

#[test]
fn the_answer_of_systemd_is_read_in_both_byte_orders() {
    let units = [
        ("ssh.service", "active"),
        ("x.service", "failed"),
        ("y.timer", "activating"),
        ("z.socket", "reloading"),
    ];
    for is_big_endian in [false, true] {
        let states = manager::parse(&body(&units, is_big_endian), is_big_endian).unwrap();
        let expected = [
            ("ssh.service", "active"),
            ("x.service", "failed"),
            ("y.timer", "inactive"),
            ("z.socket", "active"),
        ];
        assert_eq!(states, expected.map(|(name, state)| (name.to_owned(), state)).into());
        let whole = body(&units, is_big_endian);
        for end in 0..whole.len() {
            assert_eq!(manager::parse(&whole[..end], is_big_endian), None, "cut at {end}");
        }
    }
    assert!(manager::parse(&body(&[], false), false).unwrap().is_empty());
}

/// What a client says first, after the greeting.
fn list_units_call() -> Vec<u8> {
    let manager = "org.freedesktop.systemd1.Manager";
    crate::systemd::call(1, "/org/freedesktop/systemd1", manager, "ListUnits", &[])
}

#[test]
fn systemd_is_asked_over_its_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("private");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = vec![0; 1 + "AUTH EXTERNAL ".len()];
        stream.read_exact(&mut received).unwrap();
        assert_eq!(received, b"\0AUTH EXTERNAL ");
        stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").unwrap();
        let mut rest = Vec::new();
        let mut byte = [0];
        let call = list_units_call();
        while !rest.ends_with(&call) {
            stream.read_exact(&mut byte).unwrap();
            rest.push(byte[0]);
        }
        let body = body(&[("ssh.service", "active")], false);
        // A signal comes first, with a field that is no multiple of eight bytes long.
        stream.write_all(&[b'l', 4, 0, 1, 3, 0, 0, 0, 7, 0, 0, 0, 5, 0, 0, 0]).unwrap();
        stream.write_all(&[0; 8 + 3]).unwrap();
        let mut answer = vec![b'l', 2, 0, 1];
        answer.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        answer.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        answer.extend(body);
        stream.write_all(&answer).unwrap();
    });
    let states = manager::list_units(&socket).unwrap();
    assert_eq!(states, [("ssh.service".to_owned(), "active")].into());
    server.join().unwrap();
    assert!(manager::list_units(&directory.path().join("none")).unwrap_err().contains("none"));
}

/// systemd reads what has come at once. A call that it reads together with the end of the greeting stays in its buffer
/// until something else arrives: so the greeting ends before systemd answers, and the call comes after that.
#[test]
fn the_call_does_not_come_together_with_the_end_of_the_greeting() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("private");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut greeting = Vec::new();
        let mut piece = [0; 4096];
        while !greeting.ends_with(b"\r\nBEGIN\r\n") {
            let length = stream.read(&mut piece).unwrap();
            assert!(
                length > 0,
                "it gave up without a whole greeting: {:?}",
                String::from_utf8_lossy(&greeting)
            );
            greeting.extend_from_slice(&piece[..length]);
            let has_more = greeting.windows(9).any(|end| end == b"\r\nBEGIN\r\n");
            assert!(
                !has_more || greeting.ends_with(b"\r\nBEGIN\r\n"),
                "the call came together with the greeting"
            );
        }
        stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").unwrap();
        let mut call = vec![0; list_units_call().len()];
        stream.read_exact(&mut call).unwrap();
        assert_eq!(call, list_units_call());
        let body = body(&[("cron.service", "failed")], false);
        let mut answer = vec![b'l', 2, 0, 1];
        answer.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        answer.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        answer.extend(body);
        stream.write_all(&answer).unwrap();
    });
    let states = manager::list_units(&socket);
    server.join().unwrap();
    assert_eq!(states.unwrap(), [("cron.service".to_owned(), "failed")].into());
}

#[test]
fn a_manager_that_refuses_or_lies_about_sizes_is_an_error() {
    for answer in [
        &b"REJECTED EXTERNAL\r\n"[..],
        b"OK x\r\nl\x02\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0",
        b"OK x\r\nhello, this is no D-Bus message",
        b"OK x\r\nl\x03\0\x01\0\0\0\0\0\0\0\0\0\0\0\0",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("private");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(answer).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            // Until the other side hangs up; it may do so with unread bytes left.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        assert!(manager::list_units(&socket).is_err(), "{:?}", String::from_utf8_lossy(answer));
        server.join().unwrap();
    }
}

#[test]
fn active_is_said_of_units_not_of_templates_or_cron() {
    let mut data = json!({
        "ssh.service": {}, "sshd.service": {"alias_of": "ssh.service"}, "getty@.service": {}, "cron.daily/x": {},
        "off.service": {},
    });
    let states = std::collections::BTreeMap::from([("ssh.service", "active")]);
    set_active(data.as_object_mut().unwrap(), |name| Some(states.get(name).unwrap_or(&"inactive")));
    assert_eq!(
        data,
        json!({
            "ssh.service": {"active": "active"}, "sshd.service": {"alias_of": "ssh.service", "active": "active"},
            "getty@.service": {}, "cron.daily/x": {}, "off.service": {"active": "inactive"},
        })
    );
}

#[test]
fn fixtures() {
    crate::parse::testing::check_fixtures(&DISCOVERY);
}

proptest! {
    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        manager::parse(&bytes, false);
        manager::parse(&bytes, true);
        let text = String::from_utf8_lossy(&bytes);
        unit_files::install(&format!("[Install]\n{text}"));
        rescue_program([text.as_ref()].into_iter());
    }
}
