//! The write-once slots: keeping the old value, staging the candidate, purging both.

use std::collections::BTreeMap;

use rota_core::fault::Fault;
use rota_core::id::{FieldName, VersionRef};
use rota_core::policy::model::SecretPolicy;
use rota_core::publication::{Material, Place, PublicationError, names, paths, read_back, read_first};
use rota_core::rotation::{Done, Event, HoldReason, Intent, Source, Step};
use rota_core::submission;
use rota_core::value::{Bundle, SecretValue};
use serde_json::json;

use super::publish::{LOOK_AGAIN_AFTER, LOOKS_AGAIN, must_be_shown};
use super::{intend, intend_anew, taken_over, target};
use crate::document_io;
use crate::guard::Guard;
use crate::ports::{SecretStore, Slot, SlotRole, SlotState, Which};
use crate::session::{Halt, Session};

impl Session<'_> {
    /// The slot of this rotation for `role`.
    pub(crate) fn slot(&self, role: SlotRole) -> Result<Slot, Fault> {
        Slot::of(self.entry(), self.rotation().id, role)
    }

    /// Where a person may paste the candidate.
    pub(crate) fn inbox(&self) -> Option<Place> {
        self.secret().inbox.clone().map(|path| Place { path, field: None })
    }
}

/// Reads a slot's material; `None` where it was never written.
pub(super) async fn read(session: &mut Session<'_>, which: Which) -> Result<Option<Material>, Halt> {
    let role = match which {
        Which::Old => SlotRole::Old,
        Which::New => SlotRole::Candidate,
    };
    let (_, store) = session.primary()?;
    let slot = session.slot(role)?;
    match session.call("reading the slot", store.read_slot(&slot)).await? {
        SlotState::Empty => Ok(None),
        SlotState::Tombstone => Err(missing(format!("the {} slot was purged", role.as_str()))),
        SlotState::Filled { value, .. } => understood(session, &value, role).map(Some),
    }
}

/// Reads a slot of any rotation of the secret; `None` where it holds nothing.
pub(super) async fn read_of(
    session: &mut Session<'_>,
    rotation: rota_core::id::RotationId,
    role: SlotRole,
) -> Result<Option<Material>, Halt> {
    let (_, store) = session.primary()?;
    let slot = Slot::of(session.entry(), rotation, role)?;
    match session.call("reading the slot", store.read_slot(&slot)).await? {
        SlotState::Empty | SlotState::Tombstone => Ok(None),
        SlotState::Filled { value, .. } => understood(session, &value, role).map(Some),
    }
}

/// A slot's text as material. A person's submission is a plain value or a JSON
/// object of fields, and gets its parts here.
fn understood(session: &Session<'_>, text: &SecretValue, role: SlotRole) -> Result<Material, Halt> {
    if let Some(material) = Material::from_slot_text(text) {
        return Ok(material);
    }
    if role == SlotRole::Candidate && session.rotation().shape.source == Source::Submitted {
        return Ok(submitted(session, text)?);
    }
    Err(missing(format!("the {} slot holds something that is not ours", role.as_str())))
}

fn submitted(session: &Session<'_>, text: &SecretValue) -> Result<Material, Fault> {
    let secret = session.secret();
    let fields = submission::read(secret, text).map_err(|unfit| Fault::invalid(unfit.to_string()))?;
    let parts = session.rotator()?.parts_of(&fields, secret)?;
    Ok(Material { parts, fields })
}

fn missing(detail: String) -> Halt {
    Halt::Held(HoldReason::ValueMissing { detail })
}

/// What consumers read now, by name, with the version of each path.
pub(crate) struct Published {
    pub(crate) values: BTreeMap<FieldName, SecretValue>,
    pub(crate) versions: BTreeMap<String, Option<VersionRef>>,
}

/// Reads everything that the secret publishes in one store.
pub(crate) async fn read_published(
    secret: &SecretPolicy,
    store_policy: &rota_core::policy::model::StorePolicy,
    store: &dyn SecretStore,
) -> Result<Published, Fault> {
    let mut published = Published { values: BTreeMap::new(), versions: BTreeMap::new() };
    for (path, names) in paths(secret, store_policy) {
        let stored = store.read(&path).await?;
        for (name, place) in names {
            let Some(stored) = &stored else { continue };
            let value = match &place.field {
                None => Some(stored.value.duplicate()),
                Some(field) => document_io::get(&stored.value, store.document_format(), field)?,
            };
            if let Some(value) = value {
                published.values.insert(name, value);
            }
        }
        published.versions.insert(path, stored.map(|stored| stored.version));
    }
    Ok(published)
}

