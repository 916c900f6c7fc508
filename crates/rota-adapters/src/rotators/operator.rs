//! Values that a person makes at a provider and hands in: Rota reminds, takes the
//! value into its slot, proves it as the policy's `prove` says, publishes, watches,
//! and asks the person to revoke the old one.
//!
//! Deliberately absent: calls to the provider. What can be proven is the policy's
//! `prove` check; what a person confirms is recorded with both times.

use std::sync::Arc;

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::format::RandomSource;
use rota_core::policy::kinds::{Facts, KindSpec, Port};
use rota_core::policy::model::SecretPolicy;
use rota_core::rotation::Source;
use rota_core::value::Bundle;
use rota_engine::ports::{
    Fence, Idleness, Observed, Proof, Rotator, RotatorTraits, TargetContext, TargetEffect, Which,
};

use crate::catalog::RotatorKind;
use crate::environment::AdapterEnvironment;

pub const KIND: RotatorKind = RotatorKind {
    spec: KindSpec::new(Port::Rotator, "operator", "a value that a person makes and hands in").facts(facts),
    build,
};

fn facts(_: &serde_json::Value) -> Facts {
    Facts { source: Source::Submitted, ..Facts::default() }
}

fn build(_: &SecretPolicy, _: &AdapterEnvironment) -> Result<Arc<dyn Rotator>, Fault> {
    Ok(Arc::new(Operator))
}

struct Operator;

#[async_trait]
impl Rotator for Operator {
    fn traits(&self) -> RotatorTraits {
        RotatorTraits {
            source: Source::Submitted,
            target: false,
            reversible: false,
            overlaps: true,
            confirmed_by_person: true,
            fenced: false,
        }
    }

    fn parts_of(&self, fields: &Bundle, _: &SecretPolicy) -> Result<Bundle, Fault> {
        Ok(fields.duplicate())
    }

    fn generate(&self, _: &TargetContext, _: &mut dyn RandomSource) -> Result<Bundle, Fault> {
        Err(Fault::invalid("an operator-supplied value is made by a person"))
    }

    fn identity_of(&self, _: &Bundle) -> Option<String> {
        None
    }

    async fn preflight(&self, _: &TargetContext) -> Result<(), Fault> {
        Ok(())
    }

    async fn observe(&self, _: TargetEffect, _: &TargetContext) -> Result<Observed, Fault> {
        Err(Fault::invalid("an operator-supplied value has no target that Rota can change"))
    }

    async fn apply(&self, _: TargetEffect, _: &TargetContext, _: Fence) -> Result<(), Fault> {
        Err(Fault::invalid("an operator-supplied value has no target that Rota can change"))
    }

    async fn prove(&self, _: Which, _: &TargetContext) -> Result<Proof, Fault> {
        Ok(Proof::NotProvable)
    }

    async fn idleness(&self, _: &TargetContext) -> Result<Idleness, Fault> {
        Err(Fault::invalid("whether an operator-supplied value is idle cannot be read"))
    }
}
