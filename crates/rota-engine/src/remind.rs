//! Reminders before a due date and daily alerts after it.

use jiff::Timestamp;
use rota_core::fault::Fault;
use rota_core::policy::model::SecretPolicy;
use rota_core::rotation::Source;
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
        let mut notices: Vec<Notice> =
            self.leap(now).map(|why| notice::clock_leapt(&why, now)).into_iter().collect();
        for mut upcoming in upcoming {
            let Some(secret) = accepted.policy.secret(&upcoming.secret) else { continue };
            // A secret that never rotated here has no rotation that says who makes its values.
            upcoming.waits_for_person |= self.is_by_person(&secret);
            notices.extend(reminder(&secret, &upcoming, now));
        }
        let count = notices.len();
        if count > 0 {
            self.journal.notify(notices).await?;
        }
        Ok(count)
    }
}

impl Engine {
    /// True where a person makes the values of `secret`. A kind that cannot be made here
    /// says so when its rotation starts.
    fn is_by_person(&self, secret: &SecretPolicy) -> bool {
        self.adapters.rotator(secret).is_ok_and(|rotator| rotator.traits().source == Source::Submitted)
    }
}

/// The one notice that a secret deserves now: the closest reminder that has passed,
/// or the alert of the current day past due.
fn reminder(secret: &SecretPolicy, upcoming: &Upcoming, now: Timestamp) -> Option<Notice> {
    match reminder_at(upcoming.due, &secret.remind, now)? {
        Reminder::Before { ahead } => Some(notice::due_soon(secret, upcoming, ahead, now)),
        Reminder::Overdue { days } => Some(notice::overdue(secret, upcoming, days, now)),
    }
}
