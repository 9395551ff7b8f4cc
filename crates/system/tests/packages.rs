//! Packages as files: what is in them, who owns it, whether two builds are the same, and what shellcheck and systemd say of
//! the scripts and units. That they install, upgrade and go is tested on machines with systemd.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use system::package::{Part, Request, archive, deb, debs, rpm, source};
use system::process::capture;

const NOTHING: [&str; 0] = [];

/// What the program printed; its errors fail the test.
fn output(command: &mut Command) -> String {
    let output = capture(command).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{:?} failed: {errors}", command.get_program());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Mode and owner of each path of a .deb.
fn contents(file: &Path) -> BTreeMap<String, (String, String)> {
    let text = output(Command::new("dpkg-deb").arg("--contents").arg(file));
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let path = words[5].trim_start_matches('.').to_owned();
            (path, (words[0].to_owned(), words[1].to_owned()))
        })
        .collect()
}

fn field(file: &Path, name: &str) -> String {
    output(Command::new("dpkg-deb").arg("--field").arg(file).arg(name)).trim().to_owned()
}

#[test]
fn debian_packages_have_what_the_contract_says() {
    let out = tempfile::tempdir().unwrap();
    let [cma, nanoprobe] = debs(&Request::quick().unwrap().with_version("1.2.3"), out.path()).unwrap();
    for (file, part) in [(&cma, Part::Cma), (&nanoprobe, Part::Nanoprobe)] {
        let program = part.program();
        assert_eq!(field(file, "Package"), part.package());
        assert_eq!(field(file, "Version"), "1.2.3");
        let depends = field(file, "Depends");
        assert!(depends.contains("libc6 (>= 2."), "{depends}");
        let contents = contents(file);
        let modes = [
            (format!("/usr/sbin/{program}"), "-rwxr-xr-x"),
            (format!("/usr/lib/assimilation/{program}/assimcli"), "-rwxr-xr-x"),
            (format!("/usr/lib/systemd/system/assimilation-{program}.service"), "-rw-r--r--"),
            (format!("/etc/default/{program}"), "-rw-r--r--"),
            (format!("/usr/share/man/man8/{program}.8.gz"), "-rw-r--r--"),
            (format!("/usr/share/bash-completion/completions/{program}"), "-rw-r--r--"),
            (format!("/usr/lib/assimilation/{program}/assimcli.bash"), "-rw-r--r--"),
            ("/etc/assimilation/".into(), "drwxr-xr-x"),
        ];
        for (path, mode) in modes {
            assert_eq!(contents.get(&path).map(|(mode, _)| mode.as_str()), Some(mode), "{path}");
        }
        for (path, (mode, owner)) in &contents {
            assert_eq!(owner, "root/root", "{path}");
            assert!(!mode[5..].contains('w'), "{path} can be written by others: {mode}");
            assert!(!path.contains("crypto.d"), "keys belong to no package: {path}");
        }
        let conffiles = output(Command::new("dpkg-deb").arg("--info").arg(file).arg("conffiles"));
        assert_eq!(conffiles, format!("/etc/default/{program}\n"));
    }
    let cma_paths = contents(&cma);
    for path in [
        "best_practices/BASE/",
        "queries/allips.toml",
        "monrules/tcp/",
        "notification.d/samples/sendemail.sh",
    ] {
        assert!(cma_paths.contains_key(&format!("/usr/share/assimilation/{path}")), "{path}");
    }
    // Both are installed on the same machine: dpkg refuses a file that is in both.
    let both: Vec<String> = contents(&nanoprobe)
        .into_keys()
        .filter(|path| !path.ends_with('/') && cma_paths.contains_key(path))
        .collect();
    assert_eq!(both, NOTHING);
}

#[test]
fn the_same_programs_give_the_same_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let request = Request::quick().unwrap();
    let built = |folder: &Path, request: &Request| -> [Vec<u8>; 2] {
        [
            fs::read(deb::build(request, Part::Nanoprobe, folder).unwrap()).unwrap(),
            fs::read(rpm::build(request, Part::Nanoprobe, folder).unwrap()).unwrap(),
        ]
    };
    let first = built(one.path(), &request);
    assert!(first == built(two.path(), &request), "two builds differ");
    let later = Request { epoch_seconds: request.epoch_seconds - 86_400, ..request };
    let other = built(two.path(), &later);
    assert!(first[0] != other[0] && first[1] != other[1], "the time is in none of the packages");
    assert_eq!(fs::read_dir(one.path()).unwrap().count(), 2, "something is left over");
}

