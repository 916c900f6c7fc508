//! History: nobody changes it, and what was changed all the same is found.

use std::io::Write as _;
use std::process::Command;

use futures::future::join_all;
use rota_core::audit::Anchor;
use rota_core::id::SecretId;
use rota_engine::ports::{HistoryEntry, Journal as _, Notice, OrderKind};
use rota_engine::test_support::journal_suite::parts::{
    LEASE, line, notice, open, open_and_claim, same, secret,
};
use rota_fakes::postgres::TestDatabase;
use rota_postgres::{NotWhole, PgJournal};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::support::{ann, database, orders, reports, sqlstate, superuser, with_secrets};

/// A history with two secrets' chains and the system's, orders and odd texts included.
async fn with_history(database: &TestDatabase) -> PgJournal {
    let journal = with_secrets(database, &["A", "B", "C"]).await;
    let claim = open_and_claim(&journal, "A").await;
    let mut record = same(&claim);
    let odd = json!({
        "": "\u{0}\u{1}\u{1f}\u{7f}\u{80}\u{2028}\"\\/\u{8}\u{c}\n\r\t", "é": 1, "z": 2, "Z": 3, "\u{1f600}": "\u{ffff}",
        "numbers": [0, -1, 1.5, -0.0, 1e300, 1e-7, 9_007_199_254_740_991i64, 9_007_199_254_740_992i64, u64::MAX, i64::MIN],
        "nested": { "b": [], "a": {}, "c": [null, true, false, [[["deep"]]]] },
    });
    record.history = vec![HistoryEntry { detail: odd, ..line("odd", "A") }, line("step.done", "A")];
    record.history.push(HistoryEntry { secret: None, ..line("system.line", "A") });
    journal.record(&claim, record).await.unwrap();
    open(&journal, "B").await;
    let asked = ann("it's \"leaked\" \\ \n\u{1f511} {}");
    orders(database).await.give(&secret("B"), &OrderKind::Emergency { suspect: None }, &asked).await.unwrap();
    journal
}

#[tokio::test]
async fn no_role_can_change_or_forge_history() {
    let database = database().await;
    with_history(&database).await.seal_history().await.unwrap();
    let changes = [
        "UPDATE rota.rotation_history SET kind = 'x'",
        "UPDATE rota.rotation_history SET kind = 'x' WHERE false",
        "DELETE FROM rota.rotation_history",
        "TRUNCATE rota.rotation_history",
        "UPDATE rota.history_checkpoints SET hash = hash",
        "DELETE FROM rota.history_checkpoints",
        "TRUNCATE rota.history_checkpoints",
    ];
    const DENIED: &str = "42501";
    const APPEND_ONLY: &str = "RT003";
    for (role, wanted) in [
        ("rota_owner", APPEND_ONLY),
        ("rota_daemon", DENIED),
        ("rota_operator", DENIED),
        ("rota_auditor", DENIED),
    ] {
        for sql in changes {
            let mut connection = connection_as(&database, role).await;
            let refused = sqlx::query(sql).execute(&mut connection).await.unwrap_err();
            assert_eq!(sqlstate(refused), wanted, "{role}: {sql}");
        }
    }
    for role in ["rota_daemon", "rota_operator", "rota_auditor"] {
        for sql in [
            "INSERT INTO rota.rotation_history SELECT chain, seq + 9, at, kind, rotation, prev_hash, canonical, hash \
                FROM rota.rotation_history",
            "UPDATE rota.chain_heads SET seq = 0",
            "DELETE FROM rota.chain_heads",
            "INSERT INTO rota.history_checkpoints SELECT 9, at, canonical, hash FROM rota.history_checkpoints",
        ] {
            let mut connection = connection_as(&database, role).await;
            let refused = sqlx::query(sql).execute(&mut connection).await.unwrap_err();
            assert_eq!(sqlstate(refused), DENIED, "{role}: {sql}");
        }
    }
    for role in ["rota_operator", "rota_auditor"] {
        let mut connection = connection_as(&database, role).await;
        let sql = "SELECT rota.append_history(ARRAY ['{\"kind\": \"forged\"}']::jsonb[])";
        assert_eq!(sqlstate(sqlx::query(sql).execute(&mut connection).await.unwrap_err()), DENIED, "{role}");
    }
    // A session that replays like a replica skips ordinary triggers.
    let mut connection = superuser(&database).await;
    sqlx::query("SET session_replication_role = replica").execute(&mut connection).await.unwrap();
    for sql in changes {
        let refused = sqlx::query(sql).execute(&mut connection).await.unwrap_err();
        assert_eq!(sqlstate(refused), APPEND_ONLY, "{sql}");
    }
    reports(&database).await.verify_history(&[]).await.unwrap();
}

async fn connection_as(database: &TestDatabase, role: &str) -> PgConnection {
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let sql = AssertSqlSafe(format!("SET ROLE {role}"));
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection
}

