//! What the cross-crate tests share: weights and inputs made from a formula, and the reference results of PyTorch for
//! them (`tests/fixtures/`, made by `make.py` there).

pub mod fixtures;
pub mod gradients;
pub mod ops;
pub mod seeded;
pub mod steps;

use ocelli_train::zoo::nn::tensor::Tensor;

/// Pictures N × C × H × W, as others lay them out, as a tensor `[N, H, W, C]`.
///
/// # Panics
/// If there are not as many values as the shape has.
pub fn nhwc(pictures: Vec<f32>, [n, c, h, w]: [usize; 4]) -> Tensor<f32> {
    let tensor = Tensor::from_vec([n, c, h, w], pictures).expect("as many values as the shape has");
    tensor.permute(&[0, 2, 3, 1]).expect("an order of four axes")
}

/// max |a − b| / max |b|: how far `a` is from the reference `b`, as a part of the reference's largest value.
///
/// A reference of zeros asks for zeros. A value that is not a number makes the error infinite.
///
/// # Panics
/// If the lengths differ, or the reference is empty.
pub fn relative_error(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "lengths of the values and of their reference");
    assert!(!b.is_empty(), "a reference has values");
    let difference = max_abs(a.iter().zip(b).map(|(a, b)| a - b));
    if difference == 0.0 { 0.0 } else { difference / max_abs(b.iter().copied()) }
}

/// The largest magnitude, infinite if a value is not a number.
fn max_abs(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |max, v| if v.is_nan() { f64::INFINITY } else { max.max(v.abs()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_turn_channels_last() {
        let pictures = nhwc((0..6).map(|v| v as f32).collect(), [1, 3, 1, 2]);
        assert_eq!(**pictures.shape(), [1, 1, 2, 3]);
        assert_eq!(pictures.data(), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
    }

    #[test]
    fn relative_error_is_relative_to_the_largest_reference() {
        assert_eq!(relative_error(&[1.0, -4.5], &[1.0, -4.0]), 0.125);
        assert_eq!(relative_error(&[0.0], &[0.0]), 0.0);
        assert_eq!(relative_error(&[0.5], &[0.0]), f64::INFINITY);
        assert_eq!(relative_error(&[f64::NAN, 1.0], &[1.0, 1.0]), f64::INFINITY);
    }
}
