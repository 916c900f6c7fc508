//! Opening, claiming, recording: leases and epochs.

use std::collections::BTreeSet;

use rota_core::fault::Fault;
use rota_core::id::EffectNo;
use rota_core::rotation::State;

use super::JournalSubject;
use super::parts::*;
use crate::past_is_lost;
use crate::ports::{JournalError, Opened, OrderKind, Record};

pub(super) async fn one_rotation_is_in_flight_per_secret_and_per_exclusive_key(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A", "B", "C"]).await;
    let now = journal.now().await.unwrap();
    let mut first = new_rotation(rotation("A", now));
    first.exclusive = vec!["target:db/acd".to_owned(), "place:store:x".to_owned()];
    assert_eq!(journal.open(first).await.unwrap(), Opened::Yes);
    assert_eq!(journal.open(new_rotation(rotation("A", now))).await.unwrap(), Opened::InFlight);
    let mut second = new_rotation(rotation("B", now));
    second.exclusive = vec!["place:store:y".to_owned(), "target:db/acd".to_owned()];
    second.notices = vec![notice("opened B", now)];
    assert_eq!(journal.open(second).await.unwrap(), Opened::InFlight);
    // Nothing of it was kept: neither its other key nor its notice nor its history.
    let mut third = new_rotation(rotation("C", now));
    third.exclusive = vec!["place:store:y".to_owned()];
    assert_eq!(journal.open(third).await.unwrap(), Opened::Yes);
    assert_eq!(journal.claim_notices("slack", 10, LEASE).await.unwrap(), None);
    assert_eq!(subject.history(Some(&secret("B"))).await, [""; 0]);
}

pub(super) async fn opening_twice_with_one_id_opens_once(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    let new = new_rotation(rotation("A", journal.now().await.unwrap()));
    assert_eq!(journal.open(new.clone()).await.unwrap(), Opened::Yes);
    assert_eq!(journal.open(new).await.unwrap(), Opened::Yes);
    assert_eq!(subject.history(Some(&secret("A"))).await, ["rotation.opened"]);
}

pub(super) async fn an_ended_rotation_frees_its_secret_and_its_keys(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A", "B"]).await;
    let now = journal.now().await.unwrap();
    let keyed = |name| {
        let mut new = new_rotation(rotation(name, now));
        new.exclusive = vec!["target:db/acd".to_owned()];
        new
    };
    assert_eq!(journal.open(keyed("A")).await.unwrap(), Opened::Yes);
    let claim = claim(&*journal).await;
    journal.record(&claim, ending(&claim, now)).await.unwrap();
    assert_eq!(journal.claim("suite", LEASE).await.unwrap(), None, "what has ended is not claimed");
    assert_eq!(journal.open(keyed("B")).await.unwrap(), Opened::Yes);
    assert_eq!(journal.open(keyed("A")).await.unwrap(), Opened::InFlight);
    assert_eq!(journal.open(new_rotation(rotation("A", now))).await.unwrap(), Opened::Yes);
}

pub(super) async fn a_rotation_has_one_holder_until_its_lease_lapses(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A", "B"]).await;
    let opened = open(&*journal, "A").await;
    let lapsing = journal.claim("one", NO_LEASE).await.unwrap().unwrap();
    assert_eq!(lapsing.rotation, opened);
    let held = journal.claim("two", LEASE).await.unwrap().unwrap();
    assert_eq!(held.rotation, opened);
    assert!(held.epoch > lapsing.epoch);
    assert_eq!(held.lease_until, held.now + LEASE);
    assert_eq!(journal.claim("three", LEASE).await.unwrap(), None);
    open(&*journal, "B").await;
    let other = journal.claim("three", LEASE).await.unwrap().unwrap();
    assert_eq!(other.rotation.secret, secret("B"));
    assert!(other.epoch > held.epoch);
}

