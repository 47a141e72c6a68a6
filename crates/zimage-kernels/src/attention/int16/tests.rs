use super::*;
use crate::testing::{assert_close, random};

/// Against the same integers with exact exponentials: a weight may be rounded to its other neighbour,
/// a part in 8191 of the largest one.
const TOLERANCE: f32 = 3e-4;
/// Against attention without rounding, the error's length relative to the output's: values of 11 bits carry
/// 0.0006 to 0.0009, weights of 13 bits half of that.
const ROUNDING: f64 = 2e-3;

/// A head inside a tensor of three.
struct Case {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    d: usize,
    scale: f32,
    causal_from: Option<usize>,
}

impl Case {
    fn random(queries: usize, keys: usize, d: usize, size: f32) -> Case {
        let sized = |n, seed| random(n, seed).iter().map(|v| v * size).collect::<Vec<_>>();
        let (q, k) = (sized(queries * 3 * d, 1), sized(keys * 3 * d, 2));
        Case { q, k, v: random(keys * 3 * d, 3), d, scale: 1.0 / (d as f32).sqrt(), causal_from: None }
    }

    fn view<'a>(&self, values: &'a [f32]) -> MatrixRef<'a> {
        MatrixRef::new(&values[self.d..], values.len() / (3 * self.d), self.d, 3 * self.d)
    }

    fn queries(&self) -> usize {
        self.q.len() / (3 * self.d)
    }

    fn pack(&self, level: Level) -> (Head, Vec<u32>) {
        let (k, v) = (self.view(&self.k), self.view(&self.v));
        let head = Head::new(level, k.rows(), self.d, self.d);
        let mut packed = vec![0x7fc0_dead; head.words()];
        head.pack(&mut packed, k, v);
        (head, packed)
    }

    /// The output, computed in blocks of `rows` queries.
    fn run_in_blocks(&self, level: Level, rows: usize) -> Vec<f32> {
        let (head, packed) = self.pack(level);
        let mut out = vec![f32::NAN; self.queries() * self.d];
        for tile in &mut crate::tile::tiles(&mut out, self.queries(), self.d, rows, self.d) {
            let q = self.view(&self.q).row_range(tile.row0(), tile.rows());
            let from = self.causal_from.map(|from| from + tile.row0());
            head.attend(tile, q, &packed, self.scale, from, &mut vec![f32::NAN; 3]);
        }
        out
    }

    fn run(&self, level: Level) -> Vec<f32> {
        self.run_in_blocks(level, self.queries())
    }

    /// Attention in f64, nothing rounded.
    fn exact(&self) -> Vec<f32> {
        let mut out = vec![f32::NAN; self.queries() * self.d];
        let mut tile = TileMut::whole(&mut out, self.queries(), self.d);
        let (q, k, v) = (self.view(&self.q), self.view(&self.k), self.view(&self.v));
        crate::attention::attention(Level::Naive, &mut tile, q, k, v, self.scale, self.causal_from, &mut Vec::new());
        out
    }

    /// All levels do the same.
    #[track_caller]
    fn check(&self, what: &str) {
        let expected = self.run(Level::Naive);
        for level in Level::supported() {
            assert_close(&format!("{what} {level:?}"), &self.run(level), &expected, TOLERANCE);
        }
        self.check_same_bits(what);
    }

    /// All levels do the same, and that is near attention without rounding.
    #[track_caller]
    fn check_error(&self, what: &str) {
        self.check(what);
        let exact = self.exact();
        for level in Level::supported() {
            let error = relative_error(&self.run(level), &exact);
            assert!(error < ROUNDING, "{what} {level:?}: {error:e} of the exact output");
        }
    }

    /// AVX2, AVX-512 and AVX-512 without VNNI give the same bits.
    #[track_caller]
    fn check_same_bits(&self, what: &str) {
        #[cfg(target_arch = "x86_64")]
        if Level::best() == Level::Avx512 {
            let expected = self.run(Level::Avx512);
            assert_same_bits(&format!("{what}: avx2"), &self.run(Level::Avx2), &expected);
            let (head, packed) = self.pack(Level::Avx512);
            let mut out = vec![f32::NAN; expected.len()];
            let mut tile = TileMut::whole(&mut out, self.queries(), self.d);
            let q = self.view(&self.q);
            // SAFETY: this CPU has the level.
            unsafe { x86::avx512(&head, &mut tile, q, &packed, self.scale, self.causal_from, &mut Vec::new()) };
            assert_same_bits(&format!("{what}: avx512 without vnni"), &out, &expected);
        }
    }
}

#[track_caller]
fn assert_same_bits(what: &str, found: &[f32], expected: &[f32]) {
    let differing = found.iter().zip(expected).filter(|(f, e)| f != e).count();
    assert_eq!(differing, 0, "{what}: values that differ of {}", found.len());
}

fn relative_error(found: &[f32], exact: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let error = square(&mut found.iter().zip(exact).map(|(f, e)| f64::from(f - e)));
    (error / square(&mut exact.iter().map(|e| f64::from(*e))).max(1e-300)).sqrt()
}

#[test]
fn all_levels_agree_at_small_and_odd_sizes() {
    for queries in [1, 15, 16, 17, 49] {
        for keys in [1, 2, 7, 31, 33] {
            for d in [1, 8, 17, 64] {
                Case::random(queries, keys, d, 1.0).check(&format!("{queries} {keys} {d}"));
            }
        }
    }
}

#[test]
fn all_levels_agree_over_several_blocks() {
    for (queries, keys, d) in [(130, 1088, 128), (40, 385, 64), (3, 576, 512), (97, 191, 128), (1, 193, 64)] {
        for size in [0.3, 1.0, 2.0] {
            Case::random(queries, keys, d, size).check_error(&format!("{queries} {keys} {d} {size}"));
        }
    }
}

