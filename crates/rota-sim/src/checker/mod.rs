//! The invariants of the rotation protocol, checked against what really happened.
//!
//! Nothing here believes the engine: the checker reads the fake world's own log, the
//! consumers' own state and the journal's rows, and compares.

mod history;
mod readable;
mod ready;
mod settled;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use rota_core::id::{ConsumerId, EffectNo, RotationId, SecretId};
use rota_core::rotation::Step;
use rota_engine::ports::{OrderKind, SlotRole, TargetEffect, Verdict, Which};
use rota_engine::test_support::{FakeKind, Scenario, SecretPlan, WorldEvent, WorldEventKind};

pub use settled::{unsettled, values_in_rows};
pub use values::{Values, values_of};

/// An invariant of `PROTOCOL.md` that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The number of the invariant.
    pub invariant: u8,
    pub at: Timestamp,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {} at {}: {}", self.invariant, self.at, self.what)
    }
}

/// What the checker remembers between two looks.
pub struct Checker {
    secrets: BTreeMap<SecretId, Watched>,
    /// Rotations whose new value was really used with success.
    proved: BTreeSet<RotationId>,
    /// When each consumer's checks were truly healthy.
    healthy: BTreeMap<ConsumerId, Vec<Timestamp>>,
    /// Effect numbers whose intent stands in history.
    intended: BTreeMap<SecretId, BTreeSet<EffectNo>>,
    history_seen: usize,
    last_epoch: i64,
    looks: u64,
    checks: u64,
    /// When a rotation's old value was disabled.
    disabled: BTreeMap<RotationId, Timestamp>,
    /// What a leak must not leave alive: the text, and by which order.
    leaked: Vec<Leak>,
}

struct Watched {
    plan: SecretPlan,
    /// What the primary store published at the last look.
    list: Vec<String>,
    /// The rotation whose new value everybody uses, and since when.
    all_new: Option<(RotationId, Timestamp)>,
    /// An emergency has declared a gap.
    emergency: bool,
    /// Somebody who is not Rota has written what consumers read.
    foreign: bool,
}

struct Leak {
    secret: SecretId,
    texts: Vec<String>,
}

