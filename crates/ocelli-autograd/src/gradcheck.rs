//! Checking gradients against central differences, in double precision.
//!
//! For y = f(x₀, x₁, …) and a random cotangent c, let L = ⟨c, y⟩. The gradient that a backward pass from c gives for
//! each element is compared with (L(x + h) − L(x − h)) / 2h. The step h is 10⁻⁵ of the input's largest magnitude: in
//! double precision its truncation and rounding errors are then both around 10⁻¹⁰, far below the tolerance of 10⁻⁶.
//!
//! Where a kink (of a ReLU, of a maximum) lies between x − h and x + h the difference says nothing about the gradient,
//! and among the thousands of rectified values of a block that does happen. So an element that disagrees is tried again
//! with smaller steps, which exclude the kink, and then on either side of x alone, since one may lie nearer still: by
//! (4 (L(x ± h) − L(x)) − (L(x ± 2h) − L(x))) / ±2h, whose error is of the same order. A wrong gradient disagrees with
//! all of them; but at a kink itself, either side's passes.

use std::error::Error as StdError;

use ocelli_tensor::{Shape, Tensor};

use crate::{Error, Parameter, Var, no_grad};

/// Steps relative to the input's largest magnitude, tried in this order.
const STEPS: [f64; 3] = [1e-5, 1e-6, 1e-7];

/// Where differences are taken, and with how many of the steps, tried in this order: on both sides of x, below it, above it.
/// (One side's rounding errors are some four times as large.)
const SIDES: [(f64, usize); 3] = [(0.0, 3), (-1.0, 2), (1.0, 2)];

/// Where a gradient is small beside ⟨|c|, |y|⟩ (often exactly zero, as that of a bias in front of batch normalisation),
/// differences resolve it only to their rounding error. It is judged on this share of ⟨|c|, |y|⟩ instead.
const ROUNDING_FLOOR: f64 = 1e-3;

/// Why a gradient check failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GradError {
    /// The backward pass and central differences disagree.
    #[error(
        "gradient of input {input} at element {index}: backward gives {analytic:e}, central differences {numeric:e}"
    )]
    Mismatch {
        /// Which input.
        input: usize,
        /// Which of its elements, row-major.
        index: usize,
        /// The backward pass's gradient.
        analytic: f64,
        /// The central difference.
        numeric: f64,
    },
    /// The gradient of an input is another one if no other input requires a gradient.
    #[error(
        "gradient of input {input} at element {index}: {together:e} with all inputs' gradients, but {alone:e} on its own"
    )]
    Alone {
        /// Which input.
        input: usize,
        /// Which of its elements, row-major.
        index: usize,
        /// The gradient when all inputs require one.
        together: f64,
        /// The gradient when only this input does.
        alone: f64,
    },
    /// The function under test refused.
    #[error("the function under test: {0}")]
    Function(#[source] Box<dyn StdError + Send + Sync>),
    /// The backward pass refused.
    #[error(transparent)]
    Backward(#[from] Error),
}

/// [`GradCheck::check`] with the default settings: every element of every input, to 10⁻⁶.
///
/// ```
/// use ocelli_autograd::Tensor;
/// use ocelli_autograd::gradcheck::gradcheck;
///
/// let x = Tensor::from_slice([2, 3], &[0.1, -0.2, 0.7, 1.5, -2.0, 0.4])?;
/// let w = Tensor::from_slice([2, 3], &[1.1, 0.9, 0.3, -0.8, 0.5, -0.6])?;
/// gradcheck(&[x, w], |v| v[0].mul(&v[1])?.sigmoid())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn gradcheck<E>(inputs: &[Tensor<f64>], f: impl Fn(&[Var<f64>]) -> Result<Var<f64>, E>) -> Result<(), GradError>
where
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    GradCheck::default().check(inputs, f)
}

/// Settings of a gradient check.
#[derive(Debug, Clone, Copy)]
pub struct GradCheck {
    /// The largest accepted difference, relative to the largest gradient of the same input; 10⁻⁶ by default.
    pub tolerance: f64,
    /// How many elements of each input are differenced, each at the price of two or more evaluations; all by default.
    /// A larger input is sampled at random.
    pub samples: usize,
    /// Of the cotangent and the sample.
    pub seed: u64,
}

impl Default for GradCheck {
    fn default() -> Self {
        GradCheck { tolerance: 1e-6, samples: usize::MAX, seed: 0 }
    }
}

impl GradCheck {
    /// Checks the gradients of `f` at `inputs`: against central differences when all inputs require gradients, and that
    /// each is the same when no other input requires one.
    ///
    /// `f` must be deterministic, and smooth at `inputs` but for isolated kinks.
    pub fn check<E>(
        &self,
        inputs: &[Tensor<f64>],
        f: impl Fn(&[Var<f64>]) -> Result<Var<f64>, E>,
    ) -> Result<(), GradError>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let parameters: Vec<_> = inputs.iter().map(|x| Parameter::new(x.clone())).collect();
        let f = || f(&parameters.iter().map(Parameter::var).collect::<Vec<_>>());
        self.check_parameters(&parameters, f)?;

