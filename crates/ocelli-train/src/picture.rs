//! A decoded picture: rows of pixels, grey or red-green-blue, a byte a channel.

use crate::{Error, Result};

/// A decoded picture, `[height, width, channels]` bytes; 1 channel is grey, 3 are red, green and blue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// A picture from its bytes. Fails if there is no pixel, if `channels` is neither 1 nor 3, or if the number of
    /// bytes is another than `height · width · channels`.
    pub fn new(width: usize, height: usize, channels: usize, pixels: Vec<u8>) -> Result<Self> {
        let fits = width.checked_mul(height).and_then(|n| n.checked_mul(channels)) == Some(pixels.len());
        if !fits || pixels.is_empty() || !matches!(channels, 1 | 3) {
            let reason = format!("{} bytes are no {width} × {height} picture of {channels} channels", pixels.len());
            return Err(Error::image("picture", reason));
        }
        Ok(Picture { width, height, channels, pixels })
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// 1 (grey) or 3 (red, green, blue).
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// `[height, width, channels]`, row-major.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The picture in grey, by the luma of ITU-R 601 (as PIL's mode `L`): 0.299 R + 0.587 G + 0.114 B.
    pub fn to_grey(&self) -> Picture {
        if self.channels == 1 {
            return self.clone();
        }
        let luma = |p: &[u8]| ((p[0] as u32 * 19595 + p[1] as u32 * 38470 + p[2] as u32 * 7471 + 0x8000) >> 16) as u8;
        Picture { channels: 1, pixels: self.pixels.chunks_exact(3).map(luma).collect(), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_keeps_black_white_and_greys() {
        let pixels: Vec<u8> = (0..=255).flat_map(|v| [v; 3]).collect();
        let grey = Picture::new(16, 16, 3, pixels).unwrap().to_grey();
        assert_eq!(grey.pixels(), (0..=255).collect::<Vec<u8>>());
        let red = Picture::new(1, 1, 3, vec![255, 0, 0]).unwrap().to_grey();
        assert_eq!(red.pixels(), [76]);
    }

    #[test]
    fn wrong_sizes_are_errors() {
        for (width, height, channels, bytes) in [(2, 2, 3, 11), (0, 2, 1, 0), (1, 1, 4, 4), (usize::MAX, 2, 1, 1)] {
            assert!(Picture::new(width, height, channels, vec![0; bytes]).is_err());
        }
    }
}
