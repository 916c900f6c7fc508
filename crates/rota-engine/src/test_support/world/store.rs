use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rota_core::document::DocumentFormat;
use rota_core::fault::Fault;
use rota_core::id::{StoreId, VersionRef};
use rota_core::value::SecretValue;
use uuid::Uuid;

use super::{FakeWorld, WorldEventKind, WorldState};
use crate::guard::Guard;
use crate::ports::{Fence, Place, SecretStore, Slot, SlotState, Stored, Traces, Trail, WriteToken};

/// One store, with the promises of the real ones at their weakest: reads may lag,
/// slots are written once, a publication compares what it replaces.
#[derive(Clone)]
pub struct FakeStore {
    world: FakeWorld,
    id: StoreId,
    system: String,
}

/// What one store holds.
pub struct StoreState {
    pub paths: BTreeMap<String, Vec<Version>>,
    pub slots: BTreeMap<Slot, Vec<SlotVersion>>,
    /// Administrators' credentials and inboxes, by `path` or `path#field`.
    pub others: BTreeMap<String, String>,
    tokens: BTreeMap<Uuid, (String, usize)>,
    fences: BTreeMap<String, Fence>,
    next_version: u64,
    /// A read of a path may show what was true up to this long ago.
    pub stale_for: SignedDuration,
    /// How far the store's clock is from the true time.
    pub clock_offset: SignedDuration,
    /// Consumers' definitions can name exact versions.
    pub pins: bool,
    pub format: DocumentFormat,
    /// What stands in the way of a rotation.
    pub obstacle: Option<Fault>,
}

pub struct Version {
    pub reference: VersionRef,
    pub content: String,
    pub at: Timestamp,
}

pub struct SlotVersion {
    pub reference: VersionRef,
    /// `None`: a tombstone.
    pub value: Option<String>,
    pub at: Timestamp,
}

impl Default for StoreState {
    fn default() -> Self {
        Self {
            paths: BTreeMap::new(),
            slots: BTreeMap::new(),
            others: BTreeMap::new(),
            tokens: BTreeMap::new(),
            fences: BTreeMap::new(),
            next_version: 0,
            stale_for: SignedDuration::ZERO,
            clock_offset: SignedDuration::ZERO,
            pins: true,
            format: DocumentFormat::Json,
            obstacle: None,
        }
    }
}

impl StoreState {
    /// The published content of `path`.
    #[must_use]
    pub fn current(&self, path: &str) -> Option<&Version> {
        self.paths.get(path).and_then(|versions| versions.last())
    }

    /// What a reader sees of `path` whose view is as old as `seen_at`.
    #[must_use]
    pub fn at(&self, path: &str, seen_at: Timestamp) -> Option<&Version> {
        self.paths.get(path)?.iter().rfind(|version| version.at <= seen_at)
    }

    /// The content that an exact reference (`path@version`) names.
    #[must_use]
    pub fn referenced(&self, reference: &str) -> Option<&str> {
        let (path, version) = reference.rsplit_once('@')?;
        self.paths.get(path)?.iter().find(|v| v.reference.0 == version).map(|v| v.content.as_str())
    }

    /// Publishes without comparing, as somebody else or at the start of the world.
    pub fn put(&mut self, path: &str, content: &str, at: Timestamp) -> VersionRef {
        let reference = self.new_reference();
        let version = Version { reference: reference.clone(), content: content.to_owned(), at };
        self.paths.entry(path.to_owned()).or_default().push(version);
        reference
    }

    /// What the slot holds in truth.
    #[must_use]
    pub fn slot_value(&self, slot: &Slot) -> Option<&str> {
        self.slots.get(slot)?.last()?.value.as_deref()
    }

    fn new_reference(&mut self) -> VersionRef {
        self.next_version += 1;
        VersionRef(format!("v{}", self.next_version))
    }
}

impl WorldState {
    /// How old the view of a reader of `store` is now.
    pub(super) fn seen_at(&mut self, store: &StoreId, now: Timestamp) -> Timestamp {
        let stale_for = self.stores.get(store).map_or(SignedDuration::ZERO, |store| store.stale_for);
        let lag = self.random.below(u64::try_from(stale_for.as_millis()).unwrap_or(0) + 1);
        let lag = SignedDuration::from_millis(i64::try_from(lag).unwrap_or(0));
        now.saturating_sub(lag).unwrap_or(Timestamp::MIN)
    }
}

