//! The loops that make the engine do its work, each restarted when it panics.
//!
//! Deliberately absent: decisions. Every method of the engine does a bounded amount
//! of work; a loop calls it until there is nothing left, and sleeps.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use metrics::{counter, gauge};
use rota_core::fault::Fault;
use rota_engine::Engine;
use rota_engine::ports::{Clock, Notice, Notifier};
use rota_postgres::PgJournal;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::board::{Board, Shown, Trouble};
use super::wake::{Wake, Waker};
use crate::channels::{Channel, Channels};

/// After a fault of the journal: long enough not to storm it, short enough to be back soon.
const AFTER_FAULT: SignedDuration = SignedDuration::from_secs(2);

/// After a panic: a bug that comes back at once must not fill the log.
const AFTER_PANIC: SignedDuration = SignedDuration::from_secs(5);

/// Reminders count in days; looking for them reads every secret that is due soon.
const REMIND_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// Between two looks at one secret's store and at the database's identity.
const COMPARE_EVERY: SignedDuration = SignedDuration::from_secs(2);

/// What the status page calls a journal that is not the whole past.
const PAST: &str = "database identity";

/// What every loop needs.
#[derive(Clone)]
pub(super) struct Crew {
    pub(super) engine: Arc<Engine>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) board: Arc<Board>,
    pub(super) wake: Wake,
    pub(super) stop: CancellationToken,
}

impl Crew {
    /// Runs `work` until everything stops. A panic is counted and the loop begun anew:
    /// one bug in one rotation must not end the others.
    pub(super) fn keep<F, W>(&self, tasks: &mut JoinSet<()>, name: &'static str, work: F)
    where
        F: Fn(Self) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let crew = self.clone();
        tasks.spawn(async move {
            // Aborting the outer task aborts the inner one with it.
            let mut inner = JoinSet::new();
            loop {
                inner.spawn(work(crew.clone()));
                match inner.join_next().await {
                    Some(Err(error)) if error.is_panic() => {
                        counter!("rota_bugs_total").increment(1);
                        tracing::error!(
                            task = name,
                            "a loop panicked and is started again; please report the bug"
                        );
                    }
                    _ if crew.stop.is_cancelled() => return,
                    _ => tracing::error!(task = name, "a loop ended by itself and is started again"),
                }
                crew.pause(AFTER_PANIC).await;
            }
        });
    }

