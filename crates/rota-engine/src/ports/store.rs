use async_trait::async_trait;
use jiff::Timestamp;
use rota_core::document::DocumentFormat;
use rota_core::fault::Fault;
use rota_core::id::{EffectNo, Epoch, Incarnation, RotationId, SecretId, StoreId, VersionRef};
use rota_core::policy::model::PolicyEntry;
use rota_core::publication::{Place, paths};
use rota_core::value::SecretValue;
use uuid::Uuid;

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

    /// How a consumer's definition names exactly `version` at `path`; `None` where the
    /// store has no such references.
    ///
    /// # Errors
    /// Any but [`Fault::Conflict`]: a reference may hold names that only the store knows.
    async fn pinned_reference(&self, path: &str, version: &VersionRef) -> Result<Option<String>, Fault>;
}
