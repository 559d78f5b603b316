//! The forward pass, which with flipped and transposed weights is the backward pass to the input too.
//!
//! A block of tiles is transformed to V; then, for some output channels at a time, V · U gives M, which is transformed
//! back before it leaves the second-level cache. Where there are many tiles a task takes a block through all of this;
//! where there are few, tasks share V and divide the output channels. In training, where U is not at hand, a task that has
//! all tiles makes its part of it, some input channels at a time: U is four times the weights, too much to be written and
//! read again for one use.

mod output;

use std::ops::Range;

use super::planes::{self, Planes, View};
use super::product::{self, Factor};
use super::transform::{FIVE_TAPS, INPUTS, Input, Map, OUTPUTS, Output, SMALL_INPUTS, SMALL_OUTPUTS, TAPS, Weight};
use super::{Form, Geometry, Tiles, weight};
use crate::memory::Scratch;
use crate::ops::gemm::gather::{ColumnSlice, Epilogue};
use crate::ops::gemm::{Packed, cut};
use crate::simd::{self, Isa, Kernel, Simd};
use crate::{Element, Tensor, threads};

/// Tiles of a task that has V for itself, and the output channels it makes at a time: for 64 channels of `f32`, V and M
/// take half a megabyte. 28 tiles are whole register tiles for AVX-512, and nearly so for AVX2.
const OWN: [usize; 2] = [28, 64];
/// Tiles and output channels of a task where V is shared: U is read once by every so many tiles, V by so many channels.
const SHARED: [usize; 2] = [56, 64];
/// With fewer tasks than this, V is shared.
const OWN_TASKS: usize = 16;
/// Tasks for each thread that a product with a shared V is cut into if it is large enough, and the multiply-adds that make
/// one worth it. They add nothing up, so that their number may depend on that of the threads; more would read U or V again.
const TASKS: usize = 4;
const TASK_MACS: usize = 1 << 19;
/// Fewer tiles than this are not worth reading U for.
const LEAST_TILES: usize = 12;
/// Channels of tiles that make a task of their transform.
const TASK_CHANNELS: usize = 2048;

/// Tiles up to which a task takes all, and makes its part of U, and the bytes of it that are made at a time: with M, not
/// more than most second-level caches hold.
const ONCE_TILES: usize = 64;
const ONCE_BYTES: usize = 1280 * 1024;

