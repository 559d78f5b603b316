//! Winograd's convolution F(4×4, 3×3): a quarter of the multiplications of the direct one, for 3×3 kernels of stride 1;
//! and F(2×2, 3×3), 4/9 of them, for maps of a few pixels, where the transformed weights are most of what is read: 16
//! numbers in place of 36. For 5×5 kernels F(2×2, 5×5), 9/25 of the multiplications, but not for their weights' gradient.
//!
//! The output is cut into tiles of 4×4 pixels, each of which depends on 6×6 input pixels. Both are transformed
//! ([`transform`]) so that convolution becomes, for each of 36 frequencies, a matrix product over channels (tiles of 2×2
//! pixels depend on 4×4, and have 16 frequencies, or with 5×5 taps on 6×6):
//!
//! ```text
//! forward           V = Bᵀ x B    U = G w Gᵀ    M_f = V_f · U_f         y  = Aᵀ M A
//! input gradient    the same, with w flipped and transposed
//! weight gradient   V = Bᵀ x B    D = A dy Aᵀ   dU_f = V_fᵀ · D_f       dw = Gᵀ dU G
//! ```
//!
//! Its rounding error is a few times the direct one's: in tests within 2.1e-5 of the largest result in `f32`.

// Registers are named by their place in the tile.
#![allow(clippy::needless_range_loop)]

pub(crate) mod forward;
pub(crate) mod gradient;
mod planes;
mod product;
#[cfg(test)]
mod tests;
mod transform;
pub(crate) mod weight;

use super::Geometry;
use super::algorithm::Pass;
use crate::Element;
use crate::ops::Window;
use crate::ops::gemm::Packed;
pub(super) use forward::{forward, forward_once, workspace};
pub(super) use gradient::backward_weight;
pub(super) use weight::{flipped, pack};

use transform::{FIVE_TAPS, OUTPUTS, SMALL_OUTPUTS, TAPS};

/// What a tile is: F(outputs × outputs, taps × taps).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// F(4×4, 3×3)
    Large,
    /// F(2×2, 3×3)
    Small,
    /// F(2×2, 5×5)
    Five,
}

impl Form {
    /// The one that makes the algorithm fastest for a pass.
    pub fn new(g: &Geometry, pass: Pass) -> Self {
        if g.window.kernel_size[0] == FIVE_TAPS {
            return Form::Five;
        }
        let small = pass != Pass::Weight && cost(g, pass, Form::Small) < cost(g, pass, Form::Large);
        if small { Form::Small } else { Form::Large }
    }

    /// Outputs of a tile along an axis.
    fn outputs(self) -> usize {
        match self {
            Form::Large => OUTPUTS,
            Form::Small | Form::Five => SMALL_OUTPUTS,
        }
    }

    /// Taps along an axis.
    fn taps(self) -> usize {
        match self {
            Form::Large | Form::Small => TAPS,
            Form::Five => FIVE_TAPS,
        }
    }

    fn frequencies(self) -> usize {
        (self.outputs() + self.taps() - 1).pow(2)
    }
}

/// Whether the geometry is one that this algorithm can do.
pub(super) fn applies(window: &Window, groups: usize, pass: Pass) -> bool {
    let kernel = window.kernel_size == [TAPS; 2] || (window.kernel_size == [FIVE_TAPS; 2] && pass != Pass::Weight);
    kernel && window.stride == [1, 1] && window.dilation == [1, 1] && groups == 1
}

/// Whether this algorithm is the faster one. The constants of the model are rounded from measurements of layers of
/// ResNet, DenseNet, GoogLeNet and VGG, at 1 to 16 images, on AVX2 and AVX-512.
pub(super) fn wins(g: &Geometry, pass: Pass) -> bool {
    /// The direct product's loops are a tenth less busy.
    const DIRECT: f64 = 1.1;
    /// It has one round of tasks, where this algorithm has two or three.
    const ROUND: f64 = 1e6;
    let [pixels, cin, cout] = [g.batch * g.output[0] * g.output[1], g.in_channels, g.out_channels].map(|n| n as f64);
    let read = if pass == Pass::Inference { read_weight() } else { 0.0 };
    let direct = (DIRECT * pixels + read) * g.window.taps() as f64 * cin * cout;
    ROUND + cost(g, pass, Form::new(g, pass)) < direct
}

