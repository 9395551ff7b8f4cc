//! `/v1/keys`: the CMA's keys, which host trusts which, reading the key directory again.

use super::{Answer, Failure, Shared};
use axum::Json;
use axum::http::StatusCode;
use model::PublicKey;
use model::message::CmaKey;
use serde_json::{Value, json};
use store::HostRow;
use wire::keys::KeyError;

pub async fn list(site: Shared) -> Answer {
    let hosts = site.readers.read(|reader| reader.hosts()).await?;
    let keyring = &site.keys;
    let standing = keyring.standing().map_err(unreadable)?;
    let now = keyring.now();
    let trusting = |number: u32, key: PublicKey| {
        let key = CmaKey { number, key: key.0 };
        let trusts = |host: &&HostRow| {
            let known = keyring.known(&host.designation).and_then(|known| known.trusted);
            known.is_some_and(|trusted| trusted.keys.contains(&key))
        };
        hosts.iter().filter(trusts).count()
    };
    let row = |number: u32, key: PublicKey, state: &str| {
        json!({
            "number": number,
            "fingerprint": key.fingerprint(),
            "state": state,
            "secret_here": standing.secrets.contains(&number),
            "made": keyring.made(number),
            "in_use_since": now.since.filter(|_| number == now.in_use),
            "hosts": trusting(number, key),
        })
    };
    let retired = standing.retired.iter().map(|(number, key)| row(*number, *key, "retired"));
    let others = standing.publics.iter().map(|(number, key)| {
        let state = match number.cmp(&now.in_use) {
            std::cmp::Ordering::Less => "retired",
            std::cmp::Ordering::Equal => "in use",
            std::cmp::Ordering::Greater => "spare",
        };
        row(*number, *key, state)
    });
    let mut keys: Vec<Value> = retired.chain(others).collect();
    keys.sort_by_key(|key| key["number"].as_u64());
    Ok(Json(json!({"in_use": now.in_use, "total_hosts": hosts.len(), "keys": keys})))
}

pub async fn hosts(site: Shared) -> Answer {
    let hosts = site.readers.read(|reader| reader.hosts()).await?;
    let now = site.keys.now();
    let rows = hosts.iter().map(|host| {
        let known = site.keys.known(&host.designation).and_then(|known| known.trusted);
        let told =
            |key: &CmaKey| json!({"number": key.number, "fingerprint": PublicKey(key.key).fingerprint()});
        json!({
            "host": host.designation.as_str(),
            "status": host.status,
            "last_seen": host.last_seen,
            "software": host.software,
            "as_it_should_be": known.as_ref() == Some(&now.wanted),
            "trusts": known.map(|known| known.keys.iter().map(told).collect::<Vec<_>>()),
        })
    });
    Ok(Json(rows.collect()))
}

pub async fn reload(site: Shared) -> Answer {
    match site.keys.reload() {
        Ok(done) => Ok(Json(json!({
            "in_use": done.in_use, "switched": done.is_switched, "changed": done.is_changed,
        }))),
        Err(error) => Err(Failure::new(
            StatusCode::CONFLICT,
            format!("the keys were not read again, the CMA goes on with the old ones: {error}"),
            "the text says which command mends it",
        )),
    }
}

fn unreadable(error: KeyError) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string(), "the text says which command mends it")
}
