//! `keys`: the CMA's keys and who trusts them; `keys hosts`, `keys rotate`, `keys spare`. docs/keys.md has the whole story.

mod rotate;

use crate::client::{get, get_within, post};
use crate::{Context, Failure, Finding};
use model::Timestamp;
use output::{Format, Rows, note, text};
use serde_json::{Value, json};
use std::time::Duration;
use wire::keys::{KeyDirectory, KeyError, KeyId, Standing};

const SECONDS_A_DAY: u64 = 86_400;

#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Which keys of the CMA each host trusts
    Hosts {
        /// Only hosts that do not trust key number N
        #[arg(long, value_name = "N")]
        lacking: Option<u32>,
    },
    /// Retire the key in use and bring its successor into use; to be run again when it was interrupted
    Rotate {
        /// Also when hosts would be lost, or no CMA runs that could tell
        #[arg(long)]
        force: bool,
    },
    /// Make a further spare key and hand it to all hosts
    Spare,
}

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    match &options.command {
        None => list(context),
        Some(Command::Hosts { lacking }) => hosts(context, *lacking),
        Some(Command::Rotate { force }) => rotate::run(context, *force),
        Some(Command::Spare) => spare(context),
    }
}

/// The keys as the CMA has them, or as the files say where none runs.
fn list(context: &Context) -> Result<Finding, Failure> {
    let told = get_within(context, "/v1/keys", Duration::from_secs(20));
    let files = KeyDirectory::open(context.paths.crypto()).and_then(|directory| {
        let standing = directory.cma_standing()?;
        Ok((directory, standing))
    });
    let (keys, total) = match (&told, &files) {
        (Ok(told), _) => {
            (told["keys"].as_array().cloned().unwrap_or_default(), Some(told["total_hosts"].clone()))
        }
        (Err(_), Ok((directory, standing))) => (from_files(directory, standing), None),
        (Err(failure), Err(error)) => {
            return Err(Failure::new(error.to_string()).hint(failure.message.clone()));
        }
    };
    let mut rows = Rows::new(&["key", "state", "secret", "made", "days", "hosts", "fingerprint"]);
    for key in &keys {
        let number = key["number"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
        let since = if key["in_use_since"].is_null() { &key["made"] } else { &key["in_use_since"] };
        rows.rows.push(vec![
            json!(name(number)),
            key["state"].clone(),
            json!(if key["secret_here"] == true {
                "here"
            } else if key["state"] == "retired" {
                "gone"
            } else {
                "off-line"
            }),
            key["made"].clone(),
            json!(days_since(since)),
            key["hosts"].clone(),
            key["fingerprint"].clone(),
        ]);
    }
    rows.print(context.format)?;
    if let Some(total) = total {
        note!("`hosts` counts those of the {} known that trust the key.", text(&total));
    } else if let Err(failure) = &told {
        note!("Only the files were asked, so how many hosts trust a key is not known: {}", failure.message);
    }
    let Ok((_, standing)) = &files else { return Ok(Finding::Nothing) };
    let mut finding = Finding::Nothing;
    if let Some(rotation) = standing.rotation {
        note!(
            "The rotation from {} to {} was interrupted: `assimcli keys rotate` completes it.",
            name(rotation.from),
            name(rotation.to)
        );
        finding = Finding::Something;
    }
    if standing.in_use().is_some() && standing.successor().is_none() {
        note!("There is no spare key: `assimcli keys spare` makes one.");
        finding = Finding::Something;
    }
    Ok(finding)
}

fn from_files(directory: &KeyDirectory, standing: &Standing) -> Vec<Value> {
    let row = |number: u32, fingerprint: String, state: &str| {
        let made = directory.made_at(number).and_then(|s| s.checked_mul(1_000_000)).map(Timestamp);
        json!({
            "number": number, "fingerprint": fingerprint, "state": state, "made": made,
            "secret_here": standing.secrets.contains(&number),
        })
    };
    let state = |number: u32| match standing.in_use() {
        Some(in_use) if number < in_use => "retired",
        Some(in_use) if number == in_use => "in use",
        // A host with a nanoprobe only: the first key is the one that it takes the CMA's to be.
        _ => "trusted",
    };
    let spare = |number: u32| {
        if standing.in_use().is_some_and(|used| number > used) { "spare" } else { state(number) }
    };
    let mut rows: Vec<Value> =
        standing.retired.iter().map(|(number, key)| row(*number, key.fingerprint(), "retired")).collect();
    rows.extend(standing.publics.iter().map(|(number, key)| row(*number, key.fingerprint(), spare(*number))));
    rows.sort_by_key(|row| row["number"].as_u64());
    rows
}

/// A host as the CMA tells of it.
struct HostKeys {
    name: String,
    row: Value,
    /// `None`: its nanoprobe cannot tell.
    trusts: Option<Vec<(u64, String)>>,
}

impl HostKeys {
    fn all(context: &Context) -> Result<Vec<Self>, Failure> {
        let answer = get(context, "/v1/keys/hosts")?;
        let hosts = answer.as_array().into_iter().flatten().map(|row| Self {
            name: text(&row["host"]),
            trusts: row["trusts"].as_array().map(|keys| {
                keys.iter()
                    .filter_map(|key| Some((key["number"].as_u64()?, text(&key["fingerprint"]))))
                    .collect()
            }),
            row: row.clone(),
        });
        Ok(hosts.collect())
    }

    fn trusts(&self, number: u32, fingerprint: &str) -> bool {
        self.trusts.as_ref().is_some_and(|keys| {
            keys.iter().any(|(known, print)| *known == u64::from(number) && print == fingerprint)
        })
    }

    fn days_unseen(&self) -> Option<u64> {
        days_since(&self.row["last_seen"])
    }
}

fn hosts(context: &Context, lacking: Option<u32>) -> Result<Finding, Failure> {
    let keys = get(context, "/v1/keys")?;
    let keys: Vec<Value> = keys["keys"].as_array().cloned().unwrap_or_default();
    let fingerprint = |number: u32| {
        let key = keys.iter().find(|key| key["number"] == number);
        key.map(|key| text(&key["fingerprint"]))
    };
    let wanted = lacking.map(|number| {
        fingerprint(number).map(|print| (number, print)).ok_or_else(|| {
            Failure::new(format!("there is no key {}", name(number))).hint("`assimcli keys` lists them.")
        })
    });
    let wanted = wanted.transpose()?;
    let mut rows = Rows::new(&["host", "status", "last_seen", "days_unseen", "trusts", "keys"]);
    let mut finding = Finding::Nothing;
    for host in HostKeys::all(context)? {
        if wanted.as_ref().is_some_and(|(number, print)| host.trusts(*number, print)) {
            continue;
        }
        let state = state(&host, &keys);
        if state != "ok" {
            finding = Finding::Something;
        }
        let trusts =
            host.trusts.as_ref().map(|keys| keys.iter().map(|(n, _)| n.to_string()).collect::<Vec<_>>());
        rows.rows.push(vec![
            json!(host.name),
            host.row["status"].clone(),
            host.row["last_seen"].clone(),
            json!(host.days_unseen()),
            if matches!(context.format, Format::Json | Format::Jsonl) {
                json!(trusts)
            } else {
                json!(trusts.map(|t| t.join(" ")))
            },
            json!(state),
        ]);
    }
    rows.print(context.format)?;
    Ok(finding)
}

/// `ok`, or what is not as it should be.
fn state(host: &HostKeys, keys: &[Value]) -> String {
    let Some(trusts) = &host.trusts else { return "cannot tell: an older nanoprobe".into() };
    if host.row["as_it_should_be"] == true {
        return "ok".into();
    }
    let is_wanted = |key: &&Value| key["state"] != "retired";
    let known = |key: &Value| (key["number"].as_u64().unwrap_or(u64::MAX), text(&key["fingerprint"]));
    let lacks = keys.iter().filter(is_wanted).map(known).filter(|key| !trusts.contains(key));
    let mut parts: Vec<String> = lacks.map(|(number, _)| format!("lacks {number}")).collect();
    for trusted in trusts {
        match keys.iter().find(|key| known(key) == *trusted) {
            Some(key) if key["state"] == "retired" => parts.push(format!("trusts retired {}", trusted.0)),
            Some(_) => {}
            None => parts.push(format!("trusts unknown {} ({})", trusted.0, trusted.1)),
        }
    }
    parts.join(", ")
}

fn spare(context: &Context) -> Result<Finding, Failure> {
    let place = context.paths.crypto();
    let directory = KeyDirectory::open(&place).map_err(failure)?;
    let standing = directory.cma_standing().map_err(failure)?;
    if standing.rotation.is_some() {
        return Err(
            Failure::new("a rotation is under way").hint("Complete it with `assimcli keys rotate` first.")
        );
    }
    if standing.in_use().is_none() {
        return Err(failure(KeyError::NoCmaSecret { path: place }));
    }
    let made = directory.generate_cma().map_err(failure)?;
    super::genkeys::give_to_cma_user(&place)?;
    let mut rows = Rows::new(&["file"]);
    for id in &made {
        rows.rows.push(vec![json!(place.join(id.public_file()).display().to_string())]);
        rows.rows.push(vec![json!(place.join(id.secret_file()).display().to_string())]);
    }
    rows.print(context.format)?;
    match post(context, "/v1/keys/reload", &json!({})) {
        Ok(_) => note!("The CMA hands the public key to all hosts; `assimcli keys hosts` shows who has it."),
        Err(failure) => {
            note!("The CMA hands the public key to all hosts once it is told: {}", failure.message);
            if !failure.hint.is_empty() {
                note!("  {}", failure.hint);
            }
        }
    }
    for id in &made {
        take_off_line(context, id);
    }
    Ok(Finding::Nothing)
}

fn take_off_line(context: &Context, id: &KeyId) {
    note!("Move this secret off-line now, to a medium in a drawer, and delete it here:");
    note!("  {}", context.paths.crypto().join(id.secret_file()).display());
}

fn failure(error: KeyError) -> Failure {
    Failure::new(error.to_string())
}

/// `#CMA#00001`
fn name(number: u32) -> String {
    KeyId::cma(number).map_or_else(|| number.to_string(), |id| id.to_string())
}

fn days_since(time: &Value) -> Option<u64> {
    let time = time.as_str().and_then(Timestamp::parse)?;
    Some(Timestamp::now().since(time).as_secs() / SECONDS_A_DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_is_named() {
        let keys = [
            json!({"number": 0, "fingerprint": "a", "state": "retired"}),
            json!({"number": 1, "fingerprint": "b", "state": "in use"}),
            json!({"number": 2, "fingerprint": "c", "state": "spare"}),
        ];
        let host = |trusts: Option<&[(u64, &str)]>| HostKeys {
            name: "web1".into(),
            row: json!({"as_it_should_be": false}),
            trusts: trusts.map(|keys| keys.iter().map(|(n, print)| (*n, (*print).to_owned())).collect()),
        };
        assert_eq!(state(&host(Some(&[(0, "a"), (1, "b")])), &keys), "lacks 2, trusts retired 0");
        assert_eq!(state(&host(Some(&[(1, "b"), (2, "x")])), &keys), "lacks 2, trusts unknown 2 (x)");
        assert!(state(&host(None), &keys).contains("older nanoprobe"));
        assert!(host(Some(&[(2, "c")])).trusts(2, "c") && !host(Some(&[(2, "x")])).trusts(2, "c"));
    }
}
