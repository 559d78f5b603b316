//! Where the taps read: the positions of samples, the pixels around them, and gathering them to rows.

use std::ops::Range;

use super::Deformed;
use crate::memory::Scratch;
use crate::simd::{Kernel, Simd};
use crate::{Element, Tensor};

/// No pixel: outside of the image.
pub(super) const OUTSIDE: usize = usize::MAX;

/// An input with the offsets and masks that displace its sampling.
pub(super) struct Field<'a, T> {
    pub geometry: &'a Deformed,
    pub x: &'a [T],
    offset: &'a [T],
    mask: Option<&'a [T]>,
    /// What the taps add to an output pixel's origin, undisplaced: y, x.
    taps: Scratch<[f64; 2]>,
    /// What a pixel outside of the image holds: the channels of an offset group.
    pub zeros: Scratch<T>,
}

/// An output pixel's image, and where its first tap would be in it without padding and offset: y, x.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    image: usize,
    at: [f64; 2],
}

/// One bilinear sample of an offset group's channels.
#[derive(Clone, Copy)]
pub(super) struct Sample<T> {
    /// Where the channels of the four pixels around the position begin in x, or [`OUTSIDE`]: top left, top right,
    /// bottom left, bottom right.
    pub corners: [usize; 4],
    /// The position's distance from the top left: y, x.
    pub fraction: [T; 2],
    /// 1 in version 1.
    pub mask: T,
}

impl<T: Element> Sample<T> {
    #[inline(always)]
    pub fn is_outside(&self) -> bool {
        self.corners[0] & self.corners[1] & self.corners[2] & self.corners[3] == OUTSIDE
    }

    /// The corners' shares, without the mask.
    #[inline(always)]
    pub fn weights(&self) -> [T; 4] {
        let [y, x] = self.fraction;
        let (above, left) = (T::ONE - y, T::ONE - x);
        [above * left, above * x, y * left, y * x]
    }
}

impl<'a, T: Element> Field<'a, T> {
    pub fn new(geometry: &'a Deformed, x: &'a Tensor<T>, offset: &'a Tensor<T>, mask: Option<&'a Tensor<T>>) -> Self {
        let window = geometry.conv.window;
        let [_, kw] = window.kernel_size;
        let mut taps = Scratch::new(window.taps());
        for (t, tap) in taps.iter_mut().enumerate() {
            *tap = [t / kw * window.dilation[0], t % kw * window.dilation[1]].map(|at| at as f64);
        }
        Field {
            geometry,
            x: x.data(),
            offset: offset.data(),
            mask: mask.map(Tensor::data),
            taps,
            zeros: Scratch::zeros(geometry.conv.in_channels / geometry.offset_groups),
        }
    }

    /// The channels of an offset group.
    #[inline(always)]
    pub fn channels(&self) -> usize {
        self.zeros.len()
    }

    /// The origin of output pixel `pixel`, counted over all images.
    #[inline(always)]
    pub fn origin(&self, pixel: usize) -> Origin {
        let conv = &self.geometry.conv;
        let [height, width] = conv.output;
        let (image, y, x) = (pixel / (height * width), pixel / width % height, pixel % width);
        let padding = conv.window.padding;
        let y = (y * conv.window.stride[0]) as f64 - padding.top as f64;
        let x = (x * conv.window.stride[1]) as f64 - padding.left as f64;
        Origin { image, at: [y, x] }
    }

    /// The index of a sample among all: pixel by pixel, group by group, tap by tap.
    #[inline(always)]
    pub fn index(&self, pixel: usize, group: usize, tap: usize) -> usize {
        (pixel * self.geometry.offset_groups + group) * self.taps.len() + tap
    }

    /// The sample of an output pixel at a tap. It is outside if no pixel of the image is less than a pixel away; a
    /// position that is no number makes the sample none.
    #[inline(always)]
    pub fn sample(&self, pixel: usize, origin: Origin, group: usize, tap: usize) -> Sample<T> {
        let conv = &self.geometry.conv;
        let [height, width] = conv.input;
        let index = self.index(pixel, group, tap);
        let y = origin.at[0] + self.taps[tap][0] + self.offset[2 * index].to_f64();
        let x = origin.at[1] + self.taps[tap][1] + self.offset[2 * index + 1].to_f64();
        let mut sample = Sample { corners: [OUTSIDE; 4], fraction: [T::ZERO; 2], mask: T::ZERO };
        // At −1 a sample is 0, but moving it into the image has a gradient.
        if y < -1.0 || x < -1.0 || y >= height as f64 || x >= width as f64 {
            return sample;
        }
        let (top, left) = (floor(y), floor(x));
        sample.fraction = [T::from_f64(y - f64::from(top)), T::from_f64(x - f64::from(left))];
        sample.mask = match self.mask {
            Some(mask) => mask[index],
            None => T::ONE,
        };
        // −1 wraps to a huge number, so one comparison checks both ends.
        let (y, x) = ([top as usize, (top + 1) as usize], [left as usize, (left + 1) as usize]);
        for corner in 0..4 {
            let (y, x) = (y[corner / 2], x[corner % 2]);
            if y < height && x < width {
                let pixel = (origin.image * height + y) * width + x;
                sample.corners[corner] = pixel * conv.in_channels + group * self.zeros.len();
            }
        }
        sample
    }

