//! Maximum pooling of bytes: their order is that of the numbers they stand for, so the result is exact.

use super::Geometry;
use crate::ops::QuantizedTensor;
use crate::ops::window::Window;
use crate::{Result, threads};

/// The maximum over every window, as [`max_pool2d`](super::max_pool2d) of the numbers that the bytes stand for. A window
/// of nothing but padding gives the least of all.
///
/// Errors as that does, but for the number of taps.
pub fn max_pool2d_bytes(x: &QuantizedTensor, window: &Window, ceil_mode: bool) -> Result<QuantizedTensor> {
    let g = Geometry::new("max_pool2d", "input", x.shape(), window, ceil_mode)?;
    let mut y = QuantizedTensor::scratch(g.output_shape(), x.quantization());
    if y.bytes().is_empty() {
        return Ok(y);
    }
    let (stride, [height, width], from) = (x.stride(), g.input, x.bytes());
    threads::for_each_chunk(y.bytes_mut(), g.output[1] * stride, |i, row| {
        let (n, oy) = (i / g.output[0], i % g.output[0]);
        row.fill(0);
        for ky in window.inside(0, oy, height) {
            let input_row = (n * height + window.position(0, oy, ky)) * width;
            for (ox, pixel) in row.chunks_exact_mut(stride).enumerate() {
                for kx in window.inside(1, ox, width) {
                    let tap = &from[(input_row + window.position(1, ox, kx)) * stride..][..stride];
                    pixel.iter_mut().zip(tap).for_each(|(y, &x)| *y = (*y).max(x));
                }
            }
        }
    });
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::Rng;
    use crate::ops::{Padding, Quantization, max_pool2d_values};

    #[test]
    fn it_is_the_maximum_of_the_numbers() {
        let uneven = Padding { top: 0, bottom: 1, left: 1, right: 0 };
        for (shape, window, ceil_mode) in [
            ([2, 9, 8, 13], Window::square(3).stride(2).padding(1), false),
            ([1, 5, 7, 64], Window::square(2).stride(2), true),
            ([1, 6, 6, 3], Window { padding: uneven, ..Window::new([3, 2]) }, false),
            ([0, 6, 6, 3], Window::square(2), false),
        ] {
            let q = QuantizedTensor::quantize(&Rng::new(1).tensor(shape), Quantization::of_range(-0.5, 0.8));
            let expected = max_pool2d_values(&q.dequantize(), &window, ceil_mode).unwrap();
            assert_eq!(max_pool2d_bytes(&q, &window, ceil_mode).unwrap().dequantize(), expected);
        }
        let q = QuantizedTensor::quantize(&Rng::new(1).tensor([1, 2, 2, 1]), Quantization::of_range(0.0, 1.0));
        let error = max_pool2d_bytes(&q, &Window::square(3), false).err().unwrap();
        assert_eq!(error.to_string(), "max_pool2d: expected padded input of at least [3, 3], got [2, 2]");
    }
}
