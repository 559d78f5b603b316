//! The tensor: a shape over a shared, contiguous, row-major buffer.

use std::fmt;
use std::sync::Arc;

use crate::memory::Buffer;
use crate::ops::gemm::transpose::Transpose;
use crate::{Element, Error, Result, Shape, threads};

/// A dense array of up to six dimensions, contiguous and row-major, 64-byte aligned.
///
/// Cloning shares the buffer; writing to a shared one copies it first. Image batches are `[N, H, W, C]`: pixels are
/// rows, channels are columns.
///
/// ```
/// use ocelli_tensor::Tensor;
///
/// let mut x = Tensor::from_vec([2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// let y = x.clone();
/// x.data_mut()[0] = 7.0;
/// assert_eq!((x.data()[0], y.data()[0]), (7.0, 1.0));
/// # Ok::<(), ocelli_tensor::Error>(())
/// ```
#[derive(Clone)]
pub struct Tensor<T: Element = f32> {
    shape: Shape,
    buffer: Arc<Buffer<T>>,
}

impl<T: Element> Tensor<T> {
    /// All zeros.
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        Tensor { shape, buffer: Arc::new(Buffer::zeros(shape.len())) }
    }

    /// Unspecified content, for kernels that write every element.
    pub fn scratch(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        Tensor { shape, buffer: Arc::new(Buffer::scratch(shape.len())) }
    }

    /// Takes another shape, and returns all elements for writing, of unspecified content. The memory stays if there is
    /// enough of it and no other tensor shares it: so a result takes its predecessor's place.
    pub fn resize(&mut self, shape: impl Into<Shape>) -> &mut [T] {
        self.shape = shape.into();
        let len = self.shape.len();
        match Arc::get_mut(&mut self.buffer) {
            Some(buffer) => buffer.resize(len),
            None => self.buffer = Arc::new(Buffer::scratch(len)),
        }
        self.data_mut()
    }

    /// The tensor that `fill` makes of an empty one.
    pub(crate) fn made(fill: impl FnOnce(&mut Self) -> Result<()>) -> Result<Self> {
        let mut tensor = Self::default();
        fill(&mut tensor)?;
        Ok(tensor)
    }

    /// All `value`.
    pub fn full(shape: impl Into<Shape>, value: T) -> Self {
        let mut tensor = Self::scratch(shape);
        tensor.data_mut().fill(value);
        tensor
    }

    /// One element, rank 0.
    pub fn scalar(value: T) -> Self {
        Self::full(Shape::from([]), value)
    }

    /// Element `i` of the row-major order is `f(i)`.
    pub fn from_fn(shape: impl Into<Shape>, mut f: impl FnMut(usize) -> T) -> Self {
        let mut tensor = Self::scratch(shape);
        tensor.data_mut().iter_mut().enumerate().for_each(|(i, x)| *x = f(i));
        tensor
    }

    /// A copy of `data`, whose length must be the shape's.
    pub fn from_slice(shape: impl Into<Shape>, data: &[T]) -> Result<Self> {
        let shape = shape.into();
        if data.len() != shape.len() {
            let expected = format!("{} for shape {shape}", shape.len());
            return Err(Error::argument("tensor", "element count", expected, data.len()));
        }
        let mut tensor = Self::scratch(shape);
        tensor.data_mut().copy_from_slice(data);
        Ok(tensor)
    }

    /// As [`from_slice`](Self::from_slice), from a vector.
    pub fn from_vec(shape: impl Into<Shape>, data: Vec<T>) -> Result<Self> {
        Self::from_slice(shape, &data)
    }

    /// The dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.shape.is_empty()
    }

    /// All elements, row-major.
    #[inline]
    pub fn data(&self) -> &[T] {
        &self.buffer
    }

    /// All elements for writing; copies first if the buffer is shared.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut *Arc::make_mut(&mut self.buffer)
    }

    /// Whether no other tensor shares the buffer, so that writing costs no copy.
    pub fn is_unique(&self) -> bool {
        Arc::strong_count(&self.buffer) == 1
    }

    /// The same elements under another shape of the same length; no copy.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if shape.len() != self.len() {
            return Err(Error::shape("reshape", "input", format!("{shape} ({} elements)", shape.len()), &self.shape));
        }
        Ok(Tensor { shape, buffer: self.buffer.clone() })
    }

    /// The only element.
    pub fn item(&self) -> Result<T> {
        match self.data() {
            [x] => Ok(*x),
            _ => Err(Error::shape("item", "input", "one element", &self.shape)),
        }
    }

    /// A tensor of `f` of each element.
    pub fn map(&self, f: impl Fn(T) -> T + Send + Sync) -> Self {
        let mut out = Self::scratch(self.shape);
        let chunk = threads::rows_per_chunk(1);
        let input = self.data();
        threads::for_each_chunk(out.data_mut(), chunk, |i, out| {
            out.iter_mut().zip(&input[i * chunk..]).for_each(|(y, &x)| *y = f(x));
        });
        out
    }

    /// The same numbers in another element type, rounded to nearest.
    pub fn cast<U: Element>(&self) -> Tensor<U> {
        Tensor::from_fn(self.shape, |i| U::from_f64(self.data()[i].to_f64()))
    }

    /// Reorders dimensions: dimension `i` of the result is dimension `order[i]` of `self`. `[0, 2, 3, 1]` turns a
    /// foreign `[N, C, H, W]` into this crate's `[N, H, W, C]`.
    pub fn permute(&self, order: &[usize]) -> Result<Self> {
        let rank = self.shape.rank();
        if order.len() != rank || (0..rank).any(|d| !order.contains(&d)) {
            let expected = format!("to be a permutation of 0..{rank}");
            return Err(Error::argument("permute", "order", expected, format!("{order:?}")));
        }
        let mut strides = vec![1; rank];
        for d in (1..rank).rev() {
            strides[d - 1] = strides[d] * self.shape[d];
        }
        let dims: Vec<usize> = order.iter().map(|&d| self.shape[d]).collect();
        let steps: Vec<usize> = order.iter().map(|&d| strides[d]).collect();
        let mut out = Self::scratch(Shape::new(&dims)?);
        let Some((&columns, outer)) = dims.split_last() else { return Ok(self.clone()) };
        // Planes of the result's columns and that dimension whose elements are neighbours here, the columns if no other.
        let plane = (0..rank - 1).find(|&d| steps[d] == 1 && dims[d] > 1).unwrap_or(rank - 1);
        let (from, from_stride) = (self.data(), steps[rank - 1]);
        let to_stride = dims[plane + 1..].iter().product();
        let mut index = vec![0; outer.len()];
        for start in (0..out.len()).step_by(columns.max(1)) {
            let source: usize = index.iter().zip(&steps).map(|(i, s)| i * s).sum();
            let to = &mut out.data_mut()[start..];
            if plane == rank - 1 {
                to[..columns].iter_mut().zip(from[source..].iter().step_by(from_stride)).for_each(|(to, &x)| *to = x);
            } else if index[plane] == 0 {
                // Of few rows at a time: each lies in a page of its own.
                const ROWS: usize = 256;
                for first in (0..columns).step_by(ROWS) {
                    let (from, to) = (&from[source + first * from_stride..], &mut to[first..]);
                    let size = [ROWS.min(columns - first), dims[plane]];
                    T::transpose(Transpose { from, from_stride, to, to_stride, size });
                }
            }
            for d in (0..outer.len()).rev() {
                index[d] += 1;
                if index[d] < outer[d] {
                    break;
                }
                index[d] = 0;
            }
        }
        Ok(out)
    }

    /// max |a − b| / max |b|: how far `self` is from `reference`, relative to the reference's largest element.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn relative_error(&self, reference: &Tensor<T>) -> f64 {
        assert_eq!(self.shape, reference.shape, "relative_error compares tensors of one shape");
        let largest = reference.data().iter().fold(0.0, |m: f64, x| m.max(x.to_f64().abs()));
        let pairs = self.data().iter().zip(reference.data());
        let difference = pairs.fold(0.0, |m: f64, (a, b)| {
            let d = (a.to_f64() - b.to_f64()).abs();
            if d.is_nan() { f64::INFINITY } else { m.max(d) }
        });
        if difference == 0.0 { 0.0 } else { difference / largest.max(f64::MIN_POSITIVE) }
    }
}

