//! `prometheus`: one number from an instant query, within bounds.
//!
//! No data, several series and numbers that are not finite are unknown. Facts from
//! prometheus.io, "HTTP API", "Instant queries" and "Format overview".

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode, Url};
use rota_core::fault::Fault;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{KindContext, KindProblem, KindSpec, Port};
use rota_core::value::SecretValue;
use rota_engine::ports::{Check, CheckContext, Reading};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bounds::{Bounds, Change};
use super::request::{Basic, Recipe, Requester};
use super::{MAX_BODY_BYTES, timeout, unknown, unread};
use crate::catalog::CheckKind;
use crate::credential::{Credentials, Reference};
use crate::http::{self, HttpClient};
use crate::settings;

/// The name of the kind.
pub const NAME: &str = "prometheus";

/// The kind as policies see it.
pub const KIND: CheckKind = CheckKind {
    spec: KindSpec::new(Port::Check, NAME, "one number from a Prometheus query, within bounds")
        .inline::<PrometheusSettings>()
        .lint(lint),
    build: |policy, environment| {
        Ok(Arc::new(PrometheusCheck::new(
            &policy.settings,
            environment.client.clone(),
            Arc::new(environment.credentials.clone()),
        )?))
    },
};

const WHAT: &str = "Prometheus";

/// `{ kind = "prometheus", url = "https://prometheus.internal", query = "...", min = 0.99 }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrometheusSettings {
    /// The server's base address, without `/api/v1`; https, or http to this machine.
    url: String,
    /// A PromQL expression that yields one number; aggregate where there are several series.
    query: String,
    /// Below it is unhealthy.
    min: Option<f64>,
    /// Above it is unhealthy.
    max: Option<f64>,
    /// How far it may fall from its number before the promotion.
    max_drop: Option<Change>,
    /// How far it may rise from its number before the promotion.
    max_rise: Option<Change>,
    /// Headers, such as a tenant's `x-scope-orgid`.
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
pub struct PrometheusCheck {
    instant: Instant,
    bounds: Bounds,
}

/// A query that yields one number at a time.
pub(super) struct Instant {
    pub(super) requester: Requester,
    pub(super) recipe: Recipe,
    pub(super) query: String,
}

impl Instant {
    /// The number at `time`, the server's own without one, or why there is none.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the query cannot be parsed; as the server says.
    pub(super) async fn number_at(
        &self,
        time: Option<Timestamp>,
        value: Option<&SecretValue>,
    ) -> Result<Result<f64, String>, Fault> {
        // As a form: queries may be longer than an address may be.
        let request = self
            .requester
            .request(Method::POST, &self.recipe, value)
            .await?
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form(&self.query, time)?);
        let answer = self.requester.http.send(WHAT, request).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST => {
                return Err(Fault::invalid("Prometheus cannot parse the check's query, correct it"));
            }
            StatusCode::UNPROCESSABLE_ENTITY => {
                return Ok(Err("Prometheus cannot evaluate the query now".to_owned()));
            }
            other => return Err(http::status_fault(WHAT, other, answer.headers())),
        }
        let body = http::read_body(WHAT, answer, MAX_BODY_BYTES).await?;
        Ok(sample_in(&body))
    }
}

impl PrometheusCheck {
    /// # Errors
    /// [`Fault::Invalid`] where `settings` do not fit.
    pub fn new(settings: &Value, http: HttpClient, credentials: Arc<dyn Credentials>) -> Result<Self, Fault> {
        let settings: PrometheusSettings = settings::read(NAME, settings)?;
        let instant = Instant {
            requester: Requester { http, credentials, timeout: timeout(settings.timeout) },
            query: settings.query.clone(),
            recipe: settings.clone().recipe(),
        };
        Ok(Self { instant, bounds: settings.bounds() })
    }

    async fn look(&self, context: &CheckContext) -> Result<Reading, Fault> {
        Ok(match self.instant.number_at(None, context.value.as_ref()).await? {
            Ok(number) => self.bounds.judge(number, context.baseline),
            Err(why) => unknown(why),
        })
    }
}

#[async_trait]
impl Check for PrometheusCheck {
    async fn observe(&self, context: &CheckContext) -> Result<Reading, Fault> {
        self.look(context).await.or_else(unread)
    }
}

