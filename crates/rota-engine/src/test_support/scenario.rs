//! Ready-made worlds: a secret of each shape with its store, target, consumers and policy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::format::Template;
use rota_core::id::{ConsumerId, FieldName, OwnerId, SecretId, StoreId};
use rota_core::policy::model::{
    CheckPolicy, Class, ConsumerPolicy, Consumers, Environment, FieldPolicy, Fields, Healthy, Hook,
    HookPoint, OnFailure, Owner, Policy, PolicyEntry, Priority, PublishForm, RolloutPolicy, SecretPolicy,
    StorePolicy,
};
use rota_core::publication::{names, place, render};
use rota_core::rotation::List;
use rota_core::schedule::Schedule;
use rota_core::value::{Bundle, SecretValue};
use serde_json::json;

use super::clock::SimClock;
use super::memory_journal::MemoryJournal;
use super::random::SeededRandom;
use super::wire::Wire;
use super::world::{FakeKind, FakeWorld, FleetSpec, Purpose, Style, Subject};
use crate::engine::{Engine, EngineSettings};
use crate::guard::Guards;
use crate::ports::Journal;

/// How a secret is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Single,
    List,
    /// Two names, each instance reading exact versions.
    PinnedPair,
    /// Two names, read as they stand.
    Pair,
    /// Two names inside one document.
    PairInDocument,
}

/// What a secret is like.
#[derive(Debug, Clone, PartialEq)]
pub struct SecretPlan {
    pub name: String,
    pub kind: FakeKind,
    pub form: Form,
    pub class: Option<Class>,
    /// The first is the primary.
    pub stores: Vec<String>,
    pub consumers: Vec<String>,
    pub cadence: SignedDuration,
    pub overlap: SignedDuration,
    pub token_ttl: SignedDuration,
    pub revoke_after: SignedDuration,
    pub healthy: Healthy,
    pub on_failure: OnFailure,
    pub hooks: Vec<HookPoint>,
    /// When it may start and withdraw; `None`: always.
    pub window: Option<String>,
    /// False: it does not exist in its store yet.
    pub exists: bool,
}

impl SecretPlan {
    /// A secret in store `main`, used by consumer `web`, with waits of hours.
    #[must_use]
    pub fn new(name: &str, kind: FakeKind, form: Form) -> Self {
        let signs = kind == FakeKind::Generated;
        Self {
            name: name.to_owned(),
            kind,
            form,
            class: Some(if signs { Class::Signing } else { Class::Password }),
            stores: vec!["main".to_owned()],
            consumers: vec!["web".to_owned()],
            cadence: SignedDuration::from_hours(30 * 24),
            overlap: SignedDuration::from_hours(24),
            token_ttl: if signs { SignedDuration::from_hours(12) } else { SignedDuration::ZERO },
            revoke_after: SignedDuration::from_hours(6),
            healthy: Healthy { count: 3, every: SignedDuration::from_hours(8), failures: 2 },
            on_failure: OnFailure::Hold,
            hooks: Vec::new(),
            window: None,
            exists: true,
        }
    }

    /// One plan for each way in which a rotation can go, with a name for messages.
    #[must_use]
    pub fn every_shape() -> Vec<(&'static str, Self)> {
        let mirrored = Self {
            stores: vec!["main".to_owned(), "mirror".to_owned()],
            ..Self::new("MIRRORED", FakeKind::Generated, Form::List)
        };
        let hooked = Self {
            hooks: vec![
                HookPoint::BeforeGenerate,
                HookPoint::AfterGenerate,
                HookPoint::BeforePromote,
                HookPoint::AfterPromote,
                HookPoint::BeforeRetire,
                HookPoint::AfterRetire,
                HookPoint::OnEmergency,
            ],
            ..Self::new("HOOKED", FakeKind::OneWay, Form::Single)
        };
        vec![
            ("a signing key in a list", Self::new("SIGNING_KEY", FakeKind::Generated, Form::List)),
            ("a signing key as a pinned pair", Self::new("PAIR_KEY", FakeKind::Generated, Form::PinnedPair)),
            ("a signing key in a document", Self::new("DOC_KEY", FakeKind::Generated, Form::PairInDocument)),
            ("a signing key with a mirror", mirrored),
            ("a database user", Self::new("DATABASE_URL", FakeKind::TwoUsers, Form::Single)),
            ("a key that its target makes", Self::new("CLOUD_KEY", FakeKind::Created, Form::Single)),
            ("a key that a person makes", Self::new("PROVIDER_KEY", FakeKind::Submitted, Form::Pair)),
            ("a cache password with hooks", hooked),
            ("the only password", Self::new("ADMIN_PASSWORD", FakeKind::Single, Form::Single)),
        ]
    }