fn value(text: &str) -> Result<SecretValue, Fault> {
    SecretValue::new(text.to_owned()).map_err(|error| Fault::invalid(error.to_string()))
}

fn key(place: &Place) -> String {
    place.field.as_ref().map_or_else(|| place.path.clone(), |field| format!("{}#{field}", place.path))
}

impl FakeWorld {
    pub fn add_store(&self, id: &StoreId) -> FakeStore {
        self.state().stores.entry(id.clone()).or_default();
        FakeStore { world: self.clone(), id: id.clone(), system: format!("store:{id}") }
    }

    /// # Errors
    /// Where no store of that name was added.
    pub fn fake_store(&self, id: &StoreId) -> Result<FakeStore, Fault> {
        if !self.state().stores.contains_key(id) {
            return Err(Fault::invalid(format!("the fake world has no store `{id}`")));
        }
        Ok(FakeStore { world: self.clone(), id: id.clone(), system: format!("store:{id}") })
    }
}

impl FakeStore {
    async fn call<T: Send>(
        &self,
        name: &'static str,
        detail: String,
        effect: impl FnOnce(&FakeWorld, &mut WorldState, &StoreId) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let (world, id) = (self.world.clone(), self.id.clone());
        let wire = self.world.wire().clone();
        wire.call(&self.system, name, detail, move || effect(&world, &mut world.state(), &id)).await
    }

    /// Somebody who is not Rota publishes `content` at `path`.
    pub fn write_as_other(&self, path: &str, content: &str) {
        let now = self.world.now();
        let mut state = self.world.state();
        let Some(store) = state.stores.get_mut(&self.id) else { return };
        let version = store.put(path, content, now);
        let kind =
            WorldEventKind::PublishedByOther { store: self.id.clone(), path: path.to_owned(), version };
        self.world.note(&mut state, kind);
        self.world.after_publication(&mut state, &self.id);
    }
}

fn of<'s>(state: &'s mut WorldState, id: &StoreId) -> Result<&'s mut StoreState, Fault> {
    state.stores.get_mut(id).ok_or_else(|| Fault::invalid("the fake store was removed"))
}

#[async_trait]
impl SecretStore for FakeStore {
    fn id(&self) -> &StoreId {
        &self.id
    }

    fn document_format(&self) -> DocumentFormat {
        self.world.state().stores.get(&self.id).map_or(DocumentFormat::Json, |store| store.format)
    }

    async fn preflight(&self, path: &str) -> Result<(), Fault> {
        self.call("preflight", path.to_owned(), |_, state, id| match &of(state, id)?.obstacle {
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        })
        .await
    }

    async fn read(&self, path: &str) -> Result<Option<Stored>, Fault> {
        let path = path.to_owned();
        self.call("read", path.clone(), move |world, state, id| {
            let seen_at = state.seen_at(id, world.now());
            of(state, id)?
                .at(&path, seen_at)
                .map(|version| {
                    Ok(Stored { version: version.reference.clone(), value: value(&version.content)? })
                })
                .transpose()
        })
        .await
    }

    async fn write(
        &self,
        path: &str,
        content: &SecretValue,
        base: Option<&VersionRef>,
        token: &WriteToken,
    ) -> Result<VersionRef, Fault> {
        let (path, content) = (path.to_owned(), content.expose().to_owned());
        let (base, token) = (base.cloned(), token.clone());
        self.call("write", path.clone(), move |world, state, id| {
            let compares = state.guards.stand(Guard::PublicationsCompare);
            let store = of(state, id)?;
            if let Some((first_path, index)) = store.tokens.get(&token.token) {
                return match store.paths.get(first_path).and_then(|versions| versions.get(*index)) {
                    Some(first) if *first_path == path && first.content == content => {
                        Ok(first.reference.clone())
                    }
                    _ => Err(Fault::conflict(format!("`{path}`: the token was used for other content"))),
                };
            }
            if compares && store.current(&path).map(|version| &version.reference) != base.as_ref() {
                return Err(Fault::conflict(format!("`{path}` was written by somebody else meanwhile")));
            }
            let version = store.put(&path, &content, world.now());
            let index = store.paths.get(&path).map_or(0, |versions| versions.len().saturating_sub(1));
            store.tokens.insert(token.token, (path.clone(), index));
            let WriteToken { token: _, incarnation, epoch, effect } = token;
            store.fences.insert(path.clone(), Fence { incarnation, epoch, effect });
            let kind = WorldEventKind::Published {
                store: id.clone(),
                path,
                version: version.clone(),
                epoch,
                effect,
            };
            world.note(state, kind);
            world.after_publication(state, id);
            Ok(version)
        })
        .await
    }

