//! Every random number of a run, as a function of what it is for.
//!
//! There is no generator to pass around: a number is
//! `Philox(seed; purpose, time, index, position)`. So results depend on the seed alone, never on
//! threads, towers, devices or interruptions. Philox-4x32-10 is from Salmon, Moraes, Dror and Shaw,
//! "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011); the tests hold its published known
//! answers.

use rand::TryRng;
use std::convert::Infallible;

/// What random numbers are for. Two purposes never share a number, as long as no two layers' names
/// have the same [`name_word`], which a config is refused for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// Initial weights of the named layer. time 0, index = the output unit (kernel or neuron).
    Weights(&'a str),
    /// Dropout of the named layer. time = step, index = image in the global batch, position =
    /// neuron.
    Dropout(&'a str),
    /// The order of the training images. time = epoch.
    Order,
    /// Crop position and flip. time = epoch, index = image in the data set.
    Crop,
    /// Colour noise. time = epoch, index = image in the data set.
    Color,
    /// Which images `prepare` puts into the validation split. index = class.
    Split,
    /// Which of the evaluated images a sheet shows. index = image in the split.
    Show,
    /// Made-up input for benchmarks and tests.
    Test,
}

impl Purpose<'_> {
    /// The counter's last word: the kind in the top byte, the layer's [`name_word`] below.
    pub(crate) fn word(self) -> u32 {
        let (kind, name) = match self {
            Purpose::Weights(name) => (1, name),
            Purpose::Dropout(name) => (2, name),
            Purpose::Order => (3, ""),
            Purpose::Crop => (4, ""),
            Purpose::Color => (5, ""),
            Purpose::Split => (6, ""),
            Purpose::Test => (7, ""),
            Purpose::Show => (8, ""),
        };
        kind << 24 | name_word(name)
    }
}

/// What a layer's name is in a stream: 24 bits of its CRC-32.
pub fn name_word(name: &str) -> u32 {
    crc32fast::hash(name.as_bytes()) & 0x00ff_ffff
}

/// A stream of random numbers for one use; implements rand's `Rng`, so feeds rand_distr.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Stream {
    /// The stream of `(seed, purpose, time, index)`, at its beginning.
    pub fn new(seed: u64, purpose: Purpose<'_>, time: u32, index: u32) -> Stream {
        Stream {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [0, index, time, purpose.word()],
            block: [0; 4],
            used: 4,
        }
    }

    /// Words `4·position .. 4·position + 4` of the stream, wherever it stands.
    pub fn block(&self, position: u32) -> [u32; 4] {
        philox([position, self.counter[1], self.counter[2], self.counter[3]], self.key)
    }

    /// Blocks `position`, `position` + 1, … of the stream: `[word][block]`. Inlined into a function for
    /// vectors (`vectors::Work`), all blocks are computed side by side.
    #[inline(always)]
    pub fn blocks(&self, position: u32) -> [[u32; BLOCKS]; 4] {
        let [_, index, time, purpose] = self.counter;
        let positions = std::array::from_fn(|i| position.wrapping_add(i as u32));
        philox_of([positions, [index; BLOCKS], [time; BLOCKS], [purpose; BLOCKS]], self.key)
    }

    /// A number in `0..bound`, without bias (Lemire's multiplication with rejection). `bound` > 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u64::from(self.word()) * u64::from(bound);
            if product as u32 >= threshold {
                return (product >> 32) as u32;
            }
        }
    }

    /// The next 32 bits.
    pub fn word(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u32 + 1) as usize);
        }
    }
}

impl TryRng for Stream {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.word())
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let low = u64::from(self.word());
        Ok(low | u64::from(self.word()) << 32)
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(4) {
            chunk.copy_from_slice(&self.word().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// Blocks that [`Stream::blocks`] gives at a time: the lanes of the widest vectors.
pub const BLOCKS: usize = 16;

/// [`philox`] of several counters, `[word][counter]`.
#[inline(always)]
fn philox_of<const N: usize>(mut counter: [[u32; N]; 4], mut key: [u32; 2]) -> [[u32; N]; 4] {
    for _ in 0..10 {
        let [mut a, mut b] = [[0; N]; 2];
        let mut next = [[0; N]; 4];
        for i in 0..N {
            a[i] = u64::from(counter[0][i]) * 0xD251_1F53;
            b[i] = u64::from(counter[2][i]) * 0xCD9E_8D57;
        }
        for i in 0..N {
            next[0][i] = (b[i] >> 32) as u32 ^ counter[1][i] ^ key[0];
            next[1][i] = b[i] as u32;
            next[2][i] = (a[i] >> 32) as u32 ^ counter[3][i] ^ key[1];
            next[3][i] = a[i] as u32;
        }
        counter = next;
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

/// Philox-4x32 with 10 rounds: 128 bits of counter and 64 bits of key to 128 random bits.
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    philox_of(counter.map(|word| [word]), key).map(|[word]| word)
}

/// Numbers spread evenly from −1 to 1, others for another `of`.
#[cfg(test)]
pub fn numbers(count: usize, of: u32) -> Vec<f32> {
    let mut stream = Stream::new(5, Purpose::Test, of, 0);
    (0..count).map(|_| (stream.word() >> 8) as f32 / (1u32 << 23) as f32 - 1.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_distr::{Distribution, StandardNormal};

    /// The known answers published with Random123 (file kat_vectors, philox4x32 10).
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]
        );
        assert_eq!(
            philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    #[test]
    fn blocks_are_the_blocks_one_by_one() {
        let stream = Stream::new(5, Purpose::Dropout("fc6"), 3, 9);
        for first in [0, 1, 77, u32::MAX - 3] {
            let blocks = stream.blocks(first);
            for i in 0..BLOCKS {
                let one = stream.block(first.wrapping_add(i as u32));
                assert_eq!(blocks.map(|words| words[i]), one);
            }
        }
    }

    #[test]
    fn streams_of_different_uses_differ_and_one_use_repeats() {
        let draw = |purpose, time, index| Stream::new(7, purpose, time, index).block(0);
        let all = [
            draw(Purpose::Crop, 1, 2),
            draw(Purpose::Crop, 2, 1),
            draw(Purpose::Color, 1, 2),
            draw(Purpose::Dropout("fc6"), 1, 2),
            draw(Purpose::Dropout("fc7"), 1, 2),
            draw(Purpose::Weights("fc6"), 1, 2),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b));
        }
        assert_eq!(draw(Purpose::Crop, 1, 2), all[0]);
    }

    #[test]
    fn normal_draws_have_mean_0_and_deviation_1() {
        let mut stream = Stream::new(1, Purpose::Test, 0, 0);
        let n = 100_000;
        let draws: Vec<f64> = (0..n).map(|_| StandardNormal.sample(&mut stream)).collect();
        let mean = draws.iter().sum::<f64>() / n as f64;
        let variance = draws.iter().map(|d| (d - mean) * (d - mean)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.015, "{mean}");
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
    }

    #[test]
    fn below_is_uniform() {
        let mut stream = Stream::new(1, Purpose::Test, 0, 0);
        let mut counts = [0; 33];
        for _ in 0..33_000 {
            counts[stream.below(33) as usize] += 1;
        }
        assert!(counts.iter().all(|&c| (850..1150).contains(&c)), "{counts:?}");
    }
}
