//! What holds where the policy says nothing. `docs/policy.md` lists the same.

use jiff::SignedDuration;

use crate::policy::model::{Healthy, OnFailure, Priority};

/// Where a name lives in a store that says nothing: at the name.
pub(in crate::policy) const PATH: &str = "{name}";

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A day: long enough to notice that a rotation did not start, short enough that
/// the value is not much younger than promised. At most a tenth of the cadence.
pub(in crate::policy) const LEAD: SignedDuration = DAY;
const LEAD_SHARE: i32 = 10;

/// A week, the longest overlap of the usual runbooks: a weekly job has run once
/// with both values. At most a quarter of the cadence.
pub(in crate::policy) const OVERLAP: SignedDuration = SignedDuration::from_hours(7 * 24);
const OVERLAP_SHARE: i32 = 4;

/// A day for whoever was missed to notice, while a disabled credential can still be
/// enabled again. At most a tenth of the cadence.
pub(in crate::policy) const REVOKE_AFTER: SignedDuration = DAY;
const REVOKE_AFTER_SHARE: i32 = 10;

/// Three looks, five minutes apart: one look can be lucky, and a quarter of an hour
/// covers the restart of a slow instance.
pub(in crate::policy) const HEALTHY_COUNT: u32 = 3;
pub(in crate::policy) const HEALTHY_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// A single failure is a hiccup, three in a row are not.
pub(in crate::policy) const HEALTHY_FAILURES: u32 = 3;

/// Propagation of a store within a region and clocks that NTP keeps.
pub(in crate::policy) const SETTLE: SignedDuration = SignedDuration::from_mins(1);

/// A rolling deployment of a few instances with health checks and draining.
pub(in crate::policy) const ROLLOUT_DEADLINE: SignedDuration = SignedDuration::from_mins(30);

/// Reminders of the usual runbooks.
pub(in crate::policy) const REMIND: [SignedDuration; 3] =
    [SignedDuration::from_hours(14 * 24), SignedDuration::from_hours(7 * 24), DAY];

/// A person decides: an automatic way back is asked for, never assumed.
pub(in crate::policy) const ON_FAILURE: OnFailure = OnFailure::Hold;

pub(in crate::policy) const PRIORITY: Priority = Priority::Medium;

/// The least that an operator-supplied value without a class must have: shorter
/// texts are slips of the clipboard.
pub(in crate::policy) const SUPPLIED_CHARS: u32 = 8;

/// `usual`, or a share of the cadence where that is shorter; at least a second.
fn at_most_share(usual: SignedDuration, cadence: Option<SignedDuration>, share: i32) -> SignedDuration {
    let Some(cadence) = cadence else { return usual };
    whole(usual.min(cadence / share)).max(SECOND)
}

fn whole(duration: SignedDuration) -> SignedDuration {
    SignedDuration::from_secs(duration.as_secs())
}

pub(in crate::policy) fn lead(cadence: Option<SignedDuration>) -> SignedDuration {
    at_most_share(LEAD, cadence, LEAD_SHARE)
}

pub(in crate::policy) fn overlap(cadence: Option<SignedDuration>) -> SignedDuration {
    at_most_share(OVERLAP, cadence, OVERLAP_SHARE)
}

pub(in crate::policy) fn revoke_after(cadence: Option<SignedDuration>) -> SignedDuration {
    at_most_share(REVOKE_AFTER, cadence, REVOKE_AFTER_SHARE)
}

/// Observations no further apart than fits the wanted number into the overlap.
pub(in crate::policy) fn healthy(overlap: SignedDuration) -> Healthy {
    let every = whole(HEALTHY_EVERY.min(overlap / 4)).max(SECOND);
    Healthy { count: HEALTHY_COUNT, every, failures: HEALTHY_FAILURES }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_values_hold_for_the_usual_cadences_and_shrink_with_short_ones() {
        let days = |n: i64| Some(SignedDuration::from_hours(n * 24));
        assert_eq!(lead(days(30)), DAY);
        assert_eq!(overlap(days(30)), OVERLAP);
        assert_eq!(overlap(days(8)), SignedDuration::from_hours(48));
        assert_eq!(lead(None), DAY);
        let short = Some(SignedDuration::from_secs(60));
        assert_eq!(lead(short), SignedDuration::from_secs(6));
        assert_eq!(overlap(short), SignedDuration::from_secs(15));
        assert_eq!(healthy(SignedDuration::from_secs(15)).every, SignedDuration::from_secs(3));
        assert_eq!(healthy(OVERLAP).every, HEALTHY_EVERY);
        assert_eq!(lead(Some(SignedDuration::from_secs(1))), SECOND);
    }
}
