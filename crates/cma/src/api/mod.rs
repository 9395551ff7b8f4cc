//! The local API: HTTP with JSON over the Unix socket that assimcli uses (docs/local-api.md has the table).
//!
//! Whoever may open the socket may do everything; the socket's mode decides. Errors are `{"error", "hint"}`.

mod enrolment;
mod events;
mod groups;
mod hosts;
mod keys;
mod listener;
mod notify;
mod queries;
mod questions;
mod restore;
mod results;
mod status;
pub mod subgraph;

pub use listener::Bounded;

use crate::commit::{Done, Work, Writer};
use crate::health::Health;
use crate::hosts::Hosts;
use crate::keys::Keyring;
use crate::knowledge::SharedKnowledge;
use crate::readers::Readers;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use model::paths::SitePaths;
use model::{Designation, Timestamp};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::{SqlLimits, StoreError};
use tokio::sync::{mpsc, watch};

/// Largest request, in bytes.
const MAX_REQUEST_BYTES: usize = 256 * 1024;
/// How long a change may wait for its commit.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections that may be open at once.
pub const MAX_CONNECTIONS: usize = 64;

/// What the handlers work with.
pub struct Site {
    pub writer: Writer,
    pub readers: Arc<Readers>,
    pub knowledge: SharedKnowledge,
    pub hosts: Arc<Hosts>,
    pub health: Arc<Health>,
    pub keys: Arc<Keyring>,
    pub paths: SitePaths,
    pub hostname: String,
    pub bind: SocketAddr,
    pub web: Option<SocketAddr>,
    pub database: PathBuf,
    pub started: Timestamp,
    pub newest_event: watch::Receiver<i64>,
    /// Asks for configuration and rules to be read again; the answer says what changed.
    pub reload: mpsc::Sender<Reload>,
    /// Asks for the staged database to be taken over.
    pub restore: mpsc::Sender<()>,
    /// When the database was put in the place of another one.
    pub restored: Option<Timestamp>,
    /// Becomes true when the CMA stops, to end long polls.
    pub stop: watch::Receiver<bool>,
}

/// Where to send the outcome of a reload.
pub type Reload = tokio::sync::oneshot::Sender<Result<Value, String>>;

type Shared = axum::extract::State<Arc<Site>>;
type Answer = Result<Json<Value>, Failure>;

/// All requests.
pub fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/hosts", get(hosts::list))
        .route("/v1/hosts/{name}", axum::routing::delete(hosts::remove))
        .route("/v1/hosts/{name}/accept-key", post(enrolment::accept_key))
        .route("/v1/hosts/{name}/dismiss", post(enrolment::dismiss))
        .route("/v1/hosts/{name}/keep", post(enrolment::keep))
        .route("/v1/hosts/{name}/revoke", post(enrolment::revoke))
        .route("/v1/hosts/{name}/unrevoke", post(enrolment::unrevoke))
        .route("/v1/hosts/{name}/tags", post(enrolment::tag))
        .route("/v1/pending", get(enrolment::pending))
        .route("/v1/pending/{name}/approve", post(enrolment::approve))
        .route("/v1/pending/{name}/reject", post(enrolment::reject))
        .route("/v1/revoked", get(enrolment::revocations))
        .route("/v1/tokens", get(enrolment::tokens).post(enrolment::create_token))
        .route("/v1/tokens/{id}", axum::routing::delete(enrolment::revoke_token))
        .route("/v1/keys", get(keys::list))
        .route("/v1/keys/hosts", get(keys::hosts))
        .route("/v1/keys/reload", post(keys::reload))
        .route("/v1/queries", get(queries::list))
        .route("/v1/query/{name}", post(queries::run))
        .route("/v1/sql", post(queries::sql))
        .route("/v1/views", get(queries::views))
        .route("/v1/groups", get(groups::list))
        .route("/v1/events", get(events::events))
        .route("/v1/subgraph", get(subgraph::subgraph))
        .route("/v1/history", get(events::history))
        .route("/v1/impact", get(questions::impact))
        .route("/v1/path", get(questions::path))
        .route("/v1/timeline", get(questions::timeline))
        .route("/v1/changes", get(questions::changes))
        .route("/v1/coverage", get(questions::coverage))
        .route("/v1/results", get(results::results))
        .route("/v1/rules", get(results::rules))
        .route("/v1/rules/reload", post(results::reload))
        .route("/v1/restore", post(restore::restore))
        .route("/v1/notify/test", post(notify::test))
        .fallback(|| async {
            Failure::new(
                StatusCode::NOT_FOUND,
                "there is no such request",
                "assimcli and cma may be of different versions",
            )
        })
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(site)
}

/// An error for people, with what to do.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    error: String,
    hint: String,
}

impl Failure {
    fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, error: error.into(), hint: hint.into() }
    }

    fn bad(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, hint)
    }

    fn unknown_host(name: &Designation) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            format!("there is no host {name}"),
            "`assimcli hosts` lists them all",
        )
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"error": self.error, "hint": self.hint}))).into_response()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Sql(text) => Self::bad(text, "`assimcli sql --views` lists what can be asked"),
            StoreError::Limit(what) => Self::bad(
                format!("the query was stopped after {what}"),
                "ask for less, for instance with WHERE or LIMIT",
            ),
            other => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, other.to_string(), "`assimcli doctor` tells more")
            }
        }
    }
}

impl From<axum::extract::rejection::QueryRejection> for Failure {
    fn from(error: axum::extract::rejection::QueryRejection) -> Self {
        Self::bad(error.body_text(), "see docs for the parameters of this request")
    }
}

impl From<axum::extract::rejection::JsonRejection> for Failure {
    fn from(error: axum::extract::rejection::JsonRejection) -> Self {
        Self::bad(error.body_text(), "the body must be a JSON object")
    }
}

/// Has something written and waits for its commit.
async fn write(site: &Site, work: Work) -> Result<Done, Failure> {
    let unavailable =
        |error: String| Failure::new(StatusCode::SERVICE_UNAVAILABLE, error, "`assimcli doctor` tells why");
    match site.writer.ask(work, COMMIT_TIMEOUT).await {
        Ok(Done::Failed(reason)) => Err(unavailable(format!("this could not be stored: {reason}"))),
        Ok(done) => Ok(done),
        Err(error) => Err(unavailable(site.health.store_problem().unwrap_or_else(|| error.to_string()))),
    }
}

fn designation(name: &str) -> Result<Designation, Failure> {
    Designation::new(name).map_err(|error| Failure::bad(error.to_string(), "`assimcli hosts` lists them all"))
}

/// Reads a time as people write it.
fn time(text: &str) -> Result<Timestamp, Failure> {
    Timestamp::parse(text).ok_or_else(|| {
        Failure::bad(format!("{text:?} is no time"), "write 2026-11-23T14:00:00Z or \"2026-11-23 14:00\"")
    })
}

/// Bounds of everything that runs SQL here.
fn limits() -> SqlLimits {
    SqlLimits { rows: 100_000, milliseconds: 10_000, bytes: 64 * 1024 * 1024 }
}

/// Rows as objects by column name.
fn objects(table: store::Table) -> Vec<serde_json::Map<String, Value>> {
    let columns = table.columns;
    table.rows.into_iter().map(|row| columns.iter().cloned().zip(row).collect()).collect()
}
