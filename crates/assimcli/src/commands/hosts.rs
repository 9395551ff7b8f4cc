//! `hosts`: hosts with state; `hosts accept-key NAME` after a re-installation; `hosts remove NAME`.

use crate::client::{delete, encoded, get, post};
use crate::{Context, Failure, Finding};
use output::{Format, Rows, note, text};
use serde_json::{Value, json};

#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Accept the new key of a host that was re-installed
    AcceptKey { host: String },
    /// Forget a host that is gone for good; its history stays
    Remove { host: String },
}

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    match &options.command {
        None => list(context),
        Some(Command::AcceptKey { host }) => {
            post(context, &format!("/v1/hosts/{}/accept-key", encoded(host)), &json!({}))?;
            note!(
                "The new key of {host} is accepted; its nanoprobe registers at its next try, within 5 minutes, or at once when it is started again."
            );
            Ok(Finding::Nothing)
        }
        Some(Command::Remove { host }) => {
            delete(context, &format!("/v1/hosts/{}", encoded(host)))?;
            note!("{host} is forgotten.");
            Ok(Finding::Nothing)
        }
    }
}

fn list(context: &Context) -> Result<Finding, Failure> {
    let hosts = get(context, "/v1/hosts")?;
    let mut rows = Rows::new(&[
        "host",
        "domain",
        "status",
        "reason",
        "status_since",
        "last_seen",
        "address",
        "scores",
        "key",
    ]);
    let mut finding = Finding::Nothing;
    for host in hosts.as_array().into_iter().flatten() {
        let mismatch = !host["rejected_key"].is_null();
        if mismatch || host["status"] != "up" {
            finding = Finding::Something;
        }
        let key = if mismatch { json!("MISMATCH") } else { json!("ok") };
        let mut row: Vec<Value> =
            ["designation", "domain", "status", "reason", "status_since", "last_seen", "address"]
                .map(|f| host[f].clone())
                .into();
        let machine = matches!(context.format, Format::Json | Format::Jsonl);
        let scores = if machine { host["scores"].clone() } else { json!(scores(&host["scores"])) };
        row.extend([scores, key]);
        rows.rows.push(row);
        if mismatch {
            let name = text(&host["designation"]);
            note!(
                "assimcli: another key wants to be {name}: if it was re-installed, `assimcli hosts accept-key {name}`"
            );
        }
    }
    rows.print(context.format)?;
    Ok(finding)
}

/// `security=12 networking=0`
fn scores(by_category: &Value) -> String {
    let all = by_category.as_object().into_iter().flatten();
    all.map(|(category, score)| format!("{category}={}", text(score))).collect::<Vec<_>>().join(" ")
}
