//! Where the CMA asks for tokens or approval: its own machine, a host that `installme` brings a token for, one whose token does
//! not count, and, at the end, what a purge leaves of it all.

use crate::journey::{RELEASE, UNIT, copy_release, hosts_up, installme, machine};
use system::booted::Machine;
use system::network::Network;

const CONFIG: &str = "/etc/assimilation/cma.toml";
const TOKEN: &str = "/etc/assimilation/enrol.token";
/// Where `installme` keeps the packages of the CMA's machine.
const COPY: &str = "/usr/share/assimilation/install";

#[test]
fn hosts_that_need_a_token_or_approval_are_brought_in_and_everything_goes_with_the_purge() {
    let network = Network::new(&["unimatrixzero", "picard"]).unwrap();
    let center = machine(&network, "unimatrixzero");
    let picard = machine(&network, "picard");
    center.write("/etc/hosts", "127.0.0.1 localhost\n10.84.0.1 unimatrixzero\n10.84.0.2 picard\n").unwrap();
    copy_release(&center);
    center.ok("ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519").unwrap();
    picard.ok("mkdir -p -m 700 /root/.ssh").unwrap();
    picard.write("/root/.ssh/authorized_keys", center.ok("cat /root/.ssh/id_ed25519.pub").unwrap()).unwrap();

    token_for_each(&center, &picard);
    approval_for_whoever_has_none(&center, &picard);
    purge(&center, &picard);
}

fn token_for_each(center: &Machine, picard: &Machine) {
    // Asked for from the first moment on: also of the CMA's own machine.
    center.ok("mkdir -p /etc/assimilation").unwrap();
    center.write(CONFIG, "[enrolment]\npolicy = \"token\"\n").unwrap();
    let told = installme(center, "");
    assert!(
        told.code == 0 && told.output.contains("unimatrixzero is registered: up"),
        "{told:?}\n{}",
        center.journal(&[])
    );
    assert!(told.output.contains("made an enrolment token for unimatrixzero"), "{told:?}");

    let told = installme(center, "--remote picard --user root --accept-new-host-keys");
    assert!(
        told.code == 0 && told.output.contains("picard is registered: up"),
        "{told:?}\n{}",
        picard.journal(&[])
    );
    assert!(told.output.contains("made an enrolment token for picard"), "{told:?}");
    assert_eq!(hosts_up(center), "picard\nunimatrixzero\n");
    // One token for each host, each used up, and no longer anywhere.
    let used = center.ok("assimcli -o json tokens list").unwrap();
    let used: Vec<serde_json::Value> = serde_json::from_str(&used).unwrap();
    assert_eq!(used.len(), 2, "{used:?}");
    for machine in [center, picard] {
        machine.ok(&format!("! ls {TOKEN} && ! ls -d /tmp/assimilation-install*")).unwrap();
        machine.ok("! grep -E 'assim-[0-9a-f]{48}' /var/log/assimilation-install.log").unwrap();
    }

    // Whoever is enrolled needs none.
    let told = installme(center, "--remote picard --user root");
    assert!(told.code == 0 && told.output.contains("installed already"), "{told:?}");
    assert!(!told.output.contains("token"), "{told:?}");
}

fn approval_for_whoever_has_none(center: &Machine, picard: &Machine) {
    // Another life: to the CMA this is a host that it never saw.
    picard.ok("dpkg --purge assimilation-nanoprobe 2>&1").unwrap();
    center.ok("assimcli hosts remove picard").unwrap();
    center.write(CONFIG, "[enrolment]\npolicy = \"approve\"\n").unwrap();
    center.ok("systemctl reload assimilation-cma").unwrap();
    // A token that does not count is as good as none, and tells why.
    let token = center.ok("assimcli -o script tokens create --host riker").unwrap();
    center.write("/root/token", token).unwrap();
    let words = "--remote picard --user root --token-file /root/token";
    let told = installme(center, words);
    assert_eq!(told.code, 2, "{told:?}\n{}", picard.journal(&[]));
    let table = told.output.lines().next_back().unwrap();
    assert!(table.starts_with("picard") && table.contains(" LOOK "), "{table}");
    assert_eq!(hosts_up(center), "unimatrixzero\n");
    // As long as nobody has typed anything, the same is said.
    let told = installme(center, words);
    assert_eq!(told.code, 2, "{told:?}");
    let command = told.output.lines().next_back().unwrap().split_once("waits for approval: ").unwrap().1;
    let key = picard.ok("nanoprobe --key").unwrap();
    assert_eq!(command, format!("assimcli hosts approve picard --key {}", key.trim()));

    // On the host itself the same is told as far as it can be seen there.
    copy_release(picard);
    let told = installme(picard, "nanoprobe");
    assert!(told.code == 2 && told.output.contains("assimcli hosts approve picard"), "{told:?}");

    center.ok(command).unwrap();
    let told = installme(center, "--remote picard --user root");
    assert!(
        told.code == 0 && told.output.contains("picard is registered: up"),
        "{told:?}\n{}",
        picard.journal(&[])
    );
    assert_eq!(hosts_up(center), "picard\nunimatrixzero\n");
    let told = installme(picard, "nanoprobe");
    assert!(told.code == 0 && told.output.contains("picard is registered with the CMA"), "{told:?}");
}

