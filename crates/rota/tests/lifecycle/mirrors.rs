//! A store beside the primary one that fails in the middle of a rotation and comes back.
//! Every other instance reads the mirror, and all of them verify each other's tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use jiff::SignedDuration;
use rota_fakes::consumer::{Fleet, KeyReader, keys_of_list};
use rota_fakes::http::Fault as Scripted;
use rota_fakes::secretsmanager::SecretsManagerFake;
use rota_fakes::vault::VaultFake;
use serde_json::{Value, json};

use crate::support::World;

const TOKEN_TTL: SignedDuration = SignedDuration::from_hours(7 * 24);

const POLICY: &str = r#"
version = 1
application = "test"
environment = "development"

[store.aws]
kind = "aws-secrets-manager"
region = "us-east-1"
path = "test/{name}"

[store.vault]
kind = "vault-kv2"
mount = "secret"
path = "test/{name}"

[consumer.backend]
rollout = { kind = "test-fleet" }
checks = [{ kind = "test-health" }]

[consumer.worker]
rollout = { kind = "test-fleet" }
checks = [{ kind = "test-health" }]

[secret.SESSION_SECRET]
kind = "generated"
format = "hex:64"
class = "signing"
stores = ["aws", "vault"]
publish = { list = "SESSION_SECRETS" }
consumers = ["backend", "worker"]
cadence = "90d"
token_ttl = "7d"
overlap = "7d"
healthy = { count = 2, every = "1d" }
"#;

const SECRET: &str = "SESSION_SECRET";
const PATH: &str = "test/SESSION_SECRETS";
const CONSUMER: &str = "backend";

/// Calls that reach the mirror's published place: all of them, or those that write.
const EVERYTHING: &str = "/v1/secret/data/test/";
const WRITES: &str = "POST /v1/secret/data/test/";

/// Where a publication follows, and which.
const PUBLICATIONS: [(&str, &str); 3] =
    [("keep", "introduce"), ("introduce_rollout", "promote"), ("watch", "withdraw")];

fn in_primary(aws: &SecretsManagerFake) -> Vec<String> {
    keys_of_list(&aws.value(PATH, "AWSCURRENT").unwrap()).unwrap()
}

fn in_mirror(vault: &VaultFake) -> Vec<String> {
    let read = vault.admin("GET", &format!("secret/data/{PATH}"), Value::Null).now_or_never();
    let read = read.expect("the fake answers at once").unwrap();
    keys_of_list(read["data"]["data"]["value"].as_str().unwrap()).unwrap()
}

/// Writes the mirror by hand.
async fn write_mirror(vault: &VaultFake, keys: &[String]) {
    let list = serde_json::to_string(keys).unwrap();
    let body = json!({ "data": { "value": list } });
    vault.admin("POST", &format!("secret/data/{PATH}"), body).await.unwrap();
}

/// A key from before Rota in both stores, and six instances of which every other one
/// reads the mirror.
struct Mirrored {
    world: World,
    fleet: Arc<Fleet>,
    old: String,
}

