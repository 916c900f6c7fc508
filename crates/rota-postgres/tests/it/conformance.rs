//! The journal's suite on Postgres, with the rights that each side really has.

use std::sync::Arc;

use async_trait::async_trait;
use rota_core::id::SecretId;
use rota_engine::ports::{Journal, OrderId, OrderKind};
use rota_engine::test_support::journal_suite::{CASES, JournalSubject};
use rota_fakes::postgres::TestDatabase;
use rota_postgres::{Orders, PgJournal};

use crate::support::{ann, database, journal, orders, superuser};

struct OnPostgres {
    database: TestDatabase,
    journal: PgJournal,
    orders: Orders,
}

impl OnPostgres {
    async fn new() -> Self {
        let database = database().await;
        let orders = orders(&database).await;
        let journal = journal(&database).await;
        Self { database, journal, orders }
    }
}

#[async_trait]
impl JournalSubject for OnPostgres {
    fn journal(&self) -> Arc<dyn Journal> {
        Arc::new(self.journal.clone())
    }

    async fn order(&self, secret: &SecretId, kind: OrderKind) -> OrderId {
        self.orders.give(secret, &kind, &ann("test")).await.unwrap()
    }

    async fn history(&self, secret: Option<&SecretId>) -> Vec<String> {
        let mut connection = superuser(&self.database).await;
        // What people ordered is written here by the database and elsewhere not at all.
        let sql = "SELECT kind FROM rota.history WHERE secret IS NOT DISTINCT FROM $1 AND kind <> 'order.given' \
            ORDER BY chain, seq";
        let query = sqlx::query_scalar(sql).bind(secret.map(|id| id.as_str()));
        query.fetch_all(&mut connection).await.unwrap()
    }
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "names the promise that was broken")]
async fn the_journal_on_postgres_keeps_every_promise() {
    for (name, case) in CASES {
        println!("{name}");
        let subject = OnPostgres::new().await;
        case(&subject).await;
    }
}
