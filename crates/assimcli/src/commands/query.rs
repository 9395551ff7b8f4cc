//! `query`: canned questions. `query list` shows them.

use crate::client::{encoded, get, post};
use crate::{Context, Failure, Finding};
use output::{Format, Rows, note, print};
use serde_json::{Map, Value, json};

#[derive(clap::Args)]
pub struct Options {
    /// Name of the query; `list` shows all
    name: String,
    /// `parameter=value`; a query with one parameter takes a bare value
    parameters: Vec<String>,
}

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    let known = get(context, "/v1/queries")?;
    if options.name == "list" {
        list(context, &known)?;
        return Ok(Finding::Nothing);
    }
    let names = known.as_array().into_iter().flatten().filter_map(|q| q["name"].as_str());
    let Some(query) = known.as_array().into_iter().flatten().find(|q| q["name"] == options.name.as_str())
    else {
        return Err(Failure::new(format!("there is no query {:?}", options.name))
            .hint("`assimcli query list` shows all.")
            .meant(&options.name, names));
    };
    let parameters = parameters(query, &options.parameters)?;
    let answer = post(
        context,
        &format!("/v1/query/{}", encoded(&options.name)),
        &json!({ "parameters": parameters }),
    )?;
    // What is an object to begin with has no better line than itself.
    let format = match (answer["object"] == true, context.format) {
        (true, Format::Table | Format::Script) => Format::Jsonl,
        (_, format) => format,
    };
    if answer["truncated"] == true && answer["object"] == true {
        note!("there is more than one answer holds; ask for fewer hosts or types");
    }
    Rows::from_answer(&answer).print(format)?;
    Ok(Finding::Nothing)
}

fn list(context: &Context, known: &Value) -> Result<(), Failure> {
    let mut rows = Rows::new(&["name", "parameters", "question"]);
    for query in known.as_array().into_iter().flatten() {
        let parameters: Vec<String> = declared(query).map(|(name, kind)| format!("{name}:{kind}")).collect();
        rows.rows.push(vec![query["name"].clone(), json!(parameters.join(" ")), query["question"].clone()]);
    }
    if context.format == Format::Script {
        // As the original's script form: names only.
        return Ok(print(&rows.rows.iter().map(|row| output::text(&row[0]) + "\n").collect::<String>())?);
    }
    Ok(rows.print(context.format)?)
}

fn declared(query: &Value) -> impl Iterator<Item = (&str, &str)> {
    let all = query["parameters"].as_array().into_iter().flatten();
    all.map(|p| (p["name"].as_str().unwrap_or(""), p["type"].as_str().unwrap_or("")))
}

/// `name=value` words, or one bare value for the only parameter. Types are the CMA's business.
fn parameters(query: &Value, words: &[String]) -> Result<Map<String, Value>, Failure> {
    let names: Vec<&str> = declared(query).map(|(name, _)| name).collect();
    let all = query["parameters"].as_array().into_iter().flatten();
    let needed: Vec<&str> = all
        .filter(|parameter| parameter.get("default").is_none())
        .filter_map(|parameter| parameter["name"].as_str())
        .collect();
    let sole = match (names.as_slice(), needed.as_slice()) {
        ([name], _) | (_, [name]) => Some(*name),
        _ => None,
    };
    let usage = || {
        format!(
            "usage: assimcli query {} {}",
            query["name"].as_str().unwrap_or(""),
            names.iter().map(|n| format!("{n}=VALUE")).collect::<Vec<_>>().join(" ")
        )
    };
    let mut given = Map::new();
    for word in words {
        match word.split_once('=') {
            Some((name, value)) if names.contains(&name) => {
                given.insert(name.to_owned(), json!(value));
            }
            // A misspelt parameter would be asked for as a value, and nothing found.
            Some((name, _)) if is_name(name) => {
                return Err(Failure::new(format!("this query has no parameter {name}")).hint(usage()));
            }
            _ => match sole.filter(|_| words.len() == 1) {
                Some(name) => drop(given.insert(name.to_owned(), json!(word))),
                None => {
                    return Err(Failure::new(format!("{word:?} is no parameter of this query")).hint(usage()));
                }
            },
        }
    }
    match needed.iter().find(|name| !given.contains_key(**name)) {
        Some(missing) => Err(Failure::new(format!("the parameter {missing} is missing")).hint(usage())),
        None => Ok(given),
    }
}

/// Parameters are called so; values that are not are taken as they stand.
fn is_name(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_values_and_wrong_names() {
        let query = json!({"name": "findip", "parameters": [{"name": "ipaddr", "type": "ipaddr"}]});
        assert_eq!(parameters(&query, &["10.0.0.1".into()]).unwrap()["ipaddr"], "10.0.0.1");
        assert_eq!(parameters(&query, &["ipaddr=::1".into()]).unwrap()["ipaddr"], "::1");
        assert!(parameters(&query, &[]).unwrap_err().message.contains("ipaddr"));
        assert!(parameters(&query, &["a=1".into(), "b=2".into()]).is_err());
        let wrong = parameters(&query, &["adress=10.0.0.1".into()]).unwrap_err();
        assert!(
            wrong.message.contains("no parameter adress") && wrong.hint.contains("ipaddr=VALUE"),
            "{wrong:?}"
        );
        assert_eq!(
            parameters(&query, &["lib.*=1".into()]).unwrap()["ipaddr"],
            "lib.*=1",
            "the CMA's business"
        );
        let query = json!({"name": "q", "parameters": [{"name": "a", "type": "list"}, {"name": "b", "type": "list", "default": []}]});
        assert_eq!(
            parameters(&query, &["a=1".into()]).unwrap(),
            json!({"a": "1"}).as_object().unwrap().clone()
        );
        assert_eq!(parameters(&query, &["1".into()]).unwrap()["a"], "1");
        assert!(parameters(&query, &["b=1".into()]).unwrap_err().message.contains("parameter a"));
    }
}
