//! `hosts`: hosts with state; what administrators decide about who may be one is in `decide`.

pub mod decide;

use super::groups::Choice;
use crate::client::get;
use crate::{Context, Failure, Finding};
use output::{Format, Rows, note, text};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(flatten)]
    choice: Choice,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
pub enum Command {
    /// Hosts that wait for approval, with the fingerprints of their keys
    Pending,
    /// Let a host in that waits; compare its key with what `nanoprobe --key` says there
    Approve {
        host: String,
        /// The key, or how its fingerprint begins; needed when several wait under this name
        #[arg(long, value_name = "FINGERPRINT")]
        key: Option<String>,
    },
    /// Refuse the key of a host that waits, for ever
    Reject {
        host: String,
        /// The key, or how its fingerprint begins; needed when several wait under this name
        #[arg(long, value_name = "FINGERPRINT")]
        key: Option<String>,
    },
    /// Accept the new key of a host that was re-installed
    AcceptKey {
        host: String,
        /// Only if it is this key, or its fingerprint begins so
        #[arg(long, value_name = "FINGERPRINT")]
        key: Option<String>,
    },
    /// Forget another key that wanted to be this host, for instance after a clash of names was solved
    Dismiss { host: String },
    /// The machines that were seen with the key of a host
    Machines { host: String },
    /// Of two machines with one key, let only this one be the host
    #[command(group = clap::ArgGroup::new("which").required(true).args(["machine", "any"]))]
    Keep {
        host: String,
        /// As `hosts machines` and the event name it
        #[arg(long, value_name = "MACHINE")]
        machine: Option<String>,
        /// Any machine may use the key again
        #[arg(long)]
        any: bool,
    },
    /// Refuse the key of a host for ever
    Revoke {
        host: String,
        /// Why, for those who read it later
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Take a revocation or rejection back
    Unrevoke {
        host: String,
        /// The key, or how its fingerprint begins; needed when several of this host were revoked
        #[arg(long, value_name = "FINGERPRINT")]
        key: Option<String>,
    },
    /// Keys that are refused for ever
    Revoked,
    /// Give a host tags, or take them from it
    Tag {
        /// The host
        host: String,
        /// Whether it gets the tags or loses them
        change: TagChange,
        /// 1 to 64 letters, digits and . _ : = - each
        #[arg(required = true, value_name = "TAG")]
        tags: Vec<String>,
    },
    /// Forget a host that is gone for good; its history stays
    Remove { host: String },
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum TagChange {
    Add,
    Remove,
}

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    match &options.command {
        None => list(context, &options.choice),
        Some(command) => decide::run(context, command),
    }
}

fn list(context: &Context, choice: &Choice) -> Result<Finding, Failure> {
    let chosen = choice.hosts(context)?;
    let hosts = get(context, "/v1/hosts")?;
    let waiting = get(context, "/v1/pending")?;
    let list = List::of(&hosts, &waiting, chosen.as_ref(), context.format);
    for text in &list.notes {
        note!("assimcli: {text}");
    }
    list.rows.print_fitting(context.format, &LESS_NEEDED)?;
    Ok(list.finding)
}

/// What is shown of the hosts.
struct List {
    rows: Rows,
    /// What to do about some of them.
    notes: Vec<String>,
    finding: Finding,
}

/// Columns that a narrow terminal does without, the first of them first.
const LESS_NEEDED: [&str; 6] = ["domain", "last_seen", "scores", "tags", "reason", "address"];

impl List {
    /// `chosen`: the names of the only hosts that are of interest.
    fn of(hosts: &Value, waiting: &Value, chosen: Option<&BTreeSet<String>>, format: Format) -> Self {
        let is_chosen = |host: &&Value| {
            let name = host["designation"].as_str();
            chosen.is_none_or(|chosen| name.is_some_and(|name| chosen.contains(name)))
        };
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
            "tags",
        ]);
        let mut notes = Vec::new();
        let mut finding = Finding::Nothing;
        for host in hosts.as_array().into_iter().flatten().filter(is_chosen) {
            let (key, advice) = key_state(host);
            if key != "ok" || host["status"] != "up" {
                finding = Finding::Something;
            }
            let mut row: Vec<Value> =
                ["designation", "domain", "status", "reason", "status_since", "last_seen", "address"]
                    .map(|f| host[f].clone())
                    .into();
            let machine = matches!(format, Format::Json | Format::Jsonl);
            let scores = if machine { host["scores"].clone() } else { json!(scores(&host["scores"])) };
            let tags = if machine { host["tags"].clone() } else { json!(decide::words(&host["tags"])) };
            row.extend([scores, json!(key), tags]);
            rows.rows.push(row);
            notes.extend(advice);
        }
        let waiting = waiting.as_array().into_iter().flatten().filter(is_chosen);
        let waiting = waiting.filter(|host| host["approved"].is_null()).count();
        if waiting > 0 {
            finding = Finding::Something;
            notes.push(format!("waiting for approval: {waiting}; `assimcli hosts pending` shows them"));
        }
        Self { rows, notes, finding }
    }
}

/// What is to be said of a host's key, and what to do about it.
fn key_state(host: &Value) -> (&'static str, Option<String>) {
    let name = text(&host["designation"]);
    let identity = &host["identity"];
    if !host["revoked"].is_null() {
        return ("REVOKED", None);
    }
    if identity["is_clone"] == true {
        let advice = format!(
            "there are two machines with the key of {name}: `assimcli hosts machines {name}` shows them, `assimcli hosts keep {name} \
             --machine ...` refuses the other"
        );
        return ("CLONE", Some(advice));
    }
    if host["rejected_key"].is_null() {
        return ("ok", None);
    }
    let (state, what) = if identity["is_reinstalled"] == true {
        ("RE-INSTALLED", "offers another key from the same hardware, as after a re-installation: if so,")
    } else {
        ("MISMATCH", "is wanted by another key: if it was re-installed,")
    };
    let advice = format!(
        "{name} {what} `assimcli hosts accept-key {name}`; if that is over, `assimcli hosts dismiss {name}`"
    );
    (state, Some(advice))
}

/// `security=12 networking=0`
fn scores(by_category: &Value) -> String {
    let all = by_category.as_object().into_iter().flatten();
    all.map(|(category, score)| format!("{category}={}", text(score))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_that_are_shown_are_told_of() {
        let host = |name: &str, clone: bool| json!({"designation": name, "status": "up", "identity": {"is_clone": clone}});
        let hosts = json!([host("db1", true), host("web1", false), host("web2", true)]);
        let waiting =
            json!([{"designation": "mail1"}, {"designation": "web3", "approved": "2026-11-23T00:00:00Z"}]);
        let list = |names: Option<&[&str]>| {
            let chosen: Option<BTreeSet<String>> =
                names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            List::of(&hosts, &waiting, chosen.as_ref(), Format::Table)
        };
        let all = list(None);
        assert_eq!((all.rows.rows.len(), all.notes.len()), (3, 3), "{:?}", all.notes);
        assert!(all.notes[2].contains("waiting for approval: 1;"), "{:?}", all.notes);
        let web = list(Some(&["web1", "web2"]));
        assert_eq!((web.rows.rows.len(), web.notes.len()), (2, 1), "{:?}", web.notes);
        assert!(web.notes[0].contains("machines web2") && matches!(web.finding, Finding::Something));
        let good = list(Some(&["web1"]));
        assert!(good.notes.is_empty() && matches!(good.finding, Finding::Nothing), "{:?}", good.notes);
        assert_eq!(list(Some(&["mail1"])).notes.len(), 1, "the same name");
    }
}
