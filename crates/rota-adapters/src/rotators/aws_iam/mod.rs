//! The access key of an IAM user. A user has at most two: the one in use, and beside it
//! the new one, so before a rotation there is exactly one.
//!
//! A key is made by IAM and its secret shown once. What an answer that was lost has left
//! behind is found by difference: a key that is neither the old one nor recorded. It is
//! ours only where the user is declared to be Rota's alone, it was made since the rotation
//! began, and it was never used; anything else is for a person. What is changed or deleted
//! is always one exact id that the rotation knows.
//!
//! Deliberately absent: users, policies and roles. A role is better than a key where the
//! platform has one.

mod parts;
mod settings;
mod smtp;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::format::RandomSource;
use rota_core::policy::kinds::{KindSpec, Port};
use rota_core::policy::model::SecretPolicy;
use rota_core::rotation::Source;
use rota_core::value::Bundle;
use rota_engine::ports::{
    Created, Fence, Idleness, Observed, Proof, Rotator, RotatorTraits, TargetContext, TargetEffect, Which,
};

use crate::aws::AwsEnvironment;
use crate::catalog::RotatorKind;
use crate::environment::AdapterEnvironment;
use crate::iam::{Caller, Key, Keys, caller};
use crate::settings::read;
use parts::AccessKey;
pub use settings::IamKeySettings;

/// The name of the kind.
pub const NAME: &str = "aws-iam-access-key";
/// The name of its table.
const TABLE: &str = "iam";

/// The kind as policies see it.
pub const KIND: RotatorKind = RotatorKind {
    spec: KindSpec::new(Port::Rotator, NAME, "the access key of an IAM user")
        .table::<IamKeySettings>(TABLE)
        .lint(settings::lint)
        .facts(settings::facts),
    build: |policy, environment| Ok(Arc::new(IamKeyRotator::new(policy, environment)?)),
};

/// How far IAM's clock may be from the journal's.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(5);

/// The keys of one user.
pub struct IamKeyRotator {
    settings: IamKeySettings,
    aws: AwsEnvironment,
}

/// What a rotation knows of the user's keys.
struct Known {
    old: Option<AccessKey>,
    /// The candidate, or one whose value was lost, by its recorded id.
    new: Option<String>,
}

impl Known {
    fn of(context: &TargetContext) -> Result<Self, Fault> {
        let new = context.new.as_ref().map(AccessKey::of).transpose()?.map(|key| key.id);
        Ok(Self {
            old: context.old.as_ref().map(AccessKey::of).transpose()?,
            new: new.or_else(|| context.new_identity.clone()),
        })
    }

    fn old(&self) -> Result<&AccessKey, Fault> {
        self.old.as_ref().ok_or_else(|| Fault::invalid("there is no old key"))
    }

    /// Keys that are neither the old one nor recorded.
    fn strangers<'k>(&self, keys: &'k [Key]) -> Vec<&'k Key> {
        let known = [self.old.as_ref().map(|old| old.id.as_str()), self.new.as_deref()];
        keys.iter().filter(|key| !known.contains(&Some(key.id.as_str()))).collect()
    }
}

impl IamKeyRotator {
    /// Makes no call.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the settings do not fit.
    pub fn new(policy: &SecretPolicy, environment: &AdapterEnvironment) -> Result<Self, Fault> {
        Ok(Self { settings: read(NAME, &policy.settings)?, aws: environment.aws.clone() })
    }

    async fn keys(&self) -> Keys {
        self.settings.owner().keys(&self.aws).await
    }

    /// A key that somebody else has made, and what to do about it.
    fn foreign(&self, key: &Key) -> String {
        let (user, id) = (&self.settings.user, &key.id);
        format!(
            "IAM user `{user}` has key {id}, which is not Rota's; see who uses it, and run \
             `aws iam delete-access-key --user-name {user} --access-key-id {id}` where nobody does"
        )
    }

    /// The key that an answer which was lost has left behind, by difference.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where it may be somebody else's.
    async fn lost(
        &self,
        keys: &Keys,
        known: &Known,
        context: &TargetContext,
    ) -> Result<Option<String>, Fault> {
        let listed = keys.list().await?;
        let Some(stranger) = known.strangers(&listed).first().copied() else { return Ok(None) };
        self.must_be_ours(keys, stranger, context).await?;
        Ok(Some(stranger.id.clone()))
    }

