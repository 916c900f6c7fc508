//! What should start: the policy, due dates, orders.

use rota_core::policy::model::Priority;
use rota_core::rotation::{Event, apply};

use super::JournalSubject;
use super::parts::*;
use crate::ports::{Opened, OrderKind, Record};

pub(super) async fn accepting_the_same_digest_again_changes_nothing(subject: &dyn JournalSubject) {
    let journal = subject.journal();
    assert_eq!(journal.accepted_policy(None).await.unwrap(), None);
    let first =
        journal.accept_policy(&policy(&[secret_policy("A", Priority::Low)]), "d1", "ann").await.unwrap();
    let again =
        journal.accept_policy(&policy(&[secret_policy("A", Priority::Low)]), "d1", "bob").await.unwrap();
    assert_eq!(again, first);
    assert_eq!(journal.accepted_policy(None).await.unwrap(), Some(first.clone()));
    let second = journal.accept_policy(&policy(&[]), "d2", "bob").await.unwrap();
    assert!(second.version > first.version);
    // An earlier digest is a new version, not a way back.
    let third =
        journal.accept_policy(&policy(&[secret_policy("A", Priority::Low)]), "d1", "ann").await.unwrap();
    assert!(third.version > second.version);
}

pub(super) async fn a_policy_that_is_known_is_not_read_again(subject: &dyn JournalSubject) {
    let journal = subject.journal();
    let first = journal.accept_policy(&policy(&[]), "d1", "ann").await.unwrap();
    assert_eq!(journal.accepted_policy(Some(first.version)).await.unwrap(), None);
    let second =
        journal.accept_policy(&policy(&[secret_policy("A", Priority::Low)]), "d2", "ann").await.unwrap();
    assert_eq!(journal.accepted_policy(Some(first.version)).await.unwrap(), Some(second));
}

pub(super) async fn a_due_date_survives_another_acceptance_of_the_policy(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    let due = journal.now().await.unwrap() + HOUR * 5;
    promoted(&*journal, "A", due, due).await;
    let mut edited = secret_policy("A", Priority::Critical);
    edited.overlap = HOUR * 2;
    journal
        .accept_policy(&policy(&[edited, secret_policy("B", Priority::Low)]), "second", "suite")
        .await
        .unwrap();
    let (_, upcoming) = journal.upcoming(HOUR * 6).await.unwrap();
    let dates: Vec<_> = upcoming.iter().map(|soon| (soon.secret.as_str(), soon.due)).collect();
    assert_eq!(dates, [("A", due)]);
}

pub(super) async fn what_is_due_comes_by_priority_and_then_by_date(subject: &dyn JournalSubject) {
    let journal = subject.journal();
    let secrets = [
        ("LOW", Priority::Low),
        ("LATER", Priority::High),
        ("SOONER", Priority::High),
        ("FIRST", Priority::Critical),
        ("TOMORROW", Priority::Critical),
    ];
    let policies: Vec<_> = secrets.iter().map(|(name, priority)| secret_policy(name, *priority)).collect();
    journal.accept_policy(&policy(&policies), "d", "suite").await.unwrap();
    let now = journal.now().await.unwrap();
    for (name, due, start) in [
        ("LOW", -9, -10),
        // The one that is due later started to be due earlier.
        ("LATER", 3, -9),
        ("SOONER", 1, -2),
        ("FIRST", 8, -1),
        ("TOMORROW", 30, 24),
    ] {
        promoted(&*journal, name, now + HOUR * due, now + HOUR * start).await;
    }
    let (at, due) = journal.due(10).await.unwrap();
    assert!(at >= now);
    let order: Vec<_> = due.iter().map(|due| due.secret.as_str()).collect();
    assert_eq!(order, ["FIRST", "SOONER", "LATER", "LOW"]);
    assert_eq!(due[1].due, Some(now + HOUR));
    assert!(due.iter().all(|due| due.order.is_none() && due.exists));
    assert_eq!(due[3].priority, Priority::Low);
    let (_, two) = journal.due(2).await.unwrap();
    assert_eq!(two, due[..2]);

    // What is in flight is not due.
    open(&*journal, "FIRST").await;
    let (_, due) = journal.due(1).await.unwrap();
    assert_eq!(due[0].secret.as_str(), "SOONER");
}

