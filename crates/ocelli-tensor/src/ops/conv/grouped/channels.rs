//! Which channels a register holds, and which of a pixel's numbers they are multiplied with.

use std::ops::Range;

use crate::ops::gemm::cut;

/// How the lanes of a register of output channels find their inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Depthwise: each lane its own channel.
    Own,
    /// Groups of this many channels, several of which fill a register: each lane one channel of its group at a time.
    Spread(usize),
    /// All lanes belong to one group and read the same channel.
    Group,
}

/// The channels of one pass as its registers hold them. All registers are full: the last begins earlier than its
/// predecessor ends if it would reach beyond the last channel.
#[derive(Debug, Clone)]
pub struct Channels {
    pub reads: Reads,
    /// In all groups.
    pub inputs: usize,
    pub outputs: usize,
    /// Channels of a group that an output reads.
    pub depth: usize,
    pub lanes: usize,
    /// The first output channel of each register, and the first input channel that it reads.
    pub vectors: Vec<[usize; 2]>,
}

impl Channels {
    /// `groups` that map `depth` to `width` channels each, if registers of `lanes` can hold them.
    pub fn new(groups: usize, depth: usize, width: usize, lanes: usize) -> Option<Self> {
        let reads = if [depth, width] == [1, 1] {
            Reads::Own
        } else if width.is_multiple_of(lanes) {
            Reads::Group
        } else if depth == width && lanes.is_multiple_of(width) {
            Reads::Spread(width)
        } else {
            return None;
        };
        let (inputs, outputs) = (groups * depth, groups * width);
        let vectors = (0..outputs.div_ceil(lanes)).map(|v| {
            let output = (v * lanes).min(outputs.saturating_sub(lanes));
            [output, if reads == Reads::Group { output / width * depth } else { output }]
        });
        Some(Channels { reads, inputs, outputs, depth, lanes, vectors: vectors.collect() })
    }

    /// The lanes that hold channels: all, unless there are fewer channels than lanes.
    pub fn live(&self) -> usize {
        self.lanes.min(self.outputs)
    }

    /// Whether no two registers share channels.
    pub fn are_apart(&self) -> bool {
        self.vectors.len() == 1 || self.outputs.is_multiple_of(self.lanes)
    }

    /// The outputs of successive registers, and the inputs that they read.
    pub fn of(&self, vectors: &Range<usize>) -> [Range<usize>; 2] {
        let end = self.vectors.get(vectors.end).copied().unwrap_or([self.outputs, self.inputs]);
        let start = self.vectors.get(vectors.start).copied().unwrap_or(end);
        [start[0]..end[0], start[1]..end[1]]
    }

    /// Piece `i` of the registers cut into `blocks`, no two of which share channels: a register that begins early goes
    /// with its predecessor.
    pub fn block(&self, blocks: usize, i: usize) -> Range<usize> {
        let separate = (self.outputs / self.lanes).max(1);
        let Range { start, end } = cut(separate, blocks, i);
        start..if end == separate { self.vectors.len() } else { end }
    }
}
