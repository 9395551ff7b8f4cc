//! Bad days of two installed machines: what is in the way is told, and mended with what was told.

use crate::rig::{CMA, CRYPTO, NANOPROBE, Pair, is_active, property, put, step};
use std::time::Duration;
use system::booted::Machine;

/// Upper case and dots, as some sites have them.
const NAME: &str = "Picard.Example.ORG";
const HOST: &str = "picard.example.org";

#[test]
fn networks_names_and_keys_that_are_not_as_they_should_be() {
    let pair = Pair::boot(NAME);
    no_ipv6_and_no_multicast(&pair);
    permissions(&pair);
    half_copied_keys(&pair);
    read_only_usr(&pair);
    clocks(&pair);
}

#[test]
fn power_cuts_and_full_disks() {
    let mut pair = Pair::boot("picard");
    pair.assimilate();
    power_cuts(&mut pair);
    full_disks(&pair);
}

fn no_ipv6_and_no_multicast(pair: &Pair) {
    step("neither IPv6 nor multicast: the host waits, and comes once it is told where the CMA is");
    for machine in [&pair.center, &pair.picard] {
        machine.ok("sysctl --quiet --write net.ipv6.conf.all.disable_ipv6=1").unwrap();
        assert_eq!(machine.ok("ip -6 address").unwrap(), "");
    }
    let host = pair.network.host(NAME).unwrap();
    let drop_multicast = "add table inet multicast
        add chain inet multicast leaving { type filter hook output priority 0; }
        add rule inet multicast leaving ip daddr 224.0.0.0/4 drop\n";
    host.nft(drop_multicast).unwrap();
    pair.install_both();
    pair.wait_until_up("unimatrixzero");
    std::thread::sleep(Duration::from_secs(10));
    assert!(is_active(&pair.picard, NANOPROBE), "waiting for a CMA is no failure");
    assert_eq!(pair.state(HOST), None, "nothing but multicast could have found it");
    pair.picard.write("/etc/default/nanoprobe", "NANOPROBE_CMAADDR=10.84.0.1:1984\n").unwrap();
    pair.picard.ok(&format!("systemctl restart {NANOPROBE}")).unwrap();
    pair.wait_until_up(HOST);
    assert_eq!(pair.rows("SELECT 1 FROM hosts").len(), 2, "one name in one spelling");
}

fn permissions(pair: &Pair) {
    for (machine, unit, file, mode) in [
        (&pair.picard, NANOPROBE, "", "755"),
        (&pair.center, CMA, "", "750"),
        (&pair.center, CMA, "#CMA#00000.secret", "644"),
        (&pair.picard, NANOPROBE, "picard.example.org@@*.secret", "640"),
    ] {
        step(&format!("{unit} does not start when {CRYPTO}/{file} has mode {mode}; its own words mend it"));
        let path = format!("\"$(readlink -f {CRYPTO})\"/{}", file.replace('#', "\\#"));
        machine.ok(&format!("chmod {mode} {path}")).unwrap();
        let command = refused(machine, unit, "chmod ");
        machine.ok(&command).unwrap();
        machine.ok(&format!("systemctl restart {unit}")).unwrap();
        assert!(is_active(machine, unit));
    }
    pair.wait_until_up(HOST);
}

fn half_copied_keys(pair: &Pair) {
    step("a key of which only a part was copied is told by its name");
    let path = format!("{CRYPTO}/#CMA#00000.pub");
    let whole = pair.picard.read(&path).unwrap();
    pair.picard.ok(&format!("truncate --size 10 '{path}'")).unwrap();
    let said = failure(&pair.picard, NANOPROBE);
    assert!(said.contains("#CMA#00000.pub"), "{said}");
    pair.picard.write(&path, &whole).unwrap();
    pair.picard.ok(&format!("systemctl restart {NANOPROBE}")).unwrap();
    pair.wait_until_up(HOST);
}