    fn target(&self) -> String {
        format!("target-of-{}", self.name)
    }
}

/// A world with its journal, its policy and its clock.
pub struct Scenario {
    pub clock: SimClock,
    pub wire: Wire,
    pub journal: MemoryJournal,
    pub world: FakeWorld,
    pub policy: Policy,
    pub plans: Vec<SecretPlan>,
    guards: Guards,
    random: SeededRandom,
}

impl Scenario {
    /// An empty world at `start`.
    #[must_use]
    pub fn new(seed: u64, guards: Guards, start: Timestamp) -> Self {
        let clock = SimClock::new(start);
        let wire = Wire::new(clock.clone());
        let mut random = SeededRandom::new(seed);
        Self {
            journal: MemoryJournal::with_guards(wire.clone(), guards),
            world: FakeWorld::with_guards(wire.clone(), random.next_u64(), guards),
            policy: Policy {
                application: "sim".to_owned(),
                environment: Environment::Development,
                secrets: BTreeMap::new(),
                consumers: BTreeMap::new(),
                stores: BTreeMap::new(),
                owners: BTreeMap::from([(owner(), Owner { slack_mention: None, slack_escalation: None })]),
            },
            plans: Vec::new(),
            guards,
            clock,
            wire,
            random,
        }
    }

    /// A world of one secret and one consumer with two instances, ready to go.
    ///
    /// # Errors
    /// Where the plan contradicts itself.
    pub fn of(plan: SecretPlan, seed: u64, guards: Guards, start: Timestamp) -> Result<Self, Fault> {
        let mut scenario = Self::new(seed, guards, start);
        for consumer in &plan.consumers {
            scenario.add_consumer(consumer, SignedDuration::ZERO)?;
        }
        scenario.add_secret(plan)?;
        scenario.start_fleets(2, Style::Restarted)?;
        Ok(scenario)
    }

    /// # Errors
    /// Where `name` is not a name.
    pub fn add_consumer(&mut self, name: &str, settle: SignedDuration) -> Result<(), Fault> {
        let id = ConsumerId::new(name).map_err(invalid)?;
        let consumer = ConsumerPolicy {
            id: id.clone(),
            rollout: RolloutPolicy {
                kind: "fake".to_owned(),
                settings: json!({ "fleet": name }),
                deadline: SignedDuration::from_hours(2),
            },
            checks: vec![CheckPolicy {
                name: "health".to_owned(),
                kind: "fake".to_owned(),
                settings: json!({ "fleet": name }),
            }],
            unmonitored: None,
            settle,
        };
        self.policy.consumers.insert(id, consumer);
        Ok(())
    }

    /// Adds a secret to the policy, its stores and target to the world, and its first
    /// value to both. Its consumers have to be there.
    ///
    /// # Errors
    /// Where the plan contradicts itself.
    pub fn add_secret(&mut self, plan: SecretPlan) -> Result<(), Fault> {
        for name in &plan.stores {
            let id = StoreId::new(name).map_err(invalid)?;
            self.world.add_store(&id);
            let path = Template::try_from("prod/{name}".to_owned()).map_err(invalid)?;
            let store = StorePolicy { id: id.clone(), kind: "fake".to_owned(), settings: json!({}), path };
            self.policy.stores.insert(id, store);
        }
        let secret = secret_policy(&plan)?;
        let id = secret.id.clone();
        self.policy.secrets.insert(id.clone(), secret);
        let entry =
            self.policy.entry(&id).ok_or_else(|| Fault::invalid("the secret was added and is not there"))?;
        let target = plan.target();
        let purpose = match plan.kind {
            FakeKind::Generated => Purpose::Signs,
            FakeKind::TwoUsers
            | FakeKind::Created
            | FakeKind::Submitted
            | FakeKind::OneWay
            | FakeKind::Single => Purpose::LogsIn { target },
        };
        if plan.exists {
            self.put_first_value(&plan, &entry)?;
        }
        let subject = Subject { entry, kind: plan.kind, purpose };
        self.world.with(|world| world.subjects.insert(id, subject));
        self.plans.push(plan);
        Ok(())
    }

