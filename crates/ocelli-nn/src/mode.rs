//! Whether a network is being trained, and where its randomness then comes from.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a forward pass is meant. Batch norm and dropout behave differently in the two.
#[derive(Debug)]
pub enum Mode {
    /// Predicting: the same result every time.
    Eval,
    /// Training: batch statistics, dropout.
    Train(Randomness),
}

impl Mode {
    /// One training step. `seed` should be another one in every step, such as a function of the run's seed and the
    /// step's number: then a resumed run drops what an uninterrupted one would.
    pub fn train(seed: u64) -> Self {
        Mode::Train(Randomness { seed: split_mix(seed), drawn: AtomicU64::new(0), saves_memory: false })
    }

    /// The same, with as little memory as may be: networks compute the convolution of their pictures again in the
    /// backward pass, and DenseNets their layers, at the price of time and with the same bits.
    pub fn saving_memory(mut self) -> Self {
        if let Mode::Train(randomness) = &mut self {
            randomness.saves_memory = true;
        }
        self
    }

    /// Whether [`saving_memory`](Self::saving_memory) was asked for.
    pub fn saves_memory(&self) -> bool {
        matches!(self, Mode::Train(randomness) if randomness.saves_memory)
    }

    /// The same, with the same seeds to come.
    pub(crate) fn fork(&self) -> Self {
        match self {
            Mode::Eval => Mode::Eval,
            Mode::Train(Randomness { seed, drawn, saves_memory }) => {
                let drawn = AtomicU64::new(drawn.load(Ordering::Relaxed));
                Mode::Train(Randomness { seed: *seed, drawn, saves_memory: *saves_memory })
            }
        }
    }

    /// Seeds that have been drawn.
    pub(crate) fn drawn(&self) -> u64 {
        match self {
            Mode::Eval => 0,
            Mode::Train(randomness) => randomness.drawn.load(Ordering::Relaxed),
        }
    }

    /// Goes on after so many seeds.
    pub(crate) fn skip_to(&self, drawn: u64) {
        if let Mode::Train(randomness) = self {
            randomness.drawn.store(drawn, Ordering::Relaxed);
        }
    }

    /// Whether this is training.
    pub fn is_training(&self) -> bool {
        matches!(self, Mode::Train(_))
    }
}

/// A sequence of seeds for the random operations of one forward pass, in the order in which they run.
#[derive(Debug)]
pub struct Randomness {
    seed: u64,
    drawn: AtomicU64,
    saves_memory: bool,
}

impl Randomness {
    /// The next seed.
    pub fn next_seed(&self) -> u64 {
        split_mix(self.seed ^ self.drawn.fetch_add(1, Ordering::Relaxed))
    }
}

/// One step of SplitMix64 (Steele, Lea, Flood 2014): a bijection whose outputs look independent.
pub(crate) fn split_mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_its_own_repeatable_seeds() {
        let seeds = |seed| match Mode::train(seed) {
            Mode::Train(randomness) => [randomness.next_seed(), randomness.next_seed()],
            Mode::Eval => unreachable!(),
        };
        assert_eq!(seeds(3), seeds(3));
        assert_ne!(seeds(3)[0], seeds(3)[1]);
        assert_ne!(seeds(3), seeds(4));
    }
}
