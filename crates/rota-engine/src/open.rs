//! Opening rotations: what is due, whether it may start, and its shape.

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::RotationId;
use rota_core::policy::model::{HookPoint, PolicyEntry, SecretPolicy, StorePolicy};
use rota_core::publication::{PublicationError, paths, read_back};
use rota_core::rotation::{Cause, Haste, Order, Rotation, Shape, Suspect};
use serde_json::json;

use crate::engine::Engine;
use crate::marks::untrusted;
use crate::notice;
use crate::perform::read_published;
use crate::ports::{
    AcceptedPolicy, DueSecret, HistoryEntry, NewRotation, Opened, OrderKind, PendingOrder, RotatorTraits,
    within,
};
use crate::session::Session;

/// A secret that cannot start now is looked at again after this.
const TRY_AGAIN: SignedDuration = SignedDuration::from_mins(15);

/// A store that did not answer is asked again after this.
const TRY_AGAIN_SOON: SignedDuration = SignedDuration::from_mins(1);

/// A store that has not answered for so long is told.
const TELL_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// Everything that opening one rotation needs.
pub(crate) struct Opening {
    pub(crate) entry: PolicyEntry,
    pub(crate) cause: Cause,
    pub(crate) suspect: Option<Suspect>,
    pub(crate) serves: Option<Timestamp>,
    pub(crate) order: Option<PendingOrder>,
    pub(crate) supersedes: Option<Rotation>,
}

impl Engine {
    /// Opens a rotation for every secret that is due or ordered, by priority; returns how many.
    ///
    /// # Errors
    /// A passing fault of the journal.
    pub async fn open_due(&self) -> Result<usize, Fault> {
        let Some(policy) = self.refresh_policy().await? else { return Ok(0) };
        self.answer_stray_orders().await?;
        let (now, due) = self.journal.due(self.settings.open_at_once).await?;
        let mut opened = 0;
        for due in due {
            opened += usize::from(self.open_one(&policy, due, now).await?);
        }
        Ok(opened)
    }

    /// Orders that need a rotation in flight, where there is none.
    async fn answer_stray_orders(&self) -> Result<(), Fault> {
        for order in self.journal.stray_orders().await? {
            self.journal.refuse_order(order.id, "the secret has no rotation in flight").await?;
        }
        Ok(())
    }

    async fn open_one(&self, policy: &AcceptedPolicy, due: DueSecret, now: Timestamp) -> Result<bool, Fault> {
        let Some(entry) = policy.policy.entry(&due.secret) else {
            self.not_now(&due, None, "the policy no longer has this secret", now).await?;
            return Ok(false);
        };
        if due.order.is_none()
            && let Some(window) = &entry.secret.window
            && !window.is_open(now)
        {
            self.journal.postpone(&due, "the window is closed", window.next_open(now), Vec::new()).await?;
            return Ok(false);
        }
        let secret = entry.secret.clone();
        let opening = Opening {
            cause: due.order.as_ref().map_or(Cause::Scheduled, cause_of),
            suspect: due.order.as_ref().and_then(suspect_of),
            serves: due.due.filter(|_| due.order.is_none()),
            order: due.order.clone(),
            supersedes: None,
            entry,
        };
        match open(self, opening, now).await {
            Ok(Opened::Yes) => {
                self.unreached().remove(&due.secret);
                return Ok(true);
            }
            Ok(Opened::InFlight) => {
                let why = "another rotation uses the same target or place";
                self.not_now(&due, Some(&secret), why, now).await?;
            }
            Ok(Opened::Blocked { why }) => self.not_now(&due, Some(&secret), &why, now).await?,
            Err(fault) => {
                self.failed_to_open(&due, &secret, &fault, now).await?;
                return Ok(false);
            }
        }
        self.unreached().remove(&due.secret);
        Ok(false)
    }

