//! What happens next, decided from a rotation, its policy and fresh evidence.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::deadline;
use super::hold::HoldReason;
use super::state::{Attempt, Outcome, Rotation, Source, State};
use super::step::{Nature, Step};
use super::transition::{Done, can_roll_back};
use crate::id::ConsumerId;
use crate::policy::model::{OnFailure, SecretPolicy};

/// How old evidence of idleness may be when the old value is disabled.
const IDLE_IS_FRESH_FOR: SignedDuration = SignedDuration::from_mins(15);

/// How often a wait without a known end is looked at again; orders and finished
/// rollouts wake a rotation earlier.
const LOOK_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// How often an inbox is looked at for a value that a person pasted.
const LOOK_INTO_INBOX_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// A wait for a person's order: the order itself wakes the rotation.
const LOOK_FOR_A_PERSON_AFTER: SignedDuration = SignedDuration::from_mins(15);

/// How a wait begins that ends when the clocks agree.
pub const WAITS_FOR_CLOCKS: &str = "clocks to agree";

/// How long a destructive gate pauses where the clocks disagree.
const CLOCK_PAUSE: SignedDuration = SignedDuration::from_mins(1);

/// What only the outside can tell, read right before deciding.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evidence {
    /// Every consumer that must have rolled out the last publication (of the copy
    /// and of the current policy), and how far it is.
    pub rollouts: BTreeMap<ConsumerId, RolloutEvidence>,
    /// A person has put the candidate into the slot.
    pub submitted: bool,
    /// What a person pasted into the inbox cannot be taken, and why. Never a value.
    pub unfit: Option<String>,
    /// The consumer whose finished rollout does not stand any more (a late deployment
    /// with older references, an older definition put back), and what was seen.
    pub undone_rollout: Option<(ConsumerId, String)>,
    /// Why the clocks cannot be trusted for a destructive step, or with a deadline.
    pub clock_problem: Option<String>,
}

/// A consumer's rollout, as far as the last publication is concerned.
#[derive(Debug, Clone, PartialEq)]
pub enum RolloutEvidence {
    /// Nobody asked for one since the publication.
    NotRequested,
    /// Asked for or under way.
    UnderWay {
        detail: String,
    },
    /// One that began after the publication is finished.
    Finished,
    Failed {
        detail: String,
    },
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Perform the current step.
    Perform(Step),
    /// The current step is over without anything to perform.
    Conclude(Done),
    /// Nothing to do until then.
    WaitUntil {
        until: Timestamp,
        why: String,
    },
    /// The evidence of idleness is too old: gather it again.
    GatherAgain,
    Hold(HoldReason),
    /// The policy wants this failure undone rather than held.
    TurnBack(HoldReason),
    /// Held: only an order changes that.
    Parked,
    Finished(Outcome),
}

/// Decides. Reads nothing but its arguments.
#[must_use]
pub fn decide(rotation: &Rotation, policy: &SecretPolicy, evidence: &Evidence, now: Timestamp) -> Decision {
    let (step, attempt) = match &rotation.state {
        State::Ended { outcome, .. } => return Decision::Finished(*outcome),
        State::Held { .. } => return Decision::Parked,
        State::Running { step, attempt } => (*step, attempt),
    };
    let since = match (step, rotation.facts.failing_since) {
        (Step::Disable | Step::Revoke, Some(failing_since)) => failing_since.min(attempt.since),
        _ => attempt.since,
    };
    let deadline = since.saturating_add(deadline::of(step, rotation, policy)).unwrap_or(Timestamp::MAX);
    if now > deadline && !has_been_met(rotation, step, policy, evidence, now) {
        if let Some(detail) = &evidence.clock_problem {
            // Nobody knows how long the step really took.
            return Decision::Hold(HoldReason::Clock { detail: detail.clone() });
        }
        let reason = HoldReason::DeadlinePassed { step, waiting: attempt.waiting.clone() };
        return turn_back_or_hold(rotation, policy, reason);
    }
    if attempt.not_before > now {
        let why = attempt.waiting.clone().unwrap_or_else(|| format!("{step} to be tried again"));
        return Decision::WaitUntil { until: attempt.not_before.min(deadline), why };
    }
    if let Some((consumer, detail)) = &evidence.undone_rollout {
        let reason = HoldReason::RolloutFailed { consumer: consumer.to_string(), detail: detail.clone() };
        return turn_back_or_hold(rotation, policy, reason);
    }
    match step.nature() {
        Nature::Rollout => rollout(rotation, policy, evidence, step, now),
        Nature::Wait => wait(rotation, policy, step, now),
        Nature::Observation => observe(rotation, policy, evidence, step, now),
        Nature::Effect | Nature::Publication(_) => effect(rotation, policy, evidence, step, attempt, now),
    }
}

