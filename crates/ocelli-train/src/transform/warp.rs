//! Affine distortions: turned, slanted, stretched; interpolated bilinearly, black outside.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{Error, Picture, Result};

/// The largest affine distortions about the centre. Each picture draws its own, evenly in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Affine {
    /// Turned by up to this angle, in degrees.
    pub rotation: f64,
    /// Slanted by up to this angle, in degrees.
    pub shear: f64,
    /// Width and height, each by itself, are multiplied or divided by up to 1 + `scale`.
    pub scale: f64,
}

impl Affine {
    pub(super) fn validate(&self) -> Result<()> {
        let Affine { rotation, shear, scale } = *self;
        if !(0.0..=180.0).contains(&rotation) || !(0.0..=60.0).contains(&shear) || !(0.0..=3.0).contains(&scale) {
            return Err(Error::setting("affine augmentation", format!("{self:?}")));
        }
        Ok(())
    }

    /// Draws a distortion.
    pub(super) fn draw(&self, rng: &mut ChaCha8Rng) -> Warp {
        let mut even = |limit: f64| limit * rng.random_range(-1.0..=1.0);
        let (sin, cos) = even(self.rotation.to_radians()).sin_cos();
        let slant = even(self.shear.to_radians()).tan();
        let (wide, high) = (even(self.scale.ln_1p()).exp(), even(self.scale.ln_1p()).exp());
        // Rotation · shear · scaling.
        Warp([[cos * wide, (cos * slant - sin) * high], [sin * wide, (sin * slant + cos) * high]])
    }
}

/// A matrix from places in the result to places in the source, both relative to the centre: (x, y) as a column.
pub(super) struct Warp([[f64; 2]; 2]);

impl Warp {
    /// The distorted picture, of the same size.
    pub fn apply(&self, picture: &Picture) -> Result<Picture> {
        let (width, height, channels) = (picture.width(), picture.height(), picture.channels());
        let (cx, cy) = ((width - 1) as f64 / 2.0, (height - 1) as f64 / 2.0);
        let Warp([[xx, xy], [yx, yy]]) = *self;
        let mut pixels = Vec::with_capacity(picture.pixels().len());
        for row in 0..height {
            for column in 0..width {
                let (x, y) = (column as f64 - cx, row as f64 - cy);
                let corner = Corner::at(cx + xx * x + xy * y, cy + yx * x + yy * y);
                pixels.extend((0..channels).map(|channel| corner.sample(picture, channel)));
            }
        }
        Picture::new(width, height, channels, pixels)
    }
}

/// The pixel above and left of a place, and how far the place lies beyond it.
struct Corner {
    left: isize,
    top: isize,
    right_weight: f64,
    bottom_weight: f64,
}

impl Corner {
    fn at(x: f64, y: f64) -> Self {
        let (left, top) = (x.floor(), y.floor());
        Corner { left: left as isize, top: top as isize, right_weight: x - left, bottom_weight: y - top }
    }

    fn sample(&self, picture: &Picture, channel: usize) -> u8 {
        let pixel = |dx: isize, dy: isize| {
            let (x, y) = (self.left + dx, self.top + dy);
            let inside = (0..picture.width() as isize).contains(&x) && (0..picture.height() as isize).contains(&y);
            let at = (y * picture.width() as isize + x) * picture.channels() as isize + channel as isize;
            if inside { picture.pixels()[at as usize] as f64 } else { 0.0 }
        };
        let row = |dy| pixel(0, dy) * (1.0 - self.right_weight) + pixel(1, dy) * self.right_weight;
        (row(0) * (1.0 - self.bottom_weight) + row(1) * self.bottom_weight).round() as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};

    fn picture() -> Picture {
        Picture::new(5, 4, 3, (0..60).map(|i| (i * 4) as u8).collect()).unwrap()
    }

    #[test]
    fn no_distortion_is_the_identity() {
        let still = Affine { rotation: 0.0, shear: 0.0, scale: 0.0 };
        let warp = still.draw(&mut stream(1, Purpose::Augment, 0, 0));
        assert_eq!(warp.apply(&picture()).unwrap(), picture());
    }

    #[test]
    fn a_half_turn_reverses_the_pixels_and_a_shrunk_picture_has_a_black_border() {
        let turned = Warp([[-1.0, 0.0], [0.0, -1.0]]).apply(&picture()).unwrap();
        assert!(turned.pixels().chunks_exact(3).eq(picture().pixels().chunks_exact(3).rev()));

        let white = Picture::new(8, 8, 1, vec![255; 64]).unwrap();
        let half = Warp([[2.0, 0.0], [0.0, 2.0]]).apply(&white).unwrap();
        let lit: Vec<usize> = (0..64).filter(|&i| half.pixels()[i] > 0).collect();
        assert_eq!(lit, (2..6).flat_map(|y| (2..6).map(move |x| y * 8 + x)).collect::<Vec<_>>());
    }

    #[test]
    fn wrong_settings_are_errors() {
        for (rotation, shear, scale) in [(-1.0, 0.0, 0.0), (0.0, 90.0, 0.0), (0.0, 0.0, f64::NAN)] {
            assert!(Affine { rotation, shear, scale }.validate().is_err());
        }
    }
}
