//! This machine's clock and randomness: the only places where the program reads them.
//!
//! Deliberately absent: a date to decide by. Those come from the journal, so that all
//! replicas agree; here is how much time has passed, and a date for signatures.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rand::TryRng as _;
use rand::rngs::SysRng;
use rota_core::format::{RandomFailed, RandomSource};
use rota_engine::ports::Clock;
use rustix::time::{ClockId, clock_gettime};

/// Time since boot, suspension included (`CLOCK_BOOTTIME`, clock_gettime(2)): a lease
/// lapses while a laptop sleeps, and its holder has to notice.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BootClock;

#[async_trait]
impl Clock for BootClock {
    fn elapsed(&self) -> SignedDuration {
        let now = clock_gettime(ClockId::Boottime);
        SignedDuration::new(now.tv_sec, i32::try_from(now.tv_nsec).unwrap_or(0))
    }

    async fn sleep(&self, duration: SignedDuration) {
        tokio::time::sleep(positive(duration)).await;
    }
}

/// The machine's date, for signatures that a server compares with its own (AWS allows
/// five minutes). Nothing is decided by it.
#[expect(clippy::disallowed_methods, reason = "the production clock")]
pub(crate) fn date() -> SystemTime {
    SystemTime::now()
}

/// The same for what is stamped where no journal is at hand.
pub(crate) fn timestamp() -> Timestamp {
    Timestamp::try_from(date()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// For the standard library's timers, which know no negative time.
pub(crate) fn positive(duration: SignedDuration) -> Duration {
    Duration::try_from(duration).unwrap_or(Duration::ZERO)
}

/// The operating system's generator. Fails closed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemRandom;

impl RandomSource for SystemRandom {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), RandomFailed> {
        SysRng.try_fill_bytes(buffer).map_err(|_| RandomFailed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elapsed_time_never_goes_back() {
        let first = BootClock.elapsed();
        assert!(first > SignedDuration::ZERO);
        assert!(BootClock.elapsed() >= first);
    }

    #[test]
    fn the_random_source_fills_the_whole_buffer() {
        let mut buffer = [0u8; 256];
        SystemRandom.fill(&mut buffer).unwrap();
        // The odds that 16 neighbours stay zero are below 2^-100.
        assert!(!buffer.windows(16).any(|window| window.iter().all(|byte| *byte == 0)));
    }
}
