//! What makes the daemon look for work: a cron job, an interval, the database's
//! notifications, and a watchdog over the first.
//!
//! Deliberately absent: what is due. That is a query; a wake-up carries nothing. The
//! scheduler polls twice a second, may lose jobs and freezes zones to an offset, so it
//! gets one coarse job in UTC and one for the digest, each only a wake-up, and an
//! interval of its own stands beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::SignedDuration;
use metrics::counter;
use rota_engine::ports::Clock;
use tokio::sync::{Notify, watch};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use super::board::{Board, Trouble};
use crate::exit::Failure;
use crate::machine::positive;

/// The scheduler may be late by this much without being called missing: it polls every
/// half second, and its job must not be coarser than the longest wake-up.
const LATE: SignedDuration = SignedDuration::from_secs(5);

/// Cron's smallest field is a minute; a longer wake-up is left to the interval.
const COARSEST: SignedDuration = SignedDuration::from_secs(60);

/// Tells every loop to look for work. Wake-ups in between are one.
#[derive(Debug, Clone)]
pub(super) struct Wake(watch::Sender<u64>);

impl Wake {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// Wakes everybody; `cause` is for the metrics.
    pub(super) fn up(&self, cause: &'static str) {
        counter!("rota_wakeups_total", "cause" => cause).increment(1);
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn waker(&self) -> Waker {
        Waker(self.0.subscribe())
    }
}

/// One loop's ear.
#[derive(Debug)]
pub(super) struct Waker(watch::Receiver<u64>);

impl Waker {
    /// Returns at the next wake-up since the last call, or when everything stops.
    pub(super) async fn next(&mut self, stop: &CancellationToken) {
        tokio::select! {
            _ = self.0.changed() => {}
            () = stop.cancelled() => {}
        }
    }
}

/// The running scheduler; it ends with this.
pub(super) struct Scheduler {
    inner: JobScheduler,
    ticked: Arc<AtomicI64>,
    every: SignedDuration,
}

impl Scheduler {
    /// Starts the two jobs. `digest` is a cron pattern with seconds, in UTC.
    ///
    /// # Errors
    /// Where the pattern cannot be read.
    pub(super) async fn start(
        clock: Arc<dyn Clock>,
        every: SignedDuration,
        digest: &str,
        wake: Wake,
        digest_due: Arc<Notify>,
    ) -> Result<Self, Failure> {
        let every = every.min(COARSEST);
        let ticked = Arc::new(AtomicI64::new(clock.elapsed().as_secs()));
        let seen = Arc::clone(&ticked);
        let look = Job::new(pattern(every), move |_, _| {
            seen.store(clock.elapsed().as_secs(), Ordering::Relaxed);
            wake.up("cron");
        })
        .map_err(|error| refuse(&error))?;
        let digest = Job::new(digest, move |_, _| digest_due.notify_one()).map_err(|_| {
            Failure::invalid(format!("`daemon.digest` is no cron pattern: {digest}"))
                .hint("write six fields, seconds first: \"0 0 7 * * *\" is every day at 07:00 UTC")
        })?;
        let inner = JobScheduler::new().await.map_err(|error| refuse(&error))?;
        inner.add(look).await.map_err(|error| refuse(&error))?;
        inner.add(digest).await.map_err(|error| refuse(&error))?;
        inner.start().await.map_err(|error| refuse(&error))?;
        Ok(Self { inner, ticked, every })
    }

    /// Wakes everybody at an interval, whatever the scheduler does, and notices when it
    /// misses its own.
    pub(super) async fn watch(
        mut self,
        clock: Arc<dyn Clock>,
        interval: SignedDuration,
        wake: Wake,
        board: Arc<Board>,
        stop: CancellationToken,
    ) {
        let mut beat = tokio::time::interval(positive(interval));
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = stop.cancelled() => break,
            }
            wake.up("interval");
            let silent = clock.elapsed().as_secs() - self.ticked.load(Ordering::Relaxed);
            let missed = missed(self.every, SignedDuration::from_secs(silent));
            if missed {
                counter!("rota_missed_wakeups_total").increment(1);
            }
            let trouble = missed.then(|| Trouble {
                message: "the scheduler misses its wake-ups; the interval goes on without it".to_owned(),
                blocks: false,
            });
            if board.report("scheduler", trouble) && missed {
                tracing::warn!(silent_seconds = silent, "the scheduler missed a wake-up");
            }
        }
        // It waits for nothing, and one more job may run; a wake-up then finds nobody.
        if let Err(error) = self.inner.shutdown().await {
            tracing::warn!(%error, "the scheduler did not stop cleanly");
        }
    }
}

fn refuse(error: &JobSchedulerError) -> Failure {
    Failure::invalid(format!("the scheduler cannot start: {error}"))
}

/// The cron pattern nearest to `every`, never rarer.
fn pattern(every: SignedDuration) -> String {
    match every.as_secs() {
        ..=1 => "* * * * * *".to_owned(),
        seconds @ 2..=59 => format!("*/{seconds} * * * * *"),
        60.. => "0 * * * * *".to_owned(),
    }
}

fn missed(every: SignedDuration, silent: SignedDuration) -> bool {
    silent > every * 2 + LATE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::BootClock;

    const fn secs(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    #[test]
    fn the_watchdog_forgives_lateness_and_no_more() {
        assert!(!missed(secs(10), secs(25)));
        assert!(missed(secs(10), secs(26)));
        assert!(!missed(secs(1), secs(7)));
    }

    #[test]
    fn every_interval_has_a_pattern_that_the_scheduler_takes() {
        for seconds in [0, 1, 2, 10, 59, 60, 3600] {
            assert!(Job::new(pattern(secs(seconds)), |_, _| {}).is_ok(), "{seconds}");
        }
    }

    #[tokio::test]
    async fn the_cron_job_wakes_a_loop() {
        let (wake, digest) = (Wake::new(), Arc::new(Notify::new()));
        let mut waker = wake.waker();
        let clock: Arc<dyn Clock> = Arc::new(BootClock);
        let started = Scheduler::start(clock, secs(1), "* * * * * *", wake, Arc::clone(&digest)).await;
        let _running = started.unwrap_or_else(|failure| panic!("{failure}"));
        let both = async {
            waker.next(&CancellationToken::new()).await;
            digest.notified().await;
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), both).await.expect("no wake-up came");
    }

    #[tokio::test]
    async fn a_digest_pattern_that_is_none_is_refused() {
        let clock: Arc<dyn Clock> = Arc::new(BootClock);
        let started = Scheduler::start(clock, secs(1), "at nine", Wake::new(), Arc::new(Notify::new())).await;
        assert!(started.is_err_and(|failure| failure.message.contains("daemon.digest")));
    }
}
