//! In how many bits the weights of packed convolutions are kept.

use super::Geometry;
use crate::ops::gemm::Packed;
use crate::{Element, Tensor};

/// How a layer's weights are kept if its time is that of reading them from memory: if it is a product, or a gathered product of
/// one group, with at most 64 rows (output pixels of all images) and at least a MiB of weights. All others are kept exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Storage {
    /// Without loss.
    #[default]
    Exact,
    /// In 16 bits each (binary16), which changes a weight between 2⁻¹⁴ and 65504 by at most 2⁻¹¹ of itself, and a smaller one by
    /// at most 2⁻²⁵. Not weights of double precision, and not those of a layer that this would change by more than 2⁻¹¹ of
    /// them all, by the Euclidean norm.
    Half,
}

/// The most rows, and the least bytes, of weights that are kept in 16 bits.
pub(super) const HALF_ROWS: usize = 64;
pub(super) const HALF_BYTES: usize = 1 << 20;

impl Storage {
    /// The weights of this geometry in 16 bits, packed for the forward product, if they are to be kept so.
    pub(in crate::ops::conv) fn halved<T: Element>(self, g: &Geometry, w: &Tensor<T>) -> Option<Packed<T>> {
        let (rows, [cin, cout]) = (g.batch * g.output[0] * g.output[1], g.group());
        let bytes = w.len() * size_of::<f32>();
        let wanted = self == Storage::Half && g.groups == 1 && !g.joins() && rows <= HALF_ROWS && bytes >= HALF_BYTES;
        let taps: Vec<usize> = (0..g.window.taps()).collect();
        wanted.then(|| Packed::halved(w.data(), g.weight(), g.groups, &taps, cin, cout)).flatten()
    }
}
