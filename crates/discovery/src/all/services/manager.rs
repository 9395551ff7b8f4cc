//! Which units are active, from systemd itself.
//!
//! One call, `ListUnits`, tells the state of every loaded unit: far cheaper than the program systemctl, which makes the
//! same call. Whoever may not use the socket sees in /run/systemd/units which services run: systemd keeps a link there for
//! each unit that has started a process and has not ended.

use crate::Host;
use crate::systemd::{self, IS_RUNNING, Manager, Reader, SOCKET};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const STATE: &str = "/run/systemd";
const LIMIT: Duration = Duration::from_secs(5);

/// Unit → `active`, `inactive` or `failed`.
pub(super) type States = BTreeMap<String, &'static str>;

/// `None`: systemd is not running here, or this is a file tree.
pub(super) fn states(host: &Host) -> Option<Known> {
    if !host.is_running_system() || host.stat(IS_RUNNING).is_err() {
        return None;
    }
    match list_units(Path::new(SOCKET)) {
        Ok(states) => Some(Known::All(states)),
        Err(error) => Some(Known::Services(with_processes(host), error)),
    }
}

/// What could be found out.
pub(super) enum Known {
    /// Units that are not listed are not loaded, hence not active.
    All(States),
    /// Services that are active, and why there is no more.
    Services(States, String),
}

/// The names of links `invocation:<unit>`.
fn with_processes(host: &Host) -> States {
    let units = || host.directory(STATE).ok()?.subdirectory_unrecorded(c"units").ok()?.entries().ok();
    let name = |entry: crate::DirectoryEntry| {
        let name = entry.name().strip_prefix("invocation:")?.to_owned();
        name.ends_with(".service").then_some((name, "active"))
    };
    units().unwrap_or_default().into_iter().filter_map(name).collect()
}

/// Asks the service manager behind a socket.
pub(super) fn list_units(socket: &Path) -> Result<States, String> {
    let (body, is_big_endian) = Manager::connect(socket, LIMIT)?.list_units()?;
    parse(&body, is_big_endian).ok_or_else(|| format!("{}: its answer is not understood", socket.display()))
}

pub(super) fn any_answer(bytes: &[u8]) {
    systemd::any_answer(bytes);
    let mut stream = bytes;
    while let Ok((_, is_big_endian, body)) = systemd::read_message(&mut stream) {
        parse(&body, is_big_endian);
    }
    parse(bytes, false);
}

/// The body of the answer, `a(ssssssouso)`: name, description, load state, active state and six more per unit.
pub(super) fn parse(body: &[u8], is_big_endian: bool) -> Option<States> {
    let mut reader = Reader { bytes: body, at: 0, is_big_endian };
    let length = usize::try_from(reader.integer()?).ok()?;
    reader.align(8)?;
    let end = reader.at.checked_add(length).filter(|end| *end <= body.len())?;
    let mut states = States::new();
    while reader.at < end {
        reader.align(8)?;
        let name = reader.text()?.to_owned();
        reader.text()?;
        reader.text()?;
        // A unit on its way up or down is not active: a service that is restarted again and again never is.
        let state = match reader.text()? {
            "active" | "reloading" | "refreshing" => "active",
            "failed" => "failed",
            _ => "inactive",
        };
        for _ in 0..3 {
            reader.text()?;
        }
        reader.integer()?;
        reader.text()?;
        reader.text()?;
        states.insert(name, state);
    }
    Some(states)
}
