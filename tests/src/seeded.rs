//! Weights, pictures and labels from a formula, the same bits as `tests/fixtures/seeded.py` makes.
//!
//! Element i, in the order of the checkpoint's (PyTorch's) layout, of the tensor called NAME has
//!
//! ```text
//! h = FNV-1a 64 of NAME's bytes
//! z = mix(h + (i + 1) · 0x9E3779B97F4A7C15)      mod 2^64, mix = SplitMix64's finaliser
//! u = (z >> 40) / 2^23 − 1                       in [−1, 1)
//! ```
//!
//! and the value follows from the last part of NAME and from the rank, computed in f64 and rounded once to f32:
//!
//! | last part | value |
//! | --- | --- |
//! | `weight`, rank ≥ 2 | u · √(3 · gain / fan_in), fan_in = product of all dimensions but the first |
//! | `weight`, rank 1 (a norm's scale) | 1 + u / 4 |
//! | `bias`, `running_mean` | u / 10 |
//! | `running_var` | 1 + u / 2 |

use ocelli_train::zoo::nn::checkpoint::{Checkpoint, Dtype};
use ocelli_train::zoo::nn::tensor::{Shape, Tensor};

/// A tensor of a checkpoint: its name, and its shape in the checkpoint's layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As in the state dict, such as `layer1.0.conv1.weight`.
    pub name: String,
    /// Empty for a scalar.
    pub shape: Vec<usize>,
}

/// The seeded weights called `name`, in the checkpoint's layout. `gain` scales the variance of convolutions and linear
/// layers: 1 for networks with shortcuts; 2, which ReLU asks for, where the signal would fade otherwise.
///
/// # Panics
/// If the formula has no rule for `name`.
pub fn weights(name: &str, shape: &[usize], gain: f64) -> Vec<f32> {
    let last = name.rsplit('.').next().expect("a split has at least one part");
    let value: Box<dyn Fn(f64) -> f64> = match last {
        "weight" if shape.len() >= 2 => {
            let fan_in: usize = shape[1..].iter().product();
            let scale = (3.0 * gain / fan_in as f64).sqrt();
            Box::new(move |u| u * scale)
        }
        "weight" => Box::new(|u| 1.0 + 0.25 * u),
        "bias" | "running_mean" => Box::new(|u| 0.1 * u),
        "running_var" => Box::new(|u| 1.0 + 0.5 * u),
        _ => panic!("no rule for seeded values of {name}"),
    };
    bits(name, shape.iter().product()).map(|b| value(unit(b)) as f32).collect()
}

/// A batch of pictures, N × C × H × W as others lay them out. Picture n is uniform noise in [−1, 1) / (n + 1): noise of
/// equal contrast would give every picture almost the same logits.
pub fn images(name: &str, shape: [usize; 4]) -> Vec<f32> {
    let picture: usize = shape[1..].iter().product();
    let contrast = |i: usize| 1.0 / (i / picture + 1) as f64;
    bits(name, shape[0] * picture).enumerate().map(|(i, b)| (unit(b) * contrast(i)) as f32).collect()
}

/// `count` values in [−1, 1), the operands of single operations.
pub fn uniform(name: &str, count: usize) -> Vec<f32> {
    bits(name, count).map(|b| unit(b) as f32).collect()
}

/// `count` class indices below `classes`.
pub fn labels(name: &str, count: usize, classes: usize) -> Vec<usize> {
    bits(name, count).map(|b| b as usize % classes).collect()
}

/// The `count` positions at which the fixtures sample the large tensor `name` of `len` elements; some repeat.
pub fn positions(name: &str, count: usize, len: usize) -> Vec<usize> {
    bits(&format!("{name}/positions"), count).map(|b| b as usize % len).collect()
}

/// The seeded values of all `entries`; batch counters are zeros.
///
/// # Panics
/// If the formula has no rule for a name.
pub fn checkpoint(entries: &[Entry], gain: f64) -> Checkpoint {
    let mut checkpoint = Checkpoint::new();
    for Entry { name, shape } in entries {
        if name.ends_with("num_batches_tracked") {
            checkpoint.insert_as(name, Dtype::I64, Tensor::scalar(0.0));
        } else {
            let values = weights(name, shape, gain);
            let shape = Shape::new(shape).expect("a rank of at most 6");
            checkpoint.insert(name, Tensor::from_vec(shape, values).expect("as many values as the shape has"));
        }
    }
    checkpoint
}