/// U = G w Gᵀ, or what it is made of.
#[derive(Clone, Copy)]
enum Operand<'a, T: Element> {
    Packed(&'a Packed<T>),
    /// `[K, K, Cin, Cout]`
    Weights(&'a [T]),
}

/// Elements of V where tasks share it, else 0.
pub(in super::super) fn workspace<T: Element>(g: &Geometry, form: Form) -> usize {
    let tiles = Tiles::new(g, form);
    let width = in_lines::<T>(g.in_channels);
    if owned(&tiles) { 0 } else { planes::elements(form.frequencies(), tiles.len(), g.in_channels, width) }
}

/// Whether a task has V for itself.
fn owned(tiles: &Tiles) -> bool {
    tiles.len().div_ceil(OWN[0]) >= OWN_TASKS
}

/// Writes the convolution of `x` with transformed weights to `y` `[N, Ho, Wo, Cout]`, or to a slice of its channels if
/// the epilogue says so. The workspace is resized if needed.
pub(in super::super) fn forward<T: Element>(
    g: &Geometry,
    x: &[T],
    (u, form): (&Packed<T>, Form),
    shared: &mut Tensor<T>,
    y: &mut [T],
    epilogue: Epilogue<'_, T>,
) {
    let tiles = Tiles::new(g, form);
    assert_eq!([u.groups, u.depth, u.columns], [form.frequencies(), g.in_channels, g.out_channels], "U");
    run(g, (tiles, u.isa, u.width), x, Operand::Packed(u), shared, y, epilogue);
}

/// As [`forward`], with weights `[K, K, Cin, Cout]` that are used once.
pub(in super::super) fn forward_once<T: Element>(
    g: &Geometry,
    x: &[T],
    w: &Tensor<T>,
    form: Form,
    y: &mut [T],
    epilogue: Epilogue<'_, T>,
) {
    let (tiles, mut shared) = (Tiles::new(g, form), Tensor::default());
    if tiles.len() > ONCE_TILES {
        return forward(g, x, (&weight::pack(w, form), form), &mut shared, y, epilogue);
    }
    let (isa, width) = (simd::current(), Packed::<T>::tile_width());
    run(g, (tiles, isa, width), x, Operand::Weights(w.data()), &mut shared, y, epilogue);
}

fn run<T: Element>(
    g: &Geometry,
    (tiles, isa, width): (Tiles, Isa, usize),
    x: &[T],
    u: Operand<'_, T>,
    shared: &mut Tensor<T>,
    y: &mut [T],
    epilogue: Epilogue<'_, T>,
) {
    let (cin, cout, frequencies) = (g.in_channels, g.out_channels, tiles.form.frequencies());
    assert_eq!(x.len(), g.batch * g.input[0] * g.input[1] * cin);
    let slice = epilogue.slice_of(cout, g.batch * g.output[0] * g.output[1], y.len());
    let zeros = Scratch::zeros(cin);
    let y = y.as_mut_ptr().wrapping_add(slice.first);
    let pass = Pass { tiles, x, zeros: &zeros, u, isa, width, y, slice, cin, cout, epilogue };

    let count = tiles.len();
    let panels = cout.div_ceil(width);
    let groups = |channels: usize| panels.div_ceil((channels / width).max(1));
    if owned(&tiles) {
        let blocks = count.div_ceil(OWN[0]);
        let groups = groups(OWN[1]);
        threads::for_each(blocks, |b| {
            let tiles = cut(count, blocks, b);
            let mut v = Planes::new(frequencies, tiles.len(), cin, in_lines::<T>(cin));
            let v = v.view();
            pass.dispatch(Step::Input { tiles: tiles.clone(), v, first: 0 });
            for group in 0..groups {
                let panels = cut(panels, groups, group);
                pass.dispatch(Step::Output { tiles: tiles.clone(), v, first: 0, panels });
            }
        });
    } else {
        // Where U is made in parts, a part's channels of V lie together.
        let row_width = match u {
            Operand::Packed(_) => in_lines::<T>(cin),
            Operand::Weights(_) => made_channels::<T>(frequencies, cin, width),
        };
        let v = View::new(
            shared.resize([planes::elements(frequencies, count, cin, row_width)]),
            [frequencies, count, cin, row_width],
        );
        let chunks = match (count * cin).div_ceil(TASK_CHANNELS) {
            1 => 1,
            // Even, so that no thread does one more of a few than another.
            chunks => chunks.next_multiple_of(2).min(count),
        };
        threads::for_each(chunks, |i| {
            let tiles = cut(count, chunks, i);
            pass.dispatch(Step::Input { first: tiles.start, tiles, v });
        });
        let wanted = (frequencies * count * cin * cout / TASK_MACS).clamp(1, TASKS * threads::count());
        let (blocks, groups) = (count.div_ceil(SHARED[0]), groups(SHARED[1]));
        let groups = groups.max(wanted.div_ceil(blocks.max(1))).min(panels);
        let blocks = match u {
            Operand::Packed(_) => blocks.max(wanted.div_ceil(groups).min(count / LEAST_TILES)),
            Operand::Weights(_) => 1,
        };
        // Tasks that follow each other are one thread's. They share tiles rather than panels: the thread has transformed
        // these tiles itself, and will read what it makes of all their channels.
        threads::for_each(groups * blocks, |i| {
            let (tiles, panels) = (cut(count, blocks, i / groups), cut(panels, groups, i % groups));
            pass.dispatch(Step::Output { first: tiles.start, tiles, v, panels });
        });
    }
}

/// The input channels whose part of U a task makes at a time, in nearly equal pieces.
fn made_channels<T: Element>(frequencies: usize, cin: usize, width: usize) -> usize {
    let most = ONCE_BYTES / (frequencies * SHARED[1].max(width) * size_of::<T>());
    in_lines::<T>(cin.div_ceil(cin.div_ceil(most).max(1)))
}

/// So many channels in whole cache lines, which are whole registers.
fn in_lines<T: Element>(channels: usize) -> usize {
    channels.next_multiple_of(64 / size_of::<T>())
}

/// What all tasks share.
#[derive(Clone, Copy)]
struct Pass<'a, T: Element> {
    tiles: Tiles,
    x: &'a [T],
    zeros: &'a [T],
    u: Operand<'a, T>,
    isa: Isa,
    /// Columns of a panel of U.
    width: usize,
    /// The first pixel's first output channel, and where these lie in a pixel.
    y: *mut T,
    slice: ColumnSlice,
    cin: usize,
    cout: usize,
    epilogue: Epilogue<'a, T>,
}

