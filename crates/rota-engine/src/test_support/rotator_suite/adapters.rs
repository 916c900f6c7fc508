//! The catalogue of the suite: the subject behind calls that can be disturbed, the fake
//! store, and a consumer that is restarted instance by instance.

use std::future::{Future, pending};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::format::RandomSource;
use rota_core::policy::model::{
    CheckPolicy, Hook, Policy, PolicyEntry, RolloutPolicy, SecretPolicy, StorePolicy,
};
use rota_core::rotation::Step;
use rota_core::value::{Bundle, SecretValue};
use serde_json::{Value, json};

use super::RotatorUnderTest;
use super::harness::{Fate, Harness, Seen, Shared, lock, published_fields, secret, use_all};
use crate::ports::{
    Adapters, Check, CheckContext, Created, Fence, HookRunner, Idleness, Observed, Proof, Reading, Rollout,
    RolloutContext, RolloutStatus, Rotator, RotatorTraits, SecretStore, TargetContext, TargetEffect, Verdict,
    Which,
};
use crate::test_support::{MemoryJournal, Scenario};

#[derive(Clone)]
pub(super) struct SuiteAdapters {
    subject: Arc<dyn RotatorUnderTest>,
    rotator: Arc<dyn Rotator>,
    shared: Arc<Mutex<Shared>>,
    world: crate::test_support::FakeWorld,
    journal: MemoryJournal,
    read: Arc<dyn Fn() -> Bundle + Send + Sync>,
}

impl SuiteAdapters {
    pub(super) fn new(harness: &Harness) -> Self {
        let Scenario { world, journal, .. } = &harness.scenario;
        let (world_of_reader, entry) = (world.clone(), harness.entry().clone());
        let rotator = Arc::clone(&harness.rotator);
        let read = move || {
            let fields = published_fields(&world_of_reader, &entry);
            rotator.parts_of(&fields, &entry.secret).expect("what is published is understood")
        };
        Self {
            subject: Arc::clone(&harness.subject),
            rotator: Arc::clone(&harness.rotator),
            shared: Arc::clone(&harness.shared),
            world: world.clone(),
            journal: journal.clone(),
            read: Arc::new(read),
        }
    }

    fn step(&self) -> Option<Step> {
        self.journal.look(|tables| tables.latest(&secret()).and_then(|row| row.rotation.step()))
    }
}

impl Adapters for SuiteAdapters {
    fn accept(&self, _: &Policy) {}

    fn store(&self, policy: &StorePolicy) -> Result<Arc<dyn SecretStore>, Fault> {
        self.world.store(policy)
    }

    fn store_identity(&self, policy: &StorePolicy) -> Option<String> {
        self.world.store_identity(policy)
    }

    fn rotator(&self, _: &SecretPolicy) -> Result<Arc<dyn Rotator>, Fault> {
        Ok(Arc::new(Disturbed { inner: Arc::clone(&self.rotator), suite: self.clone() }))
    }

    fn rollout(&self, _: &RolloutPolicy) -> Result<Arc<dyn Rollout>, Fault> {
        Ok(Arc::new(OneByOne(self.clone())))
    }

    fn check(&self, _: &CheckPolicy) -> Result<Arc<dyn Check>, Fault> {
        Ok(Arc::new(Well))
    }

    fn hook(&self, hook: &Hook) -> Result<Arc<dyn HookRunner>, Fault> {
        self.world.hook(hook)
    }
}

/// Restarts one instance a look; all of them use what they hold after each.
struct OneByOne(SuiteAdapters);

#[async_trait]
impl Rollout for OneByOne {
    async fn begin(&self, context: &RolloutContext) -> Result<Value, Fault> {
        Ok(json!({ "generation": context.generation }))
    }

    async fn observe(
        &self,
        _: &Value,
        memory: &Value,
        _: &RolloutContext,
    ) -> Result<(RolloutStatus, Value), Fault> {
        let restarted = memory.as_u64().unwrap_or(0);
        let number = usize::try_from(restarted).unwrap_or(usize::MAX);
        let fresh = (self.0.read)();
        let all = {
            let mut shared = lock(&self.0.shared);
            if let Some(instance) = shared.instances.get_mut(number) {
                *instance = fresh;
            }
            shared.instances.len()
        };
        use_all(&*self.0.subject, &self.0.shared, "during a rollout").await;
        if number + 1 >= all {
            return Ok((RolloutStatus::Finished, Value::Null));
        }
        Ok((RolloutStatus::UnderWay { detail: format!("{} of {all}", number + 1) }, json!(restarted + 1)))
    }
}

struct Well;

#[async_trait]
impl Check for Well {
    async fn observe(&self, _: &CheckContext) -> Result<Reading, Fault> {
        Ok(Reading { verdict: Verdict::Healthy, value: None, detail: "well".to_owned() })
    }
}

/// The subject's rotator, each of whose calls may be disturbed.
#[derive(Clone)]
struct Disturbed {
    inner: Arc<dyn Rotator>,
    suite: SuiteAdapters,
}

