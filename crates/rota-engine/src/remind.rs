//! Reminders before a due date and daily alerts after it.

use jiff::Timestamp;
use rota_core::fault::Fault;
use rota_core::policy::CompactPolicy;
use rota_core::schedule::{Reminder, reminder_at};

use crate::engine::Engine;
use crate::notice;
use crate::ports::{Notice, Upcoming};

impl Engine {
    /// Adds every reminder and overdue alert that is due to the outbox. May be called
    /// as often as one likes: each has a key, and a key is sent once.
    ///
    /// # Errors
    /// A passing fault of the journal.
    pub async fn remind(&self) -> Result<usize, Fault> {
        let Some(accepted) = self.refresh_policy().await? else { return Ok(0) };
        let (now, upcoming) = self.journal.upcoming(accepted.policy.longest_reminder()).await?;
        let notices: Vec<Notice> =
            upcoming.iter().filter_map(|upcoming| reminder(&accepted.policy, upcoming, now)).collect();
        let count = notices.len();
        if count > 0 {
            self.journal.notify(notices).await?;
        }
        Ok(count)
    }
}

/// The one notice that a secret deserves now: the closest reminder that has passed,
/// or the alert of the current day past due.
fn reminder(policy: &CompactPolicy, upcoming: &Upcoming, now: Timestamp) -> Option<Notice> {
    let secret = policy.secret(&upcoming.secret)?;
    match reminder_at(upcoming.due, &secret.remind, now)? {
        Reminder::Before { ahead } => Some(notice::due_soon(&secret, upcoming, ahead, now)),
        Reminder::Overdue { days } => Some(notice::overdue(&secret, upcoming, days, now)),
    }
}
