//! From one machine to three, as an administrator does it: `installme` on the first, `installme --remote` for the others.

use crate::release::{self, Told};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::LazyLock;
use system::booted::{ADMIN_PASSWORD, GUEST_PASSWORD, Machine, ROOT_PASSWORD};
use system::network::Network;

/// Where the administrator has unpacked the release.
pub const RELEASE: &str = "/root/release";
pub const UNIT: &str = "assimilation-nanoprobe.service";

/// Built once for all tests of this file.
static PACKAGES: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    release::with_packages(folder.path());
    folder
});

pub fn machine(network: &Network, name: &str) -> Machine {
    let mut machine = Machine::create(network.host(name).unwrap()).unwrap();
    machine.boot().unwrap();
    machine.start_ssh().unwrap();
    machine
}

pub fn copy_release(machine: &Machine) {
    for entry in std::fs::read_dir(PACKAGES.path()).unwrap().flatten() {
        let to = Path::new(RELEASE).join(entry.file_name());
        machine.copy_in(&entry.path(), &to.to_string_lossy()).unwrap();
    }
}

/// Without a terminal.
pub fn installme(machine: &Machine, words: &str) -> Told {
    machine.run(&format!("{RELEASE}/installme {words}")).unwrap().into()
}

/// In a terminal (script(1) makes one), in which `typed` is typed. What it said is all in `output`.
fn in_terminal(machine: &Machine, words: &str, typed: &str) -> Told {
    let line = format!("script -qec '{RELEASE}/installme {words}' /dev/null");
    let mut child = machine
        .command(&line)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(typed.as_bytes()).unwrap();
    input.flush().unwrap();
    // Held open: the end of the input would end the terminal.
    let output = child.wait_with_output().unwrap();
    drop(input);
    output.into()
}

pub fn hosts_up(machine: &Machine) -> String {
    machine.ok("assimcli -o script sql \"SELECT host FROM hosts WHERE status = 'up' ORDER BY host\"").unwrap()
}

fn main_pid(machine: &Machine, unit: &str) -> String {
    machine.ok(&format!("systemctl show -p MainPID {unit}")).unwrap()
}