/// A number of a weight, read once: from memory, since the weights of a network's other layers come in between. It takes
/// about as long as half as many multiply-adds as a panel has columns (a register has lanes, with AVX2 and AVX-512).
fn read_weight() -> f64 {
    Packed::<f32>::tile_width() as f64 / 2.0
}

/// The cost in multiply-adds of the product.
fn cost(g: &Geometry, pass: Pass, form: Form) -> f64 {
    /// Transforming a number of a channel of a tile, and doing so in a task that goes on to multiply it and write a few
    /// results.
    const TRANSFORM: f64 = 14.0;
    const OWN_TRANSFORM: f64 = 7.0;
    /// In training, a number of a transformed weight is made (or unmade) as well.
    const MAKE_WEIGHT: f64 = 22.0;
    let tiles = Tiles::new(g, form);
    let [count, frequencies] = [tiles.len(), form.frequencies()].map(|n| n as f64);
    let [cin, cout] = [g.in_channels, g.out_channels].map(|n| n as f64);
    let weight = if pass == Pass::Inference { read_weight() } else { MAKE_WEIGHT };
    let own = pass == Pass::Weight && gradient::own_tasks(&tiles, [g.in_channels, g.out_channels]).is_some();
    let transform = if own { OWN_TRANSFORM } else { TRANSFORM };
    frequencies * (count * cin * cout + transform * count * (cin + cout) + weight * cin * cout)
}

/// The tiles of an output.
#[derive(Debug, Clone, Copy)]
struct Tiles {
    batch: usize,
    form: Form,
    input: [usize; 2],
    output: [usize; 2],
    padding: [usize; 2],
    /// Tiles along height and width.
    grid: [usize; 2],
}

impl Tiles {
    fn new(g: &Geometry, form: Form) -> Self {
        Tiles {
            batch: g.batch,
            form,
            input: g.input,
            output: g.output,
            padding: [g.window.padding.top, g.window.padding.left],
            grid: g.output.map(|size| size.div_ceil(form.outputs())),
        }
    }

    fn len(&self) -> usize {
        self.batch * self.grid[0] * self.grid[1]
    }

    /// The image, and the first output row and column of a tile.
    fn at(&self, tile: usize) -> (usize, [usize; 2]) {
        let ([height, width], size) = (self.grid, self.form.outputs());
        (tile / (height * width), [tile / width % height * size, tile % width * size])
    }

    /// Pointers to the pixels under a tile's `SIZE × SIZE` window over rows of `channels`; `zeros` where it leaves the
    /// image of the given size, whose first pixel lies `padding` pixels from the first tile's.
    ///
    /// Without branches: with few channels, this is as long as a transform.
    #[inline(always)]
    fn pixels<T: Element, const SIZE: usize>(
        &self,
        (n, [y, x]): (usize, [usize; 2]),
        size: [usize; 2],
        padding: [usize; 2],
        (data, channels): (&[T], usize),
        zeros: &[T],
    ) -> [[*const T; SIZE]; SIZE] {
        assert!(n < self.batch && data.len() == self.batch * size[0] * size[1] * channels && zeros.len() >= channels);
        let mut pixels = [[zeros.as_ptr(); SIZE]; SIZE];
        for (dy, row) in pixels.iter_mut().enumerate() {
            // What lies above or to the left wraps to a huge number, outside like what lies below.
            let y = (y + dy).wrapping_sub(padding[0]);
            let first = data.as_ptr().wrapping_add((n * size[0]).wrapping_add(y).wrapping_mul(size[1] * channels));
            for (dx, pixel) in row.iter_mut().enumerate() {
                let x = (x + dx).wrapping_sub(padding[1]);
                let inside = y < size[0] && x < size[1];
                *pixel = if inside { first.wrapping_add(x.wrapping_mul(channels)) } else { zeros.as_ptr() };
            }
        }
        pixels
    }
}
