//! Wake-ups from the database, so that an order starts at once.
//!
//! Deliberately absent: what happened. A notification can be lost while a connection
//! is; whoever is woken looks for work, and looks now and then without being woken.

use rota_core::fault::Fault;
use sqlx::postgres::PgListener;

use crate::error::Doing as _;
use crate::journal::{PgJournal, WAKE};

const DOING: &str = "listening for orders";

/// A connection that waits for wake-ups.
pub struct Wakes {
    listener: PgListener,
}

impl PgJournal {
    /// Begins to listen, on a connection of its own.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn listen(&self) -> Result<Wakes, Fault> {
        let mut listener = PgListener::connect_with(self.pool()).await.doing(DOING)?;
        listener.listen(WAKE).await.doing(DOING)?;
        Ok(Wakes { listener })
    }
}

impl Wakes {
    /// Returns when there may be something to do. A lost connection is such a moment,
    /// too: it is made anew, and what was notified meanwhile is unknown.
    ///
    /// # Errors
    /// A passing fault where it cannot be made anew; call again later.
    pub async fn next(&mut self) -> Result<(), Fault> {
        self.listener.try_recv().await.doing(DOING)?;
        // Those that came together are one.
        while self.listener.next_buffered().is_some() {}
        Ok(())
    }
}
