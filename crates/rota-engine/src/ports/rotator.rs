use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_core::format::RandomSource;
use rota_core::id::{EffectNo, Epoch, Incarnation, RotationId};
use rota_core::policy::model::{PolicyEntry, SecretPolicy};
use rota_core::rotation::Source;
use rota_core::value::{Bundle, SecretValue};

/// What a kind of credential can do; decides which steps a rotation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotatorTraits {
    pub source: Source,
    /// A system accepts or refuses the credential.
    pub target: bool,
    /// The target can refuse a value in a way that can be taken back.
    pub reversible: bool,
    /// The target accepts old and new at the same time.
    pub overlaps: bool,
    /// Revoking is done by a person.
    pub confirmed_by_person: bool,
    /// The target refuses an effect whose fence is not greater than the last one, so
    /// that a late one does no harm.
    pub fenced: bool,
}

/// One of the two values of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Old,
    New,
}

/// A change of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetEffect {
    /// The target accepts the new value beside the old one.
    Install,
    /// The target refuses the old value; [`TargetEffect::Restore`] takes it back.
    Disable,
    /// The target refuses the old value for good, and sessions that it opened end.
    Revoke,
    /// The target accepts the old value again.
    Restore,
    /// The target refuses the new value for good.
    Remove,
}

/// Orders effects on one target; compared from left to right. A target that can
/// hold a fence refuses an effect that is not greater than the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence {
    pub incarnation: Incarnation,
    pub epoch: Epoch,
    pub effect: EffectNo,
}

/// What the target shows of an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    Absent,
    Applied,
    /// Someone else's value stands there.
    Foreign {
        detail: String,
    },
}

/// Whether the target accepts a value. Unreachable is a fault, never a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    Accepted,
    Refused {
        detail: String,
    },
    /// Only consumers can tell.
    NotProvable,
}

/// Whether anybody still uses the old value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Idleness {
    Idle,
    Busy { detail: String },
}

/// A credential that the target made and shows once.
pub struct Created {
    pub parts: Bundle,
    pub identity: String,
}

/// Everything that an effect on the target may need.
pub struct TargetContext {
    pub rotation: RotationId,
    pub policy: Arc<PolicyEntry>,
    /// The parts of each value (user name, password, ...), where they exist.
    pub old: Option<Bundle>,
    pub new: Option<Bundle>,
    /// The target's own name of each credential, as recorded.
    pub old_identity: Option<String>,
    pub new_identity: Option<String>,
    /// The administrator's credential, read from the store for this call.
    pub admin: Option<SecretValue>,
    /// How long ago the new value was published, by the journal's clock: what was opened
    /// before that was opened with the old one. `None` before it is.
    pub since_promotion: Option<SignedDuration>,
    /// Something leaked: sessions end, and an idle credential that can be used is not a reason to stop.
    pub emergency: bool,
    /// An effect that this one takes back may still land late: write even where nothing changes.
    pub predecessor_unknown: bool,
}

/// How a new credential comes to exist on a target and how the old one ceases to.
///
/// Implementations hold no state between calls. Every effect is observed before it
/// is applied and may be applied again after an unknown outcome.
#[async_trait]
pub trait Rotator: Send + Sync {
    fn traits(&self) -> RotatorTraits;

    /// Where the administrator's credential is kept (`store:path` or `store:path#field`).
    fn admin_reference(&self) -> Option<&str> {
        None
    }

    /// What no other secret may rotate at the same time: each server and role, a key's
    /// owner. Empty without a target.
    fn target_identities(&self, policy: &SecretPolicy) -> Vec<String> {
        let _ = policy;
        Vec::new()
    }

    /// Splits what consumers read into the parts that this kind works with; the
    /// inverse of the field templates. For a plain value it is the value.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the published fields cannot be understood.
    fn parts_of(&self, fields: &Bundle, policy: &SecretPolicy) -> Result<Bundle, Fault>;

    /// Generates the parts of a new value. Not called for kinds whose values come
    /// from a person or from the target.
    ///
    /// # Errors
    /// [`Fault::Transient`] where the random source fails.
    fn generate(&self, target: &TargetContext, random: &mut dyn RandomSource) -> Result<Bundle, Fault>;

    /// The target's own name of the credential with these parts, where it has one.
    fn identity_of(&self, parts: &Bundle) -> Option<String>;

    /// Checks everything that would make the rotation fail later. Changes nothing.
    ///
    /// # Errors
    /// [`Fault::Denied`] or [`Fault::Invalid`] with what to change.
    async fn preflight(&self, target: &TargetContext) -> Result<(), Fault>;

    /// Makes the target create a credential. Called only for [`Source::Created`],
    /// after `find_created` found none.
    ///
    /// # Errors
    /// [`Fault::Invalid`] for kinds that create nothing.
    async fn create(&self, target: &TargetContext, fence: Fence) -> Result<Created, Fault> {
        let _ = (target, fence);
        Err(Fault::invalid("this kind's values are not created by the target"))
    }

    /// The identity of a credential that an earlier `create` of this rotation made,
    /// whose answer was lost.
    ///
    /// # Errors
    /// A passing fault where the target cannot be asked.
    async fn find_created(&self, target: &TargetContext) -> Result<Option<String>, Fault> {
        let _ = target;
        Ok(None)
    }

    /// What the target shows of `effect`.
    ///
    /// # Errors
    /// A passing fault where the target cannot be asked.
    async fn observe(&self, effect: TargetEffect, target: &TargetContext) -> Result<Observed, Fault>;

    /// Applies `effect`. Idempotent; a stale `fence` is refused where the target can.
    ///
    /// # Errors
    /// [`Fault::Conflict`] where a greater fence was there first.
    async fn apply(&self, effect: TargetEffect, target: &TargetContext, fence: Fence) -> Result<(), Fault>;

    /// What the last effect on the target was ordered by, where the target keeps it.
    ///
    /// # Errors
    /// A passing fault where the target cannot be asked.
    async fn last_fence(&self, target: &TargetContext) -> Result<Option<Fence>, Fault> {
        let _ = target;
        Ok(None)
    }

    /// Uses one of the values for real.
    ///
    /// # Errors
    /// A passing fault where the target cannot be reached: unknown is not refused.
    async fn prove(&self, which: Which, target: &TargetContext) -> Result<Proof, Fault>;

    /// Whether the old value is still in use.
    ///
    /// # Errors
    /// A fault where it cannot be read: unknown is not idle.
    async fn idleness(&self, target: &TargetContext) -> Result<Idleness, Fault>;
}
