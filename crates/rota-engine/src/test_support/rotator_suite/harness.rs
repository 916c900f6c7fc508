//! The world of the suite: the real engine, a journal and a store in memory, a consumer
//! of two instances, and the rotator under test with its real target behind it.
//!
//! Time is simulated for everything but the target: waits end at once.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::{SecretId, StoreId};
use rota_core::policy::model::{Class, Policy, PolicyEntry, SecretPolicy};
use rota_core::publication::{paths, render};
use rota_core::rotation::{HoldReason, List, Outcome, Source, State, Step};
use rota_core::value::Bundle;

use super::RotatorUnderTest;
use super::adapters::SuiteAdapters;
use crate::engine::{Engine, EngineSettings};
use crate::ports::{OrderKind, Rotator, TargetEffect};
use crate::test_support::scenario::secret_policy;
use crate::test_support::{FakeKind, FakeWorld, Form, Guards, Scenario, SecretPlan, SeededRandom};

/// The secret of the suite.
pub(super) const SECRET: &str = "SUBJECT";
/// Its consumer.
pub(super) const CONSUMER: &str = "web";
/// Its store.
const STORE: &str = "main";

/// A rotation that needs more looks than this does not end.
const MOST_LOOKS: usize = 300;

/// What becomes of a call of the rotator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The target cannot be reached; nothing happens.
    Fails,
    /// It has its effect, and its answer is lost.
    AnswerLost,
    /// The process ends before it.
    CrashBefore,
    /// The process ends after it.
    CrashAfter,
    /// The process ends before it, and it reaches the target later, see [`Harness::land`].
    LandsLate,
}

/// One call of the rotator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub step: Option<Step>,
    pub name: &'static str,
    pub effect: Option<TargetEffect>,
}

pub(super) type Late = Pin<Box<dyn Future<Output = ()> + Send>>;
type Script = Box<dyn FnMut(&Seen) -> Option<Fate> + Send>;

/// What the fakes of one harness share.
#[derive(Default)]
pub(super) struct Shared {
    /// What each instance of the consumer uses.
    pub(super) instances: Vec<Bundle>,
    /// Every value that the rotator was given.
    pub(super) values: Vec<Bundle>,
    pub(super) calls: Vec<Seen>,
    pub(super) crashed: bool,
    crashes: u32,
    pub(super) late: Vec<Late>,
    pub(super) refusals: Vec<String>,
    pub(super) uses: u32,
    script: Option<Script>,
}

impl Shared {
    /// Notes a call and says what becomes of it.
    pub(super) fn begin(&mut self, seen: Seen) -> Option<Fate> {
        let fate = self.script.as_mut().and_then(|script| script(&seen));
        self.calls.push(seen);
        fate
    }

    /// Keeps a value, so that the end can tell whether it is refused.
    pub(super) fn keep(&mut self, value: Option<&Bundle>) {
        if let Some(value) = value
            && !self.values.iter().any(|known| known.same_as(value))
        {
            self.values.push(value.duplicate());
        }
    }
}

/// One subject in its world.
pub struct Harness {
    pub(super) subject: Arc<dyn RotatorUnderTest>,
    pub(super) rotator: Arc<dyn Rotator>,
    pub(super) scenario: Scenario,
    pub(super) shared: Arc<Mutex<Shared>>,
    entry: PolicyEntry,
    processes: Mutex<u64>,
}

pub(super) fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn secret() -> SecretId {
    SecretId::new(SECRET).expect("a name")
}

fn plan() -> SecretPlan {
    let mut plan = SecretPlan::new(SECRET, FakeKind::OneWay, Form::Single);
    plan.exists = false;
    plan
}

fn policy_of(subject: &dyn RotatorUnderTest) -> SecretPolicy {
    let base = secret_policy(&plan()).expect("the suite's plan is a policy");
    let wanted = subject.secret();
    SecretPolicy {
        kind: wanted.kind,
        settings: wanted.settings,
        fields: wanted.fields,
        accept_gap: wanted.accept_gap,
        class: Some(Class::Password),
        ..base
    }
}

