//! Package managers, as stand-ins: which one is called with what, and what is made of its answers.

use crate::release::{Told, installme, script};
use std::fs;
use std::path::PathBuf;
use system::package::{Request, archive};

struct Rig {
    folder: tempfile::TempDir,
}

impl Rig {
    /// A release with packages of a few bytes, and public keys.
    fn new() -> Rig {
        let rig = Rig { folder: tempfile::tempdir().unwrap() };
        let release = rig.at("release");
        fs::create_dir_all(rig.at("root")).unwrap();
        fs::create_dir_all(rig.at("keys")).unwrap();
        fs::create_dir(&release).unwrap();
        fs::write(rig.at("keys/#CMA#00000.pub"), [1; 32]).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        for name in [
            format!("assimilation-nanoprobe-{version}-1.x86_64.rpm"),
            format!("assimilation-nanoprobe-{version}-1.aarch64.rpm"),
            "assimilation-nanoprobe-0.0.9-1.x86_64.rpm".into(),
            format!("assimilation-nanoprobe_{version}_amd64.deb"),
        ] {
            fs::write(release.join(&name), name).unwrap();
        }
        fs::write(release.join("installme"), archive::installme(&Request::quick().unwrap()).unwrap())
            .unwrap();
        archive::sums(&release).unwrap();
        script(
            &rig.at("bin/uname"),
            "#!/bin/sh\ncase $1 in -m) echo x86_64 ;; -s) echo Linux ;; *) echo picard ;; esac\n",
        );
        rig
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// A program that notes how it was called and then does `text`.
    fn program(&self, name: &str, text: &str) {
        let calls = self.at("calls").display().to_string();
        script(
            &self.at(&format!("bin/{name}")),
            &format!("#!/bin/sh\necho \"{name} $*\" >>'{calls}'\n{text}\n"),
        );
    }

    fn run(&self, kind: &str) -> Told {
        let _ = fs::remove_file(self.at("calls"));
        let (root, keys) = (self.at("root"), self.at("keys"));
        let words = [
            "--root",
            root.to_str().unwrap(),
            "nanoprobe",
            "--keys",
            keys.to_str().unwrap(),
            "--kind",
            kind,
            "--wait",
            "1",
        ];
        installme(&self.at("release/installme"), Some(&self.at("bin")), &words)
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.at("calls")).unwrap_or_default()
    }
}

/// dpkg and its relatives: the package file is of version 0.1.0, installed is `state`.
fn dpkg(rig: &Rig, state: &str, apt: &str) {
    rig.program("dpkg-deb", "case $3 in Package) echo assimilation-nanoprobe ;; Version) echo 0.1.0 ;; esac");
    rig.program("dpkg-query", &format!("[ -z '{state}' ] && exit 1; printf '%s' '{state}'"));
    rig.program(
        "dpkg",
        "case $1 in --print-architecture) echo amd64 ;; --compare-versions) [ \"$2\" = 0.2.0 ] ;; esac",
    );
    rig.program("apt-get", apt);
}

#[test]
fn rpm_of_this_version_and_machine_with_the_program_that_is_there() {
    let rig = Rig::new();
    rig.program("rpm", "case $1 in -qp) echo assimilation-nanoprobe-0.1.0-1.x86_64 ;; -q) exit 1 ;; esac");
    rig.program("dnf", "exit 0");
    let told = rig.run("rpm");
    assert_eq!(told.code, 0, "{told:?}");
    let calls = rig.calls();
    let dnf = calls.lines().find(|line| line.starts_with("dnf")).unwrap();
    assert!(dnf.starts_with("dnf -y install ") && dnf.ends_with("-0.1.0-1.x86_64.rpm"), "{dnf}");

    // Installed already: nothing is called that changes anything.
    rig.program("rpm", "case $1 in -qp) echo assimilation-nanoprobe-0.1.0-1.x86_64 ;; esac");
    let told = rig.run("rpm");
    assert!(told.code == 0 && told.output.contains("installed already"), "{told:?}");
    assert!(!rig.calls().contains("dnf"), "{}", rig.calls());
}

#[test]
fn deb_in_every_state_it_can_be_in() {
    let rig = Rig::new();
    let installs = |state: &str| {
        dpkg(&rig, state, "exit 0");
        let told = rig.run("deb");
        assert_eq!(told.code, if state.contains("0.2.0") { 2 } else { 0 }, "{state}: {told:?}");
        (rig.calls(), told)
    };
    for state in ["", "install ok installed 0.0.9", "deinstall ok config-files 0.1.0"] {
        let (calls, _) = installs(state);
        let apt = calls.lines().find(|line| line.starts_with("apt-get")).expect(state);
        assert!(
            apt.contains("--no-install-recommends")
                && apt.ends_with("assimilation-nanoprobe_0.1.0_amd64.deb"),
            "{apt}"
        );
        assert!(!calls.contains("--configure"), "{calls}");
    }
    for state in [
        "install ok unpacked 0.1.0",
        "install ok half-configured 0.1.0",
        "install reinst-required half-installed 0.1.0",
    ] {
        let (calls, told) = installs(state);
        let (configure, apt) = (calls.find("dpkg --configure -a"), calls.find("apt-get"));
        assert!(configure.is_some() && configure < apt, "{state}: {calls}");
        assert!(told.output.contains("interrupted"), "{told:?}");
    }
    let (calls, _) = installs("install ok installed 0.1.0");
    assert!(!calls.contains("apt-get"), "{calls}");
    // Never back to an older one.
    let (calls, told) = installs("install ok installed 0.2.0");
    assert!(told.output.contains("newer than 0.1.0"), "{told:?}");
    assert!(!calls.lines().any(|line| line.starts_with("apt-get") && line.contains("install")), "{calls}");
}

#[test]
fn what_package_managers_say_is_told_with_what_to_do() {
    let rig = Rig::new();
    for (said, words) in [
        ("dpkg: error: failed to write (No space left on device)", "disk is full"),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend", "another program is installing packages"),
        ("cannot create: Read-only file system", "read-only"),
        ("E: unmet dependencies \x1b[1m", "could not be installed"),
    ] {
        dpkg(&rig, "", &format!("cat >&2 <<'END'\n{said}\nEND\nexit 100"));
        let told = rig.run("deb");
        assert!(told.code == 1 && told.errors.contains(words), "{said}: {told:?}");
        assert!(!told.errors.contains('\x1b'), "{told:?}");
        let log = fs::read_to_string(rig.at("root/var/log/assimilation-install.log")).unwrap();
        assert!(log.contains("exit status 100") && log.contains(said), "{log}");
    }
    // A file that is no package is not given to anybody.
    dpkg(&rig, "", "exit 0");
    rig.program("dpkg-deb", "exit 2");
    let told = rig.run("deb");
    assert!(told.code == 1 && told.errors.contains("is no Debian package"), "{told:?}");
    assert!(!rig.calls().contains("apt-get"), "{}", rig.calls());
}
