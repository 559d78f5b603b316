//! What the tests of all convolutions don't reach: many tiles, deep and wide products, several blocks of sums.

use super::{Form, Geometry, Pass, forward, pack};
use crate::ops::conv::{Algorithm, conv2d, conv2d_backward_input, conv2d_backward_weight, with_algorithm};
use crate::ops::gemm::gather::Epilogue;
use crate::ops::testing::{Rng, on_every_isa, same_bits};
use crate::ops::{Padding, Window};
use crate::{Element, Shape, Tensor};

/// An input, weights and an output gradient.
struct Case<T: Element>([Tensor<T>; 3], Window);

impl<T: Element> Case<T> {
    fn new((kernel, batch, [height, width], [cin, cout]): Size) -> Self {
        let rng = &mut Rng::new(7);
        let padding = Padding { top: 1, bottom: 2, left: 0, right: 1 };
        let x = rng.tensor([batch, height, width, cin]);
        let w = rng.tensor([kernel, kernel, cin, cout]);
        let dy = rng.tensor([batch, height + 4 - kernel, width + 2 - kernel, cout]);
        Case([x, w, dy], Window { padding, ..Window::square(kernel) })
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

/// Kernel, batch, size and channels.
type Size = (usize, usize, [usize; 2], [usize; 2]);

/// Such that tasks have V, and sums over some tiles, for themselves; likewise with one register of channels; sums come in
/// several blocks; the common dimension is longer than a block, and U is made in parts; panels are many and uneven; only a
/// corner of a tile exists; dU has many parts; and the same with five taps, which have no sums.
const SIZES: [Size; 11] = [
    (3, 1, [130, 126], [21, 43]),
    (3, 1, [94, 90], [9, 14]),
    (3, 1, [86, 83], [67, 70]),
    (3, 2, [21, 20], [300, 23]),
    (3, 1, [13, 15], [9, 210]),
    (3, 3, [1, 2], [40, 40]),
    (3, 1, [9, 10], [130, 190]),
    (5, 1, [66, 63], [21, 43]),
    (5, 2, [11, 12], [300, 23]),
    (5, 1, [13, 15], [9, 210]),
    (5, 1, [9, 10], [130, 90]),
];

#[test]
fn results_match_the_direct_ones_in_double_precision() {
    for size in SIZES {
        let expected = Case::<f64>::new(size).run(Algorithm::Direct);
        on_every_isa(|| {
            let got = Case::<f32>::new(size).run(Algorithm::Winograd);
            for ((got, expected), what) in got.iter().zip(&expected).zip(["y", "dx", "dw"]) {
                let expected = Tensor::from_fn(expected.shape(), |i| expected.data()[i] as f32);
                let error = got.relative_error(&expected);
                assert!(error < 2.1e-5, "{what} of {size:?} is off by {error:e}");
            }
        });
        let got = Case::<f64>::new(size).run(Algorithm::Winograd);
        assert!(got.iter().zip(&expected).all(|(got, expected)| got.relative_error(expected) < 7e-13));
    }
}

#[test]
fn tiles_of_every_form_match_the_direct_result() {
    for size in SIZES {
        let Case([x, w, _], window) = Case::<f64>::new(size);
        let expected = with_algorithm(Algorithm::Direct, || conv2d(&x, &w, &window, 1)).unwrap();
        let [x, w, expected] = [x, w, expected].map(|x| x.cast::<f32>());
        let g = Geometry::new("conv2d", x.shape(), w.shape(), &window, 1).unwrap();
        let forms: &[_] =
            if size.0 == 3 { &[(Form::Small, 2e-6), (Form::Large, 2.1e-5)] } else { &[(Form::Five, 2.1e-5)] };
        for &(form, bound) in forms {
            on_every_isa(|| {
                let mut y = Tensor::zeros(*expected.shape());
                let u = pack(&w, form);
                forward(&g, x.data(), (&u, form), &mut Tensor::default(), y.data_mut(), Epilogue::NONE);
                let error = y.relative_error(&expected);
                assert!(error < bound, "{form:?} tiles of {size:?}: off by {error:e}");
            });
        }
    }
}

#[test]
fn few_pixels_and_many_channels_take_small_tiles() {
    let choice = |size: usize, channels: usize| {
        let [x, w] = [[1, size, size, channels], [3, 3, channels, channels]].map(Shape::from);
        Form::new(&Geometry::new("conv2d", &x, &w, &Window::square(3).padding(1), 1).unwrap(), Pass::Inference)
    };
    assert_eq!([choice(7, 512), choice(28, 128), choice(56, 64)], [Form::Small, Form::Large, Form::Large]);
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for size in SIZES {
        let case = Case::<f32>::new(size);
        same_bits(|| case.run(Algorithm::Winograd));
    }
}