pub(super) async fn whoever_lost_the_lease_records_nothing(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    open(&*journal, "A").await;
    let lost = journal.claim("one", NO_LEASE).await.unwrap().unwrap();
    let held = journal.claim("two", LEASE).await.unwrap().unwrap();
    let now = held.now;
    let mut record = ending(&lost, now);
    record.history.push(line("late", "A"));
    record.notices.push(notice("late", now));
    assert_eq!(journal.record(&lost, record).await, Err(JournalError::Stale));
    assert_eq!(journal.renew(&lost, LEASE).await, Err(JournalError::Stale));
    assert_eq!(journal.release(&lost, now).await, Err(JournalError::Stale));
    assert_eq!(subject.history(Some(&secret("A"))).await, ["rotation.opened"]);
    assert_eq!(journal.claim_notices("slack", 10, LEASE).await.unwrap(), None);
    assert_eq!(journal.claim("three", LEASE).await.unwrap(), None, "the lease is the second holder's");
    journal.record(&held, same(&held)).await.unwrap();
}

pub(super) async fn a_released_rotation_sleeps_until_its_time(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    let first = open_and_claim(&*journal, "A").await;
    journal.release(&first, first.now).await.unwrap();
    let second = claim(&*journal).await;
    assert!(second.epoch > first.epoch);
    journal.release(&second, second.now + HOUR).await.unwrap();
    assert_eq!(journal.claim("suite", LEASE).await.unwrap(), None);
    let order = subject.order(&secret("A"), OrderKind::Hold).await;
    let third = claim(&*journal).await;
    assert_eq!(third.orders.iter().map(|order| order.id).collect::<Vec<_>>(), [order]);
}

pub(super) async fn an_order_wakes_the_rotation_and_makes_its_holder_stale(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    let held = open_and_claim(&*journal, "A").await;
    let first = subject.order(&secret("A"), OrderKind::Rollback).await;
    let second = subject.order(&secret("A"), OrderKind::Emergency { suspect: None }).await;
    let mut record = intent(&held, held.now);
    record.history.push(line("step.intended", "A"));
    assert_eq!(journal.record(&held, record).await, Err(JournalError::Stale));
    assert!(!subject.history(Some(&secret("A"))).await.contains(&"step.intended".to_owned()));
    // Whoever lost it that way has no call under way: the next claim need not wait.
    let next = claim(&*journal).await;
    assert!(next.epoch > held.epoch);
    assert_eq!(next.rotation, held.rotation);
    assert_eq!(next.orders.iter().map(|order| order.id).collect::<Vec<_>>(), [first, second]);
    assert_eq!(next.orders[0].kind, OrderKind::Rollback);
    assert_eq!(journal.due(10).await.unwrap().1, [], "the emergency belongs to the rotation in flight");
}

pub(super) async fn an_answered_order_does_not_come_again(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    open(&*journal, "A").await;
    let order = subject.order(&secret("A"), OrderKind::Hold).await;
    let first = claim(&*journal).await;
    let mut record = same(&first);
    record.handled.push((order, "applied".to_owned()));
    journal.record(&first, record).await.unwrap();
    journal.release(&first, first.now).await.unwrap();
    assert_eq!(claim(&*journal).await.orders, []);
}

pub(super) async fn a_claim_brings_what_the_last_record_left(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    let first = open_and_claim(&*journal, "A").await;
    assert_eq!(*first.policy, entry_of("A"));
    assert_eq!(first.last_effect, EffectNo(0));
    let record = intent(&first, first.now);
    let left = record.rotation.clone();
    let now = journal.record(&first, record).await.unwrap();
    assert!(now >= first.now);
    journal.release(&first, now).await.unwrap();
    let second = claim(&*journal).await;
    assert_eq!(second.rotation, left);
    assert_eq!(second.last_effect, EffectNo(1));
    assert_eq!(second.incarnation, first.incarnation);
    assert!(second.now >= now);
}

pub(super) async fn epochs_and_effect_numbers_go_on_with_the_next_rotation(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    let first = open_and_claim(&*journal, "A").await;
    let mut record = ending(&first, first.now);
    record.last_effect = EffectNo(7);
    journal.record(&first, record).await.unwrap();
    let second = open_and_claim(&*journal, "A").await;
    assert_eq!(second.last_effect, EffectNo(7));
    assert!(second.epoch > first.epoch);
    assert_ne!(second.rotation.id, first.rotation.id);
}

