//! Rollouts of consumers behind a webhook and of those that read anew by themselves.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rota_adapters::catalog::RolloutKind;
use rota_adapters::environment::AdapterEnvironment;
use rota_adapters::rollouts::{command, reread, webhook};
use rota_core::fault::Fault;
use rota_core::id::ConsumerId;
use rota_core::policy::model::RolloutPolicy;
use rota_engine::ports::{Pin, Rollout, RolloutContext, RolloutStatus};
use rota_engine::test_support::rollout_suite::RolloutUnderTest;
use rota_fakes::http::{Effect, Fault as Scripted, Listen};
use rota_fakes::webhook::WebhookFake;
use serde_json::{Value, json};

use crate::support::{environment, environment_with};

const KEY: &str = "a key of at least thirty-two bytes";

fn build(kind: RolloutKind, settings: Value, environment: &AdapterEnvironment) -> Arc<dyn Rollout> {
    let deadline = SignedDuration::from_mins(30);
    let policy = RolloutPolicy { kind: kind.spec.name.to_owned(), settings, deadline };
    (kind.build)(&policy, environment).unwrap()
}

fn context(now: Timestamp) -> RolloutContext {
    RolloutContext {
        consumer: ConsumerId::new("backend").unwrap(),
        generation: 7,
        published_at: "2026-01-15T10:00:00Z".parse().unwrap(),
        settle: SignedDuration::from_secs(60),
        pins: vec![Pin { name: "JWT_SECRET".to_owned(), reference: "arn:x:::v2".to_owned() }],
        now,
    }
}

fn receiver() -> (WebhookFake, AdapterEnvironment, Arc<dyn Rollout>) {
    let fake = WebhookFake::start(&[KEY.as_bytes()], Listen::default()).unwrap();
    let environment = environment_with(&[
        ("aws:webhook-key", KEY),
        ("aws:short", "too short"),
        ("aws:wrong", "another key of at least thirty-two bytes"),
    ]);
    let rollout = build(webhook::KIND, json!({ "url": fake.url(), "key": "aws:webhook-key" }), &environment);
    (fake, environment, rollout)
}

