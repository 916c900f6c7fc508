//! `command`: a program of the user's that rotates a credential on a target of its own.
//!
//! It is asked to `observe`, `create`, `prove`, `revoke`, and where it can to `disable` and
//! `enable`. The question stands on its standard input, values on descriptor 3; its exit
//! code is the answer. After an unknown outcome its own `observe` decides. The protocol:
//! docs/rotators/command.md.
//!
//! Deliberately absent: values in arguments, environment or files, and anything that the
//! program prints.

mod protocol;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::format::{Format, PasswordSet, RandomSource};
use rota_core::policy::kinds::{KindSpec, Port};
use rota_core::policy::model::SecretPolicy;
use rota_core::value::Bundle;
use rota_engine::ports::{
    Created, Fence, Idleness, Observed, Proof, Rotator, RotatorTraits, TargetContext, TargetEffect, Which,
};

use crate::catalog::RotatorKind;
use crate::child::Program;
use crate::login::{field, read_fields, value};
use crate::rotators::turns::idle_of;
use crate::settings::{read, timeout};
pub use protocol::{Answer, Credential, FenceNumbers, Question, VERSION, Verb};
use protocol::{Heard, Outcome, hear, is_identity, values};
pub use settings::{CommandSettings, Values};
use settings::{PASSWORD, USERNAME};

/// The name of the kind, and of its table.
pub const NAME: &str = "command";

/// The kind as policies see it.
pub const KIND: RotatorKind = RotatorKind {
    spec: KindSpec::new(Port::Rotator, NAME, "whatever a program of yours rotates")
        .table::<CommandSettings>(NAME)
        .lint(settings::lint)
        .facts(settings::facts),
    build: |policy, _| Ok(Arc::new(CommandRotator::new(policy)?)),
};

/// How long one question may take where the policy does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);

/// Letters and digits stand in every URL, shell and file as they are.
const DEFAULT_FORMAT: Format = Format::Password { chars: 48, set: PasswordSet::Alnum };

/// No password is shorter in any policy.
const SHORTEST_SECRET: usize = 8;

/// The program of one secret.
pub struct CommandRotator {
    settings: CommandSettings,
    admin: Option<String>,
}

impl CommandRotator {
    /// Runs nothing.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the settings do not fit.
    pub fn new(policy: &SecretPolicy) -> Result<Self, Fault> {
        let settings: CommandSettings = read(NAME, &policy.settings)?;
        Ok(Self { admin: settings.admin.as_ref().map(ToString::to_string), settings })
    }

    async fn ask(
        &self,
        verb: Verb,
        (which, identity): (Which, Option<String>),
        context: &TargetContext,
        fence: Option<Fence>,
    ) -> Result<Heard, Fault> {
        let question = Question {
            identity,
            fence: fence.map(|fence| FenceNumbers {
                incarnation: fence.incarnation.0,
                epoch: fence.epoch.0,
                effect: fence.effect.0,
            }),
            emergency: context.emergency,
            options: self.settings.options.clone(),
            ..Question::new(verb, which, &context.policy.secret.id, context.rotation)
        };
        let program = self.program(verb, &question)?;
        let name = program.name();
        let given = values(context.old.as_ref(), context.new.as_ref(), context.admin.as_ref());
        let heard = hear(&name, verb, program.talk(given).await?)?;
        if let Some(identity) = &heard.answer.identity {
            must_hold_no_value(identity, context, None)?;
        }
        Ok(heard)
    }

    fn program(&self, verb: Verb, question: &Question) -> Result<Program, Fault> {
        let question = serde_json::to_string(question)
            .map_err(|_| Fault::invalid("the question to the program cannot be written down"))?;
        let mut argv = self.settings.program.clone();
        argv.push(verb.as_str().to_owned());
        Ok(Program {
            argv,
            directory: self.settings.directory.clone(),
            environment: self.settings.environment.clone(),
            variables: Vec::new(),
            input: Some(value(question)?),
            timeout: timeout(self.settings.timeout, DEFAULT_TIMEOUT),
        })
    }

