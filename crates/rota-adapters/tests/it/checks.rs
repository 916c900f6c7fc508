//! Checks against a server that misbehaves on order, and against a real Prometheus.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use jiff::Timestamp;
use rota_adapters::catalog::CheckKind;
use rota_adapters::checks::{command, http, json_metric, postgres_sessions, prometheus};
use rota_adapters::environment::AdapterEnvironment;
use rota_core::fault::Fault;
use rota_core::policy::model::CheckPolicy;
use rota_engine::ports::{Check, CheckContext, Reading, Verdict};
use rota_engine::test_support::check_suite::{CheckUnderTest, Health};
use rota_fakes::http::{Effect, Fault as Scripted, Listen, Script, Serving};
use rota_fakes::postgres::{TestDatabase, shared};
use rota_fakes::prometheus::{MetricsPage, PrometheusServer};
use rota_fakes::wait;
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

use crate::support::{environment, environment_with, fault, value};

const SOON: Duration = Duration::from_secs(30);

/// A page that answers 200 to whom it knows, and a metric.
fn serve() -> (Serving, Script) {
    let script = Script::new();
    let router = Router::new()
        .route("/health", get(async || r#"{"status":"ok","checks":{"db":true}}"#))
        .route("/metrics", get(async || r#"{"success_rate":0.995}"#))
        .route("/models", get(models));
    (Serving::start(router, script.clone(), Listen::default()).unwrap(), script)
}

/// A provider that knows one key, in three spellings.
async fn models(headers: HeaderMap) -> axum::http::StatusCode {
    let shown = |name: &str| headers.get(name).and_then(|text| text.to_str().ok()).unwrap_or_default();
    let known = shown("x-api-key") == "hunter2"
        || shown("authorization") == "Bearer hunter2"
        || shown("authorization") == "Basic dXNlcjpodW50ZXIy";
    if known { axum::http::StatusCode::OK } else { axum::http::StatusCode::UNAUTHORIZED }
}

fn context(baseline: Option<f64>, shown: Option<&str>) -> CheckContext {
    CheckContext { now: Timestamp::UNIX_EPOCH, baseline, value: shown.map(value) }
}

async fn look(
    kind: CheckKind,
    settings: Value,
    environment: &AdapterEnvironment,
    context: CheckContext,
) -> Result<Reading, Fault> {
    let policy = CheckPolicy { name: "check".to_owned(), kind: kind.spec.name.to_owned(), settings };
    (kind.build)(&policy, environment)?.observe(&context).await
}

async fn verdict(kind: CheckKind, settings: Value) -> Verdict {
    look(kind, settings, &environment(), context(None, None)).await.unwrap().verdict
}

#[tokio::test]
async fn a_health_address_is_judged_by_status_and_json() {
    let (serving, script) = serve();
    let url = format!("{}/health", serving.url());
    assert_eq!(verdict(http::KIND, json!({ "url": url })).await, Verdict::Healthy);
    let said = json!({ "url": url, "json": { "path": "$.checks.db", "equals": true } });
    assert_eq!(verdict(http::KIND, said).await, Verdict::Healthy);
    let other = json!({ "url": url, "json": { "path": "$.status", "equals": "down" } });
    assert_eq!(verdict(http::KIND, other).await, Verdict::Unhealthy);
    for (status, expected) in [(500, Verdict::Unhealthy), (404, Verdict::Unhealthy), (429, Verdict::Unknown)]
    {
        script.add(Scripted::status("GET /health", status));
        assert_eq!(verdict(http::KIND, json!({ "url": url })).await, expected, "{status}");
    }
    assert_eq!(script.pending(), 0);
}

#[tokio::test]
async fn what_cannot_be_reached_is_unknown() {
    let (serving, script) = serve();
    let url = format!("{}/health", serving.url());
    script.add(Scripted::next("GET /health", Effect::Hang));
    let slow = json!({ "url": url, "timeout": "1s" });
    assert_eq!(verdict(http::KIND, slow).await, Verdict::Unknown);
    for effect in [Effect::CutBefore, Effect::CutAfter] {
        script.add(Scripted::next("GET /health", effect));
        assert_eq!(verdict(http::KIND, json!({ "url": url })).await, Verdict::Unknown);
    }
    drop(serving);
    assert_eq!(verdict(http::KIND, json!({ "url": url })).await, Verdict::Unknown);
    assert_eq!(
        verdict(json_metric::KIND, json!({ "url": url, "path": "$.a", "min": 1 })).await,
        Verdict::Unknown
    );
    assert_eq!(
        verdict(prometheus::KIND, json!({ "url": url, "query": "up", "min": 1 })).await,
        Verdict::Unknown
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_takes_no_value_along() {
    let (serving, script) = serve();
    let (elsewhere, seen) = serve();
    let headers = vec![("location".to_owned(), format!("{}/models", elsewhere.url()))];
    script.add(Scripted::next("GET /models", Effect::Answer { status: 302, headers, body: String::new() }));
    let settings = json!({ "url": format!("{}/models", serving.url()), "bearer": "{value}" });
    let reading = look(http::KIND, settings, &environment(), context(None, Some("hunter2"))).await.unwrap();
    assert_eq!(reading.verdict, Verdict::Unknown);
    assert_eq!(seen.seen(), []);
}

#[tokio::test]
async fn a_value_is_proven_in_a_header_and_never_told() {
    let (serving, script) = serve();
    let url = format!("{}/models", serving.url());
    let ways = [
        json!({ "url": url, "header": { "x-api-key": "{value}" } }),
        json!({ "url": url, "bearer": "{value}" }),
        json!({ "url": url, "basic": { "username": "user", "password": "{value}" } }),
        json!({ "url": url, "header": { "authorization": "Bearer {value}" } }),
    ];
    for settings in ways {
        for (shown, expected) in [("hunter2", Verdict::Healthy), ("hunter3", Verdict::Unhealthy)] {
            let shown = context(None, Some(shown));
            let reading = look(http::KIND, settings.clone(), &environment(), shown).await.unwrap();
            assert_eq!(reading.verdict, expected, "{settings}");
            assert!(!reading.detail.contains("hunter"), "{}", reading.detail);
        }
    }
    assert!(script.seen().iter().all(|seen| !seen.call.contains("hunter")), "an address held the value");
    let environment = environment();
    script.add(Scripted::status("GET /models", 529));
    let overloaded = look(
        http::KIND,
        json!({ "url": url, "bearer": "{value}" }),
        &environment,
        context(None, Some("hunter3")),
    );
    assert_eq!(overloaded.await.unwrap().verdict, Verdict::Unknown);

    let multi_line = context(None, Some("two\nlines"));
    let refused = look(http::KIND, json!({ "url": url, "bearer": "{value}" }), &environment, multi_line);
    let fault = refused.await.unwrap_err();
    assert!(matches!(&fault, Fault::Invalid { .. }) && !fault.to_string().contains("two"), "{fault}");
    let without =
        look(http::KIND, json!({ "url": url, "bearer": "{value}" }), &environment, context(None, None));
    assert!(matches!(without.await, Err(Fault::Invalid { .. })));
}

#[tokio::test]
async fn a_login_is_read_from_its_store_at_each_look() {
    let (serving, _script) = serve();
    let url = format!("{}/models", serving.url());
    let environment = environment_with(&[("aws:token", "hunter2")]);
    let ways = [
        json!({ "url": url, "bearer": "aws:token" }),
        json!({ "url": url, "basic": { "username": "user", "password": "aws:token" } }),
        json!({ "url": url, "header_from": { "x-api-key": "aws:token" } }),
    ];
    for settings in ways {
        let reading = look(http::KIND, settings.clone(), &environment, context(None, None)).await.unwrap();
        assert_eq!(reading.verdict, Verdict::Healthy, "{settings}");
    }
    let absent =
        look(http::KIND, json!({ "url": url, "bearer": "aws:other" }), &environment, context(None, None));
    assert!(matches!(absent.await, Err(Fault::Invalid { .. })));
}

#[tokio::test]
async fn a_metric_in_json_is_judged_and_compared() {
    let (serving, script) = serve();
    let url = format!("{}/metrics", serving.url());
    let settings = json!({ "url": url, "path": "$.success_rate", "min": 0.99 });
    let reading = look(json_metric::KIND, settings, &environment(), context(None, None)).await.unwrap();
    assert_eq!((reading.verdict, reading.value), (Verdict::Healthy, Some(0.995)));
    let compared = json!({ "url": url, "path": "$.success_rate", "max_drop": "1%" });
    for (baseline, expected) in
        [(Some(1.0), Verdict::Healthy), (Some(1.1), Verdict::Unhealthy), (None, Verdict::Unknown)]
    {
        let reading =
            look(json_metric::KIND, compared.clone(), &environment(), context(baseline, None)).await;
        let reading = reading.unwrap();
        assert_eq!((reading.verdict, reading.value), (expected, Some(0.995)));
    }
    let settings = json!({ "url": url, "path": "$.success_rate", "min": 0.99 });
    for (status, is_fault) in
        [(500, false), (404, false), (302, false), (429, false), (401, true), (403, true)]
    {
        script.add(Scripted::status("GET /metrics", status));
        let read = look(json_metric::KIND, settings.clone(), &environment(), context(None, None)).await;
        match read {
            Ok(reading) => assert_eq!((reading.verdict, is_fault), (Verdict::Unknown, false), "{status}"),
            Err(fault) => assert!(is_fault && matches!(fault, Fault::Denied { .. }), "{status}: {fault}"),
        }
    }
}

#[tokio::test]
async fn prometheus_is_asked_for_one_number() {
    let page = MetricsPage::start().unwrap();
    page.set(
        "logins_ok{pod=\"a\"} 90\nlogins_ok{pod=\"b\"} 96\nlogins{pod=\"a\"} 100\nlogins{pod=\"b\"} 100\n",
    );
    let server = PrometheusServer::start(&[page.target()]).unwrap();
    let ask = async |query: &str| {
        let settings = json!({ "url": server.url(), "query": query, "min": 0.9, "max_drop": 0.05 });
        look(prometheus::KIND, settings, &environment(), context(Some(0.95), None)).await
    };
    let rate = "sum(logins_ok) / sum(logins)";
    let scraped = async || Ok(ask(rate).await?.value.filter(|rate| *rate > 0.92));
    let first =
        wait::until(SOON, "the first sample", async || scraped().await.map_err(|fault: Fault| fault.into()));
    assert_eq!(first.await.unwrap(), 0.93);

    assert_eq!(ask(rate).await.unwrap().verdict, Verdict::Healthy);
    assert_eq!(ask("sum(logins_ok) / 200 - 0.05").await.unwrap().verdict, Verdict::Unhealthy);
    assert_eq!(ask("scalar(sum(logins)) / 200").await.unwrap().verdict, Verdict::Healthy);
    for (query, why) in [
        ("absent_metric", "no data"),
        ("logins", "2 series"),
        ("0 / 0 * sum(logins)", "not finite"),
        ("sum(logins) / 0", "not finite"),
        ("logins[5m]", "something else than a number"),
        ("\"text\"", "something else than a number"),
    ] {
        let reading = ask(query).await.unwrap();
        assert_eq!(reading.verdict, Verdict::Unknown, "{query}: {}", reading.detail);
        assert!(reading.detail.contains(why), "{query}: {}", reading.detail);
    }
    assert!(matches!(ask("sum(").await, Err(Fault::Invalid { .. })), "it can never be parsed");
}

#[tokio::test]
async fn each_status_of_prometheus_says_whether_to_ask_again() {
    let (serving, script) = serve();
    let settings = json!({ "url": serving.url(), "query": "up", "min": 1 });
    for (status, expected) in [
        (422, "unknown"),
        (429, "unknown"),
        (503, "unknown"),
        (400, "invalid"),
        (401, "denied"),
        (404, "invalid"),
    ] {
        script.add(Scripted::status("POST /api/v1/query", status));
        let read = look(prometheus::KIND, settings.clone(), &environment(), context(None, None)).await;
        let found = match read {
            Ok(reading) if reading.verdict == Verdict::Unknown => "unknown",
            Err(Fault::Invalid { .. }) => "invalid",
            Err(Fault::Denied { .. }) => "denied",
            other => panic!("{status}: {other:?}"),
        };
        assert_eq!(found, expected, "{status}");
    }
}

#[tokio::test]
async fn a_program_says_healthy_unhealthy_or_nothing() {
    for (code, expected) in [(0, Verdict::Healthy), (1, Verdict::Unhealthy), (2, Verdict::Unknown)] {
        let settings = json!({ "command": ["/bin/sh", "-c", format!("exit {code}")] });
        assert_eq!(verdict(command::KIND, settings).await, expected, "{code}");
    }
    let slow = json!({ "command": ["/bin/sleep", "300"], "timeout": "1s" });
    assert_eq!(verdict(command::KIND, slow).await, Verdict::Unknown);
    let environment = environment();
    let absent = look(command::KIND, json!({ "command": ["/nowhere"] }), &environment, context(None, None));
    assert!(matches!(absent.await, Err(Fault::Invalid { .. })));
    let proven = json!({ "command": ["/bin/sh", "-c", "read -r v || [ \"$v\" = hunter2 ]"] });
    let reading = look(command::KIND, proven, &environment, context(None, Some("hunter2"))).await.unwrap();
    assert_eq!(reading.verdict, Verdict::Healthy);
}

/// A look at the sessions of `user` on the shared server.
async fn sessions_of(database: &TestDatabase, more: Value) -> Result<Reading, Fault> {
    let environment = environment_with(&[("vault:monitor", r#"{"username":"postgres","password":"any"}"#)]);
    let address = reqwest::Url::parse(database.url()).unwrap();
    let mut settings = json!({
        "host": "127.0.0.1", "port": address.port(), "database": database.name(), "admin": "vault:monitor",
    });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    look(postgres_sessions::KIND, settings, &environment, context(Some(2.0), None)).await
}

#[tokio::test]
async fn sessions_are_counted_by_user_and_application() {
    let database = shared().unwrap().fresh_database().await.unwrap();
    let id = format!("c{}", &database.name()[2..14]);
    let roles = format!("CREATE ROLE {id}_a LOGIN PASSWORD 'any'; CREATE ROLE {id}_b LOGIN PASSWORD 'any'");
    database.execute(&roles).await.unwrap();
    let mut open = Vec::new();
    for (user, application) in [("a", "web-1"), ("a", "web-2"), ("b", "jobs")] {
        let url = database.url_as(&format!("{id}_{user}"), "any").unwrap();
        let options = PgConnectOptions::from_str(&url).unwrap().application_name(application);
        open.push(options.connect().await.unwrap());
    }
    for (more, count, verdict) in [
        (json!({ "user": format!("{id}_a"), "min": 2 }), 2.0, Verdict::Healthy),
        (json!({ "user": format!("{id}_a"), "min": 3 }), 2.0, Verdict::Unhealthy),
        (json!({ "user": format!("{id}_*"), "max": 2 }), 3.0, Verdict::Unhealthy),
        (json!({ "application": "web-*", "min": 1, "max": 2 }), 2.0, Verdict::Healthy),
        (json!({ "application": "jobs", "user": format!("{id}_a"), "min": 1 }), 0.0, Verdict::Unhealthy),
        (json!({ "application": "jobs", "max_drop": 0 }), 1.0, Verdict::Unhealthy),
    ] {
        let reading = sessions_of(&database, more.clone()).await.unwrap();
        assert_eq!((reading.value, reading.verdict), (Some(count), verdict), "{more}");
    }
    // Our own are not a consumer's.
    let reading = sessions_of(&database, json!({ "user": "postgres", "max": 0 })).await.unwrap();
    assert_eq!(reading.verdict, Verdict::Healthy, "{}", reading.detail);
}

#[tokio::test]
async fn sessions_that_cannot_be_counted_are_unknown_and_what_never_can_be_is_told() {
    let database = shared().unwrap().fresh_database().await.unwrap();
    let gone = json!({ "user": "any", "min": 0, "port": 1 });
    let reading = sessions_of(&database, gone).await.unwrap();
    assert_eq!((reading.verdict, reading.value), (Verdict::Unknown, None));
    assert!(reading.detail.contains("the server cannot be reached"), "{}", reading.detail);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let reading = sessions_of(&database, json!({ "user": "any", "min": 0, "port": port, "timeout": "1s" }))
        .await
        .unwrap();
    assert_eq!(reading.verdict, Verdict::Unknown);
    assert!(reading.detail.contains("no answer in 1 s"), "{}", reading.detail);
    let nowhere =
        fault(sessions_of(&database, json!({ "user": "any", "min": 0, "database": "nowhere" })).await);
    assert!(nowhere.to_string().contains("the database does not exist"), "{nowhere}");
    let unkept = json!({ "user": "any", "min": 0, "admin": "vault:elsewhere" });
    let unkept = fault(sessions_of(&database, unkept).await);
    assert!(unkept.to_string().contains("`vault:elsewhere`"), "{unkept}");
}

/// A consumer that three kinds of check look at over HTTP.
struct Page {
    serving: Mutex<Option<Serving>>,
    health: Arc<Mutex<Health>>,
    check: Arc<dyn Check>,
}

impl Page {
    fn serve(kind: CheckKind, path: &str, settings: Value) -> Self {
        let health = Arc::new(Mutex::new(Health::Well));
        let is_well = |health: &Arc<Mutex<Health>>| {
            let health = Arc::clone(health);
            move || *health.lock().unwrap() == Health::Well
        };
        let (status, number, sample) = (is_well(&health), is_well(&health), is_well(&health));
        let rate = |well: bool| if well { "0.99" } else { "0.5" };
        let router = Router::new()
            .route(
                "/health",
                get(async move || {
                    if status() {
                        axum::http::StatusCode::OK
                    } else {
                        axum::http::StatusCode::INTERNAL_SERVER_ERROR
                    }
                }),
            )
            .route("/metrics", get(async move || format!("{{\"rate\":{}}}", rate(number()))))
            .route(
                "/api/v1/query",
                post(async move || {
                    let value = json!([0, rate(sample())]);
                    let result = json!([{ "metric": {}, "value": value }]);
                    json!({ "status": "success", "data": { "resultType": "vector", "result": result } })
                        .to_string()
                }),
            );
        let serving = Serving::start(router, Script::new(), Listen::default()).unwrap();
        let mut settings = settings;
        settings["url"] = json!(format!("{}{path}", serving.url()));
        let policy = CheckPolicy { name: "check".to_owned(), kind: kind.spec.name.to_owned(), settings };
        let check = (kind.build)(&policy, &environment()).unwrap();
        Self { serving: Mutex::new(Some(serving)), health, check }
    }
}

#[async_trait]
impl CheckUnderTest for Page {
    fn check(&self) -> Arc<dyn Check> {
        Arc::clone(&self.check)
    }

    async fn becomes(&self, health: Health) {
        *self.health.lock().unwrap() = health;
        if health == Health::Away {
            drop(self.serving.lock().unwrap().take());
        }
    }
}

/// A program that says what stands in a file.
struct Program {
    #[expect(dead_code, reason = "held, not read")]
    folder: tempfile::TempDir,
    state: PathBuf,
}

impl Program {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        Self { folder, state }
    }
}

#[async_trait]
impl CheckUnderTest for Program {
    fn check(&self) -> Arc<dyn Check> {
        let script = format!("exit $(cat {})", self.state.display());
        let settings = json!({ "command": ["/bin/sh", "-c", script] });
        let policy = CheckPolicy { name: "check".to_owned(), kind: "command".to_owned(), settings };
        (command::KIND.build)(&policy, &environment()).unwrap()
    }

    async fn becomes(&self, health: Health) {
        let code = match health {
            Health::Well => "0",
            Health::Ill => "1",
            Health::Away => "7",
        };
        std::fs::write(&self.state, code).unwrap();
    }
}

mod http_suite {
    use super::*;
    rota_engine::check_suite!(Page::serve(http::KIND, "/health", json!({})));
}

mod json_metric_suite {
    use super::*;
    rota_engine::check_suite!(Page::serve(
        json_metric::KIND,
        "/metrics",
        json!({ "path": "$.rate", "min": 0.9 })
    ));
}

mod prometheus_suite {
    use super::*;
    rota_engine::check_suite!(Page::serve(prometheus::KIND, "", json!({ "query": "rate", "min": 0.9 })));
}

mod command_suite {
    use super::*;
    rota_engine::check_suite!(Program::new());
}
