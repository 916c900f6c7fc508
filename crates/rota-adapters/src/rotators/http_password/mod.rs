//! The password of an HTTP service that one call sets: there is no other beside it, so the
//! old one is refused at once, which the policy accepts (`accept_gap`).
//!
//! What stands on the service is found out by logging in with the old value or the new one,
//! never remembered. Each wrong login may count towards a lockout, so the value that is
//! likely to be right is tried first.
//!
//! Deliberately absent: sessions. Logging in opens one where the service works that way, and
//! it ends there by itself; those of others are not ended.

mod body;
mod call;
mod service;
mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_core::format::{Format, PasswordSet, RandomSource};
use rota_core::policy::kinds::{KindSpec, Port};
use rota_core::policy::model::SecretPolicy;
use rota_core::rotation::Source;
use rota_core::value::{Bundle, SecretValue};
use rota_engine::ports::{
    Fence, Idleness, Observed, Proof, Rotator, RotatorTraits, TargetContext, TargetEffect, Which,
};

use crate::catalog::RotatorKind;
use crate::environment::AdapterEnvironment;
use crate::login::{self, Login};
use crate::settings::read;
use call::Caller;
pub use call::{Auth, CallSettings, Verb};
use service::Service;
pub use settings::{FindSettings, HttpPasswordSettings};
pub(crate) use settings::{facts_of, user_problems};

/// The name of the kind.
pub const NAME: &str = "http-password";
/// The name of its table.
const TABLE: &str = "http";

/// The kind as policies see it.
pub const KIND: RotatorKind = RotatorKind {
    spec: KindSpec::new(Port::Rotator, NAME, "the password of an HTTP service that one call sets")
        .table::<HttpPasswordSettings>(TABLE)
        .lint(settings::lint)
        .facts(settings::facts),
    build: |policy, environment| {
        Ok(Arc::new(PasswordRotator::new(read(NAME, &policy.settings)?, environment)?))
    },
};

/// Letters and digits stand in every header, shell and file as they are; 40 of them have 238 bits.
const DEFAULT_FORMAT: Format = Format::Password { chars: 40, set: PasswordSet::Alnum };

/// How the administrator's login may be written.
const ADMIN_EXAMPLE: &str = "https://user:password@name";

/// The password of one user.
pub struct PasswordRotator {
    service: Service,
    admin: Option<String>,
    by_token: bool,
    target: String,
}

/// Which of a rotation's values the service takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Old,
    New,
    Neither,
}

/// Who sets the password.
enum Setter {
    Admin(Login),
    Token(SecretValue),
    /// The user itself, with the value that is accepted.
    Own,
}

impl PasswordRotator {
    /// Makes no call.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the settings do not fit.
    pub fn new(settings: HttpPasswordSettings, environment: &AdapterEnvironment) -> Result<Self, Fault> {
        Ok(Self {
            service: Service::new(&settings, environment.client.clone())?,
            admin: settings.admin.as_ref().map(ToString::to_string),
            by_token: settings.set.auth() == Auth::Bearer,
            target: settings.target(),
        })
    }

    fn setter(&self, context: &TargetContext) -> Result<Setter, Fault> {
        let Some(stored) = context.admin.as_ref().filter(|_| self.admin.is_some()) else {
            return match &self.admin {
                None => Ok(Setter::Own),
                Some(at) => Err(Fault::invalid(format!("the administrator's login at `{at}` was not read"))),
            };
        };
        if self.by_token {
            return Ok(Setter::Token(stored.duplicate()));
        }
        let admin = Login::of_admin(stored, ADMIN_EXAMPLE)?;
        if admin.username == self.service.user {
            return Err(Fault::invalid(format!(
                "the administrator `{}` cannot rotate itself; give Rota a login of its own as `admin`, or leave \
                 `admin` out",
                admin.username
            )));
        }
        Ok(Setter::Admin(admin))
    }

    /// Tries the rotation's values, the likelier one first.
    async fn standing(&self, likely: Which, values: &Values) -> Result<Standing, Fault> {
        let order = match likely {
            Which::Old => [Standing::Old, Standing::New],
            Which::New => [Standing::New, Standing::Old],
        };
        for standing in order {
            let value = if standing == Standing::Old { &values.old } else { &values.new };
            if let Some(value) = value
                && self.service.log_in(value).await?
            {
                return Ok(standing);
            }
        }
        Ok(Standing::Neither)
    }

