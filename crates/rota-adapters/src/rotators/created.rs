//! Keys that the target itself makes and names: what a rotation knows of them, and what a
//! list of them shows of an effect.
//!
//! Deliberately absent: calls, and whose a key is that nobody recorded. That is known to
//! the kind.

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_engine::ports::{Observed, TargetContext, TargetEffect};

/// How far the target's clock may be from the journal's.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(5);

/// The target's own names of a rotation's keys.
pub(super) struct Ids {
    pub(super) old: Option<String>,
    /// The candidate, or one whose value was lost, by its recorded id.
    pub(super) new: Option<String>,
}

impl Ids {
    /// # Errors
    /// [`Fault::Invalid`] where the secret had no value before.
    pub(super) fn old(&self) -> Result<&str, Fault> {
        self.old.as_deref().ok_or_else(|| Fault::invalid("there is no old key"))
    }

    pub(super) fn has(&self, id: &str) -> bool {
        [&self.old, &self.new].into_iter().flatten().any(|known| known == id)
    }
}

/// When the rotation began: its id holds the time (RFC 9562, version 7).
fn began(context: &TargetContext) -> Option<Timestamp> {
    let (seconds, _) = context.rotation.0.get_timestamp()?.to_unix();
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}

/// True for what was made since the rotation began.
pub(super) fn is_since_the_start(created: Timestamp, context: &TargetContext) -> bool {
    began(context).is_some_and(|began| created >= began - CLOCKS_APART)
}

/// What the list shows of `effect`. `active` says of an id whether the key is accepted;
/// `None` where there is none (any more).
///
/// # Errors
/// [`Fault::Invalid`] where the rotation has no old key and the effect is on it.
pub(super) fn look(
    effect: TargetEffect,
    ids: &Ids,
    active: impl Fn(&str) -> Option<bool>,
    context: &TargetContext,
    reversible: bool,
) -> Result<Observed, Fault> {
    let foreign = |detail: String| Ok(Observed::Foreign { detail });
    let wanted = match (effect, &ids.new) {
        (TargetEffect::Install | TargetEffect::Remove, Some(new)) => new.as_str(),
        (TargetEffect::Remove, None) => return Ok(Observed::Applied),
        (TargetEffect::Install, None) => return Ok(Observed::Absent),
        (TargetEffect::Disable | TargetEffect::Revoke | TargetEffect::Restore, _) => ids.old()?,
    };
    match (effect, active(wanted)) {
        (TargetEffect::Disable, None | Some(false))
        | (TargetEffect::Revoke | TargetEffect::Remove, None)
        | (TargetEffect::Restore | TargetEffect::Install, Some(true)) => Ok(Observed::Applied),
        (TargetEffect::Restore | TargetEffect::Install, None) => foreign(format!("key {wanted} was deleted")),
        (TargetEffect::Revoke, Some(true)) if reversible && !context.emergency => {
            foreign(format!("key {wanted} was made active again after this rotation had disabled it"))
        }
        (TargetEffect::Disable, Some(true))
        | (TargetEffect::Revoke | TargetEffect::Remove, Some(_))
        | (TargetEffect::Restore | TargetEffect::Install, Some(false)) => Ok(Observed::Absent),
    }
}

/// What is to be removed where the rotation recorded no id: a key whose answer was lost.
///
/// # Errors
/// A passing fault of the search.
pub(super) fn look_for_lost(found: Result<Option<String>, Fault>) -> Result<Observed, Fault> {
    match found {
        Ok(None) => Ok(Observed::Applied),
        Ok(Some(_)) => Ok(Observed::Absent),
        Err(Fault::Invalid { message }) => Ok(Observed::Foreign { detail: message }),
        Err(fault) => Err(fault),
    }
}
