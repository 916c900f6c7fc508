//! What a kind of store, rotator, rollout, check or hook brings to the policy: the
//! schema of its table, its lint, and the facts that the core's rules ask for.
//!
//! Deliberately absent: any kind. The core knows no product; the binary composes
//! [`Kinds`] from its catalogue, and the core's tests from small ones.

mod structure;

use std::collections::BTreeMap;
use std::fmt;

use jiff::SignedDuration;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::diagnostic::Level;
use super::model::{Class, Environment, Fields, StorePolicy};
use super::raw::tables::{CheckTable, HookTable, RolloutTable, SecretTable, StoreTable};
use crate::id::{SecretId, StoreId};
use crate::rotation::Source;

pub(super) use structure::RULE as STRUCTURE_RULE;

/// What a kind is a kind of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    Store,
    Rotator,
    Rollout,
    Check,
    Hook,
}

impl Port {
    pub const ALL: [Self; 5] = [Self::Store, Self::Rotator, Self::Rollout, Self::Check, Self::Hook];

    /// The word in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Rotator => "rotator",
            Self::Rollout => "rollout",
            Self::Check => "check",
            Self::Hook => "hook",
        }
    }

    /// What the table of such a kind is called in messages.
    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Rotator => "secret",
            Self::Store | Self::Rollout | Self::Check | Self::Hook => self.as_str(),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a kind's settings stand in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The kind has no settings.
    Nothing,
    /// Beside `kind`, in the same table: stores, rollouts, checks and hooks, and
    /// rotators whose settings are a key or two of the secret.
    Inline,
    /// In a table of this name in the secret: `postgres = { ... }`.
    Table(&'static str),
}

/// What the core's rules ask a kind, given its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Rotators: the target, or the consumers, can take old and new at once. Without it
    /// a secret needs `accept_gap`.
    pub overlaps: bool,
    /// Rotators: where a new value comes from.
    pub source: Source,
    /// Rotators: the target can refuse a value in a way that can be taken back, so
    /// that `revoke_after` means something.
    pub disables: bool,
    /// Rotators: what was encrypted with the old value is re-encrypted, or the old one is archived.
    pub keeps_data_readable: bool,
    /// Rotators: for how long the target accepts a value at most, where that is not for ever.
    pub lifetime: Option<SignedDuration>,
    /// Rotators: every credential at the target that no second secret may rotate.
    pub targets: Vec<String>,
    /// Stores: what tells that two stores of the policy are one and the same place.
    pub identity: Option<String>,
    /// Stores: whoever reads a path reads all names in it at once, as of an env file.
    pub one_document: bool,
    /// Stores and rollouts: works only on the host that it names.
    pub host_local: bool,
    /// Rollouts: can pin a name to an exact version of a value.
    pub pins_versions: bool,
}

impl Default for Facts {
    /// A plain generated value; a store, rollout, check or hook with nothing special.
    fn default() -> Self {
        Self {
            overlaps: true,
            source: Source::Generated,
            disables: false,
            keeps_data_readable: false,
            lifetime: None,
            targets: Vec::new(),
            identity: None,
            one_document: false,
            host_local: false,
            pins_versions: false,
        }
    }
}

/// Something that a kind finds in its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindProblem {
    /// A stable word for the rule; shown as `kind:rule`.
    pub rule: &'static str,
    pub level: Level,
    /// The offending key, as a JSON pointer (RFC 6901) into the settings; empty for all of them.
    pub pointer: String,
    /// The key itself is wrong, not its value.
    pub on_key: bool,
    /// Lower-case, no full stop, and never a value that could be a secret.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl KindProblem {
    pub fn error(
        rule: &'static str,
        pointer: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            rule,
            level: Level::Error,
            pointer: pointer.into(),
            on_key: false,
            message: message.into(),
            help: help.into(),
        }
    }

    /// The mark goes under the key.
    #[must_use]
    pub fn on_key(mut self) -> Self {
        self.on_key = true;
        self
    }

    #[must_use]
    pub fn warning(mut self) -> Self {
        self.level = Level::Warning;
        self
    }

    #[must_use]
    pub fn hint(mut self) -> Self {
        self.level = Level::Hint;
        self
    }
}

/// What a kind may know when it looks at its settings.
#[derive(Debug, Clone, Copy)]
pub struct KindContext<'a> {
    pub environment: Environment,
    /// The stores of the policy, for references such as `aws:prod/acd/db-admin`.
    pub stores: &'a BTreeMap<StoreId, StorePolicy>,
    /// For rotators and `prove`: the secret.
    pub secret: Option<SecretView<'a>>,
}

/// The part of a secret that its kind may ask about.
#[derive(Debug, Clone, Copy)]
pub struct SecretView<'a> {
    pub id: &'a SecretId,
    pub class: Option<Class>,
    pub accept_gap: bool,
    /// What consumers read; `None` where the secret does not say, and reads the value itself.
    pub fields: Option<&'a Fields>,
}

/// A kind, as its adapter declares it. All of it is data and plain functions, so
/// that a catalogue can be a constant.
#[derive(Clone, Copy)]
pub struct KindSpec {
    pub port: Port,
    /// As written after `kind =`.
    pub name: &'static str,
    /// One line for people who choose between kinds.
    pub about: &'static str,
    pub shape: Shape,
    /// Stores: every path is one document of several names.
    pub one_document: bool,
    schema: fn() -> Value,
    parse: fn(&Value) -> Option<String>,
    lint: fn(&Value, &KindContext<'_>) -> Vec<KindProblem>,
    facts: fn(&Value) -> Facts,
}

impl KindSpec {
    /// A kind without settings.
    #[must_use]
    pub const fn new(port: Port, name: &'static str, about: &'static str) -> Self {
        Self {
            port,
            name,
            about,
            shape: Shape::Nothing,
            one_document: false,
            schema: structure::nothing,
            parse: |_| None,
            lint: |_, _| Vec::new(),
            facts: |_| Facts::default(),
        }
    }

