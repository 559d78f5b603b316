//! Random variations of the training pictures.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Affine;
use super::geometry::Window;
use crate::{Error, Result};

/// Which variations training draws from. The default is none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Augment {
    /// A random part of the picture, resized to the crop, in place of the centre.
    pub random_crop: Option<RandomResizedCrop>,
    /// Whether every second picture is mirrored, left to right.
    pub flip: bool,
    /// Turned, slanted and stretched, what comes in is black.
    #[serde(default)]
    pub affine: Option<Affine>,
    /// How far a picture is shifted at most, in pixels, in both directions; what comes in is black (the usual
    /// pad-and-crop of small pictures).
    pub shift: usize,
}

impl Augment {
    /// For photographs: random crops and flips.
    pub fn photos() -> Self {
        Augment { random_crop: Some(RandomResizedCrop::default()), flip: true, ..Augment::default() }
    }

    /// For handwritten digits: written a little larger, more upright or elsewhere. A mirrored digit would be another
    /// character.
    pub fn digits() -> Self {
        let affine = Some(Affine { rotation: 15.0, shear: 15.0, scale: 0.2 });
        Augment { affine, shift: 2, ..Augment::default() }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        self.affine.as_ref().map_or(Ok(()), Affine::validate)?;
        self.random_crop.as_ref().map_or(Ok(()), RandomResizedCrop::validate)
    }

    /// Draws how a square is placed in the input.
    pub(super) fn draw(&self, rng: &mut ChaCha8Rng) -> Placement {
        let shift = self.shift as isize;
        let mut offset = || if shift == 0 { 0 } else { rng.random_range(-shift as i32..=shift as i32) as isize };
        let (right, down) = (offset(), offset());
        Placement { right, down, flip: self.flip && rng.random() }
    }
}

/// A part of the picture of a random size and ratio of sides (Szegedy et al., "Going deeper with convolutions",
/// 2015), drawn as torchvision does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RandomResizedCrop {
    /// The smallest and largest share of the picture's area.
    pub scale: (f64, f64),
    /// The smallest and largest ratio of width to height.
    pub ratio: (f64, f64),
}

impl Default for RandomResizedCrop {
    fn default() -> Self {
        RandomResizedCrop { scale: (0.25, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0) }
    }
}

impl RandomResizedCrop {
    fn validate(&self) -> Result<()> {
        let ordered = |(low, high): (f64, f64)| low > 0.0 && low <= high && high.is_finite();
        if !ordered(self.scale) || self.scale.1 > 1.0 || !ordered(self.ratio) {
            return Err(Error::setting("random crop", format!("scale {:?}, ratio {:?}", self.scale, self.ratio)));
        }
        Ok(())
    }

    /// Draws a part of a `width` × `height` picture.
    pub(super) fn draw(&self, width: usize, height: usize, rng: &mut ChaCha8Rng) -> Window {
        let area = (width * height) as f64;
        let log_ratio = (self.ratio.0.ln(), self.ratio.1.ln());
        for _ in 0..10 {
            let target = area * rng.random_range(self.scale.0..=self.scale.1);
            let ratio = rng.random_range(log_ratio.0..=log_ratio.1).exp();
            let w = (target * ratio).sqrt().round() as usize;
            let h = (target / ratio).sqrt().round() as usize;
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let left = rng.random_range(0..=(width - w) as u64) as usize;
                let top = rng.random_range(0..=(height - h) as u64) as usize;
                return Window { left, top, width: w, height: h };
            }
        }
        // No such part fits (a very long picture): the largest central one whose ratio is allowed.
        let ratio = (width as f64 / height as f64).clamp(self.ratio.0, self.ratio.1);
        let w = ((height as f64 * ratio).round() as usize).clamp(1, width);
        let h = ((width as f64 / ratio).round() as usize).clamp(1, height);
        Window { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
    }
}

/// Where a square's pixels go: shifted, then mirrored.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Placement {
    pub right: isize,
    pub down: isize,
    pub flip: bool,
}

impl Placement {
    /// The pixel of the square that lands at (x, y), if any.
    pub fn source(&self, x: usize, y: usize, side: usize) -> Option<(usize, usize)> {
        let x = if self.flip { side - 1 - x } else { x };
        let x = x.checked_add_signed(-self.right)?;
        let y = y.checked_add_signed(-self.down)?;
        (x < side && y < side).then_some((x, y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};

    #[test]
    fn crops_stay_inside_and_vary() {
        let crop = RandomResizedCrop::default();
        for (width, height) in [(1, 1), (1, 500), (300, 200), (20, 4000)] {
            let mut rng = stream(1, Purpose::Augment, 0, 0);
            let drawn: Vec<_> = (0..200).map(|_| crop.draw(width, height, &mut rng)).collect();
            for w in &drawn {
                assert!(
                    w.width > 0 && w.height > 0 && w.left + w.width <= width && w.top + w.height <= height,
                    "{w:?}"
                );
            }
            if width == 300 {
                let share = |w: &Window| (w.width * w.height) as f64 / 60_000.0;
                assert!(drawn.iter().any(|w| share(w) < 0.35) && drawn.iter().any(|w| share(w) > 0.8));
                assert!(drawn.iter().all(|w| (0.24..=1.0).contains(&share(w))));
            }
        }
    }

    #[test]
    fn placements_shift_and_flip() {
        let placed = Placement { right: 1, down: -1, flip: false };
        assert_eq!(
            (placed.source(0, 0, 3), placed.source(1, 0, 3), placed.source(1, 2, 3)),
            (None, Some((0, 1)), None)
        );
        let flipped = Placement { flip: true, ..Placement::default() };
        assert_eq!(flipped.source(0, 1, 3), Some((2, 1)));
    }

    #[test]
    fn settings_out_of_their_domain_are_errors() {
        for (scale, ratio) in
            [((0.0, 1.0), (1.0, 1.0)), ((0.5, 0.4), (1.0, 1.0)), ((0.5, 1.1), (1.0, 1.0)), ((0.5, 1.0), (0.0, 1.0))]
        {
            let augment = Augment { random_crop: Some(RandomResizedCrop { scale, ratio }), ..Augment::default() };
            assert!(augment.validate().is_err(), "{scale:?} {ratio:?}");
        }
    }
}
