//! Can the database's clock be trusted with what cannot be taken back?

use jiff::{SignedDuration, Timestamp};

use crate::engine::Engine;
use crate::session::{Halt, Session};

/// How far the database's clock may be from where it should be.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

impl Engine {
    /// Why the database's clock is not where it should be by this process's own, which
    /// counts on whatever people do to clocks. The first reading is taken as right, and a
    /// leap stays one until the clock is back, a store's clock agrees with it, or the
    /// process starts again.
    pub(crate) fn leap(&self, now: Timestamp) -> Option<String> {
        let elapsed = self.clock.elapsed();
        let mut anchor = self.clock_anchor();
        let (at, then) = *anchor.get_or_insert((now, elapsed));
        let expected = at.saturating_add(elapsed.saturating_sub(then)).unwrap_or(Timestamp::MAX);
        let leap = now.duration_since(expected);
        if leap.abs() <= CLOCK_TOLERANCE {
            // Two clocks drift apart by seconds a day; that is no leap.
            *anchor = Some((now, elapsed));
            return None;
        }
        let way = if leap.is_negative() { "back" } else { "ahead" };
        Some(format!("the database's leapt {way} by {:#}", leap.abs()))
    }

    /// Takes the database's clock for right.
    pub(crate) fn trust_clock(&self, now: Timestamp) {
        *self.clock_anchor() = Some((now, self.clock.elapsed()));
    }
}

impl Session<'_> {
    /// Why the database's clock cannot be trusted with a wait that ends in something
    /// destructive: it is behind what was recorded, apart from the store's, or leapt.
    pub(crate) async fn clock_problem(&mut self) -> Result<Option<String>, Halt> {
        let latest = self.engine.journal.past(&self.rotation().secret).await?.latest;
        let mark = self.rotation().clock_mark().max(latest);
        let behind = mark.map(|mark| mark.duration_since(self.now()));
        if let Some(behind) = behind.filter(|behind| *behind > CLOCK_TOLERANCE) {
            return Ok(Some(format!("the database's is {behind:#} behind what it recorded earlier")));
        }
        let (policy, store) = self.primary()?;
        let Some(theirs) = self.call("asking the store's clock", store.clock()).await? else {
            return Ok(self.engine.leap(self.now()));
        };
        let apart = self.now().duration_since(theirs).abs();
        if apart > CLOCK_TOLERANCE {
            return Ok(Some(format!("the database and store `{}` are {apart:#} apart", policy.id)));
        }
        self.engine.trust_clock(self.now());
        Ok(None)
    }
}