    /// The four pixels of a sample.
    #[inline(always)]
    pub fn pixels(&self, sample: &Sample<T>) -> [*const T; 4] {
        let mut pixels = [self.zeros.as_ptr(); 4];
        for (pixel, &corner) in pixels.iter_mut().zip(&sample.corners) {
            if corner != OUTSIDE {
                *pixel = self.x[corner..corner + self.zeros.len()].as_ptr();
            }
        }
        pixels
    }

    /// Fills `rows` `[pixels, taps, Cin]` with the samples at some taps of some output pixels, masks included.
    pub fn gather(&self, pixels: Range<usize>, taps: Range<usize>, rows: &mut [T]) {
        assert_eq!(rows.len(), pixels.len() * taps.len() * self.geometry.conv.in_channels);
        T::deform_gather(Gather { field: self, pixels, taps, rows });
    }
}

/// ⌊x⌋ of a number from −1 on, and 0 of none.
#[inline(always)]
fn floor(x: f64) -> i32 {
    let whole = x as i32;
    whole - i32::from(f64::from(whole) > x)
}

pub struct Gather<'a, T> {
    field: &'a Field<'a, T>,
    pixels: Range<usize>,
    taps: Range<usize>,
    rows: &'a mut [T],
}

impl<T: Element> Kernel<T> for Gather<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Gather { field, pixels, taps, rows } = self;
        let (channels, in_channels) = (field.channels(), field.geometry.conv.in_channels);
        for (i, pixel) in pixels.enumerate() {
            let origin = field.origin(pixel);
            for group in 0..field.geometry.offset_groups {
                for tap in taps.clone() {
                    let sample = field.sample(pixel, origin, group, tap);
                    let start = (i * taps.len() + tap - taps.start) * in_channels + group * channels;
                    let row = &mut rows[start..start + channels];
                    if sample.is_outside() {
                        row.fill(T::ZERO);
                    } else {
                        interpolate(simd, field, &sample, row);
                    }
                }
            }
        }
    }
}

/// Writes a sample, times its mask.
#[inline(always)]
fn interpolate<T: Element, S: Simd<T>>(simd: S, field: &Field<'_, T>, sample: &Sample<T>, row: &mut [T]) {
    let pixels = field.pixels(sample);
    let shares = sample.weights();
    let mut weights = [simd.splat(T::ZERO); 4];
    for (weight, &share) in weights.iter_mut().zip(&shares) {
        *weight = simd.splat(share * sample.mask);
    }
    let whole = row.len() / S::LANES * S::LANES;
    let row_ptr = row.as_mut_ptr();
    // SAFETY: the pixels have an offset group's channels each, as many as `row`; whole registers end before `whole`,
    // and what is left is less than one.
    unsafe {
        let mut c = 0;
        while c < whole {
            let top = simd.mul(simd.load_ptr(pixels[0].add(c)), weights[0]);
            let bottom = simd.mul(simd.load_ptr(pixels[2].add(c)), weights[2]);
            let top = simd.mul_add(simd.load_ptr(pixels[1].add(c)), weights[1], top);
            let bottom = simd.mul_add(simd.load_ptr(pixels[3].add(c)), weights[3], bottom);
            simd.store_ptr(simd.add(top, bottom), row_ptr.add(c));
            c += S::LANES;
        }
        if c < row.len() {
            let n = row.len() - c;
            let mut sum = simd.splat(T::ZERO);
            for (pixel, &weight) in pixels.iter().zip(&weights) {
                sum = simd.mul_add(simd.load_partial_ptr(pixel.add(c), n), weight, sum);
            }
            simd.store_partial_ptr(sum, row_ptr.add(c), n);
        }
    }
}
