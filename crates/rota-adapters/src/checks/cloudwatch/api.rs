//! The questions that checks ask CloudWatch and CloudWatch Logs.
//!
//! Of log events only the number is taken: their text stays in the answer. Facts from the
//! API references: "DescribeAlarms", "GetMetricStatistics", "FilterLogEvents".

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::policy::kinds::KindProblem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::aws::{AwsAccount, AwsEnvironment, AwsRole, account_problems, own_region};
use crate::aws_json::{Caller, Service};

const METRICS: Service = Service {
    name: "CloudWatch",
    host: "monitoring",
    target: "GraniteServiceVersion20100801",
    content_type: "application/x-amz-json-1.0",
};

const LOGS: Service = Service {
    name: "CloudWatch Logs",
    host: "logs",
    target: "Logs_20140328",
    content_type: "application/x-amz-json-1.1",
};

/// The resolution that every metric has ("High-resolution metrics" are finer, and are
/// summed up).
const PERIOD: SignedDuration = SignedDuration::from_mins(1);

/// The most events of one page.
const EVENTS_AT_ONCE: u32 = 10_000;

/// More pages than this are not counted in one look.
const MOST_PAGES: usize = 10;

/// Where CloudWatch is asked, and as whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account<'a> {
    pub(crate) region: Option<&'a str>,
    pub(crate) assume_role: Option<&'a str>,
    pub(crate) external_id: Option<&'a str>,
}

impl Account<'_> {
    pub(crate) fn problems(&self) -> Vec<KindProblem> {
        account_problems(self.region, self.assume_role, self.external_id)
    }

    /// # Errors
    /// [`Fault::Invalid`] where no region is known.
    pub(crate) fn client<'c>(&self, aws: &'c AwsEnvironment, timeout: Duration) -> Result<Client<'c>, Fault> {
        let region = self.region.map(ToOwned::to_owned).or_else(own_region);
        let region =
            region.ok_or_else(|| Fault::invalid("the region of CloudWatch is not known, write `region`"))?;
        let role = self
            .assume_role
            .map(|arn| AwsRole { arn: arn.to_owned(), external_id: self.external_id.map(ToOwned::to_owned) });
        Ok(Client { aws, account: AwsAccount { region, role }, timeout })
    }
}

/// How one number is made of many (`GetMetricStatistics`, `Statistics`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Statistic {
    #[default]
    Sum,
    Average,
    Minimum,
    Maximum,
    SampleCount,
}

/// `{ namespace = "AWS/ApplicationELB", name = "HTTPCode_Target_5XX_Count", dimensions = { ... } }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Such as `AWS/ApplicationELB`.
    pub namespace: String,
    /// Such as `HTTPCode_Target_5XX_Count`.
    pub name: String,
    /// All of the metric's dimensions: with others it is another metric.
    #[serde(default)]
    pub dimensions: BTreeMap<String, String>,
    /// `Sum` (without it), `Average`, `Minimum`, `Maximum` or `SampleCount`, over the window.
    #[serde(default)]
    pub statistic: Statistic,
}

/// What an alarm says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AlarmState {
    Ok,
    Alarm,
    /// Not enough data, or a word that nobody knows.
    Unsure,
}

/// How many log events there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Events {
    All(usize),
    /// At least so many; the rest was not counted.
    AtLeast(usize),
}

/// One account's CloudWatch.
pub(crate) struct Client<'a> {
    aws: &'a AwsEnvironment,
    account: AwsAccount,
    timeout: Duration,
}

