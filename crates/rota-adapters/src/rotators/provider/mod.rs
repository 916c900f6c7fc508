//! A key of any provider that has calls to make, list and end keys. What these calls are, a
//! file says: [`mod@file`] is its form, `config/providers/` has those of this program, and the
//! daemon's own configuration may name a folder with more.
//!
//! A key is made by the provider and its secret shown once. Its name holds the rotation's
//! id, by which what an answer that was lost has left behind is found and ended. What is
//! changed or ended is always one exact id that the rotation knows; keys with other names
//! are nobody's business here.
//!
//! Deliberately absent: what only code can say. For that there is the kind `command`.

mod account;
mod answer;
mod catalogue;
pub mod file;
pub mod lint;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::format::RandomSource;
use rota_core::id::RotationId;
use rota_core::policy::kinds::{KindSpec, Port};
use rota_core::policy::model::SecretPolicy;
use rota_core::rotation::Source;
use rota_core::value::{Bundle, SecretValue};
use rota_engine::ports::{
    Created, Fence, Idleness, Observed, Proof, Rotator, RotatorTraits, TargetContext, TargetEffect, Which,
};
use uuid::Uuid;

use super::created::{self, Ids, is_since_the_start};
use crate::catalog::RotatorKind;
use crate::environment::AdapterEnvironment;
use crate::http::HttpClient;
use crate::login::{field, read_fields, value};
use crate::settings::read;
use account::{Account, Key, Naming};
pub use catalogue::{Provider, Providers, Refused};
use lint::ID;
pub use settings::ProviderSettings;

/// The name of the kind, and of its table.
pub const NAME: &str = "provider";

/// The kind as policies see it.
pub const KIND: RotatorKind = RotatorKind {
    spec: KindSpec::new(Port::Rotator, NAME, "a key that a provider makes, such as Resend or Twilio")
        .table::<ProviderSettings>(NAME)
        .lint(settings::lint)
        .facts(settings::facts),
    build: |policy, environment| Ok(Arc::new(ProviderRotator::new(policy, environment)?)),
};

/// The keys of one label at a provider.
pub struct ProviderRotator {
    settings: ProviderSettings,
    admin: String,
    provider: Arc<Provider>,
    client: HttpClient,
}

impl ProviderRotator {
    /// Makes no call.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the daemon knows no such provider, or the settings do not fit it.
    pub fn new(policy: &SecretPolicy, environment: &AdapterEnvironment) -> Result<Self, Fault> {
        let settings: ProviderSettings = read(NAME, &policy.settings)?;
        let provider = environment.providers.get(&settings.name).ok_or_else(|| {
            Fault::invalid(format!(
                "this daemon knows no provider `{}`; put its file into `providers.folder`, or write one of {}",
                settings.name,
                environment.providers.names()
            ))
        })?;
        if let Some(problem) = settings::problems(&settings, provider, None).first() {
            return Err(Fault::invalid(format!("{}; {}", problem.message, problem.help)));
        }
        if !provider.file.limits.overlap && !policy.accept_gap {
            return Err(Fault::invalid(format!(
                "`{}` accepts one key at a time; say `accept_gap = true` where consumers may be refused meanwhile",
                settings.name
            )));
        }
        Ok(Self {
            admin: settings.admin.to_string(),
            provider: Arc::clone(provider),
            client: environment.client.clone(),
            settings,
        })
    }

    fn account<'a>(&'a self, context: &'a TargetContext) -> Result<Account<'a>, Fault> {
        let admin = context.admin.as_ref().ok_or_else(|| {
            Fault::invalid(format!("nothing is stored at `{}`; put Rota's own login there", self.admin))
        })?;
        Ok(Account {
            provider: &self.provider,
            client: &self.client,
            base: account::base(&self.provider, self.settings.region.as_deref())?,
            settings: self.settings.filled(&self.provider),
            admin,
        })
    }

    /// What the key of a rotation is called.
    fn name_of(&self, rotation: RotationId) -> Result<String, Fault> {
        let rotation = rotation.0.simple().to_string();
        let parts =
            BTreeMap::from([("label", self.settings.label.as_str()), ("rotation", rotation.as_str())]);
        self.provider.key_name.fill_text(&parts).map_err(|error| Fault::invalid(error.to_string()))
    }

    /// The rotation that a name holds, where it is one of this label's.
    fn rotation_in(&self, name: &str) -> Option<RotationId> {
        let known = BTreeMap::from([("label", self.settings.label.as_str())]);
        let mut parts = self.provider.key_name.read(&SecretValue::new(name.to_owned()).ok()?, &known)?;
        let id = parts.remove("rotation")?;
        (id.expose().len() == 32).then(|| Uuid::try_parse(id.expose()).ok().map(RotationId)).flatten()
    }

