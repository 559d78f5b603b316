//! Other crates' products of row-major matrices, `[m, k] · [k, n]`, each on as many threads as the pool has.

use ocelli_tensor::{Tensor, threads};

/// A matrix in memory: data, and the distances of neighbours in a column and in a row.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    data: &'a [f32],
    row: usize,
    column: usize,
}

impl<'a> View<'a> {
    /// A matrix `[rows, columns]` as it is.
    pub fn new(matrix: &'a Tensor) -> Self {
        View { data: matrix.data(), row: matrix.shape().columns(), column: 1 }
    }

    /// Its transpose.
    pub fn transposed(matrix: &'a Tensor) -> Self {
        View { data: matrix.data(), row: 1, column: matrix.shape().columns() }
    }

    fn holds(&self, [rows, columns]: [usize; 2]) -> bool {
        (rows - 1) * self.row + (columns - 1) * self.column < self.data.len()
    }
}

/// Asserts what both products rely on.
fn check([m, k, n]: [usize; 3], a: &View<'_>, b: &View<'_>, out: &[f32]) {
    assert!(m > 0 && k > 0 && n > 0 && a.holds([m, k]) && b.holds([k, n]) && out.len() == m * n);
}

/// The product by `matrixmultiply`, which takes the number of its threads, up to 4, from the environment's
/// `MATMUL_NUM_THREADS` or the number of cores.
pub fn matrixmultiply([m, k, n]: [usize; 3], a: View<'_>, b: View<'_>, out: &mut [f32]) {
    check([m, k, n], &a, &b, out);
    let [ra, ca, rb, cb, rc] = [a.row, a.column, b.row, b.column, n].map(|stride| stride as isize);
    let (a, b, c) = (a.data.as_ptr(), b.data.as_ptr(), out.as_mut_ptr());
    // SAFETY: all three matrices lie within their slices, as just asserted, and out is borrowed alone.
    unsafe { matrixmultiply::sgemm(m, k, n, 1.0, a, ra, ca, b, rb, cb, 0.0, c, rc, 1) }
}

/// The product by `gemm`.
pub fn gemm([m, k, n]: [usize; 3], a: View<'_>, b: View<'_>, out: &mut [f32]) {
    check([m, k, n], &a, &b, out);
    let [ra, ca, rb, cb, rc] = [a.row, a.column, b.row, b.column, n].map(|stride| stride as isize);
    let (a, b, c) = (a.data.as_ptr(), b.data.as_ptr(), out.as_mut_ptr());
    let threads = match threads::count() {
        1 => gemm::Parallelism::None,
        n => gemm::Parallelism::Rayon(n),
    };
    // SAFETY: all three matrices lie within their slices, as just asserted, and out is borrowed alone.
    unsafe {
        gemm::gemm(m, n, k, c, 1, rc, false, a, ca, ra, b, cb, rb, 0.0, 1.0, false, false, false, threads);
    }
}
