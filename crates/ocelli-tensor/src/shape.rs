//! Shapes: up to six dimensions, row-major, held inline.

use std::fmt;
use std::ops::Deref;

use crate::{Error, Result};

/// The highest rank that a tensor may have.
pub const MAX_RANK: usize = 6;

/// The dimensions of a tensor, outermost first. Dereferences to a slice.
///
/// ```
/// let shape = ocelli_tensor::Shape::from([2, 7, 7, 64]);
/// assert_eq!(shape.len(), 2 * 7 * 7 * 64);
/// assert_eq!(shape.rows(), 98);
/// assert_eq!(shape.columns(), 64);
/// assert_eq!(shape.to_string(), "[2, 7, 7, 64]");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: u8,
}

impl Shape {
    /// A shape from dimensions that a caller or a file chose: refuses a rank above [`MAX_RANK`] and an element
    /// count that overflows.
    pub fn new(dims: &[usize]) -> Result<Self> {
        if dims.len() > MAX_RANK {
            return Err(Error::argument("shape", "rank", format!("of at most {MAX_RANK}"), dims.len()));
        }
        let bytes = dims.iter().try_fold(8usize, |n, &d| n.checked_mul(d));
        if bytes.is_none_or(|n| n > isize::MAX as usize) {
            return Err(Error::argument("shape", "dimensions", "whose product fits in memory", format!("{dims:?}")));
        }
        let mut shape = Shape { dims: [1; MAX_RANK], rank: dims.len() as u8 };
        shape.dims[..dims.len()].copy_from_slice(dims);
        Ok(shape)
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.iter().product()
    }

    /// Whether the tensor has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// The last dimension (the channels of an image batch); 1 for a scalar.
    pub fn columns(&self) -> usize {
        self.last().copied().unwrap_or(1)
    }

    /// The product of all dimensions but the last (the pixels of an image batch).
    pub fn rows(&self) -> usize {
        self[..self.rank().saturating_sub(1)].iter().product()
    }

    /// This shape with its last dimension replaced; a scalar becomes a vector.
    pub fn with_columns(mut self, columns: usize) -> Self {
        self.rank = self.rank.max(1);
        self.dims[self.rank as usize - 1] = columns;
        self
    }

    /// `[N, H, W, C]`, or an error that names the operation and operand.
    pub fn nhwc(&self, op: &'static str, what: &'static str) -> Result<[usize; 4]> {
        (**self).try_into().map_err(|_| Error::shape(op, what, "[N, H, W, C]", self))
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }
}

/// # Panics
/// If the shape written in the program exceeds [`MAX_RANK`] or overflows; use [`Shape::new`] for shapes that are
/// read from outside.
impl<const R: usize> From<[usize; R]> for Shape {
    fn from(dims: [usize; R]) -> Self {
        Shape::new(&dims).expect("a shape that fits")
    }
}

impl From<&Shape> for Shape {
    fn from(shape: &Shape) -> Self {
        *shape
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &**self)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
