//! The forward pass, which with flipped and transposed weights is the backward pass to the input too.

use super::planes::{self, Planes, View};
use super::transform::{FREQUENCIES, INPUTS, Map, OUTPUTS, Output};
use super::{Geometry, Tiles};
use crate::ops::gemm::Packed;
use crate::ops::gemm::gather::{Epilogue, Panels};
use crate::simd::{Kernel, Simd};
use crate::{Element, threads};

/// Bytes of transformed tiles that a task makes and uses, meant to stay in the second-level cache.
const BLOCK_BYTES: usize = 1 << 20;
/// Bounds of the tiles in a block: whole register tiles, and several of them where channels are few.
const BLOCK_TILES: std::ops::RangeInclusive<usize> = 28..=168;
/// With fewer blocks than this, the steps are divided among threads one after the other instead.
const BLOCKS: usize = 8;

/// Writes the convolution of `x` with transformed weights to `y` `[N, Ho, Wo, Cout]`.
pub(in super::super) fn forward<T: Element>(
    g: &Geometry,
    x: &[T],
    u: &Packed<T>,
    y: &mut [T],
    epilogue: Epilogue<'_, T>,
) {
    let tiles = Tiles::new(g);
    let (cin, cout) = (g.in_channels, g.out_channels);
    assert_eq!([u.groups, u.depth, u.columns], [FREQUENCIES, cin, cout], "transformed weights");
    assert_eq!(x.len(), g.batch * g.input[0] * g.input[1] * cin);
    assert_eq!(y.len(), g.batch * g.output[0] * g.output[1] * cout);
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == cout));
    assert!(epilogue.residual.is_none_or(|residual| residual.len() == y.len()));
    let zeros = vec![T::ZERO; cin];
    let pass = Pass { tiles, x, zeros: &zeros, u, y: y.as_mut_ptr(), cout, epilogue };

    let fitting = BLOCK_BYTES / (FREQUENCIES * (cin + cout) * size_of::<T>());
    let block = fitting.clamp(*BLOCK_TILES.start(), *BLOCK_TILES.end());
    let blocks = tiles.len().div_ceil(block);
    if blocks >= BLOCKS {
        threads::for_each(blocks, |b| {
            let range = cut(tiles.len(), blocks, b);
            let (mut v, mut m) = (Planes::new(range.len(), cin), Planes::new(range.len(), cout));
            let (v, m) = (v.view(), m.view());
            let rows = range.len();
            pass.dispatch(Step::Input { range: range.clone(), v, first: 0 });
            pass.dispatch(Step::Multiply { rows, v, m, frequencies: 0..FREQUENCIES, panels: 0..u.panels() });
            pass.dispatch(Step::Output { range, m, first: 0 });
        });
    } else {
        let rows = tiles.len();
        let (mut v, mut m) = (Planes::new(rows, cin), Planes::new(rows, cout));
        let (v, m) = (v.view(), m.view());
        let chunks = rows.div_ceil(4);
        threads::for_each(chunks, |i| {
            let range = cut(rows, chunks, i);
            pass.dispatch(Step::Input { first: range.start, range, v });
        });
        threads::for_each(FREQUENCIES, |f| {
            pass.dispatch(Step::Multiply { rows, v, m, frequencies: f..f + 1, panels: 0..u.panels() });
        });
        threads::for_each(chunks, |i| {
            let range = cut(rows, chunks, i);
            pass.dispatch(Step::Output { first: range.start, range, m });
        });
    }
}

/// Piece `i` of `0..n` cut into nearly equal `pieces`.
fn cut(n: usize, pieces: usize, i: usize) -> std::ops::Range<usize> {
    n * i / pieces..n * (i + 1) / pieces
}

/// What all tasks share.
#[derive(Clone, Copy)]
struct Pass<'a, T: Element> {
    tiles: Tiles,
    x: &'a [T],
    zeros: &'a [T],
    u: &'a Packed<T>,
    y: *mut T,
    cout: usize,
    epilogue: Epilogue<'a, T>,
}

// SAFETY: tasks write the output pixels of different tiles.
unsafe impl<T: Element> Sync for Pass<'_, T> {}

impl<T: Element> Pass<'_, T> {
    fn dispatch(&self, step: Step<T>) {
        T::dispatch_on(self.u.isa, Task { pass: self, step });
    }
}

