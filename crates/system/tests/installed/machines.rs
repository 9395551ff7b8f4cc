//! The rig itself: what the other tests of this folder rely on.

use std::path::Path;
use system::booted::Machine;
use system::network::Network;

fn boot_id(machine: &Machine) -> String {
    machine.ok("cat /proc/sys/kernel/random/boot_id").unwrap()
}

#[test]
fn a_machine_boots_reboots_loses_its_power_and_leaves_nothing_behind() {
    let network = Network::new(&["unimatrixzero", "Picard.Example.ORG"]).unwrap();
    let mut machine = Machine::create(network.host("Picard.Example.ORG").unwrap()).unwrap();
    machine.write("/etc/rescue", "written while it is off\n").unwrap();
    machine.boot().unwrap();
    assert_eq!(
        machine.ok("cat /etc/rescue && hostname").unwrap(),
        "written while it is off\nPicard.Example.ORG\n"
    );
    assert_eq!(machine.ok("readlink /proc/1/exe").unwrap().trim(), "/usr/lib/systemd/systemd");
    assert!(machine.ok("ip -4 -brief address show eth0").unwrap().contains("10.84.0.2/24"));

    // Its network is its own; of the kernel below it can change nothing.
    machine.ok("sysctl -q -w net.ipv4.conf.all.log_martians=1").unwrap();
    let before = std::fs::read_to_string("/proc/sys/vm/swappiness").unwrap();
    assert!(!machine.run("sysctl -q -w vm.swappiness=1").unwrap().status.success());
    assert_eq!(std::fs::read_to_string("/proc/sys/vm/swappiness").unwrap(), before);

    // A service of its own comes back with the next boot, in order or not.
    let unit = "[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n";
    machine.write("/etc/systemd/system/drone.service", unit).unwrap();
    machine.ok("systemctl enable --now --quiet drone.service").unwrap();
    let first = boot_id(&machine);
    machine.reboot().unwrap();
    let second = boot_id(&machine);
    assert_ne!(first, second);
    machine.ok("systemctl is-active drone.service").unwrap();
    machine.cut_power();
    assert!(!machine.is_on());
    assert!(
        machine.journal(&["drone.service"]).contains("drone.service"),
        "the journal is read without power"
    );
    machine.boot().unwrap();
    assert!(!machine.journal(&[]).is_empty());
    assert_ne!(boot_id(&machine), second);
    machine.switch_off().unwrap();
    assert!(!machine.is_on());

    let own = format!("assim{}m", std::process::id());
    drop(machine);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&own), "mounts stay: {mounts}");
    for folder in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/tmp"] {
        let left = std::fs::read_dir(Path::new(folder)).into_iter().flatten().flatten();
        let left: Vec<_> =
            left.map(|e| e.file_name()).filter(|n| n.to_string_lossy().starts_with(&own)).collect();
        assert!(left.is_empty(), "{left:?} in {folder}");
    }
}

#[test]
fn a_unit_that_fails_is_told_with_its_journal() {
    let network = Network::new(&["picard"]).unwrap();
    let mut machine = Machine::create(network.host("picard").unwrap()).unwrap();
    let unit =
        "[Service]\nExecStart=sh -c 'echo we are the borg; exit 3'\n[Install]\nWantedBy=multi-user.target\n";
    machine.write("/etc/systemd/system/drone.service", unit).unwrap();
    machine.ok("systemctl enable --quiet drone.service").unwrap();
    let error = machine.boot().unwrap_err();
    assert!(error.contains("drone.service failed") && error.contains("we are the borg"), "{error}");
    machine.cut_power();
    machine.boot_with(&["drone.service"]).unwrap();
}

/// From one machine to the other, as `installme --remote` goes.
#[test]
fn ssh_works_between_machines_for_whoever_has_the_password() {
    let network = Network::new(&["unimatrixzero", "picard"]).unwrap();
    let mut center = Machine::create(network.host("unimatrixzero").unwrap()).unwrap();
    let mut picard = Machine::create(network.host("picard").unwrap()).unwrap();
    center.boot().unwrap();
    picard.boot().unwrap();
    picard.start_ssh().unwrap();
    let ask = |user: &str, password: &str| {
        let script = format!(
            "printf '#!/bin/sh\\necho {password}\\n' > /run/answer && chmod 700 /run/answer && \
             SSH_ASKPASS=/run/answer SSH_ASKPASS_REQUIRE=force ssh -o StrictHostKeyChecking=accept-new \
             -o NumberOfPasswordPrompts=1 {user}@10.84.0.2 'hostname; id -un'"
        );
        center.run(&script).unwrap()
    };
    let answer = ask("root", system::booted::ROOT_PASSWORD);
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "picard\nroot\n", "{answer:?}");
    let answer = ask("admin", system::booted::ADMIN_PASSWORD);
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "picard\nadmin\n", "{answer:?}");
    assert!(!ask("root", "wrong").status.success());
}
