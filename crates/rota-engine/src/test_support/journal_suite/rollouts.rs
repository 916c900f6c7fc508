//! Rollouts belong to consumers.

use jiff::Timestamp;
use rota_core::rotation::{Haste, RolloutEvidence, Suspect};
use serde_json::json;

use super::JournalSubject;
use super::parts::*;
use crate::ports::{Journal, JournalError, RolloutClaim, RolloutRecord, RolloutState};

fn moved(state: RolloutState, wake_at: Option<Timestamp>) -> RolloutRecord {
    RolloutRecord { state, failures: 0, wake_at, history: Vec::new(), notices: Vec::new() }
}

async fn claim_rollout(journal: &dyn Journal) -> RolloutClaim {
    journal.claim_rollout("suite", LEASE).await.unwrap().expect("a rollout is awake and free")
}

fn begun() -> RolloutState {
    RolloutState::Begun { handle: json!({ "id": 1 }), memory: json!(null) }
}

/// Takes the rollout that is awake to its end.
async fn roll_out(journal: &dyn Journal, end: RolloutState) -> RolloutClaim {
    let claim = claim_rollout(journal).await;
    journal.record_rollout(&claim, moved(RolloutState::Starting, Some(claim.now))).await.unwrap();
    journal.record_rollout(&claim, moved(begun(), Some(claim.now))).await.unwrap();
    let claim = claim_rollout(journal).await;
    journal.record_rollout(&claim, moved(end, None)).await.unwrap();
    claim
}

async fn evidence(journal: &dyn Journal, name: &str, since: Timestamp) -> RolloutEvidence {
    journal.rollouts(&[consumer(name)], since).await.unwrap().remove(&consumer(name)).unwrap()
}

/// Publishes for the consumers; returns when.
async fn publish(journal: &dyn Journal, claim: &crate::ports::Claim, consumers: &[&str]) -> Timestamp {
    let at = journal.now().await.unwrap();
    journal.record(claim, published(claim, at, consumers)).await.unwrap();
    at
}

pub(super) async fn requests_that_wait_are_one_rollout(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A", "B"]).await;
    let a = open_and_claim(&*journal, "A").await;
    let b = open_and_claim(&*journal, "B").await;
    let first = publish(&*journal, &a, &["backend", "worker"]).await;
    assert!(matches!(evidence(&*journal, "backend", first).await, RolloutEvidence::UnderWay { .. }));
    let second = publish(&*journal, &b, &["backend"]).await;
    let mut seen = Vec::new();
    while let Some(claim) = journal.claim_rollout("suite", LEASE).await.unwrap() {
        assert_eq!((claim.generation, &claim.state, claim.begun_at), (1, &RolloutState::Requested, None));
        if claim.consumer == consumer_policy("backend") {
            assert!(claim.published_at >= second);
        }
        seen.push(claim.consumer.id);
    }
    seen.sort_unstable();
    assert_eq!(seen, [consumer("backend"), consumer("worker")]);
}

pub(super) async fn one_rollout_of_a_consumer_is_under_way(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    let rotation = open_and_claim(&*journal, "A").await;
    publish(&*journal, &rotation, &["backend"]).await;
    let first = claim_rollout(&*journal).await;
    assert_eq!(journal.claim_rollout("other", LEASE).await.unwrap(), None, "it is leased");
    journal.record_rollout(&first, moved(RolloutState::Starting, Some(first.now))).await.unwrap();
    journal.record_rollout(&first, moved(begun(), Some(first.now + HOUR))).await.unwrap();
    publish(&*journal, &rotation, &["backend"]).await;
    assert_eq!(journal.claim_rollout("other", LEASE).await.unwrap(), None, "the first is still under way");
}

