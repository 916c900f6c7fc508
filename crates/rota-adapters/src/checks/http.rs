//! `http`: an address that answers with the expected status.
//!
//! As the check of a consumer: the expected status is healthy, another one is not.
//! As `prove`, with the value in a header: the expected status means that the
//! provider takes the value, 401 and 403 that it refuses it, and everything else
//! says nothing about the value. Redirects are not followed: they would take a
//! credential to somewhere else.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::{Method, StatusCode};
use rota_core::fault::Fault;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{KindContext, KindProblem, KindSpec, Port};
use rota_engine::ports::{Check, CheckContext, Reading, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json_path::JsonPath;

use super::request::{Basic, Recipe, Requester};
use super::{MAX_BODY_BYTES, reading, timeout, unknown, unread};
use crate::catalog::CheckKind;
use crate::credential::{Credentials, Reference};
use crate::http::{self, HttpClient};
use crate::settings;

/// The name of the kind.
pub const NAME: &str = "http";

/// The kind as policies see it.
pub const KIND: CheckKind = CheckKind {
    spec: KindSpec::new(Port::Check, NAME, "an address that answers with the expected status")
        .inline::<HttpSettings>()
        .lint(lint),
    build: |policy, environment| {
        Ok(Arc::new(HttpCheck::new(
            &policy.settings,
            environment.client.clone(),
            Arc::new(environment.credentials.clone()),
        )?))
    },
};

const WHAT: &str = "the health check's address";

/// `{ kind = "http", url = "https://api.example.com/api/health" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Where to ask; https, or http to this machine. Never holds a value.
    url: String,
    /// The healthy status or statuses; 200 where nothing is said.
    #[serde(default)]
    expect: Expect,
    /// What the answer's JSON must say, where the status is not enough.
    json: Option<JsonRule>,
    /// Headers; in `prove`, `{value}` is the value to be proven.
    #[serde(default)]
    header: BTreeMap<String, String>,
    /// Headers whose text is kept in a store (`store:path#field`).
    #[serde(default)]
    header_from: BTreeMap<String, Reference>,
    /// A bearer token: where it is kept, or `{value}`.
    bearer: Option<String>,
    /// A user name and password.
    basic: Option<Basic>,
    /// How long an answer may take; 10s where nothing is said, 25s at most.
    timeout: Option<DurationText>,
}

/// One status or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Expect {
    One(u16),
    Any(Vec<u16>),
}

impl Default for Expect {
    fn default() -> Self {
        Self::One(200)
    }
}

impl Expect {
    pub(crate) fn statuses(&self) -> &[u16] {
        match self {
            Self::One(status) => std::slice::from_ref(status),
            Self::Any(statuses) => statuses,
        }
    }

    pub(crate) fn written(&self) -> String {
        self.statuses().iter().map(u16::to_string).collect::<Vec<_>>().join(" or ")
    }
}

/// `json = { path = "$.status", equals = "ok" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonRule {
    /// A JSONPath (RFC 9535) that selects one value of the answer.
    path: String,
    /// What it must be.
    equals: Value,
}

/// The check.
pub struct HttpCheck {
    requester: Requester,
    recipe: Recipe,
    expect: Expect,
    json: Option<(JsonPath, Value)>,
}

impl HttpCheck {
    /// # Errors
    /// [`Fault::Invalid`] where `settings` do not fit.
    pub fn new(settings: &Value, http: HttpClient, credentials: Arc<dyn Credentials>) -> Result<Self, Fault> {
        let settings: HttpSettings = settings::read(NAME, settings)?;
        let json = settings.json.as_ref().map(|rule| {
            let path = JsonPath::parse(&rule.path)
                .map_err(|_| Fault::invalid(format!("`{}` is not a JSONPath", rule.path)))?;
            Ok((path, rule.equals.clone()))
        });
        Ok(Self {
            requester: Requester { http, credentials, timeout: timeout(settings.timeout) },
            json: json.transpose()?,
            expect: settings.expect.clone(),
            recipe: settings.recipe(),
        })
    }

    async fn look(&self, context: &CheckContext) -> Result<Reading, Fault> {
        let request = self.requester.request(Method::GET, &self.recipe, context.value.as_ref()).await?;
        let answer = self.requester.http.send(WHAT, request).await?;
        let status = answer.status();
        let verdict = judge(status, self.expect.statuses(), context.value.is_some());
        let detail = match verdict {
            Verdict::Healthy => format!("answered {}", status.as_u16()),
            Verdict::Unhealthy | Verdict::Unknown => {
                format!("answered {}, expected {}", status.as_u16(), self.expect.written())
            }
        };
        match &self.json {
            Some((path, wanted)) if verdict == Verdict::Healthy => {
                let body = http::read_body(WHAT, answer, MAX_BODY_BYTES).await?;
                Ok(judge_body(&body, path, wanted, context.value.is_some()))
            }
            _ => Ok(reading(verdict, None, detail)),
        }
    }
}

#[async_trait]
impl Check for HttpCheck {
    async fn observe(&self, context: &CheckContext) -> Result<Reading, Fault> {
        self.look(context).await.or_else(unread)
    }
}

