//! The web port: `/healthz` and `/readyz` for load balancers and service managers, `/metrics` for monitoring systems; nothing
//! else is on it, and nothing of it changes anything.

use crate::api::Bounded;
use crate::commit::{Work, Writer};
use crate::health::{Health, Phase};
use crate::metrics::{Gauges, OPEN_METRICS, PLAIN_TEXT, plain};
use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// A commit that takes longer counts as a fault.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection is broken off after this: the one request takes milliseconds.
const LIFETIME: Duration = Duration::from_secs(30);
/// Connections that may be open at once.
const MAX_CONNECTIONS: usize = 32;
/// With less room than this on its file system a database does not take much more.
const LEAST_FREE_BYTES: u64 = 16 * 1024 * 1024;

/// What the port tells of.
pub struct Web {
    pub writer: Writer,
    pub health: Arc<Health>,
    pub gauges: Gauges,
    pub database: PathBuf,
}

/// Serves until `stop` ends.
pub async fn serve(listener: TcpListener, web: Web, stop: impl Future<Output = ()> + Send + 'static) {
    let listener = Bounded::new(listener, MAX_CONNECTIONS).with_lifetime(LIFETIME);
    if let Err(error) = axum::serve(listener, router(web)).with_graceful_shutdown(stop).await {
        tracing::warn!(%error, "the web port is no longer served");
    }
}

fn router(web: Web) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(web))
}

type Shared = State<Arc<Web>>;

/// `ok` when a commit just worked, otherwise 503 and the reason.
async fn healthz(State(web): Shared) -> Response {
    answer(commit_problem(&web).await.into_iter().collect())
}

/// `ok` when hosts can register, otherwise 503 and each reason on a line.
async fn readyz(State(web): Shared) -> Response {
    let mut reasons = Vec::new();
    match web.health.phase() {
        Phase::Starting => reasons.push("the CMA is starting".to_owned()),
        Phase::Stopping => reasons.push("the CMA is stopping".to_owned()),
        Phase::Ready => reasons.extend(commit_problem(&web).await),
    }
    reasons.extend(room_problem(&web.database));
    answer(reasons)
}

async fn metrics(State(web): Shared, headers: HeaderMap) -> Response {
    let Ok(text) = web.gauges.text().await else {
        return answer(vec!["the metrics could not be written as text".into()]);
    };
    let accepted = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("");
    let (kind, text) = if accepted.contains("application/openmetrics-text") {
        (OPEN_METRICS, text)
    } else {
        (PLAIN_TEXT, plain(&text))
    };
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], text).into_response()
}

fn answer(reasons: Vec<String>) -> Response {
    let (status, text) = if reasons.is_empty() {
        (StatusCode::OK, "ok".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n"))
    };
    (status, [(CACHE_CONTROL, "no-store")], format!("{text}\n")).into_response()
}

async fn commit_problem(web: &Web) -> Option<String> {
    match web.health.store_problem() {
        Some(problem) => Some(problem),
        None => {
            let error = web.writer.ask(Work::Ping, COMMIT_TIMEOUT).await.err()?;
            Some(web.health.store_problem().unwrap_or_else(|| error.to_string()))
        }
    }
}

fn room_problem(database: &std::path::Path) -> Option<String> {
    let status = rustix::fs::statvfs(database).ok()?;
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    (free < LEAST_FREE_BYTES)
        .then(|| format!("only {} MB are free for {}: make room", free / 1_048_576, database.display()))
}