    /// What passes by itself is tried again soon, and told once it lasts; in an emergency
    /// at once.
    async fn failed_to_open(
        &self,
        due: &DueSecret,
        secret: &SecretPolicy,
        fault: &Fault,
        now: Timestamp,
    ) -> Result<(), Fault> {
        if !fault.passes_by_itself() {
            self.unreached().remove(&due.secret);
            return self.not_now(due, Some(secret), &fault.to_string(), now).await;
        }
        let elapsed = self.clock.elapsed();
        let since = *self.unreached().entry(due.secret.clone()).or_insert(elapsed);
        let lasts = elapsed.saturating_sub(since) >= TELL_AFTER;
        let again = now.saturating_add(TRY_AGAIN_SOON.max(fault.asks_to_wait())).unwrap_or(Timestamp::MAX);
        let why = fault.to_string();
        let notice = notice::cannot_start(due, Some(secret), &why, again, now);
        let notices = if lasts || is_emergency(due) { vec![notice] } else { Vec::new() };
        self.journal.postpone(due, &why, again, notices).await
    }

    async fn not_now(
        &self,
        due: &DueSecret,
        secret: Option<&SecretPolicy>,
        why: &str,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let again = now.saturating_add(TRY_AGAIN).unwrap_or(Timestamp::MAX);
        let notices = vec![notice::cannot_start(due, secret, why, again, now)];
        self.journal.postpone(due, why, again, notices).await
    }
}

impl Session<'_> {
    /// The current policy's entry, else the copy.
    pub(crate) fn current_entry(&self) -> PolicyEntry {
        self.policy_now
            .as_ref()
            .and_then(|now| now.policy.entry(&self.rotation().secret))
            .unwrap_or_else(|| self.entry().clone())
    }
}

pub(crate) fn cause_of(order: &PendingOrder) -> Cause {
    Cause::Requested { by: order.by.clone(), reason: order.reason.clone() }
}

fn is_emergency(due: &DueSecret) -> bool {
    due.order.as_ref().is_some_and(|order| matches!(order.kind, OrderKind::Emergency { .. }))
}

fn suspect_of(order: &PendingOrder) -> Option<Suspect> {
    // Without a rotation in flight there is one value: the one in use.
    matches!(order.kind, OrderKind::Emergency { .. }).then_some(Suspect::Older)
}

/// Looks whether the rotation can be carried out at all, and opens it.
pub(crate) async fn open(engine: &Engine, opening: Opening, now: Timestamp) -> Result<Opened, Fault> {
    let Opening { entry, cause, suspect, serves, order, supersedes } = opening;
    let rotator = engine.adapters.rotator(&entry.secret)?;
    let exists = look(engine, &entry, order.is_some(), supersedes.is_some()).await?;
    if let Some(why) = engine.lost_past(&entry).await? {
        return Err(Fault::invalid(untrusted(&why)));
    }
    let shape = shape(&entry, rotator.traits(), !exists);
    let id = RotationId(engine.new_id(now)?);
    let taken_over = supersedes.as_ref().map(|rotation| {
        let mut all = rotation.order.supersedes.clone();
        all.push(rotation.id);
        all
    });
    let haste = suspect.map_or(Haste::None, |suspect| Haste::Emergency { suspect });
    let order_of = Order { cause, haste, serves, supersedes: taken_over.unwrap_or_default() };
    let rotation = Rotation::open(id, entry.secret.id.clone(), order_of, shape, now);
    let history = HistoryEntry {
        kind: "rotation.opened".to_owned(),
        secret: Some(entry.secret.id.clone()),
        rotation: Some(id),
        step: None,
        effect: None,
        actor: order.as_ref().map_or_else(|| engine.settings.holder.clone(), |order| order.by.clone()),
        detail: json!({
            "order": rotation.order,
            "shape": rotation.shape,
            "kind": entry.secret.kind,
            "stores": entry.secret.stores,
            "consumers": entry.secret.consumers,
            "unmonitored": unmonitored(&entry),
        }),
    };
    let mut exclusive = places(&entry, |store| engine.adapters.store_identity(store));
    let targets = rotator.target_identities(&entry.secret);
    exclusive.extend(targets.into_iter().map(|target| format!("target:{target}")));
    let notices = vec![notice::started(&rotation, &entry.secret, now)];
    engine
        .journal
        .open(NewRotation {
            rotation,
            policy: entry,
            exclusive,
            order: order.map(|order| order.id),
            supersedes: supersedes.map(|rotation| rotation.id),
            history: vec![history],
            notices,
        })
        .await
}

