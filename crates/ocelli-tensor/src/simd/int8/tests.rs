//! Every operation on every instruction set of this processor, against scalars.

use super::*;
use crate::simd::available;

/// The sums of a step's products with weights at the edge of what is allowed, and bytes written and read again.
struct Steps<'a> {
    row: &'a [u8; STEP],
    weights: &'a dyn Fn(usize, usize) -> i8,
}

impl ByteKernel for Steps<'_> {
    type Output = (Vec<f32>, Vec<f32>);

    #[inline(always)]
    fn run<S: Int8>(self, simd: S) -> Self::Output {
        let lanes = S::Floats::LANES;
        let panel: Vec<i8> =
            (0..STEP * lanes).map(|i| (self.weights)(i / (RUN * lanes) * RUN + i % RUN, i / RUN % lanes)).collect();
        let mut sums = simd.zero();
        for k in (0..STEP).step_by(S::DEPTH) {
            // SAFETY: the row has STEP bytes and the panel as many for each lane.
            unsafe {
                let weights = simd.weights(panel.as_ptr().add(k * lanes), RUN * lanes);
                sums = simd.dot(sums, simd.row(self.row.as_ptr().add(k)), weights);
            }
        }
        let (mut products, mut copied) = (vec![0.0; lanes], vec![]);
        simd.floats().store(simd.numbers(sums), &mut products);
        for n in 0..=lanes {
            let numbers: Vec<f32> = (0..lanes).map(|i| (i * 15) as f32 + 0.5).collect();
            let (mut bytes, mut read) = (vec![7; lanes], vec![0.0; lanes]);
            // SAFETY: all slices have `lanes ≥ n` elements.
            unsafe {
                simd.store_bytes(simd.floats().load(&numbers), bytes.as_mut_ptr(), n);
                simd.floats().store(simd.load_bytes(bytes.as_ptr(), n), &mut read);
            }
            assert!(bytes[n..].iter().all(|&byte| byte == 7) && read[n..].iter().all(|&x| x == 0.0));
            copied.extend_from_slice(&read[..n]);
        }
        (products, copied)
    }
}

fn check(row: [u8; STEP], weights: impl Fn(usize, usize) -> i8) {
    for &isa in available() {
        let (products, copied) = dispatch_bytes(isa, Steps { row: &row, weights: &weights });
        for (lane, &got) in products.iter().enumerate() {
            let expected: i32 = (0..STEP).map(|k| i32::from(row[k]) * i32::from(weights(k, lane))).sum();
            assert_eq!(got, expected as f32, "{isa:?}, lane {lane}");
        }
        let lanes = products.len();
        let expected = (0..=lanes).flat_map(|n| (0..n).map(|i| ((i * 15) as f32 + 0.5).round_ties_even()));
        assert!(copied.into_iter().eq(expected), "{isa:?}");
    }
}

#[test]
fn sums_are_exact_at_the_edge() {
    check([255; STEP], |k, lane| [64, 64, 1, 127, -64, -64, -1, -127][(k + lane) % STEP]);
    for sign in [1, -1] {
        check([255; STEP], |k, _| sign * [127, 0, 64, 64, 0, 1, 0, 0][k]);
        check([255; STEP], |_, _| sign * 32);
    }
    check([0, 1, 2, 3, 100, 200, 254, 255], |k, lane| (k * 5 + lane * 3) as i8 % 32 - 16);
}
