//! Invariant 4: what a target accepts, and what consumers use, can be read somewhere.
//! Invariant 10 beside it: what cannot is one orphan at most.

use std::collections::BTreeSet;

use rota_core::id::RotationId;
use rota_engine::test_support::{FakeKind, Purpose, SPOILED, Scenario, Tables, WorldEventKind, WorldState};

use super::values::field_text;
use super::{Checker, Violation};

/// True for events after which a value may be unreadable.
pub(super) fn may_lose_a_value(kind: &WorldEventKind) -> bool {
    match kind {
        WorldEventKind::Published { .. }
        | WorldEventKind::PublishedByOther { .. }
        | WorldEventKind::Purged { .. }
        | WorldEventKind::Rewritten { .. }
        | WorldEventKind::Created { .. }
        | WorldEventKind::TargetChanged { .. } => true,
        WorldEventKind::Staged { .. }
        | WorldEventKind::InboxEmptied { .. }
        | WorldEventKind::Unnamed { .. }
        | WorldEventKind::Proved { .. }
        | WorldEventKind::Checked { .. }
        | WorldEventKind::DeploymentBegun { .. }
        | WorldEventKind::DeploymentCompleted { .. }
        | WorldEventKind::DeploymentFailed { .. }
        | WorldEventKind::InstanceStarted { .. }
        | WorldEventKind::InstanceStopped { .. }
        | WorldEventKind::InstanceReread { .. }
        | WorldEventKind::HookRan { .. } => false,
    }
}

/// The rotations that have not ended: their keys may be on the way to their slot.
struct InFlight(BTreeSet<RotationId>);

impl InFlight {
    fn of(scenario: &Scenario) -> Self {
        let rows = |tables: &Tables| {
            tables.rotations.values().filter(|row| row.in_flight()).map(|row| row.rotation.id).collect()
        };
        Self(scenario.journal.look(rows))
    }

    /// One orphan at most: of a rotation in flight, and of all that have ended.
    fn too_many(&self, world: &WorldState, target: &str, lost: &[&String]) -> bool {
        let made_for = |name: &String| world.targets.get(target)?.credentials.get(name)?.rotation;
        let (own, left): (Vec<_>, Vec<_>) =
            lost.iter().map(|name| made_for(name)).partition(|id| id.is_some_and(|id| self.0.contains(&id)));
        own.len() > 1 || left.len() > 1
    }
}

/// Every text that can be read: in a slot that is not purged, or published.
fn readable(world: &WorldState) -> BTreeSet<String> {
    let slots = world
        .stores
        .values()
        .flat_map(|store| store.slots.values())
        .filter_map(|versions| versions.last()?.value.as_deref())
        .map(field_text);
    let published = world
        .subjects
        .keys()
        .flat_map(|secret| world.stores.keys().flat_map(move |store| world.published(secret, store)));
    slots.chain(published).collect()
}

impl Checker {
    pub(super) fn check_readable(&self, scenario: &Scenario) -> Result<(), Violation> {
        let in_flight = InFlight::of(scenario);
        let problem = scenario.world.with(|world| self.unreadable(world, &in_flight));
        match problem {
            Some((invariant, what)) => self.fails(scenario, invariant, what),
            None => Ok(()),
        }
    }

    fn unreadable(&self, world: &WorldState, in_flight: &InFlight) -> Option<(u8, String)> {
        let readable = readable(world);
        for (secret, subject) in &world.subjects {
            if self.secrets.get(secret).is_some_and(|watched| watched.foreign) {
                continue;
            }
            let Purpose::LogsIn { target } = &subject.purpose else { continue };
            let lost: Vec<&String> = world
                .targets
                .get(target)?
                .credentials
                .iter()
                .filter(|(_, credential)| credential.enabled)
                .filter_map(|(name, credential)| Some((name, credential.secret.as_ref()?)))
                // What the target itself spoiled was never a value of ours.
                .filter(|(_, shown)| !shown.ends_with(SPOILED))
                .filter(|(name, shown)| {
                    let whole = match subject.kind {
                        FakeKind::TwoUsers | FakeKind::Created => format!("{name}:{shown}"),
                        FakeKind::Generated | FakeKind::Submitted | FakeKind::OneWay | FakeKind::Single => {
                            (*shown).clone()
                        }
                    };
                    !readable.contains(&whole)
                })
                .map(|(name, _)| name)
                .collect();
            match subject.kind {
                FakeKind::Created if in_flight.too_many(world, target, &lost) => {
                    return Some((10, format!("{target} has {} keys that nobody can read", lost.len())));
                }
                // A person has made the key and is about to hand it in.
                FakeKind::Created | FakeKind::Submitted => {}
                FakeKind::Generated | FakeKind::TwoUsers | FakeKind::OneWay | FakeKind::Single => {
                    if let Some(name) = lost.first() {
                        return Some((4, format!("{target} accepts `{name}`, whose value nobody can read")));
                    }
                }
            }
        }
        self.unreadable_in_use(world, &readable)
    }

    fn unreadable_in_use(&self, world: &WorldState, readable: &BTreeSet<String>) -> Option<(u8, String)> {
        for (name, fleet) in &world.fleets {
            for instance in fleet.instances.values() {
                for (secret, list) in &instance.values {
                    let watched = self.secrets.get(secret)?;
                    let lost = list.first().is_some_and(|first| !readable.contains(first));
                    if lost && !watched.emergency && !watched.foreign {
                        return Some((4, format!("{name} uses a value of {secret} that nobody can read")));
                    }
                }
            }
        }
        None
    }
}
