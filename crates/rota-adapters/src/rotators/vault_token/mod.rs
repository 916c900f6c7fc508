//! Tokens of Vault that consumers use: each rotation makes one, and revokes the one before by
//! its accessor.
//!
//! A token is an orphan, so that it does not end with the login that made it. It carries the
//! rotation's id in its metadata: what an answer that was lost has left behind is found there.
//! The accessor is no secret, and is published beside the token: it names what is revoked.
//!
//! Deliberately absent: Rota's own token, batch tokens, and leases. Vault does not tell which
//! leases a token holds; they end with it.

mod settings;
mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::format::RandomSource;
use rota_core::policy::kinds::{KindSpec, Port};
use rota_core::policy::model::SecretPolicy;
use rota_core::rotation::Source;
use rota_core::value::{Bundle, SecretValue};
use rota_engine::ports::{
    Created, Fence, Idleness, Observed, Proof, Rotator, RotatorTraits, TargetContext, TargetEffect, Which,
};

use super::created::{self, Ids};
use crate::catalog::RotatorKind;
use crate::environment::AdapterEnvironment;
use crate::login::{field, read_fields, value};
use crate::settings::read;
pub use settings::VaultTokenSettings;
use settings::{ACCESSOR, TOKEN};
use tokens::{Known, LABEL, Made, ROTATION, Tokens};

/// The name of the kind.
pub const NAME: &str = "vault-token";
/// The name of its table.
const TABLE: &str = "vault";

/// The kind as policies see it.
pub const KIND: RotatorKind = RotatorKind {
    spec: KindSpec::new(Port::Rotator, NAME, "a token of Vault that consumers use")
        .table::<VaultTokenSettings>(TABLE)
        .lint(settings::lint)
        .facts(settings::facts),
    build: |policy, environment| Ok(Arc::new(VaultTokenRotator::new(policy, environment)?)),
};

/// The tokens of one secret.
pub struct VaultTokenRotator {
    settings: VaultTokenSettings,
    /// What its tokens are called in Vault.
    label: String,
    tokens: Tokens,
}

impl VaultTokenRotator {
    /// Makes no call.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the settings do not fit, or the daemon knows no Vault.
    pub fn new(policy: &SecretPolicy, environment: &AdapterEnvironment) -> Result<Self, Fault> {
        let connection = environment.vault.clone().ok_or_else(|| {
            Fault::invalid(format!(
                "`{}` is a token of Vault, and the daemon's configuration names none, set `vault.address`",
                policy.id
            ))
        })?;
        let settings: VaultTokenSettings = read(NAME, &policy.settings)?;
        Ok(Self {
            label: settings.label.clone().unwrap_or_else(|| policy.id.to_string()),
            settings,
            tokens: Tokens(connection),
        })
    }

    fn rotation(context: &TargetContext) -> String {
        context.rotation.0.to_string()
    }

    fn known(context: &TargetContext) -> Result<Ids, Fault> {
        let of = |parts: &Option<Bundle>| parts.as_ref().map(accessor_of).transpose();
        let new = of(&context.new)?.or_else(|| context.new_identity.clone());
        Ok(Ids { old: of(&context.old)?, new })
    }

    /// A token of this name that neither this rotation nor the one before made.
    fn stranger<'k>(&self, all: &'k [Known], known: &Ids, context: &TargetContext) -> Option<&'k Known> {
        let rotation = Self::rotation(context);
        all.iter().find(|token| {
            token.says(LABEL) == Some(&self.label)
                && !known.has(&token.accessor)
                && token.says(ROTATION) != Some(&rotation)
        })
    }

    fn foreign(&self, token: &Known) -> String {
        format!(
            "the token with accessor {} says that it is `{}`, and this rotation knows nothing of it; see who uses \
             it, and run `vault token revoke -accessor {}` where nobody does",
            token.accessor, self.label, token.accessor
        )
    }

    /// What an answer that was lost has left behind: it says that this rotation made it.
    fn lost(all: &[Known], known: &Ids, context: &TargetContext) -> Option<String> {
        let rotation = Self::rotation(context);
        let own = |token: &&Known| token.says(ROTATION) == Some(&rotation) && !known.has(&token.accessor);
        all.iter().find(own).map(|token| token.accessor.clone())
    }

    /// Why a token that was made must not be used.
    fn unfit(&self, made: &Made) -> Option<String> {
        if !made.orphan {
            let role = self.settings.role.as_deref().unwrap_or_default();
            return Some(format!(
                "the role `{role}` makes tokens that end with Rota's login; run \
                 `vault write auth/token/roles/{role} orphan=true`"
            ));
        }
        let wanted = self.settings.ttl.or(self.settings.period)?.0.as_secs();
        (made.seconds < wanted.unsigned_abs()).then(|| {
            format!(
                "Vault lets the token live for {} s, and the policy says {wanted} s; correct `ttl` or `period`, or \
                 the role's and the mount's limits",
                made.seconds
            )
        })
    }
}

