//! Checks of CloudWatch against the AWS emulator, and what its errors become against a
//! server that answers on order.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;
use jiff::{SignedDuration, Timestamp};
use rota_adapters::catalog::CheckKind;
use rota_adapters::checks::{auth_failures, cloudwatch};
use rota_adapters::environment::AdapterEnvironment;
use rota_core::fault::Fault;
use rota_core::policy::model::CheckPolicy;
use rota_engine::ports::{Check, CheckContext, Reading, Verdict};
use rota_fakes::http::{Effect, Fault as Scripted, Listen, Script, Serving};
use rota_fakes::moto::shared;
use rota_fakes::sigv4::{Claim, Request};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::stores::aws_secrets_manager::environment_at;
use crate::support::fault;

const METRICS: &str = "GraniteServiceVersion20100801";
const LOGS: &str = "Logs_20140328";

/// A call as the emulator's own user makes it, which it does not verify.
async fn tell(service: &str, target: &str, action: &str, body: Value) {
    let credential = format!("Credential=AKIAEMULATOR/20260115/us-east-1/{service}/aws4_request");
    let version = if target == LOGS { "1.1" } else { "1.0" };
    let answer = reqwest::Client::new()
        .post(shared().unwrap())
        .header("authorization", format!("AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=x"))
        .header("content-type", format!("application/x-amz-json-{version}"))
        .header("x-amz-target", format!("{target}.{action}"))
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{action}: {}", answer.text().await.unwrap());
}

async fn environment() -> AdapterEnvironment {
    environment_at(shared().unwrap(), "AKIAEMULATOR", "secret").await
}

fn build(kind: CheckKind, settings: Value, environment: &AdapterEnvironment) -> Arc<dyn Check> {
    let policy = CheckPolicy { name: "check".to_owned(), kind: kind.spec.name.to_owned(), settings };
    (kind.build)(&policy, environment).unwrap()
}

async fn look(kind: CheckKind, mut settings: Value, now: Timestamp) -> Result<Reading, Fault> {
    settings["region"] = json!("us-east-1");
    let check = build(kind, settings, &environment().await);
    check.observe(&CheckContext { now, baseline: None, value: None }).await
}

/// The emulator's clock.
async fn now() -> Timestamp {
    let answer = reqwest::Client::new().get(format!("{}/moto-api/", shared().unwrap())).send().await.unwrap();
    let date = answer.headers()["date"].to_str().unwrap();
    jiff::fmt::rfc2822::parse(date).unwrap().timestamp()
}

fn fresh(what: &str) -> String {
    format!("{what}-{}", Uuid::new_v4())
}

#[tokio::test]
async fn an_alarm_says_how_a_consumer_is() {
    let alarm = fresh("alarm");
    let settings = json!({ "alarm": alarm });
    let now = now().await;
    let missing = fault(look(cloudwatch::KIND, settings.clone(), now).await);
    assert!(matches!(missing, Fault::Invalid { .. }) && missing.to_string().contains(&alarm), "{missing}");
    let body = json!({
        "AlarmName": alarm, "Namespace": "Acd", "MetricName": "Failures", "Statistic": "Sum", "Period": 60,
        "EvaluationPeriods": 1, "Threshold": 5, "ComparisonOperator": "GreaterThanThreshold",
    });
    tell("monitoring", METRICS, "PutMetricAlarm", body).await;
    for (state, verdict) in
        [("OK", Verdict::Healthy), ("ALARM", Verdict::Unhealthy), ("INSUFFICIENT_DATA", Verdict::Unknown)]
    {
        let body = json!({ "AlarmName": alarm, "StateValue": state, "StateReason": "the test" });
        tell("monitoring", METRICS, "SetAlarmState", body).await;
        let reading = look(cloudwatch::KIND, settings.clone(), now).await.unwrap();
        assert_eq!(reading.verdict, verdict, "{state}: {}", reading.detail);
    }
}

/// Numbers of one metric, each so many minutes before `now`.
async fn put(name: &str, now: Timestamp, numbers: &[(i64, f64)]) {
    let data: Vec<Value> = numbers
        .iter()
        .map(|(minutes, number)| {
            let at = (now - SignedDuration::from_mins(*minutes)).as_second();
            let dimensions = json!([{ "Name": "Service", "Value": "api" }]);
            json!({ "MetricName": name, "Value": number, "Timestamp": at, "Dimensions": dimensions })
        })
        .collect();
    tell("monitoring", METRICS, "PutMetricData", json!({ "Namespace": "Acd", "MetricData": data })).await;
}

