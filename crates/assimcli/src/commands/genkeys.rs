//! `genkeys`: the CMA's keys. Works without a running CMA.

use crate::{Context, Failure, Finding};
use daemon::privileges::find_user;
use std::path::Path;
use wire::keys::{KeyDirectory, KeyId};

/// The user that the CMA runs as (contract §1).
const CMA_USER: &str = "assimilation";

pub fn run(context: &Context) -> Result<Finding, Failure> {
    let place = context.paths.crypto();
    let directory = KeyDirectory::open_or_create(&place).map_err(|e| Failure::new(e.to_string()))?;
    let made = directory.generate_cma().map_err(|e| Failure::new(e.to_string()))?;
    give_to_cma_user(&place)?;

    for id in &made {
        println!("{}", place.join(id.public_file()).display());
        println!("{}", place.join(id.secret_file()).display());
    }
    let secrets = directory.cma_secrets().map_err(|e| Failure::new(e.to_string()))?;
    explain(&place, &made, &secrets);
    Ok(Finding::Nothing)
}

fn explain(place: &Path, made: &[KeyId], secrets: &[KeyId]) {
    let names: Vec<&str> = made.iter().map(KeyId::as_str).collect();
    eprintln!("Made {}.", names.join(" and "));
    eprintln!(
        "Every nanoprobe needs all the public keys (#CMA#*.pub) in its own {}, mode 0700.",
        place.display()
    );
    // The CMA signs with the lowest number; the highest is the spare.
    if let (Some(used), Some(spare)) = (secrets.first(), secrets.last())
        && used != spare
    {
        eprintln!(
            "The CMA uses {used}. Move this secret off-line now, to a medium in a drawer, and delete it here:"
        );
        eprintln!("  {}", place.join(spare.secret_file()).display());
        eprintln!(
            "If {used} is ever compromised, bring it back and remove that one: no nanoprobe has to be touched."
        );
    }
}

/// As root, hands the directory and what is in it to the user that the CMA will run as, if there is one.
fn give_to_cma_user(place: &Path) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let Some(user) = find_user(&passwd, CMA_USER) else { return Ok(()) };
    let failed = |path: &Path, error: std::io::Error| {
        Failure::new(format!("cannot give {} to {CMA_USER}: {error}", path.display()))
    };
    let hand_over = |path: &Path| {
        std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid)).map_err(|e| failed(path, e))
    };
    hand_over(place)?;
    for entry in std::fs::read_dir(place).map_err(|e| failed(place, e))?.flatten() {
        hand_over(&entry.path())?;
    }
    Ok(())
}