    fn put_first_value(&mut self, plan: &SecretPlan, entry: &PolicyEntry) -> Result<(), Fault> {
        let now = self.clock.now();
        let long_ago = now.saturating_sub(SignedDuration::from_hours(24)).map_err(invalid)?;
        let bits = format!("first{:016x}{:016x}", self.random.next_u64(), self.random.next_u64());
        let text = plan.kind.first_text(&bits);
        if plan.kind.has_target() {
            let (identity, secret) = plan.kind.login(&text);
            self.world.with(|world| {
                world.targets.entry(plan.target()).or_default().put(&identity, &secret, None, long_ago);
            });
        }
        let field = field_of(plan)?;
        let bundle = Bundle::single(field, SecretValue::new(text).map_err(invalid)?);
        let texts = render(&entry.secret, List::Old, Some(&bundle), None).map_err(invalid)?;
        for policy in entry.stores.values() {
            let mut contents: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
            for name in names(&entry.secret) {
                let place = place(&entry.secret, policy, &name);
                let Some(text) = texts.get(&name) else { continue };
                let field = place.field.map(|field| field.to_string()).unwrap_or_default();
                contents.entry(place.path).or_default().insert(field, text.expose().to_owned());
            }
            self.world.with(|world| {
                let store = world.stores.entry(policy.id.clone()).or_default();
                for (path, fields) in contents {
                    let mut merged = match store.current(&path) {
                        Some(version) => serde_json::from_str(&version.content).unwrap_or_default(),
                        None => BTreeMap::new(),
                    };
                    let content = match fields.get("") {
                        Some(whole) => whole.clone(),
                        None => {
                            merged.extend(fields);
                            json!(merged).to_string()
                        }
                    };
                    store.put(&path, &content, long_ago);
                }
            });
        }
        Ok(())
    }

    /// Starts every consumer of the policy as a fleet of `instances`, and lets the
    /// journal know policy and values, without a schedule.
    ///
    /// # Errors
    /// Where the journal refuses the policy.
    pub fn start_fleets(&mut self, instances: u32, style: Style) -> Result<(), Fault> {
        for id in self.policy.consumers.keys().cloned().collect::<Vec<_>>() {
            self.start_fleet(&id, instances, style);
        }
        self.accept()
    }

    /// Starts one consumer's fleet; it uses every secret that names it.
    pub fn start_fleet(&mut self, consumer: &ConsumerId, instances: u32, style: Style) {
        let uses = self
            .policy
            .secrets
            .values()
            .filter(|secret| secret.consumers.names().contains(consumer))
            .map(|secret| secret.id.clone())
            .collect();
        self.world.add_fleet(FleetSpec {
            consumer: consumer.clone(),
            instances,
            uses,
            style,
            pause: SignedDuration::from_secs(5),
            drain: SignedDuration::from_secs(10),
        });
    }

    /// Lets the journal know policy and values, without a schedule.
    ///
    /// # Errors
    /// Where the journal refuses the policy.
    pub fn accept(&self) -> Result<(), Fault> {
        let digest = format!("{} secrets", self.policy.secrets.len());
        super::run(&self.clock, self.journal.accept_policy(&self.policy, &digest, "test"))?;
        for plan in self.plans.iter().filter(|plan| plan.exists) {
            self.journal.adopt(&SecretId::new(&plan.name).map_err(invalid)?, None, None, None);
        }
        Ok(())
    }

    /// One process.
    #[must_use]
    pub fn engine(&self, holder: &str, seed: u64) -> Engine {
        Engine::new(
            Arc::new(self.journal.clone()),
            Arc::new(self.world.clone()),
            Arc::new(self.clock.clone()),
            Arc::new(Mutex::new(SeededRandom::new(seed))),
            EngineSettings::new(holder.to_owned()),
        )
        .guarded_by(self.guards)
    }
}

fn invalid(error: impl std::fmt::Display) -> Fault {
    Fault::invalid(error.to_string())
}

