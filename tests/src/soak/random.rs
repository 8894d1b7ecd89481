//! Randomness that a seed repeats.

use std::time::Duration;

/// A generator of numbers (`SplitMix64`): the same ones for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of one of many, who share a seed.
    pub fn new(seed: u64, who: u64) -> Self {
        let mut random = Self(seed ^ who.wrapping_mul(0xd6e8_feb8_6659_fd93));
        random.number();
        random
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// A number of this range.
    pub fn size(&mut self, from: usize, end: usize) -> usize {
        let size = self.below((end - from) as u64);
        from + usize::try_from(size).expect("less than a usize")
    }

    /// A time up to this.
    pub fn within(&mut self, time: Duration) -> Duration {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.below(micros.max(1)))
    }

    /// So many bytes of noise.
    pub fn noise(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(size);
        bytes
    }
}
