//! A key that a person makes at a provider and hands in, used by instances that show it
//! to the provider all the time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rota_core::id::RotationId;
use rota_core::policy::model::Policy;
use rota_core::value::SecretValue;
use rota_engine::ports::{Slot, SlotRole};
use uuid::Uuid;

use crate::interrupted::{Interrupted, Moment, Point};
use crate::places::{ReadName, STORES};
use crate::support::World;

const POLICY: &str = r#"
version = 1
application = "test"
environment = "development"

{stores}

[consumer.backend]
rollout = { kind = "test-fleet" }
checks = [{ kind = "test-health" }]

[secret.PROVIDER_KEY]
kind = "operator"
stores = ["{store}"]
{publish}
prove = { kind = "test-provider" }
consumers = ["backend"]
cadence = "90d"
overlap = "7d"
healthy = { count = 2, every = "1d" }
"#;

const SECRET: &str = "PROVIDER_KEY";
const SECOND: &str = "PROVIDER_KEY_BACKUP";

pub(crate) struct HandedIn {
    world: World,
    policy: Policy,
    is_pair: bool,
    read: ReadName,
    /// What a person has done: the rotation and the step that waited for it.
    done: Mutex<BTreeSet<(Uuid, &'static str)>>,
    /// The key of the rotation in flight, after the one that it replaces.
    keys: Mutex<Option<(String, String)>>,
}

impl HandedIn {
    /// With a name for the key before, too.
    pub(crate) async fn pair(store: &str) -> Self {
        Self::adopt(store, true).await
    }

    pub(crate) async fn single(store: &str) -> Self {
        Self::adopt(store, false).await
    }

    async fn adopt(store: &str, is_pair: bool) -> Self {
        let world = World::simulated().await;
        world.write_before_rota(store, &[(SECRET, &new_key())]).await;
        let publish = match is_pair {
            true => format!(r#"publish = {{ first = "{SECRET}", second = "{SECOND}" }}"#),
            false => String::new(),
        };
        let policy = POLICY.replace("{stores}", STORES).replace("{store}", store);
        let policy = world.accept(&policy.replace("{publish}", &publish)).await;
        let read = world.reader(store);
        let at_start = Arc::clone(&read);
        world.consumers.run_clients("backend", Arc::new(move || at_start(SECRET).unwrap()));
        Self { world, policy, is_pair, read, done: Mutex::default(), keys: Mutex::default() }
    }

    /// The rotation that waits for a person at `step`, unless one has acted already.
    async fn waiting_at(&self, step: &'static str) -> Option<Uuid> {
        if self.world.step(SECRET).await.as_deref() != Some(step) {
            return None;
        }
        let rotation = self.world.rotation(SECRET).await;
        self.done.lock().unwrap().insert((rotation, step)).then_some(rotation)
    }

    /// Puts a new key into the candidate's slot and says so, as `rota submit` does.
    async fn hand_in(&self, rotation: Uuid) {
        let key = new_key();
        let entry = self.policy.entry(&SECRET.parse().unwrap()).unwrap();
        let slot = Slot::of(&entry, RotationId(rotation), SlotRole::Candidate).unwrap();
        let store = &entry.stores[entry.secret.primary_store().unwrap()];
        let sql = "SELECT rota.order_begin_submission($1, 'a person')";
        sqlx::query(sql).bind(SECRET).execute(&self.world.operator).await.unwrap();
        let value = SecretValue::new(key.clone()).unwrap();
        self.world.adapters.store(store).unwrap().stage(&slot, &value).await.unwrap();
        let sql = "SELECT rota.order_submitted($1, $2, 'the provider made it', 'a person')";
        sqlx::query(sql).bind(SECRET).bind(rotation).execute(&self.world.operator).await.unwrap();
        let old = (self.read)(SECRET).unwrap();
        *self.keys.lock().unwrap() = Some((old, key));
    }

    /// A key that a rotation has left at the provider is on the list until a person
    /// has revoked it and said so.
    async fn assert_tracked_and_revoke(&self, at: Point, left: bool) {
        let sql = "SELECT count(*) FROM rota.orphans WHERE secret = $1 AND resolved_at IS NULL";
        let tracked: i64 =
            sqlx::query_scalar(sql).bind(SECRET).fetch_one(&self.world.operator).await.unwrap();
        assert_eq!(tracked, i64::from(left), "{at:?}: keys left at the provider");
        if left {
            let (_, key) = self.keys.lock().unwrap().take().unwrap();
            self.world.consumers.revoke(&key);
            let sql = "SELECT rota.order_resolve_orphan($1, NULL, 'revoked it', 'a person')";
            sqlx::query(sql).bind(SECRET).execute(&self.world.operator).await.unwrap();
        }
    }
}

fn new_key() -> String {
    format!("sk-{}-{}", Uuid::new_v4(), Uuid::new_v4())
}

#[async_trait]
impl Interrupted for HandedIn {
    fn world(&self) -> &World {
        &self.world
    }

    fn secret(&self) -> &'static str {
        SECRET
    }

    fn steps(&self) -> &'static [&'static str] {
        const STEPS: [&str; 11] = [
            "keep",
            "stage",
            "prove",
            "promote",
            "promote_rollout",
            "watch",
            "withdraw",
            "withdraw_rollout",
            "confirm",
            "prove_refused",
            "purge",
        ];
        const OF_ONE_NAME: [&str; 9] = [
            "keep",
            "stage",
            "prove",
            "promote",
            "promote_rollout",
            "watch",
            "confirm",
            "prove_refused",
            "purge",
        ];
        if self.is_pair { &STEPS } else { &OF_ONE_NAME }
    }

    fn effects(&self) -> &'static [&'static str] {
        if self.is_pair {
            &["keep", "stage", "promote", "withdraw", "purge"]
        } else {
            &["keep", "stage", "promote", "purge"]
        }
    }

    fn published(&self) -> Vec<String> {
        let names = [Some(SECRET), Some(SECOND).filter(|_| self.is_pair)];
        let mut keys: Vec<String> =
            names.into_iter().flatten().filter_map(|name| (self.read)(name)).collect();
        keys.dedup();
        keys
    }

    /// A person has revoked the old key.
    fn is_past_undo(&self, at: Point) -> bool {
        ["prove_refused", "purge"].contains(&at.step)
    }

    async fn people(&self) {
        if let Some(rotation) = self.waiting_at("stage").await {
            self.hand_in(rotation).await;
        }
        if self.waiting_at("confirm").await.is_some() {
            let (old, _) = self.keys.lock().unwrap().clone().unwrap();
            self.world.consumers.revoke(&old);
            self.world.order("confirm", SECRET).await;
        }
    }

    async fn assert_unharmed(&self, at: Point, turned_back: bool) {
        self.world.consumers.use_secrets();
        let (asked, refused) = self.world.consumers.asked_and_refused();
        assert!(asked > 10 && refused == 0, "{at:?}: {refused} of {asked} were refused");
        let was_made = at.step != "keep" && !(at.step == "stage" && at.moment == Moment::Reached);
        self.assert_tracked_and_revoke(at, turned_back && was_made).await;
    }
}