#[test]
fn rpm_packages_know_their_configuration_and_their_scripts() {
    let out = tempfile::tempdir().unwrap();
    let request = Request::quick().unwrap();
    for part in Part::ALL {
        let file = rpm::build(&request, part, out.path()).unwrap();
        let query = |what: &[&str]| {
            output(
                Command::new("rpm")
                    .args(["--query", "--package", "--dbpath"])
                    .arg(out.path())
                    .args(what)
                    .arg(&file),
            )
        };
        let program = part.program();
        assert_eq!(query(&["--configfiles"]), format!("/etc/sysconfig/{program}\n"));
        let files = query(&["--list"]);
        assert!(files.lines().any(|line| line == format!("/usr/sbin/{program}")), "{files}");
        assert!(!files.contains("crypto.d") && !files.contains("/etc/default"), "{files}");
        assert!(query(&["--requires"]).contains("libc.so.6(GLIBC_2."));
        // A percent sign of the shell must have come through.
        let scripts = query(&["--scripts"]);
        assert!(
            scripts.contains("${public%.pub}") && scripts.contains(&format!("prepare_{program}")),
            "{scripts}"
        );
        let owners = query(&["--queryformat", "[%{FILEUSERNAME}:%{FILEGROUPNAME}\n]"]);
        assert!(owners.lines().all(|owner| owner == "root:root"), "{owners}");
    }
}

#[test]
fn scripts_are_posix_shell_without_complaints() {
    let request = Request::quick().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut checked = 0;
    let scripts = source().join("packaging/scripts");
    for entry in fs::read_dir(&scripts).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name == "lib.sh" {
            continue;
        }
        let text = system::package::contents::script(&request, &name, "#!/bin/sh\nset -e\n").unwrap();
        let file = folder.path().join(&name);
        fs::write(&file, text).unwrap();
        let found =
            capture(Command::new("shellcheck").args(["--shell=sh", "--severity=style"]).arg(&file)).unwrap();
        assert!(found.status.success(), "{name}:\n{}", String::from_utf8_lossy(&found.stdout));
        output(Command::new("dash").arg("-n").arg(&file));
        checked += 1;
    }
    assert_eq!(checked, 14, "four scripts of dpkg and three of rpm for each package");
}

/// The units with programs that are there, so that systemd has only the units themselves to complain about.
fn units(folder: &Path) -> Vec<PathBuf> {
    let from = source().join("packaging/systemd");
    Part::ALL
        .iter()
        .map(|part| {
            let name = format!("{}.service", part.package());
            let text = fs::read_to_string(from.join(&name)).unwrap();
            let program = Request::quick().unwrap().programs.path(part.program());
            let text = text.replace(&format!("/usr/sbin/{}", part.program()), &program.display().to_string());
            let file = folder.join(name);
            fs::write(&file, text).unwrap();
            file
        })
        .collect()
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let folder = tempfile::tempdir().unwrap();
    for unit in units(folder.path()) {
        let verify = |file: &Path| {
            let found = capture(
                Command::new("systemd-analyze")
                    .args(["verify", "--man=no", "--recursive-errors=no"])
                    .arg(file),
            );
            let found = found.unwrap();
            // Where no systemd runs it says that it cannot ask one; that is no word about the unit.
            let text = String::from_utf8_lossy(&found.stderr).into_owned();
            text.lines().filter(|line| line.contains(".service")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(verify(&unit), NOTHING);
        let wrong = fs::read_to_string(&unit).unwrap().replace("RestartSec=5", "RestartSeconds=5");
        fs::write(&unit, wrong).unwrap();
        assert_ne!(verify(&unit), NOTHING, "an unknown word must be found");
    }
}

/// Tenths of the exposure that `systemd-analyze security` may find. What is left is named in docs/packages.md.
const EXPOSURE: [(&str, u32); 2] = [("assimilation-cma.service", 27), ("assimilation-nanoprobe.service", 55)];

#[test]
fn the_sandboxes_are_as_tight_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    for (unit, (name, limit)) in units(folder.path()).iter().zip(EXPOSURE) {
        assert!(unit.ends_with(name));
        let rated = |limit: u32| {
            capture(
                Command::new("systemd-analyze")
                    .args(["security", "--offline=true", "--no-pager", &format!("--threshold={limit}")])
                    .arg(unit),
            )
            .unwrap()
        };
        let found = rated(limit);
        assert!(found.status.success(), "{name}:\n{}", String::from_utf8_lossy(&found.stdout));
        assert!(!rated(limit - 10).status.success(), "{name} is far better than {limit}: lower the limit");
    }
}

#[test]
fn the_archive_is_complete_and_its_sums_are_right() {
    let out = tempfile::tempdir().unwrap();
    let request = Request::quick().unwrap();
    let package = deb::build(&request, Part::Nanoprobe, out.path()).unwrap();
    let file = archive::build(&request, &[package], out.path()).unwrap();
    output(Command::new("tar").arg("--extract").arg("--file").arg(&file).arg("--directory").arg(out.path()));
    let top = out.path().join(format!("assimilation-{}", request.version));
    for name in ["installme", "programs/cma", "programs/systemd/assimilation-cma.service", "LICENSE"] {
        assert!(top.join(name).is_file(), "{name}");
    }
    let check = || {
        capture(Command::new("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&top))
            .unwrap()
    };
    assert!(check().status.success());
    let listed = fs::read_to_string(top.join("SHA256SUMS")).unwrap();
    let files = system::package::contents::files(&top).unwrap();
    assert_eq!(listed.lines().count() + 1, files.len(), "every file but the sums themselves");
    fs::write(top.join("LICENSE"), "another").unwrap();
    assert!(!check().status.success());
}
