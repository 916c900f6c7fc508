//! The time of one test's world: real, or the test's own. Then it is the same in the state
//! database, the fakes and the consumers, and weeks pass in one step.
//!
//! The database's own functions for the time are renamed, and those in their place show
//! a time that is ahead of it. Deliberately absent: standing still. Real time passes, too.

use std::sync::Mutex;

use jiff::SignedDuration;
use rota_fakes::clock::FakeClock;

/// Run in a migrated database; a copy of it has it, too.
pub(crate) const INSTALL: &str = "
    CREATE TABLE public.simulated_time (ahead interval NOT NULL);
    INSERT INTO public.simulated_time VALUES ('0');
    ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO real_clock_timestamp;
    ALTER FUNCTION pg_catalog.statement_timestamp() RENAME TO real_statement_timestamp;
    CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz
        LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog
        AS 'SELECT pg_catalog.real_clock_timestamp() + (SELECT ahead FROM public.simulated_time)';
    CREATE FUNCTION pg_catalog.statement_timestamp() RETURNS timestamptz
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
        AS 'SELECT pg_catalog.real_statement_timestamp() + (SELECT ahead FROM public.simulated_time)';";

/// Everybody's clock.
pub(crate) struct Time {
    /// What fakes and consumers go by.
    pub(crate) clock: FakeClock,
    /// Only in a world of simulated time.
    simulated: Option<sqlx::PgPool>,
    ahead: Mutex<SignedDuration>,
}

impl Time {
    pub(crate) fn new(simulated: Option<sqlx::PgPool>) -> Self {
        Self { clock: FakeClock::following(), simulated, ahead: Mutex::default() }
    }

    pub(crate) fn is_simulated(&self) -> bool {
        self.simulated.is_some()
    }

    /// How far it is ahead of real time.
    pub(crate) fn ahead(&self) -> SignedDuration {
        *self.ahead.lock().unwrap()
    }

    /// Lets `by` pass on the clock of fakes and consumers; the database's follows with
    /// [`Time::settle`], so that nothing is decided in between.
    pub(crate) fn run_ahead(&self, by: SignedDuration) {
        self.clock.advance(by);
        *self.ahead.lock().unwrap() += by;
    }

    /// Makes the database's clock show what the others show. It never goes back, whatever
    /// order two of these come in.
    pub(crate) async fn settle(&self) {
        let Some(pool) = &self.simulated else { return };
        let ahead = i64::try_from(self.ahead().as_micros()).unwrap();
        let sql = "UPDATE public.simulated_time SET ahead = greatest(ahead, $1 * interval '1 microsecond')";
        sqlx::query(sql).bind(ahead).execute(pool).await.unwrap();
    }

    /// Lets `by` pass everywhere. Nothing where time is real.
    pub(crate) async fn pass(&self, by: SignedDuration) {
        if self.is_simulated() {
            self.run_ahead(by);
            self.settle().await;
        }
    }
}
