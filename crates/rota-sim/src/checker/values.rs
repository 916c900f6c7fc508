//! The values of a rotation, read from where they really are.

use rota_core::id::{RotationId, SecretId, StoreId};
use rota_core::publication::paths;
use rota_core::rotation::Suspect;
use rota_engine::ports::SlotRole;
use rota_engine::test_support::{Form, Scenario};

/// What a rotation's slots ever held, as consumers read it.
#[derive(Default)]
pub struct Values {
    pub old: Option<String>,
    pub new: Option<String>,
}

/// The values of one rotation.
#[must_use]
pub fn values_of(scenario: &Scenario, secret: &SecretId, rotation: RotationId) -> Values {
    Values {
        old: slot_text(scenario, secret, rotation, SlotRole::Old),
        new: slot_text(scenario, secret, rotation, SlotRole::Candidate),
    }
}

fn slot_text(scenario: &Scenario, secret: &SecretId, rotation: RotationId, role: SlotRole) -> Option<String> {
    let (store, slot) = scenario.slot(secret, rotation, role).ok()?;
    let held = scenario.world.with(|world| {
        let store = world.stores.get(rota_engine::ports::SecretStore::id(&store))?;
        store.slots.get(&slot)?.iter().rev().find_map(|version| version.value.clone())
    })?;
    Some(field_text(&held))
}

/// The text that consumers read, from a slot's text; a handed-in value stands as it is.
pub(super) fn field_text(held: &str) -> String {
    let material: Option<serde_json::Value> = serde_json::from_str(held).ok();
    material
        .as_ref()
        .and_then(|material| material.get("fields")?.as_object()?.values().next()?.as_str())
        .map_or_else(|| held.to_owned(), str::to_owned)
}

/// What consumers that start now read: where references are pinned, what those name.
pub(super) fn published(scenario: &Scenario, secret: &SecretId) -> Vec<String> {
    if is_pinned(scenario, secret) {
        return scenario.world.with(|world| world.pinned(secret));
    }
    let primary = scenario.policy.secrets.get(secret).and_then(|secret| secret.primary_store());
    primary.map_or_else(Vec::new, |store| scenario.world.with(|world| world.published(secret, store)))
}

pub(super) fn is_pinned(scenario: &Scenario, secret: &SecretId) -> bool {
    scenario.plans.iter().any(|plan| plan.name == secret.as_str() && plan.form == Form::PinnedPair)
}

/// The secrets that publish something at `path`.
pub(super) fn published_at(scenario: &Scenario, store: &StoreId, path: &str) -> Vec<SecretId> {
    let Some(policy) = scenario.policy.stores.get(store) else { return Vec::new() };
    scenario
        .policy
        .secrets
        .values()
        .filter(|secret| secret.stores.contains(store) && paths(secret, policy).contains_key(path))
        .map(|secret| secret.id.clone())
        .collect()
}

pub(super) fn secret_of(scenario: &Scenario, rotation: RotationId) -> Option<SecretId> {
    scenario.journal.look(|tables| Some(tables.rotations.get(&rotation)?.rotation.secret.clone()))
}

/// What an emergency order says has leaked, at the moment of the order.
pub(super) fn suspects(scenario: &Scenario, secret: &SecretId, suspect: Option<Suspect>) -> Vec<String> {
    let rotation = scenario.journal.look(|tables| tables.in_flight(secret).map(|row| row.rotation.id));
    let Some(rotation) = rotation else { return published(scenario, secret) };
    let values = values_of(scenario, secret, rotation);
    let old = values.old.or_else(|| published(scenario, secret).into_iter().next());
    match suspect {
        Some(Suspect::Older) => old.into_iter().collect(),
        Some(Suspect::Newer) => values.new.into_iter().collect(),
        None => old.into_iter().chain(values.new).collect(),
    }
}
