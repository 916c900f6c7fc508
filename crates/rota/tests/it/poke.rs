//! Cuts short every pause until a daemon's next look, and nothing else: overlaps, lifetimes
//! and the machine's other waits are decided by what a look finds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rota_fakes::postgres::TestDatabase;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinHandle;

/// Short beside what a daemon would wait, long beside the statement.
const EVERY: Duration = Duration::from_millis(200);

/// Rotations and rollouts are looked at again now.
const LOOK: &str = "UPDATE rota.rotations SET wake_at = clock_timestamp() \
        WHERE ended_at IS NULL AND wake_at > clock_timestamp() AND phase <> 'held'; \
    UPDATE rota.rollouts SET wake_at = clock_timestamp() \
        WHERE ended_at IS NULL AND wake_at > clock_timestamp(); \
    SELECT pg_notify('rota_wake', 'a test')";

/// Goes on until it is dropped.
pub(crate) struct Poke {
    done: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Poke {
    pub(crate) fn of(database: &TestDatabase) -> Self {
        let (url, done) = (database.url().to_owned(), Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&done);
        let task = tokio::spawn(async move {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            while !stop.load(Ordering::Relaxed) {
                // A daemon that holds a row is at work already.
                let _ = sqlx::raw_sql(LOOK).execute(&mut connection).await;
                tokio::time::sleep(EVERY).await;
            }
        });
        Self { done, task }
    }

    /// Stops, where something is to be looked at as it stands.
    pub(crate) fn end(self) {}
}

impl Drop for Poke {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}
