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
            return vec![Check::bad(NAME, text).fix("sudo assimcli doctor")];
        }
        Err(error) => return vec![Check::bad(NAME, error.to_string())],
    };
    let mut checks = Vec::new();
    match directory.check() {
        Ok(problems) => checks.extend(problems.iter().map(|problem| Check::bad(NAME, problem.to_string()))),
        Err(error) => checks.push(Check::bad(NAME, error.to_string())),
    }
    let publics = directory.cma_publics().map(|all| all.len()).unwrap_or(0);
    let retired = directory.cma_retired().unwrap_or_default();
    let is_retired = |id: &KeyId| retired.iter().any(|(known, _)| known == id);
    let (old, secrets): (Vec<KeyId>, Vec<KeyId>) =
        directory.cma_secrets().unwrap_or_default().into_iter().partition(is_retired);
    let secrets = secrets.len();
    checks.extend(old.iter().map(|id| {
        let file = directory.path().join(id.secret_file());
        let text = format!("the secret of {id} is here though that key is retired, perhaps from an old backup: no host trusts it");
        Check::bad(NAME, text).fix(format!("rm '{}'", file.display()))
    }));
    checks.push(match (publics, secrets) {
        (0, _) => Check::bad(NAME, "no CMA key here: `assimcli genkeys` on the CMA's host, a copy of its #CMA#*.pub files elsewhere")
            .fix("assimcli genkeys"),
        (1, _) => Check::bad(NAME, "only one CMA public key: without a spare, a compromised key means visiting every host; run `assimcli genkeys`")
            .fix("assimcli genkeys"),
        (_, 0) => Check::good(NAME, format!("{publics} CMA public keys, no secret: right for a host with a nanoprobe only")),
        (_, 1) => Check::good(NAME, format!("{publics} CMA public keys, one secret")),
        (_, _) => Check::bad(NAME, format!("{secrets} CMA secrets are on this machine: move the highest-numbered off-line (`assimcli genkeys` tells which)")),
    });
    checks
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
        assert!(check(&rig.look()).iter().any(|c| c.is_bad() && c.text.contains("off-line")));
        std::fs::remove_file(rig.paths().crypto().join(made[1].secret_file())).unwrap();
        let found = check(&rig.look());
        assert!(found.iter().all(|c| !c.is_bad()), "{found:?}");
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