    /// Settings beside `kind`, as `T` reads them. `T` should deny unknown fields.
    #[must_use]
    pub const fn inline<T: DeserializeOwned + schemars::JsonSchema>(mut self) -> Self {
        self.shape = Shape::Inline;
        self.schema = structure::schema_of::<T>;
        self.parse = structure::refusal_of::<T>;
        self
    }

    /// Settings in a table of the secret called `name`, as `T` reads them.
    #[must_use]
    pub const fn table<T: DeserializeOwned + schemars::JsonSchema>(mut self, name: &'static str) -> Self {
        self.shape = Shape::Table(name);
        self.schema = structure::schema_of::<T>;
        self.parse = structure::refusal_of::<T>;
        self
    }

    /// A store whose paths are documents of several names, so that its `path` has no `{name}`.
    #[must_use]
    pub const fn one_document(mut self) -> Self {
        self.one_document = true;
        self
    }

    /// Rules of the kind's own, called with settings that fit the schema.
    #[must_use]
    pub const fn lint(mut self, lint: fn(&Value, &KindContext<'_>) -> Vec<KindProblem>) -> Self {
        self.lint = lint;
        self
    }

    /// What the core asks, called with settings that fit the schema.
    #[must_use]
    pub const fn facts(mut self, facts: fn(&Value) -> Facts) -> Self {
        self.facts = facts;
        self
    }

    /// The facts under settings that fit the schema.
    #[must_use]
    pub fn facts_of(&self, settings: &Value) -> Facts {
        (self.facts)(settings)
    }
}

impl fmt::Debug for KindSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.port, self.name)
    }
}

/// A kind with its schema made.
#[derive(Debug, Clone)]
pub struct Kind {
    pub spec: KindSpec,
    /// The JSON Schema of the settings.
    pub schema: Value,
}

impl Kind {
    /// Everything wrong with `settings`: first their structure, then, where that is
    /// right, the kind's own rules.
    #[must_use]
    pub fn examine(&self, settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
        let problems = structure::check(&self.schema, settings, common_keys(self.spec.port));
        if !problems.is_empty() {
            return problems;
        }
        if let Some(refusal) = (self.spec.parse)(settings) {
            let help = format!("see the page of the {} `{}`", self.spec.port, self.spec.name);
            return vec![KindProblem::error(structure::RULE, "", refusal, help)];
        }
        (self.spec.lint)(settings, context)
    }

    /// The facts under `settings`.
    #[must_use]
    pub fn facts(&self, settings: &Value) -> Facts {
        Facts { one_document: self.spec.one_document, ..(self.spec.facts)(settings) }
    }

    /// The keys of the settings.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|p| p.keys().map(String::as_str))
    }
}

/// Why kinds cannot stand beside each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KindClash {
    #[error("two kinds of {port} are called `{name}`")]
    Name { port: Port, name: &'static str },
    #[error("the {port} `{name}` has a key `{key}`, which the core has itself")]
    Key { port: Port, name: &'static str, key: String },
}

/// The keys that the core reads in a table of `port`.
fn common_keys(port: Port) -> &'static [&'static str] {
    match port {
        Port::Store => StoreTable::KEYS,
        Port::Rotator => SecretTable::KEYS,
        Port::Rollout => RolloutTable::KEYS,
        Port::Check => CheckTable::KEYS,
        Port::Hook => HookTable::KEYS,
    }
}

/// Every kind that a policy may name.
#[derive(Debug, Clone, Default)]
pub struct Kinds(BTreeMap<Port, BTreeMap<&'static str, Kind>>);

impl Kinds {
    /// # Errors
    /// Where two kinds of a port share a name, or one has a key that the core reads.
    pub fn new(specs: impl IntoIterator<Item = KindSpec>) -> Result<Self, KindClash> {
        let mut kinds: BTreeMap<Port, BTreeMap<&'static str, Kind>> = BTreeMap::new();
        for spec in specs {
            let kind = Kind { schema: (spec.schema)(), spec };
            let own: Vec<&str> = match spec.shape {
                Shape::Nothing => Vec::new(),
                Shape::Inline => kind.keys().collect(),
                Shape::Table(name) => vec![name],
            };
            if let Some(key) = own.into_iter().find(|key| common_keys(spec.port).contains(key)) {
                return Err(KindClash::Key { port: spec.port, name: spec.name, key: key.to_owned() });
            }
            if kinds.entry(spec.port).or_default().insert(spec.name, kind).is_some() {
                return Err(KindClash::Name { port: spec.port, name: spec.name });
            }
        }
        Ok(Self(kinds))
    }

    #[must_use]
    pub fn get(&self, port: Port, name: &str) -> Option<&Kind> {
        self.0.get(&port)?.get(name)
    }

    /// The kinds of a port, by name.
    pub fn of(&self, port: Port) -> impl Iterator<Item = &Kind> {
        self.0.get(&port).into_iter().flat_map(BTreeMap::values)
    }

    /// The names of a port's kinds.
    #[must_use]
    pub fn names(&self, port: Port) -> Vec<&'static str> {
        self.of(port).map(|kind| kind.spec.name).collect()
    }

    /// The rotator that has `key` among the keys of its secrets.
    pub(super) fn rotator_with_key(&self, key: &str) -> Option<&Kind> {
        self.of(Port::Rotator).find(|kind| match kind.spec.shape {
            Shape::Nothing => false,
            Shape::Inline => kind.keys().any(|own| own == key),
            Shape::Table(name) => name == key,
        })
    }
}
