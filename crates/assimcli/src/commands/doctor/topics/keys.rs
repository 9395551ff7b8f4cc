//! The CMA's keys, and who may read them.

use super::{Check, Look, Topic};
use wire::keys::{KeyDirectory, KeyError, KeyId};

const NAME: &str = "keys";

pub static TOPIC: Topic = Topic { name: NAME, check };

fn check(look: &Look) -> Vec<Check> {
    let directory = match KeyDirectory::open(look.paths().crypto()) {
        Ok(directory) => directory,
        Err(KeyError::NotAllowed { path, .. }) => {
            let text = format!(
                "{0} cannot be read by this user: run doctor with sudo, or as the user that owns it (`ls -ld {0}`)",
                path.display()
            );
            return vec![Check::unknown(NAME, text).fix("sudo assimcli doctor")];
        }
        Err(KeyError::NoDirectory { .. }) if look.is_host_only() => return vec![from_cma(look, 0)],
        Err(error) => return vec![mended(&error)],
    };
    let mut checks = Vec::new();
    match directory.check() {
        Ok(problems) => checks.extend(problems.iter().map(mended)),
        Err(error) => checks.push(mended(&error)),
    }
    let publics = directory.cma_publics().map(|all| all.len()).unwrap_or(0);
    let retired = directory.cma_retired().unwrap_or_default();
    let is_retired = |id: &KeyId| retired.iter().any(|(known, _)| known == id);
    let (old, secrets): (Vec<KeyId>, Vec<KeyId>) =
        directory.cma_secrets().unwrap_or_default().into_iter().partition(is_retired);
    // The one in use is the lowest.
    let spare = secrets.iter().max();
    let secrets = secrets.len();
    checks.extend(old.iter().map(|id| {
        let file = directory.path().join(id.secret_file());
        let text = format!("the secret of {id} is here though that key is retired, perhaps from an old backup: no host trusts it");
        Check::bad(NAME, text).fix(format!("rm '{}'", file.display()))
    }));
    checks.push(match (publics, secrets) {
        (0 | 1, 0) if look.is_host_only() => from_cma(look, publics),
        (0, _) => Check::bad(NAME, "no CMA key here: `assimcli genkeys` on the CMA's host, a copy of its #CMA#*.pub files elsewhere")
            .fix("assimcli genkeys"),
        (1, _) => Check::bad(NAME, "only one CMA public key: without a spare, a compromised key means visiting every host; run `assimcli genkeys`")
            .fix("assimcli genkeys"),
        (_, 0) => Check::good(NAME, format!("{publics} CMA public keys, no secret: right for a host with a nanoprobe only")),
        (_, 1) => Check::good(NAME, format!("{publics} CMA public keys, one secret")),
        (_, _) => {
            let text = format!("{secrets} CMA secrets are on this machine: move the spare's to a medium in a drawer, so that who steals one has not all");
            let file = spare.map(|id| directory.path().join(id.secret_file())).unwrap_or_default();
            Check::bad(NAME, text).fix(format!("mv '{}' MEDIUM/", file.display()))
        }
    });
    checks
}

/// For a host that lacks keys of its CMA. Keys made here would be those of another CMA.
fn from_cma(look: &Look, publics: usize) -> Check {
    let place = look.paths().crypto().display().to_string();
    let what = match publics {
        0 => "no CMA key can be used here",
        _ => "only one CMA public key is here, so this host would be lost when that one is compromised",
    };
    let text = format!(
        "{what}: copy #CMA#*.pub from the CMA's machine, or let it do that: `installme --remote` there"
    );
    Check::bad(NAME, text)
        .fix(format!("install -d -m 0700 '{place}' && scp 'CMA-HOST:{place}/#CMA#*.pub' '{place}/'"))
}

/// With the command of the error's own text, where there is one that can be typed as it stands.
fn mended(error: &KeyError) -> Check {
    let text = error.to_string();
    let fix = match error {
        KeyError::OpenDirectory { .. } | KeyError::OpenFile { .. } | KeyError::NotRegular { .. } => {
            text.split('`').nth(1).unwrap_or("").to_owned()
        }
        _ => String::new(),
    };
    Check::bad(NAME, text).fix(fix)
}