fn accessor_of(parts: &Bundle) -> Result<String, Fault> {
    Ok(part(parts, ACCESSOR)?.expose().to_owned())
}

fn part<'a>(parts: &'a Bundle, name: &str) -> Result<&'a SecretValue, Fault> {
    let found = parts.iter().find(|(part, _)| part.as_str() == name).map(|(_, value)| value);
    found.ok_or_else(|| Fault::invalid(format!("the value has no {name}")))
}

fn bundle(token: SecretValue, accessor: SecretValue) -> Result<Bundle, Fault> {
    Ok(Bundle::new(BTreeMap::from([(field(TOKEN)?, token), (field(ACCESSOR)?, accessor)])))
}

/// Tokens that may have been made with `parent`: Vault does not tell whose children they are,
/// but they have no policies that their parent has not.
fn children<'k>(all: &'k [Known], parent: &Known) -> Vec<&'k Known> {
    let within = |policy: &String| policy == "default" || parent.policies.contains(policy);
    all.iter()
        .filter(|token| !token.orphan && token.path.starts_with("auth/token/create"))
        .filter(|token| token.accessor != parent.accessor && token.created >= parent.created)
        .filter(|token| token.policies.iter().all(within))
        .collect()
}

#[async_trait]
impl Rotator for VaultTokenRotator {
    fn traits(&self) -> RotatorTraits {
        RotatorTraits {
            source: Source::Created,
            target: true,
            reversible: false,
            overlaps: true,
            confirmed_by_person: false,
            fenced: false,
        }
    }

    fn target_identities(&self, _: &SecretPolicy) -> Vec<String> {
        vec![settings::target(&self.label)]
    }

    fn parts_of(&self, fields: &Bundle, policy: &SecretPolicy) -> Result<Bundle, Fault> {
        let mut found = read_fields(fields, policy, &BTreeMap::new())?;
        match (found.remove(TOKEN), found.remove(ACCESSOR)) {
            (Some(token), Some(accessor)) => bundle(token, accessor),
            _ => Err(Fault::invalid(
                "no published fields hold the token and its accessor (`vault token lookup` shows it); add `{token}` \
                 and `{accessor}` to templates",
            )),
        }
    }

    fn generate(&self, _: &TargetContext, _: &mut dyn RandomSource) -> Result<Bundle, Fault> {
        Err(Fault::invalid("tokens are made by Vault"))
    }

    fn identity_of(&self, parts: &Bundle) -> Option<String> {
        accessor_of(parts).ok()
    }

    async fn preflight(&self, context: &TargetContext) -> Result<(), Fault> {
        let (all, known) = (self.tokens.all().await?, Self::known(context)?);
        if let (false, Some(stranger)) = (context.emergency, self.stranger(&all, &known, context)) {
            return Err(Fault::invalid(self.foreign(stranger)));
        }
        let (Some(old), false) = (&context.old, context.emergency) else { return Ok(()) };
        let accessor = accessor_of(old)?;
        match self.tokens.look_up_self(part(old, TOKEN)?).await? {
            Some(told) if told.accessor == accessor => Ok(()),
            Some(_) => Err(Fault::invalid(format!(
                "the published token has another accessor than {accessor}; publish the two that belong together"
            ))),
            None => Err(Fault::invalid(format!(
                "{} refuses the published token; publish the one that consumers use, or create the secret anew",
                self.tokens.0.shown()
            ))),
        }
    }