/// The top 24 bits of each of the first `count` words of the stream called `name`.
fn bits(name: &str, count: usize) -> impl Iterator<Item = u64> {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let seed = fnv1a64(name);
    (1..=count as u64).map(move |i| {
        let z = seed.wrapping_add(i.wrapping_mul(GOLDEN));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) >> 40
    })
}

fn unit(bits: u64) -> f64 {
    bits as f64 / (1_u64 << 23) as f64 - 1.0
}

fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(values: &[f32]) -> String {
        values.iter().map(|v| format!("{:08x}", v.to_bits())).collect::<Vec<_>>().join(" ")
    }

    // All literals below were printed by tests/fixtures/seeded.py, for example
    //   seeded.values("conv1.weight", (64, 3, 7, 7)).view("uint32")

    #[test]
    fn streams_are_those_of_the_fixtures() {
        assert_eq!(fnv1a64("conv1.weight"), 0x69a2_9a2c_ee47_d254);
        assert_eq!(bits("conv1.weight", 3).collect::<Vec<_>>(), [9_144_840, 12_501_739, 384_562]);
        assert_eq!(bits("labels0", 3).collect::<Vec<_>>(), [1_081_834, 6_623_218, 10_337_770]);
    }

    #[test]
    fn weights_are_those_of_the_fixtures() {
        let conv = weights("conv1.weight", &[64, 3, 7, 7], 1.0);
        assert_eq!(hex(&conv[..4]), "3c530092 3d8f7462 be0b9459 3d8a359e");
        assert_eq!(hex(&conv[64 * 147 - 2..]), "3da29467 bdafb287");
        let gained = weights("conv1.weight", &[16, 3, 3, 3], 2.0);
        assert_eq!(hex(&gained[..3]), "3d2e1166 3e6cb024 bee64b5e");
        let table = [
            ("bn1.weight", "3f6e1b2a 3f94c31e 3f846d93 3f5fec44"),
            ("bn1.bias", "bd8644b8 bdbc5a4a 3d985eba 3d4acef6"),
            ("bn1.running_mean", "3d400fb6 3ca4da86 3c09f1e6 3d9977ee"),
            ("bn1.running_var", "3f923722 3fa4b456 3fbc427b 3f71a03c"),
        ];
        for (name, expected) in table {
            assert_eq!(hex(&weights(name, &[64], 1.0)[..4]), expected, "{name}");
        }
    }

    #[test]
    fn inputs_are_those_of_the_fixtures() {
        let x = images("input", [3, 3, 2, 2]);
        assert_eq!(hex(&x[..4]), "bf4deac2 3e9c045c bf17be90 bee6f7fc");
        assert_eq!(hex(&x[32..]), "3e7735ed be31280b 3d5ed0c0 be81a9d3");
        assert_eq!(hex(&uniform("input", 4)), hex(&x[..4]));
        assert_eq!(labels("labels0/39", 8, 10), [9, 3, 5, 4, 5, 8, 3, 0]);
        assert_eq!(positions("fc.weight", 6, 5000), [4644, 3269, 2852, 4573, 1197, 3800]);
    }

    #[test]
    fn a_checkpoint_holds_weights_and_counters() {
        let entry = |name: &str, shape: &[usize]| Entry { name: name.to_owned(), shape: shape.to_vec() };
        let entries = [entry("fc.weight", &[2, 3]), entry("bn1.num_batches_tracked", &[])];
        let checkpoint = checkpoint(&entries, 2.0);
        let weight = &checkpoint.get("fc.weight").unwrap().tensor;
        assert_eq!(**weight.shape(), [2, 3]);
        assert_eq!(weight.data(), weights("fc.weight", &[2, 3], 2.0));
        let counter = checkpoint.get("bn1.num_batches_tracked").unwrap();
        assert_eq!((counter.dtype, counter.tensor.item().unwrap()), (Dtype::I64, 0.0));
    }

    #[test]
    #[should_panic(expected = "no rule for seeded values of layer.scale")]
    fn an_unknown_kind_is_refused() {
        weights("layer.scale", &[4], 1.0);
    }
}
