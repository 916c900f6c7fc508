//! Wake-ups.

use std::time::Duration;

use rota_engine::ports::OrderKind;
use rota_engine::test_support::journal_suite::parts::secret;
use rota_postgres::Wakes;

use crate::support::{ann, database, orders, with_secrets};

const SOON: Duration = Duration::from_secs(20);

async fn woken(wakes: &mut Wakes) {
    tokio::time::timeout(SOON, wakes.next()).await.expect("nobody woke us").unwrap();
}

#[tokio::test]
async fn an_order_wakes_whoever_listens_also_after_a_lost_connection() {
    let database = database().await;
    let journal = with_secrets(&database, &["A"]).await;
    let orders = orders(&database).await;
    let mut wakes = journal.listen().await.unwrap();
    orders.give(&secret("A"), &OrderKind::Rotate, &ann("now")).await.unwrap();
    woken(&mut wakes).await;

    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    database.execute(kill).await.unwrap();
    // What was missed meanwhile is unknown.
    woken(&mut wakes).await;
    let give = async {
        loop {
            orders.give(&secret("A"), &OrderKind::Rotate, &ann("again")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = woken(&mut wakes) => {}
        () = give => {}
    }
}