    async fn create(&self, context: &TargetContext, _: Fence) -> Result<Created, Fault> {
        let made = self.tokens.create(&self.settings, &self.label, &Self::rotation(context)).await?;
        if let Some(why) = self.unfit(&made) {
            self.tokens.revoke(&made.accessor).await?;
            return Err(Fault::invalid(why));
        }
        let parts = bundle(made.token, value(made.accessor.clone())?)?;
        Ok(Created { parts, identity: made.accessor })
    }

    /// By its metadata, which hold the rotation's id.
    async fn find_created(&self, context: &TargetContext) -> Result<Option<String>, Fault> {
        Ok(Self::lost(&self.tokens.all().await?, &Self::known(context)?, context))
    }

    async fn observe(&self, effect: TargetEffect, context: &TargetContext) -> Result<Observed, Fault> {
        let (all, known) = (self.tokens.all().await?, Self::known(context)?);
        if effect == TargetEffect::Remove && known.new.is_none() {
            return created::look_for_lost(Ok(Self::lost(&all, &known, context)));
        }
        if let (false, Some(stranger)) = (context.emergency, self.stranger(&all, &known, context)) {
            return Ok(Observed::Foreign { detail: self.foreign(stranger) });
        }
        let active = |accessor: &str| all.iter().any(|token| token.accessor == accessor).then_some(true);
        created::look(effect, &known, active, context, false)
    }

    async fn apply(&self, effect: TargetEffect, context: &TargetContext, _: Fence) -> Result<(), Fault> {
        let known = Self::known(context)?;
        match effect {
            TargetEffect::Install => Err(Fault::invalid("tokens are made by Vault")),
            TargetEffect::Disable | TargetEffect::Restore => {
                Err(Fault::invalid("a token of Vault cannot be disabled and enabled again"))
            }
            TargetEffect::Revoke => self.tokens.revoke(known.old()?).await,
            TargetEffect::Remove => match known.new {
                Some(accessor) => self.tokens.revoke(&accessor).await,
                None => match Self::lost(&self.tokens.all().await?, &known, context) {
                    Some(accessor) => self.tokens.revoke(&accessor).await,
                    None => Ok(()),
                },
            },
        }
    }

    /// The token looks itself up. One that ends with another is not accepted.
    async fn prove(&self, which: Which, context: &TargetContext) -> Result<Proof, Fault> {
        let parts = match which {
            Which::Old => &context.old,
            Which::New => &context.new,
        };
        let parts = parts.as_ref().ok_or_else(|| Fault::invalid("there is no such token"))?;
        let accessor = accessor_of(parts)?;
        let refused = |detail: String| Ok(Proof::Refused { detail });
        match (self.tokens.look_up_self(part(parts, TOKEN)?).await?, which) {
            (None, _) => refused(format!("Vault refuses the token with accessor {accessor}")),
            (Some(_), Which::Old) => Ok(Proof::Accepted),
            (Some(told), Which::New) if told.accessor != accessor => {
                refused(format!("the token has another accessor than {accessor}"))
            }
            (Some(told), Which::New) if !told.orphan => {
                refused(format!("the token with accessor {accessor} ends with the one that made it"))
            }
            (Some(told), Which::New) if told.policies.iter().any(|policy| policy == "root") => {
                refused(format!("the token with accessor {accessor} may do everything"))
            }
            (Some(_), Which::New) => Ok(Proof::Accepted),
        }
    }

    /// Vault shows no last use. What it shows is tokens that may have been made with the old
    /// one, and would end with it.
    async fn idleness(&self, context: &TargetContext) -> Result<Idleness, Fault> {
        let (all, known) = (self.tokens.all().await?, Self::known(context)?);
        let Some(old) = all.iter().find(|token| Some(&token.accessor) == known.old.as_ref()) else {
            return Ok(Idleness::Idle);
        };
        let children: Vec<&str> =
            children(&all, old).into_iter().map(|child| child.accessor.as_str()).collect();
        if children.is_empty() {
            return Ok(Idleness::Idle);
        }
        let named = children.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        Ok(Idleness::Busy {
            detail: format!(
                "{} tokens may have been made with the old one, and would end with it (accessors {named}); revoke \
                 them, or wait for their end",
                children.len()
            ),
        })
    }
}
