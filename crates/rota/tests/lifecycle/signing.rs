//! Keys that consumers sign and verify with: not one verification fails, whatever the
//! way that a rotation takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt as _;
use jiff::SignedDuration;
use rota_core::document::{DocumentFormat, get};
use rota_core::value::SecretValue;
use rota_fakes::consumer::{Fleet, KeyReader, keys_of_list};
use serde_json::{Value, json};

use crate::support::World;

pub(crate) const TOKEN_TTL: SignedDuration = SignedDuration::from_hours(7 * 24);

const POLICY: &str = r#"
version = 1
application = "test"
environment = "development"

[store.aws]
kind = "aws-secrets-manager"
region = "us-east-1"
path = "test/{name}"

[store.env]
kind = "env-file"
path = "{folder}/.env"

[store.vault]
kind = "vault-kv2"
mount = "secret"
path = "test/{name}"

[consumer.backend]
rollout = { kind = "test-fleet" }
checks = [{ kind = "test-health" }]

[secret.SESSION_SECRET]
kind = "generated"
format = "hex:64"
class = "signing"
stores = ["{store}"]
publish = { list = "SESSION_SECRETS" }
consumers = ["backend"]
cadence = "90d"
token_ttl = "7d"
overlap = "7d"
healthy = { count = 2, every = "1d" }
"#;

pub(crate) const SECRET: &str = "SESSION_SECRET";
const PATH: &str = "test/SESSION_SECRETS";

/// A fleet that signs with the first key of the list and verifies with all.
pub(crate) struct Signing {
    pub(crate) world: World,
    pub(crate) fleet: Arc<Fleet>,
    read: KeyReader,
    old: String,
}

impl Signing {
    /// With a key from before Rota, and a rotation ordered.
    async fn begin(store: &str) -> Self {
        let signing = Self::adopt(store).await;
        signing.world.order("rotate", SECRET).await;
        signing
    }

