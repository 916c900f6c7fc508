//! `auth-failures`: whether failed authentications have jumped, compared with the same
//! hours of the days before and with the rate from before the promotion.
//!
//! Some failures are normal and follow the day and the week, so what is usual is the greater
//! of the rate a week ago and the median of the days before; one bad day in them changes
//! little. Below the floor nothing is a jump. Without data it is unknown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{KindContext, KindProblem, KindSpec, Port};
use rota_engine::ports::{Check, CheckContext, Reading, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cloudwatch::api::{Account, Statistic};
use super::cloudwatch::{Metric, window_problem};
use super::prometheus::Instant;
use super::request::{Basic, Recipe, Requester};
use super::{reading, timeout, unknown, unread};
use crate::aws::AwsEnvironment;
use crate::catalog::CheckKind;
use crate::credential::Reference;
use crate::environment::AdapterEnvironment;
use crate::settings;

/// The name of the kind.
pub const NAME: &str = "auth-failures";

/// The kind as policies see it.
pub const KIND: CheckKind = CheckKind {
    spec: KindSpec::new(Port::Check, NAME, "whether failed authentications have jumped")
        .inline::<AuthFailuresSettings>()
        .lint(lint),
    build: |policy, environment| Ok(Arc::new(AuthFailuresCheck::new(&policy.settings, environment)?)),
};

/// How far back a look goes where the policy does not say.
const DEFAULT_WINDOW: SignedDuration = SignedDuration::from_mins(10);

/// A longer one would hide a jump.
const LONGEST_WINDOW: SignedDuration = SignedDuration::from_hours(6);

/// A week has every day once.
const DEFAULT_DAYS: u8 = 7;
/// Each day is a question.
const MOST_DAYS: u8 = 14;

/// How many times as much as usual is a jump where the policy does not say.
const DEFAULT_FACTOR: f64 = 3.0;

const DAY: SignedDuration = SignedDuration::from_hours(24);
const WEEK: u8 = 7;

/// `{ kind = "auth-failures", prometheus = { url = "...", query = "..." }, floor = 5.0 }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthFailuresSettings {
    /// A query whose number is failures per minute.
    prometheus: Option<PrometheusSource>,
    /// A metric whose sum is a number of failures.
    cloudwatch: Option<CloudwatchSource>,
    /// So many a minute are never a jump.
    floor: f64,
    /// More than so many times as much as usual is a jump; 3 where nothing is said.
    factor: Option<f64>,
    /// How far back a look goes; 10m where nothing is said, 6h at most.
    window: Option<DurationText>,
    /// How many days before it is compared with; 7 where nothing is said, 14 at most.
    days: Option<u8>,
    /// How long all answers together may take; 10s where nothing is said, 25s at most.
    timeout: Option<DurationText>,
}

/// `{ url = "https://prometheus.internal", query = "sum(rate(login_failures_total[10m])) * 60" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrometheusSource {
    /// The server's base address, without `/api/v1`; https, or http to this machine.
    url: String,
    /// A PromQL expression that yields one number: failures per minute.
    query: String,
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
}

/// `{ namespace = "Acd", name = "LoginFailures" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudwatchSource {
    /// Such as `Acd`.
    namespace: String,
    /// Such as `LoginFailures`.
    name: String,
    /// All of the metric's dimensions.
    #[serde(default)]
    dimensions: BTreeMap<String, String>,
    /// The daemon's own region without it.
    region: Option<String>,
    /// A role to assume before CloudWatch is asked.
    assume_role: Option<String>,
    /// What the role's trust policy asks for.
    external_id: Option<String>,
}

/// Who is asked.
enum Source {
    Prometheus(Instant),
    Cloudwatch { source: CloudwatchSource, metric: Metric, aws: AwsEnvironment },
}

/// The check.
pub struct AuthFailuresCheck {
    settings: AuthFailuresSettings,
    source: Source,
    timeout: Duration,
}