/// A gate that opened is not closed again by its deadline.
fn has_been_met(
    rotation: &Rotation,
    step: Step,
    policy: &SecretPolicy,
    evidence: &Evidence,
    now: Timestamp,
) -> bool {
    match step.nature() {
        Nature::Rollout => matches!(rollout(rotation, policy, evidence, step, now), Decision::Conclude(_)),
        Nature::Wait => matches!(wait(rotation, policy, step, now), Decision::Conclude(_)),
        Nature::Observation => step == Step::Watch && watched_enough(rotation, policy),
        Nature::Effect | Nature::Publication(_) => {
            rotation.open_intent().is_some() && attempt_is_first(rotation)
        }
    }
}

/// An intent that nobody looked at yet is looked at once, however late.
fn attempt_is_first(rotation: &Rotation) -> bool {
    matches!(&rotation.state, State::Running { attempt, .. } if attempt.failures == 0)
}

fn rollout(
    rotation: &Rotation,
    policy: &SecretPolicy,
    evidence: &Evidence,
    step: Step,
    now: Timestamp,
) -> Decision {
    let mut waiting = Vec::new();
    for (consumer, state) in &evidence.rollouts {
        match state {
            RolloutEvidence::Failed { detail } => {
                let reason =
                    HoldReason::RolloutFailed { consumer: consumer.to_string(), detail: detail.clone() };
                return turn_back_or_hold(rotation, policy, reason);
            }
            RolloutEvidence::NotRequested => return Decision::Perform(step),
            RolloutEvidence::UnderWay { detail } => waiting.push(format!("{consumer} ({detail})")),
            RolloutEvidence::Finished => {}
        }
    }
    if waiting.is_empty() {
        Decision::Conclude(Done::RolledOut)
    } else {
        look_again(now, format!("the rollout of {}", waiting.join(", ")))
    }
}

fn wait(rotation: &Rotation, policy: &SecretPolicy, step: Step, now: Timestamp) -> Decision {
    if step == Step::Confirm {
        // The order that confirms ends the step.
        let why = format!("a person to revoke the old key and run `rota confirm {}`", rotation.secret);
        return look_after(LOOK_FOR_A_PERSON_AFTER, now, why);
    }
    let from = rotation.facts.demoted_at.unwrap_or(now);
    let until = from.saturating_add(policy.token_ttl).unwrap_or(Timestamp::MAX);
    if now >= until {
        Decision::Conclude(Done::Plain)
    } else {
        Decision::WaitUntil { until, why: "what the new value signed to expire".to_owned() }
    }
}

fn observe(
    rotation: &Rotation,
    policy: &SecretPolicy,
    evidence: &Evidence,
    step: Step,
    now: Timestamp,
) -> Decision {
    match step {
        Step::Watch => watch(rotation, policy, now),
        Step::ConfirmIdle | Step::RecheckIdle => {
            destructive_gate(rotation, policy, evidence, now).unwrap_or(Decision::Perform(step))
        }
        _ => Decision::Perform(step),
    }
}

fn watch(rotation: &Rotation, policy: &SecretPolicy, now: Timestamp) -> Decision {
    let watch = &rotation.facts.watch;
    if watch.failures_in_row >= policy.healthy.failures {
        let detail = format!("{} unhealthy observations in a row", watch.failures_in_row);
        return turn_back_or_hold(rotation, policy, HoldReason::Unhealthy { detail });
    }
    if watch.unread_in_row >= policy.healthy.failures {
        // Nothing was seen to be wrong with the new value: going back helps nobody.
        let detail = format!("{} rounds in a row gave no answer", watch.unread_in_row);
        return Decision::Hold(HoldReason::Unread { detail });
    }
    if watched_enough(rotation, policy) {
        return Decision::Conclude(Done::Plain);
    }
    let next =
        watch.last_at.map_or(now, |at| at.saturating_add(policy.healthy.every).unwrap_or(Timestamp::MAX));
    if now >= next {
        Decision::Perform(Step::Watch)
    } else {
        let why = "the overlap and enough healthy observations".to_owned();
        Decision::WaitUntil { until: next, why }
    }
}

