//! What the operations' tests share: random tensors, every instruction set, numerical gradients, thread counts.

use std::sync::Mutex;

use crate::{Element, Shape, Tensor, simd, threads};

/// A small splitmix64 generator.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [−1, 1), exact in `f32`.
    pub fn tensor<T: Element>(&mut self, shape: impl Into<Shape>) -> Tensor<T> {
        Tensor::from_fn(shape, |_| T::from_f64((self.next() >> 40) as f64 / f64::from(1 << 23) - 1.0))
    }
}

/// Runs `f` on every instruction set of this processor.
pub fn on_every_isa(f: impl Fn()) {
    simd::available().iter().for_each(|&isa| simd::with_isa(isa, &f));
}

/// Asserts that `f` gives the same bits on 1, 2, 3 and 8 threads.
pub fn same_bits<T: Element>(f: impl Fn() -> Vec<Tensor<T>>) {
    // Other tests may set the number of threads at the same time; results depend on it in none of them.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let [expected, others @ ..] = &[1, 2, 3, 8].map(|n| {
        threads::set(n);
        f()
    });
    for result in others {
        for (a, b) in result.iter().zip(expected) {
            assert_eq!(a.shape(), b.shape());
            assert!(bytemuck::cast_slice::<T, u8>(a.data()) == bytemuck::cast_slice::<T, u8>(b.data()));
        }
    }
}

/// A result by the definition, in double precision, and what its rounding errors are proportional to: for each element the
/// sum of its addends' magnitudes. (The result itself may be next to nothing where addends cancel.)
pub struct Sum {
    pub value: Tensor<f64>,
    magnitude: Tensor<f64>,
}

impl Sum {
    pub fn zeros<T: Element>(like: &Tensor<T>) -> Self {
        Sum { value: Tensor::zeros(*like.shape()), magnitude: Tensor::zeros(*like.shape()) }
    }

    /// Adds `share · product` to an element. The errors of a share, which is at most 1, are absolute: it counts as 1.
    pub fn add(&mut self, at: usize, share: f64, product: f64) {
        self.value.data_mut()[at] += share * product;
        self.magnitude.data_mut()[at] += product.abs();
    }

    /// The largest error of `got`, relative to the largest magnitude.
    pub fn error<T: Element>(&self, got: &Tensor<T>) -> f64 {
        assert_eq!(got.shape(), self.value.shape());
        let differences = got.data().iter().zip(self.value.data()).map(|(a, b)| (a.to_f64() - b).abs());
        let error = differences.fold(0.0, |worst, error| if error <= worst { worst } else { error });
        if error == 0.0 { 0.0 } else { error / self.magnitude.data().iter().copied().fold(0.0, f64::max) }
    }
}

/// Σ aᵢ bᵢ
pub fn dot<T: Element>(a: &Tensor<T>, b: &Tensor<T>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    a.data().iter().zip(b.data()).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
}

/// The gradient of ⟨f(x), dy⟩ by x, from differences of ±1e-6.
pub fn central_difference(x: &Tensor<f64>, dy: &Tensor<f64>, f: impl Fn(&Tensor<f64>) -> Tensor<f64>) -> Tensor<f64> {
    const STEP: f64 = 1e-6;
    let mut moved = x.clone();
    Tensor::from_fn(x.shape(), |i| {
        let mut at = |step: f64| {
            moved.data_mut()[i] = x.data()[i] + step;
            dot(&f(&moved), dy)
        };
        let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
        at(0.0);
        slope
    })
}
