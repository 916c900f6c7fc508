//! One backend's gate: so many calls at once, and so many a minute.

use std::sync::Mutex;

use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_engine::ports::Clock;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::BackendLimit;

/// The longest that a call waits for its turn. A caller holds a lease meanwhile and
/// has other work, so a longer wait is told to it instead.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(5);

/// How much of a minute's calls may come at once.
const BURST: SignedDuration = SignedDuration::from_secs(10);

/// Counts calls by the time at which the next one would be on schedule (the generic
/// cell rate algorithm, ITU-T I.371): no timer, no tokens to refill.
#[derive(Debug)]
struct Bucket {
    interval: SignedDuration,
    on_schedule: SignedDuration,
}

impl Bucket {
    fn new(per_minute: u32) -> Self {
        let interval = SignedDuration::from_mins(1) / i32::try_from(per_minute.max(1)).unwrap_or(i32::MAX);
        Self { interval, on_schedule: SignedDuration::MIN / 2 }
    }

    /// Takes a call's turn and says how long to wait for it, or how long the wait would be.
    fn take(&mut self, now: SignedDuration) -> Result<SignedDuration, SignedDuration> {
        let earliest = self.on_schedule.max(now - BURST);
        let wait = (earliest - now).max(SignedDuration::ZERO);
        if wait > LONGEST_WAIT {
            return Err(wait);
        }
        self.on_schedule = earliest + self.interval;
        Ok(wait)
    }

    /// The backend itself asked to slow down.
    fn pause(&mut self, now: SignedDuration, pause: SignedDuration) {
        self.on_schedule = self.on_schedule.max(now.saturating_add(pause));
    }
}

/// Where every call to one backend passes.
pub(super) struct Gate {
    backend: String,
    slots: Semaphore,
    bucket: Mutex<Bucket>,
}

impl Gate {
    pub(super) fn new(backend: &str, limit: BackendLimit) -> Self {
        let slots = usize::try_from(limit.concurrency.get()).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            backend: backend.to_owned(),
            slots: Semaphore::new(slots.min(Semaphore::MAX_PERMITS)),
            bucket: Mutex::new(Bucket::new(limit.per_minute.get())),
        }
    }

    /// Waits for a turn; the call goes on while the permit lives.
    ///
    /// # Errors
    /// [`Fault::RateLimited`] where the turn is too far away. Nothing was called.
    pub(super) async fn pass(&self, clock: &dyn Clock) -> Result<SemaphorePermit<'_>, Fault> {
        let permit = self.slots.acquire().await.map_err(|_| Fault::transient("the daemon is stopping"))?;
        let turn = self.bucket.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take(clock.elapsed());
        match turn {
            Ok(wait) => {
                if !wait.is_zero() {
                    clock.sleep(wait).await;
                }
                Ok(permit)
            }
            Err(retry_after) => {
                metrics::counter!("rota_backend_throttled_total", "backend" => self.backend.clone())
                    .increment(1);
                let message =
                    format!("calls to {} are spread over time; limits.per_minute is used up", self.backend);
                Err(Fault::RateLimited { message, retry_after })
            }
        }
    }

    /// Learns from an answer that the backend wants fewer calls.
    pub(super) fn learn<T>(&self, clock: &dyn Clock, answer: &Result<T, Fault>) {
        if let Err(Fault::RateLimited { retry_after, .. }) = answer {
            let mut bucket = self.bucket.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            bucket.pause(clock.elapsed(), *retry_after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_minute_sees_no_more_calls_than_allowed_beyond_the_burst() {
        let mut bucket = Bucket::new(60);
        let mut passed = 0;
        // Asks four times a second for ten minutes.
        for quarter in 0..2400 {
            let now = SignedDuration::from_millis(1_000_000 + quarter * 250);
            if bucket.take(now).is_ok() {
                passed += 1;
            }
        }
        assert!((600..=620).contains(&passed), "{passed}");
    }

    #[test]
    fn a_burst_passes_at_once_and_the_rest_queues_up_to_a_limit() {
        let mut bucket = Bucket::new(60);
        let waits: Vec<_> = (0..20).map(|_| bucket.take(secs(1000))).collect();
        assert!(waits[..10].iter().all(|wait| *wait == Ok(SignedDuration::ZERO)), "{waits:?}");
        assert_eq!(waits[11..16], [Ok(secs(1)), Ok(secs(2)), Ok(secs(3)), Ok(secs(4)), Ok(secs(5))]);
        assert_eq!(waits[16..], [Err(secs(6)); 4], "a refused call takes no turn");
    }

    #[test]
    fn a_backend_that_asks_for_a_pause_gets_it() {
        let mut bucket = Bucket::new(6000);
        assert!(bucket.take(secs(1000)).is_ok());
        bucket.pause(secs(1000), secs(60));
        assert_eq!(bucket.take(secs(1000)), Err(secs(60)));
        assert_eq!(bucket.take(secs(1058)), Ok(secs(2)));
    }
}
