//! Two names that a task definition of Amazon ECS refers to by exact versions: a pair is
//! two writes and two reads, and yet no task sees half of a publication.
//!
//! Tasks die all the time, and ECS replaces them from the newest deployment.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::SignedDuration;
use rota_core::rotation::{Rotation, Step};
use rota_engine::ports::Journal;
use rota_fakes::consumer::{Fleet, keys_of_pair};
use rota_fakes::ecs::{EcsFake, ServiceSetup, Status, Task};
use rota_fakes::http::Fault as Scripted;
use rota_fakes::secretsmanager::SecretsManagerFake;
use serde_json::json;

use crate::mesh::Serving;
use crate::support::World;
use crate::witness::{Witness, Witnessed};

const TOKEN_TTL: SignedDuration = SignedDuration::from_hours(7 * 24);

const POLICY: &str = r#"
version = 1
application = "test"
environment = "development"

[store.aws]
kind = "aws-secrets-manager"
region = "us-east-1"
path = "test/{name}"

[consumer.backend]
rollout = { kind = "ecs", cluster = "prod", service = "backend", region = "us-east-1" }
checks = [{ kind = "test-health" }]

[secret.JWT_SECRET]
kind = "generated"
format = "hex:64"
class = "signing"
stores = ["aws"]
publish = { first = "JWT_SECRET", second = "JWT_SECRET_OLD", pinned = true }
consumers = ["backend"]
cadence = "90d"
token_ttl = "7d"
overlap = "7d"
healthy = { count = 2, every = "1d" }
"#;

/// The same pair as its names stand, which needs a word of the policy.
const PINNED: &str = ", pinned = true }";
const NOT_PINNED: &str = " }\naccept_gap = true";

const SECRET: &str = "JWT_SECRET";
const SERVICE: &str = "backend";

/// The one to use, and the one to accept.
const NAMES: [&str; 2] = ["JWT_SECRET", "JWT_SECRET_OLD"];

fn path(name: &str) -> String {
    format!("test/{name}")
}

/// What stands under both names.
fn pair(aws: &SecretsManagerFake) -> [String; 2] {
    NAMES.map(|name| aws.value(&path(name), "AWSCURRENT").unwrap())
}

/// What a task read at its start.
fn read_by(task: &Task) -> [String; 2] {
    NAMES.map(|name| task.values.get(name).cloned().unwrap_or_default())
}

/// Those that serve, or finish what they have open.
fn serving(ecs: &EcsFake) -> Vec<Task> {
    let serves = |task: &Task| matches!(task.status, Status::Running | Status::Deactivating);
    ecs.tasks(SERVICE).into_iter().filter(serves).collect()
}

/// One task less; ECS will notice.
fn stop_a_task(ecs: &EcsFake) {
    let running = ecs.tasks(SERVICE).into_iter().find(|task| task.status == Status::Running);
    if let Some(task) = running {
        ecs.call("StopTask", json!({ "cluster": "prod", "task": task.arn })).unwrap();
    }
}

/// A service with a key from before Rota under both names.
struct Service {
    world: World,
    fleet: Arc<Fleet>,
    old: String,
}

impl Service {
    async fn adopt(policy: &str) -> Self {
        let world = World::simulated().await;
        let old = "0123456789abcdef".repeat(8);
        let mut references = Vec::new();
        for name in NAMES {
            world.aws.create(&path(name), &old).unwrap();
            let shown = world.aws.call("DescribeSecret", json!({ "SecretId": path(name) })).unwrap();
            references.push(json!({ "name": name, "valueFrom": shown["ARN"] }));
        }
        let container = json!({ "name": "app", "image": "app:1", "secrets": references });
        let family = json!({ "family": SERVICE, "containerDefinitions": [container] });
        world.ecs.call("RegisterTaskDefinition", family).unwrap();
        let setup = ServiceSetup {
            cluster: "prod",
            name: SERVICE,
            definition: SERVICE,
            desired: 3,
            breaker: true,
            rolls_back: true,
        };
        world.ecs.create_service(&setup).unwrap();
        let ecs = Arc::clone(&world.ecs);
        let one_event_later: Serving = Arc::new(move || {
            ecs.step(SERVICE);
            let keys = |task: Task| {
                let [first, second] = read_by(&task);
                (task.arn, keys_of_pair(Some(first), Some(second)))
            };
            serving(&ecs).into_iter().map(keys).collect()
        });
        let fleet = world.consumers.run_elsewhere(TOKEN_TTL, one_event_later);
        world.accept(policy).await;
        Self { world, fleet, old }
    }

