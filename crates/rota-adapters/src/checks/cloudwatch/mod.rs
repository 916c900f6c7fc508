//! `cloudwatch`: the state of an alarm, a metric within bounds, or how often a pattern
//! stands in a log group.
//!
//! What CloudWatch has no data for is unknown. No log line gets into a message.

pub(crate) mod api;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{KindContext, KindProblem, KindSpec, Port};
use rota_engine::ports::{Check, CheckContext, Reading, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bounds::{Bounds, Change};
use super::{reading, timeout, unknown, unread};
use crate::aws::AwsEnvironment;
use crate::catalog::CheckKind;
use crate::settings;
use api::{Account, AlarmState, Events};
pub use api::{Metric, Statistic};

/// The name of the kind.
pub const NAME: &str = "cloudwatch";

/// The kind as policies see it.
pub const KIND: CheckKind = CheckKind {
    spec: KindSpec::new(Port::Check, NAME, "an alarm, a metric or a log pattern of Amazon CloudWatch")
        .inline::<CloudwatchSettings>()
        .lint(lint),
    build: |policy, environment| {
        Ok(Arc::new(CloudwatchCheck {
            settings: settings::read(NAME, &policy.settings)?,
            aws: environment.aws.clone(),
        }))
    },
};

/// How far back a look goes where the policy does not say.
const DEFAULT_WINDOW: SignedDuration = SignedDuration::from_mins(5);

/// `GetMetricStatistics` gives at most 1,440 numbers, here one a minute.
const LONGEST_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// `{ kind = "cloudwatch", alarm = "backend-5xx" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudwatchSettings {
    /// An alarm's name: OK is healthy, ALARM is unhealthy.
    alarm: Option<String>,
    /// A metric, within bounds.
    metric: Option<Metric>,
    /// A pattern in a log group; its number is how often it is there, per minute.
    log: Option<Log>,
    /// How far back a look goes; 5m where nothing is said, 24h at most.
    window: Option<DurationText>,
    /// Below it is unhealthy.
    min: Option<f64>,
    /// Above it is unhealthy.
    max: Option<f64>,
    /// How far it may fall from its number before the promotion.
    max_drop: Option<Change>,
    /// How far it may rise from its number before the promotion.
    max_rise: Option<Change>,
    /// The daemon's own region without it.
    region: Option<String>,
    /// A role to assume before CloudWatch is asked.
    assume_role: Option<String>,
    /// What the role's trust policy asks for.
    external_id: Option<String>,
    /// How long an answer may take; 10s where nothing is said, 25s at most.
    timeout: Option<DurationText>,
}

/// `log = { group = "/ecs/backend", pattern = "JWT" }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The log group.
    group: String,
    /// A filter pattern of CloudWatch Logs.
    pattern: String,
    /// Nothing at all may be logged while the consumer is well, as in a log of errors.
    #[serde(default)]
    may_be_silent: bool,
}

/// The check.
struct CloudwatchCheck {
    settings: CloudwatchSettings,
    aws: AwsEnvironment,
}

impl CloudwatchCheck {
    async fn look(&self, context: &CheckContext) -> Result<Reading, Fault> {
        let settings = &self.settings;
        let client = settings.account().client(&self.aws, timeout(settings.timeout))?;
        if let Some(alarm) = &settings.alarm {
            return Ok(match client.alarm(alarm).await? {
                AlarmState::Ok => reading(Verdict::Healthy, None, format!("alarm `{alarm}` is OK")),
                AlarmState::Alarm => {
                    reading(Verdict::Unhealthy, None, format!("alarm `{alarm}` is in ALARM"))
                }
                AlarmState::Unsure => unknown(format!("alarm `{alarm}` has not enough data")),
            });
        }
        if let Some(metric) = &settings.metric {
            let found = client.statistic(metric, settings.window(), context.now).await?;
            return Ok(match found {
                Some(number) => settings.bounds().judge(number, context.baseline),
                None => unknown(format!("metric `{}` has no data in the window", metric.name)),
            });
        }
        let log =
            settings.log.as_ref().ok_or_else(|| Fault::invalid("the check names nothing to look at"))?;
        let events = async |pattern| client.events(&log.group, pattern, settings.window(), context.now).await;
        match events(Some(log.pattern.as_str())).await? {
            Events::All(0) if !log.may_be_silent && events(None).await? == Events::All(0) => {
                Ok(unknown(format!("nothing at all was logged to `{}` in the window", log.group)))
            }
            Events::All(count) => Ok(self.judge(count, context)),
            // It only gets worse from here.
            Events::AtLeast(count) => Ok(match self.judge(count, context) {
                unhealthy if unhealthy.verdict == Verdict::Unhealthy => unhealthy,
                _ => unknown(format!("`{}` has more matching events than can be counted", log.group)),
            }),
        }
    }

    fn judge(&self, count: usize, context: &CheckContext) -> Reading {
        let minutes = self.settings.window().as_secs_f64() / 60.0;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.settings.bounds().judge(f64::from(count) / minutes, context.baseline)
    }
}

#[async_trait]
impl Check for CloudwatchCheck {
    async fn observe(&self, context: &CheckContext) -> Result<Reading, Fault> {
        self.look(context).await.or_else(unread)
    }
}

impl CloudwatchSettings {
    fn account(&self) -> Account<'_> {
        Account {
            region: self.region.as_deref(),
            assume_role: self.assume_role.as_deref(),
            external_id: self.external_id.as_deref(),
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds { min: self.min, max: self.max, max_drop: self.max_drop, max_rise: self.max_rise }
    }

    fn window(&self) -> SignedDuration {
        self.window.map_or(DEFAULT_WINDOW, |window| window.0)
    }
}

fn lint(settings: &Value, _: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = CloudwatchSettings::deserialize(settings) else { return Vec::new() };
    let mut problems = settings.account().problems();
    problems.extend(settings::timeout_problem("/timeout", settings.timeout));
    problems.extend(window_problem(settings.window, LONGEST_WINDOW));
    let named = [settings.alarm.is_some(), settings.metric.is_some(), settings.log.is_some()];
    if named.iter().filter(|named| **named).count() != 1 {
        problems.push(KindProblem::error(
            "what",
            "",
            "one check looks at one alarm, one metric or one log group",
            "write `alarm`, `metric` or `log`, and another check for another one",
        ));
    }
    let bounded = settings.bounds() != Bounds::default();
    match (settings.alarm.is_some(), bounded) {
        (true, true) => problems.push(KindProblem::error(
            "bounds",
            "/alarm",
            "an alarm has bounds of its own",
            "remove `min`, `max`, `max_drop` and `max_rise`, or write `metric`",
        )),
        (true, false) => {}
        (false, _) => problems.extend(settings.bounds().problem()),
    }
    problems
}

/// What is wrong with how far back a look goes.
pub(super) fn window_problem(window: Option<DurationText>, longest: SignedDuration) -> Option<KindProblem> {
    let window = window?.0;
    (window < SignedDuration::from_mins(1) || window > longest).then(|| {
        KindProblem::error(
            "window",
            "/window",
            format!("a look goes back a minute at least and {longest:#} at most"),
            "write a window such as `10m`",
        )
    })
}
