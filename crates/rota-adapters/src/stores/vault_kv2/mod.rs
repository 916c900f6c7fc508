//! Vault's KV version 2 engine (OpenBao's too): a published value is the current version
//! of its path.
//!
//! Every write names the version that it replaces (check-and-set), so that of two
//! writers one wins. A text is kept under the key `value`; a document is kept as its
//! fields, so that people and templates find them where they expect them. What stands
//! there already decides, where it does.
//!
//! After a lost answer the write is recognised by standing right after its base with
//! the same content: Vault has no place for the name of a write.
//!
//! Deliberately absent: KV version 1, patch, and deleting metadata.

mod kv;
mod settings;
mod slot;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rota_core::document::DocumentFormat;
use rota_core::fault::Fault;
use rota_core::id::{StoreId, VersionRef};
use rota_core::policy::kinds::{KindSpec, Port};
use rota_core::policy::model::StorePolicy;
use rota_core::publication::Place;
use rota_core::value::SecretValue;
use rota_engine::ports::{SecretStore, Slot, SlotState, Stored, Traces, Trail, WriteToken};

use super::{part_of, read_settings};
use crate::catalog::StoreKind;
use crate::environment::AdapterEnvironment;
use crate::vault::{VaultConnection, is_path};
use kv::{Current, Kv, Limits, Live, layout_of};
pub use settings::VaultKv2Settings;

pub const KIND: StoreKind = StoreKind {
    spec: KindSpec::new(Port::Store, "vault-kv2", "a KV version 2 engine of Vault or OpenBao")
        .inline::<VaultKv2Settings>()
        .lint(settings::lint)
        .facts(settings::facts),
    build: |policy, environment| Ok(Arc::new(VaultKv2Store::new(policy, environment)?)),
};

/// With one version a value that was replaced by mistake is gone.
const FEWEST_VERSIONS: u64 = 2;

/// An inbox is a person's; more pastes than this without a rotation are not tidied.
const INBOX_VERSIONS: u64 = 100;

/// One mount of the Vault server that the daemon's configuration names.
pub struct VaultKv2Store {
    id: StoreId,
    settings: VaultKv2Settings,
    connection: Arc<VaultConnection>,
}

impl VaultKv2Store {
    /// Makes no call; the first use logs in.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the settings do not fit or no server is configured.
    pub fn new(policy: &StorePolicy, environment: &AdapterEnvironment) -> Result<Self, Fault> {
        let id = &policy.id;
        let settings: VaultKv2Settings = read_settings(policy)?;
        if !is_path(settings.mount()) || !is_path(settings.slots()) {
            return Err(Fault::invalid(format!("`mount` or `slots` of store `{id}` is not a path")));
        }
        let connection = environment.vault.clone().ok_or_else(|| {
            Fault::invalid(format!(
                "store `{id}` is in Vault, and the daemon's configuration names none, set `vault.address`"
            ))
        })?;
        Ok(Self { id: id.clone(), settings, connection })
    }

    fn kv(&self) -> Kv<'_> {
        Kv { connection: &self.connection, mount: self.settings.mount() }
    }

    fn slot_path(&self, slot: &Slot) -> Result<String, Fault> {
        let path = slot::path(self.settings.slots(), slot);
        check_path(&path)?;
        Ok(path)
    }
}

fn check_path(path: &str) -> Result<(), Fault> {
    if is_path(path) {
        return Ok(());
    }
    Err(Fault::invalid(format!("`{path}` is not a path in Vault, write letters, digits and `_-.+=@~:/`")))
}

/// Equal as a text, or as JSON: Vault gives fields back in an order of its own.
fn same(one: &SecretValue, other: &SecretValue) -> bool {
    let json = |value: &SecretValue| serde_json::from_str::<serde_json::Value>(value.expose()).ok();
    one.same_as(other) || json(one).is_some_and(|one| json(other).is_some_and(|other| one == other))
}

/// True where `live` is what a write of `content` over `base` left.
fn is_ours(live: &Live, content: &SecretValue, base: Option<&VersionRef>) -> bool {
    let follows = match base {
        Some(VersionRef(base)) => {
            let number = base.split('@').next().and_then(|number| number.parse::<u64>().ok());
            number.is_some_and(|number| live.number == number + 1)
        }
        None => true,
    };
    follows && same(&live.value, content)
}

fn check_limits(path: &str, limits: &[Limits]) -> Result<(), Fault> {
    for Limits { max_versions, delete_version_after } in limits {
        // 0 and an empty text mean Vault's defaults: ten versions, no deletion.
        if (1..FEWEST_VERSIONS).contains(max_versions) {
            return Err(Fault::invalid(format!(
                "Vault keeps {max_versions} version of `{path}`, set max_versions to {FEWEST_VERSIONS} or more on it"
            )));
        }
        let never =
            matches!(delete_version_after.as_str(), "" | "0s") || delete_version_after.starts_with('-');
        if !never {
            return Err(Fault::invalid(format!(
                "Vault deletes versions of `{path}` after {delete_version_after}, values in use too, set \
                 delete_version_after to 0s on the mount and on the path"
            )));
        }
    }
    Ok(())
}

