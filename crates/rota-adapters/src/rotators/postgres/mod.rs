//! Users of a Postgres database: two that take turns, a new one each time, or one whose
//! password changes.
//!
//! A password never reaches the server but in a login: what is set is a SCRAM-SHA-256
//! verifier that is computed here. Every change is one transaction behind a fence row in
//! the target, so that a late one does nothing. What stands on the target is found out by
//! logging in with the value, never remembered.
//!
//! Deliberately absent: superusers, md5, certificates, and rights that the
//! administrator does not have.

pub(crate) mod fault;
mod fence;
mod new_user;
mod one_user;
mod privileges;
mod roles;
pub(crate) mod server;
mod sessions;
pub(crate) mod settings;
mod target;
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
use crate::rotators::turns;
use crate::settings::read;
use server::LoginOutcome;
pub use settings::{Mode, PostgresSettings};
use target::Target;

/// The name of the kind and of its table.
pub const NAME: &str = "postgres";

/// The kind as policies see it.
pub const KIND: RotatorKind = RotatorKind {
    spec: KindSpec::new(Port::Rotator, NAME, "a user of a Postgres database")
        .table::<PostgresSettings>(NAME)
        .lint(settings::lint)
        .facts(settings::facts),
    build: |policy, environment| Ok(Arc::new(PostgresRotator::new(policy, environment)?)),
};

/// Letters and digits stand in every URL, shell and file as they are; 40 of them have 238 bits.
const DEFAULT_FORMAT: Format = Format::Password { chars: 40, set: PasswordSet::Alnum };

/// The users of one secret.
pub struct PostgresRotator {
    settings: PostgresSettings,
    admin: String,
    trust: Trust,
}

impl PostgresRotator {
    /// Makes no call.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the settings do not fit.
    pub fn new(policy: &SecretPolicy, environment: &AdapterEnvironment) -> Result<Self, Fault> {
        let settings: PostgresSettings = read(NAME, &policy.settings)?;
        Ok(Self { admin: settings.admin.to_string(), settings, trust: environment.http.trust.clone() })
    }

    fn target<'a>(&'a self, context: &'a TargetContext) -> Result<Target<'a>, Fault> {
        Target::new(&self.settings, &self.trust, context)
    }

    /// The user of the next value: the idle one of two, one named by the rotation, or the only one.
    fn next_user(&self, context: &TargetContext) -> Result<String, Fault> {
        match self.settings.mode {
            Mode::TwoUsers => {
                let live = context.old.as_ref().map(Login::of).transpose()?.map(|login| login.username);
                turns::idle_of(self.settings.users.as_deref(), live.as_deref())
            }
            Mode::NewUser => new_user::name(&self.settings, context.rotation),
            Mode::OneUser => one_user::name(&self.settings).map(str::to_owned),
        }
    }
}

#[async_trait]
impl Rotator for PostgresRotator {
    fn traits(&self) -> RotatorTraits {
        let overlaps = self.settings.mode != Mode::OneUser;
        RotatorTraits {
            source: Source::Generated,
            target: true,
            reversible: overlaps,
            overlaps,
            confirmed_by_person: false,
            fenced: true,
        }
    }

    fn admin_reference(&self) -> Option<&str> {
        Some(&self.admin)
    }

    fn target_identities(&self, _: &SecretPolicy) -> Vec<String> {
        settings::targets(&self.settings)
    }

    fn parts_of(&self, fields: &Bundle, policy: &SecretPolicy) -> Result<Bundle, Fault> {
        let usual = self.settings.user.as_deref().filter(|_| self.settings.mode == Mode::OneUser);
        login::parts_of(fields, policy, &self.settings.constants(), usual)
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
        let target = self.target(context)?;
        let mut admin = target.connect().await?;
        fence::must_take_writes(&mut admin).await?;
        fence::must_be_writable(&mut admin).await?;
        match self.settings.mode {
            Mode::TwoUsers => two_users::preflight(&target, &mut admin).await,
            Mode::NewUser => new_user::preflight(&target, &mut admin).await,
            Mode::OneUser => one_user::preflight(&target, &mut admin).await,
        }
    }

    async fn observe(&self, effect: TargetEffect, context: &TargetContext) -> Result<Observed, Fault> {
        let target = self.target(context)?;
        let mut admin = target.connect().await?;
        match self.settings.mode {
            Mode::TwoUsers => two_users::observe(&target, &mut admin, effect).await,
            Mode::NewUser => new_user::observe(&target, &mut admin, effect).await,
            Mode::OneUser => one_user::observe(&target, &mut admin, effect).await,
        }
    }

    async fn apply(&self, effect: TargetEffect, context: &TargetContext, fence: Fence) -> Result<(), Fault> {
        let target = self.target(context)?;
        let mut admin = target.connect().await?;
        match self.settings.mode {
            Mode::TwoUsers => two_users::apply(&target, &mut admin, effect, fence).await,
            Mode::NewUser => new_user::apply(&target, &mut admin, effect, fence).await,
            Mode::OneUser => one_user::apply(&target, &mut admin, effect, fence).await,
        }
    }

    async fn last_fence(&self, context: &TargetContext) -> Result<Option<Fence>, Fault> {
        let target = self.target(context)?;
        target.last_fence(&mut target.connect().await?).await
    }

    /// Logs in as consumers do. A new user must also be able to do whatever the old one can.
    async fn prove(&self, which: Which, context: &TargetContext) -> Result<Proof, Fault> {
        let target = self.target(context)?;
        let login = match which {
            Which::Old => target.replaced()?,
            Which::New => target.candidate()?,
        };
        let refused = |detail: String| Ok(Proof::Refused { detail });
        match (target.server.log_in(login, &self.settings.database).await?, which) {
            (LoginOutcome::Accepted, _) => {}
            // The password still opens other databases.
            (LoginOutcome::NoDatabase, Which::Old) => return Ok(Proof::Accepted),
            (LoginOutcome::NoDatabase, Which::New) => {
                let database = &self.settings.database;
                return refused(format!("`{}` may not CONNECT to database `{database}`", login.username));
            }
            (LoginOutcome::NotPermitted, _) => return refused(format!("`{}` is NOLOGIN", login.username)),
            (LoginOutcome::Wrong, _) => {
                return refused(format!("the server refuses the password of `{}`", login.username));
            }
        }
        if which == Which::New
            && let Some(lacks) = self.lacks(&target).await?
        {
            return refused(format!("`{}` lacks {lacks}", login.username));
        }
        Ok(Proof::Accepted)
    }

    async fn idleness(&self, context: &TargetContext) -> Result<Idleness, Fault> {
        let target = self.target(context)?;
        let opened_before = match self.settings.mode {
            Mode::TwoUsers | Mode::NewUser => None,
            Mode::OneUser => Some(one_user::changed_at(&target).await?),
        };
        target.idleness(&target.replaced()?.username, opened_before).await
    }
}

impl PostgresRotator {
    /// What the new user cannot do and the old one can; `None` where that is nothing.
    async fn lacks(&self, target: &Target<'_>) -> Result<Option<String>, Fault> {
        let (Some(old), new) = (&target.old, target.candidate()?) else { return Ok(None) };
        match self.settings.mode {
            Mode::TwoUsers => two_users::lacks(target, &old.username, &new.username).await,
            Mode::NewUser => new_user::lacks(target, &old.username, &new.username).await,
            Mode::OneUser => Ok(None),
        }
    }
}
