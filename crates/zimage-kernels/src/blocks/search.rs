//! The searches of ggml's k-quants: which scale and minimum lose least over a group of values.
//!
//! ```text
//! for every step of a list:
//!     numbers = round((x - minimum so far) * step), held between 0 and `highest`
//!     scale, minimum = weighted least squares of x over numbers
//!     keep them when the weighted error shrank
//! ```
//! The sums of a group are taken in the order of its values, so a group cannot be vectorized and keep its bits. The
//! groups of a block do not depend on each other: they lie side by side, and each takes a lane.
//!
//! The results are those of the C source compiled without fused multiply-adds, as for plain x86-64.
//!
//! Source: `make_qkx2_quants`, `make_qx_quants` and `nearest_int` of ggml.

/// Below this the largest magnitude of a group counts as zero.
pub(super) const LEAST: f32 = 1e-15;

/// `N` values of each of `G` groups: `x[i][g]` is value `i` of group `g`.
pub(super) type Lanes<const N: usize, const G: usize> = [[f32; G]; N];

/// Scale and, where the format has one, minimum of each group with the numbers that they were found with.
pub(super) struct Fit<const N: usize, const G: usize> {
    pub(super) scales: [f32; G],
    /// What is subtracted: 0 or above.
    pub(super) minima: [f32; G],
    /// From 0 on.
    pub(super) numbers: [[u8; N]; G],
}

/// The groups of a block, side by side.
#[inline(always)]
pub(super) fn side_by_side<const LEN: usize, const N: usize, const G: usize>(values: &[f32; LEN]) -> Lanes<N, G> {
    const { assert!(LEN == N * G) };
    std::array::from_fn(|i| std::array::from_fn(|group| values[group * N + i]))
}

