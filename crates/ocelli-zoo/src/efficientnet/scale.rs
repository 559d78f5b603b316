//! Compound scaling: depth α^φ, width β^φ and resolution γ^φ with α = 1.2, β = 1.1, γ = 1.15, so that α·β²·γ² ≈ 2 and
//! each step of φ doubles the work (section 3.3 of the paper).

use crate::nn::{Error, Result};

/// Factors of B0's depth and width, and what goes with a network of that size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Of the channels.
    pub width: f64,
    /// Of the numbers of blocks.
    pub depth: f64,
    /// Height and width of its images.
    pub resolution: usize,
    /// The probability of dropout before the classifier.
    pub dropout: f64,
}

const fn scale(width: f64, depth: f64, resolution: usize, dropout: f64) -> Scale {
    Scale { width, depth, resolution, dropout }
}

/// B0 … B7, as the authors' code lists them.
pub const B: [Scale; 8] = [
    scale(1.0, 1.0, 224, 0.2),
    scale(1.0, 1.1, 240, 0.2),
    scale(1.1, 1.2, 260, 0.3),
    scale(1.2, 1.4, 300, 0.3),
    scale(1.4, 1.8, 380, 0.4),
    scale(1.6, 2.2, 456, 0.4),
    scale(1.8, 2.6, 528, 0.5),
    scale(2.0, 3.1, 600, 0.5),
];

/// Lite0 … Lite4; the resolutions are timm's for the published weights.
pub const LITE: [Scale; 5] = [
    scale(1.0, 1.0, 224, 0.2),
    scale(1.0, 1.1, 240, 0.2),
    scale(1.1, 1.2, 260, 0.3),
    scale(1.2, 1.4, 300, 0.3),
    scale(1.4, 1.8, 380, 0.3),
];

impl Scale {
    /// The scale of any compound coefficient. φ = 0 is B0, and below it are smaller networks.
    ///
    /// No φ gives [`B1` … `B7`](B): their table was rounded by hand, and not along one curve (B1 is deeper than B0 and no
    /// wider; B7 has the depth of φ = 6.2, the resolution of 7.0 and the width of 7.3). As in the paper, dropout grows
    /// linearly from 0.2 to the 0.5 of B7, here φ = 7.
    ///
    /// ```
    /// use ocelli_zoo::efficientnet::Scale;
    ///
    /// let twice = Scale::compound(1.0)?;
    /// assert_eq!((twice.depth, twice.width, twice.resolution), (1.2, 1.1, 258));
    /// # Ok::<(), ocelli_zoo::nn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Unless −10 ≤ φ ≤ 10.
    pub fn compound(phi: f64) -> Result<Self> {
        if !(-10.0..=10.0).contains(&phi) {
            return Err(Error::argument("EfficientNet coefficient", "from -10 to 10", phi));
        }
        Ok(Scale {
            width: 1.1f64.powf(phi),
            depth: 1.2f64.powf(phi),
            resolution: (224.0 * 1.15f64.powf(phi)).round() as usize,
            dropout: (0.2 + 0.3 * phi / 7.0).clamp(0.2, 0.5),
        })
    }

    /// Channels of a layer that has `channels` in B0: a multiple of 8, and not less than nine tenths of the exact number.
    pub fn channels(&self, channels: usize) -> usize {
        let exact = channels as f64 * self.width;
        let rounded = (((exact + 4.0) / 8.0) as usize * 8).max(8);
        if (rounded as f64) < 0.9 * exact { rounded + 8 } else { rounded }
    }

    /// Blocks of a stage that has `blocks` in B0, rounded up.
    pub fn blocks(&self, blocks: usize) -> usize {
        (blocks as f64 * self.depth).ceil() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_multiples_of_8_and_blocks_rounded_up() {
        let scale = |width, depth| Scale { width, depth, ..B[0] };
        // 16 · 1.2 = 19.2 would become 16, which is less than nine tenths; 24 · 1.1 = 26.4 may lose 2.4.
        for (channels, width, rounded) in [(16, 1.2, 24), (24, 1.1, 24), (320, 1.4, 448), (16, 0.1, 8)] {
            assert_eq!(scale(width, 1.0).channels(channels), rounded, "{channels} · {width}");
        }
        for (blocks, depth, rounded) in [(4, 1.1, 5), (3, 3.1, 10), (1, 0.2, 1), (2, 1.0, 2)] {
            assert_eq!(scale(1.0, depth).blocks(blocks), rounded, "{blocks} · {depth}");
        }
    }

    #[test]
    fn a_coefficient_scales_all_three() {
        assert_eq!(Scale::compound(0.0).unwrap(), B[0]);
        let scale = Scale::compound(7.0).unwrap();
        assert_eq!((scale.resolution, scale.dropout), (596, 0.5));
        assert!((scale.depth - 3.583).abs() < 1e-3 && (scale.width - 1.949).abs() < 1e-3, "{scale:?}");
        for phi in [10.1, f64::NAN] {
            let message = Scale::compound(phi).unwrap_err().to_string();
            assert!(message.contains("EfficientNet coefficient"), "{message}");
        }
    }
}