    /// Works until `phase` was reached `times` times, while tasks die. Returns every
    /// list that was rolled out on the way.
    async fn work_until_ended(&self, phase: &str, times: i64) -> Vec<[String; 2]> {
        let (aws, ecs) = (Arc::clone(&self.world.aws), Arc::clone(&self.world.ecs));
        let auditor = Arc::new(Auditor { aws, ecs, rolled_out: Mutex::default() });
        let journal = Arc::clone(&self.world.journal) as Arc<dyn Journal>;
        let journal = Witnessed::over(journal, Arc::clone(&auditor) as Arc<dyn Witness>);
        let engine = self.world.engine_on(journal, "audited");
        let enough = || async { self.world.ended(SECRET, phase).await >= times };
        self.world.work_with(&[&engine], SECRET, enough).await;
        std::mem::take(&mut *auditor.rolled_out.lock().unwrap())
    }

    fn both(&self, one: &str, other: &str) -> [String; 2] {
        [one.to_owned(), other.to_owned()]
    }

    /// Nobody was refused, tokens included that live on after the end.
    async fn assert_nobody_noticed(&self) {
        self.world.consumers.pass(TOKEN_TTL).await;
        assert_eq!(self.fleet.failures(), []);
        assert!(self.fleet.verifications() > 100, "{}", self.fleet.verifications());
        let oldest = self.world.consumers.oldest_token();
        assert!(oldest > TOKEN_TTL * 3 / 4, "the oldest token that was shown lived {oldest:#}");
    }
}

/// Lets a task die at every record, and looks at all tasks after each finished rollout.
struct Auditor {
    aws: Arc<SecretsManagerFake>,
    ecs: Arc<EcsFake>,
    rolled_out: Mutex<Vec<[String; 2]>>,
}

fn is_undo(rotation: &Rotation) -> bool {
    rotation.step().is_some_and(Step::undoes)
}

#[async_trait]
impl Witness for Auditor {
    async fn after(&self, was: &Rotation, now: &Rotation) {
        let step = was.step().map_or("", |step| step.as_str());
        let turns_back = is_undo(now) && !is_undo(was);
        if step.ends_with("_rollout") && now.step() != was.step() && !turns_back {
            self.assert_every_task_is_new(step);
            self.rolled_out.lock().unwrap().push(pair(&self.aws));
        }
        stop_a_task(&self.ecs);
    }
}

impl Auditor {
    /// Each task serves what is published, and names the versions of it.
    fn assert_every_task_is_new(&self, step: &str) {
        let published = pair(&self.aws);
        let tasks = serving(&self.ecs);
        assert!(tasks.iter().all(|task| read_by(task) == published), "{step}: a task has something else");
        let definitions: BTreeSet<String> = tasks.into_iter().map(|task| task.definition).collect();
        for definition in definitions {
            let described = json!({ "taskDefinition": definition });
            let shown = self.ecs.call("DescribeTaskDefinition", described).unwrap();
            let references = &shown["taskDefinition"]["containerDefinitions"][0]["secrets"];
            for name in NAMES {
                let versions = self.aws.versions(&path(name));
                let current =
                    versions.iter().find(|version| version.labels.iter().any(|l| l == "AWSCURRENT"));
                let reference = references.as_array().unwrap().iter().find(|secret| secret["name"] == name);
                let reference = reference.and_then(|secret| secret["valueFrom"].as_str()).unwrap();
                assert!(reference.ends_with(&format!(":::{}", current.unwrap().id)), "{step}: {reference}");
            }
        }
    }
}

#[tokio::test]
async fn a_pinned_pair_rotates_twice_while_tasks_die_and_nobody_notices() {
    let service = Service::adopt(POLICY).await;
    let mut old = service.old.clone();
    for times in 1..=2 {
        service.world.order("rotate", SECRET).await;
        let rolled_out = service.work_until_ended("completed", times).await;
        let [new, _] = pair(&service.world.aws);
        assert_ne!(new, old);
        let lists = [service.both(&old, &new), service.both(&new, &old), service.both(&new, &new)];
        assert_eq!(rolled_out, lists, "rotation {times}");
        old = new;
    }
    service.assert_nobody_noticed().await;
    service.world.assert_history_has_no_hole().await;
}