#[test]
fn from_one_machine_to_three() {
    let network = Network::new(&["unimatrixzero", "Picard", "janeway"]).unwrap();
    let center = machine(&network, "unimatrixzero");
    center
        .write(
            "/etc/hosts",
            "127.0.0.1 localhost\n10.84.0.1 unimatrixzero\n10.84.0.2 picard\n10.84.0.3 janeway\n",
        )
        .unwrap();
    copy_release(&center);

    // The first machine. What would be done is told and not done.
    let told = installme(&center, "--dry-run");
    assert!(
        told.code == 0 && told.output.contains("would run: ") && told.output.contains("assimilation-cma"),
        "{told:?}"
    );
    assert!(!center.run("command -v cma").unwrap().status.success(), "a dry run installed something");
    assert!(!center.run("ls /var/log/assimilation-install.log").unwrap().status.success());
    let told = installme(&center, "--remote picard");
    assert!(told.code == 1 && told.errors.contains("no CMA answers on this machine"), "{told:?}");

    // Cut off in the middle of the packages, then once more.
    let cut = center.run(&format!("timeout -s KILL 3 {RELEASE}/installme")).unwrap();
    assert_eq!(cut.status.code(), Some(137), "{}", String::from_utf8_lossy(&cut.stdout));
    let told = installme(&center, "");
    assert!(
        told.code == 0 && told.output.contains("unimatrixzero is registered: up"),
        "{told:?}\n{}",
        center.journal(&[])
    );
    assert!(
        told.output.contains("TAKE OFF-LINE NOW") && told.output.contains("#CMA#00001.secret"),
        "{told:?}"
    );
    assert_eq!(hosts_up(&center), "unimatrixzero\n");

    // Once more: everything is there, and nothing is started again.
    let before = (main_pid(&center, UNIT), main_pid(&center, "assimilation-cma.service"));
    let told = installme(&center, "");
    assert!(told.code == 0 && told.output.contains("installed already"), "{told:?}");
    assert_eq!((main_pid(&center, UNIT), main_pid(&center, "assimilation-cma.service")), before);

    // The second. Nobody has logged in there yet.
    let picard = machine(&network, "Picard");
    let janeway = machine(&network, "janeway");
    let told = installme(&center, "--remote picard --user admin");
    assert!(told.code == 1 && told.errors.contains("host key of picard is not known"), "{told:?}");
    let told = installme(&center, "--remote picard --user admin --accept-new-host-keys");
    assert!(told.code == 1 && told.errors.contains("no terminal to ask"), "{told:?}");
    let told = in_terminal(&center, "--remote picard --user admin", "wrong\n");
    assert!(told.code == 1 && told.output.contains("did not take the password of admin"), "{told:?}");
    let told = in_terminal(&center, "--remote picard --user guest", &format!("{GUEST_PASSWORD}\n"));
    assert!(told.code == 1 && told.output.contains("sudo is not allowed: guest"), "{told:?}");
    let told = in_terminal(&center, "--remote picard --user admin --dry-run", &format!("{ADMIN_PASSWORD}\n"));
    assert!(told.code == 0 && told.output.contains("would copy installme"), "{told:?}");
    picard
        .ok("! command -v nanoprobe && ! ls /tmp/assimilation-install* /var/log/assimilation-install.log")
        .unwrap();

    // One password for ssh and sudo, typed once; and one machine that is not there does not keep the other from it.
    let told = in_terminal(
        &center,
        "--remote nowhere.invalid --remote picard --user admin",
        &format!("{ADMIN_PASSWORD}\n"),
    );
    assert!(told.code == 1, "one of the two failed: {told:?}");
    assert!(
        told.output.contains("picard is registered: up, at 10.84.0.2:1984"),
        "{told:?}\n{}",
        picard.journal(&[])
    );
    assert!(told.output.contains("both ways are open"), "{told:?}");
    assert_eq!(told.output.matches("Password of").count(), 1, "{told:?}");
    let table: Vec<&str> = told.output.lines().rev().take(2).collect();
    assert!(table[0].contains("picard") && table[0].contains("ok"), "{table:?}");
    assert!(table[1].contains("nowhere.invalid") && table[1].contains("FAILED"), "{table:?}");
    assert_eq!(hosts_up(&center), "picard\nunimatrixzero\n");
    // Nothing stays behind, and what must never leave the CMA did not.
    picard.ok("! ls -d /tmp/assimilation-install* && ! find / -xdev -name '#CMA#*.secret' | grep .").unwrap();
    for (machine, password) in
        [(&center, ADMIN_PASSWORD), (&picard, ADMIN_PASSWORD), (&center, ROOT_PASSWORD)]
    {
        machine.ok(&format!("test -s /var/log/assimilation-install.log && ! grep -r {password} /var/log/assimilation-install.log")).unwrap();
    }
    let before = main_pid(&picard, UNIT);
    let told = in_terminal(&center, "--remote picard --user admin", &format!("{ADMIN_PASSWORD}\n"));
    assert!(told.code == 0 && told.output.contains("installed already"), "{told:?}");
    assert_eq!(main_pid(&picard, UNIT), before, "a nanoprobe that is as it should be was started again");

    third_machine(&network, &center, &janeway);
}

