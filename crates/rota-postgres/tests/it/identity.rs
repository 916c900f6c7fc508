//! Restored backups and lost commits.

use rota_core::fault::Fault;
use rota_core::id::{Epoch, Incarnation};
use rota_engine::ports::Journal as _;
use rota_engine::test_support::journal_suite::parts::{LEASE, open, open_and_claim, same};
use rota_fakes::postgres::{PostgresOptions, PostgresServer};
use rota_postgres::{ConnectSettings, HighWater, PgJournal, migrate};

use crate::support::{ann, database, orders, with_secrets};

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
    let here = journal.high_water().await.unwrap();
    assert!(here.epoch >= held.epoch);
    journal.compare_mark(here).await.unwrap();
    let ahead = HighWater { epoch: Epoch(here.epoch.0 + 1), ..here };
    assert!(is_untrusted(&journal.compare_mark(ahead).await.unwrap_err()));
    journal.release(&held, held.now).await.unwrap();
    let other = crate::support::journal(&database).await;
    assert!(is_untrusted(&other.claim("two", LEASE).await.unwrap_err()));

    let orders = orders(&database).await;
    let asked = ann("compared everything");
    let refused = orders.begin_incarnation(Incarnation(1), &asked).await.unwrap_err();
    assert!(refused.to_string().contains("greater than every earlier one"), "{refused}");
    orders.begin_incarnation(Incarnation(7), &asked).await.unwrap();
    let next = other.claim("two", LEASE).await.unwrap().unwrap();
    assert_eq!(next.incarnation, Incarnation(7));
    assert!(next.epoch > held.epoch);
    // The mark of the earlier life is behind the new one, however great its epoch.
    journal.compare_mark(ahead).await.unwrap();
    journal.record(&next, same(&next)).await.unwrap();
}

#[tokio::test]
async fn a_restored_backup_shows_in_the_mark_that_was_kept_outside() {
    let mut server = PostgresServer::start(PostgresOptions::new().durable()).unwrap();
    let database = server.endpoint().unwrap().fresh_database().await.unwrap();
    let settings = ConnectSettings::from_url(database.url()).unwrap();
    migrate(&settings).await.unwrap();
    let journal = with_secrets(&database, &["A"]).await;
    open(&journal, "A").await;
    journal.close().await;
    server.stop_fast().unwrap();
    let backup = server.back_up().unwrap();
    server.start_again().unwrap();

    let journal = PgJournal::new(settings.connect().await.unwrap());
    let claim = journal.claim("one", LEASE).await.unwrap().unwrap();
    let mark = journal.high_water().await.unwrap();
    assert!(mark.epoch >= claim.epoch);
    journal.close().await;
    server.stop_fast().unwrap();
    server.restore(&backup).unwrap();
    server.start_again().unwrap();

    let journal = PgJournal::new(settings.connect().await.unwrap());
    journal.check_identity().await.expect("system identifier and timeline are the old ones");
    assert!(is_untrusted(&journal.compare_mark(mark).await.unwrap_err()));
    assert!(is_untrusted(&journal.claim("one", LEASE).await.unwrap_err()));
}