    /// Neither value is accepted: somebody else's stands there, or nothing is for a while,
    /// which is waited for where the change is still to be made.
    fn neither(&self, effect: TargetEffect) -> Result<Observed, Fault> {
        let Service { shown, user, lockout, .. } = &self.service;
        let detail = format!("{shown} accepts neither the old nor the new password of `{user}`");
        match lockout {
            Some(lockout) if effect != TargetEffect::Revoke => Err(locked(&detail, *lockout)),
            Some(_) | None => Ok(Observed::Foreign { detail: format!("{detail}; see who set another one") }),
        }
    }

    /// The password goes from one value to the other.
    async fn change(
        &self,
        effect: TargetEffect,
        setter: &Setter,
        from: Option<&SecretValue>,
        to: &SecretValue,
    ) -> Result<(), Fault> {
        match setter {
            Setter::Admin(admin) => self.service.set(&Caller::Login(admin), from, to).await,
            Setter::Token(token) => self.service.set(&Caller::Token(token), from, to).await,
            Setter::Own => {
                let from = from.ok_or_else(no_old)?;
                if self.service.log_in(from).await? {
                    let own = Login { username: self.service.user.clone(), password: from.duplicate() };
                    return self.service.set(&Caller::Login(&own), Some(from), to).await;
                }
                if self.service.log_in(to).await? {
                    return Ok(());
                }
                Err(match self.neither(effect)? {
                    Observed::Foreign { detail } => Fault::conflict(detail),
                    Observed::Absent | Observed::Applied => Fault::conflict("the password is another one"),
                })
            }
        }
    }

    /// A service that lets anybody in proves nothing.
    async fn must_refuse_wrong_ones(&self, context: &TargetContext) -> Result<(), Fault> {
        let wrong = login::value(format!("not-the-password-{}", context.rotation.0.simple()))?;
        if self.service.log_in(&wrong).await? {
            return Err(Fault::invalid(format!(
                "{} takes any password for the call `login`; name a call that only the right one makes",
                self.service.shown
            )));
        }
        Ok(())
    }
}

/// The passwords of a rotation.
struct Values {
    old: Option<SecretValue>,
    new: Option<SecretValue>,
}

impl Values {
    fn of(context: &TargetContext) -> Result<Self, Fault> {
        let password = |parts: &Option<Bundle>| {
            parts.as_ref().map(|parts| Login::of(parts).map(|login| login.password)).transpose()
        };
        Ok(Self { old: password(&context.old)?, new: password(&context.new)? })
    }
}

fn no_old() -> Fault {
    Fault::invalid("no password is published; store the one that the user has now, and adopt the secret")
}

fn no_new() -> Fault {
    Fault::invalid("there is no new password")
}

fn irreversible() -> Fault {
    Fault::invalid("the only password cannot be disabled and enabled again")
}

/// Wrong logins make the service refuse the right password for a while, in the same words.
fn locked(detail: &str, lockout: SignedDuration) -> Fault {
    Fault::RateLimited {
        message: format!(
            "{detail}: somebody set another one, or it refuses every login for {lockout:#} after too many wrong \
             ones; see who logs in with an old password"
        ),
        retry_after: lockout,
    }
}

#[async_trait]
impl Rotator for PasswordRotator {
    fn traits(&self) -> RotatorTraits {
        RotatorTraits {
            source: Source::Generated,
            target: true,
            reversible: false,
            overlaps: false,
            confirmed_by_person: false,
            fenced: false,
        }
    }

    fn admin_reference(&self) -> Option<&str> {
        self.admin.as_deref()
    }

    fn target_identities(&self, _: &SecretPolicy) -> Vec<String> {
        vec![self.target.clone()]
    }

    fn parts_of(&self, fields: &Bundle, policy: &SecretPolicy) -> Result<Bundle, Fault> {
        login::parts_of(fields, policy, &[], Some(&self.service.user))
    }

    fn generate(&self, target: &TargetContext, random: &mut dyn RandomSource) -> Result<Bundle, Fault> {
        let format = target.policy.secret.format.as_ref().unwrap_or(&DEFAULT_FORMAT);
        let password = format.generate(random).map_err(|error| Fault::transient(error.to_string()))?;
        login::bundle(&[], &Login { username: self.service.user.clone(), password })
    }