impl AuthFailuresCheck {
    /// # Errors
    /// [`Fault::Invalid`] where `settings` do not fit.
    pub fn new(settings: &Value, environment: &AdapterEnvironment) -> Result<Self, Fault> {
        let settings: AuthFailuresSettings = settings::read(NAME, settings)?;
        let timeout = timeout(settings.timeout);
        let source = match (&settings.prometheus, &settings.cloudwatch) {
            (Some(source), _) => Source::Prometheus(Instant {
                requester: Requester {
                    http: environment.client.clone(),
                    credentials: Arc::new(environment.credentials.clone()),
                    timeout,
                },
                recipe: source.recipe(),
                query: source.query.clone(),
            }),
            (None, Some(source)) => Source::Cloudwatch {
                metric: source.metric(),
                source: source.clone(),
                aws: environment.aws.clone(),
            },
            (None, None) => return Err(Fault::invalid("the check names nobody to ask")),
        };
        Ok(Self { settings, source, timeout })
    }

    /// Failures per minute in the window before `until`; `None` without data.
    async fn rate(&self, until: Timestamp) -> Result<Option<f64>, Fault> {
        let window = self.settings.window();
        let rate = match &self.source {
            Source::Prometheus(instant) => instant.number_at(Some(until), None).await?.ok(),
            Source::Cloudwatch { source, metric, aws } => {
                let client = source.account().client(aws, self.timeout)?;
                let sum = client.statistic(metric, window, until).await?;
                sum.map(|sum| sum / (window.as_secs_f64() / 60.0))
            }
        };
        Ok(rate.filter(|rate| rate.is_finite()))
    }

    async fn look(&self, context: &CheckContext) -> Result<Reading, Fault> {
        let Some(rate) = self.rate(context.now).await? else {
            return Ok(unknown("failed authentications have no data in the window"));
        };
        if rate <= self.settings.floor {
            let detail = format!("{rate:.2} a minute, not above the floor of {}", self.settings.floor);
            return Ok(reading(Verdict::Healthy, Some(rate), detail));
        }
        let mut before = Vec::new();
        for day in 1..=self.settings.days() {
            if let Some(rate) = self.rate(context.now - DAY * i32::from(day)).await? {
                before.push((day, rate));
            }
        }
        Ok(judge(rate, &before, context.baseline, self.settings.factor()))
    }
}

/// `before` has the rates of the days before, by how many days.
fn judge(rate: f64, before: &[(u8, f64)], baseline: Option<f64>, factor: f64) -> Reading {
    let week_ago = before.iter().find(|(day, _)| *day == WEEK).map(|(_, rate)| *rate);
    let usual = [median(before.iter().map(|(_, rate)| *rate).collect()), week_ago, baseline];
    let usual = usual.into_iter().flatten().filter(|usual| usual.is_finite()).reduce(f64::max);
    let Some(usual) = usual else {
        let detail = format!("{rate:.2} a minute, and nothing is known from before to compare with");
        return reading(Verdict::Unknown, Some(rate), detail);
    };
    let verdict = if rate > usual * factor { Verdict::Unhealthy } else { Verdict::Healthy };
    reading(verdict, Some(rate), format!("{rate:.2} a minute, {usual:.2} are usual at this hour"))
}

/// The middle one; of two the greater.
fn median(mut rates: Vec<f64>) -> Option<f64> {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied()
}

#[async_trait]
impl Check for AuthFailuresCheck {
    async fn observe(&self, context: &CheckContext) -> Result<Reading, Fault> {
        match tokio::time::timeout(self.timeout, self.look(context)).await {
            Ok(looked) => looked.or_else(unread),
            Err(_elapsed) => Ok(unknown("the days before were not told in time")),
        }
    }
}

impl AuthFailuresSettings {
    fn window(&self) -> SignedDuration {
        self.window.map_or(DEFAULT_WINDOW, |window| window.0)
    }

    fn days(&self) -> u8 {
        self.days.unwrap_or(DEFAULT_DAYS)
    }

    fn factor(&self) -> f64 {
        self.factor.unwrap_or(DEFAULT_FACTOR)
    }
}

impl PrometheusSource {
    fn recipe(&self) -> Recipe {
        Recipe {
            url: format!("{}/api/v1/query", self.url.trim_end_matches('/')),
            header: self.header.clone(),
            header_from: self.header_from.clone(),
            bearer: self.bearer.clone(),
            basic: self.basic.clone(),
        }
    }
}

impl CloudwatchSource {
    fn account(&self) -> Account<'_> {
        Account {
            region: self.region.as_deref(),
            assume_role: self.assume_role.as_deref(),
            external_id: self.external_id.as_deref(),
        }
    }

    fn metric(&self) -> Metric {
        Metric {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            dimensions: self.dimensions.clone(),
            statistic: Statistic::Sum,
        }
    }
}