/// Turns back in the middle of `step`, and says how many lists were rolled out on the way.
async fn turns_back_at(step: &str) -> usize {
    let service = Service::adopt(POLICY).await;
    service.world.order("rotate", SECRET).await;
    let started = || service.world.ecs.tasks(SERVICE).iter().filter(|task| task.started.is_some()).count();
    let replaced = || async {
        let at_step = service.world.step(SECRET).await.as_deref() == Some(step);
        // In the middle: one more than wanted runs, or the rollout is over.
        at_step && (started() > 3 || !step.ends_with("_rollout"))
    };
    service.world.work_until(SECRET, replaced).await;
    service.world.order("rollback", SECRET).await;
    let rolled_out = service.work_until_ended("rolled_back", 1).await;
    let alone = service.both(&service.old, &service.old);
    assert_eq!(pair(&service.world.aws), alone);
    assert_eq!(rolled_out.last(), Some(&alone));
    service.assert_nobody_noticed().await;
    service.world.assert_history_has_no_hole().await;
    rolled_out.len()
}

#[tokio::test]
async fn a_pinned_pair_turned_back_before_the_promotion_leaves_the_old_key_alone() {
    assert_eq!(turns_back_at("introduce_rollout").await, 1);
}

#[tokio::test]
async fn a_pinned_pair_turned_back_after_the_promotion_goes_back_list_by_list() {
    assert_eq!(turns_back_at("promote_rollout").await, 2);
}

#[tokio::test]
async fn a_pinned_pair_turned_back_while_it_is_watched_goes_back_list_by_list() {
    assert_eq!(turns_back_at("watch").await, 2);
}

#[tokio::test]
async fn a_pinned_pair_turned_back_after_the_withdrawal_accepts_the_old_key_again_first() {
    assert_eq!(turns_back_at("withdraw_rollout").await, 3);
}

/// A promotion that stops between its two writes while every task dies. Returns how many
/// tokens were refused.
async fn torn_promotion(policy: &str) -> usize {
    let service = Service::adopt(policy).await;
    let world = &service.world;
    world.order("rotate", SECRET).await;
    world.work_until_step(SECRET, "introduce_rollout").await;
    let new = pair(&world.aws)[1].clone();
    // The first name goes through, and the second one does not, for a while.
    world.aws.script().add(Scripted::status("UpdateSecretVersionStage", 500).after(1).times(4));
    let half = service.both(&new, &new);
    world.work_until(SECRET, || async { pair(&world.aws) == half }).await;
    for _ in 0..3 {
        stop_a_task(&world.ecs);
        world.ecs.settle(SERVICE);
        world.consumers.use_secrets();
    }
    assert_eq!(pair(&world.aws), half, "every task was replaced in between");
    world.work_until_ended(SECRET, "completed", 1).await;
    world.consumers.pass(TOKEN_TTL).await;
    service.fleet.failures().len()
}

#[tokio::test]
async fn tasks_that_start_between_the_two_writes_of_a_pinned_pair_see_neither() {
    assert_eq!(torn_promotion(POLICY).await, 0);
    // What pinning is for: without it those tasks know the new key only.
    let refused = torn_promotion(&POLICY.replace(PINNED, NOT_PINNED)).await;
    assert!(refused > 0, "a gap that does not show was not measured");
}

/// Puts the service back to the definition from before Rota, as a pipeline may.
fn deploy(service: &Service, definition: &str) {
    let fields = json!({ "cluster": "prod", "service": SERVICE, "taskDefinition": definition });
    service.world.ecs.call("UpdateService", fields).unwrap();
}

#[tokio::test]
async fn references_that_a_pipeline_puts_back_keep_the_old_key_from_being_withdrawn() {
    let service = Service::adopt(POLICY).await;
    let world = &service.world;
    world.order("rotate", SECRET).await;
    world.work_until_step(SECRET, "watch").await;
    let newest = world.ecs.tasks(SERVICE)[0].definition.clone();
    deploy(&service, "backend:1");
    let both = pair(&world.aws);
    let reason = world.work_until_held(SECRET).await;
    assert!(reason.contains("rollout_failed"), "{reason}");
    assert_eq!(world.step(SECRET).await.as_deref(), Some("withdraw"));
    assert_eq!(pair(&world.aws), both, "the old key is still accepted");
    deploy(&service, &newest);
    world.ecs.settle(SERVICE);
    world.order("resume", SECRET).await;
    world.work_until_ended(SECRET, "completed", 1).await;
    assert_eq!(pair(&world.aws), service.both(&both[0], &both[0]));
    service.assert_nobody_noticed().await;
}
