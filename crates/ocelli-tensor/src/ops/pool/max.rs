//! Maximum pooling, with PyTorch's rules: padding never wins, the first of equal values does, and NaN beats all.

// Lanes and registers are named by their place.
#![allow(clippy::needless_range_loop)]

mod backward;

use std::ops::Range;

use backward::unpool;

use super::{Geometry, Tap, Taps, index};
use crate::memory::Buffer;
use crate::ops::pointwise::{fetch, load, store};
use crate::ops::window::Window;
use crate::simd::{self, Kernel, Simd};
use crate::{Element, Error, Result, Shape, Tensor, threads};

/// Which tap of its window each output of [`max_pool2d`] is: one byte an element up to 256 taps, two beyond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argmax {
    shape: Shape,
    ceil_mode: bool,
    taps: Indices,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Indices {
    Bytes(Buffer<u8>),
    Words(Buffer<u16>),
}

impl Argmax {
    /// The output's shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The bytes that it occupies.
    pub fn bytes(&self) -> usize {
        match &self.taps {
            Indices::Bytes(taps) => taps.len(),
            Indices::Words(taps) => 2 * taps.len(),
        }
    }
}

/// The maximum over every window: x `[N, H, W, C]` to `[N, OH, OW, C]`, and where it was. With `ceil_mode`, output sizes
/// are rounded up ([`Window::output_size_ceil`]).
///
/// Errors if x is not of rank 4, if the window does not fit, if an edge is padded by more than half of the window, or
/// if the window has more than 65536 taps.
pub fn max_pool2d<T: Element>(x: &Tensor<T>, window: &Window, ceil_mode: bool) -> Result<(Tensor<T>, Argmax)> {
    let geometry = Geometry::new("max_pool2d", "input", x.shape(), window, ceil_mode)?;
    let shape = geometry.output_shape();
    let mut y = Tensor::default();
    let taps = match window.taps() {
        n if n <= 1 << 8 => {
            let mut taps = Buffer::scratch(shape.len());
            pool::<T, u8>(x, geometry, &mut y, &mut taps);
            Indices::Bytes(taps)
        }
        n if n <= 1 << 16 => {
            let mut taps = Buffer::scratch(shape.len());
            pool::<T, u16>(x, geometry, &mut y, &mut taps);
            Indices::Words(taps)
        }
        n => return Err(Error::argument("max_pool2d", "kernel_size", "of at most 65536 taps", n)),
    };
    Ok((y, Argmax { shape, ceil_mode, taps }))
}

/// [`max_pool2d`] without the places, for inference.
pub fn max_pool2d_values<T: Element>(x: &Tensor<T>, window: &Window, ceil_mode: bool) -> Result<Tensor<T>> {
    Tensor::made(|y| max_pool2d_values_into(x, window, ceil_mode, y))
}

/// As [`max_pool2d_values`], into `y`, which is [resized](Tensor::resize).
pub fn max_pool2d_values_into<T: Element>(
    x: &Tensor<T>,
    window: &Window,
    ceil_mode: bool,
    y: &mut Tensor<T>,
) -> Result<()> {
    let geometry = Geometry::new("max_pool2d", "input", x.shape(), window, ceil_mode)?;
    pool(x, geometry, y, &mut vec![(); geometry.output_shape().len()]);
    Ok(())
}

/// The gradient dx of [`max_pool2d`], of shape `x_shape`: each dy goes to where its maximum was.
///
/// Errors if `argmax` is not of dy's shape, or if that is not what the window makes of `x_shape`.
pub fn max_pool2d_backward<T: Element>(
    dy: &Tensor<T>,
    argmax: &Argmax,
    x_shape: &Shape,
    window: &Window,
) -> Result<Tensor<T>> {
    const OP: &str = "max_pool2d_backward";
    if argmax.shape != *dy.shape() {
        return Err(Error::shape(OP, "argmax", dy.shape(), &argmax.shape));
    }
    let geometry = Geometry::new(OP, "input", x_shape, window, argmax.ceil_mode)?;
    geometry.check_gradient(OP, dy)?;
    Ok(match &argmax.taps {
        Indices::Bytes(taps) => unpool(dy, taps, geometry),
        Indices::Words(taps) => unpool(dy, taps, geometry),
    })
}

