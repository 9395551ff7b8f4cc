//! `GET /v1/status`: what runs here, and what is wrong with it.

use super::{Answer, Shared, Site};
use axum::Json;
use model::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

/// Deliveries given up are shown for so long.
const FAILURES_SHOWN: Duration = Duration::from_secs(7 * 86_400);

/// A clock that differs by more is worth looking at; how many are named.
const CLOCK_OFF_SECONDS: u64 = 30;
const CLOCKS_SHOWN: usize = 50;

pub async fn status(site: Shared) -> Answer {
    let since = Timestamp(
        Timestamp::now().0.saturating_sub(i64::try_from(FAILURES_SHOWN.as_micros()).unwrap_or(i64::MAX)),
    );
    let knowledge = site.knowledge.get();
    let enrolment = knowledge.config.enrolment.clone();
    let read = site
        .readers
        .read(move |reader| {
            let (days, most) = (enrolment.forget_pending_days, enrolment.max_pending);
            let wrong = super::enrolment::problems(reader, days, most, Timestamp::now())?;
            Ok((reader.health()?, reader.failed_deliveries(since)?, reader.hosts()?.len(), wrong))
        })
        .await;
    let mut problems = site.health.problems();
    problems.extend(knowledge.problems());
    let (outbox, bytes, failed, hosts) = match read {
        Ok(((outbox, bytes), failed, hosts, wrong)) => {
            problems.extend(wrong);
            (Some(outbox), Some(bytes), failed, Some(hosts))
        }
        Err(error) => {
            problems.push(format!("the database cannot be read: {error}"));
            (None, None, vec![], None)
        }
    };
    let failed: Vec<_> = failed
        .into_iter()
        .map(|(event, channel, reason)| {
            json!({"eventid": event.eventid, "time": event.time, "eventtype": event.eventtype,
                "designation": event.designation(), "channel": channel, "reason": reason})
        })
        .collect();
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "bind": site.bind.to_string(),
        "web": site.web.map(|address| address.to_string()),
        "started": site.started,
        "restored": site.restored,
        "database": site.database.display().to_string(),
        "database_bytes": bytes,
        "outbox": outbox,
        "failed_deliveries": failed,
        "hosts": hosts,
        "connected": site.hosts.count(),
        "clocks": clocks(&site),
        "problems": problems,
        "notes": site.health.notes(),
    })))
}

/// Clocks of hosts that are off, in seconds ahead of ours.
fn clocks(site: &Site) -> Value {
    let clocks = site.hosts.clocks(CLOCK_OFF_SECONDS, CLOCKS_SHOWN);
    let named =
        |(host, seconds): &(model::Designation, i64)| json!({"designation": host, "seconds": seconds});
    json!({"hosts": clocks.hosts, "ahead": clocks.ahead, "behind": clocks.behind,
        "off": clocks.off.iter().map(named).collect::<Vec<_>>()})
}