    /// Keys of this label that are neither the old one nor this rotation's.
    fn stranger<'k>(&self, keys: &'k [Key], known: &Ids, context: &TargetContext) -> Option<&'k Key> {
        keys.iter().find(|key| {
            let own = known.new.is_none() && self.rotation_in(&key.name) == Some(context.rotation);
            !known.has(&key.id) && !own && self.rotation_in(&key.name).is_some()
        })
    }

    fn foreign(&self, key: &Key) -> String {
        format!(
            "key {} at `{}` is called `{}`, and this rotation knows nothing of it; see who uses it, and end it at {} where nobody does",
            key.id, self.settings.name, key.name, self.provider.file.page
        )
    }

    fn id_of(&self, value: &Bundle) -> Result<String, Fault> {
        let id = value.iter().find(|(part, _)| part.as_str() == ID).map(|(_, id)| id.expose().to_owned());
        id.ok_or_else(|| Fault::invalid("the value has no id"))
    }

    fn known(&self, context: &TargetContext) -> Result<Ids, Fault> {
        let id = |value: &Option<Bundle>| value.as_ref().map(|value| self.id_of(value)).transpose();
        let new = id(&context.new)?.or_else(|| context.new_identity.clone());
        Ok(Ids { old: id(&context.old)?, new })
    }

    /// The key that an answer which was lost has left behind: it has this rotation's name.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where it is older than the rotation.
    fn lost(&self, keys: &[Key], known: &Ids, context: &TargetContext) -> Result<Option<String>, Fault> {
        let own = |key: &&Key| self.rotation_in(&key.name) == Some(context.rotation) && !known.has(&key.id);
        let Some(key) = keys.iter().find(own) else { return Ok(None) };
        let told = self.provider.file.list.created.is_some();
        if told && key.created.is_none_or(|created| !is_since_the_start(created, context)) {
            return Err(Fault::invalid(format!(
                "{}: it is not shown to be as young as this rotation",
                self.foreign(key)
            )));
        }
        Ok(Some(key.id.clone()))
    }

    /// Whether the login is the key that is to be rotated: it would end itself.
    fn must_be_another(&self, context: &TargetContext) -> Result<(), Fault> {
        let (Some(admin), Some(old)) = (&context.admin, &context.old) else { return Ok(()) };
        let is_inside = |part: &SecretValue| admin.same_as(part) || admin.expose().contains(part.expose());
        if old.iter().any(|(_, part)| is_inside(part)) {
            return Err(Fault::invalid(format!(
                "`{}` holds the key that is to be rotated; make another one for Rota at {}",
                self.admin, self.provider.file.page
            )));
        }
        Ok(())
    }
}

#[async_trait]
impl Rotator for ProviderRotator {
    fn traits(&self) -> RotatorTraits {
        RotatorTraits {
            source: Source::Created,
            target: true,
            reversible: self.provider.reversible(),
            overlaps: self.provider.file.limits.overlap,
            confirmed_by_person: false,
            fenced: false,
        }
    }

    fn admin_reference(&self) -> Option<&str> {
        Some(&self.admin)
    }

    fn target_identities(&self, _: &SecretPolicy) -> Vec<String> {
        vec![self.settings.target()]
    }

    /// The id is published, or stands in a part.
    fn parts_of(&self, fields: &Bundle, policy: &SecretPolicy) -> Result<Bundle, Fault> {
        let mut found = read_fields(fields, policy, &BTreeMap::new())?;
        if !found.contains_key(ID) {
            let id =
                self.provider.file.create.id_in.as_ref().and_then(|id_in| {
                    id_in.template.read(found.get(&id_in.part)?, &BTreeMap::new())?.remove(ID)
                });
            let id = id.ok_or_else(|| {
                Fault::invalid("no published field holds the key's id; add `{id}` to a template")
            })?;
            found.insert(ID.to_owned(), id);
        }
        let parts = found.into_iter().map(|(name, part)| Ok((field(&name)?, part)));
        Ok(Bundle::new(parts.collect::<Result<_, Fault>>()?))
    }

    fn generate(&self, _: &TargetContext, _: &mut dyn RandomSource) -> Result<Bundle, Fault> {
        Err(Fault::invalid("the key is made by its provider"))
    }

    fn identity_of(&self, parts: &Bundle) -> Option<String> {
        self.id_of(parts).ok()
    }

