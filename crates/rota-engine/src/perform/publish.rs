//! Publications: one write per path and store, compare-and-set, observed by what stands there.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_core::id::{FieldName, StoreId, VersionRef};
use rota_core::policy::model::{PolicyEntry, StorePolicy};
use rota_core::publication::{Place, paths, render};
use rota_core::rotation::{Done, Event, HoldReason, List, Publication, Step, plan};
use rota_core::schedule::Start;
use rota_core::value::{Bundle, SecretValue};
use serde_json::json;
use uuid::Uuid;

use super::{intend_anew, material};
use crate::document_io;
use crate::guard::Guard;
use crate::ports::{Promotion, SecretStore, SlotRole, Stored, Which, WriteToken};
use crate::session::{Halt, Session};

/// Names our write tokens (UUID version 5, RFC 9562).
const TOKENS: Uuid = Uuid::from_u128(0x6f1f_7c1e_8b0a_4c5e_9f2d_1d6b_5a52_4f54);

/// How often a document that others write too is merged anew in one attempt.
const MERGES: u32 = 5;

/// What looks like someone else's is read again this often, so far apart, before it is
/// believed: a read may show what stood there before, for as long as a store may lag.
pub(super) const LOOKS_AGAIN: u32 = 6;
pub(super) const LOOK_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// The publications of an undo, in their order.
const UNDO: [Step; 3] = [Step::Reaccept, Step::Demote, Step::Reject];

/// One path of one store.
struct Target {
    store_policy: StorePolicy,
    store: Arc<dyn SecretStore>,
    path: String,
    names: Vec<(FieldName, Place)>,
}

impl Target {
    /// Names the path in an intent.
    fn key(&self) -> String {
        format!("{}:{}", self.store_policy.id, self.path)
    }
}

/// What stands at a path, as far as one publication is concerned.
enum Standing {
    /// Ours is there already: the version.
    Applied(VersionRef),
    /// Ours is not there; write against this base.
    Absent(Option<Stored>),
    Foreign(String),
}

/// Writes the list of `step` to every store, the primary first.
pub(super) async fn publish(session: &mut Session<'_>, step: Step) -> Result<(), Halt> {
    let list = plan::list_after(step, &session.rotation().shape)
        .ok_or_else(|| Fault::invalid(format!("{step} publishes nothing")))?;
    if step == Step::Promote && session.rotation().open_intent().is_none() {
        super::target::prove_again(session).await?;
        super::watch::take_baseline(session).await?;
    }
    let old = material(session, Which::Old).await?.map(|material| material.fields);
    let new = material(session, Which::New).await?.map(|material| material.fields);
    let entry = Arc::clone(&session.claim.policy);
    let desired = written(&entry, list, old.as_ref(), new.as_ref())?;
    let allowed = believable(session, &entry, old.as_ref(), new.as_ref())?;
    let targets = targets(session)?;

    if session.rotation().open_intent().is_none() {
        let bases = bases(session, &targets, &desired, &allowed).await?;
        intend_anew(session, bases, 0).await?;
    }
    let mut refs: BTreeMap<StoreId, BTreeMap<String, VersionRef>> = BTreeMap::new();
    for target in &targets {
        let version = write(session, target, &desired, &allowed).await?;
        refs.entry(target.store_policy.id.clone()).or_default().insert(target.path.clone(), version);
    }
    show(session, &targets, &desired).await?;
    if step == Step::Promote && !session.engine.stands(Guard::SlotsArePurgedLast) {
        let (_, store) = session.primary()?;
        let slot = session.slot(SlotRole::Old)?;
        session.call("purging a slot", store.purge(&slot)).await?;
    }

    let publication = Publication { list, at: session.now(), refs };
    let promotion = (step == Step::Promote).then(|| promotion(session, &publication));
    let consumers = session.consumers();
    let detail = json!({ "list": list, "versions": publication.refs });
    let done = Done::Published { publication: publication.clone() };
    session
        .advance(Event::Done { done }, detail, |record| {
            record.publication = Some(publication);
            record.promotion = promotion;
            record.rollouts = consumers;
        })
        .await
}