#[tokio::test]
async fn a_metric_is_judged_over_its_window_and_without_data_it_is_unknown() {
    let (name, now) = (fresh("metric"), now().await);
    let settings = |statistic: &str| {
        json!({
            "metric": { "namespace": "Acd", "name": name, "dimensions": { "Service": "api" }, "statistic": statistic },
            "window": "10m", "max": 12.0,
        })
    };
    let unknown = look(cloudwatch::KIND, settings("Sum"), now).await.unwrap();
    assert_eq!((unknown.verdict, unknown.value), (Verdict::Unknown, None), "{}", unknown.detail);
    put(&name, now, &[(3, 5.0), (5, 7.0), (60, 100.0)]).await;
    for (statistic, number) in
        [("Sum", 12.0), ("Average", 6.0), ("Minimum", 5.0), ("Maximum", 7.0), ("SampleCount", 2.0)]
    {
        let reading = look(cloudwatch::KIND, settings(statistic), now).await.unwrap();
        assert_eq!((reading.verdict, reading.value), (Verdict::Healthy, Some(number)), "{statistic}");
    }
    put(&name, now, &[(4, 1.0)]).await;
    let reading = look(cloudwatch::KIND, settings("Sum"), now).await.unwrap();
    assert_eq!((reading.verdict, reading.value), (Verdict::Unhealthy, Some(13.0)));
}

#[tokio::test]
async fn log_events_are_counted_per_minute_and_never_shown() {
    let (group, now) = (fresh("/ecs/backend"), now().await);
    let settings = |more: Value| {
        let mut log = json!({ "group": group, "pattern": "JWT" });
        log.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "log": log, "max": 0.5 })
    };
    let missing = fault(look(cloudwatch::KIND, settings(json!({})), now).await);
    assert!(matches!(missing, Fault::Invalid { .. }), "{missing}");
    tell("logs", LOGS, "CreateLogGroup", json!({ "logGroupName": group })).await;
    tell("logs", LOGS, "CreateLogStream", json!({ "logGroupName": group, "logStreamName": "one" })).await;
    let silent = look(cloudwatch::KIND, settings(json!({})), now).await.unwrap();
    assert_eq!(silent.verdict, Verdict::Unknown, "{}", silent.detail);
    let allowed = look(cloudwatch::KIND, settings(json!({ "may_be_silent": true })), now).await.unwrap();
    assert_eq!((allowed.verdict, allowed.value), (Verdict::Healthy, Some(0.0)));
    let log = async |messages: &[(&str, i64)]| {
        let events: Vec<Value> = messages
            .iter()
            .map(|(text, minutes)| {
                let at = (now - SignedDuration::from_mins(*minutes)).as_millisecond();
                json!({ "timestamp": at, "message": text })
            })
            .collect();
        let body = json!({ "logGroupName": group, "logStreamName": "one", "logEvents": events });
        tell("logs", LOGS, "PutLogEvents", body).await;
    };
    log(&[("fine", 2)]).await;
    let fine = look(cloudwatch::KIND, settings(json!({})), now).await.unwrap();
    assert_eq!((fine.verdict, fine.value), (Verdict::Healthy, Some(0.0)), "{}", fine.detail);
    log(&[("JWT hunter2 too old", 30), ("JWT hunter2", 3), ("JWT hunter2", 2), ("JWT hunter2", 1)]).await;
    let ill = look(cloudwatch::KIND, settings(json!({})), now).await.unwrap();
    assert_eq!((ill.verdict, ill.value), (Verdict::Unhealthy, Some(0.6)), "{}", ill.detail);
    assert!(!ill.detail.contains("hunter2"), "{}", ill.detail);
}

