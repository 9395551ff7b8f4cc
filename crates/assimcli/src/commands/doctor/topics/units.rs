//! The services as systemd sees them: enabled, running, restarted, and not weakened by drop-ins.

use super::{Check, Look, Topic};
use std::collections::BTreeMap;

const NAME: &str = "units";

pub static TOPIC: Topic = Topic { name: NAME, check };

const UNITS: [&str; 2] = ["assimilation-cma.service", "assimilation-nanoprobe.service"];
const PROPERTIES: &str = "LoadState,ActiveState,SubState,UnitFileState,Result,NRestarts,DropInPaths";
/// Restarts since the start of the system that are not told: somebody may have tried something.
const FEW_RESTARTS: u64 = 3;
/// Settings of systemd.exec(5) that a drop-in can only weaken with these values. An empty value undoes what was set before.
const WEAKER: [(&str, &[&str]); 17] = [
    ("User", &["root", "0", ""]),
    ("NoNewPrivileges", &["no", "false", "0", "off"]),
    ("ProtectSystem", &["no", "false", "0", "off", ""]),
    ("ProtectHome", &["no", "false", "0", "off", ""]),
    ("PrivateTmp", &["no", "false", "0", "off"]),
    ("PrivateDevices", &["no", "false", "0", "off"]),
    ("ProtectKernelTunables", &["no", "false", "0", "off"]),
    ("ProtectKernelModules", &["no", "false", "0", "off"]),
    ("ProtectControlGroups", &["no", "false", "0", "off"]),
    ("RestrictNamespaces", &["no", "false", "0", "off"]),
    ("MemoryDenyWriteExecute", &["no", "false", "0", "off"]),
    ("RestrictSUIDSGID", &["no", "false", "0", "off"]),
    ("RestrictAddressFamilies", &[""]),
    ("SystemCallFilter", &[""]),
    ("MemoryMax", &["infinity", ""]),
    ("WatchdogSec", &["0", "infinity", ""]),
    ("Restart", &["no", ""]),
];

fn check(look: &Look) -> Vec<Check> {
    if !look.is_machine() || !look.at("/run/systemd/system").exists() {
        return Vec::new();
    }
    UNITS.iter().flat_map(|unit| one(look, unit)).collect()
}

fn one(look: &Look, unit: &str) -> Vec<Check> {
    let Some(answer) = look.program("systemctl", &["show", unit, "-p", PROPERTIES]) else {
        return vec![Check::unknown(NAME, format!("systemd does not tell of {unit}"))];
    };
    let told: BTreeMap<&str, &str> = answer.lines().filter_map(|line| line.split_once('=')).collect();
    let value = |name: &str| told.get(name).copied().unwrap_or("");
    if value("LoadState") == "not-found" {
        return Vec::new();
    }
    let mut checks = Vec::new();
    if value("LoadState") == "masked" {
        checks.push(
            Check::bad(NAME, format!("{unit} is masked and cannot start"))
                .fix(format!("systemctl unmask {unit}")),
        );
        return checks;
    }
    match value("ActiveState") {
        // Between two attempts; the reason of the last one is told until one works.
        "activating" if value("SubState") == "auto-restart" => {
            let text = format!("{unit} does not start ({}); systemd tries again and again", value("Result"));
            checks.push(Check::bad(NAME, text).fix(format!("journalctl -u {unit} -n 30")));
        }
        "activating" => checks.push(Check::unknown(NAME, format!("{unit} is about to start"))),
        "active" | "reloading" => {}
        "failed" => {
            let why = value("Result");
            checks.push(
                Check::bad(NAME, format!("{unit} has failed ({why})"))
                    .fix(format!("journalctl -u {unit} -n 30")),
            );
        }
        state => {
            checks.push(Check::bad(NAME, format!("{unit} is {state}")).fix(format!("systemctl start {unit}")))
        }
    }
    if value("UnitFileState") == "disabled" {
        let text = format!("{unit} does not start with the system");
        checks.push(Check::bad(NAME, text).fix(format!("systemctl enable {unit}")));
    }
    let restarts: u64 = value("NRestarts").parse().unwrap_or(0);
    if restarts > FEW_RESTARTS {
        let why = if value("Result") == "watchdog" { ", the last time by its watchdog" } else { "" };
        let text = format!(
            "{unit} was restarted {restarts} times{why}; when it is mended, `systemctl reset-failed {unit}` begins the count anew"
        );
        checks.push(
            Check::bad(NAME, text).fix(format!("journalctl -u {unit} | grep -E 'Failed|Watchdog|exited'")),
        );
    }
    for path in value("DropInPaths").split_whitespace() {
        for line in look.read(path).iter().flat_map(|text| weakened(text)) {
            let text = format!("{path} weakens {unit}: {line}");
            checks.push(Check::bad(NAME, text).fix(format!("systemctl revert {unit}")));
        }
    }
    if checks.is_empty() {
        checks.push(Check::good(NAME, format!("{unit} runs, and starts with the system")));
    }
    checks
}

