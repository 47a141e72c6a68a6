use super::*;
use crate::testing::{assert_close, random};

type Rope = fn(Level, &mut [f32], usize, usize, &[f32], &[f32]);
const LAYOUTS: [(&str, Rope); 2] = [("interleaved", rope_interleaved), ("halves", rope_halves)];

fn tables(angles: &[f32]) -> (Vec<f32>, Vec<f32>) {
    (angles.iter().map(|a| a.cos()).collect(), angles.iter().map(|a| a.sin()).collect())
}

#[test]
fn all_levels_agree_at_all_small_sizes() {
    for (name, rope) in LAYOUTS {
        for head_dim in (2..=70).step_by(2).chain([128]) {
            for heads in [1, 2, 5] {
                let (cos, sin) = tables(&random(3 * head_dim / 2, 1));
                let x = random(3 * heads * head_dim, 2);
                let mut expected = x.clone();
                rope(Level::Naive, &mut expected, heads, head_dim, &cos, &sin);
                for level in Level::supported() {
                    let mut found = x.clone();
                    rope(level, &mut found, heads, head_dim, &cos, &sin);
                    assert_close(&format!("{level:?} {name} {heads} {head_dim}"), &found, &expected, 3e-7);
                }
            }
        }
    }
}

#[test]
fn a_quarter_turn_swaps_the_members_of_each_pair() {
    for level in Level::supported() {
        let (cos, sin) = ([0.0; 2], [1.0; 2]);
        let mut x = [1.0, 2.0, 3.0, 4.0];
        rope_interleaved(level, &mut x, 1, 4, &cos, &sin);
        assert_eq!(x, [-2.0, 1.0, -4.0, 3.0]);
        let mut x = [1.0, 2.0, 3.0, 4.0];
        rope_halves(level, &mut x, 1, 4, &cos, &sin);
        assert_eq!(x, [-3.0, -4.0, 1.0, 2.0]);
    }
}
