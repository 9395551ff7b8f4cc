//! `genkeys`: the CMA's keys. Works without a running CMA.

use crate::client::post;
use crate::{Context, Failure, Finding};
use daemon::privileges::find_user;
use output::{Rows, note};
use serde_json::json;
use std::path::Path;
use wire::keys::id::is_host_secret;
use wire::keys::{KeyDirectory, KeyId};

/// The user that the CMA runs as (contract §1).
const CMA_USER: &str = "assimilation";

pub fn run(context: &Context) -> Result<Finding, Failure> {
    let place = context.paths.crypto();
    let directory = KeyDirectory::open_or_create(&place).map_err(|e| Failure::new(e.to_string()))?;
    let made = directory.generate_cma().map_err(|e| Failure::new(e.to_string()))?;
    give_to_cma_user(&place)?;

    let mut rows = Rows::new(&["file"]);
    for id in &made {
        for file in [id.public_file(), id.secret_file()] {
            rows.rows.push(vec![json!(place.join(file).display().to_string())]);
        }
    }
    rows.print(context.format)?;
    let secrets = directory.cma_secrets().map_err(|e| Failure::new(e.to_string()))?;
    explain(&place, &made, &secrets);
    // A CMA that runs hands a further key to its hosts; without one its next start does.
    let _ = post(context, "/v1/keys/reload", &json!({}));
    Ok(Finding::Nothing)
}

fn explain(place: &Path, made: &[KeyId], secrets: &[KeyId]) {
    let names: Vec<&str> = made.iter().map(KeyId::as_str).collect();
    note!("Made {}.", names.join(" and "));
    note!(
        "Every nanoprobe needs all the public keys (#CMA#*.pub) in its own {}, mode 0700.",
        place.display()
    );
    // The CMA signs with the lowest number; the highest is the spare.
    if let Some((used, spares)) = secrets.split_first()
        && !spares.is_empty()
    {
        let what = if spares.len() == 1 { "this secret" } else { "these secrets" };
        note!("The CMA uses {used}. Move {what} off-line now, to a medium in a drawer, and delete it here:");
        for spare in spares {
            note!("  {}", place.join(spare.secret_file()).display());
        }
        note!(
            "If {used} is ever compromised, bring one back and run `assimcli keys rotate`: no nanoprobe has to be touched."
        );
    }
}

/// As root, hands the directory and what is in it to the user that the CMA will run as, if there is one. What is a nanoprobe's
/// secret stays root's.
pub(super) fn give_to_cma_user(place: &Path) -> Result<(), Failure> {
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
    // Packages make the place a link, which stays as it is: it may be on a file system that is read-only.
    let place = &place.canonicalize().map_err(|e| failed(place, e))?;
    hand_over(place)?;
    for entry in std::fs::read_dir(place).map_err(|e| failed(place, e))?.flatten() {
        if !entry.file_name().to_str().is_some_and(is_host_secret) {
            hand_over(&entry.path())?;
        }
    }
    Ok(())
}
