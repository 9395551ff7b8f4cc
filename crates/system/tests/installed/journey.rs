//! From the first installation to the purge, on two machines, in the order in which it happens to them.

use crate::rig::{CMA, CRYPTO, NANOPROBE, NEWER, Pair, install, is_active, property, step};
use std::time::Duration;
use system::booted::Machine;
use system::wait_for;

const STATE: &str = "/var/lib/assimilation";

#[test]
fn two_machines_are_installed_rebooted_upgraded_and_cleaned() {
    let mut pair = Pair::boot("picard");
    installation(&pair);
    units(&pair);
    two_owners(&pair);
    watchdog(&pair);
    reboots(&mut pair);
    upgrade(&pair);
    removal(&pair);
    purge(&pair);
}

fn installation(pair: &Pair) {
    step("the CMA without keys says what to do and is started by nobody");
    let said = install(&pair.center, &pair.older.cma);
    assert!(said.contains("assimcli genkeys"), "{said}");
    assert!(!is_active(&pair.center, CMA));
    step("the keys, the CMA, its own nanoprobe, the other machine");
    pair.assimilate();
    // Found by multicast: nobody told picard where the CMA is.
    assert_eq!(pair.picard.ok("grep -v '^#' /etc/default/nanoprobe || true").unwrap().trim(), "");
    pair.picard.write("/etc/ssh/sshd_config", "Banner /etc/collective\n").unwrap();
    pair.wait("the banner of sshd", || pair.banner("picard").as_deref() == Some("/etc/collective"));
}

fn units(pair: &Pair) {
    step("units are enabled and active, under their alias too, and nothing failed");
    for (machine, unit) in [(&pair.center, CMA), (&pair.center, NANOPROBE), (&pair.picard, NANOPROBE)] {
        machine.ok(&format!("systemctl is-enabled {unit}")).unwrap();
        assert!(is_active(machine, unit), "{unit} on {}", machine.hostname());
        assert_eq!(property(machine, unit, "NRestarts"), "0", "{unit} on {}", machine.hostname());
    }
    pair.picard.ok("systemctl is-active nanoprobe.service").unwrap();

    step("the CMA has no privileges");
    let status = process_status(&pair.center, &property(&pair.center, CMA, "MainPID"));
    let uid = pair.center.ok("id -u assimilation").unwrap();
    assert_eq!(field(&status, "Uid").split_whitespace().next(), Some(uid.trim()), "{status}");
    assert_eq!(field(&status, "CapEff"), "0000000000000000", "{status}");

    step("on the other machine only the process without network has capabilities, and not all");
    let main = property(&pair.picard, NANOPROBE, "MainPID");
    let status = process_status(&pair.picard, &main);
    let capabilities = u64::from_str_radix(field(&status, "CapBnd"), 16).unwrap();
    // capabilities(7): CAP_SYS_ADMIN is 21, CAP_SYS_MODULE 16, CAP_NET_RAW 13.
    assert_eq!(capabilities & (1 << 21 | 1 << 16), 0, "{status}");
    assert_ne!(capabilities & (1 << 13), 0, "{status}");
    let network = pair.picard.ok(&format!("pgrep --parent {main} --full network")).unwrap();
    let status = process_status(&pair.picard, network.trim());
    let uid = pair.picard.ok("id -u assimilation-net").unwrap();
    assert_eq!(field(&status, "Uid").split_whitespace().next(), Some(uid.trim()), "{status}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(&status, set), "0000000000000000", "{status}");
    }
    assert_eq!(field(&status, "NoNewPrivs"), "1", "{status}");
    let sockets = pair.picard.ok("ss -uHlpn 'sport = :1984'").unwrap();
    assert!(sockets.contains(&format!("pid={},", network.trim())), "{sockets}");
    assert!(!sockets.contains(&format!("pid={main},")), "{sockets}");

    step("systemctl status says how they are");
    for (machine, unit) in [(&pair.center, CMA), (&pair.picard, NANOPROBE)] {
        pair.wait("a status", || !property(machine, unit, "StatusText").is_empty());
        eprintln!("{unit}: {}", property(machine, unit, "StatusText"));
    }
    step("doctor finds nothing wrong with the ports and units of either, and misses no CMA on a host");
    for machine in [&pair.center, &pair.picard] {
        let told = machine.ok("assimcli -o script doctor ports units versions").unwrap();
        assert!(told.contains("the nanoprobe has UDP port"), "{told}");
    }
    pair.picard.ok("assimcli doctor cma keys").unwrap();
    step("reloading keeps the process and what it knows");
    for (machine, unit) in [(&pair.center, CMA), (&pair.picard, NANOPROBE)] {
        let before = property(machine, unit, "MainPID");
        machine.ok(&format!("systemctl reload {unit}")).unwrap();
        pair.wait("the end of the reload", || is_active(machine, unit));
        assert_eq!(property(machine, unit, "MainPID"), before);
    }
    pair.wait_until_up("picard");
}