fn read_only_usr(pair: &Pair) {
    step("/usr is read-only: everything starts, and makes a further key");
    for machine in [&pair.center, &pair.picard] {
        machine
            .ok("mount --bind /usr /usr && mount -o remount,bind,ro /usr && ! touch /usr/x 2>/dev/null")
            .unwrap();
    }
    pair.center.ok(&format!("assimcli genkeys && test -e '{CRYPTO}/#CMA#00002.secret'")).unwrap();
    let started = pair.value(&format!("SELECT started FROM hosts WHERE host = '{HOST}'"));
    pair.center.ok(&format!("systemctl restart {CMA} {NANOPROBE}")).unwrap();
    pair.picard.ok(&format!("systemctl restart {NANOPROBE}")).unwrap();
    pair.wait("the host to come back", || {
        let now = pair.value(&format!("SELECT started FROM hosts WHERE host = '{HOST}' AND status = 'up'"));
        now.is_some() && now != started
    });
    for machine in [&pair.center, &pair.picard] {
        // What still has files open there is no reason to fail the test.
        machine.ok("umount --lazy /usr").unwrap();
    }
}

/// The wall clock belongs to the kernel below: a library shows another one to a daemon.
fn clocks(pair: &Pair) {
    let shift = |machine: &Machine, unit: &str, by: &str| {
        let text = format!(
            "[Service]\nEnvironment=LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1\n\
             Environment=FAKETIME={by} DONT_FAKE_MONOTONIC=1 FAKETIME_DONT_FAKE_MONOTONIC=1\n"
        );
        machine.write(&format!("/run/systemd/system/{unit}.d/clock.conf"), text).unwrap();
        machine.ok(&format!("systemctl daemon-reload && systemctl restart {unit}")).unwrap();
    };
    let tell = |banner: &str| {
        pair.picard.write("/etc/ssh/sshd_config", format!("Banner {banner}\n")).unwrap();
        pair.wait("the banner", || pair.banner(HOST).as_deref() == Some(banner));
    };
    tell("/etc/before");
    step("a host's clock is ten years behind: its changes count by the CMA's");
    shift(&pair.picard, NANOPROBE, "-10y");
    tell("/etc/behind");
    let seen = format!(
        "SELECT substr(seen, 1, 4) < substr(since, 1, 4) FROM documents WHERE host = '{HOST}' AND instance = '_init_sshd'"
    );
    assert_eq!(pair.value(&seen).as_deref(), Some("1"), "the clock was not shifted");
    step("the CMA's clock is ten years ahead, and comes back");
    shift(&pair.center, CMA, "+10y");
    tell("/etc/ahead");
    pair.center.ok(&format!("rm /run/systemd/system/{CMA}.d/clock.conf")).unwrap();
    pair.center.ok(&format!("systemctl daemon-reload && systemctl restart {CMA}")).unwrap();
    tell("/etc/after");
    let order = format!(
        "SELECT group_concat(b, ' ') AS b FROM (SELECT document ->> '$.data.Banner' AS b FROM changes \
         WHERE host = '{HOST}' AND instance = '_init_sshd' AND b IS NOT NULL ORDER BY until IS NULL, seen)"
    );
    let told = pair.value(&order).unwrap();
    for banner in ["/etc/before", "/etc/behind", "/etc/ahead", "/etc/after"] {
        assert_eq!(told.matches(banner).count(), 1, "{told}");
    }
    let current = format!(
        "SELECT count(*) FROM changes WHERE host = '{HOST}' AND instance = '_init_sshd' AND until IS NULL"
    );
    assert_eq!(pair.value(&current).as_deref(), Some("1"));
    for (machine, unit) in [(&pair.center, CMA), (&pair.picard, NANOPROBE)] {
        assert_eq!(property(machine, unit, "NRestarts"), "0", "{unit}");
    }
}

