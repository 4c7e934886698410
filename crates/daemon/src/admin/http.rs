//! `/metrics` and `/healthz` over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::Shared;

/// How long to wait before the address is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Serves until the task is dropped. An address that cannot be had is said
/// once and tried again.
pub(crate) async fn serve(shared: Arc<Shared>) {
    let address = shared.settings().metrics;
    let listener = bind(address).await;
    let router = Router::new().route("/metrics", get(metrics)).route("/healthz", get(health)).with_state(shared);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, %address, "metrics are no longer served");
    }
}

async fn bind(address: SocketAddr) -> TcpListener {
    let mut said = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if said => tracing::debug!(%error, %address, "metrics still have no address"),
            Err(error) => {
                said = true;
                tracing::warn!(%error, %address, "metrics cannot be served yet; write another [metrics] listen, or free it");
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match shared.metrics_page() {
        Ok(page) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// 200 when every listener is open and every worker runs; else 503 with the reasons.
async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let troubles = shared.view.troubles(&shared.settings().proxy);
    if troubles.is_empty() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, troubles.join("\n") + "\n").into_response()
    }
}