/// Who owns what on the CMA's machine.
const OWNERS: &str = "cd /usr/share/assimilation/crypto.d/ && stat --format '%U %a' unimatrixzero@@*.secret '#CMA#00000.secret' .";
const TWO_OWNERS: &str = "root 600\nassimilation 600\nassimilation 700\n";

/// There one directory has the keys of both, and whoever captures the CMA does not get the nanoprobe's.
fn two_owners(pair: &Pair) {
    step(
        "the nanoprobe's secret is root's in the directory of the CMA's account, also after what root does there",
    );
    let center = &pair.center;
    assert_eq!(center.ok(OWNERS).unwrap(), TWO_OWNERS);
    center
        .ok("! runuser -u assimilation -- cat /usr/share/assimilation/crypto.d/unimatrixzero@@*.secret")
        .unwrap();
    center.ok("assimcli genkeys && rm /usr/share/assimilation/crypto.d/'#CMA#00002.secret'").unwrap();
    assert_eq!(center.ok(OWNERS).unwrap(), TWO_OWNERS);

    step("that account has nothing to complain of, and its backups are without it");
    let said =
        String::from_utf8(center.run("runuser -u assimilation -- assimcli doctor 2>&1").unwrap().stdout)
            .unwrap();
    assert!(said.contains("keys\tPROBLEM\t2 CMA secrets") && !said.contains("@@"), "{said}");
    let place = "/var/lib/assimilation/cma/backup.tar.zst";
    let said =
        center.ok(&format!("runuser -u assimilation -- assimcli backup --with-keys {place} 2>&1")).unwrap();
    assert!(said.contains("@@") && said.contains("is root's"), "{said}");
    center.ok(&format!("rm {place}")).unwrap();

    step("restored by root it is root's again, and the host is the same");
    let key = center.ok("nanoprobe --key").unwrap();
    center.ok("assimcli backup --with-keys /root/backup.tar.zst").unwrap();
    center
        .ok(&format!(
            "systemctl stop {NANOPROBE} && rm /usr/share/assimilation/crypto.d/unimatrixzero@@*.secret"
        ))
        .unwrap();
    center.ok("assimcli restore /root/backup.tar.zst 2>&1 && rm /root/backup.tar.zst").unwrap();
    assert_eq!(center.ok(OWNERS).unwrap(), TWO_OWNERS);
    assert_eq!(center.ok("nanoprobe --key").unwrap(), key);
    center.ok(&format!("systemctl start {NANOPROBE}")).unwrap();
    pair.wait_until_up("unimatrixzero");
    pair.wait_until_up("picard");
}

/// A daemon that is stopped by SIGSTOP answers nobody; systemd ends it and starts another.
fn watchdog(pair: &Pair) {
    for (machine, unit) in [(&pair.center, CMA), (&pair.picard, NANOPROBE)] {
        step(&format!("{unit} hangs: it is replaced"));
        let drop_in = format!("/run/systemd/system/{unit}.d/watchdog.conf");
        machine.write(&drop_in, "[Service]\nWatchdogSec=3\nTimeoutAbortSec=2\nRestartSec=0\n").unwrap();
        machine.ok(&format!("systemctl daemon-reload && systemctl restart {unit}")).unwrap();
        let hung = property(machine, unit, "MainPID");
        machine.ok(&format!("kill -STOP {hung}")).unwrap();
        pair.wait("the replacement", || {
            let pid = property(machine, unit, "MainPID");
            is_active(machine, unit) && pid != hung && pid != "0"
        });
        assert_eq!(property(machine, unit, "NRestarts"), "1");
        machine.ok(&format!("rm {drop_in} && systemctl daemon-reload && systemctl restart {unit}")).unwrap();
    }
    pair.wait_until_up("picard");
    pair.wait_until_up("unimatrixzero");
}