fn lint(settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = AuthFailuresSettings::deserialize(settings) else { return Vec::new() };
    let mut problems: Vec<KindProblem> =
        settings::timeout_problem("/timeout", settings.timeout).into_iter().collect();
    problems.extend(window_problem(settings.window, LONGEST_WINDOW));
    let wrong = |pointer: &str, message: &str, help: &str| KindProblem::error("jump", pointer, message, help);
    if !(settings.floor.is_finite() && settings.floor >= 0.0) {
        problems.push(wrong("/floor", "no number of failures is like that", "write a floor such as `5.0`"));
    }
    if !(settings.factor().is_finite() && settings.factor() > 1.0) {
        problems.push(wrong(
            "/factor",
            "what is usual would be a jump",
            "write a factor above 1, such as `3.0`",
        ));
    }
    if !(1..=MOST_DAYS).contains(&settings.days()) {
        problems.push(wrong("/days", "it is compared with 1 to 14 days", "write `days = 7`"));
    }
    match (&settings.prometheus, &settings.cloudwatch) {
        (Some(source), None) => {
            problems.extend(source.recipe().problems(context).into_iter().map(|problem| KindProblem {
                pointer: format!("/prometheus{}", problem.pointer),
                ..problem
            }));
            if source.query.trim().is_empty() {
                problems.push(wrong(
                    "/prometheus/query",
                    "the query is empty",
                    "write a PromQL expression that yields failures per minute",
                ));
            }
        }
        (None, Some(source)) => {
            problems.extend(source.account().problems().into_iter().map(|problem| KindProblem {
                pointer: format!("/cloudwatch{}", problem.pointer),
                ..problem
            }));
        }
        (Some(_), Some(_)) | (None, None) => {
            problems.push(wrong("", "one of two is asked", "write `prometheus` or `cloudwatch`"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(rate: f64, before: &[f64], baseline: Option<f64>) -> Verdict {
        let before: Vec<(u8, f64)> = (1u8..).zip(before.iter().copied()).collect();
        judge(rate, &before, baseline, 3.0).verdict
    }

    #[test]
    fn a_jump_is_more_than_so_many_times_the_usual() {
        let usual = [10.0; 7];
        assert_eq!(verdict(30.0, &usual, None), Verdict::Healthy);
        assert_eq!(verdict(30.1, &usual, None), Verdict::Unhealthy);
        assert_eq!(verdict(0.1, &[0.0; 7], None), Verdict::Unhealthy, "nobody ever failed at this hour");
    }

    #[test]
    fn a_monday_is_compared_with_the_monday_before_and_not_with_the_weekend() {
        // Sunday first; a week ago was a Monday.
        let monday = [1.0, 1.0, 20.0, 20.0, 20.0, 20.0, 40.0];
        assert_eq!(verdict(100.0, &monday, None), Verdict::Healthy);
        let sunday = [1.0, 20.0, 20.0, 20.0, 20.0, 20.0, 1.0];
        assert_eq!(verdict(61.0, &sunday, None), Verdict::Unhealthy);
    }

    #[test]
    fn one_bad_day_among_the_days_before_hides_no_jump() {
        let attacked = [2.0, 2.0, 900.0, 2.0, 2.0, 2.0, 2.0];
        assert_eq!(verdict(100.0, &attacked, None), Verdict::Unhealthy);
    }

    #[test]
    fn what_was_there_before_the_promotion_is_no_jump() {
        assert_eq!(verdict(100.0, &[2.0; 7], Some(90.0)), Verdict::Healthy);
        assert_eq!(verdict(100.0, &[2.0; 7], Some(3.0)), Verdict::Unhealthy);
    }

    #[test]
    fn without_anything_to_compare_with_nobody_can_tell() {
        assert_eq!(verdict(100.0, &[], None), Verdict::Unknown);
        assert_eq!(verdict(100.0, &[], Some(f64::NAN)), Verdict::Unknown);
        assert_eq!(
            verdict(100.0, &[], Some(90.0)),
            Verdict::Healthy,
            "the rate before the promotion is enough"
        );
        assert_eq!(verdict(100.0, &[2.0], None), Verdict::Unhealthy, "and so is one day");
    }
}
