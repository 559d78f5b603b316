//! What the tests of all convolutions don't reach: many tiles, deep and wide products, several blocks of sums.

use super::transform::{OUTPUTS, SMALL_OUTPUTS};
use super::{Geometry, Pass, forward, outputs, pack};
use crate::ops::conv::{Algorithm, conv2d, conv2d_backward_input, conv2d_backward_weight, with_algorithm};
use crate::ops::gemm::gather::Epilogue;
use crate::ops::testing::{Rng, on_every_isa, same_bits};
use crate::ops::{Padding, Window};
use crate::{Element, Shape, Tensor};

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

/// Batch, size and channels such that tasks have V, and sums over some tiles, for themselves; likewise with one register of
/// channels; sums come in several blocks; the common dimension is longer than a block, and U is made in parts; panels are
/// many and uneven; only a corner of a tile exists; dU has many parts.
const SIZES: [(usize, [usize; 2], [usize; 2]); 7] = [
    (1, [130, 126], [21, 43]),
    (1, [94, 90], [9, 14]),
    (1, [86, 83], [67, 70]),
    (2, [21, 20], [300, 23]),
    (1, [13, 15], [9, 210]),
    (3, [1, 2], [40, 40]),
    (1, [9, 10], [130, 190]),
];

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
fn tiles_of_either_size_match_the_direct_result() {
    for (batch, size, channels) in SIZES {
        let Case([x, w, _], window) = Case::<f64>::new(batch, size, channels);
        let expected = with_algorithm(Algorithm::Direct, || conv2d(&x, &w, &window, 1)).unwrap();
        let [x, w, expected] = [x, w, expected].map(|x| x.cast::<f32>());
        let g = Geometry::new("conv2d", x.shape(), w.shape(), &window, 1).unwrap();
        for (outputs, bound) in [(SMALL_OUTPUTS, 2e-6), (OUTPUTS, 2.1e-5)] {
            on_every_isa(|| {
                let mut y = Tensor::zeros(*expected.shape());
                forward(&g, x.data(), &pack(&w, outputs), &mut Tensor::default(), y.data_mut(), Epilogue::NONE);
                let error = y.relative_error(&expected);
                assert!(error < bound, "{outputs} outputs of {batch} × {size:?}, {channels:?}: off by {error:e}");
            });
        }
    }
}

#[test]
fn few_pixels_and_many_channels_take_small_tiles() {
    let choice = |size: usize, channels: usize| {
        let [x, w] = [[1, size, size, channels], [3, 3, channels, channels]].map(Shape::from);
        outputs(&Geometry::new("conv2d", &x, &w, &Window::square(3).padding(1), 1).unwrap(), Pass::Inference)
    };
    assert_eq!([choice(7, 512), choice(28, 128), choice(56, 64)], [SMALL_OUTPUTS, OUTPUTS, OUTPUTS]);
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for (batch, size, channels) in SIZES {
        let case = Case::<f32>::new(batch, size, channels);
        same_bits(|| case.run(Algorithm::Winograd));
    }
}
