//! The noise of `torch.randn` with a CPU generator, bit for bit.
//!
//! A picture is repeatable across programs only when its starting noise is, so this file restates two things exactly:
//! the Mersenne Twister behind `torch.Generator("cpu")`, and the polynomials with which PyTorch's AVX2 and AVX-512
//! builds turn uniform numbers into normal ones. The polynomials are evaluated with fused multiply-adds
//! (`f32::mul_add`), which are the same on every machine, so the noise does not depend on the processor either.

/// Words of state of the Mersenne Twister.
const STATE_WORDS: usize = 624;
/// Distance between a word of state and the word it is mixed with.
const STATE_SHIFT: usize = 397;
/// Normals are made in blocks of this many values: eight radii and angles give eight cosines and eight sines.
const BLOCK: usize = 16;

/// A random generator that yields what `torch.Generator("cpu").manual_seed(seed)` yields.
///
/// Source: PyTorch `aten/src/ATen/core/MT19937RNGEngine.h`, `aten/src/ATen/native/cpu/DistributionTemplates.h`,
/// `aten/src/ATen/native/cpu/avx_mathfun.h` (checked against torch 2.15).
#[derive(Debug, Clone)]
pub struct TorchGenerator {
    state: [u32; STATE_WORDS],
    /// Index of the next word to hand out; `STATE_WORDS` means that a new round of state is due.
    next: usize,
    /// The sine half of the last pair of double precision normals, which torch keeps for the next call.
    cached_normal: Option<f64>,
}

impl TorchGenerator {
    /// Starts the generator. Like torch, only the low 32 bits of `seed` count: `2^32` and `0` give the same noise.
    pub fn new(seed: u64) -> Self {
        let mut state = [0u32; STATE_WORDS];
        let mut word = seed as u32; // Truncation is torch's own behaviour.
        state[0] = word;
        for (index, slot) in state.iter_mut().enumerate().skip(1) {
            word = (word ^ (word >> 30)).wrapping_mul(1_812_433_253).wrapping_add(index as u32);
            *slot = word;
        }
        Self { state, next: STATE_WORDS, cached_normal: None }
    }

