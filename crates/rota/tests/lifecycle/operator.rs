//! Values that a person makes at a provider and hands in.

use rota_core::id::RotationId;
use rota_core::policy::model::Policy;
use rota_core::value::SecretValue;
use rota_engine::ports::{Slot, SlotRole};
use rota_fakes::secretsmanager::SecretsManagerFake;
use serde_json::json;
use uuid::Uuid;

use crate::consumers::REFUSED;
use crate::support::World;

const POLICY: &str = r#"
version = 1
application = "test"
environment = "development"

[store.aws]
kind = "aws-secrets-manager"
region = "us-east-1"
path = "test/{name}"

[consumer.backend]
rollout = { kind = "test-fleet" }
checks = [{ kind = "test-health" }]

[secret.PROVIDER_KEY]
kind = "operator"
stores = ["aws"]
inbox = "test/inbox"
publish = { first = "PROVIDER_KEY", second = "PROVIDER_KEY_BACKUP" }
prove = { kind = "test-provider" }
consumers = ["backend"]
cadence = "90d"
overlap = "1s"
healthy = { count = 1, every = "1s" }
"#;

const SECRET: &str = "PROVIDER_KEY";
const OLD: &str = "sk-old-0123456789abcdef0123456789abcdef";
const NEW: &str = "sk-new-0123456789abcdef0123456789abcdef";

async fn ordered() -> (World, Policy) {
    let world = World::new().await;
    for name in ["PROVIDER_KEY", "PROVIDER_KEY_BACKUP"] {
        world.aws.create(&format!("test/{name}"), OLD).unwrap();
    }
    let policy = world.accept(POLICY).await;
    world.order("rotate", SECRET).await;
    world.work_until_step(SECRET, "stage").await;
    (world, policy)
}

fn current(aws: &SecretsManagerFake, name: &str) -> String {
    aws.value(&format!("test/{name}"), "AWSCURRENT").unwrap()
}

fn pair(world: &World) -> (String, String) {
    (current(&world.aws, "PROVIDER_KEY"), current(&world.aws, "PROVIDER_KEY_BACKUP"))
}

fn both(first: &str, second: &str) -> (String, String) {
    (first.to_owned(), second.to_owned())
}

/// Puts `text` into the candidate's slot and says so, as `rota submit` does.
async fn submit(world: &World, policy: &Policy, text: &str) {
    let entry = policy.entry(&SECRET.parse().unwrap()).unwrap();
    let rotation = world.rotation(SECRET).await;
    let slot = Slot::of(&entry, RotationId(rotation), SlotRole::Candidate).unwrap();
    let sql = "SELECT rota.order_begin_submission($1, 'a person')";
    sqlx::query(sql).bind(SECRET).execute(&world.operator).await.unwrap();
    let store = world.adapters.store(entry.stores.values().next().unwrap()).unwrap();
    store.stage(&slot, &SecretValue::new(text.to_owned()).unwrap()).await.unwrap();
    let sql = "SELECT rota.order_submitted($1, $2, 'the provider made it', 'a person')";
    sqlx::query(sql).bind(SECRET).bind(rotation).execute(&world.operator).await.unwrap();
}

#[tokio::test]
async fn a_handed_in_key_is_proven_published_and_waits_for_the_revoke_to_be_confirmed() {
    let (world, policy) = ordered().await;
    assert_eq!(pair(&world), both(OLD, OLD), "nothing changes while a person is waited for");
    submit(&world, &policy, NEW).await;
    world.work_until_step(SECRET, "watch").await;
    assert_eq!(pair(&world), both(NEW, OLD));
    world.work_until_step(SECRET, "confirm").await;
    assert_eq!(pair(&world), both(NEW, NEW), "no name disappears under its consumers");
    assert_eq!(world.ended(SECRET, "completed").await, 0);
    world.consumers.revoke(OLD);
    world.order("confirm", SECRET).await;
    world.work_until_ended(SECRET, "completed", 1).await;
    assert_eq!(pair(&world), both(NEW, NEW));
}

#[tokio::test]
async fn a_key_pasted_into_the_inbox_is_taken_over_and_the_inbox_is_emptied() {
    let (world, _) = ordered().await;
    world.aws.create("test/inbox", NEW).unwrap();
    world.work_until_step(SECRET, "confirm").await;
    assert_eq!(pair(&world), both(NEW, NEW));
    for label in ["AWSCURRENT", "AWSPREVIOUS"] {
        let left = world.aws.value("test/inbox", label);
        assert!(left.is_none_or(|left| left != NEW), "the key still stands in the inbox");
    }
}

/// How often people were told that what is in the inbox is not taken.
async fn told_that_it_is_not_taken(world: &World) -> i64 {
    let sql = "SELECT count(*) FROM rota.outbox WHERE notice ->> 'what' LIKE '%is not taken%'";
    sqlx::query_scalar(sql).fetch_one(&world.operator).await.unwrap()
}

#[tokio::test]
async fn a_slip_in_the_inbox_is_told_and_left_until_it_is_replaced() {
    let (world, _) = ordered().await;
    world.aws.create("test/inbox", "slip").unwrap();
    world.work_until(SECRET, || async { told_that_it_is_not_taken(&world).await > 0 }).await;
    assert_eq!(world.step(SECRET).await.as_deref(), Some("stage"));
    let replaced =
        json!({ "SecretId": "test/inbox", "SecretString": NEW, "ClientRequestToken": Uuid::new_v4() });
    world.aws.call("PutSecretValue", replaced).unwrap();
    world.work_until_step(SECRET, "confirm").await;
    assert_eq!(pair(&world), both(NEW, NEW));
    assert_eq!(told_that_it_is_not_taken(&world).await, 1);
}

#[tokio::test]
async fn a_key_that_the_provider_refuses_is_held_and_never_published() {
    let (world, policy) = ordered().await;
    submit(&world, &policy, &format!("{REFUSED}0123456789abcdef0123456789abcdef")).await;
    let reason = world.work_until_held(SECRET).await;
    assert!(reason.contains("proof_failed"), "{reason}");
    assert_eq!(world.step(SECRET).await.as_deref(), Some("prove"));
    assert_eq!(pair(&world), both(OLD, OLD));
    world.order("rollback", SECRET).await;
    world.work_until_ended(SECRET, "rolled_back", 1).await;
    assert_eq!(pair(&world), both(OLD, OLD));
    let sql = "SELECT count(*) FROM rota.orphans WHERE secret = $1 AND resolved_at IS NULL";
    let orphans: i64 = sqlx::query_scalar(sql).bind(SECRET).fetch_one(&world.operator).await.unwrap();
    assert_eq!(orphans, 1, "the refused key stays on the list until somebody revoked it");
}