    fn identity_of(&self, parts: &Bundle) -> Option<String> {
        Login::of(parts).ok().map(|login| login.username)
    }

    async fn preflight(&self, context: &TargetContext) -> Result<(), Fault> {
        let Service { shown, user, .. } = &self.service;
        let old = context.old.as_ref().map(Login::of).transpose()?.ok_or_else(no_old)?;
        if old.username != *user {
            return Err(Fault::invalid(format!(
                "consumers use `{}`, not `{user}`; correct `user`",
                old.username
            )));
        }
        match self.setter(context)? {
            Setter::Admin(admin) => self.service.find(&Caller::Login(&admin)).await?,
            Setter::Token(token) => self.service.find(&Caller::Token(&token)).await?,
            Setter::Own => None,
        };
        if context.emergency {
            return Ok(());
        }
        if !self.service.log_in(&old.password).await? {
            let detail = format!("{shown} refuses the published password of `{user}`");
            return Err(match self.service.lockout {
                None => Fault::invalid(format!("{detail}; publish the one that it accepts")),
                Some(lockout) => locked(&detail, lockout),
            });
        }
        self.must_refuse_wrong_ones(context).await
    }

    async fn observe(&self, effect: TargetEffect, context: &TargetContext) -> Result<Observed, Fault> {
        let values = Values::of(context)?;
        // With a login of its own, Rota can take any password over.
        let any = context.emergency && self.admin.is_some();
        match effect {
            TargetEffect::Install => match self.standing(Which::Old, &values).await? {
                Standing::New => Ok(Observed::Applied),
                Standing::Old => Ok(Observed::Absent),
                Standing::Neither if any => Ok(Observed::Absent),
                Standing::Neither => self.neither(effect),
            },
            TargetEffect::Remove if values.new.is_none() => Ok(Observed::Applied),
            TargetEffect::Remove => match self.standing(Which::New, &values).await? {
                Standing::New => Ok(Observed::Absent),
                Standing::Old => Ok(Observed::Applied),
                Standing::Neither if any => Ok(Observed::Absent),
                Standing::Neither => self.neither(effect),
            },
            // The old password went with the change.
            TargetEffect::Revoke => match self.standing(Which::New, &values).await? {
                Standing::New => Ok(Observed::Applied),
                Standing::Old => Ok(Observed::Foreign {
                    detail: format!("`{}` has its old password again", self.service.user),
                }),
                Standing::Neither => self.neither(effect),
            },
            TargetEffect::Disable | TargetEffect::Restore => Err(irreversible()),
        }
    }

    async fn apply(&self, effect: TargetEffect, context: &TargetContext, _: Fence) -> Result<(), Fault> {
        let Values { old, new } = Values::of(context)?;
        let setter = self.setter(context)?;
        match effect {
            TargetEffect::Install => {
                self.change(effect, &setter, old.as_ref(), &new.ok_or_else(no_new)?).await
            }
            TargetEffect::Remove => match new {
                None => Ok(()),
                Some(new) => self.change(effect, &setter, Some(&new), &old.ok_or_else(no_old)?).await,
            },
            TargetEffect::Revoke => Ok(()),
            TargetEffect::Disable | TargetEffect::Restore => Err(irreversible()),
        }
    }

    /// Logs in. While consumers still have the old password, their wrong logins may have the
    /// right one refused for a while: that is unknown, not a refusal.
    async fn prove(&self, which: Which, context: &TargetContext) -> Result<Proof, Fault> {
        let Values { old, new } = Values::of(context)?;
        let (value, name) = match which {
            Which::Old => (old.ok_or_else(no_old)?, "old"),
            Which::New => (new.ok_or_else(no_new)?, "new"),
        };
        if self.service.log_in(&value).await? {
            return Ok(Proof::Accepted);
        }
        let Service { shown, user, lockout, .. } = &self.service;
        let detail = format!("{shown} refuses the {name} password of `{user}`");
        match lockout {
            Some(lockout) if which == Which::New && context.since_promotion.is_none() => {
                Err(locked(&detail, *lockout))
            }
            Some(_) | None => Ok(Proof::Refused { detail }),
        }
    }

    /// Nobody can log in with a password that is not there any more.
    async fn idleness(&self, _: &TargetContext) -> Result<Idleness, Fault> {
        Ok(Idleness::Idle)
    }
}