fn says(state: &str) -> Effect {
    Effect::Answer { status: 200, headers: Vec::new(), body: format!(r#"{{"state":"{state}"}}"#) }
}

#[tokio::test]
async fn a_receiver_is_told_what_to_do_and_a_repeat_is_the_same_delivery() {
    let (fake, _, rollout) = receiver();
    let now = fake.script().clock().now();
    rollout.begin(&context(now)).await.unwrap();
    rollout.begin(&context(now)).await.unwrap();
    let received = fake.received();
    assert_eq!((received.len(), fake.repeats().len(), fake.refused().len()), (1, 1, 0));
    assert!(received[0].id.starts_with("rollout/backend/7/begin/"), "{}", received[0].id);
    assert_eq!(
        received[0].body,
        json!({
            "version": 1,
            "type": "rollout.begin",
            "consumer": "backend",
            "generation": 7,
            "published_at": "2026-01-15T10:00:00Z",
            "read_after": "2026-01-15T10:01:00Z",
            "pins": [{ "name": "JWT_SECRET", "reference": "arn:x:::v2" }],
        })
    );
    let later = RolloutContext { published_at: "2026-01-15T11:00:00Z".parse().unwrap(), ..context(now) };
    rollout.begin(&later).await.unwrap();
    assert_eq!(fake.received().len(), 2, "a later publication is another order");
}

#[tokio::test]
async fn a_receiver_that_finishes_at_once_is_not_asked_again() {
    let (fake, _, rollout) = receiver();
    let now = fake.script().clock().now();
    fake.script().add(Scripted::next("POST /hook", says("finished")));
    let handle = rollout.begin(&context(now)).await.unwrap();
    let (status, _) = rollout.observe(&handle, &Value::Null, &context(now)).await.unwrap();
    assert_eq!(status, RolloutStatus::Finished);
    assert_eq!(fake.script().count("POST /hook"), 1);
}

#[tokio::test]
async fn a_receiver_is_asked_until_it_says_finished_or_failed() {
    let (fake, _, rollout) = receiver();
    let now = fake.script().clock().now();
    let handle = rollout.begin(&context(now)).await.unwrap();
    let look = async || rollout.observe(&handle, &Value::Null, &context(now)).await.map(|(status, _)| status);
    fake.script().add(Scripted::next("POST /hook", says("under_way")));
    assert!(matches!(look().await.unwrap(), RolloutStatus::UnderWay { .. }));
    fake.script().add(Scripted::next("POST /hook", says("failed")));
    assert!(matches!(look().await.unwrap(), RolloutStatus::Failed { .. }));
    fake.script().add(Scripted::next("POST /hook", says("finished")));
    assert_eq!(look().await.unwrap(), RolloutStatus::Finished);
    assert!(matches!(look().await, Err(Fault::Invalid { .. })), "a plain 200 does not say finished");
    fake.script().add(Scripted::next("POST /hook", says("done")));
    assert!(matches!(look().await, Err(Fault::Invalid { .. })), "nor does a word that is not ours");
    let asked = fake.received().into_iter().find(|delivery| delivery.id.contains("/status/")).unwrap();
    assert_eq!(asked.body["type"], "rollout.status");
}

#[tokio::test]
async fn each_status_of_a_receiver_says_what_to_do_next() {
    let (fake, _, rollout) = receiver();
    let now = fake.script().clock().now();
    for status in [301, 400, 401, 403, 404, 409, 410, 422, 429, 500, 502, 503] {
        fake.script().add(Scripted::status("POST /hook", status));
        let fault = rollout.begin(&context(now)).await.unwrap_err();
        let fits = match status {
            401 | 403 => matches!(fault, Fault::Denied { .. }),
            409 => matches!(fault, Fault::Conflict { .. }),
            429 => matches!(fault, Fault::RateLimited { .. }),
            500..=599 => matches!(fault, Fault::Transient { .. }),
            _ => matches!(fault, Fault::Invalid { .. }),
        };
        assert!(fits, "{status}: {fault}");
        assert!(!fault.to_string().contains("/hook"), "{fault}");
    }
    for effect in [Effect::CutBefore, Effect::CutAfter] {
        fake.script().add(Scripted::next("POST /hook", effect));
        assert!(matches!(rollout.begin(&context(now)).await, Err(Fault::Transient { .. })));
    }
    rollout.begin(&context(now)).await.unwrap();
    assert_eq!(fake.received().len(), 1, "the cut delivery was taken once");
}

#[tokio::test]
async fn an_order_is_signed_with_the_kept_key_and_stale_ones_are_refused() {
    let (fake, environment, rollout) = receiver();
    let now = fake.script().clock().now();
    let stale = now - SignedDuration::from_mins(6);
    assert!(matches!(rollout.begin(&context(stale)).await, Err(Fault::Denied { .. })));
    assert_eq!(fake.refused(), ["stale timestamp"]);
    let with = |key: &str| build(webhook::KIND, json!({ "url": fake.url(), "key": key }), &environment);
    assert!(matches!(with("aws:wrong").begin(&context(now)).await, Err(Fault::Denied { .. })));
    assert_eq!(fake.refused()[1], "wrong signature");
    for key in ["aws:short", "aws:absent"] {
        assert!(matches!(with(key).begin(&context(now)).await, Err(Fault::Invalid { .. })), "{key}");
    }
    assert_eq!(fake.script().count("POST"), 2, "nothing is sent without a key");
}

#[tokio::test]
async fn consumers_that_read_anew_are_finished_when_their_bound_has_passed() {
    let rollout = build(reread::KIND, json!({ "within": "10m" }), &environment());
    let published: Timestamp = "2026-01-15T10:00:00Z".parse().unwrap();
    let handle = rollout.begin(&context(published)).await.unwrap();
    let look = async |seconds: i64| {
        let now = published + SignedDuration::from_secs(seconds);
        rollout.observe(&handle, &Value::Null, &context(now)).await.unwrap().0
    };
    assert!(matches!(look(0).await, RolloutStatus::UnderWay { .. }));
    assert!(matches!(look(659).await, RolloutStatus::UnderWay { .. }), "the value settles first");
    assert_eq!(look(660).await, RolloutStatus::Finished);
}

/// A receiver that replaces one instance after the other, once it was told to.
struct Receiver {
    fake: WebhookFake,
    rollout: Arc<dyn Rollout>,
    old: Mutex<u32>,
}

impl Receiver {
    fn start() -> Self {
        let (fake, _, rollout) = receiver();
        Self { fake, rollout, old: Mutex::new(3) }
    }

    fn old(&self) -> u32 {
        *self.old.lock().unwrap()
    }

    /// What it answers to the next question.
    fn will_say(&self) {
        let state = if self.old() == 0 { "finished" } else { "under_way" };
        self.fake.script().add(Scripted::next("POST /hook", says(state)));
    }
}

#[async_trait]
impl RolloutUnderTest for Receiver {
    fn rollout(&self) -> Arc<dyn Rollout> {
        Arc::clone(&self.rollout)
    }

    async fn publish(&self) -> RolloutContext {
        for _ in ["the start", "the first look"] {
            self.will_say();
        }
        context(self.fake.script().clock().now())
    }

    async fn pass(&self, context: &mut RolloutContext) {
        *self.old.lock().unwrap() = self.old().saturating_sub(1);
        self.will_say();
        self.fake.script().clock().advance(SignedDuration::from_secs(5));
        context.now = self.fake.script().clock().now();
    }

    async fn has_old_instance(&self, _: &RolloutContext) -> bool {
        self.old() > 0
    }
}

mod webhook_suite {
    use super::Receiver;
    rota_engine::rollout_suite!(Receiver::start());
}

/// Instances that are files; a command makes one new.
struct Instances {
    folder: tempfile::TempDir,
    rollout: Arc<dyn Rollout>,
}

const INSTANCES: [&str; 3] = ["a", "b", "c"];

impl Instances {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let commands = INSTANCES.map(|name| json!(["/bin/cp", "published", name]));
        let settings = json!({ "commands": commands, "directory": folder.path(), "pause": "2s" });
        let instances = Self { folder, rollout: build(command::KIND, settings, &environment()) };
        for name in INSTANCES {
            std::fs::write(instances.path(name), "one").unwrap();
        }
        instances
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[async_trait]
impl RolloutUnderTest for Instances {
    fn rollout(&self) -> Arc<dyn Rollout> {
        Arc::clone(&self.rollout)
    }

    async fn publish(&self) -> RolloutContext {
        std::fs::write(self.path("published"), "two").unwrap();
        context("2026-01-15T10:01:00Z".parse().unwrap())
    }

    async fn pass(&self, context: &mut RolloutContext) {
        context.now += SignedDuration::from_secs(1);
    }

    async fn has_old_instance(&self, _: &RolloutContext) -> bool {
        INSTANCES.iter().any(|name| std::fs::read_to_string(self.path(name)).unwrap() == "one")
    }
}

mod command_suite {
    use super::Instances;
    rota_engine::rollout_suite!(Instances::start());
}

/// Instances that read anew every ten minutes, the last of them just in time.
struct Rereaders;

#[async_trait]
impl RolloutUnderTest for Rereaders {
    fn rollout(&self) -> Arc<dyn Rollout> {
        build(reread::KIND, json!({ "within": "10m" }), &environment())
    }

    async fn publish(&self) -> RolloutContext {
        context("2026-01-15T10:00:00Z".parse().unwrap())
    }

    async fn pass(&self, context: &mut RolloutContext) {
        context.now += SignedDuration::from_secs(30);
    }

    async fn has_old_instance(&self, context: &RolloutContext) -> bool {
        let settled = context.published_at + context.settle;
        context.now < settled + SignedDuration::from_mins(10)
    }
}

mod reread_suite {
    use super::Rereaders;
    rota_engine::rollout_suite!(Rereaders);
}
