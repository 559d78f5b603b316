//! Activations that are curves, over tiles of a gathered product.

use std::ops::Range;

use super::tile::{Block, load, store};
use crate::Element;
use crate::ops::activation::{Activation, with_curve};
use crate::simd::Simd;

/// C = curve(C) over `rows` of a block that have been computed. Curves are long: a loop over what was just stored keeps
/// them from being repeated for every register of every tile.
///
/// # Safety
/// As for [`tile::gather`](super::tile::gather).
#[inline(always)]
pub(super) unsafe fn bend<T: Element, N, S: Simd<T>>(
    simd: S,
    curve: Activation,
    block: &Block<T, N>,
    rows: Range<usize>,
) {
    with_curve!(curve, |curve| {
        for i in rows {
            // SAFETY: the caller's promise; `live` columns are the block's.
            unsafe {
                let out = block.out.add(*block.targets.add(i));
                let mut c = 0;
                // Two at a time, since each is a long chain.
                while c + 2 * S::LANES <= block.live {
                    let a = curve.activate(simd, simd.load_ptr(out.add(c)));
                    let b = curve.activate(simd, simd.load_ptr(out.add(c + S::LANES)));
                    simd.store_ptr(a, out.add(c));
                    simd.store_ptr(b, out.add(c + S::LANES));
                    c += 2 * S::LANES;
                }
                while c < block.live {
                    let (out, lanes) = (out.add(c), S::LANES.min(block.live - c));
                    store(simd, curve.activate(simd, load(simd, out, lanes)), out, lanes);
                    c += S::LANES;
                }
            }
        }
    });
}
