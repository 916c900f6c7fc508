//! Values that Rota generates and that only their consumers verify: signing keys,
//! internal API keys, cookie secrets, bundles such as password and salt.
//!
//! Deliberately absent: a target. Nothing accepts or refuses the value but the
//! consumers themselves, so overlap and `token_ttl` stand in for proofs, and history
//! says that refusal of the old value was not provable.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::format::{Format, RandomSource};
use rota_core::id::FieldName;
use rota_core::policy::kinds::{KindSpec, Port};
use rota_core::policy::model::SecretPolicy;
use rota_core::rotation::Source;
use rota_core::value::Bundle;
use rota_engine::ports::{
    Fence, Idleness, Observed, Proof, Rotator, RotatorTraits, TargetContext, TargetEffect, Which,
};

use crate::catalog::RotatorKind;
use crate::environment::AdapterEnvironment;

pub const KIND: RotatorKind = RotatorKind {
    spec: KindSpec::new(Port::Rotator, "generated", "a random value that only its consumers verify"),
    build,
};

fn build(_: &SecretPolicy, _: &AdapterEnvironment) -> Result<Arc<dyn Rotator>, Fault> {
    Ok(Arc::new(Generated))
}

/// Generates every field of the secret in its own format.
struct Generated;

/// The format of `field`: its own, else the secret's.
fn format_of<'p>(policy: &'p SecretPolicy, field: &FieldName) -> Result<&'p Format, Fault> {
    let own = policy.fields.get(field).and_then(|field| field.format.as_ref());
    own.or(policy.format.as_ref()).ok_or_else(|| {
        Fault::invalid(format!("field `{field}` has no format; add `format = \"hex:32\"` or another"))
    })
}

#[async_trait]
impl Rotator for Generated {
    fn traits(&self) -> RotatorTraits {
        RotatorTraits {
            source: Source::Generated,
            target: false,
            reversible: false,
            overlaps: true,
            confirmed_by_person: false,
            fenced: false,
        }
    }

    fn parts_of(&self, fields: &Bundle, policy: &SecretPolicy) -> Result<Bundle, Fault> {
        // A field with a template is made from the others and is no part of its own.
        let parts = fields
            .iter()
            .filter(|(name, _)| policy.fields.get(name).is_none_or(|field| field.template.is_none()))
            .map(|(name, value)| (name.clone(), value.duplicate()));
        Ok(Bundle::new(parts.collect()))
    }

    fn generate(&self, target: &TargetContext, random: &mut dyn RandomSource) -> Result<Bundle, Fault> {
        let policy = &target.policy.secret;
        let mut parts = BTreeMap::new();
        for (name, field) in &policy.fields {
            if field.template.is_none() {
                let value = format_of(policy, name)?
                    .generate(random)
                    .map_err(|error| Fault::transient(error.to_string()))?;
                parts.insert(name.clone(), value);
            }
        }
        Ok(Bundle::new(parts))
    }

    fn identity_of(&self, _: &Bundle) -> Option<String> {
        None
    }

    async fn preflight(&self, target: &TargetContext) -> Result<(), Fault> {
        let policy = &target.policy.secret;
        policy
            .fields
            .iter()
            .filter(|(_, field)| field.template.is_none())
            .try_for_each(|(name, _)| format_of(policy, name).map(|_| ()))
    }

    async fn observe(&self, _: TargetEffect, _: &TargetContext) -> Result<Observed, Fault> {
        Err(Fault::invalid("a generated value has no target"))
    }

    async fn apply(&self, _: TargetEffect, _: &TargetContext, _: Fence) -> Result<(), Fault> {
        Err(Fault::invalid("a generated value has no target"))
    }

    async fn prove(&self, _: Which, _: &TargetContext) -> Result<Proof, Fault> {
        Ok(Proof::NotProvable)
    }

    async fn idleness(&self, _: &TargetContext) -> Result<Idleness, Fault> {
        Err(Fault::invalid("whether a generated value is idle cannot be read"))
    }
}
