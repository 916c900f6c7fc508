//! Fleets of instances that read the store at their start only, and the deployments
//! that restart them one by one.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rota_core::id::{ConsumerId, SecretId, StoreId};

use super::check::Health;
use super::use_of_secrets::read_list;
use super::{FakeWorld, WorldEventKind, WorldState};

/// A consumer as it really is.
#[derive(Debug, Clone)]
pub struct FleetSpec {
    pub consumer: ConsumerId,
    pub instances: u32,
    pub uses: Vec<SecretId>,
    pub style: Style,
    /// Between the replacements of two instances.
    pub pause: SignedDuration,
    /// How long a replaced instance goes on.
    pub drain: SignedDuration,
}

/// How instances get to see a new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Only by being replaced.
    Restarted,
    /// By reading the store again, each at its own moment.
    Rereads { every: SignedDuration },
}

pub struct FleetState {
    pub spec: FleetSpec,
    pub instances: BTreeMap<u64, Instance>,
    next_instance: u64,
    pub deployments: BTreeMap<u64, Deployment>,
    /// What a new instance is made from.
    pub definition: Definition,
    /// The next deployment stops half-way and puts the old definition back.
    pub fails_next: bool,
    pub health: Health,
    /// Deployments can be made by this process only.
    pub only_from: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definition {
    pub deployment: u64,
    /// Exact references by the name that the consumer reads.
    pub pins: BTreeMap<String, String>,
}

pub struct Deployment {
    pub generation: i64,
    pub definition: Definition,
    before: Definition,
    pub state: DeploymentState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeploymentState {
    Waiting,
    Going,
    Completed,
    Failed,
    /// A later one took over.
    Replaced,
}

pub struct Instance {
    pub created_at: Timestamp,
    pub definition: Definition,
    pub draining: bool,
    /// The ordered list of each secret, as read.
    pub values: BTreeMap<SecretId, Vec<String>>,
}

impl FakeWorld {
    /// Starts a fleet; its instances read what is published now.
    pub fn add_fleet(&self, spec: FleetSpec) {
        let consumer = spec.consumer.clone();
        let count = spec.instances;
        let pins = self.state().current_pins(&spec.uses);
        let fleet = FleetState {
            spec,
            instances: BTreeMap::new(),
            next_instance: 1,
            deployments: BTreeMap::new(),
            definition: Definition { deployment: 0, pins },
            fails_next: false,
            health: Health::default(),
            only_from: None,
        };
        let mut state = self.state();
        state.fleets.insert(consumer.clone(), fleet);
        for _ in 0..count {
            self.start_instance(&mut state, &consumer);
        }
    }

    /// One instance dies and another takes its place (a crash, a host that goes).
    pub fn replace_one(&self, consumer: &ConsumerId) {
        let mut state = self.state();
        let Some(fleet) = state.fleets.get(consumer) else { return };
        let numbers: Vec<u64> = fleet.instances.keys().copied().collect();
        let Some(number) = state.random.one_of(&numbers).copied() else { return };
        self.start_instance(&mut state, consumer);
        self.stop_instance(&mut state, consumer, number);
    }

    fn start_instance(&self, state: &mut WorldState, consumer: &ConsumerId) {
        let now = self.now();
        state.sign_all(now);
        let values = state.read_values(consumer, now, None);
        let Some(fleet) = state.fleets.get_mut(consumer) else { return };
        let instance = fleet.next_instance;
        fleet.next_instance += 1;
        let started =
            Instance { created_at: now, definition: fleet.definition.clone(), draining: false, values };
        fleet.instances.insert(instance, started);
        state.sign_all(now);
        self.note(state, WorldEventKind::InstanceStarted { consumer: consumer.clone(), instance });
    }

    fn stop_instance(&self, state: &mut WorldState, consumer: &ConsumerId, instance: u64) {
        state.sign_all(self.now());
        let Some(fleet) = state.fleets.get_mut(consumer) else { return };
        if fleet.instances.remove(&instance).is_some() {
            self.note(state, WorldEventKind::InstanceStopped { consumer: consumer.clone(), instance });
        }
    }

