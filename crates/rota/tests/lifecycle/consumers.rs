//! The services that read the secrets: instances that read them only at their start and
//! are restarted one by one, clients of a provider, a check that a test turns red, and a provider's proof.
//!
//! Everything else is the catalogue's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::SignedDuration;
use rota_adapters::catalog::{self, Catalog};
use rota_adapters::environment::AdapterEnvironment;
use rota_adapters::rollouts::ecs;
use rota_core::fault::Fault;
use rota_core::policy::kinds::{KindSpec, Kinds, Port};
use rota_core::policy::model::{CheckPolicy, Hook, Policy, RolloutPolicy, SecretPolicy, StorePolicy};
use rota_engine::ports::{
    Adapters, Check, CheckContext, HookRunner, Reading, Rollout, RolloutContext, RolloutStatus, Rotator,
    SecretStore, Verdict,
};
use rota_fakes::consumer::{Fleet, KeyReader};
use serde_json::{Value, json};

use crate::mesh::{Mesh, Serving};
use crate::time::Time;

/// Restarts the consumer's fleet one by one.
const FLEET: &str = "test-fleet";
/// Healthy until the test says otherwise.
const HEALTH: &str = "test-health";
/// A provider that accepts every value that does not begin with [`REFUSED`], until it is revoked.
const PROVIDER: &str = "test-provider";

/// What the provider never made begins like this.
pub(crate) const REFUSED: &str = "wrong-";

/// The catalogue's kinds and the three above.
pub(crate) fn kinds() -> Kinds {
    let own = [
        KindSpec::new(Port::Rollout, FLEET, "restarts a fleet one by one"),
        KindSpec::new(Port::Check, HEALTH, "healthy until the test says otherwise"),
        KindSpec::new(Port::Check, PROVIDER, "accepts the keys that it made"),
    ];
    let specs = catalog::STORES
        .iter()
        .map(|kind| kind.spec)
        .chain(catalog::ROTATORS.iter().map(|kind| kind.spec))
        .chain(catalog::ROLLOUTS.iter().map(|kind| kind.spec))
        .chain(catalog::CHECKS.iter().map(|kind| kind.spec))
        .chain(catalog::HOOKS.iter().map(|kind| kind.spec))
        .chain(own);
    Kinds::new(specs).unwrap()
}

/// Gives the key that an instance shows to its provider.
pub(crate) type ReadKey = Arc<dyn Fn() -> String + Send + Sync>;

/// Instances of one consumer that show the provider the key that each read at its start.
struct Clients {
    consumer: String,
    read: ReadKey,
    keys: Mutex<Vec<String>>,
}

/// What runs in one test's world.
pub(crate) struct Consumers {
    time: Arc<Time>,
    meshes: Mutex<Vec<Arc<Mesh>>>,
    clients: Mutex<Vec<Arc<Clients>>>,
    asked: AtomicUsize,
    refused: AtomicUsize,
    oldest_token: Mutex<SignedDuration>,
    unhealthy: AtomicBool,
    revoked: Mutex<Vec<String>>,
    restarts: Mutex<BTreeMap<String, Arc<dyn Fn() + Send + Sync>>>,
}

impl Consumers {
    pub(crate) fn new(time: Arc<Time>) -> Self {
        Self {
            time,
            meshes: Mutex::default(),
            clients: Mutex::default(),
            asked: AtomicUsize::default(),
            refused: AtomicUsize::default(),
            oldest_token: Mutex::default(),
            unhealthy: AtomicBool::default(),
            revoked: Mutex::default(),
            restarts: Mutex::default(),
        }
    }

    /// Three instances of each consumer share what `read` gives, from now on.
    pub(crate) fn run(&self, consumers: &[&str], token_ttl: SignedDuration, read: KeyReader) -> Arc<Fleet> {
        self.use_from_now_on(Mesh::start(consumers, 3, token_ttl, read, &self.time.clock).unwrap())
    }