/// `query=...` as a form (URL standard, section 5), which is what a URL's query is.
fn form(query: &str, time: Option<Timestamp>) -> Result<String, Fault> {
    let time = time.map(|time| ("time", time.as_second().to_string()));
    let pairs = [("query", query.to_owned())].into_iter().chain(time);
    let address = Url::parse_with_params("http://localhost", pairs);
    let form = address.ok().and_then(|address| address.query().map(ToOwned::to_owned));
    form.ok_or_else(|| Fault::invalid("the check's query cannot be sent, correct it"))
}

/// The one number of an answer, or why there is none.
fn sample_in(body: &[u8]) -> Result<f64, String> {
    let json: Value =
        serde_json::from_slice(body).map_err(|_| "answered with something else than JSON".to_owned())?;
    if json["status"] != "success" {
        return Err("the query did not succeed".to_owned());
    }
    let data = &json["data"];
    let sample = match (data["resultType"].as_str(), &data["result"]) {
        (Some("scalar"), sample) => sample,
        (Some("vector"), Value::Array(series)) => match series.as_slice() {
            [] => return Err("the query has no data".to_owned()),
            [one] => &one["value"],
            several => {
                let count = several.len();
                return Err(format!("the query has {count} series instead of one, aggregate them"));
            }
        },
        _ => return Err("the query yields something else than a number".to_owned()),
    };
    // A sample is [time, "text of the number"]; the text may be NaN or +Inf.
    let text = sample[1].as_str().ok_or_else(|| "the query's answer has no sample".to_owned())?;
    text.parse().map_err(|_| "the query's sample is not a number".to_owned())
}

impl PrometheusSettings {
    fn bounds(&self) -> Bounds {
        Bounds { min: self.min, max: self.max, max_drop: self.max_drop, max_rise: self.max_rise }
    }

    fn recipe(self) -> Recipe {
        Recipe {
            url: format!("{}/api/v1/query", self.url.trim_end_matches('/')),
            header: self.header,
            header_from: self.header_from,
            bearer: self.bearer,
            basic: self.basic,
        }
    }
}

fn lint(settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = PrometheusSettings::deserialize(settings) else { return Vec::new() };
    let mut problems: Vec<KindProblem> =
        settings::timeout_problem("/timeout", settings.timeout).into_iter().collect();
    if settings.query.trim().is_empty() {
        problems.push(KindProblem::error(
            "query",
            "/query",
            "the query is empty",
            "write a PromQL expression that yields one number",
        ));
    }
    problems.extend(settings.bounds().problem());
    problems.extend(settings.recipe().problems(context));
    problems
}

#[cfg(test)]
mod tests {
    use rota_engine::ports::Verdict;

    use super::*;

    fn vector(samples: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{samples}]}}}}"#)
    }

    #[test]
    fn one_sample_is_a_number_and_everything_else_is_unknown() {
        let one = r#"{"metric":{},"value":[1768471200,"0.995"]}"#;
        assert_eq!(sample_in(vector(one).as_bytes()), Ok(0.995));
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"3"]}}"#;
        assert_eq!(sample_in(scalar.as_bytes()), Ok(3.0));
        for (body, why) in [
            (vector(""), "no data"),
            (vector(&format!("{one},{one}")), "2 series"),
            (vector(r#"{"metric":{}}"#), "no sample"),
            (vector(r#"{"metric":{},"value":[1,"x"]}"#), "not a number"),
            (
                r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#.to_owned(),
                "something else",
            ),
            (r#"{"status":"error"}"#.to_owned(), "did not succeed"),
            ("<html>".to_owned(), "JSON"),
        ] {
            let error = sample_in(body.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_query_is_sent_as_a_form() {
        let coded = form("sum(rate(a{b=\"c+d\"}[5m])) / 2 & 1", None).unwrap();
        assert_eq!(coded, "query=sum%28rate%28a%7Bb%3D%22c%2Bd%22%7D%5B5m%5D%29%29+%2F+2+%26+1");
        let yesterday = form("up", Timestamp::from_second(1_768_471_200).ok()).unwrap();
        assert_eq!(yesterday, "query=up&time=1768471200");
    }

    #[test]
    fn not_a_number_and_infinity_are_unknown() {
        for text in ["NaN", "+Inf", "-Inf"] {
            let body = vector(&format!(r#"{{"metric":{{}},"value":[1,"{text}"]}}"#));
            let number = sample_in(body.as_bytes()).unwrap();
            let bounds = Bounds { min: Some(0.0), ..Bounds::default() };
            assert_eq!(bounds.judge(number, None).verdict, Verdict::Unknown, "{text}");
        }
    }
}
