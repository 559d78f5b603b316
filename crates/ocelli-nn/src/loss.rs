//! What training makes small, and what people read instead.

use ocelli_autograd::Var;
use ocelli_autograd::tensor::{Element, Tensor};

use crate::{Error, Result};

/// The mean cross-entropy of `logits` `[N, classes]` against the classes that are true, of shape `[]`. With
/// `label_smoothing` ε, a target has 1 − ε + ε/classes at its class and ε/classes elsewhere (Szegedy et al. 2015).
pub fn cross_entropy<T: Element>(logits: &Var<T>, targets: &[usize], label_smoothing: f64) -> Result<Var<T>> {
    Ok(logits.cross_entropy(targets, label_smoothing)?)
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