/// Lines of a drop-in that take protection away.
fn weakened(text: &str) -> Vec<String> {
    let weakens = |line: &&str| {
        let Some((name, value)) = line.split_once('=') else { return false };
        let (name, value) = (name.trim(), value.trim().to_lowercase());
        let grants = matches!(name, "AmbientCapabilities" | "CapabilityBoundingSet")
            && (value.contains("cap_sys_admin")
                || value.contains("cap_dac_override")
                || value.starts_with('~'));
        grants || WEAKER.iter().any(|(known, values)| *known == name && values.contains(&value.as_str()))
    };
    text.lines().map(str::trim).filter(weakens).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::look::Rig;
    use super::*;

    fn systemctl(rig: &mut Rig, unit: &str, answer: &str) {
        rig.program(&format!("systemctl show {unit} -p {PROPERTIES}"), answer);
    }

    const WELL: &str = "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nResult=success\nNRestarts=0\nDropInPaths=\n";

    #[test]
    fn what_systemd_finds_wrong_is_told() {
        let mut rig = Rig::new();
        assert_eq!(check(&rig.look()), [], "no systemd here");
        std::fs::create_dir_all(rig.folder.path().join("run/systemd/system")).unwrap();
        systemctl(&mut rig, UNITS[0], WELL);
        systemctl(&mut rig, UNITS[1], "LoadState=not-found\nActiveState=inactive\n");
        assert_eq!(
            check(&rig.look()),
            [Check::good(NAME, "assimilation-cma.service runs, and starts with the system")]
        );
        for (from, to, wrong) in [
            ("ActiveState=active", "ActiveState=inactive", "systemctl start"),
            ("ActiveState=active", "ActiveState=failed", "journalctl -u"),
            (
                "ActiveState=active\nSubState=running",
                "ActiveState=activating\nSubState=auto-restart",
                "journalctl -u assimilation-cma.service -n 30",
            ),
            ("UnitFileState=enabled", "UnitFileState=disabled", "systemctl enable"),
            ("NRestarts=0", "NRestarts=12", "journalctl -u"),
            ("LoadState=loaded", "LoadState=masked", "systemctl unmask"),
        ] {
            systemctl(&mut rig, UNITS[0], &WELL.replace(from, to));
            let found = check(&rig.look());
            assert!(found.len() == 1 && found[0].is_bad() && found[0].fix.contains(wrong), "{to}: {found:?}");
        }
        assert!(check(&rig.look())[0].is_bad());
        systemctl(&mut rig, UNITS[0], &WELL.replace("NRestarts=0", "NRestarts=12"));
        let found = check(&rig.look());
        assert!(found[0].text.contains("`systemctl reset-failed assimilation-cma.service`"), "{found:?}");
    }

    #[test]
    fn drop_ins_that_weaken_are_quoted() {
        let mut rig = Rig::new();
        std::fs::create_dir_all(rig.folder.path().join("run/systemd/system")).unwrap();
        let drop_in = "/etc/systemd/system/assimilation-cma.service.d/own.conf";
        systemctl(&mut rig, UNITS[0], &WELL.replace("DropInPaths=", &format!("DropInPaths={drop_in}")));
        rig.file(drop_in, "[Service]\nEnvironment=CMA_DEBUG=1\nMemoryMax=2G\n# ProtectSystem=no\n");
        assert!(check(&rig.look()).iter().all(|c| !c.is_bad()));
        rig.file(drop_in, "[Service]\n ProtectSystem = no\nUser=root\nAmbientCapabilities=CAP_SYS_ADMIN\n");
        let found = check(&rig.look());
        let bad: Vec<&str> = found.iter().filter(|c| c.is_bad()).map(|c| c.text.as_str()).collect();
        assert!(bad.len() == 3 && bad[0].ends_with("ProtectSystem = no"), "{bad:?}");
    }
}
