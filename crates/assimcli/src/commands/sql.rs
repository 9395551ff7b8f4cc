//! `sql`: read-only SELECT over the documented views.

use crate::client::post;
use crate::output::Rows;
use crate::{Context, Failure, Finding};
use serde_json::json;

#[derive(clap::Args)]
pub struct Options {
    /// One SELECT statement, for instance "SELECT host, rule_id FROM rule_results WHERE status = 'fail'"
    statement: String,
}

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    let answer = post(context, "/v1/sql", &json!({ "sql": options.statement }))?;
    let rows = Rows::from_answer(&answer);
    rows.print(context.format)?;
    if answer["truncated"] == true {
        eprintln!("assimcli: only the first {} rows are shown; add a WHERE or LIMIT", rows.rows.len());
    }
    Ok(Finding::Nothing)
}
