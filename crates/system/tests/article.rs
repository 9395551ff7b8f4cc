//! The exercise of the article "A half-day to better security", with the real programs: a CMA and a second machine
//! in network namespaces, the paths of the contract, the sample script, a mail server that really delivers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use system::debian::cache;
use system::network::{Host, Network};
use system::process::{Running, capture};
use system::site::{Programs, last_lines};
use system::tree::Tree;
use system::wait_for;

const RULE: &str = "nist_V-38528";
const PARAMETER: &str = "net.ipv4.conf.all.log_martians";
const BROKEN: &str = "WARNING: System picard out of compliance with security best practice nist_V-38528";
const MENDED: &str = "HURRAY: System picard now in compliance with security best practice nist_V-38528";

/// What the article's reader does before the exercise: keys, the sample script with an address, the CMA started.
fn assimilate(tree: &Tree, host: &Host, programs: &Programs, logs: &Path) -> Running {
    for program in ["cma", "assimcli", "nanoprobe"] {
        tree.install(&programs.path(program)).unwrap();
    }
    let keys = capture(tree.command(host, "/usr/sbin/assimcli").arg("genkeys")).unwrap();
    assert!(keys.status.success(), "{}", String::from_utf8_lossy(&keys.stderr));

    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../notification.d/samples/sendemail.sh");
    let script = fs::read_to_string(sample).unwrap();
    let set = |script: &str, name: &str, value: &str| {
        let lines = script.lines().map(|line| {
            if line.starts_with(&format!("{name}=")) { format!("{name}={value}") } else { line.to_owned() }
        });
        lines.collect::<Vec<_>>().join("\n") + "\n"
    };
    let script =
        set(&set(&script, "EMAILDESTS", "admin"), "RETURNADDR", "do-not-reply@unimatrixzero.example");
    let place = "/usr/share/assimilation/notification.d/sendemail.sh";
    tree.write(place, &script).unwrap();
    fs::set_permissions(tree.at(place), fs::Permissions::from_mode(0o755)).unwrap();

    let cma =
        Running::start("cma", tree.command(host, "/usr/sbin/cma").arg("--foreground"), &logs.join("cma.log"))
            .unwrap();
    wait_for("the CMA to listen", Duration::from_secs(30), || {
        tree.at("/run/assimilation/cma.json").is_file().then_some(())
    })
    .unwrap_or_else(|e| panic!("{e}\n{}", last_lines(&logs.join("cma.log"))));
    cma
}

/// A root for picard's nanoprobe with nothing in it but the CMA's public keys, as `scp` would leave it.
fn with_public_keys(tree: &Tree, root: &Path) {
    let crypto = root.join("usr/share/assimilation/crypto.d");
    fs::create_dir_all(&crypto).unwrap();
    fs::set_permissions(&crypto, fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["#CMA#00000.pub", "#CMA#00001.pub"] {
        fs::copy(tree.at("/usr/share/assimilation/crypto.d").join(name), crypto.join(name)).unwrap();
    }
}

fn subjects(tree: &Tree) -> Vec<String> {
    let of = |mail: &String| mail.lines().find_map(|line| line.strip_prefix("Subject: ")).map(str::to_owned);
    tree.mail().iter().filter_map(of).collect()
}

fn count(tree: &Tree, subject: &str) -> usize {
    subjects(tree).iter().filter(|s| *s == subject).count()
}

#[test]
fn breaking_and_fixing_a_rule_on_another_machine_sends_a_mail_for_each_transition() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path();
    let programs = Programs::built().unwrap();
    let network = Network::new(&["unimatrixzero", "picard"]).unwrap();
    let (center, picard) = (network.host("unimatrixzero").unwrap(), network.host("picard").unwrap());
    let tree = Tree::create(&folder.path().join("unimatrixzero"), &cache()).unwrap();
    let _mail = tree.start_mail(center, &logs.join("smtpd.log")).unwrap();
    let _cma = assimilate(&tree, center, &programs, logs);

    // Without any option: found by one multicast packet.
    picard.sysctl(PARAMETER, "1").unwrap();
    let root = folder.path().join("picard");
    with_public_keys(&tree, &root);
    let mut command = picard.command(&programs.path("nanoprobe"));
    let log = logs.join("picard.log");
    let _nanoprobe = Running::start("nanoprobe", command.arg("--root").arg(&root), &log).unwrap();
    let judged = format!(
        "SELECT 1 FROM rule_results WHERE host = 'picard' AND rule_id = '{RULE}' AND status = 'pass'"
    );
    let ask = |statement: &str| {
        let output =
            capture(tree.command(center, "/usr/sbin/assimcli").args(["-o", "jsonl", "sql", statement]))
                .unwrap();
        String::from_utf8_lossy(&output.stdout).lines().count()
    };
    wait_for("picard to be judged", Duration::from_secs(60), || (ask(&judged) == 1).then_some(()))
        .unwrap_or_else(|e| {
            panic!("{e}\nCMA:\n{}\npicard:\n{}", last_lines(&logs.join("cma.log")), last_lines(&log))
        });
    assert_eq!(count(&tree, BROKEN) + count(&tree, MENDED), 0, "no transition has happened yet");

    for round in 1..=3 {
        picard.sysctl(PARAMETER, "0").unwrap();
        wait_for("the mail that the rule is broken", Duration::from_secs(60), || {
            (count(&tree, BROKEN) == round).then_some(())
        })
        .unwrap_or_else(|e| panic!("{e}\n{}\n{:?}", last_lines(&logs.join("cma.log")), subjects(&tree)));
        picard.sysctl(PARAMETER, "1").unwrap();
        wait_for("the mail that it is mended", Duration::from_secs(60), || {
            (count(&tree, MENDED) == round).then_some(())
        })
        .unwrap_or_else(|e| panic!("{e}\n{}\n{:?}", last_lines(&logs.join("cma.log")), subjects(&tree)));
    }
    let mails = tree.mail();
    let broken = mails.iter().find(|mail| mail.contains(BROKEN)).unwrap();
    assert!(broken.contains("From: ") && broken.contains("do-not-reply@unimatrixzero.example"), "{broken}");
    assert!(
        broken.contains("ASSIM_ruleid") && broken.contains(PARAMETER),
        "the body tells what and how to fix:\n{broken}"
    );
}
