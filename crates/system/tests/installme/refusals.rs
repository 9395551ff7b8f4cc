//! `--remote` with stand-ins for ssh and the CMA: everything that other machines answer before anything is copied.

use crate::release::{Told, installme, script, with_programs};
use std::fs;
use std::path::PathBuf;

struct Rig {
    folder: tempfile::TempDir,
    installer: PathBuf,
}

/// What a machine says of itself, as the installer asks it.
const FACTS: &str = "uid=0\nsystem=Linux\nname=picard\nmachine=x86_64\nnow=$(date +%s)\nclient=10.84.0.1\nsystemd=yes\nkind=plain\n\
    os=A Linux\nsudo=yes\nusr=9000000\nvar=9000000\ntmp=9000000\ntar=yes\ncomplete=yes\n";

impl Rig {
    /// A root with public keys and a stand-in for assimcli that knows no host.
    fn new() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let installer = with_programs(&folder.path().join("release"));
        let rig = Rig { folder, installer };
        rig.cma("exit 0");
        let crypto = rig.at("root/usr/share/assimilation/crypto.d");
        fs::create_dir_all(&crypto).unwrap();
        fs::write(crypto.join("#CMA#00000.pub"), [1; 32]).unwrap();
        fs::write(crypto.join("#CMA#00000.secret"), [2; 32]).unwrap();
        rig
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn cma(&self, text: &str) {
        script(&self.at("root/usr/sbin/assimcli"), &format!("#!/bin/sh\n{text}\n"));
    }

    /// An ssh that notes how it was called, and does `text`; `$last` is the command for the other machine.
    fn ssh(&self, text: &str) {
        let calls = self.at("calls");
        script(
            &self.at("bin/ssh"),
            &format!(
                "#!/bin/sh\nprintf '%s\\n' \"$*\" >>'{}'\nfor last in \"$@\"; do :; done\n{text}\n",
                calls.display()
            ),
        );
    }

    /// One that lets everybody in, to a machine with these facts.
    fn machine(&self, facts: &str) {
        self.ssh(&format!("case $last in 'sh -s') cat <<END\n{facts}END\n;; esac"));
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.at("calls")).unwrap_or_default()
    }

    fn run(&self, words: &[&str]) -> Told {
        let root = self.at("root");
        let mut all = vec!["--root", root.to_str().unwrap()];
        all.extend(words);
        installme(&self.installer, Some(&self.at("bin")), &all)
    }
}

#[test]
fn what_ssh_says_is_told_with_what_to_do() {
    let rig = Rig::new();
    for (said, words) in [
        ("ssh: connect to host picard port 22: Connection refused", &["ssh refused", "--port"][..]),
        ("ssh: connect to host picard port 22: Connection timed out", &["cannot be reached", "TCP port 22"]),
        ("ssh: Could not resolve hostname picard: Name or service not known", &["picard is not known"]),
        ("Host key verification failed.", &["not known here", "--accept-new-host-keys"]),
        (
            "@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@\nHost key verification failed.",
            &["has changed", "ssh-keygen -R picard"],
        ),
        ("alan@picard: Permission denied (publickey).", &["does not let alan in", "ssh-copy-id"]),
        ("alan@picard: Permission denied (publickey,password).", &["no terminal to ask"]),
        ("Received disconnect: Too many authentication failures", &["--identity"]),
        ("something \x1b[31mnew", &["ssh to picard failed", "something [31mnew"]),
    ] {
        rig.ssh(&format!("cat >&2 <<'END'\n{said}\nEND\nexit 255"));
        let told = rig.run(&["--remote", "alan@picard"]);
        assert_eq!(told.code, 1, "{said}: {told:?}");
        for word in words {
            assert!(told.errors.contains(word), "{said}: {word}: {told:?}");
        }
        assert!(!told.errors.contains('\x1b') && !told.output.contains('\x1b'), "{told:?}");
        assert!(told.output.contains("picard") && told.output.contains("FAILED"), "{told:?}");
    }
    // Whoever wants a password was asked with all the care: never a shell, a password or a key of ours on the way.
    let calls = rig.calls();
    assert!(calls.contains("-l") || calls.contains("alan@picard"), "{calls}");
    assert!(calls.lines().all(|call| call.contains("ForwardAgent=no")), "{calls}");
}