    /// Begins a deployment at `starts_at`; it takes over from the one before.
    pub(super) fn deploy(
        &self,
        state: &mut WorldState,
        consumer: &ConsumerId,
        generation: i64,
        pins: BTreeMap<String, String>,
        starts_at: Timestamp,
    ) -> u64 {
        let Some(fleet) = state.fleets.get_mut(consumer) else { return 0 };
        let number = fleet.deployments.last_key_value().map_or(1, |(number, _)| number + 1);
        for earlier in fleet.deployments.values_mut() {
            if matches!(earlier.state, DeploymentState::Waiting | DeploymentState::Going) {
                earlier.state = DeploymentState::Replaced;
            }
        }
        let mut all = fleet.definition.pins.clone();
        all.extend(pins);
        let deployment = Deployment {
            generation,
            definition: Definition { deployment: number, pins: all },
            before: fleet.definition.clone(),
            state: DeploymentState::Waiting,
        };
        fleet.deployments.insert(number, deployment);
        let event =
            WorldEventKind::DeploymentBegun { consumer: consumer.clone(), deployment: number, generation };
        self.note(state, event);
        self.schedule_deployment(consumer, number, starts_at);
        number
    }

    fn schedule_deployment(&self, consumer: &ConsumerId, number: u64, at: Timestamp) {
        let (world, consumer) = (self.clone(), consumer.clone());
        self.clock().at(at, move || world.go_on_deploying(&consumer, number));
    }

    /// Replaces one instance, or ends the deployment.
    fn go_on_deploying(&self, consumer: &ConsumerId, number: u64) {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(fleet) = state.fleets.get_mut(consumer) else { return };
        let Some(deployment) = fleet.deployments.get_mut(&number) else { return };
        match deployment.state {
            DeploymentState::Waiting => {
                deployment.state = DeploymentState::Going;
                fleet.definition = deployment.definition.clone();
            }
            DeploymentState::Going => {}
            DeploymentState::Completed | DeploymentState::Failed | DeploymentState::Replaced => return,
        }
        let is_old = |instance: &Instance| instance.definition.deployment != number;
        let old: Vec<u64> =
            fleet.instances.iter().filter(|(_, i)| is_old(i) && !i.draining).map(|(n, _)| *n).collect();
        let draining = fleet.instances.values().any(|instance| is_old(instance) && instance.draining);
        let half_way = old.len() * 2 <= fleet.instances.len();
        let (pause, drain) = (fleet.spec.pause, fleet.spec.drain);
        if half_way && std::mem::take(&mut fleet.fails_next) {
            self.put_back(state, consumer, number);
            return;
        }
        match old.first() {
            Some(instance) => {
                let instance = *instance;
                self.start_instance(state, consumer);
                self.drain_instance(state, consumer, instance, drain);
                self.schedule_deployment(consumer, number, self.clock().later(pause));
            }
            None if draining => self.schedule_deployment(consumer, number, self.clock().later(drain)),
            None => {
                if let Some(deployment) = fleet.deployments.get_mut(&number) {
                    deployment.state = DeploymentState::Completed;
                }
                let event =
                    WorldEventKind::DeploymentCompleted { consumer: consumer.clone(), deployment: number };
                self.note(state, event);
            }
        }
    }

    /// A circuit breaker: the definition from before, and new instances made from it.
    fn put_back(&self, state: &mut WorldState, consumer: &ConsumerId, number: u64) {
        let Some(fleet) = state.fleets.get_mut(consumer) else { return };
        let Some(deployment) = fleet.deployments.get_mut(&number) else { return };
        deployment.state = DeploymentState::Failed;
        fleet.definition = deployment.before.clone();
        let made: Vec<u64> = fleet
            .instances
            .iter()
            .filter(|(_, instance)| instance.definition.deployment == number)
            .map(|(instance, _)| *instance)
            .collect();
        for instance in made {
            self.start_instance(state, consumer);
            self.stop_instance(state, consumer, instance);
        }
        self.note(state, WorldEventKind::DeploymentFailed { consumer: consumer.clone(), deployment: number });
    }

