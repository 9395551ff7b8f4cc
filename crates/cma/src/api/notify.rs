//! `POST /v1/notify/test`: one event straight through every channel, not stored, with what each receiver said.

use super::{Answer, Failure, Shared};
use crate::notify::{self, ChannelContext, Outcome};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use model::{Event, EventType, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use uuid::Uuid;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    #[serde(default = "warn")]
    event: String,
}

fn warn() -> String {
    EventType::Warn.as_str().to_owned()
}

/// One row for each receiver: channel, target, result (`ok`, `failed` or `skipped`), detail.
pub async fn test(site: Shared, body: Result<Json<Test>, JsonRejection>) -> Answer {
    let Json(test) = body?;
    let kind: EventType = test.event.parse().map_err(|error: String| {
        Failure::bad(error, "choose one of create, up, down, warn, unwarn, update and delete")
    })?;
    let config = site.knowledge.get().config.notify.clone();
    let context = Arc::new(ChannelContext::new(site.paths.clone(), config.clone(), site.hostname.clone()));
    let event = Arc::new(test_event(kind, &site.hostname));
    let mut rows = Vec::new();
    for channel in notify::CHANNELS.iter().filter(|channel| (channel.enabled)(&config)) {
        let attempt = (channel.deliver)(context.clone(), event.clone(), Vec::new()).await;
        for answer in &attempt.answers {
            let result = if answer.ok { "ok" } else { "failed" };
            rows.push(json!({"channel": channel.name, "target": answer.receiver, "result": result, "detail": answer.text}));
        }
        if let Outcome::Skipped(reason) = &attempt.outcome {
            rows.push(json!({"channel": channel.name, "target": "", "result": "skipped", "detail": reason}));
        }
    }
    Ok(Json(Value::Array(rows)))
}

fn test_event(kind: EventType, hostname: &str) -> Event {
    let map = |value: Value| match value {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    Event {
        eventid: Uuid::now_v7().to_string(),
        time: Timestamp::now(),
        eventtype: kind,
        associatedobject: map(
            json!({"nodetype": "Drone", "designation": hostname, "status": "up", "reason": "test", "domain": "global"}),
        ),
        extrainfo: map(json!({"test": true, "text": "this is a test of the alert channels"})),
    }
}