/// Copies the value in use to its slot and reads it back. What cannot be the value in
/// use is read again first: a store's reads may lag behind the last publication.
pub(super) async fn keep(session: &mut Session<'_>) -> Result<(), Halt> {
    for _ in 0..LOOKS_AGAIN {
        match keep_what_is_published(session).await {
            Err(Halt::Held(HoldReason::Differs { .. } | HoldReason::ValueMissing { .. })) => {
                session.rest(LOOK_AGAIN_AFTER).await?;
            }
            done => return done,
        }
    }
    keep_what_is_published(session).await
}

async fn keep_what_is_published(session: &mut Session<'_>) -> Result<(), Halt> {
    let (policy, store) = session.primary()?;
    let secret = session.claim.policy.clone();
    let published =
        session.call("reading what is published", read_published(&secret.secret, &policy, &*store)).await?;
    let third_value = !session.rotation().order.supersedes.is_empty();
    let read = if third_value { read_first } else { read_back };
    let fields = read(&secret.secret, &published.values).map_err(unreadable)?;
    let parts = session.rotator()?.parts_of(&fields, &secret.secret)?;
    let identity = session.rotator()?.identity_of(&parts);
    let material = Material { parts, fields };
    intend(session, BTreeMap::new()).await?;
    let version = if session.engine.stands(Guard::TheOldValueIsKept) {
        fill(session, SlotRole::Old, &material).await?
    } else {
        VersionRef("nothing".to_owned())
    };
    let detail = json!({ "slot": version, "identity": identity, "published": published.versions });
    session.advance(Event::Done { done: Done::Kept { version, identity } }, detail, |_| ()).await
}

fn unreadable(error: PublicationError) -> Halt {
    match error {
        PublicationError::ListOfTwo(_) => Halt::Held(HoldReason::Differs { detail: error.to_string() }),
        PublicationError::NotPublished(_) => missing(error.to_string()),
        PublicationError::Missing(_)
        | PublicationError::NoField(_)
        | PublicationError::SeveralFields
        | PublicationError::Value(_) => Halt::Fault(Fault::invalid(error.to_string())),
    }
}

/// Writes `material` into a slot unless it is there, and reads it back.
async fn fill(session: &mut Session<'_>, role: SlotRole, material: &Material) -> Result<VersionRef, Halt> {
    let (_, store) = session.primary()?;
    let slot = session.slot(role)?;
    let text = material.to_slot_text().map_err(|error| Fault::invalid(error.to_string()))?;
    if let SlotState::Empty = session.call("reading the slot", store.read_slot(&slot)).await? {
        session.call("writing the slot", store.stage(&slot, &text)).await?;
    }
    match session.call("reading the slot back", store.read_slot(&slot)).await? {
        SlotState::Filled { version, value }
            if Material::from_slot_text(&value).is_some_and(|read| read.same_as(material)) =>
        {
            Ok(version)
        }
        SlotState::Filled { .. } => Err(Halt::Held(HoldReason::Differs {
            detail: format!("the {} slot holds another value than what is published now", role.as_str()),
        })),
        SlotState::Empty => Err(Fault::transient("the slot does not show what was written yet").into()),
        SlotState::Tombstone => Err(missing(format!("the {} slot was purged", role.as_str()))),
    }
}

