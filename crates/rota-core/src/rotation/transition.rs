//! The only transition table: what each event makes of a rotation.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::backoff;
use super::hold::HoldReason;
use super::plan;
use super::state::{Attempt, Haste, Intent, Outcome, Publication, Rotation, State, Suspect, Verdict, Watch};
use super::step::{List, Nature, Step};
use crate::fault::Fault;
use crate::id::VersionRef;

/// What happened. Past participles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The current step's effect may happen from now on.
    Intended {
        intent: Intent,
    },
    /// Check readings from before the promotion, by `consumer/check`.
    BaselineTaken {
        readings: BTreeMap<String, f64>,
    },
    /// The current step is done.
    Done {
        done: Done,
    },
    /// The current step failed in a way that says whether to try again.
    Failed {
        fault: Fault,
    },
    /// Nothing failed; the step is not over.
    Waited {
        until: Timestamp,
        why: String,
    },
    /// One round of checks since promotion; `counted` is the time since the round before.
    Observed {
        verdict: Verdict,
        counted: SignedDuration,
        detail: String,
    },
    /// The evidence of idleness is too old to act upon.
    EvidenceAged,
    Held {
        reason: HoldReason,
    },
    /// A person, or the policy's `on_failure`, turns the rotation back.
    RolledBack {
        by: String,
        reason: String,
    },
    Resumed {
        by: String,
        reason: String,
    },
    Abandoned {
        by: String,
        reason: String,
    },
    /// Something leaked and this rotation can deal with it.
    Hastened {
        suspect: Suspect,
        by: String,
        reason: String,
    },
    /// Another rotation takes over.
    Superseded,
}

/// The outcome of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "done", rename_all = "snake_case")]
pub enum Done {
    Kept {
        version: VersionRef,
        identity: Option<String>,
    },
    Staged {
        version: VersionRef,
        identity: Option<String>,
    },
    Published {
        publication: Publication,
    },
    RolledOut,
    Idle,
    Disabled,
    Confirmed {
        at: Timestamp,
    },
    Refused {
        evidence: String,
    },
    /// Every other step has nothing to tell but that it is done.
    Plain,
}

/// The event does not fit the state. Nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalEvent {
    #[error("the rotation has ended")]
    Ended,
    #[error("the rotation is held; resume, roll back or abandon it first")]
    Held,
    #[error("the rotation is not held")]
    NotHeld,
    #[error("{0} has no recorded intent")]
    NoIntent(Step),
    #[error("{0} changes nothing outside and takes no intent")]
    TakesNoIntent(Step),
    #[error("the outcome does not belong to {0}")]
    WrongOutcome(Step),
    #[error("the old value is already being revoked; it cannot come back")]
    PastUndo,
    #[error("the rotation is already going back")]
    GoingBack,
    #[error("the old value leaked; going back to it is forbidden")]
    OldLeaked,
    #[error("there was no old value to go back to")]
    NothingToGoBackTo,
    #[error("only {0} can be observed for health")]
    NotWatching(Step),
    #[error("a rotation in this state cannot deal with that leak; a new value has to supersede it")]
    NeedsThirdValue,
}

/// Applies `event` at `now`. The one place where a rotation changes.
///
/// # Errors
/// Where the event is not legal in the state; the table is in `docs/state-machine.md`.
pub fn apply(rotation: Rotation, event: Event, now: Timestamp) -> Result<Rotation, IllegalEvent> {
    match event {
        Event::Intended { intent } => intended(rotation, intent),
        Event::BaselineTaken { readings } => baseline_taken(rotation, readings),
        Event::Done { done } => finished(rotation, done, now),
        Event::Failed { fault } => failed(rotation, fault, now),
        Event::Waited { until, why } => waited(rotation, until, why),
        Event::Observed { verdict, counted, detail: _ } => observed(rotation, verdict, counted, now),
        Event::EvidenceAged => evidence_aged(rotation, now),
        Event::Held { reason } => held(rotation, reason, now),
        Event::RolledBack { .. } => rolled_back(rotation, now),
        Event::Resumed { .. } => resumed(rotation, now),
        Event::Abandoned { .. } => ended(rotation, Outcome::Abandoned, now),
        Event::Hastened { suspect, .. } => hastened(rotation, suspect, now),
        Event::Superseded => ended(rotation, Outcome::Superseded, now),
    }
}