/// No elements, shape `[0]`.
impl<T: Element> Default for Tensor<T> {
    fn default() -> Self {
        Tensor { shape: Shape::from([0]), buffer: Arc::default() }
    }
}

impl<T: Element> PartialEq for Tensor<T> {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape && self.data() == other.data()
    }
}

impl<T: Element> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.data()[..self.len().min(8)];
        write!(f, "Tensor<{}>{} {shown:?}", T::NAME, self.shape)?;
        if self.len() > shown.len() { write!(f, "…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned() {
        for n in [1, 3, 17, 1000] {
            assert_eq!(Tensor::<f32>::zeros([n]).data().as_ptr().align_offset(64), 0);
        }
    }

    #[test]
    fn resizing_keeps_memory_that_suffices_and_is_not_shared() {
        let mut x = Tensor::<f32>::zeros([10, 100]);
        let address = x.data().as_ptr();
        assert_eq!((x.resize([3, 7]).len(), *x.shape()), (21, Shape::from([3, 7])));
        assert_eq!((x.resize([100, 10]).len(), x.data().as_ptr()), (1000, address));
        let copy = x.clone();
        x.resize([2]).fill(1.0);
        assert_eq!((copy.data().as_ptr(), copy.len(), x.data()), (address, 1000, &[1.0, 1.0][..]));
        assert_eq!(x.resize([100_000]).len(), 100_000);
    }

    #[test]
    fn permute_is_nchw_to_nhwc() {
        let x = Tensor::from_fn([2, 3, 4, 5], |i| i as f32);
        let y = x.permute(&[0, 2, 3, 1]).unwrap();
        assert_eq!(**y.shape(), [2, 4, 5, 3]);
        assert_eq!(y.data()[1], 20.0);
        assert_eq!(y.permute(&[0, 3, 1, 2]).unwrap(), x);
        assert!(x.permute(&[0, 1, 2]).is_err() && x.permute(&[0, 0, 1, 2]).is_err());
    }

    #[test]
    fn permute_finds_every_element() {
        let all = |dims: &[usize], order: &[usize]| {
            let x = Tensor::from_fn(Shape::new(dims).unwrap(), |i| i as f32);
            let y = x.permute(order).unwrap();
            assert!(y.shape().iter().eq(order.iter().map(|&d| &dims[d])), "{dims:?} {order:?}");
            let mut expected = Vec::new();
            for i in 0..y.len() {
                let (mut rest, mut index) = (i, vec![0; dims.len()]);
                for &d in order.iter().rev() {
                    (index[d], rest) = (rest % dims[d], rest / dims[d]);
                }
                expected.push(index.iter().zip(dims).fold(0, |at, (i, n)| at * n + i) as f32);
            }
            assert_eq!(y.data(), expected, "{dims:?} {order:?}");
        };
        all(&[300, 37], &[1, 0]);
        all(&[300, 37], &[0, 1]);
        all(&[19, 1], &[1, 0]);
        for dims in [[5, 6, 3, 3], [33, 40, 1, 1], [17, 1, 5, 5], [1, 3, 20, 18], [3, 0, 2, 2]] {
            for order in [[2, 3, 1, 0], [3, 2, 0, 1], [0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 2, 3], [1, 0, 3, 2]] {
                all(&dims, &order);
            }
        }
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let error = Tensor::from_slice([2, 2], &[1.0f32]).unwrap_err();
        assert_eq!(error.to_string(), "tensor: expected element count 4 for shape [2, 2], got 1");
        let error = Tensor::<f32>::zeros([2, 3]).reshape([4]).unwrap_err();
        assert_eq!(error.to_string(), "reshape: expected input of shape [4] (4 elements), got [2, 3]");
    }

    #[test]
    fn relative_error_sees_nan() {
        let nan = Tensor::from_slice([1], &[f32::NAN]).unwrap();
        assert_eq!(nan.relative_error(&Tensor::zeros([1])), f64::INFINITY);
    }
}