    /// Whether a stranger is what an answer that was lost has left behind.
    async fn must_be_ours(&self, keys: &Keys, key: &Key, context: &TargetContext) -> Result<(), Fault> {
        let foreign = |why: &str| Err(Fault::invalid(format!("{}: {why}", self.foreign(key))));
        if !self.settings.exclusive {
            return foreign("others may make keys for this user (`exclusive = true` says that nobody does)");
        }
        if began(context).is_none_or(|began| key.created < began - CLOCKS_APART) {
            return foreign("it was made before this rotation began");
        }
        match keys.last_used(&key.id).await? {
            Some(_) => foreign("it was used"),
            None => Ok(()),
        }
    }

    fn look(
        &self,
        effect: TargetEffect,
        known: &Known,
        keys: &[Key],
        emergency: bool,
    ) -> Result<Observed, Fault> {
        let foreign = |detail: String| Ok(Observed::Foreign { detail });
        if let (false, Some(stranger)) = (emergency, known.strangers(keys).first()) {
            return foreign(self.foreign(stranger));
        }
        let wanted = match (effect, &known.new) {
            (TargetEffect::Install | TargetEffect::Remove, Some(new)) => new.as_str(),
            (TargetEffect::Remove, None) => return Ok(Observed::Applied),
            (TargetEffect::Install, None) => return Ok(Observed::Absent),
            (TargetEffect::Disable | TargetEffect::Revoke | TargetEffect::Restore, _) => {
                known.old()?.id.as_str()
            }
        };
        let key = keys.iter().find(|key| key.id == wanted);
        let active = key.map(|key| key.active);
        match (effect, active) {
            (TargetEffect::Disable, None | Some(false))
            | (TargetEffect::Revoke | TargetEffect::Remove, None)
            | (TargetEffect::Restore | TargetEffect::Install, Some(true)) => Ok(Observed::Applied),
            (TargetEffect::Restore | TargetEffect::Install, None) => {
                foreign(format!("key {wanted} was deleted"))
            }
            (TargetEffect::Revoke, Some(true)) if !emergency => {
                foreign(format!("key {wanted} was made active again after this rotation had disabled it"))
            }
            (TargetEffect::Disable, Some(true))
            | (TargetEffect::Revoke | TargetEffect::Remove, Some(_))
            | (TargetEffect::Restore | TargetEffect::Install, Some(false)) => Ok(Observed::Absent),
        }
    }
}

/// When the rotation began: its id holds the time (RFC 9562, version 7).
fn began(context: &TargetContext) -> Option<Timestamp> {
    let (seconds, _) = context.rotation.0.get_timestamp()?.to_unix();
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}

#[async_trait]
impl Rotator for IamKeyRotator {
    fn traits(&self) -> RotatorTraits {
        RotatorTraits {
            source: Source::Created,
            target: true,
            reversible: true,
            overlaps: true,
            confirmed_by_person: false,
            fenced: false,
        }
    }

    fn target_identities(&self, _: &SecretPolicy) -> Vec<String> {
        vec![self.settings.target()]
    }

    fn parts_of(&self, fields: &Bundle, policy: &SecretPolicy) -> Result<Bundle, Fault> {
        parts::parts_of(fields, policy, self.settings.smtp_region.as_deref())
    }

    fn generate(&self, _: &TargetContext, _: &mut dyn RandomSource) -> Result<Bundle, Fault> {
        Err(Fault::invalid("access keys are made by IAM"))
    }

    fn identity_of(&self, parts: &Bundle) -> Option<String> {
        AccessKey::of(parts).ok().map(|key| key.id)
    }

    async fn preflight(&self, context: &TargetContext) -> Result<(), Fault> {
        let (keys, known) = (self.keys().await.list().await?, Known::of(context)?);
        if let Some(stranger) = known.strangers(&keys).first() {
            return Err(Fault::invalid(format!(
                "{}; a user has at most two keys, and a new one needs room",
                self.foreign(stranger)
            )));
        }
        let Some(old) = &known.old else { return Ok(()) };
        let user = &self.settings.user;
        match keys.iter().find(|key| key.id == old.id) {
            None => Err(Fault::invalid(format!(
                "the published key {} is not a key of IAM user `{user}`; publish the one that is, or correct `user`",
                old.id
            ))),
            Some(key) if !key.active && !context.emergency => Err(Fault::invalid(format!(
                "the published key {} is inactive; make it active, or publish the one that consumers use",
                old.id
            ))),
            Some(_) => Ok(()),
        }
    }

    async fn create(&self, context: &TargetContext, _: Fence) -> Result<Created, Fault> {
        let keys = self.keys().await;
        // Between the look before and this call somebody may have made one.
        if let Some(stranger) = Known::of(context)?.strangers(&keys.list().await?).first() {
            return Err(Fault::invalid(self.foreign(stranger)));
        }
        let (identity, secret) = keys.create().await?;
        let parts = parts::bundle(identity.clone(), secret, self.settings.smtp_region.as_deref())?;
        Ok(Created { parts, identity })
    }

