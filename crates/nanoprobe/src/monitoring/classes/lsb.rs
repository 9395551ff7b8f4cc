//! `lsb`: an init script, `/etc/init.d/<agent> status` (Linux Standard Base Core, "Init Script Actions").
//!
//! | exit status | state |
//! |---|---|
//! | 0 running | up |
//! | 1 dead and its pid file is there, 2 dead and its lock file is there, 3 not running | down |
//! | 4 unknown, others | warn: the script cannot tell |

use super::super::state::Outcome;
use super::program::{checked_name, environment, run};
use super::{Around, Checked};
use monitors::Monitor;

pub fn check(monitor: &Monitor, around: &Around) -> Checked {
    let script = match checked_name(&monitor.agent) {
        Ok(script) => script,
        Err(outcome) => return outcome.into(),
    };
    let path = around.init_scripts.join(script);
    run(monitor, &path, &["status".to_owned()], &environment(monitor), |said| {
        let message = said.message();
        let why =
            |name: &str| if message.is_empty() { name.to_owned() } else { format!("{name}: {message}") };
        let outcome = match said.code {
            0 => Outcome::up(why("running")),
            1 => Outcome::down(why("dead, and its pid file is there")),
            2 => Outcome::down(why("dead, and its lock file is there")),
            3 => Outcome::down(why("not running")),
            4 => Outcome::warn(why("unknown")),
            other => Outcome::warn(why(&format!("unknown: the script ended with {other}"))),
        };
        Outcome { output: said.detail(), ..outcome }
    })
}
