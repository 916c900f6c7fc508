//! What the fake needs when it runs as a process: a service made from outside,
//! and tasks that read a store over the network.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::rollout::Reader;
use super::{Server, ServiceSetup, Values};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewService {
    cluster: String,
    name: String,
    definition: String,
    desired: usize,
    #[serde(default)]
    breaker: bool,
    #[serde(default)]
    rolls_back: bool,
}

pub(super) fn controls(server: Server) -> Router {
    Router::new().route("/_fake/services", post(add)).with_state(server)
}

async fn add(State(server): State<Server>, Json(new): Json<NewService>) -> (StatusCode, String) {
    // Its tasks read the store, and a reader may block.
    let made = tokio::task::spawn_blocking(move || {
        server.create_service(&ServiceSetup {
            cluster: &new.cluster,
            name: &new.name,
            definition: &new.definition,
            desired: new.desired,
            breaker: new.breaker,
            rolls_back: new.rolls_back,
        })
    });
    match made.await {
        Ok(Ok(())) => (StatusCode::NO_CONTENT, String::new()),
        Ok(Err(error)) => (StatusCode::BAD_REQUEST, format!("{error:#}")),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
    }
}

/// A reader that asks Secrets Manager at an endpoint URL, one request for each
/// reference, as an ECS agent does. The endpoint must not check signatures.
pub fn reader_of(url: &str, region: &str) -> Reader {
    let (url, region) = (url.to_owned(), region.to_owned());
    Arc::new(move |references| {
        let read = || -> Result<Values> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut values = Values::new();
                for (name, from) in references {
                    values.insert(name.clone(), resolve(&url, &region, from).await?);
                }
                Ok(values)
            })
        };
        // A thread of its own: the caller may be one of a runtime already.
        let read = std::thread::scope(|scope| scope.spawn(read).join());
        match read {
            Ok(Ok(values)) => Ok(values),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_) => Err("the reader panicked".to_owned()),
        }
    })
}

/// `ARN[:json-key[:version-stage[:version-id]]]`, as "Pass Secrets Manager
/// secrets through environment variables" says.
async fn resolve(url: &str, region: &str, value_from: &str) -> Result<String> {
    let parts: Vec<&str> = value_from.split(':').collect();
    let part = |index: usize| parts.get(index).copied().filter(|part| !part.is_empty());
    let arn = parts.get(..7).context("a reference is an ARN")?.join(":");
    let mut fields = json!({"SecretId": arn});
    for (key, index) in [("VersionStage", 8), ("VersionId", 9)] {
        if let Some(value) = part(index) {
            fields[key] = value.into();
        }
    }
    let moment = now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIAECSAGENT/{}/{region}/secretsmanager/aws4_request, \
         SignedHeaders=host;x-amz-date;x-amz-target, Signature=unchecked",
        &moment[..8]
    );
    let request = reqwest::Client::new()
        .post(url)
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", "secretsmanager.GetSecretValue")
        .header("x-amz-date", moment)
        .header("authorization", authorization)
        .body(fields.to_string());
    let answer: Value = request.send().await?.error_for_status()?.json().await?;
    let text = answer["SecretString"].as_str().context("the secret has no text")?;
    let Some(key) = part(7) else { return Ok(text.to_owned()) };
    let document: Value = serde_json::from_str(text).context("the secret is no JSON document")?;
    match document[key].as_str() {
        Some(value) => Ok(value.to_owned()),
        None => bail!("the document has no such key"),
    }
}

#[expect(clippy::disallowed_methods, reason = "a request to a real server is dated by the real clock")]
fn now() -> Timestamp {
    Timestamp::now()
}