pub(super) async fn a_record_keeps_state_history_and_notices_together(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    let claim = open_and_claim(&*journal, "A").await;
    let mut record = intent(&claim, claim.now);
    record.history = vec![line("step.intended", "A"), line("more", "A")];
    record.notices = vec![notice("step.intended", claim.now)];
    let used = record.last_effect;
    journal.record(&claim, record).await.unwrap();
    let mut record = Record { last_effect: used, ..same(&claim) };
    record.history = vec![line("step.done", "A")];
    record.notices = vec![notice("step.done", claim.now)];
    journal.record(&claim, record).await.unwrap();
    let kinds = subject.history(Some(&secret("A"))).await;
    assert_eq!(kinds, ["rotation.opened", "step.intended", "more", "step.done"]);
    let told = journal.claim_notices("slack", 10, LEASE).await.unwrap().unwrap();
    let keys: Vec<_> = told.notices.iter().map(|(_, notice)| notice.key.as_str()).collect();
    assert_eq!(keys, ["step.intended", "step.done"]);
}

pub(super) async fn superseding_ends_the_old_rotation_and_opens_the_new_one(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    let now = journal.now().await.unwrap();
    let mut old = new_rotation(rotation("A", now));
    old.exclusive = vec!["target:db/acd".to_owned()];
    let old_id = old.rotation.id;
    journal.open(old).await.unwrap();
    let held = claim(&*journal).await;
    let mut new = new_rotation(rotation("A", now));
    new.exclusive = vec!["target:db/acd".to_owned()];
    new.supersedes = Some(old_id);
    let new_id = new.rotation.id;
    assert_eq!(journal.open(new).await.unwrap(), Opened::Yes);
    assert_eq!(journal.record(&held, same(&held)).await, Err(JournalError::Stale));
    let next = claim(&*journal).await;
    assert_eq!(next.rotation.id, new_id);
    assert!(matches!(next.rotation.state, State::Running { .. }));
    assert_eq!(journal.claim("suite", LEASE).await.unwrap(), None, "the old one has ended");
}

pub(super) async fn a_renewed_lease_ends_later(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    open(&*journal, "A").await;
    let held = journal.claim("suite", NO_LEASE).await.unwrap().unwrap();
    let until = journal.renew(&held, LEASE).await.unwrap();
    assert!(until >= held.now + LEASE);
    assert_eq!(journal.claim("other", LEASE).await.unwrap(), None);
    journal.record(&held, same(&held)).await.unwrap();
}

pub(super) async fn the_past_names_every_rotation_of_a_secret_and_is_never_behind(
    subject: &dyn JournalSubject,
) {
    let journal = with_secrets(subject, &["A", "B"]).await;
    assert_eq!(journal.past(&secret("A")).await.unwrap().rotations, BTreeSet::new());
    let first = open_and_claim(&*journal, "A").await;
    open_and_claim(&*journal, "B").await;
    let mut record = ending(&first, first.now);
    record.history = vec![line("rotation.ended", "A")];
    journal.record(&first, record).await.unwrap();
    let second = open_and_claim(&*journal, "A").await;
    let past = journal.past(&secret("A")).await.unwrap();
    assert_eq!(past.rotations, BTreeSet::from([first.rotation.id, second.rotation.id]));
    assert_eq!(past.incarnation, second.incarnation);
    assert!(past.epoch >= second.epoch);
    let now = journal.now().await.unwrap();
    assert!(past.began_at <= first.now && past.latest.is_some_and(|at| at >= first.now && at <= now));
}

pub(super) async fn a_distrusted_journal_gives_nothing_out_and_says_so_once(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A", "B"]).await;
    let held = open_and_claim(&*journal, "A").await;
    journal.record(&held, published(&held, held.now, &["backend"])).await.unwrap();
    subject.order(&secret("B"), OrderKind::Rotate).await;
    for why in ["a mark is ahead", "another reason"] {
        let told = past_is_lost(why, held.incarnation, held.now);
        journal.distrust(why, told).await.unwrap();
    }
    // Whoever holds a rotation may still say why it is held.
    journal.record(&held, same(&held)).await.unwrap();
    journal.release(&held, held.now).await.unwrap();
    let refused = journal.claim("two", LEASE).await.unwrap_err();
    assert!(refused.to_string().contains("a mark is ahead"), "{refused}");
    assert!(matches!(journal.due(10).await, Err(Fault::Invalid { .. })));
    assert_eq!(journal.claim_rollout("two", LEASE).await.unwrap(), None);
    let told = journal.claim_notices("slack", 10, LEASE).await.unwrap().unwrap().notices;
    let told: Vec<_> =
        told.into_iter().map(|(_, notice)| notice.what).filter(|what| what.contains("ahead")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
}
