//! Random numbers that a seed repeats.

use rota_core::format::{RandomFailed, RandomSource};

/// SplitMix64 (Steele, Lea, Flood, 2014): every seed gives another stream, the same
/// one each time.
#[derive(Debug, Clone)]
pub struct SeededRandom(u64);

impl SeededRandom {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x5DEE_CE66_D1CE_4E5B)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`; zero where `limit` is zero. The bias of the modulus is
    /// without importance in a test.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next_u64().checked_rem(limit).unwrap_or(0)
    }

    /// True once in `times`; never where `times` is zero.
    pub fn once_in(&mut self, times: u64) -> bool {
        times != 0 && self.below(times) == 0
    }

    /// One of `choices`; `None` where there are none.
    pub fn one_of<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let length = u64::try_from(choices.len()).unwrap_or(u64::MAX);
        choices.get(usize::try_from(self.below(length)).unwrap_or(0))
    }

    /// A stream of its own, so that one part of a simulation can draw more without
    /// changing what another part draws.
    pub fn split(&mut self) -> Self {
        Self::new(self.next_u64())
    }
}

impl RandomSource for SeededRandom {
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), RandomFailed> {
        for chunk in buf.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        Ok(())
    }
}
