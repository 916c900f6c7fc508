//! The promises of every check, kept by those of logs, CloudWatch and failed logins.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::routing::post;
use rota_adapters::catalog::CheckKind;
use rota_adapters::checks::{auth_failures, cloudwatch, log_file};
use rota_core::policy::model::CheckPolicy;
use rota_engine::ports::Check;
use rota_engine::test_support::check_suite::{CheckUnderTest, Health};
use rota_fakes::http::{Listen, Script, Serving};
use serde_json::{Value, json};

use crate::stores::aws_secrets_manager::environment_at;

async fn build(kind: CheckKind, settings: Value, endpoint: &str) -> Arc<dyn Check> {
    let policy = CheckPolicy { name: "check".to_owned(), kind: kind.spec.name.to_owned(), settings };
    (kind.build)(&policy, &environment_at(endpoint, "AKIA", "secret").await).unwrap()
}

/// A file that its consumer logs to, in the minutes before the suite's time.
struct Log {
    #[expect(dead_code, reason = "held, not read")]
    folder: tempfile::TempDir,
    path: PathBuf,
    check: Arc<dyn Check>,
}

impl Log {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("error.log");
        let settings = json!({ "path": path, "pattern": "JWT", "max": 0.1 });
        let check = build(log_file::KIND, settings, "http://127.0.0.1:1").await;
        Self { folder, path, check }
    }
}

#[async_trait]
impl CheckUnderTest for Log {
    fn check(&self) -> Arc<dyn Check> {
        Arc::clone(&self.check)
    }

    async fn becomes(&self, health: Health) {
        let begin = "1969-12-31T23:50:00Z started\n1969-12-31T23:57:00Z fine\n";
        match health {
            Health::Well => std::fs::write(&self.path, begin).unwrap(),
            Health::Ill => {
                std::fs::write(&self.path, format!("{begin}1969-12-31T23:59:00Z bad JWT\n")).unwrap()
            }
            Health::Away => {
                // It may never have been there.
                let _ = std::fs::remove_file(&self.path);
            }
        }
    }
}

/// CloudWatch and Prometheus, as far as one question goes.
struct Server {
    serving: Mutex<Option<Serving>>,
    health: Arc<Mutex<Health>>,
    check: Arc<dyn Check>,
}

impl Server {
    async fn start(kind: CheckKind, settings: impl Fn(&str) -> Value) -> Self {
        let health = Arc::new(Mutex::new(Health::Well));
        let (alarms, numbers) = (Arc::clone(&health), Arc::clone(&health));
        let router = Router::new()
            .route(
                "/",
                post(async move || {
                    let well = *alarms.lock().unwrap() == Health::Well;
                    let state = if well { "OK" } else { "ALARM" };
                    json!({ "MetricAlarms": [{ "AlarmName": "five", "StateValue": state }] }).to_string()
                }),
            )
            .route(
                "/api/v1/query",
                post(async move |body: String| {
                    // A second before the suite's time, or days before it.
                    let usual = body.contains("time=-") || *numbers.lock().unwrap() == Health::Well;
                    let value = json!([0, if usual { "10" } else { "100" }]);
                    let result = json!([{ "metric": {}, "value": value }]);
                    json!({ "status": "success", "data": { "resultType": "vector", "result": result } })
                        .to_string()
                }),
            );
        let serving = Serving::start(router, Script::new(), Listen::default()).unwrap();
        let check = build(kind, settings(&serving.url()), &serving.url()).await;
        Self { serving: Mutex::new(Some(serving)), health, check }
    }

    async fn of_alarms() -> Self {
        Self::start(cloudwatch::KIND, |_| json!({ "alarm": "five", "region": "us-east-1" })).await
    }

    async fn of_failures() -> Self {
        let settings = |url: &str| json!({ "prometheus": { "url": url, "query": "failures" }, "floor": 5.0 });
        Self::start(auth_failures::KIND, settings).await
    }
}

#[async_trait]
impl CheckUnderTest for Server {
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

mod log_file_suite {
    use super::Log;
    rota_engine::check_suite!(Log::start().await);
}

mod cloudwatch_suite {
    use super::Server;
    rota_engine::check_suite!(Server::of_alarms().await);
}

mod auth_failures_suite {
    use super::Server;
    rota_engine::check_suite!(Server::of_failures().await);
}
