use std::fs;
use std::path::Path;

use rota_core::id::ConsumerId;
use rota_fakes::http::{Fault as Scripted, Listen, Script, Serving};

use super::*;
use crate::http::HttpOptions;

/// Long enough for a shell to start on a machine that builds at the same time.
const MOST_LOOKS: usize = 200;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_768_471_200 + seconds).unwrap()
}

fn context(now: i64) -> RolloutContext {
    RolloutContext {
        consumer: ConsumerId::new("backend").unwrap(),
        generation: 7,
        published_at: at(0),
        settle: SignedDuration::ZERO,
        pins: Vec::new(),
        now: at(now),
    }
}

fn rollout(settings: Value) -> CommandRollout {
    let http = HttpClient::new(&HttpOptions::default()).unwrap();
    CommandRollout::new(&settings, Some("web-1".to_owned()), http, Runs::default()).unwrap()
}

/// A command that writes its name down, and ends with `code`.
fn writes(folder: &Path, name: &str, code: u8) -> Value {
    json!(["/bin/sh", "-c", format!("echo {name} >>{}; exit {code}", folder.join("log").display())])
}

fn log(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("log")).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}

/// Looks until the status is another than "runs"; commands here end by themselves.
async fn look(rollout: &CommandRollout, memory: &Value, now: i64) -> (RolloutStatus, Value) {
    for _ in 0..MOST_LOOKS {
        let (status, memory) = rollout.observe(&json!({}), memory, &context(now)).await.unwrap();
        match &status {
            RolloutStatus::UnderWay { detail } if detail.ends_with("runs") => {}
            _ => return (status, memory),
        }
    }
    panic!("the command does not end");
}

#[tokio::test]
async fn instances_are_reloaded_one_by_one_with_a_pause_between() {
    let folder = tempfile::tempdir().unwrap();
    let commands: Vec<Value> = ["a", "b"].map(|name| writes(folder.path(), name, 0)).to_vec();
    let rollout = rollout(json!({ "commands": commands, "pause": "30s" }));
    assert_eq!(rollout.begin(&context(0)).await.unwrap(), json!({}));
    assert!(log(folder.path()).is_empty(), "the first look runs the first command");

    let (_, memory) = look(&rollout, &json!(null), 0).await;
    assert_eq!(log(folder.path()), ["a"]);
    let (status, memory) = look(&rollout, &memory, 29).await;
    assert!(matches!(status, RolloutStatus::UnderWay { .. }));
    assert_eq!(log(folder.path()), ["a"], "the pause is kept");
    let (_, memory) = look(&rollout, &memory, 30).await;
    assert_eq!(log(folder.path()), ["a", "b"]);
    let (status, memory) = look(&rollout, &memory, 59).await;
    assert!(matches!(status, RolloutStatus::UnderWay { .. }), "the last instance has its pause too");
    let (status, _) = look(&rollout, &memory, 60).await;
    assert_eq!(status, RolloutStatus::Finished);
    assert_eq!(log(folder.path()), ["a", "b"]);
}

#[tokio::test]
async fn another_process_goes_on_at_the_command_whose_end_was_not_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let commands: Vec<Value> = ["a", "b"].map(|name| writes(folder.path(), name, 0)).to_vec();
    let settings = json!({ "commands": commands });
    let first = rollout(settings.clone());
    let (_, after_a) = look(&first, &json!(null), 0).await;
    let _lost = look(&first, &after_a, 1).await;
    let second = rollout(settings);
    let (_, after_b) = look(&second, &after_a, 2).await;
    assert_eq!(log(folder.path()), ["a", "b", "b"]);
    assert_eq!(look(&second, &after_b, 3).await.0, RolloutStatus::Finished);
}

#[tokio::test]
async fn a_failed_command_ends_the_rollout_and_the_next_one_does_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let commands = [writes(folder.path(), "a", 3), writes(folder.path(), "b", 0)];
    let rollout = rollout(json!({ "commands": commands }));
    let (status, _) = look(&rollout, &json!(null), 0).await;
    let detail = "command 1 (`sh`) ended with exit code 3".to_owned();
    assert_eq!(status, RolloutStatus::Failed { detail });
    assert_eq!(log(folder.path()), ["a"]);
}

#[tokio::test]
async fn the_next_instance_waits_until_the_last_one_is_healthy() {
    let folder = tempfile::tempdir().unwrap();
    let script = Script::new();
    let health = axum::Router::new().route("/health", axum::routing::get(async || "ok"));
    let serving = Serving::start(health, script.clone(), Listen::default()).unwrap();
    script.add(Scripted::status("GET /health", 503).times(2));
    let commands: Vec<Value> = ["a", "b"].map(|name| writes(folder.path(), name, 0)).to_vec();
    let url = format!("{}/health", serving.url());
    let rollout = rollout(json!({ "commands": commands, "health": { "url": url }, "healthy_within": "1m" }));
    let (_, memory) = look(&rollout, &json!(null), 0).await;
    for now in [10, 20] {
        let (status, same) = look(&rollout, &memory, now).await;
        assert!(matches!(status, RolloutStatus::UnderWay { .. }));
        assert_eq!(same, memory);
    }
    assert_eq!(log(folder.path()), ["a"]);
    let (_, memory) = look(&rollout, &memory, 30).await;
    assert_eq!(log(folder.path()), ["a", "b"]);

    drop(serving);
    assert!(matches!(look(&rollout, &memory, 89).await.0, RolloutStatus::UnderWay { .. }), "nobody answers");
    assert!(matches!(look(&rollout, &memory, 90).await.0, RolloutStatus::Failed { .. }));
}

#[tokio::test]
async fn a_program_may_tell_health_too() {
    let folder = tempfile::tempdir().unwrap();
    let up = folder.path().join("up");
    let settings = json!({
        "commands": [writes(folder.path(), "a", 0)],
        "health": { "command": ["/usr/bin/test", "-e", up] },
    });
    let rollout = rollout(settings);
    let (_, memory) = look(&rollout, &json!(null), 0).await;
    assert!(matches!(look(&rollout, &memory, 1).await.0, RolloutStatus::UnderWay { .. }));
    fs::write(&up, "").unwrap();
    assert_eq!(look(&rollout, &memory, 2).await.0, RolloutStatus::Finished);
}

#[tokio::test]
async fn only_the_named_host_runs_the_commands() {
    let folder = tempfile::tempdir().unwrap();
    let settings = json!({ "host": "web-2", "commands": [writes(folder.path(), "a", 0)] });
    let elsewhere = rollout(settings);
    assert!(matches!(elsewhere.begin(&context(0)).await, Err(Fault::Transient { .. })));
    let looked = elsewhere.observe(&json!({}), &json!(null), &context(0)).await;
    assert!(matches!(looked, Err(Fault::Transient { .. })));
    assert!(log(folder.path()).is_empty());
}