    /// The next tempered 32-bit output of the Mersenne Twister.
    pub fn raw(&mut self) -> u32 {
        if self.next == STATE_WORDS {
            self.renew_state();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// What `torch.randn(numel, generator=self, dtype=torch.float32)` returns: standard normals in row-major order.
    ///
    /// Fewer than 16 values take torch's double precision path, which draws one value at a time and keeps the second
    /// normal of a pair for the next call. From 16 values on, normals come in blocks of 16; when `numel` is not a
    /// multiple of 16 the last 16 positions are drawn afresh, over values that were already made.
    pub fn randn(&mut self, numel: usize) -> Vec<f32> {
        if numel < BLOCK {
            return (0..numel).map(|_| self.double_normal() as f32).collect();
        }
        let mut values: Vec<f32> = (0..numel).map(|_| self.uniform()).collect();
        for block in values.chunks_exact_mut(BLOCK) {
            normals_from_uniforms(block);
        }
        if !numel.is_multiple_of(BLOCK) {
            let tail = &mut values[numel - BLOCK..];
            tail.iter_mut().for_each(|value| *value = self.uniform());
            normals_from_uniforms(tail);
        }
        values
    }

    fn renew_state(&mut self) {
        const UPPER: u32 = 0x8000_0000;
        for index in 0..STATE_WORDS {
            let following = self.state[(index + 1) % STATE_WORDS];
            let mixed = (self.state[index] & UPPER) | (following & !UPPER);
            let twist = if following & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[index] = self.state[(index + STATE_SHIFT) % STATE_WORDS] ^ (mixed >> 1) ^ twist;
        }
        self.next = 0;
    }

    /// A uniform number in `[0, 1)` with 24 bits.
    fn uniform(&mut self) -> f32 {
        (self.raw() & 0x00ff_ffff) as f32 * (1.0 / 16_777_216.0)
    }

    /// A uniform number in `[0, 1)` with 53 bits; the first raw output is the high word.
    fn double_uniform(&mut self) -> f64 {
        let high = u64::from(self.raw());
        let low = u64::from(self.raw());
        let bits = (high << 32 | low) & ((1 << 53) - 1);
        bits as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    fn double_normal(&mut self) -> f64 {
        if let Some(normal) = self.cached_normal.take() {
            return normal;
        }
        let angle = 2.0 * std::f64::consts::PI * self.double_uniform();
        let radius = (-2.0 * (-self.double_uniform()).ln_1p()).sqrt();
        self.cached_normal = Some(radius * angle.sin());
        radius * angle.cos()
    }
}

/// Box-Muller over one block of 16 uniforms, in place: values 0..8 give the radii, values 8..16 the angles.
fn normals_from_uniforms(block: &mut [f32]) {
    const TWO_PI: f32 = 2.0 * std::f32::consts::PI;
    let (radii, angles) = block.split_at_mut(BLOCK / 2);
    for (first, second) in radii.iter_mut().zip(angles) {
        let radius = (-2.0 * ln(1.0 - *first)).sqrt();
        let (sin, cos) = sin_cos(TWO_PI * *second);
        // torch multiplies by the deviation 1 and adds the mean 0, which turns a negative zero positive.
        *first = radius * cos + 0.0;
        *second = radius * sin + 0.0;
    }
}

/// Natural logarithm as `log256_ps` computes it with fused multiply-adds. `x` must be in `(0, 1]`.
#[allow(clippy::excessive_precision)] // The digits are those of the source.
fn ln(x: f32) -> f32 {
    const POLYNOMIAL: [f32; 9] = [
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    ];
    // Split into a mantissa in [0.5, 1) and an exponent, then move the mantissa into [sqrt(1/2), sqrt(2)) minus 1.
    let bits = x.to_bits();
    let mut exponent = ((bits >> 23) as i32 - 0x7f) as f32 + 1.0;
    let mut mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    if mantissa < std::f32::consts::FRAC_1_SQRT_2 {
        exponent -= 1.0;
        mantissa = (mantissa - 1.0) + mantissa;
    } else {
        mantissa -= 1.0;
    }
    let square = mantissa * mantissa;
    let mut y = horner(&POLYNOMIAL, mantissa) * mantissa;
    y = y.mul_add(square, exponent * -2.12194440e-4);
    y = square.mul_add(-0.5, y);
    exponent.mul_add(0.693359375, mantissa + y)
}

/// Sine and cosine as `sincos256_ps` computes them with fused multiply-adds. `x` must be in `[0, 2 pi]`.
#[allow(clippy::excessive_precision)] // The digits are those of the source.
fn sin_cos(x: f32) -> (f32, f32) {
    const FOUR_OVER_PI: f32 = 1.27323954473516;
    const COS: [f32; 3] = [2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2];
    const SIN: [f32; 3] = [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1];
    // Octant, rounded up to an even one, then Cody-Waite reduction to [-pi/4, pi/4] in three steps.
    let octant = ((x * FOUR_OVER_PI) as i32 + 1) & !1;
    let multiple = octant as f32;
    let mut x = multiple.mul_add(-0.78515625, x);
    x = multiple.mul_add(-2.4187564849853515625e-4, x);
    x = multiple.mul_add(-3.77489497744594108e-8, x);

    let square = x * x;
    let cos = (horner(&COS, square) * square).mul_add(square, -(square * 0.5)) + 1.0;
    let sin = (horner(&SIN, square) * square).mul_add(x, x);
    let (sin, cos) = if octant & 2 == 0 { (sin, cos) } else { (cos, sin) };
    let sin = if octant & 4 == 0 { sin } else { -sin };
    let cos = if (octant - 2) & 4 == 0 { -cos } else { cos };
    (sin, cos)
}

/// A polynomial by Horner's rule with fused multiply-adds, highest power first.
fn horner(coefficients: &[f32], x: f32) -> f32 {
    coefficients[1..].iter().fold(coefficients[0], |sum, &coefficient| sum.mul_add(x, coefficient))
}

#[cfg(test)]
mod tests;