/// Whether [`Event::RolledBack`] is legal now.
///
/// # Errors
/// Why it is not.
pub fn can_roll_back(rotation: &Rotation) -> Result<(), IllegalEvent> {
    let Some(step) = rotation.step() else { return Err(IllegalEvent::Ended) };
    if step.undoes() {
        Err(IllegalEvent::GoingBack)
    } else if rotation.is_past_undo() {
        Err(IllegalEvent::PastUndo)
    } else if matches!(rotation.order.haste, Haste::Emergency { suspect: Suspect::Older }) {
        Err(IllegalEvent::OldLeaked)
    } else if rotation.shape.creation && rotation.facts.attempted.contains(&Step::Promote) {
        Err(IllegalEvent::NothingToGoBackTo)
    } else {
        Ok(())
    }
}

fn running(rotation: &mut Rotation) -> Result<(Step, &mut Attempt), IllegalEvent> {
    match &mut rotation.state {
        State::Running { step, attempt } => Ok((*step, attempt)),
        State::Held { .. } => Err(IllegalEvent::Held),
        State::Ended { .. } => Err(IllegalEvent::Ended),
    }
}

fn intended(mut rotation: Rotation, intent: Intent) -> Result<Rotation, IllegalEvent> {
    let (step, attempt) = running(&mut rotation)?;
    if !step.leaves_a_trace() {
        return Err(IllegalEvent::TakesNoIntent(step));
    }
    attempt.intent = Some(intent);
    rotation.facts.attempted.insert(step);
    Ok(rotation)
}

fn baseline_taken(mut rotation: Rotation, readings: BTreeMap<String, f64>) -> Result<Rotation, IllegalEvent> {
    let (step, attempt) = running(&mut rotation)?;
    if step != Step::Promote || attempt.intent.is_some() {
        return Err(IllegalEvent::WrongOutcome(step));
    }
    rotation.facts.baseline = readings;
    Ok(rotation)
}

fn finished(mut rotation: Rotation, done: Done, now: Timestamp) -> Result<Rotation, IllegalEvent> {
    let (step, attempt) = running(&mut rotation)?;
    if step.leaves_a_trace() && attempt.intent.is_none() {
        return Err(IllegalEvent::NoIntent(step));
    }
    let wanted = plan::list_after(step, &rotation.shape);
    let facts = &mut rotation.facts;
    match (step, done) {
        (Step::Keep, Done::Kept { version, identity }) => {
            facts.old = Some(version);
            facts.old_identity = identity;
        }
        (Step::Stage, Done::Staged { version, identity }) => {
            facts.new = Some(version);
            facts.new_identity = identity;
        }
        (_, Done::Published { publication }) if wanted == Some(publication.list) => {
            if step == Step::Promote {
                facts.promoted_at = Some(publication.at);
            }
            facts.publication = Some(publication);
        }
        (_, Done::RolledOut) if step.nature() == Nature::Rollout => {
            if step == Step::DemoteRollout {
                facts.demoted_at = Some(now);
            }
        }
        (Step::ConfirmIdle | Step::RecheckIdle, Done::Idle) => facts.idle_at = Some(now),
        (Step::Disable, Done::Disabled) => {
            facts.disabled_at = Some(now);
            facts.failing_since = None;
        }
        (Step::Confirm, Done::Confirmed { at }) => facts.confirmed_at = Some(at),
        (Step::ProveRefused, Done::Refused { evidence }) => facts.refusal = Some(evidence),
        (
            Step::Install
            | Step::Prove
            | Step::Watch
            | Step::Revoke
            | Step::Purge
            | Step::Restore
            | Step::Cooldown
            | Step::Remove
            | Step::Discard
            | Step::Hook(_),
            Done::Plain,
        ) => {}
        (step, _) => return Err(IllegalEvent::WrongOutcome(step)),
    }
    facts.done.insert(step);
    Ok(proceed(rotation, step.undoes(), now))
}

