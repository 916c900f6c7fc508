//! Keys that consumers sign and verify with: not one verification fails, whatever the
//! way that a rotation takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::SignedDuration;
use rota_fakes::consumer::{Fleet, KeyReader, keys_of_list, keys_of_pair};

use crate::places::STORES;
use crate::support::World;

pub(crate) const TOKEN_TTL: SignedDuration = SignedDuration::from_hours(7 * 24);

const POLICY: &str = r#"
version = 1
application = "test"
environment = "development"

{stores}
[consumer.backend]
rollout = { kind = "test-fleet" }
checks = [{ kind = "test-health" }]

[secret.SESSION_SECRET]
kind = "generated"
format = "hex:64"
class = "signing"
stores = ["{store}"]
publish = {publish}
consumers = ["backend"]
cadence = "90d"
token_ttl = "7d"
overlap = "7d"
healthy = { count = 2, every = "1d" }
"#;

pub(crate) const SECRET: &str = "SESSION_SECRET";
const LIST: &str = "SESSION_SECRETS";
const PATH: &str = "test/SESSION_SECRETS";

/// How consumers read their keys.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    List,
    /// Two names: the key to sign with, and the one to accept. Before Rota there is one.
    Pair(&'static str, &'static str),
}

impl Form {
    fn publish(self) -> String {
        match self {
            Self::List => format!(r#"{{ list = "{LIST}" }}"#),
            Self::Pair(first, second) => {
                format!("{{ first = \"{first}\", second = \"{second}\" }}\naccept_gap = true")
            }
        }
    }

    /// The name that exists before Rota, and its text.
    fn before_rota(self, key: &str) -> (&'static str, String) {
        match self {
            Self::List => (LIST, format!(r#"["{key}"]"#)),
            Self::Pair(..) => (SECRET, key.to_owned()),
        }
    }

    /// As the runbooks' code does: the first one is to sign with.
    fn keys(self, text: impl Fn(&str) -> Option<String>) -> anyhow::Result<Vec<String>> {
        match self {
            Self::List => keys_of_list(&text(LIST).context("the list is not there")?),
            Self::Pair(first, second) => Ok(keys_of_pair(text(first), text(second))),
        }
    }
}

/// A fleet that signs with the first key and verifies with all.
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
        Self::adopt_as(store, Form::List).await
    }

    /// The same in another form.
    pub(crate) async fn adopt_as(store: &str, form: Form) -> Self {
        let world = World::simulated().await;
        let old = "0123456789abcdef".repeat(8);
        let (name, text) = form.before_rota(&old);
        world.write_before_rota(store, &[(name, &text)]).await;
        let stands = world.reader(store);
        let read: KeyReader = Arc::new(move || form.keys(&*stands));
        let fleet = world.consumers.run(&["backend"], TOKEN_TTL, Arc::clone(&read));
        let policy = POLICY.replace("{stores}", STORES).replace("{store}", store);
        world.accept(&policy.replace("{publish}", &form.publish())).await;
        Self { world, fleet, read, old }
    }

    /// What a new instance reads, each key once: a name that exists never disappears.
    pub(crate) fn published(&self) -> Vec<String> {
        let mut keys = (self.read)().unwrap();
        keys.dedup();
        keys
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
    assert_eq!(
        signing.world.effects(SECRET).await,
        ["keep", "stage", "introduce", "promote", "withdraw", "purge"]
    );
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
    assert_eq!(
        signing.world.effects(SECRET).await,
        ["keep", "stage", "introduce", "promote", "withdraw", "purge"]
    );
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
    assert_eq!(signing.world.effects(SECRET).await, effects);
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
