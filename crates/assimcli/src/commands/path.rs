//! `path`: how two things are connected.

use crate::client::{encoded, get};
use crate::{Context, Failure, Finding};
use output::{Format, Rows, note, text};

#[derive(clap::Args)]
#[command(after_help = "\
Both ends are named as for `assimcli impact`: hosts, services, switches, addresses. Of each layer the shortest path is told:

  dependency       programs that use one another's services
  shared service   both use the same one
  switch, subnet   the cables and the IP networks between them
  known            no path is known; what is known of each end

Examples:
  assimcli path web1 db1
  assimcli path web1 sw-rack7
  assimcli path web1/nginx 10.0.0.7:5432")]
pub struct Options {
    /// A host, a service, a switch or an address
    from: String,
    /// Another
    to: String,
}

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    let answer =
        get(context, &format!("/v1/path?from={}&to={}", encoded(&options.from), encoded(&options.to)))?;
    let columns = ["layer", "length", "path", "steps"];
    let shown = if matches!(context.format, Format::Json | Format::Jsonl) { 4 } else { 3 };
    Rows::from_objects(&columns[..shown], &answer["rows"]).print(context.format)?;
    note!("{}", model::text::printable(&text(&answer["summary"])));
    Ok(Finding::Nothing)
}