    async fn stage(&self, slot: &Slot, value: &SecretValue) -> Result<VersionRef, Fault> {
        let (slot, value) = (slot.clone(), value.expose().to_owned());
        let detail = format!("{} of {}", slot.role.as_str(), slot.secret);
        self.call("stage", detail, move |world, state, id| {
            let once = state.guards.stand(Guard::SlotsAreWrittenOnce);
            let store = of(state, id)?;
            let mut rewritten = false;
            if let Some(last) = store.slots.get(&slot).and_then(|versions| versions.last()) {
                if last.value.as_ref() == Some(&value) {
                    return Ok(last.reference.clone());
                }
                if once {
                    return Err(Fault::conflict(format!("the {} slot is taken", slot.role.as_str())));
                }
                rewritten = true;
            }
            let reference = store.new_reference();
            let version = SlotVersion { reference: reference.clone(), value: Some(value), at: world.now() };
            store.slots.entry(slot.clone()).or_default().push(version);
            let kind = if rewritten {
                WorldEventKind::Rewritten { store: id.clone(), slot }
            } else {
                WorldEventKind::Staged { store: id.clone(), slot }
            };
            world.note(state, kind);
            Ok(reference)
        })
        .await
    }

    async fn read_slot(&self, slot: &Slot) -> Result<SlotState, Fault> {
        let slot = slot.clone();
        let detail = format!("{} of {}", slot.role.as_str(), slot.secret);
        self.call("read_slot", detail, move |_, state, id| {
            // The port wants slots from the store itself: no lag here.
            Ok(match of(state, id)?.slots.get(&slot).and_then(|versions| versions.last()) {
                None => SlotState::Empty,
                Some(SlotVersion { value: None, .. }) => SlotState::Tombstone,
                Some(SlotVersion { reference, value: Some(text), .. }) => {
                    SlotState::Filled { version: reference.clone(), value: value(text)? }
                }
            })
        })
        .await
    }

    async fn purge(&self, slot: &Slot) -> Result<(), Fault> {
        let slot = slot.clone();
        let detail = format!("{} of {}", slot.role.as_str(), slot.secret);
        self.call("purge", detail, move |world, state, id| {
            let store = of(state, id)?;
            let reference = store.new_reference();
            let versions = store.slots.entry(slot.clone()).or_default();
            if versions.last().is_some_and(|last| last.value.is_none()) {
                return Ok(());
            }
            versions.push(SlotVersion { reference, value: None, at: world.now() });
            world.note(state, WorldEventKind::Purged { store: id.clone(), slot });
            Ok(())
        })
        .await
    }

    async fn read_other(&self, place: &Place) -> Result<Option<SecretValue>, Fault> {
        let key = key(place);
        self.call("read_other", key.clone(), move |_, state, id| {
            of(state, id)?.others.get(&key).map(|text| value(text)).transpose()
        })
        .await
    }

    async fn empty_inbox(&self, path: &str) -> Result<(), Fault> {
        let path = path.to_owned();
        self.call("empty_inbox", path.clone(), move |world, state, id| {
            if of(state, id)?.others.remove(&path).is_some() {
                world.note(state, WorldEventKind::InboxEmptied { store: id.clone(), path });
            }
            Ok(())
        })
        .await
    }

    async fn clock(&self) -> Result<Option<Timestamp>, Fault> {
        self.call("clock", String::new(), |world, state, id| {
            Ok(world.now().checked_add(of(state, id)?.clock_offset).ok())
        })
        .await
    }

    async fn traces(&self, trail: &Trail) -> Result<Traces, Fault> {
        let trail = trail.clone();
        self.call("traces", trail.path().to_owned(), move |_, state, id| {
            let store = of(state, id)?;
            let strange = store.slots.keys().find(|slot| {
                **slot == trail.slot(slot.rotation, slot.role) && trail.is_strange(slot.rotation)
            });
            Ok(Traces {
                fence: store.fences.get(trail.path()).copied(),
                strange: strange.map(|slot| format!("rotation {}", slot.rotation)),
            })
        })
        .await
    }

    async fn pinned_reference(&self, path: &str, version: &VersionRef) -> Result<Option<String>, Fault> {
        let pins = self.world.state().stores.get(&self.id).is_some_and(|store| store.pins);
        Ok(pins.then(|| format!("{path}@{version}")))
    }
}
