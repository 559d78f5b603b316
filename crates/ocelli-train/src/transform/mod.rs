//! Pictures to rows of an input batch: resize, crop, augment, normalise.

mod augment;
mod geometry;
mod warp;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use augment::{Augment, RandomResizedCrop};
use geometry::Resampler;
pub use warp::Affine;

use crate::{Error, Picture, Result};

/// How pixels are interpolated when a picture is resized. Both widen their kernel when they shrink (antialiasing),
/// as PIL does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// A triangle.
    Bilinear,
    /// The cubic with a = −0.5 (Catmull–Rom).
    Bicubic,
}

/// From a picture of any size to a network's input: the shorter side is resized, the centre cropped, and every
/// channel normalised, y = (x − mean) / std with x in 0..1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// The length of the shorter side after resizing, in pixels.
    pub resize: usize,
    /// The side of the square that the network sees, at most `resize`.
    pub crop: usize,
    /// How pixels are interpolated.
    pub interpolation: Interpolation,
    /// The mean of each channel: one for grey networks, three for red, green, blue.
    pub mean: Vec<f32>,
    /// The standard deviation of each channel.
    pub std: Vec<f32>,
}

impl Preprocessing {
    /// Of the published ImageNet weights of most families: 256, 224, bilinear, the ImageNet statistics.
    pub fn imagenet() -> Self {
        let (mean, std) = (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225]);
        Preprocessing { resize: 256, crop: 224, interpolation: Interpolation::Bilinear, mean, std }
    }

    /// Of the embedded digits: 28 × 28, grey, the mean and deviation of MNIST.
    pub fn digits() -> Self {
        let (mean, std) = (vec![0.1307], vec![0.3081]);
        Preprocessing { resize: 28, crop: 28, interpolation: Interpolation::Bilinear, mean, std }
    }

    /// The channels of the network's input.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// Numbers of one picture's row of the input, `crop · crop · channels`.
    pub fn row_len(&self) -> usize {
        self.crop * self.crop * self.channels()
    }

    /// Fails if a setting is out of its domain.
    pub fn validate(&self) -> Result<()> {
        let wrong = |reason: String| Err(Error::setting("preprocessing", reason));
        if self.crop == 0 || self.crop > self.resize || self.resize > 16_384 {
            return wrong(format!("a crop of {} out of a shorter side of {}", self.crop, self.resize));
        }
        if !matches!((self.mean.len(), self.std.len()), (1, 1) | (3, 3)) {
            return wrong(format!("{} means and {} deviations, not 1 or 3 each", self.mean.len(), self.std.len()));
        }
        if self.mean.iter().any(|m| !m.is_finite()) || !self.std.iter().all(|s| s.is_finite() && *s > 0.0) {
            return wrong(format!("mean {:?} or deviation {:?}", self.mean, self.std));
        }
        Ok(())
    }
}

/// Turns pictures into rows of a batch, one after the other. Each thread has its own.
pub struct Transform {
    preprocessing: Preprocessing,
    augment: Augment,
    resampler: Resampler,
    /// The normalised value of each byte, for each channel.
    table: Vec<[f32; 256]>,
}

impl Transform {
    /// How pictures are prepared.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// The given preprocessing, without any augmentation or with what `augment` says. Fails if a setting is out of
    /// its domain.
    pub fn new(preprocessing: &Preprocessing, augment: Option<&Augment>) -> Result<Self> {
        preprocessing.validate()?;
        let augment = augment.cloned().unwrap_or_default();
        augment.validate()?;
        let channels = preprocessing.mean.iter().zip(&preprocessing.std);
        let table = channels.map(|(mean, std)| std::array::from_fn(|v| (v as f32 / 255.0 - mean) / std)).collect();
        Ok(Transform {
            resampler: Resampler::new(preprocessing.interpolation),
            augment,
            table,
            preprocessing: preprocessing.clone(),
        })
    }

    /// Writes `picture` to `row`, `[crop, crop, channels]`. Only augmentation draws from `rng`. A grey picture is
    /// repeated for a coloured network, a coloured one turned to grey for a grey network.
    ///
    /// # Panics
    /// If `row` has another length than [`Preprocessing::row_len`].
    pub fn apply(&mut self, picture: &Picture, rng: &mut ChaCha8Rng, row: &mut [f32]) -> Result<()> {
        assert_eq!(row.len(), self.preprocessing.row_len(), "a row holds one preprocessed picture");
        let Preprocessing { resize, crop, .. } = self.preprocessing;
        let grey = if self.table.len() == 1 { Some(picture.to_grey()) } else { None };
        let picture = grey.as_ref().unwrap_or(picture);
        let square = match &self.augment.random_crop {
            Some(random) => {
                let window = random.draw(picture.width(), picture.height(), rng);
                self.resampler.resample(picture, window, crop, crop)?
            }
            None => self.resampler.centre(picture, resize, crop)?,
        };
        let square = match &self.augment.affine {
            Some(affine) => affine.draw(rng).apply(&square)?,
            None => square,
        };
        let placement = self.augment.draw(rng);
        self.write(&square, placement, row);
        Ok(())
    }

    fn write(&self, square: &Picture, placement: augment::Placement, row: &mut [f32]) {
        let (side, channels, stored) = (self.preprocessing.crop, self.table.len(), square.channels());
        for (y, line) in row.chunks_exact_mut(side * channels).enumerate() {
            for (x, out) in line.chunks_exact_mut(channels).enumerate() {
                // Outside of the picture is black, as in the usual pad-and-crop of bytes.
                let source = placement.source(x, y, side).map(|(x, y)| (y * side + x) * stored);
                for (c, (out, table)) in out.iter_mut().zip(&self.table).enumerate() {
                    *out = table[source.map_or(0, |at| square.pixels()[at + c.min(stored - 1)]) as usize];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