    /// By difference: a key that is neither the old one nor recorded.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where it may be somebody else's.
    async fn find_created(&self, context: &TargetContext) -> Result<Option<String>, Fault> {
        self.lost(&self.keys().await, &Known::of(context)?, context).await
    }

    async fn observe(&self, effect: TargetEffect, context: &TargetContext) -> Result<Observed, Fault> {
        let (keys, known) = (self.keys().await, Known::of(context)?);
        if effect == TargetEffect::Remove && known.new.is_none() {
            return match self.lost(&keys, &known, context).await {
                Ok(None) => Ok(Observed::Applied),
                Ok(Some(_)) => Ok(Observed::Absent),
                Err(Fault::Invalid { message }) => Ok(Observed::Foreign { detail: message }),
                Err(fault) => Err(fault),
            };
        }
        self.look(effect, &known, &keys.list().await?, context.emergency)
    }

    /// Inactive before it is deleted: whoever still uses it is refused in a way that a
    /// person could take back.
    async fn apply(&self, effect: TargetEffect, context: &TargetContext, _: Fence) -> Result<(), Fault> {
        let (keys, known) = (self.keys().await, Known::of(context)?);
        match effect {
            TargetEffect::Install => Err(Fault::invalid("access keys are made by IAM")),
            TargetEffect::Disable => keys.set_active(&known.old()?.id, false).await,
            TargetEffect::Restore => keys.set_active(&known.old()?.id, true).await,
            TargetEffect::Revoke => end(&keys, &known.old()?.id).await,
            TargetEffect::Remove => match &known.new {
                Some(id) => end(&keys, id).await,
                None => match self.lost(&keys, &known, context).await? {
                    Some(id) => end(&keys, &id).await,
                    None => Ok(()),
                },
            },
        }
    }

    /// Asks STS who it is. A key of seconds ago may not be known there yet.
    async fn prove(&self, which: Which, context: &TargetContext) -> Result<Proof, Fault> {
        let value = match which {
            Which::Old => &context.old,
            Which::New => &context.new,
        };
        let value = value.as_ref().ok_or_else(|| Fault::invalid("there is no such value"))?;
        let key = AccessKey::of(value)?;
        let listed = self.keys().await.list().await?;
        let state = listed.iter().find(|listed| listed.id == key.id);
        let refused = |detail: String| Ok(Proof::Refused { detail });
        match (state, &key.secret) {
            (Some(listed), _) if !listed.active => refused(format!("key {} is inactive", key.id)),
            // The derived password is all that is published; IAM's own list stands in.
            (Some(_), None) => Ok(Proof::Accepted),
            (None, None) => refused(format!("key {} is deleted", key.id)),
            (Some(_) | None, Some(secret)) => {
                let user = format!("user/{}", self.settings.user);
                match caller(&self.aws, self.settings.region.as_deref(), &key.id, secret).await? {
                    Caller::Refused => refused(format!("STS refuses key {}", key.id)),
                    Caller::Is(arn)
                        if arn.ends_with(&user) || arn.ends_with(&user.replacen("user/", "/", 1)) =>
                    {
                        Ok(Proof::Accepted)
                    }
                    Caller::Is(_) => refused(format!("key {} is another user's", key.id)),
                }
            }
        }
    }

    /// Uses the new key and compares the last uses that IAM shows, both by its own clock:
    /// the old one must be `quiet` behind. A use is shown late, which only delays.
    async fn idleness(&self, context: &TargetContext) -> Result<Idleness, Fault> {
        let known = Known::of(context)?;
        let (keys, old) = (self.keys().await, &known.old()?.id);
        let Some(last) = keys.last_used(old).await? else { return Ok(Idleness::Idle) };
        if let Some(AccessKey { id, secret: Some(secret) }) =
            context.new.as_ref().map(AccessKey::of).transpose()?
        {
            caller(&self.aws, self.settings.region.as_deref(), &id, &secret).await?;
        }
        let new = known.new.as_ref().ok_or_else(|| Fault::invalid("there is no new key"))?;
        let behind = keys.last_used(new).await?.map(|at| at.duration_since(last));
        let quiet = self.settings.quiet();
        Ok(match behind {
            Some(behind) if behind >= quiet => Idleness::Idle,
            Some(_) | None => Idleness::Busy {
                detail: format!(
                    "key {old} was used at {last}, and IAM shows no use of {new} at least {quiet:#} after that yet"
                ),
            },
        })
    }
}

async fn end(keys: &Keys, id: &str) -> Result<(), Fault> {
    if keys.list().await?.iter().any(|key| key.id == id && key.active) {
        keys.set_active(id, false).await?;
    }
    keys.delete(id).await
}