/// Looks at every store; true where the secret has a value.
async fn look(engine: &Engine, entry: &PolicyEntry, ordered: bool, superseding: bool) -> Result<bool, Fault> {
    let limit = engine.settings.call_limit;
    let clock = engine.clock.as_ref();
    let mut exists = None;
    for id in &entry.secret.stores {
        let policy = entry
            .stores
            .get(id)
            .ok_or_else(|| Fault::invalid(format!("the policy has no store called `{id}`")))?;
        let store = engine.adapters.store(policy)?;
        for path in paths(&entry.secret, policy).into_keys() {
            within(clock, limit, "looking at the store", store.preflight(&path)).await?;
        }
        if exists.is_some() {
            continue;
        }
        let read = read_published(&entry.secret, policy, &*store);
        let published = within(clock, limit, "reading what is published", read).await?;
        exists = Some(match read_back(&entry.secret, &published.values) {
            Ok(_) => true,
            Err(PublicationError::NotPublished(_)) if published.values.is_empty() => false,
            // A leaked list of two is replaced by the third value; nothing else starts from one.
            Err(PublicationError::ListOfTwo(_)) if superseding => true,
            Err(error) => return Err(Fault::invalid(error.to_string())),
        });
    }
    let exists = exists.ok_or_else(|| Fault::invalid("the secret names no store; add one under `stores`"))?;
    if !exists && !ordered {
        return Err(Fault::invalid(format!(
            "the secret does not exist in its store yet; `rota rotate {} --reason \"the first value\"` creates it",
            entry.secret.id
        )));
    }
    Ok(exists)
}

fn shape(entry: &PolicyEntry, traits: RotatorTraits, creation: bool) -> Shape {
    let secret = &entry.secret;
    let shows_a_second = secret.publish.shows_a_second();
    let hooks: std::collections::BTreeSet<HookPoint> = secret.hooks.iter().map(|hook| hook.at).collect();
    Shape {
        source: traits.source,
        creation,
        target: traits.target,
        reversible: traits.reversible,
        introduces: shows_a_second
            && !creation
            && secret.class.is_some_and(|class| class.consumers_verify_each_other(traits.source)),
        shows_a_second,
        confirmed_by_person: traits.confirmed_by_person,
        hooks,
    }
}

/// The consumers that nobody watches, with their reasons: kept in history.
fn unmonitored(entry: &PolicyEntry) -> Vec<(String, String)> {
    entry
        .consumers
        .values()
        .filter_map(|consumer| Some((consumer.id.to_string(), consumer.unmonitored.clone()?)))
        .collect()
}

/// Every (store, path, field) that the rotation writes; two names of one store are one.
fn places(entry: &PolicyEntry, identity: impl Fn(&StorePolicy) -> Option<String>) -> Vec<String> {
    let mut places = Vec::new();
    for (id, policy) in &entry.stores {
        let store = identity(policy).unwrap_or_else(|| id.to_string());
        for (path, names) in paths(&entry.secret, policy) {
            for (_, place) in names {
                let field = place.field.map_or(String::new(), |field| format!("#{field}"));
                places.push(format!("place:{store}:{path}{field}"));
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use rota_core::id::{SecretId, StoreId};

    use super::*;
    use crate::test_support::{FakeKind, Form, Guards, Scenario, SecretPlan};

    #[test]
    fn two_names_of_one_store_are_one_place() {
        let plan = SecretPlan::new("KEY", FakeKind::Generated, Form::List);
        let scenario = Scenario::of(plan, 1, Guards::default(), Timestamp::UNIX_EPOCH).unwrap();
        let entry = scenario.policy.entry(&SecretId::new("KEY").unwrap()).unwrap();
        let mut renamed = entry.clone();
        let (_, mut store) = renamed.stores.pop_first().unwrap();
        store.id = StoreId::new("alias").unwrap();
        renamed.stores.insert(store.id.clone(), store);
        let one = |_: &StorePolicy| Some("vault-kv2:secret".to_owned());
        assert_eq!(places(&entry, one), places(&renamed, one));
        assert_ne!(places(&entry, |_| None), places(&renamed, |_| None));
        assert!(!places(&entry, one).is_empty());
    }
}