pub(super) async fn a_finished_rollout_serves_what_was_published_before_it_was_asked_for(
    subject: &dyn JournalSubject,
) {
    let journal = with_secrets(subject, &["A"]).await;
    let rotation = open_and_claim(&*journal, "A").await;
    let now = journal.now().await.unwrap();
    assert_eq!(evidence(&*journal, "backend", now - HOUR).await, RolloutEvidence::NotRequested);
    journal.record(&rotation, published(&rotation, now, &["backend"])).await.unwrap();
    roll_out(&*journal, RolloutState::Finished).await;
    assert_eq!(evidence(&*journal, "backend", now).await, RolloutEvidence::Finished);
    assert_eq!(evidence(&*journal, "worker", now).await, RolloutEvidence::NotRequested);
    let later = journal.now().await.unwrap() + HOUR;
    assert_eq!(evidence(&*journal, "backend", later).await, RolloutEvidence::NotRequested);

    // One that had begun does not serve what is published now.
    let third = publish(&*journal, &rotation, &["backend"]).await;
    let claim = claim_rollout(&*journal).await;
    journal.record_rollout(&claim, moved(RolloutState::Starting, Some(claim.now))).await.unwrap();
    journal.record_rollout(&claim, moved(begun(), Some(claim.now))).await.unwrap();
    let mut at = journal.now().await.unwrap();
    if at == third {
        at += jiff::SignedDuration::from_secs(1);
    }
    journal.record(&rotation, published(&rotation, at, &[])).await.unwrap();
    let claim = claim_rollout(&*journal).await;
    journal.record_rollout(&claim, moved(RolloutState::Finished, None)).await.unwrap();
    assert_eq!(evidence(&*journal, "backend", third).await, RolloutEvidence::Finished);
    assert_eq!(evidence(&*journal, "backend", at).await, RolloutEvidence::NotRequested);
}

pub(super) async fn a_failed_rollout_shows_until_another_is_asked_for(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    let rotation = open_and_claim(&*journal, "A").await;
    let at = publish(&*journal, &rotation, &["backend"]).await;
    let failed = RolloutState::Failed { detail: "the circuit breaker put the old one back".to_owned() };
    let ended = roll_out(&*journal, failed).await;
    let detail = "the circuit breaker put the old one back".to_owned();
    assert_eq!(evidence(&*journal, "backend", at).await, RolloutEvidence::Failed { detail });
    let mut again = same(&rotation);
    again.rollouts = vec![consumer_policy("backend")];
    journal.record(&rotation, again).await.unwrap();
    assert!(matches!(evidence(&*journal, "backend", at).await, RolloutEvidence::UnderWay { .. }));
    let second = roll_out(&*journal, RolloutState::Finished).await;
    assert_eq!(second.generation, ended.generation + 1);
    assert_eq!(evidence(&*journal, "backend", at).await, RolloutEvidence::Finished);
}

pub(super) async fn an_emergency_takes_over_the_rollout_under_way(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A", "B"]).await;
    let calm = open_and_claim(&*journal, "A").await;
    let hasty = open_and_claim(&*journal, "B").await;
    let before = publish(&*journal, &calm, &["backend"]).await;
    let first = claim_rollout(&*journal).await;
    journal.record_rollout(&first, moved(RolloutState::Starting, Some(first.now))).await.unwrap();
    let mut record = published(&hasty, journal.now().await.unwrap(), &["backend"]);
    record.rotation.order.haste = Haste::Emergency { suspect: Suspect::Older };
    journal.record(&hasty, record).await.unwrap();
    let start = moved(begun(), Some(first.now));
    assert_eq!(journal.record_rollout(&first, start).await, Err(JournalError::Stale));
    let second = roll_out(&*journal, RolloutState::Finished).await;
    assert_eq!(second.generation, first.generation + 1);
    // It serves those who waited for the one that it took over.
    assert_eq!(evidence(&*journal, "backend", before).await, RolloutEvidence::Finished);
}

