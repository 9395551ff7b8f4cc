//! `changes`: what changed just before an event, on its host and around it.

use super::moment;
use crate::client::{encoded, get};
use crate::{Context, Failure, Finding};
use model::Timestamp;
use output::{Rows, note, text};

#[derive(clap::Args)]
#[command(after_help = "\
Looked at are the host of the event, the hosts whose services its programs use, and what other hosts tell of the same
switch. EVENT is the id of an event, six or more letters of its beginning, its number, or `last HOST` for the newest
event of a host.

Examples:
  assimcli changes --before last web1
  assimcli changes --before 019abc12 --within 2h
  assimcli changes --before 4711 --hops 2         also what the servers of its servers changed")]
pub struct Options {
    /// The event: an id, a number, or `last HOST`
    #[arg(long, value_name = "EVENT", required = true, num_args = 1..=2)]
    before: Vec<String>,
    /// How far back: 90s, 15m, 2h, 7d
    #[arg(long, value_name = "TIME", default_value = "15m")]
    within: String,
    /// How far away: 0 the host itself, 1 what it uses, 2 what that uses
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=3))]
    hops: u8,
    /// At most this many rows
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    let Some(within) = moment::seconds(&options.within) else {
        return Err(Failure::new(format!("--within {:?} is no length of time", options.within))
            .hint("Write 90s, 15m, 2h or 7d."));
    };
    let path = format!(
        "/v1/changes?before={}&within={within}&hops={}&rows={}",
        encoded(&options.before.join(" ")),
        options.hops,
        options.limit
    );
    let answer = get(context, &path)?;
    let columns = ["time", "host", "relation", "kind", "what", "detail"];
    let rows = Rows::from_objects(&columns, &answer["rows"]);
    rows.print(context.format)?;
    let event = &answer["event"];
    let time = text(&event["time"]);
    let time = Timestamp::parse(&time).map_or(time, Timestamp::to_local_text);
    let host = text(&event["associatedobject"]["designation"]);
    let about = format!(
        "{} on {} in the {} before {time}: {} of {host}, {}",
        counted(rows.rows.len() as u64, "change"),
        counted(answer["hosts"].as_u64().unwrap_or(0), "host"),
        options.within,
        text(&event["eventtype"]),
        text(&answer["event_text"])
    );
    note!("{}", model::text::printable(&about));
    if answer["is_cut"] == true {
        note!("There is more; --limit N or a shorter --within shows the rest.");
    }
    Ok(Finding::Nothing)
}

fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}
