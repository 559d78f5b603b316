//! Matrix products of rank-2 tensors: `A·B`, `A·Bᵀ` and `Aᵀ·B`.

use super::gemm::gather::{Rows, gather_once};
use super::gemm::reduce::reduce;
use super::gemm::{Grid, Matrix, Packed, few};
use crate::{Element, Error, Result, Tensor};

/// `a · b` for `a` `[M, K]` and `b` `[K, N]`: `[M, N]`.
///
/// ```
/// use ocelli_tensor::{Tensor, ops::matmul};
///
/// let a = Tensor::from_slice([1, 2], &[1.0f32, 2.0])?;
/// let b = Tensor::from_slice([2, 2], &[1.0, 2.0, 3.0, 4.0])?;
/// assert_eq!(matmul(&a, &b)?.data(), [7.0, 10.0]);
/// # Ok::<(), ocelli_tensor::Error>(())
/// ```
pub fn matmul<T: Element>(a: &Tensor<T>, b: &Tensor<T>) -> Result<Tensor<T>> {
    let [m, k] = matrix("matmul", "left operand", a)?;
    let [rows, n] = matrix("matmul", "right operand", b)?;
    if rows != k {
        return Err(Error::shape("matmul", "right operand", format!("[{k}, N]"), b.shape()));
    }
    if few::suits_sums::<T>([m, k, n]) {
        let mut out = Tensor::scratch([m, n]);
        few::sums(a.data(), b.data(), [m, k, n], out.data_mut());
        return Ok(out);
    }
    let pack = || Packed::new(b.data(), Matrix::of_rows(n), 1, &[0], k, n);
    Ok(product(a, [m, k, n], || Packed::in_place(b, k, n).unwrap_or_else(pack)))
}

/// `a · bᵀ` for `a` `[M, K]` and `b` `[N, K]`: `[M, N]`.
pub fn matmul_nt<T: Element>(a: &Tensor<T>, b: &Tensor<T>) -> Result<Tensor<T>> {
    let [m, k] = matrix("matmul_nt", "left operand", a)?;
    let [n, columns] = matrix("matmul_nt", "right operand", b)?;
    if columns != k {
        return Err(Error::shape("matmul_nt", "right operand", format!("[N, {k}]"), b.shape()));
    }
    if few::suits_dots::<T>([m, n, k]) {
        let mut out = Tensor::scratch([m, n]);
        few::dots(a.data(), b.data(), [m, n, k], out.data_mut());
        return Ok(out);
    }
    Ok(product(a, [m, k, n], || Packed::new(b.data(), Matrix::of_columns(k), 1, &[0], k, n)))
}

/// `aᵀ · b` for `a` `[K, M]` and `b` `[K, N]`: `[M, N]`.
pub fn matmul_tn<T: Element>(a: &Tensor<T>, b: &Tensor<T>) -> Result<Tensor<T>> {
    let [k, m] = matrix("matmul_tn", "left operand", a)?;
    let [rows, n] = matrix("matmul_tn", "right operand", b)?;
    if rows != k {
        return Err(Error::shape("matmul_tn", "right operand", format!("[{k}, N]"), b.shape()));
    }
    let mut out = Tensor::scratch([m, n]);
    if few::suits_outer::<T>([k, m, n]) {
        few::outer(a.data(), b.data(), [k, m, n], out.data_mut());
        return Ok(out);
    }
    let (a, b) = (Rows { data: a.data(), columns: m, k: m }, Rows { data: b.data(), columns: n, k: n });
    reduce(&Grid::rows(k), a, b, 1, out.data_mut());
    Ok(out)
}

fn product<T: Element>(a: &Tensor<T>, [m, k, n]: [usize; 3], b: impl FnOnce() -> Packed<T>) -> Tensor<T> {
    if k == 0 {
        return Tensor::zeros([m, n]);
    }
    let mut out = Tensor::scratch([m, n]);
    gather_once(&Grid::rows(m), Rows { data: a.data(), columns: k, k }, &b(), out.data_mut());
    out
}

