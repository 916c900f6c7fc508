//! What may be wrong outside: each is refused or held with a reason, or passes.

use rota_fakes::http::{Effect, Fault as Scripted};
use serde_json::json;

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

[secret.COOKIE_SECRET]
kind = "generated"
format = "hex:32"
class = "signing"
stores = ["aws"]
publish = { list = "COOKIE_SECRETS" }
consumers = ["backend"]
cadence = "90d"
token_ttl = "1s"
overlap = "1s"
healthy = { count = 1, every = "1s" }
"#;

const SECRET: &str = "COOKIE_SECRET";
const PATH: &str = "test/COOKIE_SECRETS";
const OLD: &str = r#"["0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]"#;

async fn adopted() -> World {
    let world = World::simulated().await;
    world.aws.create(PATH, OLD).unwrap();
    world.accept(POLICY).await;
    world
}

fn published(world: &World) -> Vec<String> {
    serde_json::from_str(&world.aws.value(PATH, "AWSCURRENT").unwrap()).unwrap()
}

fn write_by_hand(world: &World, text: &str, label: &str) {
    let token = uuid::Uuid::new_v4().to_string();
    let fields = json!({
        "SecretId": PATH, "SecretString": text, "ClientRequestToken": token, "VersionStages": [label],
    });
    world.aws.call("PutSecretValue", fields).unwrap();
}

#[tokio::test]
async fn a_due_secret_that_does_not_exist_is_not_created_behind_peoples_backs() {
    let world = World::simulated().await;
    world.accept(POLICY).await;
    let sql = "SELECT rota.order_adopt($1, now() - interval '200 days', now() - interval '1 day', \
        now() - interval '2 days', 'because', 'a test')";
    sqlx::query(sql).bind(SECRET).execute(&world.operator).await.unwrap();
    let why = world.work_until_postponed(SECRET).await;
    assert!(why.contains("does not exist in its store yet"), "{why}");
    assert_eq!(world.aws.versions(PATH), []);
}

#[tokio::test]
async fn a_secret_with_native_rotation_is_refused() {
    let world = adopted().await;
    world.aws.switch_rotation_on(PATH).unwrap();
    world.order("rotate", SECRET).await;
    let why = world.work_until_postponed(SECRET).await;
    assert!(why.contains("rotated by AWS itself"), "{why}");
    assert_eq!(world.aws.value(PATH, "AWSCURRENT").unwrap(), OLD);
}

#[tokio::test]
async fn a_pending_version_of_somebody_else_is_refused() {
    let world = adopted().await;
    write_by_hand(&world, "theirs", "AWSPENDING");
    world.order("rotate", SECRET).await;
    let why = world.work_until_postponed(SECRET).await;
    assert!(why.contains("AWSPENDING"), "{why}");
    assert_eq!(world.aws.value(PATH, "AWSCURRENT").unwrap(), OLD);
}

#[tokio::test]
async fn a_store_that_is_down_for_a_while_delays_a_rotation_and_nothing_else() {
    let world = adopted().await;
    world.order("rotate", SECRET).await;
    world.work_until_step(SECRET, "introduce_rollout").await;
    world.aws.script().add(Scripted::next("PutSecretValue", Effect::CutBefore));
    world.aws.script().add(Scripted::next("UpdateSecretVersionStage", Effect::CutAfter));
    world.work_until_ended(SECRET, "completed", 1).await;
    let keys = published(&world);
    assert_eq!(keys.len(), 1);
    assert!(!OLD.contains(&keys[0]));
}