    /// Uses what `serving` says to serve, from now on.
    pub(crate) fn run_elsewhere(&self, token_ttl: SignedDuration, serving: Serving) -> Arc<Fleet> {
        self.use_from_now_on(Mesh::of(serving, token_ttl, &self.time.clock).unwrap())
    }

    fn use_from_now_on(&self, mesh: Mesh) -> Arc<Fleet> {
        let fleet = Arc::clone(&mesh.fleet);
        self.meshes.lock().unwrap().push(Arc::new(mesh));
        fleet
    }

    /// A consumer that the test itself runs: `restart` replaces its instances.
    pub(crate) fn run_own(&self, consumer: &str, restart: impl Fn() + Send + Sync + 'static) {
        self.restarts.lock().unwrap().insert(consumer.to_owned(), Arc::new(restart));
    }

    /// Three instances of a consumer show the provider what `read` gives, from now on.
    pub(crate) fn run_clients(&self, consumer: &str, read: ReadKey) {
        let keys = Mutex::new((0..3).map(|_| read()).collect());
        let clients = Arc::new(Clients { consumer: consumer.to_owned(), read, keys });
        self.clients.lock().unwrap().push(clients);
    }

    /// How often the provider was asked by those, and how often it refused.
    pub(crate) fn asked_and_refused(&self) -> (usize, usize) {
        (self.asked.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    fn meshes(&self) -> Vec<Arc<Mesh>> {
        self.meshes.lock().unwrap().clone()
    }

    fn clients(&self) -> Vec<Arc<Clients>> {
        self.clients.lock().unwrap().clone()
    }

    /// Every instance signs, every instance verifies, old tokens too; every client asks
    /// its provider.
    pub(crate) fn use_secrets(&self) {
        for key in self.clients().iter().flat_map(|clients| clients.keys.lock().unwrap().clone()) {
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.refused.fetch_add(usize::from(!self.accepts(&key)), Ordering::Relaxed);
        }
        for mesh in self.meshes() {
            if let Some(age) = mesh.fleet.oldest_token() {
                let mut oldest = self.oldest_token.lock().unwrap();
                *oldest = age.max(*oldest);
            }
            mesh.drive();
        }
    }

    /// Lets `by` pass while the secrets are used: so often that tokens of every age
    /// meet what comes at the end, and what was signed before is shown until it expires.
    pub(crate) async fn pass(&self, by: SignedDuration) {
        let mut moments = vec![by];
        for mesh in self.meshes() {
            let ages = [1, 4, 8, 12, 15].map(|sixteenth| mesh.token_ttl * sixteenth / 16);
            moments.extend(ages);
            moments.extend(ages.map(|age| by - age));
        }
        moments.retain(|moment| moment.is_positive() && *moment <= by);
        moments.sort();
        moments.dedup();
        let mut passed = SignedDuration::ZERO;
        for moment in moments {
            self.time.run_ahead(moment - passed);
            passed = moment;
            self.use_secrets();
        }
        self.time.settle().await;
    }

    /// Replaces the consumer's instances one by one.
    pub(crate) async fn restart(&self, consumer: &str) -> anyhow::Result<()> {
        for mesh in self.meshes() {
            mesh.restart(consumer, |by| self.time.pass(by)).await?;
        }
        for clients in self.clients().into_iter().filter(|clients| clients.consumer == consumer) {
            let count = clients.keys.lock().unwrap().len();
            for instance in 0..count {
                let key = (clients.read)();
                clients.keys.lock().unwrap()[instance] = key;
                self.use_secrets();
            }
        }
        Ok(())
    }

    /// The greatest age of a token that was still verified.
    pub(crate) fn oldest_token(&self) -> SignedDuration {
        *self.oldest_token.lock().unwrap()
    }

    /// A person revokes a key at the provider.
    pub(crate) fn revoke(&self, key: &str) {
        self.revoked.lock().unwrap().push(key.to_owned());
    }

    /// Whether the provider made the key and it was not revoked.
    fn accepts(&self, key: &str) -> bool {
        !key.starts_with(REFUSED) && !self.revoked.lock().unwrap().iter().any(|revoked| revoked == key)
    }

    pub(crate) fn say_unhealthy(&self) {
        self.unhealthy.store(true, Ordering::Relaxed);
    }
}

/// The catalogue with the tests' consumers.
pub(crate) struct WithConsumers {
    catalog: Catalog,
    /// Amazon ECS has an address of its own.
    ecs: AdapterEnvironment,
    consumers: Arc<Consumers>,
}

impl WithConsumers {
    pub(crate) fn new(catalog: Catalog, ecs: AdapterEnvironment, consumers: Arc<Consumers>) -> Self {
        Self { catalog, ecs, consumers }
    }
}

impl Adapters for WithConsumers {
    fn accept(&self, policy: &Policy) {
        self.catalog.accept(policy);
    }

    fn store(&self, policy: &StorePolicy) -> Result<Arc<dyn SecretStore>, Fault> {
        self.catalog.store(policy)
    }

    fn store_identity(&self, policy: &StorePolicy) -> Option<String> {
        self.catalog.store_identity(policy)
    }

    fn rotator(&self, policy: &SecretPolicy) -> Result<Arc<dyn Rotator>, Fault> {
        self.catalog.rotator(policy)
    }

    fn rollout(&self, policy: &RolloutPolicy) -> Result<Arc<dyn Rollout>, Fault> {
        match policy.kind.as_str() {
            FLEET => Ok(Arc::new(Restart(Arc::clone(&self.consumers)))),
            ecs::NAME => (ecs::KIND.build)(policy, &self.ecs),
            _ => self.catalog.rollout(policy),
        }
    }

    fn check(&self, policy: &CheckPolicy) -> Result<Arc<dyn Check>, Fault> {
        match policy.kind.as_str() {
            HEALTH => Ok(Arc::new(Health(Arc::clone(&self.consumers)))),
            PROVIDER => Ok(Arc::new(Provider(Arc::clone(&self.consumers)))),
            _ => self.catalog.check(policy),
        }
    }

    fn hook(&self, hook: &Hook) -> Result<Arc<dyn HookRunner>, Fault> {
        self.catalog.hook(hook)
    }
}

/// One instance after the other is replaced, all in use meanwhile.
struct Restart(Arc<Consumers>);

#[async_trait]
impl Rollout for Restart {
    async fn begin(&self, context: &RolloutContext) -> Result<Value, Fault> {
        let restart = self.0.restarts.lock().unwrap().get(context.consumer.as_str()).cloned();
        if let Some(restart) = restart {
            restart();
        }
        self.0
            .restart(context.consumer.as_str())
            .await
            .map_err(|error| Fault::transient(format!("an instance does not start: {error}")))?;
        Ok(json!({ "generation": context.generation }))
    }

    async fn observe(
        &self,
        _: &Value,
        _: &Value,
        _: &RolloutContext,
    ) -> Result<(RolloutStatus, Value), Fault> {
        Ok((RolloutStatus::Finished, Value::Null))
    }
}

struct Health(Arc<Consumers>);

#[async_trait]
impl Check for Health {
    async fn observe(&self, _: &CheckContext) -> Result<Reading, Fault> {
        let verdict = match self.0.unhealthy.load(Ordering::Relaxed) {
            true => Verdict::Unhealthy,
            false => Verdict::Healthy,
        };
        Ok(Reading { verdict, value: None, detail: "as the test says".to_owned() })
    }
}

struct Provider(Arc<Consumers>);

#[async_trait]
impl Check for Provider {
    async fn observe(&self, context: &CheckContext) -> Result<Reading, Fault> {
        let verdict = match &context.value {
            None => Verdict::Unknown,
            Some(value) => match self.0.accepts(value.expose()) {
                true => Verdict::Healthy,
                false => Verdict::Unhealthy,
            },
        };
        Ok(Reading { verdict, value: None, detail: "the provider's answer".to_owned() })
    }
}
