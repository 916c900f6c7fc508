//! The accepted policy: defaults resolved, profiles applied, references checked.
//!
//! A rotation keeps a copy of its [`SecretPolicy`] (as JSON, in the journal), so
//! this form is also a storage format: fields are added with a serde default and
//! never change meaning, and what is absent is not written. Durations are whole seconds.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::format::{Format, Template};
use crate::id::{ConsumerId, FieldName, OwnerId, SecretId, StoreId};
use crate::rotation::Source;
use crate::schedule::{Schedule, Window};

pub use super::fields::Fields;

/// The accepted policy of one application and environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub application: String,
    pub environment: Environment,
    pub secrets: BTreeMap<SecretId, SecretPolicy>,
    pub consumers: BTreeMap<ConsumerId, ConsumerPolicy>,
    pub stores: BTreeMap<StoreId, StorePolicy>,
    pub owners: BTreeMap<OwnerId, Owner>,
}

/// One secret with the stores and consumers that it names: what a rotation copies
/// when it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyEntry {
    pub secret: SecretPolicy,
    pub stores: BTreeMap<StoreId, StorePolicy>,
    pub consumers: BTreeMap<ConsumerId, ConsumerPolicy>,
}

impl Policy {
    /// The entry of `id`; `None` where the policy has no such secret.
    #[must_use]
    pub fn entry(&self, id: &SecretId) -> Option<PolicyEntry> {
        Some(PolicyEntry::of(self.secrets.get(id)?.clone(), self))
    }
}

impl PolicyEntry {
    /// The entry of `secret`, with what `policy` says of its stores and consumers.
    #[must_use]
    pub fn of(secret: SecretPolicy, policy: &Policy) -> Self {
        let named = |id: &StoreId| Some((id.clone(), policy.stores.get(id)?.clone()));
        let stores = secret.stores.iter().filter_map(named).collect();
        let named = |id: &ConsumerId| Some((id.clone(), policy.consumers.get(id)?.clone()));
        let consumers = secret.consumers.names().iter().filter_map(named).collect();
        Self { secret, stores, consumers }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    Production,
    Staging,
    Development,
}

/// One secret, with everything that a rotation of it needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecretPolicy {
    pub id: SecretId,
    /// The rotator's kind: `generated`, `operator`, `postgres`, ...
    pub kind: String,
    /// The table that the kind brings (`[secret.X.postgres]`), as it stands; `null` without one.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub settings: serde_json::Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// How the value is generated or checked; `None` where the rotator alone knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// What consumers read, by field. Without a template of its own a secret has
    /// one field, named like itself, that is the value.
    pub fields: Fields,
    /// First the primary, which also holds the slots; then the mirrors.
    pub stores: Vec<StoreId>,
    pub publish: PublishForm,
    pub schedule: Schedule,
    /// How long before `due` a rotation starts.
    pub lead: SignedDuration,
    /// How long old and new stand side by side after promotion's rollout.
    pub overlap: SignedDuration,
    /// How long what was signed with a value is accepted. The overlap is never shorter.
    pub token_ttl: SignedDuration,
    /// How long a disabled credential waits before it is revoked.
    pub revoke_after: SignedDuration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    pub healthy: Healthy,
    pub on_failure: OnFailure,
    /// The longest time a step may wait before the rotation is held, by step name; the rest have defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deadlines: BTreeMap<String, SignedDuration>,
    pub consumers: Consumers,
    /// The target cannot accept two values at once and the team accepts the gap.
    pub accept_gap: bool,
    pub priority: Priority,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerId>,
    /// How long before `due` to remind, longest first.
    pub remind: Vec<SignedDuration>,
    /// Where a person makes or revokes the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    /// How a value without a target is proven by really using it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prove: Option<CheckPolicy>,
    /// The field whose value `prove` uses; `None` for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prove_with: Option<FieldName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// Where a person pastes an operator-supplied value in the store's own console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbox: Option<String>,
    /// The daemon itself uses this secret.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
    /// Where the cadence comes from; shown in reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cadence_basis: Option<String>,
}

impl SecretPolicy {
    /// The overlap that is really kept: never under `token_ttl`.
    #[must_use]
    pub fn kept_overlap(&self) -> SignedDuration {
        self.overlap.max(self.token_ttl)
    }