#[test]
fn machines_that_cannot_have_a_nanoprobe_are_refused_before_anything_is_copied() {
    let rig = Rig::new();
    for (from, to, words) in [
        ("systemd=yes\n", "", &["no systemd"][..]),
        ("system=Linux", "system=FreeBSD", &["FreeBSD"]),
        ("machine=x86_64", "machine=s390x", &["wrong architecture", "s390x"]),
        ("tar=yes\n", "", &["no tar"]),
        ("var=9000000", "var=1024", &["disk of picard is full", "1 MB are free in /var"]),
        ("uid=0", "uid=1000\nsudono", &["sudo on picard wants a password"]),
        ("sudo=yes\n", "", &[]),
        ("name=picard", "name=pi card;reboot", &["host name that cannot be used"]),
        ("complete=yes\n", "", &["did not tell what it is"]),
    ] {
        let facts = FACTS.replace(from, to);
        rig.machine(&if from == "sudo=yes\n" { facts.replace("uid=0", "uid=1000") } else { facts });
        let told = rig.run(&["--remote", "picard"]);
        assert_eq!(told.code, 1, "{to}: {told:?}");
        let words: &[&str] = if words.is_empty() { &["no sudo", "--user root"] } else { words };
        for word in words {
            assert!(told.errors.contains(word), "{word}: {told:?}");
        }
        assert!(!rig.calls().contains("mktemp"), "something was copied: {}", rig.calls());
    }
}

#[test]
fn a_dry_run_reads_only() {
    let rig = Rig::new();
    rig.machine(FACTS);
    let told =
        rig.run(&["--remote", "picard", "--dry-run", "--name", "Locutus", "--cmaaddr", "10.84.0.1:1984"]);
    assert_eq!(told.code, 0, "{told:?}");
    for word in [
        "would copy installme, programs/nanoprobe, and 1 public keys",
        "--name locutus",
        "--cmaaddr 10.84.0.1:1984",
    ] {
        assert!(told.output.contains(word), "{word}: {told:?}");
    }
    assert!(!rig.at("root/var/log").exists(), "a dry run has no log");
    let calls = rig.calls();
    let commands: Vec<&str> =
        calls.lines().filter(|l| !l.contains("-fN") && !l.contains("-O exit")).collect();
    assert!(commands.len() == 1 && commands[0].ends_with("sh -s"), "{calls}");
}