/// Puts the candidate into its slot. Whatever stands there already is the candidate:
/// while an outcome is unknown, nothing new is generated.
pub(super) async fn stage(session: &mut Session<'_>) -> Result<(), Halt> {
    let (_, store) = session.primary()?;
    let slot = session.slot(SlotRole::Candidate)?;
    if session.rotation().open_intent().is_none() {
        let (rotator, context) = (session.rotator()?, target::context(session).await?);
        session.call("looking at the target", rotator.preflight(&context)).await?;
    }
    let earlier = session.rotation().open_intent().cloned();
    intend(session, BTreeMap::new()).await?;
    let state = session.call("reading the slot", store.read_slot(&slot)).await?;
    if let SlotState::Empty = state {
        match session.rotation().shape.source {
            Source::Generated => stage_generated(session, &slot).await?,
            Source::Submitted => stage_from_inbox(session, &slot).await?,
            Source::Created => stage_created(session, &slot, earlier).await?,
        }
    }
    let SlotState::Filled { version, value } =
        session.call("reading the slot back", store.read_slot(&slot)).await?
    else {
        return Err(Fault::transient("the slot does not show the candidate yet").into());
    };
    let material = understood(session, &value, SlotRole::Candidate)?;
    submission::check_formats(session.secret(), &material.fields)
        .map_err(|unfit| Fault::invalid(unfit.to_string()))?;
    let identity = session.rotator()?.identity_of(&material.parts);
    if let Some(inbox) = session.inbox().filter(|_| session.rotation().shape.source == Source::Submitted) {
        session.call("emptying the inbox", store.empty_inbox(&inbox.path)).await?;
    }
    let detail = json!({ "slot": version, "identity": identity });
    // Only in builds for tests: what the simulator's checker has to notice.
    #[cfg(feature = "test-support")]
    let detail = if session.engine.stands(Guard::ValuesStayOutOfTheJournal) {
        detail
    } else {
        json!({ "slot": version, "text": value.expose() })
    };
    session.advance(Event::Done { done: Done::Staged { version, identity } }, detail, |_| ()).await
}

async fn stage_generated(session: &mut Session<'_>, slot: &Slot) -> Result<(), Halt> {
    let context = target::context(session).await?;
    let rotator = session.rotator()?;
    let parts = {
        let mut random = session.engine.random.lock().map_err(|_| {
            Fault::transient("the random source was poisoned by a panic; restart the process")
        })?;
        rotator.generate(&context, &mut *random)?
    };
    stage_parts(session, slot, parts).await
}

async fn stage_parts(session: &mut Session<'_>, slot: &Slot, parts: Bundle) -> Result<(), Halt> {
    let (_, store) = session.primary()?;
    let fields = fields_of(session.secret(), &parts)?;
    let material = Material { parts, fields };
    let text = material.to_slot_text().map_err(|error| Fault::invalid(error.to_string()))?;
    match session.call("writing the slot", store.stage(slot, &text)).await {
        // An earlier write of this rotation won: its value is the candidate.
        Err(Halt::Fault(Fault::Conflict { .. })) | Ok(_) => Ok(()),
        Err(halt) => Err(halt),
    }
}

async fn stage_from_inbox(session: &mut Session<'_>, slot: &Slot) -> Result<(), Halt> {
    let (_, store) = session.primary()?;
    let value = match session.inbox() {
        Some(inbox) => session.call("reading the inbox", store.read_other(&inbox)).await?,
        None => None,
    };
    let Some(value) = value else {
        return Err(Fault::transient("the submitted value is not in the slot yet").into());
    };
    // It may have been replaced since it was looked at; the slot would keep a slip for ever.
    submission::read(session.secret(), &value)
        .map_err(|unfit| Fault::transient(format!("what is in the inbox does not fit: {unfit}")))?;
    session.call("writing the slot", store.stage(slot, &value)).await?;
    Ok(())
}