    async fn observe_credential(&self, which: Which, context: &TargetContext) -> Result<Heard, Fault> {
        self.ask(Verb::Observe, (which, identity(which, context)), context, None).await
    }

    fn called(&self, which: Which, context: &TargetContext) -> String {
        let target = &self.settings.target;
        match identity(which, context) {
            Some(identity) => format!("`{identity}` at {target}"),
            None => format!("the credential at {target}"),
        }
    }

    /// What the state of a credential says of an effect on it.
    fn look(&self, effect: TargetEffect, outcome: Outcome, context: &TargetContext) -> Observed {
        let called = self.called(whom(effect), context);
        let foreign = |what: &str| Observed::Foreign { detail: format!("{called} {what}") };
        let restoring = matches!(effect, TargetEffect::Install | TargetEffect::Restore);
        match (effect, outcome) {
            (TargetEffect::Install, Outcome::Foreign) if context.emergency => Observed::Absent,
            (_, Outcome::Foreign | Outcome::Refused) => foreign("has a value that is not this rotation's"),
            (TargetEffect::Restore, Outcome::Absent) => foreign("is gone"),
            (_, Outcome::Done) if restoring => Observed::Applied,
            (_, Outcome::Absent | Outcome::Disabled) if restoring => Observed::Absent,
            (TargetEffect::Disable, Outcome::Absent | Outcome::Disabled) | (_, Outcome::Absent) => {
                Observed::Applied
            }
            (TargetEffect::Revoke, Outcome::Done) if self.settings.disables && !context.emergency => {
                foreign("was enabled again after this rotation had disabled it")
            }
            (_, Outcome::Done | Outcome::Disabled) => Observed::Absent,
        }
    }
}

/// Whose credential an effect changes.
fn whom(effect: TargetEffect) -> Which {
    match effect {
        TargetEffect::Install | TargetEffect::Remove => Which::New,
        TargetEffect::Disable | TargetEffect::Revoke | TargetEffect::Restore => Which::Old,
    }
}

fn name_in(parts: &Bundle) -> Option<String> {
    parts.iter().find(|(name, _)| name.as_str() == USERNAME).map(|(_, name)| name.expose().to_owned())
}

/// What the target calls a credential, by its value or as recorded.
fn identity(which: Which, context: &TargetContext) -> Option<String> {
    let (parts, recorded) = match which {
        Which::Old => (&context.old, &context.old_identity),
        Which::New => (&context.new, &context.new_identity),
    };
    parts.as_ref().and_then(name_in).or_else(|| recorded.clone())
}

#[async_trait]
impl Rotator for CommandRotator {
    fn traits(&self) -> RotatorTraits {
        RotatorTraits {
            source: self.settings.source(),
            target: true,
            reversible: self.settings.disables,
            overlaps: self.settings.overlaps(),
            confirmed_by_person: false,
            fenced: self.settings.fenced,
        }
    }

    fn admin_reference(&self) -> Option<&str> {
        self.admin.as_deref()
    }

    fn target_identities(&self, _: &SecretPolicy) -> Vec<String> {
        self.settings.targets()
    }

    fn parts_of(&self, fields: &Bundle, policy: &SecretPolicy) -> Result<Bundle, Fault> {
        let mut parts = BTreeMap::new();
        for (name, text) in read_fields(fields, policy, &BTreeMap::new())? {
            parts.insert(field(&name)?, text);
        }
        if let Some(user) = &self.settings.user {
            parts.insert(field(USERNAME)?, value(user.clone())?);
        }
        let wanted: &[&str] = match (self.settings.values, &self.settings.users) {
            (Values::FromRota, None) => &[PASSWORD],
            (Values::FromRota, Some(_)) => &[USERNAME, PASSWORD],
            (Values::FromTarget, _) => &[USERNAME],
        };
        match wanted.iter().find(|wanted| !parts.keys().any(|name| name.as_str() == **wanted)) {
            Some(missing) => Err(Fault::invalid(format!(
                "no published field holds the {missing}; add `{{{missing}}}` to a template"
            ))),
            None => Ok(Bundle::new(parts)),
        }
    }

