//! Waits that differ from host to host.

use std::time::Duration;

/// splitmix64, whose every output is evenly spread: from one random number many.
#[derive(Debug)]
pub(super) struct Random(pub u64);

impl Random {
    /// A random part of `whole` (full jitter).
    pub fn part(&mut self, whole: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let micros = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(((u128::from(z) * (u128::from(micros) + 1)) >> 64) as u64)
    }

    /// At least half of `whole`.
    pub fn upper_half(&mut self, whole: Duration) -> Duration {
        whole / 2 + self.part(whole / 2)
    }
}
