//! Windows' taps in the order in which rows walk them, and weights packed in that order.

use super::channels::{Channels, Reads};
use super::lanes;
use crate::ops::gemm::Grid;
use crate::simd::{self, Isa};
use crate::{Element, Tensor, threads};

/// The taps of a grid as rows and columns, from left to right.
#[derive(Clone)]
pub struct Taps {
    /// The kernel rows' offsets.
    pub rows: Vec<isize>,
    /// The offsets of each row's taps.
    pub columns: Vec<isize>,
    /// Their positions in the kernel, row by row.
    pub indices: Vec<usize>,
}

impl Taps {
    pub(super) fn new(grid: &Grid) -> Self {
        let mut taps = grid.taps.to_vec();
        taps.sort_by_key(|tap| tap.offset);
        let rows: Vec<isize> = taps.chunk_by(|a, b| a.offset[0] == b.offset[0]).map(|row| row[0].offset[0]).collect();
        let columns = taps.iter().take_while(|tap| tap.offset[0] == rows[0]).map(|tap| tap.offset[1]).collect();
        Taps { rows, columns, indices: taps.iter().map(|tap| tap.index).collect() }
    }

    /// The number of taps of a row if they are neighbours, or 0.
    pub fn run(&self) -> usize {
        if self.columns.windows(2).all(|pair| pair[1] == pair[0] + 1) { self.columns.len() } else { 0 }
    }
}

/// Which way a pass goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From inputs to outputs.
    Forward,
    /// From the outputs' gradient to that of the inputs.
    Backward,
}

/// Weights `[vectors, kernel rows, depth, taps of a row, lanes]`, a register's in one run.
#[derive(Clone)]
pub struct Filters<T: Element> {
    pub isa: Isa,
    pub taps: Taps,
    pub channels: Channels,
    /// Elements of a register's weights.
    size: usize,
    data: Tensor<T>,
}

impl<T: Element> Filters<T> {
    /// Packs `w` `[taps, Cin / groups, Cout]`, if the current instruction set's registers can hold the groups' channels.
    pub fn new(w: &[T], taps: Taps, groups: usize, [cin, cout]: [usize; 2], direction: Direction) -> Option<Self> {
        let (depth, width) = if direction == Direction::Forward { (cin, cout) } else { (cout, cin) };
        let channels = Channels::new(groups, depth, width, lanes::<T>())?;
        let (lanes, live, run) = (channels.lanes, channels.live(), taps.columns.len());
        let size = taps.indices.len() * depth * lanes;
        let mut data = Tensor::scratch([channels.vectors.len(), size]);
        threads::for_each_chunk(data.data_mut(), size, |v, filter| {
            let [first, _] = channels.vectors[v];
            for (i, to) in filter.chunks_exact_mut(lanes).enumerate() {
                let (row, i, k) = (i / (depth * run), i / run % depth, i % run);
                let from = &w[taps.indices[row * run + k] * cin * groups * cout..];
                match direction {
                    Direction::Forward => to[..live].copy_from_slice(&from[i * groups * cout + first..][..live]),
                    Direction::Backward => {
                        for (lane, to) in to[..live].iter_mut().enumerate() {
                            let (group, channel) = ((first + lane) / cin, (first + lane) % cin);
                            *to = from[(channel * groups + group) * cout + i];
                        }
                    }
                }
                to[live..].fill(T::ZERO);
            }
        });
        Some(Filters { isa: simd::current(), taps, channels, size, data })
    }

    /// Whether each output is a channel of the same input, and all registers are full and hold no channel twice.
    pub fn has_whole_registers(&self) -> bool {
        self.channels.reads == Reads::Own && self.channels.outputs.is_multiple_of(self.channels.lanes)
    }

    /// The number of elements of a register's weights.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The weights of all registers.
    pub fn data(&self) -> &[T] {
        self.data.data()
    }
}

/// Adds up bands of sums, each laid out as [`Filters`], to weights `[taps, depth, outputs]`.
pub fn unpack<T: Element>(bands: &[T], taps: &Taps, channels: &Channels, w: &mut [T]) {
    let Channels { depth, outputs, lanes, .. } = *channels;
    let run = taps.columns.len();
    let size = taps.indices.len() * depth * lanes;
    for (v, [first, _]) in channels.vectors.iter().enumerate() {
        for (i, &tap) in taps.indices.iter().enumerate() {
            let (row, k) = (i / run, i % run);
            for d in 0..depth {
                let to = &mut w[(tap * depth + d) * outputs + first..][..channels.live()];
                let from = v * size + ((row * depth + d) * run + k) * lanes;
                for (band, sums) in bands.chunks_exact(channels.vectors.len() * size).enumerate() {
                    let sums = &sums[from..][..to.len()];
                    if band == 0 {
                        to.copy_from_slice(sums);
                    } else {
                        to.iter_mut().zip(sums).for_each(|(total, &sum)| *total += sum);
                    }
                }
            }
        }
    }
}
