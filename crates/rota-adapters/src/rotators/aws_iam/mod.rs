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
use rota_core::fault::Fault;
use rota_core::format::RandomSource;
use rota_core::policy::kinds::{KindSpec, Port};
use rota_core::policy::model::SecretPolicy;
use rota_core::rotation::Source;
use rota_core::value::Bundle;
use rota_engine::ports::{
    Created, Fence, Idleness, Observed, Proof, Rotator, RotatorTraits, TargetContext, TargetEffect, Which,
};

use super::created::{self, Ids, is_since_the_start};
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

/// The keys of one user.
pub struct IamKeyRotator {
    settings: IamKeySettings,
    aws: AwsEnvironment,
}

/// What a rotation knows of the user's keys.
fn known(context: &TargetContext) -> Result<Ids, Fault> {
    let id = |value: &Option<Bundle>| -> Result<Option<String>, Fault> {
        Ok(value.as_ref().map(AccessKey::of).transpose()?.map(|key| key.id))
    };
    let new = id(&context.new)?.or_else(|| context.new_identity.clone());
    Ok(Ids { old: id(&context.old)?, new })
}

/// Keys that are neither the old one nor recorded.
fn strangers<'k>(known: &Ids, keys: &'k [Key]) -> Vec<&'k Key> {
    keys.iter().filter(|key| !known.has(&key.id)).collect()
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
    async fn lost(&self, keys: &Keys, known: &Ids, context: &TargetContext) -> Result<Option<String>, Fault> {
        let listed = keys.list().await?;
        let Some(stranger) = strangers(known, &listed).first().copied() else { return Ok(None) };
        self.must_be_ours(keys, stranger, context).await?;
        Ok(Some(stranger.id.clone()))
    }

    /// Whether a stranger is what an answer that was lost has left behind.
    async fn must_be_ours(&self, keys: &Keys, key: &Key, context: &TargetContext) -> Result<(), Fault> {
        let foreign = |why: &str| Err(Fault::invalid(format!("{}: {why}", self.foreign(key))));
        if !self.settings.exclusive {
            return foreign("others may make keys for this user (`exclusive = true` says that nobody does)");
        }
        if !is_since_the_start(key.created, context) {
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
        known: &Ids,
        keys: &[Key],
        context: &TargetContext,
    ) -> Result<Observed, Fault> {
        if let (false, Some(stranger)) = (context.emergency, strangers(known, keys).first()) {
            return Ok(Observed::Foreign { detail: self.foreign(stranger) });
        }
        let active = |id: &str| keys.iter().find(|key| key.id == id).map(|key| key.active);
        created::look(effect, known, active, context, true)
    }
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
        let (keys, known) = (self.keys().await.list().await?, known(context)?);
        if let Some(stranger) = strangers(&known, &keys).first() {
            return Err(Fault::invalid(format!(
                "{}; a user has at most two keys, and a new one needs room",
                self.foreign(stranger)
            )));
        }
        let Some(old) = &known.old else { return Ok(()) };
        let user = &self.settings.user;
        match keys.iter().find(|key| key.id == *old) {
            None => Err(Fault::invalid(format!(
                "the published key {old} is not a key of IAM user `{user}`; publish the one that is, or correct `user`"
            ))),
            Some(key) if !key.active && !context.emergency => Err(Fault::invalid(format!(
                "the published key {old} is inactive; make it active, or publish the one that consumers use"
            ))),
            Some(_) => Ok(()),
        }
    }

    async fn create(&self, context: &TargetContext, _: Fence) -> Result<Created, Fault> {
        let keys = self.keys().await;
        // Between the look before and this call somebody may have made one.
        if let Some(stranger) = strangers(&known(context)?, &keys.list().await?).first() {
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
        self.lost(&self.keys().await, &known(context)?, context).await
    }

    async fn observe(&self, effect: TargetEffect, context: &TargetContext) -> Result<Observed, Fault> {
        let (keys, known) = (self.keys().await, known(context)?);
        if effect == TargetEffect::Remove && known.new.is_none() {
            return created::look_for_lost(self.lost(&keys, &known, context).await);
        }
        self.look(effect, &known, &keys.list().await?, context)
    }

    /// Inactive before it is deleted: whoever still uses it is refused in a way that a
    /// person could take back.
    async fn apply(&self, effect: TargetEffect, context: &TargetContext, _: Fence) -> Result<(), Fault> {
        let (keys, known) = (self.keys().await, known(context)?);
        match effect {
            TargetEffect::Install => Err(Fault::invalid("access keys are made by IAM")),
            TargetEffect::Disable => keys.set_active(known.old()?, false).await,
            TargetEffect::Restore => keys.set_active(known.old()?, true).await,
            TargetEffect::Revoke => end(&keys, known.old()?).await,
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
        let known = known(context)?;
        let (keys, old) = (self.keys().await, known.old()?);
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
