//! Write-once slots as versions of a secret, found by version id and kept alive by a
//! label of ours.
//!
//! A slot stands in the secret itself; in a secret of its own where the secret is
//! a document that others share, or where there is no published version yet (the
//! first version of a secret becomes the current one, whatever its label).
//!
//! A version without labels is a tombstone: AWS refuses another value under its id
//! for as long as it keeps the version, which is a day at least. After that only the
//! journal knows that the slot was used.

use std::collections::BTreeSet;

use rota_core::fault::Fault;
use rota_core::id::{RotationId, VersionRef};
use rota_core::value::SecretValue;
use rota_engine::ports::{Slot, SlotRole, SlotState, Trail};
use uuid::Uuid;

use super::api::{Api, Creation, Move, NewSecret, Put, Version, Which};
use super::settings::{AwsSecretsManagerSettings, is_name};
use super::{CURRENT, constant_text, empty_tags};

/// Names our slots (UUID version 5, RFC 9562).
const SLOTS: Uuid = Uuid::from_u128(0x1d2f_8a64_3c5b_4e0f_9a77_52c1_8d0e_6b11);

/// What stands in a slot that was purged before it was written, and in a secret of
/// slots as the current version.
const NOTHING: &str = "(nothing: rota keeps pending values in other versions of this secret)";

/// Where a slot is, and as what.
struct Names<'a> {
    slot: &'a Slot,
    /// The version's id.
    id: String,
    label: String,
    /// The secret that holds nothing but slots.
    own: String,
}

impl<'a> Names<'a> {
    fn new(slot: &'a Slot, settings: &AwsSecretsManagerSettings) -> Result<Self, Fault> {
        let Slot { rotation, secret, role, beside, shared: _ } = slot;
        let id = format!("{rotation}/{}/{beside}/{secret}", role.as_str());
        let id = Uuid::new_v5(&SLOTS, id.as_bytes()).hyphenated().to_string();
        let label = format!("{}{id}", prefix(*role));
        let own = format!("{}/{}/{secret}", settings.slots(), beside.trim_start_matches('/'));
        if !is_name(&own) {
            return Err(Fault::invalid(format!(
                "`{own}` is no name for a secret (512 letters, digits and `/_+=.@-`), shorten the path or `slots`"
            )));
        }
        Ok(Self { slot, id, label, own })
    }

    /// The secrets that may hold it.
    fn homes(&self) -> impl Iterator<Item = &str> {
        let beside = (!self.slot.shared).then_some(self.slot.beside.as_str());
        beside.into_iter().chain([self.own.as_str()])
    }
}

/// A version under the slot's id.
struct Found<'a> {
    home: &'a str,
    version: Version,
}

impl Found<'_> {
    fn is_filled(&self, names: &Names<'_>) -> bool {
        self.version.labels.contains(&names.label)
    }
}

async fn find<'a>(api: &Api, names: &'a Names<'_>) -> Result<Option<Found<'a>>, Fault> {
    for home in names.homes() {
        if let Some(version) = api.get(home, Which::Id(&names.id)).await? {
            return Ok(Some(Found { home, version }));
        }
    }
    Ok(None)
}

/// A filled slot of the secret whose rotation should be known and is not. Of purged ones
/// AWS keeps no name.
pub(super) async fn strange(
    api: &Api,
    settings: &AwsSecretsManagerSettings,
    trail: &Trail,
) -> Result<Option<String>, Fault> {
    let mut known = BTreeSet::new();
    for (rotation, role) in trail.known().iter().flat_map(|id| SlotRole::ALL.map(|role| (*id, role))) {
        known.insert(Names::new(&trail.slot(rotation, role), settings)?.label);
    }
    let any = trail.slot(RotationId(Uuid::nil()), SlotRole::Candidate);
    let names = Names::new(&any, settings)?;
    let is_strange = |label: &String| {
        SlotRole::ALL.iter().any(|role| label.starts_with(&prefix(*role))) && !known.contains(label)
    };
    for home in names.homes() {
        let found = match api.describe(home).await {
            Err(Fault::Denied { .. }) => continue,
            found => found?,
        };
        let labels = found.into_iter().flat_map(|found| found.labels.into_values()).flatten();
        if !labels.into_iter().any(|label| is_strange(&label)) {
            continue;
        }
        // Only the list of versions says how old each is.
        let recent = api.versions(home).await?.into_iter().filter(|version| trail.is_recent(version.at));
        if let Some(label) = recent.flat_map(|version| version.labels).find(is_strange) {
            return Ok(Some(format!("an unknown rotation, label `{label}` of `{home}`")));
        }
    }
    Ok(None)
}

