//! Notification scripts that will not run.

use super::{Check, Look, Topic};
use std::os::unix::fs::PermissionsExt;

const NAME: &str = "scripts";

pub static TOPIC: Topic = Topic { name: NAME, check };

fn check(look: &Look) -> Vec<Check> {
    let mut ready = 0;
    let mut checks = Vec::new();
    for directory in look.paths().notification_scripts() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.path().metadata() else { continue };
            let mode = metadata.permissions().mode();
            if !metadata.is_file() {
                continue;
            }
            let path = entry.path().display().to_string();
            if mode & 0o111 == 0 {
                let text = format!("{path} is not executable and will not run: `chmod 755 {path}`");
                checks.push(Check::bad(NAME, text).fix(format!("chmod 755 {path}")));
            } else if mode & 0o002 != 0 {
                let text = format!("{path} can be changed by everybody and will not run: `chmod o-w {path}`");
                checks.push(Check::bad(NAME, text).fix(format!("chmod o-w {path}")));
            } else {
                ready += 1;
            }
        }
    }
    let text = format!("{ready} notification script{} ready", if ready == 1 { "" } else { "s" });
    checks.push(Check::good(NAME, text));
    checks
}

#[cfg(test)]
mod tests {
    use super::super::look::Rig;
    use super::*;
    use std::fs::{Permissions, set_permissions};

    #[test]
    fn scripts_that_will_not_run_are_named() {
        let rig = Rig::new();
        let script = rig.file("/etc/assimilation/notification.d/mail.sh", "");
        for (mode, problem) in [(0o644, "chmod 755"), (0o757, "chmod o-w")] {
            set_permissions(&script, Permissions::from_mode(mode)).unwrap();
            let found = check(&rig.look());
            assert!(found[0].fix.contains(problem) && found[1].text.starts_with("0 "), "{found:?}");
        }
        set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        assert!(check(&rig.look())[0].text.starts_with("1 notification script "));
    }
}
