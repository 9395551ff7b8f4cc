//! `keys rotate`: every step is a file operation that is durable before the next; `wire::keys::rotation` decides what is next,
//! so that the command may be interrupted anywhere and run again.

use super::{HostKeys, failure, name, take_off_line};
use crate::client::{get, get_within, post};
use crate::{Context, Failure, Finding};
use model::Timestamp;
use output::{note, text};
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde_json::{Value, json};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};
use wire::keys::{KeyDirectory, KeyError, KeyId, Rotation, Standing, Step, next_step};

/// Hosts that were not seen for longer are not waited for.
const SEEN_WITHIN_DAYS: u64 = 30;
/// Hosts that are named one by one.
const MAX_NAMED: usize = 20;
/// A rotation so soon after another is taken for a mistake.
const AGAIN_AFTER: Duration = Duration::from_secs(3600);
/// How long the hosts are waited for before the command ends; they go on without it.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_PAUSE: Duration = Duration::from_millis(250);

pub fn run(context: &Context, force: bool) -> Result<Finding, Failure> {
    let place = context.paths.crypto();
    let directory = KeyDirectory::open(&place).map_err(failure)?;
    let _alone = lock(&place)?;
    super::super::genkeys::give_to_cma_user(&place)?;
    let told = get_within(context, "/v1/keys", Duration::from_secs(20));
    let in_use_for = told.as_ref().ok().and_then(in_use_for);
    let is_running = match told {
        Ok(_) => true,
        Err(failure) if force => {
            note!("No CMA was asked, its next start uses the new key: {}", failure.message);
            false
        }
        Err(mut failure) => {
            failure.hint.push_str(
                " Without it nobody knows which hosts would be lost; --force goes on all the same.",
            );
            return Err(failure);
        }
    };
    let standing = directory.cma_standing().map_err(failure)?;
    let rotation = match standing.rotation {
        Some(rotation) => {
            note!("The rotation from {} to {} goes on.", name(rotation.from), name(rotation.to));
            rotation
        }
        None => {
            let rotation = plan(&directory, &standing, &place)?;
            if !force {
                // A CMA that was killed just then may not have noted it.
                let retired = directory.last_retired_at().and_then(|at| at.checked_mul(1_000_000));
                let since_then = retired.map(|at| Timestamp::now().since(Timestamp(at)));
                let in_use_for = in_use_for.into_iter().chain(since_then).min();
                check_age(&standing, rotation, in_use_for)?;
                check_hosts(context, &standing)?;
            }
            directory.begin_rotation(rotation).map_err(failure)?;
            rotation
        }
    };
    carry_out(context, &directory, is_running)?;
    let standing = directory.cma_standing().map_err(failure)?;
    if is_running {
        // So that it does not go on telling what was wrong.
        let _ = post(context, "/v1/keys/reload", &json!({}));
        wait_for_hosts(context);
    }
    note!("{} is retired, {} is in use.", name(rotation.from), name(rotation.to));
    for number in standing.secrets.iter().filter(|number| **number > rotation.to) {
        if let Some(id) = KeyId::cma(*number) {
            take_off_line(context, &id);
        }
    }
    note!("Destroy every other copy of {}.secret: backups, the medium that it was on.", name(rotation.from));
    super::list(context)
}

/// One rotation at a time.
fn lock(place: &Path) -> Result<OwnedFd, Failure> {
    let failed = |error: rustix::io::Errno| Failure::new(format!("{}: {error}", place.display()));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(place, flags, Mode::empty()).map_err(failed)?;
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Failure::new("another `assimcli keys rotate` is at work")),
        _ => Ok(directory),
    }
}

/// From which key to which; an error says what has to be done first.
fn plan(directory: &KeyDirectory, standing: &Standing, place: &Path) -> Result<Rotation, Failure> {
    let from = standing.in_use().ok_or_else(|| failure(KeyError::NoCmaSecret { path: place.to_owned() }))?;
    if !directory.holds_pair(from).map_err(failure)? {
        return Err(failure(KeyError::NoCmaSecret { path: place.to_owned() }));
    }
    let Some((to, _)) = standing.successor() else {
        return Err(Failure::new(format!("{} has no successor yet", name(from))).hint(
            "Make one with `assimcli keys spare`, and rotate once `assimcli keys hosts` shows that all hosts trust it.",
        ));
    };
    if !directory.holds_pair(to).map_err(failure)? {
        let file = KeyId::cma(to).map(|id| place.join(id.secret_file())).unwrap_or_default();
        return Err(Failure::new(format!("the secret of {} is off-line", name(to))).hint(format!(
            "Bring it back from where it is kept, as '{}', mode 0600, and run this again.",
            file.display()
        )));
    }
    Ok(Rotation { from, to })
}