fn matrix<T: Element>(op: &'static str, what: &'static str, x: &Tensor<T>) -> Result<[usize; 2]> {
    (**x.shape()).try_into().map_err(|_| Error::shape(op, what, "[rows, columns]", x.shape()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{simd, threads};

    fn random<T: Element>(shape: [usize; 2], seed: usize) -> Tensor<T> {
        Tensor::from_fn(shape, |i| T::from_f64(((i * 7919 + seed * 104_729) % 2003) as f64 / 1001.5 - 1.0))
    }

    fn reference<T: Element>(m: usize, k: usize, n: usize, at: impl Fn(usize, usize, usize) -> (T, T)) -> Tensor<T> {
        Tensor::from_fn([m, n], |i| {
            T::from_f64((0..k).map(|p| at(i / n, p, i % n)).map(|(a, b)| a.to_f64() * b.to_f64()).sum())
        })
    }

    fn check<T: Element>([m, k, n]: [usize; 3], tolerance: f64) {
        let (a, b, at, bt) = (random::<T>([m, k], 1), random::<T>([k, n], 2), random([k, m], 1), random([n, k], 2));
        let nn = reference(m, k, n, |i, p, j| (a.data()[i * k + p], b.data()[p * n + j]));
        let nt = reference(m, k, n, |i, p, j| (a.data()[i * k + p], bt.data()[j * k + p]));
        let tn = reference(m, k, n, |i, p, j| (at.data()[p * m + i], b.data()[p * n + j]));
        for &isa in simd::available() {
            simd::with_isa(isa, || {
                assert!(matmul(&a, &b).unwrap().relative_error(&nn) < tolerance, "{isa:?} {m} {k} {n}");
                assert!(matmul_nt(&a, &bt).unwrap().relative_error(&nt) < tolerance, "nt {isa:?} {m} {k} {n}");
                assert!(matmul_tn(&at, &b).unwrap().relative_error(&tn) < tolerance, "tn {isa:?} {m} {k} {n}");
            });
        }
    }

    #[test]
    fn products_match_the_reference() {
        let sizes = [1, 2, 5, 7, 13, 16, 31, 33, 50, 97];
        for (i, &m) in sizes.iter().enumerate() {
            for (j, &n) in sizes.iter().enumerate() {
                check::<f32>([m, sizes[(i * 3 + j) % sizes.len()], n], 2e-6);
                check::<f64>([m, sizes[(i + j * 7) % sizes.len()], n], 1e-14);
            }
        }
        check::<f32>([300, 700, 130], 5e-6);
        check::<f32>([1, 1000, 1000], 5e-6);
        // Several blocks and a narrow last panel in place; rows that compete for a set of the cache; tiles of pixels in place.
        check::<f32>([20, 1100, 200], 1e-5);
        check::<f32>([70, 60, 1024], 5e-6);
        check::<f64>([9, 600, 512], 1e-13);
        check::<f32>([40, 1200, 96], 1e-5);
        // Blocks of rows in place that lie a multiple of 1 KiB apart; panels side by side with a ragged end.
        check::<f32>([20, 1100, 768], 1e-5);
        check::<f64>([9, 1100, 128], 1e-13);
        // Both operands of a product over pixels compete, the left one or the right.
        check::<f32>([1024, 40, 70], 5e-6);
        check::<f32>([512, 300, 130], 5e-6);
        check::<f64>([256, 300, 40], 1e-13);
        check::<f32>([40, 70, 1024], 5e-6);
    }

    #[test]
    fn a_column_of_nan_stays_alone() {
        for n in [17, 33, 40, 100] {
            let a = random::<f32>([20, 30], 1);
            let b = Tensor::from_fn([30, n], |i| if i % n == 0 { f32::NAN } else { 1.0 });
            for &isa in simd::available() {
                let y = simd::with_isa(isa, || matmul(&a, &b).unwrap());
                assert!(y.data().iter().enumerate().all(|(i, y)| y.is_nan() == (i % n == 0)), "{isa:?} {n}");
            }
        }
    }

    #[test]
    fn empty_products_are_zeros() {
        let product = matmul(&Tensor::<f32>::zeros([3, 0]), &Tensor::zeros([0, 2])).unwrap();
        assert_eq!(product, Tensor::zeros([3, 2]));
        assert_eq!(matmul_tn(&Tensor::<f32>::zeros([0, 3]), &Tensor::zeros([0, 2])).unwrap(), Tensor::zeros([3, 2]));
        assert!(matmul(&Tensor::<f32>::zeros([0, 3]), &Tensor::zeros([3, 2])).unwrap().is_empty());
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let error = matmul(&Tensor::<f32>::zeros([2, 3]), &Tensor::zeros([4, 5])).unwrap_err();
        assert_eq!(error.to_string(), "matmul: expected right operand of shape [3, N], got [4, 5]");
        let error = matmul_nt(&Tensor::<f32>::zeros([2, 3]), &Tensor::zeros([5])).unwrap_err();
        assert_eq!(error.to_string(), "matmul_nt: expected right operand of shape [rows, columns], got [5]");
    }

    #[test]
    fn same_bits_for_any_number_of_threads() {
        let (a, b) = (random::<f32>([500, 300], 1), random([300, 200], 2));
        let c = random([500, 200], 3);
        // Chunks of whole tiles, and panels that are multiplied by the thread that packs them.
        let (many, wide) = (random::<f32>([2000, 60], 4), random([60, 1024], 5));
        // (The last product's blocks of B are fetched strip by strip, with one thread.)
        let d = random([500, 600], 6);
        for &isa in simd::available() {
            let products = || (matmul(&a, &b).unwrap(), matmul_tn(&a, &c).unwrap(), matmul_tn(&a, &d).unwrap());
            let results = [1, 2, 3, 8].map(|n| {
                threads::set(n);
                simd::with_isa(isa, || (products(), matmul(&many, &wide).unwrap()))
            });
            threads::set(0);
            assert!(results.iter().all(|r| *r == results[0]), "{isa:?}");
        }
    }
}