impl Harness {
    /// A world in which the subject's first value is published and in use.
    pub async fn new(subject: Arc<dyn RotatorUnderTest>) -> Self {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let mut scenario = Scenario::new(7, Guards::default(), start);
        scenario.add_consumer(CONSUMER, SignedDuration::ZERO).expect("a consumer");
        scenario.add_secret(plan()).expect("a secret");
        scenario.policy.secrets.insert(secret(), policy_of(&*subject));
        let entry = scenario.policy.entry(&secret()).expect("the secret was added");
        let first = subject.first();
        publish_first(&scenario, &entry, &first, subject.admin());
        let digest = "suite".to_owned();
        crate::ports::Journal::accept_policy(&scenario.journal, &scenario.policy, &digest, "suite")
            .await
            .expect("the policy is taken");
        scenario.journal.adopt(&secret(), None, None, None);
        scenario.journal.pause_schedule(&secret());
        let rotator = subject.rotator(&entry.secret);
        let parts = rotator.parts_of(&first, &entry.secret).expect("the first value is understood");
        let shared = Shared {
            instances: vec![parts.duplicate(), parts.duplicate()],
            values: vec![parts],
            ..Shared::default()
        };
        Self {
            subject,
            rotator,
            scenario,
            shared: Arc::new(Mutex::new(shared)),
            entry,
            processes: Mutex::new(0),
        }
    }

    /// From now on `script` decides what becomes of each call of the rotator.
    pub fn disturb(&self, script: impl FnMut(&Seen) -> Option<Fate> + Send + 'static) {
        lock(&self.shared).script = Some(Box::new(script));
    }

    /// From now on nothing is disturbed.
    pub fn heal(&self) {
        lock(&self.shared).script = None;
    }

    /// How many processes crashed so far.
    pub fn crashes(&self) -> u32 {
        lock(&self.shared).crashes
    }

    /// Every call of the rotator since the last take.
    pub fn take_calls(&self) -> Vec<Seen> {
        std::mem::take(&mut lock(&self.shared).calls)
    }

    /// Lets everything reach the target that was on its way.
    pub async fn land(&self) -> usize {
        let late = std::mem::take(&mut lock(&self.shared).late);
        let landed = late.len();
        for effect in late {
            effect.await;
        }
        landed
    }

    pub fn order(&self, kind: OrderKind) {
        self.scenario.journal.order(&secret(), kind, "suite", "to see it work");
    }

    /// The step that the newest rotation is at; `None` where it has ended.
    pub fn step(&self) -> Option<Step> {
        self.scenario.journal.look(|tables| tables.latest(&secret()).and_then(|row| row.rotation.step()))
    }

    fn state(&self) -> Option<State> {
        self.scenario.journal.look(|tables| tables.latest(&secret()).map(|row| row.rotation.state.clone()))
    }