#[tokio::test]
async fn a_jump_of_failed_logins_is_seen_against_the_same_hours_of_the_days_before() {
    let (name, now) = (fresh("failures"), now().await);
    let settings = json!({
        "cloudwatch": { "namespace": "Acd", "name": name, "dimensions": { "Service": "api" }, "region": "us-east-1" },
        "floor": 1.0, "days": 3,
    });
    let look = async || {
        let check = build(auth_failures::KIND, settings.clone(), &environment().await);
        check.observe(&CheckContext { now, baseline: None, value: None }).await.unwrap()
    };
    assert_eq!(look().await.verdict, Verdict::Unknown, "there is no data");
    put(&name, now, &[(3, 10.0)]).await;
    assert_eq!(look().await.verdict, Verdict::Healthy, "one a minute is the floor");
    put(&name, now, &[(4, 30.0)]).await;
    assert_eq!(look().await.verdict, Verdict::Unknown, "nothing to compare with");
    let day = 24 * 60;
    put(&name, now, &[(day + 3, 10.0), (2 * day + 3, 15.0), (3 * day + 3, 900.0)]).await;
    let usual = look().await;
    assert_eq!((usual.verdict, usual.value), (Verdict::Healthy, Some(4.0)), "{}", usual.detail);
    put(&name, now, &[(5, 10.0)]).await;
    let jump = look().await;
    assert_eq!((jump.verdict, jump.value), (Verdict::Unhealthy, Some(5.0)), "{}", jump.detail);
}

/// A server that answers on order, and an environment that takes it for AWS.
async fn on_order() -> (Serving, Script, AdapterEnvironment) {
    async fn answer(
        headers: HeaderMap,
        body: axum::body::Bytes,
    ) -> Result<String, (axum::http::StatusCode, String)> {
        let refuse = |why: &str| (axum::http::StatusCode::FORBIDDEN, why.to_owned());
        let headers: BTreeMap<String, String> = headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()))
            .collect();
        let request = Request { method: "POST", path: "/", query: "", headers: &headers, body: &body };
        let claim = Claim::read(&request).map_err(|refused| refuse(refused.code()))?;
        claim.verify(&request, "the-right-secret", claim.signed_at).map_err(|why| refuse(why.code()))?;
        if claim.region != "eu-west-1" || claim.service != "monitoring" {
            return Err(refuse("SignatureDoesNotMatch"));
        }
        Ok(json!({ "MetricAlarms": [{ "AlarmName": "five", "StateValue": "OK" }] }).to_string())
    }
    let (script, router) = (Script::new(), Router::new().route("/", post(answer)));
    let serving = Serving::start(router, script.clone(), Listen::default()).unwrap();
    let environment = environment_at(&serving.url(), "AKIA", "the-right-secret").await;
    (serving, script, environment)
}

fn alarm(environment: &AdapterEnvironment) -> Arc<dyn Check> {
    build(cloudwatch::KIND, json!({ "alarm": "five", "region": "eu-west-1" }), environment)
}

const NOW: CheckContext = CheckContext { now: Timestamp::UNIX_EPOCH, baseline: None, value: None };

#[tokio::test]
async fn a_call_is_signed_for_its_region_and_service() {
    let (serving, _, environment) = on_order().await;
    assert_eq!(alarm(&environment).observe(&NOW).await.unwrap().verdict, Verdict::Healthy);
    let wrong = environment_at(&serving.url(), "AKIA", "another-secret").await;
    assert!(matches!(fault(alarm(&wrong).observe(&NOW).await), Fault::Denied { .. }));
}

#[tokio::test]
async fn what_passes_by_itself_is_unknown_and_what_does_not_is_told_without_the_answers_text() {
    let (serving, script, environment) = on_order().await;
    for (status, code, denied) in [
        (500, "InternalFailure", None),
        (503, "ServiceUnavailable", None),
        (400, "ThrottlingException", None),
        (400, "AccessDeniedException", Some(true)),
        (400, "ExpiredTokenException", Some(true)),
        (400, "InvalidParameterException", Some(false)),
        (403, "hunter2 is not allowed", Some(true)),
    ] {
        let body = json!({ "__type": format!("com.amazonaws#{code}"), "message": "hunter2" }).to_string();
        script.add(Scripted::next("POST /", Effect::Answer { status, headers: Vec::new(), body }));
        let looked = alarm(&environment).observe(&NOW).await;
        match denied {
            None => assert_eq!(looked.unwrap().verdict, Verdict::Unknown, "{code}"),
            Some(denied) => {
                let fault = fault(looked);
                assert_eq!(matches!(fault, Fault::Denied { .. }), denied, "{code}: {fault}");
                assert!(!fault.to_string().contains("hunter2"), "{fault}");
            }
        }
    }
    drop(serving);
    assert_eq!(alarm(&environment).observe(&NOW).await.unwrap().verdict, Verdict::Unknown);
}
