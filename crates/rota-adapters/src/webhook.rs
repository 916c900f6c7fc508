//! Sending signed JSON to a receiver of the user's.
//!
//! One call, one answer: repeats are the caller's. A receiver answers 2xx for
//! "taken", and may say how far it is with `{"state": "finished"}`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use rota_core::fault::Fault;
use rota_core::value::SecretValue;
use serde::{Deserialize, Serialize};

use crate::credential::{Credentials, Reference};
use crate::http::{self, HttpClient};
use crate::signature::{self, DELIVERY_HEADER, MIN_KEY_BYTES, SIGNATURE_HEADER, TIMESTAMP_HEADER};

/// An answer says a word or two; a longer one is not read.
const MAX_ANSWER_BYTES: usize = 65_536;

/// The key that signs.
pub(crate) enum SigningKey {
    /// From the daemon's own configuration.
    Known(SecretValue),
    /// Read from its store at each call.
    Kept(Reference, Arc<dyn Credentials>),
}

/// How far a receiver says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Progress {
    UnderWay,
    Finished,
    Failed,
}

/// What a receiver answered with 2xx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) progress: Option<Progress>,
}

/// One receiver.
pub(crate) struct Webhook {
    pub(crate) key: SigningKey,
    pub(crate) http: HttpClient,
    pub(crate) timeout: Duration,
}

impl Webhook {
    /// Posts `body` to `url`. `delivery` is the same for every repeat of one body and
    /// for nothing else. Messages name the receiver by its host: the rest of its
    /// address can hold a token.
    ///
    /// # Errors
    /// [`Fault::Denied`] for 401 and 403, [`Fault::RateLimited`] for 429,
    /// [`Fault::Transient`] for 5xx and where no answer came, [`Fault::Conflict`] for
    /// 409, [`Fault::Invalid`] for the rest and for a key under 32 bytes.
    pub(crate) async fn send(
        &self,
        url: &str,
        delivery: &str,
        now: Timestamp,
        body: &impl Serialize,
    ) -> Result<Answer, Fault> {
        let checked = http::check_url(url, self.http.reach())?;
        let what = format!("the webhook at {}", checked.host_str().unwrap_or_default());
        let body = serde_json::to_vec(body)
            .map_err(|_| Fault::invalid(format!("the message for {what} cannot be written as JSON")))?;
        let signature = match &self.key {
            SigningKey::Known(key) => self.sign(&what, key, now, &body)?,
            SigningKey::Kept(reference, credentials) => {
                self.sign(&what, &credentials.read(reference).await?, now, &body)?
            }
        };
        let request = self
            .http
            .request(Method::POST, url)?
            .timeout(self.timeout)
            .header(CONTENT_TYPE, "application/json")
            .header(TIMESTAMP_HEADER, now.as_second().to_string())
            .header(SIGNATURE_HEADER, signature)
            .header(DELIVERY_HEADER, delivery)
            .body(body);
        let answer = self.http.send(&what, request).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(http::status_fault(&what, status, answer.headers()));
        }
        let text = http::read_body(&what, answer, MAX_ANSWER_BYTES).await?;
        let progress = progress(&text).map_err(|UnknownState| {
            Fault::invalid(format!(
                "{what} answers with a `state` that means nothing here, let it answer finished, under_way or failed"
            ))
        })?;
        Ok(Answer { status: status.as_u16(), progress })
    }

    fn sign(&self, what: &str, key: &SecretValue, now: Timestamp, body: &[u8]) -> Result<String, Fault> {
        if key.byte_len() < MIN_KEY_BYTES {
            return Err(Fault::invalid(format!(
                "the key that signs for {what} has under {MIN_KEY_BYTES} bytes, store a longer one"
            )));
        }
        Ok(signature::sign(key, now, body))
    }
}

struct UnknownState;

/// What an answer says. Text, or an object without a state, says nothing; a state
/// that is none of ours may mean anything, and is not taken for success.
fn progress(body: &[u8]) -> Result<Option<Progress>, UnknownState> {
    let said: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    match said.as_ref().and_then(|said| said.get("state")) {
        None => Ok(None),
        Some(state) => Progress::deserialize(state).map(Some).map_err(|_| UnknownState),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_how_far_it_is_or_nothing_but_never_something_else() {
        let said = |text: &str| progress(text.as_bytes()).ok();
        assert_eq!(said(r#"{"state":"finished","more":1}"#), Some(Some(Progress::Finished)));
        assert_eq!(said(r#"{"state":"under_way"}"#), Some(Some(Progress::UnderWay)));
        assert_eq!(said(r#"{"state":"failed"}"#), Some(Some(Progress::Failed)));
        for nothing in ["", "ok", "{}", r#"["finished"]"#, "3"] {
            assert_eq!(said(nothing), Some(None), "{nothing}");
        }
        for unknown in [r#"{"state":"error"}"#, r#"{"state":null}"#, r#"{"state":{"a":1}}"#] {
            assert_eq!(said(unknown), None, "{unknown}");
        }
    }
}