/// What a status says: about a consumer, or about a value that was shown.
fn judge(status: StatusCode, expected: &[u16], proving: bool) -> Verdict {
    match status.as_u16() {
        code if expected.contains(&code) => Verdict::Healthy,
        401 | 403 if proving => Verdict::Unhealthy,
        _ if proving => Verdict::Unknown,
        // Not an answer about the consumer's health.
        408 | 425 | 429 => Verdict::Unknown,
        _ => Verdict::Unhealthy,
    }
}

/// What an answer's JSON says. Of a value that was shown, only the status tells a refusal.
fn judge_body(body: &[u8], path: &JsonPath, wanted: &Value, proving: bool) -> Reading {
    let wrong = if proving { Verdict::Unknown } else { Verdict::Unhealthy };
    let Ok(json) = serde_json::from_slice::<Value>(body) else {
        return unknown("answered with something else than JSON");
    };
    match path.query(&json).exactly_one() {
        Ok(found) if same(found, wanted) => reading(Verdict::Healthy, None, format!("{path} is as expected")),
        Ok(_) => reading(wrong, None, format!("{path} is not as expected")),
        Err(_) => reading(wrong, None, format!("{path} does not select one value")),
    }
}

/// Numbers are compared as numbers: `1` is `1.0`.
fn same(found: &Value, wanted: &Value) -> bool {
    match (found.as_f64(), wanted.as_f64()) {
        (Some(found), Some(wanted)) => found.total_cmp(&wanted).is_eq(),
        _ => found == wanted,
    }
}

impl HttpSettings {
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

/// What is wrong with a status that is expected.
pub(crate) fn status_problem(pointer: &str, expect: &Expect) -> Option<KindProblem> {
    let statuses = expect.statuses();
    (statuses.is_empty() || statuses.iter().any(|status| !(200..=599).contains(status))).then(|| {
        KindProblem::error(
            "status",
            pointer,
            "an HTTP status is a number from 200 to 599",
            "write `expect = 200` or `expect = [200, 204]`",
        )
    })
}

fn lint(settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = HttpSettings::deserialize(settings) else { return Vec::new() };
    let mut problems: Vec<KindProblem> =
        settings::timeout_problem("/timeout", settings.timeout).into_iter().collect();
    problems.extend(status_problem("/expect", &settings.expect));
    if let Some(rule) = &settings.json
        && JsonPath::parse(&rule.path).is_err()
    {
        problems.push(super::path_problem("/json/path"));
    }
    problems.extend(settings.recipe().problems(context));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, proving: bool) -> Verdict {
        judge(StatusCode::from_u16(status).unwrap(), &[200, 204], proving)
    }

    #[test]
    fn a_consumer_is_healthy_with_the_expected_status_only() {
        for status in [200, 204] {
            assert_eq!(verdict(status, false), Verdict::Healthy, "{status}");
        }
        for status in [201, 301, 302, 400, 401, 403, 404, 500, 502, 503] {
            assert_eq!(verdict(status, false), Verdict::Unhealthy, "{status}");
        }
        for status in [408, 425, 429] {
            assert_eq!(verdict(status, false), Verdict::Unknown, "{status}");
        }
    }

    #[test]
    fn a_value_is_refused_by_401_and_403_only() {
        assert_eq!(verdict(200, true), Verdict::Healthy);
        for status in [401, 403] {
            assert_eq!(verdict(status, true), Verdict::Unhealthy, "{status}");
        }
        for status in [301, 302, 400, 404, 408, 429, 500, 503, 529] {
            assert_eq!(verdict(status, true), Verdict::Unknown, "{status}");
        }
    }

    #[test]
    fn a_refusal_may_be_what_is_expected() {
        assert_eq!(judge(StatusCode::UNAUTHORIZED, &[401], false), Verdict::Healthy);
        assert_eq!(judge(StatusCode::UNAUTHORIZED, &[401], true), Verdict::Healthy);
    }

    #[test]
    fn json_is_compared_by_value_and_never_repeated() {
        let path = JsonPath::parse("$.checks.db").unwrap();
        let verdict = |body: &str, wanted: Value| {
            let reading = judge_body(body.as_bytes(), &path, &wanted, false);
            assert!(!reading.detail.contains("hunter2"), "{}", reading.detail);
            reading.verdict
        };
        assert_eq!(verdict(r#"{"checks":{"db":"ok"}}"#, "ok".into()), Verdict::Healthy);
        assert_eq!(verdict(r#"{"checks":{"db":1}}"#, 1.0.into()), Verdict::Healthy);
        assert_eq!(verdict(r#"{"checks":{"db":true}}"#, true.into()), Verdict::Healthy);
        assert_eq!(verdict(r#"{"checks":{"db":"hunter2"}}"#, "ok".into()), Verdict::Unhealthy);
        assert_eq!(verdict(r#"{"checks":{"db":"1"}}"#, 1.into()), Verdict::Unhealthy);
        assert_eq!(verdict("{}", "ok".into()), Verdict::Unhealthy);
        assert_eq!(verdict("<html>hunter2</html>", "ok".into()), Verdict::Unknown);
        let proving = judge_body(br#"{"checks":{"db":"no"}}"#, &path, &"ok".into(), true);
        assert_eq!(proving.verdict, Verdict::Unknown);
    }
}
