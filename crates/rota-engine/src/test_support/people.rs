//! What people do: they make and revoke keys at providers, and say so.

use rota_core::fault::Fault;
use rota_core::id::SecretId;
use rota_core::rotation::{Source, State, Step};
use rota_core::value::SecretValue;

use super::scenario::Scenario;
use super::world::{FakeKind, Purpose};
use crate::ports::{OrderKind, SecretStore, Slot, SlotRole};

impl Scenario {
    /// A person does what the rotation of `secret` waits for, where it waits for one:
    /// makes a key and hands it in, or revokes the old one and confirms. True where
    /// something was done.
    ///
    /// # Errors
    /// Where the store cannot be written by hand.
    pub async fn act_as_person(&self, secret: &SecretId) -> Result<bool, Fault> {
        let waiting = self.journal.look(|tables| tables.in_flight(secret).map(|row| row.rotation.clone()));
        let Some(rotation) = waiting else { return Ok(self.revoke_leftovers(secret)) };
        let State::Running { step, .. } = &rotation.state else { return Ok(false) };
        match step {
            Step::Stage if rotation.shape.source == Source::Submitted => {
                self.hand_in(secret, &rotation).await
            }
            Step::Confirm => {
                let old = rotation.facts.old.is_some();
                self.revoke_by_hand(secret, rotation.id, old)?;
                self.journal.order(secret, OrderKind::Confirm, "person", "revoked at the provider");
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn hand_in(
        &self,
        secret: &SecretId,
        rotation: &rota_core::rotation::Rotation,
    ) -> Result<bool, Fault> {
        let (store, slot) = self.slot(secret, rotation.id, SlotRole::Candidate)?;
        let taken = self
            .world
            .with(|world| world.stores.get(store.id()).is_some_and(|store| store.slots.contains_key(&slot)));
        if taken {
            return Ok(false);
        }
        let now = self.clock.now();
        let text = self.world.with(|world| {
            let text = format!("made{:016x}{:016x}", world.random.next_u64(), world.random.next_u64());
            let (target, kind) = provider(world, secret)?;
            let (identity, shown) = kind.login(&text);
            world.targets.entry(target).or_default().put(&identity, &shown, Some(rotation.id), now);
            Some(text)
        });
        let text = text.ok_or_else(|| Fault::invalid("the secret has no provider"))?;
        let value = SecretValue::new(text).map_err(|error| Fault::invalid(error.to_string()))?;
        store.stage(&slot, &value).await?;
        self.journal.order(secret, OrderKind::Submitted, "person", "made at the provider");
        Ok(true)
    }

    /// Revokes at the provider what a rotation that has ended left there and told of.
    fn revoke_leftovers(&self, secret: &SecretId) -> bool {
        let told =
            self.journal.look(|tables| tables.secrets.get(secret).is_some_and(|row| !row.orphans.is_empty()));
        told && self.world.with(|world| {
            let Some((target, FakeKind::Submitted)) = provider(world, secret) else { return false };
            let Some(store) =
                world.subjects.get(secret).and_then(|s| s.entry.secret.primary_store().cloned())
            else {
                return false;
            };
            let published = world.published(secret, &store);
            let Some(target) = world.targets.get_mut(&target) else { return false };
            let before = target.credentials.len();
            let is_used = |shown: &Option<String>| shown.as_ref().is_some_and(|s| published.contains(s));
            target.credentials.retain(|_, credential| is_used(&credential.secret));
            before != target.credentials.len()
        })
    }

    /// The provider refuses every key but the one of `keep`'s candidate.
    fn revoke_by_hand(
        &self,
        secret: &SecretId,
        keep: rota_core::id::RotationId,
        old: bool,
    ) -> Result<(), Fault> {
        self.world.with(|world| {
            let (target, _) = provider(world, secret)
                .filter(|_| old)
                .ok_or_else(|| Fault::invalid("the secret has no provider or no old key"))?;
            let target = world.targets.entry(target).or_default();
            target.credentials.retain(|_, credential| credential.rotation == Some(keep));
            Ok(())
        })
    }

    /// A slot of a rotation and its store, as the engine names them.
    ///
    /// # Errors
    /// Where the policy has no such secret.
    pub fn slot(
        &self,
        secret: &SecretId,
        rotation: rota_core::id::RotationId,
        role: SlotRole,
    ) -> Result<(super::FakeStore, Slot), Fault> {
        let entry = self.policy.entry(secret).ok_or_else(|| Fault::invalid("no such secret"))?;
        let store = entry.secret.primary_store().ok_or_else(|| Fault::invalid("the secret has no store"))?;
        Ok((self.world.fake_store(store)?, Slot::of(&entry, rotation, role)?))
    }
}

fn provider(world: &super::world::WorldState, secret: &SecretId) -> Option<(String, FakeKind)> {
    let subject = world.subjects.get(secret)?;
    match &subject.purpose {
        Purpose::LogsIn { target } => Some((target.clone(), subject.kind)),
        Purpose::Signs => None,
    }
}
