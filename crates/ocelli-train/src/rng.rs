//! Random numbers by counter: a stream of its own for every (seed, purpose, epoch, item), so that no choice depends
//! on how many numbers were drawn before it, on the number of threads, or on where a run was interrupted.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// What a stream is drawn for. Streams of different purposes are independent.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// Which images are held out for validation.
    Split = 1,
    /// The order of the images in an epoch.
    Shuffle = 2,
    /// The augmentation of an image.
    Augment = 3,
    /// What a training step drops out.
    Dropout = 4,
}

/// The stream of `item` (an image, a class) in `epoch`. The key of the cipher *is* the tuple.
pub(crate) fn stream(seed: u64, purpose: Purpose, epoch: u64, item: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, epoch, item]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