#[tokio::test]
async fn a_write_of_somebody_else_in_the_middle_is_held_and_not_overwritten() {
    let world = adopted().await;
    world.order("rotate", SECRET).await;
    world.work_until_step(SECRET, "watch").await;
    write_by_hand(&world, r#"["by hand"]"#, "AWSCURRENT");
    let reason = world.work_until_held(SECRET).await;
    assert!(reason.contains("foreign"), "{reason}");
    assert_eq!(published(&world), ["by hand"]);
}

#[tokio::test]
async fn a_secret_deleted_in_the_middle_is_held_until_it_is_restored_and_nothing_is_lost() {
    let world = adopted().await;
    world.order("rotate", SECRET).await;
    world.work_until_step(SECRET, "introduce_rollout").await;
    let both = published(&world);
    world.aws.call("DeleteSecret", json!({ "SecretId": PATH })).unwrap();
    let reason = world.work_until_held(SECRET).await;
    assert!(reason.contains("permanent") && reason.contains("deletion"), "{reason}");
    world.aws.call("RestoreSecret", json!({ "SecretId": PATH })).unwrap();
    assert_eq!(published(&world), both, "what stood there stands there");
    world.order("resume", SECRET).await;
    world.work_until_ended(SECRET, "completed", 1).await;
    assert_eq!(published(&world), both[1..]);
}

#[tokio::test]
async fn a_secret_that_is_gone_for_good_in_the_middle_is_not_made_anew() {
    let world = adopted().await;
    world.order("rotate", SECRET).await;
    world.work_until_step(SECRET, "introduce_rollout").await;
    let forced = json!({ "SecretId": PATH, "ForceDeleteWithoutRecovery": true });
    world.aws.call("DeleteSecret", forced).unwrap();
    let reason = world.work_until_held(SECRET).await;
    assert!(reason.contains("value_missing") || reason.contains("does not exist"), "{reason}");
    assert_eq!(world.aws.versions(PATH), []);
}

#[tokio::test]
async fn native_rotation_switched_on_in_the_middle_is_held_once_it_has_written() {
    let world = adopted().await;
    world.order("rotate", SECRET).await;
    world.work_until_step(SECRET, "watch").await;
    world.aws.switch_rotation_on(PATH).unwrap();
    write_by_hand(&world, "theirs", "AWSPENDING");
    write_by_hand(&world, r#"["theirs"]"#, "AWSCURRENT");
    let reason = world.work_until_held(SECRET).await;
    assert!(reason.contains("foreign"), "{reason}");
    assert_eq!(published(&world), ["theirs"]);
    assert_eq!(world.aws.value(PATH, "AWSPENDING").unwrap(), "theirs");
}

#[tokio::test]
async fn a_pending_version_of_somebody_else_in_the_middle_is_left_alone() {
    let world = adopted().await;
    world.order("rotate", SECRET).await;
    world.work_until_step(SECRET, "watch").await;
    let new = published(&world).remove(0);
    write_by_hand(&world, "theirs", "AWSPENDING");
    world.work_until_ended(SECRET, "completed", 1).await;
    assert_eq!(published(&world), [new]);
    assert_eq!(world.aws.value(PATH, "AWSPENDING").unwrap(), "theirs");
}

#[tokio::test]
async fn an_older_value_that_leaked_is_withdrawn_without_waiting_for_the_overlap() {
    let world = World::simulated().await;
    world.aws.create(PATH, OLD).unwrap();
    world.accept(&POLICY.replace(r#"overlap = "1s""#, r#"overlap = "7d""#)).await;
    world.order("rotate", SECRET).await;
    world.work_until_step(SECRET, "watch").await;
    let new = published(&world).remove(0);
    leaked(&world, Some("older")).await;
    world.work_until_ended(SECRET, "completed", 1).await;
    assert_eq!(published(&world), [new]);
}

#[tokio::test]
async fn a_newer_value_that_leaked_is_taken_back_and_replaced() {
    let world = adopted().await;
    world.order("rotate", SECRET).await;
    world.work_until_step(SECRET, "watch").await;
    let leaked_key = published(&world).remove(0);
    leaked(&world, Some("newer")).await;
    world.work_until_ended(SECRET, "rolled_back", 1).await;
    assert!(!published(&world).contains(&leaked_key));
    assert_eq!(world.aws.value(PATH, "AWSCURRENT").unwrap(), OLD);
}

#[tokio::test]
async fn where_both_values_leaked_a_third_one_takes_over() {
    let world = adopted().await;
    world.order("rotate", SECRET).await;
    world.work_until_step(SECRET, "watch").await;
    let both = published(&world);
    leaked(&world, None).await;
    world.work_until_ended(SECRET, "completed", 1).await;
    assert_eq!(world.ended(SECRET, "superseded").await, 1);
    let keys = published(&world);
    assert_eq!(keys.len(), 1);
    assert!(!both.contains(&keys[0]));
}

async fn leaked(world: &World, suspect: Option<&str>) {
    let sql = "SELECT rota.order_emergency($1, $2, 'it was in a log', 'a test')";
    sqlx::query(sql).bind(SECRET).bind(suspect).execute(&world.operator).await.unwrap();
}
