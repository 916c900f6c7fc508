//! Invariant 2: what has to be true before the old value is hurt. Invariant 6 and
//! the intents of numbered effects (7) beside it.

use jiff::Timestamp;
use rota_core::id::{EffectNo, RotationId, SecretId};
use rota_core::rotation::{Outcome, Rotation, State};
use rota_engine::ports::TargetEffect;
use rota_engine::test_support::{FakeKind, Form, Scenario};

use super::{Checker, Violation, values, values_of};

impl Checker {
    /// What a publication took away from consumers.
    pub(super) fn check_publication(
        &mut self,
        scenario: &Scenario,
        secret: &SecretId,
    ) -> Result<(), Violation> {
        let after = values::published(scenario, secret);
        let Some(watched) = self.secrets.get_mut(secret) else { return Ok(()) };
        let before = std::mem::replace(&mut watched.list, after.clone());
        let form = watched.plan.form;
        if before == after || form == Form::Single {
            return Ok(());
        }
        let rotation =
            scenario.journal.look(|tables| tables.in_flight(secret).map(|row| row.rotation.clone()));
        let Some(rotation) = rotation else { return Ok(()) };
        let old = values_of(scenario, secret, rotation.id).old;
        let withdrawn = old.is_some_and(|old| before.contains(&old) && !after.contains(&old));
        let goes_back = rotation.step().is_some_and(rota_core::rotation::Step::undoes);
        if withdrawn && !goes_back { self.check_ready(scenario, &rotation, "withdrawn") } else { Ok(()) }
    }

    pub(super) fn check_target(
        &self,
        scenario: &Scenario,
        effect: TargetEffect,
        rotation: RotationId,
        number: EffectNo,
    ) -> Result<(), Violation> {
        let row = scenario.journal.look(|tables| Some(tables.rotations.get(&rotation)?.rotation.clone()));
        let Some(row) = row else {
            return self.fails(
                scenario,
                7,
                format!("{effect:?} of a rotation that the journal does not know"),
            );
        };
        if !self.intended.get(&row.secret).is_some_and(|all| all.contains(&number)) {
            return self.fails(scenario, 7, format!("{}: {effect:?} has no intent in history", row.secret));
        }
        // What was taken over is ended by the rotation that took over.
        let superseded = matches!(row.state, State::Ended { outcome: Outcome::Superseded, .. });
        let acting =
            scenario.journal.look(|tables| tables.in_flight(&row.secret).map(|r| r.rotation.clone()));
        let row = acting.filter(|_| superseded).unwrap_or(row);
        match effect {
            TargetEffect::Disable => self.check_ready(scenario, &row, "disabled"),
            TargetEffect::Revoke => self.check_ready(scenario, &row, "revoked"),
            TargetEffect::Install | TargetEffect::Restore | TargetEffect::Remove => Ok(()),
        }
    }

    /// What was disabled can be had back for `revoke_after`, but in an emergency.
    pub(super) fn check_recoverable(
        &mut self,
        scenario: &Scenario,
        effect: TargetEffect,
        rotation: RotationId,
        at: Timestamp,
    ) -> Result<(), Violation> {
        if effect == TargetEffect::Disable {
            self.disabled.insert(rotation, at);
        }
        let row = scenario.journal.look(|tables| Some(tables.rotations.get(&rotation)?.rotation.clone()));
        let (Some(disabled_at), Some(row)) = (self.disabled.get(&rotation), row) else { return Ok(()) };
        let Some(watched) = self.secrets.get(&row.secret) else { return Ok(()) };
        let stood = at.duration_since(*disabled_at);
        // What an emergency took over ends with it.
        let calm = !row.is_emergency() && row.step().is_some();
        if effect == TargetEffect::Revoke && calm && stood < watched.plan.revoke_after {
            let wanted = watched.plan.revoke_after;
            let what = format!("{}: revoked {stood:#} after it was disabled, not {wanted:#}", row.secret);
            return self.fails(scenario, 2, what);
        }
        Ok(())
    }

    fn check_ready(&self, scenario: &Scenario, rotation: &Rotation, what: &str) -> Result<(), Violation> {
        let secret = &rotation.secret;
        let Some(watched) = self.secrets.get(secret) else { return Ok(()) };
        let provable = match watched.plan.kind {
            FakeKind::TwoUsers | FakeKind::Created | FakeKind::OneWay | FakeKind::Single => true,
            FakeKind::Generated | FakeKind::Submitted => false,
        };
        if provable && !self.proved.contains(&rotation.id) {
            let what =
                format!("{secret}: the old value is {what}, and the new one was never used with success");
            return self.fails(scenario, 2, what);
        }
        if rotation.is_emergency() {
            return Ok(());
        }
        let Some((_, since)) = watched.all_new.filter(|(id, _)| *id == rotation.id) else {
            let what = format!("{secret}: the old value is {what}, and not every instance uses the new one");
            return self.fails(scenario, 2, what);
        };
        let overlap = watched.plan.overlap.max(watched.plan.token_ttl);
        let stood = scenario.clock.now().duration_since(since);
        if stood < overlap {
            let what =
                format!("{secret}: the old value is {what} {stood:#} after the last user, not {overlap:#}");
            return self.fails(scenario, 2, what);
        }
        self.check_watched(scenario, rotation, since, what)
    }

    /// Enough truly healthy observations of every consumer since everybody uses the new value.
    fn check_watched(
        &self,
        scenario: &Scenario,
        rotation: &Rotation,
        since: Timestamp,
        what: &str,
    ) -> Result<(), Violation> {
        let Some(watched) = self.secrets.get(&rotation.secret) else { return Ok(()) };
        let wanted = usize::try_from(watched.plan.healthy.count).unwrap_or(usize::MAX);
        for name in &watched.plan.consumers {
            let seen = self
                .healthy
                .iter()
                .find(|(consumer, _)| consumer.as_str() == name)
                .map_or(0, |(_, times)| times.iter().filter(|at| **at >= since).count());
            if seen < wanted {
                let secret = &rotation.secret;
                let what = format!(
                    "{secret}: the old value is {what} after {seen} healthy looks at {name}, not {wanted}"
                );
                return self.fails(scenario, 13, what);
            }
        }
        Ok(())
    }
}
