//! Numbers of single precision in 28 bits each: how weights lie that take as long as they take to come from memory.
//!
//! Of a number's four bytes, the lower three are kept. The first, its sign and all but the last bit of its exponent, takes
//! few values in a trained layer; 16 of them, the [`Tops`], can be told apart by four bits. A run holds the numbers of
//! [`REGISTERS`] registers:
//!
//! ```text
//!   ┌ lower two bytes of each ┬ third byte of each ┬ number of each first byte ┐
//!   │ 2n bytes                │ n bytes            │ n / 2 bytes               │    n = REGISTERS · LANES
//!   └─────────────────────────┴────────────────────┴───────────────────────────┘
//! ```
//!
//! They lie such that a processor puts them together in its own way, which is to interleave bytes, and then pairs of bytes,
//! within every 128 bits ([`Place`]).

/// Registers whose numbers are a run.
pub const REGISTERS: usize = 4;
/// The first bytes that numbers may have.
pub type Tops = [u8; 16];

/// The bytes of a run.
pub const fn run_bytes(lanes: usize) -> usize {
    REGISTERS * lanes * 7 / 2
}

/// Numbers that lie together.
pub const TOGETHER: usize = 4;

/// Where the parts of [`TOGETHER`] numbers lie in a run.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Their lower two bytes, their third bytes, and the bytes that hold the numbers of their first bytes.
    low: usize,
    third: usize,
    top: usize,
    /// By how many bits the latter are shifted.
    shift: u32,
}

impl Place {
    /// Of the numbers from `first`, a multiple of [`TOGETHER`], on, in a run of registers with so many lanes.
    pub fn new(first: usize, lanes: usize) -> Self {
        let (register, part) = (first / lanes, first % lanes / TOGETHER);
        let (count, half) = (REGISTERS * lanes, REGISTERS * lanes / 2);
        let byte = TOGETHER * (REGISTERS * part + register);
        let pair = register / 2 * half + TOGETHER * (2 * part + register % 2);
        let (top, shift) = if byte < half { (byte, 0) } else { (byte - half, 4) };
        Place { low: 2 * pair, third: 2 * count + byte, top: 3 * count + top, shift }
    }

    /// The numbers, from the run's bytes.
    #[cfg(test)]
    pub fn read(self, run: &[u8], tops: &Tops) -> [f32; TOGETHER] {
        std::array::from_fn(|i| {
            let top = tops[usize::from(run[self.top + i] >> self.shift & 15)];
            f32::from_le_bytes([run[self.low + 2 * i], run[self.low + 2 * i + 1], run[self.third + i], top])
        })
    }

    /// Puts the numbers' bits, and the numbers of their first bytes, into bytes that were zero.
    pub fn write(self, bits: [u32; TOGETHER], tops: [u8; TOGETHER], run: &mut [u8]) {
        run[self.low..][..2 * TOGETHER].copy_from_slice(bytemuck::bytes_of(&bits.map(|x| (x as u16).to_le())));
        run[self.third..][..TOGETHER].copy_from_slice(&bits.map(|x| (x >> 16) as u8));
        run[self.top..][..TOGETHER].iter_mut().zip(tops).for_each(|(to, top)| *to |= top << self.shift);
    }
}
