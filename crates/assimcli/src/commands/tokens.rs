//! `tokens`: enrolment tokens, which let hosts in and give them tags.

use super::hosts::decide::words;
use crate::client::{delete, get, post};
use crate::{Context, Failure, Finding};
use output::{Format, Rows, note, text};
use serde_json::{Value, json};

#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make a token; it is printed once and nowhere else
    Create(Create),
    /// The tokens there are, and what they are good for
    List,
    /// Make a token worthless; hosts that it enrolled stay
    Revoke {
        #[arg(value_name = "ID")]
        id: u32,
    },
}

#[derive(clap::Args)]
struct Create {
    /// Tag that its hosts get; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// How long it is good for: a number with m, h, d or w; or `never`
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = lasting)]
    expires: Lasting,
    /// For how many hosts it is good [default: any number]
    #[arg(long, value_name = "N")]
    uses: Option<u32>,
    /// Only for hosts whose name fits this pattern, such as web-*
    #[arg(long, value_name = "PATTERN")]
    host: Option<String>,
}

/// Seconds, or for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lasting(Option<u64>);

fn lasting(text: &str) -> Result<Lasting, String> {
    if text == "never" {
        return Ok(Lasting(None));
    }
    let wrong = || format!("{text:?} is no time: write a number with m, h, d or w, such as 7d, or never");
    let unit = match text.chars().last() {
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        Some('w') => 7 * 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    // A century is as good as for ever, and fits every calendar.
    match number.checked_mul(unit) {
        Some(seconds) if (1..=100 * 366 * 86_400).contains(&seconds) => Ok(Lasting(Some(seconds))),
        _ => Err(wrong()),
    }
}

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    match &options.command {
        Command::Create(create) => make(context, create),
        Command::List => list(context),
        Command::Revoke { id } => {
            delete(context, &format!("/v1/tokens/{id}"))?;
            note!("Token {id} enrols nobody any more.");
            Ok(Finding::Nothing)
        }
    }
}

fn make(context: &Context, create: &Create) -> Result<Finding, Failure> {
    let Create { tags, expires, uses, host } = create;
    let wanted = json!({"tags": tags, "hosts": host, "uses": uses, "seconds": expires.0});
    let made = post(context, "/v1/tokens", &wanted)?;
    let fields = ["id", "token", "tags", "hosts", "uses", "expires"];
    if matches!(context.format, Format::Json | Format::Jsonl | Format::Csv) {
        let mut rows = Rows::new(&fields);
        rows.rows = vec![fields.map(|field| made[field].clone()).into()];
        rows.print(context.format)?;
    } else {
        // Alone, so that it can go into a file or a variable.
        use std::io::Write;
        writeln!(std::io::stdout(), "{}", text(&made["token"]))?;
    }
    note!(
        "This is token {}; it is shown this once. On the host put it into /etc/assimilation/enrol.token (mode 0600) before the \
         nanoprobe starts; the file is removed once the host is enrolled.",
        text(&made["id"])
    );
    Ok(Finding::Nothing)
}

fn list(context: &Context) -> Result<Finding, Failure> {
    let tokens = get(context, "/v1/tokens")?;
    let mut rows = Rows::new(&["id", "state", "hosts", "tags", "used", "uses", "created", "expires"]);
    let machine = matches!(context.format, Format::Json | Format::Jsonl);
    for token in tokens.as_array().into_iter().flatten() {
        let tags = if machine { token["tags"].clone() } else { json!(words(&token["tags"])) };
        let mut row: Vec<Value> = ["id", "state", "hosts"].map(|field| token[field].clone()).into();
        row.push(tags);
        row.extend(["used", "uses", "created", "expires"].map(|field| token[field].clone()));
        rows.rows.push(row);
    }
    rows.print(context.format)?;
    Ok(Finding::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        for (text, seconds) in [
            ("90m", Some(5400)),
            ("12h", Some(43_200)),
            ("7d", Some(604_800)),
            ("2w", Some(1_209_600)),
            ("never", None),
        ] {
            assert_eq!(lasting(text), Ok(Lasting(seconds)), "{text}");
        }
        for wrong in ["", "7", "d", "-1d", "0d", "7é", "99999999999999999999d", "9999999w"] {
            assert!(lasting(wrong).is_err_and(|error| error.contains("7d")), "{wrong}");
        }
    }
}
