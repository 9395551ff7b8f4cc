//! Without machines: the command line, and what is done below another root.

use crate::release::{Told, installme, snapshot, with_programs};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use system::package::{Request, archive};

struct Rig {
    folder: tempfile::TempDir,
    installer: PathBuf,
}

impl Rig {
    fn new() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        let installer = with_programs(&folder.path().join("release"));
        Rig { folder, installer }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Everything below `root`.
    fn run(&self, words: &[&str]) -> Told {
        let root = self.at("root");
        let mut all = vec!["--root", root.to_str().unwrap()];
        all.extend(words);
        installme(&self.installer, None, &all)
    }

    /// A directory with the public keys of a CMA.
    fn keys(&self, name: &str, content: u8) -> String {
        let folder = self.at(name);
        fs::create_dir(&folder).unwrap();
        for number in 0..2 {
            fs::write(folder.join(format!("#CMA#0000{number}.pub")), [content + number; 32]).unwrap();
        }
        folder.to_string_lossy().into_owned()
    }
}

/// The installer as the release has it, alone in a directory.
fn alone() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("installme");
    fs::write(&file, archive::installme(&Request::quick().unwrap()).unwrap()).unwrap();
    (folder, file)
}

/// Each part has one theme and is named by it; the first begins the program and the last runs it.
#[test]
fn its_parts_are_one_after_the_other() {
    let parts = archive::installme_parts(&system::package::source()).unwrap();
    let names: Vec<&str> = parts.iter().map(|part| part.file_name().unwrap().to_str().unwrap()).collect();
    assert!(
        names.len() > 5 && names[0] == "00-head.sh" && names[names.len() - 1] == "90-main.sh",
        "{names:?}"
    );
    let (_folder, file) = alone();
    let mut rest = fs::read_to_string(file).unwrap();
    for (name, part) in names.iter().zip(&parts) {
        let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
        assert!(digits.len() == 2 && name[2..].starts_with('-'), "{name}: order is told by two digits");
        let text = fs::read_to_string(part).unwrap().replace("@VERSION@", env!("CARGO_PKG_VERSION"));
        assert_eq!(text.starts_with("#!/bin/sh\n"), *name == names[0], "{name}");
        rest = rest
            .strip_prefix(text.as_str())
            .unwrap_or_else(|| panic!("{name} is not next"))
            .trim_start()
            .to_owned();
    }
    assert_eq!(rest, "");
}