#[tokio::test]
async fn whatever_is_recorded_holds_for_an_auditor_and_for_an_independent_program() {
    let database = database().await;
    let journal = with_history(&database).await;
    let reports = reports(&database).await;
    let before = reports.verify_history(&[]).await.unwrap();
    assert_eq!((before.chains, before.checkpoints, before.not_anchored), (3, 0, before.rows));
    let anchor = journal.seal_history().await.unwrap();
    let sealed = reports.verify_history(&[anchor]).await.unwrap();
    assert_eq!((sealed.checkpoints, sealed.not_anchored), (1, 0));
    open(&journal, "C").await;
    let second = journal.seal_history().await.unwrap();
    assert_eq!(second.number, 2);
    assert_eq!(reports.verify_history(&[anchor]).await.unwrap().not_anchored, 1);

    let folder = tempfile::tempdir().unwrap();
    let (export, anchors) = (folder.path().join("history.jsonl"), folder.path().join("anchors.txt"));
    let mut file = std::fs::File::create(&export).unwrap();
    let exported = reports.export_history(|text| writeln!(file, "{text}")).await.unwrap();
    assert_eq!((exported.rows, exported.checkpoints), (sealed.rows + 1, 2));
    std::fs::write(&anchors, format!("{anchor}\n{second}\n")).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/verify-history.py");
    let output =
        Command::new("python3").arg(script).arg(&export).arg("--anchors").arg(&anchors).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, format!("{}\n", reports.verify_history(&[anchor, second]).await.unwrap()));
}

#[tokio::test]
async fn whatever_is_tampered_with_is_found() {
    type Tampering = (&'static str, &'static str);
    const TAMPERINGS: [Tampering; 6] = [
        (
            "UPDATE rota.rotation_history SET canonical = convert_to(replace(convert_from(canonical, 'UTF8'), 'ann', 'bob'), 'UTF8') \
                WHERE kind = 'order.given'",
            "row 2 of chain `secret:B` does not have the hash of its bytes",
        ),
        (
            "UPDATE rota.rotation_history SET rotation = NULL WHERE kind = 'order.given'",
            "row 2 of chain `secret:B` is filed under other words than its bytes say",
        ),
        (
            "UPDATE rota.rotation_history SET at = at - interval '1 year' WHERE kind = 'order.given'",
            "row 2 of chain `secret:B` is filed under other words than its bytes say",
        ),
        (
            "DELETE FROM rota.rotation_history WHERE kind = 'order.given'",
            "chain `secret:B` ends at row 1, but checkpoint 1 sealed its row 2",
        ),
        (
            "DELETE FROM rota.rotation_history WHERE chain = 'secret:A'",
            "chain `secret:A` is gone, but checkpoint 1 sealed its row 3",
        ),
        ("DELETE FROM rota.history_checkpoints", "checkpoint 1 is missing"),
    ];
    for (tampering, wanted) in TAMPERINGS {
        let database = database().await;
        let anchor: Anchor = with_history(&database).await.seal_history().await.unwrap();
        let reports = reports(&database).await;
        reports.verify_history(&[anchor]).await.unwrap();
        // What only the owner of the tables can do.
        for table in ["rotation_history", "history_checkpoints"] {
            database.execute(&format!("ALTER TABLE rota.{table} DISABLE TRIGGER ALL")).await.unwrap();
        }
        database.execute(tampering).await.unwrap();
        let found = reports.verify_history(&[anchor]).await.unwrap_err();
        assert!(matches!(found, NotWhole::Broken(_) | NotWhole::Filed { .. }));
        assert_eq!(found.to_string(), wanted, "{tampering}");
    }
}

#[tokio::test]
async fn chains_hold_whoever_appends_at_once() {
    let database = database().await;
    let journal = with_secrets(&database, &["A", "B", "C"]).await;
    let orders = orders(&database).await;
    let ids: Vec<SecretId> = ["A", "B", "C"].into_iter().map(secret).collect();
    let asked = ann("at once");
    let ordering = join_all((0..30).map(|n| orders.give(&ids[n % 3], &OrderKind::Rotate, &asked)));
    // A claim passes over a row that an order holds at that moment, so it comes before them.
    let claims = [open_and_claim(&journal, "A").await, open_and_claim(&journal, "B").await];
    let recording = async {
        for _ in 0..5 {
            // Both chains of secrets and the system's in one transaction.
            let several = ["B", "A", "C"].map(|name| line("several", name));
            for claim in &claims {
                let mut record = same(claim);
                record.history = several.to_vec();
                record.history.push(HistoryEntry { secret: None, ..line("system.line", "A") });
                // An order may have come between; then it must leave nothing.
                let _ = journal.record(claim, record).await;
            }
        }
    };
    let sealing = async {
        for _ in 0..3 {
            journal.seal_history().await.unwrap();
        }
    };
    let (ordered, (), ()) = tokio::join!(ordering, recording, sealing);
    assert!(ordered.into_iter().all(|order| order.is_ok()));
    let verified = reports(&database).await.verify_history(&[]).await.unwrap();
    assert_eq!((verified.chains, verified.checkpoints), (4, 3));
    assert!(verified.rows >= 33);
}

#[tokio::test]
async fn of_many_seals_for_one_message_the_first_is_kept_and_shown() {
    let database = database().await;
    let journal = with_history(&database).await;
    let now = journal.now().await.unwrap();
    let message = |anchor: Anchor| Notice { what: anchor.to_string(), ..notice("digest:2026-01-15", now) };
    let (one, two) = tokio::join!(journal.seal_and_tell(message), journal.seal_and_tell(message));
    assert!(one.unwrap() ^ two.unwrap(), "one of two replicas tells");
    assert!(!journal.seal_and_tell(message).await.unwrap(), "nor does a restart");
    let told = journal.claim_notices("slack", 10, LEASE).await.unwrap().unwrap();
    let shown: Vec<Anchor> = told
        .notices
        .iter()
        .filter(|(_, notice)| notice.key.starts_with("digest"))
        .map(|(_, notice)| notice.what.parse().unwrap())
        .collect();
    let verified = reports(&database).await.verify_history(&shown).await.unwrap();
    assert_eq!((shown.len(), verified.checkpoints), (1, 1));
}