fn owner() -> OwnerId {
    match OwnerId::new("team") {
        Ok(owner) => owner,
        Err(error) => unreachable!("a constant name: {error}"),
    }
}

/// The one field that consumers read.
fn field_of(plan: &SecretPlan) -> Result<FieldName, Fault> {
    FieldName::new(&plan.name).map_err(invalid)
}

pub(super) fn secret_policy(plan: &SecretPlan) -> Result<SecretPolicy, Fault> {
    let field = field_of(plan)?;
    let template = match plan.kind {
        FakeKind::TwoUsers | FakeKind::Created => {
            Some(Template::try_from("{username}:{password}".to_owned()).map_err(invalid)?)
        }
        FakeKind::Generated | FakeKind::Submitted | FakeKind::OneWay | FakeKind::Single => None,
    };
    let pair = |pinned| {
        let second = FieldName::new(&format!("{}_OLD", plan.name)).map_err(invalid)?;
        Ok::<_, Fault>(PublishForm::Pair { first: field.clone(), second, pinned })
    };
    let publish = match plan.form {
        Form::Single => PublishForm::Single,
        Form::List => PublishForm::List { name: field.clone() },
        Form::PinnedPair => pair(true)?,
        Form::Pair => pair(false)?,
        Form::PairInDocument => {
            PublishForm::Document { path: "prod/shared".to_owned(), inner: Box::new(pair(false)?) }
        }
    };
    let consumers = plan
        .consumers
        .iter()
        .map(|name| ConsumerId::new(name).map_err(invalid))
        .collect::<Result<Vec<_>, _>>()?;
    let target = plan.target();
    Ok(SecretPolicy {
        id: SecretId::new(&plan.name).map_err(invalid)?,
        kind: plan.kind.as_str().to_owned(),
        settings: json!({ "target": target }),
        class: plan.class,
        format: None,
        fields: Fields::from([(field, FieldPolicy { template, format: None })]),
        stores: plan
            .stores
            .iter()
            .map(|name| StoreId::new(name).map_err(invalid))
            .collect::<Result<_, _>>()?,
        publish,
        schedule: Schedule::Cadence { every: plan.cadence },
        lead: SignedDuration::from_hours(24),
        overlap: plan.overlap,
        token_ttl: plan.token_ttl,
        revoke_after: plan.revoke_after,
        window: plan.window.as_deref().map(|text| text.parse().map_err(invalid)).transpose()?,
        healthy: plan.healthy,
        on_failure: plan.on_failure,
        deadlines: BTreeMap::new(),
        consumers: if consumers.is_empty() { Consumers::None } else { Consumers::Named { names: consumers } },
        accept_gap: plan.kind == FakeKind::Single,
        priority: Priority::Medium,
        owner: Some(owner()),
        remind: vec![SignedDuration::from_hours(48)],
        page: None,
        prove_with: None,
        prove: (plan.kind == FakeKind::Submitted).then(|| CheckPolicy {
            name: "use".to_owned(),
            kind: "fake".to_owned(),
            settings: json!({ "target": target, "kind": plan.kind.as_str() }),
        }),
        hooks: plan
            .hooks
            .iter()
            .map(|at| Hook { at: *at, kind: "slow".to_owned(), settings: json!({}) })
            .collect(),
        inbox: None,
        own: false,
        cadence_basis: None,
    })
}

/// One process's work until `done` or until nothing is left to wait for: opens what
/// is due, drives what is awake, and sleeps until the journal has something next.
///
/// # Errors
/// The first fault of the journal; a real process tries again.
pub async fn work(
    scenario: &Scenario,
    engine: &Engine,
    done: impl Fn(&Scenario) -> bool,
) -> Result<(), Fault> {
    while !done(scenario) {
        engine.open_due().await?;
        while engine.drive_one().await?.is_some() {}
        while engine.drive_rollout().await?.is_some() {}
        for secret in scenario.policy.secrets.keys() {
            scenario.act_as_person(secret).await?;
        }
        let Some(next) = scenario.journal.next_wake() else { return Ok(()) };
        let wait = next.duration_since(scenario.journal.clock_now()).max(SignedDuration::ZERO);
        crate::ports::Clock::sleep(&scenario.clock, wait).await;
    }
    Ok(())
}
