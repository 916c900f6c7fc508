//! The controls of a fake that runs as a process: the same script and clock
//! that an in-process test reaches through its handle.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::SignedDuration;
use serde::Deserialize;

use super::script::{Fault, Script, Seen};

/// Calls below this path are the test's, not the client's.
pub(super) const PREFIX: &str = "/_fake/";

pub(super) fn router(script: Script) -> Router {
    Router::new()
        .route("/_fake/faults", post(add).delete(clear))
        .route("/_fake/late", post(release))
        .route("/_fake/clock", post(advance))
        .route("/_fake/seen", get(seen))
        .with_state(script)
}

async fn add(State(script): State<Script>, Json(fault): Json<Fault>) -> StatusCode {
    script.add(fault);
    StatusCode::NO_CONTENT
}

async fn clear(State(script): State<Script>) -> StatusCode {
    script.clear();
    StatusCode::NO_CONTENT
}

/// Waits on a thread that may block: the held calls run on this runtime.
async fn release(State(script): State<Script>) -> StatusCode {
    match tokio::task::spawn_blocking(move || script.release_late()).await {
        Ok(Ok(_)) => StatusCode::NO_CONTENT,
        Ok(Err(_)) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    /// Seconds forward; negative moves the clock back.
    seconds: i64,
}

async fn advance(State(script): State<Script>, Json(by): Json<Advance>) -> StatusCode {
    script.clock().advance(SignedDuration::from_secs(by.seconds));
    StatusCode::NO_CONTENT
}

async fn seen(State(script): State<Script>) -> Json<Vec<Seen>> {
    Json(script.seen())
}
