//! What the tests of all convolutions don't reach: many tiles, deep and wide products, several blocks of sums.

use crate::ops::conv::{Algorithm, conv2d, conv2d_backward_input, conv2d_backward_weight, with_algorithm};
use crate::ops::testing::{Rng, on_every_isa, same_bits};
use crate::ops::{Padding, Window};
use crate::{Element, Tensor};

/// An input, weights and an output gradient.
struct Case<T: Element>([Tensor<T>; 3], Window);

impl<T: Element> Case<T> {
    fn new(batch: usize, [height, width]: [usize; 2], [cin, cout]: [usize; 2]) -> Self {
        let rng = &mut Rng::new(7);
        let padding = Padding { top: 1, bottom: 2, left: 0, right: 1 };
        let x = rng.tensor([batch, height, width, cin]);
        let w = rng.tensor([3, 3, cin, cout]);
        let dy = rng.tensor([batch, height + 1, width - 1, cout]);
        Case([x, w, dy], Window { padding, ..Window::square(3) })
    }

    /// The output and both gradients.
    fn run(&self, algorithm: Algorithm) -> Vec<Tensor<T>> {
        let Case([x, w, dy], window) = self;
        with_algorithm(algorithm, || {
            vec![
                conv2d(x, w, window, 1).unwrap(),
                conv2d_backward_input(dy, w, x.shape(), window, 1).unwrap(),
                conv2d_backward_weight(x, dy, w.shape(), window, 1).unwrap(),
            ]
        })
    }
}

/// Batch, size and channels such that tasks have V for themselves and sums come in several blocks; the common dimension
/// is longer than a block; panels are many and uneven; only a corner of a tile exists.
const SIZES: [(usize, [usize; 2], [usize; 2]); 4] =
    [(1, [130, 126], [21, 43]), (2, [21, 20], [300, 23]), (1, [13, 15], [9, 210]), (3, [1, 2], [40, 40])];

#[test]
fn results_match_the_direct_ones_in_double_precision() {
    for (batch, size, channels) in SIZES {
        let expected = Case::<f64>::new(batch, size, channels).run(Algorithm::Direct);
        on_every_isa(|| {
            let got = Case::<f32>::new(batch, size, channels).run(Algorithm::Winograd);
            for ((got, expected), what) in got.iter().zip(&expected).zip(["y", "dx", "dw"]) {
                let expected = Tensor::from_fn(expected.shape(), |i| expected.data()[i] as f32);
                let error = got.relative_error(&expected);
                assert!(error < 2.1e-5, "{what} of {batch} × {size:?}, {channels:?} is off by {error:e}");
            }
        });
        let got = Case::<f64>::new(batch, size, channels).run(Algorithm::Winograd);
        assert!(got.iter().zip(&expected).all(|(got, expected)| got.relative_error(expected) < 7e-13));
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for (batch, size, channels) in SIZES {
        let case = Case::<f32>::new(batch, size, channels);
        same_bits(|| case.run(Algorithm::Winograd));
    }
}