/// Goes to the next step of the way, or ends.
fn proceed(mut rotation: Rotation, undo: bool, now: Timestamp) -> Rotation {
    rotation.state = match plan::next(&rotation.order, &rotation.shape, &rotation.facts, undo) {
        Some(step) => State::Running { step, attempt: Attempt::fresh(now) },
        None => {
            State::Ended { outcome: if undo { Outcome::RolledBack } else { Outcome::Completed }, at: now }
        }
    };
    rotation
}

fn failed(mut rotation: Rotation, fault: Fault, now: Timestamp) -> Result<Rotation, IllegalEvent> {
    let id = rotation.id;
    let (step, attempt) = running(&mut rotation)?;
    let retry_after = match &fault {
        Fault::Transient { .. } => SignedDuration::ZERO,
        Fault::RateLimited { retry_after, .. } => *retry_after,
        Fault::Denied { .. } | Fault::Conflict { .. } | Fault::Invalid { .. } => {
            return held(rotation, HoldReason::Permanent { step, fault }, now);
        }
    };
    attempt.failures = attempt.failures.saturating_add(1);
    attempt.not_before =
        now.saturating_add(backoff::delay(id, attempt.failures).max(retry_after)).unwrap_or(Timestamp::MAX);
    attempt.waiting = Some(fault.to_string());
    Ok(rotation)
}

fn waited(mut rotation: Rotation, until: Timestamp, why: String) -> Result<Rotation, IllegalEvent> {
    let (_, attempt) = running(&mut rotation)?;
    attempt.failures = 0;
    attempt.not_before = until;
    attempt.waiting = Some(why);
    rotation.facts.failing_since = None;
    Ok(rotation)
}

fn observed(
    mut rotation: Rotation,
    verdict: Verdict,
    counted: SignedDuration,
    now: Timestamp,
) -> Result<Rotation, IllegalEvent> {
    let (step, attempt) = running(&mut rotation)?;
    if step != Step::Watch {
        return Err(IllegalEvent::NotWatching(Step::Watch));
    }
    attempt.failures = 0;
    let watch = &mut rotation.facts.watch;
    match verdict {
        Verdict::Healthy => {
            watch.healthy = watch.healthy.saturating_add(1);
            watch.failures_in_row = 0;
            watch.unread_in_row = 0;
            watch.observed = watch.observed.saturating_add(counted);
        }
        Verdict::Unhealthy => {
            watch.failures_in_row = watch.failures_in_row.saturating_add(1);
            watch.unread_in_row = 0;
        }
        // Says nothing about the value: neither for it nor against it.
        Verdict::Unknown => watch.unread_in_row = watch.unread_in_row.saturating_add(1),
    }
    watch.last_at = Some(now);
    Ok(rotation)
}

fn evidence_aged(mut rotation: Rotation, now: Timestamp) -> Result<Rotation, IllegalEvent> {
    let (step, attempt) = running(&mut rotation)?;
    if attempt.intent.is_some() || !matches!(step, Step::Disable | Step::Revoke) {
        return Err(IllegalEvent::WrongOutcome(step));
    }
    let failing_since = (attempt.failures > 0).then_some(attempt.since);
    let facts = &mut rotation.facts;
    facts.failing_since = facts.failing_since.or(failing_since);
    facts.done.remove(&Step::RecheckIdle);
    facts.idle_at = None;
    Ok(proceed(rotation, false, now))
}

fn held(mut rotation: Rotation, reason: HoldReason, now: Timestamp) -> Result<Rotation, IllegalEvent> {
    let (step, attempt) = running(&mut rotation)?;
    let intent = attempt.intent.take();
    rotation.state = State::Held { step, intent, reason, since: now };
    Ok(rotation)
}

