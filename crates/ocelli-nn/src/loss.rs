//! What training makes small, and what people read instead.

use ocelli_autograd::Var;
use ocelli_autograd::tensor::{Element, Tensor};

use crate::{Error, Result};

/// The mean cross-entropy of `logits` `[N, classes]` against the classes that are true, of shape `[]`. With
/// `label_smoothing` ε, a target has 1 − ε + ε/classes at its class and ε/classes elsewhere (Szegedy et al. 2015).
pub fn cross_entropy<T: Element>(logits: &Var<T>, targets: &[usize], label_smoothing: f64) -> Result<Var<T>> {
    Ok(logits.cross_entropy(targets, label_smoothing)?)
}

/// What logits `[N, classes]` are compared with.
#[derive(Debug, Clone, Copy)]
pub enum Targets<'a, T: Element = f32> {
    /// The class of each row.
    Classes(&'a [usize]),
    /// The probability of each class in each row, `[N, classes]`.
    Soft(&'a Tensor<T>),
}

/// How [`cross_entropy_with`] counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct CrossEntropyOptions<'a> {
    /// ε, from 0 to 1: the share of each target that is spread over all classes.
    pub label_smoothing: f64,
    /// Rows of this class count nothing; it need not be a class of the logits.
    pub ignore_index: Option<usize>,
    /// A weight for each class.
    pub class_weights: Option<&'a [f64]>,
}

/// The mean cross-entropy of `logits` `[N, classes]`, of shape `[]`, as PyTorch defines it: with q the targets, smoothed
/// as in [`cross_entropy`], and w the class weights, −Σₙ Σ_c w_c q_nc ln p_nc, over Σₙ w_targetₙ for classes that are not
/// ignored, and over N for soft targets. If all rows are ignored it is 0.
///
/// Errors if targets or weights don't fit the logits, or if a setting is out of its domain.
pub fn cross_entropy_with<T: Element>(
    logits: &Var<T>,
    targets: Targets<'_, T>,
    options: &CrossEntropyOptions<'_>,
) -> Result<Var<T>> {
    let (shape, smoothing) = (*logits.shape(), options.label_smoothing);
    let &[rows, classes] = &shape[..] else {
        return Err(Error::argument("cross_entropy logits", "[N, classes]", shape));
    };
    if !(0.0..=1.0).contains(&smoothing) {
        return Err(Error::argument("cross_entropy label smoothing", "in [0, 1]", smoothing));
    }
    let weights = options.class_weights;
    if let Some(weights) = weights.filter(|weights| weights.len() != classes) {
        return Err(Error::argument("cross_entropy class weights", classes, weights.len()));
    }
    let weight = |class: usize| weights.map_or(1.0, |weights| weights[class]);
    let smoothed = |q: f64| (1.0 - smoothing) * q + smoothing / classes as f64;
    let q = match targets {
        Targets::Soft(soft) => {
            if *soft.shape() != shape {
                return Err(Error::argument("cross_entropy soft targets", shape, soft.shape()));
            }
            let q = |i: usize| weight(i % classes) * smoothed(soft.data()[i].to_f64()) / rows as f64;
            Tensor::from_fn(shape, |i| T::from_f64(q(i)))
        }
        Targets::Classes(targets) => {
            let counts = |target: usize| Some(target) != options.ignore_index;
            if targets.len() != rows {
                return Err(Error::argument("cross_entropy target count", rows, targets.len()));
            }
            if let Some(target) = targets.iter().find(|&&target| counts(target) && target >= classes) {
                return Err(Error::argument("cross_entropy target", format!("below {classes}"), target));
            }
            let total: f64 = targets.iter().filter(|&&target| counts(target)).map(|&target| weight(target)).sum();
            let q = |row: usize, class: usize| match targets[row] {
                target if counts(target) => weight(class) * smoothed(f64::from(class == target)) / total,
                _ => 0.0,
            };
            Tensor::from_fn(shape, |i| T::from_f64(q(i / classes, i % classes)))
        }
    };
    Ok(logits.soft_cross_entropy(&q)?)
}

/// The mean over all elements of −t ln σ(x) − (1 − t) ln (1 − σ(x)), of shape `[]`: of `logits` x, each of which answers
/// a question of its own, and the probabilities t that the answer is yes.
pub fn binary_cross_entropy<T: Element>(logits: &Var<T>, targets: &Tensor<T>) -> Result<Var<T>> {
    Ok(logits.binary_cross_entropy(targets)?)
}

/// The mean of (y − t)² over all elements, of shape `[]`.
pub fn mean_squared_error<T: Element>(y: &Var<T>, targets: &Tensor<T>) -> Result<Var<T>> {
    Ok(y.mean_squared_error(&Var::constant(targets.clone()))?)
}

/// In how many rows of `logits` `[N, classes]` the true class is among the `k` largest. Of equal logits the ones with
/// smaller indices count as larger; a NaN never counts.
pub fn top_k_correct<T: Element>(logits: &Tensor<T>, targets: &[usize], k: usize) -> Result<usize> {
    let (rows, classes) = (logits.shape().rows(), logits.shape().columns());
    if logits.shape().rank() != 2 || rows != targets.len() {
        let expected = format!("logits of shape [{}, classes]", targets.len());
        return Err(Error::argument("top_k_correct", expected, logits.shape()));
    }
    if let Some(target) = targets.iter().find(|&&target| target >= classes) {
        return Err(Error::argument("top_k_correct target", format!("below {classes}"), target));
    }
    let correct = |(row, &target): (&[T], &usize)| {
        let (own, before) = (row[target], |(i, x): (usize, &T)| *x > row[target] || (*x == row[target] && i < target));
        !own.to_f64().is_nan() && row.iter().enumerate().filter(|&item| before(item)).count() < k
    };
    Ok(logits.data().chunks_exact(classes.max(1)).zip(targets).filter(|&item| correct(item)).count())
}

/// The share of rows of `logits` `[N, classes]` whose largest is the true class; 0 without rows.
pub fn accuracy<T: Element>(logits: &Tensor<T>, targets: &[usize]) -> Result<f64> {
    Ok(top_k_correct(logits, targets, 1)? as f64 / targets.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_ties_by_index_and_nan_never() {
        let logits =
            Tensor::from_slice([4, 3], &[1.0f32, 3.0, 2.0, 5.0, 5.0, 0.0, 5.0, 5.0, 0.0, f32::NAN, 1.0, 0.0]).unwrap();
        let correct = |k| top_k_correct(&logits, &[1, 0, 1, 0], k).unwrap();
        assert_eq!([correct(1), correct(2), correct(3)], [2, 3, 3]);
        assert_eq!(accuracy(&logits, &[1, 0, 1, 0]).unwrap(), 0.5);
        assert_eq!(accuracy(&Tensor::<f32>::zeros([0, 3]), &[]).unwrap(), 0.0);
        assert!(top_k_correct(&logits, &[1], 1).is_err() && top_k_correct(&logits, &[0, 0, 0, 3], 1).is_err());
    }
}