fn written(
    entry: &PolicyEntry,
    list: List,
    old: Option<&Bundle>,
    new: Option<&Bundle>,
) -> Result<BTreeMap<FieldName, SecretValue>, Halt> {
    render(&entry.secret, list, old, new)
        .map_err(|error| HoldReason::ValueMissing { detail: error.to_string() })
        .map_err(Halt::Held)
}

/// Every list that may stand before this publication: what the journal recorded,
/// and what an unknown outcome may have left. Anything else is someone else's.
fn believable(
    session: &Session<'_>,
    entry: &PolicyEntry,
    old: Option<&Bundle>,
    new: Option<&Bundle>,
) -> Result<Vec<BTreeMap<FieldName, SecretValue>>, Halt> {
    let rotation = session.rotation();
    let mut lists = vec![rotation.list()];
    let furthest = plan::furthest(&rotation.shape, &rotation.facts);
    if !lists.contains(&furthest) {
        lists.push(furthest);
    }
    if let Some(step) = rotation.step().filter(|step| step.undoes()) {
        // An emergency goes on from an undo whose outcome it does not know.
        let undone = UNDO.iter().position(|undo| *undo == step).map_or(&UNDO[..0], |last| &UNDO[..=last]);
        lists.extend(undone.iter().filter_map(|undo| plan::list_after(*undo, &rotation.shape)));
    }
    let mut believable = lists
        .into_iter()
        .filter(|list| *list != List::Nothing)
        .map(|list| written(entry, list, old, new))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(old) = old {
        // Before the first publication a pair or a list may stand as it was adopted.
        believable.push(old.iter().map(|(name, value)| (name.clone(), value.duplicate())).collect());
    }
    Ok(believable)
}

fn targets(session: &Session<'_>) -> Result<Vec<Target>, Fault> {
    let mut targets = Vec::new();
    for (store_policy, store) in session.stores()? {
        for (path, names) in paths(session.secret(), &store_policy) {
            targets.push(Target {
                store_policy: store_policy.clone(),
                store: Arc::clone(&store),
                path,
                names,
            });
        }
    }
    Ok(targets)
}

/// What every place holds right before. Nothing is written anywhere while one of them
/// does not show the last publication: its consumers would be a list behind.
async fn bases(
    session: &mut Session<'_>,
    targets: &[Target],
    desired: &BTreeMap<FieldName, SecretValue>,
    allowed: &[BTreeMap<FieldName, SecretValue>],
) -> Result<BTreeMap<String, Option<VersionRef>>, Halt> {
    let mut bases = BTreeMap::new();
    for target in targets {
        let version = match believed_standing(session, target, desired, allowed).await? {
            Standing::Applied(version) => Some(version),
            Standing::Absent(stored) => stored.map(|stored| stored.version),
            Standing::Foreign(detail) => return Err(foreign(session, detail)),
        };
        bases.insert(target.key(), version);
    }
    Ok(bases)
}

fn foreign(session: &Session<'_>, detail: String) -> Halt {
    let step = session.rotation().step().unwrap_or(Step::Promote);
    Halt::Held(HoldReason::Foreign { step, detail })
}

/// Nothing is purged before every store shows the last publication.
pub(super) async fn must_be_shown(session: &mut Session<'_>) -> Result<(), Halt> {
    let Some(list) = session.rotation().facts.publication.as_ref().map(|publication| publication.list) else {
        return Ok(());
    };
    let old = material(session, Which::Old).await?.map(|material| material.fields);
    let new = material(session, Which::New).await?.map(|material| material.fields);
    let entry = Arc::clone(&session.claim.policy);
    let published = written(&entry, list, old.as_ref(), new.as_ref())?;
    for target in targets(session)? {
        let detail = match believed_standing(session, &target, &published, &[]).await? {
            Standing::Applied(_) | Standing::Absent(Some(_)) => continue,
            Standing::Absent(None) => "nothing stands there".to_owned(),
            Standing::Foreign(detail) => detail,
        };
        let store = &target.store_policy.id;
        return Err(Halt::Held(HoldReason::Differs {
            detail: format!("store `{store}` does not show the last publication: {detail}"),
        }));
    }
    Ok(())
}

