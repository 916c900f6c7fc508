//! Which step comes next.
//!
//! A plan is a list that follows from the order, the shape and the facts; the next
//! step is its first one that is not done. So a change of direction (a rollback, an
//! emergency) needs no table of positions: it is another list over the same facts.

use super::state::{Facts, Haste, Order, Shape, Source, Suspect};
use super::step::{List, Step};
use crate::policy::model::HookPoint;

/// The next step forward (`undo` false) or backward; `None` at the end.
#[must_use]
pub fn next(order: &Order, shape: &Shape, facts: &Facts, undo: bool) -> Option<Step> {
    let steps = if undo { backward(order, shape, facts) } else { forward(order, shape) };
    steps.into_iter().find(|step| !facts.done.contains(step))
}

/// Every step of the way forward, in order.
#[must_use]
pub fn forward(order: &Order, shape: &Shape) -> Vec<Step> {
    let emergency = matches!(order.haste, Haste::Emergency { .. });
    let hook = |point: HookPoint| shape.hooks.contains(&point).then_some(Step::Hook(point));
    let when = |condition: bool, step: Step| condition.then_some(step);
    let retires = !shape.creation;
    let head = [
        when(!emergency, Step::Hook(HookPoint::BeforeGenerate))
            .filter(|_| shape.hooks.contains(&HookPoint::BeforeGenerate)),
        when(!shape.creation, Step::Keep),
        Some(Step::Stage),
        when(shape.target && shape.source != Source::Created, Step::Install),
        Some(Step::Prove),
        hook(HookPoint::AfterGenerate).filter(|_| !emergency),
    ];
    let calm = [
        when(shape.introduces && retires, Step::Introduce),
        when(shape.introduces && retires, Step::IntroduceRollout),
        hook(HookPoint::BeforePromote),
        Some(Step::Promote),
        Some(Step::PromoteRollout),
        hook(HookPoint::AfterPromote),
        Some(Step::Watch),
        hook(HookPoint::BeforeRetire),
        when(shape.target && retires, Step::ConfirmIdle),
        when(shape.shows_a_second && retires, Step::Withdraw),
        when(shape.shows_a_second && retires, Step::WithdrawRollout),
        when(shape.target && retires, Step::RecheckIdle),
        when(shape.target && shape.reversible && retires, Step::Disable),
        when(shape.target && retires, Step::Revoke),
        when(shape.confirmed_by_person && retires, Step::Confirm),
    ];
    // What leaked goes first; the gap until every instance is new is declared by the order.
    let hasty = [
        hook(HookPoint::BeforePromote),
        Some(Step::Promote),
        when(shape.shows_a_second && retires, Step::Withdraw),
        when(shape.target && shape.reversible && retires, Step::Disable),
        when(shape.target && retires, Step::Revoke),
        hook(HookPoint::OnEmergency),
        when(!(shape.shows_a_second && retires), Step::PromoteRollout),
        when(shape.shows_a_second && retires, Step::WithdrawRollout),
        Some(Step::Watch),
        when(shape.confirmed_by_person && retires, Step::Confirm),
    ];
    let tail = [when(retires, Step::ProveRefused), hook(HookPoint::AfterRetire), Some(Step::Purge)];
    let middle: &[Option<Step>] = if emergency { &hasty } else { &calm };
    head.iter().chain(middle).chain(&tail).filter_map(|step| *step).collect()
}

/// Every step of the way back, in order. Assumes that whatever has an intent happened.
#[must_use]
pub fn backward(order: &Order, shape: &Shape, facts: &Facts) -> Vec<Step> {
    let leaked = matches!(order.haste, Haste::Emergency { suspect: Suspect::Newer });
    let tried = |step: Step| facts.attempted.contains(&step);
    let restore = [Step::Restore].into_iter().filter(|_| tried(Step::Disable));
    let publications: &[Step] = match furthest(shape, facts) {
        List::Nothing | List::Old => &[],
        List::OldNew => &[Step::Reject, Step::RejectRollout],
        List::NewOld | List::New if leaked => &[Step::Reject, Step::RejectRollout],
        List::NewOld if !shape.shows_a_second => &[Step::Reject, Step::RejectRollout],
        List::New if !shape.shows_a_second => &[Step::Reject, Step::RejectRollout],
        List::NewOld => {
            &[Step::Demote, Step::DemoteRollout, Step::Cooldown, Step::Reject, Step::RejectRollout]
        }
        List::New => &[
            Step::Reaccept,
            Step::ReacceptRollout,
            Step::Demote,
            Step::DemoteRollout,
            Step::Cooldown,
            Step::Reject,
            Step::RejectRollout,
        ],
    };
    let on_target =
        shape.target && (tried(Step::Install) || (tried(Step::Stage) && shape.source == Source::Created));
    let remove = on_target.then_some(Step::Remove);
    let (early, late) = if leaked { (remove, None) } else { (None, remove) };
    // A leaked candidate is refused as soon as nothing new reads it; its gap is declared by the order.
    let mut steps: Vec<Step> = restore.collect();
    for step in publications {
        steps.push(*step);
        if *step == Step::Reject {
            steps.extend(early);
        }
    }
    if publications.is_empty() {
        steps.extend(early);
    }
    steps.extend(late);
    steps.push(Step::Discard);
    steps
}

/// The list that consumers may have seen at the furthest, whatever was recorded.
#[must_use]
pub fn furthest(shape: &Shape, facts: &Facts) -> List {
    let tried = |step: Step| facts.attempted.contains(&step);
    if tried(Step::Withdraw) {
        List::New
    } else if tried(Step::Promote) {
        if shape.creation { List::New } else { List::NewOld }
    } else if tried(Step::Introduce) {
        List::OldNew
    } else if shape.creation {
        List::Nothing
    } else {
        List::Old
    }
}

/// What a publication step writes, given that a creation has no old value.
#[must_use]
pub fn list_after(step: Step, shape: &Shape) -> Option<List> {
    match step.nature() {
        super::step::Nature::Publication(_) if shape.creation && step == Step::Promote => Some(List::New),
        super::step::Nature::Publication(list) => Some(list),
        _ => None,
    }
}