#[cfg(test)]
mod tests {
    use super::super::look::Rig;
    use super::*;

    #[test]
    fn missing_keys_and_too_many_secrets_are_problems() {
        let rig = Rig::new();
        let found = check(&rig.look());
        assert!(found.iter().any(|c| c.is_bad() && c.text.contains("genkeys")), "{found:?}");
        std::fs::create_dir_all(rig.paths().crypto().parent().unwrap()).unwrap();
        let directory = KeyDirectory::open_or_create(rig.paths().crypto()).unwrap();
        let made = directory.generate_cma().unwrap();
        let found = check(&rig.look());
        let wanted = format!("mv '{}' MEDIUM/", rig.paths().crypto().join(made[1].secret_file()).display());
        assert!(found.iter().any(|c| c.is_bad() && c.fix == wanted), "{found:?}");
        std::fs::remove_file(rig.paths().crypto().join(made[1].secret_file())).unwrap();
        let found = check(&rig.look());
        assert!(found.iter().all(|c| !c.is_bad()), "{found:?}");
    }

    #[test]
    fn a_host_is_never_told_to_make_keys_of_a_cma() {
        let rig = Rig::new();
        rig.file("/var/lib/assimilation/nanoprobe/queue/x", "");
        let is_told_to_copy = || {
            let found = check(&rig.look());
            assert!(
                found.iter().all(|c| !c.fix.contains("genkeys") && !c.text.contains("genkeys")),
                "{found:?}"
            );
            assert!(found.iter().any(|c| c.is_bad() && c.fix.contains("scp 'CMA-HOST:")), "{found:?}");
        };
        is_told_to_copy();
        std::fs::create_dir_all(rig.paths().crypto().parent().unwrap()).unwrap();
        let directory = KeyDirectory::open_or_create(rig.paths().crypto()).unwrap();
        is_told_to_copy();
        let made = directory.generate_cma().unwrap();
        for file in [made[0].secret_file(), made[1].secret_file(), made[1].public_file()] {
            std::fs::remove_file(rig.paths().crypto().join(file)).unwrap();
        }
        is_told_to_copy();
        rig.file("/var/lib/assimilation/cma.sqlite", "");
        assert!(check(&rig.look()).iter().any(|c| c.fix == "assimcli genkeys"));
    }

    #[test]
    fn a_wrong_mode_comes_with_the_command_that_mends_it() {
        use std::os::unix::fs::PermissionsExt;
        let rig = Rig::new();
        std::fs::create_dir_all(rig.paths().crypto().parent().unwrap()).unwrap();
        let directory = KeyDirectory::open_or_create(rig.paths().crypto()).unwrap();
        let file = rig.paths().crypto().join(directory.generate_cma().unwrap()[0].secret_file());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let wanted = format!("chmod 600 '{}'", file.display());
        let found = check(&rig.look());
        assert!(found.iter().any(|c| c.is_bad() && c.fix == wanted), "{found:?}");
    }

    #[test]
    fn the_secret_of_a_retired_key_is_to_go_and_not_the_one_in_use() {
        let rig = Rig::new();
        std::fs::create_dir_all(rig.paths().crypto().parent().unwrap()).unwrap();
        let directory = KeyDirectory::open_or_create(rig.paths().crypto()).unwrap();
        let made = directory.generate_cma().unwrap();
        directory.generate_cma().unwrap();
        let file = |name: String| rig.paths().crypto().join(name);
        std::fs::remove_file(file("#CMA#00002.secret".into())).unwrap();
        std::fs::copy(file(made[0].public_file()), file(made[0].retired_file())).unwrap();
        let found = check(&rig.look());
        let bad: Vec<&Check> = found.iter().filter(|c| c.is_bad()).collect();
        assert!(bad.len() == 1 && bad[0].fix.contains("#CMA#00000.secret"), "{found:?}");
    }
}
