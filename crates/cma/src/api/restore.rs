//! `POST /v1/restore`: has the CMA go on with the database that lies staged beside its own (`assimcli restore` puts it there).
//!
//! Answered before it happens: the CMA closes everything, changes the databases and serves again. `started` and `restored` of
//! `GET /v1/status` then tell what came of it.

use super::{Answer, Failure, Shared};
use axum::Json;
use axum::http::StatusCode;
use serde_json::json;
use store::StoreError;
use store::sqlite;

pub async fn restore(site: Shared) -> Answer {
    let staged = sqlite::staged(&site.database);
    let shown = staged.display().to_string();
    if !staged.is_file() {
        return Err(Failure::new(
            StatusCode::CONFLICT,
            format!("no database lies at {shown}"),
            "`assimcli restore FILE` puts it there and asks again",
        ));
    }
    let looked = tokio::task::spawn_blocking(move || sqlite::identify(&staged)).await;
    let identity =
        looked.map_err(|error| StoreError::Sql(error.to_string())).and_then(|identity| identity).map_err(
            |error| Failure::new(StatusCode::CONFLICT, error.to_string(), "restore another backup"),
        )?;
    // It is read again when the CMA serves again, and without it nothing is served.
    site.keys.check().map_err(|error| {
        Failure::new(
            StatusCode::CONFLICT,
            format!("the key directory cannot be read, so nothing was restored: {error}"),
            "the text says which command mends it; then ask again",
        )
    })?;
    let stopping = || {
        Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the CMA is stopping, or is being restored already",
            "ask again in a moment",
        )
    };
    site.restore.try_send(()).map_err(|_| stopping())?;
    Ok(Json(json!({"staged": shown, "schema": identity.schema, "database_bytes": identity.bytes})))
}
