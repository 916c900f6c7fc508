//! What the fakes of AWS services share: the JSON 1.1 protocol (the operation
//! in `X-Amz-Target`, errors with `__type`) and the check of signatures.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::http::{Effect, Fault};
use crate::sigv4::{Claim, Request};

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// The account that fakes pretend to be.
pub(crate) const ACCOUNT: &str = "123456789012";

/// An error in AWS's form.
#[derive(Clone, Debug)]
pub(crate) struct AwsError {
    status: u16,
    code: &'static str,
    message: String,
}

pub(crate) type AwsResult = Result<Value, AwsError>;

/// An error of the caller's.
pub(crate) fn refuse<T>(code: &'static str, message: impl Into<String>) -> Result<T, AwsError> {
    Err(AwsError::new(code, message))
}

impl AwsError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: 400, code, message: message.into() }
    }
}

impl IntoResponse for AwsError {
    fn into_response(self) -> Response {
        let body = json!({"__type": self.code, "message": self.message, "Message": self.message});
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], body.to_string()).into_response()
    }
}

/// A success.
pub(crate) fn respond(result: AwsResult) -> Response {
    match result {
        Ok(value) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], value.to_string()).into_response(),
        Err(error) => error.into_response(),
    }
}

/// The fault that makes the next calls of an operation fail with an error code.
pub(crate) fn fault(operation: &str, times: u32, status: u16, code: &str, message: &str) -> Fault {
    let body = json!({"__type": code, "message": message, "Message": message}).to_string();
    let headers = vec![("content-type".to_owned(), CONTENT_TYPE.to_owned())];
    Fault::next(&format!(".{operation}"), Effect::Answer { status, headers, body }).times(times)
}

/// Who may call: the service, its region and the keys that it knows.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    service: &'static str,
    region: String,
    keys: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Gate {
    pub(crate) fn new(service: &'static str, region: &str) -> Self {
        Self { service, region: region.to_owned(), keys: Arc::default() }
    }

    pub(crate) fn add_key(&self, id: &str, secret: &str) {
        self.keys().insert(id.to_owned(), secret.to_owned());
    }

    fn keys(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.keys.lock().expect("no holder of the keys panics")
    }

    /// Checks method, target and signature and gives operation and body. A
    /// signature must always be there and be scoped to the service and region;
    /// it is computed anew only where keys are known.
    pub(crate) fn open(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &Bytes,
        now: Timestamp,
    ) -> Result<(String, Map<String, Value>), AwsError> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let target = text("x-amz-target").and_then(|target| target.split_once('.'));
        let (Some((_, operation)), &Method::POST) = (target, method) else {
            return refuse("UnknownOperationException", "the operation is not known");
        };
        if text("content-type") != Some(CONTENT_TYPE) {
            return refuse("UnknownOperationException", "the content type is not JSON 1.1");
        }
        let lower: BTreeMap<String, String> = headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect();
        let request = Request {
            method: "POST",
            path: uri.path(),
            query: uri.query().unwrap_or(""),
            headers: &lower,
            body,
        };
        let claim =
            Claim::read(&request).map_err(|error| AwsError::new(error.code(), "not signed as required"))?;
        if claim.service != self.service || claim.region != self.region {
            return refuse(
                "InvalidSignatureException",
                "Credential should be scoped to a valid region and service",
            );
        }
        let keys = self.keys();
        if !keys.is_empty() {
            let secret = keys.get(&claim.key_id);
            let unknown = || AwsError::new("UnrecognizedClientException", "The security token is invalid.");
            let verified = claim.verify(&request, secret.ok_or_else(unknown)?, now);
            verified.map_err(|error| AwsError::new(error.code(), "the signature is not valid"))?;
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok((operation.to_owned(), fields)),
            _ => refuse("SerializationException", "the body is not a JSON object"),
        }
    }
}

/// A moment as JSON 1.1 writes it: seconds with a fraction.
pub(crate) fn epoch(moment: Timestamp) -> Value {
    let seconds = moment.as_millisecond() as f64 / 1_000.0;
    json!(seconds)
}
