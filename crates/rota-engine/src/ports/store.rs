use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;
use rota_core::document::DocumentFormat;
use rota_core::fault::Fault;
use rota_core::id::{EffectNo, Epoch, Incarnation, RotationId, SecretId, StoreId, VersionRef};
use rota_core::policy::model::PolicyEntry;
use rota_core::publication::{Place, paths};
use rota_core::value::SecretValue;
use uuid::Uuid;

use super::rotator::Fence;

/// A write-once place of one rotation. Its name follows from these fields alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    pub rotation: RotationId,
    pub secret: SecretId,
    pub role: SlotRole,
    /// The published path beside which the slot lives.
    pub beside: String,
    /// True where `beside` is a document that other secrets share: a slot is never
    /// a version of it.
    pub shared: bool,
}

impl Slot {
    /// The slot of `rotation` for `role`: in the primary store, beside the first path
    /// that the secret is published at.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the entry has no store or publishes nothing.
    pub fn of(entry: &PolicyEntry, rotation: RotationId, role: SlotRole) -> Result<Self, Fault> {
        let secret = &entry.secret;
        let store = secret.primary_store().and_then(|id| entry.stores.get(id)).ok_or_else(|| {
            Fault::invalid(format!("{} names no store of the policy; add one under `stores`", secret.id))
        })?;
        let (beside, names) = paths(secret, store)
            .into_iter()
            .next()
            .ok_or_else(|| Fault::invalid("the secret publishes no field; add one under `fields`"))?;
        let shared = names.iter().any(|(_, place)| place.field.is_some());
        Ok(Self { rotation, secret: secret.id.clone(), role, beside, shared })
    }
}

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlotRole {
    /// The value that was in use when the rotation began.
    Old,
    /// The new value.
    Candidate,
    /// Nothing of worth: proves that the namespace can be written.
    Canary,
}

impl SlotRole {
    pub const ALL: [Self; 3] = [Self::Old, Self::Candidate, Self::Canary];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::Candidate => "candidate",
            Self::Canary => "canary",
        }
    }
}

/// What a slot shows.
pub enum SlotState {
    /// Never written.
    Empty,
    Filled {
        version: VersionRef,
        value: SecretValue,
    },
    /// Purged; its name can never be used again.
    Tombstone,
}

/// A published value.
pub struct Stored {
    pub version: VersionRef,
    pub value: SecretValue,
}

/// Names one write, so that repeating it is recognised: by the store where it can
/// (ClientRequestToken), by content everywhere.
#[derive(Debug, Clone)]
pub struct WriteToken {
    /// `uuidv5(rotation, path, step, attempt)`.
    pub token: Uuid,
    pub incarnation: Incarnation,
    pub epoch: Epoch,
    pub effect: EffectNo,
}

/// What is asked of a store about the past of one secret.
#[derive(Debug, Clone)]
pub struct Trail {
    /// Where its slots live; of the secret's rotations each has its own.
    slot: Slot,
    /// The rotations that the journal knows.
    known: BTreeSet<RotationId>,
    /// What is older belongs to an earlier life of the journal.
    since: Timestamp,
}

impl Trail {
    /// # Errors
    /// Those of [`Slot::of`].
    pub fn of(entry: &PolicyEntry, known: BTreeSet<RotationId>, since: Timestamp) -> Result<Self, Fault> {
        let slot = Slot::of(entry, RotationId(Uuid::nil()), SlotRole::Candidate)?;
        Ok(Self::new(slot, known, since))
    }

    /// For the secret of `slot`, whatever its rotation and role.
    #[must_use]
    pub fn new(slot: Slot, known: BTreeSet<RotationId>, since: Timestamp) -> Self {
        Self { slot, known, since }
    }

    /// The slot of one rotation, where it would be.
    #[must_use]
    pub fn slot(&self, rotation: RotationId, role: SlotRole) -> Slot {
        Slot { rotation, role, ..self.slot.clone() }
    }

    /// The first path that the secret is published at.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.slot.beside
    }

    #[must_use]
    pub fn known(&self) -> &BTreeSet<RotationId> {
        &self.known
    }

    /// True for what was made in this life of the journal.
    #[must_use]
    pub fn is_recent(&self, made_at: Timestamp) -> bool {
        made_at > self.since
    }

    /// True for a rotation that this life of the journal should know and does not. Its id
    /// says when it was opened (UUID version 7, RFC 9562).
    #[must_use]
    pub fn is_strange(&self, rotation: RotationId) -> bool {
        !self.known.contains(&rotation) && opened_at(rotation).is_some_and(|at| self.is_recent(at))
    }
}