/// Creates the credential at the target and stages it at once, because it is shown only
/// once. With an `earlier` intent another creation may have happened, or may still
/// arrive: nothing is created before that can be told.
async fn stage_created(session: &mut Session<'_>, slot: &Slot, earlier: Option<Intent>) -> Result<(), Halt> {
    if let Some(earlier) = &earlier {
        session.wait_for_late_effects(earlier.at, "an earlier creation to arrive, if it still does")?;
    }
    let resumed_at = session.rotation().facts.evidence_after;
    let may_remove = earlier.as_ref().is_some_and(|earlier| resumed_at.is_some_and(|at| at > earlier.at));
    // What a rotation that this one took over has lost, first: one lost key at a time.
    if session.engine.stands(Guard::LostKeysGoFirst) {
        taken_over::remove_lost(session).await?;
    }
    let (_, store) = session.primary()?;
    let rotator = session.rotator()?;
    let canary = session.slot(SlotRole::Canary)?;
    let proof = SecretValue::new("canary".to_owned()).map_err(|error| Fault::invalid(error.to_string()))?;
    session.call("trying the slot's namespace", store.stage(&canary, &proof)).await?;
    let context = target::context(session).await?;
    while let Some(lost) =
        session.call("looking for a lost credential", rotator.find_created(&context)).await?
    {
        if !may_remove {
            return Err(Halt::Held(HoldReason::ValueMissing {
                detail: format!(
                    "the target made `{lost}` for this rotation, but its value was lost on the way; \
                     `rota resume {}` removes it and makes another",
                    session.rotation().secret
                ),
            }));
        }
        taken_over::remove(session, session.rotation().id, lost).await?;
    }
    let effect = match earlier {
        // From this attempt on, another creation may arrive late.
        Some(earlier) => intend_anew(session, BTreeMap::new(), earlier.attempt + 1).await?,
        None => intend(session, BTreeMap::new()).await?,
    };
    let fence = session.fence(effect);
    let created = session.call("creating the credential", rotator.create(&context, fence)).await?;
    stage_parts(session, slot, created.parts).await
}

/// What consumers read, made from the rotator's parts.
fn fields_of(secret: &SecretPolicy, parts: &Bundle) -> Result<Bundle, Fault> {
    let by_name: BTreeMap<&str, &SecretValue> =
        parts.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let fields = secret.fields.iter().map(|(name, field)| {
        let value = match &field.template {
            Some(template) => template.fill(&by_name).map_err(|error| Fault::invalid(error.to_string()))?,
            None => by_name
                .get(name.as_str())
                .or_else(|| by_name.get("value"))
                .map(|value| value.duplicate())
                .ok_or_else(|| Fault::invalid(format!("the rotator yields no part for field `{name}`")))?,
        };
        Ok((name.clone(), value))
    });
    Ok(Bundle::new(fields.collect::<Result<_, Fault>>()?))
}

/// Empties the slots of this rotation and of those it took over, once every store shows
/// what they would be needed for.
pub(super) async fn purge(session: &mut Session<'_>) -> Result<(), Halt> {
    let (_, store) = session.primary()?;
    let step = session.rotation().step();
    // One that was begun before may have emptied the slots that tell what is published.
    if !step.is_some_and(|step| session.rotation().facts.attempted.contains(&step)) {
        must_be_shown(session).await?;
    }
    intend(session, BTreeMap::new()).await?;
    let mut rotations = vec![session.rotation().id];
    rotations.extend(session.rotation().order.supersedes.iter().copied());
    let mut roles = vec![SlotRole::Old, SlotRole::Candidate];
    if session.rotation().shape.source == Source::Created {
        roles.push(SlotRole::Canary);
    }
    let may_be_handed_in = may_be_handed_in(session).await?;
    for rotation in rotations {
        for role in &roles {
            let slot = Slot::of(session.entry(), rotation, *role)?;
            session.call("purging a slot", store.purge(&slot)).await?;
        }
    }
    let names: Vec<String> = names(session.secret()).iter().map(ToString::to_string).collect();
    let refusal = session.rotation().facts.refusal.clone();
    let detail = json!({ "published": names, "old_refused": refusal });
    debug_assert!(matches!(session.rotation().step(), Some(Step::Purge | Step::Discard)));
    let orphan = may_be_handed_in.then(|| crate::session::left_at_the_provider(session.rotation()));
    session
        .advance(Event::Done { done: Done::Plain }, detail, |record| {
            record.orphan = orphan.or(record.orphan.take())
        })
        .await
}

/// True where a rotation that goes back may have been handed a key that it never took
/// up. A tombstone of our own hides whether it was; then the person is told all the same.
async fn may_be_handed_in(session: &mut Session<'_>) -> Result<bool, Halt> {
    let rotation = session.rotation();
    let goes_back = rotation.step() == Some(Step::Discard);
    if !goes_back || rotation.shape.source != Source::Submitted || rotation.facts.done.contains(&Step::Stage)
    {
        return Ok(false);
    }
    let (_, store) = session.primary()?;
    let slot = session.slot(SlotRole::Candidate)?;
    let state = session.call("reading the slot", store.read_slot(&slot)).await?;
    Ok(!matches!(state, SlotState::Empty))
}