    fn drain_instance(
        &self,
        state: &mut WorldState,
        consumer: &ConsumerId,
        instance: u64,
        drain: SignedDuration,
    ) {
        let draining = state.fleets.get_mut(consumer).and_then(|fleet| fleet.instances.get_mut(&instance));
        if let Some(draining) = draining {
            draining.draining = true;
        }
        let (world, consumer) = (self.clone(), consumer.clone());
        self.clock().at(self.clock().later(drain), move || {
            world.stop_instance(&mut world.state(), &consumer, instance);
        });
    }

    /// Lets the instances that read by themselves see what was just published, each at
    /// its own next moment, and again once the store shows it for certain.
    pub(super) fn after_publication(&self, state: &mut WorldState, store: &StoreId) {
        let stale_for = state.stores.get(store).map_or(SignedDuration::ZERO, |store| store.stale_for);
        let mut rereads = Vec::new();
        for (consumer, fleet) in &state.fleets {
            let Style::Rereads { every } = fleet.spec.style else { continue };
            for number in fleet.instances.keys() {
                rereads.push((consumer.clone(), *number, every));
            }
        }
        for (consumer, number, every) in rereads {
            let limit = u64::try_from(every.as_millis()).unwrap_or(0);
            let phase =
                SignedDuration::from_millis(i64::try_from(state.random.below(limit.max(1))).unwrap_or(0));
            let mut after = phase;
            while after <= stale_for.saturating_add(every) {
                let (world, consumer) = (self.clone(), consumer.clone());
                self.clock().at(self.clock().later(after), move || world.reread(&consumer, number));
                after = after.saturating_add(every);
            }
        }
    }

    fn reread(&self, consumer: &ConsumerId, number: u64) {
        let now = self.now();
        let mut guard = self.state();
        let state = &mut *guard;
        state.sign_all(now);
        let values = state.read_values(consumer, now, Some(number));
        let Some(fleet) = state.fleets.get_mut(consumer) else { return };
        let Some(instance) = fleet.instances.get_mut(&number) else { return };
        instance.values = values;
        self.note(state, WorldEventKind::InstanceReread { consumer: consumer.clone(), instance: number });
        state.sign_all(now);
    }
}

impl WorldState {
    /// What an instance of `consumer` that starts now reads.
    fn read_values(
        &mut self,
        consumer: &ConsumerId,
        now: Timestamp,
        instance: Option<u64>,
    ) -> BTreeMap<SecretId, Vec<String>> {
        let Some(fleet) = self.fleets.get(consumer) else { return BTreeMap::new() };
        let pins = instance
            .and_then(|number| fleet.instances.get(&number))
            .map_or_else(|| fleet.definition.pins.clone(), |instance| instance.definition.pins.clone());
        let mut values = BTreeMap::new();
        for id in fleet.spec.uses.clone() {
            let Some(store) = self.store_of(&id) else { continue };
            let seen_at = self.seen_at(&store, now);
            let (Some(subject), Some(store)) = (self.subjects.get(&id), self.stores.get(&store)) else {
                continue;
            };
            values.insert(id, read_list(&subject.entry, store, &pins, seen_at));
        }
        values
    }

    fn store_of(&self, secret: &SecretId) -> Option<StoreId> {
        self.subjects.get(secret)?.entry.secret.primary_store().cloned()
    }

    /// Exact references to what is published now, for secrets that are pinned.
    fn current_pins(&self, uses: &[SecretId]) -> BTreeMap<String, String> {
        let mut pins = BTreeMap::new();
        for id in uses {
            let Some(subject) = self.subjects.get(id).filter(|subject| super::is_pinned(&subject.entry))
            else {
                continue;
            };
            let secret = &subject.entry.secret;
            let Some(policy) = secret.primary_store().and_then(|id| subject.entry.stores.get(id)) else {
                continue;
            };
            for name in rota_core::publication::names(secret) {
                let place = rota_core::publication::place(secret, policy, &name);
                let current = self.stores.get(&policy.id).and_then(|store| store.current(&place.path));
                if let Some(current) = current {
                    pins.insert(name.to_string(), format!("{}@{}", place.path, current.reference));
                }
            }
        }
        pins
    }
}