impl Mirrored {
    async fn begin() -> Self {
        let world = World::simulated().await;
        let old = "0123456789abcdef".repeat(8);
        world.aws.create(PATH, &format!(r#"["{old}"]"#)).unwrap();
        write_mirror(&world.vault, std::slice::from_ref(&old)).await;
        let (aws, vault) = (Arc::clone(&world.aws), Arc::clone(&world.vault));
        let started = AtomicUsize::new(0);
        let read: KeyReader = Arc::new(move || {
            let of_mirror = started.fetch_add(1, Ordering::Relaxed) % 2 == 1;
            Ok(if of_mirror { in_mirror(&vault) } else { in_primary(&aws) })
        });
        let fleet = world.consumers.run(&[CONSUMER, "worker"], TOKEN_TTL, read);
        world.accept(POLICY).await;
        world.order("rotate", SECRET).await;
        Self { world, fleet, old }
    }

    fn stores(&self) -> (Vec<String>, Vec<String>) {
        (in_primary(&self.world.aws), in_mirror(&self.world.vault))
    }

    async fn work_until_step(&self, step: &str) {
        self.world.work_until_step(SECRET, step).await;
    }

    /// Works until `duration` has passed.
    async fn work_for(&self, duration: SignedDuration) {
        let clock = &self.world.time.clock;
        let end = clock.now() + duration;
        self.world.work_until(SECRET, || async { clock.now() >= end }).await;
    }

    /// How many rollouts were asked for.
    async fn rollouts(&self) -> i64 {
        let sql = "SELECT count(*) FROM rota.rollouts";
        sqlx::query_scalar(sql).fetch_one(&self.world.operator).await.unwrap()
    }

    async fn assert_ended(&self, phase: &str, keys: &[String]) {
        self.world.work_until_ended(SECRET, phase, 1).await;
        assert_eq!(self.stores(), (keys.to_vec(), keys.to_vec()));
        self.world.consumers.pass(TOKEN_TTL).await;
        assert_eq!(self.fleet.failures(), []);
        assert!(self.fleet.verifications() > 100, "{}", self.fleet.verifications());
        self.world.assert_history_has_no_hole().await;
    }
}

#[tokio::test]
async fn a_mirror_that_cannot_be_reached_keeps_every_publication_from_both_stores() {
    let mirrored = Mirrored::begin().await;
    let down = || mirrored.world.vault.script().add(Scripted::status(EVERYTHING, 503).times(u32::MAX));
    down();
    let why = mirrored.world.work_until_postponed(SECRET).await;
    assert!(why.contains("Vault"), "{why}");
    assert_eq!(mirrored.rollouts().await, 0);
    mirrored.world.vault.script().clear();
    for (before, step) in &PUBLICATIONS[1..] {
        mirrored.work_until_step(before).await;
        let (stores, rollouts) = (mirrored.stores(), mirrored.rollouts().await);
        down();
        mirrored.work_until_step(step).await;
        mirrored.work_for(SignedDuration::from_hours(2)).await;
        mirrored.world.consumers.restart(CONSUMER).await.unwrap();
        assert_eq!(mirrored.stores(), stores, "{step}");
        assert_eq!(mirrored.world.step(SECRET).await.as_deref(), Some(*step));
        assert_eq!(mirrored.rollouts().await, rollouts, "{step}");
        mirrored.world.vault.script().clear();
    }
    mirrored.work_until_step("withdraw_rollout").await;
    let new = in_primary(&mirrored.world.aws);
    mirrored.assert_ended("completed", &new).await;
}

#[tokio::test]
async fn a_mirror_that_takes_no_writes_gets_each_publication_before_anything_rolls_out() {
    let mirrored = Mirrored::begin().await;
    for (before, step) in PUBLICATIONS {
        if before != "keep" {
            mirrored.work_until_step(before).await;
        }
        let ((_, behind), rollouts) = (mirrored.stores(), mirrored.rollouts().await);
        mirrored.world.vault.script().add(Scripted::status(WRITES, 503).times(u32::MAX));
        mirrored.work_until_step(step).await;
        mirrored.work_for(SignedDuration::from_hours(2)).await;
        // The primary is ahead, and instances that start now read either.
        let (ahead, still) = mirrored.stores();
        assert_ne!(ahead, behind, "{step}");
        assert_eq!(still, behind, "{step}");
        mirrored.world.consumers.restart(CONSUMER).await.unwrap();
        assert_eq!(mirrored.rollouts().await, rollouts, "{step}: nothing rolls out");
        mirrored.world.vault.script().clear();
        mirrored.work_until_step(&format!("{step}_rollout")).await;
        assert_eq!(mirrored.stores(), (ahead.clone(), ahead), "{step}");
    }
    let new = in_primary(&mirrored.world.aws);
    mirrored.assert_ended("completed", &new).await;
}

#[tokio::test]
async fn a_mirror_that_stays_away_for_too_long_holds_the_rotation_until_it_is_back() {
    let mirrored = Mirrored::begin().await;
    mirrored.work_until_step("introduce_rollout").await;
    mirrored.world.vault.script().add(Scripted::status(WRITES, 503).times(u32::MAX));
    let reason = mirrored.world.work_until_held(SECRET).await;
    assert!(reason.contains("deadline_passed") && reason.contains("Vault"), "{reason}");
    mirrored.world.consumers.restart(CONSUMER).await.unwrap();
    mirrored.world.vault.script().clear();
    mirrored.world.order("resume", SECRET).await;
    mirrored.work_until_step("promote_rollout").await;
    let (ahead, behind) = mirrored.stores();
    assert_eq!(ahead, behind);
    mirrored.assert_ended("completed", &ahead[..1]).await;
}

#[tokio::test]
async fn a_mirror_that_forbids_the_write_is_held_at_once_and_can_be_turned_back() {
    let mirrored = Mirrored::begin().await;
    mirrored.work_until_step("introduce_rollout").await;
    let answer = Scripted::status(WRITES, 403).times(u32::MAX);
    mirrored.world.vault.script().add(answer);
    let reason = mirrored.world.work_until_held(SECRET).await;
    assert!(reason.contains("permanent"), "{reason}");
    mirrored.world.order("rollback", SECRET).await;
    mirrored.work_for(SignedDuration::from_hours(1)).await;
    assert_eq!(mirrored.world.ended(SECRET, "rolled_back").await, 0, "not without the mirror");
    mirrored.world.vault.script().clear();
    mirrored.world.order("resume", SECRET).await;
    mirrored.assert_ended("rolled_back", std::slice::from_ref(&mirrored.old)).await;
}

#[tokio::test]
async fn a_rotation_turned_back_while_its_mirror_is_behind_ends_right_in_both_places() {
    for (before, step) in PUBLICATIONS {
        let mirrored = Mirrored::begin().await;
        if before != "keep" {
            mirrored.work_until_step(before).await;
        }
        mirrored.world.vault.script().add(Scripted::status(WRITES, 503).times(u32::MAX));
        mirrored.work_until_step(step).await;
        mirrored.work_for(SignedDuration::from_mins(30)).await;
        mirrored.world.order("rollback", SECRET).await;
        mirrored.work_for(SignedDuration::from_mins(30)).await;
        mirrored.world.consumers.restart(CONSUMER).await.unwrap();
        mirrored.world.vault.script().clear();
        mirrored.assert_ended("rolled_back", std::slice::from_ref(&mirrored.old)).await;
    }
}

/// A mirror that shows what it showed earlier, as one does that was restored from a
/// backup, has to be put right by a person; until then nothing moves anywhere.
#[tokio::test]
async fn a_mirror_that_lost_a_publication_keeps_the_next_one_from_both_stores() {
    let mirrored = Mirrored::begin().await;
    mirrored.work_until_step("introduce_rollout").await;
    let (whole, _) = mirrored.stores();
    write_mirror(&mirrored.world.vault, std::slice::from_ref(&mirrored.old)).await;
    mirrored.world.consumers.restart(CONSUMER).await.unwrap();
    let reason = mirrored.world.work_until_held(SECRET).await;
    assert!(reason.contains("foreign"), "{reason}");
    assert_eq!(mirrored.world.step(SECRET).await.as_deref(), Some("promote"));
    assert_eq!(in_primary(&mirrored.world.aws), whole, "instances that read the primary use the old key");
    mirrored.world.consumers.restart(CONSUMER).await.unwrap();
    assert_eq!(mirrored.fleet.failures(), []);
    write_mirror(&mirrored.world.vault, &whole).await;
    // What read the mirror meanwhile does not know the new key: everybody rolls out again.
    mirrored.world.order("resume", SECRET).await;
    mirrored.work_until_step("promote_rollout").await;
    mirrored.assert_ended("completed", &whole[1..]).await;
}

#[tokio::test]
async fn a_mirror_that_lost_the_withdrawal_keeps_the_values_from_being_purged() {
    let mirrored = Mirrored::begin().await;
    mirrored.work_until_step("watch").await;
    let (both, _) = mirrored.stores();
    mirrored.work_until_step("withdraw_rollout").await;
    let (alone, _) = mirrored.stores();
    write_mirror(&mirrored.world.vault, &both).await;
    let reason = mirrored.world.work_until_held(SECRET).await;
    assert!(reason.contains("vault"), "{reason}");
    assert_eq!(mirrored.world.step(SECRET).await.as_deref(), Some("purge"));
    write_mirror(&mirrored.world.vault, &alone).await;
    mirrored.world.order("resume", SECRET).await;
    mirrored.assert_ended("completed", &alone).await;
}
