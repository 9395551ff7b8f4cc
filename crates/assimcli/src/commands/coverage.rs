//! `coverage`: what nobody looks at.

use crate::client::get;
use crate::{Context, Failure, Finding};
use model::coverage::GAPS;
use output::{Rows, note, text};
use serde_json::{Value, json};

#[derive(clap::Args)]
#[command(after_help = "\
  dead host            does not answer
  key mismatch         another key wants to be this host
  no reports           is up and has never reported anything
  no nanoprobe         seen in ARP or used by a program, and nobody knows it
  discovery failing    its document tells of errors
  report refused       the CMA could not use what the host sent
  discovery missing    rules read it, and the host never reported it
  service unmonitored  listens, and no monitor fits
  rule not judged      has no data to judge

Exit status 2 when there is any gap.

Examples:
  assimcli coverage
  assimcli coverage --gap \"no nanoprobe\"
  assimcli -o csv coverage > gaps.csv")]
pub struct Options {
    /// Only gaps of this kind
    #[arg(long, value_name = "GAP")]
    gap: Option<String>,
}

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    if let Some(gap) = options.gap.as_deref().filter(|gap| !GAPS.contains(gap)) {
        return Err(Failure::new(format!("there is no gap {gap:?}"))
            .hint(format!("There are: {}.", GAPS.join(", ")))
            .meant(gap, GAPS));
    }
    let answer = get(context, "/v1/coverage")?;
    let all = answer["gaps"].as_array().cloned().unwrap_or_default();
    let wanted = |gap: &Value| options.gap.as_deref().is_none_or(|kind| gap["gap"] == kind);
    let gaps: Vec<Value> = all.into_iter().filter(wanted).collect();
    // Counts first: a long table would push them off the screen when they came last.
    note!("{}", model::text::printable(&text(&answer["summary"])));
    let columns = ["gap", "place", "what", "since", "todo"];
    let rows = Rows::from_objects(&columns, &json!(gaps));
    rows.print(context.format)?;
    let shown = rows.rows.len();
    let counted: u64 = counts(&answer)
        .filter(|(kind, _)| options.gap.as_deref().is_none_or(|wanted| wanted == *kind))
        .map(|(_, count)| count)
        .sum();
    if let Some(more) = counted.checked_sub(shown as u64).filter(|more| *more > 0) {
        note!("{more} more are counted and not shown.");
    }
    if let Some(outside) = answer["outside"].as_u64().filter(|count| *count > 0) {
        note!("{outside} addresses outside of your networks are used; they are no gaps.");
    }
    for reason in answer["incomplete"].as_array().into_iter().flatten() {
        note!("Not everything was looked at: {}", model::text::printable(&text(reason)));
    }
    Ok(if counted > 0 { Finding::Something } else { Finding::Nothing })
}

fn counts(answer: &Value) -> impl Iterator<Item = (&str, u64)> {
    let all = answer["counts"].as_array().into_iter().flatten();
    all.filter_map(|pair| Some((pair[0].as_str()?, pair[1].as_u64()?)))
}