pub(super) async fn a_secret_that_left_the_policy_is_not_due(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A", "B"]).await;
    let past = journal.now().await.unwrap() - HOUR;
    promoted(&*journal, "A", past, past).await;
    promoted(&*journal, "B", past, past).await;
    journal.accept_policy(&policy(&[secret_policy("B", Priority::Medium)]), "second", "suite").await.unwrap();
    let names = |due: Vec<crate::ports::DueSecret>| due.into_iter().map(|due| due.secret).collect::<Vec<_>>();
    assert_eq!(names(journal.due(10).await.unwrap().1), [secret("B")]);
    let (_, upcoming) = journal.upcoming(HOUR).await.unwrap();
    assert_eq!(upcoming.len(), 1);
    // It comes back with the date that it had.
    let both = [secret_policy("A", Priority::Medium), secret_policy("B", Priority::Medium)];
    journal.accept_policy(&policy(&both), "third", "suite").await.unwrap();
    assert_eq!(names(journal.due(10).await.unwrap().1), [secret("A"), secret("B")]);
}

pub(super) async fn a_postponed_secret_is_not_due_before_its_time(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    let now = journal.now().await.unwrap();
    promoted(&*journal, "A", now - HOUR, now - HOUR).await;
    let (_, due) = journal.due(10).await.unwrap();
    journal.postpone(&due[0], "the window is closed", now + HOUR, vec![notice("later", now)]).await.unwrap();
    assert_eq!(journal.due(10).await.unwrap().1, []);
    assert!(subject.history(Some(&secret("A"))).await.contains(&"rotation.postponed".to_owned()));
    let told = journal.claim_notices("slack", 10, LEASE).await.unwrap().unwrap();
    assert_eq!(told.notices[0].1.key, "later");
    // An order does not wait for the schedule.
    subject.order(&secret("A"), OrderKind::Rotate).await;
    assert_eq!(journal.due(10).await.unwrap().1.len(), 1);
}

pub(super) async fn a_blocked_secret_neither_is_due_nor_opens(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    let now = journal.now().await.unwrap();
    promoted(&*journal, "A", now - HOUR, now - HOUR).await;
    let claim = open_and_claim(&*journal, "A").await;
    let mut record = ending(&claim, now);
    record.blocked = Some("two values are published".to_owned());
    record.orphan = Some("the new value".to_owned());
    journal.record(&claim, record).await.unwrap();
    assert_eq!(journal.due(10).await.unwrap().1, []);
    let refused = journal.open(new_rotation(rotation("A", now))).await.unwrap();
    assert_eq!(refused, Opened::Blocked { why: "two values are published".to_owned() });
    assert_eq!(journal.claim("suite", LEASE).await.unwrap(), None);
}

pub(super) async fn an_order_to_rotate_is_due_until_a_rotation_answers_it(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    assert_eq!(journal.due(10).await.unwrap().1, []);
    let id = subject.order(&secret("A"), OrderKind::Rotate).await;
    let (now, due) = journal.due(10).await.unwrap();
    let order = due[0].order.clone().unwrap();
    assert_eq!((order.id, &order.secret, &order.kind), (id, &secret("A"), &OrderKind::Rotate));
    assert!(!order.reason.is_empty() && !order.by.is_empty() && order.at <= now);
    assert!(!due[0].exists);
    assert_eq!(journal.stray_orders().await.unwrap(), []);

    let mut new = new_rotation(rotation("A", now));
    new.order = Some(id);
    assert_eq!(journal.open(new).await.unwrap(), Opened::Yes);
    assert_eq!(journal.due(10).await.unwrap().1, []);
    let claim = claim(&*journal).await;
    assert_eq!(claim.orders, []);
    journal.record(&claim, ending(&claim, now)).await.unwrap();
    assert_eq!(journal.due(10).await.unwrap().1, [], "it was answered");
}

