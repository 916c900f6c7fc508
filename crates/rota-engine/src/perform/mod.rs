//! Performs one step: record the intent, observe, apply only if absent, record the outcome.

mod hooks;
mod publish;
mod slots;
mod taken_over;
mod target;
mod watch;

pub(crate) use slots::read_published;

use std::collections::BTreeMap;

use rota_core::id::{EffectNo, VersionRef};
use rota_core::rotation::{Event, Intent, Step};
use serde_json::json;

use crate::ports::{Record, TargetEffect, Which};
use crate::session::{Halt, Session};

pub(crate) async fn step(session: &mut Session<'_>, step: Step) -> Result<(), Halt> {
    match step {
        Step::Keep => slots::keep(session).await,
        Step::Stage => slots::stage(session).await,
        Step::Purge | Step::Discard => slots::purge(session).await,
        Step::Introduce | Step::Promote | Step::Withdraw | Step::Reaccept | Step::Demote | Step::Reject => {
            publish::publish(session, step).await
        }
        Step::IntroduceRollout
        | Step::PromoteRollout
        | Step::WithdrawRollout
        | Step::ReacceptRollout
        | Step::DemoteRollout
        | Step::RejectRollout => request_rollouts(session).await,
        Step::Install => target::effect(session, TargetEffect::Install).await,
        Step::Disable => target::effect(session, TargetEffect::Disable).await,
        Step::Revoke => target::effect(session, TargetEffect::Revoke).await,
        Step::Remove => target::effect(session, TargetEffect::Remove).await,
        Step::Restore => target::effect(session, TargetEffect::Restore).await,
        Step::Prove => target::prove_new(session).await,
        Step::ProveRefused => target::prove_refused(session).await,
        Step::ConfirmIdle | Step::RecheckIdle => target::confirm_idle(session).await,
        Step::Watch => watch::round(session).await,
        Step::Hook(point) => hooks::run(session, point).await,
        // Decided, never performed: they end by time or by a person's order.
        Step::Confirm | Step::Cooldown => Ok(()),
    }
}

/// Asks for a rollout of every consumer that has none since the last publication.
async fn request_rollouts(session: &mut Session<'_>) -> Result<(), Halt> {
    let mut record = Record::of(session.rotation().clone(), session.claim.last_effect);
    record.rollouts = session.consumers();
    session.commit(record).await
}

/// Records that the current step's effect may happen from now on. One that was
/// recorded before stands: its outcome is unknown, not failed.
async fn intend(
    session: &mut Session<'_>,
    bases: BTreeMap<String, Option<VersionRef>>,
) -> Result<EffectNo, Halt> {
    if let Some(intent) = session.rotation().open_intent() {
        return Ok(intent.effect);
    }
    intend_anew(session, bases, 0).await
}

/// Records an intent in place of an open one, for an attempt with other content.
async fn intend_anew(
    session: &mut Session<'_>,
    bases: BTreeMap<String, Option<VersionRef>>,
    attempt: u32,
) -> Result<EffectNo, Halt> {
    let effect = session.next_effect();
    let detail = json!({ "bases": bases, "attempt": attempt });
    let intent = Intent { effect, at: session.now(), attempt, bases };
    session.advance(Event::Intended { intent }, detail, |_| ()).await?;
    Ok(effect)
}

/// Reads one of the two values from its slot.
async fn material(
    session: &mut Session<'_>,
    which: Which,
) -> Result<Option<rota_core::publication::Material>, Halt> {
    slots::read(session, which).await
}