    /// With a key from before Rota.
    pub(crate) async fn adopt(store: &str) -> Self {
        let world = World::simulated().await;
        let old = "0123456789abcdef".repeat(8);
        let list = format!(r#"["{old}"]"#);
        let read: KeyReader = match store {
            "aws" => {
                world.aws.create(PATH, &list).unwrap();
                let aws = Arc::clone(&world.aws);
                Arc::new(move || keys_of_list(&aws.value(PATH, "AWSCURRENT").unwrap_or_default()))
            }
            "vault" => {
                let vault = Arc::clone(&world.vault);
                let body = json!({ "data": { "value": list } });
                vault.admin("POST", &format!("secret/data/{PATH}"), body).await.unwrap();
                Arc::new(move || {
                    let path = format!("secret/data/{PATH}");
                    let read = vault.admin("GET", &path, Value::Null).now_or_never();
                    let read = read.context("the fake answers at once")??;
                    keys_of_list(read["data"]["data"]["value"].as_str().unwrap_or_default())
                })
            }
            _ => {
                let file = world.write_env_file(&format!("OTHER=untouched\nSESSION_SECRETS='{list}'\n"));
                Arc::new(move || {
                    let text = SecretValue::new(std::fs::read_to_string(&file)?)?;
                    let list = get(&text, DocumentFormat::Dotenv, "SESSION_SECRETS")?;
                    keys_of_list(list.as_ref().map_or("", SecretValue::expose))
                })
            }
        };
        let fleet = world.consumers.run(&["backend"], TOKEN_TTL, Arc::clone(&read));
        world.accept(&POLICY.replace("{store}", store)).await;
        Self { world, fleet, read, old }
    }

    /// What a new instance reads.
    pub(crate) fn published(&self) -> Vec<String> {
        (self.read)().unwrap()
    }

    async fn at(&self, step: &str) -> Vec<String> {
        self.world.work_until_step(SECRET, step).await;
        self.published()
    }

    /// The lists under the labels of Secrets Manager, and how many slots are alive.
    pub(crate) fn labels(&self) -> (String, String, usize) {
        let value = |label| self.world.aws.value(PATH, label).unwrap();
        let versions = self.world.aws.versions(PATH);
        let labels: Vec<&String> = versions.iter().flat_map(|version| &version.labels).collect();
        let slots = labels
            .iter()
            .filter(|label| label.starts_with("rota-old-") || label.starts_with("rota-candidate-"))
            .count();
        (value("AWSCURRENT"), value("AWSPREVIOUS"), slots)
    }

    pub(crate) fn assert_nobody_noticed(&self) {
        assert_eq!(self.fleet.failures(), []);
        assert!(self.fleet.verifications() > 50, "{}", self.fleet.verifications());
        let oldest = self.world.consumers.oldest_token();
        assert!(oldest > TOKEN_TTL * 3 / 4, "the oldest token that was shown lived {oldest:#}");
    }

    /// Each outcome follows its own intent; effect numbers grow. Returns the steps
    /// that changed something, in order.
    pub(crate) async fn effects(&self) -> Vec<String> {
        let mut open: Option<(String, i64)> = None;
        let (mut last, mut steps) = (0, Vec::new());
        for (kind, step, effect) in self.world.history(SECRET).await {
            let Some((step, effect)) = step.zip(effect) else { continue };
            match kind.as_str() {
                "step.intended" => {
                    assert!(open.is_none(), "{step} is intended while {open:?} has no outcome");
                    assert!(effect > last, "{step} has effect {effect} after {last}");
                    last = effect;
                    open = Some((step, effect));
                }
                "step.done" | "rotation.ended" => {
                    assert_eq!(open.take(), Some((step.clone(), effect)), "{kind}");
                    steps.push(step);
                }
                other => panic!("{other} of {step} belongs to an effect"),
            }
        }
        assert_eq!(open, None, "an intent without an outcome at the end");
        steps
    }
}

fn list(keys: &[&str]) -> String {
    serde_json::to_string(keys).unwrap()
}

#[tokio::test]
async fn a_signing_key_rotates_in_secrets_manager_without_one_failed_verification() {
    let signing = Signing::begin("aws").await;
    let old = signing.old.as_str();

    let introduced = signing.at("introduce_rollout").await;
    let new = introduced[1].clone();
    assert_eq!(introduced, [old, &new], "everybody accepts the new key before anybody uses it");
    assert_ne!(new, old);
    assert_eq!(new.len(), 128);
    assert_eq!(signing.labels(), (list(&[old, &new]), list(&[old]), 2));

    assert_eq!(signing.at("promote_rollout").await, [&new, old]);
    assert_eq!(signing.labels(), (list(&[&new, old]), list(&[old, &new]), 2));

    assert_eq!(signing.at("watch").await, [&new, old]);

    assert_eq!(signing.at("withdraw_rollout").await, [new.as_str()]);
    assert_eq!(signing.labels(), (list(&[&new]), list(&[&new, old]), 2));

    signing.world.work_until_ended(SECRET, "completed", 1).await;
    assert_eq!(signing.published(), [new.as_str()]);
    assert_eq!(signing.labels(), (list(&[&new]), list(&[&new, old]), 0), "the slots are purged");
    signing.assert_nobody_noticed();
    assert_eq!(signing.effects().await, ["keep", "stage", "introduce", "promote", "withdraw", "purge"]);
}

#[tokio::test]
async fn a_signing_key_rotates_in_an_env_file_without_one_failed_verification() {
    let signing = Signing::begin("env").await;
    let old = signing.old.as_str();
    let introduced = signing.at("introduce_rollout").await;
    let new = introduced[1].clone();
    assert_eq!(introduced, [old, &new]);
    assert_eq!(signing.at("promote_rollout").await, [&new, old]);
    assert_eq!(signing.at("withdraw_rollout").await, [new.as_str()]);
    signing.world.work_until_ended(SECRET, "completed", 1).await;
    assert_eq!(signing.published(), [new.as_str()]);
    signing.assert_nobody_noticed();
    assert_eq!(signing.effects().await, ["keep", "stage", "introduce", "promote", "withdraw", "purge"]);
    let file = std::fs::read_to_string(signing.world.folder.path().join(".env")).unwrap();
    assert!(file.lines().any(|line| line == "OTHER=untouched"));
}

/// Turns back at `step`; every list on the way is rolled out, and the old key is alone again.
async fn turn_back_at(step: &str, ways_back: &[(&str, &[&str])], effects: &[&str]) {
    let signing = Signing::begin("aws").await;
    signing.world.work_until_step(SECRET, step).await;
    let new = signing.published().into_iter().find(|key| *key != signing.old).unwrap();
    signing.world.order("rollback", SECRET).await;
    let names = BTreeMap::from([("old", signing.old.as_str()), ("new", new.as_str())]);
    for (step, keys) in ways_back {
        let wanted: Vec<&str> = keys.iter().map(|key| names[key]).collect();
        assert_eq!(signing.at(step).await, wanted, "{step}");
    }
    signing.world.work_until_ended(SECRET, "rolled_back", 1).await;
    assert_eq!(signing.published(), [signing.old.as_str()]);
    assert_eq!(signing.labels().2, 0, "the slots are purged");
    // Tokens from the time of the rollback live on for a while after its end.
    signing.world.consumers.pass(TOKEN_TTL).await;
    signing.assert_nobody_noticed();
    assert_eq!(signing.effects().await, effects);
}

#[tokio::test]
async fn a_rotation_turned_back_before_the_promotion_takes_the_new_key_away_again() {
    turn_back_at(
        "introduce_rollout",
        &[("reject_rollout", &["old"])],
        &["keep", "stage", "introduce", "reject", "discard"],
    )
    .await;
}

#[tokio::test]
async fn a_rotation_turned_back_after_the_promotion_goes_back_list_by_list() {
    turn_back_at(
        "promote_rollout",
        &[("demote_rollout", &["old", "new"]), ("cooldown", &["old", "new"]), ("reject_rollout", &["old"])],
        &["keep", "stage", "introduce", "promote", "demote", "reject", "discard"],
    )
    .await;
}

#[tokio::test]
async fn a_rotation_turned_back_while_it_is_watched_goes_back_list_by_list() {
    turn_back_at(
        "watch",
        &[("demote_rollout", &["old", "new"]), ("cooldown", &["old", "new"]), ("reject_rollout", &["old"])],
        &["keep", "stage", "introduce", "promote", "demote", "reject", "discard"],
    )
    .await;
}

#[tokio::test]
async fn a_rotation_turned_back_after_the_withdrawal_accepts_the_old_key_again_first() {
    turn_back_at(
        "withdraw_rollout",
        &[
            ("reaccept_rollout", &["new", "old"]),
            ("demote_rollout", &["old", "new"]),
            ("cooldown", &["old", "new"]),
            ("reject_rollout", &["old"]),
        ],
        &["keep", "stage", "introduce", "promote", "withdraw", "reaccept", "demote", "reject", "discard"],
    )
    .await;
}

#[tokio::test]
async fn a_failing_check_holds_the_rotation_while_both_keys_stand() {
    let signing = Signing::begin("aws").await;
    signing.world.work_until_step(SECRET, "watch").await;
    signing.world.consumers.say_unhealthy();
    let reason = signing.world.work_until_held(SECRET).await;
    assert!(reason.contains("unhealthy"), "{reason}");
    let both = signing.published();
    assert_eq!(both.len(), 2);
    assert_eq!(both[1], signing.old);
    assert_eq!(signing.fleet.failures(), []);
}
