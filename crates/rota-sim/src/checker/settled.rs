//! What the world has to look like once everything has ended.

use rota_core::id::SecretId;
use rota_core::rotation::{Outcome, State};
use rota_engine::test_support::{FakeKind, Purpose, Scenario, SecretPlan};

use super::{Checker, values, values_of};

/// Everything that is not as it has to be after the last rotation has ended.
#[must_use]
pub fn unsettled(scenario: &Scenario) -> Vec<String> {
    let mut problems = Vec::new();
    for plan in &scenario.plans {
        let Ok(id) = SecretId::new(&plan.name) else { continue };
        secret(scenario, &id, plan, &mut problems);
    }
    problems
}

fn secret(scenario: &Scenario, id: &SecretId, plan: &SecretPlan, problems: &mut Vec<String>) {
    if let Some(state) =
        scenario.journal.look(|tables| tables.in_flight(id).map(|row| row.rotation.state.clone()))
    {
        problems.push(format!("{id}: a rotation is still in flight: {state:?}"));
        return;
    }
    let primary = values::published(scenario, id);
    let [current] = primary.as_slice() else {
        problems.push(format!("{id}: {} values are published", primary.len()));
        return;
    };
    scenario.world.with(|world| {
        for store in scenario.policy.secrets.get(id).map_or(&[][..], |secret| &secret.stores) {
            if world.published(id, store) != primary {
                problems.push(format!("{id}: `{store}` publishes something else than the primary"));
            }
        }
        for (name, fleet) in &world.fleets {
            for (number, instance) in &fleet.instances {
                if instance.values.get(id).is_some_and(|list| list != &primary) {
                    problems
                        .push(format!("{id}: instance {number} of {name} has another list than the store"));
                }
            }
        }
        if let Purpose::LogsIn { target } =
            &world.subjects.get(id).map_or(Purpose::Signs, |subject| subject.purpose.clone())
        {
            let enabled = world.targets.get(target).map_or(0, |target| {
                target.credentials.values().filter(|c| c.enabled && c.secret.is_some()).count()
            });
            if enabled != 1 {
                problems.push(format!("{id}: {target} accepts {enabled} credentials"));
            }
            let (identity, shown) = plan.kind.login(current);
            let now = scenario.clock.now();
            if !world.targets.get(target).is_some_and(|target| target.accepts(&identity, &shown, now)) {
                problems.push(format!("{id}: {target} refuses what is published"));
            }
        }
    });
    ended_well(scenario, id, plan, current, problems);
}

/// The last rotation's end says which value stands, and that its slots are purged.
fn ended_well(
    scenario: &Scenario,
    id: &SecretId,
    plan: &SecretPlan,
    current: &str,
    problems: &mut Vec<String>,
) {
    let Some(rotation) = scenario.journal.look(|tables| tables.latest(id).map(|row| row.rotation.clone()))
    else {
        return;
    };
    let State::Ended { outcome, .. } = rotation.state else { return };
    let values = values_of(scenario, id, rotation.id);
    let expected = match outcome {
        Outcome::Completed => values.new,
        Outcome::RolledBack => values.old,
        Outcome::Abandoned | Outcome::Superseded => return,
    };
    if expected.as_deref().is_some_and(|expected| expected != current) {
        problems.push(format!("{id}: {outcome:?}, and another value is published"));
    }
    // A handed-in key that came for a rotation that had ended stays with its person.
    let left = scenario.world.with(|world| {
        world
            .stores
            .values()
            .flat_map(|store| &store.slots)
            .filter(|(slot, _)| slot.rotation == rotation.id)
            .filter(|(_, versions)| versions.last().is_some_and(|last| last.value.is_some()))
            .count()
    });
    if left > 0 && plan.kind != FakeKind::Submitted {
        problems.push(format!("{id}: {left} slots still hold a value after {outcome:?}"));
    }
}

/// Invariant 8, as far as the journal's rows go: no value that ever existed is in them.
#[must_use]
pub fn values_in_rows(scenario: &Scenario) -> Vec<String> {
    let rows = scenario.journal.dump();
    let secrets = scenario.world.with(|world| {
        let slots = world
            .stores
            .values()
            .flat_map(|store| store.slots.values().flatten())
            .filter_map(|version| version.value.clone());
        let published = world
            .stores
            .values()
            .flat_map(|store| store.paths.values().flatten())
            .map(|version| version.content.clone());
        slots.chain(published).collect::<Vec<_>>()
    });
    let mut problems = Vec::new();
    for text in secrets {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.len() >= 32) {
            if rows.contains(word) {
                problems.push("a value stands in the journal's rows".to_owned());
            }
        }
    }
    problems
}

impl Checker {
    /// What leaked and is still alive, once the rotation that dealt with it has ended.
    #[must_use]
    pub fn leaks_alive(&self, scenario: &Scenario) -> Vec<String> {
        let mut alive = Vec::new();
        let now = scenario.clock.now();
        for leak in &self.leaked {
            let published = values::published(scenario, &leak.secret);
            for text in &leak.texts {
                if published.contains(text) {
                    alive.push(format!("{}: a leaked value is published", leak.secret));
                }
                let accepted = scenario.world.with(|world| {
                    world.subjects.get(&leak.secret).is_some_and(|subject| match &subject.purpose {
                        Purpose::LogsIn { target } => {
                            let (identity, shown) = subject.kind.login(text);
                            world.targets.get(target).is_some_and(|t| t.accepts(&identity, &shown, now))
                        }
                        Purpose::Signs => world.holders_of(&leak.secret, text) > 0,
                    })
                });
                if accepted {
                    alive.push(format!("{}: a leaked value is still accepted", leak.secret));
                }
            }
        }
        alive
    }
}