/// With a key, where multicast does not pass, behind a firewall, and after an installation that was cut off.
fn third_machine(network: &Network, center: &Machine, janeway: &Machine) {
    center.ok("ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519").unwrap();
    let key = center.ok("cat /root/.ssh/id_ed25519.pub").unwrap();
    janeway.ok("mkdir -p -m 700 /root/.ssh").unwrap();
    janeway.write("/root/.ssh/authorized_keys", &key).unwrap();
    let rules = "table inet f {
chain in {
type filter hook input priority 0; policy drop;
iif lo accept
ct state established,related accept
tcp dport 22 accept
}
chain out {
type filter hook output priority 0;
ip daddr 224.0.0.0/4 drop
}
}
";
    network.host("janeway").unwrap().nft(rules).unwrap();
    janeway.write("/etc/default/nanoprobe", "# ours\nNANOPROBE_DEBUG=1\n").unwrap();

    let words = "--remote janeway --user root --accept-new-host-keys --wait 15";
    // Cut off in the middle of it; also there, where the connection breaks.
    let line = format!("timeout -s KILL 3 {RELEASE}/installme {words}");
    let cut = center.run(&line).unwrap();
    assert_eq!(
        cut.status.code(),
        Some(137),
        "it was faster than the power cut: {}",
        String::from_utf8_lossy(&cut.stdout)
    );
    let told = installme(center, words);
    assert_eq!(told.code, 2, "{told:?}\n{}", janeway.journal(&[]));
    assert!(told.output.contains("naming the CMA's address, 10.84.0.1:1984"), "{told:?}");
    assert!(told.output.contains("janeway is registered: up"), "{told:?}");
    assert!(told.output.contains("packets from the CMA do not reach janeway"), "{told:?}");
    let variables = janeway.ok("cat /etc/default/nanoprobe").unwrap();
    assert_eq!(variables, "# ours\nNANOPROBE_DEBUG=1\nNANOPROBE_CMAADDR=10.84.0.1:1984\n");

    // The rule that it names is the one that helps.
    let rule = told.errors.lines().find_map(|line| line.split_once("On janeway:  ")).unwrap().1;
    let rule = rule.split("   (").next().unwrap();
    assert!(rule.starts_with("nft insert rule inet f in udp dport 1984 accept"), "{rule}");
    janeway.ok(rule).unwrap();
    let told = installme(center, words);
    assert!(told.code == 0 && told.output.contains("both ways are open"), "{told:?}");

    // And the other way round: the CMA's own machine lets nobody in. Without connection tracking, because the CMA calls
    // hosts, and what comes from them would be an answer.
    network.host("unimatrixzero").unwrap().nft(
        "table inet f {\nchain in {\ntype filter hook input priority 0; policy drop;\niif lo accept\ntcp sport 22 accept\nudp dport 32768-60999 accept\n}\n}\n",
    ).unwrap();
    janeway.ok(&format!("systemctl stop {UNIT}")).unwrap();
    let told = installme(center, words);
    assert!(
        told.code == 1 && told.errors.contains("packets from janeway do not reach the CMA's UDP port 1984"),
        "{told:?}"
    );
    let rule = told.errors.lines().find_map(|line| line.split_once("On this machine:  ")).unwrap().1;
    center.ok(rule.split("   (").next().unwrap()).unwrap();
    let told = installme(center, words);
    assert!(told.code == 0 && told.output.contains("janeway is registered: up"), "{told:?}");

    // On that machine itself, as far as it can be seen from there.
    copy_release(janeway);
    let told = installme(janeway, "nanoprobe");
    assert!(told.code == 0 && told.output.contains("janeway is registered with the CMA"), "{told:?}");
    let told = installme(janeway, "nanoprobe --cmaaddr 10.84.0.77:1984 --wait 5");
    assert!(told.code == 1 && told.errors.contains("did not register with the CMA within 5 s"), "{told:?}");
    assert!(told.errors.contains("10.84.0.77:1984: "), "{told:?}");
    let told = installme(janeway, "nanoprobe --cmaaddr 10.84.0.1:1984");
    assert!(told.code == 0 && told.output.contains("janeway is registered with the CMA"), "{told:?}");

    // Somebody else's name.
    janeway.ok(&format!("systemctl stop {UNIT}; rm -f /usr/share/assimilation/crypto.d/*@@*")).unwrap();
    let told = installme(center, words);
    assert!(told.code == 1 && told.errors.contains("the name janeway is taken"), "{told:?}");
    assert!(told.errors.contains("assimcli hosts accept-key janeway"), "{told:?}");
}