/// Rounds to the nearest integer, ties to even, as the lower bits of a sum with 1.5 times 2^23; wrong beyond 2^22.
#[inline(always)]
pub(super) fn nearest_int(value: f32) -> i32 {
    ((value + 12_582_912.0).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// How [`fit_above_minimum`] searches.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    /// The largest number.
    pub(super) highest: f32,
    /// The steps are `(first + 0.1 k + highest) / (largest - smallest)` for `k` from 0 to `last`.
    pub(super) first: f32,
    pub(super) last: usize,
    /// Whether an error counts by its magnitude, else by its square.
    pub(super) by_magnitude: bool,
}

/// `x = scale * number - minimum` with numbers from 0 to `steps.highest`.
#[inline(always)]
pub(super) fn fit_above_minimum<const N: usize, const G: usize>(
    x: &Lanes<N, G>,
    weights: &Lanes<N, G>,
    steps: Steps,
) -> Fit<N, G> {
    let range = Range::of(x, weights);
    let first: [f32; G] = std::array::from_fn(|g| steps.highest / (range.high[g] - range.low[g]));
    let mut best = Line { scale: first.map(|step| 1.0 / step), minimum: range.low };
    let mut best_rounding = Rounding { low: range.low, step: first, highest: steps.highest };
    let mut best_error = error(x, weights, &best_rounding, &best, steps);
    for k in 0..=steps.last {
        let numerator = steps.first + 0.1 * k as f32 + steps.highest;
        // From the best minimum so far, not from the smallest value.
        let low = best.minimum;
        let step = std::array::from_fn(|g| numerator / (range.high[g] - low[g]));
        let rounding = Rounding { low, step, highest: steps.highest };
        let (line, valid) = least_squares(x, weights, &range, &rounding);
        let found = error(x, weights, &rounding, &line, steps);
        for g in 0..G {
            let better = valid[g] & (found[g] < best_error[g]);
            best_error[g] = if better { found[g] } else { best_error[g] };
            best_rounding.step[g] = if better { step[g] } else { best_rounding.step[g] };
            best_rounding.low[g] = if better { low[g] } else { best_rounding.low[g] };
            best.scale[g] = if better { line.scale[g] } else { best.scale[g] };
            best.minimum[g] = if better { line.minimum[g] } else { best.minimum[g] };
        }
    }
    let mut fit = Fit { scales: best.scale, minima: best.minimum.map(|minimum| -minimum), numbers: [[0; N]; G] };
    for (g, numbers) in fit.numbers.iter_mut().enumerate() {
        if range.high[g] == range.low[g] {
            (fit.scales[g], fit.minima[g]) = (0.0, -range.low[g]);
            continue;
        }
        for (number, values) in numbers.iter_mut().zip(x) {
            *number = best_rounding.number(g, values[g]) as u8;
        }
    }
    fit
}

/// A scale and a minimum, which is added, per group.
struct Line<const G: usize> {
    scale: [f32; G],
    minimum: [f32; G],
}

/// The smallest value or 0, the largest, and the sums that do not depend on the step.
struct Range<const G: usize> {
    low: [f32; G],
    high: [f32; G],
    weight: [f32; G],
    weighted: [f32; G],
}

impl<const G: usize> Range<G> {
    #[inline(always)]
    fn of<const N: usize>(x: &Lanes<N, G>, weights: &Lanes<N, G>) -> Range<G> {
        let weighted = std::array::from_fn(|g| weights[0][g] * x[0][g]);
        let mut range = Range { low: x[0], high: x[0], weight: weights[0], weighted };
        for i in 1..N {
            for g in 0..G {
                let (value, weight) = (x[i][g], weights[i][g]);
                range.low[g] = if value < range.low[g] { value } else { range.low[g] };
                range.high[g] = if value > range.high[g] { value } else { range.high[g] };
                range.weight[g] += weight;
                range.weighted[g] += weight * value;
            }
        }
        range.low = range.low.map(|low| if low > 0.0 { 0.0 } else { low });
        range
    }
}

/// How values become numbers.
struct Rounding<const G: usize> {
    low: [f32; G],
    step: [f32; G],
    highest: f32,
}

impl<const G: usize> Rounding<G> {
    #[inline(always)]
    fn number(&self, g: usize, value: f32) -> f32 {
        nearest_int(self.step[g] * (value - self.low[g])).clamp(0, self.highest as i32) as f32
    }
}

/// Scale and minimum of least squares, and whether there are any.
#[inline(always)]
fn least_squares<const N: usize, const G: usize>(
    x: &Lanes<N, G>,
    weights: &Lanes<N, G>,
    range: &Range<G>,
    rounding: &Rounding<G>,
) -> (Line<G>, [bool; G]) {
    let (mut sum, mut squares, mut products) = ([0.0; G], [0.0; G], [0.0; G]);
    for i in 0..N {
        for g in 0..G {
            let number = rounding.number(g, x[i][g]);
            let weighted = weights[i][g] * number;
            sum[g] += weighted;
            squares[g] += weighted * number;
            products[g] += weighted * x[i][g];
        }
    }
    let mut line = Line { scale: [0.0; G], minimum: [0.0; G] };
    let mut valid = [false; G];
    for g in 0..G {
        let determinant = range.weight[g] * squares[g] - sum[g] * sum[g];
        let scale = (range.weight[g] * products[g] - range.weighted[g] * sum[g]) / determinant;
        let minimum = (squares[g] * range.weighted[g] - sum[g] * products[g]) / determinant;
        let above = minimum > 0.0;
        line.minimum[g] = if above { 0.0 } else { minimum };
        line.scale[g] = if above { products[g] / squares[g] } else { scale };
        valid[g] = determinant > 0.0;
    }
    (line, valid)
}

/// The weighted error of each group.
#[inline(always)]
fn error<const N: usize, const G: usize>(
    x: &Lanes<N, G>,
    weights: &Lanes<N, G>,
    rounding: &Rounding<G>,
    line: &Line<G>,
    steps: Steps,
) -> [f32; G] {
    let mut error = [0.0; G];
    for i in 0..N {
        for g in 0..G {
            let number = rounding.number(g, x[i][g]);
            let difference = line.scale[g] * number + line.minimum[g] - x[i][g];
            let cost = if steps.by_magnitude { difference.abs() } else { difference * difference };
            error[g] += weights[i][g] * cost;
        }
    }
    error
}

/// `x = scale * (number - half)` with numbers from 0 to `2 * half - 1`; weights are the squares of the values.
#[inline(always)]
pub(super) fn fit_around_zero<const N: usize, const G: usize>(x: &Lanes<N, G>, half: f32) -> Fit<N, G> {
    let (mut largest, mut extreme) = ([0.0; G], [0.0; G]);
    for values in x {
        for g in 0..G {
            let larger = values[g].abs() > largest[g];
            largest[g] = if larger { values[g].abs() } else { largest[g] };
            extreme[g] = if larger { values[g] } else { extreme[g] };
        }
    }
    let mut best_step = extreme.map(|extreme| -half / extreme);
    let (products, squares) = sums(x, &best_step, half);
    let mut scales: [f32; G] = std::array::from_fn(|g| if squares[g] != 0.0 { products[g] / squares[g] } else { 0.0 });
    let mut best: [f32; G] = std::array::from_fn(|g| scales[g] * products[g]);
    for k in (-9..=9).filter(|k| *k != 0) {
        let step = extreme.map(|extreme| -(half + 0.1 * k as f32) / extreme);
        let (products, squares) = sums(x, &step, half);
        for g in 0..G {
            let better = (squares[g] > 0.0) & (products[g] * products[g] > best[g] * squares[g]);
            let scale = products[g] / squares[g];
            best_step[g] = if better { step[g] } else { best_step[g] };
            scales[g] = if better { scale } else { scales[g] };
            best[g] = if better { scale * products[g] } else { best[g] };
        }
    }
    let mut fit = Fit { scales, minima: [0.0; G], numbers: [[0; N]; G] };
    for g in 0..G {
        if largest[g] < LEAST {
            fit.scales[g] = 0.0;
            continue;
        }
        for (number, values) in fit.numbers[g].iter_mut().zip(x) {
            *number = (signed_number(values[g], best_step[g], half) + half) as u8;
        }
    }
    fit
}

#[inline(always)]
fn signed_number(value: f32, step: f32, half: f32) -> f32 {
    nearest_int(step * value).clamp(-half as i32, half as i32 - 1) as f32
}

/// Weighted sums of value times number and of the squared numbers.
#[inline(always)]
fn sums<const N: usize, const G: usize>(x: &Lanes<N, G>, step: &[f32; G], half: f32) -> ([f32; G], [f32; G]) {
    let (mut products, mut squares) = ([0.0; G], [0.0; G]);
    for values in x {
        for g in 0..G {
            let number = signed_number(values[g], step[g], half);
            let weight = values[g] * values[g];
            products[g] += weight * values[g] * number;
            squares[g] += weight * number * number;
        }
    }
    (products, squares)
}