/// Writes one path unless the intent's write is there already; merges again where
/// another secret of the same document was written meanwhile.
async fn write(
    session: &mut Session<'_>,
    target: &Target,
    desired: &BTreeMap<FieldName, SecretValue>,
    allowed: &[BTreeMap<FieldName, SecretValue>],
) -> Result<VersionRef, Halt> {
    for _ in 0..MERGES {
        let base = match believed_standing(session, target, desired, allowed).await? {
            Standing::Applied(version) => return Ok(version),
            Standing::Foreign(detail) => return Err(foreign(session, detail)),
            Standing::Absent(base) => base,
        };
        let version = base.as_ref().map(|stored| stored.version.clone());
        rebase(session, target, version.as_ref()).await?;
        let content = content(target, base.as_ref(), desired)?;
        let token = token(session, target)?;
        let call = target.store.write(&target.path, &content, version.as_ref(), &token);
        match session.call("publishing", call).await {
            Ok(version) => return Ok(version),
            Err(Halt::Fault(Fault::Conflict { .. })) => {}
            Err(halt) => return Err(halt),
        }
    }
    Err(Fault::transient(format!("`{}` was written by others each time; trying again later", target.path))
        .into())
}

/// Where the base moved since the intent, the next write is another attempt with
/// other content and another token.
async fn rebase(session: &mut Session<'_>, target: &Target, base: Option<&VersionRef>) -> Result<(), Halt> {
    let Some(intent) = session.rotation().open_intent().cloned() else { return Ok(()) };
    if intent.bases.get(&target.key()).and_then(Option::as_ref) == base {
        return Ok(());
    }
    let mut bases = intent.bases;
    bases.insert(target.key(), base.cloned());
    intend_anew(session, bases, intent.attempt + 1).await?;
    Ok(())
}

/// What stands at the path. One stale read is not someone else's work.
async fn believed_standing(
    session: &mut Session<'_>,
    target: &Target,
    desired: &BTreeMap<FieldName, SecretValue>,
    allowed: &[BTreeMap<FieldName, SecretValue>],
) -> Result<Standing, Halt> {
    let reads_again = session.engine.stands(Guard::StaleReadsAreReadAgain);
    let mut looks = 0;
    loop {
        let stored = session.call("reading what is published", target.store.read(&target.path)).await?;
        match standing(session, target, stored, desired, allowed)? {
            Standing::Foreign(_) if looks < LOOKS_AGAIN && reads_again => looks += 1,
            standing => return Ok(standing),
        }
        session.rest(LOOK_AGAIN_AFTER).await?;
    }
}

fn standing(
    session: &Session<'_>,
    target: &Target,
    stored: Option<Stored>,
    desired: &BTreeMap<FieldName, SecretValue>,
    allowed: &[BTreeMap<FieldName, SecretValue>],
) -> Result<Standing, Halt> {
    let intent = session.rotation().open_intent();
    let base = intent.and_then(|intent| intent.bases.get(&target.key()).cloned()).flatten();
    let differs = || format!("`{}` does not hold what this rotation published there", target.path);
    let Some(stored) = stored else { return Ok(Standing::Absent(None)) };
    let mine = own(target, &stored.value)?;
    if base.as_ref() == Some(&stored.version) {
        if replaces_anything(session) {
            return Ok(Standing::Absent(Some(stored)));
        }
        let known = stands(target, &mine, allowed) || stands(target, &mine, std::slice::from_ref(desired));
        return Ok(if known { Standing::Absent(Some(stored)) } else { Standing::Foreign(differs()) });
    }
    if stands(target, &mine, std::slice::from_ref(desired)) {
        return Ok(Standing::Applied(stored.version));
    }
    if replaces_anything(session) {
        return Ok(Standing::Absent(Some(stored)));
    }
    if stands(target, &mine, allowed) {
        // The document moved on for another secret's sake; ours is still to be written.
        return Ok(Standing::Absent(Some(stored)));
    }
    Ok(Standing::Foreign(match intent {
        Some(_) => format!("someone else wrote `{}` while this rotation was publishing", target.path),
        None => differs(),
    }))
}

