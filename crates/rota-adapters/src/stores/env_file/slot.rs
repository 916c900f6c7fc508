//! Write-once slots beside an env file, one file each.

use rota_core::fault::Fault;
use rota_core::id::{RotationId, VersionRef};
use rota_core::value::SecretValue;
use rota_engine::ports::{Slot, SlotRole, SlotState, Trail};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::folder::{Folder, Ownership};

/// Under which a slot is written before it gets its name.
const TEMPORARY: &str = "new-slot";

/// How the name of a slot begins; its rotation follows.
const SLOT: &str = "slot-";

const FILLED: &str = "# rota slot: filled ";
const PURGED: &str = "# rota slot: purged ";

/// What the slot holds. `state` is `None` where nothing was ever written beside the file.
pub(super) fn read(state: Option<&Folder>, slot: &Slot) -> Result<SlotState, Fault> {
    let name = name(slot);
    let Some((state, file)) = state.map(|state| Ok((state, state.read(&name)?))).transpose()? else {
        return Ok(SlotState::Empty);
    };
    let Some(file) = file else { return Ok(SlotState::Empty) };
    let damaged = || {
        Fault::invalid(format!(
            "{} is damaged, if the rotation cannot go on without it, abandon it with `rota abandon {}`",
            state.path_of(&name).display(),
            slot.secret
        ))
    };
    let text = str::from_utf8(&file.bytes).map_err(|_| damaged())?;
    let (line, value) = text.split_once('\n').ok_or_else(damaged)?;
    if line.starts_with(PURGED) {
        return Ok(SlotState::Tombstone);
    }
    if !line.starts_with(FILLED) {
        return Err(damaged());
    }
    let value = SecretValue::new(value.to_owned()).map_err(|_| damaged())?;
    Ok(SlotState::Filled { version: VersionRef(name), value })
}

/// Fills the slot. The caller holds the lock.
pub(super) fn stage(state: &Folder, slot: &Slot, value: &SecretValue) -> Result<VersionRef, Fault> {
    let name = name(slot);
    match read(Some(state), slot)? {
        SlotState::Empty => {}
        SlotState::Filled { version, value: found } if found.same_as(value) => return Ok(version),
        SlotState::Filled { .. } => {
            return Err(Fault::conflict(format!("the slot {name} holds another value")));
        }
        SlotState::Tombstone => return Err(Fault::conflict(format!("the slot {name} was purged"))),
    }
    let head = head(FILLED, slot);
    let mut text = Zeroizing::new(String::with_capacity(head.len() + value.byte_len()));
    text.push_str(&head);
    text.push_str(value.expose());
    state.replace(&name, TEMPORARY, text.as_bytes(), Ownership::private())?;
    Ok(VersionRef(name))
}

/// Puts a tombstone over the slot. The caller holds the lock.
pub(super) fn purge(state: &Folder, slot: &Slot) -> Result<(), Fault> {
    match read(Some(state), slot) {
        Ok(SlotState::Tombstone) => return Ok(()),
        // A damaged one is purged like a good one.
        Ok(SlotState::Empty | SlotState::Filled { .. }) | Err(Fault::Invalid { .. }) => {}
        Err(fault) => return Err(fault),
    }
    state.replace(&name(slot), TEMPORARY, head(PURGED, slot).as_bytes(), Ownership::private())
}

/// A slot of the secret, filled or purged, whose rotation should be known and is not.
pub(super) fn strange(state: &Folder, trail: &Trail) -> Result<Option<String>, Fault> {
    for found in state.names()? {
        let rotation = found.strip_prefix(SLOT).and_then(|rest| Uuid::parse_str(rest.get(..32)?).ok());
        let Some(rotation) = rotation.map(RotationId).filter(|rotation| trail.is_strange(*rotation)) else {
            continue;
        };
        // The folder has the slots of every secret of the file.
        let of_secret = SlotRole::ALL.iter().any(|role| name(&trail.slot(rotation, *role)) == found);
        if of_secret {
            return Ok(Some(format!("rotation {rotation}")));
        }
    }
    Ok(None)
}

/// For people who look into the folder.
fn head(state: &str, slot: &Slot) -> String {
    format!("{state}rotation={} secret={} role={}\n", slot.rotation, slot.secret, slot.role.as_str())
}

/// A secret's name can be longer than a file's, and has slashes.
fn name(slot: &Slot) -> String {
    let id = Uuid::new_v5(&slot.rotation.0, slot.secret.as_str().as_bytes());
    format!("{SLOT}{}-{}-{}", slot.rotation.0.simple(), id.simple(), slot.role.as_str())
}
