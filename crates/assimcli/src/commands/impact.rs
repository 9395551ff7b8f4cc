//! `impact`: what stops working if a host, a service or a switch stops.

use crate::client::{encoded, get};
use crate::{Context, Failure, Finding};
use output::{Format, Rows, note, text};

#[derive(clap::Args)]
#[command(after_help = "\
A name may be a host (web1), a switch (its name or chassis id), a service (db1:5432, db1/postgres, 10.0.0.7:5432), a
program that runs on one host only (postgres), an address, or any key of the graph.

  stops              goes down with it: it runs there, or nothing else does what it needs
  degraded           uses the same service on another host as well, which is up
  loses redundancy   is wired to another switch too

DEPTH 0 goes down with it, 1 uses what goes down, 2 uses what that offers, and so on.

Examples:
  assimcli impact db1                      what needs the host db1, directly or not
  assimcli impact db1:5432 --hops 1        who uses this service directly
  assimcli impact sw-rack7                 what hangs on this switch
  assimcli -o json impact db1              with the whole path to each of them")]
pub struct Options {
    /// A host, a service or a switch
    name: String,
    /// Dependencies in a row that are followed
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=20))]
    hops: u8,
    /// At most this many rows
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    // The path is for programs; `because` says the same in words.
    let paths = matches!(context.format, Format::Json | Format::Jsonl);
    let path = format!(
        "/v1/impact?of={}&hops={}&rows={}&paths={paths}",
        encoded(&options.name),
        options.hops,
        options.limit
    );
    let answer = get(context, &path)?;
    let columns = ["depth", "effect", "kind", "host", "what", "because", "path"];
    let shown = if paths { columns.len() } else { columns.len() - 1 };
    Rows::from_objects(&columns[..shown], &answer["rows"]).print(context.format)?;
    note!("{}", model::text::printable(&text(&answer["summary"])));
    Ok(Finding::Nothing)
}
