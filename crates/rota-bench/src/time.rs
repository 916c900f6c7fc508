//! How long things take: the only clock of the benchmark.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::SignedDuration;
use rota_engine::ports::Clock;

/// A moment to measure from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "measuring time is what this program is for")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    pub(crate) fn millis(self) -> f64 {
        self.elapsed().as_secs_f64() * 1000.0
    }
}

#[async_trait]
impl Clock for Stopwatch {
    fn elapsed(&self) -> SignedDuration {
        SignedDuration::try_from(self.0.elapsed()).unwrap_or(SignedDuration::MAX)
    }

    async fn sleep(&self, duration: SignedDuration) {
        tokio::time::sleep(Duration::try_from(duration).unwrap_or_default()).await;
    }
}
