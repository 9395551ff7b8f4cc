//! `sql`: read-only SELECT over the documented views.

use crate::client::{get, post};
use crate::{Context, Failure, Finding};
use output::{Rows, note};
use serde_json::json;

#[derive(clap::Args)]
pub struct Options {
    /// One SELECT statement, for instance "SELECT host, rule_id FROM rule_results WHERE status = 'fail'"
    #[arg(required_unless_present = "views")]
    statement: Option<String>,
    /// Show the views that can be asked, with their columns
    #[arg(long, conflicts_with = "statement")]
    views: bool,
}

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    if options.views {
        let views = get(context, "/v1/views")?;
        Rows::from_objects(&["view", "column", "meaning"], &views).print(context.format)?;
        return Ok(Finding::Nothing);
    }
    let answer = post(context, "/v1/sql", &json!({ "sql": options.statement }))?;
    let rows = Rows::from_answer(&answer);
    rows.print(context.format)?;
    if answer["truncated"] == true {
        note!("assimcli: only the first {} rows are shown; add a WHERE or LIMIT", rows.rows.len());
    }
    Ok(Finding::Nothing)
}