impl Checker {
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let secrets = scenario
            .plans
            .iter()
            .filter_map(|plan| Some((SecretId::new(&plan.name).ok()?, plan.clone())))
            .map(|(id, plan)| {
                let list = values::published(scenario, &id);
                (id, Watched { plan, list, all_new: None, emergency: false, foreign: false })
            })
            .collect();
        Self {
            secrets,
            proved: BTreeSet::new(),
            healthy: BTreeMap::new(),
            intended: BTreeMap::new(),
            history_seen: 0,
            last_epoch: 0,
            looks: 0,
            checks: 0,
            disabled: BTreeMap::new(),
            leaked: Vec::new(),
        }
    }

    /// To be told of every order: an emergency declares a gap, and what leaked must end.
    pub fn ordered(&mut self, scenario: &Scenario, secret: &SecretId, kind: &OrderKind) {
        let OrderKind::Emergency { suspect } = kind else { return };
        if let Some(watched) = self.secrets.get_mut(secret) {
            watched.emergency = true;
        }
        let texts = values::suspects(scenario, secret, *suspect);
        self.leaked.push(Leak { secret: secret.clone(), texts });
    }

    /// Looks at everything that happened since the last look.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check(&mut self, scenario: &Scenario) -> Result<(), Violation> {
        let events = scenario.world.take_events();
        let wrote = self.check_history(scenario)?;
        if events.is_empty() && !wrote {
            return Ok(());
        }
        self.looks += 1;
        // One rule for each event, one for each secret's use, and the rows as a whole.
        let rules = events.len() + self.secrets.len() + usize::from(wrote);
        self.checks += u64::try_from(rules).unwrap_or(u64::MAX);
        for event in &events {
            self.on_event(scenario, event)?;
        }
        self.check_use(scenario)?;
        self.note_who_uses_what(scenario);
        if events.iter().any(|event| readable::may_lose_a_value(&event.kind)) {
            self.check_readable(scenario)?;
        }
        Ok(())
    }

    /// How often something had happened that had to be looked at.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.looks
    }

    /// How many rules were compared in all of these looks.
    #[must_use]
    pub fn checks(&self) -> u64 {
        self.checks
    }

    fn fails<T>(&self, scenario: &Scenario, invariant: u8, what: String) -> Result<T, Violation> {
        Err(Violation { invariant, at: scenario.clock.now(), what })
    }

    /// Invariant 1.
    fn check_use(&mut self, scenario: &Scenario) -> Result<(), Violation> {
        let now = scenario.clock.now();
        for (id, watched) in self.secrets.iter_mut().filter(|(_, watched)| watched.emergency) {
            watched.emergency = in_emergency(scenario, id);
            // What was signed before is cut off by the order itself, and so is who used a
            // credential without being a consumer: no rollout reaches them.
            scenario.world.with(|world| {
                world.forget_signatures(id);
                if !watched.emergency {
                    let known = |name: &ConsumerId| scenario.policy.consumers.contains_key(name);
                    world.fleets.retain(|name, fleet| known(name) || !fleet.spec.uses.contains(id));
                }
            });
        }
        for complaint in scenario.world.complaints() {
            let Some(watched) = self.secrets.get(&complaint.secret) else { continue };
            let rotates = scenario.journal.look(|tables| tables.in_flight(&complaint.secret).is_some());
            let accepted_gap = watched.plan.kind == FakeKind::Single && rotates;
            if !watched.emergency && !watched.foreign && !accepted_gap {
                let what = format!("{}: {}", complaint.secret, complaint.what);
                return Err(Violation { invariant: 1, at: now, what });
            }
        }
        Ok(())
    }

    fn note_who_uses_what(&mut self, scenario: &Scenario) {
        let now = scenario.clock.now();
        for (id, watched) in &mut self.secrets {
            let rotation = scenario.journal.look(|tables| tables.in_flight(id).map(|row| row.rotation.id));
            let new = rotation.and_then(|rotation| Some((rotation, values_of(scenario, id, rotation).new?)));
            watched.all_new = match new {
                Some((rotation, text))
                    if scenario.world.with(|world| world.all_use(id, &text, &watched.plan.consumers)) =>
                {
                    watched.all_new.filter(|(known, _)| *known == rotation).or(Some((rotation, now)))
                }
                _ => None,
            };
        }
    }

    fn on_event(&mut self, scenario: &Scenario, event: &WorldEvent) -> Result<(), Violation> {
        match &event.kind {
            WorldEventKind::Published { store, path, effect, .. } => {
                let touched = values::published_at(scenario, store, path);
                if !touched.iter().any(|id| self.intended.get(id).is_some_and(|all| all.contains(effect))) {
                    let what = format!("`{path}` was published without an intent in history");
                    return self.fails(scenario, 7, what);
                }
                for id in touched {
                    self.check_publication(scenario, &id)?;
                }
                Ok(())
            }
            WorldEventKind::PublishedByOther { store, path, .. } => {
                for id in values::published_at(scenario, store, path) {
                    let list = values::published(scenario, &id);
                    if let Some(watched) = self.secrets.get_mut(&id) {
                        watched.foreign |= watched.list != list;
                        watched.list = list;
                    }
                }
                Ok(())
            }
            WorldEventKind::Rewritten { slot, .. } => {
                let what = format!("the {} slot of {} was rewritten", slot.role.as_str(), slot.secret);
                self.fails(scenario, 5, what)
            }
            WorldEventKind::Staged { slot, .. } if event.actor != crate::sim::PEOPLE => {
                let steps: &[Step] = match slot.role {
                    SlotRole::Old => &[Step::Keep],
                    SlotRole::Candidate | SlotRole::Canary => &[Step::Stage],
                };
                self.check_attempted(scenario, &slot.secret, steps)
            }
            WorldEventKind::Purged { slot, .. } => {
                self.check_attempted(scenario, &slot.secret, &[Step::Purge, Step::Discard])
            }
            WorldEventKind::Created { rotation, target, .. } => {
                let secret = values::secret_of(scenario, *rotation);
                match secret {
                    Some(secret) => self.check_attempted(scenario, &secret, &[Step::Stage]),
                    None => self.fails(scenario, 7, format!("{target} created a key for no rotation")),
                }
            }
            WorldEventKind::TargetChanged { effect, rotation, fence, .. } => {
                self.check_target(scenario, *effect, *rotation, fence.effect)?;
                self.check_recoverable(scenario, *effect, *rotation, event.at)
            }
            WorldEventKind::Unnamed { effect, target, .. } => match effect {
                TargetEffect::Disable | TargetEffect::Revoke => {
                    self.fails(scenario, 6, format!("{effect:?} on {target} names nothing"))
                }
                TargetEffect::Install | TargetEffect::Restore | TargetEffect::Remove => Ok(()),
            },
            WorldEventKind::Proved { rotation, which: Which::New, works: true, .. } => {
                self.proved.insert(*rotation);
                Ok(())
            }
            WorldEventKind::Checked { consumer, truly: Verdict::Healthy, .. } => {
                self.healthy.entry(consumer.clone()).or_default().push(event.at);
                Ok(())
            }
            WorldEventKind::InstanceStarted { .. } => {
                // Pinned references change with what an instance is made from.
                let pinned: Vec<SecretId> =
                    self.secrets.keys().filter(|id| values::is_pinned(scenario, id)).cloned().collect();
                pinned.iter().try_for_each(|id| self.check_publication(scenario, id))
            }
            WorldEventKind::Staged { .. }
            | WorldEventKind::InboxEmptied { .. }
            | WorldEventKind::Proved { .. }
            | WorldEventKind::Checked { .. }
            | WorldEventKind::DeploymentBegun { .. }
            | WorldEventKind::DeploymentCompleted { .. }
            | WorldEventKind::DeploymentFailed { .. }
            | WorldEventKind::InstanceStopped { .. }
            | WorldEventKind::InstanceReread { .. }
            | WorldEventKind::HookRan { .. } => Ok(()),
        }
    }

    /// Invariant 7, for effects that carry no number of their own: some rotation of
    /// the secret has recorded the intent of one of `steps`.
    fn check_attempted(
        &self,
        scenario: &Scenario,
        secret: &SecretId,
        steps: &[Step],
    ) -> Result<(), Violation> {
        let stands = scenario.journal.look(|tables| {
            tables
                .rotations
                .values()
                .filter(|row| row.rotation.secret == *secret)
                .any(|row| steps.iter().any(|step| row.rotation.facts.attempted.contains(step)))
        });
        if stands {
            Ok(())
        } else {
            self.fails(scenario, 7, format!("{secret}: an effect of {} has no intent", steps[0]))
        }
    }
}

/// True while the gap of an emergency is open: until its rotation ended.
fn in_emergency(scenario: &Scenario, secret: &SecretId) -> bool {
    scenario.journal.look(|tables| {
        let ordered = tables.orders.values().any(|row| {
            row.answer.is_none()
                && row.order.secret == *secret
                && matches!(row.order.kind, OrderKind::Emergency { .. })
        });
        ordered || tables.in_flight(secret).is_some()
    })
}
