//! What people ask for.

use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_core::id::RotationId;
use rota_core::rotation::{Source, Suspect};
use rota_engine::ports::{Journal as _, Opened, OrderKind};
use rota_engine::test_support::journal_suite::parts::{
    HOUR, LEASE, ending, new_rotation, open, open_and_claim, rotation, secret,
};
use rota_postgres::{Adoption, Asked};

use crate::support::{ann, database, orders, reports, with_secrets};

fn says(fault: &Fault, words: &str) -> bool {
    matches!(fault, Fault::Invalid { message } if message.contains(words))
}

/// Well-formed, and the state forbids it.
fn forbids(fault: &Fault, words: &str) -> bool {
    matches!(fault, Fault::Conflict { message } if message.contains(words))
}

#[tokio::test]
async fn an_order_needs_a_known_secret_a_name_and_a_reason() {
    let database = database().await;
    with_secrets(&database, &["A"]).await;
    let orders = orders(&database).await;
    let refused = orders.give(&secret("B"), &OrderKind::Rotate, &ann("test")).await.unwrap_err();
    assert!(says(&refused, "no secret has that name"), "{refused}");
    for (given_name, reason) in
        [("ann", " "), ("", "test"), ("ann", &"x".repeat(2001)), (&"x".repeat(201), "test")]
    {
        let asked = Asked { given_name: given_name.to_owned(), reason: reason.to_owned() };
        assert!(orders.give(&secret("A"), &OrderKind::Rotate, &asked).await.is_err());
    }
    assert_eq!(reports(&database).await.orders(None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn every_kind_of_order_reaches_the_rotation_with_who_and_why() {
    let database = database().await;
    let journal = with_secrets(&database, &["A"]).await;
    open(&journal, "A").await;
    let orders = orders(&database).await;
    let kinds = [
        OrderKind::Rotate,
        OrderKind::Hold,
        OrderKind::Resume,
        OrderKind::Rollback,
        OrderKind::Abandon,
        OrderKind::Confirm,
        OrderKind::Emergency { suspect: None },
        OrderKind::Emergency { suspect: Some(Suspect::Older) },
        OrderKind::Emergency { suspect: Some(Suspect::Newer) },
    ];
    for kind in &kinds {
        orders.give(&secret("A"), kind, &ann("why \0 not")).await.unwrap();
    }
    let claim = journal.claim("suite", LEASE).await.unwrap().unwrap();
    let given: Vec<_> = claim.orders.iter().map(|order| order.kind.clone()).collect();
    assert_eq!(given, kinds);
    assert!(
        claim.orders.iter().all(|order| order.by == "ann (postgres)" && order.reason == "why \u{fffd} not")
    );
    let log = reports(&database).await.orders(Some(&secret("A")), 100).await.unwrap();
    assert_eq!(log.len(), kinds.len());
    assert!(
        log.iter().all(|order| order.rotation == Some(claim.rotation.id.0) && order.handled_at.is_none())
    );
}

#[tokio::test]
async fn adopting_tells_the_age_and_moves_the_dates_but_never_under_a_rotation() {
    let database = database().await;
    let journal = with_secrets(&database, &["A"]).await;
    let (orders, reports) = (orders(&database).await, reports(&database).await);
    let now = journal.now().await.unwrap();
    let adoption = Adoption {
        last_rotated: Some(now - HOUR * 50),
        next_due: Some(now + HOUR * 3),
        next_start: Some(now + HOUR * 2),
    };
    orders.adopt(&secret("A"), &adoption, &ann("from the old sheet")).await.unwrap();
    let status = reports.status(Some(&secret("A"))).await.unwrap();
    assert_eq!(
        (status[0].last_promoted_at, status[0].next_due_at),
        (adoption.last_rotated, adoption.next_due)
    );
    let due = Adoption { next_start: Some(now - HOUR), ..adoption.clone() };
    orders.adopt(&secret("A"), &due, &ann("again")).await.unwrap();
    assert!(journal.due(1).await.unwrap().1[0].exists);

    let future = Adoption { last_rotated: Some(now + SignedDuration::from_hours(1)), ..adoption.clone() };
    assert!(says(&orders.adopt(&secret("A"), &future, &ann("x")).await.unwrap_err(), "in the future"));
    open(&journal, "A").await;
    assert!(forbids(&orders.adopt(&secret("A"), &adoption, &ann("x")).await.unwrap_err(), "is in flight"));
}

#[tokio::test]
async fn the_last_resolved_orphan_frees_its_secret() {
    let database = database().await;
    let journal = with_secrets(&database, &["A"]).await;
    for what in ["the new value", "a key at the provider"] {
        let claim = open_and_claim(&journal, "A").await;
        let mut end = ending(&claim, claim.now);
        end.orphan = Some(what.to_owned());
        if what.starts_with('a') {
            end.blocked = Some("two values are alive".to_owned());
        }
        journal.record(&claim, end).await.unwrap();
    }
    let (orders, reports) = (orders(&database).await, reports(&database).await);
    let now = journal.now().await.unwrap();
    assert!(matches!(journal.open(new_rotation(rotation("A", now))).await.unwrap(), Opened::Blocked { .. }));
    let open = reports.orphans(None).await.unwrap();
    assert_eq!(
        open.iter().map(|orphan| orphan.what.as_str()).collect::<Vec<_>>(),
        ["the new value", "a key at the provider"]
    );
    let first = Some(open[0].orphan);
    assert_eq!(orders.resolve_orphan(&secret("A"), first, &ann("deleted")).await.unwrap(), 1);
    assert!(says(
        &orders.resolve_orphan(&secret("A"), first, &ann("again")).await.unwrap_err(),
        "no open orphan"
    ));
    assert!(matches!(journal.open(new_rotation(rotation("A", now))).await.unwrap(), Opened::Blocked { .. }));
    assert_eq!(orders.resolve_orphan(&secret("A"), None, &ann("deleted")).await.unwrap(), 1);
    assert_eq!(journal.open(new_rotation(rotation("A", now))).await.unwrap(), Opened::Yes);
}

#[tokio::test]
async fn one_person_at_a_time_submits_a_value_and_only_while_it_is_wanted() {
    let database = database().await;
    let journal = with_secrets(&database, &["A"]).await;
    let orders = orders(&database).await;
    let refused = orders.begin_submission(&secret("A"), "ann").await.unwrap_err();
    assert!(forbids(&refused, "no rotation of the secret waits for a value"), "{refused}");

    let mut new = new_rotation(rotation("A", journal.now().await.unwrap()));
    let mut shape = new.rotation.shape.clone();
    (shape.source, shape.creation) = (Source::Submitted, true);
    let order = new.rotation.order.clone();
    new.rotation = rota_core::rotation::Rotation::open(
        new.rotation.id,
        secret("A"),
        order,
        shape,
        jiff::Timestamp::UNIX_EPOCH,
    );
    let id = new.rotation.id;
    journal.open(new.clone()).await.unwrap();
    let begun = orders.begin_submission(&secret("A"), "ann").await.unwrap();
    assert_eq!((begun.rotation, &begun.policy), (id, &new.policy));
    orders.begin_submission(&secret("A"), "ann").await.expect("the same person goes on");
    let refused = orders.begin_submission(&secret("A"), "bob").await.unwrap_err();
    assert!(forbids(&refused, "ann (postgres) has been submitting"), "{refused}");
    let bob = Asked { given_name: "bob".to_owned(), reason: "handed in".to_owned() };
    let without_claim = orders.submitted(&secret("A"), id, &bob).await.unwrap_err();
    assert!(forbids(&without_claim, "somebody else hands in"), "{without_claim}");
    orders.submitted(&secret("A"), id, &ann("handed in")).await.unwrap();

    let late = orders.submitted(&secret("A"), RotationId(uuid::Uuid::nil()), &ann("late")).await.unwrap_err();
    assert!(forbids(&late, "revoke the new key"), "{late}");
    let orphan = orders.report_orphan(&secret("A"), id, "key ...42 at the provider", "bob").await.unwrap();
    let open = reports(&database).await.orphans(Some(&secret("A"))).await.unwrap();
    assert_eq!(open.iter().map(|open| open.orphan).collect::<Vec<_>>(), [orphan]);
}

#[tokio::test]
async fn a_consent_names_a_policy_and_the_version_that_it_replaces() {
    let database = database().await;
    let journal = with_secrets(&database, &["A"]).await;
    let orders = orders(&database).await;
    let stale = orders.accept_policy("next", 7, true, &ann("meant")).await.unwrap_err();
    assert!(forbids(&stale, "another policy was accepted meanwhile"), "{stale}");
    assert!(orders.accept_policy("next", 1, true, &ann(" ")).await.is_err(), "a reason is needed");
    assert_eq!(journal.policy_consent("next", 1).await.unwrap(), None);
    orders.accept_policy("next", 1, false, &ann("looked at")).await.unwrap();
    let consent = journal.policy_consent("next", 1).await.unwrap().unwrap();
    assert_eq!(
        (consent.by.as_str(), consent.reason.as_str(), consent.removals),
        ("ann (postgres)", "looked at", false)
    );
    orders.accept_policy("next", 1, true, &ann("the old shop is gone")).await.unwrap();
    assert!(journal.policy_consent("next", 1).await.unwrap().unwrap().removals, "the wider one counts");
    for (digest, replaces) in [("other", 1), ("next", 2)] {
        assert_eq!(journal.policy_consent(digest, replaces).await.unwrap(), None);
    }
    let seen = reports(&database).await.accepted_policy().await.unwrap().unwrap();
    assert_eq!((seen.version, seen.digest.as_str()), (1, "first"));
}