#[test]
fn what_is_copied_has_no_secret_and_a_token_only_where_the_cma_wants_one() {
    let rig = Rig::new();
    let token = format!("assim-{}", "0123456789abcdef".repeat(3));
    let copied = rig.at("copied");
    fs::create_dir(&copied).unwrap();
    let on_machine = |facts: &str| {
        format!(
            "case $last in 'sh -s') cat <<END\n{facts}END\n;; *mktemp*) echo /tmp/assimilation-install.abcdef ;;\n\
             tar*) tar -C '{}' -xf - ;;\n*--from-cma*) echo designation=picard; echo restarted=yes ;; esac",
            copied.display()
        )
    };
    rig.ssh(&on_machine(FACTS));
    // The host is up after the second question.
    rig.cma(&format!(
        "case $* in *sql*) n=$(cat '{0}' 2>/dev/null || echo 0); echo $((n + 1)) >'{0}'\n\
         [ $n -lt 3 ] || printf 'up\\tnow\\t-\\tok\\n' ;;\n\
         *'tokens create'*) printf '%s\\n' \"$*\" >'{1}'; echo {token} ;; esac",
        rig.at("asked").display(),
        rig.at("created").display()
    ));
    let told = rig.run(&["--remote", "picard"]);
    assert!(told.code == 0 && told.output.contains("picard is registered"), "{told:?}");
    let all = |folder: &std::path::Path| crate::release::snapshot(folder);
    assert!(
        all(&copied).contains("keys/#CMA#00000.pub") && !all(&copied).contains("secret"),
        "{}",
        all(&copied)
    );
    assert!(!copied.join("enrol.token").exists() && !rig.at("created").exists());
    assert!(!copied.join("programs/cma").exists(), "a host needs no CMA");

    fs::create_dir_all(rig.at("root/etc/assimilation")).unwrap();
    let config = "[web]\npolicy = \"none\"\n[enrolment]\npolicy = \"token\"\n";
    fs::write(rig.at("root/etc/assimilation/cma.toml"), config).unwrap();
    fs::remove_file(rig.at("asked")).unwrap();
    let told = rig.run(&["--remote", "picard"]);
    assert!(told.code == 0, "{told:?}");
    assert_eq!(fs::read_to_string(copied.join("enrol.token")).unwrap(), format!("{token}\n"));
    let created = fs::read_to_string(rig.at("created")).unwrap();
    assert!(created.contains("--uses 1") && created.contains("--host picard"), "{created}");
    let log = fs::read_to_string(rig.at("root/var/log/assimilation-install.log")).unwrap();
    assert!(!log.contains(&token) && !rig.calls().contains(&token) && !told.output.contains(&token));

    // A secret under a public name stops everything.
    let crypto = rig.at("root/usr/share/assimilation/crypto.d");
    fs::copy(crypto.join("#CMA#00000.secret"), crypto.join("#CMA#00001.pub")).unwrap();
    fs::remove_file(rig.at("calls")).unwrap();
    let told = rig.run(&["--remote", "picard"]);
    assert!(told.code == 1 && told.errors.contains("#CMA#00001.pub is no public key"), "{told:?}");
    assert!(!rig.calls().contains("tar"), "{}", rig.calls());
}

#[test]
fn a_host_that_does_not_come_is_told_with_its_reason() {
    let rig = Rig::new();
    let machine = format!(
        "case $last in 'sh -s') cat <<END\n{FACTS}END\n;; *mktemp*) echo /tmp/assimilation-install.abcdef ;;\n\
         tar*) cat >/dev/null ;; *reach*) echo answers ;; ls*crypto.d) echo picard@@1234abcd.secret ;; *--from-cma*) echo designation=picard; echo restarted=yes ;; esac"
    );
    rig.ssh(&machine);
    for (cma, code, words) in [
        (
            "case $* in *sql*) printf 'up\\told\\t-\\tMISMATCH\\n' ;; esac",
            1,
            &["name picard is taken", "hosts accept-key picard"][..],
        ),
        (
            "case $* in *'hosts pending'*) printf 'picard\\tk\\ta\\ts\\tl\\tm\\tn\\t\\n'; exit 2 ;; esac",
            2,
            &["assimcli hosts approve picard --key 1234abcd"],
        ),
        (
            "case $* in *'hosts revoked'*) printf 'picard\\tk\\tw\\tr\\tt\\n' ;; esac",
            1,
            &["key of picard was revoked"],
        ),
        ("exit 0", 1, &["did not register"]),
    ] {
        rig.cma(cma);
        let told = rig.run(&["--remote", "picard", "--wait", "1"]);
        assert_eq!(told.code, code, "{cma}: {told:?}");
        for word in words {
            assert!(format!("{}{}", told.output, told.errors).contains(word), "{word}: {told:?}");
        }
        assert!(rig.calls().contains("rm -rf '/tmp/assimilation-install.abcdef'"), "{}", rig.calls());
    }
    rig.cma("echo 'assimcli: the CMA does not answer' >&2; exit 1");
    let told = rig.run(&["--remote", "picard"]);
    assert!(
        told.code == 1 && told.errors.contains("no CMA answers") && told.errors.contains("systemctl start"),
        "{told:?}"
    );
}