// SAFETY: tasks write the output pixels of different tiles, or different channels of them.
unsafe impl<T: Element> Sync for Pass<'_, T> {}

impl<T: Element> Pass<'_, T> {
    fn dispatch(&self, step: Step<T>) {
        simd::with_isa(self.isa, || T::winograd_task(Task { pass: self, step }));
    }

    /// U of some input channels and panels.
    #[inline(always)]
    fn make<'u, S: Simd<T>, const KERNEL: usize, const IN: usize>(
        &self,
        simd: S,
        w: &[T],
        channels: Range<usize>,
        panels: Range<usize>,
        u: &'u mut [T],
    ) -> Factor<'u, T>
    where
        Weight: Map<KERNEL, IN>,
    {
        // A line more, so that the same element of all frequencies does not fall into one cache set.
        let apart = channels.len() * self.width + S::LINE;
        let size = IN * IN * apart;
        for (panel, u) in panels.zip(u.chunks_exact_mut(size)) {
            let columns = (panel * self.width, self.width);
            weight::transform::<T, S, KERNEL, IN>(
                simd,
                (w, [self.cin, self.cout]),
                channels.clone(),
                columns,
                u,
                apart,
            );
        }
        Factor { data: u, width: self.width, channels: channels.len(), apart: [apart, size], cached: true }
    }
}

enum Step<T> {
    /// Tiles of x to rows of v from `first` on.
    Input { tiles: Range<usize>, v: View<T>, first: usize },
    /// Rows of v from `first` on to tiles of y, at the output channels of some panels.
    Output { tiles: Range<usize>, v: View<T>, first: usize, panels: Range<usize> },
}

pub struct Task<'a, T: Element> {
    pass: &'a Pass<'a, T>,
    step: Step<T>,
}

impl<T: Element> Kernel<T> for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        match self.pass.tiles.form {
            Form::Large => self.run_tiles::<S, TAPS, INPUTS, OUTPUTS>(simd),
            Form::Small => self.run_tiles::<S, TAPS, SMALL_INPUTS, SMALL_OUTPUTS>(simd),
            Form::Five => self.run_tiles::<S, FIVE_TAPS, INPUTS, SMALL_OUTPUTS>(simd),
        }
    }
}

impl<T: Element> Task<'_, T> {
    #[inline(always)]
    fn run_tiles<S: Simd<T>, const KERNEL: usize, const IN: usize, const OUT: usize>(self, simd: S)
    where
        Input: Map<IN, IN>,
        Weight: Map<KERNEL, IN>,
        Output: Map<IN, OUT>,
    {
        let pass = self.pass;
        match self.step {
            // SAFETY: this task alone has these rows of v.
            Step::Input { tiles, v, first } => unsafe {
                planes::input::<T, S, IN, OUT>(simd, &pass.tiles, tiles, (pass.x, pass.zeros), v, first);
            },
            Step::Output { tiles, v, first, panels } => {
                let [start, end] = [panels.start, panels.end].map(|panel| panel * pass.width);
                let channels = start..pass.cout.min(end);
                let width = channels.len().next_multiple_of(S::LANES);
                let mut m = Planes::new(IN * IN, tiles.len(), width, width);
                let m = m.view();
                let rows = first..first + tiles.len();
                let mut made = match pass.u {
                    Operand::Packed(_) => Scratch::new(0),
                    Operand::Weights(_) => Scratch::new(panels.len() * IN * IN * (v.width * pass.width + S::LINE)),
                };
                for from in (0..pass.cin).step_by(v.width) {
                    let u = match pass.u {
                        Operand::Packed(u) => Factor::packed(u, panels.start),
                        Operand::Weights(w) => {
                            let ci = from..pass.cin.min(from + v.width);
                            pass.make::<S, KERNEL, IN>(simd, w, ci, panels.clone(), &mut made)
                        }
                    };
                    for f in 0..IN * IN {
                        // SAFETY: v has been written by tasks that have ended; m is this task's.
                        unsafe { product::multiply(simd, f, (v, rows.clone(), from), u, m) }
                    }
                }
                for (row, tile) in tiles.enumerate() {
                    // SAFETY: m is complete, and this task alone has these channels of the tile.
                    unsafe { output::write::<T, S, IN, OUT>(simd, pass, tile, (m, row), channels.clone()) }
                }
            }
        }
    }
}
