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

/// No source: the tap lies in the padding.
pub(crate) const OUTSIDE: usize = usize::MAX;

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

    /// Fills `sources[t * count + i]` with the source pixel of grid pixel `start + i` at tap `t`, or [`OUTSIDE`].
    pub fn sources(&self, start: usize, count: usize, sources: &mut Vec<usize>) {
        sources.resize(self.taps.len() * count, OUTSIDE);
        self.put_sources(start, count, sources);
    }

    /// As [`sources`](Self::sources), into a slice of that length.
    pub fn put_sources(&self, start: usize, count: usize, sources: &mut [usize]) {
        assert_eq!(sources.len(), self.taps.len() * count);
        sources.fill(OUTSIDE);
        let [height, width] = self.source;
        for (tap, sources) in self.taps.iter().zip(sources.chunks_exact_mut(count.max(1))) {
            self.for_each_run(start, count, |run, n, [y, x]| {
                let sy = (y * self.step[0]) as isize + tap.offset[0];
                let sx = (x * self.step[1]) as isize + tap.offset[1];
                // A negative coordinate wraps to a huge one, so one comparison checks both ends.
                if sy as usize >= height {
                    return;
                }
                let row = (n * height + sy as usize) * width;
                for (i, source) in sources[run].iter_mut().enumerate() {
                    let sx = (sx + (i * self.step[1]) as isize) as usize;
                    *source = if sx < width { row + sx } else { OUTSIDE };
                }
            });
        }
    }

    /// Fills `targets[i]` with the target pixel of grid pixel `start + i`.
    pub fn targets(&self, start: usize, targets: &mut [usize]) {
        self.for_each_run(start, targets.len(), |run, n, [y, x]| {
            let at = [y * self.target_step[0] + self.target_offset[0], x * self.target_step[1] + self.target_offset[1]];
            let first = (n * self.target[0] + at[0]) * self.target[1] + at[1];
            for (i, target) in targets[run].iter_mut().enumerate() {
                *target = first + i * self.target_step[1];
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