impl Disturbed {
    async fn call<T: Send>(
        &self,
        name: &'static str,
        effect: Option<TargetEffect>,
        context: &TargetContext,
        call: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, Fault> {
        let fate = self.draw(name, effect, context);
        self.meet(fate, call).await
    }

    /// Notes the call and says what becomes of it.
    fn draw(
        &self,
        name: &'static str,
        effect: Option<TargetEffect>,
        context: &TargetContext,
    ) -> Option<Fate> {
        let seen = Seen { step: self.suite.step(), name, effect };
        let mut shared = lock(&self.suite.shared);
        shared.keep(context.old.as_ref());
        shared.keep(context.new.as_ref());
        shared.begin(seen)
    }

    async fn meet<T: Send>(
        &self,
        fate: Option<Fate>,
        call: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, Fault> {
        let lost = || Fault::transient("the target gave no answer");
        match fate {
            None => call.await,
            Some(Fate::Fails) => Err(lost()),
            Some(Fate::AnswerLost) => {
                // Whatever came of it, nobody hears of it.
                let _ = call.await;
                Err(lost())
            }
            Some(Fate::CrashBefore | Fate::LandsLate) => self.crash().await,
            Some(Fate::CrashAfter) => {
                let _ = call.await;
                self.crash().await
            }
        }
    }

    async fn crash<T>(&self) -> T {
        lock(&self.suite.shared).crashed = true;
        pending().await
    }

    /// The same call, to be made when the test lets it.
    fn later(&self, effect: TargetEffect, context: &TargetContext, fence: Fence) {
        let (inner, context) = (Arc::clone(&self.inner), duplicate(context));
        let late = Box::pin(async move {
            // A late effect has nobody left to answer to.
            let _ = inner.apply(effect, &context, fence).await;
        });
        lock(&self.suite.shared).late.push(late);
    }
}

fn duplicate(context: &TargetContext) -> TargetContext {
    TargetContext {
        rotation: context.rotation,
        policy: Arc::<PolicyEntry>::clone(&context.policy),
        old: context.old.as_ref().map(Bundle::duplicate),
        new: context.new.as_ref().map(Bundle::duplicate),
        old_identity: context.old_identity.clone(),
        new_identity: context.new_identity.clone(),
        admin: context.admin.as_ref().map(SecretValue::duplicate),
        since_promotion: context.since_promotion,
        emergency: context.emergency,
        predecessor_unknown: context.predecessor_unknown,
    }
}

#[async_trait]
impl Rotator for Disturbed {
    fn traits(&self) -> RotatorTraits {
        self.inner.traits()
    }

    fn admin_reference(&self) -> Option<&str> {
        self.inner.admin_reference()
    }

    fn target_identities(&self, policy: &SecretPolicy) -> Vec<String> {
        self.inner.target_identities(policy)
    }

    fn parts_of(&self, fields: &Bundle, policy: &SecretPolicy) -> Result<Bundle, Fault> {
        self.inner.parts_of(fields, policy)
    }

    fn generate(&self, target: &TargetContext, random: &mut dyn RandomSource) -> Result<Bundle, Fault> {
        self.inner.generate(target, random)
    }

    fn identity_of(&self, parts: &Bundle) -> Option<String> {
        self.inner.identity_of(parts)
    }

    async fn preflight(&self, target: &TargetContext) -> Result<(), Fault> {
        self.call("preflight", None, target, self.inner.preflight(target)).await
    }

    async fn create(&self, target: &TargetContext, fence: Fence) -> Result<Created, Fault> {
        self.call("create", None, target, self.inner.create(target, fence)).await
    }

    async fn find_created(&self, target: &TargetContext) -> Result<Option<String>, Fault> {
        self.call("find_created", None, target, self.inner.find_created(target)).await
    }

    async fn observe(&self, effect: TargetEffect, target: &TargetContext) -> Result<Observed, Fault> {
        self.call("observe", Some(effect), target, self.inner.observe(effect, target)).await
    }

    async fn apply(&self, effect: TargetEffect, target: &TargetContext, fence: Fence) -> Result<(), Fault> {
        let fate = self.draw("apply", Some(effect), target);
        if fate == Some(Fate::LandsLate) {
            self.later(effect, target, fence);
        }
        let call = async {
            let applied = self.inner.apply(effect, target, fence).await;
            use_all(&*self.suite.subject, &self.suite.shared, &format!("after {effect:?}")).await;
            applied
        };
        self.meet(fate, call).await
    }

    async fn last_fence(&self, target: &TargetContext) -> Result<Option<Fence>, Fault> {
        self.inner.last_fence(target).await
    }

    async fn prove(&self, which: Which, target: &TargetContext) -> Result<Proof, Fault> {
        self.call("prove", None, target, self.inner.prove(which, target)).await
    }

    async fn idleness(&self, target: &TargetContext) -> Result<Idleness, Fault> {
        self.call("idleness", None, target, self.inner.idleness(target)).await
    }
}
