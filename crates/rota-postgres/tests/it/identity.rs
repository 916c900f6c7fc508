//! Restored backups and lost commits.

use std::collections::BTreeMap;

use rota_core::fault::Fault;
use rota_core::id::Incarnation;
use rota_engine::past_is_lost;
use rota_engine::ports::Journal as _;
use rota_engine::test_support::journal_suite::parts::{LEASE, open, open_and_claim, same, secret};
use rota_fakes::postgres::{PostgresOptions, PostgresServer};
use rota_postgres::{ConnectSettings, HistoryFilter, PgJournal, migrate};

use crate::support::{ann, database, orders, reports, with_secrets};

fn is_untrusted(refused: &Fault) -> bool {
    matches!(refused, Fault::Invalid { message } if message.contains("until a person has compared it"))
}

#[tokio::test]
async fn another_server_is_noticed_at_the_start_and_at_every_claim() {
    let database = database().await;
    let journal = with_secrets(&database, &["A"]).await;
    journal.check_identity().await.unwrap();
    open(&journal, "A").await;
    database.execute("UPDATE rota.incarnations SET system_identifier = 'another'").await.unwrap();
    assert!(is_untrusted(&journal.check_identity().await.unwrap_err()));
    assert!(is_untrusted(&journal.claim("one", LEASE).await.unwrap_err()));
    assert_eq!(journal.claim_rollout("one", LEASE).await.unwrap(), None);
}

#[tokio::test]
async fn a_mark_that_is_ahead_stops_every_process_until_the_next_incarnation() {
    let database = database().await;
    let journal = with_secrets(&database, &["A"]).await;
    let held = open_and_claim(&journal, "A").await;
    let why = "a mark is ahead";
    journal.distrust(why, past_is_lost(why, held.incarnation, held.now)).await.unwrap();
    journal.release(&held, held.now).await.unwrap();
    let other = crate::support::journal(&database).await;
    assert!(is_untrusted(&other.claim("two", LEASE).await.unwrap_err()));
    let filter =
        HistoryFilter { kind: Some("incarnation.distrusted".to_owned()), ..HistoryFilter::default() };
    assert_eq!(reports(&database).await.history(&filter).await.unwrap()[0].detail["reason"], why);

    let orders = orders(&database).await;
    let asked = ann("compared everything");
    let refused = orders.begin_incarnation(Incarnation(1), &asked).await.unwrap_err();
    assert!(refused.to_string().contains("greater than every earlier one"), "{refused}");
    orders.begin_incarnation(Incarnation(7), &asked).await.unwrap();
    let next = other.claim("two", LEASE).await.unwrap().unwrap();
    assert_eq!(next.incarnation, Incarnation(7));
    assert!(next.epoch > held.epoch);
    journal.record(&next, same(&next)).await.unwrap();
}

#[tokio::test]
async fn a_recovery_stops_what_differs_and_waits_for_calls_of_the_lost_past() {
    let database = database().await;
    let journal = with_secrets(&database, &["A", "B", "C"]).await;
    open(&journal, "A").await;
    open(&journal, "B").await;
    let orders = orders(&database).await;
    let none = BTreeMap::new();
    let asked = ann("the backup of last night");
    let needless = orders.recover(Incarnation(9), &none, LEASE, &asked).await.unwrap_err();
    assert!(matches!(&needless, Fault::Conflict { message } if message.contains("nothing to recover")));

    database.execute("UPDATE rota.incarnations SET system_identifier = 'another'").await.unwrap();
    let before = orders.incarnation().await.unwrap();
    assert!(!before.trusted && !before.same_server && before.number == Incarnation(1));
    let differing =
        ["A", "C", "nobody"].map(|name| (secret(name), "another version stands there".to_owned()));
    let differing = BTreeMap::from(differing);
    let stopped = orders.recover(Incarnation(9), &differing, LEASE, &asked).await.unwrap();
    assert_eq!(stopped, 2, "a name that is nobody's is left out");
    assert!(orders.incarnation().await.unwrap().trusted);
    assert_eq!(journal.claim("one", LEASE).await.unwrap(), None, "a stale process may be in a call");

    database
        .execute("UPDATE rota.rotations SET lease_until = now() WHERE holder = 'recovery'")
        .await
        .unwrap();
    let mut claims = Vec::new();
    while let Some(claim) = journal.claim("one", LEASE).await.unwrap() {
        claims.push((claim.rotation.secret.to_string(), claim.orders.len(), claim.incarnation));
    }
    claims.sort();
    let nine = Incarnation(9);
    assert_eq!(claims, [("A".to_owned(), 1, nine), ("B".to_owned(), 0, nine)], "A is ordered to hold");
    let status = reports(&database).await.status(None).await.unwrap();
    let blocked: Vec<_> =
        status.iter().filter(|s| s.blocked_by.is_some()).map(|s| s.secret.as_str()).collect();
    assert_eq!(blocked, ["A", "C"]);
    orders.resolve_orphan(&secret("C"), None, &asked).await.unwrap();
    assert_eq!(reports(&database).await.status(Some(&secret("C"))).await.unwrap()[0].blocked_by, None);
}

#[tokio::test]
async fn a_process_that_lived_through_a_restored_backup_notices_it() {
    let mut server = PostgresServer::start(PostgresOptions::new().durable()).unwrap();
    let database = server.endpoint().unwrap().fresh_database().await.unwrap();
    let settings = ConnectSettings::from_url(database.url()).unwrap();
    migrate(&settings).await.unwrap();
    let before = with_secrets(&database, &["A"]).await;
    open(&before, "A").await;
    before.close().await;
    server.stop_fast().unwrap();
    let backup = server.back_up().unwrap();
    server.start_again().unwrap();

    let journal = PgJournal::new(settings.connect().await.unwrap());
    let claim = journal.claim("one", LEASE).await.unwrap().unwrap();
    server.stop_fast().unwrap();
    server.restore(&backup).unwrap();
    server.start_again().unwrap();

    // The pool's connections ended with the server; it makes new ones.
    let refused = loop {
        match journal.claim("one", LEASE).await {
            Err(fault) if fault.passes_by_itself() => {}
            other => break other.unwrap_err(),
        }
    };
    assert!(is_untrusted(&refused) && refused.to_string().contains("this process has seen"), "{refused}");
    let other = PgJournal::new(settings.connect().await.unwrap());
    assert!(is_untrusted(&other.check_identity().await.unwrap_err()), "for every process");
    let past = other.past(&secret("A")).await.unwrap();
    assert!(past.epoch <= claim.epoch, "what a fence outside would be compared with");
    let told = other.claim_notices("slack", 10, LEASE).await.unwrap().unwrap().notices;
    assert!(
        told.iter()
            .any(|(_, notice)| notice.command.as_ref().is_some_and(|run| run.contains("rota recover")))
    );
}
