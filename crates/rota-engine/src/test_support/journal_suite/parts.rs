//! Policies, rotations and records to test a journal with.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use rota_core::id::{ConsumerId, EffectNo, FieldName, RotationId, SecretId, StoreId, VersionRef};
use rota_core::policy::model::{
    ConsumerPolicy, Consumers, Environment, FieldPolicy, Healthy, OnFailure, Policy, PolicyEntry, Priority,
    PublishForm, RolloutPolicy, SecretPolicy,
};
use rota_core::rotation::{
    Cause, Event, Haste, Intent, List, Order, Publication, Rotation, Shape, Source, apply,
};
use rota_core::schedule::Schedule;
use serde_json::json;
use uuid::Uuid;

use super::JournalSubject;
use crate::ports::{
    Claim, HistoryEntry, Journal, NewRotation, Notice, NoticeKind, Opened, Promotion, Record,
};

pub const HOUR: SignedDuration = SignedDuration::from_hours(1);
pub const LEASE: SignedDuration = SignedDuration::from_mins(5);
/// Has lapsed as soon as it was taken.
pub const NO_LEASE: SignedDuration = SignedDuration::ZERO;

pub fn secret(name: &str) -> SecretId {
    SecretId::new(name).unwrap()
}

pub fn consumer(name: &str) -> ConsumerId {
    ConsumerId::new(name).unwrap()
}

pub fn consumer_policy(name: &str) -> ConsumerPolicy {
    ConsumerPolicy {
        id: consumer(name),
        rollout: RolloutPolicy { kind: "reread".to_owned(), settings: json!(null), deadline: HOUR },
        checks: Vec::new(),
        unmonitored: Some("a test".to_owned()),
        settle: SignedDuration::ZERO,
    }
}

/// A generated value that `backend` and `worker` read, due on request only.
pub fn secret_policy(name: &str, priority: Priority) -> SecretPolicy {
    SecretPolicy {
        id: secret(name),
        kind: "generated".to_owned(),
        settings: json!(null),
        class: None,
        format: None,
        fields: [(FieldName::new(name).unwrap(), FieldPolicy { template: None, format: None })]
            .into_iter()
            .collect(),
        stores: vec![StoreId::new("store").unwrap()],
        publish: PublishForm::Single,
        schedule: Schedule::OnRequest,
        lead: SignedDuration::ZERO,
        overlap: HOUR,
        token_ttl: SignedDuration::ZERO,
        revoke_after: SignedDuration::ZERO,
        window: None,
        healthy: Healthy { count: 1, every: HOUR, failures: 1 },
        on_failure: OnFailure::Hold,
        deadlines: BTreeMap::new(),
        consumers: Consumers::Named { names: vec![consumer("backend"), consumer("worker")] },
        accept_gap: false,
        priority,
        owner: None,
        remind: Vec::new(),
        page: None,
        prove: None,
        prove_with: None,
        hooks: Vec::new(),
        inbox: None,
        own: false,
        cadence_basis: None,
    }
}

pub fn policy(secrets: &[SecretPolicy]) -> Policy {
    Policy {
        application: "suite".to_owned(),
        environment: Environment::Development,
        secrets: secrets.iter().map(|secret| (secret.id.clone(), secret.clone())).collect(),
        consumers: ["backend", "worker"]
            .into_iter()
            .map(|name| (consumer(name), consumer_policy(name)))
            .collect(),
        stores: BTreeMap::new(),
        owners: BTreeMap::new(),
    }
}

/// A journal whose accepted policy has these secrets, all of medium priority.
pub async fn with_secrets(subject: &dyn JournalSubject, names: &[&str]) -> std::sync::Arc<dyn Journal> {
    let secrets: Vec<_> = names.iter().map(|name| secret_policy(name, Priority::Medium)).collect();
    let journal = subject.journal();
    journal.accept_policy(&policy(&secrets), "first", "suite").await.unwrap();
    journal
}

/// A rotation that somebody asked for.
pub fn rotation(name: &str, now: Timestamp) -> Rotation {
    let order = Order {
        cause: Cause::Requested { by: "suite".to_owned(), reason: "test".to_owned() },
        haste: Haste::None,
        serves: None,
        supersedes: Vec::new(),
    };
    let shape = Shape {
        source: Source::Generated,
        creation: false,
        target: false,
        reversible: false,
        introduces: false,
        shows_a_second: true,
        confirmed_by_person: false,
        hooks: BTreeSet::new(),
    };
    Rotation::open(RotationId(Uuid::new_v4()), secret(name), order, shape, now)
}