/// How long the key in use is in use, as the CMA says.
fn in_use_for(told: &Value) -> Option<Duration> {
    let keys = told["keys"].as_array()?;
    let since = keys.iter().find_map(|key| key["in_use_since"].as_str())?;
    Some(Timestamp::now().since(Timestamp::parse(since)?))
}

/// Who was interrupted just after the end, and runs this again, does not want another rotation.
fn check_age(standing: &Standing, rotation: Rotation, in_use_for: Option<Duration>) -> Result<(), Failure> {
    let Some(in_use_for) = in_use_for.filter(|time| *time < AGAIN_AFTER && !standing.retired.is_empty())
    else {
        return Ok(());
    };
    Err(Failure::new(format!(
        "{} is in use for {} minutes only: the last rotation is complete",
        name(rotation.from),
        in_use_for.as_secs() / 60
    ))
    .hint("--force begins another all the same, without asking whether hosts would be lost."))
}

/// Hosts that do not trust the successor would not let the CMA in any more.
fn check_hosts(context: &Context, standing: &Standing) -> Result<(), Failure> {
    let Some((number, key)) = standing.successor() else { return Ok(()) };
    let fingerprint = key.fingerprint();
    let (mut lost, mut unseen) = (Vec::new(), 0);
    for host in HostKeys::all(context)?.into_iter().filter(|host| !host.trusts(number, &fingerprint)) {
        let is_up = host.row["status"] == "up";
        if is_up || host.days_unseen().is_none_or(|days| days <= SEEN_WITHIN_DAYS) {
            lost.push(host);
        } else {
            unseen += 1;
        }
    }
    if unseen > 0 {
        note!(
            "{unseen} hosts that were not seen for {SEEN_WITHIN_DAYS} days do not trust {} and are not waited for.",
            name(number)
        );
    }
    if lost.is_empty() {
        return Ok(());
    }
    for host in lost.iter().take(MAX_NAMED) {
        let why =
            if host.trusts.is_none() { "its nanoprobe is too old to tell" } else { "does not trust it" };
        note!(
            "  {} ({}, last seen {}): {why}",
            host.name,
            text(&host.row["status"]),
            text(&host.row["last_seen"])
        );
    }
    if lost.len() > MAX_NAMED {
        note!("  and {} more: `assimcli keys hosts --lacking {number}`", lost.len() - MAX_NAMED);
    }
    let many = if lost.len() == 1 { "1 host is".to_owned() } else { format!("{} hosts are", lost.len()) };
    Err(Failure::new(format!("{many} not known to trust {}, and would be lost", name(number))).hint(format!(
        "Hosts that are switched on and have a nanoprobe of this version get it by themselves. To the others copy {}.pub, into \
         their crypto.d, and run `systemctl reload assimilation-nanoprobe` there. --force rotates all the same.",
        name(number)
    )))
}

fn carry_out(context: &Context, directory: &KeyDirectory, is_running: bool) -> Result<(), Failure> {
    let mut is_switched = !is_running;
    while let Some(step) = next_step(&directory.cma_standing().map_err(failure)?, is_switched) {
        if let Step::Switch(to) = step {
            switch(context, to)?;
            is_switched = true;
        }
        let made = directory.take_step(step).map_err(failure)?;
        match (step, made) {
            (Step::MakeSpare, Some(id)) => note!("Made {id}, the next spare."),
            (Step::Switch(to), _) => note!("The CMA uses {}.", name(to)),
            (Step::WipeSecret(number), _) => {
                note!("The secret of {} is overwritten and deleted.", name(number))
            }
            _ => {}
        }
    }
    Ok(())
}

fn switch(context: &Context, to: u32) -> Result<(), Failure> {
    let goes_on = "Nothing is lost: once that is mended, `assimcli keys rotate` goes on.";
    let answer = post(context, "/v1/keys/reload", &json!({})).map_err(|mut failure| {
        failure.hint = format!("{} {goes_on}", failure.hint);
        failure
    })?;
    if answer["in_use"] == to {
        return Ok(());
    }
    Err(Failure::new(format!("the CMA uses key number {} and not {to}", text(&answer["in_use"])))
        .hint(goes_on))
}

/// A while, so that the person sees them come; who does not come now is told when it does.
fn wait_for_hosts(context: &Context) {
    let end = Instant::now() + PATIENCE;
    loop {
        let Ok(hosts) = get(context, "/v1/keys/hosts") else { return };
        let hosts = hosts.as_array().cloned().unwrap_or_default();
        let up = hosts.iter().filter(|host| host["status"] == "up").count();
        let ready = |host: &&Value| host["status"] == "up" && host["as_it_should_be"] == true;
        let ready = hosts.iter().filter(ready).count();
        if ready >= up || Instant::now() >= end {
            note!(
                "{ready} of {up} hosts that are up trust the new list; `assimcli keys hosts` shows the others."
            );
            return;
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}
