//! Gradients of the input, the offsets and the masks.
//!
//! With d the product of dy and the weights transposed (the gradient of a sample after its mask), and the four pixels v
//! around a sample with shares s: dv += s · m · d, dm = Σ_c d · Σ s v, and dΔ follows from the pixels' differences,
//! dΔy = m Σ_c d · ((1 − fx)(v₁₀ − v₀₀) + fx (v₁₁ − v₀₁)).
//!
//! Many samples add to one pixel. So an image's output pixels are cut into parts, by shape alone; each part adds to a
//! copy of its own of the image's gradient, in the rows that its samples touch, and the parts are added up in order.

use std::ops::Range;

use super::field::{Field, OUTSIDE, Sample};
use super::{DeformConv2d, Deformed, Geometry};
use crate::ops::gemm::gather::Panels;
use crate::ops::gemm::{Matrix, Packed};
use crate::simd::{Kernel, Simd};
use crate::{Element, Result, Shape, Tensor, threads};

/// Parts of a batch, and the output pixels that make a part worth it.
const PARTS: usize = 8;
const PART_PIXELS: usize = 56;

/// The gradients of [`deform_conv2d`](super::deform_conv2d) with respect to all inputs but the weights.
#[derive(Debug, Clone)]
pub struct InputGradients<T: Element = f32> {
    /// Of the input.
    pub dx: Tensor<T>,
    /// Of the offsets. At a position on a pixel's centre, where interpolation has a kink, it is the slope towards the
    /// next pixel down or to the right.
    pub doffset: Tensor<T>,
    /// Of the masks, if there are any.
    pub dmask: Option<Tensor<T>>,
}

/// The gradients of [`deform_conv2d`](super::deform_conv2d) with respect to `x`, `offset` and `mask`, from the output's
/// gradient `dy`.
pub fn deform_conv2d_backward_input<T: Element>(
    dy: &Tensor<T>,
    x: &Tensor<T>,
    offset: &Tensor<T>,
    mask: Option<&Tensor<T>>,
    w: &Tensor<T>,
    attributes: &DeformConv2d,
) -> Result<InputGradients<T>> {
    let op = "deform_conv2d_backward_input";
    let g = Deformed::new(op, [x, offset], mask, w.shape(), attributes)?;
    g.conv.check_dy(op, dy)?;
    let zeros = |like: &Tensor<T>| Tensor::zeros(*like.shape());
    let mut gradients = InputGradients { dx: zeros(x), doffset: zeros(offset), dmask: mask.map(zeros) };
    if w.is_empty() || dy.is_empty() {
        return Ok(gradients);
    }
    let field = Field::new(&g, x, offset, mask);
    let weights = transposed(&g, w);
    let part_pixels = part_pixels(&g);
    let copies = g.pixels().div_ceil(part_pixels) - 1;
    let image = g.conv.x_shape()[1..].iter().product();
    let mut copies = Tensor::scratch(Shape::new(&[g.conv.batch, copies, image])?);
    let mut parts = parts(&g, part_pixels, &mut gradients, copies.data_mut());
    threads::for_each_chunk(&mut parts, 1, |_, parts| parts[0].run(&field, dy, &weights));
    let touched: Vec<Range<usize>> = parts.into_iter().map(|part| part.touched).collect();
    add_copies(&g, gradients.dx.data_mut(), copies.data(), &touched);
    Ok(gradients)
}

/// Output pixels of a part.
fn part_pixels(g: &Deformed) -> usize {
    let per_image = PARTS.div_ceil(g.conv.batch).min(g.pixels().div_ceil(PART_PIXELS));
    g.pixels().div_ceil(per_image)
}

/// The parts of all images in order. The first of an image adds to dx itself, each other one to a copy.
fn parts<'a, T: Element>(
    g: &Deformed,
    part_pixels: usize,
    gradients: &'a mut InputGradients<T>,
    copies: &'a mut [T],
) -> Vec<Part<'a, T>> {
    let image = g.conv.x_shape()[1..].iter().product();
    let samples = g.offset_groups * g.taps();
    let per_image = g.pixels().div_ceil(part_pixels);
    let InputGradients { dx, doffset, dmask } = gradients;
    let mut images = dx.data_mut().chunks_mut(image);
    let mut copies = copies.chunks_mut(image);
    let mut doffset = doffset.data_mut();
    let mut dmask = dmask.as_mut().map(Tensor::data_mut);
    let part = |i: usize| {
        let (n, part) = (i / per_image, i % per_image);
        let start = part * part_pixels;
        let count = part_pixels.min(g.pixels() - start);
        let (dx, touched) = if part == 0 { (images.next(), 0..g.conv.input[0]) } else { (copies.next(), 0..0) };
        Part {
            pixels: n * g.pixels() + start..n * g.pixels() + start + count,
            dx: dx.expect("as many images and copies as parts"),
            touched,
            doffset: take_front(&mut doffset, 2 * count * samples),
            dmask: dmask.as_mut().map(|dmask| take_front(dmask, count * samples)),
        }
    };
    (0..g.conv.batch * per_image).map(part).collect()
}

