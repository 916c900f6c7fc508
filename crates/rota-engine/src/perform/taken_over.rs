//! What the third value of an emergency has to end beside the value that it replaces:
//! everything that the rotations which it took over had put on the target.
//!
//! Their candidates may have leaked as well, and nobody else will ever look at them.

use std::collections::BTreeMap;

use rota_core::id::RotationId;
use rota_core::publication::Material;
use rota_core::rotation::{Source, State};

use super::{intend_anew, slots, target};
use crate::ports::{Observed, Record, SlotRole, TargetContext, TargetEffect};
use crate::session::{Halt, Session};

/// Revokes every value of the rotations that this one took over. To be called with the
/// intent to revoke recorded; may be repeated.
pub(super) async fn revoke(session: &mut Session<'_>) -> Result<(), Halt> {
    let taken_over = session.rotation().order.supersedes.clone();
    if taken_over.is_empty() {
        return Ok(());
    }
    for rotation in taken_over {
        let mut known = false;
        for role in [SlotRole::Old, SlotRole::Candidate] {
            if let Some(value) = slots::read_of(session, rotation, role).await? {
                known |= role == SlotRole::Candidate;
                revoke_value(session, rotation, value).await?;
            }
        }
        if !known && session.rotation().shape.source == Source::Created {
            remove_unknown(session, rotation).await?;
        }
    }
    if !session.rotator()?.traits().fenced
        && let State::Running { attempt, .. } = &session.rotation().state
    {
        let since = attempt.since;
        session.wait_for_late_effects(since, "late effects of what was taken over to land")?;
    }
    Ok(())
}

/// Revokes one value, unless it is one of this rotation's own.
async fn revoke_value(session: &mut Session<'_>, rotation: RotationId, value: Material) -> Result<(), Halt> {
    let own = target::context(session).await?;
    let is_own = [&own.old, &own.new].into_iter().flatten().any(|parts| parts.same_as(&value.parts));
    if is_own {
        return Ok(());
    }
    let identity = session.rotator()?.identity_of(&value.parts);
    let context = TargetContext { rotation, old: Some(value.parts), old_identity: identity, ..own };
    apply(session, TargetEffect::Revoke, &context).await
}

/// Removes every credential whose value the rotations that this one took over have lost.
/// To be called with an intent recorded; may be repeated. What arrives later still is
/// ended by [`revoke`].
pub(super) async fn remove_lost(session: &mut Session<'_>) -> Result<(), Halt> {
    for rotation in session.rotation().order.supersedes.clone() {
        if slots::read_of(session, rotation, SlotRole::Candidate).await?.is_none() {
            remove_unknown(session, rotation).await?;
        }
    }
    Ok(())
}

/// Removes what the target made for a rotation whose value never reached its slot.
async fn remove_unknown(session: &mut Session<'_>, rotation: RotationId) -> Result<(), Halt> {
    let own = target::context(session).await?;
    let context = TargetContext { rotation, new: None, new_identity: None, ..own };
    let rotator = session.rotator()?;
    match session.call("looking for a lost credential", rotator.find_created(&context)).await? {
        Some(identity) => remove(session, rotation, identity).await,
        None => Ok(()),
    }
}

/// Removes exactly this credential, which the target made for `rotation`.
pub(super) async fn remove(
    session: &mut Session<'_>,
    rotation: RotationId,
    identity: String,
) -> Result<(), Halt> {
    let own = target::context(session).await?;
    let context = TargetContext { rotation, new: None, new_identity: Some(identity), ..own };
    apply(session, TargetEffect::Remove, &context).await
}

/// What is not ours to end any more is shown to people.
async fn leave_behind(session: &mut Session<'_>, rotation: RotationId, detail: &str) -> Result<(), Halt> {
    let mut record = Record::of(session.rotation().clone(), session.claim.last_effect);
    record.orphan = Some(format!(
        "rotation {rotation} was taken over, and what it had put on the target was changed by somebody \
         else: {detail}; look at it and revoke it by hand"
    ));
    session.commit(record).await
}

/// True where what is to be ended is the login that this rotation gave a value of its own.
fn is_set_anew(context: &TargetContext) -> bool {
    context.new_identity.is_some() && context.old_identity == context.new_identity
}

/// Each effect has a number of its own, so that a fence lets it pass. A credential that
/// holds another value by now is not this one any more.
async fn apply(session: &mut Session<'_>, effect: TargetEffect, context: &TargetContext) -> Result<(), Halt> {
    let rotator = session.rotator()?;
    let observed = session.call("looking at the target", rotator.observe(effect, context)).await?;
    match observed {
        Observed::Absent => {}
        Observed::Applied => return Ok(()),
        // The login that this rotation set anew for itself: the leaked value is refused.
        Observed::Foreign { .. } if effect == TargetEffect::Revoke && is_set_anew(context) => return Ok(()),
        Observed::Foreign { detail } => return leave_behind(session, context.rotation, &detail).await,
    }
    let number = intend_anew(session, BTreeMap::new(), 0).await?;
    let fence = session.fence(number);
    session.call("changing the target", rotator.apply(effect, context, fence)).await
}