        let f = || f().map_err(|e| GradError::Function(e.into()));
        let cotangent = random(*no_grad(f)?.shape(), self.seed);
        let together = gradients(&parameters, f, &cotangent)?;
        for (input, dx) in together.iter().enumerate() {
            parameters.iter().enumerate().for_each(|(i, parameter)| parameter.set_requires_grad(i == input));
            compare_alone(input, dx, &gradients(&parameters, f, &cotangent)?[input])?;
        }
        Ok(())
    }

    /// Checks the gradients of parameters that `f` holds, such as a layer's, against central differences. The
    /// parameters keep their values and lose their gradients.
    pub fn check_parameters<E>(
        &self,
        parameters: &[Parameter<f64>],
        f: impl Fn() -> Result<Var<f64>, E>,
    ) -> Result<(), GradError>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let f = || f().map_err(|e| GradError::Function(e.into()));
        let y = no_grad(f)?.into_value();
        let cotangent = random(*y.shape(), self.seed);
        let together = gradients(parameters, f, &cotangent)?;
        let magnitude = dot(&cotangent, &y, |c, y| (c * y).abs());
        for (input, (parameter, dx)) in parameters.iter().zip(&together).enumerate() {
            let x = parameter.value();
            let scale = Some(largest(&x)).filter(|&m| m > 0.0).unwrap_or(1.0);
            let allowed = self.tolerance * largest(dx).max(ROUNDING_FLOOR * magnitude / scale);
            for index in self.sample(dx.len(), input) {
                let analytic = dx.data()[index];
                let mut numeric = f64::NAN;
                let mut tries =
                    SIDES.iter().flat_map(|&(side, n)| STEPS[..n].iter().map(move |step| (side, step * scale)));
                let agrees = tries.try_fold(false, |agrees, (side, step)| {
                    if agrees {
                        return Ok(true);
                    }
                    let found = difference(f, (parameter, &x, index), (side, step), &cotangent)?;
                    if side == 0.0 {
                        numeric = found;
                    }
                    Ok::<_, GradError>((analytic - found).abs() <= allowed)
                });
                parameter.set_value(x.clone())?;
                if !agrees? {
                    return Err(GradError::Mismatch { input, index, analytic, numeric });
                }
            }
        }
        Ok(())
    }

    fn sample(&self, len: usize, input: usize) -> Vec<usize> {
        if len <= self.samples {
            return (0..len).collect();
        }
        let seed = self.seed.wrapping_add(input as u64);
        (0..self.samples as u64).map(|i| (hash(seed, i) % len as u64) as usize).collect()
    }
}

/// The gradients that a backward pass from `cotangent` gives; zeros for parameters that require none.
fn gradients(
    parameters: &[Parameter<f64>],
    f: impl Fn() -> Result<Var<f64>, GradError>,
    cotangent: &Tensor<f64>,
) -> Result<Vec<Tensor<f64>>, GradError> {
    parameters.iter().for_each(Parameter::zero_grad);
    let y = f()?;
    if y.requires_grad() {
        y.backward_with(cotangent.clone())?;
    }
    Ok(parameters.iter().map(|p| p.take_grad().unwrap_or_else(|| Tensor::zeros(p.shape()))).collect())
}

/// The two passes run the same kernels, but may sum in another order.
fn compare_alone(input: usize, together: &Tensor<f64>, alone: &Tensor<f64>) -> Result<(), GradError> {
    let allowed = 1e-10 * largest(together);
    let pairs = together.data().iter().zip(alone.data());
    match pairs.clone().position(|(a, b)| (a - b).abs() > allowed) {
        Some(index) => {
            Err(GradError::Alone { input, index, together: together.data()[index], alone: alone.data()[index] })
        }
        None => Ok(()),
    }
}

/// (L(x + h) − L(x − h)) / 2h for one element of one parameter, whose value is x but for that element afterwards; or what
/// the head of this file says of a side.
fn difference(
    f: impl Fn() -> Result<Var<f64>, GradError>,
    (parameter, x, index): (&Parameter<f64>, &Tensor<f64>, usize),
    (side, step): (f64, f64),
    cotangent: &Tensor<f64>,
) -> Result<f64, GradError> {
    let evaluate = |at: f64| {
        let mut x = x.clone();
        x.data_mut()[index] = at;
        parameter.set_value(x)?;
        no_grad(&f).map(Var::into_value)
    };
    // Differences of elements before the sum over them: large values that do not depend on x then cancel exactly.
    let change = |y: &Tensor<f64>, from: &Tensor<f64>| {
        let change = Tensor::from_fn(y.shape(), |i| y.data()[i] - from.data()[i]);
        dot(cotangent, &change, |c, d| c * d)
    };
    let at = x.data()[index];
    if side == 0.0 {
        let (above, below) = (at + step, at - step);
        return Ok(change(&evaluate(above)?, &evaluate(below)?) / (above - below));
    }
    let width = at + 2.0 * side * step - at;
    let (y, near, far) = (evaluate(at)?, evaluate(at + width / 2.0)?, evaluate(at + width)?);
    Ok((4.0 * change(&near, &y) - change(&far, &y)) / width)
}

fn dot(a: &Tensor<f64>, b: &Tensor<f64>, f: impl Fn(f64, f64) -> f64) -> f64 {
    a.data().iter().zip(b.data()).map(|(&a, &b)| f(a, b)).sum()
}

fn largest(x: &Tensor<f64>) -> f64 {
    x.data().iter().fold(0.0, |m: f64, x| m.max(x.abs()))
}

/// Uniform in ±[½, 1], so that no output is left out.
fn random(shape: Shape, seed: u64) -> Tensor<f64> {
    Tensor::from_fn(shape, |i| {
        let bits = hash(seed, i as u64);
        let size = 0.5 + (bits >> 12) as f64 / (1u64 << 53) as f64;
        if bits & 1 == 0 { size } else { -size }
    })
}

/// SplitMix64 at position `i` of the stream of `seed`: Steele et al. 2014, <https://doi.org/10.1145/2660193.2660195>.
fn hash(seed: u64, i: u64) -> u64 {
    let mut z = seed.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