    async fn preflight(&self, context: &TargetContext) -> Result<(), Fault> {
        self.must_be_another(context)?;
        let (keys, known) = (self.account(context)?.list().await?, self.known(context)?);
        if let (false, Some(stranger)) = (context.emergency, self.stranger(&keys, &known, context)) {
            return Err(Fault::invalid(self.foreign(stranger)));
        }
        let page = &self.provider.file.page;
        if let Some(most) = self.provider.file.limits.max_keys.filter(|most| keys.len() >= *most) {
            return Err(Fault::invalid(format!(
                "`{}` has {} keys, and {most} are the most; end one that nobody uses at {page}",
                self.settings.name,
                keys.len()
            )));
        }
        let Some(old) = &known.old else { return Ok(()) };
        match keys.iter().find(|key| key.id == *old) {
            None if !context.emergency => Err(Fault::invalid(format!(
                "the published key {old} is none of this account at `{}`; publish the one that is, or correct `admin`",
                self.settings.name
            ))),
            Some(key) if !key.active && !context.emergency => Err(Fault::invalid(format!(
                "the published key {old} is not active; make it active at {page}, or publish the one that consumers use"
            ))),
            None | Some(_) => Ok(()),
        }
    }

    async fn create(&self, context: &TargetContext, _: Fence) -> Result<Created, Fault> {
        let (name, rotation) = (self.name_of(context.rotation)?, context.rotation.0.simple().to_string());
        let naming = Naming { name: &name, label: &self.settings.label, rotation: &rotation };
        let made = self.account(context)?.create(&naming).await?;
        let fields = context.policy.secret.fields.values().filter_map(|field| field.template.as_ref());
        let wanted: Vec<&str> = fields.flat_map(|template| template.holes()).collect();
        let mut parts = BTreeMap::from([(field(ID)?, value(made.id.clone())?)]);
        for (name, part) in made.parts {
            // What nobody reads is not kept, so that the published value is the whole one.
            if wanted.contains(&name.as_str()) {
                parts.insert(field(&name)?, part);
            }
        }
        Ok(Created { parts: Bundle::new(parts), identity: made.id })
    }

    /// By its name, which holds the rotation's id.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where it is older than the rotation.
    async fn find_created(&self, context: &TargetContext) -> Result<Option<String>, Fault> {
        self.lost(&self.account(context)?.list().await?, &self.known(context)?, context)
    }

    async fn observe(&self, effect: TargetEffect, context: &TargetContext) -> Result<Observed, Fault> {
        let (keys, known) = (self.account(context)?.list().await?, self.known(context)?);
        if effect == TargetEffect::Remove && known.new.is_none() {
            return created::look_for_lost(self.lost(&keys, &known, context));
        }
        if let (false, Some(stranger)) = (context.emergency, self.stranger(&keys, &known, context)) {
            return Ok(Observed::Foreign { detail: self.foreign(stranger) });
        }
        let active = |id: &str| keys.iter().find(|key| key.id == id).map(|key| key.active);
        created::look(effect, &known, active, context, self.provider.reversible())
    }

    async fn apply(&self, effect: TargetEffect, context: &TargetContext, _: Fence) -> Result<(), Fault> {
        let (account, known) = (self.account(context)?, self.known(context)?);
        match effect {
            TargetEffect::Install => Err(Fault::invalid("the key is made by its provider")),
            TargetEffect::Disable => account.set_active(known.old()?, false).await,
            TargetEffect::Restore => account.set_active(known.old()?, true).await,
            TargetEffect::Revoke => account.revoke(known.old()?).await,
            TargetEffect::Remove => match &known.new {
                Some(id) => account.revoke(id).await,
                None => match self.lost(&account.list().await?, &known, context)? {
                    Some(id) => account.revoke(&id).await,
                    None => Ok(()),
                },
            },
        }
    }

    /// Uses the key as consumers do. One of seconds ago may not be known everywhere yet.
    async fn prove(&self, which: Which, context: &TargetContext) -> Result<Proof, Fault> {
        let value = match which {
            Which::Old => &context.old,
            Which::New => &context.new,
        };
        let value = value.as_ref().ok_or_else(|| Fault::invalid("there is no such value"))?;
        self.account(context)?.verify(&self.id_of(value)?, value).await
    }

    /// Where the provider shows last uses, the old key's is before the new one's. Where it
    /// does not, the rollouts and the overlap that were waited for stand in.
    async fn idleness(&self, context: &TargetContext) -> Result<Idleness, Fault> {
        if self.provider.file.list.last_used.is_none() {
            return Ok(Idleness::Idle);
        }
        let (keys, known) = (self.account(context)?.list().await?, self.known(context)?);
        let last = |id: &str| keys.iter().find(|key| key.id == id).and_then(|key| key.last_used);
        let Some(old) = last(known.old()?) else { return Ok(Idleness::Idle) };
        let new = known.new.as_deref().and_then(last);
        Ok(match new {
            Some(new) if new > old => Idleness::Idle,
            Some(_) | None => Idleness::Busy {
                detail: format!(
                    "`{}` shows a use of the old key at {old}, and none of the new one after that",
                    self.settings.name
                ),
            },
        })
    }
}
