//! Which pixel reads which: the geometry of a convolution, or of one parity class of its backward pass.

use std::ops::Range;
use std::sync::Arc;

use crate::ops::Window;

/// A kernel position: its index in the weights and the offset at which it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tap {
    /// The position in `[Kh, Kw]`, row-major.
    pub index: usize,
    /// Added to the stepped grid coordinate to give the source's: y, x.
    pub offset: [isize; 2],
}

/// A grid of `batch × size` pixels. Grid pixel (y, x) reads source pixel `(y, x) · step + tap.offset` for every tap
/// (zero where that lies outside) and writes target pixel `(y, x) · target_step + target_offset`.
#[derive(Debug, Clone)]
pub(crate) struct Grid {
    pub batch: usize,
    pub size: [usize; 2],
    pub source: [usize; 2],
    pub step: [usize; 2],
    pub taps: Arc<[Tap]>,
    pub target: [usize; 2],
    pub target_step: [usize; 2],
    pub target_offset: [usize; 2],
}

/// The operand that a grid's taps read: of each pixel's `columns` elements a `part`, and in the padding what is `outside`.
#[derive(Debug, Clone)]
pub(crate) struct Pixels<'a, T> {
    pub data: &'a [T],
    pub columns: usize,
    pub part: Range<usize>,
    pub outside: &'a [T],
}

impl Grid {
    /// The plain matrix product of `rows` rows: one tap, every row its own source.
    pub fn rows(rows: usize) -> Self {
        Grid {
            batch: 1,
            size: [1, rows],
            source: [1, rows],
            step: [1, 1],
            taps: Arc::new([Tap { index: 0, offset: [0, 0] }]),
            target: [1, rows],
            target_step: [1, 1],
            target_offset: [0, 0],
        }
    }

    /// The same for another number of rows, which allocates nothing; this is one of [`rows`](Self::rows).
    pub fn with_rows(&self, rows: usize) -> Self {
        Grid { size: [1, rows], source: [1, rows], target: [1, rows], ..self.clone() }
    }

    /// The taps of a convolution's forward pass.
    pub fn forward_taps(window: &Window) -> Arc<[Tap]> {
        let pad = [window.padding.top, window.padding.left];
        let [kh, kw] = window.kernel_size;
        let tap = |index| {
            let at = [index / kw, index % kw];
            Tap { index, offset: [0, 1].map(|d| (at[d] * window.dilation[d]) as isize - pad[d] as isize) }
        };
        (0..kh * kw).map(tap).collect()
    }

    /// A convolution's forward pass from `[batch, source, _]` to `[batch, target, _]`, with windows `step` pixels apart.
    pub fn forward(batch: usize, source: [usize; 2], target: [usize; 2], step: [usize; 2], taps: Arc<[Tap]>) -> Self {
        Grid { batch, size: target, source, step, taps, target, target_step: [1, 1], target_offset: [0, 0] }
    }

    /// A convolution's backward pass to its input, which reads the output's gradient `[batch, output, _]` and writes
    /// `[batch, input, _]`. Input pixels of equal remainder (i + padding) mod stride are reached by the same taps, each
    /// a fixed number of output pixels away, so every such class is a grid of stride 1. Classes that no tap reaches
    /// come with no taps.
    pub fn backward(batch: usize, input: [usize; 2], output: [usize; 2], window: &Window) -> Vec<Self> {
        let pad = [window.padding.top, window.padding.left];
        let [sh, sw] = window.stride;
        let mut classes = Vec::new();
        for first in (0..sh * sw).map(|c| [c / sw, c % sw]) {
            let size = [0, 1].map(|d| input[d].saturating_sub(first[d]).div_ceil(window.stride[d]));
            if size.contains(&0) {
                continue;
            }
            let distance = |d: usize, k: usize| {
                let apart = (first[d] + pad[d]) as isize - (k * window.dilation[d]) as isize;
                let stride = window.stride[d] as isize;
                (apart.rem_euclid(stride) == 0).then(|| apart.div_euclid(stride))
            };
            let [kh, kw] = window.kernel_size;
            let taps = (0..kh * kw).filter_map(|index| {
                let offset = [distance(0, index / kw)?, distance(1, index % kw)?];
                Some(Tap { index, offset })
            });
            classes.push(Grid {
                batch,
                size,
                source: output,
                step: [1, 1],
                taps: taps.collect(),
                target: input,
                target_step: window.stride,
                target_offset: first,
            });
        }
        classes
    }

    /// The number of grid pixels.
    pub fn len(&self) -> usize {
        self.batch * self.size[0] * self.size[1]
    }