#[test]
fn it_is_plain_sh() {
    let (_folder, file) = alone();
    for (program, arguments) in
        [("dash", &["-n"][..]), ("shellcheck", &["--shell=sh"]), ("bash", &["--posix", "-n"])]
    {
        let output = Command::new(program).args(arguments).arg(&file).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn usage_errors_name_the_word_and_do_nothing() {
    let (_alone, installer) = alone();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    for (words, word) in [
        (&["--cmaadr", "x"][..], "--cmaadr"),
        (&["nanoprob"], "nanoprob"),
        (&["--cmaaddr"], "--cmaaddr"),
        (&["--cmaaddr="], "--cmaaddr"),
        (&["--cmaaddr", "1.2.3.4;reboot"], "1.2.3.4;reboot"),
        (&["--name", "a b"], "a b"),
        (&["--name", "../x"], "../x"),
        (&["--remote", "-oProxyCommand=reboot"], "-oProxyCommand"),
        (&["--remote", "a$(reboot)"], "a$(reboot)"),
        (&["--remote", "-l@host"], "-l@host"),
        (&["--user", "a;b"], "a;b"),
        (&["--kind", "tgz"], "tgz"),
        (&["--wait", "soon"], "soon"),
        (&["--port", "99999999"], "99999999"),
        (&["--keys", "/nowhere"], "/nowhere"),
        (&["--packages", "/nowhere"], "/nowhere"),
        (&["--identity", "/nowhere"], "/nowhere"),
        (&["--token", "a b"], "token"),
        (&["nanoprobe", "--remote", "picard"], "exclude"),
        (&["--remote", "a", "--remote", "b", "--name", "c"], "--name c"),
        (&["--root", "/nowhere/at/all"], "/nowhere/at/all"),
    ] {
        let all: Vec<&str> = ["--root", root].iter().chain(words).copied().collect();
        let told = installme(&installer, None, &all);
        assert!(
            told.code == 1 && told.errors.contains(word) && told.output.is_empty(),
            "{words:?}: {told:?}"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a wrong command line did something");
}

#[test]
fn help_and_version() {
    let rig = Rig::new();
    let told = installme(&rig.installer, None, &["--version"]);
    assert_eq!((told.code, told.output), (0, format!("installme {}\n", env!("CARGO_PKG_VERSION"))));
    let told = installme(&rig.installer, None, &["--help"]);
    assert!(told.code == 0 && told.output.contains("--remote HOST") && told.errors.is_empty(), "{told:?}");
}

#[test]
fn a_cma_below_another_root_and_nothing_more_the_second_time() {
    let rig = Rig::new();
    let before = snapshot(&rig.at("root"));
    let told = rig.run(&["--dry-run"]);
    assert!(told.code == 0 && told.output.contains("would write"), "{told:?}");
    assert_eq!(snapshot(&rig.at("root")), before, "a dry run changed something");

    let told = rig.run(&["--cmaaddr", "127.0.0.1:2984", "--name", "Picard"]);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(
        told.output.contains("TAKE OFF-LINE NOW") && told.output.contains("/usr/local/sbin/cma --root"),
        "{told:?}"
    );
    let crypto = rig.at("root/usr/share/assimilation/crypto.d");
    assert_eq!(fs::metadata(&crypto).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(&crypto).unwrap().count(), 4, "two pairs");
    assert!(rig.at("root/usr/share/assimilation/install/programs/nanoprobe").is_file());

    let log = rig.at("root/var/log/assimilation-install.log");
    assert!(fs::read_to_string(&log).unwrap().contains("genkeys"));
    fs::remove_file(&log).unwrap();
    let first = snapshot(&rig.at("root"));
    let told = rig.run(&["--cmaaddr", "127.0.0.1:2984", "--name", "picard"]);
    assert!(told.code == 0 && !told.output.contains("wrote"), "{told:?}");
    fs::remove_file(&log).unwrap();
    // The directory of the log alone has another time.
    let without = |text: &str| {
        text.lines().filter(|line| !line.starts_with("./var/log ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(without(&snapshot(&rig.at("root"))), without(&first));
}

#[test]
fn settings_are_added_and_everything_else_stays() {
    let rig = Rig::new();
    let keys = rig.keys("keys", 1);
    fs::create_dir_all(rig.at("root/etc/default")).unwrap();
    fs::create_dir_all(rig.at("root/etc/assimilation")).unwrap();
    let (variables, toml) =
        (rig.at("root/etc/default/nanoprobe"), rig.at("root/etc/assimilation/nanoprobe.toml"));
    fs::write(&variables, "# mine\nNANOPROBE_CMAADDR=old:1\nNANOPROBE_TTL=3\n").unwrap();
    fs::write(&toml, "# mine\nname = \"old\"\nttl = 4\n[other]\nname = \"not this\"\n").unwrap();
    let words = [
        "nanoprobe",
        "--keys",
        &keys,
        "--cmaaddr",
        "[2001:db8::1]:7",
        "--cmaaddr",
        "cma:8",
        "--name",
        "Seven.Of.Nine",
    ];
    let told = rig.run(&words);
    assert_eq!(told.code, 0, "{told:?}");
    assert_eq!(
        fs::read_to_string(&variables).unwrap(),
        "# mine\nNANOPROBE_TTL=3\nNANOPROBE_CMAADDR=[2001:db8::1]:7,cma:8\n"
    );
    assert_eq!(
        fs::read_to_string(&toml).unwrap(),
        "name = \"seven.of.nine\"\n# mine\nttl = 4\n[other]\nname = \"not this\"\n"
    );
    // What is not named stays as it is.
    let told = rig.run(&["nanoprobe"]);
    assert!(told.code == 0 && !told.output.contains("wrote"), "{told:?}");
    assert!(fs::read_to_string(&variables).unwrap().contains("cma:8"));
}

#[test]
fn a_token_is_for_root_alone_and_in_no_log() {
    let rig = Rig::new();
    let keys = rig.keys("keys", 1);
    let token = format!("assim-{}", "0123456789abcdef".repeat(3));
    fs::write(rig.at("token"), format!("{token}\n")).unwrap();
    let by_file = rig.at("token");
    let words: [&[&str]; 2] = [&["--token-file", by_file.to_str().unwrap()], &["--token", &token]];
    for more in words {
        let told = rig.run(&[&["nanoprobe", "--keys", &keys][..], more].concat());
        assert_eq!(told.code, 0, "{told:?}");
        let file = rig.at("root/etc/assimilation/enrol.token");
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{token}\n"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(&file).unwrap();
        let log = fs::read_to_string(rig.at("root/var/log/assimilation-install.log")).unwrap();
        assert!(!log.contains(&token) && !told.output.contains(&token), "{log}");
    }
}

#[test]
fn a_nanoprobe_without_keys_says_how_to_get_them() {
    let rig = Rig::new();
    let told = rig.run(&["nanoprobe"]);
    assert!(
        told.code == 1 && told.errors.contains("scp 'root@CMA:") && told.errors.contains("--keys keys"),
        "{told:?}"
    );
    let empty = rig.at("empty");
    fs::create_dir(&empty).unwrap();
    let told = rig.run(&["nanoprobe", "--keys", empty.to_str().unwrap()]);
    assert!(told.code == 1 && told.errors.contains("no public key of a CMA"), "{told:?}");
}

#[test]
fn secrets_are_never_taken_for_public_keys() {
    let rig = Rig::new();
    let target = rig.at("root/usr/share/assimilation/crypto.d");
    let nothing_copied = |told: &Told| {
        assert!(told.code == 1 && told.errors.contains("is no public key"), "{told:?}");
        let there = fs::read_dir(&target).into_iter().flatten().flatten().count();
        assert_eq!(there, 0, "something was copied");
    };
    let linked = rig.at("linked");
    fs::create_dir(&linked).unwrap();
    fs::write(linked.join("#CMA#00000.secret"), [7; 32]).unwrap();
    symlink("#CMA#00000.secret", linked.join("#CMA#00000.pub")).unwrap();
    nothing_copied(&rig.run(&["nanoprobe", "--keys", linked.to_str().unwrap()]));
    fs::remove_file(linked.join("#CMA#00000.pub")).unwrap();
    fs::copy(linked.join("#CMA#00000.secret"), linked.join("#CMA#00000.pub")).unwrap();
    nothing_copied(&rig.run(&["nanoprobe", "--keys", linked.to_str().unwrap()]));

    // A real one beside its secret is taken, and the secret is not.
    fs::write(linked.join("#CMA#00000.pub"), [8; 32]).unwrap();
    assert_eq!(rig.run(&["nanoprobe", "--keys", linked.to_str().unwrap()]).code, 0);
    let there: Vec<_> = fs::read_dir(&target).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(there, ["#CMA#00000.pub"]);
}

#[test]
fn a_host_of_another_cma_is_left_alone() {
    let rig = Rig::new();
    let (one, other) = (rig.keys("one", 1), rig.keys("other", 9));
    assert_eq!(rig.run(&["nanoprobe", "--keys", &one]).code, 0);
    let told = rig.run(&["nanoprobe", "--keys", &other]);
    assert!(told.code == 1 && told.errors.contains("trusts another CMA"), "{told:?}");
    assert_eq!(fs::read(rig.at("root/usr/share/assimilation/crypto.d/#CMA#00000.pub")).unwrap(), [1; 32]);
    // It has public keys and no secret: whoever wants a CMA here is asked what was meant.
    let told = rig.run(&[]);
    assert!(told.code == 1 && told.errors.contains("belongs to another CMA"), "{told:?}");
}

#[test]
fn damaged_foreign_and_missing_packages_are_refused() {
    let rig = Rig::new();
    let keys = rig.keys("keys", 1);
    let program = rig.at("release/programs/nanoprobe");
    let good = fs::read(&program).unwrap();
    let refused = |words: &str| {
        let told = rig.run(&["nanoprobe", "--keys", &keys]);
        assert!(told.code == 1 && told.errors.contains(words), "{words}: {told:?}");
        assert!(!rig.at("root/usr/local/sbin/nanoprobe").exists(), "{words}: it was installed");
    };
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&program, &damaged).unwrap();
    refused("nanoprobe is damaged");
    // elf(5): e_machine at 18; 0xb7 is ARM.
    let mut foreign = good.clone();
    (foreign[18], foreign[19]) = (0xb7, 0);
    fs::write(&program, &foreign).unwrap();
    refused("wrong architecture");
    fs::remove_file(&program).unwrap();
    refused("wrong architecture");
    fs::write(&program, &good).unwrap();
    let sums = rig.at("release/SHA256SUMS");
    let list = fs::read_to_string(&sums).unwrap();
    let shorter: String =
        list.lines().filter(|l| !l.ends_with("nanoprobe")).map(|l| format!("{l}\n")).collect();
    fs::write(&sums, shorter).unwrap();
    refused("does not list programs/nanoprobe");
    fs::write(&sums, list).unwrap();
    // All is as it was: now it works.
    let told = rig.run(&["nanoprobe", "--keys", &keys]);
    assert_eq!(told.code, 0, "{told:?}");
    assert_eq!(fs::read(rig.at("root/usr/local/sbin/nanoprobe")).unwrap(), good);
}

#[test]
fn what_was_cut_off_is_finished() {
    let rig = Rig::new();
    let keys = rig.keys("keys", 1);
    let site = |path: &str| rig.at(&format!("root{path}"));
    // Half a program, half a key, half a file of settings, and a copy that never got its name.
    for (path, content) in [
        ("/usr/local/sbin/nanoprobe.new", &b"\x7fELF"[..]),
        ("/usr/share/assimilation/crypto.d/#CMA#00000.pub.new", &[1; 9]),
        ("/usr/share/assimilation/crypto.d/#CMA#00001.pub", &[]),
        ("/etc/default/nanoprobe.new", b"NANOPR"),
    ] {
        fs::create_dir_all(site(path).parent().unwrap()).unwrap();
        fs::write(site(path), content).unwrap();
    }
    let told = rig.run(&["nanoprobe", "--keys", &keys, "--cmaaddr", "cma:7"]);
    assert_eq!(told.code, 0, "{told:?}");
    let crypto = "/usr/share/assimilation/crypto.d/#CMA#0000";
    assert_eq!(fs::read(site(&format!("{crypto}0.pub"))).unwrap(), [1; 32]);
    assert_eq!(fs::read(site(&format!("{crypto}1.pub"))).unwrap(), [2; 32]);
    assert_eq!(fs::read_to_string(site("/etc/default/nanoprobe")).unwrap(), "NANOPROBE_CMAADDR=cma:7\n");
    let left = Command::new("find").arg(rig.at("root")).args(["-name", "*.new"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    let mode = fs::metadata(site("/usr/share/assimilation/crypto.d")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "made by others with another mode, which nanoprobes refuse");
    assert!(Path::new(&site("/usr/local/sbin/nanoprobe")).is_file());
}

#[test]
fn two_at_once_do_not_get_into_each_others_way() {
    let rig = Rig::new();
    let lock = rig.at("root/run/assimilation-install.lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let file = fs::File::create(&lock).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let told = rig.run(&["--wait", "1"]);
    assert!(told.code == 1 && told.errors.contains("another installme is still at work"), "{told:?}");
    drop(file);
    assert_eq!(rig.run(&[]).code, 0);
}