pub(super) async fn an_emergency_without_a_rotation_is_due(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    let kind = OrderKind::Emergency { suspect: None };
    let id = subject.order(&secret("A"), kind.clone()).await;
    let (_, due) = journal.due(10).await.unwrap();
    assert_eq!(due[0].order.as_ref().map(|order| (order.id, &order.kind)), Some((id, &kind)));
}

pub(super) async fn a_postponed_order_is_not_due_before_its_time(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    subject.order(&secret("A"), OrderKind::Rotate).await;
    let (now, due) = journal.due(10).await.unwrap();
    journal.postpone(&due[0], "the store is down", now + HOUR, Vec::new()).await.unwrap();
    assert_eq!(journal.due(10).await.unwrap().1, []);
    journal.postpone(&due[0], "the store is down", now - HOUR, Vec::new()).await.unwrap();
    assert_eq!(journal.due(10).await.unwrap().1.len(), 1);
    journal.refuse_order(due[0].order.as_ref().unwrap().id, "never").await.unwrap();
    assert_eq!(journal.due(10).await.unwrap().1, []);
}

pub(super) async fn orders_without_a_rotation_are_stray_until_refused(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A", "B"]).await;
    let resume = subject.order(&secret("A"), OrderKind::Resume).await;
    let confirm = subject.order(&secret("B"), OrderKind::Confirm).await;
    let ids = |orders: Vec<crate::ports::PendingOrder>| {
        orders.into_iter().map(|order| order.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(journal.stray_orders().await.unwrap()), [resume, confirm]);
    assert_eq!(journal.due(10).await.unwrap().1, []);
    journal.refuse_order(resume, "nothing to resume").await.unwrap();
    journal.refuse_order(resume, "again").await.unwrap();
    assert_eq!(ids(journal.stray_orders().await.unwrap()), [confirm]);
    // With a rotation in flight it belongs to that one.
    open(&*journal, "B").await;
    assert_eq!(journal.stray_orders().await.unwrap(), []);
}

pub(super) async fn what_is_due_soon_says_what_its_rotation_waits_for(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A", "B"]).await;
    let now = journal.now().await.unwrap();
    promoted(&*journal, "A", now + HOUR, now + HOUR).await;
    promoted(&*journal, "B", now + HOUR * 9, now + HOUR * 9).await;
    let (_, upcoming) = journal.upcoming(HOUR * 2).await.unwrap();
    let [only] = &upcoming[..] else { panic!("one is due within two hours: {upcoming:?}") };
    assert_eq!((only.secret.as_str(), only.step, only.waiting.as_deref()), ("A", None, None));
    let claim = open_and_claim(&*journal, "A").await;
    let waits = Event::Waited { until: now, why: "the window to open".to_owned() };
    let waiting = apply(claim.rotation.clone(), waits, now).unwrap();
    journal.record(&claim, Record::of(waiting, claim.last_effect)).await.unwrap();
    let (_, upcoming) = journal.upcoming(HOUR * 2).await.unwrap();
    assert_eq!(upcoming[0].waiting.as_deref(), Some("the window to open"));
    assert_eq!(upcoming[0].step, claim.rotation.step());
    assert!(!upcoming[0].waits_for_person);
}

pub(super) async fn a_promotion_moves_the_dates_and_makes_the_value_exist(subject: &dyn JournalSubject) {
    let journal = with_secrets(subject, &["A"]).await;
    let now = journal.now().await.unwrap();
    promoted(&*journal, "A", now - HOUR, now - HOUR * 2).await;
    let (_, due) = journal.due(10).await.unwrap();
    assert_eq!((due[0].due, due[0].exists), (Some(now - HOUR), true));
    promoted(&*journal, "A", now + HOUR * 2, now + HOUR).await;
    assert_eq!(journal.due(10).await.unwrap().1, []);
    // After a rollback the schedule may start again before or after the due date.
    let claim = open_and_claim(&*journal, "A").await;
    let mut record = ending(&claim, now);
    record.next_start = Some(now - HOUR);
    journal.record(&claim, record).await.unwrap();
    let (_, due) = journal.due(10).await.unwrap();
    assert_eq!(due[0].due, Some(now + HOUR * 2));
}
