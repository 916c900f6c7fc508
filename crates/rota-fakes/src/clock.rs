//! The clock of a fake server: real time plus an offset that a test moves.
//!
//! Deliberately absent: waiting. A test that needs "an hour later" moves the
//! clock, it never sleeps.

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

/// A clock shared by a fake and its test. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct FakeClock {
    inner: Arc<Mutex<Reading>>,
}

#[derive(Debug, Default)]
struct Reading {
    frozen: Option<Timestamp>,
    offset: SignedDuration,
}

impl FakeClock {
    /// Follows real time until it is moved.
    pub fn following() -> Self {
        Self::default()
    }

    /// Stands still at `now` until it is moved.
    pub fn frozen(now: Timestamp) -> Self {
        let clock = Self::default();
        clock.inner.lock().expect("no holder of the clock panics").frozen = Some(now);
        clock
    }

    /// Makes the clock stand still at `now`, wherever it was.
    pub fn set(&self, now: Timestamp) {
        *self.inner.lock().expect("no holder of the clock panics") =
            Reading { frozen: Some(now), offset: SignedDuration::ZERO };
    }

    /// What the clock shows.
    pub fn now(&self) -> Timestamp {
        let reading = self.inner.lock().expect("no holder of the clock panics");
        reading.frozen.unwrap_or_else(real_now) + reading.offset
    }

    /// Moves the clock; a negative duration moves it back.
    pub fn advance(&self, by: SignedDuration) {
        self.inner.lock().expect("no holder of the clock panics").offset += by;
    }
}

#[expect(clippy::disallowed_methods, reason = "a fake server stands in for a machine that has a clock")]
fn real_now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_clock_moves_only_when_it_is_moved() {
        let start: Timestamp = "2026-01-15T10:00:00Z".parse().unwrap();
        let clock = FakeClock::frozen(start);
        assert_eq!(clock.now(), start);
        clock.clone().advance(SignedDuration::from_hours(24));
        assert_eq!(clock.now().to_string(), "2026-01-16T10:00:00Z");
        clock.advance(SignedDuration::from_hours(-48));
        assert_eq!(clock.now().to_string(), "2026-01-14T10:00:00Z");
        clock.set(start);
        assert_eq!(clock.now(), start);
        let following = FakeClock::following();
        following.advance(SignedDuration::from_hours(1));
        assert!(following.now() > FakeClock::following().now());
    }
}