    /// Waits, but not longer than until everything stops.
    pub(super) async fn pause(&self, duration: SignedDuration) {
        tokio::select! {
            () = self.clock.sleep(duration) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Compares every secret's store with the journal, once and without haste, and shows
    /// whether the journal is still to be trusted.
    pub(super) async fn compare(self, journal: PgJournal) {
        let (mut after, mut done) = (None, false);
        while !self.stop.is_cancelled() {
            match journal.check_identity().await {
                Ok(()) => {
                    self.board.report(PAST, None);
                }
                Err(fault) => self.after_fault(&fault).await,
            }
            if !done {
                match self.engine.compare_next(after.as_ref()).await {
                    Ok(next) => {
                        done = next.is_none() && after.is_some();
                        after = next;
                    }
                    Err(fault) => self.after_fault(&fault).await,
                }
            }
            self.pause(COMPARE_EVERY).await;
        }
    }

    /// What the journal's answer says about the database.
    pub(super) async fn after_fault(&self, fault: &Fault) {
        counter!("rota_journal_faults_total").increment(1);
        let answers = matches!(fault, Fault::Invalid { .. });
        if !answers {
            gauge!("rota_database_up").set(0.0);
        }
        let trouble = Trouble { message: fault.to_string(), blocks: true };
        // One that answers and is refused is another's past, see `compare`.
        if self.board.report(if answers { PAST } else { "database" }, Some(trouble)) {
            tracing::error!(%fault, "the state database does not answer as it should");
        }
        self.pause(AFTER_FAULT).await;
    }

    /// Calls `work` until it finds nothing, then waits for the next wake-up.
    async fn until_idle<F, W>(&self, mut waker: Waker, work: F)
    where
        F: Fn() -> W,
        W: Future<Output = Result<bool, Fault>>,
    {
        while !self.stop.is_cancelled() {
            match work().await {
                Ok(true) => {}
                Ok(false) => waker.next(&self.stop).await,
                Err(fault) => self.after_fault(&fault).await,
            }
        }
    }

    /// Starts rotations that are due or ordered.
    pub(super) async fn open(self) {
        let waker = self.wake.waker();
        let work = || async {
            let opened = self.engine.open_due().await?;
            if opened > 0 {
                counter!("rota_rotations_opened_total").increment(u64::try_from(opened).unwrap_or(u64::MAX));
                self.wake.up("opened");
            }
            Ok(false)
        };
        self.until_idle(waker, work).await;
    }

    /// Works on one rotation after the other.
    pub(super) async fn drive(self) {
        let waker = self.wake.waker();
        let work = || async {
            let driven = self.engine.drive_one().await?;
            if let Some(rotation) = driven {
                counter!("rota_rotations_driven_total").increment(1);
                tracing::debug!(%rotation, "worked on a rotation");
            }
            Ok(driven.is_some())
        };
        self.until_idle(waker, work).await;
    }

    /// Looks at one consumer's rollout after the other.
    pub(super) async fn roll_out(self) {
        let waker = self.wake.waker();
        let work = || async {
            let driven = self.engine.drive_rollout().await?;
            if driven.is_some() {
                counter!("rota_rollouts_driven_total").increment(1);
                // A finished rollout is what rotations wait for.
                self.wake.up("rollout");
            }
            Ok(driven.is_some())
        };
        self.until_idle(waker, work).await;
    }

    /// Adds reminders and overdue alerts.
    pub(super) async fn remind(self) {
        while !self.stop.is_cancelled() {
            match self.engine.remind().await {
                Ok(_) => self.pause(REMIND_EVERY).await,
                Err(fault) => self.after_fault(&fault).await,
            }
        }
    }

    /// Delivers one channel's notices.
    pub(super) async fn deliver(self, channels: Arc<Channels>, channel: Channel) {
        let waker = self.wake.waker();
        let name = channel.name();
        let work = || async {
            let policy = self.engine.refresh_policy().await?;
            let made = channels.notifier(channel, policy.as_ref().map(|accepted| accepted.policy.shared()));
            let trouble = made
                .as_ref()
                .err()
                .map(|failure| Trouble { message: failure.message.clone(), blocks: false });
            if self.board.report(&format!("channel {name} settings"), trouble) {
                tracing::warn!(
                    channel = name,
                    "the settings of a channel changed or cannot be used; see /readyz"
                );
            }
            let Ok(notifier) = made else { return Ok(false) };
            let watched = Watched { inner: notifier, board: Arc::clone(&self.board) };
            let delivered = self.engine.deliver(&watched).await?;
            self.report_detour(name, channels.detour(channel));
            let count = u64::try_from(delivered.unwrap_or(0)).unwrap_or(u64::MAX);
            counter!("rota_notices_delivered_total", "channel" => name).increment(count);
            Ok(delivered.is_some_and(|count| count > 0))
        };
        self.until_idle(waker, work).await;
    }
}

impl Crew {
    /// A message that only the fallback took is delivered; that the first way is dead has
    /// to be seen somewhere else than in the channel that is dead.
    fn report_detour(&self, name: &'static str, why: Option<String>) {
        gauge!("rota_channel_fallback", "channel" => name).set(if why.is_some() { 1.0 } else { 0.0 });
        let trouble = why.map(|why| Trouble {
            message: format!("the first webhook fails and messages go to the fallback: {why}"),
            blocks: false,
        });
        self.board.report(&format!("channel {name} fallback"), trouble);
    }
}

/// A channel whose deliveries the status page shows.
struct Watched {
    inner: Arc<dyn Notifier>,
    board: Arc<Board>,
}

#[async_trait]
impl Notifier for Watched {
    fn channel(&self) -> &str {
        self.inner.channel()
    }

    async fn deliver(&self, notices: &[Notice]) -> Result<(), Fault> {
        self.inner.deliver(notices).await?;
        self.board.delivered(notices.iter().map(|notice| Shown {
            at: notice.at,
            kind: notice.kind.as_str(),
            secret: notice.secret.as_ref().map(ToString::to_string),
            what: notice.what.clone(),
            channel: self.channel().to_owned(),
        }));
        Ok(())
    }
}