/// When a rotation was opened, to the millisecond, as its id says (UUID version 7, RFC 9562).
pub(crate) fn opened_at(rotation: RotationId) -> Option<Timestamp> {
    let (seconds, nanos) = rotation.0.get_timestamp()?.to_unix();
    Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()
}

/// What earlier work left in a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traces {
    /// What the last write of the path was ordered by, where the store keeps it.
    pub fence: Option<Fence>,
    /// The slot of a rotation that the journal should know and does not.
    pub strange: Option<String>,
}

/// Where consumers read secrets.
///
/// Calls may be repeated after an unknown outcome; each says what a repeat does.
/// No call retries by itself.
#[async_trait]
pub trait SecretStore: Send + Sync {
    fn id(&self) -> &StoreId;

    /// How documents with several fields are written at `path`.
    fn document_format(&self) -> DocumentFormat;

    /// Looks for everything that would make a rotation at `path` fail later: missing
    /// rights, native rotation switched on, a foreign pending label, too few versions
    /// kept. Changes nothing.
    ///
    /// # Errors
    /// [`Fault::Denied`], [`Fault::Invalid`] with what to change, or a passing fault.
    async fn preflight(&self, path: &str) -> Result<(), Fault>;

    /// The version that consumers read now; `None` where the path does not exist.
    ///
    /// # Errors
    /// Any but [`Fault::Conflict`].
    async fn read(&self, path: &str) -> Result<Option<Stored>, Fault>;

    /// Publishes `content` as a new version at `path`, only where `base` is still the
    /// published version (`None`: where nothing is published). Repeating it with the
    /// same token and content returns the first version.
    ///
    /// # Errors
    /// [`Fault::Conflict`] where another version stands there; nothing was published.
    async fn write(
        &self,
        path: &str,
        content: &SecretValue,
        base: Option<&VersionRef>,
        token: &WriteToken,
    ) -> Result<VersionRef, Fault>;

    /// Writes `value` into a write-once slot; consumers see no change. Idempotent: the
    /// same value again returns the first version.
    ///
    /// # Errors
    /// [`Fault::Conflict`] where the slot holds another value or is a tombstone.
    async fn stage(&self, slot: &Slot, value: &SecretValue) -> Result<VersionRef, Fault>;

    /// What the slot holds, read from the store and not from a cache.
    ///
    /// # Errors
    /// Any but [`Fault::Conflict`].
    async fn read_slot(&self, slot: &Slot) -> Result<SlotState, Fault>;

    /// Empties the slot and leaves its name as a tombstone. Idempotent.
    ///
    /// # Errors
    /// Any but [`Fault::Conflict`].
    async fn purge(&self, slot: &Slot) -> Result<(), Fault>;

    /// Reads a value that is not one of ours, by the store's own path and field:
    /// administrators' credentials, inboxes.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the field does not exist.
    async fn read_other(&self, place: &Place) -> Result<Option<SecretValue>, Fault>;

    /// Empties an inbox after its value was taken over. Idempotent.
    ///
    /// # Errors
    /// Any but [`Fault::Conflict`].
    async fn empty_inbox(&self, path: &str) -> Result<(), Fault>;

    /// The store's own clock (the Date header of an answer), where it has one.
    ///
    /// # Errors
    /// A passing fault where it cannot be asked.
    async fn clock(&self) -> Result<Option<Timestamp>, Fault>;

    /// What earlier work left behind that the journal must know, as far as this store can
    /// tell: nothing where it cannot, or where the login may not look. Changes nothing.
    ///
    /// # Errors
    /// A passing fault where the store cannot be asked.
    async fn traces(&self, trail: &Trail) -> Result<Traces, Fault> {
        let _ = trail;
        Ok(Traces::default())
    }

    /// How a consumer's definition names exactly `version` at `path`; `None` where the
    /// store has no such references.
    ///
    /// # Errors
    /// Any but [`Fault::Conflict`]: a reference may hold names that only the store knows.
    async fn pinned_reference(&self, path: &str, version: &VersionRef) -> Result<Option<String>, Fault>;
}