pub(super) async fn starting_keeps_the_lease_and_every_other_record_gives_it_back(
    subject: &dyn JournalSubject,
) {
    let journal = with_secrets(subject, &["A"]).await;
    let rotation = open_and_claim(&*journal, "A").await;
    publish(&*journal, &rotation, &["backend"]).await;
    let claim = claim_rollout(&*journal).await;
    let now = journal.record_rollout(&claim, moved(RolloutState::Starting, Some(claim.now))).await.unwrap();
    assert_eq!(journal.claim_rollout("other", LEASE).await.unwrap(), None);
    let failing = RolloutRecord { failures: 3, ..moved(begun(), Some(now)) };
    journal.record_rollout(&claim, failing).await.unwrap();
    let again = claim_rollout(&*journal).await;
    assert_eq!((again.state.clone(), again.failures), (begun(), 3));
    assert!(again.begun_at.is_some_and(|at| at >= claim.now && at <= again.now));
    assert!(again.epoch > claim.epoch);
    journal.record_rollout(&again, moved(begun(), Some(again.now + HOUR))).await.unwrap();
    assert_eq!(journal.claim_rollout("other", LEASE).await.unwrap(), None, "it sleeps");
}

pub(super) async fn a_publication_makes_the_claim_on_a_waiting_rollout_stale(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A", "B"]).await;
    let a = open_and_claim(&*journal, "A").await;
    let b = open_and_claim(&*journal, "B").await;
    publish(&*journal, &a, &["backend"]).await;
    let early = claim_rollout(&*journal).await;
    publish(&*journal, &b, &["backend"]).await;
    // It would start without knowing what was published since.
    let start = moved(RolloutState::Starting, Some(early.now));
    assert_eq!(journal.record_rollout(&early, start).await, Err(JournalError::Stale));
    let late = claim_rollout(&*journal).await;
    assert_eq!(late.generation, early.generation);
    assert!(late.publications.contains_key(&secret("B")));
}

pub(super) async fn a_rollout_claim_brings_the_last_publication_of_each_secret(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A", "B"]).await;
    let a = open_and_claim(&*journal, "A").await;
    let b = open_and_claim(&*journal, "B").await;
    publish(&*journal, &a, &[]).await;
    publish(&*journal, &b, &[]).await;
    let last = publish(&*journal, &a, &["backend"]).await;
    let claim = claim_rollout(&*journal).await;
    assert_eq!(claim.publications.keys().collect::<Vec<_>>(), [&secret("A"), &secret("B")]);
    let (entry, publication) = &claim.publications[&secret("A")];
    assert_eq!(*entry, entry_of("A"));
    assert_eq!(Some(publication), published(&a, last, &[]).publication.as_ref());
}

pub(super) async fn an_ended_rollout_wakes_the_rotations_of_its_consumer(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    let rotation = open_and_claim(&*journal, "A").await;
    publish(&*journal, &rotation, &["backend"]).await;
    journal.release(&rotation, rotation.now + HOUR).await.unwrap();
    assert_eq!(journal.claim("suite", LEASE).await.unwrap(), None);
    roll_out(&*journal, RolloutState::Finished).await;
    assert_eq!(claim(&*journal).await.rotation.id, rotation.rotation.id);
}

pub(super) async fn whoever_lost_a_rollout_records_nothing(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    let rotation = open_and_claim(&*journal, "A").await;
    let at = publish(&*journal, &rotation, &["backend"]).await;
    let lost = journal.claim_rollout("one", NO_LEASE).await.unwrap().unwrap();
    let held = claim_rollout(&*journal).await;
    assert!(held.epoch > lost.epoch);
    let mut late = moved(RolloutState::Failed { detail: "late".to_owned() }, None);
    late.history.push(line("late", "A"));
    late.notices.push(notice("late", lost.now));
    assert_eq!(journal.record_rollout(&lost, late).await, Err(JournalError::Stale));
    assert!(matches!(evidence(&*journal, "backend", at).await, RolloutEvidence::UnderWay { .. }));
    assert!(!subject.history(Some(&secret("A"))).await.contains(&"late".to_owned()));
    assert_eq!(journal.claim_notices("slack", 10, LEASE).await.unwrap(), None);
}
