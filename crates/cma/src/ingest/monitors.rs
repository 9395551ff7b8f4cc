//! What changed between two documents about the same monitor, as events about a MonitorAction.
//!
//! | from | to | events |
//! |---|---|---|
//! | nothing | up, unmonitored | none: what works when it is first seen is no news |
//! | nothing, up, warn, flapping | down | down |
//! | nothing, up | warn, flapping | warn |
//! | down | up | up |
//! | warn | up | unwarn |
//! | flapping | up | unwarn, up: the last that was told before it flapped may have been down |
//! | down, flapping | warn | up, warn |
//! | down, warn | flapping | warn; between warn and flapping the reason is another |
//! | down, warn, flapping | unmonitored, gone | delete: nobody looks after it any more, and its alert is over |
//!
//! Up and down each end what was said before about the same monitor. The same state with other words is no event. When a
//! host dies its monitors stay as they are and nothing is said about them; when it is back they report what differs.

use super::Context;
use super::document::Incoming;
use model::envelope::Envelope;
use model::text::{printable, shortened};
use model::{Event, EventType};
use serde_json::{Map, Value, json};
use store::{DocumentRow, HostRow, Result, Transaction};

/// Discovery type of the documents.
const TYPE: &str = "monitor";
/// Of any text from a document that goes into an event.
const MAX_TEXT_BYTES: usize = 4096;
/// Addresses that an event lists.
const MAX_ADDRESSES: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Warn,
    Down,
    Flapping,
    Unmonitored,
}

impl State {
    fn of(envelope: &Envelope) -> Option<State> {
        Some(match envelope.data.get("state")?.as_str()? {
            "up" => Self::Up,
            "warn" => Self::Warn,
            "down" => Self::Down,
            "flapping" => Self::Flapping,
            "unmonitored" => Self::Unmonitored,
            _ => return None,
        })
    }
}

/// Tells what changed since the document `old`. To be called for a document of any type.
pub fn changed(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    incoming: &Incoming,
    old: Option<&DocumentRow>,
    envelope: &Envelope,
) -> Result<()> {
    if envelope.discovertype != TYPE || !is_own(host, envelope) {
        return Ok(());
    }
    let Some(state) = State::of(envelope) else {
        context.warn(format!("{}: {} tells no state that is known", host.designation, incoming.instance));
        return Ok(());
    };
    let before = match old {
        Some(old) => stored(tx, old)?.as_ref().and_then(State::of),
        None => None,
    };
    for kind in events(before, state) {
        tell(tx, context, host, envelope, *kind)?;
    }
    Ok(())
}

/// The document `old` is removed: its monitor is no more.
pub fn is_gone(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    old: &DocumentRow,
) -> Result<()> {
    if old.discovertype != TYPE {
        return Ok(());
    }
    let Some(mut envelope) = stored(tx, old)?.filter(|envelope| is_own(host, envelope)) else {
        return Ok(());
    };
    if !events(State::of(&envelope), State::Unmonitored).contains(&EventType::Delete) {
        return Ok(());
    }
    if let Some(data) = envelope.data.as_object_mut() {
        data.insert("state".into(), "gone".into());
        data.insert("reason".into(), "is no longer there to be looked after".into());
        data.insert("active".into(), false.into());
        for field in ["output", "perfdata", "rc", "signal"] {
            data.remove(field);
        }
    }
    tell(tx, context, host, &envelope, EventType::Delete)
}

fn events(before: Option<State>, now: State) -> &'static [EventType] {
    use EventType::{Delete, Down, Unwarn, Up, Warn};
    use State::{Down as D, Flapping as F, Unmonitored as N, Up as U, Warn as W};
    match (before, now) {
        (Some(before), now) if before == now => &[],
        (_, D) => &[Down],
        (Some(D), U) => &[Up],
        (Some(W), U) => &[Unwarn],
        (Some(F), U) => &[Unwarn, Up],
        (Some(D | F), W) => &[Up, Warn],
        (_, W | F) => &[Warn],
        (Some(D | W | F), N) => &[Delete],
        (None | Some(U | N), U | N) => &[],
    }
}

