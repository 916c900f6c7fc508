//! How long each step may take before a person is asked.

use jiff::SignedDuration;

use super::decide::overlap;
use super::state::{Rotation, Source};
use super::step::{Nature, Step};
use crate::policy::model::SecretPolicy;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// How long `step` may take: what the policy says, else a default that leaves room
/// for everything that the step legally waits for.
#[must_use]
pub fn of(step: Step, rotation: &Rotation, policy: &SecretPolicy) -> SignedDuration {
    if let Some(own) = policy.deadlines.get(step.as_str()) {
        return *own;
    }
    let closed = policy.window.as_ref().map_or(SignedDuration::ZERO, |window| window.longest_closed());
    match step {
        // A person may be on holiday; the reminders and the overdue alerts speak meanwhile.
        Step::Stage if rotation.shape.source == Source::Submitted => DAY * 30,
        Step::Confirm => DAY * 30,
        Step::Watch => {
            let rounds = policy.healthy.every * i32::try_from(policy.healthy.count).unwrap_or(i32::MAX);
            (overlap(rotation, policy) * 2).saturating_add(rounds * 4).saturating_add(DAY)
        }
        Step::ConfirmIdle | Step::RecheckIdle | Step::Withdraw => closed.saturating_add(DAY * 7),
        Step::Revoke => policy.revoke_after.saturating_add(DAY),
        Step::Cooldown => policy.token_ttl.saturating_add(DAY),
        Step::Purge | Step::Discard => DAY * 7,
        // New credentials take minutes to be accepted everywhere.
        Step::Prove | Step::ProveRefused => HOUR * 6,
        _ => match step.nature() {
            Nature::Rollout => DAY,
            Nature::Effect | Nature::Publication(_) | Nature::Observation | Nature::Wait => HOUR * 6,
        },
    }
}
