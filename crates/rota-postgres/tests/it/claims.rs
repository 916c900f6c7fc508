//! What several processes do at the same moment, and what the tables refuse.

use std::collections::BTreeSet;

use futures::future::join_all;
use rota_core::rotation::{Cause, Order};
use rota_engine::ports::OrderKind;
use rota_engine::ports::{Journal as _, Opened};
use rota_engine::test_support::journal_suite::parts::{
    HOUR, LEASE, ending, intent, new_rotation, open, open_and_claim, promoted, rotation, same, secret,
};

use crate::support::{ann, database, orders, sqlstate, superuser, with_secrets};

const NAMES: [&str; 8] = ["A", "B", "C", "D", "E", "F", "G", "H"];

#[tokio::test]
async fn processes_that_claim_at_once_get_each_rotation_once() {
    let database = database().await;
    let journal = with_secrets(&database, &NAMES).await;
    for name in NAMES {
        open(&journal, name).await;
    }
    let claims = join_all((0..16).map(|_| journal.claim("one of many", LEASE))).await;
    let claims: Vec<_> = claims.into_iter().filter_map(Result::unwrap).collect();
    let secrets: BTreeSet<_> = claims.iter().map(|claim| claim.rotation.secret.clone()).collect();
    let epochs: BTreeSet<_> = claims.iter().map(|claim| claim.epoch).collect();
    assert_eq!((claims.len(), secrets.len(), epochs.len()), (8, 8, 8));
}

#[tokio::test]
async fn processes_that_open_at_once_open_one_rotation() {
    let database = database().await;
    let journal = with_secrets(&database, &NAMES).await;
    let now = journal.now().await.unwrap();
    // Of one secret, and of several that share a target.
    let mut wanted: Vec<_> = (0..8).map(|_| new_rotation(rotation("A", now))).collect();
    wanted.extend(NAMES.iter().map(|name| new_rotation(rotation(name, now))));
    for new in &mut wanted {
        new.exclusive = vec!["target:db".to_owned()];
    }
    let opened = join_all(wanted.into_iter().map(|new| journal.open(new))).await;
    let opened: Vec<_> = opened.into_iter().map(Result::unwrap).collect();
    assert_eq!(opened.iter().filter(|opened| **opened == Opened::Yes).count(), 1, "{opened:?}");
    assert!(opened.iter().all(|opened| matches!(opened, Opened::Yes | Opened::InFlight)));
}

#[tokio::test]
async fn orders_and_records_at_once_never_both_stand() {
    let database = database().await;
    let journal = with_secrets(&database, &["A"]).await;
    let orders = orders(&database).await;
    for _ in 0..20 {
        let held = open_and_claim(&journal, "A").await;
        let (id, asked) = (secret("A"), ann("race"));
        let order = orders.give(&id, &OrderKind::Hold, &asked);
        let (recorded, order) = tokio::join!(journal.record(&held, intent(&held, held.now)), order);
        let order = order.unwrap();
        // Either the record came first and the order waits, or it was refused whole.
        let next = match journal.record(&held, same(&held)).await {
            Err(_) => journal.claim("next", LEASE).await.unwrap().unwrap(),
            Ok(_) => panic!("the order did not raise the epoch"),
        };
        assert_eq!(recorded.is_ok(), next.rotation.open_intent().is_some());
        assert_eq!(next.orders.iter().map(|order| order.id).collect::<Vec<_>>(), [order]);
        let mut end = ending(&next, next.now);
        end.handled.push((order, "done".to_owned()));
        journal.record(&next, end).await.unwrap();
    }
}

#[tokio::test]
async fn a_due_date_that_was_served_meanwhile_opens_nothing() {
    let database = database().await;
    let journal = with_secrets(&database, &["A"]).await;
    let now = journal.now().await.unwrap();
    promoted(&journal, "A", now - HOUR, now - HOUR).await;
    let (_, due) = journal.due(1).await.unwrap();
    let scheduled = |serves| {
        let mut new = new_rotation(rotation("A", now));
        new.rotation.order = Order { cause: Cause::Scheduled, serves, ..new.rotation.order };
        new
    };
    let first = scheduled(due[0].due);
    assert_eq!(journal.open(first).await.unwrap(), Opened::Yes);
    let claim = journal.claim("one", LEASE).await.unwrap().unwrap();
    let mut end = ending(&claim, claim.now);
    end.promotion = Some(rota_engine::ports::Promotion {
        at: now,
        served: due[0].due,
        next_due: Some(now + HOUR),
        next_start: Some(now + HOUR),
    });
    journal.record(&claim, end).await.unwrap();
    // Another process still holds the list from before.
    assert_eq!(journal.open(scheduled(due[0].due)).await.unwrap(), Opened::InFlight);
    let notice = rota_engine::test_support::journal_suite::parts::notice("cannot start", now);
    journal.postpone(&due[0], "another rotation", now + HOUR * 9, vec![notice]).await.unwrap();
    assert_eq!(journal.claim_notices("slack", 1, LEASE).await.unwrap(), None, "there is nothing to tell");
    assert_eq!(journal.upcoming(HOUR * 2).await.unwrap().1[0].due, now + HOUR);
}

#[tokio::test]
async fn the_tables_refuse_what_must_never_be() {
    let database = database().await;
    let journal = with_secrets(&database, &["A", "B"]).await;
    let claim = open_and_claim(&journal, "A").await;
    journal.record(&claim, intent(&claim, claim.now)).await.unwrap();
    let mut connection = superuser(&database).await;
    let mut refused =
        async |sql: &'static str| sqlstate(sqlx::query(sql).execute(&mut connection).await.unwrap_err());
    const RAISED: &str = "RT002";
    const CHECK: &str = "23514";
    const UNIQUE: &str = "23505";
    assert_eq!(refused("UPDATE rota.rotations SET epoch = epoch - 1").await, RAISED);
    assert_eq!(refused("UPDATE rota.rotations SET last_effect = 0").await, RAISED);
    assert_eq!(refused("UPDATE rota.rotations SET policy = '{}'").await, RAISED);
    assert_eq!(refused("UPDATE rota.rotations SET secret = 'B'").await, RAISED);
    assert_eq!(refused("UPDATE rota.rotations SET phase = 'completed'").await, CHECK);
    assert_eq!(refused("UPDATE rota.rotations SET phase = 'held'").await, CHECK);
    assert_eq!(refused("UPDATE rota.rotations SET holder = NULL").await, CHECK);
    let copy = "INSERT INTO rota.rotations SELECT (jsonb_populate_record(r, jsonb_build_object( \
            'id', '019bc1a0-5c00-7000-8000-00000000000a', \
            'rotation', r.rotation || '{\"id\": \"019bc1a0-5c00-7000-8000-00000000000a\"}'))).* FROM rota.rotations r";
    assert_eq!(refused(copy).await, UNIQUE);
    assert_eq!(
        refused(
            "INSERT INTO rota.incarnations (number, system_identifier, timeline, reason) \
        VALUES (1, '', 1, 'again')"
        )
        .await,
        UNIQUE
    );

    journal
        .record(
            &claim,
            rota_engine::ports::Record {
                last_effect: rota_core::id::EffectNo(1),
                ..ending(&claim, claim.now)
            },
        )
        .await
        .unwrap();
    assert_eq!(refused("UPDATE rota.rotations SET wake_at = now()").await, RAISED, "it has ended");
    assert_eq!(refused("UPDATE rota.secrets SET last_promoted_at = now() WHERE id = 'B'").await, CHECK);
}