/// What `installme` put beside the packages stays when these are removed, and goes when the last of them is purged; what the
/// administrator put there stays.
fn purge(center: &Machine, picard: &Machine) {
    center
        .ok(&format!(
            "test -x {COPY}/installme && test \"$(readlink /usr/local/sbin/installme)\" = {COPY}/installme"
        ))
        .unwrap();
    center.write(&format!("{COPY}/notes"), "mine\n").unwrap();
    center.write(&format!("{COPY}/programs/mine"), "mine\n").unwrap();
    let listed =
        format!("cd {COPY} && find . | sort && ls -l /usr/local/sbin /var/log/assimilation-install.log");
    let before = center.ok(&listed).unwrap();
    center.ok("dpkg --remove assimilation-nanoprobe assimilation-cma 2>&1").unwrap();
    center.ok("dpkg --purge assimilation-nanoprobe 2>&1").unwrap();
    assert_eq!(center.ok(&listed).unwrap(), before, "the other one is not purged yet");
    // Cut off in the middle of it: half of the files are gone, and the list is not.
    center
        .ok(&format!("rm {COPY}/SHA256SUMS {COPY}/assimilation-cma_*.deb && mkdir -p {COPY}.new/programs"))
        .unwrap();
    let said = center.ok("dpkg --purge assimilation-cma 2>&1").unwrap();
    assert!(said.contains(&format!("{COPY} is kept")), "{said}");
    let left = center.ok("cd /usr/share/assimilation && find . -type f | sort").unwrap();
    assert_eq!(left, "./install/notes\n./install/programs/mine\n");
    center.ok("! ls -d /usr/share/assimilation/install.* && ! ls /var/log/assimilation-install.log").unwrap();
    assert_eq!(center.ok("find /usr/local/sbin -mindepth 1").unwrap(), "");

    // Where nothing was added nothing stays, and what is called like ours and is not stays too.
    picard.ok(&format!("ln -s {RELEASE}/installme /usr/local/sbin/installme")).unwrap();
    assert!(picard.ok(&format!("systemctl is-active {UNIT}")).is_ok());
    picard.ok("dpkg --purge assimilation-nanoprobe 2>&1").unwrap();
    picard.ok("! ls -d /usr/share/assimilation /etc/assimilation /var/lib/assimilation").unwrap();
    picard.ok("test -L /usr/local/sbin/installme").unwrap();

    // Installed once more, there is a copy with the administrator's files in it, which is not replaced.
    let told = installme(center, "");
    assert!(told.code == 2 && told.output.contains("has files that installme did not put there"), "{told:?}");
    center.ok(&format!("rm -r {COPY} && ln -s /bin/true /usr/local/sbin/installme")).unwrap();
    let told = installme(center, "");
    assert!(told.code == 0 && told.output.contains("a copy of the packages is in"), "{told:?}");
    assert_eq!(center.ok("readlink /usr/local/sbin/installme").unwrap(), "/bin/true\n", "somebody's own");
    // Killed between the copy and the link: the next run makes what is missing.
    center.ok("rm /usr/local/sbin/installme").unwrap();
    assert_eq!(installme(center, "").code, 0);
    assert_eq!(center.ok("readlink /usr/local/sbin/installme").unwrap(), format!("{COPY}/installme\n"));
    center.ok("dpkg --purge assimilation-nanoprobe assimilation-cma 2>&1").unwrap();
    center
        .ok("! ls -d /usr/share/assimilation /usr/local/sbin/installme /var/log/assimilation-install.log")
        .unwrap();
}