fn power_cuts(pair: &mut Pair) {
    pair.picard.write("/etc/ssh/sshd_config", "Banner /etc/collective\n").unwrap();
    pair.wait("the banner", || pair.banner("picard").as_deref() == Some("/etc/collective"));
    let keys = "cd /usr/share/assimilation/crypto.d/ && sha256sum *";
    let before = pair.picard.ok(keys).unwrap();
    let newer = put(&pair.picard, &pair.newer.nanoprobe);
    pair.picard.ok("sync").unwrap();

    step("the power is cut between unpacking and configuring");
    pair.picard.ok(&format!("dpkg --unpack {newer}")).unwrap();
    mend(&mut pair.picard, "dpkg --configure -a");
    pair.wait_until_up("picard");
    assert_eq!(pair.picard.ok(keys).unwrap(), before);

    for pause_ms in [30, 150, 400] {
        step(&format!("the power is cut {pause_ms} ms into an installation"));
        let mut running = pair.picard.command(&format!("dpkg --install {newer}")).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(pause_ms));
        mend(&mut pair.picard, &format!("dpkg --configure -a; dpkg --install {newer}"));
        let _ = running.wait();
        pair.wait_until_up("picard");
        assert_eq!(pair.picard.ok(keys).unwrap(), before);
    }
    assert_eq!(pair.banner("picard").as_deref(), Some("/etc/collective"));
}

/// Cuts the power, boots, and runs what an administrator types after it; then everything is as it should be.
fn mend(machine: &mut Machine, command: &str) {
    machine.cut_power();
    machine.boot_with(&[NANOPROBE]).unwrap();
    machine.ok(&format!("({command}) 2>&1")).unwrap();
    assert_eq!(machine.ok("dpkg --audit").unwrap(), "");
    let version =
        machine.ok("dpkg-query --show --showformat '${Status} ${Version}' assimilation-nanoprobe").unwrap();
    assert!(version.starts_with("install ok installed 0.2.0"), "{version}");
    assert!(is_active(machine, NANOPROBE), "{}", machine.journal(&[NANOPROBE]));
}

fn full_disks(pair: &Pair) {
    let state = "/var/lib/assimilation";
    for (machine, units) in
        [(&pair.center, format!("{CMA} {NANOPROBE}")), (&pair.picard, NANOPROBE.to_owned())]
    {
        step(&format!("{state} of {} is a small disk, which fills up", machine.hostname()));
        machine
            .ok(&format!(
                "systemctl stop {units} && mkdir /mnt/small && mount -t tmpfs -o size=48M,mode=1775 small /mnt/small && \
                 cp --archive {state}/. /mnt/small && chown --reference {state} /mnt/small && \
                 mount --move /mnt/small {state} && systemctl start {units}"
            ))
            .unwrap();
        pair.wait_until_up("picard");
        machine.ok(&format!("cat /dev/zero > {state}/ballast 2>/dev/null; df {state} | grep 100%")).unwrap();
        let banner = format!("/etc/full-{}", machine.hostname());
        pair.picard.write("/etc/ssh/sshd_config", format!("Banner {banner}\n")).unwrap();
        std::thread::sleep(Duration::from_secs(5));
        for unit in units.split(' ') {
            assert!(is_active(machine, unit), "{unit} gave up\n{}", machine.journal(&[unit]));
        }
        machine.ok(&format!("rm {state}/ballast")).unwrap();
        pair.wait("the change that met a full disk", || {
            pair.banner("picard").as_deref() == Some(banner.as_str())
        });
    }
}

/// Restarts a unit that must not come up, and gives what its journal says.
fn failure(machine: &Machine, unit: &str) -> String {
    let started =
        machine.run(&format!("systemctl restart {unit} && sleep 3 && systemctl is-active {unit}")).unwrap();
    assert!(!started.status.success(), "{unit} started nevertheless");
    machine.journal(&[unit])
}

/// The command in backticks, beginning with `start`, in the last message of a unit that does not start.
fn refused(machine: &Machine, unit: &str, start: &str) -> String {
    let said = failure(machine, unit);
    let commands = said.split('`').skip(1).step_by(2).filter(|command| command.starts_with(start));
    commands.last().unwrap_or_else(|| panic!("no command that mends it:\n{said}")).to_owned()
}