enum Step<T> {
    /// Tiles `range` of x to rows of v from `first` on.
    Input { range: std::ops::Range<usize>, v: View<T>, first: usize },
    /// Rows of v to rows of m, for some frequencies and panels.
    Multiply {
        rows: usize,
        v: View<T>,
        m: View<T>,
        frequencies: std::ops::Range<usize>,
        panels: std::ops::Range<usize>,
    },
    /// Rows of m from `first` on to tiles `range` of y.
    Output { range: std::ops::Range<usize>, m: View<T>, first: usize },
}

struct Task<'a, T: Element> {
    pass: &'a Pass<'a, T>,
    step: Step<T>,
}

impl<T: Element> Kernel<T> for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let pass = self.pass;
        match self.step {
            // SAFETY: this task alone has these rows of v.
            Step::Input { range, v, first } => unsafe {
                planes::input(simd, &pass.tiles, range, (pass.x, pass.zeros), v, first);
            },
            Step::Multiply { rows, v, m, frequencies, panels } => {
                let targets: Vec<usize> = (0..rows).map(|i| i * m.columns).collect();
                for f in frequencies {
                    // SAFETY: the rows lie within the plane.
                    let sources: Vec<_> =
                        (0..rows).map(|i| unsafe { v.plane(f).add(i * v.columns).cast_const() }).collect();
                    let product = Panels {
                        sources: &sources,
                        targets: &targets,
                        taps: 1,
                        k: v.columns,
                        b: pass.u,
                        group: f,
                        panels: panels.clone(),
                        out: m.plane(f),
                        column: 0,
                        finish: None,
                    };
                    // SAFETY: v has been written by tasks that have ended; this task alone has this plane of m.
                    unsafe { product.run() }
                }
            }
            Step::Output { range, m, first } => {
                for (i, tile) in range.enumerate() {
                    // SAFETY: m has been written by tasks that have ended; each tile belongs to one task.
                    unsafe { output(simd, pass, tile, m, first + i) }
                }
            }
        }
    }
}

/// Transforms a row of m back and writes the tile's pixels of y.
///
/// # Safety
/// Nobody else may access these pixels, and m's rows must be complete.
#[inline(always)]
unsafe fn output<T: Element, S: Simd<T>>(simd: S, pass: &Pass<'_, T>, tile: usize, m: View<T>, row: usize) {
    let (n, [y, x]) = pass.tiles.at(tile);
    let [height, width] = pass.tiles.output;
    let (rows, columns) = (OUTPUTS.min(height - y), OUTPUTS.min(width - x));
    let corner = ((n * height + y) * width + x) * pass.cout;
    let source = m.row(row).cast_const();
    let mut values = [[simd.splat(T::ZERO); INPUTS]; INPUTS];
    for c in (0..pass.cout).step_by(S::LANES) {
        let live = S::LANES.min(pass.cout - c);
        for f in 0..FREQUENCIES {
            // SAFETY: plane f of the row, channels from c on.
            values[f / INPUTS][f % INPUTS] = unsafe { load(simd, source.add(f * m.stride + c), live) };
        }
        let tile = Output::both(simd, &values);
        let Epilogue { bias, residual, clamp } = pass.epilogue;
        for dy in 0..rows {
            for dx in 0..columns {
                let at = corner + (dy * width + dx) * pass.cout + c;
                let mut value = tile[dy][dx];
                // SAFETY: bias and residual are as long as the output's channels and elements (checked in `forward`);
                // the pixel lies within the output and belongs to this task.
                unsafe {
                    if let Some(bias) = bias {
                        value = simd.add(value, load(simd, bias.as_ptr().add(c), live));
                    }
                    if let Some(residual) = residual {
                        value = simd.add(value, load(simd, residual.as_ptr().add(at), live));
                    }
                    if let Some([low, high]) = clamp {
                        value = simd.min(simd.splat(high), simd.max(simd.splat(low), value));
                    }
                    if live == S::LANES {
                        simd.store_ptr(value, pass.y.add(at));
                    } else {
                        simd.store_partial_ptr(value, pass.y.add(at), live);
                    }
                }
            }
        }
    }
}

/// # Safety
/// `n` elements must be readable at `src`.
#[inline(always)]
unsafe fn load<T: Element, S: Simd<T>>(simd: S, src: *const T, n: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if n == S::LANES { simd.load_ptr(src) } else { simd.load_partial_ptr(src, n) } }
}