/// Cuts `count` elements off the front of `rest`.
fn take_front<'a, T>(rest: &mut &'a mut [T], count: usize) -> &'a mut [T] {
    let (front, back) = std::mem::take(rest).split_at_mut(count);
    *rest = back;
    front
}

/// The weights of each tap transposed: B[g, co, ci].
fn transposed<T: Element>(g: &Deformed, w: &Tensor<T>) -> Vec<Packed<T>> {
    let [cin, cout] = g.conv.group();
    let at = Matrix { group: cout, tap: cin * g.conv.out_channels, row: 1, column: g.conv.out_channels };
    (0..g.taps()).map(|tap| Packed::new(w.data(), at, g.conv.groups, &[tap], cout, cin)).collect()
}

/// Adds the parts' copies to the images that their first parts have made.
fn add_copies<T: Element>(g: &Deformed, dx: &mut [T], copies: &[T], touched: &[Range<usize>]) {
    let [batch, height, width, channels] = g.conv.x_shape();
    let per_image = touched.len() / batch;
    let row = width * channels;
    threads::for_each_chunk(dx, row, |i, dx| {
        let (n, y) = (i / height, i % height);
        for part in 1..per_image {
            if touched[n * per_image + part].contains(&y) {
                let copy = &copies[((n * (per_image - 1) + part - 1) * height + y) * row..][..row];
                dx.iter_mut().zip(copy).for_each(|(total, &share)| *total += share);
            }
        }
    });
}

/// Some output pixels of one image, and where their gradients go.
struct Part<'a, T> {
    pixels: Range<usize>,
    /// The image's gradient, of which the rows `touched` are zeroed or summed already.
    dx: &'a mut [T],
    touched: Range<usize>,
    doffset: &'a mut [T],
    dmask: Option<&'a mut [T]>,
}

impl<T: Element> Part<'_, T> {
    fn run(&mut self, field: &Field<'_, T>, dy: &Tensor<T>, weights: &[Packed<T>]) {
        let g = field.geometry;
        let columns = g.taps() * g.conv.in_channels;
        let rows = Deformed::block_rows::<T>(self.pixels.len(), columns);
        let mut d = Tensor::scratch([rows, columns]);
        for start in self.pixels.clone().step_by(rows) {
            let pixels = start..self.pixels.end.min(start + rows);
            let cout = g.conv.out_channels;
            multiply(g, &dy.data()[start * cout..pixels.end * cout], weights, d.data_mut());
            T::deform_scatter(Scatter { field, pixels, d: d.data(), part: self });
        }
    }
}

/// Fills `d` `[rows, taps, Cin]` with the products of rows of dy and the transposed weights.
fn multiply<T: Element>(g: &Deformed, dy: &[T], weights: &[Packed<T>], d: &mut [T]) {
    let Geometry { in_channels, out_channels, groups, .. } = g.conv;
    let [cin, cout] = g.conv.group();
    let columns = g.taps() * in_channels;
    let rows = dy.len() / out_channels;
    assert!(d.len() >= rows * columns);
    let targets: Vec<usize> = (0..rows).map(|row| row * columns).collect();
    for group in 0..groups {
        let sources: Vec<*const T> = (0..rows).map(|row| dy[row * out_channels + group * cout..].as_ptr()).collect();
        for (tap, weights) in weights.iter().enumerate() {
            let panels = Panels {
                sources: &sources,
                targets: &targets,
                taps: 1,
                k: cout,
                apart: out_channels,
                b: weights,
                group,
                panels: 0..weights.panels(),
                next: 0,
                out: d.as_mut_ptr(),
                column: tap * in_channels + group * cin,
                onto: false,
                finish: None,
                gate: None,
            };
            // SAFETY: each source is a group's `cout` channels of a row of dy, each target a row of `d`, which is
            // borrowed mutably.
            unsafe { panels.run() }
        }
    }
}

/// Takes the gradients `d` `[pixels, taps, Cin]` of samples to pixels, offsets and masks.
pub struct Scatter<'a, 'b, T> {
    field: &'a Field<'a, T>,
    pixels: Range<usize>,
    d: &'a [T],
    part: &'a mut Part<'b, T>,
}