fn prefix(role: SlotRole) -> String {
    format!("rota-{}-", role.as_str())
}

pub(super) async fn read(
    api: &Api,
    settings: &AwsSecretsManagerSettings,
    slot: &Slot,
) -> Result<SlotState, Fault> {
    let names = Names::new(slot, settings)?;
    Ok(match find(api, &names).await? {
        None => SlotState::Empty,
        Some(found) if found.is_filled(&names) => {
            SlotState::Filled { version: VersionRef(names.id.clone()), value: found.version.value }
        }
        Some(_) => SlotState::Tombstone,
    })
}

pub(super) async fn stage(
    api: &Api,
    settings: &AwsSecretsManagerSettings,
    slot: &Slot,
    value: &SecretValue,
) -> Result<VersionRef, Fault> {
    let names = Names::new(slot, settings)?;
    let purged = || Fault::conflict(format!("the {} slot of this rotation was purged", slot.role.as_str()));
    let other =
        || Fault::conflict(format!("the {} slot of this rotation holds another value", slot.role.as_str()));
    match find(api, &names).await? {
        Some(found) if !found.is_filled(&names) => return Err(purged()),
        Some(found) if !found.version.value.same_as(value) => return Err(other()),
        Some(_) => return Ok(VersionRef(names.id)),
        None => {}
    }
    match put(api, settings, &names, value).await? {
        Put::Done { labels } if labels.contains(&names.label) => Ok(VersionRef(names.id)),
        Put::Done { .. } => Err(purged()),
        Put::OtherContent => Err(other()),
        Put::NoSecret => Err(vanished(&names)),
    }
}

/// Takes the label away, so that nothing reads the version any more and AWS may drop
/// it. A slot that was never written gets a version without a value first, which
/// refuses a write that comes late.
pub(super) async fn purge(api: &Api, settings: &AwsSecretsManagerSettings, slot: &Slot) -> Result<(), Fault> {
    let names = Names::new(slot, settings)?;
    if find(api, &names).await?.is_none() {
        match put(api, settings, &names, &constant_text(NOTHING)).await? {
            // Another content: the late write was faster, and is what is purged.
            Put::Done { .. } | Put::OtherContent => {}
            Put::NoSecret => return Err(vanished(&names)),
        }
    }
    let Some(found) = find(api, &names).await? else {
        return Err(Fault::transient("the slot does not show what was written yet"));
    };
    if !found.is_filled(&names) {
        return Ok(());
    }
    match api.move_label(found.home, &names.label, Some(&names.id), None).await? {
        Move::Done => Ok(()),
        Move::Refused => Err(Fault::transient("the slot's label moved meanwhile, looking again")),
    }
}

fn vanished(names: &Names<'_>) -> Fault {
    Fault::transient(format!("the secrets around `{}` changed meanwhile, looking again", names.slot.beside))
}

/// Adds the slot's version where it belongs.
async fn put(
    api: &Api,
    settings: &AwsSecretsManagerSettings,
    names: &Names<'_>,
    value: &SecretValue,
) -> Result<Put, Fault> {
    let Names { slot, id, label, own } = names;
    let published = !slot.shared && api.get(&slot.beside, Which::Label(CURRENT)).await?.is_some();
    if published {
        return api.put(&slot.beside, value, id, label).await;
    }
    match api.put(own, value, id, label).await? {
        Put::NoSecret => {}
        done @ (Put::Done { .. } | Put::OtherContent) => return Ok(done),
    }
    let new = NewSecret {
        name: own,
        about: "Pending values of rota; consumers must not read it",
        value: &constant_text(NOTHING),
        token: &Uuid::new_v5(&SLOTS, own.as_bytes()).hyphenated().to_string(),
        kms_key: settings.kms_key.as_deref(),
        tags: settings.tags.as_ref().unwrap_or(empty_tags()),
    };
    match api.create(&new).await? {
        Creation::Created | Creation::Exists => api.put(own, value, id, label).await,
    }
}
