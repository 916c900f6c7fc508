//! The one address of a fleet; each call goes to the next instance in turn.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::token;

pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/metrics/auth", get(metrics))
        .route("/mint", post(mint))
        .route("/verify", post(verify))
        .with_state(shared)
}

async fn health(State(shared): State<Shared>) -> (StatusCode, Json<Value>) {
    let instances = shared.lock().instances.len();
    let status = if instances > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"instances": instances})))
}

async fn metrics(State(shared): State<Shared>) -> Json<Value> {
    let inner = shared.lock();
    Json(json!({
        "token_verification_success_rate": inner.success_rate(),
        "token_verifications": inner.verifications,
    }))
}

async fn mint(State(shared): State<Shared>) -> (StatusCode, Json<Value>) {
    let now = shared.clock.now();
    let mut inner = shared.lock();
    let minted = inner.pick().and_then(|index| inner.mint(index, now, shared.token_ttl));
    match minted {
        Some(token) => (StatusCode::OK, Json(json!({"token": token}))),
        None => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"error": "no key to sign with"}))),
    }
}

#[derive(Deserialize)]
struct Presented {
    token: String,
}

async fn verify(State(shared): State<Shared>, Json(presented): Json<Presented>) -> StatusCode {
    let now = shared.clock.now();
    let mut inner = shared.lock();
    let Some(index) = inner.pick() else { return StatusCode::SERVICE_UNAVAILABLE };
    let claims = inner.instances[index].keys.iter().find_map(|key| token::verify(key, &presented.token, now));
    if claims.is_none() {
        // Who signed it is not known from a token that nobody vouches for.
        inner.verify(index, &presented.token, "", now, now);
        return StatusCode::UNAUTHORIZED;
    }
    inner.count(Ok(()));
    StatusCode::OK
}