/// What a place is stored as; `()` if it is not.
trait Index: Copy + Send + Sync + PartialEq {
    /// Whether places are kept at all.
    const KEPT: bool = true;

    /// A tap's number as it is stored.
    fn of(tap: usize) -> Self;
    /// From a lane that holds a tap's index.
    fn from_lane<T: Element>(lane: T) -> Self;

    /// v in the lanes whose place, of as many as v was loaded with, is `tap`, and zero in the others.
    #[inline(always)]
    fn keep<T: Element, S: Simd<T>>(simd: S, v: S::V, places: &[Self], tap: Self) -> S::V {
        let mut lanes = [T::ZERO; MAX_LANES];
        simd.store(v, &mut lanes);
        for (lane, &place) in lanes.iter_mut().zip(places) {
            if place != tap {
                *lane = T::ZERO;
            }
        }
        simd.load(&lanes)
    }

    /// Converts as many lanes as `dst` has room for, which are at most a register's.
    #[inline(always)]
    fn store<T: Element, S: Simd<T>>(simd: S, v: S::V, dst: &mut [Self]) {
        if !Self::KEPT {
            return;
        }
        let mut lanes = [T::ZERO; MAX_LANES];
        simd.store(v, &mut lanes);
        if dst.len() == S::LANES {
            let dst = &mut dst[..S::LANES];
            for i in 0..S::LANES {
                dst[i] = Self::from_lane(lanes[i]);
            }
        } else {
            for (i, place) in dst.iter_mut().enumerate() {
                *place = Self::from_lane(lanes[i]);
            }
        }
    }
}

/// Lanes of the widest register.
const MAX_LANES: usize = 16;

/// The low bits of a lane, which holds an integer as [`index`] makes it: the last ones of its mantissa.
#[inline(always)]
fn low_bits<T: Element>(lane: T) -> u32 {
    if size_of::<T>() == 4 { bytemuck::cast(lane) } else { bytemuck::cast::<T, u64>(lane) as u32 }
}

impl Index for u8 {
    #[inline(always)]
    fn of(tap: usize) -> Self {
        tap as u8
    }
    #[inline(always)]
    fn from_lane<T: Element>(lane: T) -> Self {
        low_bits(lane) as u8
    }
    #[inline(always)]
    fn keep<T: Element, S: Simd<T>>(simd: S, v: S::V, places: &[u8], tap: u8) -> S::V {
        if places.len() >= S::LANES {
            return simd.keep_where(v, places, tap);
        }
        let mut padded = [0; MAX_LANES];
        padded[..places.len()].copy_from_slice(places);
        simd.keep_where(v, &padded, tap)
    }
}

impl Index for u16 {
    #[inline(always)]
    fn of(tap: usize) -> Self {
        tap as u16
    }
    #[inline(always)]
    fn from_lane<T: Element>(lane: T) -> Self {
        low_bits(lane) as u16
    }
}

impl Index for () {
    const KEPT: bool = false;

    #[inline(always)]
    fn of(_: usize) -> Self {}
    #[inline(always)]
    fn from_lane<T: Element>(_: T) -> Self {}
}

fn pool<T: Element, I: Index>(x: &Tensor<T>, geometry: Geometry, y: &mut Tensor<T>, argmax: &mut [I]) {
    let rows = threads::rows_per_chunk(geometry.input_row());
    let chunk = rows * geometry.output_row();
    threads::for_each_chunk2((y.resize(geometry.output_shape()), chunk), (argmax, chunk), |i, y, argmax| {
        simd::dispatch(Forward { geometry, x: x.data(), first: i * rows, y, argmax });
    });
}

/// Whole rows of output pixels, of which the first is row `first` of all images.
struct Forward<'a, T, I> {
    geometry: Geometry,
    x: &'a [T],
    first: usize,
    y: &'a mut [T],
    argmax: &'a mut [I],
}

