//! `json-metric`: a number in a JSON document, within bounds.
//!
//! The number is found by a JSONPath (RFC 9535) that selects exactly one. A document
//! that cannot be fetched or understood is unknown: it says nothing about the
//! consumer.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::Method;
use rota_core::fault::Fault;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{KindContext, KindProblem, KindSpec, Port};
use rota_engine::ports::{Check, CheckContext, Reading};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json_path::JsonPath;

use super::bounds::{Bounds, Change};
use super::request::{Basic, Recipe, Requester};
use super::{MAX_BODY_BYTES, path_problem, timeout, unknown, unread};
use crate::catalog::CheckKind;
use crate::credential::{Credentials, Reference};
use crate::http::{self, HttpClient};
use crate::settings;

/// The name of the kind.
pub const NAME: &str = "json-metric";

/// The kind as policies see it.
pub const KIND: CheckKind = CheckKind {
    spec: KindSpec::new(Port::Check, NAME, "a number in a JSON document, within bounds")
        .inline::<JsonMetricSettings>()
        .lint(lint),
    build: |policy, environment| {
        Ok(Arc::new(JsonMetricCheck::new(
            &policy.settings,
            environment.client.clone(),
            Arc::new(environment.credentials.clone()),
        )?))
    },
};

const WHAT: &str = "the metric's address";

/// `{ kind = "json-metric", url = "https://...", path = "$.success_rate", min = 0.99 }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonMetricSettings {
    /// Where the document is; https, or http to this machine.
    url: String,
    /// A JSONPath (RFC 9535) that selects one number.
    path: String,
    /// Below it is unhealthy.
    min: Option<f64>,
    /// Above it is unhealthy.
    max: Option<f64>,
    /// How far it may fall from its number before the promotion.
    max_drop: Option<Change>,
    /// How far it may rise from its number before the promotion.
    max_rise: Option<Change>,
    /// Headers.
    #[serde(default)]
    header: BTreeMap<String, String>,
    /// Headers whose text is kept in a store (`store:path#field`).
    #[serde(default)]
    header_from: BTreeMap<String, Reference>,
    /// Where a bearer token is kept.
    bearer: Option<String>,
    /// A user name and password.
    basic: Option<Basic>,
    /// How long an answer may take; 10s where nothing is said, 25s at most.
    timeout: Option<DurationText>,
}

/// The check.
pub struct JsonMetricCheck {
    requester: Requester,
    recipe: Recipe,
    path: JsonPath,
    bounds: Bounds,
}

impl JsonMetricCheck {
    /// # Errors
    /// [`Fault::Invalid`] where `settings` do not fit.
    pub fn new(settings: &Value, http: HttpClient, credentials: Arc<dyn Credentials>) -> Result<Self, Fault> {
        let settings: JsonMetricSettings = settings::read(NAME, settings)?;
        let path = JsonPath::parse(&settings.path)
            .map_err(|_| Fault::invalid(format!("`{}` is not a JSONPath", settings.path)))?;
        Ok(Self {
            requester: Requester { http, credentials, timeout: timeout(settings.timeout) },
            bounds: settings.bounds(),
            recipe: settings.recipe(),
            path,
        })
    }

    async fn look(&self, context: &CheckContext) -> Result<Reading, Fault> {
        let request = self.requester.request(Method::GET, &self.recipe, context.value.as_ref()).await?;
        let answer = self.requester.http.send(WHAT, request).await?;
        let status = answer.status();
        match status.as_u16() {
            200 => {}
            401 | 403 => return Err(http::status_fault(WHAT, status, answer.headers())),
            code => return Ok(unknown(format!("answered {code} instead of the document"))),
        }
        let body = http::read_body(WHAT, answer, MAX_BODY_BYTES).await?;
        Ok(match number_in(&body, &self.path) {
            Ok(number) => self.bounds.judge(number, context.baseline),
            Err(why) => unknown(why),
        })
    }
}

#[async_trait]
impl Check for JsonMetricCheck {
    async fn observe(&self, context: &CheckContext) -> Result<Reading, Fault> {
        self.look(context).await.or_else(unread)
    }
}

fn number_in(body: &[u8], path: &JsonPath) -> Result<f64, String> {
    let json: Value =
        serde_json::from_slice(body).map_err(|_| "answered with something else than JSON".to_owned())?;
    let found = path.query(&json).all();
    match found.as_slice() {
        [] => Err(format!("{path} selects nothing")),
        [one] => one.as_f64().ok_or_else(|| format!("{path} selects something else than a number")),
        several => Err(format!("{path} selects {} values instead of one", several.len())),
    }
}

impl JsonMetricSettings {
    fn bounds(&self) -> Bounds {
        Bounds { min: self.min, max: self.max, max_drop: self.max_drop, max_rise: self.max_rise }
    }

    fn recipe(self) -> Recipe {
        Recipe {
            url: self.url,
            header: self.header,
            header_from: self.header_from,
            bearer: self.bearer,
            basic: self.basic,
        }
    }
}

fn lint(settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = JsonMetricSettings::deserialize(settings) else { return Vec::new() };
    let mut problems: Vec<KindProblem> =
        settings::timeout_problem("/timeout", settings.timeout).into_iter().collect();
    problems.extend(JsonPath::parse(&settings.path).is_err().then(|| path_problem("/path")));
    problems.extend(settings.bounds().problem());
    problems.extend(settings.recipe().problems(context));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_number_is_read() {
        let read = |body: &str, path: &str| number_in(body.as_bytes(), &JsonPath::parse(path).unwrap());
        let body = r#"{"rate":0.995,"list":[1,2],"text":"0.9","none":null}"#;
        assert_eq!(read(body, "$.rate"), Ok(0.995));
        assert_eq!(read(body, "$.list[1]"), Ok(2.0));
        assert_eq!(read(body, "$.absent"), Err("$.absent selects nothing".to_owned()));
        assert_eq!(read(body, "$.list[*]"), Err("$.list[*] selects 2 values instead of one".to_owned()));
        for path in ["$.text", "$.none", "$.list"] {
            assert!(read(body, path).unwrap_err().ends_with("something else than a number"), "{path}");
        }
        assert_eq!(read("<html>", "$.rate"), Err("answered with something else than JSON".to_owned()));
    }
}