impl Client<'_> {
    async fn call(&self, service: &'static Service, action: &str, question: Value) -> Result<Value, Fault> {
        let caller = Caller { aws: self.aws, account: self.account.clone(), service, timeout: self.timeout };
        caller.call(action, &question).await
    }

    /// # Errors
    /// [`Fault::Invalid`] where there is no such alarm; as CloudWatch says.
    pub(super) async fn alarm(&self, name: &str) -> Result<AlarmState, Fault> {
        let question = json!({ "AlarmNames": [name], "AlarmTypes": ["MetricAlarm", "CompositeAlarm"] });
        let answer = self.call(&METRICS, "DescribeAlarms", question).await?;
        let alarms = ["MetricAlarms", "CompositeAlarms"].iter().filter_map(|kind| answer[kind].as_array());
        let alarm = alarms.flatten().find(|alarm| alarm["AlarmName"] == name);
        let alarm = alarm.ok_or_else(|| {
            Fault::invalid(format!("CloudWatch has no alarm `{name}`, correct the check's name or region"))
        })?;
        Ok(match alarm["StateValue"].as_str() {
            Some("OK") => AlarmState::Ok,
            Some("ALARM") => AlarmState::Alarm,
            Some(_) | None => AlarmState::Unsure,
        })
    }

    /// The statistic over the `window` before `until`; `None` without any data.
    ///
    /// # Errors
    /// As CloudWatch says.
    pub(crate) async fn statistic(
        &self,
        metric: &Metric,
        window: SignedDuration,
        until: Timestamp,
    ) -> Result<Option<f64>, Fault> {
        let dimensions: Vec<Value> =
            metric.dimensions.iter().map(|(name, value)| json!({ "Name": name, "Value": value })).collect();
        // Whole minutes: a bucket that has only begun would count as a fall.
        let end = until.as_second() - until.as_second().rem_euclid(PERIOD.as_secs());
        let question = json!({
            "Namespace": metric.namespace,
            "MetricName": metric.name,
            "Dimensions": dimensions,
            "StartTime": end - window.as_secs(),
            "EndTime": end,
            "Period": PERIOD.as_secs(),
            "Statistics": ["Sum", "Minimum", "Maximum", "SampleCount"],
        });
        let answer = self.call(&METRICS, "GetMetricStatistics", question).await?;
        let points = answer["Datapoints"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(over(points, metric.statistic))
    }

    /// Counts the events of a log group that match `pattern` (every event without one).
    ///
    /// # Errors
    /// [`Fault::Invalid`] where there is no such group or the pattern cannot be read; as
    /// CloudWatch Logs says.
    pub(super) async fn events(
        &self,
        group: &str,
        pattern: Option<&str>,
        window: SignedDuration,
        until: Timestamp,
    ) -> Result<Events, Fault> {
        let end = until.as_millisecond();
        let mut question = json!({
            "logGroupName": group,
            "startTime": end - i64::try_from(window.as_millis()).unwrap_or(i64::MAX),
            "endTime": end,
            // Whether there is any needs one.
            "limit": if pattern.is_some() { EVENTS_AT_ONCE } else { 1 },
        });
        if let Some(pattern) = pattern {
            question["filterPattern"] = json!(pattern);
        }
        let mut count = 0;
        for _ in 0..MOST_PAGES {
            let answer = self.call(&LOGS, "FilterLogEvents", question.clone()).await?;
            count += answer["events"].as_array().map_or(0, Vec::len);
            match answer["nextToken"].as_str() {
                // A page may be empty and not the last one.
                Some(next) if pattern.is_some() || count == 0 => question["nextToken"] = json!(next),
                Some(_) | None => return Ok(Events::All(count)),
            }
        }
        Ok(Events::AtLeast(count))
    }
}

/// Makes one number of a minute's each.
fn over(points: &[Value], statistic: Statistic) -> Option<f64> {
    let of = |name: &str| points.iter().filter_map(|point| point[name].as_f64()).collect::<Vec<f64>>();
    let (sum, samples) = (of("Sum"), of("SampleCount"));
    let total = |numbers: &[f64]| (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>());
    match statistic {
        Statistic::Sum => total(&sum),
        Statistic::SampleCount => total(&samples),
        Statistic::Average => Some(total(&sum)? / total(&samples)?).filter(|average| average.is_finite()),
        Statistic::Minimum => of("Minimum").into_iter().reduce(f64::min),
        Statistic::Maximum => of("Maximum").into_iter().reduce(f64::max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_become_one_number_and_none_stay_none() {
        let point = |sum: f64, count: f64| json!({ "Sum": sum, "SampleCount": count, "Minimum": sum, "Maximum": sum });
        let points = [point(6.0, 2.0), point(1.0, 8.0)];
        for (statistic, wanted) in [
            (Statistic::Sum, 7.0),
            (Statistic::SampleCount, 10.0),
            (Statistic::Average, 0.7),
            (Statistic::Minimum, 1.0),
            (Statistic::Maximum, 6.0),
        ] {
            assert_eq!(over(&points, statistic), Some(wanted), "{statistic:?}");
            assert_eq!(over(&[], statistic), None, "{statistic:?}");
        }
        assert_eq!(over(&[point(0.0, 0.0)], Statistic::Average), None, "no samples have no average");
    }
}