    fn generate(&self, context: &TargetContext, random: &mut dyn RandomSource) -> Result<Bundle, Fault> {
        if self.settings.values == Values::FromTarget {
            return Err(Fault::invalid("the values are made by the target"));
        }
        let format = context.policy.secret.format.as_ref().unwrap_or(&DEFAULT_FORMAT);
        let password = format.generate(random).map_err(|error| Fault::transient(error.to_string()))?;
        let mut parts = Bundle::single(field(PASSWORD)?, password);
        let user = match &self.settings.users {
            Some(users) => Some(idle_of(Some(users), context.old.as_ref().and_then(name_in).as_deref())?),
            None => self.settings.user.clone(),
        };
        if let Some(user) = user {
            parts.insert(field(USERNAME)?, value(user)?);
        }
        Ok(parts)
    }

    fn identity_of(&self, parts: &Bundle) -> Option<String> {
        name_in(parts)
    }

    /// The published value is the one that the target accepts.
    async fn preflight(&self, context: &TargetContext) -> Result<(), Fault> {
        if context.old.is_none() {
            return Ok(());
        }
        let heard = self.observe_credential(Which::Old, context).await?;
        match heard.outcome {
            Outcome::Done => Ok(()),
            _ if context.emergency => Ok(()),
            Outcome::Absent | Outcome::Disabled | Outcome::Foreign | Outcome::Refused => {
                Err(Fault::invalid(format!(
                    "{} is not accepted with the value that is published; publish the one that is",
                    self.called(Which::Old, context)
                )))
            }
        }
    }

    async fn create(&self, context: &TargetContext, fence: Fence) -> Result<Created, Fault> {
        let heard = self.ask(Verb::Create, (Which::New, None), context, Some(fence)).await?;
        if heard.outcome != Outcome::Done {
            let called = self.called(Which::New, context);
            return Err(Fault::conflict(format!("{called} has a value that is not this rotation's")));
        }
        let parts = heard.values()?;
        let identity = name_in(&parts).filter(|name| is_identity(name)).ok_or_else(|| {
            Fault::transient("the program did not say what the target calls the new credential: `username`")
        })?;
        must_hold_no_value(&identity, context, Some(&parts))?;
        let holes = holes(&context.policy.secret);
        match holes.iter().find(|hole| !parts.iter().any(|(name, _)| name.as_str() == **hole)) {
            Some(missing) => Err(Fault::transient(format!("the program made no `{missing}`"))),
            None => Ok(Created { parts, identity }),
        }
    }

    /// By the rotation's id, which the program gave to what it made.
    ///
    /// # Errors
    /// Those of the program.
    async fn find_created(&self, context: &TargetContext) -> Result<Option<String>, Fault> {
        let heard = self.observe_credential(Which::New, context).await?;
        match (heard.outcome, heard.answer.identity) {
            (Outcome::Done | Outcome::Disabled, Some(identity)) => Ok(Some(identity)),
            (Outcome::Done | Outcome::Disabled, None) => Err(Fault::invalid(
                "the program found what this rotation has made and did not say its identity; correct it",
            )),
            (Outcome::Absent, _) => Ok(None),
            (Outcome::Foreign | Outcome::Refused, _) => {
                let called = self.called(Which::New, context);
                Err(Fault::invalid(format!("{called} is not this rotation's")))
            }
        }
    }

    async fn observe(&self, effect: TargetEffect, context: &TargetContext) -> Result<Observed, Fault> {
        let heard = self.observe_credential(whom(effect), context).await?;
        Ok(self.look(effect, heard.outcome, context))
    }

