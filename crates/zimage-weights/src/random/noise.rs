//! The numbers: scaled so that activations keep a size of about one through all layers and stay finite in half floats.

use std::io::{self, Write};

use zimage_kernels::blocks::Encoder;

use crate::schema::{Role, TensorSpec};

/// Numbers made and written at a time.
const PIECE: usize = 1 << 14;

/// Writes the random values of one tensor. They depend on its name, shape and the seed only.
pub(super) fn write(spec: &TensorSpec, encoder: Encoder, seed: u64, out: &mut dyn Write) -> io::Result<()> {
    let (mean, deviation) = moments(spec);
    let mut random = Random::new(seed, &spec.name);
    let mut values = vec![0_f32; PIECE];
    let format = encoder.format();
    let mut bytes = vec![0; format.row_bytes(PIECE)];
    let mut left = spec.elements();
    while left > 0 {
        let n = left.min(PIECE);
        for value in &mut values[..n] {
            *value = mean + deviation * random.normal();
        }
        let encoded = &mut bytes[..format.row_bytes(n)];
        encoder.encode(&values[..n], encoded);
        out.write_all(encoded)?;
        left -= n;
    }
    Ok(())
}

/// The first `count` random values of a tensor.
pub(super) fn values(spec: &TensorSpec, seed: u64, count: usize) -> Vec<f32> {
    let (mean, deviation) = moments(spec);
    let mut random = Random::new(seed, &spec.name);
    (0..count).map(|_| mean + deviation * random.normal()).collect()
}

/// Mean and standard deviation of a tensor's values.
fn moments(spec: &TensorSpec) -> (f32, f32) {
    let fan_in: usize = spec.shape[1..].iter().product();
    let kept = 1.0 / (fan_in as f32).sqrt(); // the output is then as large as the input
    match spec.role {
        // Scales and gates are added to one and to the residual stream: half size keeps 30 blocks from growing it.
        Role::Linear if spec.name.contains("adaLN_modulation") => (0.0, 0.5 * kept),
        Role::Linear | Role::Conv => (0.0, kept),
        Role::Norm => (1.0, 0.05),
        Role::Bias => (0.0, 0.02),
        Role::Embedding | Role::Token => (0.0, 1.0),
    }
}

/// Xorshift: 10 billion numbers have to come in seconds, and nothing depends on their quality.
struct Random(u64);

impl Random {
    fn new(seed: u64, name: &str) -> Self {
        // FNV-1a of the name, then the mixer of splitmix64, so that neighbouring seeds have nothing in common.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((mixed ^ (mixed >> 31)) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Nearly normal, mean 0 and deviation 1: the sum of four uniform numbers has a deviation of `sqrt(4 / 12)`.
    fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        (sum as i32 - 2 * 0xffff) as f32 * (3.0_f32.sqrt() / 65536.0)
    }
}