impl<T: Element> Kernel<T> for Scatter<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Scatter { field, pixels, d, part } = self;
        let (channels, in_channels) = (field.channels(), field.geometry.conv.in_channels);
        let taps = field.geometry.taps();
        let first = field.index(part.pixels.start, 0, 0);
        let image = part.pixels.start / field.geometry.pixels() * part.dx.len();
        // Where the shares of pixels outside of the image go.
        let mut nowhere = vec![T::ZERO; channels];
        for (i, pixel) in pixels.enumerate() {
            let origin = field.origin(pixel);
            for group in 0..field.geometry.offset_groups {
                for tap in 0..taps {
                    let sample = field.sample(pixel, origin, group, tap);
                    if sample.is_outside() {
                        continue;
                    }
                    part.touch(field, &sample, image);
                    let mut to = [nowhere.as_mut_ptr(); 4];
                    for (to, &corner) in to.iter_mut().zip(&sample.corners) {
                        if corner != OUTSIDE {
                            *to = part.dx[corner - image..corner - image + channels].as_mut_ptr();
                        }
                    }
                    let start = (i * taps + tap) * in_channels + group * channels;
                    let d = &d[start..start + channels];
                    // SAFETY: `to` are pixels' channels of this part's own dx, or `nowhere`, as many as `d` has.
                    let slopes = unsafe { scatter(simd, field, &sample, d, to) };
                    let index = field.index(pixel, group, tap) - first;
                    part.doffset[2 * index] = slopes.offset[0];
                    part.doffset[2 * index + 1] = slopes.offset[1];
                    if let Some(dmask) = &mut part.dmask {
                        dmask[index] = slopes.mask;
                    }
                }
            }
        }
    }
}

impl<T: Element> Part<'_, T> {
    /// Zeroes the rows of the copy that a sample is the first to touch.
    #[inline(always)]
    fn touch(&mut self, field: &Field<'_, T>, sample: &Sample<T>, image: usize) {
        let row = field.geometry.conv.input[1] * field.geometry.conv.in_channels;
        for corner in 0..4 {
            let at = sample.corners[corner];
            if at == OUTSIDE {
                continue;
            }
            let at = at - image;
            if at < self.touched.start * row || at >= self.touched.end * row {
                self.extend(at / row, row);
            }
        }
    }

    #[cold]
    fn extend(&mut self, y: usize, row: usize) {
        let Range { start, end } = self.touched.clone();
        self.touched = if start == end { y..y + 1 } else { start.min(y)..end.max(y + 1) };
        if start == end {
            self.dx[y * row..(y + 1) * row].fill(T::ZERO);
        } else {
            self.dx[self.touched.start * row..start * row].fill(T::ZERO);
            self.dx[end * row..self.touched.end * row].fill(T::ZERO);
        }
    }
}

struct Slopes<T> {
    offset: [T; 2],
    mask: T,
}

/// Adds the shares of `d` to the four pixels' gradients `to`; returns the gradients of the sample's offset and mask.
///
/// # Safety
/// `to` must point to as many writable elements as `d` has, which nobody else accesses.
#[inline(always)]
unsafe fn scatter<T: Element, S: Simd<T>>(
    simd: S,
    field: &Field<'_, T>,
    sample: &Sample<T>,
    d: &[T],
    to: [*mut T; 4],
) -> Slopes<T> {
    let pixels = field.pixels(sample);
    let weights = sample.weights();
    let mut shares = [simd.splat(T::ZERO); 4];
    for corner in 0..4 {
        shares[corner] = simd.splat(weights[corner] * sample.mask);
    }
    // Σ d · v of each pixel.
    let mut sums = [simd.splat(T::ZERO); 4];
    let whole = d.len() / S::LANES * S::LANES;
    // SAFETY: all rows have as many channels as `d`; whole registers end before `whole`, and what is left is less than
    // one. A row that stands in `to` twice is `nowhere`, whose content is of no matter.
    unsafe {
        let mut c = 0;
        while c < whole {
            let d = simd.load_ptr(d.as_ptr().add(c));
            for corner in 0..4 {
                sums[corner] = simd.mul_add(d, simd.load_ptr(pixels[corner].add(c)), sums[corner]);
                let to = to[corner].add(c);
                simd.store_ptr(simd.mul_add(d, shares[corner], simd.load_ptr(to)), to);
            }
            c += S::LANES;
        }
        if c < d.len() {
            let n = d.len() - c;
            let d = simd.load_partial_ptr(d.as_ptr().add(c), n);
            for corner in 0..4 {
                sums[corner] = simd.mul_add(d, simd.load_partial_ptr(pixels[corner].add(c), n), sums[corner]);
                let to = to[corner].add(c);
                simd.store_partial_ptr(simd.mul_add(d, shares[corner], simd.load_partial_ptr(to, n)), to, n);
            }
        }
    }
    let [y, x] = [simd.splat(sample.fraction[0]), simd.splat(sample.fraction[1])];
    let (top, bottom) = (simd.sub(sums[1], sums[0]), simd.sub(sums[3], sums[2]));
    let (left, right) = (simd.sub(sums[2], sums[0]), simd.sub(sums[3], sums[1]));
    let down = simd.mul_add(x, simd.sub(right, left), left);
    let rightwards = simd.mul_add(y, simd.sub(bottom, top), top);
    // v₀₀ + fx (v₀₁ − v₀₀) + fy · down
    let value = simd.mul_add(y, down, simd.mul_add(x, top, sums[0]));
    Slopes {
        offset: [simd.reduce_add(down) * sample.mask, simd.reduce_add(rightwards) * sample.mask],
        mask: simd.reduce_add(value),
    }
}