fn reboots(pair: &mut Pair) {
    step("a host reboots: it says goodbye, comes back, and sends nothing again");
    let sshd = "SELECT since FROM documents WHERE host = 'picard' AND instance = '_init_sshd'";
    let since = pair.value(sshd).unwrap();
    let kept = format!("stat --format '%Y %i' {STATE}/nanoprobe/kept/_init_sshd");
    let before = pair.picard.ok(&kept).unwrap();
    let first_seen = pair.value("SELECT first_seen FROM hosts WHERE host = 'picard'").unwrap();
    let started = pair.value("SELECT started FROM hosts WHERE host = 'picard'").unwrap();
    pair.picard.reboot().unwrap();
    pair.wait("picard to come back", || {
        pair.value("SELECT started FROM hosts WHERE host = 'picard' AND status = 'up'")
            .is_some_and(|now| now != started)
    });
    let reasons =
        "SELECT count(*) FROM events WHERE host = 'picard' AND eventtype = 'down' AND reason = 'HBSHUTDOWN'";
    assert_ne!(pair.value(reasons).as_deref(), Some("0"), "{:#?}", pair.rows("SELECT * FROM events"));
    assert_eq!(pair.value("SELECT first_seen FROM hosts WHERE host = 'picard'").unwrap(), first_seen);
    assert_eq!(pair.picard.ok(&kept).unwrap(), before);
    assert_eq!(pair.value(sshd).unwrap(), since);

    step("the power of both is cut, and they find each other again");
    let started = pair.value("SELECT started FROM hosts WHERE host = 'picard'").unwrap();
    pair.picard.cut_power();
    pair.center.cut_power();
    pair.picard.boot().unwrap();
    pair.center.boot().unwrap();
    pair.wait("picard to come back", || {
        pair.value("SELECT started FROM hosts WHERE host = 'picard' AND status = 'up'")
            .is_some_and(|now| now != started)
    });
    pair.wait_until_up("unimatrixzero");
    assert_eq!(pair.value(sshd).unwrap(), since, "history survives");
    assert_eq!(pair.value("SELECT first_seen FROM hosts WHERE host = 'picard'").unwrap(), first_seen);
}

fn upgrade(pair: &Pair) {
    step("a change waits while the CMA is away; the upgrade of both keeps it, the keys and the data");
    let keys = "cd /usr/share/assimilation/crypto.d/ && sha256sum *";
    let (center_keys, picard_keys) = (pair.center.ok(keys).unwrap(), pair.picard.ok(keys).unwrap());
    assert!(center_keys.contains("#CMA#00000.secret"), "{center_keys}");
    assert!(!picard_keys.contains("#CMA#00000.secret") && picard_keys.contains("picard@@"), "{picard_keys}");
    pair.picard.write("/etc/default/nanoprobe", "# edited by the administrator\n").unwrap();
    pair.center.ok(&format!("systemctl stop {CMA}")).unwrap();
    pair.picard.write("/etc/ssh/sshd_config", "Banner /etc/queued\n").unwrap();
    let queued = format!("grep --recursive --binary --files-with-matches _init_sshd {STATE}/nanoprobe/queue");
    wait_for("the change to be queued", Duration::from_secs(90), || {
        pair.picard.run(&queued).ok()?.status.success().then_some(())
    })
    .unwrap();
    let before = property(&pair.picard, NANOPROBE, "MainPID");
    install(&pair.picard, &pair.newer.nanoprobe);
    assert!(is_active(&pair.picard, NANOPROBE));
    assert_ne!(property(&pair.picard, NANOPROBE, "MainPID"), before, "the new program runs");
    assert_eq!(pair.picard.ok("cat /etc/default/nanoprobe").unwrap(), "# edited by the administrator\n");
    // Set back: only a queue that was kept can tell of the time between.
    pair.picard.write("/etc/ssh/sshd_config", "Banner /etc/collective\n").unwrap();
    install(&pair.center, &pair.newer.cma);
    assert!(!is_active(&pair.center, CMA), "what the administrator stopped stays stopped");
    pair.center.ok(&format!("systemctl start {CMA}")).unwrap();
    // As versions before this one left it.
    pair.center.ok("chown assimilation: /usr/share/assimilation/crypto.d/unimatrixzero@@*.secret").unwrap();
    install(&pair.center, &pair.newer.nanoprobe);
    assert_eq!(pair.center.ok(OWNERS).unwrap(), TWO_OWNERS);
    pair.wait("the queued change, and what came after it", || {
        let told = "SELECT count(*) FROM changes WHERE host = 'picard' AND instance = '_init_sshd' \
            AND document ->> '$.data.Banner' = '/etc/queued' AND until IS NOT NULL";
        pair.value(told).as_deref() == Some("1")
            && pair.banner("picard").as_deref() == Some("/etc/collective")
    });
    assert_eq!(pair.center.ok(keys).unwrap(), center_keys);
    assert_eq!(pair.picard.ok(keys).unwrap(), picard_keys);
    for (machine, package) in [
        (&pair.center, "assimilation-cma"),
        (&pair.center, "assimilation-nanoprobe"),
        (&pair.picard, "assimilation-nanoprobe"),
    ] {
        let version =
            machine.ok(&format!("dpkg-query --show --showformat '${{Version}}' {package}")).unwrap();
        assert!(version.starts_with(NEWER), "{package} {version}");
        machine
            .ok("test -z \"$(systemctl --failed --no-legend)\" || { systemctl --failed; false; }")
            .unwrap();
    }
}

