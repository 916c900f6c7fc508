//! Users of Redis: one that accepts two passwords meanwhile, two that take turns, or the
//! server's own password (`requirepass`, which is that of the user `default`).
//!
//! A password never reaches a server but in AUTH: what is set is its SHA-256. Users are
//! per node, so every node is changed, saved and proven, each in one transaction behind a
//! fence key, so that a late effect does nothing.
//!
//! Deliberately absent: Redis Cluster, Sentinel, and services that keep users outside the
//! server (ElastiCache, MemoryDB).

mod fence;
mod preflight;
mod settings;
mod target;
mod two_passwords;
mod two_users;

use std::sync::Arc;

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::format::{Format, PasswordSet, RandomSource};
use rota_core::policy::kinds::{KindSpec, Port};
use rota_core::policy::model::SecretPolicy;
use rota_core::rotation::Source;
use rota_core::value::Bundle;
use rota_engine::ports::{
    Fence, Idleness, Observed, Proof, Rotator, RotatorTraits, TargetContext, TargetEffect, Which,
};

use crate::catalog::RotatorKind;
use crate::environment::AdapterEnvironment;
use crate::http::Trust;
use crate::login::{self, Login};
use crate::redis_nodes::LoginOutcome;
use crate::rotators::turns::idle_of;
use crate::settings::read;
pub use settings::{Mode, RedisSettings};
use target::Target;

/// The name of the kind.
pub const NAME: &str = "redis-acl";
/// The name of its table.
const TABLE: &str = "redis";

/// The kind as policies see it.
pub const KIND: RotatorKind = RotatorKind {
    spec: KindSpec::new(Port::Rotator, NAME, "a user of Redis, or its requirepass")
        .table::<RedisSettings>(TABLE)
        .lint(settings::lint)
        .facts(settings::facts),
    build: |policy, environment| Ok(Arc::new(RedisRotator::new(policy, environment)?)),
};

/// Letters and digits stand in every URL, shell and file as they are; 48 of them have 285
/// bits, so that a hash that is seen tells nothing.
const DEFAULT_FORMAT: Format = Format::Password { chars: 48, set: PasswordSet::Alnum };

/// The users of one secret.
pub struct RedisRotator {
    settings: RedisSettings,
    admin: Option<String>,
    trust: Trust,
}

impl RedisRotator {
    /// Makes no call.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the settings do not fit.
    pub fn new(policy: &SecretPolicy, environment: &AdapterEnvironment) -> Result<Self, Fault> {
        let settings: RedisSettings = read(NAME, &policy.settings)?;
        let admin = settings.admin.as_ref().map(ToString::to_string);
        Ok(Self { admin, settings, trust: environment.http.trust.clone() })
    }

    fn target<'a>(&'a self, context: &'a TargetContext) -> Result<Target<'a>, Fault> {
        Target::new(&self.settings, &self.trust, context)
    }

    /// The user of the next value.
    fn next_user(&self, context: &TargetContext) -> Result<String, Fault> {
        if let Some(user) = self.settings.usual() {
            return Ok(user.to_owned());
        }
        let live = context.old.as_ref().map(Login::of).transpose()?.map(|login| login.username);
        idle_of(self.settings.users.as_deref(), live.as_deref())
    }

    /// Why a value that every node accepts must not be published yet.
    async fn obstacle(&self, target: &Target<'_>) -> Result<Option<String>, Fault> {
        let mut all = target.everywhere().await?;
        if let Some(unlisted) = target.unlisted(&all) {
            return Ok(Some(unlisted));
        }
        let (Some(old), new, Mode::TwoUsers) = (&target.old, target.candidate()?, self.settings.mode) else {
            return Ok(None);
        };
        for at in &mut all {
            if let Some(differs) = two_users::differs(at, &old.username, &new.username).await? {
                return Ok(Some(differs));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Rotator for RedisRotator {
    fn traits(&self) -> RotatorTraits {
        RotatorTraits {
            source: Source::Generated,
            target: true,
            reversible: true,
            overlaps: true,
            confirmed_by_person: false,
            fenced: true,
        }
    }

    fn admin_reference(&self) -> Option<&str> {
        self.admin.as_deref()
    }

    fn target_identities(&self, _: &SecretPolicy) -> Vec<String> {
        settings::targets(&self.settings)
    }

    fn parts_of(&self, fields: &Bundle, policy: &SecretPolicy) -> Result<Bundle, Fault> {
        login::parts_of(fields, policy, &self.settings.constants(), self.settings.usual())
    }

    fn generate(&self, target: &TargetContext, random: &mut dyn RandomSource) -> Result<Bundle, Fault> {
        let format = target.policy.secret.format.as_ref().unwrap_or(&DEFAULT_FORMAT);
        let password = format.generate(random).map_err(|error| Fault::transient(error.to_string()))?;
        login::bundle(&self.settings.constants(), &Login { username: self.next_user(target)?, password })
    }

    fn identity_of(&self, parts: &Bundle) -> Option<String> {
        Login::of(parts).ok().map(|login| login.username)
    }

    async fn preflight(&self, context: &TargetContext) -> Result<(), Fault> {
        preflight::preflight(&self.target(context)?).await
    }

    async fn observe(&self, effect: TargetEffect, context: &TargetContext) -> Result<Observed, Fault> {
        let target = self.target(context)?;
        match self.settings.usual() {
            Some(user) => two_passwords::observe(&target, effect, user).await,
            None => two_users::observe(&target, effect).await,
        }
    }

    async fn apply(&self, effect: TargetEffect, context: &TargetContext, fence: Fence) -> Result<(), Fault> {
        let target = self.target(context)?;
        match self.settings.usual() {
            Some(user) => two_passwords::apply(&target, effect, user, fence).await,
            None => two_users::apply(&target, effect, fence).await,
        }
    }

    /// Logs in to every node as consumers do: a value is accepted where all of them take
    /// it, and refused where none does.
    async fn prove(&self, which: Which, context: &TargetContext) -> Result<Proof, Fault> {
        let target = self.target(context)?;
        let login = match which {
            Which::Old => target.replaced()?,
            Which::New => target.candidate()?,
        };
        for node in &target.nodes {
            match (node.log_in(&login.username, &login.password).await?, which) {
                (LoginOutcome::Accepted, Which::Old) => return Ok(Proof::Accepted),
                (LoginOutcome::Wrong, Which::New) => {
                    let detail = format!("{node} refuses the password of `{}`", login.username);
                    return Ok(Proof::Refused { detail });
                }
                (LoginOutcome::Accepted, Which::New) | (LoginOutcome::Wrong, Which::Old) => {}
            }
        }
        if which == Which::Old {
            let detail = format!("every node refuses the password of `{}`", login.username);
            return Ok(Proof::Refused { detail });
        }
        Ok(match self.obstacle(&target).await? {
            Some(detail) => Proof::Refused { detail },
            None => Proof::Accepted,
        })
    }

    async fn idleness(&self, context: &TargetContext) -> Result<Idleness, Fault> {
        let target = self.target(context)?;
        target.idleness(&target.replaced()?.username).await
    }
}
