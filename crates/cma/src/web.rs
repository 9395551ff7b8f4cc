//! The web port: `GET /healthz` for load balancers and monitoring; nothing else is on it.

use crate::api::Bounded;
use crate::commit::{Work, Writer};
use crate::health::Health;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// A commit that takes longer counts as a fault.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection is broken off after this: the one request takes milliseconds.
const LIFETIME: Duration = Duration::from_secs(30);
/// Connections that may be open at once.
const MAX_CONNECTIONS: usize = 32;

/// Serves until `stop` ends.
pub async fn serve(
    listener: TcpListener,
    writer: Writer,
    health: Arc<Health>,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let router = router(writer, health);
    if let Err(error) = axum::serve(Bounded::new(listener, MAX_CONNECTIONS).with_lifetime(LIFETIME), router)
        .with_graceful_shutdown(stop)
        .await
    {
        tracing::warn!(%error, "the web port is no longer served");
    }
}

fn router(writer: Writer, health: Arc<Health>) -> Router {
    Router::new().route("/healthz", get(healthz)).with_state((writer, health))
}

/// `ok` when a commit just worked, otherwise 503 and the reason.
async fn healthz(State((writer, health)): State<(Writer, Arc<Health>)>) -> (StatusCode, String) {
    let reason = match health.store_problem() {
        Some(problem) => problem,
        None => match writer.ask(Work::Ping, COMMIT_TIMEOUT).await {
            Ok(_) => return (StatusCode::OK, "ok\n".into()),
            Err(error) => health.store_problem().unwrap_or_else(|| error.to_string()),
        },
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"))
}
