//! What the tests need from the distribution, and installing it when we are allowed to.

use std::process::Command;
use system::process::{is_root, on_path, run};

/// A program that tests call, the Debian package that has it, and what for.
struct Need {
    program: &'static str,
    package: &'static str,
    reason: &'static str,
}

const NEEDS: &[Need] = &[
    Need { program: "cc", package: "gcc", reason: "SQLite and zstd are compiled from C" },
    Need { program: "ip", package: "iproute2", reason: "network namespaces stand in for hosts" },
    Need { program: "nft", package: "nftables", reason: "lost packets" },
    Need { program: "lldpd", package: "lldpd", reason: "a switch that tells of itself" },
    Need {
        program: "debootstrap",
        package: "debootstrap",
        reason: "a tree with a real mail server, machines with systemd",
    },
    Need { program: "unshare", package: "util-linux", reason: "host names and mounts of a test's own" },
    Need { program: "time", package: "time", reason: "what a program costs, for the benchmarks' own test" },
    Need { program: "python3", package: "python3", reason: "a service that is killed and started again" },
    Need {
        program: "/usr/lib/nagios/plugins/check_tcp",
        package: "monitoring-plugins-basic",
        reason: "plug-ins that look after services",
    },
    Need {
        program: "/usr/lib/ocf/resource.d/heartbeat/Dummy",
        package: "resource-agents",
        reason: "OCF agents that look after services",
    },
    Need { program: "dash", package: "dash", reason: "the sample scripts are POSIX sh" },
    Need { program: "shellcheck", package: "shellcheck", reason: "scripts of packages are read by a critic" },
    Need {
        program: "systemd-analyze",
        package: "systemd",
        reason: "units are verified and their sandbox is rated",
    },
    Need { program: "rpmbuild", package: "rpm", reason: "packages for Red Hat's and SUSE's systems" },
    Need { program: "objdump", package: "binutils", reason: "which glibc the programs need" },
];

/// Installs what is missing as root; otherwise names it.
pub fn ensure() -> Result<(), String> {
    ensure_all(NEEDS)
}

/// The same for one program that a single command needs.
pub fn ensure_program(
    program: &'static str,
    package: &'static str,
    reason: &'static str,
) -> Result<(), String> {
    ensure_all(&[Need { program, package, reason }])
}

fn ensure_all(needs: &[Need]) -> Result<(), String> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !on_path(need.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = missing
        .iter()
        .map(|n| format!("  {} (Debian package {}): {}", n.program, n.package, n.reason))
        .collect();
    let packages: Vec<&str> = missing.iter().map(|n| n.package).collect();
    if !is_root() || !on_path("apt-get") {
        return Err(format!(
            "these programs are missing:\n{}\nInstall them, on Debian and Ubuntu with:\n  sudo apt-get install {}",
            list.join("\n"),
            packages.join(" ")
        ));
    }
    eprintln!("Installing what is needed:\n{}", list.join("\n"));
    let mut install = apt();
    install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&packages);
    if run(&mut install).is_err() {
        // A machine with old package lists: fetch them once and try again.
        run(apt().args(["update", "-qq"]))?;
        let mut again = apt();
        again.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&packages);
        run(&mut again)?;
    }
    Ok(())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