/// The third value of an emergency replaces whatever the rotation that it took over
/// left there; compare-and-set still meets a late write of that one.
fn replaces_anything(session: &Session<'_>) -> bool {
    let third_value = !session.rotation().order.supersedes.is_empty();
    (third_value && session.rotation().facts.publication.is_none())
        || !session.engine.stands(Guard::ForeignIsHeld)
}

/// The texts that stand under our names at a path.
fn own(target: &Target, content: &SecretValue) -> Result<BTreeMap<FieldName, SecretValue>, Fault> {
    let mut own = BTreeMap::new();
    for (name, place) in &target.names {
        let value = match &place.field {
            None => Some(content.duplicate()),
            Some(field) => document_io::get(content, target.store.document_format(), field)?,
        };
        if let Some(value) = value {
            own.insert(name.clone(), value);
        }
    }
    Ok(own)
}

/// True where `mine` is what one of `lists` writes at this path. A name that does
/// not exist yet (the second name of a pair at its first rotation) stands for any.
fn stands(
    target: &Target,
    mine: &BTreeMap<FieldName, SecretValue>,
    lists: &[BTreeMap<FieldName, SecretValue>],
) -> bool {
    lists.iter().any(|list| {
        target.names.iter().all(|(name, _)| match (mine.get(name), list.get(name)) {
            (Some(mine), Some(theirs)) => mine.same_as(theirs),
            (Some(mine), None) => list.len() == 1 && list.values().all(|theirs| mine.same_as(theirs)),
            (None, _) => true,
        })
    })
}

fn content(
    target: &Target,
    base: Option<&Stored>,
    desired: &BTreeMap<FieldName, SecretValue>,
) -> Result<SecretValue, Fault> {
    let mut fields = BTreeMap::new();
    for (name, place) in &target.names {
        let value = desired
            .get(name)
            .ok_or_else(|| Fault::invalid(format!("nothing is to be published under `{name}`")))?;
        match &place.field {
            None => return Ok(value.duplicate()),
            Some(field) => fields.insert(field.clone(), value),
        };
    }
    document_io::merge(base.map(|stored| &stored.value), target.store.document_format(), &fields)
}

fn token(session: &Session<'_>, target: &Target) -> Result<WriteToken, Fault> {
    let rotation = session.rotation();
    let intent =
        rotation.open_intent().ok_or_else(|| Fault::invalid("a publication needs a recorded intent"))?;
    let name = format!(
        "{}/{}/{}/{}",
        rotation.id,
        target.key(),
        rotation.step().map_or("", Step::as_str),
        intent.attempt
    );
    Ok(WriteToken {
        token: Uuid::new_v5(&TOKENS, name.as_bytes()),
        incarnation: session.claim.incarnation,
        epoch: session.claim.epoch,
        effect: intent.effect,
    })
}

/// No rollout starts before every store shows what was published.
async fn show(
    session: &mut Session<'_>,
    targets: &[Target],
    desired: &BTreeMap<FieldName, SecretValue>,
) -> Result<(), Halt> {
    for target in targets {
        let stored = session.call("reading the publication back", target.store.read(&target.path)).await?;
        let shown = match stored {
            Some(stored) => own(target, &stored.value)?,
            None => BTreeMap::new(),
        };
        let complete = target.names.iter().all(|(name, _)| match (shown.get(name), desired.get(name)) {
            (Some(shown), Some(desired)) => shown.same_as(desired),
            _ => false,
        });
        if !complete {
            return Err(Fault::transient(format!(
                "store `{}` does not show the publication at `{}` yet",
                target.store_policy.id, target.path
            ))
            .into());
        }
    }
    Ok(())
}

fn promotion(session: &Session<'_>, publication: &Publication) -> Promotion {
    let secret = session.secret();
    let served = session.rotation().order.serves;
    let start = Start { lead: secret.lead, window: secret.window.as_ref() };
    let due = secret.schedule.next_due(publication.at, served, start).map(|due| due.at);
    Promotion { at: publication.at, served, next_due: due, next_start: due.map(|due| start.of(due)) }
}