impl<T: Element, I: Index> Kernel<T> for Forward<'_, T, I> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Forward { geometry, x, first, y, argmax } = self;
        let Geometry { window, output: [oh, _], channels, .. } = geometry;
        let row = geometry.output_row();
        let mut taps = Taps::new(geometry);
        for r in 0..y.len() / row {
            let (image, oy) = ((first + r) / oh, (first + r) % oh);
            let (y, argmax) = (&mut y[r * row..][..row], &mut argmax[r * row..][..row]);
            let x = &x[image * geometry.image()..][..geometry.image()];
            taps.start_row(oy);
            let mut largest = simd.splat(T::NEG_INFINITY);
            // The input rows that the next row is the first to read: they, and its outputs, are fetched meanwhile.
            let ahead = oy * window.stride[0] + window.extent(0) - window.padding.top;
            for ox in 0..row / channels {
                let (y, argmax) = (&mut y[ox * channels..][..channels], &mut argmax[ox * channels..][..channels]);
                let (base, taps) = taps.of(ox);
                let pixel = Pixel { x: &x[base..], taps };
                let mut c = 0;
                while c + 4 * S::LANES <= channels {
                    largest = pixel.pool::<S, I, 4>(simd, c..c + 4 * S::LANES, (y, argmax), largest);
                    c += 4 * S::LANES;
                }
                while c < channels {
                    let end = channels.min(c + S::LANES);
                    largest = pixel.pool::<S, I, 1>(simd, c..end, (y, argmax), largest);
                    c = end;
                }
                for row in ahead..ahead + window.stride[0] {
                    let step = window.stride[1] * channels;
                    fetch(simd, x.as_ptr().wrapping_add(row * geometry.input_row() + ox * step), step);
                }
                fetch(simd, y.as_ptr().wrapping_add(geometry.output_row()), channels);
            }
            if simd.reduce_max(largest) == -T::NEG_INFINITY {
                row_with_nan(x, &mut taps, y, argmax);
            }
        }
    }
}

/// An output pixel's window: the image from the pixel's base on, and the taps.
struct Pixel<'a, T> {
    x: &'a [T],
    taps: &'a [Tap],
}

impl<T: Element> Pixel<'_, T> {
    /// The maxima of the given channels, which fill `R` registers or, if that is 1, a part of one, and where they are,
    /// into these channels of the pixel's output. Returns the larger of each of them and `largest`.
    #[inline(always)]
    fn pool<S: Simd<T>, I: Index, const R: usize>(
        &self,
        simd: S,
        channels: Range<usize>,
        (y, argmax): (&mut [T], &mut [I]),
        mut largest: S::V,
    ) -> S::V {
        let n = if R == 1 { channels.len() } else { S::LANES };
        let infinity = simd.splat(-T::NEG_INFINITY);
        let mut best = [simd.splat(T::NEG_INFINITY); R];
        let mut place = [simd.splat(first_index(self.taps)); R];
        for tap in self.taps {
            let index = simd.splat(index(tap.number));
            let x = &self.x[tap.offset..][channels.clone()];
            for r in 0..R {
                // `min` returns its second operand where either is NaN: here NaN counts as +∞.
                let v = simd.min(load(simd, x, r * S::LANES, n), infinity);
                if I::KEPT {
                    place[r] = simd.raise_where_gt(v, best[r], index, place[r]);
                }
                best[r] = simd.max(v, best[r]);
            }
        }
        let (y, argmax) = (&mut y[channels.clone()], &mut argmax[channels]);
        for r in 0..R {
            largest = simd.max(best[r], largest);
            store(simd, best[r], y, r * S::LANES, n);
            I::store(simd, place[r], &mut argmax[r * S::LANES..][..n]);
        }
        largest
    }
}

/// Where the maximum counts as being if all values are −∞. (A dilated window may even step over a small input: then it
/// is nowhere.)
#[inline(always)]
fn first_index<T: Element>(taps: &[Tap]) -> T {
    index(taps.first().map_or(0, |tap| tap.number))
}

/// A row of outputs in which an infinity or a NaN was seen: rare, and so in plain loops.
fn row_with_nan<T: Element, I: Index>(x: &[T], taps: &mut Taps, y: &mut [T], argmax: &mut [I]) {
    let channels = taps.geometry.channels;
    for (i, (y, place)) in y.iter_mut().zip(argmax).enumerate() {
        let (base, taps) = taps.of(i / channels);
        (*y, *place) = (T::NEG_INFINITY, I::from_lane(first_index::<T>(taps)));
        for tap in taps {
            let v = x[base + tap.offset + i % channels];
            let nan = v.partial_cmp(&v).is_none();
            if v > *y || nan {
                (*y, *place) = (v, I::from_lane(index::<T>(tap.number)));
            }
        }
    }
}
