//! The matrix products of networks.

use ocelli_tensor::Tensor;
use ocelli_tensor::ops::{matmul, matmul_nt, matmul_tn};

use crate::peers::View;
use crate::random;

/// Which operand is given transposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `a · b`, as a fully connected layer forward.
    Nn,
    /// `a · bᵀ`, as its gradient by the input.
    Nt,
    /// `aᵀ · b`, as its gradient by the weights.
    Tn,
}

impl Kind {
    /// `a · b`, `a · bᵀ`, `aᵀ · b`
    pub fn name(self) -> &'static str {
        match self {
            Kind::Nn => "a · b",
            Kind::Nt => "a · bᵀ",
            Kind::Tn => "aᵀ · b",
        }
    }
}

/// A product of matrices.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Which operand is transposed in memory.
    pub kind: Kind,
    /// Rows of the result, length of the sums, columns of the result.
    pub size: [usize; 3],
}

const fn product(kind: Kind, m: usize, k: usize, n: usize) -> Product {
    Product { kind, size: [m, k, n] }
}

/// A large product, convolutions of ResNet-50 as products, and fully connected layers in all their passes.
pub const PRODUCTS: &[Product] = &[
    product(Kind::Nn, 1024, 1024, 1024),
    product(Kind::Nt, 1024, 1024, 1024),
    product(Kind::Tn, 1024, 1024, 1024),
    product(Kind::Nn, 12544, 147, 64),
    product(Kind::Nn, 3136, 64, 64),
    product(Kind::Nn, 3136, 64, 256),
    product(Kind::Nn, 3136, 576, 64),
    product(Kind::Nn, 784, 512, 128),
    product(Kind::Nn, 784, 1152, 128),
    product(Kind::Nn, 196, 1024, 256),
    product(Kind::Nn, 196, 2304, 256),
    product(Kind::Nn, 49, 2048, 512),
    product(Kind::Nn, 49, 4608, 512),
    product(Kind::Nn, 1, 2048, 1000),
    product(Kind::Nn, 1, 4096, 4096),
    product(Kind::Nn, 1, 25088, 4096),
    product(Kind::Nn, 16, 4096, 4096),
    product(Kind::Nn, 64, 2048, 1000),
    product(Kind::Nt, 64, 1000, 2048),
    product(Kind::Tn, 2048, 64, 1000),
];

impl Product {
    /// Floating-point operations.
    pub fn flops(&self) -> f64 {
        2.0 * self.size.iter().product::<usize>() as f64
    }

    /// Bytes of the three matrices.
    pub fn bytes(&self) -> f64 {
        let [m, k, n] = self.size;
        (size_of::<f32>() * (m * k + k * n + m * n)) as f64
    }

    /// The matrices in memory.
    pub fn operands(&self) -> [Tensor; 2] {
        let [m, k, n] = self.size;
        match self.kind {
            Kind::Nn => [random([m, k]), random([k, n])],
            Kind::Nt => [random([m, k]), random([n, k])],
            Kind::Tn => [random([k, m]), random([k, n])],
        }
    }

    /// The operands as other crates see them.
    pub fn views<'a>(&self, a: &'a Tensor, b: &'a Tensor) -> (View<'a>, View<'a>) {
        match self.kind {
            Kind::Nn => (View::new(a), View::new(b)),
            Kind::Nt => (View::new(a), View::transposed(b)),
            Kind::Tn => (View::transposed(a), View::new(b)),
        }
    }

    /// Ocelli's product.
    pub fn run(&self, a: &Tensor, b: &Tensor) -> Tensor {
        let product = match self.kind {
            Kind::Nn => matmul(a, b),
            Kind::Nt => matmul_nt(a, b),
            Kind::Tn => matmul_tn(a, b),
        };
        product.expect("the operands fit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers;

    #[test]
    fn all_crates_multiply_alike() {
        for kind in [Kind::Nn, Kind::Nt, Kind::Tn] {
            let product = product(kind, 9, 7, 5);
            let [a, b] = product.operands();
            let (left, right) = product.views(&a, &b);
            for peer in [peers::matrixmultiply, peers::gemm] {
                let mut out = Tensor::zeros([9, 5]);
                peer(product.size, left, right, out.data_mut());
                assert!(out.relative_error(&product.run(&a, &b)) < 1e-6);
            }
        }
    }
}
