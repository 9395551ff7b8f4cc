//! `GET /v1/results`: rule results with titles and fixes; `GET /v1/rules` and `POST /v1/rules/reload`.

use super::{Answer, Failure, Shared, designation, limits, objects};
use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long reading everything again may take.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultsQuery {
    host: Option<String>,
    status: Option<String>,
    rule: Option<String>,
}

/// Current results, the most points first.
pub async fn results(site: Shared, query: Result<Query<ResultsQuery>, QueryRejection>) -> Answer {
    let Query(query) = query?;
    let mut conditions = vec!["1 = 1".to_owned()];
    let mut parameters = Vec::new();
    if let Some(host) = &query.host {
        conditions.push("host = :host".to_owned());
        parameters.push(("host".to_owned(), json!(designation(host)?.as_str())));
    }
    if let Some(status) = &query.status {
        let status: rules::Status = status
            .parse()
            .map_err(|error: String| Failure::bad(error, "choose one of pass, fail, ignore and NA"))?;
        conditions.push("status = :status".to_owned());
        parameters.push(("status".to_owned(), json!(status.as_str())));
    }
    if let Some(rule) = &query.rule {
        // Any of its ids will do: former ones and those of the benchmarks.
        let knowledge = site.knowledge.get();
        let mut ids: Vec<String> = knowledge.sets.find(rule).iter().map(|rule| rule.id.clone()).collect();
        ids.push(rule.clone());
        let names: Vec<String> = (0..ids.len()).map(|number| format!(":rule{number}")).collect();
        conditions.push(format!("rule_id IN ({})", names.join(", ")));
        parameters
            .extend(ids.into_iter().enumerate().map(|(number, id)| (format!("rule{number}"), json!(id))));
    }
    let statement = format!(
        "SELECT host, domain, instance, discovertype, rule_id, category, severity, status, score, used_values, note, since \
         FROM rule_results WHERE {} ORDER BY score DESC, severity = 'high' DESC, severity = 'medium' DESC, rule_id, host",
        conditions.join(" AND ")
    );
    let table = site.readers.read(move |reader| reader.sql(&statement, &parameters, limits())).await?;
    let knowledge = site.knowledge.get();
    let rows = objects(table).into_iter().map(|mut row| {
        let values = match row.remove("used_values") {
            Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            other => other.unwrap_or(Value::Null),
        };
        row.insert("values".into(), values);
        let domain = row.get("domain").and_then(Value::as_str).unwrap_or("");
        let host =
            row.get("host").and_then(Value::as_str).and_then(|name| model::Designation::new(name).ok());
        let id = row.get("rule_id").and_then(Value::as_str);
        let rule = host.zip(id).and_then(|(host, id)| knowledge.rule(&host, domain, id));
        let texts =
            rule.map(|rule| [&rule.title, &rule.why, &rule.check, &rule.fix_now, &rule.fix_permanently]);
        for (i, name) in ["title", "why", "check", "fix_now", "fix_permanently"].into_iter().enumerate() {
            row.insert(name.into(), texts.map_or(Value::from(""), |texts| Value::from(texts[i].as_str())));
        }
        Value::Object(row)
    });
    Ok(Json(rows.collect()))
}

/// The loaded rule sets and what is wrong with them.
pub async fn rules(site: Shared) -> Answer {
    let knowledge = site.knowledge.get();
    let sets: Vec<Value> = knowledge
        .sets
        .iter()
        .map(|set| {
            let rules: Vec<Value> = set.rules().map(|rule| shown(rule)).collect();
            json!({"name": set.name(), "description": set.description(), "chain": set.chain(), "rules": rules})
        })
        .collect();
    Ok(Json(json!({
        "sets": sets,
        "by_domain": knowledge.config.rules.by_domain,
        "by_group": knowledge.config.rules.by_group,
        "problems": knowledge.problems(),
    })))
}

fn shown(rule: &rules::Rule) -> Value {
    let mut map = Map::new();
    let texts = [
        ("id", &rule.id),
        ("title", &rule.title),
        ("category", &rule.category),
        ("discovery", &rule.discovery),
        ("expression", &rule.expression.text),
        ("set", &rule.set),
        ("source", &rule.source),
    ];
    for (name, text) in texts {
        map.insert(name.into(), Value::from(text.as_str()));
    }
    map.insert("severity".into(), Value::from(rule.severity.as_str()));
    map.insert("ignored".into(), Value::from(rule.is_ignored()));
    Value::Object(map)
}

/// Reads configuration and rules again and tells what changed.
pub async fn reload(site: Shared) -> Answer {
    let (answer, outcome) = oneshot::channel();
    let late =
        || Failure::new(StatusCode::SERVICE_UNAVAILABLE, "the CMA did not come to it in time", "try again");
    site.reload.send(answer).await.map_err(|_| late())?;
    match tokio::time::timeout(RELOAD_TIMEOUT, outcome).await {
        Ok(Ok(Ok(changes))) => Ok(Json(changes)),
        Ok(Ok(Err(reason))) => {
            Err(Failure::bad(reason, "correct the file; until then the old settings and rules stay in force"))
        }
        _ => Err(late()),
    }
}