    /// The store that holds the slots and is published to first.
    #[must_use]
    pub fn primary_store(&self) -> Option<&StoreId> {
        self.stores.first()
    }
}

/// One value that consumers read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldPolicy {
    /// How the field is made from the parts that the rotator yields; `None` is the value itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// A generation format of its own, for bundles of generated values (password + salt).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
}

/// What kind of use a value has; sets the minimums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Consumers sign and verify with it, so they verify each other: introduced before promoted.
    Signing,
    Encryption,
    /// A key that is shown. One that is generated here is checked by another consumer,
    /// and so introduced before it is promoted.
    ApiKey,
    Password,
}

impl Class {
    /// True where consumers verify each other with such a value, so that everybody must
    /// accept the new one before anybody uses it. A key that a provider or a target
    /// made is verified there.
    #[must_use]
    pub fn consumers_verify_each_other(self, source: Source) -> bool {
        match self {
            Self::Signing => true,
            Self::ApiKey => source == Source::Generated,
            Self::Encryption | Self::Password => false,
        }
    }
}

/// How the ordered list (the first to use, the rest to accept) is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case")]
pub enum PublishForm {
    /// Only the first is written: one value a field, at `{name}`.
    Single,
    /// Two names: the first of the list at one, the second at the other. With a
    /// list of one both names hold the same value.
    Pair { first: FieldName, second: FieldName, pinned: bool },
    /// One value: a JSON array, first to use first, at `name`.
    List { name: FieldName },
    /// Fields of one JSON document at `path`, shared with other secrets. Holds
    /// the other form for the names inside the document.
    Document { path: String, inner: Box<PublishForm> },
}

impl PublishForm {
    /// True where consumers can see more than the first of the list.
    #[must_use]
    pub fn shows_a_second(&self) -> bool {
        match self {
            Self::Single => false,
            Self::Pair { .. } | Self::List { .. } => true,
            Self::Document { inner, .. } => inner.shows_a_second(),
        }
    }
}

/// How many healthy observations, and how far apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthy {
    pub count: u32,
    pub every: SignedDuration,
    /// How many unhealthy observations in a row end the watch.
    pub failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    Hold,
    Rollback,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "are", rename_all = "snake_case")]
pub enum Consumers {
    /// At least one.
    Named { names: Vec<ConsumerId> },
    /// The policy says that nobody reads it; the target's proof stands in.
    None,
}

impl Consumers {
    #[must_use]
    pub fn names(&self) -> &[ConsumerId] {
        match self {
            Self::Named { names } => names,
            Self::None => &[],
        }
    }
}

/// Order of catch-up, escalation and reports.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    Critical,
    High,
    Medium,
    Low,
}

/// Something that must succeed before or after a phase (a backup before
/// re-encryption, refresh tokens invalidated at retirement).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hook {
    pub at: HookPoint,
    pub kind: String,
    pub settings: serde_json::Value,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum HookPoint {
    BeforeGenerate,
    AfterGenerate,
    BeforePromote,
    AfterPromote,
    BeforeRetire,
    AfterRetire,
    OnEmergency,
}

/// A service that uses secrets: how it is made to read anew and how we know that it is well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConsumerPolicy {
    pub id: ConsumerId,
    pub rollout: RolloutPolicy,
    pub checks: Vec<CheckPolicy>,
    /// Why the consumer has no checks, where it says so.
    pub unmonitored: Option<String>,
    /// How long a published value takes to reach every place where an instance may
    /// read it, clock error included.
    pub settle: SignedDuration,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutPolicy {
    pub kind: String,
    pub settings: serde_json::Value,
    /// A rollout that has not finished by then is failed.
    pub deadline: SignedDuration,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckPolicy {
    /// Unique within its consumer; the kind, with a number where there are several.
    pub name: String,
    pub kind: String,
    pub settings: serde_json::Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StorePolicy {
    pub id: StoreId,
    pub kind: String,
    pub settings: serde_json::Value,
    /// Where a name lives: `prod/acd/{name}`.
    pub path: Template,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub slack_mention: Option<String>,
    /// Who is called beside the owner where it is urgent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack_escalation: Option<String>,
}
