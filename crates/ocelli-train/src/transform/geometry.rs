//! Resizing, and cropping the centre, with the conventions of PIL and torchvision.

use std::fmt::Display;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use super::Interpolation;
use crate::{Error, Picture, Result};

/// A part of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

/// A resizer with its buffers.
pub(super) struct Resampler {
    resizer: Resizer,
    algorithm: ResizeAlg,
}

impl Resampler {
    pub fn new(interpolation: Interpolation) -> Self {
        let filter = match interpolation {
            Interpolation::Bilinear => FilterType::Bilinear,
            Interpolation::Bicubic => FilterType::CatmullRom,
        };
        Resampler { resizer: Resizer::new(), algorithm: ResizeAlg::Convolution(filter) }
    }

    /// `window` of the picture, resized to `width` × `height`.
    pub fn resample(&mut self, picture: &Picture, window: Window, width: usize, height: usize) -> Result<Picture> {
        let whole = Window { left: 0, top: 0, width: picture.width(), height: picture.height() };
        if window == whole && (width, height) == (whole.width, whole.height) {
            return Ok(picture.clone());
        }
        if (width, height) == (window.width, window.height) {
            return cut(picture, window);
        }
        let options = ResizeOptions::new().resize_alg(self.algorithm).crop(
            window.left as f64,
            window.top as f64,
            window.width as f64,
            window.height as f64,
        );
        let source = (picture.pixels(), [picture.width(), picture.height()]);
        let target = match picture.channels() {
            1 => resize::<U8>(&mut self.resizer, source, [width, height], &options)?,
            _ => resize::<U8x3>(&mut self.resizer, source, [width, height], &options)?,
        };
        Picture::new(width, height, picture.channels(), target)
    }

    /// Resizes the shorter side to `side`, then cuts out the central `crop` × `crop` pixels.
    pub fn centre(&mut self, picture: &Picture, side: usize, crop: usize) -> Result<Picture> {
        // A panorama of a thousand to one would be resized to far more pixels than are kept. What is cut off here is
        // farther from the centre than any kernel reaches.
        let part = central(picture, 16);
        let (width, height) = shorter_side(part.width, part.height, side);
        let resized = self.resample(picture, part, width, height)?;
        cut(&resized, Window { left: centred(width, crop), top: centred(height, crop), width: crop, height: crop })
    }
}

/// Pixels of one kind, resized to a `[width, height]`. (The library's resizing of images whose kind is a value would bring
/// in its code for every kind.)
fn resize<P: PixelTrait>(
    resizer: &mut Resizer,
    (pixels, [width, height]): (&[u8], [usize; 2]),
    target: [usize; 2],
    options: &ResizeOptions,
) -> Result<Vec<u8>> {
    let failed = |error: &dyn Display| Error::image("resize", error);
    let source = TypedImageRef::<P>::from_buffer(width as u32, height as u32, pixels).map_err(|e| failed(&e))?;
    let mut bytes = vec![0; target[0] * target[1] * P::size()];
    let mut view = TypedImage::<P>::from_buffer(target[0] as u32, target[1] as u32, &mut bytes);
    let view = view.as_mut().map_err(|e| failed(&*e))?;
    resizer.resize_typed(&source, view, options).map_err(|e| failed(&e))?;
    Ok(bytes)
}

/// The size at which the shorter side is `side`; the longer one is rounded down, as torchvision does.
fn shorter_side(width: usize, height: usize, side: usize) -> (usize, usize) {
    if width <= height { (side, side * height / width) } else { (side * width / height, side) }
}

/// The start of the central `crop` of `length`; halves are rounded to even, as Python does for torchvision.
fn centred(length: usize, crop: usize) -> usize {
    ((length - crop) as f64 / 2.0).round_ties_even() as usize
}

/// The central part of a picture in which no side is more than `ratio` times the other.
fn central(picture: &Picture, ratio: usize) -> Window {
    let (width, height) = (picture.width(), picture.height());
    let (w, h) = (width.min(height * ratio), height.min(width * ratio));
    Window { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
}

fn cut(picture: &Picture, window: Window) -> Result<Picture> {
    let (stride, channels) = (picture.width() * picture.channels(), picture.channels());
    let rows = picture.pixels().chunks_exact(stride).skip(window.top).take(window.height);
    let columns = window.left * channels..(window.left + window.width) * channels;
    let pixels = rows.flat_map(|row| &row[columns.clone()]).copied().collect();
    Picture::new(window.width, window.height, channels, pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_torchvision() {
        assert_eq!(shorter_side(451, 300, 256), (384, 256));
        assert_eq!(shorter_side(300, 451, 256), (256, 384));
        assert_eq!(shorter_side(512, 512, 256), (256, 256));
        assert_eq!([centred(384, 224), centred(257, 224), centred(259, 224), centred(224, 224)], [80, 16, 18, 0]);
    }

    #[test]
    fn a_flat_picture_stays_flat_and_a_ramp_a_ramp() {
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
            let mut resampler = Resampler::new(interpolation);
            let flat = Picture::new(50, 20, 3, [9, 99, 199].repeat(1000)).unwrap();
            let square = resampler.centre(&flat, 16, 14).unwrap();
            assert_eq!((square.width(), square.height()), (14, 14));
            assert!(square.pixels().chunks_exact(3).all(|p| p == [9, 99, 199]));

            let ramp = Picture::new(200, 40, 1, (0..8000).map(|i| (i % 200) as u8).collect()).unwrap();
            let half = resampler.centre(&ramp, 20, 20).unwrap();
            for (x, &value) in half.pixels()[..20].iter().enumerate() {
                assert!(value.abs_diff((2 * (x + 40)) as u8) <= 1, "{x}: {value}");
            }
        }
    }

    #[test]
    fn a_panorama_is_cut_before_it_is_resized() {
        let mut resampler = Resampler::new(Interpolation::Bilinear);
        let thin = Picture::new(30_000, 1, 1, vec![7; 30_000]).unwrap();
        let square = resampler.centre(&thin, 256, 224).unwrap();
        assert_eq!((square.width(), square.height()), (224, 224));
    }
}