fn resumed(mut rotation: Rotation, now: Timestamp) -> Result<Rotation, IllegalEvent> {
    let State::Held { step, intent, reason, .. } = rotation.state.clone() else {
        return Err(if rotation.step().is_none() { IllegalEvent::Ended } else { IllegalEvent::NotHeld });
    };
    let intent = intent.map(|intent| run_again(step, &reason, intent));
    // What a store did not show, instances that started meanwhile have not read.
    let unseen =
        matches!(reason, HoldReason::Foreign { .. } | HoldReason::Differs { .. }) && intent.is_none();
    let failed = matches!(reason, HoldReason::RolloutFailed { .. });
    let undone = (failed || unseen) && step.nature() != Nature::Rollout;
    let rollout = rotation.finished_rollout().filter(|_| undone);
    let facts = &mut rotation.facts;
    facts.evidence_after = Some(now);
    facts.watch.healthy = 0;
    facts.watch.failures_in_row = 0;
    facts.watch.unread_in_row = 0;
    facts.idle_at = None;
    facts.failing_since = None;
    if let Some(rollout) = rollout {
        // Everybody has to be made to read anew, and the overlap counts from there.
        facts.done.remove(&rollout);
        facts.done.remove(&Step::Watch);
        facts.watch = Watch::default();
        return Ok(proceed(rotation, step.undoes(), now));
    }
    if intent.is_some() || step.undoes() || rotation.is_past_undo() {
        // What may have happened is looked at before anything else.
        rotation.state = State::Running { step, attempt: Attempt { intent, ..Attempt::fresh(now) } };
        return Ok(rotation);
    }
    for gate in [Step::Prove, Step::Watch, Step::ConfirmIdle, Step::RecheckIdle] {
        rotation.facts.done.remove(&gate);
    }
    if !rotation.facts.attempted.contains(&Step::Promote) {
        // What the target was given may be gone or spoiled: it is observed again, and
        // given again only where it is absent.
        rotation.facts.done.remove(&Step::Install);
    }
    Ok(proceed(rotation, false, now))
}

/// A hook that failed for good is another run from now on: under the name of the failed
/// one, whoever recognises repeats would only find the failure again.
fn run_again(step: Step, reason: &HoldReason, intent: Intent) -> Intent {
    match (step, reason) {
        (Step::Hook(_), HoldReason::Permanent { .. }) => Intent { attempt: intent.attempt + 1, ..intent },
        _ => intent,
    }
}

fn rolled_back(rotation: Rotation, now: Timestamp) -> Result<Rotation, IllegalEvent> {
    can_roll_back(&rotation)?;
    Ok(proceed(rotation, true, now))
}

fn ended(mut rotation: Rotation, outcome: Outcome, now: Timestamp) -> Result<Rotation, IllegalEvent> {
    if rotation.step().is_none() {
        return Err(IllegalEvent::Ended);
    }
    rotation.state = State::Ended { outcome, at: now };
    Ok(rotation)
}

fn hastened(mut rotation: Rotation, suspect: Suspect, now: Timestamp) -> Result<Rotation, IllegalEvent> {
    let Some(current) = rotation.step() else { return Err(IllegalEvent::Ended) };
    let haste = Haste::Emergency { suspect };
    match suspect {
        Suspect::Older => {
            if current.undoes() || rotation.shape.creation {
                return Err(IllegalEvent::NeedsThirdValue);
            }
            let intent = rotation.open_intent().cloned();
            rotation.order.haste = haste;
            let rotation = proceed(rotation, false, now);
            Ok(keep_intent(rotation, current, intent))
        }
        Suspect::Newer => {
            let going_back = current.undoes();
            if !going_back && can_roll_back(&rotation).is_err() {
                return Err(IllegalEvent::NeedsThirdValue);
            }
            let intent = rotation.open_intent().cloned();
            rotation.order.haste = haste;
            let rotation = proceed(rotation, true, now);
            Ok(keep_intent(rotation, current, intent))
        }
    }
}

/// The same step goes on with what it may have done already.
fn keep_intent(mut rotation: Rotation, before: Step, intent: Option<Intent>) -> Rotation {
    if let State::Running { step, attempt } = &mut rotation.state
        && *step == before
    {
        attempt.intent = intent;
    }
    rotation
}

/// What an emergency does with a rotation in flight.
#[must_use]
pub fn emergency_is_within_reach(rotation: &Rotation, suspect: Suspect, now: Timestamp) -> bool {
    hastened(rotation.clone(), suspect, now).is_ok()
}

/// True where consumers may still be using the old value by the last recorded publication.
#[must_use]
pub fn old_may_be_in_use(rotation: &Rotation) -> bool {
    match rotation.list() {
        List::Old | List::OldNew | List::NewOld => true,
        List::Nothing | List::New => false,
    }
}