    /// How the newest rotation ended, where it has.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.state() {
            Some(State::Ended { outcome, .. }) => Some(outcome),
            _ => None,
        }
    }

    /// Why the newest rotation is held, where it is.
    pub fn held(&self) -> Option<String> {
        match self.state() {
            Some(State::Held { reason, .. }) => Some(reason.message()),
            _ => None,
        }
    }

    /// What the newest rotation's step waits for, where it waits.
    pub fn waits_for(&self) -> Option<String> {
        match self.state() {
            Some(State::Running { attempt, .. }) => attempt.waiting,
            _ => None,
        }
    }

    /// A key whose answer was lost is ended only once somebody says so.
    fn has_lost_a_key(&self) -> bool {
        let lost = matches!(self.state(), Some(State::Held { reason: HoldReason::ValueMissing { .. }, .. }));
        lost && self.rotator.traits().source == Source::Created
    }

    /// Orders a rotation and works until it ends.
    pub async fn rotate(&self) -> Outcome {
        self.order(OrderKind::Rotate);
        self.finish().await
    }

    /// Works until the newest rotation ends and no order waits.
    ///
    /// # Panics
    /// Where it is held.
    pub async fn finish(&self) -> Outcome {
        self.work_until(|harness| harness.outcome().is_some() && !harness.is_ordered()).await;
        self.outcome().expect("the rotation has ended")
    }

    fn answers(&self) -> Vec<(OrderKind, Option<String>)> {
        self.scenario.journal.look(|tables| {
            tables.orders.values().map(|row| (row.order.kind.clone(), row.answer.clone())).collect()
        })
    }

    fn is_ordered(&self) -> bool {
        self.scenario.journal.look(|tables| tables.orders.values().any(|row| row.answer.is_none()))
    }

    /// Works until `done`, one process after the other where they crash.
    ///
    /// # Panics
    /// Where the rotation is held without an order and that is not what is waited for, or
    /// nothing moves.
    pub async fn work_until(&self, done: impl Fn(&Self) -> bool) {
        for _ in 0..MOST_LOOKS {
            if done(self) {
                return;
            }
            if self.has_lost_a_key() {
                // What a person does who was told that a key's value was lost.
                if !self.is_ordered() {
                    self.order(OrderKind::Resume);
                }
            } else if let Some(reason) = self.held().filter(|_| !self.is_ordered()) {
                let calls = self.take_calls();
                panic!(
                    "the rotation is held: {reason}; the last calls: {:?}; the orders: {:?}",
                    calls.iter().rev().take(6).collect::<Vec<_>>(),
                    self.answers()
                );
            }
            self.one_process(&done).await;
            if !done(self) {
                self.wait();
            }
        }
        panic!("nothing moves: {:?}", self.state());
    }

    /// One process works until it has nothing to do or crashes.
    async fn one_process(&self, done: &impl Fn(&Self) -> bool) {
        let engine = self.engine();
        let work = async {
            engine.open_due().await?;
            loop {
                let moved = engine.drive_one().await?.is_some() || engine.drive_rollout().await?.is_some();
                if !moved || done(self) {
                    return Ok::<(), Fault>(());
                }
            }
        };
        if let Some(result) = self.live(work).await {
            result.expect("the journal answers");
        }
    }

    fn engine(&self) -> Engine {
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        *processes += 1;
        Engine::new(
            Arc::new(self.scenario.journal.clone()),
            Arc::new(SuiteAdapters::new(self)),
            Arc::new(self.scenario.clock.clone()),
            Arc::new(Mutex::new(SeededRandom::new(*processes))),
            EngineSettings::new(format!("process-{processes}")),
        )
    }

    /// Polls a process until it ends; `None` where it crashed.
    async fn live<T>(&self, process: impl Future<Output = T>) -> Option<T> {
        let mut process = pin!(process);
        poll_fn(|context| {
            let poll = process.as_mut().poll(context);
            let mut shared = lock(&self.shared);
            if std::mem::take(&mut shared.crashed) {
                shared.crashes += 1;
                return Poll::Ready(None);
            }
            drop(shared);
            poll.map(Some)
        })
        .await
    }

    /// Lets the time pass until something is to be done.
    fn wait(&self) {
        let now = self.scenario.journal.clock_now();
        let wait =
            self.scenario.journal.next_wake().map_or(SignedDuration::ZERO, |at| at.duration_since(now));
        self.scenario.clock.advance_by(wait.max(SignedDuration::from_secs(1)));
    }

    /// The parts of what is published now.
    pub fn published(&self) -> Bundle {
        let fields = published_fields(&self.scenario.world, &self.entry);
        self.rotator.parts_of(&fields, &self.entry.secret).expect("what is published is understood")
    }

    pub(super) fn entry(&self) -> &PolicyEntry {
        &self.entry
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.scenario.policy
    }

    /// What the uses so far came to: how many, and which were refused.
    pub fn uses(&self) -> (u32, Vec<String>) {
        let mut shared = lock(&self.shared);
        (std::mem::take(&mut shared.uses), std::mem::take(&mut shared.refusals))
    }
}

/// Every instance uses what it holds.
pub(super) async fn use_all(subject: &dyn RotatorUnderTest, shared: &Mutex<Shared>, when: &str) {
    let instances: Vec<Bundle> = lock(shared).instances.iter().map(Bundle::duplicate).collect();
    for (number, value) in instances.iter().enumerate() {
        let accepted = subject.uses(value).await;
        let mut shared = lock(shared);
        // One that was restarted meanwhile does not use it any more.
        if shared.instances[number].same_as(value) {
            shared.uses += 1;
            if !accepted {
                shared.refusals.push(format!("instance {number} was refused {when}"));
            }
        }
    }
}

/// What consumers would read now.
pub(super) fn published_fields(world: &FakeWorld, entry: &PolicyEntry) -> Bundle {
    let store = entry.stores.values().next().expect("the suite's store");
    let mut fields = BTreeMap::new();
    world.with(|world| {
        let state = world.stores.get(&store.id).expect("the suite's store");
        for (path, names) in paths(&entry.secret, store) {
            for (name, _) in names {
                let text = state.current(&path).expect("something is published").content.clone();
                fields.insert(name, rota_core::value::SecretValue::new(text).expect("a value"));
            }
        }
    });
    Bundle::new(fields)
}

fn publish_first(scenario: &Scenario, entry: &PolicyEntry, first: &Bundle, admin: Option<(String, String)>) {
    let now = scenario.clock.now();
    let texts =
        render(&entry.secret, List::Old, Some(first), None).expect("the first value can be published");
    let policy = entry.stores.values().next().expect("the suite's store");
    scenario.world.with(|world| {
        let id = StoreId::new(STORE).expect("a name");
        let store = world.stores.get_mut(&id).expect("the suite's store");
        for (path, names) in paths(&entry.secret, policy) {
            for (name, _) in names {
                store.put(&path, texts[&name].expose(), now);
            }
        }
        store.others.extend(admin);
    });
}
