//! `hosts pending`, `approve`, `accept-key`, `keep`, `revoke` ...: who may be a host and who may not.

use super::Command;
use crate::client::{delete, encoded, get, post};
use crate::{Context, Failure, Finding};
use output::{Rows, note, text};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What comes by itself, and when not.
const COMES: &str = "it is called, and else comes by itself within 5 minutes";

pub fn run(context: &Context, command: &Command) -> Result<Finding, Failure> {
    match command {
        Command::Pending => pending(context),
        Command::Revoked => revoked(context),
        Command::Machines { host } => machines(context, host),
        Command::Approve { host, key } => {
            ask(context, "pending", host, "approve", &json!({"key": key}))?;
            done(&format!("{host} may come: {COMES}."))
        }
        Command::Reject { host, key } => {
            ask(context, "pending", host, "reject", &json!({"key": key}))?;
            done(&format!(
                "The key of {host} is refused from now on; `assimcli hosts unrevoke {host}` takes that back."
            ))
        }
        Command::AcceptKey { host, key } => {
            ask(context, "hosts", host, "accept-key", &json!({"key": key}))?;
            done(&format!("The new key of {host} is accepted: {COMES}."))
        }
        Command::Dismiss { host } => {
            ask(context, "hosts", host, "dismiss", &json!({}))?;
            done(&format!("The other key that wanted to be {host} is forgotten."))
        }
        Command::Keep { host, machine, any } => {
            ask(context, "hosts", host, "keep", &json!({"machine": machine}))?;
            match machine {
                Some(machine) if !any => {
                    done(&format!("Only machine {machine} may use the key of {host} from now on."))
                }
                _ => done(&format!("Any machine may use the key of {host} again.")),
            }
        }
        Command::Revoke { host, reason } => {
            ask(context, "hosts", host, "revoke", &json!({"reason": reason}))?;
            done(&format!(
                "The key of {host} is refused from now on; `assimcli hosts unrevoke {host}` takes that back."
            ))
        }
        Command::Unrevoke { host, key } => {
            ask(context, "hosts", host, "unrevoke", &json!({"key": key}))?;
            done(&format!("The key of {host} is no longer refused: {COMES}."))
        }
        Command::Tag { host, change, tags } => {
            let change = match change {
                super::TagChange::Add => json!({"add": tags}),
                super::TagChange::Remove => json!({"remove": tags}),
            };
            let answer = ask(context, "hosts", host, "tags", &change)?;
            done(&format!("{host} has the tags: {}", words(&answer["tags"])))
        }
        Command::Remove { host } => {
            delete(context, &format!("/v1/hosts/{}", encoded(host)))
                .map_err(|failure| with_nearest(context, host, failure))?;
            done(&format!("{host} is forgotten."))
        }
    }
}

fn ask(context: &Context, what: &str, host: &str, decision: &str, body: &Value) -> Result<Value, Failure> {
    post(context, &format!("/v1/{what}/{}/{decision}", encoded(host)), body)
        .map_err(|failure| with_nearest(context, host, failure))
}

/// Where a command was refused and no host has that name, the name that may be meant.
fn with_nearest(context: &Context, host: &str, failure: Failure) -> Failure {
    let mut names = BTreeSet::new();
    for place in ["/v1/hosts", "/v1/pending"] {
        let Ok(answer) = get(context, place) else { return failure };
        names.extend(answer.as_array().into_iter().flatten().map(|host| text(&host["designation"])));
    }
    if names.contains(&host.to_ascii_lowercase()) {
        return failure;
    }
    failure.meant(host, names.iter().map(String::as_str))
}

fn done(text: &str) -> Result<Finding, Failure> {
    note!("{text}");
    Ok(Finding::Nothing)
}

/// Elements of an array behind each other.
pub fn words(array: &Value) -> String {
    array.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(" ")
}

fn pending(context: &Context) -> Result<Finding, Failure> {
    let hosts = get(context, "/v1/pending")?;
    let columns = ["designation", "key", "address", "first_seen", "last_seen", "machine", "note", "approved"];
    let mut rows =
        Rows::new(&["host", "key", "address", "since", "last_seen", "machine", "note", "approved"]);
    rows.rows = rows_of(&hosts, &columns);
    rows.print(context.format)?;
    let waits = hosts.as_array().into_iter().flatten().any(|host| host["approved"].is_null());
    Ok(if waits { Finding::Something } else { Finding::Nothing })
}

fn revoked(context: &Context) -> Result<Finding, Failure> {
    let mut rows = Rows::new(&["host", "key", "revoked", "reason", "tried"]);
    let keys = get(context, "/v1/revoked")?;
    rows.rows = rows_of(&keys, &["designation", "key", "revoked", "reason", "tried"]);
    rows.print(context.format)?;
    Ok(Finding::Nothing)
}

fn machines(context: &Context, name: &str) -> Result<Finding, Failure> {
    let hosts = get(context, "/v1/hosts")?;
    let wanted = name.to_ascii_lowercase();
    let found = hosts.as_array().into_iter().flatten().find(|host| text(&host["designation"]) == wanted);
    let Some(host) = found else {
        let failure =
            Failure::new(format!("there is no host {name}")).hint("`assimcli hosts` lists them all");
        return Err(with_nearest(context, name, failure));
    };
    let identity = &host["identity"];
    let mut rows = Rows::new(&["machine", "address", "started", "seen", "kept"]);
    for machine in identity["machines"].as_array().into_iter().flatten() {
        let is_kept = !identity["kept"].is_null() && identity["kept"] == machine["machine"];
        let mut row: Vec<Value> =
            ["machine", "address", "started", "seen"].map(|field| machine[field].clone()).into();
        row.push(json!(if is_kept { "yes" } else { "" }));
        rows.rows.push(row);
    }
    rows.print(context.format)?;
    Ok(if identity["is_clone"] == true { Finding::Something } else { Finding::Nothing })
}

fn rows_of(array: &Value, fields: &[&str]) -> Vec<Vec<Value>> {
    let row = |object: &Value| fields.iter().map(|field| object[*field].clone()).collect();
    array.as_array().into_iter().flatten().map(row).collect()
}
