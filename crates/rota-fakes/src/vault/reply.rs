//! Vault's answers: the envelope, its error form and the statuses that go
//! with it ("HTTP API", "HTTP status codes").

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use uuid::Uuid;

/// An answer, or an error in Vault's form.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    status: u16,
    body: Option<Value>,
}

/// An endpoint's result; an error is an answer as well.
pub(super) type Outcome = Result<Reply, Reply>;

impl Reply {
    /// 200 with the envelope around `data`.
    pub(super) fn data(data: Value) -> Self {
        Self::data_with_status(200, data)
    }

    /// The envelope with a status of its own: a deleted version is a 404 that has data.
    pub(super) fn data_with_status(status: u16, data: Value) -> Self {
        Self { status, body: Some(envelope(data, Value::Null)) }
    }

    /// 200 with the envelope around a new or renewed token.
    pub(super) fn auth(auth: Value) -> Self {
        Self { status: 200, body: Some(envelope(Value::Null, auth)) }
    }

    /// An answer outside of the envelope.
    pub(super) fn bare(status: u16, body: Value) -> Self {
        Self { status, body: Some(body) }
    }

    /// 204.
    pub(super) fn no_content() -> Self {
        Self { status: 204, body: None }
    }

    /// 404 with an empty list of errors.
    pub(super) fn not_found() -> Self {
        Self { status: 404, body: Some(json!({"errors": []})) }
    }

    /// An error with its text.
    pub(super) fn error(status: u16, text: impl Into<String>) -> Self {
        Self { status, body: Some(json!({"errors": [text.into()]})) }
    }

    /// 400.
    pub(super) fn bad_request(text: impl Into<String>) -> Self {
        Self::error(400, text)
    }

    /// 403 of a token whose policies do not allow the call.
    pub(super) fn denied() -> Self {
        Self::error(403, "1 error occurred:\n\t* permission denied\n\n")
    }

    /// 403 of a token that is unknown, expired or revoked.
    pub(super) fn invalid_token() -> Self {
        Self::error(403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
    }

    /// 405.
    pub(super) fn unsupported() -> Self {
        Self::error(405, "1 error occurred:\n\t* unsupported operation\n\n")
    }

    /// 404 of a path that no mount serves.
    pub(super) fn no_route(path: &str) -> Self {
        Self::error(404, format!("no handler for route \"{path}\". route entry not found."))
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match self.body {
            Some(body) => (status, Json(body)).into_response(),
            None => status.into_response(),
        }
    }
}

fn envelope(data: Value, auth: Value) -> Value {
    json!({
        "request_id": Uuid::new_v4(),
        "lease_id": "",
        "renewable": false,
        "lease_duration": 0,
        "data": data,
        "wrap_info": null,
        "warnings": null,
        "auth": auth,
        "mount_type": "",
    })
}
