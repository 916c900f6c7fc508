//! Lets the journal remove what is over, now and again.
//!
//! Deliberately absent: what may go, which the database decides.

use jiff::SignedDuration;
use metrics::counter;
use rota_postgres::{PgJournal, Retention};

use super::work::Crew;
use crate::config::Settings;

/// One call is bounded; this often a backlog of years is gone within days.
const PRUNE_EVERY: SignedDuration = SignedDuration::from_mins(10);

pub(super) fn retention(settings: &Settings) -> Retention {
    let kept = &settings.retention;
    Retention { notices: kept.notices.0, observations: kept.observations.0 }
}

pub(super) async fn keep(crew: Crew, journal: PgJournal, retention: Retention) {
    while !crew.stop.is_cancelled() {
        // Not at once: a start has better things to do.
        crew.pause(PRUNE_EVERY).await;
        if crew.stop.is_cancelled() {
            return;
        }
        match journal.prune(&retention).await {
            Ok(pruned) => {
                counter!("rota_pruned_total", "what" => "notices").increment(pruned.notices);
                counter!("rota_pruned_total", "what" => "observations").increment(pruned.observations);
            }
            Err(fault) => crew.after_fault(&fault).await,
        }
    }
}