    async fn apply(&self, effect: TargetEffect, context: &TargetContext, fence: Fence) -> Result<(), Fault> {
        let verb = match effect {
            TargetEffect::Install if self.settings.values == Values::FromTarget => {
                return Err(Fault::invalid("the values are made by the target"));
            }
            TargetEffect::Install => Verb::Create,
            TargetEffect::Disable => Verb::Disable,
            TargetEffect::Restore => Verb::Enable,
            TargetEffect::Revoke | TargetEffect::Remove => Verb::Revoke,
        };
        let which = whom(effect);
        let mut identity = identity(which, context);
        if identity.is_none() && self.settings.values == Values::FromTarget {
            // A rollback that knows no name: what this rotation has made, if anything.
            identity = self.find_created(context).await?;
            if identity.is_none() {
                return Ok(());
            }
        }
        match self.ask(verb, (which, identity), context, Some(fence)).await?.outcome {
            Outcome::Done => Ok(()),
            Outcome::Absent | Outcome::Disabled | Outcome::Foreign | Outcome::Refused => {
                Err(Fault::conflict(format!(
                    "{} has a value that is not this rotation's",
                    self.called(which, context)
                )))
            }
        }
    }

    async fn prove(&self, which: Which, context: &TargetContext) -> Result<Proof, Fault> {
        let heard = self.ask(Verb::Prove, (which, identity(which, context)), context, None).await?;
        Ok(match heard.outcome {
            Outcome::Done => Proof::Accepted,
            Outcome::Refused | Outcome::Absent | Outcome::Disabled | Outcome::Foreign => {
                Proof::Refused { detail: format!("{} is refused", self.called(which, context)) }
            }
        })
    }

    /// As the program says it, else by the time that the policy declares.
    async fn idleness(&self, context: &TargetContext) -> Result<Idleness, Fault> {
        let heard = self.observe_credential(Which::Old, context).await?;
        let called = self.called(Which::Old, context);
        match (heard.outcome, heard.answer.in_use, self.settings.quiet) {
            // What is refused is not used.
            (Outcome::Absent | Outcome::Disabled, _, _) | (_, Some(false), _) => Ok(Idleness::Idle),
            (_, Some(true), _) => {
                Ok(Idleness::Busy { detail: format!("{called} is in use, as the program says") })
            }
            (_, None, Some(quiet)) => match context.since_promotion {
                Some(since) if since >= quiet.0 => Ok(Idleness::Idle),
                Some(_) | None => Ok(Idleness::Busy {
                    detail: format!("{called} counts as unused {:#} after the promotion", quiet.0),
                }),
            },
            (_, None, None) => Err(Fault::invalid(format!(
                "the program does not say whether {called} is in use; have `observe` answer `in_use`, or add \
                 `quiet = \"24h\"` to `command`"
            ))),
        }
    }
}

/// An identity goes into history, where no value may stand.
fn must_hold_no_value(identity: &str, context: &TargetContext, made: Option<&Bundle>) -> Result<(), Fault> {
    let bundles = [context.old.as_ref(), context.new.as_ref(), made];
    let secrets = bundles.into_iter().flatten().flat_map(Bundle::iter);
    let secrets = secrets.filter(|(name, _)| name.as_str() != USERNAME).map(|(_, value)| value);
    // What is shorter is a region or a number, and part of many names.
    let mut secrets = secrets.chain(&context.admin).filter(|secret| secret.byte_len() >= SHORTEST_SECRET);
    if secrets.any(|secret| identity.contains(secret.expose())) {
        return Err(Fault::invalid(
            "the program gave an identity that holds a value; correct it, since identities stand in history",
        ));
    }
    Ok(())
}

/// Everything that the templates are filled with.
fn holes(policy: &SecretPolicy) -> BTreeSet<&str> {
    policy.fields.values().filter_map(|field| field.template.as_ref()).flat_map(|t| t.holes()).collect()
}