    /// Makes `pointers[t * count + i]` point to what grid pixel `start + i` reads at tap `t`: as many elements as the part
    /// has, each of which lies in the operand.
    pub fn put_pointers<T>(&self, start: usize, count: usize, pixels: &Pixels<'_, T>, pointers: &mut [*const T]) {
        let Pixels { data, columns, ref part, outside } = *pixels;
        assert!(pointers.len() == self.taps.len() * count && outside.len() >= part.len());
        pointers.fill(outside.as_ptr());
        let [height, width] = self.source;
        let step = self.step[1];
        for (tap, pointers) in self.taps.iter().zip(pointers.chunks_exact_mut(count.max(1))) {
            self.for_each_run(start, count, |run, n, [y, x]| {
                let y = (y * self.step[0]).wrapping_add_signed(tap.offset[0]);
                let x = (x * step) as isize + tap.offset[1];
                // The pixels of the run that read a column from 0 to width − 1.
                let before = |column: isize| (column - x).max(0).unsigned_abs().div_ceil(step).min(run.len());
                let inside = before(0)..before(width as isize);
                // (A negative coordinate has wrapped to a huge one.)
                if y >= height || inside.is_empty() {
                    return;
                }
                let row = (n * height + y) * width;
                let at = |i: usize| (row + (i * step).wrapping_add_signed(x)) * columns + part.start;
                assert!(at(inside.end - 1) + part.len() <= data.len());
                let mut pointer = data[at(inside.start)..].as_ptr();
                for place in &mut pointers[run][inside] {
                    *place = pointer;
                    pointer = pointer.wrapping_add(step * columns);
                }
            });
        }
    }

    /// Fills `targets[i]` with the place of grid pixel `start + i`'s target, whose pixels have `columns` elements.
    pub fn put_targets(&self, start: usize, columns: usize, targets: &mut [usize]) {
        let step = self.target_step[1] * columns;
        self.for_each_run(start, targets.len(), |run, n, [y, x]| {
            let at = [y * self.target_step[0] + self.target_offset[0], x * self.target_step[1] + self.target_offset[1]];
            let mut place = ((n * self.target[0] + at[0]) * self.target[1] + at[1]) * columns;
            for target in &mut targets[run] {
                *target = place;
                place += step;
            }
        });
    }

    /// Cuts `count` grid pixels from `start` on at the ends of grid rows: `f` is told which of them a piece has, and its
    /// first pixel's image and coordinates.
    fn for_each_run(&self, start: usize, count: usize, mut f: impl FnMut(Range<usize>, usize, [usize; 2])) {
        let [height, width] = self.size;
        let mut i = 0;
        while i < count {
            let (row, x) = ((start + i) / width, (start + i) % width);
            let end = count.min(i + width - x);
            f(i..end, row / height, [row % height, x]);
            i = end;
        }
    }
}

/// The taps of a convolution whose kernel rows are single runs of memory: with few input channels and no dilation, the
/// pixels under one kernel row, `Kw · C` numbers, are contiguous in an input that has its padding in it.
pub(crate) fn joined_taps(window: &Window) -> Arc<[Tap]> {
    (0..window.kernel_size[0]).map(|index| Tap { index, offset: [index as isize, 0] }).collect()
}

/// The height and width of the padded input over which taps are [joined](joined_taps).
pub(crate) fn joined_source(target: [usize; 2], window: &Window) -> [usize; 2] {
    [0, 1].map(|d| (target[d] - 1) * window.stride[d] + window.kernel_size[d])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pointers_and_targets_are_those_of_the_definition(
            batch in 1..3usize,
            size in prop::array::uniform2(1..9usize),
            kernel in prop::array::uniform2(1..4usize),
            stride in 1..4usize,
            padding in 0..4usize,
            dilation in 1..3usize,
            backward: bool,
        ) {
            let window = Window { kernel_size: kernel, ..Window::square(1).stride(stride).padding(padding).dilation(dilation) };
            let Ok(output) = window.output_size("test", size) else { return Ok(()) };
            let grids = if backward {
                Grid::backward(batch, size, output, &window)
            } else {
                vec![Grid::forward(batch, size, output, window.stride, Grid::forward_taps(&window))]
            };
            for grid in grids {
                let [height, width] = grid.source;
                let data: Vec<usize> = (0..batch * height * width * 3).collect();
                let pixels = Pixels { data: &data, columns: 3, part: 1..3, outside: &[usize::MAX; 2] };
                let (start, count) = (grid.len() / 3, grid.len() - grid.len() / 3);
                let mut pointers = vec![std::ptr::null(); grid.taps.len() * count];
                let mut targets = vec![0; count];
                grid.put_pointers(start, count, &pixels, &mut pointers);
                grid.put_targets(start, 5, &mut targets);
                for i in 0..count {
                    let (n, at) = ((start + i) / grid.size[1] / grid.size[0], start + i);
                    let at = [at / grid.size[1] % grid.size[0], at % grid.size[1]];
                    for (t, tap) in grid.taps.iter().enumerate() {
                        let [y, x] = [0, 1].map(|d| (at[d] * grid.step[d]).wrapping_add_signed(tap.offset[d]));
                        let inside = y < height && x < width;
                        let expected = if inside { ((n * height + y) * width + x) * 3 + 1 } else { usize::MAX };
                        // SAFETY: pointers point into the data, or to what is outside.
                        prop_assert_eq!(unsafe { *pointers[t * count + i] }, expected);
                    }
                    let [y, x] = [0, 1].map(|d| at[d] * grid.target_step[d] + grid.target_offset[d]);
                    prop_assert_eq!(targets[i], ((n * grid.target[0] + y) * grid.target[1] + x) * 5);
                }
            }
        }
    }
}
