//! What is over goes after its time, and nothing else does.

use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_engine::ports::{Journal as _, Notice, NoticeKind, Observation, Reading, Verdict};
use rota_engine::test_support::journal_suite::parts::{LEASE, ending, notice, open_and_claim, same, secret};
use rota_fakes::postgres::TestDatabase;
use rota_postgres::{HistoryFilter, PgJournal, Pruned, Retention};
use sqlx::AssertSqlSafe;

use crate::support::{daemon, database, reports, superuser, with_secrets};

const DAY: SignedDuration = SignedDuration::from_hours(24);
const RETENTION: Retention = Retention {
    notices: SignedDuration::from_hours(90 * 24),
    observations: SignedDuration::from_hours(400 * 24),
};

/// The keys of all notices, oldest first.
async fn keys(database: &TestDatabase) -> Vec<String> {
    let query = sqlx::query_scalar("SELECT key FROM rota.outbox ORDER BY id");
    query.fetch_all(&mut superuser(database).await).await.unwrap()
}

async fn observations(database: &TestDatabase) -> i64 {
    let query = sqlx::query_scalar("SELECT count(*) FROM rota.observations");
    query.fetch_one(&mut superuser(database).await).await.unwrap()
}

/// Makes rows older than they are; rotations that ended do not change otherwise.
async fn age(database: &TestDatabase, table: &str, column: &str, days: u32, which: &str) {
    let sql = format!(
        "SET session_replication_role = replica; \
         UPDATE rota.{table} SET {column} = {column} - interval '{days} days' WHERE {which}"
    );
    database.execute(&sql).await.unwrap();
}

async fn deliver_all(journal: &PgJournal, channel: &str) {
    while let Some(claim) = journal.claim_notices(channel, 10, LEASE).await.unwrap() {
        journal.record_delivery(&claim, Ok(())).await.unwrap();
    }
}

#[tokio::test]
async fn a_notice_goes_after_its_time_once_every_channel_has_had_it() {
    let database = database().await;
    let journal = with_secrets(&database, &["A"]).await;
    let now = journal.now().await.unwrap();
    journal.notify(vec![notice("old", now), notice("young", now)]).await.unwrap();
    deliver_all(&journal, "slack").await;
    deliver_all(&journal, "webhook").await;
    journal.notify(vec![notice("waiting", now)]).await.unwrap();
    deliver_all(&journal, "slack").await;
    age(&database, "outbox", "at", 91, "key <> 'young'").await;

    let pruned = journal.prune(&RETENTION).await.unwrap();
    assert_eq!(pruned, Pruned { notices: 1, observations: 0 });
    assert_eq!(keys(&database).await, ["young", "waiting"]);
    assert_eq!(journal.prune(&RETENTION).await.unwrap(), Pruned::default());
    deliver_all(&journal, "webhook").await;
    assert_eq!(journal.prune(&RETENTION).await.unwrap().notices, 1);
}

#[tokio::test]
async fn a_reminder_stays_until_its_due_date_so_that_it_is_not_sent_twice() {
    let database = database().await;
    let journal = with_secrets(&database, &["A"]).await;
    let now = journal.now().await.unwrap();
    let reminder = |due: jiff::Timestamp| Notice {
        kind: NoticeKind::DueSoon,
        secret: Some(secret("A")),
        ..notice(&format!("A:due_soon:{due}:8640000"), now)
    };
    journal.notify(vec![reminder(now + DAY), reminder(now - DAY)]).await.unwrap();
    age(&database, "outbox", "at", 91, "true").await;
    assert_eq!(journal.prune(&RETENTION).await.unwrap().notices, 1);
    assert_eq!(keys(&database).await, [reminder(now + DAY).key]);
}

/// A rotation of `name` with one round of two checks; ended where `ends`.
async fn watched(journal: &PgJournal, name: &str, ends: bool) {
    let claim = open_and_claim(journal, name).await;
    let reading = |verdict| Reading { verdict, value: None, detail: "seen".to_owned() };
    let mut record = same(&claim);
    record.observations = [("health", Verdict::Healthy), ("latency", Verdict::Unknown)]
        .map(|(check, verdict)| Observation {
            consumer: None,
            check: check.to_owned(),
            reading: reading(verdict),
        })
        .into();
    let now = journal.record(&claim, record).await.unwrap();
    if ends {
        journal.record(&claim, ending(&claim, now)).await.unwrap();
    } else {
        journal.release(&claim, now + DAY).await.unwrap();
    }
}

#[tokio::test]
async fn observations_go_long_after_their_rotation_and_history_keeps_what_they_were() {
    let database = database().await;
    let journal = with_secrets(&database, &["A", "B", "C"]).await;
    watched(&journal, "A", true).await;
    watched(&journal, "B", false).await;
    watched(&journal, "C", true).await;
    age(&database, "observations", "at", 401, "true").await;
    // That of C ended lately, and that of B has not.
    age(&database, "rotations", "ended_at", 401, "secret = 'A'").await;

    let pruned = journal.prune(&RETENTION).await.unwrap();
    assert_eq!(pruned, Pruned { notices: 0, observations: 2 });
    assert_eq!(observations(&database).await, 4);
    assert_eq!(journal.prune(&RETENTION).await.unwrap(), Pruned::default());

    let reports = reports(&database).await;
    let filter = HistoryFilter { secret: Some(secret("A")), ..HistoryFilter::default() };
    let history = reports.history(&filter).await.unwrap();
    let line = history.iter().find(|line| line.kind == "observations.pruned").unwrap();
    assert_eq!(line.detail["observations"], 2);
    assert_eq!(line.detail["checks"]["target/health"]["healthy"], 1);
    assert_eq!(line.detail["checks"]["target/latency"]["unknown"], 1);
    assert!(line.detail["checks"]["target/health"]["first"].is_string());
    assert!(line.rotation.is_some());
}

#[tokio::test]
async fn one_call_removes_a_bounded_number_and_never_what_is_young() {
    let database = database().await;
    let journal = with_secrets(&database, &["A"]).await;
    let now = journal.now().await.unwrap();
    journal.notify(["a", "b", "c"].map(|key| notice(key, now)).into()).await.unwrap();
    age(&database, "outbox", "at", 91, "true").await;
    let pool = daemon(&database).await;
    let journal_of = PgJournal::new(pool);
    let mut connection = superuser(&database).await;
    sqlx::query("SET ROLE rota_daemon").execute(&mut connection).await.unwrap();
    let pruned: i64 = sqlx::query_scalar("SELECT rota.prune_notices('90 days', 2)")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!((pruned, keys(&database).await), (2, vec!["c".to_owned()]));

    for too_short in [
        Retention { notices: SignedDuration::from_hours(23), ..RETENTION },
        Retention { observations: DAY * 89, ..RETENTION },
    ] {
        let refused = journal_of.prune(&too_short).await.unwrap_err();
        assert!(
            matches!(&refused, Fault::Invalid { message } if message.contains("kept for at least")),
            "{refused}"
        );
    }
    for table in ["deliveries", "observations", "rotation_history"] {
        let refused =
            sqlx::query(AssertSqlSafe(format!("DELETE FROM rota.{table}"))).execute(&mut connection).await;
        assert!(refused.is_err(), "the daemon may not delete from {table} by itself");
    }
}