/// The overlap that this rotation keeps.
#[must_use]
pub fn overlap(rotation: &Rotation, policy: &SecretPolicy) -> SignedDuration {
    if rotation.is_emergency() || rotation.shape.creation {
        SignedDuration::ZERO
    } else {
        policy.kept_overlap()
    }
}

fn watched_enough(rotation: &Rotation, policy: &SecretPolicy) -> bool {
    let watch = &rotation.facts.watch;
    watch.failures_in_row == 0
        && watch.unread_in_row == 0
        && watch.healthy >= policy.healthy.count
        && watch.observed >= overlap(rotation, policy)
}

fn effect(
    rotation: &Rotation,
    policy: &SecretPolicy,
    evidence: &Evidence,
    step: Step,
    attempt: &Attempt,
    now: Timestamp,
) -> Decision {
    if attempt.intent.is_some() {
        // It may have happened: look, whatever the gates say now.
        return Decision::Perform(step);
    }
    match step {
        Step::Stage if rotation.shape.source == Source::Submitted && !evidence.submitted => {
            let after = if policy.inbox.is_some() { LOOK_INTO_INBOX_AFTER } else { LOOK_FOR_A_PERSON_AFTER };
            let why = match &evidence.unfit {
                Some(why) => format!("a person to replace what is in the inbox, which is not taken: {why}"),
                None => format!("a person to run `rota submit {}`", rotation.secret),
            };
            look_after(after, now, why)
        }
        Step::Withdraw => {
            destructive_gate(rotation, policy, evidence, now).unwrap_or(Decision::Perform(step))
        }
        Step::Disable if !rotation.is_emergency() && !idle_is_fresh(rotation, now) => Decision::GatherAgain,
        Step::Revoke if !rotation.is_emergency() => {
            // Only what was disabled can stay recoverable for a while.
            let disabled = rotation.facts.disabled_at;
            let until = disabled.map(|at| at.saturating_add(policy.revoke_after).unwrap_or(Timestamp::MAX));
            if let Some(until) = until.filter(|until| now < *until) {
                let why = "the disabled value to stay recoverable for `revoke_after`".to_owned();
                Decision::WaitUntil { until, why }
            } else if disabled.is_none() && !idle_is_fresh(rotation, now) {
                Decision::GatherAgain
            } else {
                clock_gate(rotation, evidence, now).unwrap_or(Decision::Perform(step))
            }
        }
        _ => Decision::Perform(step),
    }
}

fn idle_is_fresh(rotation: &Rotation, now: Timestamp) -> bool {
    rotation.facts.idle_at.is_some_and(|at| now.duration_since(at) <= IDLE_IS_FRESH_FOR)
}

/// What stands between a calm rotation and the first thing that hurts the old value.
fn destructive_gate(
    rotation: &Rotation,
    policy: &SecretPolicy,
    evidence: &Evidence,
    now: Timestamp,
) -> Option<Decision> {
    if rotation.is_emergency() {
        return None;
    }
    if let Some(window) = &policy.window
        && !window.is_open(now)
    {
        let until = window.next_open(now);
        return Some(Decision::WaitUntil { until, why: "the window to open".to_owned() });
    }
    clock_gate(rotation, evidence, now)
}

fn clock_gate(rotation: &Rotation, evidence: &Evidence, now: Timestamp) -> Option<Decision> {
    let problem = evidence.clock_problem.as_ref().filter(|_| !rotation.is_emergency())?;
    let until = now.saturating_add(CLOCK_PAUSE).unwrap_or(Timestamp::MAX);
    Some(Decision::WaitUntil { until, why: format!("{WAITS_FOR_CLOCKS}: {problem}") })
}

fn look_again(now: Timestamp, why: String) -> Decision {
    look_after(LOOK_AGAIN_AFTER, now, why)
}

fn look_after(after: SignedDuration, now: Timestamp, why: String) -> Decision {
    Decision::WaitUntil { until: now.saturating_add(after).unwrap_or(Timestamp::MAX), why }
}

fn turn_back_or_hold(rotation: &Rotation, policy: &SecretPolicy, reason: HoldReason) -> Decision {
    match policy.on_failure {
        OnFailure::Rollback if can_roll_back(rotation).is_ok() => Decision::TurnBack(reason),
        OnFailure::Rollback | OnFailure::Hold => Decision::Hold(reason),
    }
}
