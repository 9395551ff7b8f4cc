//! Mail from a notification script, in the sandbox of the CMA's unit: through a mail server that runs, and through the program
//! with a group of its own that takes mail while it does not.

use crate::rig::{CMA, NANOPROBE, Pair, install, property, step};
use std::time::Duration;
use system::booted::Machine;
use system::wait_for;

const SCRIPTS: &str = "/usr/share/assimilation/notification.d";
/// What a script found out about the sandbox that it runs in.
const SEEN: &str = "/var/lib/assimilation/cma/seen";
const SERVER: &str = "opensmtpd.service";

#[test]
fn mail_leaves_the_sandbox_of_the_cma() {
    let pair = Pair::boot("picard");
    let center = &pair.center;
    install(center, &pair.older.cma);
    center.ok("assimcli genkeys").unwrap();
    // As the book tells it.
    center
        .ok(&format!(
            "sed -e 's/^EMAILDESTS=.*/EMAILDESTS=admin@localhost/' {SCRIPTS}/samples/sendemail.sh >{SCRIPTS}/sendemail.sh && \
             chmod 755 {SCRIPTS}/sendemail.sh"
        ))
        .unwrap();
    let sandbox = format!(
        "#!/bin/sh\ncat >/dev/null\n{{ touch /etc/forbidden /home/admin/forbidden; grep -e Seccomp: -e NoNewPrivs: -e CapEff: \
         /proc/self/status; id -un; }} >{SEEN}.new 2>&1\nmv {SEEN}.new {SEEN}\n"
    );
    center.write(&format!("{SCRIPTS}/a-sandbox.sh"), sandbox).unwrap();
    center.ok(&format!("chmod 755 {SCRIPTS}/a-sandbox.sh && systemctl start {SERVER} {CMA}")).unwrap();
    install(center, &pair.older.nanoprobe);
    center.ok(&format!("systemctl start {NANOPROBE}")).unwrap();
    pair.wait_until_up("unimatrixzero");

    step("a host stops: the mail server takes the mail");
    center.ok(&format!("systemctl stop {NANOPROBE}")).unwrap();
    wait_for_mail(center, "unimatrixzero", 1);
    let seen = center.ok(&format!("cat {SEEN}")).unwrap();
    assert_eq!(
        seen.matches("Read-only file system").count() + seen.matches("Permission denied").count(),
        2,
        "{seen}"
    );
    for line in ["Seccomp:\t2", "NoNewPrivs:\t0", "CapEff:\t0000000000000000", "assimilation"] {
        assert!(seen.contains(line), "{line}: {seen}");
    }

    step(
        "while the server is away its program keeps the mail, with a group that the CMA's account does not have",
    );
    center.ok(&format!("systemctl stop {SERVER}")).unwrap();
    let before = mails(center).len();
    center.ok(&format!("systemctl start {NANOPROBE}")).unwrap();
    pair.wait_until_up("unimatrixzero");
    pair.wait("the alerts to be delivered", || {
        center.ok("ls /var/spool/smtpd/offline").unwrap().lines().count() > 0
    });
    assert_eq!(mails(center).len(), before, "nobody was there to deliver them");
    center.ok(&format!("systemctl start {SERVER}")).unwrap();
    wait_for_mail(center, "unimatrixzero", before + 1);
    assert_eq!(property(center, CMA, "NRestarts"), "0");
}

/// The messages that were delivered to `admin`.
fn mails(machine: &Machine) -> Vec<String> {
    let all = machine
        .ok("cd /home/admin/Maildir/new 2>/dev/null && for m in *; do cat $m; printf '\\f'; done; true")
        .unwrap();
    all.split_terminator('\u{c}').map(str::to_owned).collect()
}

/// Until there are at least `count`, the last of which is about `host`.
fn wait_for_mail(machine: &Machine, host: &str, count: usize) {
    wait_for("a mail", Duration::from_secs(90), || {
        let mails = mails(machine);
        let subject = mails.last()?.lines().find(|line| line.starts_with("Subject: "))?.to_owned();
        (mails.len() >= count && subject.contains(host)).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{:#?}\n{}", mails(machine), machine.journal(&[SERVER])));
}
