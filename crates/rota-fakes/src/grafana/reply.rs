//! Grafana's answers: JSON with a `message`, and for errors that have a name its `messageId`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An answer; an error is one as well.
#[derive(Debug)]
pub(super) struct Reply {
    status: u16,
    body: Value,
}

impl Reply {
    /// 200 with this body.
    pub(super) fn json(body: Value) -> Self {
        Self { status: 200, body }
    }

    /// 200 with a sentence.
    pub(super) fn message(text: &str) -> Self {
        Self::json(json!({ "message": text }))
    }

    /// An error with its sentence.
    pub(super) fn error(status: u16, text: &str) -> Self {
        Self { status, body: json!({ "message": text }) }
    }

    /// An error that has a name.
    pub(super) fn named(status: u16, text: &str, name: &str) -> Self {
        let body = json!({
            "extra": null, "message": text, "messageId": name, "statusCode": status, "traceID": "",
        });
        Self { status, body }
    }

    /// 400.
    pub(super) fn bad_request(text: &str) -> Self {
        Self::error(400, text)
    }

    /// 401.
    pub(super) fn unauthorized(text: &str, name: &str) -> Self {
        if name.is_empty() { Self::error(401, text) } else { Self::named(401, text, name) }
    }

    /// 403 of a user who is no server administrator.
    pub(super) fn lacks(right: &str) -> Self {
        let message =
            format!("You'll need additional permissions to perform this action. Permissions needed: {right}");
        let body = json!({ "accessErrorId": "ACE0000000000", "message": message, "title": "Access denied" });
        Self { status: 403, body }
    }

    /// 404.
    pub(super) fn not_found(text: &str) -> Self {
        Self::error(404, text)
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.body)).into_response()
    }
}