#[test]
fn a_causal_query_sees_no_later_key() {
    for (queries, keys, from) in [(1, 1, 0), (20, 20, 0), (300, 300, 0), (70, 400, 330), (5, 300, 250), (64, 64, 30)] {
        let case = Case { causal_from: Some(from), ..Case::random(queries, keys, 16, 1.0) };
        case.check(&format!("{queries} {keys} from {from}"));
    }
}

/// Queries and keys as norms with learned weights leave them: channels of different scales, and
/// a few with an offset six times their spread.
#[test]
fn channels_with_outliers_cost_no_more_than_a_thousandth() {
    let (queries, keys, d) = (48, 1088, 128);
    for spread in [1.0, 2.0, 4.0] {
        let mut case = Case::random(queries, keys, d, 1.0);
        let scales: Vec<f32> = random(2 * d, 9).iter().map(|v| (0.7 * v).exp()).collect();
        for (values, scales, offsets) in
            [(&mut case.q, &scales[..d], [5, 40, 77]), (&mut case.k, &scales[d..], [5, 41, 90])]
        {
            for (i, value) in values.iter_mut().enumerate() {
                let offset = if offsets.contains(&(i % d)) { 6.0 } else { 0.0 };
                *value = (*value + offset) * scales[i % d];
            }
        }
        case.scale = spread / spread_of_scores(&case);
        case.check_error(&format!("scores of spread {spread}"));
    }
}

/// The standard deviation of the scores of a query at scale 1, over all queries.
fn spread_of_scores(case: &Case) -> f32 {
    let (q, k) = (case.view(&case.q), case.view(&case.k));
    let mut variance = 0.0;
    for i in 0..q.rows() {
        let dot = |j| q.row(i).iter().zip(k.row(j)).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let scores: Vec<f64> = (0..k.rows()).map(dot).collect();
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        variance += scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / scores.len() as f64;
    }
    (variance / q.rows() as f64).sqrt() as f32
}

#[test]
fn zeros_attend_to_all_keys_alike() {
    let mut case = Case::random(17, 601, 16, 1.0);
    case.q.fill(0.0);
    case.check("queries of zeros");
    case.k.fill(0.0);
    case.check("keys of zeros");
    case.v.fill(0.0);
    for level in Level::supported() {
        assert!(case.run(level).iter().all(|value| *value == 0.0), "{level:?}");
    }
}

/// Parallel vectors reach the largest sums there are, and scores as large as f32 can tell apart.
#[test]
fn the_best_key_takes_all_when_scores_are_huge() {
    for d in [1, 2, 63, 128, 512] {
        for size in [1e3, 1e9, 1e15] {
            let (queries, keys) = (5, 400);
            let mut case = Case::random(queries, keys, d, 1.0);
            case.q.fill(size);
            // Half a percent below the best one is far below it.
            case.k.fill(0.995 * size);
            case.k[250 * 3 * d..251 * 3 * d].fill(size);
            let best: Vec<f32> = case.view(&case.v).row(250).repeat(queries);
            for level in Level::supported() {
                assert_close(&format!("{d} {size} {level:?}"), &case.run(level), &best, 1e-3);
            }
            case.check_same_bits("huge scores");
            case.k.fill(-size);
            case.k[250 * 3 * d..251 * 3 * d].fill(size);
            for level in Level::supported() {
                assert_close(&format!("{d} -{size} {level:?}"), &case.run(level), &best, 1e-3);
            }
        }
    }
}

#[test]
fn one_hot_vectors_pick_their_key() {
    let d = 64;
    let mut case = Case::random(d, d, d, 1.0);
    for values in [&mut case.q, &mut case.k] {
        values.fill(0.0);
        for i in 0..d {
            values[(3 * i + 1) * d + i] = 30.0;
        }
    }
    let values: Vec<f32> = (0..d).flat_map(|i| case.view(&case.v).row(i).to_vec()).collect();
    for level in Level::supported() {
        assert_close(&format!("{level:?}"), &case.run(level), &values, 1e-3);
    }
    case.check("one hot");
}

#[test]
fn a_query_that_is_not_finite_reaches_its_output_only() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut case = Case::random(3, 300, 8, 1.0);
        case.q[4 * 8 + 1] = bad;
        for level in Level::supported() {
            let out = case.run(level);
            assert!(out[8..16].iter().all(|value| value.is_nan()), "{level:?}");
            assert!(out[..8].iter().chain(&out[16..]).all(|value| value.is_finite()), "{level:?}");
        }
    }
}

#[test]
fn a_key_or_value_that_is_not_finite_is_not_lost() {
    for bad in [f32::NAN, f32::NEG_INFINITY] {
        let mut case = Case::random(3, 300, 8, 1.0);
        case.k[(3 * 250 + 1) * 8 + 5] = bad;
        for level in Level::supported() {
            assert!(case.run(level).iter().all(|value| value.is_nan()), "{level:?}");
        }
        let mut case = Case::random(3, 300, 8, 1.0);
        case.v[(3 * 250 + 1) * 8 + 5] = bad;
        for level in Level::supported() {
            for (i, value) in case.run(level).iter().enumerate() {
                assert_eq!(value.is_nan(), i % 8 == 5, "{level:?} {i}");
            }
        }
    }
}

#[test]
fn a_query_has_the_same_bits_whatever_block_it_comes_in() {
    for causal_from in [None, Some(210)] {
        let case = Case { causal_from, ..Case::random(70, 300, 24, 1.0) };
        for level in Level::supported() {
            let expected = case.run(level);
            for rows in [1, 16, 29, 48] {
                assert_same_bits(&format!("{level:?} {rows}"), &case.run_in_blocks(level, rows), &expected);
            }
        }
    }
}
