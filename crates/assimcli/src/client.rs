//! HTTP with JSON over the CMA's Unix socket.

use crate::{Context, Failure};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::Duration;

/// The largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

pub fn get(context: &Context, path: &str) -> Result<Value, Failure> {
    request(context, Method::GET, path, None, Duration::from_secs(60))
}

pub fn get_within(context: &Context, path: &str, limit: Duration) -> Result<Value, Failure> {
    request(context, Method::GET, path, None, limit)
}

pub fn post(context: &Context, path: &str, body: &Value) -> Result<Value, Failure> {
    request(context, Method::POST, path, Some(body), Duration::from_secs(120))
}

pub fn delete(context: &Context, path: &str) -> Result<Value, Failure> {
    request(context, Method::DELETE, path, None, Duration::from_secs(60))
}

/// `text` as one segment or value of a URL (RFC 3986 §2.1).
pub fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

fn request(
    context: &Context,
    method: Method,
    path: &str,
    body: Option<&Value>,
    limit: Duration,
) -> Result<Value, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("cannot start: {e}")))?;
    runtime.block_on(async {
        match tokio::time::timeout(limit, exchange(context, method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::new(format!("the CMA did not answer within {} s", limit.as_secs()))
                .hint("`assimcli doctor` looks for the reason; its log tells more.")),
        }
    })
}

async fn exchange(
    context: &Context,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Failure> {
    let socket = context.paths.cma_socket();
    let stream = daemon::local_socket::connect(&socket).map_err(|error| no_answer(context, &error))?;
    let broken = |error: String| Failure::new(format!("the CMA at {} broke off: {error}", socket.display()));
    stream.set_nonblocking(true).map_err(|e| broken(e.to_string()))?;
    let stream = tokio::net::UnixStream::from_std(stream).map_err(|e| broken(e.to_string()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| broken(e.to_string()))?;
    tokio::spawn(connection);
    let text = body.map(Value::to_string).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "cma")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(text)))
        .map_err(|e| broken(e.to_string()))?;
    let answer = sender.send_request(request).await.map_err(|e| broken(e.to_string()))?;
    let status = answer.status();
    let bytes = Limited::new(answer.into_body(), MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|e| broken(e.to_string()))?
        .to_bytes();
    let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    if status.is_success() {
        return Ok(value);
    }
    let message = value["error"].as_str().map_or_else(|| format!("the CMA answered {status}"), str::to_owned);
    Err(Failure::new(message).hint(value["hint"].as_str().unwrap_or("")))
}

fn no_answer(context: &Context, reason: &std::io::Error) -> Failure {
    let root = context.paths.root();
    let start = if reason.kind() == std::io::ErrorKind::PermissionDenied {
        "This user may not talk to it: use sudo, or be the user that the CMA runs as.".to_owned()
    } else if root == std::path::Path::new("/") {
        "Start one with `systemctl start assimilation-cma`, or `cma` in a terminal.".to_owned()
    } else {
        format!("Start one with `cma --root {}`; for another site give its --root.", root.display())
    };
    Failure::new(format!("no CMA answers at {}: {reason}", context.paths.cma_socket().display())).hint(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::paths::SitePaths;
    use output::Format;
    use std::io::{Error, ErrorKind};

    #[test]
    fn who_may_not_is_not_told_to_start_another_cma() {
        let context = Context { paths: SitePaths::new("/tmp/x"), format: Format::Json };
        let hint = |kind| no_answer(&context, &Error::from(kind)).hint;
        assert!(hint(ErrorKind::PermissionDenied).contains("sudo"));
        assert!(hint(ErrorKind::NotFound).contains("cma --root /tmp/x"));
    }

    #[test]
    fn hostile_names_stay_one_segment() {
        assert_eq!(encoded("a/../b?x=1 é"), "a%2F..%2Fb%3Fx%3D1%20%C3%A9");
    }
}
