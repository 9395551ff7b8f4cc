//! `notify test`: sends a test event through every alert channel and shows what each answered.
//! `notify sample`: the sample scripts, which are also inside this program.

use crate::client::post;
use crate::{Context, Failure, Finding};
use output::{Rows, note, print};
use serde_json::json;

#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Send a test event through scripts and syslog, and show what each answered
    Test {
        /// Type of the event
        #[arg(long, default_value = "warn", value_parser = ["create", "up", "down", "warn", "unwarn", "update", "delete"])]
        event: String,
    },
    /// Print a sample script, to be edited and put into notification.d
    Sample {
        #[arg(default_value = "sendemail.sh", value_parser = ["sendemail.sh"])]
        name: String,
    },
}

const SENDEMAIL: &str = include_str!("../../../../notification.d/samples/sendemail.sh");

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    let event = match &options.command {
        Command::Test { event } => event,
        Command::Sample { .. } => {
            print(SENDEMAIL)?;
            return Ok(Finding::Nothing);
        }
    };
    let answer = post(context, "/v1/notify/test", &json!({ "event": event }))?;
    let rows = Rows::from_objects(&["channel", "target", "result", "detail"], &answer);
    if rows.rows.is_empty() {
        let directories = context.paths.notification_scripts();
        note!("No alert channel is in use: put an executable script into {}.", directories[0].display());
        return Ok(Finding::Something);
    }
    rows.print(context.format)?;
    let failed = answer.as_array().into_iter().flatten().any(|row| row["result"] == "failed");
    Ok(if failed { Finding::Something } else { Finding::Nothing })
}