fn removal(pair: &Pair) {
    step("removal stops the daemons and leaves data, keys and settings");
    let kept = format!("{STATE}/nanoprobe {CRYPTO}/ /etc/default/nanoprobe");
    let script = format!(
        "find {kept} -type f ! -name '*.pid' -path '*kept/_init_sshd' -o -type f -path '*crypto.d*' | sort"
    );
    let before = pair.picard.ok(&script).unwrap();
    assert!(before.contains("kept/_init_sshd") && before.contains("#CMA#00000.pub"), "{before}");
    pair.picard.ok("dpkg --remove assimilation-nanoprobe 2>&1").unwrap();
    assert!(!is_active(&pair.picard, NANOPROBE));
    assert_eq!(pair.picard.ok("pgrep --count nanoprobe || true").unwrap().trim(), "0");
    assert_eq!(pair.picard.ok(&script).unwrap(), before);
    pair.wait("the goodbye", || pair.state("picard").as_deref() == Some("dead"));

    step("installed again it is the same host");
    install(&pair.picard, &pair.newer.nanoprobe);
    pair.wait_until_up("picard");
    assert_eq!(pair.rows("SELECT 1 FROM hosts").len(), 2);
}

fn purge(pair: &Pair) {
    step("purging the nanoprobe leaves the CMA what it needs");
    pair.center.ok("dpkg --purge assimilation-nanoprobe 2>&1").unwrap();
    assert!(is_active(&pair.center, CMA));
    pair.center.ok(&format!("systemctl restart {CMA}")).unwrap();
    pair.wait_until_up("picard");
    step("purging everything leaves nothing but the accounts");
    pair.center.ok("dpkg --purge assimilation-cma 2>&1").unwrap();
    pair.picard.ok("dpkg --purge assimilation-nanoprobe 2>&1").unwrap();
    for machine in [&pair.center, &pair.picard] {
        assert_eq!(leftovers(machine), "", "on {}", machine.hostname());
    }
}

/// Files and directories of ours, and our units, wherever packages or programs may have put them.
fn leftovers(machine: &Machine) -> String {
    let files = "find / -xdev \\( -path /proc -o -path /sys -o -path /var/log/journal -o -path /root -o -path /tmp \
        -o -path /var/lib/dpkg -o -path /var/log \\) -prune -o \
        \\( -name '*assimilation*' -o -name 'nanoprobe*' -o -name 'assimcli*' -o -name 'cma' \\) -print; \
        ls -d /run/*assimilation* /run/systemd/units/*assimilation* 2>/dev/null; \
        systemctl list-unit-files --no-legend '*assimilation*' 'nanoprobe*'; true";
    machine.ok(files).unwrap()
}

/// /proc/PID/status.
fn process_status(machine: &Machine, pid: &str) -> String {
    machine.ok(&format!("cat /proc/{pid}/status")).unwrap()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}