#[async_trait]
impl SecretStore for VaultKv2Store {
    fn id(&self) -> &StoreId {
        &self.id
    }

    fn document_format(&self) -> DocumentFormat {
        DocumentFormat::Json
    }

    async fn preflight(&self, path: &str) -> Result<(), Fault> {
        check_path(path)?;
        let (kv, slots) = (self.kv(), self.settings.slots());
        if path.strip_prefix(slots).is_some_and(|rest| rest.starts_with('/')) {
            return Err(Fault::invalid(format!("`{path}` lies among the slots, publish elsewhere")));
        }
        kv.check_mount().await?;
        // A path that nobody has used stands for every slot.
        let slot = format!("{slots}/{path}/slot");
        kv.check_capabilities(&[
            ("data", path, "create"),
            ("data", path, "read"),
            ("data", path, "update"),
            ("data", &slot, "create"),
            ("data", &slot, "read"),
            ("destroy", &slot, "update"),
        ])
        .await?;
        check_limits(path, &kv.limits(path).await?)?;
        kv.read(path, None).await.map(|_| ())
    }

    async fn read(&self, path: &str) -> Result<Option<Stored>, Fault> {
        check_path(path)?;
        match self.kv().read(path, None).await? {
            Current::Live(live) => Ok(Some(Stored { version: live.version, value: live.value })),
            Current::Absent | Current::Gone { .. } => Ok(None),
        }
    }

    async fn write(
        &self,
        path: &str,
        content: &SecretValue,
        base: Option<&VersionRef>,
        _token: &WriteToken,
    ) -> Result<VersionRef, Fault> {
        check_path(path)?;
        let kv = self.kv();
        let moved = || Fault::conflict(format!("`{path}` in Vault is not what it was when it was read"));
        let (cas, layout) = match (kv.read(path, None).await?, base) {
            (Current::Live(live), Some(base)) if live.version == *base => {
                // A single value stays one even where it is JSON by itself.
                let layout = match live.layout {
                    kv::Layout::Plain => kv::Layout::Plain,
                    kv::Layout::Fields => layout_of(content)?,
                };
                (live.number, layout)
            }
            (Current::Live(live), base) if is_ours(&live, content, base) => return Ok(live.version),
            (Current::Live(_), _) | (Current::Absent | Current::Gone { .. }, Some(_)) => return Err(moved()),
            (Current::Absent, None) => (0, layout_of(content)?),
            (Current::Gone { number, .. }, None) => (number, layout_of(content)?),
        };
        kv.write(path, content, layout, cas).await?.ok_or_else(moved)
    }

    async fn stage(&self, slot: &Slot, value: &SecretValue) -> Result<VersionRef, Fault> {
        slot::stage(&self.kv(), &self.slot_path(slot)?, value).await
    }

    async fn read_slot(&self, slot: &Slot) -> Result<SlotState, Fault> {
        slot::read(&self.kv(), &self.slot_path(slot)?).await
    }

    async fn purge(&self, slot: &Slot) -> Result<(), Fault> {
        slot::purge(&self.kv(), &self.slot_path(slot)?).await
    }

    async fn read_other(&self, place: &Place) -> Result<Option<SecretValue>, Fault> {
        match self.read(&place.path).await? {
            Some(stored) => part_of(place, DocumentFormat::Json, &stored.value),
            None => Ok(None),
        }
    }

    /// Destroys the versions that people have pasted.
    async fn empty_inbox(&self, path: &str) -> Result<(), Fault> {
        check_path(path)?;
        let kv = self.kv();
        match kv.read(path, None).await? {
            Current::Absent | Current::Gone { destroyed: true, .. } => Ok(()),
            Current::Live(Live { number, .. }) | Current::Gone { number, destroyed: false } => {
                let first = number.saturating_sub(INBOX_VERSIONS) + 1;
                kv.destroy(path, &(first..=number).collect::<Vec<_>>()).await
            }
        }
    }

    async fn clock(&self) -> Result<Option<Timestamp>, Fault> {
        self.connection.date().await.map(Some)
    }

    /// The names of the slots: Vault has no place for what a write was ordered by.
    async fn traces(&self, trail: &Trail) -> Result<Traces, Fault> {
        check_path(trail.path())?;
        let strange = slot::strange(&self.kv(), self.settings.slots(), trail).await?;
        Ok(Traces { fence: None, strange })
    }

    /// None: no rollout can put a version into what its consumers read from Vault.
    async fn pinned_reference(&self, _path: &str, _version: &VersionRef) -> Result<Option<String>, Fault> {
        Ok(None)
    }
}