/// Nobody speaks of the monitors of others.
fn is_own(host: &HostRow, envelope: &Envelope) -> bool {
    let name = envelope.data.get("monitorname").and_then(Value::as_str).unwrap_or_default();
    name.strip_prefix(host.designation.as_str()).is_some_and(|rest| rest.starts_with(':'))
}

fn stored(tx: &mut dyn Transaction, row: &DocumentRow) -> Result<Option<Envelope>> {
    let text = tx.body(&row.hash)?;
    Ok(text
        .and_then(|text| serde_json::from_str::<Envelope>(&text).ok())
        .filter(|old| old.discovertype == TYPE))
}

fn tell(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    envelope: &Envelope,
    kind: EventType,
) -> Result<()> {
    let text = |name: &str| {
        let text = envelope.data.get(name).and_then(Value::as_str).unwrap_or_default();
        shortened(text, MAX_TEXT_BYTES).into_owned()
    };
    let (name, reason) = (text("monitorname"), text("reason"));
    let comment = format!("Service {name} {reason}");
    let line = shortened(&printable(&comment), 500).into_owned();
    match kind {
        EventType::Down | EventType::Warn => context.warn(line),
        _ => context.inform(line),
    }
    let state = text("state");
    let is_active = envelope.data.get("active").and_then(Value::as_bool).unwrap_or(false);
    let object = json!({
        "nodetype": "MonitorAction",
        "designation": host.designation.as_str(),
        "domain": host.domain,
        "status": state,
        "reason": reason,
        "monitorname": name,
        "class": text("class"),
        "type": text("agent"),
        "isworking": kind != EventType::Down && state != "down",
        "isactive": is_active,
        "address": host.address,
    });
    let mut extrainfo = json!({
        "comment": comment,
        "origaddr": host.address,
        "resourcename": name,
        "monmsg": text("output"),
        "host_status": host.status,
    });
    if let Some(extrainfo) = extrainfo.as_object_mut() {
        for field in ["provider", "target", "process", "pathname", "perfdata", "since", "rule"] {
            let value = text(field);
            if !value.is_empty() {
                extrainfo.insert(field.into(), value.into());
            }
        }
        for field in ["rc", "signal"] {
            extrainfo.extend(
                envelope
                    .data
                    .get(field)
                    .filter(|value| value.is_i64())
                    .map(|value| (field.to_owned(), value.clone())),
            );
        }
        let listen = envelope.data.get("listen").and_then(Value::as_array).into_iter().flatten();
        let listen: Vec<&str> =
            listen.filter_map(Value::as_str).filter(|text| text.len() < 64).take(MAX_ADDRESSES).collect();
        if !listen.is_empty() {
            extrainfo.insert("listen".into(), listen.join(" ").into());
        }
        extrainfo.insert("committed".into(), context.now.to_utc_text().into());
    }
    let event = Event {
        eventid: (context.event_ids)(),
        time: context.now,
        eventtype: kind,
        associatedobject: map(object),
        extrainfo: map(extrainfo),
    };
    context.emit(tx, event)
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_state_is_told_as_the_table_says() {
        use EventType::{Delete, Down, Unwarn, Up, Warn};
        use State::{Down as D, Flapping as F, Unmonitored as N, Up as U, Warn as W};
        let rows: [(Option<State>, [&[EventType]; 5]); 6] = [
            // to:      up, warn, down, flapping, unmonitored
            (None, [&[], &[Warn], &[Down], &[Warn], &[]]),
            (Some(U), [&[], &[Warn], &[Down], &[Warn], &[]]),
            (Some(W), [&[Unwarn], &[], &[Down], &[Warn], &[Delete]]),
            (Some(D), [&[Up], &[Up, Warn], &[], &[Warn], &[Delete]]),
            (Some(F), [&[Unwarn, Up], &[Up, Warn], &[Down], &[], &[Delete]]),
            (Some(N), [&[], &[Warn], &[Down], &[Warn], &[]]),
        ];
        for (before, expected) in rows {
            for (now, expected) in [U, W, D, F, N].into_iter().zip(expected) {
                assert_eq!(events(before, now), expected, "{before:?} -> {now:?}");
            }
        }
    }
}
