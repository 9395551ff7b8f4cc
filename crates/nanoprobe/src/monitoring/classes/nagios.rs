//! `nagios`: a plug-in as the Monitoring Plugins Development Guidelines describe it, the first of `nagiospath` that is there.
//!
//! | exit status | state |
//! |---|---|
//! | 0 OK | up |
//! | 1 WARNING | warn |
//! | 2 CRITICAL | down |
//! | 3 UNKNOWN | warn: the plug-in could not tell (wrong arguments, nobody to ask), which somebody must look at, but is no failure of the service |
//! | others | warn: no answer of a plug-in |
//!
//! The first line of its output is the message; what follows `|` in it, and in the last of the further lines, is performance
//! data. It gets `NAGIOS_RESOURCE_INSTANCE`, the monitor's name.

use super::super::state::Outcome;
use super::program::{checked_name, environment, run};
use super::{Around, Checked};
use monitors::Monitor;

pub fn check(monitor: &Monitor, around: &Around) -> Checked {
    let plugin = match checked_name(&monitor.agent) {
        Ok(plugin) => plugin,
        Err(outcome) => return outcome.into(),
    };
    let Some(path) =
        around.nagiospath.iter().map(|directory| directory.join(plugin)).find(|path| path.exists())
    else {
        let directories: Vec<String> =
            around.nagiospath.iter().map(|path| path.display().to_string()).collect();
        let places = directories.join(", ");
        return Outcome::down(format!(
            "invalid monitoring request: there is no plug-in {plugin} in {places}; install it, or configure nagiospath"
        ))
        .into();
    };
    let mut environment = environment(monitor);
    environment.insert("NAGIOS_RESOURCE_INSTANCE".into(), monitor.name.clone());
    run(monitor, &path, &monitor.argv, &environment, |said| {
        let Text { message, more, perfdata } = text(&said.output);
        let message =
            if message.is_empty() { said.error_text.lines().next().unwrap_or("").trim() } else { message };
        let why = |name: &str| if message.is_empty() { name.to_owned() } else { message.to_owned() };
        let outcome = match said.code {
            0 => Outcome::up(why("OK")),
            1 => Outcome::warn(why("WARNING")),
            2 => Outcome::down(why("CRITICAL")),
            3 => Outcome::warn(format!("unknown: {}", why("the plug-in gives no reason"))),
            other => Outcome::warn(format!("unknown: the plug-in ended with {other}: {}", why("no output"))),
        };
        let output = [more.trim_end(), said.error_text.trim_end()].join("\n");
        Outcome { output, perfdata, ..outcome }
    })
}

/// What a plug-in printed.
#[derive(Debug, PartialEq)]
pub struct Text<'a> {
    pub message: &'a str,
    /// The further lines.
    pub more: String,
    pub perfdata: String,
}

/// Takes message and performance data apart.
pub fn text(output: &str) -> Text<'_> {
    let mut lines = output.trim_start_matches('\n').lines();
    let first = lines.next().unwrap_or("");
    let (message, figures) = first.split_once('|').unwrap_or((first, ""));
    let mut perfdata = vec![figures.trim()];
    let mut more = Vec::new();
    let mut is_figures = false;
    for line in lines {
        if is_figures {
            perfdata.push(line.trim());
        } else if let Some((text, figures)) = line.split_once('|') {
            is_figures = true;
            more.push(text.trim_end());
            perfdata.push(figures.trim());
        } else {
            more.push(line);
        }
    }
    perfdata.retain(|part| !part.is_empty());
    Text { message: message.trim(), more: more.join("\n"), perfdata: perfdata.join(" ") }
}