pub fn line(kind: &str, name: &str) -> HistoryEntry {
    HistoryEntry {
        kind: kind.to_owned(),
        secret: Some(secret(name)),
        rotation: None,
        step: None,
        effect: None,
        actor: "suite".to_owned(),
        detail: json!({ "with \"quotes\"": [1, 2.5, null, "\n\u{0}ü"] }),
    }
}

pub fn notice(key: &str, at: Timestamp) -> Notice {
    Notice {
        key: key.to_owned(),
        kind: NoticeKind::Test,
        secret: None,
        rotation: None,
        owner: None,
        priority: Priority::Medium,
        what: format!("what {key}"),
        impact: "none".to_owned(),
        next: "nothing".to_owned(),
        command: None,
        link: None,
        at,
    }
}

/// `rotation` as it is handed to the journal, with a line of history.
pub fn new_rotation(rotation: Rotation) -> NewRotation {
    let name = rotation.secret.as_str().to_owned();
    let entry = policy(&[secret_policy(&name, Priority::Medium)]).entry(&rotation.secret).unwrap();
    NewRotation {
        policy: entry,
        exclusive: Vec::new(),
        order: None,
        supersedes: None,
        history: vec![line("rotation.opened", &name)],
        notices: Vec::new(),
        rotation,
    }
}

/// Opens a rotation of `name`; panics where it does not open.
pub async fn open(journal: &dyn Journal, name: &str) -> Rotation {
    let rotation = rotation(name, journal.now().await.unwrap());
    let opened = journal.open(new_rotation(rotation.clone())).await.unwrap();
    assert_eq!(opened, Opened::Yes);
    rotation
}

/// Opens a rotation of `name` and claims it.
pub async fn open_and_claim(journal: &dyn Journal, name: &str) -> Claim {
    open(journal, name).await;
    claim(journal).await
}

pub async fn claim(journal: &dyn Journal) -> Claim {
    journal.claim("suite", LEASE).await.unwrap().expect("a rotation is awake and free")
}

/// A record of the claim that changes nothing.
pub fn same(claim: &Claim) -> Record {
    Record::of(claim.rotation.clone(), claim.last_effect)
}

/// The intent of the current step, under the next effect number.
pub fn intent(claim: &Claim, now: Timestamp) -> Record {
    let effect = EffectNo(claim.last_effect.0 + 1);
    let intent = Intent { effect, at: now, attempt: 1, bases: BTreeMap::new() };
    let rotation = apply(claim.rotation.clone(), Event::Intended { intent }, now).unwrap();
    Record::of(rotation, effect)
}

/// The end of the rotation.
pub fn ending(claim: &Claim, now: Timestamp) -> Record {
    let event = Event::Abandoned { by: "suite".to_owned(), reason: "test".to_owned() };
    Record::of(apply(claim.rotation.clone(), event, now).unwrap(), claim.last_effect)
}

/// A publication at `at`, with the rollouts of the named consumers asked for.
pub fn published(claim: &Claim, at: Timestamp, consumers: &[&str]) -> Record {
    let refs = BTreeMap::from([("prod/x".to_owned(), VersionRef(format!("v-{at}")))]);
    let publication = Publication {
        list: List::NewOld,
        at,
        refs: BTreeMap::from([(StoreId::new("store").unwrap(), refs)]),
    };
    let mut record = same(claim);
    record.rotation.facts.publication = Some(publication.clone());
    record.publication = Some(publication);
    record.rollouts = consumers.iter().map(|name| consumer_policy(name)).collect();
    record
}

/// Makes `name` due at `due`, with its rotation to start at `start`, and leaves no
/// rotation in flight.
pub async fn promoted(journal: &dyn Journal, name: &str, due: Timestamp, start: Timestamp) {
    let claim = open_and_claim(journal, name).await;
    let now = journal.now().await.unwrap();
    let mut record = ending(&claim, now);
    record.promotion =
        Some(Promotion { at: now, served: None, next_due: Some(due), next_start: Some(start) });
    journal.record(&claim, record).await.unwrap();
}

pub fn entry_of(name: &str) -> PolicyEntry {
    policy(&[secret_policy(name, Priority::Medium)]).entry(&secret(name)).unwrap()
}
