//! Write-once slots in a part of the mount that only the daemon reads.
//!
//! A slot is version 1 of a path of its own, written where there is no version yet. Its
//! tombstone is that version, destroyed; the path's metadata stays, because deleting
//! it would let the next write begin at version 1 again.

use rota_core::fault::Fault;
use rota_core::id::{RotationId, VersionRef};
use rota_core::value::SecretValue;
use rota_engine::ports::{Slot, SlotRole, SlotState, Trail};
use uuid::Uuid;

use super::kv::{Current, Kv, Layout};

/// The version that a slot is.
const FIRST: u64 = 1;

/// Stands for a moment in a slot that is purged before it was written.
const NOTHING: &str = "(nothing)";

/// A slot of the secret, filled or purged, whose rotation should be known and is not.
pub(super) async fn strange(kv: &Kv<'_>, slots: &str, trail: &Trail) -> Result<Option<String>, Fault> {
    let folder = format!("{slots}/{}", trail.path());
    for found in kv.list(&folder).await? {
        let rotation = found.get(..32).and_then(|id| Uuid::parse_str(id).ok()).map(RotationId);
        let Some(rotation) = rotation.filter(|rotation| trail.is_strange(*rotation)) else { continue };
        // The folder has the slots of every secret of the path.
        let name = format!("{folder}/{found}");
        if SlotRole::ALL.iter().any(|role| path(slots, &trail.slot(rotation, *role)) == name) {
            return Ok(Some(format!("rotation {rotation}")));
        }
    }
    Ok(None)
}

/// `SLOTS/PATH/ROTATION-SECRET-ROLE`.
pub(super) fn path(slots: &str, slot: &Slot) -> String {
    let Slot { rotation, secret, role, beside, shared: _ } = slot;
    let secret = Uuid::new_v5(&rotation.0, secret.as_str().as_bytes());
    format!("{slots}/{beside}/{}-{}-{}", rotation.0.simple(), secret.simple(), role.as_str())
}

pub(super) async fn read(kv: &Kv<'_>, path: &str) -> Result<SlotState, Fault> {
    match kv.read(path, Some(FIRST)).await? {
        Current::Absent => Ok(SlotState::Empty),
        Current::Live(live) => Ok(SlotState::Filled { version: live.version, value: live.value }),
        Current::Gone { destroyed: true, .. } => Ok(SlotState::Tombstone),
        Current::Gone { destroyed: false, number } => Err(Fault::invalid(format!(
            "the slot `{path}` was deleted by somebody, run `vault kv undelete -mount={} -versions={number} {path}`",
            kv.mount
        ))),
    }
}

pub(super) async fn stage(kv: &Kv<'_>, path: &str, value: &SecretValue) -> Result<VersionRef, Fault> {
    if let Some(version) = decided(read(kv, path).await?, path, value)? {
        return Ok(version);
    }
    if let Some(version) = create(kv, path, value).await? {
        return Ok(version);
    }
    let other = || Fault::conflict(format!("the slot `{path}` was written by somebody else"));
    decided(read(kv, path).await?, path, value)?.ok_or_else(other)
}

/// The version, where `state` is a slot that holds `value`; `None` where it is empty.
fn decided(state: SlotState, path: &str, value: &SecretValue) -> Result<Option<VersionRef>, Fault> {
    match state {
        SlotState::Empty => Ok(None),
        SlotState::Filled { version, value: found } if found.same_as(value) => Ok(Some(version)),
        SlotState::Filled { .. } => Err(Fault::conflict(format!("the slot `{path}` holds another value"))),
        SlotState::Tombstone => Err(Fault::conflict(format!("the slot `{path}` was purged"))),
    }
}

/// Writes version 1; `None` where there is one. Whoever may create and not update is
/// refused then, which is how Vault itself keeps slots from being written twice.
async fn create(kv: &Kv<'_>, path: &str, value: &SecretValue) -> Result<Option<VersionRef>, Fault> {
    match kv.write(path, value, Layout::Plain, 0).await {
        Err(Fault::Denied { message }) => match kv.read(path, Some(FIRST)).await? {
            Current::Absent => Err(Fault::Denied { message }),
            Current::Live(_) | Current::Gone { .. } => Ok(None),
        },
        other => other,
    }
}

pub(super) async fn purge(kv: &Kv<'_>, path: &str) -> Result<(), Fault> {
    let is_tombstone = async || match kv.read(path, Some(FIRST)).await? {
        Current::Gone { destroyed, .. } => Ok(Some(destroyed)),
        Current::Live(_) => Ok(Some(false)),
        Current::Absent => Ok::<_, Fault>(None),
    };
    match is_tombstone().await? {
        Some(true) => return Ok(()),
        Some(false) => {}
        None => {
            let nothing = SecretValue::new(NOTHING.to_owned())
                .map_err(|error| Fault::invalid(format!("the slot `{path}`: {error}")))?;
            // Lost to a write that came late: that one is destroyed.
            create(kv, path, &nothing).await?;
        }
    }
    kv.destroy(path, &[FIRST]).await?;
    match is_tombstone().await? {
        Some(true) => Ok(()),
        Some(false) | None => {
            Err(Fault::transient(format!("Vault does not show that `{path}` is destroyed yet")))
        }
    }
}
