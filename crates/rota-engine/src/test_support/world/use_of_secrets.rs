//! How consumers use secrets: sign with the first and verify with all, log in with
//! the first; and whether everybody who verifies accepts what is used.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rota_core::id::{FieldName, SecretId, StoreId};
use rota_core::policy::model::{PolicyEntry, PublishForm};
use rota_core::publication::{names, place};

use super::store::StoreState;
use super::{Subject, WorldState};

/// What a secret is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Instances sign with the first value and verify what others signed with all.
    Signs,
    /// Instances log in to the target with the first value.
    LogsIn { target: String },
}

/// Somebody uses what somebody else refuses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    pub secret: SecretId,
    /// Who refuses what; no value.
    pub what: String,
}

/// Reads the ordered list of a secret's values the way that a consumer does at its
/// start: pinned names by their exact version, the others as the store shows them.
pub(super) fn read_list(
    entry: &PolicyEntry,
    store: &StoreState,
    pins: &BTreeMap<String, String>,
    seen_at: Timestamp,
) -> Vec<String> {
    let secret = &entry.secret;
    let Some(policy) = secret.primary_store().and_then(|id| entry.stores.get(id)) else { return Vec::new() };
    let texts: BTreeMap<FieldName, String> = names(secret)
        .into_iter()
        .filter_map(|name| {
            let place = place(secret, policy, &name);
            let content = match pins.get(name.as_str()) {
                Some(reference) => store.referenced(reference)?.to_owned(),
                None => store.at(&place.path, seen_at)?.content.clone(),
            };
            let text = match place.field {
                None => content,
                Some(field) => {
                    let document: BTreeMap<String, String> = serde_json::from_str(&content).ok()?;
                    document.get(field.as_str())?.clone()
                }
            };
            Some((name, text))
        })
        .collect();
    list_of(&secret.publish, &texts)
}

fn list_of(form: &PublishForm, texts: &BTreeMap<FieldName, String>) -> Vec<String> {
    match form {
        PublishForm::Single if texts.is_empty() => Vec::new(),
        PublishForm::Single => {
            vec![texts.values().map(String::as_str).collect::<Vec<_>>().join("\n")]
        }
        PublishForm::Pair { first, second, .. } => {
            let mut list: Vec<String> =
                [first, second].into_iter().filter_map(|n| texts.get(n)).cloned().collect();
            list.dedup();
            list
        }
        PublishForm::List { name } => texts
            .get(name)
            .map_or_else(Vec::new, |text| serde_json::from_str(text).unwrap_or_else(|_| vec![text.clone()])),
        PublishForm::Document { inner, .. } => list_of(inner, texts),
    }
}

impl WorldState {
    /// Every running instance signs with what it has until now. To be called before
    /// and after anything changes what an instance has.
    pub(super) fn sign_all(&mut self, now: Timestamp) {
        for (id, subject) in self.subjects.iter().filter(|(_, subject)| subject.purpose == Purpose::Signs) {
            let signed = self.signed.entry(id.clone()).or_default();
            for instance in self.fleets.values().flat_map(|fleet| fleet.instances.values()) {
                if let Some(first) = instance.values.get(id).and_then(|list| list.first()) {
                    match signed.get_mut(first) {
                        Some(at) => *at = now,
                        None => {
                            signed.insert(first.clone(), now);
                        }
                    }
                }
            }
            let ttl = subject.entry.secret.token_ttl;
            signed.retain(|_, at| at.saturating_add(ttl).is_ok_and(|end| end > now) || *at == now);
        }
    }

    /// Everything that is used and refused at this moment.
    pub(super) fn complaints(&mut self, now: Timestamp) -> Vec<Complaint> {
        self.sign_all(now);
        let mut complaints = Vec::new();
        for (id, subject) in &self.subjects {
            match &subject.purpose {
                Purpose::Signs => self.unverified(id, &mut complaints),
                Purpose::LogsIn { target } => self.refused(id, subject, target, now, &mut complaints),
            }
        }
        complaints
    }

    fn unverified(&self, id: &SecretId, complaints: &mut Vec<Complaint>) {
        let Some(signed) = self.signed.get(id) else { return };
        for (name, instance, list) in self.holders(id) {
            let refused = signed.keys().filter(|value| !list.contains(*value)).count();
            if refused > 0 {
                let what = format!(
                    "instance {instance} of {name} does not verify {refused} of {} values that signed",
                    signed.len()
                );
                complaints.push(Complaint { secret: id.clone(), what });
            }
        }
    }

    fn refused(
        &self,
        id: &SecretId,
        subject: &Subject,
        target: &str,
        now: Timestamp,
        complaints: &mut Vec<Complaint>,
    ) {
        for (name, instance, list) in self.holders(id) {
            let Some(first) = list.first() else { continue };
            let (identity, secret) = subject.kind.login(first);
            if !self.targets.get(target).is_some_and(|target| target.accepts(&identity, &secret, now)) {
                let what = format!("{target} refuses `{identity}` of instance {instance} of {name}");
                complaints.push(Complaint { secret: id.clone(), what });
            }
        }
    }

    /// Every instance that has read the secret: its fleet, its number, its list.
    fn holders<'s>(&'s self, id: &'s SecretId) -> impl Iterator<Item = (&'s str, u64, &'s Vec<String>)> {
        self.fleets.iter().flat_map(move |(name, fleet)| {
            fleet.instances.iter().filter_map(move |(number, instance)| {
                let list = instance.values.get(id).filter(|list| !list.is_empty())?;
                Some((name.as_str(), *number, list))
            })
        })
    }

    /// The ordered list that `store` publishes for a secret, in truth.
    #[must_use]
    pub fn published(&self, secret: &SecretId, store: &StoreId) -> Vec<String> {
        let (Some(subject), Some(store)) = (self.subjects.get(secret), self.stores.get(store)) else {
            return Vec::new();
        };
        read_list(&subject.entry, store, &BTreeMap::new(), Timestamp::MAX)
    }

    /// The ordered list that an instance of any consumer reads that starts now.
    #[must_use]
    pub fn pinned(&self, secret: &SecretId) -> Vec<String> {
        let Some(subject) = self.subjects.get(secret) else { return Vec::new() };
        let store = subject.entry.secret.primary_store().and_then(|id| self.stores.get(id));
        let fleet = self.fleets.values().find(|fleet| fleet.spec.uses.contains(secret));
        let (Some(store), Some(fleet)) = (store, fleet) else { return Vec::new() };
        read_list(&subject.entry, store, &fleet.definition.pins, Timestamp::MAX)
    }

    /// What was signed until now is of no concern any more: an emergency cut it off.
    pub fn forget_signatures(&mut self, secret: &SecretId) {
        self.signed.remove(secret);
    }

    /// How many instances use `text` now.
    #[must_use]
    pub fn users_of(&self, secret: &SecretId, text: &str) -> usize {
        self.holders(secret).filter(|(_, _, list)| list.first().is_some_and(|first| first == text)).count()
    }

    /// How many instances would accept `text` or use it.
    #[must_use]
    pub fn holders_of(&self, secret: &SecretId, text: &str) -> usize {
        self.holders(secret).filter(|(_, _, list)| list.iter().any(|value| value == text)).count()
    }

    /// True where every instance of `consumers` that uses the secret uses `text` first.
    #[must_use]
    pub fn all_use(&self, secret: &SecretId, text: &str, consumers: &[String]) -> bool {
        self.holders(secret)
            .filter(|(fleet, _, _)| consumers.iter().any(|consumer| consumer == fleet))
            .all(|(_, _, list)| list.first().is_some_and(|first| first == text))
    }
}
