//! How long to wait after a failure.

use jiff::SignedDuration;

use crate::id::RotationId;

/// The first delay.
const FIRST: SignedDuration = SignedDuration::from_secs(2);

/// No delay is longer: an operator who fixed the cause should not have to wait for more.
const CAP: SignedDuration = SignedDuration::from_mins(15);

/// The delay after `failures` failures in a row: doubling, capped, and spread by up
/// to a quarter. The spread follows from the rotation's id, so that a decision
/// needs no random source and a thousand rotations do not return at once.
#[must_use]
pub fn delay(id: RotationId, failures: u32) -> SignedDuration {
    let doublings = failures.saturating_sub(1).min(16);
    let base = FIRST.as_millis().saturating_mul(1 << doublings).min(CAP.as_millis());
    let seed = id.0.as_u128() ^ u128::from(failures).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    let quarter = base / 4;
    let spread = i128::try_from(seed.rotate_left(failures) % 1000).unwrap_or(0) * quarter / 1000;
    SignedDuration::from_millis(i64::try_from(base - spread).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn delays_double_stay_within_a_quarter_of_the_base_and_are_capped() {
        let id = RotationId(Uuid::from_u128(7));
        for failures in 1..100 {
            let base = FIRST.as_millis().saturating_mul(1 << (failures - 1).min(16)).min(CAP.as_millis());
            let delay = delay(id, failures).as_millis();
            assert!(delay <= base && delay >= base * 3 / 4, "{failures}: {delay} of {base}");
        }
    }
}
